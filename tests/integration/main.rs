//! The integration tests, one program: what is tested from outside the library.

// Lints allow these within tests, but not in what tests share.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice
)]

/// README and manual against the rows of the code, so that neither tells what is not so.
mod documentation;
