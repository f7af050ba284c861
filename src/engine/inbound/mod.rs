//! Connections from outside: listeners, limits, and the session of each client.

pub mod capacity;
pub mod connection;
pub mod counters;
pub mod input;
pub mod listener;
