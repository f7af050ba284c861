//! The little that has to be known after a restart and fits on a line: what the running clock (`rules::running_clock`)
//! wants kept, since ages of queued mail count time that has really passed (INTERFACE section 8) and a box without a
//! battery starts in the past; and the totals of what was counted.
//!
//! One line with a checksum, replaced as a whole. A file that is missing or damaged is no error: the count begins anew,
//! which for the clock makes mail live longer, never shorter.

use super::StoreError;
use super::durable::{DirectoryAccess, StagedFile, open_directory};
use super::text::{parse_checked, print_checked};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// More than a line can have.
const FILE_MAX_OCTETS: u64 = 16 * 1024;

/// Such a file.
#[derive(Debug)]
pub struct LineFile {
    /// Its name below `state`.
    name: &'static str,
    /// Name and format version; another version is read as a damaged file.
    magic: &'static str,
}

/// The running clock. Saved every ten minutes or so, and at a jump of the wall clock.
pub const CLOCK: LineFile = LineFile { name: "clock", magic: "pillarbox-clock 1" };
/// What was counted. Saved once an hour at most, and when the daemon stops.
pub const STATISTICS: LineFile = LineFile { name: "statistics", magic: "pillarbox-statistics 1" };

impl LineFile {
    /// Reads what was saved below `state`; `None` if there is nothing that can be believed.
    #[must_use]
    pub fn load(&self, state: &Path) -> Option<String> {
        let mut octets = Vec::new();
        File::open(state.join(self.name)).ok()?.take(FILE_MAX_OCTETS).read_to_end(&mut octets).ok()?;
        self.parse(&octets)
    }

    /// Saves below `state`, durably.
    ///
    /// # Errors
    /// When it could not be written; what was saved before is then still there.
    pub fn save(&self, state: &Path, saved: &str) -> Result<(), StoreError> {
        let path = state.join(self.name);
        let stage = || {
            let tmp = Arc::new(open_directory(&state.join("tmp"), DirectoryAccess::Search)?);
            let mut file = StagedFile::create(&tmp, format!("{}.{}", self.name, std::process::id()), None)?;
            file.lock()?;
            file.write(self.print(saved).as_bytes())?;
            Ok((file, Arc::new(open_directory(state, DirectoryAccess::Read)?)))
        };
        let (file, directory) = stage().map_err(|error: std::io::Error| StoreError::io(&path, error))?;
        file.sync(directory, path)?.replace().map(drop)
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
    use super::super::test_directory::TestDirectory;
    use super::*;
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
