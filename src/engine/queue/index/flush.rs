//! Trying earlier than planned: `queue -f` for all mail or for one message, the schedule, and the network link.
//!
//! A flush makes a waiting message due now and ends the pauses of its hops, but it starts nothing itself: the forwarder
//! wakes up and starts workers as for any other message. A flush only makes due times earlier.
//!
//! | call | made due now | pauses that end |
//! | --- | --- | --- |
//! | [`QueueIndex::flush`] | everything, also what waits for the schedule | all |
//! | [`QueueIndex::flush_message`], [`QueueIndex::inherit_flush`] | one message, at each of its hops | those of its hops |
//! | [`QueueIndex::set_link`] to up or metered | everything, except what waits for the schedule | all |
//!
//! While the link is down only local copies are handed out; while it is metered, urgent messages as well.

use super::{IndexedMessage, Inner, QueueIndex};
use crate::mail::id::QueueId;
use crate::rules::pacing::downtime::Uplink;
use std::time::Duration;

impl QueueIndex {
    /// Makes every message due now and ends every pause.
    pub fn flush(&self, now: Duration) {
        let mut inner = self.inner.lock();
        inner.troubled_hosts.clear();
        inner.messages.values_mut().for_each(|known| known.is_flushed = true);
        for state in inner.hops.values_mut() {
            state.breaker.clear();
            state.hasten(now, &|_| true);
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Makes a message due now at each hop where it waits, and ends the pauses of these hops. Returns false if it waits
    /// nowhere. While the link is metered the message counts as urgent from now on: the operator has asked for it by
    /// its id.
    pub fn flush_message(&self, id: QueueId, now: Duration) -> bool {
        let inner = &mut *self.inner.lock();
        if let Some(known) = inner.messages.get_mut(&id) {
            known.is_urgent |= inner.link == Uplink::Metered;
            known.is_flushed = true;
        }
        inner.troubled_hosts.clear();
        let waits = inner.hasten(id, now);
        self.changed.notify_all();
        waits
    }

    /// Makes `heir`, which has taken the place of the messages `ids`, due now and as urgent as they were, if one of
    /// them was flushed: a digest leaves as its members would have left.
    pub fn inherit_flush(&self, ids: &[QueueId], heir: QueueId, now: Duration) {
        let inner = &mut *self.inner.lock();
        let known = ids.iter().filter_map(|id| inner.messages.get(id));
        let flushed: Vec<&IndexedMessage> = known.filter(|known| known.is_flushed).collect();
        if flushed.is_empty() {
            return;
        }
        let is_urgent = flushed.iter().any(|known| known.is_urgent);
        if let Some(known) = inner.messages.get_mut(&heir) {
            known.is_urgent |= is_urgent;
        }
        inner.hasten(heir, now);
        self.changed.notify_all();
    }

    /// Sets the state of the network link. If mail may leave by it, no hop pauses any longer, since the pauses may have
    /// been the fault of the previous link, and every message is due now, except what waits for the schedule. If the
    /// link is down, workers end after their current message. Local copies do not depend on the link.
    pub fn set_link(&self, link: Uplink, now: Duration) {
        let inner = &mut *self.inner.lock();
        inner.link = link;
        if link != Uplink::Down {
            inner.troubled_hosts.clear();
            for state in inner.hops.values_mut() {
                state.breaker.clear();
                state.hasten(now, &|due| due < Duration::MAX);
            }
        }
        self.changed.notify_all();
    }

    /// The state of the network link.
    #[must_use]
    pub fn link(&self) -> Uplink {
        self.inner.lock().link
    }
}

impl Inner {
    /// Makes a message due now at each hop where it waits, and ends the pauses of these hops. Returns false if it waits
    /// nowhere.
    fn hasten(&mut self, id: QueueId, now: Duration) -> bool {
        let mut waits = false;
        for state in self.hops.values_mut() {
            let Some(due) = state.due.get_mut(&id) else { continue };
            let before = std::mem::replace(due, now.min(*due));
            if let Some(arrival) = state.waiting.remove(&(before, id)) {
                state.waiting.insert((now.min(before), id), arrival);
            }
            state.breaker.clear();
            waits = true;
        }
        waits
    }
}
