//! What people read about a failure: what a refusal is about, hints, known providers, figures for monitors.

pub mod authenticity;
pub mod hints;
pub mod monitor;
pub mod providers;
pub mod refusal;
