//! Storm control (`[digest]`): decides whether a message of this host that comes in waits for others of its kind, and
//! knows which messages wait.
//!
//! `rules::message::digest` decides which messages are similar and how long they wait; this file adds the lock, the saved
//! state and the limits of the configuration. The messages themselves are ordinary entries of the queue.

use super::copies::Via;
use super::submission::{Accepted, Submission};
use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::Event;
use crate::mail::date::Now;
use crate::mail::envelope::Recipient;
use crate::mail::header;
use crate::mail::id::QueueId;
use crate::rules::message::digest::{self, DigestMember, DigestTerms, MEMBERS_MAX, Windows};
use crate::rules::routing::route::Routed;
use crate::smtp::extension::RcptParameters;
use crate::store::queue::{Collected, Description};
use crate::store::state_file::windows;
use crate::sys::lock::Lock;
use std::collections::HashSet;
use std::path::Path;
use std::sync::MutexGuard;
use std::time::Duration;

/// Octets of `limits.message_size` reserved for the frame of a digest, and for that of each member: generous.
const FRAME_OCTETS: u64 = 64 * 1024;
pub(crate) const MEMBER_FRAME_OCTETS: u64 = 256;

/// What waits for others of its kind.
#[derive(Debug, Default)]
pub struct DigestWindows {
    windows: Lock<Windows>,
    /// What the file says of them.
    saved: Lock<String>,
}

impl DigestWindows {
    /// Goes on from what was saved below `state`.
    #[must_use]
    pub fn resume(state: &Path) -> Self {
        let text = windows::load(state);
        Self { windows: Lock::new(Windows::parse(&text)), saved: Lock::new(text) }
    }

    /// Saves below `state` what another process would not find in the queue, if it has changed.
    pub fn save(&self, state: &Path, now: Now) {
        let text = self.windows().print(now.running);
        let mut saved = self.saved.lock();
        if *saved == text {
            return;
        }
        if let Err(error) = windows::save(state, &text) {
            Event::Trouble { doing: "saving the windows of digests", error: &error.to_string() }.log();
        }
        *saved = text;
    }

    /// Whether a message that comes in waits, by the start of its content. A message that is not taken in the end counts all
    /// the same: at worst a like one waits that need not have.
    #[must_use]
    pub fn decide(&self, site: &Site, submission: &Submission, start: &[u8], now: Now) -> Option<Collected> {
        // What logs in, or comes from another host, has its own sender to answer to.
        if submission.door != Some(Count::ByDrop) {
            return None;
        }
        let terms = terms(site)?;
        let mut envelope = Via::default().envelope(submission);
        envelope.recipients = submission.recipients.iter().map(as_submitted).collect();
        // The clocks tell nothing about likeness.
        let arrival = Now { wall: Default::default(), running: Duration::ZERO };
        let common =
            Description { envelope, origin: submission.client.clone(), arrival, digest: None, dated: None };
        let folded = digest::fold(&digest::subject(header::section(start)));
        let group = digest::group(&common.print(), &folded);
        let until = self.windows().decide(group, now.running, &terms)?;
        Some(Collected { until, group })
    }

    /// Takes note of a message that waits; gives another one, whose turn comes now as the digest is full.
    #[must_use]
    pub fn add(&self, site: &Site, id: QueueId, octets: u64, digest: Collected, now: Now) -> Option<QueueId> {
        let member = DigestMember { id, octets: octets + MEMBER_FRAME_OCTETS };
        let mut windows = self.windows();
        windows.add(digest.group, member, digest.until, now.running);
        windows.overdue(digest.group, &terms(site)?)
    }

    /// Whether a message waits for a digest.
    #[must_use]
    pub fn holds(&self, id: QueueId) -> bool {
        self.windows().group_of(id).is_some()
    }

    /// All messages that wait.
    #[must_use]
    pub fn all(&self) -> HashSet<QueueId> {
        self.windows().members(None).collect()
    }

    /// A message does not wait any more: it is held, or has left the queue.
    pub fn forget(&self, id: QueueId) {
        self.windows().forget(id);
    }

    /// The queue is about to be read from the beginning.
    pub fn begin_load(&self) {
        self.windows().forget_members();
    }

    /// The windows, locked.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock()
    }
}

/// What the configuration says; `None`: nothing waits.
#[must_use]
pub fn terms(site: &Site) -> Option<DigestTerms> {
    let settings = &site.settings;
    let share = (settings.queue.max_messages as usize / 4).max(1);
    (settings.digest.after > 0).then(|| DigestTerms {
        after: settings.digest.after,
        window: settings.digest.window,
        members: MEMBERS_MAX.min(share),
        octets: settings.limits.message_size.saturating_sub(FRAME_OCTETS).max(1),
    })
}

fn as_submitted(accepted: &Accepted) -> Recipient {
    let RcptParameters { notify, orcpt } = &accepted.parameters;
    let Routed { mailbox, leaves, .. } = &accepted.routed;
    Recipient { mailbox: mailbox.clone(), orcpt: orcpt.clone(), notify: *notify, leaves: *leaves }
}
