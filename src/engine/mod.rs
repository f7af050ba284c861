//! Joins the floors below: listeners, connections, intake, forwarder.

pub mod event;
pub mod logger;
