//! The language of SMTP, both ends: commands, replies, lines, mail data, and the two sessions as state machines.
//!
//! Nothing here has a socket, a clock or a disk (DESIGN section 3): a transcript can test all of it.

pub mod client;
pub mod command;
pub mod data;
pub mod extension;
pub mod limits;
pub mod line;
pub mod reply;
pub mod sasl;
pub mod server;
