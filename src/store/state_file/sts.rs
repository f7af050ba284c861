//! MTA-STS policies that were fetched (RFC 8461 §5.1), in `state/sts/DOMAIN`, one file each.
//!
//! This module does not judge the policies, and never fails a delivery: a policy that cannot be saved is fetched again for
//! the next message. The name of a file is a domain in lower case; any other name is neither read nor written, so no
//! domain leads to another directory.

use crate::store::StoreError;
use std::path::Path;

const DIRECTORY: &str = "sts";
/// How many policies are kept; beyond it the one that was saved first makes room. Otherwise any sender could fill the
/// disk by mail to domains of their own.
const FILES_MAX: usize = 256;

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
    make_room(&state.join(DIRECTORY));
    super::save(state, DIRECTORY, domain, text.as_bytes())
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
        // If this fails, there is one file more.
        let _ = files.iter().min_by_key(|path| saved(path)).map(std::fs::remove_file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::test_directory::TestDirectory;
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
