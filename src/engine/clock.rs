//! The clock of the engine: wall time for people, running time for decisions, kept over restarts.

use super::event::Event;
use crate::mail::date::{Now, WallTime};
use crate::rules::running_clock::{RunningClock, Saved};
use crate::store::clock_file;
use crate::sys::clock::{Clock, boot_id};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Both clocks, and where the running one is saved.
pub struct EngineClock {
    clock: Box<dyn Clock>,
    running: Mutex<RunningClock>,
    state: PathBuf,
}

impl fmt::Debug for EngineClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineClock").finish_non_exhaustive()
    }
}

impl EngineClock {
    /// Goes on from what was saved below `state`.
    #[must_use]
    pub fn resume(clock: Box<dyn Clock>, state: &Path) -> Self {
        let saved = clock_file::load(state).and_then(|text| Saved::parse(&text));
        let running = RunningClock::resume(saved, WallTime(clock.wall_micros()), clock.boot(), boot_id());
        Self { clock, running: Mutex::new(running), state: state.to_owned() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // The clocks are read under the lock: else the boot clock of one thread could seem to run back to another.
        let (now, jump) = running.look(WallTime(self.clock.wall_micros()), self.clock.boot());
        drop(running);
        if let Some(jump) = jump {
            Event::ClockJump { seconds: jump.seconds }.log();
        }
        now
    }

    /// The running time at which the wall clock last jumped.
    #[must_use]
    pub fn last_jump(&self) -> Duration {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).last_jump()
    }

    /// Saves the running time if it is time to, or in any case.
    pub fn save(&self, in_any_case: bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = (in_any_case || running.should_save()).then(|| running.to_save());
        drop(running);
        if let Some(Err(error)) = saved.map(|saved| clock_file::save(&self.state, &saved.to_string())) {
            Event::Trouble { doing: "saving the clock", error: &error.to_string() }.log();
        }
    }
}
