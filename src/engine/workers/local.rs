//! The local worker: copies whose Maildir could not take them at once, and recipients that have no route any more.

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

/// Settles all that is due.
pub fn work(manager: &Manager) {
    // Where there was no thread there is one now.
    manager.index.hop_succeeded(&Hop::Local);
    while let Some(pending) = manager.index.take(&Hop::Local, manager.clock.now().running) {
        let _held = manager.hold(&Hop::Local, pending);
        if digest::leave(manager, pending) {
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
    // Others wait for this worker.
    delivery.hurry();
    delivery.sync()?.commit()?;
    Ok(DELIVERED.into())
}

/// The recipient has become somebody's elsewhere since it was queued, such as a new `admin`'s: the copy enters again.
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
