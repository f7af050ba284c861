//! The local worker: copies whose Maildir could not take them at once, and recipients that have no route any more.

use super::delivery::Again;
use super::digests;
use super::forwarder::Forwarder;
use crate::engine::host::site::{Site, SystemAccounts};
use crate::engine::intake::final_delivery::{DELIVERED, FinalDelivery};
use crate::engine::intake::incoming::{Accepted, Submission};
use crate::engine::queue::board::Hop;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::{Class, EnhancedStatus};
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::store::queue::Entry;
use crate::store::{ErrorKind, StoreError};
use std::io::Read;

/// Settles all that is due.
pub fn work(forwarder: &Forwarder) {
    // Where there was no thread there is one now.
    forwarder.board.hop_succeeded(&Hop::Local);
    while let Some(job) = forwarder.board.take(&Hop::Local, forwarder.clock.now().running) {
        let _held = forwarder.hold(&Hop::Local, job);
        if digests::leave(forwarder, job) {
            continue;
        }
        let Some(mut attempt) = forwarder.begin_attempt(&Hop::Local, job) else { continue };
        let site = forwarder.site();
        for (place, slot) in &mut attempt.outcomes {
            let Some(recipient) = attempt.entry.description().envelope.recipients.get(*place) else {
                continue;
            };
            let routed = site.routes.route_recipient(recipient, &SystemAccounts);
            if routed.as_ref().is_ok_and(|routed| matches!(routed.destination, Destination::Relay(_))) {
                attempt.passed_on.push(*place);
            }
            *slot = Some(deliver(forwarder, &site, &attempt.entry, recipient, routed));
        }
        attempt.relay = "local".into();
        forwarder.end_attempt(&Hop::Local, attempt, Again::AtOnce);
    }
}

fn deliver(
    forwarder: &Forwarder,
    site: &Site,
    entry: &Entry,
    recipient: &Recipient,
    routed: Result<Routed, NoRoute>,
) -> Outcome {
    let routed = match routed {
        Ok(routed) => routed,
        Err(no_route) => {
            let reply = no_route.reply();
            let status = reply.status.unwrap_or(EnhancedStatus::SYSTEM_TROUBLE);
            let diagnostic = Diagnostic::local(status, reply.lines.concat());
            return match no_route {
                NoRoute::LookupFailed(_) => Outcome::Deferred(diagnostic),
                NoRoute::UnknownUser | NoRoute::Refused(..) => Outcome::Failed(diagnostic),
            };
        }
    };
    let delivered = match &routed.destination {
        Destination::Maildir(_) => to_maildir(forwarder, site, entry, &routed),
        Destination::Relay(_) | Destination::Alias => to_queue(forwarder, site, entry, recipient, routed),
    };
    match delivered {
        Ok(text) => Outcome::Delivered(Diagnostic::local(EnhancedStatus::OK, text)),
        Err(error) => {
            let status = match error.kind {
                ErrorKind::Full => EnhancedStatus::SYSTEM_FULL,
                ErrorKind::MailboxFull => EnhancedStatus::MAILBOX_FULL_NOW,
                _ => EnhancedStatus::SYSTEM_TROUBLE,
            };
            Outcome::Deferred(Diagnostic::local(status.with_class(Class::Transient), error.to_string()))
        }
    }
}

fn to_maildir(
    forwarder: &Forwarder,
    site: &Site,
    entry: &Entry,
    routed: &Routed,
) -> Result<String, StoreError> {
    let Some(path) = site.maildir(routed)? else { return Err(StoreError::refused("", "no Maildir")) };
    let delivery = forwarder.intake.maildirs.stage(&path, forwarder.clock.now().wall)?;
    let reverse_path = &entry.description().envelope.reverse_path;
    let mut delivery = FinalDelivery::begin(delivery, reverse_path, &routed.mailbox)?;
    let (file, offset) = entry.content_source();
    delivery.append_from(file, offset, entry.message_octets())?;
    // Others wait for this worker.
    delivery.hurry();
    delivery.sync()?.commit()?;
    Ok(DELIVERED.into())
}

/// The recipient has become somebody's elsewhere since it was queued, such as a new `admin`'s: the copy enters anew.
fn to_queue(
    forwarder: &Forwarder,
    site: &Site,
    entry: &Entry,
    recipient: &Recipient,
    routed: Routed,
) -> Result<String, StoreError> {
    let envelope = &entry.description().envelope;
    let parameters = RcptParameters { notify: recipient.notify, orcpt: recipient.orcpt.clone() };
    let mut submission = anew(envelope, vec![Accepted { routed, parameters }], entry.id().to_string());
    submission.dated = entry.description().dated;
    let refused = |refusal: crate::engine::intake::incoming::Refusal| match refusal {
        crate::engine::intake::incoming::Refusal::Store(error) => error,
        _ => StoreError::refused("", "the queue is full, or the message loops"),
    };
    let mut incoming = forwarder.intake.begin(site, submission).map_err(refused)?;
    let (mut content, mut piece) = (entry.content(0), vec![0; 16 * 1024]);
    loop {
        match content.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => incoming.write(piece.get(..length).unwrap_or_default()),
            Err(error) => return Err(StoreError::io(entry.id().to_string(), error)),
        }
    }
    let id = incoming.commit().map_err(refused)?;
    Ok(format!("queued as {id}"))
}

/// What is in the queue enters once more, for these recipients, with all else of its envelope.
pub(crate) fn anew(envelope: &Envelope, recipients: Vec<Accepted>, client: String) -> Submission {
    Submission {
        reverse_path: envelope.reverse_path.clone(),
        parameters: MailParameters {
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            require_tls: envelope.require_tls,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            ..MailParameters::default()
        },
        recipients,
        origin: None,
        is_own: envelope.is_own,
        client,
        login: None,
        dated: None,
    }
}
