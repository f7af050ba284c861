//! The clocks: the only place that asks for the time.
//!
//! | clock | of | jumps | stands still while the box sleeps |
//! | --- | --- | --- | --- |
//! | `wall_micros` | CLOCK_REALTIME | yes | no |
//! | `boot` | CLOCK_BOOTTIME | no | no |
//! | `monotonic_micros` | CLOCK_MONOTONIC | no | yes; only for sd_notify(3) |

use super::file;
use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime};

/// A source of time; tests provide their own.
pub trait Clock: Send + Sync {
    /// Microseconds since 1970 by the wall clock, which may jump. A clock before 1970 gives 0.
    fn wall_micros(&self) -> u64;
    /// Time since the box started, including sleep; it never jumps.
    fn boot(&self) -> Duration;
}

/// The clocks of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_micros(&self) -> u64 {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since_1970.map_or(0, micros)
    }

    fn boot(&self) -> Duration {
        now(libc::CLOCK_BOOTTIME)
    }
}

/// Microseconds since the box started, without sleep: the clock of sd_notify(3).
#[must_use]
pub fn monotonic_micros() -> u64 {
    micros(now(libc::CLOCK_MONOTONIC))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The time of a clock that began at the start of the box. The C library is there for the clocks of std, too; rustix would
/// bring its own search for the kernel's vDSO.
#[allow(unsafe_code)]
fn now(clock: libc::clockid_t) -> Duration {
    // SAFETY: it consists of integers. On some processors it has padding as well, so a literal can't name all of it.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live timespec. If the call fails, which it can't for these clocks, the time is zero.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A number that differs after each start of the box; 0 if the system provides none.
#[must_use]
pub fn boot_id() -> u128 {
    let id = file::of_kernel("/proc/sys/kernel/random/boot_id");
    u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or(0)
}

/// How many seconds local time is ahead of UTC at a wall time given in seconds since 1970.
#[must_use]
#[allow(unsafe_code)]
pub fn utc_offset_seconds(wall_seconds: u64) -> i32 {
    // The type is not named: libc marks the name time_t as deprecated on musl.
    let Ok(time) = wall_seconds.try_into() else { return 0 };
    let mut local = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to live values of the right type, and localtime_r keeps neither. It reads the
    // variable TZ, which nothing in this program ever sets. There is no safe wrapper that works with several threads.
    let found = unsafe { !libc::localtime_r(&raw const time, local.as_mut_ptr()).is_null() };
    if !found {
        return 0;
    }
    // SAFETY: a tm of zeroes is valid, and localtime_r has filled it in.
    let local = unsafe { local.assume_init() };
    i32::try_from(local.tm_gmtoff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_run() {
        assert!(SystemClock.wall_micros() > 1_700_000_000_000_000);
        let before = SystemClock.boot();
        assert!(SystemClock.boot() >= before && before > Duration::ZERO);
        assert_ne!(boot_id(), 0);
        assert_eq!(boot_id(), boot_id());
        assert!(utc_offset_seconds(0).abs() <= 14 * 3600);
    }
}
