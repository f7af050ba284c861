//! An attempt begins and ends. The table of its steps, and of what a crash leaves, stands in
//! [`attempt`](crate::engine::queue::attempt).
//!
//! | outcome of a recipient | journal | then |
//! | --- | --- | --- |
//! | none, the hop is to blame | –; `failing.rs` logs it as deferred | it waits for the end of the pause |
//! | none, the connection is to blame | – | it is tried again at once, or with a deferred recipient of the same message |
//! | deferred | attempted | it waits for the step of its number of attempts |
//! | deferred, and expired | failed | a notice is due |
//! | failed | failed | a notice is due |
//! | failed, mail of this host to `admin` | deferred, kept | the operator decides |
//! | delivered | delivered; also `owed` if the sender asked for a report of success and no next hop sends one | a notice if owed |
//!
//! What an outcome is, is decided before: by `smtp::client` for a reply, by `workers::remote` for a hop, by
//! `workers::local` for a mailbox. Settlements of one entry exclude each other: `Entry::settle` is held from reading the progress to the removal.

use super::{BUSY_RETRY, Manager, OWN_TROUBLE_RETRY};
use crate::engine::host::admin;
use crate::engine::host::site::Site;
use crate::engine::intake::incoming::is_owed;
use crate::engine::log::event::{AttemptEnd, trouble};
use crate::engine::queue::attempt::{Again, Attempt, Claim, expire, log_outcome};
use crate::engine::queue::enqueue::{hop_of, hops_of};
use crate::engine::queue::index::{Hop, Pending};
use crate::engine::queue::news;
use crate::mail::address::Mailbox;
use crate::mail::date::Now;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::store::ErrorKind;
use crate::store::queue::{self, Checkout, Durability, Entry, JournalRecord, Progress};
use std::sync::Arc;
use std::time::Duration;

impl Manager {
    /// Begins an attempt: checks the entry out, verifies it, and claims its recipients at this hop that are due.
    /// `None`: there is nothing to try now, and the message was put back or settled.
    #[must_use]
    pub fn begin_attempt(&self, hop: &Hop, pending: Pending) -> Option<Attempt> {
        let entry = self.open_entry(hop, pending)?;
        let site = self.site();
        let envelope = &entry.description().envelope;
        let recipients = envelope.recipients.iter().enumerate();
        let here =
            recipients.filter(|(_, recipient)| hop_of(&site, &envelope.reverse_path, recipient) == *hop);
        // If another attempt holds these recipients, it puts back those that it does not finish.
        let claim = Claim::take(&self.claims, pending.id, here.map(|(place, _)| place).collect())?;
        // Only after the claim: another attempt may have settled its recipients and removed the message until now.
        if entry.is_removed() {
            return None;
        }
        let progress = entry.progress();
        let is_due = |&place: &usize| progress.get(place).is_some_and(Progress::is_due);
        let outcomes: Vec<_> =
            claim.places.iter().copied().filter(is_due).map(|place| (place, None)).collect();
        let (relay, passed_on) = ("-".into(), Vec::new());
        let attempt =
            Attempt { entry, pending, outcomes, relay, passed_on, failures: 0, is_ordered: false, claim };
        if attempt.outcomes.is_empty() {
            // Its recipients were settled before, or the routes have changed: the reload has then put it at its new
            // hops.
            self.end_attempt(hop, attempt, Again::AtOnce);
            return None;
        }
        Some(attempt)
    }

    /// Checks an entry out and verifies it. `None`: it cannot be read now, and was put back, forgotten or set aside.
    fn open_entry(&self, hop: &Hop, pending: Pending) -> Option<Arc<Entry>> {
        let now = self.clock.now().running;
        let entry = match self.queue.checkout(pending.id) {
            Ok(Checkout::Ready(entry)) => entry,
            Ok(Checkout::Busy) => {
                self.index.put_back(hop.clone(), pending, now + BUSY_RETRY);
                return None;
            }
            Ok(Checkout::Gone) => {
                self.index.forget_message(pending.id);
                return None;
            }
            Err(error) => {
                trouble("opening a queue file", &error);
                self.after_trouble(hop, pending, error.kind);
                return None;
            }
        };
        if let Err(error) = entry.verify() {
            trouble("reading a queue file", &error);
            if error.kind == ErrorKind::Corrupt
                && let Err(error) = self.queue.set_aside(pending.id, &error.source.to_string())
            {
                trouble("setting a damaged queue file aside", &error);
            }
            self.after_trouble(hop, pending, error.kind);
            return None;
        }
        Some(entry)
    }

    fn after_trouble(&self, hop: &Hop, pending: Pending, kind: ErrorKind) {
        if kind == ErrorKind::Corrupt {
            self.index.forget_message(pending.id);
        } else {
            self.index.put_back(hop.clone(), pending, self.clock.now().running + OWN_TROUBLE_RETRY);
        }
    }

    /// Settles an attempt: journal, log, notice, then removal or the next due time.
    pub fn end_attempt(&self, hop: &Hop, attempt: Attempt, again: Again) {
        let (site, now) = (self.site(), self.clock.now());
        let Attempt { entry, pending, outcomes, relay, passed_on, failures, is_ordered, claim: _claim } =
            attempt;
        let age = now.running.saturating_sub(pending.arrival);
        let lived = self.clock.lived(pending.arrival, now.running, entry.description().envelope.is_urgent);
        let _settling = entry.settle();
        let progress = entry.progress();
        let (mut records, mut due, mut waiting) = (Vec::new(), None::<Duration>, Vec::new());
        for (place, outcome) in outcomes {
            let Some(recipient) = entry.description().envelope.recipients.get(place) else { continue };
            let is_held = progress.get(place).is_some_and(|progress| progress.held);
            let Some(outcome) = outcome else {
                waiting.extend((!is_held).then_some(recipient));
                continue;
            };
            let attempts = progress.get(place).map_or(0, |progress| progress.attempts) + 1;
            let this = u32::from(again != Again::WhenHopWorks);
            let attempts_since_jump = self.attempts_since_jump(hop, pending, progress.get(place)) + this;
            let outcome = expire(outcome, site.retry.is_expired(lived, attempts_since_jump));
            if let Outcome::Deferred(_) = outcome {
                let again = now.running.saturating_add(self.step(&site, attempts.max(failures)));
                due = Some(due.map_or(again, |due| due.min(again)));
                waiting.extend((!is_held).then_some(recipient));
            }
            let log = Attempt::log_line(entry.id(), &recipient.mailbox, &relay, attempts, age);
            let is_kept = matches!(outcome, Outcome::Failed(_))
                && !is_ordered
                && admin::is_worth_keeping(&site, &entry.description().envelope, &recipient.mailbox);
            let end = log_outcome(&log, &outcome, is_kept);
            self.count(end, *hop == Hop::Local, entry.id(), &recipient.mailbox, outcome.diagnostic());
            if is_kept {
                records.extend(super::kept::records(place, outcome, now));
                continue;
            }
            let is_owed = matches!(outcome, Outcome::Delivered(_))
                && passed_on.binary_search(&place).is_err()
                && is_owed(&entry.description().envelope, recipient);
            let owed = is_owed.then_some(queue::JournalEvent::Owed);
            let events = [queue::JournalEvent::Attempted(outcome)].into_iter().chain(owed);
            records.extend(journal_records(place, now, events));
        }
        if self.settle(&site, &entry, now, &records) {
            self.remove(&entry, pending, &records);
        } else if !waiting.is_empty() {
            // By the current routes: a reload may have skipped the message while the worker had it.
            for hop in hops_of(&site, &entry.description().envelope.reverse_path, waiting) {
                match (due, again) {
                    // A recipient that was not tried waits with one that was deferred: the host that closed the
                    // connection because of the message would close it again at once, and so on without end.
                    (Some(due), _) => self.index.put_back(hop, pending, due),
                    (None, Again::WhenHopWorks) => self.index.put_back(hop, pending, now.running),
                    (None, Again::AtOnce) => self.index.put_back_untried(hop, pending, now.running),
                }
            }
        } else if news::has_news(&site, &entry, now) {
            // The notice could not be written: only the notice is tried again.
            self.index.put_back(Hop::Local, pending, now.running + OWN_TROUBLE_RETRY);
        }
    }

    /// Attempts at a recipient with this progress since the clock last jumped, the failures of its hop included: also the one
    /// that has just ended an attempt.
    pub(super) fn attempts_since_jump(
        &self,
        hop: &Hop,
        pending: Pending,
        progress: Option<&Progress>,
    ) -> u32 {
        let jump = self.clock.last_jump();
        let recent = progress.map(|progress| progress.recent_attempts).unwrap_or_default();
        let own = recent.iter().flatten().filter(|at| at.running >= jump).count() as u32;
        own + self.index.failures_since(hop, jump.max(pending.arrival))
    }

    /// Counts the end of an attempt, and remembers it if it was the last word about the recipient.
    fn count(&self, end: AttemptEnd, is_local: bool, id: QueueId, to: &Mailbox, why: &Diagnostic) {
        let counters = &self.intake.counters;
        counters.count_end(end, is_local);
        counters.last_ends.note(end, id, to, self.clock.now().wall, why.line());
    }

    /// Writes the records, and the notice if one is due. Returns true if the message is finished and can be removed.
    fn settle(&self, site: &Site, entry: &Arc<Entry>, now: Now, records: &[JournalRecord]) -> bool {
        let mut finished: Vec<bool> = entry.progress().iter().map(Progress::is_finished).collect();
        for &place in
            records.iter().filter(|record| is_delivery(record)).flat_map(|record| &record.recipients)
        {
            if let Some(is_finished) = finished.get_mut(place) {
                *is_finished = true;
            }
        }
        let is_owed = records.iter().any(|record| record.event == queue::JournalEvent::Owed);
        if !is_owed && finished.iter().all(|is_finished| *is_finished) {
            // The removal itself is the record.
            return true;
        }
        if !records.is_empty() {
            let deferred =
                |r: &JournalRecord| matches!(r.event, queue::JournalEvent::Attempted(Outcome::Deferred(_)));
            let durability = if records.iter().all(deferred) { Durability::Lazy } else { Durability::Synced };
            self.record(entry, records, durability);
            self.index.note_progress(entry.id(), &entry.description().envelope, &entry.progress());
            super::kept::note(&self.index, entry, records);
        }
        if let Some(told) = news::write_notice(&self.intake, &self.index, site, entry, now) {
            self.record(entry, &[told], Durability::Lazy);
        }
        entry.is_finished()
    }
}

fn is_delivery(record: &JournalRecord) -> bool {
    matches!(record.event, queue::JournalEvent::Attempted(Outcome::Delivered(_)))
}

/// Records of the events of one recipient.
pub(super) fn journal_records(
    place: usize,
    at: Now,
    events: impl IntoIterator<Item = queue::JournalEvent>,
) -> impl Iterator<Item = JournalRecord> {
    events.into_iter().map(move |event| JournalRecord { recipients: vec![place], at, event })
}
