//! What standard error is: the journal of systemd, which takes a level from the start of each line, or `/dev/null`, which
//! takes nothing.
//!
//! A service manager that connects a service's standard output or error to the journal sets `JOURNAL_STREAM` to device and inode
//! of that socket, in decimal with a colon between (systemd.exec(5)). Children inherit the variable, also those whose standard
//! error is something else, such as a terminal: therefore both numbers are compared with those of standard error.
//!
//! The levels are those of syslog(3), as in sd-daemon(3): `<3>` is an error.

use rustix::fs::{FileType, Stat, fstat, makedev};
use std::ffi::OsStr;

/// An error.
pub const ERROR: u8 = 3;
/// A warning.
pub const WARNING: u8 = 4;
/// What happened.
pub const INFO: u8 = 6;
/// For those who search.
pub const DEBUG: u8 = 7;

/// Whether standard error is the journal.
#[must_use]
pub fn is_stderr() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    fstat(rustix::stdio::stderr()).is_ok_and(|stat| names(&named, &stat))
}

/// Whether the variable names this file.
fn names(named: &OsStr, stat: &Stat) -> bool {
    named == OsStr::new(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Whether nobody can read standard error, because a service manager, such as OpenRC's, opened `/dev/null` for it.
#[must_use]
pub fn is_stderr_null() -> bool {
    fstat(rustix::stdio::stderr()).is_ok_and(|stat| is_null(&stat))
}

/// Whether this is the null device of Linux: a character device, major number 1, minor number 3.
fn is_null(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
}

/// What stands before a line for standard error: its level if that is the journal, otherwise nothing.
#[must_use]
pub fn mark(level: u8) -> String {
    if is_stderr() { format!("<{level}>") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_stream_is_named_by_device_and_inode() {
        let metadata = std::fs::metadata("/dev/null").unwrap();
        let stat = fstat(std::fs::File::open("/dev/null").unwrap()).unwrap();
        let own = format!("{}:{}", metadata.dev(), metadata.ino());
        assert!(names(own.as_ref(), &stat));
        for other in ["", ":", "8:1", &format!("{own} "), &format!("0{own}"), &format!("{own}1")] {
            assert!(!names(other.as_ref(), &stat), "{other}");
        }
    }

    #[test]
    fn only_the_null_device_takes_nothing() {
        let device = |path| is_null(&fstat(std::fs::File::open(path).unwrap()).unwrap());
        assert_eq!([device("/dev/null"), device("/dev/zero"), device("/")], [true, false, false]);
    }
}
