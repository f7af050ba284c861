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
//! The form of the file is in [`statistics`]. It also keeps the last delivery, the last failure and the last mail of
//! `heartbeat.every`, which is saved at once.

mod statistics;

use self::statistics::Statistics;
use super::event::{AttemptEnd, trouble};
use super::history::{History, Hour};
use super::last_ends::LastEnds;
use super::logger;
use crate::mail::date::Now;
use crate::rules::message::heartbeat::Totals;
use crate::rules::pacing::heartbeat::LastBeat;
use crate::store::state_file::line::STATISTICS;
use crate::sys::lock::Lock;
use std::fmt;
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

/// A number for each [`Count`], in its order.
pub type Numbers = [u64; COUNTS];

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
    beat: Lock<Option<LastBeat>>,
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
        let Statistics { totals, ends, beat } =
            Statistics::parse(&STATISTICS.load(state).unwrap_or_default());
        Self {
            connections,
            started: now.running,
            last_ends: LastEnds::resume(ends),
            history: History::resume(state, now),
            state: state.to_owned(),
            before: totals,
            since: Lock::new([0; COUNTS]),
            beat: Lock::new(beat),
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

    /// The totals that a mail of `heartbeat.every` tells.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let all = self.in_all();
        let sum = |counts: &[Count]| {
            counts
                .iter()
                .filter_map(|count| all.get(*count as usize))
                .fold(0, |sum: u64, it| sum.saturating_add(*it))
        };
        Totals {
            // What this host writes itself is delivered, too.
            accepted: sum(&[
                Count::BySmtp,
                Count::BySubmission,
                Count::ByLmtp,
                Count::ByDrop,
                Count::Notices,
            ]),
            delivered: sum(&[Count::Delivered, Count::Relayed]),
            deferred: sum(&[Count::Deferred]),
            failed: sum(&[Count::Bounced, Count::Expired]),
        }
    }

    /// The last mail of `heartbeat.every`.
    #[must_use]
    pub fn last_beat(&self) -> Option<LastBeat> {
        *self.beat.lock()
    }

    /// Notes the last mail of `heartbeat.every`, and saves it now: a crash must not lead to a second one.
    pub fn note_beat(&self, beat: Option<LastBeat>, now: Now) {
        *self.beat.lock() = beat;
        let mut saved = self.saved.lock();
        self.write(&mut saved, now);
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
        self.write(&mut saved, now);
    }

    fn write(&self, saved: &mut Saved, now: Now) {
        // Also after a failure the next save is an hour away.
        *saved = Saved { at: now.running, since: self.since_start() };
        let (totals, ends, beat) = (self.in_all(), self.last_ends.so_far(), self.last_beat());
        if let Err(error) = STATISTICS.save(&self.state, &Statistics { totals, ends, beat }.print()) {
            trouble("saving the statistics", &error);
        }
    }
}
