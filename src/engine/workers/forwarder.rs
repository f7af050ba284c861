//! The one way out of the queue: decides what is tried when, hands it to workers, and settles what came of it.
//!
//! The forwarder thread sleeps until the next due time, the schedule, new mail or a signal (DESIGN section 1). Every
//! outcome is settled here, in this order, so that a crash can repeat an attempt or a notice but lose neither: the
//! journal, the notice to the sender, the removal.

use super::delivery::{self, Again};
use super::digests;
use super::local;
use crate::engine::control::alarm::Alarm;
use crate::engine::host::clock::EngineClock;
use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::log::event::{AttemptEnd, Event};
use crate::engine::log::statistics::Count;
use crate::engine::outbound::outside::Outside;
use crate::engine::outbound::tls_policy::StsPolicies;
use crate::engine::queue::attempt::{Attempt, Claim, Claims, Held, expire, log_outcome};
use crate::engine::queue::board::{Board, Hop, Job, Known, Next, WorkerCaps};
use crate::engine::queue::kept;
use crate::engine::queue::notices::{self, DelayWatch};
pub(crate) use crate::engine::queue::outbox::hop_of;
pub use crate::engine::queue::outbox::{Outbox, SiteHandle, current};
use crate::engine::queue::schedule::Schedule;
use crate::engine::queue::spool::Spool;
use crate::mail::date::Now;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::net::connect::Connect;
use crate::net::resolver::Resolve;
use crate::rules::pacing::breaker::Failure;
use crate::rules::pacing::retry::{pause_after_refusal, remaining_wait};
use crate::store::ErrorKind;
use crate::store::queue::{self, Checkout, Durability, Entry, JournalRecord, Progress, Queue};
use crate::sys;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A retry after another process, or a child of ours before its exec, had the lock of an entry.
pub(crate) const BUSY_RETRY: Duration = Duration::from_secs(2);
/// A retry after trouble of our own, such as a disk that is full.
pub(crate) const OWN_TROUBLE_RETRY: Duration = Duration::from_secs(60);
/// So many removals at most are left to one sync of the queue's directory: what a power cut could deliver again.
const UNSYNCED_REMOVALS_MAX: usize = 16;
/// The forwarder looks at the clocks at least this often, to notice jumps and to save the running time.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// The forwarder.
pub struct Forwarder {
    /// The configuration.
    pub site: SiteHandle,
    /// The index of the queue.
    pub board: Arc<Board>,
    /// The queue.
    pub queue: Arc<Queue>,
    /// Where notices go.
    pub intake: Arc<Intake>,
    /// Both clocks.
    pub clock: Arc<EngineClock>,
    /// Looks names up.
    pub resolver: Box<dyn Resolve>,
    /// Makes connections.
    pub connect: Box<dyn Connect>,
    /// How long a worker keeps an open connection for further messages.
    pub linger: Duration,
    /// What was learnt about MTA-STS.
    pub sts: StsPolicies,
    /// One message is settled at a time, so that two workers at one message do not both write its notice.
    pub(crate) settling: Mutex<()>,
    pub(crate) claims: Claims,
    unsynced_removals: AtomicUsize,
    delays: DelayWatch,
    /// What people are told of.
    pub alarm: Alarm,
    spool: Spool,
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder").finish_non_exhaustive()
    }
}

impl Forwarder {
    /// A forwarder that has not looked at the queue yet.
    #[must_use]
    pub fn new(
        outbox: &Outbox,
        intake: Arc<Intake>,
        resolver: Box<dyn Resolve>,
        connect: Box<dyn Connect>,
        linger: Duration,
    ) -> Self {
        // Before any mail comes in: none may slip out ahead of the schedule while the queue is being read.
        outbox.board.set_parked(current(&outbox.site).settings.queue.schedule.is_some());
        Self {
            site: Arc::clone(&outbox.site),
            board: Arc::clone(&outbox.board),
            queue: Arc::clone(&intake.queue),
            clock: Arc::clone(&intake.clock),
            intake,
            resolver,
            connect,
            linger,
            sts: StsPolicies::default(),
            settling: Mutex::new(()),
            claims: Claims::default(),
            unsynced_removals: AtomicUsize::new(0),
            delays: DelayWatch::default(),
            alarm: Alarm::default(),
            spool: Spool::default(),
        }
    }

    /// The configuration of now.
    #[must_use]
    pub fn site(&self) -> Arc<Site> {
        current(&self.site)
    }

    /// The world as delivery sees it, with nobody watching.
    #[must_use]
    pub fn outside(&self) -> Outside<'_> {
        let (resolver, connect) = (self.resolver.as_ref(), self.connect.as_ref());
        let (sts, board, now) = (&self.sts, self.board.as_ref(), self.clock.now());
        Outside { resolver, connect, sts, board, now, watch: &(), hop: None }
    }

    /// Puts all that lies in the queue on the board, by the routes of now.
    pub fn load(&self) {
        let site = self.site();
        self.board.set_parked(site.settings.queue.schedule.is_some());
        self.delays.begin(&site, self.clock.now());
        self.intake.digests.begin_load();
        let scan = match self.queue.scan() {
            Ok(scan) => scan,
            Err(error) => return self.trouble("reading the queue", &error),
        };
        for summary in scan {
            match summary {
                Ok(summary) => self.load_summary(&site, &summary),
                Err(error) if error.kind == ErrorKind::Foreign => self.spool.tell_foreign(&error),
                Err(error) => self.trouble("reading a queue file", &error),
            }
        }
    }

    /// Puts one message on the board.
    pub(crate) fn load_summary(&self, site: &Site, summary: &queue::EntrySummary) {
        let now = self.clock.now();
        let arrival = summary.description.arrival.running.min(now.running);
        let is_held =
            summary.progress.iter().any(|it| it.held) && !summary.progress.iter().any(Progress::is_due);
        let kept_since = summary.progress.iter().filter_map(|it| it.kept).map(|at| at.running).min();
        let is_urgent = summary.description.envelope.is_urgent;
        let known = Known { is_held, ..Known::new(summary.message_octets, arrival, is_urgent) };
        self.board.add_message(summary.id, known);
        self.board.set_kept(summary.id, kept_since);
        if summary.damaged_records > 0 {
            let (id, count) = (summary.id, summary.damaged_records);
            log::warn!(target: "pillarbox", "event=damaged_records id={id} count={count}");
        }
        if !digests::load(self, site, summary) {
            self.put_on_board(site, summary);
        }
    }

    /// Puts a message on the board that waits for nothing but its hops.
    pub(crate) fn put_on_board(&self, site: &Site, summary: &queue::EntrySummary) {
        let now = self.clock.now();
        let arrival = summary.description.arrival.running.min(now.running);
        let job = Job { id: summary.id, arrival };
        let mut hops: Vec<(Hop, Duration)> = Vec::new();
        for (recipient, progress) in summary.description.envelope.recipients.iter().zip(&summary.progress) {
            if !progress.is_due() {
                continue;
            }
            let wait = match progress.recent_attempts.first() {
                Some(Some(last)) => remaining_wait(self.step(site, progress.attempts), *last, now),
                _ => Duration::ZERO,
            };
            let (hop, due) = (hop_of(site, recipient), now.running.saturating_add(wait));
            match hops.iter_mut().find(|(known, _)| *known == hop) {
                Some((_, known)) => *known = due.min(*known),
                None => hops.push((hop, due)),
            }
        }
        let has_news = !notices::news(site, &summary.description, &summary.progress, now).is_empty();
        if (hops.is_empty() && !summary.progress.iter().any(|it| it.held)) || has_news {
            // A crash came between an outcome and the notice or the removal, or the message has become late.
            hops.push((Hop::Local, now.running));
        }
        for (hop, due) in hops {
            self.board.put_back(hop, job, due);
        }
    }

    /// Runs until the daemon stops.
    pub fn run(self: &Arc<Self>) {
        let mut schedule = Schedule::default();
        let mut next_look = Duration::ZERO;
        loop {
            let site = self.site();
            let now = self.clock.now();
            if now.running >= next_look {
                // Not only when the next one is due: what is in a worker's hands is on no list.
                self.delays.look(self, &site, now);
                self.spool.sweep(&self.queue, now.wall);
                kept::let_go(self, now);
                next_look = now.running + LONGEST_SLEEP.min(site.settings.queue.warn_after);
            }
            self.alarm.look(self, &site, now);
            self.clock.save(false);
            self.intake.statistics.save(now, false);
            if schedule.fires(&site, now) {
                self.board.flush(now.running);
            }
            let longest = LONGEST_SLEEP.min(site.settings.alarm.stuck_after);
            match self.board.wait(now.running, caps(&site), longest) {
                Next::Work(hop) => self.start_worker(hop),
                Next::Wait(_) => {}
                Next::Stop => break,
            }
        }
    }

    fn start_worker(self: &Arc<Self>, hop: Hop) {
        let forwarder = Arc::clone(self);
        let own_hop = hop.clone();
        let started = sys::thread::start("worker", move || {
            let _ended = WorkerEnd { forwarder: &forwarder, hop: &own_hop };
            forwarder.work(&own_hop);
        });
        if let Err(error) = started {
            self.board.worker_ended(&hop);
            let reason = Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, format!("no thread: {error}"));
            self.route_failed(&hop, None, &reason.into());
        }
    }

    /// To be kept while a worker has a message in its hands.
    #[must_use]
    pub fn hold<'a>(&'a self, hop: &'a Hop, job: Job) -> Held<'a> {
        Held::new(self, hop, job)
    }

    /// Does what is due at a hop, in this thread.
    pub fn work(&self, hop: &Hop) {
        match hop {
            Hop::Local => local::work(self),
            Hop::Relay(next_hop) => delivery::work(self, next_hop),
        }
        self.sync_removals();
    }

    /// One pass over what is due, in this thread: the next time at which something will be, if ever.
    pub fn pass(&self) -> Option<Duration> {
        self.spool.sweep(&self.queue, self.clock.now().wall);
        kept::let_go(self, self.clock.now());
        let look = || self.delays.look(self, &self.site(), self.clock.now());
        look();
        loop {
            let now = self.clock.now();
            match self.board.next(now.running, caps(&self.site())) {
                Next::Work(hop) => {
                    self.work(&hop);
                    self.board.worker_ended(&hop);
                }
                Next::Wait(until) => return until.into_iter().chain(look()).min(),
                Next::Stop => return None,
            }
        }
    }

    /// Checks an entry out for an attempt at a hop. `None`: there is nothing to try now, and that has been settled.
    #[must_use]
    pub fn begin_attempt(&self, hop: &Hop, job: Job) -> Option<Attempt> {
        let now = self.clock.now().running;
        let entry = match self.queue.checkout(job.id) {
            Ok(Checkout::Ready(entry)) => entry,
            Ok(Checkout::Busy) => {
                self.board.put_back(hop.clone(), job, now + BUSY_RETRY);
                return None;
            }
            Ok(Checkout::Gone) => {
                self.board.forget_message(job.id);
                return None;
            }
            Err(error) => {
                self.trouble("opening a queue file", &error);
                self.after_trouble(hop, job, error.kind);
                return None;
            }
        };
        if let Err(error) = entry.verify() {
            self.trouble("reading a queue file", &error);
            if error.kind == ErrorKind::Corrupt
                && let Err(error) = self.queue.set_aside(job.id, &error.source.to_string())
            {
                self.trouble("setting a damaged queue file aside", &error);
            }
            self.after_trouble(hop, job, error.kind);
            return None;
        }
        let site = self.site();
        let recipients = entry.description().envelope.recipients.iter().enumerate();
        let here = recipients.filter(|(_, recipient)| hop_of(&site, recipient) == *hop);
        // Whoever has them will put back what is left of them.
        let claim = Claim::take(&self.claims, job.id, here.map(|(place, _)| place).collect())?;
        // Only now: what others have claimed and settled until now is settled.
        let is_removed = entry.content_source().0.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if is_removed {
            return None;
        }
        let progress = entry.progress();
        let is_due = |&place: &usize| progress.get(place).is_some_and(queue::Progress::is_due);
        let outcomes: Vec<_> =
            claim.places.iter().copied().filter(is_due).map(|place| (place, None)).collect();
        let (relay, passed_on) = ("-".into(), Vec::new());
        let attempt =
            Attempt { entry, job, outcomes, relay, passed_on, failures: 0, is_ordered: false, claim };
        if attempt.outcomes.is_empty() {
            // Settled before, or the route has changed meanwhile: then the reload has put it where it belongs.
            self.end_attempt(hop, attempt, Again::AtOnce);
            return None;
        }
        Some(attempt)
    }

    fn after_trouble(&self, hop: &Hop, job: Job, kind: ErrorKind) {
        if kind == ErrorKind::Corrupt {
            self.board.forget_message(job.id);
        } else {
            self.board.put_back(hop.clone(), job, self.clock.now().running + OWN_TROUBLE_RETRY);
        }
    }

    /// Settles an attempt: journal, log, notice, removal or next due time.
    pub fn end_attempt(&self, hop: &Hop, attempt: Attempt, again: Again) {
        let site = self.site();
        let now = self.clock.now();
        let Attempt { entry, job, outcomes, relay, passed_on, failures, is_ordered, claim: _claim } = attempt;
        let age = now.running.saturating_sub(job.arrival);
        let lived = self.clock.lived(job.arrival, now.running, entry.description().envelope.is_urgent);
        let _settling = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = entry.progress();
        let (mut records, mut due): (Vec<JournalRecord>, Option<Duration>) = (Vec::new(), None);
        let mut waiting = Vec::new();
        for (place, outcome) in outcomes {
            let Some(recipient) = entry.description().envelope.recipients.get(place) else { continue };
            let is_held = progress.get(place).is_some_and(|progress| progress.held);
            let Some(outcome) = outcome else {
                waiting.extend((!is_held).then_some(recipient));
                continue;
            };
            let attempts = progress.get(place).map_or(0, |progress| progress.attempts) + 1;
            let attempts_since_jump = self.attempts_since_jump(hop, job, &entry, place) + 1;
            let outcome = expire(outcome, site.retry.is_expired(lived, attempts_since_jump));
            if let Outcome::Deferred(_) = outcome {
                let again = now.running.saturating_add(self.step(&site, attempts.max(failures)));
                due = Some(due.map_or(again, |due| due.min(again)));
                waiting.extend((!is_held).then_some(recipient));
            }
            let log = Attempt::log_line(entry.id(), &recipient.mailbox, &relay, attempts, age);
            let is_kept = matches!(outcome, Outcome::Failed(_))
                && !is_ordered
                && kept::is_worth_keeping(&site, &entry.description().envelope, &recipient.mailbox);
            let end = log_outcome(&log, &outcome, is_kept);
            self.intake.statistics.count_end(end, *hop == Hop::Local);
            if is_kept {
                records.extend(kept::records(place, outcome, now));
                continue;
            }
            let is_owed = matches!(outcome, Outcome::Delivered(_))
                && !passed_on.contains(&place)
                && notices::is_owed(&entry.description().envelope, recipient);
            let owed = is_owed.then_some(queue::JournalEvent::Owed);
            let events = [queue::JournalEvent::Attempted(outcome)].into_iter().chain(owed);
            records.extend(events.map(|event| JournalRecord { recipients: vec![place], at: now, event }));
        }
        if self.settle(&site, &entry, now, &records) {
            self.remove(&entry, job, &records);
        } else if !waiting.is_empty() {
            // By the routes of now: a reload may have passed over what was in the worker's hands.
            let mut hops: Vec<Hop> = Vec::new();
            for hop in waiting.into_iter().map(|recipient| hop_of(&site, recipient)) {
                if !hops.contains(&hop) {
                    hops.push(hop);
                }
            }
            for hop in hops {
                match (due, again) {
                    // A recipient that was not tried waits for one that was deferred: the connection that was cut over
                    // the message would be cut again at once, and so on without end.
                    (Some(due), _) => self.board.put_back(hop, job, due),
                    (None, Again::WhenRouteWorks) => self.board.put_back(hop, job, now.running),
                    (None, Again::AtOnce) => self.board.put_back_untried(hop, job, now.running),
                }
            }
        } else if notices::has_news(&site, &entry, now) {
            // The notice could not be written: it, and nothing else, is tried again.
            self.board.put_back(Hop::Local, job, now.running + OWN_TROUBLE_RETRY);
        }
    }

    /// Attempts at a recipient since the clock last jumped, the tries of its route included.
    fn attempts_since_jump(&self, hop: &Hop, job: Job, entry: &Entry, place: usize) -> u32 {
        let jump = self.clock.last_jump();
        let progress = entry.progress();
        let recent = progress.get(place).map(|progress| progress.recent_attempts).unwrap_or_default();
        let own = recent.iter().flatten().filter(|at| at.running >= jump).count() as u32;
        own + self.board.failures_since(hop, jump.max(job.arrival))
    }

    /// Writes the records, and the notice if one is due; true if nothing is left to do, and the message can go.
    fn settle(&self, site: &Site, entry: &Arc<Entry>, now: Now, records: &[JournalRecord]) -> bool {
        let delivered =
            |place: usize| records.iter().any(|r| r.recipients.contains(&place) && is_delivery(r));
        let mut progress = entry.progress().into_iter().enumerate();
        let is_owed = records.iter().any(|record| record.event == queue::JournalEvent::Owed);
        if !is_owed && progress.all(|(place, progress)| progress.is_finished() || delivered(place)) {
            // Its removal is the record.
            return true;
        }
        if !records.is_empty() {
            let deferred =
                |r: &JournalRecord| matches!(r.event, queue::JournalEvent::Attempted(Outcome::Deferred(_)));
            let durability = if records.iter().all(deferred) { Durability::Lazy } else { Durability::Synced };
            self.record(entry, records, durability);
            kept::note(&self.board, entry, records);
        }
        if let Some(told) = notices::tell(self, site, entry, now) {
            self.record(entry, &[told], Durability::Lazy);
        }
        entry.is_finished()
    }

    fn record(&self, entry: &Arc<Entry>, records: &[JournalRecord], durability: Durability) {
        if let Err(error) = self.queue.record(entry, records, durability) {
            self.trouble("writing to the journal of a queue file", &error);
        }
    }

    pub(crate) fn remove(&self, entry: &Arc<Entry>, job: Job, records: &[JournalRecord]) {
        if let Err(error) = self.queue.remove(entry) {
            self.trouble("removing a queue file", &error);
            // Then the journal has to say what is done, and the removal is tried again.
            if !records.is_empty() {
                self.record(entry, records, Durability::Synced);
            }
            return self.board.put_back(Hop::Local, job, self.clock.now().running + OWN_TROUBLE_RETRY);
        }
        self.board.forget_message(entry.id());
        self.intake.digests.forget(entry.id());
        if self.unsynced_removals.fetch_add(1, Ordering::Relaxed) + 1 >= UNSYNCED_REMOVALS_MAX {
            self.sync_removals();
        }
    }

    /// Makes removals durable, if there were any: until then a power cut could deliver a message again.
    pub fn sync_removals(&self) {
        if self.unsynced_removals.swap(0, Ordering::Relaxed) > 0
            && let Err(error) = self.queue.sync()
        {
            self.trouble("syncing the queue", &error);
        }
    }

    /// The route can't be used: it pauses, and its messages stay as they are. `job` is the one that was at hand.
    pub fn route_failed(&self, hop: &Hop, job: Option<Job>, failure: &Failure) {
        let (site, reason) = (self.site(), &failure.reason);
        let now = self.clock.now().running;
        let step = |failures| match failure.refusal {
            Some(_) => pause_after_refusal(failures, sys::random() as u32),
            None => self.step(&site, failures),
        };
        let (pause, mut old) = self.board.hop_failed(hop, job, now, &step, failure, site.retry.lifetime);
        Event::paused(&hop.to_string(), pause, failure).log();
        if let Some(job) = job.filter(|job| !old.contains(job)) {
            self.log_waiting(hop, job, reason);
        }
        for job in old.drain(..) {
            self.expire_waiting(hop, job, reason);
        }
    }

    /// Says in the log why a message waits, without touching it.
    pub(crate) fn log_waiting(&self, hop: &Hop, job: Job, reason: &Diagnostic) {
        let Ok(Checkout::Ready(entry)) = self.queue.checkout(job.id) else { return };
        let (site, now) = (self.site(), self.clock.now().running);
        for (recipient, progress) in entry.description().envelope.recipients.iter().zip(entry.progress()) {
            if progress.state == queue::RecipientState::Pending && hop_of(&site, recipient) == *hop {
                let relay = reason.remote.as_deref().unwrap_or("-");
                let attempts = progress.attempts + self.board.failures_since(hop, job.arrival);
                let log = Attempt::log_line(
                    job.id,
                    &recipient.mailbox,
                    relay,
                    attempts,
                    now.saturating_sub(job.arrival),
                );
                log(AttemptEnd::Deferred, reason.status, reason.line());
                self.intake.statistics.count(Count::Deferred);
            }
        }
    }

    /// A message that is too old while its route fails: it fails with the route's reason, or waits on.
    fn expire_waiting(&self, hop: &Hop, job: Job, reason: &Diagnostic) {
        let Some(mut attempt) = self.begin_attempt(hop, job) else { return };
        let (site, now) = (self.site(), self.clock.now().running);
        let is_urgent = attempt.entry.description().envelope.is_urgent;
        let age = self.clock.lived(job.arrival, now, is_urgent);
        let mut waits_on = false;
        for (place, slot) in &mut attempt.outcomes {
            if site.retry.is_expired(age, self.attempts_since_jump(hop, job, &attempt.entry, *place)) {
                *slot = Some(Outcome::Failed(reason.clone()));
            } else {
                waits_on = true;
            }
        }
        if waits_on {
            self.log_waiting(hop, job, reason);
            self.board.put_back(hop.clone(), job, now);
        } else {
            self.end_attempt(hop, attempt, Again::WhenRouteWorks);
        }
    }

    /// All recipients of a message at a hop fail: its domain does not exist, or takes no mail.
    pub fn fail_all(&self, hop: &Hop, job: Job, diagnostic: &Diagnostic) {
        let Some(mut attempt) = self.begin_attempt(hop, job) else { return };
        for (_, slot) in &mut attempt.outcomes {
            *slot = Some(Outcome::Failed(diagnostic.clone()));
        }
        self.end_attempt(hop, attempt, Again::AtOnce);
    }

    /// Routes have changed: all that is queued is put on the board anew.
    pub fn reload(&self) {
        self.board.clear_routes();
        self.load();
    }

    fn step(&self, site: &Site, attempts: u32) -> Duration {
        site.retry.step(attempts, sys::random() as u32)
    }

    /// Logs trouble of our own.
    pub fn trouble(&self, doing: &str, error: &dyn fmt::Display) {
        Event::Trouble { doing, error: &error.to_string() }.log();
    }
}

/// Counts a worker out, also when it panics.
struct WorkerEnd<'a> {
    forwarder: &'a Forwarder,
    hop: &'a Hop,
}

impl Drop for WorkerEnd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not tried again at once, and not in an hour either.
            let reason = Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, "a worker failed");
            let now = self.forwarder.clock.now().running;
            self.forwarder.board.hop_failed(
                self.hop,
                None,
                now,
                &|_| OWN_TROUBLE_RETRY,
                &reason.into(),
                Duration::MAX,
            );
        }
        self.forwarder.board.worker_ended(self.hop);
    }
}

fn caps(site: &Site) -> WorkerCaps {
    let relay = &site.settings.relay;
    WorkerCaps { total: relay.connections as usize, per_hop: relay.connections_per_domain as usize }
}

fn is_delivery(record: &JournalRecord) -> bool {
    matches!(record.event, queue::JournalEvent::Attempted(Outcome::Delivered(_)))
}
