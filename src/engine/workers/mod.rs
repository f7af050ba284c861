//! The forwarder thread and its workers, which deliver what is due.

pub mod digest;
pub mod egress;
pub mod forwarder;
pub mod local;
pub mod remote;

#[cfg(test)]
mod tests;
