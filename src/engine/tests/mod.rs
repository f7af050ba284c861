//! The world that the tests of the rooms live in: the clock is moved by hand, names come from a table, peers are scripts in
//! memory or another box's real server, and the state lies in a directory of the test's. Five days of retries take
//! milliseconds, and every run is the same but for the jitter and the queue ids.
//!
//! The tests themselves stand in the rooms, in `engine/<room>/tests/`, each with a table of what it shows.

pub(super) mod host_tls;
pub(super) mod world;
