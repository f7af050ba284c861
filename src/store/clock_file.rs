//! The little that has to be known about time after a restart: how long pillarbox has run in all, and what the clocks
//! said when that was saved. Ages of queued mail count time that has really passed (INTERFACE section 8), and a box
//! without a battery starts in the past.
//!
//! One line in `state/clock` with a checksum, replaced as a whole. A file that is missing or damaged is no error: the
//! count of time begins anew, which makes mail live longer, never shorter.

use super::StoreError;
use super::durable::{Access, StagedFile, open_directory};
use super::text::{escape, parse_checked, parse_now, print_checked, print_now, unescape};
use crate::mail::date::Now;
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Name and format version; another version is read as a damaged file.
const MAGIC: &str = "pillarbox-clock 1";
/// More than the line can have.
const FILE_MAX_OCTETS: u64 = 1024;

/// What is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Both clocks at the time of saving.
    pub now: Now,
    /// Which boot of the system it was.
    pub boot_id: String,
    /// Time since that boot, at the time of saving.
    pub since_boot: Duration,
    /// The running clock when the wall clock last jumped; zero: it never did.
    pub last_jump: Duration,
}

/// Reads what was saved below `state`; `None` if there is nothing that can be believed.
#[must_use]
pub fn load(state: &Path) -> Option<Saved> {
    let mut octets = Vec::new();
    File::open(state.join("clock")).ok()?.take(FILE_MAX_OCTETS).read_to_end(&mut octets).ok()?;
    parse(&octets)
}

/// Saves below `state`, durably. Meant for every ten minutes or so, and for a jump of the wall clock.
///
/// # Errors
/// When it could not be written; what was saved before is then still there.
pub fn save(state: &Path, saved: &Saved) -> Result<(), StoreError> {
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

fn print(saved: &Saved) -> String {
    let mut text = format!("{MAGIC}\t");
    print_now(saved.now, &mut text);
    // Writing to a String can't fail.
    let _ = write!(text, "\t{}\t{}\t", saved.since_boot.as_micros(), saved.last_jump.as_micros());
    escape(&saved.boot_id, &mut text);
    let mut line = String::new();
    print_checked(&text, &mut line);
    line
}

fn parse(octets: &[u8]) -> Option<Saved> {
    let mut fields = parse_checked(octets.strip_suffix(b"\n")?)?.split('\t');
    let mut next = || fields.next();
    if next()? != MAGIC {
        return None;
    }
    Some(Saved {
        now: parse_now(next()?)?,
        since_boot: Duration::from_micros(next()?.parse().ok()?),
        last_jump: Duration::from_micros(next()?.parse().ok()?),
        boot_id: unescape(next()?)?,
    })
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;
    use crate::mail::date::WallTime;
    use std::fs;

    fn saved(wall: u64) -> Saved {
        Saved {
            now: Now { wall: WallTime(wall), running: Duration::from_micros(5_000_001) },
            boot_id: "8f14\te45f".into(),
            since_boot: Duration::from_secs(60),
            last_jump: Duration::from_micros(7),
        }
    }

    #[test]
    fn what_was_saved_last_is_loaded() {
        let directory = TestDirectory::new();
        assert_eq!(load(directory.path()), None);
        assert!(save(directory.path(), &saved(1)).is_err());
        fs::create_dir(directory.path().join("tmp")).unwrap();
        for wall in [1, 2] {
            save(directory.path(), &saved(wall)).unwrap();
            assert_eq!(load(directory.path()), Some(saved(wall)));
        }
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let line = print(&saved(1)).into_bytes();
        for i in 0..line.len() {
            assert_eq!(parse(&line[..i]), None);
            let mut flipped = line.clone();
            flipped[i] ^= 1;
            assert_eq!(parse(&flipped), None, "octet {i}");
        }
        let mut other_version = String::new();
        print_checked("pillarbox-clock 2\t1 1\t1\t1\tx", &mut other_version);
        assert_eq!(parse(other_version.as_bytes()), None);
    }
}
