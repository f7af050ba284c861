//! State that fits on one line: the running clock (`rules::running_clock`), since ages of queued mail count time that has
//! really passed (INTERFACE section 8) and a box without a battery starts in the past; the totals of what was counted; and
//! what happened in each hour of the last month.
//!
//! ```text
//! CRC pillarbox-clock 1<TAB>what the caller saves
//! ```
//!
//! A wrong checksum, or another name or version, reads as a missing file.

use super::super::text::{parse_checked, print_checked};
use crate::store::StoreError;
use std::path::Path;

/// A file with one line.
#[derive(Debug)]
pub struct LineFile {
    /// Its name below `state`.
    name: &'static str,
    /// Name and version of the format; another version is read as a damaged file.
    magic: &'static str,
}

/// The running clock. Saved about every ten minutes, and at a jump of the wall clock.
pub const CLOCK: LineFile = LineFile { name: "clock", magic: "pillarbox-clock 1" };
/// The totals. Saved at most once an hour, when the daemon stops, and with each mail of `heartbeat.every`.
pub const STATISTICS: LineFile = LineFile { name: "statistics", magic: "pillarbox-statistics 1" };
/// The last month in hours. Saved at most once an hour, and when the daemon stops.
pub const HISTORY: LineFile = LineFile { name: "history", magic: "pillarbox-history 1" };

impl LineFile {
    /// Reads what was saved below `state`; `None` if it is missing or damaged.
    #[must_use]
    pub fn load(&self, state: &Path) -> Option<String> {
        self.parse(&super::load(&state.join(self.name))?)
    }

    /// Saves a line below `state`, durably.
    ///
    /// # Errors
    /// An I/O error; the previous version is still there.
    pub fn save(&self, state: &Path, saved: &str) -> Result<(), StoreError> {
        super::save(state, "", self.name, self.print(saved).as_bytes())
    }

    fn print(&self, saved: &str) -> String {
        let mut line = String::new();
        print_checked(&format!("{}\t{}", self.magic, saved.trim_end()), &mut line);
        line
    }

    fn parse(&self, octets: &[u8]) -> Option<String> {
        let (magic, saved) = parse_checked(octets.strip_suffix(b"\n")?)?.split_once('\t')?;
        (magic == self.magic).then(|| saved.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_directory::TestDirectory;
    use std::fs;

    #[test]
    fn what_was_saved_last_is_loaded() {
        let directory = TestDirectory::new();
        assert_eq!(CLOCK.load(directory.path()), None);
        assert!(CLOCK.save(directory.path(), "1 2").is_err());
        fs::create_dir(directory.path().join("tmp")).unwrap();
        for saved in ["1 2", "3 4"] {
            CLOCK.save(directory.path(), saved).unwrap();
            assert_eq!(CLOCK.load(directory.path()).as_deref(), Some(saved));
        }
        assert_eq!(STATISTICS.load(directory.path()), None);
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let line = CLOCK.print("1 2 3\n").into_bytes();
        assert_eq!(CLOCK.parse(&line).as_deref(), Some("1 2 3"));
        for i in 0..line.len() {
            assert_eq!(CLOCK.parse(&line[..i]), None);
            let mut flipped = line.clone();
            flipped[i] ^= 1;
            assert_eq!(CLOCK.parse(&flipped), None, "octet {i}");
        }
        let mut other_version = String::new();
        print_checked("pillarbox-clock 2\t1", &mut other_version);
        assert_eq!(CLOCK.parse(other_version.as_bytes()), None);
    }
}
