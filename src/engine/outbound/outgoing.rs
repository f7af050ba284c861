//! A message as it is sent: derived from the queue entry at each attempt, so that a changed configuration also applies
//! to mail that is already queued. The entry itself never changes.
//!
//! | step, in this order | for | by |
//! | --- | --- | --- |
//! | rewrite senders in header and envelope | mail of this host | `rules::message::rewrite` |
//! | put `rewrite.subject_prefix` in front of Subject | mail of this host | `rules::message::rewrite::subject` |
//! | correct the Date that this host wrote while its clock was wrong | mail of this host | `rules::pacing::running_clock` |
//! | encode what the next hop cannot take: long lines, eight bits | mail of this host, with `rewrite.repair` | `rules::message::recode` |
//! | sign | mail of this host | `rules::message::dkim` |
//!
//! Mail of other hosts leaves as it came. For a next hop that delivers (LMTP) only the signature is added.
//!
//! Memory holds only the changed header section, at most [`HEADER_MAX_OCTETS`], and the signatures; the rest is read
//! from the file as it is sent. If reading fails, the step is skipped: the failure shows again when the message is
//! sent. A larger header section is logged and stays as it is.

use crate::engine::host::site::Site;
use crate::engine::log::event::trouble;
use crate::mail::address::ReversePath;
use crate::mail::date::{Now, WallTime};
use crate::mail::envelope::{Body, Envelope};
use crate::mail::header::{fields, section, value_of};
use crate::mail::next_hop::Smarthost;
use crate::rules::message::dkim::{HEADER_MAX_OCTETS, Signer};
use crate::rules::message::recode::{HopSupport, Plan, Recoder, Survey};
use crate::rules::message::rewrite::RewritePolicy;
use crate::rules::message::rewrite::subject::prefixed;
use crate::rules::pacing::running_clock::mended;
use crate::store::queue::Entry;
use std::io::{self, Read};
use std::time::Duration;

/// How much of the header section is read first; each further read doubles it.
const PIECE_OCTETS: usize = 4 * 1024;
/// How much of the message is read at once.
const BODY_PIECE_OCTETS: usize = 64 * 1024;

/// A message as it is sent.
#[derive(Debug)]
pub struct Outgoing<'a> {
    entry: &'a Entry,
    /// The envelope, without recipients.
    pub envelope: Envelope,
    /// The DKIM fields, which come first.
    signatures: String,
    /// The changed header section, sent in place of the first `offset` octets of the entry.
    head: Vec<u8>,
    /// Where the unchanged rest begins in the entry.
    offset: u64,
    /// What is encoded, in both parts.
    plan: Option<Plan>,
    /// The size in canonical form.
    octets: u64,
    /// The size on the wire, without dot-stuffing.
    pub size_octets: u64,
}

/// What an outgoing message depends on of its next hop.
#[derive(Debug, Clone, Copy)]
pub struct NextHopTraits<'a> {
    /// It delivers to mailboxes (LMTP): the message is not changed, like a local delivery.
    pub is_delivered: bool,
    /// Which octets it can take.
    pub support: HopSupport,
    /// The host, if the operator named it: its login may decide about the sender.
    pub smarthost: Option<&'a Smarthost>,
}

impl<'a> Outgoing<'a> {
    /// Derives the message from its queue entry. `last_jump` is when the wall clock last jumped, in running time.
    #[must_use]
    pub fn new(site: &Site, entry: &'a Entry, hop: NextHopTraits<'_>, now: Now, last_jump: Duration) -> Self {
        let envelope = Envelope { recipients: Vec::new(), ..entry.description().envelope.clone() };
        let (octets, lines) = (entry.message_octets(), entry.message_lines());
        let mut outgoing = Self {
            entry,
            envelope,
            signatures: String::new(),
            head: Vec::new(),
            offset: 0,
            plan: None,
            octets,
            size_octets: octets + lines,
        };
        if outgoing.envelope.is_own {
            if !hop.is_delivered {
                let dated = entry.description().dated;
                let date = dated.and_then(|written| mended(written, now, last_jump));
                outgoing.rewrite(&site.rewrite_at(hop.smarthost), date);
                if site.settings.rewrite.repair {
                    outgoing.recode(hop.support);
                }
            }
            outgoing.sign(site, now.wall);
        }
        outgoing
    }

    fn rewrite(&mut self, policy: &RewritePolicy, date: Option<WallTime>) {
        if policy.is_idle() && date.is_none() && policy.subject_prefix.is_empty() {
            return;
        }
        if let Some((new, old)) = rewritten(policy, self.entry, &self.envelope.reverse_path, date) {
            self.octets = (self.octets + new.len() as u64).saturating_sub(old.len() as u64);
            self.size_octets = (self.size_octets + wire_octets(&new)).saturating_sub(wire_octets(&old));
            (self.head, self.offset) = (new, old.len() as u64);
        }
        self.envelope.reverse_path = policy.reverse_path(&self.envelope.reverse_path);
    }

    /// Determines what has to be encoded, and the size after that.
    fn recode(&mut self, support: HopSupport) {
        let mut survey = Survey::new(support);
        let read = self.each_piece(&mut |piece| {
            survey.feed(piece);
            survey.wants_more()
        });
        if read.is_err() {
            // The failure shows again when the message is sent.
            return;
        }
        let found = survey.finish();
        if found.has_utf8_fields {
            (self.envelope.smtputf8, self.envelope.body) = (true, Body::EightBitMime);
        }
        self.plan = found.plan;
        if self.plan.is_some() {
            let (mut octets, mut size_octets) = (0, 0);
            let counted = self.each_piece(&mut |piece| {
                octets += piece.len() as u64;
                size_octets += wire_octets(piece);
                true
            });
            if counted.is_err() {
                return self.plan = None;
            }
            (self.octets, self.size_octets) = (octets, size_octets);
        }
    }

    fn sign(&mut self, site: &Site, now: WallTime) {
        if site.dkim.is_empty() {
            return;
        }
        let mut signer = Signer::new(&site.dkim, now);
        let read = self.each_piece(&mut |piece| {
            signer.feed(piece);
            signer.wants_more()
        });
        let signed = read.map_err(|error| error.to_string());
        let signed = signed.and_then(|()| signer.finish().map_err(|problem| problem.to_string()));
        match signed {
            Ok(signatures) => {
                self.octets += signatures.len() as u64;
                self.size_octets += wire_octets(signatures.as_bytes());
                self.signatures = signatures;
            }
            Err(error) => {
                trouble(
                    "signing a message; it leaves unsigned",
                    &format_args!("{}: {error}", self.entry.id()),
                );
            }
        }
    }

    /// Passes the message to `take` in pieces, with the changes made so far, until `take` returns false.
    ///
    /// # Errors
    /// The queue file cannot be read; `UnexpectedEof` if it has become shorter.
    pub fn each_piece(&self, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<()> {
        if !self.signatures.is_empty() && !take(self.signatures.as_bytes()) {
            return Ok(());
        }
        let mut recoder = self.plan.clone().map(Recoder::new);
        let mut out = Vec::new();
        let mut pass = |piece: &[u8]| match &mut recoder {
            None => take(piece),
            Some(recoder) => {
                out.clear();
                recoder.feed(piece, &mut out);
                take(&out)
            }
        };
        if !self.head.is_empty() && !pass(&self.head) {
            return Ok(());
        }
        if !each_piece(self.entry, self.offset, &mut pass)? {
            return Ok(());
        }
        if let Some(mut recoder) = recoder {
            out.clear();
            recoder.finish(&mut out);
            take(&out);
        }
        Ok(())
    }
}

/// Passes an entry's message on, from an offset to its end. False if `take` wants no more.
fn each_piece(entry: &Entry, offset: u64, take: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
    let mut content = entry.content(offset);
    if let Some(octets) = content.rest() {
        return Ok(octets.is_empty() || take(octets));
    }
    let mut left = entry.message_octets().saturating_sub(offset);
    let mut piece = vec![0; usize::try_from(left).unwrap_or(usize::MAX).clamp(1, BODY_PIECE_OCTETS)];
    while left > 0 {
        let length = content.read(&mut piece)?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left = left.saturating_sub(length as u64);
        if !take(piece.get(..length).unwrap_or_default()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The size of `octets` when their line ends are CRLF.
fn wire_octets(octets: &[u8]) -> u64 {
    (octets.len() + octets.iter().filter(|&&octet| octet == b'\n').count()) as u64
}

/// The changed header section and the one of the entry; `None` if it stays.
fn rewritten(
    policy: &RewritePolicy,
    entry: &Entry,
    reverse_path: &ReversePath,
    date: Option<WallTime>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let problem = match start(entry) {
        Ok(Some(mut start)) => {
            let rewritten = (!policy.is_idle()).then(|| policy.header(&start, reverse_path)).flatten();
            let octets = section(&start).len();
            let mut new = rewritten.map(|(new, _)| new);
            let old = start.get(..octets).unwrap_or_default();
            if let Some(changed) = prefixed(new.as_deref().unwrap_or(old), &policy.subject_prefix) {
                new = Some(changed);
            }
            if let Some(date) = date {
                new = Some(redated(new.as_deref().unwrap_or(old), date));
            }
            let new = new?;
            start.truncate(octets);
            return Some((new, start));
        }
        Ok(None) => "the header section is too long".to_owned(),
        Err(error) => error.to_string(),
    };
    trouble(
        "rewriting the header section of a message; it stays",
        &format_args!("{}: {problem}", entry.id()),
    );
    None
}

/// A header section with another Date.
fn redated(header: &[u8], date: WallTime) -> Vec<u8> {
    let mut new = Vec::with_capacity(header.len());
    for field in fields(header) {
        match value_of(field, "Date") {
            Some(_) => new.extend_from_slice(format!("Date: {}\n", date.to_rfc5322()).as_bytes()),
            None => new.extend_from_slice(field),
        }
    }
    new
}

/// The start of the message up to the line after its header section, or more; `None` if the header section is too long.
fn start(entry: &Entry) -> io::Result<Option<Vec<u8>>> {
    let (mut content, mut start) = (entry.content(0), Vec::new());
    loop {
        // A resize would clear the piece octet by octet.
        let mut piece = vec![0; start.len().max(PIECE_OCTETS)];
        let length = content.read(&mut piece)?;
        start.extend_from_slice(piece.get(..length).unwrap_or_default());
        // Only the line after it shows that the header section is complete.
        let is_over =
            |start: &[u8]| start.get(section(start).len()..).is_some_and(|rest| rest.contains(&b'\n'));
        if length == 0 || is_over(&start) {
            return Ok(Some(start));
        }
        if start.len() > HEADER_MAX_OCTETS {
            return Ok(None);
        }
    }
}
