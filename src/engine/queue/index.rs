//! The queue's index in memory: which messages wait at which next hop and until when, how the last try of each hop
//! went, and which workers are there.
//!
//! The index holds ids, times and counts, but no message and no address: about 150 octets for each queued message. It is
//! rebuilt from the queue's files at each start and reload ([`Manager::load`](super::manager::Manager::load)), so that
//! nothing in it has to survive a crash. All times are running times (see `rules::pacing::running_clock`): a jump of
//! the wall clock changes no due time. One lock guards everything, and it is never held over I/O.
//!
//! # A message
//!
//! ```text
//! add_message ─▶ submit, put_back ─▶ waits at a hop ─ take, linger ─▶ a worker has it ─▶ forget_message
//!                      ▲                  │ withdraw                        │
//!                      └──────────────────┴───── put_back (settling) ◀──────┘
//! ```
//!
//! - A message may wait at several hops, but at most once at each: otherwise two workers would send it. If it is put
//!   there twice, the earlier due time counts.
//! - A worker that has taken a message owns it until the worker puts it back or the message leaves the queue. A reload
//!   may meanwhile put the message back as well; therefore recipients are claimed too (see `attempt`).
//! - With `queue.schedule`, messages for other hosts wait with the due time [`Duration::MAX`] until the schedule fires.
//!
//! # A hop
//!
//! | state | means | begins | ends |
//! | --- | --- | --- | --- |
//! | unknown | no message, worker or pause | | the first message |
//! | waiting | messages wait, and none is due | `put_back` | the earliest due time, a flush |
//! | due | a message is due, but no worker is there | a due time, `submit` | `next` starts a worker |
//! | without a place | due, but all connections that it may use are taken | `next` | another worker ends or gives way |
//! | working | it has one worker or several | `next` | `worker_ended` |
//! | lingering | working, and a worker keeps an open connection without a message | `linger` | `submit`, a failure of the hop, or the end of its patience |
//! | giving way | a worker was silent for too long while other hops lack a place | `gives_way` | `gave_way`, `hop_answered` |
//! | paused | the hop failed, and nothing is tried | `hop_failed` | its time, a flush, a reload, the link |
//! | trying | the pause is over, and one worker tries the hop | `next` | `hop_succeeded`, `hop_failed`, `gave_way` |
//!
//! Each change is complete before the lock is released, so a panic of one worker leaves nothing half done.
//!
//! | file | holds |
//! | --- | --- |
//! | `index.rs` | messages that come, are taken and leave |
//! | `index/hop_state.rs` | one hop |
//! | `index/scheduling.rs` | when a worker is started |
//! | `index/places.rs` | connections that are given away to other hops |
//! | `index/pauses.rs` | hops that failed |
//! | `index/suspects.rs` | messages that were being sent when their hop failed |
//! | `index/hosts.rs` | what was learnt about single hosts |
//! | `index/flush.rs` | flushes and the network link |
//! | `index/facts.rs` | figures for operators and alarms |
//! | `index/standing.rs` | what others may know of a message, and how much of the queue one owner uses |

mod facts;
mod flush;
mod hop_state;
mod hosts;
mod pauses;
mod places;
mod scheduling;
mod standing;
mod suspects;

pub use self::facts::{FailingHop, QueueFacts, WaitFacts};
pub use self::hop_state::IndexedMessage;
pub use self::places::{Hold, LongStep};
pub use self::standing::Standing;
pub use self::suspects::{Blame, FailedMessage};

use self::hop_state::{HopState, IdleWorker, Messages, Wake, link_for, passes};
use self::hosts::TroubledHost;
use self::places::WaitingHops;
use self::standing::Reasons;
use crate::mail::id::QueueId;
use crate::mail::next_hop::NextHop;
use crate::rules::pacing::downtime::Uplink;
use crate::sys::lock::{Lock, wait_while};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::Duration;

/// Where a copy of a queued message goes next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hop {
    /// The local worker: it delivers to a Maildir that could not take the copy at once, and settles what has no next
    /// hop.
    Local,
    /// Another host.
    Relay(NextHop),
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Relay(next_hop) => next_hop.fmt(f),
        }
    }
}

/// A message that waits for a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// The id of the message.
    pub id: QueueId,
    /// When the message arrived, in running time.
    pub arrival: Duration,
}

/// The most workers that may run.
#[derive(Debug, Clone, Copy)]
pub struct WorkerCaps {
    /// At all next hops together.
    pub total: usize,
    /// At one next hop.
    pub per_hop: usize,
}

/// What the forwarder does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Start a worker for this hop. The worker is counted already.
    Work(Hop),
    /// Nothing is due before this running time; `None` if no time is known.
    Wait(Option<Duration>),
    /// The daemon stops.
    Stop,
}

/// The most hops that are remembered as having answered lately.
const ANSWERED_MAX: usize = 64;

/// The index. See the module.
#[derive(Debug, Default)]
pub struct QueueIndex {
    inner: Lock<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    hops: HashMap<Hop, HopState>,
    /// All messages in the queue, also those that are being sent.
    messages: Messages,
    octets: u64,
    /// Why messages wait, shared by those with the same reason.
    reasons: Reasons,
    /// Workers at all remote hops.
    workers: usize,
    /// The hops that wait for a place among these workers.
    waiting_hops: WaitingHops,
    /// The number of all [`HopState::holds`].
    holds: usize,
    /// Workers that were started at hops that had not answered lately, for [`HopState::rank`]; it wraps.
    starts: u8,
    /// Hops that have answered lately, with the running time of the answer.
    answered: Vec<(Hop, Duration)>,
    /// Smarthosts that are tried after all others.
    troubled_hosts: Vec<TroubledHost>,
    /// Hosts that offer CHUNKING, but did not accept BDAT.
    hosts_without_chunking: Vec<String>,
    /// `queue.schedule` is set: mail for other hosts waits until it fires.
    parked: bool,
    /// Whether all messages, urgent ones or none are handed out for other hosts.
    link: Uplink,
    stopping: bool,
    /// The forwarder waits for a change.
    is_asleep: bool,
    /// The forwarder is to look again before it waits.
    is_woken: bool,
}

impl QueueIndex {
    /// Adds a message that is in the queue now. A message that is known already stays as it is.
    pub fn add_message(&self, id: QueueId, known: IndexedMessage) {
        let mut inner = self.inner.lock();
        // `forget_message` subtracts the size that was added here, even if the message is added again with another
        // size.
        if let Entry::Vacant(vacant) = inner.messages.entry(id) {
            let octets = vacant.insert(known).octets;
            inner.octets += octets;
        }
    }

    /// Forgets a message that has left the queue. Returns false if the index did not know it.
    pub fn forget_message(&self, id: QueueId) -> bool {
        let mut inner = self.inner.lock();
        let known = inner.messages.remove(&id);
        inner.hops.values_mut().for_each(|state| drop(state.suspects.remove(&id)));
        inner.octets -= known.as_ref().map_or(0, |known| known.octets);
        known.is_some()
    }

    /// The number of messages in the queue, and their size in octets.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let inner = self.inner.lock();
        (inner.messages.len(), inner.octets)
    }

    /// Hands a new message to a worker that is idle at the hop, or lets it wait there, due now.
    pub fn submit(&self, hop: Hop, pending: Pending, now: Duration) {
        let mut inner = self.inner.lock();
        if inner.parks(&hop) {
            return inner.wait(hop, pending, Duration::MAX);
        }
        let may_leave = !inner.is_held_back(&hop, pending.id);
        let worker = inner.hops.get_mut(&hop).filter(|_| may_leave).and_then(|state| state.idle.pop());
        match worker {
            Some(worker) => {
                *worker.wake.lock() = Some(Wake::Message(pending));
                worker.condvar.notify_one();
            }
            None => {
                inner.wait(hop, pending, now);
                self.tell(inner);
            }
        }
    }

    /// Lets a message wait at a hop until `due`, or until the schedule fires if there is one.
    pub fn put_back(&self, hop: Hop, pending: Pending, due: Duration) {
        let parks = self.inner.lock().parks(&hop);
        self.put_back_untried(hop, pending, if parks { Duration::MAX } else { due });
    }

    /// Lets a message wait again that was taken but not tried: the schedule has already released it.
    pub fn put_back_untried(&self, hop: Hop, pending: Pending, due: Duration) {
        let mut inner = self.inner.lock();
        inner.wait(hop, pending, due);
        self.tell(inner);
    }

    /// Wakes the forwarder, if it sleeps: telling nobody would cost a system call.
    fn tell(&self, inner: MutexGuard<'_, Inner>) {
        let is_asleep = inner.is_asleep;
        drop(inner);
        if is_asleep {
            self.changed.notify_one();
        }
    }

    /// Takes the next message that is due at a hop. `None`: nothing is due, the daemon stops, or the hop pauses and
    /// this is not the worker of the single try.
    #[must_use]
    pub fn take(&self, hop: &Hop, now: Duration) -> Option<Pending> {
        let inner = &mut *self.inner.lock();
        if inner.stopping {
            return None;
        }
        let state = inner.hops.get_mut(hop)?;
        if !state.hands_out(now) {
            return None;
        }
        state.take_due(now, link_for(inner.link, hop), &inner.messages)
    }

    /// Waits up to `patience` for a message for a hop, as an idle worker that [`Self::submit`] finds. At a hop that pauses
    /// nobody waits: its messages would be tried over a connection that may be as dead as the one that failed.
    #[must_use]
    pub fn linger(&self, hop: &Hop, patience: Duration, now: Duration) -> Option<Pending> {
        let worker = Arc::new(IdleWorker::default());
        {
            let inner = &mut *self.inner.lock();
            let link = link_for(inner.link, hop);
            if inner.stopping || link == Uplink::Down || patience.is_zero() {
                return None;
            }
            let state = inner.hops.get_mut(hop)?;
            if !state.hands_out(now) {
                return None;
            }
            if let Some(pending) = state.take_due(now, link, &inner.messages) {
                return Some(pending);
            }
            state.idle.push(Arc::clone(&worker));
        }
        let wake = *wait_while(&worker.condvar, worker.wake.lock(), patience, |wake| wake.is_none());
        let wake = wake.or_else(|| {
            let mut inner = self.inner.lock();
            if let Some(state) = inner.hops.get_mut(hop) {
                state.idle.retain(|other| !Arc::ptr_eq(other, &worker));
            }
            // A message may have come between the end of the wait and the lock.
            *worker.wake.lock()
        });
        match wake {
            Some(Wake::Message(pending)) => Some(pending),
            Some(Wake::Stop) | None => None,
        }
    }

    /// The waiting messages that arrived from `since` until just before `before`, in running time; and the arrival of
    /// the next waiting message after them.
    #[must_use]
    pub fn arrived_between(&self, since: Duration, before: Duration) -> (Vec<Pending>, Option<Duration>) {
        let inner = self.inner.lock();
        let waiting = || inner.hops.values().flat_map(|state| &state.waiting);
        let within = waiting().filter(|&(_, &arrival)| arrival >= since && arrival < before);
        let pending = within.map(|(&(_, id), &arrival)| Pending { id, arrival }).collect();
        (pending, waiting().map(|(_, &arrival)| arrival).filter(|&arrival| arrival >= before).min())
    }

    /// Takes a message from all hops where it waits. A worker that has taken it before keeps it.
    pub fn withdraw(&self, id: QueueId) {
        for state in self.inner.lock().hops.values_mut() {
            state.withdraw(id);
        }
    }

    /// Sets whether mail for other hosts waits for the schedule.
    pub fn set_parked(&self, parked: bool) {
        self.inner.lock().parked = parked;
    }

    /// Forgets all waiting messages and all pauses, because routes have changed. Messages that workers have taken are
    /// put back by these workers.
    pub fn clear_hops(&self) {
        let mut inner = self.inner.lock();
        inner.troubled_hosts.clear();
        for state in inner.hops.values_mut() {
            state.waiting.clear();
            state.due.clear();
            state.breaker.clear();
        }
        inner.hops.retain(|_, state| state.workers > 0);
    }
}

impl Inner {
    /// Whether the schedule applies to a hop: local copies do not wait for it.
    fn parks(&self, hop: &Hop) -> bool {
        self.parked && *hop != Hop::Local
    }

    /// Whether the network link prevents that a message is tried at a hop.
    fn is_held_back(&self, hop: &Hop, id: QueueId) -> bool {
        !passes(link_for(self.link, hop), &self.messages, id)
    }

    fn wait(&mut self, hop: Hop, pending: Pending, due: Duration) {
        let state = self.hops.entry(hop).or_default();
        match state.due.insert(pending.id, due) {
            // The earlier of two times counts.
            Some(known) if known <= due => {
                state.due.insert(pending.id, known);
                return;
            }
            Some(known) => drop(state.waiting.remove(&(known, pending.id))),
            None => {}
        }
        state.waiting.insert((due, pending.id), pending.arrival);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Domain;
    use crate::mail::outcome::Diagnostic;
    use crate::mail::status::EnhancedStatus;
    use crate::rules::pacing::breaker::RouteFailure;

    const CAPS: WorkerCaps = WorkerCaps { total: 2, per_hop: 1 };
    const LONG: Duration = Duration::from_secs(1000);

    impl QueueIndex {
        /// The number of hops that the index knows.
        pub fn hops(&self) -> usize {
            self.inner.lock().hops.len()
        }

        /// The number of messages that wait, counted at each hop.
        pub fn waiting(&self) -> usize {
            self.inner.lock().hops.values().map(|state| state.waiting.len()).sum()
        }

        /// The number of workers, the local one included.
        pub fn workers(&self) -> usize {
            self.inner.lock().hops.values().map(|state| state.workers).sum()
        }
    }

    pub(crate) fn hop(name: &str) -> Hop {
        Hop::Relay(NextHop::Mx(Domain::parse(name).unwrap()))
    }

    pub(crate) fn pending(n: u64) -> Pending {
        Pending { id: QueueId::new(n, 0), arrival: Duration::ZERO }
    }

    fn no_answer() -> RouteFailure {
        Diagnostic::local(EnhancedStatus::NO_ANSWER, "no answer").into()
    }

    pub(crate) fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn workers_are_bounded_and_what_is_due_first_goes_first() {
        let index = QueueIndex::default();
        for (n, name) in [(1, "a.example"), (2, "a.example"), (3, "b.example"), (4, "c.example")] {
            index.submit(hop(name), pending(n), seconds(n));
        }
        let mut working = Vec::new();
        while let Next::Work(hop) = index.next(seconds(9), CAPS) {
            index.hop_answered(&hop, seconds(9));
            working.push(hop);
        }
        assert_eq!(working.len(), 2);
        assert_eq!(index.next(seconds(9), CAPS), Next::Wait(None));
        index.worker_ended(&working[0]);
        index.worker_ended(&working[1]);
        assert_eq!(index.take(&hop("a.example"), seconds(9)), Some(pending(1)));
        assert_eq!(index.take(&hop("a.example"), seconds(1)), None);
        assert_eq!(index.take(&hop("a.example"), seconds(2)), Some(pending(2)));
    }

    /// Half of the connections are reserved for hops that have answered lately; the other hops get one each at first.
    #[test]
    fn hops_that_do_not_answer_leave_connections_for_those_that_do() {
        let index = QueueIndex::default();
        let caps = WorkerCaps { total: 4, per_hop: 3 };
        let names = ["a.example", "b.example", "c.example", "d.example"];
        for (n, name) in (0..).zip(names.iter().cycle().take(16)) {
            index.submit(hop(name), pending(n), seconds(0));
        }
        let start = |now: u64| match index.next(seconds(now), caps) {
            Next::Work(hop) => Some(hop),
            _ => None,
        };
        let (first, second) = (start(1).unwrap(), start(1).unwrap());
        assert_ne!(first, second);
        assert_eq!(start(1), None, "two of four");
        index.hop_answered(&first, seconds(2));
        // The place that the first hop has left is for another unproven hop; the reserved half is for the first hop.
        let more = [start(2).unwrap(), start(2).unwrap()];
        assert!(more.iter().filter(|hop| **hop != first).count() <= 1, "{more:?}");
        assert!(!more.contains(&second), "one looks whether somebody is there");
        assert_eq!(start(2), None, "all four");
        // After a failure, and after a while, it counts as unproven again.
        more.iter().chain([&first, &second]).for_each(|hop| index.worker_ended(hop));
        let reason = no_answer();
        index.hop_failed(&first, None, seconds(3), &|_| seconds(1), &reason, LONG);
        index.hop_succeeded(&first);
        index.hop_answered(&second, seconds(3));
        let later = scheduling::LATELY.as_secs() + 3;
        let work = [start(later).unwrap(), start(later).unwrap()];
        assert_eq!(start(later), None, "{work:?}");
        assert_ne!(work[0], work[1]);
    }

    #[test]
    fn what_has_answered_is_remembered_within_bounds() {
        let index = QueueIndex::default();
        for n in 0..2 * ANSWERED_MAX {
            index.hop_answered(&hop(&format!("d{n}.example")), seconds(n as u64));
            index.hop_answered(&hop("always.example"), seconds(n as u64));
        }
        let inner = index.inner.lock();
        let has_answered = |name: &str| inner.answered.iter().any(|(known, _)| *known == hop(name));
        assert_eq!(inner.answered.len(), ANSWERED_MAX);
        assert!(
            has_answered("always.example") && has_answered("d127.example") && !has_answered("d0.example")
        );
    }

    /// Two workers would else fail at the same hop one after the other, and double its pause.
    #[test]
    fn what_a_failure_puts_back_waits_for_the_end_of_the_pause() {
        let index = QueueIndex::default();
        let reason = no_answer();
        index.submit(hop("a.example"), pending(1), seconds(0));
        assert_eq!(index.next(seconds(0), CAPS), Next::Work(hop("a.example")));
        assert_eq!(index.take(&hop("a.example"), seconds(0)), Some(pending(1)));
        index.hop_failed(&hop("a.example"), Some(pending(1)), seconds(1), &|_| seconds(60), &reason, LONG);
        assert_eq!(index.next(seconds(1), CAPS), Next::Wait(Some(seconds(61))));
        index.worker_ended(&hop("a.example"));
        assert_eq!(index.next(seconds(61), CAPS), Next::Work(hop("a.example")));
        assert_eq!(index.take(&hop("a.example"), seconds(61)), Some(pending(1)));
    }

    #[test]
    fn a_paused_hop_waits_and_others_go_on() {
        let index = QueueIndex::default();
        let reason = no_answer();
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.submit(hop("b.example"), pending(2), seconds(0));
        let failed = index.hop_failed(&hop("a.example"), None, seconds(1), &|_| seconds(60), &reason, LONG);
        assert_eq!(failed, (Some(seconds(60)), vec![]));
        assert_eq!(index.next(seconds(2), CAPS), Next::Work(hop("b.example")));
        assert_eq!(index.take(&hop("b.example"), seconds(2)), Some(pending(2)));
        index.worker_ended(&hop("b.example"));
        assert_eq!(index.next(seconds(2), CAPS), Next::Wait(Some(seconds(61))));
        assert_eq!(index.pause_reason(&hop("a.example"), seconds(2)), Some(reason.reason));
        assert_eq!(index.next(seconds(61), CAPS), Next::Work(hop("a.example")));
        // One try is let through; no other worker joins until it is reported.
        assert_eq!(
            index.next(seconds(62), WorkerCaps { total: 9, per_hop: 9 }),
            Next::Wait(Some(seconds(61 + 3600)))
        );
        index.worker_ended(&hop("a.example"));
        index.flush(seconds(63));
        assert_eq!(
            index.next(seconds(63), WorkerCaps { total: 9, per_hop: 9 }),
            Next::Work(hop("a.example"))
        );
    }

    #[test]
    fn old_messages_of_a_failing_hop_are_given_out() {
        let index = QueueIndex::default();
        let reason = no_answer();
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.submit(hop("a.example"), Pending { arrival: seconds(900), ..pending(2) }, seconds(900));
        let (_, old) =
            index.hop_failed(&hop("a.example"), None, seconds(1001), &|_| seconds(60), &reason, LONG);
        assert_eq!(old, vec![pending(1)]);
        assert_eq!(
            index.take(&hop("a.example"), seconds(2000)).map(|pending| pending.id),
            Some(pending(2).id)
        );
    }

    #[test]
    fn an_idle_worker_gets_new_mail_from_hand_to_hand() {
        let index = Arc::new(QueueIndex::default());
        index.submit(hop("a.example"), pending(1), seconds(0));
        assert_eq!(index.next(seconds(0), CAPS), Next::Work(hop("a.example")));
        assert_eq!(index.take(&hop("a.example"), seconds(0)), Some(pending(1)));
        let other = Arc::clone(&index);
        let worker = std::thread::spawn(move || other.linger(&hop("a.example"), seconds(30), seconds(0)));
        while index.inner.lock().hops.values().all(|state| state.idle.is_empty()) {
            std::thread::yield_now();
        }
        index.submit(hop("a.example"), pending(2), seconds(0));
        assert_eq!(worker.join().unwrap(), Some(pending(2)));
        assert_eq!(index.linger(&hop("a.example"), Duration::from_millis(1), seconds(0)), None);
        assert!(index.inner.lock().hops.values().all(|state| state.idle.is_empty()));
    }

    #[test]
    fn a_schedule_parks_mail_until_it_fires() {
        let index = QueueIndex::default();
        index.set_parked(true);
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.put_back(hop("a.example"), pending(2), seconds(5));
        assert_eq!(index.next(seconds(99), CAPS), Next::Wait(None));
        index.flush(seconds(100));
        assert_eq!(index.next(seconds(100), CAPS), Next::Work(hop("a.example")));
    }

    #[test]
    fn a_metered_link_is_for_what_is_urgent() {
        let index = QueueIndex::default();
        let (a, reason) = (hop("a.example"), no_answer());
        index.hop_failed(&a, None, seconds(0), &|_| seconds(60), &reason, LONG);
        index.set_link(Uplink::Metered, seconds(0));
        assert_eq!(index.pause_reason(&a, seconds(0)), None, "it paused by another link");
        for n in 1..=4 {
            index.add_message(pending(n).id, IndexedMessage::new(1, seconds(0), n == 3));
            index.put_back(a.clone(), pending(n), seconds(n));
        }
        index.submit(Hop::Local, pending(9), seconds(0));
        assert_eq!(index.next(seconds(0), CAPS), Next::Work(Hop::Local));
        assert_eq!(index.take(&Hop::Local, seconds(0)), Some(pending(9)));
        let told = |n| index.wait_reason(&a, pending(n).id, seconds(0)).map(|reason| reason.text);
        assert_eq!([told(1), told(3)], [Some("the link is metered".into()), None]);
        assert_eq!(index.next_attempts().into_iter().collect::<Vec<_>>(), [(pending(3).id, seconds(3))]);
        assert_eq!(index.next(seconds(0), CAPS), Next::Wait(Some(seconds(3))));
        assert_eq!(index.next(seconds(3), CAPS), Next::Work(a.clone()));
        assert_eq!(index.take(&a, seconds(3)), Some(pending(3)));
        assert_eq!(index.take(&a, seconds(3)), None);
        assert_eq!(index.linger(&a, Duration::from_millis(1), seconds(3)), None);
        // A message that was not tried does not fail with one that was.
        let (_, old) = index.hop_failed(&a, Some(pending(3)), seconds(5000), &|_| seconds(60), &reason, LONG);
        assert_eq!(old, [pending(3)]);
        index.worker_ended(&a);
        // The operator asks for one by its id, and then for all, which names none.
        index.flush(seconds(5000));
        assert_eq!(index.next(seconds(5000), CAPS), Next::Wait(None));
        assert!(index.flush_message(pending(4).id, seconds(5000)));
        assert_eq!(index.next(seconds(5000), CAPS), Next::Work(a.clone()));
        assert_eq!(index.take(&a, seconds(5000)), Some(pending(4)));
        index.worker_ended(&a);
        index.set_link(Uplink::Down, seconds(5000));
        index.put_back(a.clone(), pending(4), seconds(5000));
        assert_eq!(
            (index.next(seconds(5000), CAPS), index.take(&a, seconds(5000))),
            (Next::Wait(None), None)
        );
        index.set_link(Uplink::Up, seconds(5000));
        let left: Vec<_> = std::iter::from_fn(|| index.take(&a, seconds(5000))).collect();
        assert_eq!(left, [pending(1), pending(2), pending(4)]);
    }

    /// A second worker that found the hop paused would end without a report, and the hop would wait an hour for it.
    #[test]
    fn the_one_try_after_a_pause_has_the_hop_to_itself() {
        let index = QueueIndex::default();
        let caps = WorkerCaps { total: 9, per_hop: 9 };
        let reason = no_answer();
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.submit(hop("a.example"), pending(2), seconds(0));
        // One worker has been sending a long message since before the pause.
        assert_eq!(index.next(seconds(0), caps), Next::Work(hop("a.example")));
        assert_eq!(index.take(&hop("a.example"), seconds(0)), Some(pending(1)));
        index.hop_failed(&hop("a.example"), None, seconds(1), &|_| seconds(60), &reason, LONG);
        if index.next(seconds(61), caps) == Next::Work(hop("a.example")) {
            assert_eq!(index.take(&hop("a.example"), seconds(61)), Some(pending(2)), "what has it come for?");
        }
        index.worker_ended(&hop("a.example"));
        assert_eq!(index.next(seconds(62), caps), Next::Work(hop("a.example")));
        assert_eq!(index.take(&hop("a.example"), seconds(62)), Some(pending(2)));
    }

    #[test]
    fn a_message_waits_once_and_the_earlier_time_counts() {
        let index = QueueIndex::default();
        for due in [5, 3, 9] {
            index.put_back(hop("a.example"), pending(1), seconds(due));
        }
        assert_eq!(index.waiting(), 1);
        assert_eq!(index.take(&hop("a.example"), seconds(2)), None);
        assert_eq!(index.take(&hop("a.example"), seconds(3)), Some(pending(1)));
        assert_eq!(index.take(&hop("a.example"), seconds(99)), None);
        index.put_back(hop("a.example"), pending(1), seconds(200));
        index.flush(seconds(100));
        index.put_back(hop("a.example"), pending(1), seconds(150));
        assert_eq!(index.take(&hop("a.example"), seconds(100)), Some(pending(1)));
        assert_eq!(index.waiting(), 0);
    }

    /// Its worker goes home at once, and takes no message with it.
    #[test]
    fn nobody_lingers_without_patience_or_a_link_or_while_the_daemon_stops() {
        let patience = seconds(20);
        for (patience, link, stops, taken) in [
            (patience, Uplink::Up, false, Some(pending(1))),
            (Duration::ZERO, Uplink::Up, false, None),
            (patience, Uplink::Down, false, None),
            (patience, Uplink::Up, true, None),
        ] {
            let index = QueueIndex::default();
            index.submit(hop("a.example"), pending(1), seconds(0));
            index.set_link(link, seconds(0));
            if stops {
                index.stop();
            }
            let begun = std::time::Instant::now();
            assert_eq!(index.linger(&hop("a.example"), patience, seconds(1)), taken, "{link:?} {stops}");
            assert!(patience.is_zero() || begun.elapsed() < patience, "{link:?} {stops}");
            assert_eq!(index.waiting(), usize::from(taken.is_none()), "{link:?} {stops}");
        }
    }

    #[test]
    fn a_hop_that_has_answered_has_so_many_workers_and_no_more() {
        let index = QueueIndex::default();
        index.hop_answered(&hop("a.example"), seconds(0));
        (0..9).for_each(|n| index.submit(hop("a.example"), pending(n), seconds(0)));
        let caps = WorkerCaps { total: 9, per_hop: 3 };
        let started = std::iter::from_fn(|| match index.next(seconds(1), caps) {
            Next::Work(hop) => Some(hop),
            _ => None,
        });
        assert_eq!(started.count(), 3);
    }

    #[test]
    fn a_reload_forgets_what_waits_and_no_worker() {
        let index = QueueIndex::default();
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.submit(hop("b.example"), pending(2), seconds(9));
        assert_eq!(index.next(seconds(1), CAPS), Next::Work(hop("a.example")));
        index.clear_hops();
        assert_eq!((index.hops(), index.workers(), index.waiting()), (1, 1, 0));
        index.worker_ended(&hop("a.example"));
        assert_eq!(index.workers(), 0);
    }

    #[test]
    fn the_queue_is_counted() {
        let index = QueueIndex::default();
        let add =
            |n, octets| index.add_message(pending(n).id, IndexedMessage::new(octets, seconds(1), false));
        add(1, 10);
        add(1, 10);
        add(2, 5);
        // Another caller may give another size: the size that was added is subtracted.
        add(2, 500);
        assert_eq!(index.size(), (2, 15));
        assert!(index.forget_message(pending(1).id));
        assert!(!index.forget_message(pending(1).id));
        assert_eq!(index.size(), (1, 5));
    }
}
