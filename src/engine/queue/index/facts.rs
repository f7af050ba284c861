//! Figures about the queue and about failing hops, for operators, monitors and alarms. All times are running times.

use super::hop_state::{HopState, whole_seconds};
use super::{Hop, IndexedMessage, QueueIndex};
use crate::mail::id::QueueId;
use crate::rules::pacing::breaker::Pause;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::time::Duration;

/// From when on a message counts as one that waits.
const WAITED_MIN: Duration = Duration::from_secs(60);

/// Figures about the queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueFacts {
    /// The number of messages.
    pub messages: u64,
    /// The size of all messages in octets.
    pub octets: u64,
    /// The number of messages that the operator holds, or that are kept.
    pub held: u64,
    /// The number of messages to `admin` that are kept because they cannot be delivered.
    pub kept: u64,
    /// The oldest message that is kept.
    pub oldest_kept: Option<QueueId>,
    /// The oldest message, with its arrival.
    pub oldest: Option<(QueueId, Duration)>,
    /// The oldest message that is not held and does not wait for a digest, with its arrival.
    pub oldest_moving: Option<(QueueId, Duration)>,
}

/// A hop that has failed and not worked since.
#[derive(Debug, Clone)]
pub struct FailingHop {
    /// The hop.
    pub hop: Hop,
    /// When it first failed.
    pub since: Duration,
    /// The latest failure, and when the hop is tried again; `None` after a flush.
    pub pause: Option<Pause>,
    /// The number of messages that wait for it.
    pub waiting: u64,
}

/// What messages wait for at hops that work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WaitFacts {
    /// Messages that the link holds back.
    pub for_link: u64,
    /// Messages for which `queue.schedule` has to fire.
    pub for_schedule: u64,
    /// Messages whose next attempt is not due yet.
    pub for_retry: u64,
    /// When the first of these is due.
    pub next_retry: Option<Duration>,
    /// One of these that waits for a mailbox of this host.
    pub for_mailbox: Option<QueueId>,
}

impl QueueIndex {
    /// Notes that the operator holds or releases a message.
    pub fn set_held(&self, id: QueueId, held: bool) {
        if let Some(known) = self.inner.lock().messages.get_mut(&id) {
            known.is_held = held;
        }
    }

    /// Notes since when an undeliverable message to `admin` is kept, or that it is no longer kept.
    pub fn set_kept(&self, id: QueueId, since: Option<Duration>) {
        if let Some(known) = self.inner.lock().messages.get_mut(&id) {
            known.kept_since = since.and_then(|since| NonZeroU32::new(whole_seconds(since).max(1)));
        }
    }

    /// The messages that have been kept since before `horizon`.
    #[must_use]
    pub fn kept_before(&self, horizon: Duration) -> Vec<QueueId> {
        let inner = self.inner.lock();
        let is_old = |known: &IndexedMessage| {
            known.kept_since.is_some_and(|since| since.get() < whole_seconds(horizon))
        };
        inner.messages.iter().filter(|(_, known)| is_old(known)).map(|(&id, _)| id).collect()
    }

    /// Whether a message has been in the queue for a minute, so that its age counts: one that is just delivered has none.
    #[must_use]
    pub fn has_waited(&self, now: Duration) -> bool {
        let Some(before) = now.checked_sub(WAITED_MIN).map(whole_seconds) else { return false };
        self.inner.lock().messages.values().any(|known| known.arrival <= before)
    }

    /// The figures about the queue. The messages `collected` wait for a digest.
    #[must_use]
    pub fn queue_facts(&self, collected: &HashSet<QueueId>) -> QueueFacts {
        let inner = self.inner.lock();
        let by_age = |(id, known): (&QueueId, &IndexedMessage)| (known.arrival, *id);
        let shown = |(arrival, id): (u32, QueueId)| (id, Duration::from_secs(arrival.into()));
        let kept = || inner.messages.iter().filter(|(_, known)| known.kept_since.is_some());
        let moving = || inner.messages.iter().filter(|(_, known)| !known.is_held);
        QueueFacts {
            messages: inner.messages.len() as u64,
            octets: inner.octets,
            held: (inner.messages.len() - moving().count()) as u64,
            kept: kept().count() as u64,
            oldest_kept: kept().map(by_age).min().map(|(_, id)| id),
            oldest: inner.messages.iter().map(by_age).min().map(shown),
            oldest_moving: moving().filter(|(id, _)| !collected.contains(id)).map(by_age).min().map(shown),
        }
    }

    /// Hops that have failed and not worked since, at most `most` of them; those that have failed for longest come
    /// first.
    #[must_use]
    pub fn failing_hops(&self, most: usize) -> Vec<FailingHop> {
        let inner = self.inner.lock();
        let mut failing: Vec<FailingHop> = Vec::new();
        for (hop, state) in &inner.hops {
            let Some(since) = state.breaker.failing_since() else { continue };
            let place = failing.partition_point(|other| other.since <= since);
            if place < most {
                let pause = state.breaker.pause().cloned();
                let waiting = state.due.len() as u64;
                failing.insert(place, FailingHop { hop: hop.clone(), since, pause, waiting });
                failing.truncate(most);
            }
        }
        failing
    }

    /// The number of hops that pause; and the number of hops that have not worked since `long_ago` or refuse mail.
    #[must_use]
    pub fn count_failing(&self, long_ago: Option<Duration>) -> (u64, u64) {
        let inner = self.inner.lock();
        let count = |is_meant: &dyn Fn(&HopState) -> bool| {
            inner.hops.values().filter(|state| is_meant(state)).count() as u64
        };
        let is_old =
            |state: &HopState| state.breaker.failing_since().is_some_and(|since| Some(since) < long_ago);
        let is_refused =
            |state: &HopState| state.breaker.pause().is_some_and(|pause| pause.refusal.is_some());
        (count(&|state| state.breaker.pause().is_some()), count(&|state| is_old(state) || is_refused(state)))
    }

    /// What messages wait for, each counted once for each kind; those for a hop that pauses are with [`FailingHop`].
    #[must_use]
    pub fn wait_facts(&self, now: Duration) -> WaitFacts {
        let inner = self.inner.lock();
        let (mut link, mut schedule, mut retry) = (HashSet::new(), HashSet::new(), HashSet::new());
        let (mut next_retry, mut for_mailbox): (Option<Duration>, _) = (None, None);
        for (hop, state) in &inner.hops {
            for (&id, &due) in &state.due {
                if inner.is_held_back(hop, id) {
                    link.insert(id);
                } else if due == Duration::MAX {
                    schedule.insert(id);
                } else if due > now && state.breaker.pause().is_none() {
                    retry.insert(id);
                    next_retry = Some(next_retry.map_or(due, |known| known.min(due)));
                    for_mailbox = for_mailbox.or_else(|| matches!(hop, Hop::Local).then_some(id));
                }
            }
        }
        let count = |ids: HashSet<QueueId>| ids.len() as u64;
        WaitFacts {
            for_link: count(link),
            for_schedule: count(schedule),
            for_retry: count(retry),
            next_retry,
            for_mailbox,
        }
    }

    /// The hops where a message waits.
    #[must_use]
    pub fn hops_of(&self, id: QueueId) -> Vec<Hop> {
        let inner = self.inner.lock();
        let waits = inner.hops.iter().filter(|(_, state)| state.due.contains_key(&id));
        waits.map(|(hop, _)| hop.clone()).collect()
    }
}
