//! What is known about moves from memory to the disk: when to look next, whether a thread is at work, and what failed. The
//! decisions are in [`saving`](super::saving).

use crate::sys::lock::Lock;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// What was done about messages in memory.
#[derive(Debug, Default)]
pub struct Saver {
    /// The running time before which no message is due.
    pub(super) next_look: Lock<Duration>,
    /// A thread is at work.
    pub(super) is_busy: AtomicBool,
    /// Why messages stay in memory that should not.
    pub(super) failure: Lock<Option<String>>,
}

impl Saver {
    /// Why messages stay in memory that should not, if there are any.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}
