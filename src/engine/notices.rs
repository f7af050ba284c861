//! Notices to senders: writes what `rules::bounce` composes, through intake like any other message.

use super::event::Event;
use super::forwarder::Forwarder;
use super::intake::{Refusal, Submission};
use super::site::Site;
use crate::mail::address::ForwardPath;
use crate::mail::date::Now;
use crate::mail::envelope::Body;
use crate::mail::header;
use crate::mail::status::Class;
use crate::rules::bounce::{self, Notice, Report, Reported, Returned, Verdict};
use crate::smtp::extension::MailParameters;
use crate::store::queue::{Entry, State};
use crate::sys;
use std::io::{self, Read};

/// The largest header section that is returned, in octets.
const HEADERS_MAX_OCTETS: usize = 64 * 1024;

/// Tells the sender of all recipients that failed and of which nobody has been told. True if that is done, or if nobody
/// is to be told; false if it has to be tried again.
pub fn bounce(forwarder: &Forwarder, site: &Site, entry: &Entry, now: Now) -> bool {
    let description = entry.description();
    let progress = entry.progress();
    let failed = description.envelope.recipients.iter().zip(&progress).filter_map(|(recipient, progress)| {
        let diagnostic = progress.diagnostic.as_ref()?;
        let is_new = progress.state == State::Failed && !progress.notified;
        let expired = diagnostic.status.class == Class::Transient;
        is_new.then_some(Reported {
            recipient,
            verdict: if expired { Verdict::Expired } else { Verdict::Refused },
            diagnostic,
            last_attempt: progress.recent_attempts.first().and_then(|at| at.map(|at| at.wall)),
        })
    });
    let recipients: Vec<Reported<'_>> = failed.collect();
    let report = Report {
        hostname: &site.terms.hostname,
        id: entry.id(),
        envelope: &description.envelope,
        arrival: description.arrival.wall,
        age: now.running.saturating_sub(description.arrival.running),
        size_octets: entry.message_octets(),
        // Clients lie about BODY, so the part that returns the message is always declared as what it may be.
        content: Body::EightBitMime,
        recipients: &recipients,
        now: now.wall,
        random: sys::random(),
    };
    let Some(notice) = bounce::compose(&report) else { return true };
    match send(forwarder, site, entry, &notice) {
        Ok(()) => true,
        Err(refusal) => {
            Event::Trouble { doing: "writing a bounce; it is tried again", error: &refusal.to_string() }
                .log();
            false
        }
    }
}

fn send(forwarder: &Forwarder, site: &Site, entry: &Entry, notice: &Notice) -> Result<(), Refusal> {
    let mut recipients = Vec::new();
    for recipient in &notice.envelope.recipients {
        match site.route(&ForwardPath::Mailbox(recipient.mailbox.clone())) {
            Ok(routed) => recipients.push(routed.into()),
            Err(no_route) => {
                let error = format!("{}: {}", recipient.mailbox, no_route.reply());
                Event::Trouble { doing: "finding a sender to tell; nobody is told", error: &error }.log();
            }
        }
    }
    if recipients.is_empty() {
        return Ok(());
    }
    let submission = Submission {
        reverse_path: notice.envelope.reverse_path.clone(),
        parameters: MailParameters { body: notice.envelope.body, ..MailParameters::default() },
        recipients,
        origin: None,
        is_submitted: false,
        is_own: true,
        client: format!("bounce of {}", entry.id()),
        login: None,
    };
    let mut incoming = forwarder.intake.begin(site, submission)?;
    incoming.write(notice.prologue.as_bytes());
    let mut content = entry.content(0);
    let returned = match notice.returned {
        Returned::Full => copy(&mut content, &mut |piece| incoming.write(piece)),
        Returned::Headers => headers(&mut content).map(|headers| incoming.write(&headers)),
    };
    if let Err(error) = returned {
        return Err(Refusal::Store(crate::store::StoreError::io(entry.id().to_string(), error)));
    }
    incoming.write(notice.epilogue.as_bytes());
    incoming.commit().map(drop)
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
