//! A next hop cannot be used: its pause, the log lines of the messages that wait, and the messages that are too old.
//!
//! A failure of a hop is no outcome of its messages (these are settled in `settling.rs`): they stay as they are and wait for the end of the pause. Only two
//! kinds leave: a message older than `queue.lifetime` fails with the reason of the hop, and all messages fail if the
//! domain does not exist or accepts no mail.

use super::Manager;
use crate::engine::host::advice::advice;
use crate::engine::log::counters::Count;
use crate::engine::log::event::{AttemptEnd, Event};
use crate::engine::queue::attempt::{Again, Attempt};
use crate::engine::queue::enqueue::hop_of;
use crate::engine::queue::index::{Hop, Pending};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::rules::pacing::breaker::RouteFailure;
use crate::rules::pacing::retry::pause_after_refusal;
use crate::store::queue::{self, Checkout};
use crate::sys;
use std::time::Duration;

impl Manager {
    /// Pauses a hop that cannot be used. Its messages stay as they are; `pending` is the one that a worker had taken
    /// for it.
    pub fn hop_failed(&self, hop: &Hop, pending: Option<Pending>, failure: &RouteFailure) {
        let pause = self.pause_hop(hop, failure);
        if let Some(pending) = pending {
            self.index.put_back(hop.clone(), pending, self.clock.now().running);
        }
        self.hop_paused(hop, pending, pause, failure);
    }

    /// The first step of [`Self::hop_failed`]: from now on nothing is tried at the hop. `None`: it pauses already, for the
    /// failure of another connection.
    #[must_use]
    pub fn pause_hop(&self, hop: &Hop, failure: &RouteFailure) -> Option<Duration> {
        let (site, now) = (self.site(), self.clock.now().running);
        let step = |failures| match failure.refusal {
            Some(_) => pause_after_refusal(failures, sys::random() as u32),
            None => self.step(&site, failures),
        };
        self.index.pause_hop(hop, now, &step, failure)
    }

    /// The last step, when all messages wait there again: logs the pause, and settles the messages that are too old.
    pub fn hop_paused(
        &self,
        hop: &Hop,
        pending: Option<Pending>,
        pause: Option<Duration>,
        failure: &RouteFailure,
    ) {
        let (site, reason) = (self.site(), &failure.reason);
        if let Some(pause) = pause {
            Event::paused(&hop.to_string(), pause, failure, advice(&site, reason)).log();
        }
        let old = self.index.withdraw_old(hop, self.clock.now().running, site.retry.lifetime);
        if let Some(pending) = pending.filter(|pending| !old.contains(pending)) {
            self.log_waiting(hop, pending, reason);
        }
        for pending in old {
            self.expire_waiting(hop, pending, reason);
        }
    }

    /// Logs why a message waits, without changing it.
    pub(crate) fn log_waiting(&self, hop: &Hop, pending: Pending, reason: &Diagnostic) {
        let Ok(Checkout::Ready(entry)) = self.queue.checkout(pending.id) else { return };
        let (site, now) = (self.site(), self.clock.now().running);
        let envelope = &entry.description().envelope;
        for (recipient, progress) in envelope.recipients.iter().zip(entry.progress()) {
            let is_here = || hop_of(&site, &envelope.reverse_path, recipient) == *hop;
            if progress.state == queue::RecipientState::Pending && is_here() {
                let relay = reason.remote.as_deref().unwrap_or("-");
                let attempts = progress.attempts + self.index.failures_since(hop, pending.arrival);
                let log = Attempt::log_line(
                    pending.id,
                    &recipient.mailbox,
                    relay,
                    attempts,
                    now.saturating_sub(pending.arrival),
                );
                log(AttemptEnd::Deferred, reason.status, reason.line());
                self.intake.counters.count(Count::Deferred);
            }
        }
    }

    /// Settles a message that is too old while its hop fails: each recipient that has had enough attempts fails with
    /// the reason of the hop. If one has not, the whole message waits on.
    fn expire_waiting(&self, hop: &Hop, pending: Pending, reason: &Diagnostic) {
        let Some(mut attempt) = self.begin_attempt(hop, pending) else { return };
        let (site, now) = (self.site(), self.clock.now().running);
        let is_urgent = attempt.entry.description().envelope.is_urgent;
        let age = self.clock.lived(pending.arrival, now, is_urgent);
        let (progress, mut waits_on) = (attempt.entry.progress(), false);
        for (place, slot) in &mut attempt.outcomes {
            if site.retry.is_expired(age, self.attempts_since_jump(hop, pending, progress.get(*place))) {
                *slot = Some(Outcome::Failed(reason.clone()));
            } else {
                waits_on = true;
            }
        }
        if waits_on {
            self.log_waiting(hop, pending, reason);
            self.index.put_back(hop.clone(), pending, now);
        } else {
            self.end_attempt(hop, attempt, Again::WhenHopWorks);
        }
    }

    /// Lets all recipients of a message at a hop fail: the domain does not exist, or accepts no mail.
    pub fn fail_all(&self, hop: &Hop, pending: Pending, diagnostic: &Diagnostic) {
        let Some(mut attempt) = self.begin_attempt(hop, pending) else { return };
        for (_, slot) in &mut attempt.outcomes {
            *slot = Some(Outcome::Failed(diagnostic.clone()));
        }
        self.end_attempt(hop, attempt, Again::AtOnce);
    }
}
