//! How long a client waits for the answer to AUTH: the more often its address has failed, the longer.
//!
//! | failures within a minute of each other | wait |
//! | --- | --- |
//! | 0 | none |
//! | 1, 2, 3, 4 | 1, 2, 4, 8 s |
//! | 5 and more | 16 s |
//!
//! Failures are counted for each address (IPv6: each /64; all loopback addresses are one), in running time ([`crate::mail::date::Now::running`]). The
//! caller asks for the wait before each answer, right or wrong, and waits in both cases: a guesser that sees a quick
//! yes would not wait for a slow no. A success clears nothing, because an attacker could otherwise log in to an
//! account of their own to get free tries.

use crate::mail::network::Network;
use std::net::IpAddr;
use std::time::Duration;

/// The wait after the first failure; each further failure doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait: a client that gives up after 30 seconds still gets its answer.
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// An address is forgotten after this time without a failure.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// The number of addresses that are remembered. The one whose latest failure is oldest is dropped first.
const ADDRESSES_MAX: usize = 1000;

/// The addresses that have failed, and how often.
#[derive(Debug, Default)]
pub struct AuthFailures {
    /// In the order of their latest failures.
    addresses: Vec<Address>,
}

#[derive(Debug)]
struct Address {
    of: Network,
    failures: u32,
    latest: Duration,
}

impl AuthFailures {
    /// How long the client has to wait for the answer to AUTH.
    #[must_use]
    pub fn wait(&self, client: IpAddr, now: Duration) -> Duration {
        let of = Network::of_client(client);
        let found = self.addresses.iter().find(|address| address.of == of && !address.is_over(now));
        found.map_or(Duration::ZERO, |address| {
            let doubled = 1_u32.checked_shl(address.failures - 1).unwrap_or(u32::MAX);
            FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
        })
    }

    /// Records a failed login and returns the number of failures so far.
    pub fn failed(&mut self, client: IpAddr, now: Duration) -> u32 {
        self.addresses.retain(|address| !address.is_over(now));
        let of = Network::of_client(client);
        let known = self.addresses.iter().position(|address| address.of == of);
        let before = known.map_or(0, |i| self.addresses.remove(i).failures);
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.remove(0);
        }
        let failures = before.saturating_add(1);
        self.addresses.push(Address { of, failures, latest: now });
        failures
    }
}

impl Address {
    fn is_over(&self, now: Duration) -> bool {
        now.saturating_sub(self.latest) >= FORGOTTEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let (mut failures, client) = (AuthFailures::default(), ip("192.0.2.1"));
        assert_eq!(failures.wait(client, at(0)), at(0));
        for (i, seconds) in [1, 2, 4, 8, 16, 16, 16].into_iter().enumerate() {
            assert_eq!(failures.failed(client, at(7)), i as u32 + 1);
            assert_eq!(failures.wait(client, at(7)), at(seconds));
        }
        for _ in 0..40 {
            failures.failed(client, at(7));
        }
        assert_eq!(failures.wait(client, at(7)), at(16));
        assert_eq!(failures.wait(ip("192.0.2.2"), at(7)), at(0));
    }

    #[test]
    fn failures_are_forgotten_a_minute_after_the_latest() {
        let (mut failures, client) = (AuthFailures::default(), ip("192.0.2.1"));
        failures.failed(client, at(100));
        failures.failed(client, at(150));
        assert_eq!(failures.wait(client, at(150 + 59)), at(2));
        assert_eq!(failures.wait(client, at(150 + 60)), at(0));
        assert_eq!(failures.failed(client, at(150 + 60)), 1);
        failures.failed(ip("192.0.2.2"), at(5000));
        assert_eq!(failures.addresses.len(), 1);
    }

    #[test]
    fn the_addresses_of_one_customer_count_together() {
        for (one, other, same) in [
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("::1", "127.0.0.1", true),
            ("127.0.0.2", "::ffff:127.0.0.1", true),
        ] {
            let mut failures = AuthFailures::default();
            failures.failed(ip(one), at(0));
            assert_eq!(failures.wait(ip(other), at(0)), at(u64::from(same)), "{one} {other}");
        }
    }

    #[test]
    fn a_full_table_forgets_whose_failure_is_oldest() {
        let mut failures = AuthFailures::default();
        let client = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
        for n in 0..1000 {
            failures.failed(client(n), at(0));
        }
        failures.failed(client(0), at(1));
        failures.failed(client(5000), at(1));
        assert_eq!(failures.addresses.len(), 1000);
        let waits = [0, 1, 2, 999, 5000].map(|n| failures.wait(client(n), at(1)).as_secs());
        assert_eq!(waits, [2, 0, 1, 1, 1]);
    }
}
