//! Queue entries that wait for a digest: which of them do, and how they enter the index.
//!
//! Such an entry waits at the local hop, due at the end of its window, and only in memory: its description on disk says
//! which digest it belongs to and until when. So a reload or a restart finds it again, and a changed configuration
//! counts.

use super::index::{Hop, Pending, QueueIndex};
use crate::engine::host::site::Site;
use crate::engine::intake::digest_windows::DigestWindows;
use crate::mail::date::Now;
use crate::store::queue::{self, Collected, Description, Progress, RecipientState};

/// The digest that a queued message waits for. A message that the operator holds, or that was tried before, waits for
/// none: it leaves by itself.
#[must_use]
pub fn awaited(site: &Site, description: &Description, progress: &[Progress]) -> Option<Collected> {
    let is_untouched = |progress: &Progress| {
        progress.attempts == 0 && !progress.held && progress.state == RecipientState::Pending
    };
    let is_on = site.settings.digest.after > 0;
    description.digest.filter(|_| is_on && progress.iter().all(is_untouched))
}

/// Lets a queued message wait in the index for its digest. Returns false if it does not wait for one.
pub fn load(
    index: &QueueIndex,
    digests: &DigestWindows,
    site: &Site,
    summary: &queue::EntrySummary,
    now: Now,
) -> bool {
    let Some(digest) = awaited(site, &summary.description, &summary.progress) else { return false };
    // A window that the configuration has made shorter ends earlier.
    let latest = now.running.saturating_add(site.settings.digest.window);
    let digest = Collected { until: digest.until.min(latest), ..digest };
    let arrival = summary.description.arrival.running.min(now.running);
    // Before the index: a worker that takes the message at once must find it in the window.
    let full = digests.add(site, summary.id, summary.message_octets, digest, now);
    index.put_back(Hop::Local, Pending { id: summary.id, arrival }, digest.until);
    if let Some(id) = full {
        index.put_back(Hop::Local, Pending { id, arrival }, now.running);
    }
    true
}
