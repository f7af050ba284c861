//! Networks: an address with the length of its prefix, as in `relay.trusted_networks` (RFC 4632, RFC 4291 §2.3).
//!
//! IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2), which a socket for both families reports, are compared as the IPv4
//! addresses that they stand for. Addresses are only compared here, never connected to. Parsing may fail.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The prefix of 127.0.0.0/8, all loopback addresses of IPv4.
const LOOPBACK_PREFIX: u8 = 8;

/// A network: all addresses whose first `prefix` bits equal those of `address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// The first address; its bits beyond the prefix are zero. Never IPv4-mapped.
    pub address: IpAddr,
    /// Length of the prefix in bits: up to 32 for IPv4, up to 128 for IPv6.
    pub prefix: u8,
}

impl Network {
    /// Parses `ADDRESS` or `ADDRESS/PREFIX`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let written: IpAddr = address.parse().map_err(|_| {
            format!("{text:?} is not a network; write an address or a prefix such as \"192.0.2.0/24\"")
        })?;
        let bits = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(p) => p.parse::<u8>().ok().filter(|&p| p <= bits).ok_or_else(|| {
                format!("\"/{}\" is not a prefix length; write a number up to {bits}", p.escape_debug())
            })?,
        };
        let address = first(written, prefix);
        if address != written {
            return Err(format!("\"{text}\" has bits beyond its prefix; write \"{address}/{prefix}\""));
        }
        match (address, address.to_canonical(), prefix.checked_sub(96)) {
            (IpAddr::V6(_), mapped @ IpAddr::V4(_), Some(prefix)) => Ok(Self { address: mapped, prefix }),
            _ => Ok(Self { address, prefix }),
        }
    }

    /// The network that counts as one client. For IPv6 it is the /64, the least that one customer gets. All loopback
    /// addresses are one client: each local program may connect from any of them.
    #[must_use]
    pub fn of_client(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self {
                address: first(IpAddr::V4(Ipv4Addr::LOCALHOST), LOOPBACK_PREFIX),
                prefix: LOOPBACK_PREFIX,
            },
            ip @ IpAddr::V4(_) => Self { address: ip, prefix: 32 },
            ip @ IpAddr::V6(_) => Self { address: first(ip, 64), prefix: 64 },
        }
    }

    /// Whether the address lies in the network.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.address.is_ipv4() && first(ip, self.prefix) == self.address
    }
}

/// The address with all bits beyond the prefix set to zero.
fn first(ip: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask))
        }
    }
}

/// Printed as [`Network::parse`] reads it; the prefix of a single address is left out.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.prefix) {
            (IpAddr::V4(ip), 32) => ip.fmt(f),
            (IpAddr::V6(ip), 128) => ip.fmt(f),
            (ip, prefix) => write!(f, "{ip}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
            ("::ffff:10.0.0.0/104", "10.9.9.9", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "192.0.2.255", "192.0.2.127"),
            ("::1", "::1", "127.0.0.1"),
            ("::1", "::1", "::ffff:0.0.0.1"),
            ("fe80::/10", "febf::1", "fec0::1"),
            ("0.0.0.0/0", "255.255.255.255", "::2"),
            ("::/0", "ffff::", "0.0.0.0"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{inside} in {network}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{outside} in {network}");
        }
    }

    #[test]
    fn a_client_is_an_address_a_64_or_this_host() {
        for (ip, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
            ("127.0.0.1", "127.0.0.0/8"),
            ("127.9.9.9", "127.0.0.0/8"),
            ("::ffff:127.0.0.3", "127.0.0.0/8"),
            ("::1", "127.0.0.0/8"),
            ("::2", "::/64"),
        ] {
            assert_eq!(Network::of_client(ip.parse().unwrap()).to_string(), network, "{ip}");
        }
    }

    #[test]
    fn a_bad_network_says_what_to_write() {
        for (text, hint) in [
            ("", "is not a network"),
            ("localhost", "is not a network"),
            ("[::1]", "is not a network"),
            ("10.0.0", "is not a network"),
            ("10.0.0.0/33", "a number up to 32"),
            ("10.0.0.0/", "a number up to 32"),
            ("::/129", "a number up to 128"),
            ("10.0.0.1/8", "write \"10.0.0.0/8\""),
            ("fe80::1/10", "write \"fe80::/10\""),
        ] {
            let error = Network::parse(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(ip: IpAddr, prefix in 0..=128_u8) {
            let ip = ip.to_canonical();
            let prefix = if ip.is_ipv4() { prefix.min(32) } else { prefix };
            let network = Network { address: first(ip, prefix), prefix };
            prop_assume!(network.address.to_canonical() == network.address);
            prop_assert_eq!(Network::parse(&network.to_string()), Ok(network));
            prop_assert!(network.contains(ip));
        }
    }
}
