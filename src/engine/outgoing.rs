//! A message as it leaves: with the senders that the operator wants (`rules::rewrite`) and with signatures, whatever lies in
//! the queue. It is made for each attempt, so that a change of the configuration counts for what is queued.
//!
//! What is changed stands in memory, at most [`HEADER_MAX_OCTETS`] of it and the signatures; the rest of the message is
//! sent as it lies in its file. May fail: reading it, which shows again when it is sent; a header section that is larger,
//! which is logged, and leaves as it is.

use super::dkim;
use super::event::Event;
use super::site::Site;
use crate::mail::address::ReversePath;
use crate::mail::date::WallTime;
use crate::mail::envelope::Envelope;
use crate::mail::header::section;
use crate::rules::dkim::HEADER_MAX_OCTETS;
use crate::store::queue::Entry;
use std::io::{self, Read};

/// Read at first, and then twice as much each time.
const PIECE_OCTETS: usize = 4 * 1024;

/// What is sent of a message.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// What lies in the queue.
    pub entry: &'a Entry,
    /// The envelope, without recipients.
    pub envelope: Envelope,
    /// What goes ahead of the message, in canonical form.
    pub head: Vec<u8>,
    /// Where the rest begins in the message.
    pub offset: u64,
    /// Size on the wire, without the transparency of DATA.
    pub size_octets: u64,
}

impl<'a> Outgoing<'a> {
    /// Makes it. What is not this host's own is left as it is, and so is the author of what is `delivered` by its next hop,
    /// as of what is delivered here.
    #[must_use]
    pub fn new(site: &Site, entry: &'a Entry, is_delivered: bool, now: WallTime) -> Self {
        let mut envelope = Envelope { recipients: Vec::new(), ..entry.description().envelope.clone() };
        let (mut head, mut offset, mut lines) = (Vec::new(), 0, entry.message_lines());
        if envelope.is_own && !is_delivered && !site.rewrite.is_idle() {
            if let Some((new, old)) = rewritten(site, entry, &envelope.reverse_path) {
                lines = lines.saturating_sub(count_lines(&old));
                (head, offset) = (new, old.len() as u64);
            }
            envelope.reverse_path = site.rewrite.reverse_path(&envelope.reverse_path);
        }
        if envelope.is_own {
            let signatures = dkim::signatures(site, entry, (&head, offset), now);
            head.splice(..0, signatures.into_bytes());
        }
        let size_octets =
            head.len() as u64 + count_lines(&head) + entry.message_octets().saturating_sub(offset) + lines;
        Self { entry, envelope, head, offset, size_octets }
    }
}

fn count_lines(octets: &[u8]) -> u64 {
    octets.iter().filter(|&&octet| octet == b'\n').count() as u64
}

/// The header section as it is to be, and as it is; `None` if it stays.
fn rewritten(site: &Site, entry: &Entry, reverse_path: &ReversePath) -> Option<(Vec<u8>, Vec<u8>)> {
    let problem = match start(entry) {
        Ok(Some(mut start)) => {
            let (new, octets) = site.rewrite.header(&start, reverse_path)?;
            start.truncate(octets);
            return Some((new, start));
        }
        Ok(None) => "the header section is too long".to_owned(),
        Err(error) => error.to_string(),
    };
    let error = format!("{}: {problem}", entry.id());
    Event::Trouble { doing: "rewriting the author of a message; it stays", error: &error }.log();
    None
}

/// The message up to the line behind its header section, or further; `None` if that comes too late.
fn start(entry: &Entry) -> io::Result<Option<Vec<u8>>> {
    let (mut content, mut start) = (entry.content(0), Vec::new());
    loop {
        let known = start.len();
        start.resize(known + known.max(PIECE_OCTETS), 0);
        let length = content.read(start.get_mut(known..).unwrap_or_default())?;
        start.truncate(known + length);
        // Only the line behind it shows that the header section is over.
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
