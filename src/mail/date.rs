//! Dates as header fields write them (RFC 5322 §3.3), and the two times that the program lives by.

use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// One look at the clocks, passed as an argument wherever time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// The wall clock: for people, file names and header fields; it may jump.
    pub wall: WallTime,
    /// Time that has really passed, counted over restarts: for ages and due times; it never runs backwards.
    pub running: Duration,
}

/// Microseconds since 1970 by the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WallTime(pub u64);

impl WallTime {
    /// Whole seconds since 1970.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000_000
    }

    /// The part of the second, in microseconds.
    #[must_use]
    pub const fn subsec_micros(self) -> u64 {
        self.0 % 1_000_000
    }

    /// The time as a date in UTC; a clock beyond the year 9999 gives the year 1970.
    #[must_use]
    pub fn to_utc(self) -> OffsetDateTime {
        i64::try_from(self.seconds())
            .ok()
            .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// `Mon, 23 Nov 2026 06:53:30 +0000` (RFC 5322 §3.3).
    #[must_use]
    pub fn to_rfc5322(self) -> String {
        // Formatting a date between 1970 and 9999 can't fail; an empty text would still be a harmless comment.
        self.to_utc().format(&Rfc2822).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_5322_wants() {
        assert_eq!(WallTime(0).to_rfc5322(), "Thu, 01 Jan 1970 00:00:00 +0000");
        assert_eq!(WallTime(1_795_416_810_000_001).to_rfc5322(), "Mon, 23 Nov 2026 06:53:30 +0000");
        assert_eq!(WallTime(u64::MAX).to_rfc5322(), "Thu, 01 Jan 1970 00:00:00 +0000");
    }
}
