//! A message on its way into the queue, under a temporary name in `tmp/`.
//!
//! ```text
//! create ─▶ write … ─▶ sync ─▶ commit (of store::durable)
//! lock      count      fill in the first line, fsync     rename, fsync of queue/
//! ```
//!
//! An entry that begins in memory goes on below `tmp/` of the disk as soon as it does not fit any more. The first line is filled
//! in by `sync`, when size and checksum are known; a small message is still in memory then
//! and costs one write. Only writing can fail; the file is discarded then.

use super::format::{Description, ENVELOPE_MAX_OCTETS, HEADER_OCTETS, Header};
use super::shelf::{Memory, Shelf};
use crate::mail::id::QueueId;
use crate::store::durable::{StagedFile, SyncedFile};
use crate::store::room::Room;
use crate::store::{ErrorKind, StoreError};
use memchr::memchr_iter;
use std::fs::File;
use std::io;
use std::sync::Arc;

/// An entry that is being written, in `tmp/`.
#[derive(Debug)]
pub struct StagedEntry {
    id: QueueId,
    file: StagedFile,
    shelf: Arc<Shelf>,
    /// Where it goes on if it lies in memory and does not fit.
    disk: Option<Arc<Shelf>>,
    header: Header,
    crc: crate::store::crc::Crc,
}

impl StagedEntry {
    pub(super) fn create(
        disk: &Arc<Shelf>,
        memory: Option<&Arc<Memory>>,
        id: QueueId,
        description: &Description,
    ) -> Result<Self, StoreError> {
        let envelope = description.print();
        if envelope.len() > ENVELOPE_MAX_OCTETS {
            return Err(StoreError::new(ErrorKind::Trouble, disk.path_of(id), "its envelope is too long"));
        }
        let header = Header {
            envelope_octets: envelope.len(),
            message_octets: 0,
            message_lines: 0,
            envelope_crc: crate::store::crc::hash(envelope.as_bytes()),
            message_crc: 0,
        };
        let start = [&[b' '; HEADER_OCTETS], envelope.as_bytes()].concat();
        let stage = |shelf: &Arc<Shelf>, room: Option<Room>| {
            let mut file = create(shelf, id, room)?;
            if !file.makes_room(start.len() as u64) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            file.write(&start)?;
            Ok(file)
        };
        let in_memory = memory.and_then(|memory| {
            let room = Room::new(Arc::clone(&memory.allowance));
            Some((Arc::clone(&memory.shelf), Some(Arc::clone(disk)), stage(&memory.shelf, Some(room)).ok()?))
        });
        let (shelf, disk, file) = match in_memory {
            Some(begun) => begun,
            None => {
                let file = stage(disk, None);
                let file = file.map_err(|error: io::Error| StoreError::io(disk.path_of(id), error))?;
                (Arc::clone(disk), None, file)
            }
        };
        Ok(Self { id, file, shelf, disk, header, crc: crate::store::crc::Crc::new() })
    }

    /// Appends `octets` to the message.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The entry cannot be completed afterwards.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        count(&mut self.header, &mut self.crc, octets);
        self.put(octets.len() as u64, &mut |file| file.write(octets))
    }

    /// Appends `octets` octets of `source`, from `offset` on, to the message.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The entry cannot be completed afterwards.
    pub fn append_from(&mut self, source: &File, offset: u64, octets: u64) -> Result<(), StoreError> {
        let before = (self.header, self.crc.clone());
        let mut counted = before.clone();
        let done = self.put(octets, &mut |file| {
            counted = before.clone();
            file.append_from(source, offset, octets, |piece| count(&mut counted.0, &mut counted.1, piece))
        });
        (self.header, self.crc) = counted;
        done
    }

    /// The message so far, for other targets to copy from: the file, its offset, and its size.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The entry cannot be completed afterwards.
    pub fn content_source(&mut self) -> Result<(&File, u64, u64), StoreError> {
        let (offset, octets) = (self.header.message_offset(), self.header.message_octets);
        self.put(0, &mut |file| file.contents().map(drop))?;
        let file =
            self.file.contents().map_err(|error| StoreError::io(self.shelf.path_of(self.id), error))?;
        Ok((file, offset, octets))
    }

    /// Completes the first line and puts the entry on stable storage; the commit then makes it visible in the queue.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The file is discarded.
    pub fn sync(mut self) -> Result<SyncedFile, StoreError> {
        self.header.message_crc = self.crc.clone().finalize();
        let line = self.header.print();
        self.put(0, &mut |file| file.write_start(line.as_bytes()))?;
        if self.disk.is_some() {
            // While it can still go on elsewhere.
            self.put(0, &mut |file| file.contents().map(drop))?;
        }
        let path = self.shelf.path_of(self.id);
        self.file.sync(Arc::clone(&self.shelf.queue), path)
    }

    /// Writes with `write`, which appends `octets`. If that fails in memory, or there is no room, the entry goes on on the disk.
    fn put(
        &mut self,
        octets: u64,
        write: &mut dyn FnMut(&mut StagedFile) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let before = self.file.octets();
        let is_done = self.disk.is_some() && self.file.makes_room(octets) && write(&mut self.file).is_ok();
        if is_done {
            return Ok(());
        }
        let mut put = || {
            if let Some(disk) = self.disk.take() {
                let mut file = create(&disk, self.id, None)?;
                self.file.copy_start(before, &mut file)?;
                (self.file, self.shelf) = (file, disk);
            }
            write(&mut self.file)
        };
        put().map_err(|error| StoreError::io(self.shelf.path_of(self.id), error))
    }
}

fn create(shelf: &Shelf, id: QueueId, room: Option<Room>) -> io::Result<StagedFile> {
    let mut file = StagedFile::create(&shelf.tmp, id.to_string(), None)?;
    file.lock()?;
    if let Some(room) = room {
        file.charge(room);
    }
    Ok(file)
}

fn count(header: &mut Header, crc: &mut crate::store::crc::Crc, octets: &[u8]) {
    crc.update(octets);
    header.message_octets += octets.len() as u64;
    header.message_lines += memchr_iter(b'\n', octets).count() as u64;
}
