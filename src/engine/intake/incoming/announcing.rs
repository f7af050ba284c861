//! The steps after the last commit: log lines, counters, the notice that is due, and the hand-over to the queue.

use super::content::WholeContent;
use super::{HEADERS_MAX_OCTETS, Incoming, NewEntry, OwedNotice, is_owed};
use crate::engine::intake::copies::{LocalCopy, NoticeItem, Via};
use crate::engine::intake::final_delivery::DELIVERED;
use crate::engine::log::event::{AttemptEnd, Event};
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::rules::message::bounce::RecipientVerdict;
use crate::rules::pacing::shares::{Owner, sender_number};
use std::time::Duration;

impl Incoming<'_> {
    /// Hands each queue entry over to the queue, and logs those after the first.
    pub(super) fn announce_queued(&self, octets: u64) {
        for copy in &self.copies.queued {
            let reverse_path = copy.via.reverse_path(&self.submission.reverse_path);
            if copy.id != self.id {
                let to: Vec<Mailbox> = copy.recipients.iter().map(|to| to.mailbox.clone()).collect();
                self.log_accepted(copy.id, &reverse_path, &to, octets);
            }
            let on_queued = &self.intake.on_queued;
            let is_urgent = self.scanner.is_urgent();
            // The size in the file, as a restart finds it.
            let added = self.trace.len() + copy.via.field().len();
            let new = NewEntry {
                id: copy.id,
                arrival: self.arrival,
                octets: (octets + added as u64).saturating_sub(self.lines),
                is_urgent,
                owner: Owner::of_origin(&self.submission.client),
                sender: sender_number(&reverse_path),
                recipients: copy.recipients.len(),
            };
            match self.digest {
                Some(digest) => {
                    // Before the index learns of it: a worker that gets the message at once must find it here.
                    let full = self.intake.digests.add(self.site, copy.id, octets, digest, self.arrival);
                    on_queued.collected(new, digest.until);
                    if let Some(id) = full {
                        on_queued.collected(NewEntry { id, ..new }, self.arrival.running);
                    }
                }
                None => on_queued.queued(new, &reverse_path, &copy.recipients),
            }
        }
    }

    /// The material of the notice about copies in mailboxes and about aliases, if the sender asked for a notice (RFC
    /// 3461 §5.2.3, §5.2.7).
    pub(super) fn owed(&self, source: &WholeContent) -> Option<OwedNotice> {
        let envelope = Via::default().envelope(&self.submission);
        let delivered = |copy: &LocalCopy| NoticeItem {
            recipient: copy.recipient.clone(),
            verdict: RecipientVerdict::Delivered,
            text: DELIVERED,
        };
        let mut items: Vec<NoticeItem> = self.copies.local.iter().map(delivered).collect();
        items.extend_from_slice(&self.copies.notices);
        if !items.iter().any(|item| is_owed(&envelope, &item.recipient)) {
            return None;
        }
        let mut header = self.trace.as_bytes().to_vec();
        header.extend(source.start(HEADERS_MAX_OCTETS).unwrap_or_default());
        Some(OwedNotice { id: self.id, arrival: self.arrival, envelope, items, header })
    }

    pub(super) fn log_accepted(&self, id: QueueId, from: &ReversePath, to: &[Mailbox], size: u64) {
        let (origin, client) = (self.submission.origin.as_ref(), self.submission.client.as_str());
        let tls = origin.and_then(|origin| origin.tls.as_deref());
        let auth = self.submission.login.as_deref();
        Event::Accepted { id, from, to, size, client, tls, auth }.log();
    }

    pub(super) fn announce_delivered(&self) {
        for copy in &self.copies.local {
            self.intake.sweep(&copy.path, self.arrival);
            let (counters, to) = (&self.intake.counters, &copy.recipient.mailbox);
            counters.count_end(AttemptEnd::Delivered, true);
            counters.last_ends.note(AttemptEnd::Delivered, self.id, to, self.arrival.wall, DELIVERED);
            Event::Attempt {
                what: AttemptEnd::Delivered,
                id: self.id,
                to,
                relay: "local",
                attempt: 1,
                delay: Duration::ZERO,
                status: EnhancedStatus::OK,
                reply: DELIVERED,
            }
            .log();
        }
    }
}
