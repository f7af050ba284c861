//! The world that the engine's tests share. A test moves the clock by hand, names come from a table, peers are scripts in
//! memory or another world's real server, and the state lies in a directory of the test. Five days of retries take
//! milliseconds, and every run is the same except for the jitter and the queue ids.
//!
//! The tests themselves are in the rooms, in `engine/<room>/tests/`, each with a table of what it shows.

pub(super) mod host_tls;
pub(super) mod world;
