//! Counters of what this host has done: since the start, and in all.
//!
//! | number | kept in | lost by a crash |
//! | --- | --- | --- |
//! | since the start | memory | all |
//! | in all | the file `statistics` of the state | what was counted since it was saved last |
//!
//! Counting is an addition under a lock that is held for nothing else: whole numbers of 64 bits also where the processor has
//! none (32-bit MIPS), and no write to disk. The totals are saved once an hour at most, if they have changed, and when the
//! daemon stops. A failure to save is logged, and harms no mail. The format on disk is one line of numbers in the order of
//! [`Count`]; an older version wrote fewer, a newer one writes more.

use super::event::{AttemptEnd, trouble};
use super::logger;
use crate::mail::date::Now;
use crate::store::state_file::line::STATISTICS;
use crate::sys::lock::Lock;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Totals are saved so often at most: flash wears out.
const SAVE_INTERVAL: Duration = Duration::from_secs(3600);

/// Something that is counted. The file of the totals follows this order: add new ones at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Messages accepted on a port for SMTP.
    BySmtp,
    /// Messages accepted on a port for submission.
    BySubmission,
    /// Messages accepted by LMTP.
    ByLmtp,
    /// Messages accepted from programs of this host, by sendmail.
    ByDrop,
    /// Size of all of them, in octets as the wire counts them.
    Octets,
    /// Replies 5yz about addresses (5.1.x).
    RefusedAddress,
    /// Replies 5yz about rights and policies (5.7.x).
    RefusedPolicy,
    /// Other replies 5yz.
    RefusedOther,
    /// Replies 4yz.
    RefusedForNow,
    /// Recipients delivered into Maildirs.
    Delivered,
    /// Recipients that a next hop has taken over.
    Relayed,
    /// Attempts at a recipient that ended in waiting.
    Deferred,
    /// Recipients that failed for good.
    Bounced,
    /// Recipients whose message became too old.
    Expired,
    /// Notices to senders and to `admin`.
    Notices,
    /// Logins of clients.
    LoginsRight,
    /// Logins that failed.
    LoginsWrong,
    /// Connections that got their thread.
    ConnectionsTaken,
    /// Connections that were turned away with 421.
    ConnectionsRefused,
    /// TLS handshakes with clients that failed.
    HandshakesFailed,
    /// Log lines that the log did not take.
    LogLinesDropped,
    /// Alarms raised.
    Alarms,
}

/// So many are counted.
pub const COUNTS: usize = Count::Alarms as usize + 1;

type Numbers = [u64; COUNTS];

/// A number that goes up and down, asked for when it is shown.
pub trait Gauge: fmt::Debug + Send + Sync {
    /// The number now.
    fn value(&self) -> usize;
}

/// The counts of a running pillarbox.
#[derive(Debug)]
pub struct Counters {
    /// The connections that are open now.
    pub connections: Arc<dyn Gauge>,
    /// The running time of the start.
    pub started: Duration,
    state: PathBuf,
    /// What had been counted before the start.
    before: Numbers,
    since: Lock<Numbers>,
    saved: Lock<Saved>,
}

/// What was saved last, and when; locked while it is written.
#[derive(Debug)]
struct Saved {
    at: Duration,
    since: Numbers,
}

impl Counters {
    /// Goes on from what was saved below `state`.
    #[must_use]
    pub fn resume(state: &Path, connections: Arc<dyn Gauge>, now: Now) -> Self {
        let saved = Saved { at: now.running, since: [0; COUNTS] };
        Self {
            connections,
            started: now.running,
            state: state.to_owned(),
            before: parse(&STATISTICS.load(state).unwrap_or_default()),
            since: Lock::new([0; COUNTS]),
            saved: Lock::new(saved),
        }
    }

    /// Counts one more.
    pub fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Counts so many more.
    pub fn add(&self, what: Count, number: u64) {
        if let Some(slot) = self.since.lock().get_mut(what as usize) {
            *slot = slot.saturating_add(number);
        }
    }

    /// Counts what became of a recipient; `is_local`: no other host had a part in it.
    pub fn count_end(&self, end: AttemptEnd, is_local: bool) {
        self.count(match end {
            AttemptEnd::Delivered if is_local => Count::Delivered,
            AttemptEnd::Delivered => Count::Relayed,
            AttemptEnd::Deferred => Count::Deferred,
            AttemptEnd::Bounced | AttemptEnd::Held => Count::Bounced,
            AttemptEnd::Expired | AttemptEnd::GivenUp => Count::Expired,
        });
    }

    /// The counts since the start.
    #[must_use]
    pub fn since_start(&self) -> Numbers {
        let mut since = *self.since.lock();
        if let Some(slot) = since.get_mut(Count::LogLinesDropped as usize) {
            *slot = logger::dropped_lines();
        }
        since
    }

    /// The counts in all.
    #[must_use]
    pub fn in_all(&self) -> Numbers {
        let mut all = self.since_start();
        all.iter_mut().zip(self.before).for_each(|(slot, before)| *slot = slot.saturating_add(before));
        all
    }

    /// Saves the totals if they have changed, and if it is time to or in any case.
    pub fn save(&self, now: Now, in_any_case: bool) {
        let mut saved = self.saved.lock();
        let since = self.since_start();
        let is_time = now.running.saturating_sub(saved.at) >= SAVE_INTERVAL;
        if saved.since == since || !(is_time || in_any_case) {
            return;
        }
        // A disk that takes nothing is asked again in an hour as well.
        *saved = Saved { at: now.running, since };
        if let Err(error) = STATISTICS.save(&self.state, &print(&self.in_all())) {
            trouble("saving the statistics", &error);
        }
    }
}

fn print(numbers: &Numbers) -> String {
    let mut text = String::new();
    for number in numbers {
        // Writing to a String can't fail.
        let _ = write!(text, "{number} ");
    }
    text
}

/// A file of an older version has fewer numbers, one of a newer version more.
fn parse(text: &str) -> Numbers {
    let mut numbers = [0; COUNTS];
    for (slot, word) in numbers.iter_mut().zip(text.split(' ')) {
        *slot = word.parse().unwrap_or(0);
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_other_versions_are_read_as_far_as_they_are_known() {
        let mut numbers = [0; COUNTS];
        for (i, slot) in numbers.iter_mut().enumerate() {
            *slot = u64::MAX - i as u64;
        }
        let text = print(&numbers);
        assert_eq!(parse(&text), numbers);
        assert_eq!(parse(&format!("{text} 7 8")), numbers);
        assert!(text.len() < 1000, "the file has room for 16 KiB");
        let older = parse("5 6");
        assert_eq!((older[0], older[1], older[2]), (5, 6, 0));
        assert_eq!(parse(""), [0; COUNTS]);
    }
}
