//! The clock of a world: it stands still until a test moves it.

use crate::sys::clock::Clock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-23 06:53:30 UTC.
const START_MICROS: u64 = 1_795_416_810_000_000;

/// Wall clock and boot clock; both move only by the calls below.
#[derive(Clone)]
pub struct FakeClock(Arc<Mutex<(u64, Duration)>>, Arc<AtomicBool>);

impl FakeClock {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new((START_MICROS, Duration::from_secs(100)))), Arc::default())
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, span: Duration) {
        let mut both = self.0.lock().unwrap();
        both.0 += span.as_micros() as u64;
        both.1 += span;
    }

    /// Sets the wall clock forward or back.
    pub fn jump(&self, seconds: i64) {
        let mut both = self.0.lock().unwrap();
        both.0 = both.0.checked_add_signed(seconds * 1_000_000).unwrap();
    }

    /// Simulates a boot: the boot clock starts again.
    pub fn reboot(&self) {
        self.0.lock().unwrap().1 = Duration::from_secs(5);
    }

    /// Makes the next reading of the wall clock panic.
    pub fn break_once(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    pub fn boot_time(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

impl Clock for FakeClock {
    fn wall_micros(&self) -> u64 {
        assert!(!self.1.swap(false, Ordering::SeqCst), "the clock is broken");
        self.0.lock().unwrap().0
    }

    fn boot(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}
