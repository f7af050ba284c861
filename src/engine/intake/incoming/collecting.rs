//! Whether a message that comes in waits for a digest, and what that makes of its copies.

use super::{Incoming, PartialContent};
use crate::engine::intake::copies::Via;
use crate::mail::envelope::Recipient;

impl Incoming<'_> {
    /// Finds out whether the message waits for a digest, by a header section that is in memory. It is the last moment for
    /// that before the first copy is begun: one that waits has copies in the queue only.
    pub(super) fn decide(&mut self) {
        let PartialContent::Memory(start) = &self.content else { return };
        let (site, intake) = (self.site, self.intake);
        if self.scanner.is_urgent() || intake.is_full(site) {
            return;
        }
        self.digest = intake.digests.decide(site, &self.submission, start, self.arrival);
        if self.digest.is_some() {
            let local = std::mem::take(&mut self.copies.local);
            self.queue_all(local.into_iter().map(|copy| (copy.recipient, copy.way)).collect());
        }
    }

    /// Gives recipients copies in the queue.
    pub(super) fn queue_all(&mut self, recipients: Vec<(Recipient, Via)>) {
        let mut ids = self.copies.queued.is_empty().then_some(self.id);
        let mut next_id = || ids.take().unwrap_or_else(|| self.intake.next_id(self.arrival));
        for (recipient, way) in recipients {
            self.copies.queue(recipient, way, &mut next_id);
        }
    }
}
