//! Counters of this host's work: since the start, and in total.
//!
//! | number | kept in | lost by a crash |
//! | --- | --- | --- |
//! | since the start | memory | everything |
//! | in total | the file `statistics` below `state` | the counts since the last save |
//!
//! Counting is an addition under a lock that is held for nothing else, because some processors have no atomic 64-bit
//! integers (32-bit MIPS). It never writes to the disk. The totals are saved at most once an hour, if they have
//! changed, and when the daemon stops. A failed save is logged, and harms no mail.
//!
//! # The file
//!
//! ```text
//! CRC pillarbox-statistics 1<TAB>N N N …      one number for each Count, in its order
//! ```
//!
//! | the file has | the counters begin with |
//! | --- | --- |
//! | fewer numbers, from an older version | 0 for the rest |
//! | more numbers, from a newer version | the known ones; the others are lost at the next save |
//! | a word that is not a number | 0 in its place |
//! | a wrong checksum, or is missing | 0 everywhere |

use super::event::{AttemptEnd, trouble};
use super::history::{History, Hour};
use super::last_ends::LastEnds;
use super::logger;
use crate::mail::date::Now;
use crate::store::state_file::line::STATISTICS;
use crate::sys::lock::Lock;
use std::fmt::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The least time between two saves: flash memory wears out.
const SAVE_INTERVAL: Duration = Duration::from_secs(3600);

/// The things that are counted. The file follows this order: add new ones at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// Messages accepted on a port for SMTP.
    BySmtp,
    /// Messages accepted on a port for submission.
    BySubmission,
    /// Messages accepted by LMTP.
    ByLmtp,
    /// Messages accepted from programs of this host, by `sendmail`.
    ByDrop,
    /// The size of all accepted messages on the wire, in octets.
    Octets,
    /// Replies 5yz about addresses (5.1.x).
    RefusedAddress,
    /// Replies 5yz about rights and policies (5.7.x).
    RefusedPolicy,
    /// Other replies 5yz.
    RefusedOther,
    /// Replies 4yz.
    RefusedForNow,
    /// Recipients delivered to mailboxes of this host.
    Delivered,
    /// Recipients that a next hop has accepted.
    Relayed,
    /// Attempts at a recipient that were deferred.
    Deferred,
    /// Recipients that failed permanently.
    Bounced,
    /// Recipients whose message expired.
    Expired,
    /// Notices to senders and to `admin`.
    Notices,
    /// Successful logins of clients.
    LoginsRight,
    /// Failed logins of clients.
    LoginsWrong,
    /// Accepted connections.
    ConnectionsTaken,
    /// Connections that were refused with 421.
    ConnectionsRefused,
    /// TLS handshakes with clients that failed.
    HandshakesFailed,
    /// Dropped log lines.
    LogLinesDropped,
    /// Alarms raised.
    Alarms,
}

/// The number of counters.
pub const COUNTS: usize = Count::Alarms as usize + 1;

type Numbers = [u64; COUNTS];

/// A number that rises and falls, read when it is shown.
pub trait Gauge: Send + Sync {
    /// The current number.
    fn value(&self) -> usize;
}

/// Shows no fields: the table of functions of a `dyn` trait would bring what is derived for them into the binary.
impl fmt::Debug for dyn Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gauge")
    }
}

/// The counters of a running daemon.
#[derive(Debug)]
pub struct Counters {
    /// The number of open connections.
    pub connections: Arc<dyn Gauge>,
    /// The running time at the start.
    pub started: Duration,
    /// The last delivery and the last failure.
    pub last_ends: LastEnds,
    history: History,
    state: PathBuf,
    /// The totals before the start.
    before: Numbers,
    since: Lock<Numbers>,
    saved: Lock<Saved>,
}

/// The latest save. Locked while the file is written.
#[derive(Debug)]
struct Saved {
    at: Duration,
    since: Numbers,
}

impl Counters {
    /// Continues the totals that were saved below `state`.
    #[must_use]
    pub fn resume(state: &Path, connections: Arc<dyn Gauge>, now: Now) -> Self {
        let saved = Saved { at: now.running, since: [0; COUNTS] };
        Self {
            connections,
            started: now.running,
            last_ends: LastEnds::default(),
            history: History::resume(state, now),
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

    /// Adds a number.
    pub fn add(&self, what: Count, number: u64) {
        if let Some(slot) = self.since.lock().get_mut(what as usize) {
            *slot = slot.saturating_add(number);
        }
    }

    /// Counts the end of an attempt; `is_local`: in a mailbox of this host.
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

    /// The totals.
    #[must_use]
    pub fn in_all(&self) -> Numbers {
        let mut all = self.since_start();
        all.iter_mut().zip(self.before).for_each(|(slot, before)| *slot = slot.saturating_add(before));
        all
    }

    /// The hours of the last month, the newest first; `waiting`: the messages in the queue now.
    #[must_use]
    pub fn hours(&self, now: Now, waiting: u64) -> Vec<Hour> {
        let (delivered, failed) = self.ends();
        self.history.hours(now.wall, delivered, failed, waiting)
    }

    /// Adds an hour to the history if it has ended, or `in_any_case`.
    pub fn note_hour(&self, now: Now, waiting: u64, in_any_case: bool) {
        let (delivered, failed) = self.ends();
        self.history.note(&self.state, now, (delivered, failed, waiting), in_any_case);
    }

    /// Recipients that were delivered, and that failed, since the start.
    fn ends(&self) -> (u64, u64) {
        let since = self.since_start();
        let of = |count: Count| since.get(count as usize).copied().unwrap_or_default();
        (of(Count::Delivered) + of(Count::Relayed), of(Count::Bounced) + of(Count::Expired))
    }

    /// Saves the totals if they have changed, and [`SAVE_INTERVAL`] has passed or `in_any_case` is set.
    pub fn save(&self, now: Now, in_any_case: bool) {
        let mut saved = self.saved.lock();
        let since = self.since_start();
        let is_time = now.running.saturating_sub(saved.at) >= SAVE_INTERVAL;
        if saved.since == since || !(is_time || in_any_case) {
            return;
        }
        // Also after a failure the next save is an hour away.
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

/// See the table at the top of this file.
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
