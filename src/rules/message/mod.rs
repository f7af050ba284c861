//! What a message becomes: repair, rewriting, encoding, signatures, digests and bounces.

pub mod bounce;
pub mod digest;
pub mod dkim;
pub mod recode;
pub mod repair;
pub mod rewrite;
