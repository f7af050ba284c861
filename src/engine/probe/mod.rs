//! `pillarbox probe` and the search of `pillarbox setup`: they find out whether mail would arrive, without sending any.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`walk`] | walks the route of a message step by step and reports each step |
//! | [`smarthost`] | tries ports and TLS modes of a smarthost, a walk for each, and proposes a smarthost for a domain |
//! | [`test_message`] | the real message of `probe --send`, and the sender of every probe |
//!
//! A walk runs the code of delivery (`engine::outbound`) and observes it, so its findings hold for delivery. It works
//! with or without a running daemon: it shares no state with it, queues nothing and keeps nothing. Servers see a session
//! that ends with RSET and QUIT in place of a message.

pub mod smarthost;
pub mod test_message;
pub mod walk;

#[cfg(test)]
mod tests;
