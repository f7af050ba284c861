//! Looks at entries without locking or changing anything: for a restart and for lists.
//!
//! A small message costs four system calls: the file is opened, asked for its kind and size, read once and closed.

use super::Queue;
use super::checkout::open_file;
use super::format::{self, Description, load};
use super::journal::Progress;
use super::shelf::Shelf;
use crate::mail::id::QueueId;
use crate::store::{ErrorKind, StoreError};
use rustix::fs::{Dir, DirEntry, FileType, OFlags, fstat};
use rustix::io::Errno;
use std::collections::BinaryHeap;
use std::os::unix::fs::FileExt;

/// What [`Queue::scan`] returns about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntrySummary {
    /// Its queue id.
    pub id: QueueId,
    /// Envelope, origin and arrival.
    pub description: Description,
    /// Size of the message in canonical form.
    pub message_octets: u64,
    /// How far each recipient has come, in the order of the envelope.
    pub progress: Vec<Progress>,
    /// How many lines of the journal were damaged.
    pub damaged_records: usize,
}

impl Queue {
    /// Reads every entry, for a restart or a listing, without locking it and without reading the messages. Damaged
    /// files are moved to `corrupt/` (`Corrupt`). Files that cannot be read at present stay (`Full`, `Trouble`), and
    /// so do files that pillarbox did not make (`Foreign`).
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn scan(&self) -> Result<Scan<'_>, StoreError> {
        // Memory first: an entry that moves meanwhile is seen in one of them.
        let mut shelves = vec![self.disk.read()?];
        if let Some(memory) = &self.memory {
            shelves.push(memory.shelf.read()?);
        }
        Ok(Scan { queue: self, shelves, seen: Vec::new() })
    }

    /// The ids of all entries, oldest first. Needs eight octets of memory for each entry.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn ids(&self) -> Result<Vec<QueueId>, StoreError> {
        // A heap sorts with a tenth of the code of a sort.
        let mut ids: BinaryHeap<QueueId> = BinaryHeap::new();
        // In this order an entry that moves meanwhile is seen in one of them.
        for shelf in self.memory.iter().map(|memory| &memory.shelf).chain([&self.disk]) {
            let files = shelf.read()?.flatten().filter(may_be_file);
            ids.extend(files.filter_map(|entry| QueueId::parse(&entry.file_name().to_string_lossy())));
        }
        let mut ids = ids.into_sorted_vec();
        ids.dedup();
        Ok(ids)
    }

    /// Whether an entry is in the queue.
    #[must_use]
    pub fn contains(&self, id: QueueId) -> bool {
        self.find(&|shelf| shelf.stat(id)).is_ok()
    }

    /// Reads one entry as [`Self::scan`] does; `None` if it is gone.
    pub fn summary(&self, id: QueueId) -> Option<Result<EntrySummary, StoreError>> {
        let path = || self.disk.path_of(id);
        let file = match self.find(&|shelf| open_file(shelf, id, OFlags::RDONLY)) {
            Err(Errno::NOENT) => return None,
            // A link or a socket: the disk is not at fault, and it is not a message.
            Err(Errno::LOOP | Errno::NXIO) => return Some(Err(self.foreign(id))),
            Err(errno) => return Some(Err(StoreError::io(path(), errno))),
            Ok((file, _)) => file,
        };
        let size = match fstat(&file) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                return Some(Err(self.foreign(id)));
            }
            Ok(stat) => u64::try_from(stat.st_size).unwrap_or_default(),
            Err(errno) => return Some(Err(StoreError::io(path(), errno))),
        };
        let summary = |loaded: format::Loaded| EntrySummary {
            id,
            description: loaded.description,
            message_octets: loaded.header.message_octets,
            progress: loaded.progress,
            damaged_records: loaded.damaged_records,
        };
        let loaded = load(&|buffer, offset| file.read_at(buffer, offset), size);
        Some(loaded.map(summary).map_err(|error| self.load_error(id, error)))
    }

    fn foreign(&self, id: QueueId) -> StoreError {
        let found = self.find(&|shelf| shelf.stat(id));
        let memory = found.ok().and_then(|(_, memory)| memory);
        foreign(memory.map_or(&self.disk, |memory| &memory.shelf), &id.to_string())
    }
}

fn foreign(shelf: &Shelf, name: &str) -> StoreError {
    StoreError::new(ErrorKind::Foreign, shelf.path.join(name), "not a queue file; left alone")
}

/// Whether a name in the directory may be that of a file: not every file system tells.
fn may_be_file(entry: &DirEntry) -> bool {
    matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown)
}

/// The entries of a queue, in no order.
#[derive(Debug)]
pub struct Scan<'a> {
    queue: &'a Queue,
    /// The last one is being read.
    shelves: Vec<Dir>,
    /// The entries that were found in memory.
    seen: Vec<QueueId>,
}

impl Iterator for Scan<'_> {
    type Item = Result<EntrySummary, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let memory = self.queue.memory.as_ref().filter(|_| self.shelves.len() > 1);
            let shelf = memory.map_or(&self.queue.disk, |memory| &memory.shelf);
            let Some(entry) = self.shelves.last_mut()?.next() else {
                self.shelves.pop();
                continue;
            };
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(StoreError::io(&shelf.path, errno))),
            };
            let name = entry.file_name().to_string_lossy();
            if name == "." || name == ".." {
                continue;
            }
            let Some(id) = QueueId::parse(&name).filter(|_| may_be_file(&entry)) else {
                return Some(Err(foreign(shelf, &name)));
            };
            if memory.is_some() {
                self.seen.push(id);
            } else if self.seen.contains(&id) {
                continue;
            }
            if let Some(summary) = self.queue.summary(id) {
                return Some(summary);
            }
        }
    }
}
