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

    /// Notes that a hop failed: it pauses for the time that `step` gives for the number of failures in a row. `pending`
    /// is the message that a worker had taken for it, and goes back to the index. Returns the pause, and the messages
    /// older than `lifetime`, which are withdrawn: the caller settles them.
    pub fn hop_failed(
        &self,
        hop: &Hop,
        pending: Option<Pending>,
        now: Duration,
        step: &dyn Fn(u32) -> Duration,
        failure: &RouteFailure,
        lifetime: Duration,
    ) -> (Duration, Vec<Pending>) {
        let mut inner = self.inner.lock();
        inner.answered.retain(|(known, _)| known != hop);
        let state = inner.hops.entry(hop.clone()).or_default();
        (state.turns, state.gives_way) = (0, false);
        let pause = step(state.breaker.failures_with(failure.refusal.is_some()));
        state.breaker.failed(now, pause, failure.clone());
        if let Some(pending) = pending {
            // Only after the breaker knows of the failure: otherwise another worker would take the message and fail as
            // well, and the pause would be as long as after two failures.
            let due = if inner.parks(hop) { Duration::MAX } else { now };
            inner.wait(hop.clone(), pending, due);
        }
        let inner = &mut *inner;
        let link = link_for(inner.link, hop);
        let state = inner.hops.entry(hop.clone()).or_default();
        // A message that the link holds back has not been tried, so it does not expire either.
        let old = |(&(_, id), &arrival): (&(Duration, QueueId), &Duration)| {
            let is_old = now.saturating_sub(arrival) > lifetime && passes(link, &inner.messages, id);
            is_old.then_some(Pending { id, arrival })
        };
        let old: Vec<Pending> = state.waiting.iter().filter_map(old).collect();
        old.iter().for_each(|pending| state.withdraw(pending.id));
        (pause, old)
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
