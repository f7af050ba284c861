//! What enters, and by which copies. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `aliased` | aliases: whom they stand for, and that nobody else is cost a copy |
//! | `own` | what counts as this host's own mail, and how its header fields leave |
//! | `submitted` | what this host's own clients submit is repaired, in memory and on disk |

mod aliased;
mod own;
mod submitted;
