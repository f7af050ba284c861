//! Decisions: who may relay, where a message goes, when it is tried again, what a bounce says.
//!
//! | room | decides |
//! | --- | --- |
//! | `routing` | where a message goes |
//! | `message` | what a message becomes |
//! | `pacing` | when something happens |
//! | `tls` | which hosts may be used, with which TLS |
//! | `accounts` | who may log in |
//! | `advice` | what people read about a failure |
//!
//! No rule opens a file, reads a socket, waits, logs or asks for the time. Time, look-ups and random numbers come as
//! arguments.

pub mod accounts;
pub mod advice;
pub mod message;
pub mod pacing;
pub mod routing;
pub mod tls;
