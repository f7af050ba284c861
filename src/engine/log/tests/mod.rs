//! What is counted. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `counted` | what is counted, and what restarts and crashes leave of it |

mod counted;
