//! Queue entries that wait for a digest.

use super::index::{Hop, Pending, QueueIndex};
use crate::engine::host::site::Site;
use crate::engine::intake::digest_windows::DigestWindows;
use crate::mail::date::Now;
use crate::store::queue::{self, Collected, Description, Progress, RecipientState};

/// The digest that a message of the queue waits for. One that the operator holds back waits for nothing else, and one
/// that has been tried goes on alone.
#[must_use]
pub fn awaited(site: &Site, description: &Description, progress: &[Progress]) -> Option<Collected> {
    let is_untouched = |progress: &Progress| {
        progress.attempts == 0 && !progress.held && progress.state == RecipientState::Pending
    };
    let is_on = site.settings.digest.after > 0;
    description.digest.filter(|_| is_on && progress.iter().all(is_untouched))
}

/// Puts a message of the queue in the index, to wait there; false if it waits for no digest.
pub fn load(
    index: &QueueIndex,
    digests: &DigestWindows,
    site: &Site,
    summary: &queue::EntrySummary,
    now: Now,
) -> bool {
    let Some(digest) = awaited(site, &summary.description, &summary.progress) else { return false };
    // A window that has been made shorter ends sooner.
    let latest = now.running.saturating_add(site.settings.digest.window);
    let digest = Collected { until: digest.until.min(latest), ..digest };
    let arrival = summary.description.arrival.running.min(now.running);
    // First of all: a worker that gets it at once has to find it there.
    let full = digests.add(site, summary.id, summary.message_octets, digest, now);
    index.put_back(Hop::Local, Pending { id: summary.id, arrival }, digest.until);
    if let Some(id) = full {
        index.put_back(Hop::Local, Pending { id, arrival }, now.running);
    }
    true
}
