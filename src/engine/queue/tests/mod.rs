//! What waits: crashes, clocks, notices, kept mail. See [`crate::engine::tests`] for the world that these tests live
//! in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `clock` | wall clocks that jump |
//! | `kept` | mail to admin that can't be delivered: held, released, given up at last |
//! | `notices` | who is told what: delays, successes, bounces that do not arrive |
//! | `restart` | crashes at each point of a settlement, and what is in the index afterwards |

mod clock;
mod kept;
mod notices;
mod restart;
