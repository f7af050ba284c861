//! The self-signed certificates with their keys, in `state/tls/self-signed.pem`, closed to all users but the daemon's. The
//! first line names the host that they were made for; PEM parsers skip it. A file for another host reads as missing.

use crate::store::StoreError;
use std::path::Path;

const DIRECTORY: &str = "tls";
const NAME: &str = "self-signed.pem";

/// Reads what was saved below `state` for `hostname`; `None` if there is no such file.
#[must_use]
pub fn load(state: &Path, hostname: &str) -> Option<Vec<u8>> {
    let text = super::load(&state.join(DIRECTORY).join(NAME))?;
    text.starts_with(first_line(hostname).as_bytes()).then_some(text)
}

/// Saves certificates and keys below `state`, durably.
///
/// # Errors
/// An I/O error; the previous version is still there.
pub fn save(state: &Path, hostname: &str, pem: &[u8]) -> Result<(), StoreError> {
    super::save(state, DIRECTORY, NAME, &[first_line(hostname).as_bytes(), pem].concat())
}

fn first_line(hostname: &str) -> String {
    format!("self-signed certificate of {hostname}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
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
