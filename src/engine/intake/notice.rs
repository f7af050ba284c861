//! Notices to senders: finds out who has to be told what, and writes what `rules::bounce` composes, through intake like
//! any other message.
//!
//! A failure is told once, a delay once (`queue.warn_after`), a delivery where that was asked for and no next hop does it
//! (RFC 3461 §5.2); all the news of a message in one notice. The journal keeps what has been told, so restarts repeat
//! nothing. The null sender is told nothing; if the bounce was ours, `admin` hears of it. What can't reach `admin` is kept
//! (see [`super::kept`]), and nobody but a sender who is somebody else hears of that. A notice that can't be written is tried again, and harms no delivery.

use super::incoming::{HEADERS_MAX_OCTETS, Incoming, Intake, OwedNotice, Stored};
use super::refusal::Refusal;
use super::submission::{Accepted, Submission};
use crate::engine::host::admin;
use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::Event;
use crate::mail::address::{ForwardPath, Mailbox};
use crate::mail::date::Now;
use crate::mail::envelope::{Body, Envelope};
use crate::mail::header;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::message::bounce::{self, Notice, NoticeReport, RecipientVerdict, Reported, Returned};
use crate::rules::routing::route::{NoRoute, Routed};
use crate::smtp::extension::MailParameters;
use crate::store::StoreError;
use crate::sys;
use std::io::{self, Read};

/// What the log and the queue say of where a failure notice came from; its failure in turn is told to `admin`.
pub(crate) const BOUNCE: &str = "bounce of ";
/// The same of a notice without failures, and of one to `admin`: their failure is told to nobody.
const NOTICE: &str = "notice of ";

impl Incoming<'_> {
    /// Makes the message durable in all its places, and gives its id: it outlives any crash from here on. Then writes the
    /// notice that the sender asked for. If that fails it is logged, and nothing more: the mail has arrived.
    ///
    /// # Errors
    /// The message was not taken. Nothing of it is kept, except copies that a failure halfway has left in Maildirs.
    pub fn commit(self) -> Result<QueueId, Refusal> {
        let (intake, site) = (self.intake, self.site);
        let Stored { id, arrival, owed } = self.store()?;
        if let Some(owed) = owed {
            delivered(intake, site, (id, arrival), &owed);
        }
        Ok(id)
    }
}

fn delivered(intake: &Intake, site: &Site, (id, arrival): (QueueId, Now), owed: &OwedNotice) {
    let OwedNotice { envelope, items, header } = owed;
    let last_attempt = Some(arrival.wall);
    let diagnostics: Vec<_> =
        items.iter().map(|item| Diagnostic::local(EnhancedStatus::OK, item.text)).collect();
    let pairs = items.iter().zip(&diagnostics);
    let recipients: Vec<_> = pairs
        .map(|(item, diagnostic)| Reported {
            recipient: &item.recipient,
            verdict: item.verdict,
            diagnostic,
            last_attempt,
        })
        .collect();
    let message = Subject { id, envelope, arrival, size_octets: 0, admin: None };
    if let Err(error) = report(intake, site, &message, &recipients, arrival, &mut header.as_slice()) {
        Event::Trouble { doing: "writing a notice of a delivery; nobody is told", error: &error }.log();
    }
}

/// The message that a notice is about.
pub(crate) struct Subject<'a> {
    pub id: QueueId,
    pub envelope: &'a Envelope,
    pub arrival: Now,
    pub size_octets: u64,
    /// The addressee if this message is itself a bounce of this host.
    pub admin: Option<&'a Mailbox>,
}

/// Composes and sends a notice, if one is wanted.
pub(crate) fn report(
    intake: &Intake,
    site: &Site,
    message: &Subject<'_>,
    recipients: &[Reported<'_>],
    now: Now,
    content: &mut dyn Read,
) -> Result<(), String> {
    let &Subject { id, envelope, arrival, size_octets, admin } = message;
    // Who can't be told can't be told of that either.
    let admin = admin.filter(|&admin| recipients.iter().all(|told| told.recipient.mailbox != *admin));
    let report = NoticeReport {
        hostname: &site.terms.hostname,
        id,
        envelope,
        admin,
        arrival: arrival.wall,
        age: now.running.saturating_sub(arrival.running),
        size_octets,
        // Clients lie about BODY, so the part that returns the message is always declared as what it may be.
        content: Body::EightBitMime,
        recipients,
        now: now.wall,
        random: sys::random(),
    };
    let Some(notice) = bounce::compose(&report) else { return Ok(()) };
    let has_failed = recipients
        .iter()
        .any(|told| matches!(told.verdict, RecipientVerdict::Refused | RecipientVerdict::Expired));
    let Some((routed, to_admin)) = addressee(site, &notice, has_failed)? else { return Ok(()) };
    // Nor by way of an alias.
    let are_admins = || recipients.iter().all(|told| admin::is_admin(site, &told.recipient.mailbox));
    if has_failed && admin::is_for_admin_alone(site, &routed) && are_admins() {
        return Ok(());
    }
    let is_bounce = has_failed && admin.is_none() && !to_admin;
    let client = format!("{}{id}", if is_bounce { BOUNCE } else { NOTICE });
    send(intake, site, routed, client, &notice, content).map_err(|refusal| refusal.to_string())
}

/// Where a notice goes: to the sender, or if there is none such here and mail is lost, to `admin`, which the second
/// value says. `None`: to nobody.
fn addressee(site: &Site, notice: &Notice, has_failed: bool) -> Result<Option<(Routed, bool)>, String> {
    let Some(to) = notice.envelope.recipients.first().map(|recipient| &recipient.mailbox) else {
        return Ok(None);
    };
    match site.route(&ForwardPath::Mailbox(to.clone())) {
        Ok(routed) => return Ok(Some((routed, false))),
        Err(NoRoute::LookupFailed(error)) => return Err(error),
        Err(no_route) => {
            let error = format!("{to}: {}", no_route.reply());
            Event::Trouble { doing: "finding a sender to tell; nobody is told", error: &error }.log();
        }
    }
    if !has_failed || site.routes.admin.is_none() {
        return Ok(None);
    }
    match site.route(&ForwardPath::Postmaster) {
        Ok(routed) => Ok(Some((routed, true))),
        Err(NoRoute::LookupFailed(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn send(
    intake: &Intake,
    site: &Site,
    routed: Routed,
    client: String,
    notice: &Notice,
    content: &mut dyn Read,
) -> Result<(), Refusal> {
    let Envelope { reverse_path, body, smtputf8, .. } = &notice.envelope;
    let read = |error| Refusal::Store(StoreError::io(client.as_str(), error));
    let parameters = MailParameters { body: *body, smtputf8: *smtputf8, ..MailParameters::default() };
    let internal = Submission::internal(reverse_path.clone(), vec![Accepted::from(routed)], client.clone());
    let submission = Submission { parameters, dated: Some(intake.clock.now()), ..internal };
    let mut incoming = intake.begin(site, submission)?;
    incoming.write(notice.prologue.as_bytes());
    match notice.returned {
        Returned::Full => incoming.write_from(content).map_err(read)?,
        Returned::Headers => incoming.write(&headers(content).map_err(read)?),
    }
    incoming.write(notice.epilogue.as_bytes());
    // Its sender is null, so that nobody wants a notice about it in turn.
    incoming.store().map(|_| intake.counters.count(Count::Notices))
}

/// The header section, or as much of it as is worth returning: whole lines.
fn headers(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    content.take(HEADERS_MAX_OCTETS as u64).read_to_end(&mut start)?;
    let length = header::section(&start).len();
    start.truncate(length);
    Ok(start)
}
