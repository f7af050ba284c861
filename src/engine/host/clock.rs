//! The clock of the engine: wall time for people, running time for decisions.
//!
//! | time | source | used for |
//! | --- | --- | --- |
//! | wall time | the system's clock, which may be wrong or jump | dates in messages and log lines |
//! | running time | the boot clock, continued over restarts by the file `clock` (`rules::pacing::running_clock`) | ages, retries, lifetimes |
//! | uplink | `link up` and `link down` (`rules::pacing::downtime`) | time without an uplink does not age a message |
//!
//! The file holds the running time and the downtimes, separated by `;`. If it is damaged or missing, running time
//! starts again at 0: queued messages get older later, and none is lost.

use crate::engine::log::event::{Event, trouble};
use crate::mail::date::{Now, WallTime};
use crate::rules::pacing::downtime::{Downtimes, Uplink};
use crate::rules::pacing::running_clock::{RunningClock, SavedClock};
use crate::store::state_file::line::CLOCK;
use crate::sys::clock::{Clock, boot_id};
use crate::sys::lock::Lock;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::time::Duration;

/// Both clocks, and the directory that the running time is saved in.
pub struct EngineClock {
    clock: Box<dyn Clock>,
    running: Lock<RunningClock>,
    downtimes: Lock<Downtimes>,
    state: PathBuf,
}

impl fmt::Debug for EngineClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineClock").finish_non_exhaustive()
    }
}

impl EngineClock {
    /// Continues the running time that was saved below `state`. The uplink counts as up: a saved `down` could stop all
    /// mail for good, if `link up` came while the daemon was not running. Without it a few attempts may fail.
    #[must_use]
    pub fn resume(clock: Box<dyn Clock>, state: &Path) -> Self {
        let text = CLOCK.load(state).unwrap_or_default();
        let (saved, downtime) = text.split_once(';').unwrap_or((&text, ""));
        let (saved, downtimes) = (SavedClock::parse(saved), Downtimes::parse(downtime).unwrap_or_default());
        let running = RunningClock::resume(saved, WallTime(clock.wall_micros()), clock.boot(), boot_id());
        let (running, state) = (Lock::new(running), state.to_owned());
        let resumed = Self { clock, running, downtimes: Lock::new(downtimes), state };
        let now = resumed.now().running;
        resumed.downtimes().note(Uplink::Up, now);
        resumed
    }

    /// Records the state of the uplink. Past downtimes are saved for the lifetimes of messages; the state itself is not
    /// used after a restart. The hooks of network managers call this at every event: nothing is saved if nothing has changed.
    pub fn note_link(&self, link: Uplink) {
        let now = self.now().running;
        if self.downtimes().note(link, now) {
            self.save();
        }
    }

    /// The part of its lifetime that a message of `arrival` has used at `now`. Time without an uplink for it does not
    /// count.
    #[must_use]
    pub fn lived(&self, arrival: Duration, now: Duration, is_urgent: bool) -> Duration {
        now.saturating_sub(arrival).saturating_sub(self.downtimes().of(is_urgent).within(arrival, now))
    }

    fn downtimes(&self) -> MutexGuard<'_, Downtimes> {
        self.downtimes.lock()
    }

    /// The current time. Logs a jump of the wall clock.
    #[must_use]
    pub fn now(&self) -> Now {
        let mut running = self.running.lock();
        // The clocks are read under the lock: otherwise the boot clock could seem to run backwards between threads.
        let (now, jump) = running.look(WallTime(self.clock.wall_micros()), self.clock.boot());
        drop(running);
        if let Some(jump) = jump {
            Event::ClockJump { seconds: jump.seconds }.log();
        }
        now
    }

    /// The running time of the latest jump of the wall clock.
    #[must_use]
    pub fn last_jump(&self) -> Duration {
        self.running.lock().last_jump()
    }

    /// Saves the running time if the last save is ten minutes ago, or an hour if `is_rare`, which is then asked.
    pub fn save_if_due(&self, is_rare: impl FnOnce() -> bool) {
        let should_save = |is_rare| self.running.lock().should_save(is_rare);
        if should_save(false) && should_save(is_rare()) {
            self.save();
        }
    }

    /// Saves the running time.
    pub fn save(&self) {
        let saved = self.running.lock().to_save();
        let text = format!("{};{}", saved.to_string().trim_end(), *self.downtimes());
        if let Err(error) = CLOCK.save(&self.state, &text) {
            trouble("saving the clock", &error);
        }
    }
}
