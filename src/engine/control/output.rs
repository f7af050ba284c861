//! The client of a request: its identity, where its answer goes, and the message that it hands over.
//!
//! | implemented by | end |
//! | --- | --- |
//! | `control::socket` | a connection to the control socket |
//! | `program::remote` | standard output and error of a command, where no daemon runs |
//!
//! Requests and hand-overs know only these traits: the daemon and a command without a daemon answer by the same code.

use crate::protocol::rights::PeerRights;
use std::io;

/// Where the answer to a request goes.
pub trait Output {
    /// Writes a part of the answer.
    ///
    /// # Errors
    /// The connection is closed; the answer ends here.
    fn output(&mut self, octets: &[u8]) -> io::Result<()>;
    /// Writes a line about a failure; `line` has no line end.
    ///
    /// # Errors
    /// As for `output`.
    fn error(&mut self, line: &str) -> io::Result<()>;
}

/// The user who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Asker {
    /// The requests that the user may make.
    pub rights: PeerRights,
    /// The user, as the kernel reports it (`SO_PEERCRED`).
    pub uid: u32,
}

/// A program that hands a message over.
pub trait Peer: Output {
    /// Reads the next octets of envelope and message; returns 0 at the end.
    ///
    /// # Errors
    /// The connection is closed, or the deadline has passed.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Asks for the message of `octets` octets, and gives it time to arrive.
    ///
    /// # Errors
    /// The connection is closed.
    fn go(&mut self, octets: u64) -> io::Result<()>;
}
