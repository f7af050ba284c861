//! What a user may know of the queued messages of others without reading a file: sizes, ages, the states of recipients,
//! and why a message waits. And how much of the queue one user or client uses.
//!
//! A list of 10,000 messages for an ordinary user must cost neither 10,000 open files nor much memory. So the index has
//! for each message 24 octets of counts and numbers ([`Standing`], its owner, its sender), and the reasons are shared:
//! at most [`REASONS_MAX`] different ones of at most [`REASON_CHARS`] characters, about 60 KiB in all, without the
//! addresses in them. A message with another reason is listed with its status code alone.

use super::{Hop, IndexedMessage, QueueIndex};
use crate::mail::envelope::Envelope;
use crate::mail::hidden::without_addresses;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::rules::pacing::shares::Owner;
use crate::store::queue::{Progress, RecipientState};
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

/// The most different reasons that are remembered.
const REASONS_MAX: usize = 128;
/// The longest remembered reason.
const REASON_CHARS: usize = 200;

/// How far a message has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// The reason of the latest attempt at a recipient that is pending, without addresses.
    pub reason: Option<Arc<Diagnostic>>,
    /// The number of recipients still to be tried.
    pub pending: u16,
    /// The number of recipients that have it.
    pub delivered: u16,
    /// The number of recipients that will not get it.
    pub failed: u16,
    /// The most attempts at one recipient.
    pub attempts: u16,
}

impl Standing {
    /// A message for so many recipients that was not tried yet.
    #[must_use]
    pub fn untried(recipients: usize) -> Self {
        Self { pending: count(recipients), ..Self::default() }
    }

    fn new(progress: &[Progress], reason: Option<Arc<Diagnostic>>) -> Self {
        let of = |state| count(progress.iter().filter(|progress| progress.state == state).count());
        Self {
            reason,
            pending: of(RecipientState::Pending),
            delivered: of(RecipientState::Delivered),
            failed: of(RecipientState::Failed),
            attempts: count(progress.iter().map(|progress| progress.attempts as usize).max().unwrap_or(0)),
        }
    }
}

fn count(number: usize) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// The reasons that queued messages share.
#[derive(Debug, Default)]
pub(super) struct Reasons(Vec<Arc<Diagnostic>>);

impl Reasons {
    /// The shared form of a reason; its status alone if there are too many.
    fn share(&mut self, reason: Diagnostic) -> Arc<Diagnostic> {
        if let Some(known) = self.0.iter().find(|known| ***known == reason) {
            return Arc::clone(known);
        }
        if self.0.len() >= REASONS_MAX {
            self.0.retain(|known| Arc::strong_count(known) > 1);
        }
        if self.0.len() >= REASONS_MAX {
            // There are fewer statuses than hosts have words for.
            let status = Diagnostic::local(reason.status, format!("deferred, {}", reason.status));
            return self
                .0
                .iter()
                .find(|known| ***known == status)
                .map_or_else(|| Arc::new(status), Arc::clone);
        }
        let shared = Arc::new(reason);
        self.0.push(Arc::clone(&shared));
        shared
    }
}

/// The latest reason for which a recipient is pending, without addresses.
fn reason(envelope: &Envelope, progress: &[Progress]) -> Option<Diagnostic> {
    let pending = progress.iter().filter(|progress| progress.state == RecipientState::Pending);
    let latest = pending.max_by_key(|progress| progress.recent_attempts[0].map(|at| at.running))?;
    let Diagnostic { status, remote, reply, text } = latest.diagnostic.as_ref()?;
    let short = |text: &str| without_addresses(text, envelope).chars().take(REASON_CHARS).collect();
    let (reply, text) = match reply {
        Some(reply) => (Some(short(reply)), text.clone()),
        None => (None, short(text)),
    };
    Some(Diagnostic { status: *status, remote: remote.clone(), reply, text })
}

impl QueueIndex {
    /// Notes how far the recipients of a message have come.
    pub fn note_progress(&self, id: QueueId, envelope: &Envelope, progress: &[Progress]) {
        let reason = reason(envelope, progress);
        let inner = &mut *self.inner.lock();
        if let Some(known) = inner.messages.get_mut(&id) {
            // Given back first, so that a message that is alone with its reason does not need two.
            known.standing.reason = None;
            let reason = reason.map(|reason| inner.reasons.share(reason));
            known.standing = Standing::new(progress, reason);
        }
    }

    /// The number of queued messages of one owner, and their size in octets.
    #[must_use]
    pub fn share_of(&self, owner: Owner) -> (usize, u64) {
        let inner = self.inner.lock();
        let of_owner = inner.messages.values().filter(|known| known.owner == Some(owner));
        of_owner.fold((0, 0), |(messages, octets), known| (messages + 1, octets + known.octets))
    }

    /// The ids of all messages, oldest first.
    #[must_use]
    pub fn ids(&self) -> Vec<QueueId> {
        let ids: BinaryHeap<QueueId> = self.inner.lock().messages.keys().copied().collect();
        ids.into_sorted_vec()
    }

    /// What the index knows of a message.
    #[must_use]
    pub fn message(&self, id: QueueId) -> Option<IndexedMessage> {
        self.inner.lock().messages.get(&id).cloned()
    }

    /// All hops, and for each waiting message the place of a hop where it waits.
    #[must_use]
    pub fn waiting_hops(&self) -> (Vec<Hop>, HashMap<QueueId, usize>) {
        let inner = self.inner.lock();
        let (mut hops, mut places) = (Vec::new(), HashMap::new());
        for (hop, state) in inner.hops.iter().filter(|(_, state)| !state.due.is_empty()) {
            places.extend(state.due.keys().map(|&id| (id, hops.len())));
            hops.push(hop.clone());
        }
        (hops, places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::{Mailbox, ReversePath};
    use crate::mail::envelope::Recipient;
    use crate::mail::status::EnhancedStatus;
    use std::time::Duration;

    #[test]
    fn a_message_costs_little_and_its_reason_is_shared() {
        assert_eq!(std::mem::size_of::<IndexedMessage>(), 48);
        let index = QueueIndex::default();
        let mut envelope = Envelope::new(ReversePath::Null);
        envelope.recipients.push(Recipient::new(Mailbox::parse("joe@far.example").unwrap()));
        let deferred = |text: &str| {
            let diagnostic = Some(Diagnostic::local(EnhancedStatus::NO_ANSWER, text));
            [Progress { diagnostic, attempts: 2, ..Progress::default() }]
        };
        let id = |n: usize| QueueId::new(n as u64, 0);
        for n in 0..1000 {
            index.add_message(id(n), IndexedMessage::new(1, Duration::ZERO, false));
            index.note_progress(
                id(n),
                &envelope,
                &deferred(&format!("450 number {n} for <joe@far.example>")),
            );
        }
        let standing = |n| index.message(id(n)).unwrap().standing;
        let first = standing(0);
        assert_eq!(first.reason.as_ref().unwrap().line(), "450 number 0 for <hidden>");
        assert_eq!((first.pending, first.delivered, first.attempts), (1, 0, 2));
        assert_eq!(standing(999).reason.unwrap().text, "deferred, 4.4.1");
        assert_eq!(index.inner.lock().reasons.0.len(), REASONS_MAX);
        // When the messages have left, their reasons are forgotten.
        (0..999).for_each(|n| assert!(index.forget_message(id(n))));
        index.note_progress(id(999), &envelope, &deferred(&"x".repeat(5000)));
        assert_eq!(standing(999).reason.unwrap().text, "x".repeat(REASON_CHARS));
        drop(first);
        index.note_progress(id(999), &envelope, &deferred("again"));
        assert_eq!(standing(999).reason.unwrap().text, "again");
    }
}
