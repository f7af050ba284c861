//! How many messages an address may send in a minute (`limits.messages_per_minute_per_ip`): a device gone wild must
//! not fill the queue.
//!
//! Each address has a bucket with as many messages as the limit says; it refills evenly within a minute. Time comes
//! as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// The number of addresses that are remembered. When there are more, those with a full bucket are forgotten, or else
/// all.
const ADDRESSES_MAX: usize = 1024;
const MINUTE: Duration = Duration::from_secs(60);

/// The buckets.
#[derive(Debug, Default)]
pub struct Rates {
    /// For each address, the used part of the bucket as the time that it takes to refill, and when that was computed.
    used: HashMap<IpAddr, (Duration, Duration)>,
}

impl Rates {
    /// Takes a message out of the bucket of an address at the running time `now`; false if the bucket is empty. `limit`
    /// is for a minute; 0: no limit.
    pub fn take(&mut self, address: IpAddr, now: Duration, limit: u32) -> bool {
        let Some(each) = MINUTE.checked_div(limit) else { return true };
        if self.used.len() >= ADDRESSES_MAX && !self.used.contains_key(&address) {
            self.used.retain(|_, (used, at)| now.saturating_sub(*at) < *used);
            if self.used.len() >= ADDRESSES_MAX {
                self.used.clear();
            }
        }
        let (used, at) = self.used.entry(address).or_insert((Duration::ZERO, now));
        *used = used.saturating_sub(now.saturating_sub(*at)) + each;
        *at = now;
        // Rounding in the division must not cost the last message.
        let is_within = *used <= MINUTE;
        if !is_within {
            *used -= each;
        }
        is_within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    /// How many of `count` messages at one time are let through.
    fn burst(rates: &mut Rates, address: IpAddr, second: u64, limit: u32, count: usize) -> usize {
        (0..count).filter(|_| rates.take(address, Duration::from_secs(second), limit)).count()
    }

    #[test]
    fn the_limit_passes_and_one_more_does_not() {
        for limit in [1, 2, 3, 7, 60, 1000] {
            let mut rates = Rates::default();
            assert_eq!(burst(&mut rates, ip(1), 0, limit, 2000), limit as usize);
            assert_eq!(burst(&mut rates, ip(2), 0, limit, 2000), limit as usize);
            assert_eq!(burst(&mut rates, ip(1), 60, limit, 2000), limit as usize);
        }
        assert_eq!(burst(&mut Rates::default(), ip(1), 0, 0, 2000), 2000);
    }

    #[test]
    fn what_is_refused_uses_nothing_up() {
        let mut rates = Rates::default();
        assert_eq!(burst(&mut rates, ip(1), 0, 6, 100), 6);
        assert_eq!(burst(&mut rates, ip(1), 9, 6, 100), 0);
        assert_eq!(burst(&mut rates, ip(1), 10, 6, 100), 1);
        assert_eq!(burst(&mut rates, ip(1), 40, 6, 100), 3);
    }

    #[test]
    fn a_flood_of_addresses_takes_little_memory() {
        let mut rates = Rates::default();
        assert!((0..5000).all(|n| rates.take(ip(n), Duration::ZERO, 10)));
        assert!(rates.used.len() <= ADDRESSES_MAX);
    }
}
