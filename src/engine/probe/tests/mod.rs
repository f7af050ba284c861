//! The walk of a probe, and the search of `setup`. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `alike` | delivery, lists, status, alarms and notices give the same advice |
//! | `details` | advice with the detail that it needs |
//! | `probe` | broken routes, and the advice at each step |
//! | `sent` | what a test message waits for |
//! | `smarthost` | how `setup` finds port and TLS mode |
//! | `time` | whatever hangs, a probe ends in time |

mod alike;
mod details;
mod probe;
mod sent;
mod smarthost;
mod time;
