//! Acceptance of messages and the copies that result. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `aliased` | aliases: their members, and that a bad alias costs nobody else a copy |
//! | `own` | which mail counts as this host's own, and how its header fields leave |
//! | `submitted` | repair of mail that this host's own clients submit, in memory and on disk |

mod aliased;
mod own;
mod submitted;
