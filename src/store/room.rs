//! How much of the memory files may fill: what is written to a tmpfs counts from before the write until the file is gone.
//!
//! A tmpfs gives whole pages to a file, so that is what counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a tmpfs gives to a file at once.
const PAGE_OCTETS: u64 = 4096;

/// The memory that a file of this size fills.
pub fn pages(octets: u64) -> usize {
    usize::try_from(octets.next_multiple_of(PAGE_OCTETS)).unwrap_or(usize::MAX)
}

/// A number of octets that may be filled, and how many are.
#[derive(Debug, Default)]
pub struct Allowance {
    used: AtomicUsize,
    most: AtomicUsize,
}

impl Allowance {
    /// The octets in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The octets that may be used.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Sets how many may be used; what is in use stays.
    pub fn set_most(&self, octets: u64) {
        self.most.store(usize::try_from(octets).unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    /// Takes octets, if they are free.
    pub fn take(&self, octets: usize) -> bool {
        let most = self.most();
        let more = |used: usize| used.checked_add(octets).filter(|sum| *sum <= most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts octets that are in use already.
    pub fn note(&self, octets: usize) {
        self.used.fetch_add(octets, Ordering::Relaxed);
    }

    /// Gives octets back.
    pub fn give_back(&self, octets: usize) {
        let less = |used: usize| Some(used.saturating_sub(octets));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// The part of an allowance that a file uses which is being written. It is given back on drop, unless the file stays.
#[derive(Debug)]
pub struct Room {
    allowance: Arc<Allowance>,
    octets: usize,
}

impl Room {
    /// No octets so far.
    pub const fn new(allowance: Arc<Allowance>) -> Self {
        Self { allowance, octets: 0 }
    }

    /// Makes room for a file of so many octets, if there is.
    pub fn grow_to(&mut self, octets: u64) -> bool {
        let more = pages(octets).saturating_sub(self.octets);
        let grows = self.allowance.take(more);
        if grows {
            self.octets += more;
        }
        grows
    }

    /// The file has its name: its octets count until it is removed.
    pub fn keep(mut self) {
        self.octets = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.allowance.give_back(self.octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_count_until_the_file_is_dropped() {
        let allowance = Arc::new(Allowance::default());
        let mut room = Room::new(Arc::clone(&allowance));
        assert!(room.grow_to(0) && !room.grow_to(1), "nothing is allowed at first");
        allowance.set_most(3 * PAGE_OCTETS);
        assert!(room.grow_to(1) && room.grow_to(PAGE_OCTETS) && room.grow_to(1));
        assert_eq!(allowance.used(), 4096);
        assert!(room.grow_to(PAGE_OCTETS + 1));
        let mut other = Room::new(Arc::clone(&allowance));
        assert!(!other.grow_to(PAGE_OCTETS + 1));
        assert!(other.grow_to(PAGE_OCTETS));
        drop(room);
        assert_eq!(allowance.used(), 4096);
        other.keep();
        assert_eq!(allowance.used(), 4096);
        allowance.give_back(8192);
        assert_eq!(allowance.used(), 0);
        assert!(!allowance.take(usize::MAX));
    }
}
