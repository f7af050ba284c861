//! The queue in memory and the queue manager: which message waits where, what an attempt is, what its outcomes lead to,
//! and the news that senders get.
//!
//! | file | holds |
//! | --- | --- |
//! | `index` | the index of the queue: states of hops, due times, places of workers |
//! | `manager` | keeps index and queue files in step; every change of a queued message |
//! | `attempt` | one attempt at one message, and the claims on its recipients |
//! | `enqueue` | from intake to the index: the next hop of each recipient |
//! | `news` | what a sender has to be told |
//! | `digest_entries` | messages that wait for a digest |
//! | `schedule` | when `queue.schedule` fires |
//! | `saver` | what is known about moves from memory to the disk |
//! | `saving` | when messages move from memory to the disk |
//! | `spool` | files in the queue that are no messages, and files that a crash left |
//!
//! This room has no thread and no connection: the workers, the control socket and the alarm call it. The queue files
//! themselves belong to `store::queue`.

pub mod attempt;
pub mod digest_entries;
pub mod enqueue;
pub mod index;
pub mod manager;
pub mod news;
pub mod saver;
pub mod saving;
pub mod schedule;
pub mod spool;

#[cfg(test)]
mod tests;
