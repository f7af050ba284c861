//! Connections of clients: listeners, limits, and the session of each client.
//!
//! | file | holds |
//! | --- | --- |
//! | `policy` | what a listener offers: protocol, TLS, logins |
//! | `capacity` | how many connections the descriptors and the memory of the process allow |
//! | `slots` | which connections are open, and who may open another |
//! | `listener` | the thread of a listening socket |
//! | `threads` | the threads of connections, which serve one after the other |
//! | `shared` | what all listeners and connections share |
//! | `connection` | one session: socket, buffers, deadlines, verdicts, data |
//! | `input` | the octets that a connection has read and not used yet |
//!
//! No client can stop the others: each connection has its own thread, every wait has a deadline, every buffer a limit,
//! and a quarter of the slots is kept for this host's own clients. No lock is held while a thread waits for a client.

pub mod capacity;
pub mod connection;
pub mod input;
pub mod listener;
pub mod policy;
pub mod shared;
pub mod slots;
pub mod threads;

#[cfg(test)]
mod tests;
