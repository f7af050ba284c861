//! Mail to `admin` that cannot be delivered: nobody else would hear of it. It is kept in the queue, with its reason, until
//! the operator releases, removes or bounces it, or for 30 days.
//!
//! Only mail that this host wrote or took from its own programs is kept, notices first of all. What strangers send to
//! `admin` is returned to them. A failure is logged, and the next look tries again.

use super::Manager;
use crate::engine::log::event::{AttemptEnd, trouble};
use crate::engine::queue::attempt::{Attempt, Claim};
use crate::engine::queue::index::{Pending, QueueIndex};
use crate::mail::date::Now;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::store::queue::{Checkout, Durability, Entry, JournalEvent, JournalRecord, Progress};
use std::time::Duration;

/// How long it is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the journal says of a recipient that is kept at the end of an attempt.
#[must_use]
pub(super) fn records(place: usize, outcome: Outcome, at: Now) -> [JournalRecord; 2] {
    let reason = outcome.diagnostic().clone();
    // It may still be delivered, once somebody lets it go.
    [JournalEvent::Attempted(Outcome::Deferred(reason)), JournalEvent::Kept].map(|event| JournalRecord {
        recipients: vec![place],
        at,
        event,
    })
}

/// Tells the index, if some of these records say that a recipient is kept.
pub(super) fn note(index: &QueueIndex, entry: &Entry, records: &[JournalRecord]) {
    let Some(kept) = records.iter().find(|record| record.event == JournalEvent::Kept) else { return };
    index.set_kept(entry.id(), Some(kept.at.running));
    index.set_held(entry.id(), !entry.progress().iter().any(Progress::is_due));
}

impl Manager {
    /// Gives up what has been kept for longer than [`KEPT`].
    pub(super) fn release_kept(&self, now: Now) {
        let Some(horizon) = now.running.checked_sub(KEPT) else { return };
        for id in self.index.kept_before(horizon) {
            self.release_one(id, now);
        }
    }

    fn release_one(&self, id: QueueId, now: Now) {
        // Others may have it in hand; the next look comes soon.
        let Ok(Checkout::Ready(entry)) = self.queue.checkout(id) else { return };
        let kept =
            |place: &usize| entry.progress().get(*place).is_some_and(|progress| progress.kept.is_some());
        let places: Vec<usize> = (0..entry.description().envelope.recipients.len()).filter(kept).collect();
        let Some(claim) = Claim::take(&self.claims, id, places) else { return };
        let arrival = entry.description().arrival.running.min(now.running);
        let mut records = Vec::new();
        for &place in &claim.places {
            let (Some(recipient), Some(progress)) =
                (entry.description().envelope.recipients.get(place), entry.progress().into_iter().nth(place))
            else {
                continue;
            };
            let last = progress.diagnostic.unwrap_or_else(|| Diagnostic::local(EnhancedStatus::EXPIRED, "-"));
            let text = format!("held for 30 days, and given up: {}", last.line());
            let age = now.running.saturating_sub(arrival);
            let log = Attempt::log_line(id, &recipient.mailbox, "-", progress.attempts, age);
            log(AttemptEnd::GivenUp, EnhancedStatus::EXPIRED, &text);
            let events = [JournalEvent::Attempted(Outcome::Failed(last)), JournalEvent::Notified];
            records.extend(events.map(|event| JournalRecord { recipients: vec![place], at: now, event }));
        }
        let _settling = entry.settle();
        self.index.set_kept(id, None);
        if let Err(error) = self.queue.record(&entry, &records, Durability::Synced) {
            trouble("writing to the journal of a queue file", &error);
        }
        if entry.is_finished() {
            self.remove(&entry, Pending { id, arrival }, &[]);
        }
    }
}
