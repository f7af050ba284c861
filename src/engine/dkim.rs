//! DKIM at work: keys are read at start and at SIGHUP, and mail of this host's own is signed each time before it is sent.
//!
//! A message is read once more for it, in pieces, and nothing is written. May fail: a key, with its place in the
//! configuration; a signature, which is logged, and the mail leaves without it.

use super::event::Event;
use super::site::Site;
use crate::config::Settings;
use crate::mail::date::WallTime;
use crate::rules::dkim::{DkimKey, Problem, Signer};
use crate::store::queue::Entry;
use std::io::{self, Read};

/// Read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// Reads the keys of the configuration.
///
/// # Errors
/// Which `[[dkim]]` is of no use, counted from 0, and why.
pub fn load(settings: &Settings) -> Result<Vec<DkimKey>, (usize, String)> {
    let mut keys = Vec::new();
    for (i, dkim) in settings.dkim.iter().enumerate() {
        // The configuration is not taken without one of them.
        let (Some(domain), Some(selector), Some(path)) = (&dkim.domain, &dkim.selector, &dkim.key) else {
            continue;
        };
        let key = std::fs::read(path).map_err(|error| format!("can't be read: {error}; name another"));
        let key = key.and_then(|pem| DkimKey::from_pem(&pem, domain, selector).map_err(|e| e.to_string()));
        keys.push(key.map_err(|error| (i, format!("{path:?} {error}")))?);
    }
    Ok(keys)
}

/// The fields that go in front of a message of this host's own; none if no key is for its author. What is signed is `head`
/// with the message from `offset` on behind it.
#[must_use]
pub fn signatures(site: &Site, entry: &Entry, (head, offset): (&[u8], u64), now: WallTime) -> String {
    if site.dkim.is_empty() {
        return String::new();
    }
    let mut signer = Signer::new(&site.dkim, now);
    signer.feed(head);
    let signed = sign(signer, entry, offset).map_err(|error| error.to_string());
    signed.and_then(|result| result.map_err(|problem| problem.to_string())).unwrap_or_else(|error| {
        let error = format!("{}: {error}", entry.id());
        Event::Trouble { doing: "signing a message; it leaves unsigned", error: &error }.log();
        String::new()
    })
}

fn sign(mut signer: Signer<'_>, entry: &Entry, offset: u64) -> io::Result<Result<String, Problem>> {
    let (mut content, mut piece) = (entry.content(offset), vec![0; PIECE_OCTETS]);
    while signer.wants_more() {
        match content.read(&mut piece)? {
            0 => break,
            length => signer.feed(piece.get(..length).unwrap_or_default()),
        }
    }
    Ok(signer.finish())
}
