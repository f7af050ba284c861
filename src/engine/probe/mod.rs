//! Walks the way of a message without sending one, and says what is in the way.

pub mod smarthost;
pub mod walk;
