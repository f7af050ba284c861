//! What waits: the index of the queue, attempts and their outcomes, and the notices about them.

pub mod attempt;
pub mod board;
pub mod kept;
pub mod notices;
pub mod outbox;
pub mod schedule;
pub mod spool;
