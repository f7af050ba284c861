//! The resolver with scripted servers on loopback, and its parser with arbitrary octets.

mod answers;
mod look_ups;
pub(crate) mod server;
