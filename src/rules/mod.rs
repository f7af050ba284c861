//! Decisions: who may relay, where a message goes, when it is tried again, what a bounce says.
//!
//! Nothing here opens, reads, waits, logs or asks for the time; time comes as an argument.

pub mod admission;
pub mod alarm;
pub mod aliases;
pub mod auth_failures;
pub mod authenticity;
pub mod bounce;
pub mod breaker;
pub mod certificate;
pub mod control;
pub mod cron;
pub mod digest;
pub mod dkim;
pub mod downtime;
pub mod expansion;
pub mod hints;
pub mod monitor;
pub mod mx;
pub mod password;
pub mod patience;
pub mod providers;
pub mod rate;
pub mod recode;
pub mod refusal;
pub mod repair;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod running_clock;
pub mod secret_shape;
pub mod tls_policy;
pub mod users;
