//! The small files below the state directory, each replaced as a whole: a reader finds the last saved version or the one
//! before it, never a part. Losing one of them loses no mail; a file that is missing or damaged is no error.
//!
//! | file | module | holds | if it is lost |
//! | --- | --- | --- | --- |
//! | `clock` | [`mod@line`] | the running clock, which ages of queued mail count by | queued mail lives longer, never shorter |
//! | `statistics` | [`mod@line`] | totals of what was counted, the last delivery and failure, the last mail of `heartbeat.every` | the totals start at 0, and a period |
//! | `history` | [`mod@line`] | deliveries, failures and waiting mail of the last month | the plots start again |
//! | `digest/windows` | [`windows`] | the open windows of storm control | counting starts again; waiting mail is in the queue |
//! | `sts/DOMAIN` | [`sts`] | MTA-STS policies (RFC 8461 §5.1) | the policy is fetched again |
//! | `tokens/NAME` | [`tokens`] | the tokens of a login by OAuth 2.0 | that login has to be made again: `pillarbox login` |
//! | `tls/self-signed.pem` | [`self_signed`] | the self-signed certificates with their keys | new ones are made |
//!
//! A file is staged in `tmp/`, locked against the sweep of the queue, synced, and renamed over its predecessor. A crash
//! leaves at worst a file in `tmp/`, which the sweep unlinks. Those of [`mod@line`] are written in place once they are there. The
//! modules never judge what the files mean.

pub mod line;
pub mod self_signed;
pub mod sts;
pub mod tokens;
pub mod windows;

use super::StoreError;
use super::durable::{DirectoryAccess, StagedFile, make_below, open_directory};
use crate::sys::file::{self, FileKind};
use rustix::fs::Mode;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Reads a file; `None` if it does not exist or cannot be read.
fn load(path: &Path) -> Option<Vec<u8>> {
    file::read(path, FileKind::State).ok()
}

/// Saves `state/directory/name`, or `state/name` if `directory` is empty, durably. A missing directory is made, closed to
/// all users but the daemon's.
///
/// # Errors
/// An I/O error; the previous version is still there.
fn save(state: &Path, directory: &str, name: &str, octets: &[u8]) -> Result<(), StoreError> {
    /// Several threads of one process may save at the same time.
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let path = state.join(directory).join(name);
    let stage = || {
        let tmp = Arc::new(open_directory(&state.join("tmp"), DirectoryAccess::Search)?);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let kind = if directory.is_empty() { name } else { directory };
        let mut file = StagedFile::create(&tmp, format!("{kind}.{}.{number}", std::process::id()), None)?;
        file.lock()?;
        file.write(octets)?;
        let state = open_directory(state, DirectoryAccess::Read)?;
        let target = match directory {
            "" => state,
            directory => make_below(state, OsStr::new(directory), Mode::RWXU, None)?,
        };
        Ok((file, Arc::new(target)))
    };
    let (file, target) = stage().map_err(|error: std::io::Error| StoreError::io(&path, error))?;
    file.sync(target, path)?.replace().map(drop)
}
