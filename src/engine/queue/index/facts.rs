//! What the index can tell of the queue and of its routes, for people and for alarms.

use super::hop_state::{HopState, whole_seconds};
use super::{Hop, IndexedMessage, QueueIndex, lock};
use crate::mail::id::QueueId;
use crate::rules::pacing::breaker::Pause;
use std::collections::HashSet;
use std::time::Duration;

/// What there is to tell of the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// Messages.
    pub messages: u64,
    /// Their size in octets.
    pub octets: u64,
    /// How many of them are held back.
    pub held: u64,
    /// How many of them are for admin and can't be delivered.
    pub kept: u64,
    /// That one of these which came first.
    pub oldest_kept: Option<QueueId>,
    /// The oldest, and the running time of its arrival.
    pub oldest: Option<(QueueId, Duration)>,
    /// The same of those that nobody holds back, and that wait for no digest.
    pub oldest_moving: Option<(QueueId, Duration)>,
}

/// A route that has failed and not worked since.
#[derive(Debug, Clone)]
pub struct FailingRoute {
    /// Which one.
    pub hop: Hop,
    /// The running time of its first failure.
    pub since: Duration,
    /// The last one, and when it is tried again; `None` once somebody wanted it tried at once.
    pub pause: Option<Pause>,
}

impl QueueIndex {
    /// Takes note that the operator holds a message, or lets it go.
    pub fn set_held(&self, id: QueueId, held: bool) {
        if let Some(known) = lock(&self.inner).messages.get_mut(&id) {
            known.is_held = held;
        }
    }

    /// Takes note since when a message for admin that can't be delivered is kept, or that it is not kept any more.
    pub fn set_kept(&self, id: QueueId, since: Option<Duration>) {
        if let Some(known) = lock(&self.inner).messages.get_mut(&id) {
            known.kept_since = since.map(whole_seconds);
        }
    }

    /// The messages that have been kept since before a running time.
    #[must_use]
    pub fn kept_before(&self, horizon: Duration) -> Vec<QueueId> {
        let inner = lock(&self.inner);
        let is_old =
            |known: &IndexedMessage| known.kept_since.is_some_and(|since| since < whole_seconds(horizon));
        inner.messages.iter().filter(|(_, known)| is_old(known)).map(|(&id, _)| id).collect()
    }

    /// What there is to tell of the queue; `collected` wait for a digest.
    #[must_use]
    pub fn queue_facts(&self, collected: &HashSet<QueueId>) -> QueueFacts {
        let inner = lock(&self.inner);
        let by_age = |(id, known): (&QueueId, &IndexedMessage)| (known.arrival, *id);
        let told = |(arrival, id): (u32, QueueId)| (id, Duration::from_secs(arrival.into()));
        let kept = || inner.messages.iter().filter(|(_, known)| known.kept_since.is_some());
        let moving = || inner.messages.iter().filter(|(_, known)| !known.is_held);
        QueueFacts {
            messages: inner.messages.len() as u64,
            octets: inner.octets,
            held: (inner.messages.len() - moving().count()) as u64,
            kept: kept().count() as u64,
            oldest_kept: kept().map(by_age).min().map(|(_, id)| id),
            oldest: inner.messages.iter().map(by_age).min().map(told),
            oldest_moving: moving().filter(|(id, _)| !collected.contains(id)).map(by_age).min().map(told),
        }
    }

    /// Routes that have failed and not worked since, those first that have failed for longest; so many at most.
    #[must_use]
    pub fn failing_routes(&self, most: usize) -> Vec<FailingRoute> {
        let inner = lock(&self.inner);
        let mut failing: Vec<FailingRoute> = Vec::new();
        for (hop, route) in &inner.routes {
            let Some(since) = route.breaker.failing_since() else { continue };
            let place = failing.partition_point(|other| other.since <= since);
            if place < most {
                let pause = route.breaker.pause().cloned();
                failing.insert(place, FailingRoute { hop: hop.clone(), since, pause });
                failing.truncate(most);
            }
        }
        failing
    }

    /// How many routes pause, and how many have not worked since `long_ago`, in running time, or refuse.
    #[must_use]
    pub fn count_failing(&self, long_ago: Option<Duration>) -> (u64, u64) {
        let inner = lock(&self.inner);
        let count = |is_meant: &dyn Fn(&HopState) -> bool| {
            inner.routes.values().filter(|route| is_meant(route)).count() as u64
        };
        let is_old =
            |route: &HopState| route.breaker.failing_since().is_some_and(|since| Some(since) < long_ago);
        let is_refused =
            |route: &HopState| route.breaker.pause().is_some_and(|pause| pause.refusal.is_some());
        (count(&|route| route.breaker.pause().is_some()), count(&|route| is_old(route) || is_refused(route)))
    }

    /// The hops at which a message waits.
    #[must_use]
    pub fn hops_of(&self, id: QueueId) -> Vec<Hop> {
        let inner = lock(&self.inner);
        let waits = inner.routes.iter().filter(|(_, route)| route.due.contains_key(&id));
        waits.map(|(hop, _)| hop.clone()).collect()
    }
}
