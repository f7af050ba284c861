//! What operators can ask about and change.

use super::alarm::Alarm;
use crate::engine::queue::manager::Manager;
use std::sync::Arc;

/// The parts of a running pillarbox that answer operators.
#[derive(Debug)]
pub struct Services {
    /// The queue.
    pub manager: Arc<Manager>,
    /// What people are alarmed about.
    pub alarm: Alarm,
}
