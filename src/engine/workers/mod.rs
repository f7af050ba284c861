//! The forwarder thread and its workers, which deliver what is due.

pub mod delivery;
pub mod digests;
pub mod egress;
pub mod forwarder;
pub mod local;
