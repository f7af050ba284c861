//! Reports of what this host does: log lines, the logger behind them, and counters.
//!
//! | file | holds |
//! | --- | --- |
//! | `event` | the log lines, with their keys |
//! | `logger` | writes a line to standard error or to the system's log, and never blocks |
//! | `history` | deliveries, failures and waiting mail of the last month, in hours |
//! | `last_ends` | the last delivery and the last failure, for `pillarbox status` |
//! | `counters` | numbers for `pillarbox status`, with the file that keeps their totals |
//!
//! Nothing in this room can stop mail: a line that the target does not accept is dropped and counted.

pub mod counters;
pub mod event;
pub mod history;
pub mod last_ends;
pub mod logger;

#[cfg(test)]
mod tests;
