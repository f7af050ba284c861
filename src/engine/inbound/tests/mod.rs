//! Connections as clients see them. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `devices` | what devices send: text without a header section, invalid names, and the log line of a refusal |
//! | `listeners` | what each kind of listener accepts, and from whom |
//! | `inbound` | the server's side: local copies, large messages, panics, shutdown |
//! | `limits` | times and sizes: just below the limit, at it, and just above |

mod devices;
mod inbound;
mod limits;
mod listeners;
