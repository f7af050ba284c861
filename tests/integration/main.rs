//! The integration tests, one program: what is tested from outside the library. `tests/README.md` says what else exists.

// Lints allow these within tests, but not in what tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

/// What may use what, where unsafe and syncs may stand, how long things may be: rules about the source itself.
mod architecture;
/// DKIM signatures, verified by dkimpy.
mod dkim;
/// README and manual against the rows of the code, so that neither tells what is not so.
mod documentation;
/// The filter of fail2ban against the log lines that it is for, and against those that only look like them.
mod fail2ban;
/// What must hold for any octets: each fuzz target over its stored corpus.
mod fuzz;
/// The real binary beside real programs: what must be shown of a running daemon.
#[path = "../interop/mod.rs"]
mod interop;
/// `pillarbox passwd`, from a pipe and from a terminal.
mod passwd;
/// sendmail as its callers call it.
mod sendmail;
/// STARTTLS with other people's clients; certificates that are made, swapped and refused.
mod tls;
