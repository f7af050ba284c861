//! One message of the queue, checked out: its description, its content, and the progress of its recipients.
//!
//! An entry holds the lock of its file as long as it lives. Several threads may share it, each working on other
//! recipients. It reads the file and appends to the journal; it never rewrites anything.
//!
//! What a caller may rely on:
//!
//! - The progress in memory is at least as far as the journal on disk: [`super::Queue::record`] applies a record even
//!   if the write fails. What has been delivered is delivered.
//! - A synced record that could not be written stays in memory, and is written in front of the next ones.
//!   [`super::Queue`] keeps such an entry, and its lock, so that no attempt delivers again.
//! - A lazy record that could not be written is dropped: the only effect is an earlier attempt.
//! - Content is only believed after [`Entry::verify`].
//! - An entry that lies in memory may move to the disk while it is in use ([`super::saving`]). Its content is then read from the
//!   file that it was loaded from, which has no name any more; the journal goes on in the new one.
//!
//! Reading and writing fail with the path of the file.

use super::format::{Description, Header, LoadError, load, load_records, octets_at};
use super::journal::{JournalEvent, JournalRecord, Progress, apply};
use super::shelf::{Memory, Shelf};
use crate::mail::id::QueueId;
use crate::store::durable::sync_data;
use crate::store::room::pages;
use crate::store::{ErrorKind, StoreError};
use crate::sys::lock::Lock;
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

/// How many octets are read at once while a message is checked.
const VERIFY_OCTETS: usize = 64 * 1024;

/// A file up to this size is read once, and kept while the entry is checked out: the envelope, the check and all that is sent
/// come from the same octets.
const KEPT_OCTETS: usize = 64 * 1024;

/// Whether a record must survive a crash that follows it immediately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It must: one sync of the data. For events that would otherwise happen twice.
    Synced,
    /// It need not: losing it only makes the next attempt come sooner.
    Lazy,
}

/// A message of the queue that this process has locked.
#[derive(Debug)]
pub struct Entry {
    id: QueueId,
    path: PathBuf,
    pub(super) file: File,
    header: Header,
    description: Description,
    damaged_records: usize,
    /// The file as it was read at the checkout, if it is small.
    kept: Lock<Option<Arc<Vec<u8>>>>,
    pub(super) journal: Lock<Journal>,
    settling: Lock<()>,
    /// This process has removed the file.
    removed: AtomicBool,
    /// The checkout has just seen that the file is there, and nobody has asked since.
    fresh: AtomicBool,
    /// As of the journal: the queue has to keep the entry.
    pinned: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Journal {
    progress: Vec<Progress>,
    /// Synced records that could not be written; they are written in front of the next ones.
    unwritten: String,
    pub place: Place,
    /// A move to the disk has failed, and left a copy that could not be removed.
    is_doubled: bool,
}

/// Where the file lies that has the name of the entry.
#[derive(Debug)]
pub(super) enum Place {
    /// On the disk, from the start.
    Disk,
    /// In memory, of which it fills so many octets.
    Memory(Arc<Memory>, usize),
    /// On the disk: this is the file, and holds the lock; and its path.
    Moved(File, PathBuf),
}

impl Place {
    /// The file that has the name, if `loaded` is the one that the entry was loaded from.
    fn file<'a>(&'a self, loaded: &'a File) -> &'a File {
        if let Self::Moved(file, _) = self { file } else { loaded }
    }

    /// Its path, if `loaded` is that of the former.
    fn path<'a>(&'a self, loaded: &'a Path) -> &'a Path {
        if let Self::Moved(_, path) = self { path } else { loaded }
    }
}

impl Entry {
    /// An entry whose file was just seen in the queue, with so many octets. `memory`: it lies there, and fills so many octets.
    pub(super) fn load(
        id: QueueId,
        path: PathBuf,
        file: File,
        octets: u64,
        memory: Option<(Arc<Memory>, usize)>,
    ) -> Result<Self, LoadError> {
        let kept = usize::try_from(octets).ok().filter(|&octets| octets <= KEPT_OCTETS);
        let kept = kept.map(|octets| read_whole(&file, octets)).transpose()?;
        let loaded = match &kept {
            Some(kept) => load(&octets_at(kept), kept.len() as u64)?,
            None => load(&|buffer, offset| file.read_at(buffer, offset), octets)?,
        };
        let place = memory.map_or(Place::Disk, |(memory, octets)| Place::Memory(memory, octets));
        let journal = Lock::new(Journal {
            progress: loaded.progress,
            unwritten: String::new(),
            place,
            is_doubled: false,
        });
        Ok(Self {
            id,
            path,
            file,
            header: loaded.header,
            description: loaded.description,
            damaged_records: loaded.damaged_records,
            kept: Lock::new(kept.map(Arc::new)),
            journal,
            settling: Lock::default(),
            removed: AtomicBool::new(false),
            fresh: AtomicBool::new(true),
            pinned: AtomicBool::new(false),
        })
    }

    /// To be held while outcomes are written, reported and followed by a removal, so that two workers at one message do not
    /// both write its notice. Other messages have their own.
    pub fn settle(&self) -> MutexGuard<'_, ()> {
        self.settling.lock()
    }

    /// Whether another thread or process has removed the file meanwhile.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        // Threads of this process say so; other processes were kept out by the lock since the checkout has looked.
        if self.removed.load(Ordering::SeqCst) || self.fresh.swap(false, Ordering::SeqCst) {
            return self.removed.load(Ordering::SeqCst);
        }
        let journal = self.journal.lock();
        journal.place.file(&self.file).metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Whether it lies in memory alone: a power cut loses it.
    #[must_use]
    pub fn is_in_memory(&self) -> bool {
        let journal = self.journal.lock();
        matches!(journal.place, Place::Memory(..)) && !journal.is_doubled
    }

    /// Removes its name.
    pub(super) fn unlink(&self, disk: &Shelf) -> Result<(), StoreError> {
        let mut journal = self.journal.lock();
        self.remove_double(disk, &mut journal)?;
        let unlinked = match &mut journal.place {
            Place::Memory(memory, octets) => memory.shelf.unlink(self.id).inspect(|()| {
                memory.allowance.give_back(std::mem::take(octets));
            }),
            Place::Disk | Place::Moved(..) => disk.unlink(self.id),
        };
        match unlinked {
            Err(errno) if errno != Errno::NOENT => Err(StoreError::io(disk.path_of(self.id), errno)),
            _ => {
                self.removed.store(true, Ordering::SeqCst);
                Ok(())
            }
        }
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

    /// How many lines of the journal were damaged when the entry was checked out.
    #[must_use]
    pub fn damaged_records(&self) -> usize {
        self.damaged_records
    }

    /// Size of the message in canonical form; on the wire it has one more octet for each line.
    #[must_use]
    pub fn message_octets(&self) -> u64 {
        self.header.message_octets
    }

    /// The number of line ends in the message.
    #[must_use]
    pub fn message_lines(&self) -> u64 {
        self.header.message_lines
    }

    /// How far each recipient has come, in the order of the envelope.
    #[must_use]
    pub fn progress(&self) -> Vec<Progress> {
        self.journal.lock().progress.clone()
    }

    /// The records of the journal on disk, in the order in which they were written.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub fn history(&self) -> Result<Vec<JournalRecord>, StoreError> {
        let journal = self.journal.lock();
        let file = journal.place.file(&self.file);
        let path = journal.place.path(&self.path);
        let size = file.metadata().map_err(|error| StoreError::io(path, error))?.len();
        let records = load_records(&|buffer, offset| file.read_at(buffer, offset), size);
        records.map_err(|error| match error {
            LoadError::Io(error) => StoreError::io(path, error),
            LoadError::Corrupt(reason) => self.corrupt(reason),
        })
    }

    /// Whether nothing is left to do for any recipient, so that the entry can be removed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.journal.lock().progress.iter().all(Progress::is_finished)
    }

    /// The message, from octet `offset` on.
    #[must_use]
    pub fn content(&self, offset: u64) -> EntryContent<'_> {
        EntryContent { entry: self, kept: self.kept.lock().clone(), offset }
    }

    /// The file, and the offset of the message in it, for copying together with its size.
    #[must_use]
    pub fn content_source(&self) -> (&File, u64) {
        (&self.file, self.header.message_offset())
    }

    /// Reads the whole message and compares its checksum; call this before sending it.
    ///
    /// # Errors
    /// `Corrupt` if the message has changed or is truncated: set the entry aside then. Other kinds if it cannot be
    /// read at present.
    pub fn verify(&self) -> Result<(), StoreError> {
        let mut crc = crate::store::crc::Crc::new();
        let mut content = self.content(0);
        if let Some(octets) = content.rest() {
            // Fewer octets than the first line says have another checksum, or were found when they were read.
            crc.update(octets);
            content.offset = self.header.message_octets;
        }
        let size = usize::try_from(self.header.message_octets).unwrap_or(usize::MAX).clamp(1, VERIFY_OCTETS);
        let mut buffer = vec![0; size];
        while content.offset < self.header.message_octets {
            match content.read(&mut buffer) {
                Ok(0) => return Err(self.corrupt("its message is truncated")),
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

    /// Applies the records, then appends them with one write. The progress changes even if the write fails: what has
    /// been delivered is delivered.
    pub(super) fn append(
        &self,
        records: &[JournalRecord],
        durability: Durability,
        disk: &Shelf,
    ) -> Result<(), StoreError> {
        let mut journal = self.journal.lock();
        let kept = journal.unwritten.len();
        if kept == 0 {
            journal.unwritten.push('\n');
        }
        for record in records {
            apply(record, &mut journal.progress);
            record.print(&mut journal.unwritten);
        }
        let saved = self.make_room(&mut journal, records, disk);
        let Journal { unwritten, place, .. } = &mut *journal;
        let mut file = place.file(&self.file);
        // Records that failed before must be on the disk before a caller relies on the new ones.
        let must_sync = durability == Durability::Synced || kept > 0;
        let written = file.write_all(unwritten.as_bytes());
        let result = written.and_then(|()| if must_sync { sync_data(file) } else { Ok(()) });
        match (&result, durability) {
            (Ok(()), _) => unwritten.clear(),
            (Err(_), Durability::Lazy) => unwritten.truncate(kept),
            // The queue keeps the entry until the disk has room again: not its octets, too.
            (Err(_), Durability::Synced) => *self.kept.lock() = None,
        }
        let path = place.path(&self.path);
        let result = result.map_err(|error| StoreError::io(path, error));
        self.note_pin(&journal);
        saved.and(result)
    }

    /// Before records are appended in memory: the entry moves to the disk if they have to survive a power cut, or if there is
    /// no room for them. If it cannot, they are written where it lies, and only the former is an error.
    fn make_room(
        &self,
        journal: &mut Journal,
        records: &[JournalRecord],
        disk: &Shelf,
    ) -> Result<(), StoreError> {
        let Journal { unwritten, place, .. } = &mut *journal;
        let Place::Memory(memory, octets) = place else { return Ok(()) };
        let lasts = |record: &JournalRecord| matches!(record.event, JournalEvent::Held | JournalEvent::Kept);
        let must_last = records.iter().any(lasts);
        let size = self.file.metadata().map_or(0, |metadata| metadata.len());
        let more = pages(size + unwritten.len() as u64).saturating_sub(*octets);
        if !must_last && memory.allowance.take(more) {
            *octets += more;
            return Ok(());
        }
        let saved = self.move_to(disk, journal);
        if saved.is_err()
            && let Place::Memory(memory, octets) = &mut journal.place
        {
            memory.allowance.note(more);
            *octets += more;
        }
        if must_last { saved.map(drop) } else { Ok(()) }
    }

    fn note_pin(&self, journal: &Journal) {
        let must_stay = !journal.unwritten.is_empty() || journal.is_doubled;
        self.pinned.store(must_stay, Ordering::SeqCst);
    }

    /// Notes whether a failed move has left a copy on the disk.
    pub(super) fn note_double(&self, is_doubled: bool, journal: &mut Journal) {
        journal.is_doubled = is_doubled;
        self.note_pin(journal);
    }

    /// Removes the copy that a failed move has left on the disk.
    pub(super) fn remove_double(&self, disk: &Shelf, journal: &mut Journal) -> Result<(), StoreError> {
        if !journal.is_doubled {
            return Ok(());
        }
        match disk.unlink(self.id) {
            Err(errno) if errno != Errno::NOENT => Err(StoreError::io(disk.path_of(self.id), errno)),
            _ => {
                self.note_double(false, journal);
                Ok(())
            }
        }
    }

    /// Whether the queue has to keep it: a synced record exists only in this process, or the disk has a copy that lacks
    /// records. Waits for nobody who writes.
    pub(super) fn is_pinned(&self) -> bool {
        self.pinned.load(Ordering::SeqCst)
    }
}

/// Reads the message of an entry.
#[derive(Debug)]
pub struct EntryContent<'a> {
    entry: &'a Entry,
    kept: Option<Arc<Vec<u8>>>,
    offset: u64,
}

impl EntryContent<'_> {
    /// The message from here on, if the entry keeps it in memory.
    #[must_use]
    pub fn rest(&self) -> Option<&[u8]> {
        let header = &self.entry.header;
        let begin = usize::try_from(header.message_offset().saturating_add(self.offset)).ok()?;
        let end = usize::try_from(header.message_offset().saturating_add(header.message_octets)).ok()?;
        self.kept.as_ref()?.get(begin..end)
    }
}

/// Reads a file of this size; if it has become shorter, what there is.
fn read_whole(file: &File, octets: usize) -> io::Result<Vec<u8>> {
    let mut read = vec![0; octets];
    let mut filled = 0;
    while filled < octets {
        match file.read_at(read.get_mut(filled..).unwrap_or_default(), filled as u64) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    read.truncate(filled);
    Ok(read)
}

impl Read for EntryContent<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let header = &self.entry.header;
        let left = header.message_octets.saturating_sub(self.offset);
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..room).unwrap_or_default();
        if piece.is_empty() {
            return Ok(0);
        }
        let place = header.message_offset().saturating_add(self.offset);
        let read = match &self.kept {
            Some(octets) => octets_at(octets)(piece, place)?,
            None => self.entry.file.read_at(piece, place)?,
        };
        self.offset += read as u64;
        Ok(read)
    }
}
