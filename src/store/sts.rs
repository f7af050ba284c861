//! Policies of MTA-STS that were fetched (RFC 8461 §5.1), in `state/sts/DOMAIN`, a file each.
//!
//! Never judges what is in them, and never fails a delivery: who can't save goes without, and fetches again next time.

use super::{StoreError, small_file};
use std::path::Path;

const DIRECTORY: &str = "sts";
/// So many are kept; above it the one goes that was saved longest ago. Whoever may send mail could else fill the disk by
/// domains of their own.
const FILES_MAX: usize = 256;

/// Reads what was saved below `state` for a domain, in lower case; `None` if there is nothing.
#[must_use]
pub fn load(state: &Path, domain: &str) -> Option<Vec<u8>> {
    is_name(domain).then(|| small_file::load(&state.join(DIRECTORY).join(domain)))?
}

/// Saves the policy of a domain, durably. A name that is none of a file is not saved.
///
/// # Errors
/// When it could not be written; what was saved before is then still there.
pub fn save(state: &Path, domain: &str, text: &str) -> Result<(), StoreError> {
    if !is_name(domain) {
        return Ok(());
    }
    make_room(&state.join(DIRECTORY));
    small_file::save(state, DIRECTORY, domain, text.as_bytes())
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
        let saved = |path: &std::path::PathBuf| path.metadata().and_then(|file| file.modified()).ok();
        // What can't be removed makes one file more.
        let _ = files.iter().min_by_key(|path| saved(path)).map(std::fs::remove_file);
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;
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
    }
}
