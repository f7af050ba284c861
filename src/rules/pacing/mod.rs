//! When something happens: retries, pauses, schedules, rates, and clocks that may be wrong.
//!
//! Two clocks run through this room. The wall clock tells dates and may jump. The running time counts time that has
//! really passed, also over restarts (`running_clock`); ages, pauses and limits use only that one.

pub mod alarm;
pub mod auth_failures;
pub mod breaker;
pub mod cron;
pub mod downtime;
pub mod heartbeat;
pub mod patience;
pub mod rate;
pub mod retry;
pub mod running_clock;
pub mod shares;
