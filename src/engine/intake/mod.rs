//! The one door in: stages every copy of a message, commits all, and only then lets the door answer 250.

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
