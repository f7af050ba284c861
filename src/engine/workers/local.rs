//! The local worker: copies whose Maildir could not take them at once, recipients that have no next hop any more,
//! delays to report, and digests.
//!
//! There is at most one, and it does not count as a connection. For each recipient that is due it asks for the route
//! again, since the configuration may have changed after the message was queued:
//!
//! | route now | what it does | outcome |
//! | --- | --- | --- |
//! | a Maildir or mbox | delivers | delivered, or deferred if the mailbox is full or cannot be written |
//! | another host, an alias | hands the copy to intake again | delivered ("queued as …"), or deferred if intake refuses |
//! | the look-up of the user failed | nothing | deferred |
//! | no such user, refused | nothing | failed |
//!
//! A message without recipients that are due is only settled: its notice is written, or its file is removed. That is
//! how notices of delay leave, and how the work of a crash between journal and removal is finished.
//!
//! A copy that intake takes again keeps its envelope and the date of its message, and gets a queue id of its own; its
//! recipient is marked as passed on, so that success is reported once, by the new entry. The look-up of users may be
//! slow; only this worker waits for it.

use super::digest;
use crate::engine::host::site::{Site, SystemAccounts};
use crate::engine::intake::final_delivery::{DELIVERED, FinalDelivery};
use crate::engine::intake::refusal::Refusal;
use crate::engine::intake::submission::{Accepted, Submission};
use crate::engine::queue::attempt::Again;
use crate::engine::queue::index::Hop;
use crate::engine::queue::manager::Manager;
use crate::mail::envelope::Recipient;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::smtp::extension::RcptParameters;
use crate::store::StoreError;
use crate::store::queue::Entry;

/// Works until nothing is due.
pub fn work(manager: &Manager) {
    // This thread proves that the system has threads again: that is the only failure of the local hop.
    manager.index.hop_succeeded(&Hop::Local);
    while let Some(pending) = manager.index.take(&Hop::Local, manager.clock.now().running) {
        let _guard = manager.guard(&Hop::Local, pending);
        if digest::release_digest(manager, pending) {
            continue;
        }
        let Some(mut attempt) = manager.begin_attempt(&Hop::Local, pending) else { continue };
        let site = manager.site();
        for (place, slot) in &mut attempt.outcomes {
            let Some(recipient) = attempt.entry.description().envelope.recipients.get(*place) else {
                continue;
            };
            let routed = site.routes.route_recipient(recipient, &SystemAccounts);
            if routed.as_ref().is_ok_and(|routed| matches!(routed.destination, Destination::Relay(_))) {
                attempt.passed_on.push(*place);
            }
            *slot = Some(deliver(manager, &site, &attempt.entry, recipient, routed));
        }
        attempt.relay = "local".into();
        manager.end_attempt(&Hop::Local, attempt, Again::AtOnce);
    }
}

fn deliver(
    manager: &Manager,
    site: &Site,
    entry: &Entry,
    recipient: &Recipient,
    routed: Result<Routed, NoRoute>,
) -> Outcome {
    let routed = match routed {
        Ok(routed) => routed,
        Err(no_route) => {
            return match no_route {
                NoRoute::LookupFailed(_) => Outcome::Deferred(no_route.diagnostic()),
                NoRoute::UnknownUser | NoRoute::Refused(..) => Outcome::Failed(no_route.diagnostic()),
            };
        }
    };
    let delivered = match &routed.destination {
        Destination::Maildir(_) => to_maildir(manager, site, entry, &routed),
        Destination::Relay(_) | Destination::Alias => to_queue(manager, site, entry, recipient, routed),
    };
    match delivered {
        Ok(text) => Outcome::Delivered(Diagnostic::local(EnhancedStatus::OK, text)),
        Err(error) => Outcome::Deferred(Diagnostic::local(error.status(), error.to_string())),
    }
}

fn to_maildir(manager: &Manager, site: &Site, entry: &Entry, routed: &Routed) -> Result<String, StoreError> {
    let Some(path) = site.maildir(routed)? else { return Err(StoreError::refused("", "no Maildir")) };
    let delivery = manager.intake.maildirs.stage(&path, manager.clock.now().wall)?;
    let reverse_path = &entry.description().envelope.reverse_path;
    let mut delivery = FinalDelivery::begin(delivery, reverse_path, &routed.mailbox)?;
    let (file, offset) = entry.content_source();
    delivery.append_from(file, offset, entry.message_octets())?;
    // One worker serves all mailboxes, and other messages wait for it.
    delivery.hurry();
    delivery.sync()?.commit()?;
    Ok(DELIVERED.into())
}

/// Hands a copy to intake again: the recipient goes elsewhere since it was queued, for example because `admin` has
/// changed.
fn to_queue(
    manager: &Manager,
    site: &Site,
    entry: &Entry,
    recipient: &Recipient,
    routed: Routed,
) -> Result<String, StoreError> {
    let envelope = &entry.description().envelope;
    let parameters = RcptParameters { notify: recipient.notify, orcpt: recipient.orcpt.clone() };
    let accepted = vec![Accepted { routed, parameters }];
    let mut submission = Submission::resubmitted(envelope, accepted, entry.id().to_string());
    submission.dated = entry.description().dated;
    let refused = |refusal| match refusal {
        Refusal::Store(error) => error,
        _ => StoreError::refused("", "the queue is full, or the message loops"),
    };
    let mut incoming = manager.intake.begin(site, submission).map_err(refused)?;
    let read = |error| StoreError::io(entry.id().to_string(), error);
    incoming.write_from(&mut entry.content(0)).map_err(read)?;
    let id = incoming.commit().map_err(refused)?;
    Ok(format!("queued as {id}"))
}
