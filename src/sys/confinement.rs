//! What a running daemon is confined by, as far as its kernel can.

use super::{landlock, seccomp};
use std::io;
use std::path::PathBuf;

/// What is on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Confined {
    /// The version of Landlock; 0: off.
    pub landlock: u32,
    /// The filter of system calls is on.
    pub seccomp: bool,
}

/// Confines this thread and the threads that it starts later to these files and TCP ports, and to the calls of a daemon.
/// `failed` is told what this kernel cannot do.
pub fn confine(
    files: &[(PathBuf, landlock::Access)],
    ports: &[u16],
    failed: &dyn Fn(&str, io::Error),
) -> Confined {
    let landlock = landlock::restrict(files, ports).unwrap_or_else(|error| {
        failed("Landlock", error);
        0
    });
    let seccomp = seccomp::install(&[]).map_err(|error| failed("seccomp", error)).is_ok();
    Confined { landlock, seccomp }
}
