//! The keys of DKIM, which are read at start and at SIGHUP. [`super::outgoing`] signs by them.
//!
//! May fail: a key, with its place in the configuration.

use crate::config::Settings;
use crate::rules::dkim::DkimKey;

/// Reads the keys of the configuration.
///
/// # Errors
/// Which `[[dkim]]` is of no use, counted from 0, and why.
pub fn load(settings: &Settings) -> Result<Vec<DkimKey>, (usize, String)> {
    let mut keys = Vec::new();
    for (i, dkim) in settings.dkim.iter().enumerate() {
        // The configuration is not taken without one of them.
        let (Some(domain), Some(selector), Some(path)) = (&dkim.domain, &dkim.selector, &dkim.key) else {
            continue;
        };
        let key = std::fs::read(path).map_err(|error| format!("can't be read: {error}; name another"));
        let key = key.and_then(|pem| DkimKey::from_pem(&pem, domain, selector).map_err(|e| e.to_string()));
        keys.push(key.map_err(|error| (i, format!("{path:?} {error}")))?);
    }
    Ok(keys)
}
