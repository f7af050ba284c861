//! Where a message goes: who may send to whom, aliases, and the route of each recipient.

pub mod admission;
pub mod aliases;
pub mod expansion;
pub mod route;
