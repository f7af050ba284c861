//! The last month in hours, for the plots of `pillarbox status --html`: what was delivered, what failed, what waited.
//!
//! An hour is one of the wall clock. It is added when it ends by the running clock, that is at most once an hour, and when
//! the daemon stops; only then the file `history` below `state` is written, and only if there is something to add.
//!
//! ```text
//! CRC pillarbox-history 1<TAB>LAST 0,12,0,1 1,3,1,0 …
//! ```
//!
//! `LAST` is the newest hour, counted since 1970. Then each hour is written from the newest to the oldest: how many hours before
//! the previous one it was, delivered and failed recipients, waiting messages. An hour in which nothing happened is left out.
//! No number is larger than [`NUMBER_MAX`], so that a full history has less than 16 KiB.
//!
//! | the clock | then |
//! | --- | --- |
//! | is the same hour as before, after a restart | the numbers are added to it |
//! | went back | the hours that are now in the future are forgotten |

use super::event::trouble;
use crate::mail::date::{Now, WallTime};
use crate::store::state_file::line::HISTORY;
use crate::sys::lock::Lock;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

const SECONDS_AN_HOUR: u64 = 3600;
/// A month of 31 days.
const HOURS_MAX: u64 = 31 * 24;
/// The largest number that is kept.
const NUMBER_MAX: u64 = 99_999;

/// What happened in an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hour {
    /// The hour, counted since 1970.
    pub number: u64,
    /// Recipients that have their message.
    pub delivered: u64,
    /// Recipients that failed.
    pub failed: u64,
    /// Messages in the queue, at the end of the hour.
    pub waiting: u64,
}

impl Hour {
    /// The hour of a time, in which nothing has happened.
    #[must_use]
    pub fn at(wall: WallTime) -> Self {
        Self { number: wall.seconds() / SECONDS_AN_HOUR, ..Self::default() }
    }

    fn is_empty(&self) -> bool {
        (self.delivered, self.failed, self.waiting) == (0, 0, 0)
    }

    fn add(&mut self, other: Self) {
        self.delivered = (self.delivered + other.delivered).min(NUMBER_MAX);
        self.failed = (self.failed + other.failed).min(NUMBER_MAX);
        self.waiting = self.waiting.max(other.waiting).min(NUMBER_MAX);
    }
}

/// The history of a running daemon.
#[derive(Debug)]
pub struct History(Lock<Kept>);

#[derive(Debug)]
struct Kept {
    /// The newest first.
    hours: Vec<Hour>,
    /// The running time of the last addition, and the totals at that time.
    at: Duration,
    delivered: u64,
    failed: u64,
}

impl History {
    /// Continues the history that was saved below `state`.
    #[must_use]
    pub fn resume(state: &Path, now: Now) -> Self {
        let hours = parse(&HISTORY.load(state).unwrap_or_default());
        Self(Lock::new(Kept { hours, at: now.running, delivered: 0, failed: 0 }))
    }

    /// The hours of the last month, with the current one; the newest first. The numbers are those since the start.
    #[must_use]
    pub fn hours(&self, wall: WallTime, delivered: u64, failed: u64, waiting: u64) -> Vec<Hour> {
        let kept = self.0.lock();
        let mut hours = kept.hours.clone();
        push(&mut hours, kept.since(wall, delivered, failed, waiting));
        hours
    }

    /// Adds the hour that has ended, and saves it; before its end only if `in_any_case`.
    pub fn note(&self, state: &Path, now: Now, numbers: (u64, u64, u64), in_any_case: bool) {
        let (delivered, failed, waiting) = numbers;
        let mut kept = self.0.lock();
        if !in_any_case && now.running.saturating_sub(kept.at).as_secs() < SECONDS_AN_HOUR {
            return;
        }
        let hour = kept.since(now.wall, delivered, failed, waiting);
        (kept.at, kept.delivered, kept.failed) = (now.running, delivered, failed);
        if push(&mut kept.hours, hour)
            && let Err(error) = HISTORY.save(state, &print(&kept.hours))
        {
            trouble("saving the history", &error);
        }
    }
}

impl Kept {
    /// What has happened since the last addition.
    fn since(&self, wall: WallTime, delivered: u64, failed: u64, waiting: u64) -> Hour {
        let mut hour = Hour::at(wall);
        let (delivered, failed) =
            (delivered.saturating_sub(self.delivered), failed.saturating_sub(self.failed));
        hour.add(Hour { delivered, failed, waiting, ..hour });
        hour
    }
}

/// Adds an hour, and forgets those that are too old or in the future. Returns false if nothing has changed.
fn push(hours: &mut Vec<Hour>, hour: Hour) -> bool {
    if hour.is_empty() {
        return false;
    }
    hours.retain(|it| it.number <= hour.number && it.number + HOURS_MAX > hour.number);
    match hours.first_mut().filter(|it| it.number == hour.number) {
        Some(known) => known.add(hour),
        None => hours.insert(0, hour),
    }
    true
}

fn print(hours: &[Hour]) -> String {
    let mut later = hours.first().map_or(0, |it| it.number);
    let mut text = later.to_string();
    for Hour { number, delivered, failed, waiting } in hours {
        // Writing to a String cannot fail.
        let _ = write!(text, " {},{delivered},{failed},{waiting}", later.saturating_sub(*number));
        later = *number;
    }
    text
}

/// Reads what was saved; it ends before the first word that it cannot read.
fn parse(text: &str) -> Vec<Hour> {
    let mut words = text.split(' ');
    let Some(mut number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { return Vec::new() };
    let mut hours = Vec::new();
    for word in words {
        let numbers: Vec<u64> = word.split(',').filter_map(|number| number.parse().ok()).collect();
        let &[before, delivered, failed, waiting] = numbers.as_slice() else { break };
        let Some(earlier) = number.checked_sub(before) else { break };
        number = earlier;
        let [delivered, failed, waiting] = [delivered, failed, waiting].map(|it| it.min(NUMBER_MAX));
        hours.push(Hour { number, delivered, failed, waiting });
    }
    hours.truncate(usize::try_from(HOURS_MAX).unwrap_or_default());
    hours
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(number: u64, delivered: u64, failed: u64, waiting: u64) -> Hour {
        Hour { number, delivered, failed, waiting }
    }

    #[test]
    fn a_month_fits_in_its_file_and_older_hours_are_forgotten() {
        let mut hours = Vec::new();
        for number in 500_000..502_000 {
            assert!(push(&mut hours, hour(number, NUMBER_MAX, NUMBER_MAX, NUMBER_MAX)));
        }
        assert!(!push(&mut hours, hour(502_000, 0, 0, 0)), "nothing has happened");
        assert_eq!((hours.len(), hours[0].number), (744, 501_999));
        let text = print(&hours);
        assert!(text.len() < 16_000, "{}", text.len());
        assert_eq!(parse(&text), hours);
        for damaged in ["", "x", "5 1,2", "5 9,1,1,1", "5 x,1,1,1"] {
            assert_eq!(parse(damaged), [], "{damaged}");
        }
    }

    #[test]
    fn an_hour_is_added_to_and_the_future_is_forgotten() {
        let mut hours = vec![hour(9, 1, 0, 5), hour(7, 1, 1, 1)];
        push(&mut hours, hour(9, 2, 1, 3));
        assert_eq!(hours, [hour(9, 3, 1, 5), hour(7, 1, 1, 1)]);
        push(&mut hours, hour(8, 1, 0, 0));
        assert_eq!(hours, [hour(8, 1, 0, 0), hour(7, 1, 1, 1)]);
    }
}
