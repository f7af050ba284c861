//! When a deferred message is tried again, and when it is given up (RFC 5321 §4.5.4.1).
//!
//! Ages are running times ([`Now::running`]), so a jump of the wall clock neither expires nor freezes a message.

use crate::mail::date::Now;
use std::time::Duration;

/// The attempts that a message gets after a jump of the clock before it can expire: the jump may mean that the box
/// was asleep and did not try at all.
pub const ATTEMPTS_BEFORE_EXPIRY: u32 = 3;
/// The shortest step, so that a configured zero cannot make a busy loop.
const STEP_MIN: Duration = Duration::from_secs(1);
const REFUSAL_PAUSE_MIN: Duration = Duration::from_secs(15 * 60);
const REFUSAL_PAUSE_MAX: Duration = Duration::from_secs(4 * 3600);

/// `queue.retry` and `queue.lifetime`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first attempt, the second and so on; the last one repeats.
    pub steps: Vec<Duration>,
    /// How long a message is tried.
    pub lifetime: Duration,
}

impl RetryPolicy {
    /// The wait after `attempts` attempts: the configured step, varied by ±10 % with `random` (all 32 bits), so that
    /// messages deferred together do not come back together.
    #[must_use]
    pub fn step(&self, attempts: u32, random: u32) -> Duration {
        let index = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let step = self.steps.get(index).or(self.steps.last()).copied().unwrap_or_default();
        spread(step, random).max(STEP_MIN)
    }

    /// Whether a message of this age is given up. `attempts_since_jump` counts attempts since the last jump of the
    /// clock (see [`super::running_clock`]), failed tries of its route included.
    #[must_use]
    pub fn is_expired(&self, age: Duration, attempts_since_jump: u32) -> bool {
        age > self.lifetime && attempts_since_jump >= ATTEMPTS_BEFORE_EXPIRY
    }
}

/// How long a route pauses after a smarthost has refused `refusals` times in a row for the account, a limit or a
/// similar reason: from 15 minutes to 4 hours. Trying sooner is useless, and some providers punish it.
#[must_use]
pub fn pause_after_refusal(refusals: u32, random: u32) -> Duration {
    let doublings = refusals.saturating_sub(1).min(4);
    spread(REFUSAL_PAUSE_MIN * (1 << doublings), random).clamp(REFUSAL_PAUSE_MIN, REFUSAL_PAUSE_MAX)
}

/// A value between 90 % and 110 %. The product is below a fifth of the step, so it cannot overflow.
fn spread(step: Duration, random: u32) -> Duration {
    (step - step / 10).saturating_add(step / 5 / 0x1_0000 * (random >> 16))
}

/// The rest of a retry step that began at `last_attempt`. Time during which the box was off counts if the wall clock
/// shows it. The result never exceeds the step, even if the clocks are wrong.
#[must_use]
pub fn remaining_wait(step: Duration, last_attempt: Now, now: Now) -> Duration {
    let by_running = now.running.saturating_sub(last_attempt.running);
    // A wall clock that went backwards counts as zero.
    let by_wall = Duration::from_micros(now.wall.0.saturating_sub(last_attempt.wall.0));
    step.saturating_sub(by_running.max(by_wall))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::date::WallTime;

    const MINUTE: Duration = Duration::from_secs(60);
    const DAY: Duration = Duration::from_secs(86_400);

    fn policy() -> RetryPolicy {
        RetryPolicy { steps: vec![MINUTE, 5 * MINUTE, 240 * MINUTE], lifetime: 5 * DAY }
    }

    #[test]
    fn steps_grow_and_the_last_repeats() {
        let seconds = |attempts| policy().step(attempts, 1 << 31).as_secs_f64().round();
        assert_eq!([0, 1, 2, 3, 4, u32::MAX].map(seconds), [60.0, 60.0, 300.0, 14_400.0, 14_400.0, 14_400.0]);
    }

    #[test]
    fn steps_are_spread_by_a_tenth_both_ways() {
        assert_eq!(policy().step(1, 0), MINUTE * 9 / 10);
        let latest = policy().step(1, u32::MAX);
        assert!(latest <= MINUTE * 11 / 10 && latest > MINUTE * 10_999 / 10_000, "{latest:?}");
        let endless = RetryPolicy { steps: vec![Duration::MAX], lifetime: DAY };
        assert!(endless.step(1, u32::MAX) > Duration::MAX / 2);
    }

    #[test]
    fn a_refusal_pauses_from_a_quarter_of_an_hour_to_four_hours() {
        let minutes = |refusals| pause_after_refusal(refusals, 1 << 31).as_secs_f64().round() / 60.0;
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(minutes),
            [15.0, 15.0, 30.0, 60.0, 120.0, 240.0, 240.0, 240.0]
        );
        for random in [0, u32::MAX] {
            assert!(pause_after_refusal(1, random) >= 15 * MINUTE);
            assert!(pause_after_refusal(9, random) <= 240 * MINUTE);
        }
    }

    #[test]
    fn no_policy_makes_a_busy_loop() {
        for steps in [vec![], vec![Duration::ZERO]] {
            assert_eq!(RetryPolicy { steps, lifetime: DAY }.step(1, 0), STEP_MIN);
        }
    }

    #[test]
    fn expiry_needs_age_and_three_attempts() {
        assert!(!policy().is_expired(5 * DAY, 100));
        assert!(policy().is_expired(5 * DAY + MINUTE, 3));
        assert!(!policy().is_expired(5 * DAY + MINUTE, 2));
        assert!(!policy().is_expired(Duration::MAX, 0));
    }

    #[test]
    fn the_wait_is_never_longer_than_its_step() {
        let at = |wall_minutes: u64, running_minutes: u32| Now {
            wall: WallTime(wall_minutes * 60_000_000),
            running: running_minutes * MINUTE,
        };
        let (step, last) = (10 * MINUTE, at(1000, 100));
        for (now, minutes_left) in [
            (at(1003, 103), 7),    // an ordinary restart
            (at(1030, 100), 0),    // switched off for half an hour
            (at(1004, 100), 6),    // switched off for four minutes
            (at(0, 102), 8),       // the clock fell back to 1970
            (at(999_999, 101), 0), // the clock leapt ahead: too early is better than too late
            (at(0, 0), 10),        // all was forgotten
        ] {
            assert_eq!(remaining_wait(step, last, now), minutes_left * MINUTE, "{now:?}");
        }
    }
}
