//! Renames that replace no file, also where the system has no flag for that. They sync nothing: the commit does.

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat_with, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::BorrowedFd;

/// A way to give a file at its temporary name the final name; returns whether the temporary name is gone afterwards.
pub(super) type MoveStep = fn(BorrowedFd<'_>, &str, BorrowedFd<'_>, &OsStr) -> Result<bool, Errno>;

pub(super) fn rename_without_replacing(
    directory: BorrowedFd<'_>,
    name: &str,
    target: BorrowedFd<'_>,
    to: &OsStr,
) -> Result<bool, Errno> {
    match renameat_with(directory, name, target, to, RenameFlags::NOREPLACE) {
        // An old kernel, or a file system that does not support the flag.
        Err(Errno::NOSYS | Errno::INVAL) => link_without_replacing(directory, name, target, to),
        result => result.map(|()| true),
    }
}

/// Makes the final name first. The temporary name goes when its owner is dropped or, if that fails, by a sweep.
pub(super) fn link_without_replacing(
    directory: BorrowedFd<'_>,
    name: &str,
    target: BorrowedFd<'_>,
    to: &OsStr,
) -> Result<bool, Errno> {
    linkat(directory, name, target, to, AtFlags::empty()).map(|()| false)
}

/// Moves a file to another directory, never over an existing file. The move is not synced.
///
/// # Errors
/// `EEXIST`, or another I/O error.
pub fn move_file(
    from: BorrowedFd<'_>,
    name: impl rustix::path::Arg + Copy,
    target: BorrowedFd<'_>,
    to: &str,
) -> io::Result<()> {
    match renameat_with(from, name, target, to, RenameFlags::NOREPLACE) {
        Err(Errno::NOSYS | Errno::INVAL) => {
            linkat(from, name, target, to, AtFlags::empty())?;
            unlinkat(from, name, AtFlags::empty())?;
        }
        result => result?,
    }
    Ok(())
}
