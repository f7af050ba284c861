//! What waits: the index of the queue, the manager of its entries, attempts and their outcomes, and news for senders.

pub mod attempt;
pub mod board;
pub mod digest_entries;
pub mod manager;
pub mod news;
pub mod outbox;
pub mod schedule;
pub mod spool;
