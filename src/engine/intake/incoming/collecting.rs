//! Decides whether a message that is being received waits for a digest. If it does, all its copies go to the queue.

use super::{Incoming, PartialContent};
use crate::engine::intake::copies::Via;
use crate::mail::envelope::Recipient;

impl Incoming<'_> {
    /// Decides whether the message waits for a digest, by the header section in memory. Called before the first copy is
    /// staged: a message that waits has copies only in the queue. Without effect once the content is on disk.
    pub(super) fn decide(&mut self) {
        let PartialContent::Memory(start) = &self.content else { return };
        let (site, intake) = (self.site, self.intake);
        if self.scanner.is_urgent() || intake.is_full(site) {
            return;
        }
        self.digest = intake.digests.decide(site, &self.submission, start, self.arrival);
        if self.digest.is_some() {
            let local = std::mem::take(&mut self.copies.local);
            self.queue_all(local.into_iter().map(|copy| (copy.recipient, copy.via)).collect());
        }
    }

    /// Adds copies in the queue for these recipients.
    pub(super) fn queue_all(&mut self, recipients: Vec<(Recipient, Via)>) {
        let mut ids = self.copies.queued.is_empty().then_some(self.id);
        let mut next_id = || ids.take().unwrap_or_else(|| self.intake.next_id(self.arrival));
        for (recipient, via) in recipients {
            self.copies.queue(recipient, via, &mut next_id);
        }
    }
}
