//! The format of a queue file: a first line of fixed width, the envelope, the message, the journal. All of it is
//! text, so that an administrator can read it with `less`.
//!
//! ```text
//! pillarbox-queue 1 OCTETS-OF-ENVELOPE OCTETS-OF-MESSAGE LINES-OF-MESSAGE CRC-OF-ENVELOPE CRC-OF-MESSAGE CRC-OF-THIS-LINE
//! sender=alice@example.org
//! arrival=WALL-MICROSECONDS RUNNING-MICROSECONDS
//! origin=[192.0.2.7]
//! digest=RUNNING-MICROSECONDS GROUP-OF-LIKE-MESSAGES
//! dated=WALL-MICROSECONDS RUNNING-MICROSECONDS
//! to=bob@example.net
//! orcpt=rfc822;bob@example.net
//! notify=failure,delay
//! leaves=yes
//! <the message, octet for octet>
//! <the journal, see super::journal>
//! ```
//!
//! `orcpt`, `notify` and `leaves` belong to the `to` before them. A key with its default value is left out; unknown
//! keys are ignored, so that an older version can read what a newer one wrote. Values are escaped, and every part has
//! a CRC-32, so a change on the disk is noticed. `load` is the only reader, for files and for the fuzzer; it never
//! panics and reads no more than the limits below.
//!
//! | key | value | without it |
//! | --- | --- | --- |
//! | `sender` | the reverse-path; empty for the null sender | the file is corrupt |
//! | `arrival` | both clocks when the message was accepted | the file is corrupt |
//! | `origin` | where the message came from, for the log | empty |
//! | `digest` | when the digest leaves, and its group | the message does not wait for a digest |
//! | `dated` | both clocks when this host wrote the `Date:` field | another host wrote it |
//! | `body`, `smtputf8`, `requiretls` | parameters of MAIL (RFC 6152, RFC 6531, RFC 8689) | not given |
//! | `own` | `yes`: it comes from a sender that may speak for this host, so it is repaired, rewritten and signed | it is in transit |
//! | `urgent` | `yes`: it leaves even by a metered link | the schedule applies |
//! | `ret`, `envid` | parameters of MAIL (RFC 3461 §4.3, §4.4) | not given |
//! | `to` | a recipient | – |
//! | `orcpt`, `notify` | its parameters of RCPT (RFC 3461 §4.1, §4.2) | not given |
//! | `leaves` | `yes`: the recipient leaves this host although its domain is local | its domain decides |

use super::journal::{JournalRecord, Progress, records, replay};
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::{Now, micros};
use crate::mail::envelope::{Body, Envelope, Notify, Recipient, Ret};
use crate::store::text::{parse_now, print_now, push_line, unescape};
use std::fmt::Write;
use std::io;
use std::time::Duration;

/// The octets of the first line, including its line end.
pub(super) const HEADER_OCTETS: usize = 98;
/// Far more than the limits on recipients and parameters allow.
pub(super) const ENVELOPE_MAX_OCTETS: usize = 16 << 20;
/// Several times what a hundred recipients with the longest replies collect in five days. The rest is not read.
const JOURNAL_MAX_OCTETS: usize = 64 << 20;
/// How many octets are read at once: most files need no second read.
const READ_OCTETS: usize = 8 * 1024;

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub envelope_octets: usize,
    pub message_octets: u64,
    pub message_lines: u64,
    pub envelope_crc: u32,
    pub message_crc: u32,
}

impl Header {
    pub fn print(&self) -> String {
        let mut line = format!(
            "pillarbox-queue 1 {:010} {:020} {:020} {:08x} {:08x} ",
            self.envelope_octets,
            self.message_octets,
            self.message_lines,
            self.envelope_crc,
            self.message_crc
        );
        let crc = crate::store::crc::hash(line.as_bytes());
        // Writing to a String cannot fail; the same applies below.
        let _ = writeln!(line, "{crc:08x}");
        line
    }

    fn parse(octets: &[u8]) -> Result<Self, LoadError> {
        let damaged = LoadError::Corrupt("its first line is damaged");
        let text = octets.get(..HEADER_OCTETS).and_then(|line| std::str::from_utf8(line).ok());
        let Some(text) = text else { return Err(damaged) };
        let Some(fields) = text.strip_prefix("pillarbox-queue 1 ") else {
            let other = text.starts_with("pillarbox-queue ");
            return Err(if other { LoadError::Corrupt("its format version is not 1") } else { damaged });
        };
        let mut fields = fields.split(' ');
        let mut next = || fields.next().unwrap_or_default();
        let header = (|| {
            Some(Self {
                envelope_octets: next().parse().ok()?,
                message_octets: next().parse().ok()?,
                message_lines: next().parse().ok()?,
                envelope_crc: u32::from_str_radix(next(), 16).ok()?,
                message_crc: u32::from_str_radix(next(), 16).ok()?,
            })
        })();
        // Printing the line again compares the checksum and every other octet.
        header.filter(|header| header.print() == text).ok_or(damaged)
    }

    /// The offset of the message in the file.
    pub const fn message_offset(&self) -> u64 {
        (HEADER_OCTETS + self.envelope_octets) as u64
    }
}

/// What a queue file says about its message, without the message and its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Sender, recipients and options.
    pub envelope: Envelope,
    /// Where the message came from, for the log.
    pub origin: String,
    /// When the message was accepted.
    pub arrival: Now,
    /// Set if the message waits to leave in a digest. A version without digests sends it on its own.
    pub digest: Option<Collected>,
    /// When this host wrote the `Date:` field; `None` if another host did.
    pub dated: Option<Now>,
}

/// The digest that a message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collected {
    /// The running time at which the digest leaves.
    pub until: Duration,
    /// A hash of what the messages of the digest have in common.
    pub group: u128,
}

impl Description {
    /// Prints the description as the file holds it.
    #[must_use]
    pub fn print(&self) -> String {
        let envelope = &self.envelope;
        let mut text = String::new();
        let mut line = |key: &str, value: &str| push_line(key, value, &mut text);
        let mut arrival = String::new();
        print_now(self.arrival, &mut arrival);
        line("sender", &envelope.reverse_path.to_string());
        line("arrival", &arrival);
        line("origin", &self.origin);
        if let Some(Collected { until, group }) = self.digest {
            line("digest", &format!("{} {group:032x}", micros(until)));
        }
        if let Some(dated) = self.dated {
            let mut text = String::new();
            print_now(dated, &mut text);
            line("dated", &text);
        }
        if envelope.body == Body::EightBitMime {
            line("body", "8bitmime");
        }
        if envelope.smtputf8 {
            line("smtputf8", "yes");
        }
        if envelope.require_tls {
            line("requiretls", "yes");
        }
        if envelope.is_own {
            line("own", "yes");
        }
        if envelope.is_urgent {
            line("urgent", "yes");
        }
        if let Some(ret) = envelope.ret {
            line("ret", if ret == Ret::Full { "full" } else { "hdrs" });
        }
        if let Some(envid) = &envelope.envid {
            line("envid", envid);
        }
        for recipient in &envelope.recipients {
            line("to", &recipient.mailbox.to_string());
            if let Some(orcpt) = &recipient.orcpt {
                line("orcpt", orcpt);
            }
            if let Some(notify) = recipient.notify {
                line("notify", &print_notify(notify));
            }
            if recipient.leaves {
                line("leaves", "yes");
            }
        }
        text
    }

    pub(super) fn parse(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut envelope = Envelope::new(ReversePath::Null);
        let (mut sender, mut arrival, mut origin) = (None, None, String::new());
        let (mut digest, mut dated) = (None, None);
        for line in text.lines() {
            let (key, value) = line.split_once('=')?;
            let value = unescape(value)?;
            match key {
                "sender" => sender = Some(ReversePath::parse(&value).ok()?),
                "arrival" => arrival = Some(parse_now(&value)?),
                "origin" => origin = value,
                "digest" => digest = parse_digest(&value),
                "dated" => dated = parse_now(&value),
                "body" => envelope.body = Body::EightBitMime,
                "smtputf8" => envelope.smtputf8 = true,
                "requiretls" => envelope.require_tls = true,
                "own" => envelope.is_own = true,
                "urgent" => envelope.is_urgent = true,
                "ret" => envelope.ret = Some(if value == "full" { Ret::Full } else { Ret::Headers }),
                "envid" => envelope.envid = Some(value),
                "to" => envelope.recipients.push(Recipient::new(Mailbox::parse(&value).ok()?)),
                "orcpt" => envelope.recipients.last_mut()?.orcpt = Some(value),
                "notify" => envelope.recipients.last_mut()?.notify = Some(parse_notify(&value)),
                "leaves" => envelope.recipients.last_mut()?.leaves = true,
                _ => {}
            }
        }
        envelope.reverse_path = sender?;
        Some(Self { envelope, origin, arrival: arrival?, digest, dated })
    }
}

/// A later version may write this differently: then the message does not wait.
fn parse_digest(text: &str) -> Option<Collected> {
    let (until, group) = text.split_once(' ')?;
    let until = Duration::from_micros(until.parse().ok()?);
    Some(Collected { until, group: u128::from_str_radix(group, 16).ok()? })
}

pub(in crate::store) fn print_notify(notify: Notify) -> String {
    let words = [(notify.success, "success"), (notify.failure, "failure"), (notify.delay, "delay")];
    let words: Vec<_> = words.iter().filter(|(set, _)| *set).map(|&(_, word)| word).collect();
    if words.is_empty() { "never".to_owned() } else { words.join(",") }
}

pub(in crate::store) fn parse_notify(text: &str) -> Notify {
    let has = |word| text.split(',').any(|w| w == word);
    Notify { success: has("success"), failure: has("failure"), delay: has("delay") }
}

/// Why a queue file could not be loaded.
#[derive(Debug)]
pub(super) enum LoadError {
    /// The file could not be read; it may be intact.
    Io(io::Error),
    /// The file was read, and is damaged.
    Corrupt(&'static str),
}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The whole queue file, except the message.
#[derive(Debug)]
pub(super) struct Loaded {
    pub header: Header,
    pub description: Description,
    pub progress: Vec<Progress>,
    pub damaged_records: usize,
}

/// Reads from an offset into a buffer, and returns the number of octets; 0 at the end of the file.
pub(super) type ReadAt<'a> = &'a dyn Fn(&mut [u8], u64) -> io::Result<usize>;

/// Reads everything except the message from a file of `size` octets, with one call for a small file.
pub(super) fn load(read_at: ReadAt<'_>, size: u64) -> Result<Loaded, LoadError> {
    let (header, description, journal) = read_parts(read_at, size)?;
    let mut progress = vec![Progress::default(); description.envelope.recipients.len()];
    let damaged_records = replay(&journal, &mut progress);
    Ok(Loaded { header, description, progress, damaged_records })
}

/// Reads only the journal.
pub(super) fn load_records(read_at: ReadAt<'_>, size: u64) -> Result<Vec<JournalRecord>, LoadError> {
    read_parts(read_at, size).map(|(_, _, journal)| records(&journal))
}

/// Nothing is read beyond `size`: looking for the end of the file would cost another call.
fn read_parts(read_at: ReadAt<'_>, size: u64) -> Result<(Header, Description, Vec<u8>), LoadError> {
    let left = |offset: u64| usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut start = read_range(read_at, 0, READ_OCTETS.min(left(0)))?;
    let header = Header::parse(&start)?;
    let whole = start.len() < READ_OCTETS || left(0) == READ_OCTETS;
    if header.envelope_octets > ENVELOPE_MAX_OCTETS {
        return Err(LoadError::Corrupt("its envelope is too long"));
    }
    let envelope_end = HEADER_OCTETS + header.envelope_octets;
    if envelope_end > start.len() && !whole {
        let more = read_range(
            read_at,
            start.len() as u64,
            (envelope_end - start.len()).min(left(start.len() as u64)),
        )?;
        start.extend_from_slice(&more);
    }
    let description = start
        .get(HEADER_OCTETS..envelope_end)
        .filter(|envelope| crate::store::crc::hash(envelope) == header.envelope_crc)
        .and_then(Description::parse)
        .ok_or(LoadError::Corrupt("its envelope is damaged"))?;
    let journal_offset = header.message_offset().saturating_add(header.message_octets);
    let rest = usize::try_from(journal_offset).ok().and_then(|offset| start.get(offset..));
    let journal = match rest {
        Some(journal) if whole => journal.to_vec(),
        None if whole => return Err(LoadError::Corrupt("its message is truncated")),
        _ => {
            // Read with the octet before it: if that octet is missing, the message is truncated.
            let begin = journal_offset - 1;
            let end = read_range(read_at, begin, JOURNAL_MAX_OCTETS.min(left(begin)))?;
            let (_, journal) = end.split_first().ok_or(LoadError::Corrupt("its message is truncated"))?;
            journal.to_vec()
        }
    };
    Ok((header, description, journal))
}

/// Reads up to `octets` octets; fewer only at the end of the file. A short read does not prove that end: a network
/// file system may answer in pieces, and an intact file must not be taken for a damaged one.
fn read_range(read_at: ReadAt<'_>, offset: u64, octets: usize) -> io::Result<Vec<u8>> {
    let (mut range, mut buffer) = (Vec::new(), [0; READ_OCTETS]);
    while range.len() < octets {
        let wanted = buffer.len().min(octets - range.len());
        let room = buffer.get_mut(..wanted).unwrap_or_default();
        match read_at(room, offset.saturating_add(range.len() as u64)) {
            Ok(0) => break,
            Ok(read) => range.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(range)
}

/// Reads from octets in memory as from a file.
pub(super) fn octets_at(octets: &[u8]) -> impl Fn(&mut [u8], u64) -> io::Result<usize> {
    |buffer, offset| {
        let rest = usize::try_from(offset).ok().and_then(|offset| octets.get(offset..)).unwrap_or_default();
        let size = rest.len().min(buffer.len());
        if let (Some(buffer), Some(rest)) = (buffer.get_mut(..size), rest.get(..size)) {
            buffer.copy_from_slice(rest);
        }
        Ok(size)
    }
}

/// Parses the octets of a queue file as [`super::Queue`] parses a file: for tests and the fuzzer.
///
/// # Errors
/// The reason why it is not an intact queue file. The checksum of the message is not compared.
pub fn parse_file(octets: &[u8]) -> Result<(Description, Vec<Progress>), &'static str> {
    match load(&octets_at(octets), octets.len() as u64) {
        Ok(loaded) => Ok((loaded.description, loaded.progress)),
        Err(LoadError::Corrupt(reason)) => Err(reason),
        Err(LoadError::Io(_)) => Err("it can't be read"),
    }
}

#[cfg(test)]
pub(super) mod tests;
