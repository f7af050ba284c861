//! Group commit: threads that have changed names in one directory share its sync.
//!
//! The syncs of a directory follow each other, and each has a number. A change is durable after a sync that began after
//! it, so a thread waits for the first one that begins after its change:
//!
//! | when the thread asks | what it does | how long it waits |
//! | --- | --- | --- |
//! | no sync runs | it syncs at once; nothing waits for company | one sync |
//! | a sync runs, which may have begun before the change | it waits for the next one. When the running one ends, one of those who wait syncs for all of them | the rest of the running sync, and one more |
//! | small files for the same directory are being synced in other threads | it lets those get their names that were being synced when the first one asked; then one syncs for all | the rest of their syncs, and one more |
//!
//! A thread alone never waits for company, and a crowd has one sync of the directory for many syncs of files.
//!
//! **A failure** fails everyone who had entered before it ended: those whom the sync covered, and those who waited for
//! the next one. The kernel gives up what it could not write, and reports the next sync as a success, so the changes of
//! both may be lost. Nobody who failed syncs again. A panic of the thread that syncs counts as a failure.
//!
//! A change is made between [`Syncs::enter`] and [`Turn::sync`], so that no failure after it is missed. All syncs go by way
//! of the descriptor of the thread that entered first: a descriptor that is opened after a failure never learns of it.
//!
//! A directory is known by its device and inode, which are its own while a descriptor is open. It is forgotten when the
//! last thread has left.

use crate::sys::lock::{Lock, wait};
use rustix::fs::fstat;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar};

/// The directories of this process.
pub(super) static DIRECTORIES: Syncs = Syncs::new();

/// Syncs, as a function of an open directory. It may be called in any of the threads that wait for it.
type Act<'a> = &'a dyn Fn(BorrowedFd<'_>) -> io::Result<()>;

/// The directories in which names are changed at present.
#[derive(Debug)]
pub(super) struct Syncs(Lock<Vec<Arc<Place>>>);

/// Device and inode.
pub(super) type Key = (u64, u64);

#[derive(Debug)]
struct Place {
    key: Key,
    directory: Arc<OwnedFd>,
    state: Lock<State>,
    /// Waited for by those whom a sync with an even or an odd number covers: the others need not wake.
    ended: (Condvar, Condvar),
}

/// The numbers of the latest syncs. If they differ, a sync runs.
#[derive(Debug, Default)]
struct State {
    begun: usize,
    ended: usize,
    failures: usize,
    error: i32,
    /// Somebody waits for the next sync.
    is_wanted: bool,
    /// How many of the files synced at present the next sync waits for.
    awaited: usize,
    /// The others: those whose sync began after somebody wanted the next one.
    unawaited: usize,
    /// How often the latter have become the former.
    generation: usize,
    /// Threads that wait. Telling nobody would cost a system call.
    waiting: usize,
}

impl Syncs {
    pub const fn new() -> Self {
        Self(Lock::new(Vec::new()))
    }

    /// Begins a change of names in this directory.
    ///
    /// # Errors
    /// An I/O error about the descriptor.
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
    pub fn enter(&self, directory: &Arc<OwnedFd>) -> io::Result<Turn<'_>> {
        let is_known = |place: &&Arc<Place>| Arc::ptr_eq(&place.directory, directory);
        let known = self.0.lock().iter().find(is_known).map(|place| place.key);
        let key =
            known.map_or_else(|| fstat(directory).map(|stat| (stat.st_dev as u64, stat.st_ino as u64)), Ok);
        Ok(self.enter_by_key(key?, directory))
    }

    /// As [`Self::enter`], with what [`Turn::key`] has told of this directory.
    pub fn enter_by_key(&self, key: Key, directory: &Arc<OwnedFd>) -> Turn<'_> {
        let mut places = self.0.lock();
        let known = places.iter().find(|place| place.key == key).map(Arc::clone);
        let place = known.unwrap_or_else(|| {
            let (state, ended) = (Lock::default(), Default::default());
            let place = Arc::new(Place { key, directory: Arc::clone(directory), state, ended });
            places.push(Arc::clone(&place));
            place
        });
        drop(places);
        let failures = place.state.lock().failures;
        Turn { syncs: self, place, failures }
    }
}

/// A change of names that is about to be synced.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    syncs: &'a Syncs,
    place: Arc<Place>,
    /// How many syncs had failed before the change.
    failures: usize,
}

impl Turn<'_> {
    /// By what the directory is known.
    pub fn key(&self) -> Key {
        self.place.key
    }

    /// To be kept while the file is synced that is about to get a name.
    pub fn approach(&self) -> Approach<'_> {
        let mut state = self.place.state.lock();
        state.unawaited += 1;
        Approach { place: &self.place, generation: state.generation }
    }

    /// Returns when a sync has covered the change.
    ///
    /// # Errors
    /// A sync has failed since the turn began.
    pub fn sync(self, act: Act<'_>) -> io::Result<()> {
        let place = &*self.place;
        let mut state = place.state.lock();
        let mine = state.begun + 1;
        if !state.is_wanted {
            state.is_wanted = true;
            state.awaited += std::mem::take(&mut state.unawaited);
            state.generation += 1;
        }
        while state.ended < mine && state.failures == self.failures {
            if state.begun == state.ended && state.awaited == 0 {
                state.begun = mine;
                state.is_wanted = false;
                drop(state);
                place.lead(act);
                state = place.state.lock();
            } else {
                state.waiting += 1;
                state = wait(place.ended_of(mine), state);
                state.waiting -= 1;
            }
        }
        if state.failures == self.failures { Ok(()) } else { Err(io::Error::from_raw_os_error(state.error)) }
    }
}

/// A file that is being synced, and gets its name next.
pub(super) struct Approach<'a> {
    place: &'a Place,
    generation: usize,
}

impl Drop for Approach<'_> {
    fn drop(&mut self) {
        let mut state = self.place.state.lock();
        if self.generation == state.generation {
            state.unawaited -= 1;
            return;
        }
        state.awaited -= 1;
        if state.awaited == 0 && state.begun == state.ended && state.waiting > 0 {
            let next = state.begun + 1;
            drop(state);
            self.place.ended_of(next).notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut places = self.syncs.0.lock();
        // The list has one, and this turn: nobody else is in.
        if Arc::strong_count(&self.place) == 2 {
            places.retain(|place| !Arc::ptr_eq(place, &self.place));
        }
    }
}

impl Place {
    fn ended_of(&self, number: usize) -> &Condvar {
        if number.is_multiple_of(2) { &self.ended.0 } else { &self.ended.1 }
    }

    /// Syncs for all who wait, and tells them.
    fn lead(&self, act: Act<'_>) {
        let mut end = End { place: self, error: Some(Errno::IO.raw_os_error()) };
        let done = act(self.directory.as_fd());
        end.error = done.err().map(|error| error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
    }
}

/// The end of a sync; without a result, as after a panic, that of a failed one.
struct End<'a> {
    place: &'a Place,
    error: Option<i32>,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut state = self.place.state.lock();
        state.ended = state.begun;
        let number = state.ended;
        if let Some(error) = self.error {
            (state.failures, state.error) = (state.failures + 1, error);
            state.is_wanted = false;
        }
        let is_alone = state.waiting == 0;
        drop(state);
        if is_alone {
            return;
        }
        self.place.ended_of(number).notify_all();
        if self.error.is_some() {
            self.place.ended_of(number + 1).notify_all();
        } else {
            // It leads the next sync, unless a newcomer has begun that one.
            self.place.ended_of(number + 1).notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
