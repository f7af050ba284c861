//! pillarbox: a small mail transfer agent for small boxes.
//!
//! The path of a message: connection → session → envelope and message → route → Maildir or queue → forwarder →
//! outcome. `docs/architecture.md` draws it; each folder below is one floor and uses only lower ones.

pub mod config;
pub mod engine;
pub mod mail;
pub mod net;
pub mod program;
pub mod protocol;
pub mod rules;
pub mod smtp;
pub mod store;
pub mod sys;

#[cfg(test)]
mod test_directory;
