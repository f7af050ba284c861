//! News for senders: which recipients of a queued message have an outcome that the sender has to learn, and the notice
//! about them.
//!
//! A failure is reported once, a delay once (`queue.warn_after`), a delivery if the sender asked for it and no next hop
//! reports it (RFC 3461 §5.2); one notice carries all the news of a message. The journal keeps what was reported, so
//! that a restart repeats nothing. A notice that cannot be written is tried again and delays no delivery.

use super::enqueue::hop_of;
use super::index::{Hop, QueueIndex};
use crate::engine::host::advice::advice;
use crate::engine::host::site::Site;
use crate::engine::intake::digest_windows::DigestWindows;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::notice::{self, Subject};
use crate::engine::log::event::Event;
use crate::mail::address::ReversePath;
use crate::mail::date::Now;
use crate::mail::envelope::Recipient;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::{Class, EnhancedStatus};
use crate::rules::message::bounce::{RecipientVerdict, Reported};
use crate::store::queue::{self, Description, Entry, JournalRecord, Progress, RecipientState};
use crate::sys::lock::Lock;
use std::time::Duration;

/// The recipients with news that the sender has not been told, by their places in the envelope.
#[must_use]
pub fn news(
    site: &Site,
    description: &Description,
    progress: &[Progress],
    now: Now,
) -> Vec<(usize, RecipientVerdict)> {
    let Description { envelope, arrival, .. } = description;
    let warn_after = site.settings.queue.warn_after;
    let age = now.running.saturating_sub(arrival.running);
    let is_late = !warn_after.is_zero() && age >= warn_after && envelope.reverse_path != ReversePath::Null;
    let failure = |diagnostic: &Diagnostic| match diagnostic.status.class {
        Class::Transient => RecipientVerdict::Expired,
        Class::Success | Class::Permanent => RecipientVerdict::Refused,
    };
    let verdict = |(place, (recipient, progress)): (usize, (&Recipient, &Progress))| {
        let diagnostic = progress.diagnostic.as_ref();
        let verdict = match progress.state {
            RecipientState::Failed if !progress.notified => failure(diagnostic?),
            RecipientState::Delivered if progress.owed => match diagnostic?.remote {
                Some(_) => RecipientVerdict::Relayed,
                None => RecipientVerdict::Delivered,
            },
            RecipientState::Pending if progress.kept.is_some() => {
                if progress.notified {
                    return None;
                }
                failure(diagnostic?)
            }
            // The sender can do nothing about a delay that the operator ordered.
            RecipientState::Pending
                if is_late
                    && !progress.notified
                    && !progress.held
                    && RecipientVerdict::Delayed.is_wanted(recipient) =>
            {
                RecipientVerdict::Delayed
            }
            RecipientState::Failed | RecipientState::Delivered | RecipientState::Pending => return None,
        };
        Some((place, verdict))
    };
    envelope.recipients.iter().zip(progress).enumerate().filter_map(verdict).collect()
}

/// Whether a message has news for its sender.
#[must_use]
pub fn has_news(site: &Site, entry: &Entry, now: Now) -> bool {
    !news(site, entry.description(), &entry.progress(), now).is_empty()
}

/// Sends the sender one notice with all the news of a message. Returns the record for the journal: the news was
/// reported, or no notice is due for it. `None`: there is no news, or the notice has to be tried again.
pub fn write_notice(
    intake: &Intake,
    index: &QueueIndex,
    site: &Site,
    entry: &Entry,
    now: Now,
) -> Option<JournalRecord> {
    let (description, progress) = (entry.description(), entry.progress());
    let news = news(site, description, &progress, now);
    let diagnostics: Vec<Diagnostic> = news
        .iter()
        .filter_map(|&(place, verdict)| {
            let recipient = description.envelope.recipients.get(place)?;
            let last = progress.get(place)?.diagnostic.clone();
            let is_late = verdict == RecipientVerdict::Delayed;
            let hop = hop_of(site, &description.envelope.reverse_path, recipient);
            let pause = is_late.then(|| index.wait_reason(&hop, entry.id(), now.running)).flatten();
            // The pause may be over, and the next attempt not made yet.
            let failure = || index.last_failure(&hop).filter(|_| is_late);
            // There may have been no attempt: because of a schedule, or behind other messages for a slow host.
            let untried = || Diagnostic::local(EnhancedStatus::DELAYED, "its turn has not come yet");
            Some(pause.or(last).or_else(failure).unwrap_or_else(untried))
        })
        .collect();
    let recipients: Vec<Reported<'_>> = news
        .iter()
        .zip(&diagnostics)
        .filter_map(|(&(place, verdict), diagnostic)| {
            let last_attempt = progress.get(place)?.recent_attempts.first()?.map(|at| at.wall);
            let recipient = description.envelope.recipients.get(place)?;
            let advice = is_bad(verdict).then(|| advice(site, diagnostic)).flatten();
            Some(Reported { recipient, verdict, diagnostic, last_attempt, advice })
        })
        .collect();
    let is_bounce = description.origin.starts_with(notice::BOUNCE);
    let admin = site.routes.admin_address().filter(|_| is_bounce);
    let message = Subject {
        id: entry.id(),
        envelope: &description.envelope,
        arrival: description.arrival,
        size_octets: entry.message_octets(),
        admin: admin.as_ref(),
    };
    if recipients.is_empty() {
        return None;
    }
    match notice::report(intake, site, &message, &recipients, now, &mut entry.content(0)) {
        Ok(()) => {
            let recipients = news.into_iter().map(|(place, _)| place).collect();
            Some(JournalRecord { recipients, at: now, event: queue::JournalEvent::Notified })
        }
        Err(error) => {
            Event::Trouble { doing: "writing a notice; it is tried again", error: &error }.log();
            None
        }
    }
}

/// Whether a notice tells what can be done about it.
const fn is_bad(verdict: RecipientVerdict) -> bool {
    matches!(verdict, RecipientVerdict::Refused | RecipientVerdict::Expired | RecipientVerdict::Delayed)
}

/// Finds the messages that become late (`queue.warn_after`). It remembers the running time of arrival up to which
/// messages were looked at.
#[derive(Debug, Default)]
pub struct DelayWatch {
    seen: Lock<Duration>,
}

impl DelayWatch {
    /// Starts at the present: loading the queue finds the messages that are late already.
    pub fn begin(&self, site: &Site, now: Now) {
        *self.seen.lock() = Self::horizon(site, now).unwrap_or_default();
    }

    /// Hands the messages that have become late since the last call to the local worker, which notifies the sender: a
    /// notice of delay needs no attempt and no hop that works. Returns when the next waiting message will be late.
    pub fn look(
        &self,
        index: &QueueIndex,
        digests: &DigestWindows,
        site: &Site,
        now: Now,
    ) -> Option<Duration> {
        let warn_after = site.settings.queue.warn_after;
        if warn_after.is_zero() {
            return None;
        }
        let mut seen = self.seen.lock();
        let horizon = Self::horizon(site, now).unwrap_or(*seen).max(*seen);
        let (late, next) = index.arrived_between(*seen, horizon);
        *seen = horizon;
        // A message that waits for a digest is not late: it leaves with the digest.
        for pending in late.into_iter().filter(|pending| !digests.holds(pending.id)) {
            index.put_back(Hop::Local, pending, now.running);
        }
        next.map(|arrival| arrival.saturating_add(warn_after))
    }

    /// Messages that arrived before this running time are late.
    fn horizon(site: &Site, now: Now) -> Option<Duration> {
        let newest = now.running.checked_sub(site.settings.queue.warn_after)?;
        Some(newest + Duration::from_nanos(1))
    }
}
