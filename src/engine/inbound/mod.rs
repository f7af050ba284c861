//! ConnectionSlots from outside: listeners, limits, and the session of each client.

pub mod capacity;
pub mod connection;
pub mod input;
pub mod listener;
pub mod policy;
pub mod shared;
pub mod slots;

#[cfg(test)]
mod tests;
