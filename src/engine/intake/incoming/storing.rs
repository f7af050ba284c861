//! How the copies of a message get on stable storage: all are staged, then all are committed.
//!
//! A copy for an mbox is an exception: it can be appended, and not be given a name, so its commit may fail for all the
//! reasons that a write has. It comes after all others were staged, and before the first of them is committed.

use super::Incoming;
use super::content::{FirstTarget, PartialContent, WholeContent};
use super::staging::Staging;
use crate::engine::intake::copies::{Copies, LocalCopy, QueueCopy, Via};
use crate::engine::intake::refusal::Refusal;
use crate::engine::log::event::Event;
use crate::mail::envelope::Recipient;
use crate::store::StoreError;
use crate::store::durable::SyncedFile;

impl Incoming<'_> {
    /// Stages every copy, then commits all; gives the content.
    pub(super) fn store_copies(&mut self) -> Result<WholeContent, Refusal> {
        let (mut first, source) =
            match std::mem::replace(&mut self.content, PartialContent::Memory(Vec::new())) {
                PartialContent::Memory(buffer) => (None, WholeContent::Memory(buffer)),
                PartialContent::File { first, mut staging, offset, octets } => {
                    // With all that was written: others copy from it even if it is not kept itself.
                    let file = staging.file()?;
                    (Some((first, staging)), WholeContent::File { file, offset, octets })
                }
            };
        let is_only = self.copies.count() == 1;
        let mut copies = Vec::with_capacity(self.copies.count() + 1);
        let (mut kept, mut late, mut appended) = (Vec::new(), Vec::new(), Vec::new());
        for (i, copy) in std::mem::take(&mut self.copies.local).into_iter().enumerate() {
            let staging = match first.take_if(|(which, _)| *which == FirstTarget::Local(i)) {
                Some((_, staging)) => Ok(staging),
                None => self.stage_local(&copy).and_then(|staging| source.copy_into(staging)),
            };
            match staging.and_then(Staging::sync) {
                Ok(synced) if synced.appends() => appended.push((copy, synced)),
                Ok(synced) => {
                    copies.push(synced);
                    kept.push(copy);
                }
                // With no other copy, the client is told to come again; else this one is retried from the queue.
                Err(error) if is_only => return Err(error.into()),
                Err(error) => late.push(later(copy, &error)),
            }
        }
        self.copies.local = kept;
        if !late.is_empty() {
            // The entry that was begun lacks them; and it has the name of the one that takes its place.
            first = None;
        }
        self.queue_all(late);
        for (i, copy) in self.copies.queued.iter().enumerate() {
            let staging = match first.take_if(|(which, _)| *which == FirstTarget::Queue(i)) {
                Some((_, staging)) => staging,
                None => source.copy_into(self.stage_queue(copy)?)?,
            };
            copies.push(staging.sync()?);
        }
        // It may have the name that an entry for those who missed theirs gets now.
        drop(first);
        let missed = self.append(appended, is_only)?;
        for copy in self.entries_for(missed) {
            copies.push(source.copy_into(self.stage_queue(&copy)?)?.sync()?);
            self.copies.queued.push(copy);
        }
        for copy in copies {
            copy.commit()?;
        }
        Ok(source)
    }

    /// Appends to mboxes; gives those who have to wait.
    fn append(
        &mut self,
        copies: Vec<(LocalCopy, SyncedFile)>,
        is_only: bool,
    ) -> Result<Vec<(Recipient, Via)>, StoreError> {
        let mut missed = Vec::new();
        for (copy, synced) in copies {
            match synced.commit() {
                Ok(_) => self.copies.local.push(copy),
                Err(error) if is_only => return Err(error),
                Err(error) => missed.push(later(copy, &error)),
            }
        }
        Ok(missed)
    }

    /// Entries of the queue for these recipients alone: the others are staged already.
    fn entries_for(&self, recipients: Vec<(Recipient, Via)>) -> Vec<QueueCopy> {
        let mut ids = self.copies.queued.is_empty().then_some(self.id);
        let mut next_id = || ids.take().unwrap_or_else(|| self.intake.next_id(self.arrival));
        let mut entries = Copies::default();
        for (recipient, way) in recipients {
            entries.queue(recipient, way, &mut next_id);
        }
        entries.queued
    }
}

/// Whose copy the queue has to deliver.
fn later(copy: LocalCopy, error: &StoreError) -> (Recipient, Via) {
    Event::Trouble { doing: "delivering to a mailbox; the queue tries again", error: &error.to_string() }
        .log();
    (copy.recipient, copy.way)
}
