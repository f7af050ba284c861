//! A copy while it is written: for a mailbox, or for the queue. Dropping it unlinks its temporary name.

use crate::engine::intake::final_delivery::FinalDelivery;
use crate::store::StoreError;
use crate::store::durable::SyncedFile;
use crate::store::queue::StagedEntry;
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
