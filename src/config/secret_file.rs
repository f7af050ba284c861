//! Files that hold secrets: passwords, private keys, hashes. Others than owner and group must not be able to use one.
//!
//! [`read`] is the only way to open one, for every command. It judges the descriptor, so that what was judged is what is read.
//! Judges by modes only, of the file and of the directories above it: a file that is open to others is safe behind a
//! directory that is closed to them. A link counts as what it leads to. Access control lists are not seen.

use crate::sys::file::{self, FileKind};
use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The rights of others than owner and group, as bits of a mode.
const OTHERS: u32 = 0o007;
/// Search permission of a directory.
const SEARCH: u32 = 0o1;

/// Why a secret can't be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretFault {
    /// It is refused: others can use it, or it is no regular file. Otherwise it can't be read.
    pub is_refused: bool,
    /// What is wrong, and what to do.
    pub text: String,
}

/// Reads a secret.
///
/// # Errors
/// It can't be read, or others can use it.
pub fn read(path: &Path) -> Result<Vec<u8>, SecretFault> {
    let unread = |error: std::io::Error| {
        let is_refused = error.kind() == ErrorKind::Other;
        let cure = match error.kind() {
            ErrorKind::NotFound => "make the file",
            ErrorKind::PermissionDenied => "let the daemon's user read it (chgrp, chmod g+r)",
            _ => "name another",
        };
        SecretFault { is_refused, text: format!("{path:?} can't be read: {error}; {cure}") }
    };
    let (opened, metadata) = file::open(path, FileKind::Secret).map_err(unread)?;
    if let Some(text) = flaw(path, &metadata) {
        return Err(SecretFault { is_refused: true, text });
    }
    file::read_open(&opened, FileKind::Secret).map_err(unread)
}

/// Says what [`read`] would say of a file, without opening it: for `check`, which may have more rights than the daemon.
///
/// # Errors
/// Says what is wrong and what to do.
pub fn check(path: &Path) -> Result<(), String> {
    let metadata =
        std::fs::metadata(path).map_err(|e| format!("{path:?} can't be read: {e}; make the file"))?;
    flaw(path, &metadata).map_or(Ok(()), Err)
}

/// The problem of a secret that others can use, or that is no regular file. `None`: others can't reach it.
fn flaw(path: &Path, metadata: &Metadata) -> Option<String> {
    if !metadata.is_file() {
        return Some(format!("{path:?} is no file; name one"));
    }
    if metadata.mode() & OTHERS == 0 {
        return None;
    }
    let is_open =
        |place: &Path| std::fs::metadata(place).is_ok_and(|directory| directory.mode() & SEARCH != 0);
    let is_reached = std::fs::canonicalize(path).map_or(true, |it| it.ancestors().skip(1).all(is_open));
    is_reached.then(|| format!("others may use {path:?}; remove that right (chmod o= {})", path.display()))
}
