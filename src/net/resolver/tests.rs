//! The resolver against scripted servers on loopback, and its reader against arbitrary octets.

mod answers;
mod look_ups;
pub(crate) mod server;
