//! The DKIM keys, read at start and at SIGHUP. `engine::outbound::outgoing` signs with them.
//!
//! | key | at start | mail |
//! | --- | --- | --- |
//! | valid | loaded | is signed |
//! | readable by others | logged and left out | leaves without this signature |
//! | missing or invalid | an error: the daemon does not start, a reload keeps the old configuration | – |

use crate::config::{Dkim, Settings, secret_file};
use crate::engine::log::event::trouble;
use crate::rules::message::dkim::DkimKey;

/// Reads the keys of the configuration. A key that others can read is left out: its mail leaves without a signature.
///
/// # Errors
/// A key cannot be read or is invalid: the number of its `[[dkim]]`, from 0, and the reason.
pub fn load(settings: &Settings) -> Result<Vec<DkimKey>, (usize, String)> {
    let mut keys = Vec::new();
    for (i, dkim) in settings.dkim.iter().enumerate() {
        if let Some(error) = dkim.key.as_deref().and_then(secret_file::flaw) {
            trouble("reading a DKIM key; mail leaves without its signature", &error);
            continue;
        }
        keys.extend(read(dkim).map_err(|error| (i, error))?);
    }
    Ok(keys)
}

/// Reads the key of an entry; `None` if the entry is incomplete, which `config` reports.
///
/// # Errors
/// The key cannot be read or is invalid; the text names the reason.
pub fn read(dkim: &Dkim) -> Result<Option<DkimKey>, String> {
    let (Some(domain), Some(selector), Some(path)) = (&dkim.domain, &dkim.selector, &dkim.key) else {
        return Ok(None);
    };
    let key = std::fs::read(path).map_err(|error| format!("can't be read: {error}; name another"));
    let key = key.and_then(|pem| DkimKey::from_pem(&pem, domain, selector).map_err(|e| e.to_string()));
    key.map(Some).map_err(|error| format!("{path:?} {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_that_others_can_read_signs_nothing_and_stops_nothing() {
        let path = std::env::temp_dir().join(format!("pillarbox-dkim-{}", std::process::id()));
        let pem = openssl::pkey::PKey::generate_ed25519().unwrap().private_key_to_pem_pkcs8().unwrap();
        std::fs::write(&path, pem).unwrap();
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
