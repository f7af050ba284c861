//! The order in which the MX hosts of a domain are tried (RFC 5321 §5.1).
//!
//! Only names are known here: that an address of an MX host is our own is for the delivery to see.

use crate::mail::mx::Mx;

/// So many MX hosts are tried at most, so that a domain with hundreds of dead ones ends an attempt in reasonable time.
/// RFC 5321 §5.1 wants at least two.
pub const MX_HOSTS_MAX: usize = 16;

/// This host is the best MX of the domain: who sends it here sends it in a circle (5.4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MxLoop;

/// The exchanges in the order in which to try them: by preference, equal ones at random to spread the load, none
/// twice. If this host is among them, only better ones are left: mail must never go from a better MX to a worse one.
///
/// # Errors
/// [`MxLoop`] if this host cuts the whole list.
pub fn in_order(
    hosts: Vec<Mx>,
    own: &dyn Fn(&str) -> bool,
    random: &mut dyn FnMut() -> u32,
) -> Result<Vec<String>, MxLoop> {
    let own_preference = hosts.iter().filter(|mx| own(&mx.exchange)).map(|mx| mx.preference).min();
    let mut keyed: Vec<(u16, u32, String)> = hosts
        .into_iter()
        .filter(|mx| own_preference.is_none_or(|limit| mx.preference < limit))
        .map(|mx| (mx.preference, random(), mx.exchange))
        .collect();
    if keyed.is_empty() && own_preference.is_some() {
        return Err(MxLoop);
    }
    // The next of the order is looked for each time: there are few, and a sort is 3 KiB of program.
    let mut ordered: Vec<String> = Vec::with_capacity(keyed.len().min(MX_HOSTS_MAX));
    while ordered.len() < MX_HOSTS_MAX {
        let Some((first, _)) = keyed.iter().enumerate().min_by(|(_, a), (_, b)| a.cmp(b)) else { break };
        let (.., exchange) = keyed.swap_remove(first);
        if !ordered.iter().any(|e| e.eq_ignore_ascii_case(&exchange)) {
            ordered.push(exchange);
        }
    }
    Ok(ordered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn mx(list: &[(u16, &str)]) -> Vec<Mx> {
        list.iter().map(|&(preference, exchange)| Mx { preference, exchange: exchange.to_owned() }).collect()
    }

    fn ordered(list: &[(u16, &str)], own: &str) -> Result<Vec<String>, MxLoop> {
        in_order(mx(list), &|name| name == own, &mut || 7)
    }

    #[test]
    fn the_lowest_preference_comes_first() {
        let list = [(20, "c"), (0, "a"), (65535, "d"), (10, "b")];
        assert_eq!(ordered(&list, "none").unwrap(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn the_own_name_cuts_the_list() {
        for (list, expected) in [
            (&[(10, "a"), (20, "me"), (20, "b"), (30, "c")][..], Ok(vec!["a".to_owned()])),
            (&[(10, "a"), (20, "me"), (5, "me")], Err(MxLoop)),
            (&[(10, "me"), (20, "a")], Err(MxLoop)),
            (&[(10, "a"), (10, "me")], Err(MxLoop)),
            (&[], Ok(vec![])),
        ] {
            assert_eq!(ordered(list, "me"), expected, "{list:?}");
        }
    }

    #[test]
    fn equals_are_spread_within_their_preference() {
        let list = [(20, "z"), (10, "a"), (10, "b"), (10, "c")];
        let mut seen = HashSet::new();
        for seed in 0..64_u32 {
            let mut state = seed;
            let mut random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 8
            };
            let order = in_order(mx(&list), &|_| false, &mut random).unwrap();
            assert_eq!(order.last().map(String::as_str), Some("z"));
            seen.insert(order);
        }
        assert_eq!(seen.len(), 6);
    }

    #[test]
    fn two_hundred_hosts_are_sixteen_and_none_comes_twice() {
        let names: Vec<String> = (0..200).map(|i| format!("mx{i}")).collect();
        let mut list: Vec<(u16, &str)> = names.iter().map(|n| (10, n.as_str())).collect();
        list.extend([(1, "MX7"), (0, "mx7")]);
        let order = ordered(&list, "none").unwrap();
        assert_eq!(order.len(), MX_HOSTS_MAX);
        assert_eq!(order[0], "mx7");
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), MX_HOSTS_MAX);
        assert!(!order.contains(&"MX7".to_owned()));
    }
}
