//! When something happens: retries, pauses, schedules, rates, and clocks that may lie.

pub mod alarm;
pub mod auth_failures;
pub mod breaker;
pub mod cron;
pub mod downtime;
pub mod patience;
pub mod rate;
pub mod retry;
pub mod running_clock;
