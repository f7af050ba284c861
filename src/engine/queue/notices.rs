//! Notices to senders: finds out who has to be told what, and writes what `rules::bounce` composes, through intake like
//! any other message.
//!
//! A failure is told once, a delay once (`queue.warn_after`), a delivery where that was asked for and no next hop does it
//! (RFC 3461 §5.2); all the news of a message in one notice. The journal keeps what has been told, so restarts repeat
//! nothing. The null sender is told nothing; if the bounce was ours, `admin` hears of it. What can't reach `admin` is kept
//! (see [`super::kept`]), and nobody but a sender who is somebody else hears of that. A notice that can't be written is tried again, and harms no delivery.

use super::board::Hop;
use super::kept;
use crate::engine::host::site::Site;
use crate::engine::intake::incoming::{Accepted, Intake, Refusal, Submission};
use crate::engine::log::event::Event;
use crate::engine::log::statistics::Count;
use crate::engine::workers::forwarder::{Forwarder, hop_of};
use crate::mail::address::{ForwardPath, Mailbox, ReversePath};
use crate::mail::date::Now;
use crate::mail::envelope::{Body, Envelope, Recipient};
use crate::mail::header;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::{Class, EnhancedStatus};
use crate::rules::message::bounce::{self, Notice, Report, Reported, Returned, Verdict};
use crate::rules::routing::route::{NoRoute, Routed};
use crate::smtp::extension::MailParameters;
use crate::store::StoreError;
use crate::store::queue::{self, Description, Entry, JournalRecord, Progress, RecipientState};
use crate::sys;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The largest header section that is returned, in octets.
pub const HEADERS_MAX_OCTETS: usize = 64 * 1024;
/// What the log and the queue say of where a failure notice came from; its failure in turn is told to `admin`.
const BOUNCE: &str = "bounce of ";
/// The same of a notice without failures, and of one to `admin`: their failure is told to nobody.
const NOTICE: &str = "notice of ";

/// Whether the sender has to be told of this delivery by this host.
#[must_use]
pub fn is_owed(envelope: &Envelope, recipient: &Recipient) -> bool {
    envelope.reverse_path != ReversePath::Null && Verdict::Relayed.is_wanted(recipient)
}

/// The recipients of which there is something to tell that nobody has been told, by their places.
#[must_use]
pub fn news(
    site: &Site,
    description: &Description,
    progress: &[Progress],
    now: Now,
) -> Vec<(usize, Verdict)> {
    let Description { envelope, arrival, .. } = description;
    let warn_after = site.settings.queue.warn_after;
    let age = now.running.saturating_sub(arrival.running);
    let is_late = !warn_after.is_zero() && age >= warn_after && envelope.reverse_path != ReversePath::Null;
    let failure = |diagnostic: &Diagnostic| match diagnostic.status.class {
        Class::Transient => Verdict::Expired,
        Class::Success | Class::Permanent => Verdict::Refused,
    };
    let verdict = |(place, (recipient, progress)): (usize, (&Recipient, &Progress))| {
        let diagnostic = progress.diagnostic.as_ref();
        let verdict = match progress.state {
            RecipientState::Failed if !progress.notified => failure(diagnostic?),
            RecipientState::Delivered if progress.owed => match diagnostic?.remote {
                Some(_) => Verdict::Relayed,
                None => Verdict::Delivered,
            },
            RecipientState::Pending if progress.kept.is_some() => {
                if progress.notified {
                    return None;
                }
                failure(diagnostic?)
            }
            // What the operator holds back is no delay that the sender could do something about.
            RecipientState::Pending
                if is_late
                    && !progress.notified
                    && !progress.held
                    && Verdict::Delayed.is_wanted(recipient) =>
            {
                Verdict::Delayed
            }
            RecipientState::Failed | RecipientState::Delivered | RecipientState::Pending => return None,
        };
        Some((place, verdict))
    };
    envelope.recipients.iter().zip(progress).enumerate().filter_map(verdict).collect()
}

/// Whether there is something to tell of a message.
#[must_use]
pub fn has_news(site: &Site, entry: &Entry, now: Now) -> bool {
    !news(site, entry.description(), &entry.progress(), now).is_empty()
}

/// Tells the sender all the news of a message. Gives the record that this has been done, or was not to be done; `None`
/// if there is nothing to tell, or if it has to be tried again.
pub fn tell(forwarder: &Forwarder, site: &Site, entry: &Entry, now: Now) -> Option<JournalRecord> {
    let (description, progress) = (entry.description(), entry.progress());
    let news = news(site, description, &progress, now);
    let diagnostics: Vec<Diagnostic> = news
        .iter()
        .filter_map(|&(place, verdict)| {
            let recipient = description.envelope.recipients.get(place)?;
            let last = progress.get(place)?.diagnostic.clone();
            let pause = match verdict {
                Verdict::Delayed => {
                    forwarder.board.wait_reason(&hop_of(site, recipient), entry.id(), now.running)
                }
                _ => None,
            };
            // Nobody may have tried yet: with a schedule, or behind others at a slow host.
            let untried = || Diagnostic::local(EnhancedStatus::DELAYED, "its turn has not come yet");
            Some(pause.or(last).unwrap_or_else(untried))
        })
        .collect();
    let recipients: Vec<Reported<'_>> = news
        .iter()
        .zip(&diagnostics)
        .filter_map(|(&(place, verdict), diagnostic)| {
            let last_attempt = progress.get(place)?.recent_attempts.first()?.map(|at| at.wall);
            let recipient = description.envelope.recipients.get(place)?;
            Some(Reported { recipient, verdict, diagnostic, last_attempt })
        })
        .collect();
    let is_bounce = description.origin.starts_with(BOUNCE);
    let message = Message {
        id: entry.id(),
        envelope: &description.envelope,
        arrival: description.arrival,
        size_octets: entry.message_octets(),
        admin: site.routes.admin.as_ref().filter(|_| is_bounce),
    };
    if recipients.is_empty() {
        return None;
    }
    match report(&forwarder.intake, site, &message, &recipients, now, &mut entry.content(0)) {
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

/// A recipient that never was in the queue, what has become of it, and by what.
pub type Told = (Recipient, Verdict, &'static str);

/// Tells the sender who asked what has become of recipients that never were in the queue: their copies are in their
/// Maildirs, or they are aliases. A failure is logged, and that is all: the mail has arrived.
pub fn delivered(
    intake: &Intake,
    site: &Site,
    (id, arrival): (QueueId, Now),
    envelope: &Envelope,
    told: &[Told],
    start: &mut dyn Read,
) {
    let last_attempt = Some(arrival.wall);
    let diagnostics: Vec<_> =
        told.iter().map(|&(_, _, what)| Diagnostic::local(EnhancedStatus::OK, what)).collect();
    let pairs = told.iter().zip(&diagnostics);
    let recipients: Vec<_> = pairs
        .map(|(&(ref recipient, verdict, _), diagnostic)| Reported {
            recipient,
            verdict,
            diagnostic,
            last_attempt,
        })
        .collect();
    let message = Message { id, envelope, arrival, size_octets: 0, admin: None };
    if let Err(error) = report(intake, site, &message, &recipients, arrival, start) {
        Event::Trouble { doing: "writing a notice of a delivery; nobody is told", error: &error }.log();
    }
}

/// What a notice is about.
struct Message<'a> {
    id: QueueId,
    envelope: &'a Envelope,
    arrival: Now,
    size_octets: u64,
    /// Who is told if this is a bounce of ours.
    admin: Option<&'a Mailbox>,
}

/// Composes and sends a notice, if one is wanted.
fn report(
    intake: &Intake,
    site: &Site,
    message: &Message<'_>,
    recipients: &[Reported<'_>],
    now: Now,
    content: &mut dyn Read,
) -> Result<(), String> {
    let &Message { id, envelope, arrival, size_octets, admin } = message;
    // Who can't be told can't be told of that either.
    let admin = admin.filter(|&admin| recipients.iter().all(|told| told.recipient.mailbox != *admin));
    let report = Report {
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
    let has_failed =
        recipients.iter().any(|told| matches!(told.verdict, Verdict::Refused | Verdict::Expired));
    let Some((routed, to_admin)) = addressee(site, &notice, has_failed)? else { return Ok(()) };
    // Nor by way of an alias.
    let are_admins = || recipients.iter().all(|told| kept::is_admin(site, &told.recipient.mailbox));
    if has_failed && kept::is_for_admin_alone(site, &routed) && are_admins() {
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
    let submission = Submission {
        reverse_path: reverse_path.clone(),
        parameters: MailParameters { body: *body, smtputf8: *smtputf8, ..MailParameters::default() },
        recipients: vec![Accepted::from(routed)],
        origin: None,
        is_own: true,
        client: client.clone(),
        login: None,
        dated: Some(intake.clock.now()),
    };
    let mut incoming = intake.begin(site, submission)?;
    incoming.write(notice.prologue.as_bytes());
    match notice.returned {
        Returned::Full => copy(content, &mut |piece| incoming.write(piece)).map_err(read)?,
        Returned::Headers => incoming.write(&headers(content).map_err(read)?),
    }
    incoming.write(notice.epilogue.as_bytes());
    incoming.commit().map(|_| intake.statistics.count(Count::Notices))
}

fn copy(content: &mut dyn Read, write: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; 16 * 1024];
    loop {
        match content.read(&mut piece)? {
            0 => return Ok(()),
            length => write(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// The header section, or as much of it as is worth returning: whole lines.
fn headers(content: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    content.take(HEADERS_MAX_OCTETS as u64).read_to_end(&mut start)?;
    let length = header::section(&start).len();
    start.truncate(length);
    Ok(start)
}

/// Which messages have been looked at because they are late: those that came before a running time.
#[derive(Debug, Default)]
pub struct DelayWatch {
    seen: Mutex<Duration>,
}

impl DelayWatch {
    /// Whoever is late by now is somebody else's to look at: the whole queue is being read.
    pub fn begin(&self, site: &Site, now: Now) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) =
            Self::horizon(site, now).unwrap_or_default();
    }

    /// Puts what has become late since the last look before the local worker, who tells the sender; so it needs no
    /// attempt and no route that works. Gives when the next of those that wait will be late.
    pub fn look(&self, forwarder: &Forwarder, site: &Site, now: Now) -> Option<Duration> {
        let warn_after = site.settings.queue.warn_after;
        if warn_after.is_zero() {
            return None;
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let horizon = Self::horizon(site, now).unwrap_or(*seen).max(*seen);
        let (late, next) = forwarder.board.came_between(*seen, horizon);
        *seen = horizon;
        // What waits for a digest is not late: it leaves when that does.
        for job in late.into_iter().filter(|job| !forwarder.intake.digests.holds(job.id)) {
            forwarder.board.put_back(Hop::Local, job, now.running);
        }
        next.map(|arrival| arrival.saturating_add(warn_after))
    }

    /// What came before this running time is late.
    fn horizon(site: &Site, now: Now) -> Option<Duration> {
        let newest = now.running.checked_sub(site.settings.queue.warn_after)?;
        Some(newest + Duration::from_nanos(1))
    }
}
