//! The disk: queue, drop directory, Maildirs and mboxes. A message answered with 250 lies here, synced.
//!
//! The promise is kept in three steps whose order the types enforce: *stage* (write a file under a temporary name),
//! *sync* (put its octets on stable storage) and *commit* (put its name on stable storage). Only [`durable`] syncs.
//!
//! | module | writes to | a crash leaves at worst | recovery |
//! | --- | --- | --- | --- |
//! | [`queue`] | `queue/`, `tmp/`, `corrupt/` | a file in `tmp/`; a duplicate; an attempt that is repeated | [`queue::Queue::sweep`], [`queue::Queue::scan`] |
//! | [`mod@drop`] | `drop/`, `corrupt/` | a hidden file; a message that is taken twice | [`drop::DropDirectory::sweep`] |
//! | [`maildir`] | Maildirs and mboxes of users | a file in `tmp`; an unfinished message in an mbox | [`maildir::Maildirs::sweep`]; the next delivery |
//! | [`state_file`] | `tls/`, `sts/`, `digest/`, `clock`, `statistics`, `history` | the previous version of a file | not needed: losing one loses no mail |
//!
//! In every case a crash may repeat work and never loses accepted mail. The store never decides what to do about an
//! error: [`StoreError`] names its kind, and the caller answers. It never reads a clock: the time is an argument.

mod crc;
pub mod drop;
pub mod durable;
mod error;
pub mod maildir;
pub mod queue;
mod room;
pub mod state_file;
mod text;

pub use error::{ErrorKind, StoreError};

use rustix::fs::{FlockOperation, StatVfs, flock};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// The numbers by which the kernel knows tmpfs and ramfs.
const MEMORY_MAGICS: [u32; 2] = [0x0102_1994, 0x8584_58f6];

/// The octets that can still be written below `path`, as the file system counts for ordinary users; 0 if it has no
/// inode left. For a path that does not exist yet, the nearest existing parent is asked.
///
/// # Errors
/// An I/O error about the path.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let mut path = path;
    loop {
        match (rustix::fs::statvfs(path), path.parent()) {
            (Ok(space), _) => return Ok(octets_in(&space)),
            (Err(Errno::NOENT), Some(parent)) => {
                path = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            }
            (Err(errno), _) => return Err(errno.into()),
        }
    }
}

/// What kind of file system holds a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// It is in memory: a tmpfs, or a ramfs.
    pub is_memory: bool,
    /// Its size in octets; 0: not known.
    pub octets: u64,
}

/// The file system of a directory, or of its nearest parent that exists.
///
/// # Errors
/// An I/O error about the path.
#[allow(clippy::unnecessary_cast, clippy::cast_lossless, reason = "the widths differ between systems")]
pub fn file_system(path: &Path) -> io::Result<FileSystem> {
    let found = path.ancestors().map(rustix::fs::statfs).find(|found| !matches!(found, Err(Errno::NOENT)));
    let found = found.unwrap_or(Err(Errno::NOENT))?;
    let is_memory = MEMORY_MAGICS.contains(&(found.f_type as u32));
    Ok(FileSystem { is_memory, octets: (found.f_blocks as u64).saturating_mul(found.f_bsize as u64) })
}

/// Takes the lock of an open file if nobody else holds it (`flock`); says whether this process has it now. It is given back
/// when the last descriptor of the open file is closed.
///
/// # Errors
/// The file system has no locks, or another I/O error.
fn try_lock(file: impl AsFd) -> Result<bool, Errno> {
    // The tests of one process fork beside each other, and a child holds its parent's locks until it has closed them.
    let mut tries_left = if cfg!(test) { 200 } else { 0 };
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if tries_left == 0 => return Ok(false),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(1)),
            Err(errno) => return Err(errno),
        }
        tries_left -= 1;
    }
}

/// Checks that files can be made in a directory, which is made when it is first used.
///
/// # Errors
/// The file system is read-only, or this user may not write there.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    match rustix::fs::access(directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Why the queue below `state` takes no files; `None`: it takes them.
#[must_use]
pub fn unwritable(state: &Path) -> Option<io::Error> {
    ["queue", "tmp"].iter().find_map(|name| check_writable(&state.join(name)).err())
}

fn octets_in(space: &StatVfs) -> u64 {
    // Btrfs and others make inodes on demand, and report 0 of 0.
    let no_inodes = space.f_files != 0 && space.f_favail == 0;
    if no_inodes { 0 } else { space.f_bavail.saturating_mul(space.f_frsize) }
}

/// Whether a message of `declared` octets leaves `kept` of the `free` octets free.
#[must_use]
pub const fn has_room(free: u64, kept: u64, declared: u64) -> bool {
    free >= kept.saturating_add(declared)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;

    #[test]
    fn without_an_inode_there_is_no_room_unless_they_are_made_on_demand() {
        let room = |f_files, f_favail| {
            let space = rustix::fs::statvfs("/").unwrap();
            octets_in(&StatVfs { f_files, f_favail, f_bavail: 3, f_frsize: 4096, ..space })
        };
        assert_eq!([room(1000, 1), room(1000, 0), room(0, 0)], [3 * 4096, 0, 3 * 4096]);
    }

    #[test]
    fn file_systems_in_memory_are_known() {
        let shared = file_system(Path::new("/dev/shm/not/yet/made")).unwrap();
        assert!(shared.is_memory && shared.octets > 0, "{shared:?}");
        assert!(!file_system(Path::new("/proc/self")).unwrap().is_memory);
    }

    #[test]
    fn free_space_is_known_before_the_directory_exists() {
        let directory = TestDirectory::new();
        let here = free_space(directory.path()).unwrap();
        assert!(here > 0);
        assert!(free_space(&directory.path().join("not/yet/made")).unwrap() > 0);
        assert!(free_space(Path::new("not-here")).unwrap() > 0);
        assert_eq!(free_space(Path::new("/proc")).unwrap(), 0);
    }
}
