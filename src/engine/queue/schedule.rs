//! When `queue.schedule` fires. This is the only decision that follows the wall clock, in local time, even if that
//! clock jumps.

use crate::engine::host::site::Site;
use crate::mail::date::{Now, WallTime};
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
        let utc_offset = sys::clock::utc_offset_seconds(now.wall.seconds());
        let fired = self.next.is_some_and(|next| now.wall >= next);
        // A clock that was ahead and was corrected must not delay mail until it shows the same time again.
        let went_back = now.wall < self.looked;
        self.looked = now.wall;
        if fired || self.next.is_none() || utc_offset != self.utc_offset || went_back {
            self.utc_offset = utc_offset;
            self.next = expression.next_after(now.wall, utc_offset);
        }
        fired
    }
}
