//! Whether standard error is the journal of systemd, which then takes a level from the start of each line.
//!
//! A service manager that connects a service's standard output or error to the journal sets `JOURNAL_STREAM` to device and inode
//! of that socket, in decimal with a colon between (systemd.exec(5)). Children inherit the variable, also those whose standard
//! error is something else, such as a terminal: therefore both numbers are compared with those of standard error.
//!
//! The levels are those of syslog(3), as in sd-daemon(3): `<3>` is an error.

use rustix::fs::{Stat, fstat};
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
}
