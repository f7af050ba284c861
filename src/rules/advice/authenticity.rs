//! What receivers check about mail from this host: SPF (RFC 7208), the key record of DKIM (RFC 6376 §3.6.1), and
//! DMARC (RFC 7489), as far as a sender can know in advance.
//!
//! | SPF term | matches if | look-ups |
//! | --- | --- | --- |
//! | `all` | always | 0 |
//! | `ip4:`, `ip6:` | the address lies in the network | 0 |
//! | `a` | it is an address of the domain | 1 |
//! | `mx` | it is an address of an MX host | 1 |
//! | `include:` | the record of that domain says pass | 1 |
//! | `exists:` | the name has an address | 1 |
//! | `redirect=` | no other term matched: the record of that domain decides | 1 |
//! | a macro, `ptr` | not evaluated: the result is unknown | |
//!
//! The rules query DNS only through [`Ask`]. A look-up that fails makes the result unknown; an unknown result never
//! counts as a failure.
//!
//! DMARC (RFC 7489 §6.6.3) is looked up at `_dmarc.DOMAIN`, then at each parent domain with two labels or more. The
//! first record counts: its `p` for the domain itself, its `sp` for a subdomain, or `p` if it has no `sp`. The
//! Public Suffix List is not used, so a record at a public suffix would count, too.

use std::net::IpAddr;

/// The look-ups that a record may cost (RFC 7208 §4.6.4).
const LOOK_UPS_MAX: usize = 10;

/// The result of SPF for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spf {
    /// The address may send.
    Pass,
    /// The address may not send (`-all`).
    Fail,
    /// The address should not send (`~all`).
    SoftFail,
    /// The domain makes no statement.
    Neutral,
    /// The domain has no record.
    None,
    /// The result cannot be determined, for this reason.
    Unknown(String),
}

/// Queries DNS. An error is a reason in words; a name that does not exist has no records.
pub trait Ask {
    /// The TXT records of a name.
    ///
    /// # Errors
    /// The look-up failed.
    fn texts(&self, name: &str) -> Result<Vec<String>, String>;
    /// The addresses of a name.
    ///
    /// # Errors
    /// The look-up failed.
    fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String>;
    /// The names of the MX hosts of a domain.
    ///
    /// # Errors
    /// The look-up failed.
    fn exchanges(&self, name: &str) -> Result<Vec<String>, String>;
}

/// Whether `ip` may send for `domain` (RFC 7208 §4).
pub fn spf(ask: &dyn Ask, domain: &str, ip: IpAddr) -> Spf {
    let mut left = LOOK_UPS_MAX;
    check(ask, domain, ip, &mut left).unwrap_or_else(Spf::Unknown)
}

fn check(ask: &dyn Ask, domain: &str, ip: IpAddr, left: &mut usize) -> Result<Spf, String> {
    let is_record =
        |text: &String| text.split(' ').next().is_some_and(|version| version.eq_ignore_ascii_case("v=spf1"));
    let records: Vec<String> = ask.texts(domain)?.into_iter().filter(is_record).collect();
    let record = match records.as_slice() {
        [] => return Ok(Spf::None),
        [record] => record.to_ascii_lowercase(),
        _ => return Err(format!("{domain} has two SPF records")),
    };
    let mut redirect = None;
    for term in record.split_ascii_whitespace().skip(1) {
        if let Some(target) = term.strip_prefix("redirect=") {
            redirect = Some(target);
            continue;
        }
        let (verdict, mechanism) = match term.split_at_checked(1) {
            Some(("-", rest)) => (Spf::Fail, rest),
            Some(("~", rest)) => (Spf::SoftFail, rest),
            Some(("?", rest)) => (Spf::Neutral, rest),
            Some(("+", rest)) => (Spf::Pass, rest),
            _ => (Spf::Pass, term),
        };
        if matches(ask, domain, ip, mechanism, left)? {
            return Ok(verdict);
        }
    }
    match redirect {
        Some(target) => {
            spend(left)?;
            check(ask, target, ip, left)
        }
        None => Ok(Spf::Neutral),
    }
}

fn spend(left: &mut usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or("the SPF record needs more than ten look-ups")?;
    Ok(())
}

/// Whether a mechanism matches the address (RFC 7208 §5).
fn matches(
    ask: &dyn Ask,
    domain: &str,
    ip: IpAddr,
    mechanism: &str,
    left: &mut usize,
) -> Result<bool, String> {
    if mechanism.contains('%') {
        return Err(format!("{mechanism:?} of the SPF record has a macro"));
    }
    let (name, argument) = match mechanism.find([':', '/', '=']) {
        Some(at) => mechanism.split_at(at),
        None => (mechanism, ""),
    };
    let (target, lengths) = match argument.strip_prefix(':') {
        Some(rest) if matches!(name, "ip4" | "ip6") => (rest, ""),
        Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
        None => (domain, argument.strip_prefix('/').unwrap_or_default()),
    };
    let near = |own: &IpAddr| within(ip, *own, lengths);
    match name {
        "all" => Ok(true),
        "ip4" | "ip6" => {
            let (network, length) = target.split_once('/').unwrap_or((target, ""));
            let network = network.parse().map_err(|_| format!("{mechanism:?} is no address"))?;
            Ok(within(ip, network, &if ip.is_ipv6() { format!("/{length}") } else { length.to_owned() }))
        }
        "a" => {
            spend(left)?;
            Ok(ask.addresses(target)?.iter().any(near))
        }
        "mx" => {
            spend(left)?;
            for host in ask.exchanges(target)? {
                if ask.addresses(&host)?.iter().any(near) {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        "include" => {
            spend(left)?;
            match check(ask, target, ip, left)? {
                Spf::Pass => Ok(true),
                Spf::None => Err(format!("{target} has no SPF record to include")),
                _ => Ok(false),
            }
        }
        "exists" => {
            spend(left)?;
            Ok(!ask.addresses(target)?.is_empty())
        }
        // Modifiers such as exp= match nothing.
        _ if argument.starts_with('=') => Ok(false),
        _ => Err(format!("{mechanism:?} of the SPF record is not followed")),
    }
}

/// Whether two addresses agree in the leading bits: `24`, `24//64` or `/64`.
fn within(ip: IpAddr, network: IpAddr, lengths: &str) -> bool {
    let (four, six) = lengths.split_once('/').unwrap_or((lengths, ""));
    let six = six.trim_start_matches('/');
    let bits = |text: &str, all: u32| text.parse().unwrap_or(all).min(all);
    match (ip, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differ = u32::from(a) ^ u32::from(b);
            differ.checked_shr(32 - bits(four, 32)).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let differ = u128::from(a) ^ u128::from(b);
            differ.checked_shr(128 - bits(six, 128)).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// The policy of a domain for mail that fails: `none`, `quarantine` or `reject`, and the domain that published it.
/// A domain without a record has the policy of its nearest parent with one; a top-level domain is not asked.
///
/// # Errors
/// The look-up failed; the reason in words.
pub fn dmarc(ask: &dyn Ask, domain: &str) -> Result<Option<(String, String)>, String> {
    let mut name = domain;
    loop {
        let texts = ask.texts(&format!("_dmarc.{name}"))?;
        if let Some(record) = texts.iter().find(|text| tag(text, "v").is_some_and(|v| v == "DMARC1")) {
            let below = tag(record, "sp").filter(|_| name != domain);
            let policy = below.or_else(|| tag(record, "p")).unwrap_or_else(|| "none".into());
            return Ok(Some((policy.to_ascii_lowercase(), name.to_owned())));
        }
        match name.split_once('.') {
            Some((_, above)) if above.contains('.') => name = above,
            _ => return Ok(None),
        }
    }
}

/// The value of a tag in a list such as `v=DKIM1; p=…` (RFC 6376 §3.2), without white space.
#[must_use]
pub fn tag(list: &str, name: &str) -> Option<String> {
    let mut tags = list.split(';').filter_map(|tag| tag.split_once('='));
    let (_, value) = tags.find(|(tag, _)| tag.trim() == name)?;
    Some(value.split_ascii_whitespace().collect())
}

/// Whether the whole net knows the address: receivers see no other one.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let is_shared = matches!(ip.octets(), [100, 64..=127, ..]);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || is_shared)
        }
        IpAddr::V6(ip) => {
            let is_own = matches!(ip.segments(), [0xfc00..=0xfdff, ..] | [0xfe80..=0xfebf, ..]);
            !(ip.is_loopback() || ip.is_unspecified() || is_own)
        }
    }
}

/// The name of the PTR record of an address (RFC 1035 §3.5, RFC 3596 §2.5).
#[must_use]
pub fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = (0..32).map(|i| (u128::from(ip) >> (4 * i)) & 15);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with a TXT record each (`name TXT…`), or addresses (`name=ip,ip`), or MX hosts (`name>host`).
    struct Table(&'static [&'static str]);

    impl Table {
        fn find(&self, name: &str, mark: char) -> Vec<String> {
            let rows = self.0.iter().filter_map(|row| row.split_once(mark));
            rows.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).collect()
        }
    }

    impl Ask for Table {
        fn texts(&self, name: &str) -> Result<Vec<String>, String> {
            if name == "broken.example" { Err("no answer".into()) } else { Ok(self.find(name, ' ')) }
        }
        fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, String> {
            Ok(self.find(name, '@').iter().map(|ip| ip.parse().unwrap()).collect())
        }
        fn exchanges(&self, name: &str) -> Result<Vec<String>, String> {
            Ok(self.find(name, '>'))
        }
    }

    const TABLE: Table = Table(&[
        "a.example v=spf1 a mx/24 -all",
        "a.example@192.0.2.1",
        "a.example>mx.a.example",
        "mx.a.example@198.51.100.7",
        "b.example v=spf1 include:a.example ?ip6:2001:db8::/32 ~all",
        "c.example other text",
        "c.example v=SPF1 redirect=b.example",
        "d.example v=spf1 ip4:192.0.2.0/25 ip4:203.0.113.9 exp=x.example -ALL",
        "e.example v=spf1 exists:%{i}.x.example -all",
        "f.example v=spf1 include:f.example -all",
        "g.example v=spf1 include:none.example -all",
        "h.example v=spf1 ptr -all",
        "i.example v=spf1",
        "j.example v=spf1 a",
        "j.example v=spf1 mx",
        "k.example v=spf1 a:a.example/31//64 include:broken.example -all",
        "l.example v=spf1 exists:a.example -all",
        "m.example v=spf1 exists:nobody.example -all",
        "_dmarc.a.example v=DMARC1; p=reject; sp=quarantine",
        "_dmarc.b.example v=DMARC1; p = Reject ;",
        "_dmarc.com v=DMARC1; p=reject",
    ]);

    #[test]
    fn spf_says_who_may_send() {
        for (domain, ip, expected) in [
            ("a.example", "192.0.2.1", Spf::Pass),
            ("a.example", "198.51.100.200", Spf::Pass),
            ("a.example", "192.0.2.2", Spf::Fail),
            ("a.example", "2001:db8::1", Spf::Fail),
            ("b.example", "192.0.2.1", Spf::Pass),
            ("b.example", "2001:db8:9::1", Spf::Neutral),
            ("b.example", "192.0.2.2", Spf::SoftFail),
            ("c.example", "192.0.2.1", Spf::Pass),
            ("d.example", "192.0.2.127", Spf::Pass),
            ("d.example", "203.0.113.9", Spf::Pass),
            ("d.example", "192.0.2.128", Spf::Fail),
            ("i.example", "192.0.2.1", Spf::Neutral),
            ("none.example", "192.0.2.1", Spf::None),
            ("k.example", "192.0.2.0", Spf::Pass),
            ("l.example", "192.0.2.9", Spf::Pass),
            ("m.example", "192.0.2.9", Spf::Fail),
        ] {
            assert_eq!(spf(&TABLE, domain, ip.parse().unwrap()), expected, "{domain} {ip}");
        }
        for (domain, words) in [
            ("e.example", "macro"),
            ("f.example", "ten look-ups"),
            ("g.example", "to include"),
            ("h.example", "not followed"),
            ("j.example", "two SPF records"),
            ("k.example", "no answer"),
        ] {
            let Spf::Unknown(text) = spf(&TABLE, domain, "192.0.2.9".parse().unwrap()) else { panic!() };
            assert!(text.contains(words), "{domain}: {text}");
        }
    }

    #[test]
    fn dmarc_is_that_of_the_nearest_domain_above() {
        let found =
            |domain: &str| dmarc(&TABLE, domain).unwrap().map(|(policy, at)| format!("{policy} {at}"));
        assert_eq!(found("a.example").as_deref(), Some("reject a.example"));
        assert_eq!(found("x.y.a.example").as_deref(), Some("quarantine a.example"));
        assert_eq!(found("b.example").as_deref(), Some("reject b.example"));
        assert_eq!(found("x.com"), None);
    }

    #[test]
    fn addresses_have_reverse_names_and_some_are_not_seen() {
        assert_eq!(reverse_name("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        let six = reverse_name("2001:db8::1".parse().unwrap());
        assert!(six.starts_with("1.0.0.") && six.ends_with("8.b.d.0.1.0.0.2.ip6.arpa"), "{six}");
        for (ip, expected) in [
            ("192.0.2.1", true),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("100.128.0.1", true),
            ("2001:db8::1", true),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
