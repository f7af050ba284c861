//! The repair of this host's own mail as it comes in; mail in transit is never repaired (RFC 6409 §8).
//!
//! | field | always | with `rewrite.repair` |
//! | --- | --- | --- |
//! | Bcc, Resent-Bcc | removed: the other recipients must not see these names (RFC 5322 §3.6.3) | |
//! | Date, Message-ID, From, MIME-Version | | added at the end of the header section, if missing |
//! | To | | `undisclosed-recipients:;` is added, if Cc is missing, too |
//! | a second To or Cc | | merged into the first one (RFC 5322 §3.6) |
//! | a second of another field that may occur once | | removed: the first one counts |
//! | an empty field, a Message-ID without `<…>` | | removed; an empty Subject is added at the end, if there is no other |
//! | To and Cc with `;` instead of commas, or without any | | written as they were read |
//! | a From or Sender with a comma in its name | | the name gets quotes |
//! | a bare address | | gets the domain of this host |
//! | blanks before a colon | | removed |
//!
//! New fields stand at the end, so that the order of the other fields, and signatures over them, stay valid. In
//! Resent- fields, of which there may be several blocks, only the first block gets domains: it is the one being
//! submitted (RFC 5322 §3.6.6). A value that is no address list stays unchanged, octet for octet; it is neither
//! merged nor a target of a merge.
//!
//! The body is not known yet when the header section is passed on. So text without MIME-Version is declared as
//! `text/plain; charset=utf-8` with `8bit`: right for ASCII as well, and the most likely answer for other text. An
//! existing Content-Type or Content-Transfer-Encoding stays and takes effect through the new MIME-Version.
//!
//! A message with Resent- fields was written by another author before, so nothing is added: the resender's program
//! completes the block, and a field at the end of the header section would not belong to it.
//!
//! The header section ends where sendmail ends it: at the empty line, or before the first line that is no field. In
//! the second case an empty line is inserted, so that no later reader treats an unchecked line as a field.
//!
//! The filter takes octets in canonical form (see [`crate::mail::message`]) in pieces of any size. It holds one
//! field, and the header section after a To or Cc, each up to [`HELD_MAX_OCTETS`]. A longer field passes unchanged.
//!
//! # The states of the filter
//!
//! | state | takes | then |
//! | --- | --- | --- |
//! | `Name` | octets up to the colon, and holds them | the table of fields decides: `Pass`, `Drop` or `Hold`; without a colon, `Body` |
//! | `Pass` | the rest of the field | passes it on |
//! | `Drop` | the rest of the field | drops it |
//! | `Hold` | the rest of the field | at its end the field is repaired and passed on |
//! | `Body` | everything else | passes it on |
//!
//! # An example
//!
//! ```text
//! To: joe                                    To: joe@router.lan
//! Bcc: mia
//! Subject: disk full                         Subject: disk full
//!                                            Date: Mon, 23 Nov 2026 10:00:00 +0000
//!                                            Message-ID: <CR7D4E9DEKBP3@router.lan>
//!                                            From: root@router.lan
//!                                            MIME-Version: 1.0
//!                                            Content-Type: text/plain; charset=utf-8
//!                                            Content-Transfer-Encoding: 8bit
//!
//! /dev/sda1 is full                          /dev/sda1 is full
//! ```

mod values;

use self::values::{is_bare, is_void, is_whole, named, tidied};
use crate::mail::address::ReversePath;
use crate::mail::address_list;
use crate::mail::date::WallTime;
use crate::mail::header::split_field;
use crate::mail::id::QueueId;
use memchr::{memchr, memchr2};
use std::fmt::Write;

/// The longest field that is held; a longer one passes unchanged. A line of this length without a colon is no field.
pub const HELD_MAX_OCTETS: usize = 64 * 1024;

/// How a field is repaired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// It passes; its presence is remembered.
    Note,
    /// Only the first one stays.
    Once,
    /// Only the first one stays, and its bare addresses get a domain.
    Author,
    /// All are merged into one, and bare addresses get a domain.
    List,
    /// All stay, and the bare addresses of the first one get a domain.
    Resent,
    /// It is removed.
    Remove,
}

/// The fields that are treated; all others pass.
const FIELDS: [(&str, Treatment); 24] = [
    ("Date", Treatment::Once),
    ("Message-ID", Treatment::Once),
    ("From", Treatment::Author),
    ("Sender", Treatment::Author),
    ("Reply-To", Treatment::Author),
    ("To", Treatment::List),
    ("Cc", Treatment::List),
    ("Bcc", Treatment::Remove),
    ("Subject", Treatment::Once),
    ("In-Reply-To", Treatment::Once),
    ("References", Treatment::Once),
    ("MIME-Version", Treatment::Once),
    ("Content-Type", Treatment::Once),
    ("Content-Transfer-Encoding", Treatment::Once),
    ("Content-ID", Treatment::Once),
    ("Content-Description", Treatment::Once),
    ("Content-Disposition", Treatment::Once),
    ("Resent-Date", Treatment::Note),
    ("Resent-Message-ID", Treatment::Note),
    ("Resent-From", Treatment::Resent),
    ("Resent-Sender", Treatment::Resent),
    ("Resent-To", Treatment::Resent),
    ("Resent-Cc", Treatment::Resent),
    ("Resent-Bcc", Treatment::Remove),
];

/// The inputs of a repair.
#[derive(Debug, Clone)]
pub struct RepairFacts {
    /// Whether more is repaired than Bcc (`rewrite.repair`).
    pub is_on: bool,
    /// The domain of this host in ASCII: for bare addresses, Message-ID, and From if the sender is null.
    pub domain: String,
    /// The queue id, for Message-ID.
    pub id: QueueId,
    /// The time for Date.
    pub date: WallTime,
    /// The reverse-path, for From.
    pub reverse_path: ReversePath,
}

/// The position of the filter in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RepairState {
    /// In the name of a field, which is held until its colon.
    Name,
    /// In a field that passes.
    Pass,
    /// In a field that is removed.
    Drop,
    /// In a field that is held.
    Hold,
    /// After the header section.
    Body,
}

/// The row of a field in [`FIELDS`], or the number of rows for any other field.
fn row_of(name: &[u8]) -> usize {
    let is_row = |row: &(&str, Treatment)| name.eq_ignore_ascii_case(row.0.as_bytes());
    FIELDS.iter().position(is_row).unwrap_or(FIELDS.len())
}

/// A To or Cc into which later ones are merged.
#[derive(Debug)]
struct OpenList {
    row: usize,
    /// The offset in `waiting` at which it ends.
    end: usize,
    /// Whether it is an address list.
    is_sound: bool,
}

/// The filter for one message.
#[derive(Debug)]
pub struct Repair {
    facts: RepairFacts,
    state: RepairState,
    /// The held part of a field, from its name on.
    held: Vec<u8>,
    /// The row of that field.
    row: usize,
    /// Output from the first of `lists` on, which waits for the end of the header section.
    waiting: Vec<u8>,
    lists: Vec<OpenList>,
    is_at_line_start: bool,
    /// One bit for each row of [`FIELDS`] that was seen and kept.
    seen: u32,
    has_empty_subject: bool,
    has_dated: bool,
}

impl Repair {
    /// A filter for one message.
    #[must_use]
    pub const fn new(facts: RepairFacts) -> Self {
        Self {
            facts,
            state: RepairState::Name,
            held: Vec::new(),
            row: FIELDS.len(),
            waiting: Vec::new(),
            lists: Vec::new(),
            is_at_line_start: false,
            seen: 0,
            has_empty_subject: false,
            has_dated: false,
        }
    }

    /// Whether the filter has added the Date.
    #[must_use]
    pub const fn has_dated(&self) -> bool {
        self.has_dated
    }

    /// Whether the header section is over: the rest passes unchanged and need not be fed.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        self.state == RepairState::Body
    }

    /// Takes the next piece of the content and appends the result to `out`.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while !rest.is_empty() {
            let used = match self.state {
                RepairState::Body => {
                    out.extend_from_slice(rest);
                    return;
                }
                RepairState::Name => self.feed_name(rest, out),
                RepairState::Pass | RepairState::Drop | RepairState::Hold => self.feed_field(rest, out),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// Ends the content and appends what is missing.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            RepairState::Body => return,
            RepairState::Name => {}
            RepairState::Pass | RepairState::Drop | RepairState::Hold => {
                // The last line has no line end.
                if !self.is_at_line_start {
                    self.feed_field(b"\n", out);
                }
                self.end_field(out);
            }
        }
        self.end_header(out);
    }

    /// Takes octets up to the colon, or to the end of a line without one. Returns their number.
    fn feed_name(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let room = rest.get(..HELD_MAX_OCTETS.saturating_sub(self.held.len())).unwrap_or(rest);
        let end = memchr2(b':', b'\n', room);
        let name = end.and_then(|at| room.get(..=at)).unwrap_or(room);
        self.held.extend_from_slice(name);
        if end.is_some() || self.held.len() >= HELD_MAX_OCTETS {
            self.begin_field(out);
        }
        name.len()
    }

    fn begin_field(&mut self, out: &mut Vec<u8>) {
        let Some((name, _)) = split_field(&self.held) else {
            self.end_header(out);
            return;
        };
        self.row = row_of(name);
        let name_octets = name.len();
        let is_first = !self.has_seen(self.row);
        self.is_at_line_start = false;
        self.state = match FIELDS.get(self.row).map(|row| row.1) {
            Some(Treatment::Remove) => RepairState::Drop,
            _ if !self.facts.is_on => RepairState::Pass,
            Some(Treatment::Once | Treatment::Author) if !is_first => RepairState::Drop,
            Some(Treatment::Once | Treatment::Author | Treatment::List) => RepairState::Hold,
            Some(Treatment::Resent) if is_first => RepairState::Hold,
            Some(Treatment::Note | Treatment::Resent) | None => RepairState::Pass,
        };
        if self.facts.is_on {
            // Blanks before the colon are obsolete (RFC 5322 §4.5), and some readers reject them.
            self.held.truncate(name_octets);
            self.held.push(b':');
        }
        match self.state {
            RepairState::Hold => {}
            RepairState::Drop => self.held.clear(),
            _ => self.release(out),
        }
    }

    fn has_seen(&self, row: usize) -> bool {
        row < FIELDS.len() && self.seen & (1 << row) != 0
    }

    /// Remembers that the field stays.
    fn note(&mut self) {
        if self.row < FIELDS.len() {
            self.seen |= 1 << self.row;
        }
    }

    /// Takes the rest of a line of a field. Returns the number of octets.
    fn feed_field(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        if self.is_at_line_start && !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
            self.end_field(out);
            return 0;
        }
        let end = memchr(b'\n', rest);
        let line = end.and_then(|at| rest.get(..=at)).unwrap_or(rest);
        self.is_at_line_start = end.is_some();
        match self.state {
            RepairState::Hold => self.held.extend_from_slice(line),
            RepairState::Drop => {}
            _ => self.pass(line, out),
        }
        if self.held.len() > HELD_MAX_OCTETS {
            self.release(out);
            self.state = RepairState::Pass;
        }
        line.len()
    }

    fn end_field(&mut self, out: &mut Vec<u8>) {
        if self.state == RepairState::Hold {
            let field = std::mem::take(&mut self.held);
            self.judge(field, out);
        }
        self.state = RepairState::Name;
    }

    /// Passes on the held part unchanged.
    fn release(&mut self, out: &mut Vec<u8>) {
        self.note();
        // The buffer is used again for the next field.
        let mut held = std::mem::take(&mut self.held);
        self.pass(&held, out);
        held.clear();
        self.held = held;
    }

    /// Passes on finished octets, or lets them wait.
    fn pass(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        if self.lists.is_empty() {
            return out.extend_from_slice(octets);
        }
        self.waiting.extend_from_slice(octets);
        if self.waiting.len() > HELD_MAX_OCTETS {
            self.flush(out);
        }
    }

    /// Passes on everything that waits.
    fn flush(&mut self, out: &mut Vec<u8>) {
        self.lists.clear();
        out.extend_from_slice(&std::mem::take(&mut self.waiting));
    }

    /// Passes on a complete held field, if it stays.
    fn judge(&mut self, field: Vec<u8>, out: &mut Vec<u8>) {
        let value = split_field(&field).map_or(&[][..], |(_, value)| value);
        let (name, treatment) = FIELDS.get(self.row).map_or(("", Treatment::Note), |row| *row);
        // A resent message keeps the name that it has: no other is added to it.
        let is_kept = treatment == Treatment::Resent || name == "Message-ID" && self.is_resent();
        if !is_kept && is_void(name, value) {
            self.has_empty_subject |= self.row == row_of(b"Subject");
            return;
        }
        let is_list = treatment == Treatment::List;
        let field = match treatment {
            Treatment::Once => field,
            Treatment::List => self.qualified(&tidied(&field).unwrap_or(field)),
            // Replies may go to several.
            Treatment::Author if name != "Reply-To" => self.qualified(&named(&field).unwrap_or(field)),
            _ => self.qualified(&field),
        };
        let value = split_field(&field).map_or(&[][..], |(_, value)| value);
        let is_sound = is_list && is_whole(&address_list::read(value));
        if is_list && self.has_seen(self.row) {
            return self.merge(&field, is_sound, out);
        }
        self.note();
        let start = self.waiting.len();
        if is_list {
            let end = start + field.trim_ascii_end().len();
            self.lists.push(OpenList { row: self.row, end, is_sound });
        }
        self.pass(&field, out);
    }

    /// Merges a list into the first one of its name. If that has been passed on already, the list passes, too.
    fn merge(&mut self, field: &[u8], is_sound: bool, out: &mut Vec<u8>) {
        let Some(first) = self.lists.iter().position(|list| list.row == self.row) else {
            return self.pass(field, out);
        };
        let value = split_field(field).map_or(&[][..], |(_, value)| value);
        let Some(OpenList { end, is_sound: true, .. }) = self.lists.get(first).filter(|_| is_sound) else {
            return;
        };
        let (end, addition) = (*end, [b",\n ", value.trim_ascii()].concat());
        self.waiting.splice(end..end, addition.iter().copied());
        for list in self.lists.iter_mut().filter(|list| list.end >= end) {
            list.end += addition.len();
        }
        if self.waiting.len() > HELD_MAX_OCTETS {
            self.flush(out);
        }
    }

    /// Appends this host's domain to each bare address of a field.
    fn qualified(&self, field: &[u8]) -> Vec<u8> {
        let value = split_field(field).map_or(&[][..], |(_, value)| value);
        let start = field.len() - value.len();
        let (mut new, mut done) = (Vec::with_capacity(field.len()), 0);
        for span in address_list::spans(value).unwrap_or_default() {
            if span.domain.is_none() && value.get(span.local_part.clone()).is_some_and(is_bare) {
                let end = start + span.local_part.end;
                new.extend_from_slice(field.get(done..end).unwrap_or_default());
                new.push(b'@');
                new.extend_from_slice(self.facts.domain.as_bytes());
                done = end;
            }
        }
        new.extend_from_slice(field.get(done..).unwrap_or_default());
        new
    }

    /// Ends the header section. `held` is the start of the line that ended it, or empty if the content is over.
    fn end_header(&mut self, out: &mut Vec<u8>) {
        self.flush(out);
        out.extend_from_slice(self.missing().as_bytes());
        out.push(b'\n');
        if self.held != b"\n" {
            out.extend_from_slice(&self.held);
        }
        self.held = Vec::new();
        self.state = RepairState::Body;
    }

    fn is_resent(&self) -> bool {
        FIELDS.iter().enumerate().any(|(row, field)| field.0.starts_with("Resent-") && self.has_seen(row))
    }

    /// The fields that the header section lacks.
    fn missing(&mut self) -> String {
        let lacks = |name: &str| !self.has_seen(row_of(name.as_bytes()));
        let is_resent = self.is_resent();
        let mut fields = String::new();
        if self.facts.is_on && !is_resent {
            self.add_missing(&lacks, &mut fields);
        }
        if self.has_empty_subject && lacks("Subject") {
            fields.push_str("Subject:\n");
        }
        self.has_dated = self.facts.is_on && !is_resent && lacks("Date");
        fields
    }

    fn add_missing(&self, lacks: &dyn Fn(&str) -> bool, fields: &mut String) {
        let RepairFacts { domain, id, date, reverse_path, .. } = &self.facts;
        // Writing to a String cannot fail; the same holds below.
        if lacks("Date") {
            let _ = writeln!(fields, "Date: {}", date.to_rfc5322());
        }
        if lacks("Message-ID") {
            let _ = writeln!(fields, "Message-ID: <{id}@{domain}>");
        }
        if lacks("From") {
            let _ = match reverse_path {
                ReversePath::Mailbox(mailbox) => writeln!(fields, "From: {mailbox}"),
                ReversePath::Null => writeln!(fields, "From: MAILER-DAEMON@{domain}"),
            };
        }
        if lacks("To") && lacks("Cc") {
            fields.push_str("To: undisclosed-recipients:;\n");
        }
        if lacks("MIME-Version") {
            fields.push_str("MIME-Version: 1.0\n");
            if lacks("Content-Type") {
                fields.push_str("Content-Type: text/plain; charset=utf-8\n");
            }
            if lacks("Content-Transfer-Encoding") {
                fields.push_str("Content-Transfer-Encoding: 8bit\n");
            }
        }
    }
}

#[cfg(test)]
mod tests;
