//! A message on its way into the queue, under a temporary name in `tmp/`.
//!
//! ```text
//! create ─▶ write … ─▶ sync ─▶ commit (of store::durable)
//! lock      count      fill in the first line, fsync     rename, fsync of queue/
//! ```
//!
//! The first line is filled in by `sync`, when size and checksum are known; a small message is still in memory then
//! and costs one write. Only writing can fail; the file is discarded then.

use super::format::{Description, ENVELOPE_MAX_OCTETS, HEADER_OCTETS, Header};
use crate::mail::id::QueueId;
use crate::store::durable::{StagedFile, SyncedFile};
use crate::store::{ErrorKind, StoreError};
use memchr::memchr_iter;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

/// An entry that is being written, in `tmp/`.
#[derive(Debug)]
pub struct StagedEntry {
    file: StagedFile,
    queue: Arc<OwnedFd>,
    path: PathBuf,
    header: Header,
    crc: crate::store::crc::Crc,
}

impl StagedEntry {
    pub(super) fn create(
        tmp: &Arc<OwnedFd>,
        id: QueueId,
        description: &Description,
        queue: Arc<OwnedFd>,
        path: PathBuf,
    ) -> Result<Self, StoreError> {
        let envelope = description.print();
        if envelope.len() > ENVELOPE_MAX_OCTETS {
            return Err(StoreError::new(ErrorKind::Trouble, path, "its envelope is too long"));
        }
        let header = Header {
            envelope_octets: envelope.len(),
            message_octets: 0,
            message_lines: 0,
            envelope_crc: crate::store::crc::hash(envelope.as_bytes()),
            message_crc: 0,
        };
        let stage = || {
            let mut file = StagedFile::create(tmp, id.to_string(), None)?;
            file.lock()?;
            file.write(&[b' '; HEADER_OCTETS])?;
            file.write(envelope.as_bytes())?;
            Ok(file)
        };
        let file = stage().map_err(|error: io::Error| StoreError::io(&path, error))?;
        Ok(Self { file, queue, path, header, crc: crate::store::crc::Crc::new() })
    }

    /// Appends `octets` to the message.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The entry cannot be completed afterwards.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        count(&mut self.header, &mut self.crc, octets);
        self.file.write(octets).map_err(|error| StoreError::io(&self.path, error))
    }

    /// Appends `octets` octets of `source`, from `offset` on, to the message.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The entry cannot be completed afterwards.
    pub fn append_from(&mut self, source: &File, offset: u64, octets: u64) -> Result<(), StoreError> {
        let (header, crc) = (&mut self.header, &mut self.crc);
        let result = self.file.append_from(source, offset, octets, |piece| count(header, crc, piece));
        result.map_err(|error| StoreError::io(&self.path, error))
    }

    /// The message so far, for other targets to copy from: the file, its offset, and its size.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The entry cannot be completed afterwards.
    pub fn content_source(&mut self) -> Result<(&File, u64, u64), StoreError> {
        let file = self.file.contents().map_err(|error| StoreError::io(&self.path, error))?;
        Ok((file, self.header.message_offset(), self.header.message_octets))
    }

    /// Completes the first line and puts the entry on stable storage; the commit then makes it visible in the queue.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The file is discarded.
    pub fn sync(mut self) -> Result<SyncedFile, StoreError> {
        self.header.message_crc = self.crc.finalize();
        let written = self.file.write_start(self.header.print().as_bytes());
        written.map_err(|error| StoreError::io(&self.path, error))?;
        self.file.sync(self.queue, self.path)
    }
}

fn count(header: &mut Header, crc: &mut crate::store::crc::Crc, octets: &[u8]) {
    crc.update(octets);
    header.message_octets += octets.len() as u64;
    header.message_lines += memchr_iter(b'\n', octets).count() as u64;
}
