//! Reads the queue without locking or changing anything: for a restart and for lists.
//!
//! A small message costs four system calls: the file is opened, asked for its kind and size, read once and closed.

use super::format::{self, load};
use super::journal::Progress;
use super::{Description, Queue};
use crate::mail::id::QueueId;
use crate::store::{ErrorKind, StoreError};
use rustix::fs::{AtFlags, Dir, DirEntry, FileType, OFlags, fstat, statat};
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
    /// The directory cannot be read.
    pub fn scan(&self) -> Result<Scan<'_>, StoreError> {
        let names = Dir::read_from(&self.queue).map_err(|errno| StoreError::io(&self.path, errno))?;
        Ok(Scan { queue: self, names })
    }

    /// The ids of all entries, oldest first. Needs eight octets of memory for each entry.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn ids(&self) -> Result<Vec<QueueId>, StoreError> {
        let names = Dir::read_from(&self.queue).map_err(|errno| StoreError::io(&self.path, errno))?;
        let files = names.flatten().filter(may_be_file);
        let ids = files.filter_map(|entry| QueueId::parse(&entry.file_name().to_string_lossy()));
        // A heap sorts with a tenth of the code of a sort.
        let ids: BinaryHeap<QueueId> = ids.collect();
        Ok(ids.into_sorted_vec())
    }

    /// Whether an entry is in the queue.
    #[must_use]
    pub fn contains(&self, id: QueueId) -> bool {
        statat(&self.queue, id.to_string(), AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Reads one entry as [`Self::scan`] does; `None` if it is gone.
    pub fn summary(&self, id: QueueId) -> Option<Result<EntrySummary, StoreError>> {
        let path = || self.path.join(id.to_string());
        let file = match self.open_file(id, OFlags::RDONLY) {
            Err(Errno::NOENT) => return None,
            // A link or a socket: the disk is not at fault, and it is not a message.
            Err(Errno::LOOP | Errno::NXIO) => return Some(Err(self.foreign(&id.to_string()))),
            Err(errno) => return Some(Err(StoreError::io(path(), errno))),
            Ok(file) => file,
        };
        let size = match fstat(&file) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile => {
                return Some(Err(self.foreign(&id.to_string())));
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

    fn foreign(&self, name: &str) -> StoreError {
        StoreError::new(ErrorKind::Foreign, self.path.join(name), "not a queue file; left alone")
    }
}

/// Whether a name in the directory may be that of a file: not every file system tells.
fn may_be_file(entry: &DirEntry) -> bool {
    matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown)
}

/// The entries of a queue, in no order.
#[derive(Debug)]
pub struct Scan<'a> {
    queue: &'a Queue,
    names: Dir,
}

impl Iterator for Scan<'_> {
    type Item = Result<EntrySummary, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.names.next()? {
                Ok(entry) => entry,
                Err(errno) => return Some(Err(StoreError::io(&self.queue.path, errno))),
            };
            let name = entry.file_name().to_string_lossy();
            if name == "." || name == ".." {
                continue;
            }
            let Some(id) = QueueId::parse(&name).filter(|_| may_be_file(&entry)) else {
                return Some(Err(self.queue.foreign(&name)));
            };
            if let Some(summary) = self.queue.summary(id) {
                return Some(summary);
            }
        }
    }
}
