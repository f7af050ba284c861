//! The walk of a message that is not sent, and the search of `setup`. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `probe` | broken ways out, and the advice at each step |
//! | `smarthost` | how `setup` finds port and TLS mode |

mod probe;
mod smarthost;
