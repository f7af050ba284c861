//! Mail to `admin` that can't be delivered: who else would hear of it? It is kept in the queue, with its reason, until the
//! operator releases, removes or bounces it, or for 30 days.
//!
//! That is for what this host has written or taken from its own programs, notices first of all. What strangers send to
//! `admin` goes back to them. What may fail is logged, and tried again.

use super::attempt::{Attempt, Claim};
use super::board::{Board, Job};
use crate::engine::host::site::Site;
use crate::engine::log::event::AttemptEnd;
use crate::engine::workers::forwarder::Forwarder;
use crate::mail::address::{LocalPart, Mailbox};
use crate::mail::date::Now;
use crate::mail::envelope::Envelope;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::rules::routing::route::{Destination, Routed};
use crate::store::queue::{Checkout, Durability, Entry, JournalEvent, JournalRecord, Progress};
use std::sync::PoisonError;
use std::time::Duration;

/// How long it is kept.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whether a recipient that can't be reached is kept instead of returned.
#[must_use]
pub fn is_worth_keeping(site: &Site, envelope: &Envelope, recipient: &Mailbox) -> bool {
    envelope.is_own && is_admin(site, recipient)
}

/// Whether this is where root's mail goes: `admin`, or somebody whom the alias of root or postmaster names.
#[must_use]
pub fn is_admin(site: &Site, mailbox: &Mailbox) -> bool {
    let of = |local_part| Mailbox { local_part, domain: site.routes.home().clone() };
    let roots = [LocalPart::parse("root").ok(), Some(LocalPart::postmaster())];
    site.routes.admin.as_ref() == Some(mailbox)
        || roots.into_iter().flatten().any(|root| stands_for(site, &of(root), &|member| member == mailbox))
}

/// Whether a notice by this route would come to nobody else.
#[must_use]
pub fn is_for_admin_alone(site: &Site, routed: &Routed) -> bool {
    match routed.destination {
        Destination::Alias => !stands_for(site, &routed.mailbox, &|member| !is_admin(site, member)),
        _ => is_admin(site, &routed.mailbox),
    }
}

/// Whether a mailbox is an alias, and one of those whom it names is meant.
fn stands_for(site: &Site, mailbox: &Mailbox, is_meant: &dyn Fn(&Mailbox) -> bool) -> bool {
    let name = mailbox.local_part.as_str().to_ascii_lowercase();
    let names_it = site.aliases.table().is_ok_and(|aliases| aliases.find(&name, None).is_some());
    let members = if names_it { site.expand(mailbox).unwrap_or_default() } else { Vec::new() };
    members.iter().filter_map(|member| member.route.as_ref().ok()).any(|routed| is_meant(&routed.mailbox))
}

/// What the journal says of a recipient that is kept at the end of an attempt.
#[must_use]
pub fn records(place: usize, outcome: Outcome, at: Now) -> [JournalRecord; 2] {
    let reason = outcome.diagnostic().clone();
    // It may still be delivered, once somebody lets it go.
    [JournalEvent::Attempted(Outcome::Deferred(reason)), JournalEvent::Kept].map(|event| JournalRecord {
        recipients: vec![place],
        at,
        event,
    })
}

/// Tells the board, if some of these records say that a recipient is kept.
pub fn note(board: &Board, entry: &Entry, records: &[JournalRecord]) {
    let Some(kept) = records.iter().find(|record| record.event == JournalEvent::Kept) else { return };
    board.set_kept(entry.id(), Some(kept.at.running));
    board.set_held(entry.id(), !entry.progress().iter().any(Progress::is_due));
}

/// Lets go of what has been kept for too long: nobody has come for it.
pub fn let_go(forwarder: &Forwarder, now: Now) {
    let Some(horizon) = now.running.checked_sub(KEPT) else { return };
    for id in forwarder.board.kept_before(horizon) {
        let_one_go(forwarder, id, now);
    }
}

fn let_one_go(forwarder: &Forwarder, id: QueueId, now: Now) {
    // Others may have it in hand; the next look comes soon.
    let Ok(Checkout::Ready(entry)) = forwarder.queue.checkout(id) else { return };
    let kept = |place: &usize| entry.progress().get(*place).is_some_and(|progress| progress.kept.is_some());
    let places: Vec<usize> = (0..entry.description().envelope.recipients.len()).filter(kept).collect();
    let Some(claim) = Claim::take(&forwarder.claims, id, places) else { return };
    let arrival = entry.description().arrival.running.min(now.running);
    let mut records = Vec::new();
    for &place in &claim.places {
        let (Some(recipient), Some(progress)) =
            (entry.description().envelope.recipients.get(place), entry.progress().into_iter().nth(place))
        else {
            continue;
        };
        let last = progress.diagnostic.unwrap_or_else(|| Diagnostic::local(EnhancedStatus::EXPIRED, "-"));
        let text = format!("held for 30 days, and given up: {}", last.line());
        let age = now.running.saturating_sub(arrival);
        let log = Attempt::log_line(id, &recipient.mailbox, "-", progress.attempts, age);
        log(AttemptEnd::GivenUp, EnhancedStatus::EXPIRED, &text);
        let events = [JournalEvent::Attempted(Outcome::Failed(last)), JournalEvent::Notified];
        records.extend(events.map(|event| JournalRecord { recipients: vec![place], at: now, event }));
    }
    let _settling = forwarder.settling.lock().unwrap_or_else(PoisonError::into_inner);
    forwarder.board.set_kept(id, None);
    if let Err(error) = forwarder.queue.record(&entry, &records, Durability::Synced) {
        forwarder.trouble("writing to the journal of a queue file", &error);
    }
    if entry.is_finished() {
        forwarder.remove(&entry, Job { id, arrival }, &[]);
    }
}
