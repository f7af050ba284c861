//! Puts the copies of a message on stable storage: stages all, then commits all.
//!
//! | step | copies | on failure |
//! | --- | --- | --- |
//! | 1 stage and sync | of Maildirs and mboxes | the only copy: the message is refused. Else the copy moves to the queue |
//! | 2 stage and sync | of the queue | the message is refused |
//! | 3 append | of mboxes | as in step 1, by a queue entry of its own |
//! | 4 rename | of Maildirs and the queue | the message is refused; copies before this one stay |
//!
//! A copy for an mbox cannot be renamed into place: its commit is the append itself, which may fail as any write does.
//! So it comes after everything else was staged, and before the first rename.

use super::Incoming;
use super::content::{FirstTarget, PartialContent, WholeContent};
use super::staging::Staging;
use crate::engine::intake::copies::{Copies, LocalCopy, QueueCopy, Via};
use crate::engine::intake::refusal::Refusal;
use crate::engine::log::event::trouble;
use crate::mail::envelope::Recipient;
use crate::store::StoreError;
use crate::store::durable::SyncedFile;

impl Incoming<'_> {
    /// Stages every copy, commits all, and returns the content.
    pub(super) fn store_copies(&mut self) -> Result<WholeContent, Refusal> {
        let (mut first, source) =
            match std::mem::replace(&mut self.content, PartialContent::Memory(Vec::new())) {
                PartialContent::Memory(buffer) => (None, WholeContent::Memory(buffer)),
                PartialContent::File { first, mut staging, offset, octets } => {
                    // The other copies are made from this file, even if it is discarded below.
                    let file = staging.file()?;
                    (Some((first, *staging)), WholeContent::File { file, offset, octets })
                }
            };
        let is_only = self.copies.count() == 1;
        let mut copies = Vec::with_capacity(self.copies.count() + 1);
        let (mut kept, mut failed, mut appended) = (Vec::new(), Vec::new(), Vec::new());
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
                // The client can send again if no other copy exists. Otherwise the queue retries this copy.
                Err(error) if is_only => return Err(error.into()),
                Err(error) => failed.push(to_retry(copy, &error)),
            }
        }
        self.copies.local = kept;
        if !failed.is_empty() {
            // The begun entry lacks these recipients, and the entry that takes its place needs its name.
            first = None;
        }
        self.queue_all(failed);
        for (i, copy) in self.copies.queued.iter().enumerate() {
            let staging = match first.take_if(|(which, _)| *which == FirstTarget::Queue(i)) {
                Some((_, staging)) => staging,
                None => source.copy_into(self.stage_queue(copy)?)?,
            };
            copies.push(staging.sync()?);
        }
        // An entry for the failed mboxes may need the name of this file.
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

    /// Appends to mboxes, and returns the recipients whose copy failed.
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
                Err(error) => missed.push(to_retry(copy, &error)),
            }
        }
        Ok(missed)
    }

    /// New queue entries for these recipients; the entries for all others are staged already.
    fn entries_for(&self, recipients: Vec<(Recipient, Via)>) -> Vec<QueueCopy> {
        let mut ids = self.copies.queued.is_empty().then_some(self.id);
        let mut next_id = || ids.take().unwrap_or_else(|| self.intake.next_id(self.arrival));
        let mut entries = Copies::default();
        for (recipient, via) in recipients {
            entries.queue(recipient, via, &mut next_id);
        }
        entries.queued
    }
}

/// Logs a failed delivery, and returns the recipient for the queue.
fn to_retry(copy: LocalCopy, error: &StoreError) -> (Recipient, Via) {
    trouble("delivering to a mailbox; the queue tries again", error);
    (copy.recipient, copy.via)
}
