//! Opening and making directories, durably: the names of what was made are synced before the call returns.
//!
//! | part of a path | call | links |
//! | --- | --- | --- |
//! | chosen by the administrator | [`open_directory`], [`make_directories`] | followed |
//! | chosen by a user, or below a descriptor | [`open_below`], [`make_below`] | refused with `ENOTDIR` |

use super::{Owner, give_to, sync_directory};
use rustix::fs::{Dir, Mode, OFlags, chmod, fchmod, fstat, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What a directory is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectoryAccess {
    /// To look up names in it. Needs no right to read: `/home` and other parents may have mode 0711.
    Search,
    /// To list or sync it as well.
    Read,
}

impl DirectoryAccess {
    fn flags(self) -> OFlags {
        let access = if self == Self::Search { OFlags::PATH } else { OFlags::RDONLY };
        access | OFlags::DIRECTORY | OFlags::CLOEXEC
    }
}

/// Opens a directory by its path. Links on the way are followed, because the administrator chose the path.
///
/// # Errors
/// An I/O error.
pub fn open_directory(path: &Path, access: DirectoryAccess) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::open(path, access.flags(), Mode::empty())?)
}

/// Opens a directory inside another one and follows no link: with `O_DIRECTORY` a link gives `ENOTDIR`.
///
/// # Errors
/// An I/O error; `ENOTDIR` for a link or a file.
pub fn open_below(parent: impl AsFd, name: &OsStr, access: DirectoryAccess) -> io::Result<OwnedFd> {
    Ok(openat(parent, name, access.flags() | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Makes a directory inside another one, gives it to `owner`, and syncs both. An existing directory is not changed,
/// but its name is synced all the same: the process that made it may have crashed before its own sync. Two threads must not
/// do this at once.
///
/// # Errors
/// An I/O error; `ENOTDIR` if someone replaced the new directory before it could be opened.
pub fn make_below(parent: impl AsFd, name: &OsStr, mode: Mode, owner: Option<Owner>) -> io::Result<OwnedFd> {
    let directory = make_unsynced(&parent, name, mode, owner)?;
    sync_directory(&parent)?;
    Ok(directory)
}

/// As [`make_below`], for several directories, whose names share one sync.
///
/// # Errors
/// The parent can't be synced; and for each as [`make_below`].
pub fn make_each_below<const N: usize>(
    parent: impl AsFd,
    wanted: [(&str, Mode); N],
    owner: Option<Owner>,
) -> io::Result<[io::Result<OwnedFd>; N]> {
    let made = wanted.map(|(name, mode)| make_unsynced(&parent, name.as_ref(), mode, owner));
    sync_directory(&parent)?;
    Ok(made)
}

/// The part of [`make_below`] before the sync of the parent.
fn make_unsynced(parent: impl AsFd, name: &OsStr, mode: Mode, owner: Option<Owner>) -> io::Result<OwnedFd> {
    let made = match mkdirat(&parent, name, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    let directory = open_below(&parent, name, DirectoryAccess::Read)?;
    if !made {
        return Ok(directory);
    }
    // A user who may write to the parent could have put a directory there that is not theirs: it is not changed. But
    // without an owner, or if it is the owner's, it may as well be the new one, which another thread already delivers into.
    if is_empty(&directory)? {
        // The umask may have removed the bits that let others pass through.
        fchmod(&directory, mode)?;
        give_to(&directory, owner)?;
    } else if owner.is_some_and(|owner| !fstat(&directory).is_ok_and(|stat| stat.st_uid == owner.uid)) {
        return Err(Errno::NOTDIR.into());
    }
    sync_directory(&directory)?;
    Ok(directory)
}

fn is_empty(directory: impl AsFd) -> io::Result<bool> {
    for entry in Dir::read_from(directory)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes a directory and every missing parent, and syncs the names of all of them. The names of existing ones are
/// synced where their parents can be opened: a squashfs or a user's home may not allow it.
///
/// # Errors
/// An I/O error about a directory that was missing.
pub fn make_directories(path: &Path, mode: Mode) -> io::Result<()> {
    // The root, and the start of a relative path, have no parent.
    let Some(parent) = path.parent() else { return Ok(()) };
    make_directories(parent, mode)?;
    let made = match rustix::fs::mkdir(path, mode) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno.into()),
    };
    if made {
        // As in `make_below`, because of the umask.
        chmod(path, mode)?;
    }
    let synced = open_directory(parent, DirectoryAccess::Read).and_then(sync_directory);
    if made { synced } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs::File;
    use std::thread;

    #[test]
    fn a_directory_that_another_thread_uses_at_once_is_made() {
        for _ in 0..300 {
            let parent = TestDirectory::new();
            let path = parent.path().join("tmp/x");
            thread::scope(|scope| {
                scope.spawn(|| while File::create(&path).is_err() {});
                let opened = open_directory(parent.path(), DirectoryAccess::Read).unwrap();
                make_below(opened, "tmp".as_ref(), Mode::RWXU, None).unwrap();
            });
        }
    }
}
