//! The self-signed certificate with its key, in `state/tls/self-signed.pem`, closed to all but `user`. Its first line
//! names the host that it was made for; readers of PEM pass over it.
//!
//! Never judges what is in it. A file that is missing, or for another host, is no error: a new one is made.

use super::StoreError;
use super::durable::{Access, StagedFile, make_below, open_directory};
use rustix::fs::Mode;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// More than the file can have.
const FILE_MAX_OCTETS: u64 = 64 * 1024;

fn path(state: &Path) -> PathBuf {
    state.join("tls/self-signed.pem")
}

/// Reads what was saved below `state` for `hostname`; `None` if there is nothing.
#[must_use]
pub fn load(state: &Path, hostname: &str) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path(state)).ok()?.take(FILE_MAX_OCTETS).read_to_end(&mut text).ok()?;
    text.starts_with(first_line(hostname).as_bytes()).then_some(text)
}

/// Saves it below `state`, durably.
///
/// # Errors
/// When it could not be written; what was saved before is then still there.
pub fn save(state: &Path, hostname: &str, pem: &[u8]) -> Result<(), StoreError> {
    let path = path(state);
    let stage = || {
        let tmp = Arc::new(open_directory(&state.join("tmp"), Access::Search)?);
        let mut file = StagedFile::create(&tmp, format!("tls.{}", std::process::id()), None)?;
        file.lock()?;
        file.write(first_line(hostname).as_bytes())?;
        file.write(pem)?;
        let state = open_directory(state, Access::Read)?;
        Ok((file, Arc::new(make_below(state, OsStr::new("tls"), Mode::RWXU, None)?)))
    };
    let (file, directory) = stage().map_err(|error: std::io::Error| StoreError::io(&path, error))?;
    file.sync(directory, path)?.replace().map(drop)
}

fn first_line(hostname: &str) -> String {
    format!("self-signed certificate of {hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::super::test_directory::TestDirectory;
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_was_saved_last_is_loaded_by_its_host_and_closed_to_others() {
        let directory = TestDirectory::new();
        let state = directory.path();
        assert_eq!(load(state, "a"), None);
        assert!(save(state, "a", b"x\n").is_err());
        fs::create_dir(state.join("tmp")).unwrap();
        for pem in [b"x\n", b"y\n"] {
            save(state, "a", pem).unwrap();
            let text = load(state, "a").unwrap();
            assert!(text.ends_with(pem) && text.starts_with(b"self-signed certificate of a\n"));
        }
        assert_eq!(load(state, "b"), None);
        assert_eq!(load(state, ""), None);
        let mode = |path: &str| fs::metadata(state.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("tls"), mode("tls/self-signed.pem")), (0o700, 0o600));
        assert_eq!(fs::read_dir(state.join("tmp")).unwrap().count(), 0);
    }
}
