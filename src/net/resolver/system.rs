//! The system's own resolver (getaddrinfo): it knows `/etc/hosts`, mDNS, directories and search domains, and has no time limit
//! but that of its configuration.

use dns_lookup::AddrInfoHints;
use std::io;
use std::net::IpAddr;

/// The answer of the system for the name of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemAnswer {
    /// At least one address.
    pub addresses: Vec<IpAddr>,
    /// The name that was found: another one than was asked for after a CNAME, or in a search domain.
    pub name: Option<String>,
}

impl SystemAnswer {
    /// The name in a search domain of `/etc/resolv.conf`, if it was found there: what was asked for does not exist then.
    #[must_use]
    pub fn searched(&self, asked: &str) -> Option<&str> {
        let name = self.name.as_deref()?.trim_end_matches('.');
        let (start, rest) = name.split_at_checked(asked.len())?;
        (start.eq_ignore_ascii_case(asked) && rest.starts_with('.')).then_some(name)
    }
}

/// Asks the system. An answer of nothing but `0.0.0.0` or `::` counts as a failure: filters of names give it, and it would lead
/// to this host.
pub(super) fn look_up(host: &str) -> io::Result<SystemAnswer> {
    /// `AI_CANONNAME`, which has this value on Linux.
    const CANONICAL_NAME: i32 = 2;
    let hints = AddrInfoHints {
        socktype: dns_lookup::SockType::Stream.into(),
        flags: CANONICAL_NAME,
        ..AddrInfoHints::default()
    };
    let found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).map_err(io::Error::from)?;
    let (mut addresses, mut name, mut is_filtered) = (Vec::new(), None, false);
    for info in found.flatten() {
        let ip = info.sockaddr.ip();
        name = name.or(info.canonname);
        if ip.is_unspecified() {
            is_filtered = true;
        } else if !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    match addresses.is_empty() {
        true if is_filtered => Err(io::Error::other("the answer is 0.0.0.0, which a filter of names gives")),
        true => Err(io::Error::other("no address")),
        false => Ok(SystemAnswer { addresses, name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_search_domain_is_told_from_a_cname() {
        let answer = |name: &str| SystemAnswer { addresses: Vec::new(), name: Some(name.to_owned()) };
        assert_eq!(
            answer("smtp.gmial.com.home.lan.").searched("SMTP.gmial.com"),
            Some("smtp.gmial.com.home.lan")
        );
        for (found, asked) in [
            ("smtp.example", "smtp.example"),
            ("a.other.example", "smtp.example"),
            ("smtp.example2", "smtp.example"),
        ] {
            assert_eq!(answer(found).searched(asked), None, "{found}");
        }
    }

    #[test]
    fn this_host_has_an_address() {
        let found = look_up("localhost").unwrap();
        assert!(found.addresses.iter().all(IpAddr::is_loopback), "{found:?}");
    }
}
