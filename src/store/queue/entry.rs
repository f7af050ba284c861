//! One message of the queue, checked out: its description, its content, and the progress of its recipients.
//!
//! Holds the lock of its file as long as it lives; several threads may share it, each working on other recipients.
//! Never rewrites anything: it reads, and appends to the journal. What may fail: reading and writing, with the path.

use super::format::{Description, Header, LoadError, load, load_records};
use super::journal::{Progress, Record, apply};
use crate::mail::id::QueueId;
use crate::store::durable::sync_data;
use crate::store::{ErrorKind, StoreError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Read at once while a message is checked.
const VERIFY_OCTETS: usize = 64 * 1024;

/// Whether a record has to survive a crash that comes right after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Yes: one sync of the data. For what would be done twice otherwise.
    Synced,
    /// No: losing it only means that the next attempt comes sooner.
    Lazy,
}

/// A message of the queue that this process has locked.
#[derive(Debug)]
pub struct Entry {
    id: QueueId,
    path: PathBuf,
    file: File,
    header: Header,
    description: Description,
    damaged_records: usize,
    journal: Mutex<Journal>,
    settling: Mutex<()>,
}

#[derive(Debug)]
struct Journal {
    progress: Vec<Progress>,
    /// Synced records that could not be written; they go ahead of the next ones.
    unwritten: String,
}

/// Takes a lock that a panic elsewhere may have poisoned: what it guards is whole at every moment.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entry {
    pub(super) fn load(id: QueueId, path: PathBuf, file: File) -> Result<Self, LoadError> {
        let loaded = load(&|buffer, offset| file.read_at(buffer, offset))?;
        let journal = Mutex::new(Journal { progress: loaded.progress, unwritten: String::new() });
        let (header, description, damaged_records) =
            (loaded.header, loaded.description, loaded.damaged_records);
        let settling = Mutex::default();
        Ok(Self { id, path, file, header, description, damaged_records, journal, settling })
    }

    /// To be held while outcomes are written, reported and followed by a removal, so that two workers at one message do not
    /// both write its notice. Other messages have their own.
    pub fn settle(&self) -> MutexGuard<'_, ()> {
        lock(&self.settling)
    }

    /// Whether another thread or process has removed the file meanwhile.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Its queue id.
    #[must_use]
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Envelope, origin and arrival.
    #[must_use]
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Lines of the journal that were damaged when the entry was checked out.
    #[must_use]
    pub fn damaged_records(&self) -> usize {
        self.damaged_records
    }

    /// Size of the message in canonical form; on the wire it has one octet more for each line.
    #[must_use]
    pub fn message_octets(&self) -> u64 {
        self.header.message_octets
    }

    /// Line ends in the message.
    #[must_use]
    pub fn message_lines(&self) -> u64 {
        self.header.message_lines
    }

    /// How far each recipient has come, in the order of the envelope.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        lock(&self.journal).progress.clone()
    }

    /// What its journal tells on the disk, in the order in which it was written.
    ///
    /// # Errors
    /// It can't be read.
    pub fn history(&self) -> Result<Vec<Record>, StoreError> {
        let records = load_records(&|buffer, offset| self.file.read_at(buffer, offset));
        records.map_err(|error| match error {
            LoadError::Io(error) => StoreError::io(&self.path, error),
            LoadError::Corrupt(reason) => self.corrupt(reason),
        })
    }

    /// Whether nothing is left to do for any recipient, so that the entry can be removed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        lock(&self.journal).progress.iter().all(Progress::is_finished)
    }

    /// The message, from octet `offset` on.
    #[must_use]
    pub fn content(&self, offset: u64) -> Content<'_> {
        Content { entry: self, offset }
    }

    /// The file, and where in it the message begins, for copying with its size.
    #[must_use]
    pub fn content_source(&self) -> (&File, u64) {
        (&self.file, self.header.message_offset())
    }

    /// Reads the whole message and compares its checksum; to be done before it is sent.
    ///
    /// # Errors
    /// `Corrupt` if it has changed or is cut short: set it aside then. Other kinds if it can't be read now.
    pub fn verify(&self) -> Result<(), StoreError> {
        let mut crc = crate::store::crc::Crc::new();
        let mut content = self.content(0);
        let size = usize::try_from(self.header.message_octets).unwrap_or(usize::MAX).clamp(1, VERIFY_OCTETS);
        let mut buffer = vec![0; size];
        while content.offset < self.header.message_octets {
            match content.read(&mut buffer) {
                Ok(0) => return Err(self.corrupt("its message is cut short")),
                Ok(read) => crc.update(buffer.get(..read).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(StoreError::io(&self.path, error)),
            }
        }
        let sound = crc.finalize() == self.header.message_crc;
        if sound { Ok(()) } else { Err(self.corrupt("its message is damaged")) }
    }

    fn corrupt(&self, reason: &'static str) -> StoreError {
        StoreError::new(ErrorKind::Corrupt, &self.path, reason)
    }

    /// Applies the records, then appends them with one write. The progress is changed even if the write fails: what
    /// has been delivered is delivered.
    pub(super) fn append(&self, records: &[Record], durability: Durability) -> Result<(), StoreError> {
        let mut journal = lock(&self.journal);
        let kept = journal.unwritten.len();
        if kept == 0 {
            journal.unwritten.push('\n');
        }
        for record in records {
            apply(record, &mut journal.progress);
            record.print(&mut journal.unwritten);
        }
        // Records that failed before must be on the disk before anybody relies on it.
        let must_sync = durability == Durability::Synced || kept > 0;
        let written = (&self.file).write_all(journal.unwritten.as_bytes());
        let result = written.and_then(|()| if must_sync { sync_data(&self.file) } else { Ok(()) });
        match (&result, durability) {
            (Ok(()), _) => journal.unwritten.clear(),
            (Err(_), Durability::Lazy) => journal.unwritten.truncate(kept),
            (Err(_), Durability::Synced) => {}
        }
        result.map_err(|error| StoreError::io(&self.path, error))
    }

    /// Whether something synced has been done that the disk does not know of.
    pub(super) fn has_unwritten(&self) -> bool {
        !lock(&self.journal).unwritten.is_empty()
    }
}

/// Reads the message of an entry.
#[derive(Debug)]
pub struct Content<'a> {
    entry: &'a Entry,
    offset: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let header = &self.entry.header;
        let left = header.message_octets.saturating_sub(self.offset);
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..room).unwrap_or_default();
        if piece.is_empty() {
            return Ok(0);
        }
        let read = self.entry.file.read_at(piece, header.message_offset().saturating_add(self.offset))?;
        self.offset += read as u64;
        Ok(read)
    }
}
