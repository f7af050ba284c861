//! Joins the floors below: listeners, connections, intake, forwarder.

pub mod aliases;
pub mod attempt;
pub mod board;
pub mod capacity;
pub mod clock;
pub mod connection;
pub mod control;
pub mod conversation;
pub mod copies;
pub mod counters;
pub mod daemon;
pub mod delivery;
pub mod delivery_agent;
pub mod dkim;
pub mod drops;
pub mod event;
pub mod forwarder;
pub mod hosts;
pub mod input;
pub mod intake;
pub mod listener;
pub mod listing;
pub mod local;
pub mod logger;
pub mod logins;
pub mod notices;
pub mod operator;
pub mod outbox;
pub mod outside;
pub mod password;
pub mod probe;
pub mod schedule;
pub mod site;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod tls_policy;
