//! What the quota has left in each mailbox, as far as this process remembers it: the last measure, and what it has
//! delivered since. A question that anyone may ask, such as RCPT, is answered from here and costs the mailbox nothing.

use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::Lock;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a measure is remembered: its user may have made room, or used some.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// The most mailboxes that are remembered.
const KNOWN_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Rooms(Lock<HashMap<PathBuf, Measured>>);

#[derive(Debug)]
struct Measured {
    octets: u64,
    at: Duration,
}

impl Measured {
    fn is_fresh(&self, now: Duration) -> bool {
        now.saturating_sub(self.at) < KNOWN_FOR
    }
}

impl Rooms {
    /// The octets of a mailbox, if they were measured within the last minute.
    pub fn remembered(&self, path: &Path) -> Option<u64> {
        let known = self.0.lock();
        known
            .get(path)
            .filter(|measured| measured.is_fresh(SystemClock.boot()))
            .map(|measured| measured.octets)
    }

    pub fn learn(&self, path: PathBuf, octets: u64) {
        let at = SystemClock.boot();
        let mut known = self.0.lock();
        if known.len() >= KNOWN_MAX {
            known.retain(|_, measured| measured.is_fresh(at));
        }
        if known.len() < KNOWN_MAX || known.contains_key(&path) {
            known.insert(path, Measured { octets, at });
        }
    }

    /// Adds what is about to be delivered.
    pub fn add(&self, path: &Path, octets: u64) {
        if let Some(measured) = self.0.lock().get_mut(path) {
            measured.octets = measured.octets.saturating_add(octets);
        }
    }
}
