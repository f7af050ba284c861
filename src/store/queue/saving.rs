//! The move of an entry from memory to the disk, for `queue.storage = "memory-first"`.
//!
//! ```text
//! copy to tmp/ID, locked ─ fsync ─ rename to queue/ID ─ fsync of queue/ ─ unlink in memory
//! └ M3: the one in memory is true ┘└ M4: the one on the disk is true ───┘└ S4 and later
//! ```
//!
//! The copy has the whole file, journal included. Nobody appends to the journal meanwhile: this process holds the file's lock,
//! and the move holds that of the journal, as an append does. Threads that use the entry go on with it. The copy is locked
//! before it has its name, so no other process gets hold of it in between.
//!
//! A failure leaves the entry in memory. Nothing moves back. If even the copy's name can't be removed then, as on a disk that has
//! just become read-only, the entry stays checked out, so that nobody takes the copy for the entry.

use super::checkout::open_file;
use super::entry::{Entry, Journal, Place};
use super::shelf::{Memory, Shelf};
use super::{Checkout, Queue};
use crate::mail::id::QueueId;
use crate::store::StoreError;
use crate::store::durable::{StagedFile, sync_directory};
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::sync::Arc;

impl Queue {
    /// Moves an entry from memory to the disk. Returns false if it does not lie in memory any more, or another process has it.
    ///
    /// # Errors
    /// `Full` or `Trouble`: it stays in memory. `Corrupt`: it was damaged, and is in `corrupt/` now.
    pub fn save(&self, id: QueueId) -> Result<bool, StoreError> {
        match self.checkout(id)? {
            Checkout::Ready(entry) => {
                let moved = entry.move_to(&self.disk, &mut entry.journal.lock());
                self.keep_pinned(&entry);
                moved
            }
            Checkout::Busy | Checkout::Gone => Ok(false),
        }
    }

    /// Moves a damaged file to the disk, if it lies in memory.
    pub(super) fn bring_to_disk(&self, id: QueueId) -> Result<(), StoreError> {
        let Some(memory) = self.memory.as_ref().filter(|_| self.disk.stat(id).is_err()) else {
            return Ok(());
        };
        let Ok(file) = open_file(&memory.shelf, id, OFlags::RDONLY) else { return Ok(()) };
        copy(&file, &self.disk, id)?;
        memory.forget(id);
        Ok(())
    }

    /// Unlinks in memory what the disk has as well (M4): a process has ended in the middle of a move.
    pub(super) fn drop_doubles(&self, memory: &Memory) -> Result<(), StoreError> {
        if memory.allowance.used() == 0 {
            return Ok(());
        }
        let mut is_synced = false;
        for entry in memory.shelf.read()?.flatten() {
            let Some(id) = QueueId::parse(&entry.file_name().to_string_lossy()) else { continue };
            if self.disk.stat(id).is_err() {
                continue;
            }
            // A process that moves it has the lock of both.
            let file = open_file(&memory.shelf, id, OFlags::RDONLY);
            // The one on the disk is looked for again: a move that has just failed has removed it.
            if !file.is_ok_and(|file| crate::store::try_lock(&file).is_ok_and(|locked| locked))
                || self.disk.stat(id).is_err()
            {
                continue;
            }
            if !std::mem::replace(&mut is_synced, true) {
                sync_directory(&self.disk.queue).map_err(|error| StoreError::io(&self.disk.path, error))?;
            }
            memory.forget(id);
        }
        Ok(())
    }
}

impl Entry {
    /// Moves the entry to the disk, if it lies in memory and was not removed. Returns whether it has moved.
    pub(super) fn move_to(&self, disk: &Shelf, journal: &mut Journal) -> Result<bool, StoreError> {
        let Place::Memory(memory, octets) = &journal.place else { return Ok(false) };
        if memory.shelf.stat(self.id()).is_err() {
            return Ok(false);
        }
        let (memory, octets) = (Arc::clone(memory), *octets);
        self.remove_double(disk, journal)?;
        match copy(&self.file, disk, self.id()) {
            Ok(file) => journal.place = Place::Moved(file, disk.path_of(self.id())),
            Err(error) => {
                self.note_double(disk.stat(self.id()).is_ok(), journal);
                return Err(error);
            }
        }
        // If this fails, a sweep or the next checkout does it.
        if memory.shelf.unlink(self.id()).is_ok() {
            memory.allowance.give_back(octets);
        }
        Ok(true)
    }
}

/// Makes a durable entry on the disk of an open file. Returns the new file, locked, to append to.
fn copy(source: &File, disk: &Shelf, id: QueueId) -> Result<File, StoreError> {
    let stage = || -> io::Result<_> {
        let octets = source.metadata()?.len();
        let mut staged = StagedFile::create(&disk.tmp, id.to_string(), None)?;
        staged.lock()?;
        staged.copy_from(source, 0, octets)?;
        // Its offset stands at the end: what is written goes behind the rest.
        let file = staged.contents()?.try_clone()?;
        Ok((staged, file))
    };
    let (staged, file) = stage().map_err(|error| StoreError::io(disk.path_of(id), error))?;
    staged.sync(Arc::clone(&disk.queue), disk.path_of(id))?.commit()?;
    Ok(file)
}

#[cfg(test)]
mod tests;
