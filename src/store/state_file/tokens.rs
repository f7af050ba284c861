//! The tokens of logins by OAuth 2.0, in `state/tokens/NAME`, a file each of mode 0600, with a lock `NAME.lock` beside it.
//!
//! ```text
//! CRC
//! what the caller saves (rules::accounts::oauth::kept)
//! padding
//! ```
//!
//! A wrong checksum reads as a missing file. A name is of letters, digits and `-`; any other is neither read nor written.
//!
//! A new token must not be lost to a full disk: the provider may have ended the old one. So the caller first takes a
//! [`Reserved`], which has written as many octets as the next version may have, and only then asks for the token; the save then
//! overwrites these octets, and needs no more room. The lock lets one process at a time ask; it ends with the process.

use super::super::crc;
use crate::store::durable::{DirectoryAccess, StagedFile, SyncedFile, make_below, open_directory};
use crate::store::{ErrorKind, StoreError, try_lock};
use rustix::fs::{Mode, OFlags, openat};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const DIRECTORY: &str = "tokens";
const LOCK: &str = ".lock";
/// Room for three tokens of the longest kind, and for all else.
pub const SIZE_MAX_OCTETS: usize = 32 * 1024;
/// The most files that are listed.
const FILES_MAX: usize = 256;

/// Reads what was saved below `state`; `None` if it is missing or damaged.
#[must_use]
pub fn load(state: &Path, name: &str) -> Option<Vec<u8>> {
    let octets = is_name(name).then(|| super::load(&state.join(DIRECTORY).join(name)))??;
    let (crc, text) = octets.split_at_checked(8)?;
    let text = text.strip_prefix(b"\n")?;
    let end = text.iter().rposition(|&octet| octet != b'\n').map_or(0, |at| at + 2).min(text.len());
    let text = text.get(..end)?;
    (crc == checksum(text).as_bytes()).then(|| text.to_vec())
}

/// The names of all files.
#[must_use]
pub fn names(state: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(state.join(DIRECTORY)) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| is_name(name)).take(FILES_MAX).collect();
    names.sort();
    names
}

/// Room on the disk for a new version of a file.
#[derive(Debug)]
pub struct Reserved {
    file: StagedFile,
    target: Arc<OwnedFd>,
    path: PathBuf,
}

impl Reserved {
    /// Reserves room for so many octets below `state`.
    ///
    /// # Errors
    /// The disk is full, or another I/O error.
    pub fn begin(state: &Path, name: &str, octets: usize) -> Result<Self, StoreError> {
        /// Several threads of one process may save at the same time.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let path = state.join(DIRECTORY).join(name);
        if !is_name(name) {
            return Err(StoreError::new(ErrorKind::Trouble, path, "it is no name of a token file"));
        }
        let stage = || -> io::Result<(StagedFile, Arc<OwnedFd>)> {
            let target = Arc::new(directory(state)?);
            let tmp = Arc::new(open_directory(&state.join("tmp"), DirectoryAccess::Search)?);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let mut file = StagedFile::create(&tmp, format!("tokens.{}.{number}", std::process::id()), None)?;
            file.lock()?;
            file.write(&vec![b'\n'; octets.min(SIZE_MAX_OCTETS)])?;
            // Out of the buffer, so that the disk has to have the room now.
            file.contents()?;
            Ok((file, target))
        };
        let (file, target) = stage().map_err(|error| StoreError::io(&path, error))?;
        Ok(Self { file, target, path })
    }

    /// Saves a version, durably.
    ///
    /// # Errors
    /// An I/O error, or the text is too long; the previous version is still there.
    pub fn save(mut self, text: &[u8]) -> Result<(), StoreError> {
        let octets = [checksum(text).as_bytes(), b"\n", text].concat();
        if octets.len() > SIZE_MAX_OCTETS || !text.ends_with(b"\n") || text.ends_with(b"\n\n") {
            return Err(StoreError::new(
                ErrorKind::Trouble,
                self.path,
                "what is to be saved has another form",
            ));
        }
        self.file.write_start(&octets).map_err(|error| StoreError::io(&self.path, error))?;
        let synced: SyncedFile = self.file.sync(self.target, self.path)?;
        synced.replace().map(drop)
    }
}

/// The right of one process, and of one thread in it, to ask for new tokens of a login; until it is dropped.
#[derive(Debug)]
pub struct TokenLock {
    _file: OwnedFd,
}

impl TokenLock {
    /// Takes the lock. `None`: another has it.
    ///
    /// # Errors
    /// An I/O error.
    pub fn take(state: &Path, name: &str) -> Result<Option<Self>, StoreError> {
        let path = state.join(DIRECTORY).join(name);
        if !is_name(name) {
            return Err(StoreError::new(ErrorKind::Trouble, path, "it is no name of a token file"));
        }
        let open = || -> io::Result<OwnedFd> {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let name = format!("{name}{LOCK}");
            // Making it syncs, and a lock is taken each minute.
            let opened = open_directory(&state.join(DIRECTORY), DirectoryAccess::Search);
            let directory = opened.or_else(|_| directory(state))?;
            Ok(openat(directory, &*name, flags, Mode::RUSR | Mode::WUSR)?)
        };
        let file = open().map_err(|error| StoreError::io(&path, error))?;
        let locked = try_lock(&file).map_err(|errno| StoreError::io(&path, errno))?;
        Ok(locked.then_some(Self { _file: file }))
    }
}

/// Opens `state/tokens`, and makes it if it is missing.
fn directory(state: &Path) -> io::Result<OwnedFd> {
    make_below(open_directory(state, DirectoryAccess::Read)?, OsStr::new(DIRECTORY), Mode::RWXU, None)
}

fn checksum(text: &[u8]) -> String {
    format!("{:08x}", crc::hash(text))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn state() -> TestDirectory {
        let directory = TestDirectory::new();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        directory
    }

    fn save(state: &Path, name: &str, text: &[u8]) {
        Reserved::begin(state, name, 4096).unwrap().save(text).unwrap();
    }

    #[test]
    fn what_was_saved_last_is_loaded_and_closed_to_others() {
        let directory = state();
        let state = directory.path();
        assert_eq!((load(state, "a"), names(state)), (None, Vec::new()));
        for text in
            [&b"one\ntwo\n"[..], b"three\n", &[b"x".repeat(SIZE_MAX_OCTETS - 10), b"\n".to_vec()].concat()]
        {
            save(state, "a", text);
            assert_eq!(load(state, "a").as_deref(), Some(text));
        }
        save(state, "b-2", b"other\n");
        assert_eq!(names(state), ["a", "b-2"]);
        let mode = |path: &str| fs::metadata(state.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tokens"), mode("tokens/a")), (0o700, 0o600));
        assert_eq!(fs::read_dir(state.join("tmp")).unwrap().count(), 0);
        for name in ["", ".", "..", "a/b", "a.lock", "../tmp/x", &"a".repeat(65)] {
            assert!(
                Reserved::begin(state, name, 9).is_err() && TokenLock::take(state, name).is_err(),
                "{name}"
            );
            assert_eq!(load(state, name), None);
        }
    }

    #[test]
    fn a_file_that_is_damaged_or_cut_is_as_good_as_none() {
        let directory = state();
        let state = directory.path();
        save(state, "a", b"refresh R\n");
        let path = state.join("tokens/a");
        let whole = fs::read(&path).unwrap();
        for at in 0..20 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert_eq!(load(state, "a"), None, "octet {at}");
            if at < 19 {
                fs::write(&path, &whole[..at]).unwrap();
                assert_eq!(load(state, "a"), None, "cut at {at}");
            }
        }
    }

    #[test]
    fn what_is_no_version_is_not_saved_and_the_one_before_stays() {
        let directory = state();
        let state = directory.path();
        save(state, "a", b"one\n");
        for text in [&b""[..], b"two", b"two\n\n", &b"x\n".repeat(SIZE_MAX_OCTETS)] {
            assert!(Reserved::begin(state, "a", 4096).unwrap().save(text).is_err());
        }
        // Reserved, and the process ended there.
        drop(Reserved::begin(state, "a", 4096).unwrap());
        assert_eq!(load(state, "a").as_deref(), Some(&b"one\n"[..]));
        assert_eq!(fs::read_dir(state.join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn one_at_a_time_has_the_lock() {
        let directory = state();
        let state = directory.path();
        let lock = TokenLock::take(state, "a").unwrap().unwrap();
        assert!(TokenLock::take(state, "a").unwrap().is_none());
        assert!(TokenLock::take(state, "b").unwrap().is_some());
        save(state, "a", b"one\n");
        assert!(TokenLock::take(state, "a").unwrap().is_none(), "a save does not end it");
        drop(lock);
        assert!(TokenLock::take(state, "a").unwrap().is_some());
        assert_eq!(names(state), ["a"], "locks are no tokens");
    }
}
