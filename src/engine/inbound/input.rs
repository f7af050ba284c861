//! The octets that a connection has read and not used yet.
//!
//! The buffer is small while commands arrive, so that a thousand idle connections cost little, and grows to
//! [`DATA_BUFFER_OCTETS`] while data arrives fast:
//!
//! ```text
//! buffer: [ used | octets() | free ]
//!               start      end
//! ```
//!
//! It is reused: the octets move to the front when the end is reached.

use crate::net::transport::{Deadline, Transport, WireError};
use std::time::Duration;

/// The size of the buffer while much data arrives.
pub const DATA_BUFFER_OCTETS: usize = 64 * 1024;

/// The octets that were read and not used yet.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Whether the last read filled the buffer.
    was_full: bool,
    /// When the current line must be complete.
    pub line_deadline: Deadline,
}

impl Input {
    /// An empty buffer of this many octets.
    pub fn new(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity],
            start: 0,
            end: 0,
            was_full: false,
            line_deadline: Deadline::after(Duration::ZERO),
        }
    }

    /// The octets that were not used yet.
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Drops the first `octets` octets: they were used.
    pub fn consume(&mut self, octets: usize) {
        self.start = (self.start + octets).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Drops all octets.
    pub const fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads at least one octet.
    ///
    /// # Errors
    /// Those of [`Transport::read`]: the deadline has passed, the peer closed, or an I/O error.
    pub fn fill(&mut self, transport: &mut dyn Transport, deadline: Deadline) -> Result<(), WireError> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // The line cutter has consumed a line that is longer than the buffer: there is room.
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        self.end += transport.read(room, deadline)?;
        self.was_full = self.end == self.buffer.len();
        Ok(())
    }

    /// Grows the buffer if it is full and the line may have this many octets.
    pub fn make_room(&mut self, octets: usize) {
        if self.end - self.start == self.buffer.len() && self.buffer.len() < octets {
            self.buffer.resize(octets, 0);
        }
    }

    /// Grows the buffer for data, if the last read filled it.
    pub fn grow_if_full(&mut self) {
        if self.was_full && self.start == self.end && self.buffer.len() < DATA_BUFFER_OCTETS {
            // Nothing is in it. A resize would clear it octet by octet.
            self.buffer = vec![0; DATA_BUFFER_OCTETS];
        }
    }

    /// Frees the memory beyond `capacity`, unless it is in use.
    pub fn shrink(&mut self, capacity: usize) {
        if self.buffer.len() > capacity && self.end - self.start <= capacity {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.truncate(capacity);
            self.buffer.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_grows_for_a_line_that_fills_it() {
        for (start, end, octets, expected) in [(0, 4, 9, 9), (2, 2, 9, 4), (1, 4, 9, 4), (0, 4, 3, 4)] {
            let mut input = Input { start, end, ..Input::new(4) };
            input.make_room(octets);
            assert_eq!(input.buffer.len(), expected, "{start} {end} {octets}");
        }
    }
}
