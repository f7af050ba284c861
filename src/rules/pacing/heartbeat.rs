//! When the mail of `heartbeat.every` is due, and the record of the last one, by which a restart neither repeats nor forgets it.
//!
//! | time since the last one | counts |
//! | --- | --- |
//! | during which the host was on (the running clock) | always |
//! | during which it was off | if the wall clock has not jumped since then: it alone has seen that time |
//!
//! So a box that is off at night has its mail each week, and a jump of the wall clock is no reason for one. A clock that is wrong at
//! each boot looks like one that went on; therefore a host must also have been on for a part of the period
//! ([`ON_PART`]). The record is saved with the totals of the counters, in one file: figures since the last mail are differences
//! between what both say.

use crate::mail::date::{Now, WallTime, micros};
use crate::mail::id::QueueId;
use crate::rules::message::heartbeat::Totals;
use std::fmt;
use std::time::Duration;

/// The host must have been on for one of so many parts of the period.
const ON_PART: u32 = 24;

/// The last mail, or the begin of the first period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastBeat {
    /// When it was written.
    pub at: Now,
    /// Its id; `None`: no mail has been written yet.
    pub id: Option<QueueId>,
    /// The totals at that time.
    pub totals: Totals,
}

impl LastBeat {
    /// How much of the period has passed.
    #[must_use]
    pub fn passed(&self, now: Now, last_jump: Duration) -> Duration {
        let on = now.running.saturating_sub(self.at.running);
        let by_wall = Duration::from_micros(now.wall.0.saturating_sub(self.at.wall.0));
        if last_jump < self.at.running { on.max(by_wall) } else { on }
    }

    /// Whether the next mail is due; `last_jump`: the running time of the last jump of the wall clock.
    #[must_use]
    pub fn is_over(&self, every: Duration, now: Now, last_jump: Duration) -> bool {
        let on = now.running.saturating_sub(self.at.running);
        self.passed(now, last_jump) >= every && on >= every / ON_PART
    }

    /// Whether the record cannot be of this host's past: the file with the running time was lost.
    #[must_use]
    pub fn is_ahead_of(&self, now: Now) -> bool {
        self.at.running > now.running
    }

    /// Reads what `Display` printed; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let &[wall, running, id, accepted, delivered, deferred, failed] = words.as_slice() else {
            return None;
        };
        let [accepted, delivered, deferred, failed] =
            [accepted, delivered, deferred, failed].map(|word| word.parse::<u64>().ok());
        let at =
            Now { wall: WallTime(wall.parse().ok()?), running: Duration::from_micros(running.parse().ok()?) };
        let id = if id == "-" { None } else { Some(QueueId::parse(id)?) };
        let totals =
            Totals { accepted: accepted?, delivered: delivered?, deferred: deferred?, failed: failed? };
        Some(Self { at, id, totals })
    }
}

/// Both clocks in microseconds, the id or `-`, and the totals.
impl fmt::Display for LastBeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { accepted, delivered, deferred, failed } = self.totals;
        write!(f, "{} {} ", self.at.wall.0, micros(self.at.running))?;
        match self.id {
            Some(id) => write!(f, "{id}")?,
            None => f.write_str("-")?,
        }
        write!(f, " {accepted} {delivered} {deferred} {failed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: u64 = 86_400;
    const WEEK: Duration = Duration::from_secs(7 * DAY);

    fn now(wall: u64, running: u64) -> Now {
        Now { wall: WallTime(wall * 1_000_000), running: Duration::from_secs(running) }
    }

    fn last() -> LastBeat {
        LastBeat { at: now(1000 * DAY, 10 * DAY), id: None, totals: Totals::default() }
    }

    #[test]
    fn a_period_is_over_by_the_time_that_the_host_was_on_or_off() {
        for (days_by_wall, days_on, jumped_on_day, is_over, case) in [
            (7, 7, 0, true, "always on"),
            (6, 6, 0, false, "not yet"),
            (7, 3, 0, true, "off at night"),
            (8, 0, 0, false, "off all the time: the mail that is due then comes some hours later"),
            (3, 7, 12, true, "the wall clock went back"),
            (900, 6, 12, false, "it leapt forward"),
            (900, 6, 10, false, "as the mail was written"),
            (0, 7, 17, true, "it stands still"),
        ] {
            let at = now((1000 + days_by_wall) * DAY, (10 + days_on) * DAY);
            let last_jump = Duration::from_secs(jumped_on_day * DAY);
            assert_eq!(last().is_over(WEEK, at, last_jump), is_over, "{case}");
        }
        // Seven hours of seven days.
        for (hours_on, is_over) in [(6, false), (7, true)] {
            let at = now(1100 * DAY, 10 * DAY + hours_on * 3600);
            assert_eq!(last().is_over(WEEK, at, Duration::ZERO), is_over, "{hours_on}");
        }
        assert_eq!(last().passed(now(1009 * DAY, 12 * DAY), Duration::ZERO), Duration::from_secs(9 * DAY));
        assert_eq!(last().passed(now(900 * DAY, 12 * DAY), Duration::ZERO), Duration::from_secs(2 * DAY));
        assert!(last().is_ahead_of(now(1000 * DAY, 0)) && !last().is_ahead_of(last().at));
    }

    /// A clock that is wrong by years in any way causes no more than one mail in each 24th part of a period.
    #[test]
    fn no_clock_causes_a_flood_and_none_silence() {
        let (mut last, mut sent) = (last(), 0);
        for hour in 0..7 * 24 * 2 {
            let at = now((1000 + hour * 400) * DAY, 10 * DAY + hour * 3600);
            if last.is_over(WEEK, at, Duration::ZERO) {
                (last.at, sent) = (at, sent + 1);
            }
        }
        assert!((2..=48).contains(&sent), "{sent}");
    }

    #[test]
    fn only_whole_records_are_read() {
        for text in ["", "1 2 - 3 4 5", "1 2 - 3 4 5 6 7", "1 2 x 3 4 5 6", "-1 2 - 3 4 5 6", "1 2 - 3 4 5 x"]
        {
            assert_eq!(LastBeat::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(wall: u64, running: u64, id: Option<(u32, u8)>, four: [u64; 4]) {
            let [accepted, delivered, deferred, failed] = four;
            let beat = LastBeat {
                at: Now { wall: WallTime(wall), running: Duration::from_micros(running) },
                id: id.map(|(micros, number)| QueueId::new(micros.into(), number.into())),
                totals: Totals { accepted, delivered, deferred, failed },
            };
            prop_assert_eq!(LastBeat::parse(&beat.to_string()), Some(beat));
        }
    }
}
