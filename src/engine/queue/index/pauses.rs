//! Pauses of hops: what a failure does to the messages that wait, and why a message is not tried now.
//!
//! `rules::pacing::breaker` decides how long a hop pauses; this file keeps one breaker for each hop and applies it. A
//! failure of a hop leaves its messages as they are: each failure counts as an attempt of every message that waits
//! there, and only a message older than the lifetime of the queue is handed back to be settled.
//!
//! A message that is due is not tried for one of these reasons, asked in this order by [`QueueIndex::wait_reason`]:
//!
//! | reason | ends by |
//! | --- | --- |
//! | the link is down, or metered and the message is not urgent | [`QueueIndex::set_link`], a flush of the message |
//! | the hop pauses | the time of the pause, a flush, a reload |
//! | the hop has no place among the connections | a worker elsewhere that ends or gives way |

use super::hop_state::{link_for, passes};
use super::{Hop, Pending, QueueIndex};
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::pacing::breaker::RouteFailure;
use std::collections::HashMap;
use std::time::Duration;

impl QueueIndex {
    /// Notes that a hop works: its pause and its back-off end.
    pub fn hop_succeeded(&self, hop: &Hop) {
        if let Some(state) = self.inner.lock().hops.get_mut(hop) {
            state.breaker.succeeded();
        }
    }

    /// Notes that a hop failed: it pauses for the time that `step` gives for the number of failures in a row, and its idle
    /// workers end. Returns the pause; `None`: it pauses already, for the failure of another connection.
    ///
    /// The message of the failure is put back only after this: otherwise another worker would take it and fail as well, and
    /// the pause would be as long as after two failures.
    pub fn pause_hop(
        &self,
        hop: &Hop,
        now: Duration,
        step: &dyn Fn(u32) -> Duration,
        failure: &RouteFailure,
    ) -> Option<Duration> {
        let mut inner = self.inner.lock();
        inner.answered.retain(|(known, _)| known != hop);
        let state = inner.hops.entry(hop.clone()).or_default();
        (state.turns, state.gives_way) = (0, false);
        for worker in state.idle.drain(..) {
            worker.end();
        }
        let pause = step(state.breaker.failures_with(failure.refusal.is_some()));
        state.breaker.failed(now, pause, failure.clone()).then_some(pause)
    }

    /// The messages at a hop older than `lifetime`, which are withdrawn: the caller settles them.
    pub fn withdraw_old(&self, hop: &Hop, now: Duration, lifetime: Duration) -> Vec<Pending> {
        let inner = &mut *self.inner.lock();
        let link = link_for(inner.link, hop);
        let Some(state) = inner.hops.get_mut(hop) else { return Vec::new() };
        // A message that the link holds back has not been tried, so it does not expire either.
        let old = |(&(_, id), &arrival): (&(Duration, QueueId), &Duration)| {
            let is_old = now.saturating_sub(arrival) > lifetime && passes(link, &inner.messages, id);
            is_old.then_some(Pending { id, arrival })
        };
        let old: Vec<Pending> = state.waiting.iter().filter_map(old).collect();
        old.iter().for_each(|pending| state.withdraw(pending.id));
        old
    }

    /// As [`Self::pause_hop`]; then the message `pending` that a worker had taken waits again, and the old ones are
    /// withdrawn.
    pub fn hop_failed(
        &self,
        hop: &Hop,
        pending: Option<Pending>,
        now: Duration,
        step: &dyn Fn(u32) -> Duration,
        failure: &RouteFailure,
        lifetime: Duration,
    ) -> (Option<Duration>, Vec<Pending>) {
        let pause = self.pause_hop(hop, now, step, failure);
        if let Some(pending) = pending {
            self.put_back(hop.clone(), pending, now);
        }
        (pause, self.withdraw_old(hop, now, lifetime))
    }

    /// The reason why a message is not tried at a hop now, if there is one.
    #[must_use]
    pub fn wait_reason(&self, hop: &Hop, id: QueueId, now: Duration) -> Option<Diagnostic> {
        let inner = self.inner.lock();
        if inner.is_held_back(hop, id) {
            let text = format!("the link is {}", inner.link.word());
            return Some(Diagnostic::local(EnhancedStatus::NO_ANSWER, text));
        }
        drop(inner);
        self.pause_reason(hop, now).or_else(|| self.place_reason(hop, id, now))
    }

    /// The failure for which a hop pauses now, if it does.
    #[must_use]
    pub fn pause_reason(&self, hop: &Hop, now: Duration) -> Option<Diagnostic> {
        let inner = self.inner.lock();
        let breaker = &inner.hops.get(hop)?.breaker;
        breaker.pause().filter(|_| breaker.is_open(now)).map(|pause| pause.reason.clone())
    }

    /// The last failure of a hop that has not worked since, whether or not its pause is over.
    #[must_use]
    pub fn last_failure(&self, hop: &Hop) -> Option<Diagnostic> {
        self.inner.lock().hops.get(hop)?.breaker.pause().map(|pause| pause.reason.clone())
    }

    /// The number of failures of a hop since a running time. They count as attempts of the messages that waited.
    #[must_use]
    pub fn failures_since(&self, hop: &Hop, since: Duration) -> u32 {
        self.inner.lock().hops.get(hop).map_or(0, |state| state.breaker.failures_since(since))
    }

    /// When each waiting message is tried next, in running time, pauses included. Messages that wait for the schedule
    /// or the link, and messages that a worker has taken, are left out.
    #[must_use]
    pub fn next_attempts(&self) -> HashMap<QueueId, Duration> {
        let inner = self.inner.lock();
        let mut attempts: HashMap<QueueId, Duration> = HashMap::new();
        for (hop, state) in &inner.hops {
            let pause =
                state.breaker.pause().filter(|_| *hop != Hop::Local).map_or(Duration::ZERO, |p| p.until);
            let is_tried = |id, due| due < Duration::MAX && !inner.is_held_back(hop, id);
            for (&id, &due) in state.due.iter().filter(|&(&id, &due)| is_tried(id, due)) {
                let due = due.max(pause);
                attempts.entry(id).and_modify(|known| *known = due.min(*known)).or_insert(due);
            }
        }
        attempts
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::queue::index::tests::{hop, pending, seconds};
    use crate::engine::queue::index::{Hop, Next, QueueIndex, WorkerCaps};
    use crate::mail::outcome::Diagnostic;
    use crate::mail::status::EnhancedStatus;
    use std::sync::Arc;
    use std::time::Duration;

    const CAPS: WorkerCaps = WorkerCaps { total: 4, per_hop: 2 };

    /// Pauses a hop for a minute, two after the second failure, and so on.
    fn fail(index: &QueueIndex, hop: &Hop, now: u64) -> Option<u64> {
        let reason = Diagnostic::local(EnhancedStatus::NO_ANSWER, "no answer").into();
        let step = |failures: u32| seconds(60 * u64::from(failures));
        index.pause_hop(hop, seconds(now), &step, &reason).map(|pause| pause.as_secs())
    }

    fn two_workers(index: &QueueIndex, hop: &Hop) {
        index.hop_answered(hop, seconds(0));
        for n in 1..=3 {
            index.submit(hop.clone(), pending(n), seconds(0));
        }
        assert_eq!(index.next(seconds(0), CAPS), Next::Work(hop.clone()));
        assert_eq!(index.next(seconds(0), CAPS), Next::Work(hop.clone()));
    }

    /// A smarthost vanished, and with it all connections: another worker took the message that was put back, and its failure
    /// was blamed on the message, which ended the pause; the next message then made it longer.
    #[test]
    fn a_host_that_vanishes_with_several_connections_is_one_failure() {
        let (index, a) = (QueueIndex::default(), hop("a.example"));
        two_workers(&index, &a);
        let (one, other) = (index.take(&a, seconds(0)).unwrap(), index.take(&a, seconds(0)).unwrap());
        assert_eq!(fail(&index, &a, 1), Some(60));
        index.put_back(a.clone(), one, seconds(1));
        assert_eq!(index.take(&a, seconds(1)), None);
        assert_eq!(index.linger(&a, seconds(30), seconds(1)), None, "with a connection that may be as dead");
        assert_eq!(fail(&index, &a, 2), None, "no news");
        index.put_back(a.clone(), other, seconds(2));
        // That a message was to blame is no reason to end the pause of another connection.
        index.hop_goes_on(&a);
        index.worker_ended(&a);
        assert_eq!(index.take(&a, seconds(2)), None, "the last worker is not the one of the single try");
        index.worker_ended(&a);
        assert_eq!(index.next(seconds(60), CAPS), Next::Wait(Some(seconds(61))));
        assert_eq!(index.next(seconds(61), CAPS), Next::Work(a.clone()));
        assert!(index.take(&a, seconds(61)).is_some());
        assert_eq!(fail(&index, &a, 61), Some(120));
    }

    #[test]
    fn workers_without_a_message_leave_a_hop_that_has_failed() {
        let (index, a) = (Arc::new(QueueIndex::default()), hop("a.example"));
        two_workers(&index, &a);
        while index.take(&a, seconds(0)).is_some() {}
        let (other, at) = (Arc::clone(&index), a.clone());
        let idle = std::thread::spawn(move || other.linger(&at, Duration::from_secs(600), seconds(0)));
        while index.inner.lock().hops[&a].idle.is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(fail(&index, &a, 1), Some(60));
        assert_eq!(idle.join().unwrap(), None);
        // What comes now waits for the end of the pause.
        index.submit(a.clone(), pending(9), seconds(2));
        assert!(index.wait_reason(&a, pending(9).id, seconds(2)).is_some());
    }
}
