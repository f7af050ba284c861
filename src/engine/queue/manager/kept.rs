//! Mail to `admin` that cannot be delivered: nobody else would learn of it. It is kept in the queue, with its reason,
//! until the operator releases, removes or bounces it, or for 30 days.
//!
//! Only mail that this host wrote or accepted from its own programs is kept, in particular notices. Mail of strangers
//! to `admin` is returned to them. A failure is logged, and the next look tries again.

use super::Manager;
use super::settling::journal_records;
use crate::engine::log::event::{AttemptEnd, trouble};
use crate::engine::queue::attempt::{Attempt, Claim};
use crate::engine::queue::index::{Pending, QueueIndex};
use crate::mail::date::Now;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::store::queue::{Checkout, Durability, Entry, JournalEvent, JournalRecord, Progress};
use std::time::Duration;

/// How long undeliverable mail to `admin` is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// The records for the journal of a recipient that is kept at the end of an attempt.
pub(super) fn records(place: usize, outcome: Outcome, at: Now) -> impl Iterator<Item = JournalRecord> {
    let reason = outcome.diagnostic().clone();
    // As a deferral: the message may still be delivered once the operator releases it.
    journal_records(place, at, [JournalEvent::Attempted(Outcome::Deferred(reason)), JournalEvent::Kept])
}

/// Updates the index after these records: a recipient may be kept, and the last one that was not held may be finished.
pub(super) fn note(index: &QueueIndex, entry: &Entry, records: &[JournalRecord]) {
    if let Some(kept) = records.iter().find(|record| record.event == JournalEvent::Kept) {
        index.set_kept(entry.id(), Some(kept.at.running));
    }
    let progress = entry.progress();
    if progress.iter().any(|it| it.held) {
        index.set_held(entry.id(), !progress.iter().any(Progress::is_due));
    }
}

impl Manager {
    /// Gives up messages that have been kept for longer than [`KEPT`].
    pub(super) fn release_kept(&self, now: Now) {
        let Some(horizon) = now.running.checked_sub(KEPT) else { return };
        for id in self.index.kept_before(horizon) {
            self.release_one(id, now);
        }
    }

    fn release_one(&self, id: QueueId, now: Now) {
        // If another thread works on it, the next look tries again.
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
            records.extend(journal_records(place, now, events));
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
