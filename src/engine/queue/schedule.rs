//! When `queue.schedule` fires. This is the only decision that follows the wall clock, in local time, even if that
//! clock jumps.

use crate::engine::host::site::Site;
use crate::mail::date::{Now, WallTime};
use crate::rules::pacing::cron::CronExpression;
use crate::sys;

/// When the schedule fires next.
#[derive(Debug, Default)]
pub struct Schedule {
    next: Option<WallTime>,
    utc_offset: i32,
    looked: WallTime,
}

impl Schedule {
    /// Whether the schedule has fired since the last call. The next time is computed once and stands until it has come
    /// or the UTC offset changes, so that the hour that is missing in spring skips no run.
    pub fn fires(&mut self, site: &Site, now: Now) -> bool {
        let Some(expression) = &site.settings.queue.schedule else {
            self.next = None;
            return false;
        };
        self.look(expression, now.wall, sys::clock::utc_offset_seconds(now.wall.seconds()))
    }

    fn look(&mut self, expression: &CronExpression, wall: WallTime, utc_offset: i32) -> bool {
        let fired = self.next.is_some_and(|next| wall >= next);
        // A clock that was ahead and was corrected must not delay mail until it shows the same time again.
        let went_back = wall < self.looked;
        self.looked = wall;
        if fired || self.next.is_none() || utc_offset != self.utc_offset || went_back {
            self.utc_offset = utc_offset;
            self.next = expression.next_after(wall, utc_offset);
        }
        fired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_another_one_when_the_utc_offset_changes() {
        let noon = CronExpression::parse("0 12 * * *").unwrap();
        let mut schedule = Schedule::default();
        let mut look =
            |minutes: u64, utc_offset| schedule.look(&noon, WallTime(minutes * 60 * 1_000_000), utc_offset);
        assert!(!look(9 * 60, 0));
        assert!(!look(9 * 60 + 30, 7200), "half past eleven");
        assert!(look(10 * 60, 7200), "noon");
        assert!(!look(12 * 60, 7200));
    }
}
