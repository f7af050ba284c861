//! Where entries lie: a pair of directories on the disk, and with `queue.storage = "memory-first"` another one in memory.
//!
//! The directory in memory has these names:
//!
//! | name | holds |
//! |---|---|
//! | the directory itself | 0700; locked by the process that puts messages there ([`Queue::keep_in`]) |
//! | `state` | a link to the state directory: the entries belong to that queue, and no other one touches them |
//! | `queue/`, `tmp/` | as on the disk |
//!
//! One process puts messages there, the daemon. Others work on what they find ([`Queue::look_into`]), and put new messages on
//! the disk. Only this process counts what lies in memory; another one that removes an entry makes the count too high until the
//! next start.

use super::{QUEUE, Queue};
use crate::mail::id::QueueId;
use crate::store::durable::{self, DirectoryAccess, Owner};
use crate::store::room::{Allowance, pages};
use crate::store::{StoreError, try_lock};
use rustix::fs::{AtFlags, Dir, Mode, Stat, fstat, readlinkat, statat, symlinkat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The link to the state directory.
const STATE: &str = "state";

/// A pair of directories in which entries lie.
#[derive(Debug)]
pub(super) struct Shelf {
    /// The path of `queue`.
    pub path: PathBuf,
    pub queue: Arc<OwnedFd>,
    pub tmp: Arc<OwnedFd>,
}

impl Shelf {
    /// The path of an entry.
    pub fn path_of(&self, id: QueueId) -> PathBuf {
        self.path.join(id.to_string())
    }

    pub fn stat(&self, id: QueueId) -> Result<Stat, Errno> {
        statat(&self.queue, id.to_string(), AtFlags::SYMLINK_NOFOLLOW)
    }

    pub fn unlink(&self, id: QueueId) -> Result<(), Errno> {
        unlinkat(&self.queue, id.to_string(), AtFlags::empty())
    }

    pub fn read(&self) -> Result<Dir, StoreError> {
        Dir::read_from(&self.queue).map_err(|errno| StoreError::io(&self.path, errno))
    }
}

/// The shelf in memory.
#[derive(Debug)]
pub(super) struct Memory {
    /// Locked while this process puts messages there.
    _directory: OwnedFd,
    pub shelf: Arc<Shelf>,
    /// What lies there, and how much may.
    pub allowance: Arc<Allowance>,
}

impl Memory {
    /// Counts what lies there already.
    fn new(directory: OwnedFd, shelf: Shelf) -> Result<Self, StoreError> {
        let allowance = Arc::new(Allowance::default());
        for entry in shelf.read()?.flatten() {
            let id = QueueId::parse(&entry.file_name().to_string_lossy());
            if let Some(Ok(stat)) = id.map(|id| shelf.stat(id)) {
                allowance.note(size_in_pages(&stat));
            }
        }
        Ok(Self { _directory: directory, shelf: Arc::new(shelf), allowance })
    }

    /// Unlinks an entry that the disk has as well.
    pub fn forget(&self, id: QueueId) {
        if let Ok(stat) = self.shelf.stat(id)
            && self.shelf.unlink(id).is_ok()
        {
            self.allowance.give_back(size_in_pages(&stat));
        }
    }
}

/// Whether a directory belongs to the user of the queue: `owner`, or that of this process.
fn is_owned(directory: &OwnedFd, owner: Option<Owner>) -> io::Result<bool> {
    let uid = owner.map_or_else(|| geteuid().as_raw(), |owner| owner.uid);
    Ok(fstat(directory)?.st_uid == uid)
}

/// Says that mail may lie below `memory` for a state directory that is not where it was: no other process looks there.
fn warn_of_moved_state(memory: &Path, directory: &OwnedFd) {
    if statat(directory, STATE, AtFlags::empty()).is_err()
        && let Ok(state) = readlinkat(directory, STATE, Vec::new())
    {
        let (memory, state) = (memory.display(), state.to_string_lossy());
        let text = format!(
            "messages of the queue below {state}, which is gone, may lie in {memory}; set state to that again"
        );
        log::warn!(target: "pillarbox", "event=notice text={text:?}");
    }
}

/// The memory that a file fills.
pub(super) fn size_in_pages(stat: &Stat) -> usize {
    pages(u64::try_from(stat.st_size).unwrap_or_default())
}

/// What lies in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InMemory {
    /// The messages.
    pub ids: Vec<QueueId>,
    /// The memory that they fill.
    pub octets: u64,
}

impl Queue {
    /// Puts new messages below `memory` from now on, up to `most` octets in all, and works on those that lie there. What is
    /// missing is made, and given to `owner`.
    ///
    /// # Errors
    /// A directory cannot be made or opened; another process puts messages there; or messages of another queue lie there.
    pub fn keep_in(&mut self, memory: &Path, most: u64, owner: Option<Owner>) -> Result<(), StoreError> {
        let passable = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        let make = || -> io::Result<_> {
            let (parent, name) = (memory.parent().unwrap_or(memory), memory.file_name().unwrap_or_default());
            durable::make_directories(parent, passable)?;
            let parent = durable::open_directory(parent, DirectoryAccess::Read)?;
            let directory = durable::make_below(parent, name, Mode::RWXU, owner)?;
            let others = || io::Error::other("it belongs to another user; remove it");
            if !is_owned(&directory, owner)? {
                return Err(others());
            }
            if !try_lock(&directory).unwrap_or(true) {
                return Err(io::Error::other("another pillarbox keeps its queue there"));
            }
            let wanted = [QUEUE, "tmp"].map(|name| (name, Mode::RWXU));
            let [queue, tmp] = durable::make_each_below(&directory, wanted, owner)?;
            let shelf = Shelf { path: memory.join(QUEUE), queue: Arc::new(queue?), tmp: Arc::new(tmp?) };
            if !is_owned(&shelf.queue, owner)? || !is_owned(&shelf.tmp, owner)? {
                return Err(others());
            }
            self.claim(&directory, &shelf)?;
            Ok((directory, shelf))
        };
        let (directory, shelf) = make().map_err(|error| StoreError::io(memory, error))?;
        let memory = Memory::new(directory, shelf)?;
        memory.allowance.set_most(most);
        self.memory = Some(Arc::new(memory));
        Ok(())
    }

    /// Works on the messages that lie below `memory` as on those on the disk, if they belong to this queue. New ones go to
    /// the disk. Directories of another user than `owner` are left alone: that user could have put anything there.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn look_into(&mut self, memory: &Path, owner: Option<Owner>) -> Result<(), StoreError> {
        let Ok(directory) = durable::open_directory(memory, DirectoryAccess::Read) else { return Ok(()) };
        if !self.is_ours(&directory) {
            warn_of_moved_state(memory, &directory);
            return Ok(());
        }
        let open = |name: &str| durable::open_below(&directory, name.as_ref(), DirectoryAccess::Read);
        let (Ok(queue), Ok(tmp)) = (open(QUEUE), open("tmp")) else { return Ok(()) };
        let is_owned = |directory: &OwnedFd| is_owned(directory, owner).unwrap_or_default();
        if ![&directory, &queue, &tmp].into_iter().all(is_owned) {
            let text =
                format!("{} belongs to another user; messages that lie there are not seen", memory.display());
            log::warn!(target: "pillarbox", "event=notice text={text:?}");
            return Ok(());
        }
        let shelf = Shelf { path: memory.join(QUEUE), queue: Arc::new(queue), tmp: Arc::new(tmp) };
        self.memory = Some(Arc::new(Memory::new(directory, shelf)?));
        Ok(())
    }

    /// Whether a directory in memory belongs to this queue.
    fn is_ours(&self, directory: &OwnedFd) -> bool {
        match (statat(directory, STATE, AtFlags::empty()), fstat(&self.state)) {
            (Ok(there), Ok(own)) => (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino),
            _ => false,
        }
    }

    /// Marks a directory in memory, which this process has locked, as that of this queue.
    fn claim(&self, directory: &OwnedFd, shelf: &Shelf) -> io::Result<()> {
        if self.is_ours(directory) {
            return Ok(());
        }
        if let Ok(other) = readlinkat(directory, STATE, Vec::new()) {
            let is_entry = |name: &[u8]| !matches!(name, b"." | b"..");
            if Dir::read_from(&shelf.queue)?.flatten().any(|entry| is_entry(entry.file_name().to_bytes())) {
                let other = other.to_string_lossy();
                return Err(io::Error::other(format!("messages of the queue below {other} lie there")));
            }
            unlinkat(directory, STATE, AtFlags::empty())?;
        }
        let state = self.disk.path.parent().unwrap_or(&self.disk.path);
        Ok(symlinkat(std::path::absolute(state)?, directory, STATE)?)
    }

    /// Stops to use the directory in memory, unless messages lie there.
    pub fn leave_empty_memory(&mut self) {
        self.memory.take_if(|memory| memory.allowance.used() == 0);
    }

    /// Sets how many octets may lie in memory. Messages that lie there stay. Has no effect unless [`Self::keep_in`] was called.
    pub fn set_memory_max(&self, most: u64) {
        if let Some(memory) = self.memory.as_ref().filter(|memory| memory.allowance.most() > 0) {
            // At least 1: the daemon may allow more again.
            memory.allowance.set_most(most.max(1));
        }
    }

    /// Whether an entry has a name in memory.
    #[must_use]
    pub fn is_in_memory(&self, id: QueueId) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.shelf.stat(id).is_ok())
    }

    /// The octets that messages fill in memory.
    #[must_use]
    pub fn memory_octets(&self) -> u64 {
        self.memory.as_ref().map_or(0, |memory| memory.allowance.used() as u64)
    }

    /// What lies in memory.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn in_memory(&self) -> Result<InMemory, StoreError> {
        let Some(memory) = self.memory.as_ref().filter(|memory| memory.allowance.used() > 0) else {
            return Ok(InMemory::default());
        };
        let names = memory.shelf.read()?.flatten();
        let ids = names.filter_map(|entry| QueueId::parse(&entry.file_name().to_string_lossy())).collect();
        Ok(InMemory { ids, octets: memory.allowance.used() as u64 })
    }
}
