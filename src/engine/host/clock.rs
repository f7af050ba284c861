//! The clock of the engine: wall time for people, running time for decisions, kept over restarts.

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

/// Both clocks, and where the running one is saved.
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
    /// Goes on from what was saved below `state`. The way out counts as there again: had `link up` come while nothing
    /// served, a `down` that was kept would stop all mail for good, and one that is not kept costs a few tries.
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

    /// What way out there is from now on; kept over restarts as far as lifetimes go.
    pub fn note_link(&self, link: Uplink) {
        let now = self.now().running;
        self.downtimes().note(link, now);
        self.save(true);
    }

    /// How much of its lifetime a message that came at `arrival` has used up at `now`: times without a way out for
    /// it do not count.
    #[must_use]
    pub fn lived(&self, arrival: Duration, now: Duration, is_urgent: bool) -> Duration {
        now.saturating_sub(arrival).saturating_sub(self.downtimes().of(is_urgent).within(arrival, now))
    }

    fn downtimes(&self) -> MutexGuard<'_, Downtimes> {
        self.downtimes.lock()
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Now {
        let mut running = self.running.lock();
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
        self.running.lock().last_jump()
    }

    /// Saves the running time if it is time to, or in any case.
    pub fn save(&self, in_any_case: bool) {
        let mut running = self.running.lock();
        let saved = (in_any_case || running.should_save()).then(|| running.to_save());
        drop(running);
        if let Some(Err(error)) = saved.map(|saved| {
            let text = format!("{};{}", saved.to_string().trim_end(), *self.downtimes());
            CLOCK.save(&self.state, &text)
        }) {
            trouble("saving the clock", &error);
        }
    }
}
