//! The octets that a connection has read and not used yet: little room while commands come, more while data does.

use crate::net::transport::{Deadline, Transport, WireError};
use std::time::Duration;

/// Room for data, while there is much of it.
const DATA_BUFFER_OCTETS: usize = 64 * 1024;

/// What has been read and not been used.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read left no room.
    was_full: bool,
    /// When the line has to be there.
    pub line_deadline: Deadline,
}

impl Input {
    /// Room for so many octets.
    pub fn new(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity],
            start: 0,
            end: 0,
            was_full: false,
            line_deadline: Deadline::after(Duration::ZERO),
        }
    }

    /// What there is.
    pub fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// The first of them have been used.
    pub fn consume(&mut self, octets: usize) {
        self.start = (self.start + octets).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Throws away what has not been used.
    pub const fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads at least one octet.
    ///
    /// # Errors
    /// As the transport says.
    pub fn fill(&mut self, transport: &mut dyn Transport, deadline: Deadline) -> Result<(), WireError> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // A line longer than the buffer has been passed over by the cutter: there is room.
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        self.end += transport.read(room, deadline)?;
        self.was_full = self.end == self.buffer.len();
        Ok(())
    }

    /// Room for a line of so many octets.
    pub fn make_room(&mut self, octets: usize) {
        if self.end - self.start == self.buffer.len() && self.buffer.len() < octets {
            self.buffer.resize(octets, 0);
        }
    }

    /// More room for data, if what there is was filled at once.
    pub fn grow_if_full(&mut self) {
        if self.was_full && self.start == self.end && self.buffer.len() < DATA_BUFFER_OCTETS {
            self.buffer.resize(DATA_BUFFER_OCTETS, 0);
        }
    }

    /// Gives back what is beyond `capacity`, unless it is in use.
    pub fn shrink(&mut self, capacity: usize) {
        if self.buffer.len() > capacity && self.end - self.start <= capacity {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.truncate(capacity);
            self.buffer.shrink_to_fit();
        }
    }
}
