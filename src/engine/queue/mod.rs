//! What waits: the index of the queue, the manager of its entries, attempts and their outcomes, and news for senders.

pub mod attempt;
pub mod digest_entries;
pub mod enqueue;
pub mod index;
pub mod manager;
pub mod news;
pub mod schedule;
pub mod spool;

#[cfg(test)]
mod tests;
