//! Small files below `state` that are replaced as a whole, such as a certificate or a policy: what was saved last is there,
//! or what was saved before it, never a part.

use super::StoreError;
use super::durable::{DirectoryAccess, StagedFile, make_below, open_directory};
use rustix::fs::Mode;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest of these files.
pub(super) const FILE_MAX_OCTETS: u64 = 128 * 1024;

/// Reads a file; `None` if there is none that can be read.
pub(super) fn load(path: &Path) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path).ok()?.take(FILE_MAX_OCTETS).read_to_end(&mut octets).ok()?;
    Some(octets)
}

/// Saves `state/directory/name`, durably; the directory is made, closed to all but `user`.
///
/// # Errors
/// When it could not be written; what was saved before is then still there.
pub(super) fn save(state: &Path, directory: &str, name: &str, octets: &[u8]) -> Result<(), StoreError> {
    /// Threads of one process may save at the same time.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let path = state.join(directory).join(name);
    let stage = || {
        let tmp = Arc::new(open_directory(&state.join("tmp"), DirectoryAccess::Search)?);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{directory}.{}.{number}", std::process::id());
        let mut file = StagedFile::create(&tmp, temporary, None)?;
        file.lock()?;
        file.write(octets)?;
        let state = open_directory(state, DirectoryAccess::Read)?;
        Ok((file, Arc::new(make_below(state, OsStr::new(directory), Mode::RWXU, None)?)))
    };
    let (file, target) = stage().map_err(|error: std::io::Error| StoreError::io(&path, error))?;
    file.sync(target, path)?.replace().map(drop)
}
