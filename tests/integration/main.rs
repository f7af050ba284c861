//! What is tested from outside the library without any other program: one test binary. `tests/interop/` is the one that
//! talks to other people's programs; `docs/testing.md` says what else exists.

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
/// README, docs/ and manual against the rows of the code, so that neither tells what is not so.
mod documentation;
/// Turns of phrase that read as translated.
mod english;
/// What must hold for any octets: each fuzz target over its stored corpus.
mod fuzz;
/// `pillarbox passwd`, from a pipe and from a terminal.
mod passwd;
/// The order of rooms within floors, and circles of files.
mod rooms;
/// sendmail as its callers call it.
mod sendmail;
