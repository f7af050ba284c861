//! Notices to senders: finds the addressee, and sends what `rules::message::bounce` composes through intake, like any
//! other message.
//!
//! | news | reported |
//! | --- | --- |
//! | failure | once |
//! | delay | once, after `queue.warn_after` |
//! | success | if the sender asked for it and no next hop reports it (RFC 3461 §5.2) |
//!
//! All news that is due about a message goes into one notice. The journal of the entry keeps what was reported, so a
//! restart repeats nothing. If a notice cannot be written, the caller retries it later; no delivery waits for it. Which
//! recipients of a queued message are due for a notice is decided in `engine::queue::news`.
//!
//! The addressee of a notice:
//!
//! | message | addressee |
//! | --- | --- |
//! | with a reverse-path | the sender |
//! | the sender has no route here, and the message failed | `admin`, by way of postmaster |
//! | a bounce of this host that failed | `admin` |
//! | any other message with a null reverse-path | nobody (RFC 5321 §4.5.5) |
//! | failures that concern only `admin`, to `admin` | nobody: the notice would fail as well. The message is kept in the queue |

use super::incoming::{HEADERS_MAX_OCTETS, Intake, OwedNotice};
use super::refusal::Refusal;
use super::submission::{Accepted, Submission};
use crate::engine::host::admin;
use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::trouble;
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

/// The client of a failure notice, before the id of the message, in the log and in the queue. If this notice fails,
/// `admin` is notified.
pub(crate) const BOUNCE: &str = "bounce of ";
/// The same for a notice without failures and for one to `admin`. If one of these fails, nobody is notified.
const NOTICE: &str = "notice of ";

/// Sends the notice of success that the sender of a stored message asked for. A failure is only logged: the message was
/// delivered.
pub(super) fn report_success(intake: &Intake, site: &Site, owed: &OwedNotice) {
    let &OwedNotice { id, arrival, ref envelope, ref items, ref header } = owed;
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
            advice: None,
        })
        .collect();
    let message = Subject { id, envelope, arrival, size_octets: 0, admin: None };
    if let Err(error) = report(intake, site, &message, &recipients, arrival, &mut header.as_slice()) {
        trouble("writing a notice of success; the sender is not notified", &error);
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

/// Composes and sends a notice, unless nobody wants it.
///
/// # Errors
/// The sender cannot be looked up now, or intake refused the notice; in words.
pub(crate) fn report(
    intake: &Intake,
    site: &Site,
    message: &Subject<'_>,
    recipients: &[Reported<'_>],
    now: Now,
    content: &mut dyn Read,
) -> Result<(), String> {
    let &Subject { id, envelope, arrival, size_octets, admin } = message;
    // A notice to `admin` about a failure to reach `admin` would fail as well.
    let reaches = |admin: &Mailbox, failed: &Mailbox| failed == admin || site.routes.admin.contains(failed);
    let admin = admin.filter(|&admin| !recipients.iter().any(|item| reaches(admin, &item.recipient.mailbox)));
    let report = NoticeReport {
        hostname: &site.terms.hostname,
        id,
        envelope,
        admin,
        arrival: arrival.wall,
        age: now.running.saturating_sub(arrival.running),
        size_octets,
        // Clients send octets above 127 without BODY=8BITMIME, so the returned message is always declared as 8bit.
        content: Body::EightBitMime,
        recipients,
        now: now.wall,
        random: sys::random(),
    };
    let Some(notice) = bounce::compose(&report) else { return Ok(()) };
    let has_failed = recipients
        .iter()
        .any(|item| matches!(item.verdict, RecipientVerdict::Refused | RecipientVerdict::Expired));
    let Some((routed, to_admin)) = addressee(site, &notice, has_failed)? else { return Ok(()) };
    // A notice about mail to `admin` that would reach `admin` alone, by an alias, is not sent either.
    let are_admins = || recipients.iter().all(|item| admin::is_admin(site, &item.recipient.mailbox));
    if has_failed && admin::is_for_admin_alone(site, &routed) && are_admins() {
        return Ok(());
    }
    let is_bounce = has_failed && admin.is_none() && !to_admin;
    let client = format!("{}{id}", if is_bounce { BOUNCE } else { NOTICE });
    send(intake, site, routed, client, &notice, content).map_err(|refusal| refusal.to_string())
}

/// The route of a notice, and whether it goes to `admin` instead of the sender: a failure is reported to `admin` if the
/// sender has no route. `None` if nobody gets the notice.
///
/// # Errors
/// The addressee cannot be looked up now; the text names the reason.
fn addressee(site: &Site, notice: &Notice, has_failed: bool) -> Result<Option<(Routed, bool)>, String> {
    let Some(to) = notice.envelope.recipients.first().map(|recipient| &recipient.mailbox) else {
        return Ok(None);
    };
    match site.route(&ForwardPath::Mailbox(to.clone())) {
        Ok(routed) => return Ok(Some((routed, false))),
        Err(NoRoute::LookupFailed(error)) => return Err(error),
        Err(no_route) => {
            trouble(
                "routing a notice; the sender is not notified",
                &format_args!("{to}: {}", no_route.reply()),
            );
        }
    }
    if !has_failed || site.routes.admin.is_empty() {
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
    // `store`, not `commit`: the reverse-path of a notice is null, so no notice about it can be due.
    incoming.store().map(|_| intake.counters.count(Count::Notices))
}

/// The header section, at most [`HEADERS_MAX_OCTETS`] of it, in whole lines.
fn headers(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    content.take(HEADERS_MAX_OCTETS as u64).read_to_end(&mut start)?;
    let length = header::section(&start).len();
    start.truncate(length);
    Ok(start)
}
