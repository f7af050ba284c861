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
//! An entry is locked with `flock` for a whole attempt, so several processes may work on one queue. The threads of a
//! process share the entry. A file is never rewritten, and never overwritten by another one.

mod entry;
mod format;
mod journal;
mod scan;
mod staged;

pub use entry::{Durability, Entry, EntryContent};
pub use format::{Collected, Description, parse_file};
pub(super) use format::{parse_notify, print_notify};
pub use journal::{JournalEvent, JournalRecord, Progress, RecipientState};
pub use scan::{EntrySummary, Scan};
pub use staged::StagedEntry;

use super::durable::{self, DirectoryAccess, KnownDirectory, Owner};
use super::{ErrorKind, StoreError, try_lock};
use crate::mail::date::WallTime;
use crate::mail::id::QueueId;
use crate::sys::lock::{Lock, wait};

use format::LoadError;
use rustix::fs::{AtFlags, Dir, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Weak};

/// The name of the directory of all entries.
const QUEUE: &str = "queue";
/// If a file in `tmp/` has not been written to for this long and its maker is alive, the maker has locked it: one without
/// a lock is safe to unlink.
const SETTLED_SECONDS: u64 = 10;
/// How many names are tried for a damaged file in `corrupt/`.
const CORRUPT_NAMES: usize = 100;

/// The queue below a state directory.
#[derive(Debug)]
pub struct Queue {
    path: PathBuf,
    state: OwnedFd,
    queue: Arc<OwnedFd>,
    /// That directory.
    _known: KnownDirectory,
    tmp: Arc<OwnedFd>,
    corrupt: OwnedFd,
    entries: Lock<Entries>,
    /// An entry that was being opened is open, or cannot be opened.
    opened: Condvar,
}

#[derive(Debug, Default)]
struct Entries {
    /// The entries that are checked out.
    open: HashMap<QueueId, Weak<Entry>>,
    /// Those that a thread is just opening. Others who want the same one wait for it; all others go on.
    opening: Vec<QueueId>,
    /// How many threads wait for one of those. Telling nobody would cost a system call.
    waiting: usize,
    /// Entries with a synced record that could not be written: something has been delivered, and the disk did not
    /// take the record. Without it every attempt would deliver again.
    unwritten: HashMap<QueueId, Arc<Entry>>,
}

/// The result of a checkout.
#[derive(Debug)]
pub enum Checkout {
    /// The entry, locked until the last of its holders drops it.
    Ready(Arc<Entry>),
    /// Another process works on it, or a thread of this process is just dropping it.
    Busy,
    /// It is not in the queue, or no longer.
    Gone,
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
        Ok(Self {
            path: state.join(QUEUE),
            state: directory,
            queue,
            _known,
            tmp: Arc::new(tmp),
            corrupt,
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
        try_lock(&self.state).map_err(|errno| StoreError::io(&self.path, errno))
    }

    /// Lets one process at a time make a digest: two would make the same one. `None` if another process holds the
    /// lock.
    #[must_use]
    pub fn lock_for_digest(&self) -> Option<DigestLock<'_>> {
        // If the file system has no such locks, go on: a second process is unlikely there.
        try_lock(&self.queue).unwrap_or(true).then_some(DigestLock(&self.queue))
    }

    /// Unlinks files in `tmp/` that no process holds (S2, S3), and returns how many. With the wall time in `settled`,
    /// files written to less than [`SETTLED_SECONDS`] ago are skipped.
    ///
    /// # Errors
    /// The directory cannot be read. A file that cannot be unlinked is left for the next sweep.
    pub fn sweep(&self, settled: Option<WallTime>) -> Result<usize, StoreError> {
        let names = Dir::read_from(&self.tmp).map_err(|errno| StoreError::io(&self.path, errno))?;
        let is_young = |name: &CStr| {
            let modified = statat(&self.tmp, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| stat.st_mtime);
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
            let Ok(file) = openat(&self.tmp, name, flags, Mode::empty()) else { continue };
            let locked = try_lock(&file).is_ok_and(|locked| locked);
            // This call cannot unlink a directory.
            if locked && unlinkat(&self.tmp, name, AtFlags::empty()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Begins an entry under a temporary name.
    ///
    /// # Errors
    /// `Full` or `Trouble`.
    pub fn stage(&self, id: QueueId, description: &Description) -> Result<StagedEntry, StoreError> {
        StagedEntry::create(
            &self.tmp,
            id,
            description,
            Arc::clone(&self.queue),
            self.path.join(id.to_string()),
        )
    }

    /// Locks an entry for an attempt. Threads that ask while it is checked out share it.
    ///
    /// # Errors
    /// `Corrupt` if it was damaged and has been moved to `corrupt/`. Otherwise it stays and cannot be read at
    /// present.
    pub fn checkout(&self, id: QueueId) -> Result<Checkout, StoreError> {
        let mut entries = self.entries.lock();
        loop {
            if let Some(entry) = entries.open.get(&id).and_then(Weak::upgrade) {
                return Ok(Checkout::Ready(entry));
            }
            if !entries.opening.contains(&id) {
                break;
            }
            entries.waiting += 1;
            entries = wait(&self.opened, entries);
            entries.waiting -= 1;
        }
        entries.open.retain(|_, entry| entry.strong_count() > 0);
        entries.opening.push(id);
        drop(entries);
        let opening = Opening { queue: self, id };
        let checkout = self.open_entry(id);
        if let Ok(Checkout::Ready(entry)) = &checkout {
            self.entries.lock().open.insert(id, Arc::downgrade(entry));
        }
        drop(opening);
        checkout
    }

    fn open_entry(&self, id: QueueId) -> Result<Checkout, StoreError> {
        let path = self.path.join(id.to_string());
        let file = match self.open_file(id, OFlags::RDWR | OFlags::APPEND) {
            Err(Errno::NOENT) => return Ok(Checkout::Gone),
            result => result.map_err(|errno| StoreError::io(&path, errno))?,
        };
        if !try_lock(&file).map_err(|errno| StoreError::io(&path, errno))? {
            return Ok(Checkout::Busy);
        }
        // The previous holder of the lock may have removed the entry.
        let stat = fstat(&file).map_err(|errno| StoreError::io(&path, errno))?;
        if stat.st_nlink == 0 {
            return Ok(Checkout::Gone);
        }
        let octets = u64::try_from(stat.st_size).unwrap_or_default();
        let entry = Entry::load(id, path, file, octets).map_err(|error| self.load_error(id, error))?;
        Ok(Checkout::Ready(Arc::new(entry)))
    }

    /// Applies records to an entry and appends them to its journal, with one write and at most one sync.
    ///
    /// # Errors
    /// `Full` or `Trouble`; the records have been applied all the same. Synced records are kept in memory, with the
    /// entry and its lock, and written in front of the next ones; lazy records are forgotten when the entry is
    /// dropped.
    pub fn record(
        &self,
        entry: &Arc<Entry>,
        records: &[JournalRecord],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let result = entry.append(records, durability);
        let mut entries = self.entries.lock();
        if entry.has_unwritten() {
            entries.unwritten.insert(entry.id(), Arc::clone(entry));
        } else {
            entries.unwritten.remove(&entry.id());
        }
        result
    }

    /// Unlinks an entry. Call [`Self::sync`] after one or more removals; until then a crash may bring the entry back.
    ///
    /// # Errors
    /// An I/O error. An entry that is already gone is not an error.
    pub fn remove(&self, entry: &Entry) -> Result<(), StoreError> {
        match unlinkat(&self.queue, entry.id().to_string(), AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => {
                Err(StoreError::io(self.path.join(entry.id().to_string()), errno))
            }
            _ => {
                entry.note_removal();
                // Threads that ask from now on find the entry gone, even while others still hold it.
                let mut entries = self.entries.lock();
                entries.open.remove(&entry.id());
                entries.unwritten.remove(&entry.id());
                Ok(())
            }
        }
    }

    /// Makes all removals so far durable.
    ///
    /// # Errors
    /// An I/O error; what was removed may reappear after a crash.
    pub fn sync(&self) -> Result<(), StoreError> {
        durable::sync_removals(&self.queue).map_err(|error| StoreError::io(&self.path, error))
    }

    /// Moves a damaged file to `corrupt/` and logs the reason. If its name is taken there, it gets a number behind
    /// it.
    ///
    /// # Errors
    /// An I/O error; the file stays where it is. A file that is already gone is not an error.
    pub fn set_aside(&self, id: QueueId, reason: &str) -> Result<(), StoreError> {
        let name = id.to_string();
        let mut to = name.clone();
        let mut number = 0;
        loop {
            let moved = durable::move_file(self.queue.as_fd(), &name, self.corrupt.as_fd(), &to);
            match moved.map_err(|error| (error.kind(), error)) {
                Ok(()) => {
                    // Logged here, so that it is in the log regardless of which caller found it.
                    log::error!(target: "pillarbox", "event=corrupt id={id} file=corrupt/{to} reason={reason:?}");
                    return Ok(());
                }
                Err((io::ErrorKind::NotFound, _)) => return Ok(()),
                Err((io::ErrorKind::AlreadyExists, _)) if number < CORRUPT_NAMES => {
                    number += 1;
                    to = format!("{name}.{number}");
                }
                Err((_, error)) => return Err(StoreError::io(self.path.join(name), error)),
            }
        }
    }

    fn open_file(&self, id: QueueId, access: OFlags) -> Result<File, Errno> {
        let open = |flags| {
            let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            openat(&self.queue, id.to_string(), flags, Mode::empty()).map(File::from)
        };
        // A first reading would be written to the disk, as the file's time of access. Only the owner may do without.
        match open(access | OFlags::NOATIME) {
            Err(Errno::PERM) => open(access),
            result => result,
        }
    }

    /// Sets a damaged file aside, and returns the error to report.
    fn load_error(&self, id: QueueId, error: LoadError) -> StoreError {
        let path = self.path.join(id.to_string());
        match error {
            LoadError::Io(error) => StoreError::io(path, error),
            LoadError::Corrupt(reason) => match self.set_aside(id, reason) {
                Ok(()) => StoreError::new(ErrorKind::Corrupt, path, reason),
                Err(error) => error,
            },
        }
    }
}

/// The lock that a process holds while it makes a digest.
#[derive(Debug)]
pub struct DigestLock<'a>(&'a OwnedFd);

impl Drop for DigestLock<'_> {
    fn drop(&mut self) {
        let _ = flock(self.0, FlockOperation::Unlock);
    }
}

/// An entry that is being opened; its end, also by a panic, is the end of the wait of others.
struct Opening<'a> {
    queue: &'a Queue,
    id: QueueId,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        let mut entries = self.queue.entries.lock();
        entries.opening.retain(|id| *id != self.id);
        let is_awaited = entries.waiting > 0;
        drop(entries);
        if is_awaited {
            self.queue.opened.notify_all();
        }
    }
}

#[cfg(test)]
mod tests;
