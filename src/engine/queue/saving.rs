//! When messages move from memory to the disk, with `queue.storage = "memory-first"`. How one moves is in
//! [`store::queue`](crate::store::queue).
//!
//! | messages | move | in |
//! | --- | --- | --- |
//! | older than `queue.memory_grace` | as soon as they are | a thread of its own, which the forwarder starts |
//! | all, once `queue.storage` is "disk" again | at the start or the reload | the same |
//! | held by the operator, or kept for `admin` | before that is recorded | the thread that records it |
//! | those for whose journal there is no room | before a record is written | the thread that records it |
//! | all | when the daemon stops: at once, and what came in meanwhile at the end | the thread that stops it |
//!
//! What does not fit into `queue.memory_max` never comes into memory, and nothing that a message on the disk may become: what
//! lay in `drop/`, digests, notices, and mail that enters again. The age of a message is that of its arrival, in running
//! time. A message that cannot be moved stays where it is, is tried again after [`OWN_TROUBLE_RETRY`], and raises an alarm.

use super::manager::{BUSY_RETRY, Manager, OWN_TROUBLE_RETRY};
use crate::config::Storage;
use crate::engine::host::site::Site;
use crate::engine::log::event::{Event, trouble};
use crate::mail::id::QueueId;
use crate::net::transport::Deadline;
use crate::store::ErrorKind;
use crate::sys::lock::Lock;
use crate::sys::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How many messages move at the same time: they share the sync of the directory, and most file systems let syncs of files share
/// more.
const AT_ONCE: usize = 4;

/// What lies in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryFacts {
    /// The number of messages.
    pub messages: u64,
    /// The memory that they fill.
    pub octets: u64,
    /// The age of the oldest one.
    pub oldest: Duration,
    /// Why some stay there for longer than they should.
    pub failure: Option<String>,
}

/// How many octets new messages may fill in memory.
#[must_use]
pub fn memory_max(site: &Site) -> u64 {
    let queue = &site.settings.queue;
    if queue.storage == Storage::MemoryFirst { queue.memory_max } else { 0 }
}

/// How old a message in memory may become.
fn grace(site: &Site) -> Duration {
    let queue = &site.settings.queue;
    if queue.storage == Storage::MemoryFirst { queue.memory_grace } else { Duration::ZERO }
}

impl Manager {
    /// Starts a thread that moves messages, if one is due. Returns how long none will be.
    pub fn keep_saving(self: &Arc<Self>, site: &Site) -> Duration {
        let now = self.clock.now().running;
        let mut next_look = self.saver.next_look.lock();
        if self.queue.memory_octets() == 0 {
            *next_look = now.saturating_add(grace(site));
            *self.saver.failure.lock() = None;
            // A message may come in without waking the forwarder: a worker takes it at once.
            return if memory_max(site) > 0 { grace(site) } else { Duration::MAX };
        }
        if now < *next_look || self.saver.is_busy.swap(true, Ordering::SeqCst) {
            return next_look.saturating_sub(now).max(BUSY_RETRY);
        }
        *next_look = now + OWN_TROUBLE_RETRY;
        drop(next_look);
        let manager = Arc::clone(self);
        let started = thread::start("saving", move || {
            let busy = Busy(&manager);
            manager.save_aged();
            drop(busy);
            manager.index.wake();
        });
        if let Err(error) = started {
            drop(Busy(self));
            trouble("moving messages from memory to the disk", &error);
        }
        OWN_TROUBLE_RETRY
    }

    /// Moves the messages that have been in memory for long enough, in this thread.
    pub fn save_aged(&self) {
        let (grace, now) = (grace(&self.site()), self.clock.now().running);
        // One that comes in while this looks is due later.
        let mut next_look = now.saturating_add(grace);
        let Some(ids) = self.ids_in_memory() else { return };
        let due = ids.into_iter().filter(|id| {
            let due = self.arrival_of(*id).min(now).saturating_add(grace);
            next_look = if due > now { next_look.min(due) } else { next_look };
            due <= now
        });
        if self.save_all(due.collect(), Deadline::after(Duration::MAX)) > 0 {
            next_look = now + OWN_TROUBLE_RETRY;
        }
        *self.saver.next_look.lock() = next_look;
    }

    /// Moves all messages, and those that come in from now on never lie in memory. For the end of the daemon; gives up at
    /// `deadline`.
    pub fn leave_memory(&self, deadline: Deadline) {
        self.queue.set_memory_max(0);
        if let Some(ids) = self.ids_in_memory() {
            self.save_all(ids, deadline);
        }
    }

    /// What lies in memory.
    #[must_use]
    pub fn memory_facts(&self) -> MemoryFacts {
        let (found, now) = (self.queue.in_memory().unwrap_or_default(), self.clock.now().running);
        let ages = found.ids.iter().map(|id| now.saturating_sub(self.arrival_of(*id)));
        MemoryFacts {
            messages: found.ids.len() as u64,
            octets: found.octets,
            oldest: ages.max().unwrap_or_default(),
            failure: self.saver.failure(),
        }
    }

    /// `None`: the directory cannot be read.
    fn ids_in_memory(&self) -> Option<Vec<QueueId>> {
        match self.queue.in_memory() {
            Ok(found) => Some(found.ids),
            Err(error) => {
                trouble("reading the queue in memory", &error);
                *self.saver.failure.lock() = Some(error.to_string());
                None
            }
        }
    }

    /// The running time at which a message came in. One that is just coming in may not be in the index yet.
    fn arrival_of(&self, id: QueueId) -> Duration {
        let known = self.index.message(id).map(|known| Duration::from_secs(known.arrival.into()));
        let read = || Some(self.queue.summary(id)?.ok()?.description.arrival.running);
        known.or_else(read).unwrap_or_default()
    }

    /// Moves these messages; returns how many are still to be moved.
    fn save_all(&self, ids: Vec<QueueId>, deadline: Deadline) -> usize {
        let threads = ids.len().min(AT_ONCE);
        let (left, failure) = (Lock::new(ids), Lock::new(None));
        let (saved, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let take = || if deadline.remaining().is_zero() { None } else { left.lock().pop() };
        thread::together(threads, &|| {
            while let Some(id) = take() {
                let counter = match self.queue.save(id) {
                    Ok(true) => &saved,
                    // Unless another process has it, it has left, or another thread has moved it.
                    Ok(false) if !self.queue.is_in_memory(id) => continue,
                    Ok(false) => &failed,
                    Err(error) if error.kind == ErrorKind::Corrupt => {
                        self.index.forget_message(id);
                        continue;
                    }
                    Err(error) => {
                        let mut failure = failure.lock();
                        if failure.is_none() {
                            trouble("moving a message from memory to the disk", &error);
                        }
                        *failure = Some(error.to_string());
                        &failed
                    }
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        *self.saver.failure.lock() = failure.lock().take();
        let (saved, left) = (saved.into_inner(), failed.into_inner() + left.lock().len());
        if saved + left > 0 {
            Event::Notice(&format!("messages moved from memory to the disk: {saved}, left: {left}")).log();
        }
        left
    }
}

/// A thread at work; its end, also by a panic, lets the next one start.
struct Busy<'a>(&'a Manager);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.saver.is_busy.store(false, Ordering::SeqCst);
    }
}
