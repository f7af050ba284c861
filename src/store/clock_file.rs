//! The little that has to be known about time after a restart: what the running clock
//! (`rules::running_clock`) wants kept. Ages of queued mail count time that has really passed (INTERFACE section 8), and a box
//! without a battery starts in the past.
//!
//! One line in `state/clock` with a checksum, replaced as a whole. A file that is missing or damaged is no error: the
//! count of time begins anew, which makes mail live longer, never shorter.

use super::StoreError;
use super::durable::{Access, StagedFile, open_directory};
use super::text::{parse_checked, print_checked};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Name and format version; another version is read as a damaged file.
const MAGIC: &str = "pillarbox-clock 1";
/// More than the line can have.
const FILE_MAX_OCTETS: u64 = 16 * 1024;

/// Reads what was saved below `state`; `None` if there is nothing that can be believed.
#[must_use]
pub fn load(state: &Path) -> Option<String> {
    let mut octets = Vec::new();
    File::open(state.join("clock")).ok()?.take(FILE_MAX_OCTETS).read_to_end(&mut octets).ok()?;
    parse(&octets)
}

/// Saves below `state`, durably. Meant for every ten minutes or so, and for a jump of the wall clock.
///
/// # Errors
/// When it could not be written; what was saved before is then still there.
pub fn save(state: &Path, saved: &str) -> Result<(), StoreError> {
    let path = state.join("clock");
    let stage = || {
        let tmp = Arc::new(open_directory(&state.join("tmp"), Access::Search)?);
        let mut file = StagedFile::create(&tmp, format!("clock.{}", std::process::id()), None)?;
        file.lock()?;
        file.write(print(saved).as_bytes())?;
        Ok((file, Arc::new(open_directory(state, Access::Read)?)))
    };
    let (file, directory) = stage().map_err(|error: std::io::Error| StoreError::io(&path, error))?;
    file.sync(directory, path)?.replace().map(drop)
}

fn print(saved: &str) -> String {
    let mut line = String::new();
    print_checked(&format!("{MAGIC}\t{}", saved.trim_end()), &mut line);
    line
}

fn parse(octets: &[u8]) -> Option<String> {
    let (magic, saved) = parse_checked(octets.strip_suffix(b"\n")?)?.split_once('\t')?;
    (magic == MAGIC).then(|| saved.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;
    use std::fs;

    #[test]
    fn what_was_saved_last_is_loaded() {
        let directory = TestDirectory::new();
        assert_eq!(load(directory.path()), None);
        assert!(save(directory.path(), "1 2").is_err());
        fs::create_dir(directory.path().join("tmp")).unwrap();
        for saved in ["1 2", "3 4"] {
            save(directory.path(), saved).unwrap();
            assert_eq!(load(directory.path()).as_deref(), Some(saved));
        }
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let line = print("1 2 3\n").into_bytes();
        assert_eq!(parse(&line).as_deref(), Some("1 2 3"));
        for i in 0..line.len() {
            assert_eq!(parse(&line[..i]), None);
            let mut flipped = line.clone();
            flipped[i] ^= 1;
            assert_eq!(parse(&flipped), None, "octet {i}");
        }
        let mut other_version = String::new();
        print_checked("pillarbox-clock 2\t1", &mut other_version);
        assert_eq!(parse(other_version.as_bytes()), None);
    }
}
