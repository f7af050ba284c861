//! The parts of a running pillarbox that requests read and change.
//!
//! The daemon shares them with every connection of the control socket. A command that runs without a daemon answers from
//! its own, with the same queue on disk, and never checks the alarm and gives no sign of life.

use super::alarm::Alarm;
use super::pulse::Pulse;
use crate::engine::queue::manager::Manager;
use std::sync::Arc;

/// The parts of a running pillarbox that answer operators.
#[derive(Debug)]
pub struct Services {
    /// The queue.
    pub manager: Arc<Manager>,
    /// The alarms that were raised.
    pub alarm: Alarm,
    /// The signs of life.
    pub pulse: Pulse,
}
