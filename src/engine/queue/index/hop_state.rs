//! One next hop in the index: the messages that wait there, its workers, and which messages the network link lets out.
//!
//! The same messages stand in two maps: `waiting`, in the order of due times, finds what is due next; `due` finds a
//! message by its id, so that none waits twice. Each method changes both. Times are running times that the caller
//! passes in.

use super::places::Hold;
use super::standing::Standing;
use super::suspects::Suspect;
use super::{Hop, Pending};
use crate::mail::id::QueueId;
use crate::rules::pacing::breaker::Breaker;
use crate::rules::pacing::downtime::Uplink;
use crate::rules::pacing::shares::Owner;
use crate::sys::lock::Lock;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// What the index knows of a message, regardless of the hops where it waits: 48 octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedMessage {
    /// The size in octets.
    pub octets: u64,
    /// Whose share of the queue it uses.
    pub owner: Option<Owner>,
    /// What those who may not see it may know of its recipients.
    pub standing: Standing,
    /// See [`shares::sender_number`](crate::rules::pacing::shares::sender_number).
    pub sender: u32,
    /// It may leave by a metered link: its header says that it is urgent, or the operator flushed it by its id.
    pub is_urgent: bool,
    /// When it arrived, in whole seconds of running time.
    pub arrival: u32,
    /// The operator holds all recipients that are left.
    pub is_held: bool,
    /// Since when it is kept as undeliverable mail to `admin`, in whole seconds of running time.
    pub kept_since: Option<NonZeroU32>,
    /// The operator or the schedule asked for a try at once.
    pub is_flushed: bool,
}

impl IndexedMessage {
    /// A message that arrived at a running time and is not held.
    #[must_use]
    pub fn new(octets: u64, arrival: Duration, is_urgent: bool) -> Self {
        let arrival = whole_seconds(arrival);
        let (owner, sender, standing) = (None, 0, Standing::default());
        Self {
            octets,
            owner,
            standing,
            sender,
            is_urgent,
            arrival,
            is_held: false,
            kept_since: None,
            is_flushed: false,
        }
    }
}

/// A running time in whole seconds, which need little memory.
#[must_use]
pub(super) fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// All messages in the queue.
pub(super) type Messages = HashMap<QueueId, IndexedMessage>;

/// The state of a next hop. See [`super`] for the states.
#[derive(Debug, Default)]
pub(super) struct HopState {
    pub breaker: Breaker,
    /// Due time and id of each waiting message, with its arrival.
    pub waiting: BTreeMap<(Duration, QueueId), Duration>,
    /// The due time of each waiting message.
    pub due: HashMap<QueueId, Duration>,
    /// Messages that were being sent when the hop failed.
    pub suspects: HashMap<QueueId, Suspect>,
    pub workers: usize,
    /// It has a message due, but no place among the connections.
    pub lacks_place: bool,
    /// Its worker was asked to give its place away.
    pub gives_way: bool,
    /// The long steps of its workers.
    pub holds: Vec<Hold>,
    /// How often it has given its place away since it last answered or failed.
    pub turns: u32,
    pub idle: Vec<Arc<IdleWorker>>,
}

/// A worker that has an open connection and waits for a message.
#[derive(Debug, Default)]
pub(super) struct IdleWorker {
    pub wake: Lock<Option<Wake>>,
    pub condvar: Condvar,
}

impl IdleWorker {
    /// Has it end. It is no longer in the list of the idle.
    pub fn end(&self) {
        *self.wake.lock() = Some(Wake::Stop);
        self.condvar.notify_one();
    }
}

/// Why an idle worker is woken up.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wake {
    Message(Pending),
    Stop,
}

impl HopState {
    /// Makes the messages due now whose due times `is_meant` accepts.
    pub fn hasten(&mut self, now: Duration, is_meant: &dyn Fn(Duration) -> bool) {
        let sooner = |due: Duration| if is_meant(due) { due.min(now) } else { due };
        for ((due, id), arrival) in std::mem::take(&mut self.waiting) {
            self.waiting.insert((sooner(due), id), arrival);
        }
        self.due.values_mut().for_each(|due| *due = sooner(*due));
    }

    /// The message with the earliest due time that the link lets out.
    pub fn first(&self, link: Uplink, messages: &Messages) -> Option<(Duration, QueueId)> {
        if link == Uplink::Down {
            return None;
        }
        self.waiting.keys().find(|&&(_, id)| passes(link, messages, id)).copied()
    }

    /// Whether a worker may have a message: the hop does not pause, or this is the worker of the single try.
    pub fn hands_out(&self, now: Duration) -> bool {
        !self.breaker.is_open(now) || (self.workers == 1 && self.breaker.is_trying())
    }

    /// Takes the next message that is due out of the maps.
    pub fn take_due(&mut self, now: Duration, link: Uplink, messages: &Messages) -> Option<Pending> {
        let (due, id) = self.next_due(now, link, messages)?;
        let arrival = self.waiting.remove(&(due, id))?;
        self.due.remove(&id);
        Some(Pending { id, arrival })
    }

    /// Takes a message out, if it waits here.
    pub fn withdraw(&mut self, id: QueueId) {
        if let Some(due) = self.due.remove(&id) {
            self.waiting.remove(&(due, id));
        }
    }
}

/// The link as a hop sees it: local copies do not need one.
pub(super) fn link_for(link: Uplink, hop: &Hop) -> Uplink {
    if *hop == Hop::Local { Uplink::Up } else { link }
}

/// Whether the link lets a message out.
pub(super) fn passes(link: Uplink, messages: &Messages, id: QueueId) -> bool {
    match link {
        Uplink::Up => true,
        Uplink::Down => false,
        Uplink::Metered => messages.get(&id).is_some_and(|known| known.is_urgent),
    }
}
