//! The only way in: stages every copy of a message, commits all, and only then lets the caller answer 250.
//!
//! | file | holds |
//! | --- | --- |
//! | `submission` | a message before intake: its envelope, its routed recipients, and its origin |
//! | `local_submission` | the submission that is made of what a local program hands over |
//! | `copies` | which copies a submission needs |
//! | `digest_windows` | which messages wait for a digest |
//! | `final_delivery` | the octets of a copy for a mailbox |
//! | `incoming` | the message while it is received: content, repair, staging, commit |
//! | `notice` | notices about messages, which enter by intake themselves |
//! | `refusal` | the reasons for which a message is not accepted, and their replies |
//!
//! # Callers
//!
//! ```text
//! inbound   DATA, BDAT ─────────────────────┐
//! control   control socket, drop/ ──────────┤
//! workers   digests, routes found later ────┼▶ Intake::begin ─▶ write… ─▶ commit ─▶ the caller answers
//! notice    bounces, delays, successes ─────┤
//! probe     the message of probe --send ────┘
//! ```
//!
//! Each caller does the same: it builds a [`submission::Submission`], calls [`incoming::Intake::begin`], writes the
//! content in pieces, and calls [`incoming::Incoming::commit`]. It may answer 250, or remove the file that it read
//! from, only after that returned `Ok`. An [`incoming::Incoming`] that is dropped before leaves nothing behind.

pub mod commit;
pub mod copies;
pub mod digest_windows;
pub mod final_delivery;
pub mod incoming;
pub mod local_submission;
pub mod notice;
pub mod refusal;
pub mod submission;

#[cfg(test)]
mod tests;
