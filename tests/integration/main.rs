//! Tests from outside the library that need no other program, in one binary. `tests/interop/` has those that need other
//! people's programs; `docs/testing.md` lists the rest.

// Lints allow these within tests, but not in what tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

/// Rules about the source itself: allowed imports, places of unsafe and of syncs, sizes.
mod architecture;
/// What shells offer behind `pillarbox`, against the help.
mod completions;
/// README, docs/ and manual pages against the rows of the code.
mod documentation;
/// Turns of phrase that read as translated.
mod english;
/// Each fuzz target over its stored corpus: properties that hold for any octets.
mod fuzz;
/// `pillarbox passwd`, from a pipe and from a terminal.
mod passwd;
/// The order of rooms within floors, and circles of files.
mod rooms;
/// sendmail as its callers call it.
mod sendmail;
/// A directory for each test: that of the library's tests.
#[path = "../../src/test_directory.rs"]
#[allow(dead_code)]
mod test_directory;
