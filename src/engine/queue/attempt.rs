//! One attempt at one message: which of its recipients it is for, and what became of them.
//!
//! It claims its recipients while it lasts, so that no two workers ever send to the same one. It decides nothing and
//! writes nothing but log lines; the forwarder settles it.

use super::index::{Hop, Pending, QueueIndex};
use crate::engine::host::clock::EngineClock;
use crate::engine::log::event::{AttemptEnd, Event};
use crate::mail::address::Mailbox;
use crate::mail::id::QueueId;
use crate::mail::outcome::Outcome;
use crate::mail::status::{Class, EnhancedStatus};
use crate::store::queue::Entry;
use crate::sys::lock::Lock;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Wait after a panic of the worker.
const PANIC_RETRY: Duration = Duration::from_secs(60);

/// An attempt at one message for its recipients at one hop.
#[derive(Debug)]
pub struct Attempt {
    /// The message.
    pub entry: Arc<Entry>,
    /// Its place in the index.
    pub pending: Pending,
    /// Places in the envelope's list, and what became of them; `None`: nothing was learnt.
    pub outcomes: Vec<(usize, Option<Outcome>)>,
    /// Who was talked to, for the log.
    pub relay: String,
    /// The places of those who, once delivered, are no more this entry's to tell of: the next hop does (RFC 3461 §5.2.1).
    pub passed_on: Vec<usize>,
    /// Failures of the route that the message was to blame for: it waits at least the step for so many attempts.
    pub failures: u32,
    /// The operator wants it to end so, whoever it is for.
    pub is_ordered: bool,
    /// Held until it is settled.
    pub claim: Claim,
}

/// When the recipients that nothing was learnt about are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The route is to blame and pauses.
    WhenRouteWorks,
    /// The connection is to blame; a new one may serve.
    AtOnce,
}

impl Attempt {
    /// Recipients that nothing is known about yet.
    pub fn untried(&self) -> Vec<usize> {
        self.outcomes.iter().filter(|(_, outcome)| outcome.is_none()).map(|&(i, _)| i).collect()
    }

    /// Notes the outcomes of the recipients at these places.
    pub fn note(&mut self, places: &[usize], outcomes: Vec<Option<Outcome>>) {
        for (place, outcome) in places.iter().zip(outcomes) {
            if let Some(slot) = self.outcomes.iter_mut().find(|(i, _)| i == place) {
                slot.1 = outcome;
            }
        }
    }

    /// Logs the end of an attempt at one recipient.
    pub fn log_line(
        id: QueueId,
        to: &Mailbox,
        relay: &str,
        attempt: u32,
        delay: Duration,
    ) -> impl Fn(AttemptEnd, EnhancedStatus, &str) {
        move |what, status, reply| Event::Attempt { what, id, to, relay, attempt, delay, status, reply }.log()
    }
}

/// A message in a worker's hands: a panic puts it back in the index.
pub struct Held<'a> {
    index: &'a QueueIndex,
    clock: &'a EngineClock,
    hop: &'a Hop,
    pending: Pending,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let due = self.clock.now().running + PANIC_RETRY;
            self.index.put_back(self.hop.clone(), self.pending, due);
        }
    }
}

impl<'a> Held<'a> {
    /// To be kept while the message is in hand.
    #[must_use]
    pub fn new(index: &'a QueueIndex, clock: &'a EngineClock, hop: &'a Hop, pending: Pending) -> Self {
        Self { index, clock, hop, pending }
    }
}

/// The recipients of messages that workers are at: no two may have the same one, whatever reloads and restarts have put
/// in the index.
pub type Claims = Arc<Lock<HashSet<(QueueId, usize)>>>;

/// Some of them; given back when dropped, also by a panic.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    id: QueueId,
    /// The recipients' places in the envelope's list.
    pub places: Vec<usize>,
}

impl Claim {
    /// Claims those of `places` that nobody has; `None` if somebody has all of them.
    #[must_use]
    pub fn take(claims: &Claims, id: QueueId, mut places: Vec<usize>) -> Option<Self> {
        let wanted = places.len();
        let mut taken = claims.lock();
        places.retain(|&place| taken.insert((id, place)));
        drop(taken);
        (wanted == 0 || !places.is_empty()).then(|| Self { claims: Arc::clone(claims), id, places })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut taken = self.claims.lock();
        for &place in &self.places {
            taken.remove(&(self.id, place));
        }
    }
}

/// A deferral that comes too late is a failure. What it keeps is the reason of the last attempt with its transient class:
/// by that an expired recipient is told from a refused one.
#[must_use]
pub fn expire(outcome: Outcome, is_expired: bool) -> Outcome {
    match outcome {
        Outcome::Deferred(diagnostic) if is_expired => Outcome::Failed(diagnostic),
        outcome => outcome,
    }
}

/// Logs what became of a recipient, and gives it. `is_kept`: it is not given up although it has failed.
pub fn log_outcome(
    log: &dyn Fn(AttemptEnd, EnhancedStatus, &str),
    outcome: &Outcome,
    is_kept: bool,
) -> AttemptEnd {
    let diagnostic = outcome.diagnostic();
    let (end, status) = match outcome {
        Outcome::Delivered(_) => (AttemptEnd::Delivered, diagnostic.status),
        Outcome::Deferred(_) => (AttemptEnd::Deferred, diagnostic.status),
        Outcome::Failed(_) if is_kept => (AttemptEnd::Held, diagnostic.status),
        Outcome::Failed(_) if diagnostic.status.class == Class::Transient => {
            (AttemptEnd::Expired, EnhancedStatus::EXPIRED)
        }
        Outcome::Failed(_) => (AttemptEnd::Bounced, diagnostic.status),
    };
    log(end, status, diagnostic.line());
    end
}
