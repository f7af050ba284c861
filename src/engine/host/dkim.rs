//! The keys of DKIM, which are read at start and at SIGHUP. [`crate::engine::outbound::outgoing`] signs by them.
//!
//! May fail: a key, with its place in the configuration.

use crate::config::{Dkim, Settings, files};
use crate::engine::log::event::Event;
use crate::rules::message::dkim::DkimKey;

/// Reads the keys of the configuration. One that others can read is refused: what it would sign leaves without.
///
/// # Errors
/// Which `[[dkim]]` is of no use, counted from 0, and why.
pub fn load(settings: &Settings) -> Result<Vec<DkimKey>, (usize, String)> {
    let mut keys = Vec::new();
    for (i, dkim) in settings.dkim.iter().enumerate() {
        if let Some(error) = dkim.key.as_deref().and_then(files::open_secret) {
            Event::Trouble { doing: "reading a DKIM key; mail leaves without its signature", error: &error }
                .log();
            continue;
        }
        keys.extend(read(dkim).map_err(|error| (i, error))?);
    }
    Ok(keys)
}

/// Reads the key of an entry; `None` if that is not whole, which the configuration tells.
///
/// # Errors
/// It is of no use: why.
pub fn read(dkim: &Dkim) -> Result<Option<DkimKey>, String> {
    let (Some(domain), Some(selector), Some(path)) = (&dkim.domain, &dkim.selector, &dkim.key) else {
        return Ok(None);
    };
    let key = std::fs::read(path).map_err(|error| format!("can't be read: {error}; name another"));
    let key = key.and_then(|pem| DkimKey::from_pem(&pem, domain, selector).map_err(|e| e.to_string()));
    key.map(Some).map_err(|error| format!("{path:?} {error}"))
}
