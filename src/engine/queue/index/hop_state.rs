//! One next hop in the index: what waits there, who is at work, and what the link lets out to it.
//!
//! It decides nothing about time: what is due is due at the running time that it is given. Nothing here fails.

use super::suspects::Suspect;
use super::{Hop, Pending};
use crate::mail::id::QueueId;
use crate::rules::pacing::breaker::Breaker;
use crate::rules::pacing::downtime::Uplink;
use crate::sys::lock::Lock;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// What is known of a message, wherever it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedMessage {
    /// Its size.
    pub octets: u64,
    /// It leaves even by a metered link: it says that it is urgent, or the operator has named it.
    pub is_urgent: bool,
    /// When it came, in whole seconds of running time.
    pub arrival: u32,
    /// All that is left of it is held back.
    pub is_held: bool,
    /// It is for admin and can't be delivered: since when it is kept, in whole seconds of running time.
    pub kept_since: Option<u32>,
    /// The operator or the schedule wanted it tried at once.
    pub is_flushed: bool,
}

impl IndexedMessage {
    /// A message that came at a running time, and that nobody holds back.
    #[must_use]
    pub fn new(octets: u64, arrival: Duration, is_urgent: bool) -> Self {
        let arrival = whole_seconds(arrival);
        Self { octets, is_urgent, arrival, is_held: false, kept_since: None, is_flushed: false }
    }
}

/// Whole seconds of running time.
#[must_use]
pub(super) fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// The messages in the queue.
pub(super) type Messages = HashMap<QueueId, IndexedMessage>;

/// A next hop.
#[derive(Debug, Default)]
pub(super) struct HopState {
    pub breaker: Breaker,
    /// When what came when is due.
    pub waiting: BTreeMap<(Duration, QueueId), Duration>,
    /// The same by message, so that none waits twice: two workers would get it.
    pub due: HashMap<QueueId, Duration>,
    /// Messages that were in hand at a failure.
    pub suspects: HashMap<QueueId, Suspect>,
    pub workers: usize,
    /// It has something due, and no place among the connections.
    pub lacks_place: bool,
    /// Its worker was told to give its place away.
    pub gives_way: bool,
    /// How often it has done so since it answered or failed last.
    pub turns: u32,
    pub idle: Vec<Arc<IdleWorker>>,
}

/// Where a worker with an open connection and nothing to do waits for a message.
#[derive(Debug, Default)]
pub(super) struct IdleWorker {
    pub news: Lock<Option<Wake>>,
    pub condvar: Condvar,
}

/// What a waiting worker is told.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wake {
    Message(Pending),
    Stop,
}

impl HopState {
    /// What waits until a time that `is_meant` is due now.
    pub fn hasten(&mut self, now: Duration, is_meant: &dyn Fn(Duration) -> bool) {
        let sooner = |due: Duration| if is_meant(due) { due.min(now) } else { due };
        for ((due, id), arrival) in std::mem::take(&mut self.waiting) {
            self.waiting.insert((sooner(due), id), arrival);
        }
        self.due.values_mut().for_each(|due| *due = sooner(*due));
    }

    /// What is due first of what the link lets out.
    pub fn first(&self, link: Uplink, messages: &Messages) -> Option<(Duration, QueueId)> {
        if link == Uplink::Down {
            return None;
        }
        self.waiting.keys().find(|&&(_, id)| passes(link, messages, id)).copied()
    }

    /// Takes out what is next of what is due.
    pub fn take_due(&mut self, now: Duration, link: Uplink, messages: &Messages) -> Option<Pending> {
        let (due, id) = self.next_due(now, link, messages)?;
        let arrival = self.waiting.remove(&(due, id))?;
        self.due.remove(&id);
        Some(Pending { id, arrival })
    }

    /// Takes a message out.
    pub fn withdraw(&mut self, id: QueueId) {
        if let Some(due) = self.due.remove(&id) {
            self.waiting.remove(&(due, id));
        }
    }
}

/// The link as it is for a hop: what stays here needs none.
pub(super) fn link_for(link: Uplink, hop: &Hop) -> Uplink {
    if *hop == Hop::Local { Uplink::Up } else { link }
}

/// Whether a message may leave by a link.
pub(super) fn passes(link: Uplink, messages: &Messages, id: QueueId) -> bool {
    match link {
        Uplink::Up => true,
        Uplink::Down => false,
        Uplink::Metered => messages.get(&id).is_some_and(|known| known.is_urgent),
    }
}
