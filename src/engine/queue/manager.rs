//! The queue manager: keeps the index and the queue's files in step, hands out attempts, and settles their outcomes.
//!
//! Every outcome of a queued message is settled here, in an order that a crash may interrupt anywhere: first the
//! journal, then the notice to the sender, then the removal. Only what operators order (hold, release, remove) is
//! recorded by `engine::control::requests` itself. A crash repeats an attempt or a notice, and loses neither
//! (see the table in [`attempt`](super::attempt)). It has no thread and no connection; it is called by:
//!
//! | caller | calls | when |
//! | --- | --- | --- |
//! | `engine::daemon` | [`Manager::load`], [`Manager::reload`], [`Manager::sync_removals`] | start, SIGHUP, stop |
//! | the forwarder | [`Manager::look_after`], [`Manager::keep_saving`], [`Manager::hop_failed`] | each minute; each round; no thread for a worker |
//! | a remote worker | [`Manager::guard`], [`Manager::begin_attempt`], [`Manager::end_attempt`], [`Manager::hop_failed`], [`Manager::fail_all`] | each message |
//! | the local worker | [`Manager::guard`], [`Manager::begin_attempt`], [`Manager::end_attempt`]; for digests `put_at_hops` and `remove` | each message |
//! | the control socket | [`Manager::end_attempt`], `load_summary`, `index`, `queue` | an operator lists, holds, releases, removes or bounces |
//! | the alarm | `index` | each minute |
//!
//! | file | holds |
//! | --- | --- |
//! | `manager.rs` | the parts of the manager; loading the queue into the index; removals |
//! | `manager/settling.rs` | an attempt begins and ends |
//! | `manager/failing.rs` | a next hop cannot be used: pauses, deferrals, expiry |
//! | `manager/kept.rs` | mail to `admin` that cannot be delivered is kept |
//!
//! An I/O failure is logged, and the message that it concerns is tried again after [`OWN_TROUBLE_RETRY`].

mod failing;
mod kept;
mod settling;

use super::attempt::Claims;
use super::digest_entries;
use super::enqueue::{Enqueue, hop_of};
use super::index::{Hop, IndexedMessage, Pending, QueueIndex};
use super::news::{self, DelayWatch};
use super::saver::Saver;
use super::spool::Spool;
use crate::engine::host::clock::EngineClock;
use crate::engine::host::site::{Site, SiteHandle, current};
use crate::engine::intake::incoming::Intake;
use crate::engine::log::event::trouble;
use crate::mail::date::Now;
use crate::rules::pacing::retry::remaining_wait;
use crate::rules::pacing::shares::{Owner, sender_number};
use crate::store::ErrorKind;
use crate::store::queue::{self, Durability, Entry, JournalRecord, Progress, Queue};
use crate::sys;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Wait after another process, or a child of this one before its exec, had the lock of an entry.
pub(crate) const BUSY_RETRY: Duration = Duration::from_secs(2);
/// Wait after a failure of this host itself, such as a full disk.
pub(crate) const OWN_TROUBLE_RETRY: Duration = Duration::from_secs(60);
/// Wait after a panic of a worker.
const PANIC_RETRY: Duration = Duration::from_secs(60);
/// At most this many removals go unsynced: a power cut may cause these messages to be delivered again.
const UNSYNCED_REMOVALS_MAX: usize = 16;

/// The queue manager.
pub struct Manager {
    /// The configuration.
    pub site: SiteHandle,
    /// The index of the queue.
    pub index: Arc<QueueIndex>,
    /// The queue on disk.
    pub queue: Arc<Queue>,
    /// Where notices and digests enter.
    pub intake: Arc<Intake>,
    /// The running time and the wall clock.
    pub clock: Arc<EngineClock>,
    /// The recipients that attempts are under way for.
    pub claims: Claims,
    /// What was done about messages in memory.
    pub saver: Saver,
    unsynced_removals: AtomicUsize,
    delays: DelayWatch,
    spool: Spool,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

impl Manager {
    /// A manager that has not read the queue yet.
    #[must_use]
    pub fn new(enqueue: &Enqueue, intake: Arc<Intake>) -> Self {
        // Before any mail comes in: no message may leave ahead of the schedule while the queue is being read.
        enqueue.index.set_parked(current(&enqueue.site).settings.queue.schedule.is_some());
        Self {
            site: Arc::clone(&enqueue.site),
            index: Arc::clone(&enqueue.index),
            queue: Arc::clone(&intake.queue),
            clock: Arc::clone(&intake.clock),
            intake,
            claims: Claims::default(),
            saver: Saver::default(),
            unsynced_removals: AtomicUsize::new(0),
            delays: DelayWatch::default(),
            spool: Spool::default(),
        }
    }

    /// The current configuration.
    #[must_use]
    pub fn site(&self) -> Arc<Site> {
        current(&self.site)
    }

    /// Does what needs no attempt: removes files that a crash left, gives up mail that was kept for too long, reports
    /// delays. Returns when the next message will be late, in running time.
    pub fn look_after(&self, now: Now) -> Option<Duration> {
        self.spool.sweep(&self.queue, now.wall);
        self.release_kept(now);
        self.look_for_delays(now)
    }

    /// Lets the local worker report the messages that have become late. Returns when the next one will be late.
    pub fn look_for_delays(&self, now: Now) -> Option<Duration> {
        self.delays.look(&self.index, &self.intake.digests, &self.site(), now)
    }

    /// A guard for a worker to keep while it works on a message.
    #[must_use]
    pub fn guard<'a>(&'a self, hop: &'a Hop, pending: Pending) -> PanicGuard<'a> {
        PanicGuard { manager: self, hop, pending }
    }

    /// Puts every message of the queue in the index, by the current routes.
    pub fn load(&self) {
        let site = self.site();
        self.index.set_parked(site.settings.queue.schedule.is_some());
        self.delays.begin(&site, self.clock.now());
        self.intake.digests.begin_load();
        let scan = match self.queue.scan() {
            Ok(scan) => scan,
            Err(error) => return trouble("reading the queue", &error),
        };
        for summary in scan {
            match summary {
                Ok(summary) => self.load_summary(&site, &summary),
                Err(error) if error.kind == ErrorKind::Foreign => self.spool.report_foreign(&error),
                Err(error) => trouble("reading a queue file", &error),
            }
        }
    }

    /// Puts one message in the index.
    pub(crate) fn load_summary(&self, site: &Site, summary: &queue::EntrySummary) {
        let now = self.clock.now();
        let arrival = summary.description.arrival.running.min(now.running);
        let is_held =
            summary.progress.iter().any(|it| it.held) && !summary.progress.iter().any(Progress::is_due);
        let kept_since = summary.progress.iter().filter_map(|it| it.kept).map(|at| at.running).min();
        let is_urgent = summary.description.envelope.is_urgent;
        let envelope = &summary.description.envelope;
        let known = IndexedMessage {
            is_held,
            owner: Owner::of_origin(&summary.description.origin),
            sender: sender_number(&envelope.reverse_path),
            ..IndexedMessage::new(summary.message_octets, arrival, is_urgent)
        };
        self.index.add_message(summary.id, known);
        self.index.note_progress(summary.id, envelope, &summary.progress);
        self.index.set_kept(summary.id, kept_since);
        if summary.damaged_records > 0 {
            let (id, count) = (summary.id, summary.damaged_records);
            log::warn!(target: "pillarbox", "event=damaged_records id={id} count={count}");
        }
        if !digest_entries::load(&self.index, &self.intake.digests, site, summary, now) {
            self.put_at_hops(site, summary);
        }
    }

    /// Indexes a message that is not waiting for a digest, once at each hop that has a due recipient.
    pub(crate) fn put_at_hops(&self, site: &Site, summary: &queue::EntrySummary) {
        let now = self.clock.now();
        let arrival = summary.description.arrival.running.min(now.running);
        let pending = Pending { id: summary.id, arrival };
        let mut hops: Vec<(Hop, Duration)> = Vec::new();
        let envelope = &summary.description.envelope;
        for (recipient, progress) in envelope.recipients.iter().zip(&summary.progress) {
            if !progress.is_due() {
                continue;
            }
            let wait = match progress.recent_attempts.first() {
                Some(Some(last)) => remaining_wait(self.step(site, progress.attempts), *last, now),
                _ => Duration::ZERO,
            };
            let (hop, due) =
                (hop_of(site, &envelope.reverse_path, recipient), now.running.saturating_add(wait));
            match hops.iter_mut().find(|(known, _)| *known == hop) {
                Some((_, known)) => *known = due.min(*known),
                None => hops.push((hop, due)),
            }
        }
        let has_news = !news::news(site, &summary.description, &summary.progress, now).is_empty();
        if (hops.is_empty() && !summary.progress.iter().any(|it| it.held)) || has_news {
            // A crash came between an outcome and the notice or the removal, or the message has become late: the local
            // worker settles it.
            hops.push((Hop::Local, now.running));
        }
        for (hop, due) in hops {
            self.index.put_back(hop, pending, due);
        }
    }

    /// Puts the whole queue in the index again, after the routes have changed.
    pub fn reload(&self) {
        // The grace may be shorter now.
        *self.saver.next_look.lock() = Duration::ZERO;
        self.index.clear_hops();
        self.load();
    }

    pub(super) fn record(&self, entry: &Arc<Entry>, records: &[JournalRecord], durability: Durability) {
        if let Err(error) = self.queue.record(entry, records, durability) {
            trouble("writing to the journal of a queue file", &error);
        }
    }

    pub(crate) fn remove(&self, entry: &Arc<Entry>, pending: Pending, records: &[JournalRecord]) {
        if let Err(error) = self.queue.remove(entry) {
            trouble("removing a queue file", &error);
            // The journal has to say which recipients are finished until the removal succeeds.
            if !records.is_empty() {
                self.record(entry, records, Durability::Synced);
            }
            return self.index.put_back(Hop::Local, pending, self.clock.now().running + OWN_TROUBLE_RETRY);
        }
        self.index.forget_message(entry.id());
        self.intake.digests.forget(entry.id());
        // One that lay in memory leaves nothing that could come back.
        if !entry.is_in_memory()
            && self.unsynced_removals.fetch_add(1, Ordering::Relaxed) + 1 >= UNSYNCED_REMOVALS_MAX
        {
            self.sync_removals();
        }
    }

    /// Makes removals durable, if there were any: until then a power cut could make a message be delivered again.
    pub fn sync_removals(&self) {
        if self.unsynced_removals.swap(0, Ordering::Relaxed) > 0
            && let Err(error) = self.queue.sync()
        {
            trouble("syncing the queue", &error);
        }
    }

    pub(super) fn step(&self, site: &Site, attempts: u32) -> Duration {
        site.retry.step(attempts, sys::random() as u32)
    }
}

/// Puts a message that a worker has taken back in the index if the worker panics.
pub struct PanicGuard<'a> {
    manager: &'a Manager,
    hop: &'a Hop,
    pending: Pending,
}

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let due = self.manager.clock.now().running + PANIC_RETRY;
            self.manager.index.put_back(self.hop.clone(), self.pending, due);
        }
    }
}
