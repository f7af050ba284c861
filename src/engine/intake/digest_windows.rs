//! Storm control (`[digest]`): decides whether a message of this host waits for similar messages, and knows which
//! messages wait.
//!
//! `rules::message::digest` decides which messages are similar and how long they wait; this file adds the lock, the
//! saved state and the limits of the configuration. The messages themselves are ordinary entries of the queue.
//!
//! | moment | call | effect |
//! | --- | --- | --- |
//! | the header section has arrived | [`DigestWindows::decide`] | the message is sent at once, or waits |
//! | its copies are durable | [`DigestWindows::add`] | it counts as waiting; a full group is due at once |
//! | a worker has released or collected it | [`DigestWindows::forget`] | it does not wait any more |
//! | the queue is loaded again | [`DigestWindows::begin_load`] | the entries of the queue say which messages wait |
//!
//! Only mail that programs of this host hand over waits. A client that logged in, and another host, keep the answer to
//! their own message.

use super::copies::Via;
use super::submission::{Accepted, Submission};
use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::trouble;
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

/// The part of `limits.message_size` reserved for the frame of a digest, in octets; a generous bound.
const FRAME_OCTETS: u64 = 64 * 1024;
/// The same for the frame of each member.
pub(crate) const MEMBER_FRAME_OCTETS: u64 = 256;

/// The groups of similar messages, with the messages that wait.
#[derive(Debug, Default)]
pub struct DigestWindows {
    windows: Lock<Windows>,
    /// The text of the file.
    saved: Lock<String>,
}

impl DigestWindows {
    /// Reads the windows that were saved below `state`.
    #[must_use]
    pub fn resume(state: &Path) -> Self {
        let text = windows::load(state);
        Self { windows: Lock::new(Windows::parse(&text)), saved: Lock::new(text) }
    }

    /// Saves below `state` what cannot be read from the queue again, if it has changed.
    pub fn save(&self, state: &Path, now: Now) {
        let text = self.windows().print(now.running);
        let mut saved = self.saved.lock();
        if *saved == text {
            return;
        }
        if let Err(error) = windows::save(state, &text) {
            trouble("saving the windows of digests", &error);
        }
        *saved = text;
    }

    /// Whether a new message waits, by the start of its content. A message that is refused later still counts: at worst
    /// one similar message is held for no reason.
    #[must_use]
    pub fn decide(&self, site: &Site, submission: &Submission, start: &[u8], now: Now) -> Option<Collected> {
        // Only mail of local programs is collected; see the top of this file.
        if submission.counter != Some(Count::ByDrop) {
            return None;
        }
        let terms = terms(site)?;
        let mut envelope = Via::default().envelope(submission);
        envelope.recipients = submission.recipients.iter().map(as_submitted).collect();
        // The time of arrival must not make similar messages differ.
        let arrival = Now { wall: Default::default(), running: Duration::ZERO };
        let common =
            Description { envelope, origin: submission.client.clone(), arrival, digest: None, dated: None };
        let folded = digest::fold(&digest::subject(header::section(start)));
        let group = digest::group(&common.print(), &folded);
        let until = self.windows().decide(group, now.running, &terms)?;
        Some(Collected { until, group })
    }

    /// Adds a message that waits. Returns the first message of the group if the digest is full and therefore due now.
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

    /// Forgets a message that does not wait any more: it is held, or has left the queue.
    pub fn forget(&self, id: QueueId) {
        self.windows().forget(id);
    }

    /// Forgets all messages: the queue is about to be loaded again.
    pub fn begin_load(&self) {
        self.windows().forget_members();
    }

    /// The windows, locked.
    pub fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock()
    }
}

/// The terms of the configuration; `None` if storm control is off.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::world::World;
    use crate::mail::date::WallTime;

    #[test]
    fn windows_are_saved_once_for_each_change() {
        let world = World::new("");
        let text = "0123456789abcdef0123456789abcdef 600000000 5\n";
        let all = DigestWindows { windows: Lock::new(Windows::parse(text)), saved: Lock::default() };
        let now = Now { wall: WallTime(0), running: std::time::Duration::ZERO };
        all.save(&world.state(), now);
        assert_eq!(windows::load(&world.state()), text);
        assert_eq!(DigestWindows::resume(&world.state()).windows().print(now.running), text);
        windows::save(&world.state(), "").unwrap();
        all.save(&world.state(), now);
        assert_eq!(windows::load(&world.state()), "", "nothing has changed");
    }
}
