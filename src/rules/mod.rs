//! Decisions: who may relay, where a message goes, when it is tried again, what a bounce says.
//!
//! Nothing here opens, reads, waits, logs or asks for the time; time comes as an argument.

pub mod accounts;
pub mod advice;
pub mod message;
pub mod pacing;
pub mod routing;
pub mod tls;
