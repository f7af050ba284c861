//! The client's end of the control socket: what `queue`, `status`, `link`, `probe` and sendmail's `-bv` ask the daemon
//! with. [`client`] sends one question and reads its answer; [`screen`] shows text that may come from strangers.
//!
//! sendmail's own way, which hands a message over, is in `program::sendmail::handover`.

pub mod client;
pub mod screen;
