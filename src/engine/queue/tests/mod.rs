//! The queue: crashes, clocks, notices, kept mail. See [`crate::engine::tests`] for the world that these tests live in.
//!
//! | file | what it shows |
//! | --- | --- |
//! | `clock` | wall clocks that jump |
//! | `kept` | mail to `admin` that cannot be delivered: held, released, given up in the end |
//! | `memory` | what lies in memory, and when it moves to the disk |
//! | `notices` | which sender gets which notice: delays, successes, bounces that cannot be delivered |
//! | `restart` | crashes at each point of a settlement, and what is in the index afterwards |

mod clock;
mod kept;
mod memory;
mod notices;
mod restart;
mod shares;
