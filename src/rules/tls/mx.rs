//! The order in which the MX hosts of a domain are tried (RFC 5321 §5.1).
//!
//! 1. Hosts with a smaller preference come first; hosts with equal preference come in random order, which spreads the
//!    load.
//! 2. If this host is one of them, it and all hosts of its preference or worse are dropped: mail must never go from a
//!    better MX host to a worse one.
//! 3. A host that is listed twice is tried once, and at most [`MX_HOSTS_MAX`] hosts are tried.
//!
//! The rule knows names only. Whether an address of an MX host belongs to this host is checked when the address is
//! known, by the delivery.

use crate::mail::mx::Mx;

/// The number of MX hosts that are tried, so that an attempt ends in reasonable time even if a domain lists hundreds
/// of dead hosts. RFC 5321 §5.1 requires at least two.
pub const MX_HOSTS_MAX: usize = 16;

/// This host is the best MX host of the domain, so the mail would come back to it (5.4.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MxLoop;

/// The names of the hosts in the order in which to try them. `own` tells whether a name is this host's.
///
/// # Errors
/// [`MxLoop`] if this host's entry removes all others.
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
    // Selection instead of a sort: there are few hosts, and a sort adds 3 KiB to the program.
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
