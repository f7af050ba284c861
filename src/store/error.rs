//! Errors of the disk, sorted by what the caller has to answer. They are faults of this host, never of the message.
//!
//! | kind | SMTP reply | enhanced status | who has to act |
//! | --- | --- | --- | --- |
//! | `Full` | 452 | 4.3.1 | the operator makes room; the client tries again |
//! | `MailboxFull` | 452 | 4.2.2 | the owner of the mailbox deletes mail |
//! | `Trouble` | 451 | 4.3.0 | the operator, if it lasts |
//! | `Refused` | 451 | 4.3.0 | the operator: a path is not safe |
//! | `Corrupt` | – | – | the operator looks into `corrupt/` |
//! | `Foreign` | – | – | the operator removes a file that does not belong in `queue/` |

use crate::mail::status::EnhancedStatus;
use rustix::io::Errno;
use std::path::PathBuf;
use std::{fmt, io};

/// How the caller has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Disk, quota or inodes are used up, or the file would exceed `ulimit -f`: 452 4.3.1.
    Full,
    /// The messages of the Maildir have reached `local.quota`: 452 4.2.2.
    MailboxFull,
    /// Any other I/O error, such as a read-only file system or a lack of descriptors: 451 4.3.0.
    Trouble,
    /// Not done because it would not be safe, such as a link in place of a Maildir: 451 4.3.0. The operator has to
    /// look.
    Refused,
    /// A queue file that cannot be parsed; it has been moved to `corrupt/`.
    Corrupt,
    /// A file in `queue/` that pillarbox did not make; it stays where it is.
    Foreign,
}

/// An error with the path that it concerns.
#[derive(Debug)]
pub struct StoreError {
    /// How to answer.
    pub kind: ErrorKind,
    /// The file or directory.
    pub path: PathBuf,
    /// The cause.
    pub source: io::Error,
}

impl StoreError {
    /// An error for an action that was refused because it would not be safe.
    #[must_use]
    pub fn refused(path: impl Into<PathBuf>, reason: &'static str) -> Self {
        Self::new(ErrorKind::Refused, path, reason)
    }

    pub(super) fn new(kind: ErrorKind, path: impl Into<PathBuf>, reason: &'static str) -> Self {
        Self { kind, path: path.into(), source: io::Error::other(reason) }
    }

    /// The enhanced status for replies and diagnostics: temporary, as the message is not to blame.
    #[must_use]
    pub const fn status(&self) -> EnhancedStatus {
        match self.kind {
            ErrorKind::Full => EnhancedStatus::SYSTEM_FULL,
            ErrorKind::MailboxFull => EnhancedStatus::MAILBOX_FULL_NOW,
            ErrorKind::Trouble | ErrorKind::Refused | ErrorKind::Corrupt | ErrorKind::Foreign => {
                EnhancedStatus::SYSTEM_TROUBLE
            }
        }
    }

    /// An error of the operating system; its number decides the kind.
    #[must_use]
    pub fn io(path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match Errno::from_io_error(&source) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => ErrorKind::Full,
            _ => ErrorKind::Trouble,
        };
        Self { kind, path: path.into(), source }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_the_error_decides_the_answer() {
        for (errno, kind) in [
            (Errno::NOSPC, ErrorKind::Full),
            (Errno::DQUOT, ErrorKind::Full),
            (Errno::FBIG, ErrorKind::Full),
            (Errno::IO, ErrorKind::Trouble),
            (Errno::ROFS, ErrorKind::Trouble),
            (Errno::MFILE, ErrorKind::Trouble),
            (Errno::ACCESS, ErrorKind::Trouble),
        ] {
            assert_eq!(StoreError::io("/x", errno).kind, kind, "{errno}");
        }
        let error = StoreError::io("/var/mail/root", Errno::ROFS);
        assert_eq!(error.to_string(), "/var/mail/root: Read-only file system (os error 30)");
        let refused = StoreError::new(ErrorKind::Refused, "/var/mail/root", "is a link");
        assert_eq!(refused.to_string(), "/var/mail/root: is a link");
    }
}
