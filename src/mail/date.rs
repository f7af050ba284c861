//! Dates in header fields (RFC 5322 §3.3), and the two clocks of the program.
//!
//! | clock | type | for | may jump |
//! | --- | --- | --- | --- |
//! | wall | [`WallTime`] | people, file names, header fields, certificates | yes, also backwards |
//! | running | `Duration` in [`Now`] | ages and due times; counts across restarts | no |
//!
//! Formats: `Mon, 23 Nov 2026 06:53:30 +0000` in header fields, `20261123065330Z` in certificates; the log and mbox
//! build theirs from [`names`]. No function here asks for the time.

use std::time::Duration;
use time::OffsetDateTime;

pub(super) const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
pub(super) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A reading of both clocks, passed as an argument wherever time counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// The wall clock: for people, file names and header fields; it may jump.
    pub wall: WallTime,
    /// Time that has really passed, counted across restarts: for ages and due times. It never runs backwards.
    pub running: Duration,
}

/// The whole microseconds of a duration. [`Duration::as_micros`] has 128 bits, which take other code to print.
#[must_use]
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970, by the wall clock.
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

    /// The time as a date where local time is `utc_offset` seconds ahead of UTC.
    #[must_use]
    pub fn to_local(self, utc_offset: i32) -> OffsetDateTime {
        let seconds = self.seconds().saturating_add_signed(i64::from(utc_offset));
        Self(seconds.saturating_mul(1_000_000)).to_utc()
    }

    /// `Mon, 23 Nov 2026 06:53:30 +0000` (RFC 5322 §3.3).
    #[must_use]
    pub fn to_rfc5322(self) -> String {
        let utc = self.to_utc();
        let ((weekday, month), (hour, minute, second)) = (names(utc), utc.to_hms());
        format!(
            "{weekday}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} +0000",
            utc.day(),
            utc.year()
        )
    }

    /// `20261123065330Z`, as in certificates (GeneralizedTime, RFC 5280 §4.1.2.5.2). It is text because OpenSSL's
    /// seconds have 32 bits on some systems, and on others a size that differs from what Rust assumes.
    #[must_use]
    pub fn to_generalized(self) -> String {
        let utc = self.to_utc();
        let (date, (hour, minute, second)) = (utc.date(), utc.to_hms());
        let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
        format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}Z")
    }
}

/// `Mon` and `Nov`: the names of the weekday and the month, as header fields, mbox and the log use them.
#[must_use]
pub fn names(date: OffsetDateTime) -> (&'static str, &'static str) {
    let weekday = WEEKDAYS.get(usize::from(date.weekday().number_days_from_monday())).unwrap_or(&"Mon");
    let month = MONTHS.get(usize::from(u8::from(date.month()).saturating_sub(1))).unwrap_or(&"Jan");
    (weekday, month)
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

    #[test]
    fn dates_are_written_as_certificates_want() {
        let written = |seconds: u64| WallTime(seconds * 1_000_000).to_generalized();
        assert_eq!(written(0), "19700101000000Z");
        assert_eq!(written(1_795_416_810), "20261123065330Z");
        // Beyond 32 bits with and without a sign.
        assert_eq!(written(2_147_483_648), "20380119031408Z");
        assert_eq!(written(4_294_967_296), "21060207062816Z");
    }
}
