//! A copy while it is written: for a mailbox, or for the queue. Dropping it unlinks its temporary name.

use super::Incoming;
use super::content::FirstTarget;
use crate::engine::intake::copies::{LocalCopy, QueueCopy, Via};
use crate::engine::intake::final_delivery::FinalDelivery;
use crate::store::StoreError;
use crate::store::durable::SyncedFile;
use crate::store::queue::{Description, StagedEntry};
use std::fs::File;

/// A copy that is being written.
pub(super) enum Staging {
    Maildir(FinalDelivery),
    Queue(StagedEntry),
}

impl Staging {
    pub(super) fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        match self {
            Self::Maildir(delivery) => delivery.write(octets),
            Self::Queue(entry) => entry.write(octets),
        }
    }

    pub(super) fn append_from(&mut self, source: &File, offset: u64, octets: u64) -> Result<(), StoreError> {
        match self {
            Self::Maildir(delivery) => delivery.append_from(source, offset, octets),
            Self::Queue(entry) => entry.append_from(source, offset, octets),
        }
    }

    /// The offset in the file at which the octets written so far end.
    pub(super) fn position(&mut self) -> Result<u64, StoreError> {
        match self {
            Self::Maildir(delivery) => Ok(delivery.octets()),
            Self::Queue(entry) => entry.content_source().map(|(_, offset, octets)| offset + octets),
        }
    }

    /// The file, after what is buffered was written to it.
    pub(super) fn file(&mut self) -> Result<File, StoreError> {
        let file = match self {
            Self::Maildir(delivery) => delivery.content_source()?,
            Self::Queue(entry) => entry.content_source()?.0,
        };
        file.try_clone().map_err(|error| StoreError::io("", error))
    }

    pub(super) fn sync(self) -> Result<SyncedFile, StoreError> {
        match self {
            Self::Maildir(delivery) => delivery.sync(),
            Self::Queue(entry) => entry.sync(),
        }
    }
}

impl Incoming<'_> {
    pub(super) fn stage(&self, which: FirstTarget) -> Result<Staging, StoreError> {
        let late = || QueueCopy { id: self.id, via: Via::default(), recipients: Vec::new() };
        match which {
            FirstTarget::Local(i) => self.copies.local.get(i).map(|copy| self.stage_local(copy)),
            FirstTarget::Queue(i) => self.copies.queued.get(i).map(|copy| self.stage_queue(copy)),
        }
        .unwrap_or_else(|| self.stage_queue(&late()))
    }

    pub(super) fn stage_local(&self, copy: &LocalCopy) -> Result<Staging, StoreError> {
        let delivery = self.intake.maildirs.stage(&copy.path, self.arrival.wall)?;
        let reverse_path = copy.via.reverse_path(&self.submission.reverse_path);
        let mut delivery = FinalDelivery::begin(delivery, &reverse_path, &copy.recipient.mailbox)?;
        delivery.write(self.trace.as_bytes())?;
        if self.submission.is_hurried {
            delivery.hurry();
        }
        Ok(Staging::Maildir(delivery))
    }

    pub(super) fn stage_queue(&self, copy: &QueueCopy) -> Result<Staging, StoreError> {
        let mut envelope = copy.via.envelope(&self.submission);
        envelope.recipients.clone_from(&copy.recipients);
        // A large message is staged before its end has arrived: a field behind the first 64 KiB has no effect.
        envelope.is_urgent = self.scanner.is_urgent();
        let (origin, arrival) = (self.submission.client.clone(), self.arrival);
        let dated = self.submission.dated.or(self.is_dated.then_some(arrival));
        let description = Description { envelope, origin, arrival, digest: self.digest, dated };
        let queue = &self.intake.queue;
        let mut entry = if self.submission.is_new {
            queue.stage(copy.id, &description)?
        } else {
            queue.stage_on_disk(copy.id, &description)?
        };
        entry.write(copy.via.field().as_bytes())?;
        entry.write(self.trace.as_bytes())?;
        Ok(Staging::Queue(entry))
    }
}
