//! What people are told: what a refusal is about, hints, known providers, and figures for monitors.

pub mod authenticity;
pub mod hints;
pub mod monitor;
pub mod providers;
pub mod refusal;
pub mod row;
pub mod step;
