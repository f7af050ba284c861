//! MTA-STS policies that were fetched (RFC 8461 §5.1), in `state/sts/DOMAIN`, one file each.
//!
//! This module does not judge the policies, and never fails a delivery: a policy that cannot be saved is fetched again for
//! the next message. The name of a file is a domain in lower case; any other name is neither read nor written, so no
//! domain leads to another directory.
//!
//! At most [`FILES_MAX`] policies are kept: otherwise any sender could fill the disk by mail to domains of their own. Beyond
//! it one makes room:
//!
//! | policy | mark | makes room |
//! | --- | --- | --- |
//! | no mail was sent under it yet | none | first; of several, the one that was saved first |
//! | mail was sent under it | the file's mode has the owner's execute bit | last; of several, the one that was saved first |
//!
//! So nobody gets rid of a policy in use by having this host look up many domains.

use crate::store::StoreError;
use rustix::fs::Mode;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const DIRECTORY: &str = "sts";
/// How many policies are kept.
const FILES_MAX: usize = 256;
/// The bit of the mode that marks a policy in use.
const USED: u32 = 0o100;

/// Reads what was saved below `state` for a domain in lower case; `None` if there is no file.
#[must_use]
pub fn load(state: &Path, domain: &str) -> Option<Vec<u8>> {
    is_name(domain).then(|| super::load(&state.join(DIRECTORY).join(domain)))?
}

/// Saves the policy of a domain, durably. A domain that is no valid file name is not saved.
///
/// # Errors
/// An I/O error; the previous version is still there.
pub fn save(state: &Path, domain: &str, text: &str) -> Result<(), StoreError> {
    if !is_name(domain) {
        return Ok(());
    }
    let path = state.join(DIRECTORY).join(domain);
    let was_used = path.metadata().is_ok_and(|file| is_used(&file));
    if !path.exists() {
        make_room(&state.join(DIRECTORY));
    }
    super::save(state, DIRECTORY, domain, text.as_bytes())?;
    if was_used {
        mark_used(state, domain);
    }
    Ok(())
}

/// Marks the policy of a domain as one that mail was sent under. If that fails, the policy is only forgotten sooner.
pub fn mark_used(state: &Path, domain: &str) {
    let path = state.join(DIRECTORY).join(domain);
    if is_name(domain) && path.symlink_metadata().is_ok_and(|file| file.is_file() && !is_used(&file)) {
        let _ = rustix::fs::chmod(&path, Mode::RWXU);
    }
}

fn is_used(file: &Metadata) -> bool {
    file.mode() & USED != 0
}

fn is_name(domain: &str) -> bool {
    (1..=253).contains(&domain.len())
        && !domain.starts_with('.')
        && domain.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

fn make_room(directory: &Path) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    if files.len() >= FILES_MAX {
        let rank = |path: &std::path::PathBuf| {
            path.metadata().ok().map(|file| (is_used(&file), file.mtime(), file.mtime_nsec()))
        };
        // If this fails, there is one file more.
        let _ = files.iter().min_by_key(|path| rank(path)).map(std::fs::remove_file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_was_saved_last_is_loaded_and_no_name_leads_elsewhere() {
        let directory = TestDirectory::new();
        let state = directory.path();
        assert_eq!(load(state, "a.example"), None);
        assert!(save(state, "a.example", "x").is_err(), "no tmp");
        fs::create_dir(state.join("tmp")).unwrap();
        for text in ["x", "y"] {
            save(state, "a.example", text).unwrap();
            assert_eq!(load(state, "a.example").as_deref(), Some(text.as_bytes()));
        }
        for name in ["", ".", "..", "../tmp/x", "a/b", ".a", "A.example", "ü.example", &"a".repeat(254)] {
            save(state, name, "x").unwrap();
            assert_eq!(load(state, name), None, "{name}");
        }
        assert_eq!(fs::read_dir(state.join(DIRECTORY)).unwrap().count(), 1);
        assert_eq!(fs::read_dir(state.join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn the_oldest_makes_room() {
        let directory = TestDirectory::new();
        let state = directory.path();
        fs::create_dir(state.join("tmp")).unwrap();
        fs::create_dir(state.join(DIRECTORY)).unwrap();
        for number in 0..FILES_MAX {
            let file = File::create(state.join(DIRECTORY).join(format!("d{number}"))).unwrap();
            let age = Duration::from_secs(if number == 7 { 100 } else { 50 });
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        save(state, "new.example", "x").unwrap();
        assert_eq!(fs::read_dir(state.join(DIRECTORY)).unwrap().count(), FILES_MAX);
        assert_eq!((load(state, "d7"), load(state, "d8")), (None, Some(vec![])));
        // A policy that is saved again needs no room.
        save(state, "d9", "y").unwrap();
        assert_eq!(fs::read_dir(state.join(DIRECTORY)).unwrap().count(), FILES_MAX);
    }

    #[test]
    fn policies_that_mail_was_sent_under_are_the_last_to_go() {
        let directory = TestDirectory::new();
        let state = directory.path();
        fs::create_dir(state.join("tmp")).unwrap();
        for used in ["bank.example", "work.example"] {
            save(state, used, "1").unwrap();
            mark_used(state, used);
            // A new version of the policy stays marked.
            save(state, used, "2").unwrap();
        }
        for number in 0..3 * FILES_MAX {
            save(state, &format!("d{number}.hostile.example"), "x").unwrap();
        }
        for used in ["bank.example", "work.example"] {
            assert_eq!(load(state, used).as_deref(), Some(b"2".as_slice()), "{used}");
        }
        assert_eq!(fs::read_dir(state.join(DIRECTORY)).unwrap().count(), FILES_MAX);
        // A link is not followed, nor anything else changed.
        mark_used(state, "../tmp");
        mark_used(state, "none.example");
    }
}
