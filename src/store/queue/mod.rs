//! The queue: all messages that have been accepted and have not left. One file a message, named by its queue id.
//!
//! **The instant of commit** is the sync of `queue/` after `tmp/ID` was renamed to `queue/ID`. Before it nothing has
//! been promised; after it the message survives any crash. Messages that are renamed before that sync begins share it
//! (`durable::shared_sync`), and removals do. What may lie on the disk, at whatever moment a crash
//! happens:
//!
//! | | where | what | means | who cleans up |
//! |---|---|---|---|---|
//! | S1 | `tmp/ID`, locked | any part of a file | a process is writing it | that process |
//! | S2 | `tmp/ID`, not locked | any part of a file | a crash before the commit: nobody was promised anything | `sweep` unlinks it |
//! | S3 | `tmp/ID` and `queue/ID` | one file, two names | a crash in a commit by link, on a system without `RENAME_NOREPLACE` | `sweep` unlinks the first |
//! | S4 | `queue/ID`, no journal | a whole file | accepted, not tried yet. If the client never got the 250 it sends the message again: a duplicate | the forwarder, when it is done |
//! | S5 | `queue/ID` with a journal | a whole file and records | tried; the records say how far each recipient has come | the forwarder, when all are finished |
//! | S6 | `queue/ID`, torn journal | a whole file, the last record in part | a crash while appending: that attempt is repeated | nobody: the next append begins a new line |
//! | S7 | `queue/ID`, all finished | as S5 | a crash before the unlink, or before its sync | the forwarder, at once |
//! | S8 | `queue/ID`, damaged | a checksum is wrong, or the file is truncated | the disk failed | moved to `corrupt/` and logged; never deleted |
//! | S9 | `queue/` any other name | anything | pillarbox did not make it | nobody: it is reported |
//! | S10 | `corrupt/ID` | as S8 | the operator has to look at it | the operator |
//! | S11 | `queue/ID`, held | as S5, and the last record about holding is `held` | the operator holds it: it is not tried and does not expire | the operator, by `release`, `remove` or `bounce` |
//! | S12 | `queue/ID` with `digest=` and no attempt | a whole file | it waits for similar messages, to leave in one digest with them | the maker of the digest, after the commit of the digest: a crash before that commit changes nothing, a crash after it makes duplicates |
//! | S13 | `queue/ID`, kept | as S11, with a `kept` record | mail to admin that cannot be delivered: as S11, and reported | the operator, or the forwarder after 30 days |
//!
//! The state directory has these other names:
//!
//! | name | mode | holds |
//! |---|---|---|
//! | the state directory itself | 0711 | locked by the process that serves it (`lock_for_serving`) |
//! | `queue/` | 0700 | entries; locked while a process makes a digest (`lock_for_digest`) |
//! | `tmp/` | 0700 | entries before their commit, and temporary names of state files |
//! | `corrupt/` | 0700 | damaged entries, and what was no message in `drop/` ([`super::drop::Aside`] bounds the latter) |
//! | `drop/` | 1733 | messages of local programs: [`super::drop`] |
//! | `tls/`, `sts/`, `digest/`, `clock`, `statistics`, `history` | 0700, 0600 | small files: [`super::state_file`] |
//!
//! What a restart does: `sweep` clears S2 and S3; `scan` lists S4 to S7, S11 to S13 without locking them, moves S8
//! aside and reports S9. No entry is read in full until it is sent.
//!
//! A sweep may unlink a file in `tmp/` between its creation and its lock: the commit of that file fails then, and the
//! client tries again. Only the sweep at a start can do this; later ones skip young files.
//!
//! With `queue.storage = "memory-first"` new entries lie below `queue.memory`, a tmpfs, under the same names and in the same
//! format ([`shelf`]). Nothing is on the disk then, and the instant of commit is the rename: a crash of the program loses
//! nothing, a crash of the system or a power cut does. An entry moves to the disk once, and never back ([`saving`]); then all
//! above applies. At most one name of it counts:
//!
//! | | where | means | who cleans up |
//! |---|---|---|---|
//! | M1 | `tmp/ID` in memory | as S1 and S2 | as there |
//! | M2 | `queue/ID` in memory | as S4 to S7, S11 to S13 | as there |
//! | M3 | `queue/ID` in memory, `tmp/ID` on the disk | it moves; or the process ended meanwhile: the one in memory is true | `sweep` unlinks the second |
//! | M4 | `queue/ID` in memory and on the disk | the same after the rename: the one on the disk is true, and never older | `sweep` and `checkout` unlink the first |
//!
//! An entry is locked with `flock` for a whole attempt, so several processes may work on one queue. The threads of a
//! process share the entry. A file is never rewritten, and never overwritten by another one.

mod checkout;
mod entry;
mod format;
mod journal;
mod listing;
mod saving;
mod shelf;
mod staged;

pub use checkout::Checkout;
pub use entry::{Durability, Entry, EntryContent};
pub use format::{Collected, Description, parse_file};
pub(super) use format::{parse_notify, print_notify};
pub use journal::{JournalEvent, JournalRecord, Progress, RecipientState};
pub use listing::{EntrySummary, Scan};
pub use shelf::InMemory;
pub use staged::StagedEntry;

use self::checkout::Entries;
use self::shelf::{Memory, Shelf};
use super::durable::{self, DirectoryAccess, KnownDirectory, Owner};
use super::{StoreError, try_lock};
use crate::mail::date::WallTime;
use crate::mail::id::QueueId;
use crate::sys::lock::Lock;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, openat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Condvar};

/// The name of the directory of all entries.
const QUEUE: &str = "queue";
/// If a file in `tmp/` has not been written to for this long and its maker is alive, the maker has locked it: one without
/// a lock is safe to unlink.
const SETTLED_SECONDS: u64 = 10;

/// The queue below a state directory.
#[derive(Debug)]
pub struct Queue {
    state: OwnedFd,
    /// The directory of entries on the disk.
    _known: KnownDirectory,
    corrupt: OwnedFd,
    disk: Arc<Shelf>,
    memory: Option<Arc<Memory>>,
    entries: Lock<Entries>,
    /// An entry that was being opened is open, or cannot be opened.
    opened: Condvar,
}

impl Queue {
    /// Opens the queue below `state`. A missing directory is made, durably, and given to `owner`.
    ///
    /// # Errors
    /// A directory could not be made or opened; the error holds its path.
    pub fn open(state: &Path, owner: Option<Owner>) -> Result<Self, StoreError> {
        let open = || {
            let parent = state.parent().unwrap_or(state);
            let passable = Mode::RWXU | Mode::XGRP | Mode::XOTH;
            let directory = match durable::open_directory(state, DirectoryAccess::Read) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    durable::make_directories(parent, passable)?;
                    let name = state.file_name().unwrap_or_default();
                    durable::make_below(
                        durable::open_directory(parent, DirectoryAccess::Read)?,
                        name,
                        passable,
                        owner,
                    )?
                }
                Ok(directory) => {
                    // The process that made it, perhaps just now, may not have synced its name. We do, where we may. The
                    // queue is made after that sync: where it exists, a start costs less.
                    if statat(&directory, QUEUE, AtFlags::SYMLINK_NOFOLLOW).is_err() {
                        let _ = durable::make_directories(state, passable);
                    }
                    directory
                }
                Err(error) => return Err(error),
            };
            let wanted = [QUEUE, "tmp", "corrupt"].map(|name| (name, Mode::RWXU));
            let [queue, tmp, corrupt] = durable::make_each_below(&directory, wanted, owner)?;
            let queue = Arc::new(queue?);
            Ok((directory, KnownDirectory::new(&queue)?, queue, tmp?, corrupt?))
        };
        let (directory, _known, queue, tmp, corrupt) =
            open().map_err(|error: io::Error| StoreError::io(state, error))?;
        let disk = Shelf { path: state.join(QUEUE), queue, tmp: Arc::new(tmp) };
        Ok(Self {
            state: directory,
            _known,
            corrupt,
            disk: Arc::new(disk),
            memory: None,
            entries: Lock::default(),
            opened: Condvar::new(),
        })
    }

    /// Marks the state directory as served by this process, as long as the queue is open. Returns false if another
    /// process serves it.
    ///
    /// # Errors
    /// An I/O error of the lock.
    pub fn lock_for_serving(&self) -> Result<bool, StoreError> {
        try_lock(&self.state).map_err(|errno| StoreError::io(&self.disk.path, errno))
    }

    /// Lets one process at a time make a digest: two would make the same one. `None` if another process holds the
    /// lock.
    #[must_use]
    pub fn lock_for_digest(&self) -> Option<DigestLock<'_>> {
        // If the file system has no such locks, go on: a second process is unlikely there.
        try_lock(&self.disk.queue).unwrap_or(true).then_some(DigestLock(&self.disk.queue))
    }

    /// Unlinks files in `tmp/` that no process holds (S2, S3), and returns how many; and those in memory that the disk has, too
    /// (M4). With the wall time in `settled`, files written to less than [`SETTLED_SECONDS`] ago are skipped.
    ///
    /// # Errors
    /// The directory cannot be read. A file that cannot be unlinked is left for the next sweep.
    pub fn sweep(&self, settled: Option<WallTime>) -> Result<usize, StoreError> {
        let Some(memory) = &self.memory else { return sweep(&self.disk, settled) };
        self.drop_doubles(memory)?;
        Ok(sweep(&self.disk, settled)? + sweep(&memory.shelf, settled)?)
    }

    /// Begins an entry under a temporary name: in memory, if it may lie there and there is room.
    ///
    /// # Errors
    /// `Full` or `Trouble`.
    pub fn stage(&self, id: QueueId, description: &Description) -> Result<StagedEntry, StoreError> {
        self.begin(id, description, true)
    }

    /// As [`Self::stage`], but never in memory.
    ///
    /// # Errors
    /// `Full` or `Trouble`.
    pub fn stage_on_disk(&self, id: QueueId, description: &Description) -> Result<StagedEntry, StoreError> {
        self.begin(id, description, false)
    }

    fn begin(
        &self,
        id: QueueId,
        description: &Description,
        in_memory: bool,
    ) -> Result<StagedEntry, StoreError> {
        // The commit replaces no entry of the same name, but looks in its own directory only.
        let is_taken = |memory: &Memory| self.disk.stat(id).is_ok() || memory.shelf.stat(id).is_ok();
        if self.memory.as_ref().is_some_and(|memory| is_taken(memory)) {
            return Err(StoreError::io(self.disk.path_of(id), Errno::EXIST));
        }
        let memory = self.memory.as_ref().filter(|memory| in_memory && memory.allowance.most() > 0);
        StagedEntry::create(&self.disk, memory, id, description)
    }

    /// Makes all removals so far durable.
    ///
    /// # Errors
    /// An I/O error; what was removed may reappear after a crash.
    pub fn sync(&self) -> Result<(), StoreError> {
        durable::sync_removals(&self.disk.queue).map_err(|error| StoreError::io(&self.disk.path, error))
    }
}

/// Unlinks files in `tmp/` that no process holds; see [`Queue::sweep`].
fn sweep(shelf: &Shelf, settled: Option<WallTime>) -> Result<usize, StoreError> {
    let names = Dir::read_from(&shelf.tmp).map_err(|errno| StoreError::io(&shelf.path, errno))?;
    let is_young = |name: &CStr| {
        let modified = statat(&shelf.tmp, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_mtime);
        let modified = u64::try_from(modified).unwrap_or_default();
        settled.is_some_and(|now| now.seconds() < modified.saturating_add(SETTLED_SECONDS))
    };
    let mut swept = 0;
    for entry in names.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || is_young(name) {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(&shelf.tmp, name, flags, Mode::empty()) else { continue };
        let locked = try_lock(&file).is_ok_and(|locked| locked);
        // This call cannot unlink a directory.
        if locked && unlinkat(&shelf.tmp, name, AtFlags::empty()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

/// The lock that a process holds while it makes a digest.
#[derive(Debug)]
pub struct DigestLock<'a>(&'a OwnedFd);

impl Drop for DigestLock<'_> {
    fn drop(&mut self) {
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests;
