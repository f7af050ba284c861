//! Time that has really passed, counted over restarts, from two clocks that the caller reads.
//!
//! | clock | starts | may jump | counts while the box is off |
//! | --- | --- | --- | --- |
//! | wall clock | 1970 | yes: a box without a battery starts in the past and leaps when NTP answers | yes |
//! | boot clock (CLOCK_BOOTTIME) | at each boot | no | no |
//! | running clock | when pillarbox was installed | no | no |
//!
//! The running clock follows the boot clock and is saved from time to time, so it never goes backwards and ignores
//! jumps of the wall clock. Time during which the box was up without pillarbox counts. The module reads and writes
//! nothing itself.

use crate::mail::date::{Now, WallTime, micros};
use std::fmt;
use std::time::Duration;

/// If wall clock and boot clock diverge by more than this between two looks, the wall clock has jumped. Less is the
/// drift of a bad crystal, or a correction by NTP.
const JUMP_MIN_MICROS: u128 = 60_000_000;
/// The shortest time between two saves: each is a write to flash. A power cut loses at most this much of all ages.
const SAVE_INTERVAL: Duration = Duration::from_secs(600);
/// The same while no message waits whose age would count: then a power cut only makes periods such as `heartbeat.every` longer.
const RARE_SAVE_INTERVAL: Duration = Duration::from_secs(3600);

/// The state on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavedClock {
    /// The running time at the save.
    pub running: Duration,
    /// The wall clock at the save.
    pub wall: WallTime,
    /// The boot clock at the save.
    pub boot: Duration,
    /// The id of the boot; 0: unknown.
    pub boot_id: u128,
    /// See [`RunningClock::last_jump`].
    pub last_jump: Duration,
}

impl SavedClock {
    /// Reads what `Display` printed; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<&str> = text.split_ascii_whitespace().collect();
        let &[running, wall, boot, boot_id, last_jump] = numbers.as_slice() else { return None };
        let micros = |text: &str| text.parse().ok().map(Duration::from_micros);
        Some(Self {
            running: micros(running)?,
            wall: WallTime(wall.parse().ok()?),
            boot: micros(boot)?,
            boot_id: u128::from_str_radix(boot_id, 16).ok()?,
            last_jump: micros(last_jump)?,
        })
    }
}

/// One line: running, wall and boot time in microseconds, the boot's id in hexadecimal, the last jump.
impl fmt::Display for SavedClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (running, boot, jump) = (micros(self.running), micros(self.boot), micros(self.last_jump));
        writeln!(f, "{running} {} {boot} {:032x} {jump}", self.wall.0, self.boot_id)
    }
}

/// A jump of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// The distance in seconds; negative: backwards.
    pub seconds: i64,
}

/// The clock that counts time that has really passed.
#[derive(Debug)]
pub struct RunningClock {
    /// The state at the last look.
    now: SavedClock,
    /// The running time at the last save in this boot. Without a save, a later process could not tell how much time
    /// has passed; on a box without a daemon no time would ever pass.
    saved_at: Option<Duration>,
}

impl RunningClock {
    /// Continues from the saved state, or starts at zero. Within the same boot the time since then has passed. After
    /// another boot, off time and a jump of the wall clock look the same, so the running time continues where it was
    /// saved, and a wall clock that shows less than before has jumped.
    #[must_use]
    pub fn resume(saved: Option<SavedClock>, wall: WallTime, boot: Duration, boot_id: u128) -> Self {
        let fresh = SavedClock { running: Duration::ZERO, wall, boot, boot_id, last_jump: Duration::ZERO };
        let Some(saved) = saved else { return Self { now: fresh, saved_at: None } };
        let mut clock = Self { now: saved, saved_at: Some(saved.running) };
        if saved.boot_id == boot_id && boot_id != 0 {
            clock.look(wall, boot);
        } else {
            let last_jump = if wall < saved.wall { saved.running } else { saved.last_jump };
            clock.now = SavedClock { running: saved.running, last_jump, ..fresh };
            clock.saved_at = None;
        }
        clock
    }

    /// Reads both clocks. Also reports a jump of the wall clock since the last look.
    pub fn look(&mut self, wall: WallTime, boot: Duration) -> (Now, Option<Jump>) {
        let passed = boot.saturating_sub(self.now.boot);
        let expected = i128::from(self.now.wall.0) + passed.as_micros().cast_signed();
        let drift = i128::from(wall.0) - expected;
        self.now.running = self.now.running.saturating_add(passed);
        (self.now.wall, self.now.boot) = (wall, self.now.boot.max(boot));
        let jump = (drift.unsigned_abs() > JUMP_MIN_MICROS).then(|| {
            self.now.last_jump = self.now.running;
            // A value beyond i64 would exceed what the clocks can show.
            Jump { seconds: i64::try_from(drift / 1_000_000).unwrap_or(i64::MAX) }
        });
        (Now { wall, running: self.now.running }, jump)
    }

    /// The running time at the last jump that was noticed, or zero. Attempts before it do not count towards expiry
    /// (see [`super::retry::RetryPolicy::is_expired`]).
    #[must_use]
    pub fn last_jump(&self) -> Duration {
        self.now.last_jump
    }

    /// Whether the last save is of another boot, or ten minutes old; `is_rare`: an hour.
    #[must_use]
    pub fn should_save(&self, is_rare: bool) -> bool {
        let interval = if is_rare { RARE_SAVE_INTERVAL } else { SAVE_INTERVAL };
        self.saved_at.is_none_or(|at| self.now.running.saturating_sub(at) >= interval)
    }

    /// The state to write now: when [`Self::should_save`] returns true, and at the end.
    pub fn to_save(&mut self) -> SavedClock {
        self.saved_at = Some(self.now.running);
        self.now
    }
}

/// The time at which 2026 began, in microseconds: pillarbox did not exist before.
const FIRST_POSSIBLE: WallTime = WallTime(1_767_225_600_000_000);

/// The correct date of a message that was written at `written`, by the current clock, if the clock was wrong then: it
/// showed a time before 2026, or has jumped since. `None`: the date stays.
#[must_use]
pub fn mended(written: Now, now: Now, last_jump: Duration) -> Option<WallTime> {
    let age = micros(now.running.saturating_sub(written.running));
    let right = WallTime(now.wall.0.saturating_sub(age));
    let was_wrong = written.wall < FIRST_POSSIBLE || last_jump > written.running;
    let is_far = u128::from(right.0.abs_diff(written.wall.0)) > JUMP_MIN_MICROS;
    (was_wrong && is_far).then_some(right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const YEAR: u64 = 31_536_000;

    fn wall(seconds: u64) -> WallTime {
        WallTime(seconds * 1_000_000)
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn saved() -> SavedClock {
        let (wall, last_jump) = (wall(40 * YEAR), secs(10));
        SavedClock { running: secs(1000), wall, boot: secs(300), boot_id: 7, last_jump }
    }

    #[test]
    fn it_follows_the_boot_clock_and_reports_jumps() {
        let mut clock = RunningClock::resume(None, wall(0), secs(5), 1);
        let (now, jump) = clock.look(wall(100), secs(105));
        assert_eq!((now.running, jump, clock.last_jump()), (secs(100), None, secs(0)));
        // NTP answers: 50 years ahead within 20 seconds.
        let (now, jump) = clock.look(wall(50 * YEAR), secs(125));
        assert_eq!(
            (now, jump.map(|j| j.seconds)),
            (Now { wall: wall(50 * YEAR), running: secs(120) }, Some((50 * YEAR - 120).cast_signed()))
        );
        assert_eq!(clock.last_jump(), secs(120));
        // And a year back.
        let (now, jump) = clock.look(wall(49 * YEAR), secs(125));
        assert_eq!((now.running, jump.map(|j| j.seconds)), (secs(120), Some(-YEAR.cast_signed())));
    }

    /// As after a reboot of a box whose clock has no battery and was saved at the shutdown.
    #[test]
    fn a_clock_that_goes_on_where_it_was_has_not_jumped() {
        let last_jump = |wall| RunningClock::resume(Some(saved()), wall, secs(1), 8).last_jump();
        assert_eq!(last_jump(wall(40 * YEAR)), secs(10));
        assert_eq!(last_jump(wall(40 * YEAR - 1)), secs(1000));
    }

    #[test]
    fn a_date_of_a_wrong_clock_is_mended() {
        const YEAR_2026: u64 = 56 * YEAR + 14 * 86_400;
        let at = |wall_seconds, running| Now { wall: wall(wall_seconds), running: secs(running) };
        let now = at(YEAR_2026 + 5000, 1000);
        for (written, last_jump, expected) in [
            // A clock without a battery, noticed or not.
            (at(100, 100), 500, Some(YEAR_2026 + 4100)),
            (at(100, 100), 0, Some(YEAR_2026 + 4100)),
            (at(YEAR_2026 + 90_000, 900), 950, Some(YEAR_2026 + 4900)),
            // A right one; three days in a cupboard are no jump.
            (at(YEAR_2026 + 4100, 100), 500, None),
            (at(YEAR_2026 + 4060, 100), 500, None),
            (at(YEAR_2026 + 4040, 100), 500, None),
            (at(YEAR_2026 + 4039, 100), 500, Some(YEAR_2026 + 4100)),
            (at(YEAR_2026, 900), 0, None),
            (at(YEAR_2026, 900), 900, None),
        ] {
            assert_eq!(mended(written, now, secs(last_jump)), expected.map(wall), "{written:?}");
        }
        // It is still wrong.
        assert_eq!(mended(at(100, 100), at(1000, 1000), secs(0)), None);
    }

    #[test]
    fn drift_up_to_a_minute_is_no_jump() {
        for (shown, is_jump) in [(160, false), (161, true), (40, false), (39, true)] {
            let mut clock = RunningClock::resume(None, wall(1000), secs(0), 1);
            let (_, jump) = clock.look(wall(1000 + shown), secs(100));
            assert_eq!(jump.is_some(), is_jump, "{shown}");
        }
    }

    #[test]
    fn a_restart_within_a_boot_counts_the_time_between() {
        let mut clock = RunningClock::resume(Some(saved()), wall(40 * YEAR + 50), secs(350), 7);
        assert_eq!(clock.last_jump(), secs(10));
        assert_eq!(clock.look(wall(40 * YEAR + 51), secs(351)).0.running, secs(1051));
        let jumped = RunningClock::resume(Some(saved()), wall(41 * YEAR), secs(350), 7);
        assert_eq!(jumped.last_jump(), secs(1050));
    }

    #[test]
    fn the_first_process_of_a_boot_saves_however_short_it_lives() {
        for (known, boot_id, saves) in [(None, 7, true), (Some(saved()), 8, true), (Some(saved()), 7, false)]
        {
            let mut clock = RunningClock::resume(known, wall(40 * YEAR + 1), secs(301), boot_id);
            assert_eq!((clock.should_save(false), clock.should_save(true)), (saves, saves));
            clock.to_save();
            assert!(!clock.should_save(false));
        }
    }

    #[test]
    fn off_time_does_not_count() {
        let mut clock = RunningClock::resume(Some(saved()), wall(41 * YEAR), secs(20), 8);
        assert_eq!(clock.last_jump(), secs(10), "a year in a cupboard is no jump");
        let (now, jump) = clock.look(wall(41 * YEAR + 5), secs(25));
        assert_eq!((now.running, jump), (secs(1005), None));
        let back = RunningClock::resume(Some(saved()), wall(0), secs(20), 8);
        assert_eq!(back.last_jump(), secs(1000));
    }

    #[test]
    fn an_unknown_boot_is_never_the_same() {
        let nameless = SavedClock { boot_id: 0, ..saved() };
        let mut clock = RunningClock::resume(Some(nameless), wall(40 * YEAR + 50), secs(350), 0);
        assert_eq!(clock.look(wall(40 * YEAR + 50), secs(350)).0.running, secs(1000));
    }

    #[test]
    fn it_is_saved_every_ten_minutes_at_most_and_every_hour_while_no_mail_waits() {
        for (is_rare, expected) in [(false, 13), (true, 3)] {
            let mut clock = RunningClock::resume(None, wall(0), secs(0), 1);
            let mut saves = 0;
            for second in 0..=7200 {
                clock.look(wall(second), secs(second));
                if clock.should_save(is_rare) {
                    saves += 1;
                    assert_eq!(clock.to_save().running, secs(second));
                }
            }
            assert_eq!(saves, expected, "and the first time");
        }
    }

    #[test]
    fn only_whole_lines_are_read() {
        for text in ["", "1 2 3 4", "1 2 3 4 5 6", "-1 2 3 4 5", "1 2 3 zz 5", "99999999999999999999 2 3 4 5"]
        {
            assert_eq!(SavedClock::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(running: u64, time: u64, boot: u64, boot_id: u128, jump: u64) {
            let saved = SavedClock {
                running: Duration::from_micros(running), wall: WallTime(time), boot: Duration::from_micros(boot),
                boot_id, last_jump: Duration::from_micros(jump),
            };
            prop_assert_eq!(SavedClock::parse(&saved.to_string()), Some(saved));
        }

        #[test]
        fn it_never_runs_backwards(looks in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<bool>()), 1..30)) {
            let mut clock = RunningClock::resume(None, WallTime(0), Duration::ZERO, 1);
            let mut before = Duration::ZERO;
            for (time, boot, restart) in looks {
                let boot = Duration::from_micros(boot >> 8);
                if restart {
                    clock = RunningClock::resume(Some(clock.to_save()), WallTime(time), boot, 1 + u128::from(time % 2));
                }
                let (now, _) = clock.look(WallTime(time), boot);
                prop_assert!(now.running >= before);
                prop_assert!(clock.last_jump() <= now.running);
                before = now.running;
            }
        }
    }
}
