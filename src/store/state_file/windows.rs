//! The open windows of storm control (`rules::digest`), in `state/digest/windows`. Waiting messages are in the queue; this
//! file only tells the next run of a box without a daemon how many messages have left at once.

use crate::store::StoreError;
use std::path::Path;

const DIRECTORY: &str = "digest";
const NAME: &str = "windows";

/// Reads what was saved below `state`; the empty text if there is no file, or it is damaged.
#[must_use]
pub fn load(state: &Path) -> String {
    let octets = super::load(&state.join(DIRECTORY).join(NAME)).unwrap_or_default();
    String::from_utf8(octets).unwrap_or_default()
}

/// Saves the windows below `state`, durably. Meant for the end of a process.
///
/// # Errors
/// An I/O error; the previous version is still there.
pub fn save(state: &Path, text: &str) -> Result<(), StoreError> {
    super::save(state, DIRECTORY, NAME, text.as_bytes())
}
