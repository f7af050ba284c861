//! What waits where: the queue's index in memory. For each next hop the messages that are due for it, how its last try
//! went, and who is at work on it.
//!
//! It holds ids and times only, no message and no address: some 100 octets for each queued message. Times are running
//! time (see `rules::running_clock`), so a jump of the clock moves nothing here. No lock is held over I/O.

mod facts;
mod hop_state;
mod hosts;
mod places;
mod suspects;

pub use self::facts::{FailingRoute, QueueFacts};
pub use self::hop_state::IndexedMessage;
pub use self::suspects::{Blame, InHand};

use self::hop_state::{HopState, IdleWorker, Messages, Wake, link_for, passes};
use self::hosts::Troubled;
use self::places::Crowd;
use crate::mail::id::QueueId;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::pacing::breaker::RouteFailure;
use crate::rules::pacing::downtime::Uplink;
use crate::sys::lock::{Lock, wait_while};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::Duration;

/// Where copies of messages go, as the queue sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Hop {
    /// To a Maildir that could not take it at once, or to nobody any more.
    Local,
    /// To another host.
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
    /// Which message.
    pub id: QueueId,
    /// When it came, in running time.
    pub arrival: Duration,
}

/// How many workers there may be.
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
    /// Start a worker for this hop; it has been counted in.
    Work(Hop),
    /// Nothing before this running time, if ever.
    Wait(Option<Duration>),
    /// The daemon stops.
    Stop,
}

/// A hop that has answered within this time has a claim to connections.
const LATELY: Duration = Duration::from_secs(600);
/// So many of these are remembered.
const ANSWERED_MAX: usize = 64;

/// The index.
#[derive(Debug, Default)]
pub struct QueueIndex {
    inner: Lock<Inner>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    routes: HashMap<Hop, HopState>,
    /// Each message in the queue.
    messages: Messages,
    octets: u64,
    workers: usize,
    /// Who waits for a place among them.
    crowd: Crowd,
    /// Hops that have answered lately, and when.
    answered: Vec<(Hop, Duration)>,
    /// Smarthosts that others go before.
    troubled: Vec<Troubled>,
    /// Hosts that did not take the BDAT that they offer.
    without_chunks: Vec<String>,
    /// With a schedule: new mail waits until it fires.
    parked: bool,
    /// What is handed out for other hosts: all, nothing, or what is urgent.
    link: Uplink,
    stopping: bool,
}

fn lock<T>(mutex: &Lock<T>) -> MutexGuard<'_, T> {
    // What the locks guard is whole at every moment, so a panic elsewhere does not spoil it.
    mutex.lock()
}

impl QueueIndex {
    /// Takes note of a message in the queue.
    pub fn add_message(&self, id: QueueId, known: IndexedMessage) {
        let mut inner = lock(&self.inner);
        // The size that is added is the size that is taken away again, whatever others say of it later.
        if let Entry::Vacant(vacant) = inner.messages.entry(id) {
            vacant.insert(known);
            inner.octets += known.octets;
        }
    }

    /// Forgets a message that has left the queue; false if it was forgotten before.
    pub fn forget_message(&self, id: QueueId) -> bool {
        let mut inner = lock(&self.inner);
        let known = inner.messages.remove(&id);
        inner.routes.values_mut().for_each(|route| drop(route.suspects.remove(&id)));
        inner.octets -= known.map_or(0, |known| known.octets);
        known.is_some()
    }

    /// Messages in the queue, and their size in octets.
    #[must_use]
    pub fn size(&self) -> (usize, u64) {
        let inner = lock(&self.inner);
        (inner.messages.len(), inner.octets)
    }

    /// How many hops are remembered.
    #[cfg(test)]
    pub fn routes(&self) -> usize {
        lock(&self.inner).routes.len()
    }

    /// How many messages wait, counted by hop.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        lock(&self.inner).routes.values().map(|route| route.waiting.len()).sum()
    }

    /// How many workers there are.
    #[cfg(test)]
    pub fn workers(&self) -> usize {
        lock(&self.inner).routes.values().map(|route| route.workers).sum()
    }

    /// Puts a new message before a hop: a worker that is idle there gets it at once.
    pub fn submit(&self, hop: Hop, pending: Pending, now: Duration) {
        let mut inner = lock(&self.inner);
        if inner.parks(&hop) {
            return inner.wait(hop, pending, Duration::MAX);
        }
        let may_leave = !inner.is_held_back(&hop, pending.id);
        let worker = inner.routes.get_mut(&hop).filter(|_| may_leave).and_then(|route| route.idle.pop());
        match worker {
            Some(worker) => {
                *lock(&worker.news) = Some(Wake::Message(pending));
                worker.condvar.notify_one();
            }
            None => {
                inner.wait(hop, pending, now);
                drop(inner);
                self.changed.notify_one();
            }
        }
    }

    /// Puts a message back, to be tried at `due`; with a schedule, when that fires.
    pub fn put_back(&self, hop: Hop, pending: Pending, due: Duration) {
        let parks = lock(&self.inner).parks(&hop);
        self.wait_until(hop, pending, if parks { Duration::MAX } else { due });
    }

    /// Puts a message back that has not been tried although it was its turn: no schedule holds it.
    pub fn put_back_untried(&self, hop: Hop, pending: Pending, now: Duration) {
        self.wait_until(hop, pending, now);
    }

    fn wait_until(&self, hop: Hop, pending: Pending, due: Duration) {
        lock(&self.inner).wait(hop, pending, due);
        self.changed.notify_one();
    }

    /// The next message that is due at a hop, unless the hop pauses.
    #[must_use]
    pub fn take(&self, hop: &Hop, now: Duration) -> Option<Pending> {
        let inner = &mut *lock(&self.inner);
        if inner.stopping {
            return None;
        }
        let route = inner.routes.get_mut(hop)?;
        if route.breaker.is_open(now) && route.workers > 1 {
            return None;
        }
        route.take_due(now, link_for(inner.link, hop), &inner.messages)
    }

    /// Waits up to `patience` for a message that comes in for a hop.
    #[must_use]
    pub fn linger(&self, hop: &Hop, patience: Duration, now: Duration) -> Option<Pending> {
        let worker = Arc::new(IdleWorker::default());
        {
            let inner = &mut *lock(&self.inner);
            let link = link_for(inner.link, hop);
            if inner.stopping || link == Uplink::Down || patience.is_zero() {
                return None;
            }
            let route = inner.routes.get_mut(hop)?;
            if let Some(pending) = route.take_due(now, link, &inner.messages) {
                return Some(pending);
            }
            route.idle.push(Arc::clone(&worker));
        }
        let news = *wait_while(&worker.condvar, lock(&worker.news), patience, |news| news.is_none());
        let news = news.or_else(|| {
            let mut inner = lock(&self.inner);
            if let Some(route) = inner.routes.get_mut(hop) {
                route.idle.retain(|other| !Arc::ptr_eq(other, &worker));
            }
            // Between the end of the wait and the lock a message may have come.
            *lock(&worker.news)
        });
        match news {
            Some(Wake::Message(pending)) => Some(pending),
            Some(Wake::Stop) | None => None,
        }
    }

    /// What to do at `now`: a hop with something due, no pause and room for a worker.
    #[must_use]
    pub fn next(&self, now: Duration, caps: WorkerCaps) -> Next {
        lock(&self.inner).next(now, caps)
    }

    /// As [`Self::next`], but waits for a change or up to `longest` if there is nothing to do.
    #[must_use]
    pub fn wait(&self, now: Duration, caps: WorkerCaps, longest: Duration) -> Next {
        let mut inner = lock(&self.inner);
        let next = inner.next(now, caps);
        let Next::Wait(until) = next else { return next };
        let time = until.map_or(longest, |until| until.saturating_sub(now).min(longest));
        drop(self.changed.wait_timeout(inner, time));
        Next::Wait(until)
    }

    /// A worker has ended.
    pub fn worker_ended(&self, hop: &Hop) {
        let mut inner = lock(&self.inner);
        inner.workers = inner.workers.saturating_sub(usize::from(*hop != Hop::Local));
        if let Some(route) = inner.routes.get_mut(hop) {
            route.workers = route.workers.saturating_sub(1);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// The hop works.
    pub fn hop_succeeded(&self, hop: &Hop) {
        if let Some(route) = lock(&self.inner).routes.get_mut(hop) {
            route.breaker.succeeded();
        }
    }

    /// The hop failed: it pauses for what `step` makes of the number of failures in a row. Gives the pause, and the
    /// messages older than `lifetime` by now, which somebody has to look at.
    pub fn hop_failed(
        &self,
        hop: &Hop,
        pending: Option<Pending>,
        now: Duration,
        step: &dyn Fn(u32) -> Duration,
        failure: &RouteFailure,
        lifetime: Duration,
    ) -> (Duration, Vec<Pending>) {
        let mut inner = lock(&self.inner);
        inner.answered.retain(|(known, _)| known != hop);
        let route = inner.routes.entry(hop.clone()).or_default();
        (route.turns, route.gives_way) = (0, false);
        let pause = step(route.breaker.failures_with(failure.refusal.is_some()));
        route.breaker.failed(now, pause, failure.clone());
        if let Some(pending) = pending {
            // Not before the pause: another worker would take it, and fail as well, and the pause would be as long as after
            // two failures.
            let due = if inner.parks(hop) { Duration::MAX } else { now };
            inner.wait(hop.clone(), pending, due);
        }
        let inner = &mut *inner;
        let link = link_for(inner.link, hop);
        let route = inner.routes.entry(hop.clone()).or_default();
        // What may not leave now has not been tried: it does not fail either.
        let old = |(&(_, id), &arrival): (&(Duration, QueueId), &Duration)| {
            let is_old = now.saturating_sub(arrival) > lifetime && passes(link, &inner.messages, id);
            is_old.then_some(Pending { id, arrival })
        };
        let old: Vec<Pending> = route.waiting.iter().filter_map(old).collect();
        old.iter().for_each(|pending| route.withdraw(pending.id));
        (pause, old)
    }

    /// Why a message is not tried at a hop now, if it is not: the link, the pause of the hop, or no place is free.
    #[must_use]
    pub fn wait_reason(&self, hop: &Hop, id: QueueId, now: Duration) -> Option<Diagnostic> {
        let inner = lock(&self.inner);
        if inner.is_held_back(hop, id) {
            let text = format!("the link is {}", inner.link.word());
            return Some(Diagnostic::local(EnhancedStatus::NO_ANSWER, text));
        }
        drop(inner);
        self.pause_reason(hop, now).or_else(|| self.place_reason(hop, id, now))
    }

    /// Why a hop pauses, if it does.
    #[must_use]
    pub fn pause_reason(&self, hop: &Hop, now: Duration) -> Option<Diagnostic> {
        let inner = lock(&self.inner);
        let breaker = &inner.routes.get(hop)?.breaker;
        breaker.pause().filter(|_| breaker.is_open(now)).map(|pause| pause.reason.clone())
    }

    /// The messages that wait and came within a span of running time, its end excluded; and when the first one after it
    /// came.
    #[must_use]
    pub fn came_between(&self, since: Duration, before: Duration) -> (Vec<Pending>, Option<Duration>) {
        let inner = lock(&self.inner);
        let waiting = || inner.routes.values().flat_map(|route| &route.waiting);
        let within = waiting().filter(|&(_, &arrival)| arrival >= since && arrival < before);
        let pending = within.map(|(&(_, id), &arrival)| Pending { id, arrival }).collect();
        (pending, waiting().map(|(_, &arrival)| arrival).filter(|&arrival| arrival >= before).min())
    }

    /// Failures of a hop since a running time, which count as attempts of the messages that waited.
    #[must_use]
    pub fn failures_since(&self, hop: &Hop, since: Duration) -> u32 {
        lock(&self.inner).routes.get(hop).map_or(0, |route| route.breaker.failures_since(since))
    }

    /// Everything is due now, and no hop pauses.
    pub fn flush(&self, now: Duration) {
        let mut inner = lock(&self.inner);
        inner.troubled.clear();
        inner.messages.values_mut().for_each(|known| known.is_flushed = true);
        for route in inner.routes.values_mut() {
            route.breaker.clear();
            route.hasten(now, &|_| true);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// A message is due now at each hop where it waits, and these do not pause; false if it waits nowhere. If the link is
    /// metered, it is as good as an urgent one from now on: somebody has asked for it by its name.
    pub fn flush_message(&self, id: QueueId, now: Duration) -> bool {
        let inner = &mut *lock(&self.inner);
        if let Some(known) = inner.messages.get_mut(&id) {
            known.is_urgent |= inner.link == Uplink::Metered;
            known.is_flushed = true;
        }
        inner.troubled.clear();
        let waits = inner.hasten(id, now);
        self.changed.notify_all();
        waits
    }

    /// If one of `ids` has been flushed, `heir` has taken its place, and leaves as it would have.
    pub fn inherit_flush(&self, ids: &[QueueId], heir: QueueId, now: Duration) {
        let inner = &mut *lock(&self.inner);
        let of = |id| inner.messages.get(id).copied();
        let flushed: Vec<IndexedMessage> =
            ids.iter().filter_map(of).filter(|known| known.is_flushed).collect();
        if flushed.is_empty() {
            return;
        }
        if let Some(known) = inner.messages.get_mut(&heir) {
            known.is_urgent |= flushed.iter().any(|known| known.is_urgent);
        }
        inner.hasten(heir, now);
        self.changed.notify_all();
    }

    /// Hands a message out no more, until it is put back; who has it in hand keeps it.
    pub fn withdraw(&self, id: QueueId) {
        for route in lock(&self.inner).routes.values_mut() {
            route.withdraw(id);
        }
    }

    /// What way out there is from now on. If there is one, no hop pauses, since what they paused for may have been the way
    /// before, and all that may leave is due now but for what waits for a schedule. Else workers end after the message
    /// that they have in hand. Local copies go on.
    pub fn set_link(&self, link: Uplink, now: Duration) {
        let inner = &mut *lock(&self.inner);
        inner.link = link;
        if link != Uplink::Down {
            inner.troubled.clear();
            for route in inner.routes.values_mut() {
                route.breaker.clear();
                route.hasten(now, &|due| due < Duration::MAX);
            }
        }
        self.changed.notify_all();
    }

    /// What way out there is.
    #[must_use]
    pub fn link(&self) -> Uplink {
        lock(&self.inner).link
    }

    /// When each waiting message is tried next, in running time, pauses included. Left out: what waits for a schedule, for
    /// the way out, or in a worker's hands.
    #[must_use]
    pub fn next_attempts(&self) -> HashMap<QueueId, Duration> {
        let inner = lock(&self.inner);
        let mut attempts: HashMap<QueueId, Duration> = HashMap::new();
        for (hop, route) in &inner.routes {
            let pause =
                route.breaker.pause().filter(|_| *hop != Hop::Local).map_or(Duration::ZERO, |p| p.until);
            let is_tried = |id, due| due < Duration::MAX && !inner.is_held_back(hop, id);
            for (&id, &due) in route.due.iter().filter(|&(&id, &due)| is_tried(id, due)) {
                let due = due.max(pause);
                attempts.entry(id).and_modify(|known| *known = due.min(*known)).or_insert(due);
            }
        }
        attempts
    }

    /// Whether new mail waits for a schedule.
    pub fn set_parked(&self, parked: bool) {
        lock(&self.inner).parked = parked;
    }

    /// Forgets what waits and all pauses, since routes have changed; what is being worked on is put back by its worker.
    pub fn clear_routes(&self) {
        let mut inner = lock(&self.inner);
        inner.troubled.clear();
        for route in inner.routes.values_mut() {
            route.waiting.clear();
            route.due.clear();
            route.breaker.clear();
        }
        inner.routes.retain(|_, route| route.workers > 0);
    }

    /// Sends the workers home.
    pub fn stop(&self) {
        let mut inner = lock(&self.inner);
        inner.stopping = true;
        for worker in inner.routes.values_mut().flat_map(|route| route.idle.drain(..)) {
            *lock(&worker.news) = Some(Wake::Stop);
            worker.condvar.notify_one();
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Waits up to `patience` for the last worker to end.
    pub fn wait_for_workers(&self, patience: Duration) {
        let busy = |inner: &mut Inner| inner.routes.values().any(|route| route.workers > 0);
        drop(self.changed.wait_timeout_while(lock(&self.inner), patience, busy));
    }
}

impl Inner {
    /// The schedule is for what leaves this host.
    fn parks(&self, hop: &Hop) -> bool {
        self.parked && *hop != Hop::Local
    }

    /// Whether the link keeps a message from being tried at a hop.
    fn is_held_back(&self, hop: &Hop, id: QueueId) -> bool {
        !passes(link_for(self.link, hop), &self.messages, id)
    }

    fn wait(&mut self, hop: Hop, pending: Pending, due: Duration) {
        let route = self.routes.entry(hop).or_default();
        match route.due.insert(pending.id, due) {
            // The earlier of two times counts.
            Some(known) if known <= due => {
                route.due.insert(pending.id, known);
                return;
            }
            Some(known) => drop(route.waiting.remove(&(known, pending.id))),
            None => {}
        }
        route.waiting.insert((due, pending.id), pending.arrival);
    }

    /// A message is due now at each hop where it waits, and these do not pause; false if it waits nowhere.
    fn hasten(&mut self, id: QueueId, now: Duration) -> bool {
        let mut waits = false;
        for route in self.routes.values_mut() {
            let Some(due) = route.due.get_mut(&id) else { continue };
            let before = std::mem::replace(due, now.min(*due));
            if let Some(arrival) = route.waiting.remove(&(before, id)) {
                route.waiting.insert((now.min(before), id), arrival);
            }
            route.breaker.clear();
            waits = true;
        }
        waits
    }

    fn next(&mut self, now: Duration, caps: WorkerCaps) -> Next {
        if self.stopping {
            return Next::Stop;
        }
        // Nothing waits there and nothing is to be waited for: the domain may never be seen again.
        self.routes
            .retain(|_, route| route.workers > 0 || !route.waiting.is_empty() || route.breaker.is_open(now));
        let mut earliest: Option<Duration> = None;
        let mut found: Option<(&Hop, &mut HopState, _)> = None;
        self.crowd = Crowd { is_full: self.workers >= caps.total, ..Crowd::default() };
        self.answered.retain(|(_, at)| now.saturating_sub(*at) < LATELY);
        let has_answered = |hop: &Hop| self.answered.iter().any(|(known, _)| known == hop);
        let at_strangers = |(hop, route): (&Hop, &HopState)| {
            if *hop == Hop::Local || has_answered(hop) { 0 } else { route.workers }
        };
        let strangers: usize = self.routes.iter().map(at_strangers).sum();
        for (hop, route) in &mut self.routes {
            route.lacks_place = false;
            let Some((due, _)) = route.first(link_for(self.link, hop), &self.messages) else { continue };
            let pause = route.breaker.pause().map_or(Duration::ZERO, |pause| pause.until);
            let due = due.max(pause);
            if due > now {
                earliest = Some(earliest.map_or(due, |other| other.min(due)));
                continue;
            }
            let has_room = match hop {
                Hop::Local => route.workers == 0,
                // The one try after a pause has the hop to itself, or it would not get a message.
                Hop::Relay(_) if route.breaker.pause().is_some() && route.workers > 0 => false,
                Hop::Relay(_) if self.workers >= caps.total => false,
                Hop::Relay(_) if has_answered(hop) => route.workers < caps.per_hop,
                // One looks whether somebody is there, or all would wait for who does not answer; and half of the
                // connections are kept for those who do.
                Hop::Relay(_) => route.workers == 0 && strangers < (caps.total / 2).max(1),
            };
            if !route.idle.is_empty() {
                continue;
            }
            if !has_room {
                if *hop != Hop::Local && route.workers == 0 {
                    self.crowd.add(route);
                }
                continue;
            }
            let rank = (*hop != Hop::Local, route.workers > 0, route.rank(due));
            if found.as_ref().is_none_or(|(.., best)| rank < *best) {
                found = Some((hop, route, rank));
            }
        }
        let found = found.map(|(hop, route, _)| {
            // The pause is over, as looked at above: this is the one try after it.
            let _ = route.breaker.admit(now);
            route.workers += 1;
            hop.clone()
        });
        match found {
            Some(hop) => {
                self.workers += usize::from(hop != Hop::Local);
                Next::Work(hop)
            }
            None => Next::Wait(earliest.filter(|&due| due < Duration::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Domain;
    use crate::mail::status::EnhancedStatus;

    const CAPS: WorkerCaps = WorkerCaps { total: 2, per_hop: 1 };
    const LONG: Duration = Duration::from_secs(1000);

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

    /// Half of the connections are kept for those that have answered lately; the others get one each, to begin with.
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
        // The place that the first has left is for another stranger; what is kept is for the first.
        let more = [start(2).unwrap(), start(2).unwrap()];
        assert!(more.iter().filter(|hop| **hop != first).count() <= 1, "{more:?}");
        assert!(!more.contains(&second), "one looks whether somebody is there");
        assert_eq!(start(2), None, "all four");
        // After a failure, and after a while, it is a stranger again.
        more.iter().chain([&first, &second]).for_each(|hop| index.worker_ended(hop));
        let reason = no_answer();
        index.hop_failed(&first, None, seconds(3), &|_| seconds(1), &reason, LONG);
        index.hop_succeeded(&first);
        index.hop_answered(&second, seconds(3));
        let later = LATELY.as_secs() + 3;
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
        let inner = lock(&index.inner);
        let has_answered = |name: &str| inner.answered.iter().any(|(known, _)| *known == hop(name));
        assert_eq!(inner.answered.len(), ANSWERED_MAX);
        assert!(
            has_answered("always.example") && has_answered("d127.example") && !has_answered("d0.example")
        );
    }

    /// Two workers would else fail at the same route one after the other, and double its pause.
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
        assert_eq!(failed, (seconds(60), vec![]));
        assert_eq!(index.next(seconds(2), CAPS), Next::Work(hop("b.example")));
        assert_eq!(index.take(&hop("b.example"), seconds(2)), Some(pending(2)));
        index.worker_ended(&hop("b.example"));
        assert_eq!(index.next(seconds(2), CAPS), Next::Wait(Some(seconds(61))));
        assert_eq!(index.pause_reason(&hop("a.example"), seconds(2)), Some(reason.reason));
        assert_eq!(index.next(seconds(61), CAPS), Next::Work(hop("a.example")));
        // One try is let through; nobody else joins until it is reported.
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
        while lock(&index.inner).routes.values().all(|route| route.idle.is_empty()) {
            std::thread::yield_now();
        }
        index.submit(hop("a.example"), pending(2), seconds(0));
        assert_eq!(worker.join().unwrap(), Some(pending(2)));
        assert_eq!(index.linger(&hop("a.example"), Duration::from_millis(1), seconds(0)), None);
        assert!(lock(&index.inner).routes.values().all(|route| route.idle.is_empty()));
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
        // What has not been tried does not fail with what has.
        let (_, old) = index.hop_failed(&a, Some(pending(3)), seconds(5000), &|_| seconds(60), &reason, LONG);
        assert_eq!(old, [pending(3)]);
        index.worker_ended(&a);
        // Somebody asks for one by its name; and for all, which is not by name.
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

    /// A second worker that found the hop paused would go home without a word, and the hop would wait an hour for it.
    #[test]
    fn the_one_try_after_a_pause_has_the_hop_to_itself() {
        let index = QueueIndex::default();
        let caps = WorkerCaps { total: 9, per_hop: 9 };
        let reason = no_answer();
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.submit(hop("a.example"), pending(2), seconds(0));
        // One has been at a long message since before the pause.
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

    #[test]
    fn the_queue_is_counted() {
        let index = QueueIndex::default();
        let add =
            |n, octets| index.add_message(pending(n).id, IndexedMessage::new(octets, seconds(1), false));
        add(1, 10);
        add(1, 10);
        add(2, 5);
        // Others may say another size of it: what was added is what is taken away.
        add(2, 500);
        assert_eq!(index.size(), (2, 15));
        assert!(index.forget_message(pending(1).id));
        assert!(!index.forget_message(pending(1).id));
        assert_eq!(index.size(), (1, 5));
    }
}
