//! The DKIM keys, read at start and at SIGHUP. `engine::outbound::outgoing` signs with them.
//!
//! | key | at start | mail |
//! | --- | --- | --- |
//! | valid | loaded | is signed |
//! | readable by others | logged and left out | leaves without this signature |
//! | missing or invalid | an error: the daemon does not start, a reload keeps the old configuration | – |

use crate::config::secret_file::{self, SecretFault};
use crate::config::{Dkim, Settings};
use crate::engine::log::event::trouble;
use crate::rules::message::dkim::DkimKey;

/// Reads the keys of the configuration. A key that others can read is left out: its mail leaves without a signature.
///
/// # Errors
/// A key cannot be read or is invalid: the number of its `[[dkim]]`, from 0, and the reason.
pub fn load(settings: &Settings) -> Result<Vec<DkimKey>, (usize, String)> {
    let mut keys = Vec::new();
    for (i, dkim) in settings.dkim.iter().enumerate() {
        match read(dkim) {
            Ok(key) => keys.extend(key),
            Err(SecretFault { is_refused: true, text }) => {
                trouble("reading a DKIM key; mail leaves without its signature", &text);
            }
            Err(fault) => return Err((i, fault.text)),
        }
    }
    Ok(keys)
}

/// Reads the key of an entry; `None` if the entry is incomplete, which `config` reports.
///
/// # Errors
/// The key cannot be read or is invalid, or others can read it; the text names the reason.
pub fn read(dkim: &Dkim) -> Result<Option<DkimKey>, SecretFault> {
    let (Some(domain), Some(selector), Some(path)) = (&dkim.domain, &dkim.selector, &dkim.key) else {
        return Ok(None);
    };
    let key = DkimKey::from_pem(&secret_file::read(path)?, domain, selector);
    key.map(Some).map_err(|error| SecretFault { is_refused: false, text: format!("{path:?} {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::test_directory::TestDirectory;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_can_read_signs_nothing_and_stops_nothing() {
        let directory = TestDirectory::new();
        let pem = openssl::pkey::PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
        let path = directory.file("key.pem", pem);
        let entry = format!("[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = {path:?}\n");
        let settings = config::parse(&entry, "f").unwrap();
        for (mode, keys) in [(0o600, 1), (0o640, 1), (0o644, 0), (0o604, 0)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load(&settings).map(|keys| keys.len()), Ok(keys), "{mode:o}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(load(&settings).map(|keys| keys.len()).map_err(|(i, _)| i), Err(0), "none is there");
    }
}
