//! Which windows of storm control (`rules::digest`) are open, in `state/digest/windows`: text, replaced as a whole. What
//! waits is in the queue; this tells only how much has left at once, to the next run of a box that keeps no daemon. A file
//! that is missing or damaged is no error: the count begins anew.

use super::{StoreError, small_file};
use std::path::Path;

/// Reads what was saved below `state`; nothing, if there is none.
#[must_use]
pub fn load(state: &Path) -> String {
    let octets = small_file::load(&state.join("digest/windows")).unwrap_or_default();
    String::from_utf8(octets).unwrap_or_default()
}

/// Saves below `state`, durably. Meant for the end of a process.
///
/// # Errors
/// When it could not be written; what was saved before is then still there.
pub fn save(state: &Path, text: &str) -> Result<(), StoreError> {
    small_file::save(state, "digest", "windows", text.as_bytes())
}
