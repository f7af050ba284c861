//! One thread at a time in one mailbox, for what two threads must not do at once: opening an mbox, making a Maildir, and a
//! commit that is added to what is known of a Maildir's size. Other mailboxes are not waited for: theirs may hang.

use super::LOCK_PAUSE;
use crate::sys::lock::{Lock, wait_while};
use std::path::PathBuf;
use std::sync::Condvar;

static TAKEN: Lock<Vec<PathBuf>> = Lock::new(Vec::new());
static GIVEN_BACK: Condvar = Condvar::new();

/// The right to do such a thing in the mailbox with this path, until it is dropped.
#[derive(Debug)]
pub struct Turn(PathBuf);

impl Turn {
    /// Waits for the turn.
    #[must_use]
    pub fn take(path: PathBuf) -> Self {
        let mut taken = TAKEN.lock();
        while taken.contains(&path) {
            taken = wait_while(&GIVEN_BACK, taken, LOCK_PAUSE, |taken| taken.contains(&path));
        }
        taken.push(path.clone());
        Self(path)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TAKEN.lock().retain(|path| *path != self.0);
        GIVEN_BACK.notify_all();
    }
}
