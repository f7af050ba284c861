//! When `queue.schedule` fires: the one decision that follows the wall clock, in local time, whatever that clock does.

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
    /// Whether the schedule has fired since the last look. The time found stands until it comes or the offset changes,
    /// so that the hour that is missing in spring skips no run.
    pub fn fires(&mut self, site: &Site, now: Now) -> bool {
        let Some(expression) = &site.settings.queue.schedule else {
            self.next = None;
            return false;
        };
        let utc_offset = sys::clock::utc_offset_seconds(now.wall.seconds());
        let fired = self.next.is_some_and(|next| now.wall >= next);
        // A clock that was ahead and has been set right must not make mail wait until it is there again.
        let went_back = now.wall < self.looked;
        self.looked = now.wall;
        if fired || self.next.is_none() || utc_offset != self.utc_offset || went_back {
            self.utc_offset = utc_offset;
            self.next = expression.next_after(now.wall, utc_offset);
        }
        fired
    }
}
