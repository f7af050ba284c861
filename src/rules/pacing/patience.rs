//! How long a slow client is tolerated: less when connections are scarce, and only while its data arrives at a
//! minimum rate. A client that sends an octet a minute on purpose must not keep others out. Time comes as an
//! argument.
//!
//! | situation | limit |
//! | --- | --- |
//! | three quarters of the connections are open | 10 s for each command, the data and the session of a stranger ([`HURRIED`]) |
//! | data, after its first minute | 500 octets a second on average |

use std::time::Duration;

/// The total time for commands, data and sessions of strangers when connections are scarce.
pub const HURRIED: Duration = Duration::from_secs(10);
/// During this time slow data is tolerated …
const DATA_GRACE: Duration = Duration::from_secs(60);
/// … and afterwards it must arrive at this average rate, in octets a second.
const DATA_MIN_RATE: u64 = 500;

/// Whether connections are scarce: strangers can take up three quarters of them, so from there on.
#[must_use]
pub const fn is_crowded(open: usize, connections: u32) -> bool {
    open as u64 * 4 >= connections as u64 * 3
}

/// Whether this many octets in this time are too few: an octet a minute must not hold a thread for an hour.
#[must_use]
pub fn is_too_slow(octets: u64, elapsed: Duration) -> bool {
    elapsed > DATA_GRACE && octets / elapsed.as_secs().max(1) < DATA_MIN_RATE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_has_to_come_at_500_octets_a_second_after_the_first_minute() {
        let after = |seconds, octets| is_too_slow(octets, Duration::from_millis(seconds));
        assert!(!after(1_000, 0) && !after(59_999, 0) && !after(60_000, 0));
        assert!(after(60_001, 0));
        for seconds in [61, 100, 3600] {
            let enough = seconds * 500;
            assert!(after(seconds * 1000, enough - 1) && !after(seconds * 1000, enough));
            assert!(!after(seconds * 1000, enough + 1));
        }
        assert!(!after(3_600_000, u64::MAX));
    }

    #[test]
    fn connections_run_short_from_three_quarters_on() {
        for (open, connections, expected) in [
            (47, 64, false),
            (48, 64, true),
            (49, 64, true),
            (7, 10, false),
            (8, 10, true),
            (1, 1, true),
            (1, 2, false),
        ] {
            assert_eq!(is_crowded(open, connections), expected, "{open} of {connections}");
        }
    }
}
