//! Files that are on stable storage before anyone sees them: write, sync, rename, sync the directory.
//!
//! Only this module syncs. Types enforce the order: a [`StagedFile`] has a temporary name and can be written; `sync`
//! consumes it and returns a [`SyncedFile`]; only a `SyncedFile` can be committed. So a file never gets its final
//! name before its octets are safe. A file whose sync failed is discarded: after a failed sync the kernel drops the
//! pages that it could not write and reports the next sync as a success, so the file can no longer be trusted.
//!
//! Which sync happens when:
//!
//! | call | system call | makes durable |
//! | --- | --- | --- |
//! | [`StagedFile::sync`] | `fsync` of the file | content, size, mode and owner of a new file |
//! | [`SyncedFile::commit`], [`SyncedFile::replace`] | `fsync` of the target directory, after the rename; threads share it (`shared_sync`) | the final name. For the queue this is the instant of commit |
//! | the same for a public file | `syncfs` by way of the file, where the directory may only be searched | the name of a file in the drop directory |
//! | [`sync_data`] | `fdatasync` of the file | records appended to the journal of an entry, a message appended to an mbox |
//! | [`sync_removals`] | `fsync` of a directory, shared like that of a commit | removals |
//! | [`sync_directory`] | `fsync` of a directory | the names in it |
//! | [`make_below`], [`make_each_below`] | `fsync` of a new directory, then of its parent | a directory of the state or of a Maildir |
//! | [`make_directories`] | `fsync` of each parent | the administrator's part of a path |
//! | [`StagedFile::scratch`] | no sync | a file that nobody needs after a crash |
//!
//! Where a crash falls decides what is left of a file:
//!
//! ```text
//! create ── write ── fsync ── rename ── fsync of the directory
//! └ temporary name: the sweep unlinks it ┘└ either name ┘└ final name, whole content
//! ```
//!
//! Threads go through the first four steps on their own. The last one covers every rename in the directory that came before it
//! began, so one thread makes it for all who wait. If it fails, each of them unlinks its final name.
//!
//! Nothing is overwritten, except by [`SyncedFile::replace`]: a name that exists is an error. A value that is dropped
//! before its commit unlinks its temporary name.

mod directory;
mod renaming;
mod scratch;
mod shared_sync;
mod writing;

pub use self::directory::{
    DirectoryAccess, make_below, make_directories, make_each_below, open_below, open_directory,
};
pub use self::renaming::move_file;

use self::renaming::{MoveStep, rename_without_replacing};
use self::shared_sync::{DIRECTORIES, Key, Turn};
use super::room::Room;
use super::{ErrorKind, StoreError};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, fchmod, flock, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::fchown;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest part of a file that is held in memory before it is written: a message up to this size costs one write.
const BUFFER_OCTETS: usize = 64 * 1024;

const NOT_IN_FULL: &str = "it could not be written in full";

/// The owner given to a new file or directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user id.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
}

/// Gives the file behind `descriptor` to `owner`; `None` leaves its owner as it is.
fn give_to(descriptor: impl AsFd, owner: Option<Owner>) -> io::Result<()> {
    owner.map_or(Ok(()), |owner| fchown(descriptor, Some(owner.uid), Some(owner.gid)))
}

/// Another process, or another way, that gives a file its final name where this process may not rename it.
pub trait Mover: Send + Sync {
    /// Gives the file with the temporary name `name` its final name `to`, durably, and replaces no file.
    ///
    /// # Errors
    /// The file did not get the name, or nobody knows whether it did.
    fn commit(&self, name: &str, to: &OsStr) -> io::Result<()>;
    /// Unlinks the temporary name. If that fails, the next sweep finds it.
    fn discard(&self, name: &str);
}

/// Shows no fields: see `Agent`.
impl fmt::Debug for dyn Mover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mover")
    }
}

/// Where a temporary name lies, and who can move it.
#[derive(Debug)]
enum TemporaryPlace {
    /// In this directory; this process renames it.
    Here(Arc<OwnedFd>),
    /// The mover renames it.
    Elsewhere(Box<dyn Mover>),
}

/// A name that is unlinked on drop, unless its file has moved to its final name.
#[derive(Debug)]
struct TemporaryName {
    place: TemporaryPlace,
    name: String,
    moved: bool,
    /// The memory that the file uses, if it lies there.
    room: Option<Room>,
}

impl TemporaryName {
    fn here(directory: &Arc<OwnedFd>, name: String) -> Self {
        Self { place: TemporaryPlace::Here(Arc::clone(directory)), name, moved: false, room: None }
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        match &self.place {
            // If this fails, the next sweep finds the file.
            TemporaryPlace::Here(directory) => drop(unlinkat(directory, &*self.name, AtFlags::empty())),
            TemporaryPlace::Elsewhere(mover) => mover.discard(&self.name),
        }
    }
}

/// A file under a temporary name, being written.
#[derive(Debug)]
pub struct StagedFile {
    name: TemporaryName,
    file: File,
    /// The file stays open until its commit.
    stays_open: bool,
    buffer: Vec<u8>,
    /// Octets that have been written from the buffer to the file.
    flushed_octets: u64,
    /// A read or write has failed: the file can no longer be synced, even if the caller ignored the error.
    broken: bool,
    /// Where a file in memory goes on when it becomes larger than [`BUFFER_OCTETS`].
    overflow: Option<Box<Path>>,
}

impl StagedFile {
    /// Creates the file with mode 0600 and gives it to `owner` before anything is written, so that it counts against
    /// the owner's disk quota.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken, `ENOENT` if the directory is gone, or another I/O error.
    pub fn create(directory: &Arc<OwnedFd>, name: String, owner: Option<Owner>) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(directory, &*name, flags, Mode::RUSR | Mode::WUSR)?.into();
        let name = TemporaryName::here(directory, name);
        give_to(&file, owner)?;
        Ok(Self::new(name, file))
    }

    fn new(name: TemporaryName, file: File) -> Self {
        Self {
            name,
            file,
            stays_open: false,
            buffer: Vec::new(),
            flushed_octets: 0,
            broken: false,
            overflow: None,
        }
    }

    /// Locks the file until it is committed or dropped: a sweep leaves a locked file alone.
    ///
    /// # Errors
    /// The file is locked already, or an I/O error.
    pub fn lock(&mut self) -> io::Result<()> {
        flock(&self.file, FlockOperation::NonBlockingLockExclusive)?;
        self.stays_open = true;
        Ok(())
    }

    /// Lets every user read the file, independent of the umask. Its name is synced by way of the file if the
    /// directory cannot be opened for a sync: users may write to the drop directory but not read it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn publish(&mut self) -> io::Result<()> {
        self.stays_open = true;
        Ok(fchmod(&self.file, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)?)
    }

    /// Lets the group read the file, independent of the umask.
    ///
    /// # Errors
    /// An I/O error.
    pub fn show_to_group(&self) -> io::Result<()> {
        Ok(fchmod(&self.file, Mode::RUSR | Mode::WUSR | Mode::RGRP)?)
    }

    /// Octets written so far.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.flushed_octets + self.buffer.len() as u64
    }

    /// The file lies in memory, and uses a part of what is allowed there.
    pub fn charge(&mut self, room: Room) {
        self.name.room = Some(room);
    }

    /// Makes room for `octets` more, if the file lies in memory. Returns false if it does not fit.
    pub fn makes_room(&mut self, octets: u64) -> bool {
        let octets = self.octets().saturating_add(octets);
        self.name.room.as_mut().is_none_or(|room| room.grow_to(octets))
    }

    /// Returns the open file, to be copied elsewhere; see [`Self::scratch`].
    ///
    /// # Errors
    /// The file was not written in full.
    pub fn finish(mut self) -> io::Result<File> {
        self.flush()?;
        if self.broken { Err(io::Error::other(NOT_IN_FULL)) } else { Ok(self.file) }
    }

    /// Puts all that was written on stable storage. `path` is where the commit will put the file, in the directory
    /// `target`; a file with a [`Mover`] needs no `target`. The file is closed unless it is locked or public, so that
    /// many staged files need few descriptors.
    ///
    /// # Errors
    /// An I/O error. The file is discarded: it must not be synced again.
    pub fn sync(
        mut self,
        target: impl Into<Option<Arc<OwnedFd>>>,
        path: PathBuf,
    ) -> Result<SyncedFile, StoreError> {
        if self.broken {
            return Err(StoreError::new(ErrorKind::Trouble, path, NOT_IN_FULL));
        }
        let (target, flushed) = (target.into(), self.flush());
        // The sync may take long, and others need memory meanwhile.
        self.buffer = Vec::new();
        let key = match flushed.and_then(|()| self.sync_file(target.as_ref())) {
            Ok(key) => key,
            Err(error) => return Err(StoreError::io(path, error)),
        };
        let file = self.stays_open.then_some(self.file);
        Ok(SyncedFile { name: self.name, target, key, path, file, appends: false })
    }

    /// The next sync of the directory that the file goes to waits for this one, if it has begun before; but not for that of
    /// a large file, which may last much longer.
    fn sync_file(&self, target: Option<&Arc<OwnedFd>>) -> io::Result<Option<Key>> {
        let target = target.filter(|_| self.octets() <= BUFFER_OCTETS as u64);
        let turn = target.map(|target| DIRECTORIES.enter(target)).transpose()?;
        let _approach = turn.as_ref().map(Turn::approach);
        self.file.sync_all()?;
        Ok(turn.as_ref().map(Turn::key))
    }
}

/// A file whose octets are safe under its temporary name; or a message that waits to be appended to another file.
#[derive(Debug)]
pub struct SyncedFile {
    name: TemporaryName,
    target: Option<Arc<OwnedFd>>,
    /// That of the target, if it was asked for.
    key: Option<Key>,
    path: PathBuf,
    file: Option<File>,
    appends: bool,
}

impl SyncedFile {
    /// A message that `mover` appends, durably, to the file at `path` on commit.
    #[must_use]
    pub fn to_append(mover: Box<dyn Mover>, path: PathBuf) -> Self {
        Self { appends: true, ..Self::elsewhere(String::new(), mover, path) }
    }

    /// A file that `mover` has written and synced under the temporary name `name`, and gives the name `path` on commit.
    #[must_use]
    pub fn elsewhere(name: String, mover: Box<dyn Mover>, path: PathBuf) -> Self {
        let name = TemporaryName { place: TemporaryPlace::Elsewhere(mover), name, moved: false, room: None };
        Self { name, target: None, key: None, path, file: None, appends: false }
    }

    /// Leaves the temporary name to the process that commits the file; a sweep removes it if that process dies.
    pub fn leave(mut self) {
        self.name.moved = true;
    }

    /// Whether the octets become safe only by the commit, which can then fail like any write.
    #[must_use]
    pub const fn appends(&self) -> bool {
        self.appends
    }

    /// A file in `directory` that another process has written and synced, to be committed as `path` in `target`.
    #[must_use]
    pub fn adopt(directory: &Arc<OwnedFd>, name: String, target: Arc<OwnedFd>, path: PathBuf) -> Self {
        Self {
            name: TemporaryName::here(directory, name),
            target: Some(target),
            key: None,
            path,
            file: None,
            appends: false,
        }
    }

    /// Gives the file its final name, durably, and returns its path. The file is visible to everyone from then on.
    ///
    /// # Errors
    /// An I/O error. The file is not there as far as possible: if the directory cannot be synced, the new name is
    /// unlinked again. The caller must have the sender try again; a crash may then leave a duplicate, never a loss.
    pub fn commit(self) -> Result<PathBuf, StoreError> {
        self.move_with(rename_without_replacing)
    }

    /// As [`Self::commit`], but replaces a file that already has the name.
    ///
    /// # Errors
    /// As for [`Self::commit`].
    pub fn replace(self) -> Result<PathBuf, StoreError> {
        self.move_with(|directory, name, target, to| renameat(directory, name, target, to).map(|()| true))
    }

    fn move_with(mut self, step: MoveStep) -> Result<PathBuf, StoreError> {
        let to = self.path.file_name().unwrap_or_default();
        let done = match (&self.name.place, &self.target) {
            (TemporaryPlace::Elsewhere(mover), _) => {
                mover.commit(&self.name.name, to).map(|()| self.name.moved = true)
            }
            (TemporaryPlace::Here(_), None) => Err(Errno::BADF.into()),
            (TemporaryPlace::Here(directory), Some(target)) => enter(self.key, target).and_then(|turn| {
                self.name.moved = step(directory.as_fd(), &self.name.name, target.as_fd(), to)?;
                turn.sync(&|target| sync_name(target, self.file.as_ref())).inspect_err(|_| {
                    let _ = unlinkat(target, to, AtFlags::empty());
                })
            }),
        };
        match done {
            Ok(()) => {
                if let Some(room) = self.name.room.take() {
                    room.keep();
                }
                Ok(self.path)
            }
            Err(error) => Err(StoreError::io(self.path, error)),
        }
    }
}

/// A directory that is asked once for what it is known by, instead of at each change: for one that stays open.
#[derive(Debug)]
pub struct KnownDirectory(
    #[expect(dead_code, reason = "it is known as long as the turn lasts")] Turn<'static>,
);

impl KnownDirectory {
    /// Asks for it.
    ///
    /// # Errors
    /// An I/O error about the descriptor.
    pub fn new(directory: &Arc<OwnedFd>) -> io::Result<Self> {
        DIRECTORIES.enter(directory).map(Self)
    }
}

/// Begins a change of names in a directory, whose key may be known.
fn enter(key: Option<Key>, directory: &Arc<OwnedFd>) -> io::Result<Turn<'static>> {
    key.map_or_else(|| DIRECTORIES.enter(directory), |key| Ok(DIRECTORIES.enter_by_key(key, directory)))
}

/// Puts the names in a directory on stable storage.
///
/// # Errors
/// An I/O error; the names cannot be relied on.
pub fn sync_directory(directory: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(directory)?)
}

/// Puts removals in a directory on stable storage, together with what other threads have changed there.
///
/// # Errors
/// An I/O error; what was removed may reappear after a crash.
pub fn sync_removals(directory: &Arc<OwnedFd>) -> io::Result<()> {
    DIRECTORIES.enter(directory)?.sync(&|directory| sync_directory(directory))
}

/// Puts the name of a file on stable storage. A descriptor opened only for searching cannot be synced; then the whole
/// file system is synced by way of the file, which is slower and equally safe.
fn sync_name(directory: BorrowedFd<'_>, file: Option<&File>) -> io::Result<()> {
    match (sync_directory(directory), file) {
        (Err(error), Some(file)) if Errno::from_io_error(&error) == Some(Errno::BADF) => {
            Ok(rustix::fs::syncfs(file)?)
        }
        (result, _) => result,
    }
}

/// Puts what was appended to a file on stable storage.
///
/// # Errors
/// An I/O error. What was appended must be written again before the next sync can be trusted.
pub fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::renaming::link_without_replacing;
    use super::*;
    use crate::test_directory::TestDirectory;
    use rustix::fs::{RenameFlags, renameat_with};
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn open(path: &Path) -> Arc<OwnedFd> {
        Arc::new(open_directory(path, DirectoryAccess::Read).unwrap())
    }

    fn names(directory: &TestDirectory) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_commit_gives_the_file_its_name_and_nothing_else() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let mut file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        file.write(b"????? and more").unwrap();
        file.write_start(b"start").unwrap();
        let path = directory.path().join("final");
        let synced = file.sync(Arc::clone(&here), path.clone()).unwrap();
        assert_eq!(names(&directory), ["tmp"]);
        assert_eq!(synced.commit().unwrap(), path);
        assert_eq!(names(&directory), ["final"]);
        assert_eq!(fs::read(path).unwrap(), b"start and more");
    }

    #[test]
    fn a_new_file_is_private_and_never_takes_a_name_from_another() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        assert_eq!(rustix::fs::fstat(&file.file).unwrap().st_mode & 0o077, 0);
        let flags = rustix::io::fcntl_getfd(&file.file).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC), "a program that is run would have it open");
        let taken = || StagedFile::create(&here, "tmp".into(), None).unwrap_err().kind();
        assert_eq!(taken(), io::ErrorKind::AlreadyExists);
        drop(file);
        std::os::unix::fs::symlink("elsewhere", directory.path().join("tmp")).unwrap();
        assert_eq!(taken(), io::ErrorKind::AlreadyExists);
        assert_eq!(names(&directory), ["tmp"]);
    }

    #[test]
    fn what_is_dropped_before_its_commit_leaves_nothing() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let mut file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        file.write(&vec![b'x'; BUFFER_OCTETS + 1]).unwrap();
        drop(file);
        assert!(names(&directory).is_empty());
        let file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        drop(file.sync(Arc::clone(&here), directory.path().join("final")).unwrap());
        assert!(names(&directory).is_empty());
    }

    /// What the owner of the parent can do while root makes a Maildir there.
    #[test]
    fn a_directory_that_is_put_in_place_of_a_new_one_is_not_changed() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let [new, old] = ["new", "old"].map(|name| directory.path().join(name));
        fs::create_dir_all(old.join("secret")).unwrap();
        let secret = open_directory(&old, DirectoryAccess::Read).unwrap();
        fchmod(&secret, Mode::RUSR | Mode::XUSR).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = renameat_with(&here, "new", &here, "old", RenameFlags::EXCHANGE);
                }
            });
            for _ in 0..500 {
                drop(make_below(&here, "new".as_ref(), Mode::RWXU, None));
                // Only the new one is empty.
                let _ = fs::remove_dir(&new).or_else(|_| fs::remove_dir(&old));
                let _ = fs::rename(&new, &old);
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(rustix::fs::fstat(&secret).unwrap().st_mode & 0o777, 0o500);
    }

    #[test]
    fn a_commit_never_overwrites() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let path = directory.path().join("final");
        fs::write(&path, "first").unwrap();
        let file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        let error = file.sync(Arc::clone(&here), path.clone()).unwrap().commit().unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
        let file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        let synced = file.sync(Arc::clone(&here), path.clone()).unwrap();
        assert_eq!(synced.move_with(link_without_replacing).unwrap_err().path, path);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(names(&directory), ["final"]);
        let file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        file.sync(Arc::clone(&here), path.clone()).unwrap().replace().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn without_the_rename_flag_a_link_does_the_same() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let mut file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        file.write(b"text").unwrap();
        let synced = file.sync(Arc::clone(&here), directory.path().join("final")).unwrap();
        synced.move_with(link_without_replacing).unwrap();
        assert_eq!(names(&directory), ["final"]);
    }

    #[test]
    fn what_was_appended_is_synced() {
        let directory = TestDirectory::new();
        assert!(sync_data(&File::create(directory.path().join("file")).unwrap()).is_ok());
        // The kernel refuses to sync a device.
        assert!(sync_data(&fs::OpenOptions::new().write(true).open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_failed_sync_throws_the_file_away() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let mut file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        // The kernel refuses to write to this device and to sync it.
        file.file = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = file.sync(Arc::clone(&here), directory.path().join("final")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Trouble);
        assert!(names(&directory).is_empty());
        let mut file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        file.file = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        file.write(b"x").unwrap();
        let error = file.sync(Arc::clone(&here), directory.path().join("final")).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full);
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn a_file_that_was_not_written_in_full_can_not_be_synced() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let empty = File::open("/dev/null").unwrap();
        let mut file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        assert!(file.append_from(&empty, 0, 1, |_| ()).is_err());
        assert!(file.sync(Arc::clone(&here), directory.path().join("final")).is_err());
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn a_name_that_could_not_be_synced_is_taken_back() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        // A descriptor that allows renames but no sync.
        let target = Arc::new(open_directory(directory.path(), DirectoryAccess::Search).unwrap());
        let file = StagedFile::create(&here, "tmp".into(), None).unwrap();
        let error = file.sync(target, directory.path().join("final")).unwrap().commit().unwrap_err();
        assert_eq!(Errno::from_io_error(&error.source), Some(Errno::BADF));
        assert!(names(&directory).is_empty());
    }

    #[test]
    fn a_public_file_is_synced_where_the_directory_can_not_be() {
        let directory = TestDirectory::new();
        let target = Arc::new(open_directory(directory.path(), DirectoryAccess::Search).unwrap());
        let mut file = StagedFile::create(&target, "tmp".into(), None).unwrap();
        file.write(b"text").unwrap();
        file.publish().unwrap();
        let path = file.sync(Arc::clone(&target), directory.path().join("final")).unwrap().commit().unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(path).unwrap());
        assert_eq!((names(&directory), mode & 0o777), (vec!["final".to_owned()], 0o644));
    }

    #[test]
    fn any_cut_of_the_octets_gives_the_same_file() {
        let directory = TestDirectory::new();
        let here = open(directory.path());
        let text: Vec<u8> = (0..BUFFER_OCTETS * 3 + 17).map(|i| (i % 251) as u8).collect();
        for cut in [1000, BUFFER_OCTETS - 1, BUFFER_OCTETS, BUFFER_OCTETS + 1, text.len()] {
            let mut file = StagedFile::create(&here, "a".into(), None).unwrap();
            text.chunks(cut).for_each(|piece| file.write(piece).unwrap());
            assert_eq!(file.octets(), text.len() as u64);
            file.write_start(b"START").unwrap();
            let mut copy = StagedFile::create(&here, "b".into(), None).unwrap();
            copy.write(b"head").unwrap();
            let mut seen = 0;
            let source = file.contents().unwrap();
            copy.append_from(source, 5, text.len() as u64 - 5, |piece| seen += piece.len()).unwrap();
            assert!(copy.append_from(source, text.len() as u64, 1, |_| ()).is_err());
            assert_eq!(seen, text.len() - 5);
            copy.contents().unwrap();
            let whole = fs::read(directory.path().join("a")).unwrap();
            assert!(whole.starts_with(b"START") && whole[5..] == text[5..], "{cut}");
            let copied = fs::read(directory.path().join("b")).unwrap();
            assert!(copied.starts_with(b"head") && copied[4..text.len() - 1] == text[5..], "{cut}");
        }
    }

    #[test]
    fn directories_are_made_with_their_parents() {
        let directory = TestDirectory::new();
        let path = directory.path().join("a/b/c");
        make_directories(&path, Mode::RWXU).unwrap();
        make_directories(&path, Mode::RWXU).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o700);
        fs::write(directory.path().join("file"), "").unwrap();
        assert!(make_directories(&directory.path().join("file/x"), Mode::RWXU).is_err());
    }
}
