//! Files that hold secrets: passwords, private keys, hashes. Others than owner and group must not be able to use one.
//!
//! Judges by modes only, of the file and of the directories above it: a file that is open to others is safe behind a
//! directory that is closed to them. A link counts as what it leads to. Access control lists are not seen.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The rights of others than owner and group, as bits of a mode.
const OTHERS: u32 = 0o007;
/// Search permission of a directory.
const SEARCH: u32 = 0o1;

/// Checks that a file with a secret is there, and that others can't use it.
///
/// # Errors
/// Says what is wrong and what to do.
pub fn check(path: &Path) -> Result<(), String> {
    std::fs::metadata(path).map_err(|e| format!("{path:?} can't be read: {e}; make the file"))?;
    flaw(path).map_or(Ok(()), Err)
}

/// The problem of a secret that others can use, or that is no regular file. `None`: others can't reach it, or it does not
/// exist.
#[must_use]
pub fn flaw(path: &Path) -> Option<String> {
    let target = std::fs::canonicalize(path).ok()?;
    let is_open = |place: &Path, rights: u32| {
        std::fs::metadata(place).is_ok_and(|metadata| metadata.mode() & OTHERS & rights != 0)
    };
    // Opening a pipe waits for a writer.
    if std::fs::metadata(&target).is_ok_and(|metadata| !metadata.is_file()) {
        return Some(format!("{path:?} is no file; name one"));
    }
    let is_reached = is_open(&target, OTHERS) && target.ancestors().skip(1).all(|it| is_open(it, SEARCH));
    is_reached.then(|| format!("others may use {path:?}; remove that right (chmod o= {})", path.display()))
}
