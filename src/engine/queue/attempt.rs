//! One attempt at one message at one hop, and its life.
//!
//! An attempt collects the outcomes of the recipients; it decides and writes nothing itself, except log lines. The
//! queue manager begins and settles it ([`Manager::begin_attempt`](super::manager::Manager::begin_attempt),
//! [`Manager::end_attempt`](super::manager::Manager::end_attempt)), a worker fills it in between.
//!
//! | step | by | what it does | a crash after it leaves |
//! | --- | --- | --- | --- |
//! | take | `QueueIndex::take` | the message leaves the index | the queue file: the next start indexes it again |
//! | checkout | `Queue::checkout` | opens and locks the file; a busy one is tried again after 2 s | the same: the kernel drops the lock |
//! | verify | `Entry::verify` | compares the checksum; a damaged file is set aside | the same, or the file in `corrupt/` |
//! | claim | [`Claim::take`] | no other worker gets the same recipients | the same: claims are in memory only |
//! | conversation | a worker | sends, and notes an outcome for each recipient, or none | recipients that have the message get it again: duplicates, no loss |
//! | journal | `Queue::record` | writes the outcomes; only deferrals need no sync | the outcomes: those recipients are finished |
//! | notice | `news::write_notice` | sends the sender one message about all the news | the notice, which may be written a second time |
//! | record of the notice | `Queue::record` | notes who was reported, without a sync | as before |
//! | removal | `Manager::remove` | unlinks the file if all recipients are finished | no file, or, after a power cut, the file again: a duplicate |
//! | put back | `QueueIndex::put_back` | what is left waits for its due time | the queue file |
//!
//! If every recipient was delivered and no report is owed, the removal itself is the record: the journal is not
//! written.
//!
//! # Two guards
//!
//! A [`PanicGuard`](super::manager::PanicGuard) puts the message back in the index if the worker panics; a [`Claim`]
//! gives the recipients back when the attempt is dropped, also by a panic. Without the first a message would wait for
//! the next reload, without the second for a restart.

use super::index::Pending;
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

/// An attempt at one message for its recipients at one hop.
#[derive(Debug)]
pub struct Attempt {
    /// The message.
    pub entry: Arc<Entry>,
    /// Its entry in the index.
    pub pending: Pending,
    /// Places of recipients in the envelope's list, the lowest first, with their outcomes; `None`: nothing was learnt, and the
    /// recipient is tried again.
    pub outcomes: Vec<(usize, Option<Outcome>)>,
    /// The host and address that the message was sent to, for the log.
    pub relay: String,
    /// The places of recipients whose delivery the next hop reports, so that this host does not (RFC 3461 §5.2.1); the lowest
    /// first.
    pub passed_on: Vec<usize>,
    /// Failures of the hop that the message was to blame for: it waits at least the step for this number of attempts.
    pub failures: u32,
    /// The operator ordered the outcome: mail to `admin` is not kept either.
    pub is_ordered: bool,
    /// The claim on the recipients, which lasts until the attempt is settled.
    pub claim: Claim,
}

/// When the recipients without an outcome are tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// After the pause of the hop, which is to blame.
    WhenHopWorks,
    /// At once: a new connection may work.
    AtOnce,
}

impl Attempt {
    /// The places of recipients without an outcome.
    pub fn untried(&self) -> Vec<usize> {
        self.outcomes.iter().filter(|(_, outcome)| outcome.is_none()).map(|&(i, _)| i).collect()
    }

    /// Notes the outcomes of the recipients at these places, which are in the order of [`Self::untried`].
    pub fn note(&mut self, places: &[usize], outcomes: Vec<Option<Outcome>>) {
        // It goes through the list once: a message may have ten thousand recipients.
        let mut slots = self.outcomes.iter_mut();
        for (place, outcome) in places.iter().zip(outcomes) {
            if let Some(slot) = slots.find(|(i, _)| i == place) {
                slot.1 = outcome;
            }
        }
    }

    /// Gives a function that logs the end of an attempt at one recipient.
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

/// The recipients that attempts are under way for. A reload may put a message in the index that a worker has already
/// taken; the claims prevent that two workers send to the same recipient.
pub type Claims = Arc<Lock<HashSet<(QueueId, usize)>>>;

/// The recipients that one attempt has claimed. They are given back when it is dropped, also by a panic.
#[derive(Debug)]
pub struct Claim {
    claims: Claims,
    id: QueueId,
    /// The recipients' places in the envelope's list.
    pub places: Vec<usize>,
}

impl Claim {
    /// Claims those of `places` that are free. `None`: other attempts have all of them.
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

/// Turns a deferral of an expired recipient into a failure. The failure keeps the reason of the last attempt with its
/// transient class, which distinguishes an expired recipient from a refused one.
#[must_use]
pub fn expire(outcome: Outcome, is_expired: bool) -> Outcome {
    match outcome {
        Outcome::Deferred(diagnostic) if is_expired => Outcome::Failed(diagnostic),
        outcome => outcome,
    }
}

/// Logs the outcome for a recipient, and returns the word that was logged. `is_kept`: the recipient stays in the queue
/// although it has failed.
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
