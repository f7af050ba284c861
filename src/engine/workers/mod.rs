//! The forwarder thread and its workers, which deliver the messages that are due. Mail leaves the queue only here.
//!
//! ```text
//! forwarder ─▶ worker ┬ remote ─▶ outbound ─▶ next hop
//!                     └ local ──┬▶ Maildir or mbox
//!                               ├▶ intake: recipients that go elsewhere now
//!                               └▶ digest ─▶ intake: members that leave as one message
//! ```
//!
//! | file | holds |
//! | --- | --- |
//! | `forwarder` | the thread that starts workers, and runs the schedule and the housekeeping |
//! | `remote` | a worker at one next hop |
//! | `local` | the single local worker |
//! | `digest` | the end of a digest's window: what the local worker does with its members |
//! | `egress` | the resolver, connector and policies that all workers share |
//!
//! A worker has a thread of its own and ends when its hop has nothing due. It holds no lock while it sends; everything
//! that it learns goes to the queue manager, which journals it.

pub mod digest;
pub mod egress;
pub mod forwarder;
pub mod local;
pub mod remote;

#[cfg(test)]
mod tests;
