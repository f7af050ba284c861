//! The adapter between a [`Transport`] and a TLS library: std's `Read` and `Write`, with a deadline that the caller
//! sets before each call.
//!
//! | below | above |
//! | --- | --- |
//! | the deadline passed | `WouldBlock`: the library asks to be called again, and the caller gives up |
//! | the peer closed | end of file when reading, `BrokenPipe` when writing |
//! | another error | the same error |

use super::transport::{Deadline, Transport, WireError};
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first octet of a TLS record with a handshake message (RFC 8446 §5.1), as the peer's hello.
const HANDSHAKE: u8 = 22;

/// The transport below TLS.
pub(super) struct Socket {
    below: Box<dyn Transport>,
    deadline: Deadline,
    /// Nothing has been read.
    is_new: bool,
    is_greeted: Arc<AtomicBool>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket {
    pub(super) fn new(below: Box<dyn Transport>, deadline: Deadline) -> Self {
        Self { below, deadline, is_new: true, is_greeted: Arc::default() }
    }

    /// Whether the first that the peer has said belongs to a handshake and is no alert. It can be asked when the library has
    /// thrown the socket away.
    pub(super) fn is_greeted(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_greeted)
    }

    pub(super) fn set_deadline(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    /// Whether unread octets have arrived, even if only the start of a record.
    pub(super) fn has_input(&mut self) -> bool {
        self.below.has_input()
    }
}

fn to_io(error: WireError) -> io::Error {
    match error {
        WireError::TimedOut => io::ErrorKind::WouldBlock.into(),
        WireError::Closed => io::ErrorKind::BrokenPipe.into(),
        WireError::Io(error) => error,
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.below.read(buffer, self.deadline) {
            Err(WireError::Closed) => Ok(0),
            Ok(octets) => {
                if std::mem::take(&mut self.is_new) {
                    self.is_greeted.store(buffer.first() == Some(&HANDSHAKE), Ordering::Relaxed);
                }
                Ok(octets)
            }
            Err(error) => Err(to_io(error)),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.below.write_all(octets, self.deadline).map(|()| octets.len()).map_err(to_io)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
