//! What is told of what happens: log lines, the logger behind them, and counters.

pub mod counters;
pub mod event;
pub mod logger;

#[cfg(test)]
mod tests;
