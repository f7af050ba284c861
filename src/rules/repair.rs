//! What is done to a message that this host's own clients submit, and never to mail in transit (RFC 6409 §8).
//!
//! - Bcc and Resent-Bcc are taken out, always: whoever they name must not be told to the others (RFC 5322 §3.6.3).
//! - With `rewrite.repair`, what the header section lacks is added at its end, so that the order of the fields, and
//!   signatures over them, stay what they were: Date, Message-ID and From; To, if there is no Cc either; MIME-Version.
//! - Then, too, bare addresses get the domain of this host, in the first field of each name: a second one is not allowed,
//!   save for Resent- fields, whose first block is the one that is submitted now (RFC 5322 §3.6.6). A value that is no
//!   address list stays as it is, octet for octet.
//!
//! The body is not known when the header section has to go on. So text without MIME-Version is declared as what it is in
//! our time, `text/plain; charset=utf-8` with `8bit`: right for ASCII as well, and the only chance that a reader has for
//! the rest. A Content-Type or Content-Transfer-Encoding that is there stays, and begins to count by the MIME-Version.
//!
//! A message with Resent- fields was written by somebody else before: it gets nothing. Its resender's program makes the
//! block whole, and a field at the end of the header section would not belong to that block.
//!
//! The header section ends where sendmail ends it: at the empty line, or in front of the first line that is no field.
//! An empty line is put there, so that nobody behind us takes for a field what was not looked at here.
//!
//! A filter for octets in canonical form (see [`crate::mail::message`]) in pieces of any size. It holds the name of a field
//! and fields with addresses, up to [`HELD_MAX_OCTETS`], and passes on all else at once. Nothing fails.

use crate::mail::address::{LocalPart, ReversePath};
use crate::mail::address_list;
use crate::mail::date::WallTime;
use crate::mail::header::split_field;
use crate::mail::id::QueueId;
use std::fmt::Write;

/// Fields with addresses are held up to this size; longer ones pass as they are. A line that is longer without a colon
/// is no field.
pub const HELD_MAX_OCTETS: usize = 64 * 1024;

/// What is done to a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    /// It passes; that it was there is remembered.
    Note,
    /// Its bare addresses get a domain.
    Qualify,
    /// It is taken out.
    Remove,
}

/// The fields that mean something here; all others pass.
const FIELDS: [(&str, Treatment); 18] = [
    ("Date", Treatment::Note),
    ("Message-ID", Treatment::Note),
    ("From", Treatment::Qualify),
    ("Sender", Treatment::Qualify),
    ("Reply-To", Treatment::Qualify),
    ("To", Treatment::Qualify),
    ("Cc", Treatment::Qualify),
    ("Bcc", Treatment::Remove),
    ("MIME-Version", Treatment::Note),
    ("Content-Type", Treatment::Note),
    ("Content-Transfer-Encoding", Treatment::Note),
    ("Resent-Date", Treatment::Note),
    ("Resent-Message-ID", Treatment::Note),
    ("Resent-From", Treatment::Qualify),
    ("Resent-Sender", Treatment::Qualify),
    ("Resent-To", Treatment::Qualify),
    ("Resent-Cc", Treatment::Qualify),
    ("Resent-Bcc", Treatment::Remove),
];

/// What the repair of a message needs to know of the world.
#[derive(Debug, Clone)]
pub struct RepairFacts {
    /// More is done than to take Bcc out (`rewrite.repair`).
    pub is_on: bool,
    /// The domain of this host in ASCII: of bare addresses, of Message-ID, and of From if there is no sender.
    pub domain: String,
    /// For Message-ID.
    pub id: QueueId,
    /// For Date.
    pub date: WallTime,
    /// For From.
    pub reverse_path: ReversePath,
}

/// Where in the message the filter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the name of a field, which is held until its colon.
    Name,
    /// In a field that passes.
    Pass,
    /// In a field that is taken out.
    Drop,
    /// In a field that is held.
    Hold,
    /// Behind the header section.
    Body,
}

/// The filter for one message.
#[derive(Debug)]
pub struct Repair {
    facts: RepairFacts,
    state: State,
    /// What is held of a field, from its name on.
    held: Vec<u8>,
    is_at_line_start: bool,
    /// Nothing has passed yet.
    is_first_line: bool,
    /// A bit for each row of [`FIELDS`] that was there and was kept.
    seen: u32,
}

impl Repair {
    /// A filter at the start of a message.
    #[must_use]
    pub const fn new(facts: RepairFacts) -> Self {
        Self {
            facts,
            state: State::Name,
            held: Vec::new(),
            is_at_line_start: false,
            is_first_line: true,
            seen: 0,
        }
    }

    /// Whether the header section is over: all that follows passes as it is, and need not be fed.
    #[must_use]
    pub fn is_in_body(&self) -> bool {
        self.state == State::Body
    }

    /// Takes the next piece of the content, and appends to `out` what becomes of it.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let mut rest = octets;
        while !rest.is_empty() {
            let used = match self.state {
                State::Body => {
                    out.extend_from_slice(rest);
                    return;
                }
                State::Name => self.feed_name(rest, out),
                State::Pass | State::Drop | State::Hold => self.feed_field(rest, out),
            };
            rest = rest.get(used..).unwrap_or_default();
        }
    }

    /// The content is over; appends what it still lacks.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Body => return,
            State::Name => {}
            State::Pass | State::Drop | State::Hold => {
                // A last line without its end.
                if !self.is_at_line_start {
                    self.feed_field(b"\n", out);
                }
                self.end_field(out);
            }
        }
        self.end_header(out);
    }

    /// Takes octets up to the colon, or to the end of a line that has none; tells how many.
    fn feed_name(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let room = rest.get(..HELD_MAX_OCTETS.saturating_sub(self.held.len())).unwrap_or(rest);
        let end = room.iter().position(|&octet| octet == b':' || octet == b'\n');
        let name = end.and_then(|at| room.get(..=at)).unwrap_or(room);
        self.held.extend_from_slice(name);
        if end.is_some() || self.held.len() >= HELD_MAX_OCTETS {
            self.begin_field(out);
        }
        name.len()
    }

    fn begin_field(&mut self, out: &mut Vec<u8>) {
        let is_first_line = std::mem::replace(&mut self.is_first_line, false);
        let Some((name, _)) = split_field(&self.held) else {
            if is_first_line && self.held.starts_with(b"From ") {
                // The line between the messages of an mbox: taken for the end of the header, it would let a Bcc pass.
                self.is_at_line_start = self.held.ends_with(b"\n");
                self.held.clear();
                self.state = State::Drop;
                return;
            }
            self.end_header(out);
            return;
        };
        let is_row = |row: &(&str, Treatment)| name.eq_ignore_ascii_case(row.0.as_bytes());
        let row = FIELDS.iter().position(is_row);
        let treatment = row.and_then(|row| FIELDS.get(row)).map(|row| row.1);
        let bit = row.map_or(0, |row| 1 << row);
        let is_first = self.seen & bit == 0;
        self.is_at_line_start = false;
        self.state = match treatment {
            Some(Treatment::Remove) => State::Drop,
            Some(Treatment::Qualify) if self.facts.is_on && is_first => State::Hold,
            _ => State::Pass,
        };
        if self.state != State::Drop {
            self.seen |= bit;
        }
        match self.state {
            State::Hold => {}
            State::Drop => self.held.clear(),
            _ => self.release(out),
        }
    }

    /// Takes the rest of a line of a field; tells how many octets that were.
    fn feed_field(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        if self.is_at_line_start && !rest.starts_with(b" ") && !rest.starts_with(b"\t") {
            self.end_field(out);
            return 0;
        }
        let end = rest.iter().position(|&octet| octet == b'\n');
        let line = end.and_then(|at| rest.get(..=at)).unwrap_or(rest);
        self.is_at_line_start = end.is_some();
        match self.state {
            State::Hold => self.held.extend_from_slice(line),
            State::Drop => {}
            _ => out.extend_from_slice(line),
        }
        if self.held.len() > HELD_MAX_OCTETS {
            self.release(out);
            self.state = State::Pass;
        }
        line.len()
    }

    fn end_field(&mut self, out: &mut Vec<u8>) {
        if self.state == State::Hold {
            self.qualify(out);
        }
        self.state = State::Name;
    }

    /// Hands on what is held, as it is.
    fn release(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.held);
        self.held.clear();
    }

    /// Hands on the field that is held, with the domain behind each bare address.
    fn qualify(&mut self, out: &mut Vec<u8>) {
        let value = split_field(&self.held).map_or(&[][..], |(_, value)| value);
        let start = self.held.len() - value.len();
        let mut done = 0;
        for span in address_list::spans(value).unwrap_or_default() {
            if span.domain.is_none() && value.get(span.local_part.clone()).is_some_and(is_bare) {
                let end = start + span.local_part.end;
                out.extend_from_slice(self.held.get(done..end).unwrap_or_default());
                out.push(b'@');
                out.extend_from_slice(self.facts.domain.as_bytes());
                done = end;
            }
        }
        out.extend_from_slice(self.held.get(done..).unwrap_or_default());
        self.held.clear();
    }

    /// `held` is the line that ended the header section, as far as it has come; nothing, if the content is over.
    fn end_header(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.missing().as_bytes());
        out.push(b'\n');
        if self.held != b"\n" {
            out.extend_from_slice(&self.held);
        }
        self.held = Vec::new();
        self.state = State::Body;
    }

    /// The fields that the header section lacks.
    fn missing(&self) -> String {
        let mut fields = String::new();
        let was_seen = |row: usize| self.seen & (1 << row) != 0;
        let is_resent =
            FIELDS.iter().enumerate().any(|(row, field)| field.0.starts_with("Resent-") && was_seen(row));
        if !self.facts.is_on || is_resent {
            return fields;
        }
        let lacks = |name: &str| !FIELDS.iter().position(|field| field.0 == name).is_some_and(was_seen);
        let RepairFacts { domain, id, date, reverse_path, .. } = &self.facts;
        // Writing to a String can't fail; so everywhere below.
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
        fields
    }
}

/// Whether a local part without a domain is one that a domain makes whole: an encoded word (RFC 2047) alone is a name, and
/// odd dots would need quotes.
fn is_bare(local_part: &[u8]) -> bool {
    let text = std::str::from_utf8(local_part).unwrap_or_default();
    let is_right = |local_part: LocalPart| text.starts_with('"') || local_part.to_string() == text;
    !text.starts_with("=?") && LocalPart::parse(text).is_ok_and(is_right)
}

#[cfg(test)]
mod tests;
