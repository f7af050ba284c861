//! Entries in use: locked for an attempt, written to, removed, set aside.

use super::Queue;
use super::entry::{Durability, Entry};
use super::format::LoadError;
use super::journal::JournalRecord;
use super::shelf::{Memory, Shelf, size_in_pages};
use crate::mail::id::QueueId;
use crate::store::durable;
use crate::store::{ErrorKind, StoreError, try_lock};
use crate::sys::lock::wait;
use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

/// How many names are tried for a damaged file in `corrupt/`.
const CORRUPT_NAMES: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Entries {
    /// The entries that are checked out.
    pub(super) open: HashMap<QueueId, Weak<Entry>>,
    /// Those that a thread is just opening. Others who want the same one wait for it; all others go on.
    opening: Vec<QueueId>,
    /// How many threads wait for one of those. Telling nobody would cost a system call.
    waiting: usize,
    /// Entries with a synced record that could not be written: something has been delivered, and the disk did not
    /// take the record. Without it every attempt would deliver again. And those of which a failed move has left a copy.
    pub(super) unwritten: HashMap<QueueId, Arc<Entry>>,
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
        let path = self.disk.path_of(id);
        let failed = |errno| StoreError::io(&path, errno);
        // An entry in memory may move to the disk while this looks: once.
        for _ in 0..2 {
            let opened = self.find(&|shelf| open_file(shelf, id, OFlags::RDWR | OFlags::APPEND));
            let (file, memory) = match opened {
                Err(Errno::NOENT) => return Ok(Checkout::Gone),
                opened => opened.map_err(failed)?,
            };
            if !try_lock(&file).map_err(failed)? {
                return Ok(Checkout::Busy);
            }
            let stat = fstat(&file).map_err(failed)?;
            match (memory, &self.memory) {
                // The previous holder of the lock may have moved the entry, or have ended in the middle of that.
                (Some(_), _) if stat.st_nlink == 0 || self.disk.stat(id).is_ok() => continue,
                // A move that failed has removed its copy: the entry is still in memory.
                (None, Some(_)) if stat.st_nlink == 0 => continue,
                (None, Some(memory)) if memory.shelf.stat(id).is_ok() => {
                    // The process that moved it may have ended before its own sync.
                    durable::sync_directory(&self.disk.queue)
                        .map_err(|error| StoreError::io(&self.disk.path, error))?;
                    memory.forget(id);
                }
                _ => {}
            }
            // The previous holder of the lock may have removed the entry.
            if stat.st_nlink == 0 {
                return Ok(Checkout::Gone);
            }
            let path = memory.map_or_else(|| path.clone(), |memory| memory.shelf.path_of(id));
            let place = memory.map(|memory| (Arc::clone(memory), size_in_pages(&stat)));
            let octets = u64::try_from(stat.st_size).unwrap_or_default();
            let entry =
                Entry::load(id, path, file, octets, place).map_err(|error| self.load_error(id, error))?;
            return Ok(Checkout::Ready(Arc::new(entry)));
        }
        // Twice it was not where it had just been found: another process works on it.
        Ok(Checkout::Busy)
    }

    /// Applies records to an entry and appends them to its journal, with one write and at most one sync. An entry in memory
    /// moves to the disk before, if a record has to survive a power cut or there is no more room for it.
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
        let result = entry.append(records, durability, &self.disk);
        self.keep_pinned(entry);
        result
    }

    /// Keeps an entry, and its lock, as long as it has to stay.
    pub(super) fn keep_pinned(&self, entry: &Arc<Entry>) {
        let mut entries = self.entries.lock();
        if entry.is_pinned() {
            entries.unwritten.insert(entry.id(), Arc::clone(entry));
        } else {
            entries.unwritten.remove(&entry.id());
        }
    }

    /// Unlinks an entry. Call [`Self::sync`] after one or more removals from the disk; until then a crash may bring the entry
    /// back.
    ///
    /// # Errors
    /// An I/O error. An entry that is already gone is not an error.
    pub fn remove(&self, entry: &Entry) -> Result<(), StoreError> {
        entry.unlink(&self.disk)?;
        // Threads that ask from now on find the entry gone, even while others still hold it.
        let mut entries = self.entries.lock();
        entries.open.remove(&entry.id());
        entries.unwritten.remove(&entry.id());
        Ok(())
    }

    /// Moves a damaged file to `corrupt/` and logs the reason. If its name is taken there, it gets a number behind
    /// it.
    ///
    /// # Errors
    /// An I/O error; the file stays where it is. A file that is already gone is not an error.
    pub fn set_aside(&self, id: QueueId, reason: &str) -> Result<(), StoreError> {
        self.bring_to_disk(id)?;
        let name = id.to_string();
        let mut to = name.clone();
        let mut number = 0;
        loop {
            let moved = durable::move_file(self.disk.queue.as_fd(), &name, self.corrupt.as_fd(), &to);
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
                Err((_, error)) => return Err(StoreError::io(self.disk.path.join(name), error)),
            }
        }
    }

    /// What `look` finds about an entry, and the memory if that is where it found it. An entry moves from memory to the disk, so
    /// the disk is asked once more at the end. If it lies in both, the one on the disk is true.
    pub(super) fn find<T>(
        &self,
        look: &dyn Fn(&Shelf) -> Result<T, Errno>,
    ) -> Result<(T, Option<&Arc<Memory>>), Errno> {
        let found = look(&self.disk);
        let Some(memory) = self.memory.as_ref().filter(|_| matches!(found, Err(Errno::NOENT))) else {
            return found.map(|it| (it, None));
        };
        match look(&memory.shelf) {
            Err(Errno::NOENT) => look(&self.disk).map(|it| (it, None)),
            found => found.map(|it| (it, Some(memory))),
        }
    }

    /// Sets a damaged file aside, and returns the error to report.
    pub(super) fn load_error(&self, id: QueueId, error: LoadError) -> StoreError {
        let path = self.disk.path_of(id);
        match error {
            LoadError::Io(error) => StoreError::io(path, error),
            LoadError::Corrupt(reason) => match self.set_aside(id, reason) {
                Ok(()) => StoreError::new(ErrorKind::Corrupt, path, reason),
                Err(error) => error,
            },
        }
    }
}

pub(super) fn open_file(shelf: &Shelf, id: QueueId, access: OFlags) -> Result<File, Errno> {
    let open = |flags| {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(&shelf.queue, id.to_string(), flags, Mode::empty()).map(File::from)
    };
    // A first reading would be written to the disk, as the file's time of access. Only the owner may do without.
    match open(access | OFlags::NOATIME) {
        Err(Errno::PERM) => open(access),
        result => result,
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
