//! Makes messages of local programs canonical (see [`crate::mail::message`]) while they pass.
//!
//! | input | header section | body |
//! | --- | --- | --- |
//! | LF, CRLF | a line end | a line end |
//! | bare CR | a space, so that it can't begin a field | a line end |
//! | NUL | removed | kept: it may be half a character of UTF-16 |
//! | a byte order mark (U+FEFF) at the start | removed | – |
//! | first line `From …` | removed, as mailboxes put it there; `From :` is a field (RFC 5322 §4.5.2) | – |
//! | a line that is no field | ends the header section; an empty line is added before it | kept |
//!
//! So nothing in the body is ever taken for a field. Memory holds one field of the header section at a time, and nothing of
//! the body. Every input gives a message; nothing is refused here.

use super::addresses::HeaderRecipients;
use crate::mail::base64;
use crate::mail::header::split_field;

/// Names of fields that a message may begin with, and beginnings of such names (with a hyphen at the end).
const FIRST_FIELDS: [&str; 26] = [
    "arc-",
    "auto-submitted",
    "bcc",
    "cc",
    "content-",
    "date",
    "dkim-",
    "errors-to",
    "from",
    "importance",
    "in-reply-to",
    "list-",
    "message-id",
    "mime-version",
    "organization",
    "precedence",
    "priority",
    "received",
    "references",
    "reply-to",
    "resent-",
    "return-path",
    "sender",
    "subject",
    "to",
    "x-",
];
/// A longer line or field of the header section passes unchanged, and so does everything after it.
const HELD_MAX_OCTETS: usize = 1 << 20;
/// Octets in an encoded word, so that it has at most 75 characters (RFC 2047 §2).
const ENCODED_WORD_OCTETS: usize = 45;
/// A longer Subject is encoded, since lines are limited to 998 octets (RFC 5322 §2.1.1).
const PLAIN_MAX_OCTETS: usize = 900;

/// The filter for one message.
#[derive(Debug)]
pub struct MessageFilter {
    /// Names of fields, and the fields that the message gets if it has none of that name.
    missing: Vec<(&'static str, String)>,
    /// The recipients and the author that the fields have named so far.
    recipients: HeaderRecipients,
    /// The field that may continue, and the line that is not complete.
    field: Vec<u8>,
    line: Vec<u8>,
    /// No line has come, other than separators of mailboxes.
    is_first_line: bool,
    /// The caller gave the Subject as an argument, as mailx users do: its input is plain text unless it begins with a field
    /// of [`FIRST_FIELDS`].
    is_text_likely: bool,
    /// The header section is over.
    in_body: bool,
    /// The last octet was a CR; the next one decides about it.
    pending_cr: bool,
    /// The output ends with a line end.
    ends_with_line: bool,
    /// An octet beyond ASCII has passed.
    is_eight_bit: bool,
    /// Octets of the output so far.
    octets: u64,
    /// Line ends of the output so far.
    lines: u64,
}

impl MessageFilter {
    /// A filter at the start of a message. `missing` are names of fields, each with the field that is added to a message
    /// without one of that name.
    #[must_use]
    pub fn new(missing: Vec<(&'static str, String)>) -> Self {
        Self {
            is_text_likely: missing.iter().any(|(name, _)| *name == "Subject"),
            missing,
            recipients: HeaderRecipients::default(),
            field: Vec::new(),
            line: Vec::new(),
            is_first_line: true,
            in_body: false,
            pending_cr: false,
            ends_with_line: true,
            is_eight_bit: false,
            octets: 0,
            lines: 0,
        }
    }

    /// Takes the next octets, and appends their canonical form to `out`.
    pub fn feed(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let mut clean = Vec::with_capacity(octets.len());
        for &octet in octets {
            if octet == b'\r' {
                self.pending_cr = true;
                continue;
            }
            if std::mem::take(&mut self.pending_cr) && octet != b'\n' {
                clean.push(if self.in_body { b'\n' } else { b' ' });
            }
            // In the body a NUL may be half a character of UTF-16.
            if octet != 0 || self.in_body {
                clean.push(octet);
            }
            if octet == b'\n' && !self.in_body {
                self.pass(&clean, out);
                clean.clear();
            }
        }
        self.pass(&clean, out);
        self.count(start, out);
    }

    /// Ends the message: appends what was held, and a line end if the last line has none.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        if !self.line.is_empty() {
            self.line.push(b'\n');
            self.end_line(out);
        }
        if !self.in_body {
            self.end_header(out);
        }
        self.count(start, out);
        if !self.ends_with_line {
            out.push(b'\n');
            self.count(out.len() - 1, out);
        }
    }

    /// The recipients that the header section names.
    #[must_use]
    pub fn into_recipients(self) -> HeaderRecipients {
        self.recipients
    }

    /// Whether there was an octet beyond ASCII.
    #[must_use]
    pub const fn is_eight_bit(&self) -> bool {
        self.is_eight_bit
    }

    /// The size so far, as the wire counts it (RFC 1870): each line end is two octets there.
    #[must_use]
    pub const fn wire_octets(&self) -> u64 {
        self.octets + self.lines
    }

    /// Counts what was appended to `out` since `start`.
    fn count(&mut self, start: usize, out: &[u8]) {
        let new = out.get(start..).unwrap_or_default();
        self.octets += new.len() as u64;
        self.lines += new.iter().filter(|&&octet| octet == b'\n').count() as u64;
        self.is_eight_bit |= !new.is_ascii();
        if let Some(last) = new.last() {
            self.ends_with_line = *last == b'\n';
        }
    }

    /// Takes clean octets, in the header section of one line at most.
    fn pass(&mut self, clean: &[u8], out: &mut Vec<u8>) {
        if self.in_body {
            return out.extend_from_slice(clean);
        }
        self.line.extend_from_slice(clean);
        if self.line.ends_with(b"\n") {
            self.end_line(out);
        } else if self.line.len() > HELD_MAX_OCTETS {
            self.give_up(out);
        }
    }

    /// Decides about a complete line of the header section: separator, continuation, field, or the end of the section.
    fn end_line(&mut self, out: &mut Vec<u8>) {
        let mut line = std::mem::take(&mut self.line);
        let is_first = std::mem::replace(&mut self.is_first_line, false);
        if is_first && line.starts_with("\u{feff}".as_bytes()) {
            line.drain(.."\u{feff}".len());
        }
        let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
        if is_first && line.starts_with(b"From ") && split_field(&line).is_none() {
            // The separator of mailboxes: the next line is the first one.
            self.is_first_line = true;
        } else if is_continuation && !self.field.is_empty() {
            self.field.extend_from_slice(&line);
            if self.field.len() > HELD_MAX_OCTETS {
                self.give_up(out);
            }
        } else if split_field(&line)
            .is_some_and(|(name, _)| !(is_first && self.is_text_likely) || is_first_field(name))
        {
            self.end_field(out);
            self.field = line;
        } else {
            self.end_header(out);
            out.push(b'\n');
            if line != b"\n" {
                out.extend_from_slice(&line);
            }
        }
    }

    /// Passes the field that is held; nothing continues it.
    fn end_field(&mut self, out: &mut Vec<u8>) {
        let field = std::mem::take(&mut self.field);
        if let Some((name, _)) = split_field(&field) {
            self.missing.retain(|(missing, _)| !name.eq_ignore_ascii_case(missing.as_bytes()));
        }
        self.recipients.field(&field);
        out.extend_from_slice(&field);
    }

    /// Ends the header section, and adds the fields that it lacks.
    fn end_header(&mut self, out: &mut Vec<u8>) {
        self.end_field(out);
        for (_, field) in std::mem::take(&mut self.missing) {
            out.extend_from_slice(field.as_bytes());
        }
        self.in_body = true;
    }

    /// A header section without end: passes what is held, and everything after it, unchanged.
    fn give_up(&mut self, out: &mut Vec<u8>) {
        if self.field.is_empty() && split_field(&self.line).is_none() {
            out.push(b'\n');
        }
        out.append(&mut self.field);
        out.append(&mut self.line);
        self.in_body = true;
    }
}

fn is_first_field(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    FIRST_FIELDS.iter().any(|first| match first.strip_suffix('-') {
        Some(_) => name.starts_with(first.as_bytes()),
        None => name == first.as_bytes(),
    })
}

/// A From field with the full name of `-F`.
#[must_use]
pub fn from_field(name: &str, address: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    if name.is_ascii() {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("From: \"{quoted}\" <{address}>\n");
    }
    format!("From: {} <{address}>\n", encoded_words(&name))
}

/// A Subject field with the text of `-s`; `None` if that is empty.
#[must_use]
pub fn subject_field(text: &str) -> Option<String> {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    let is_plain = text.is_ascii() && text.len() <= PLAIN_MAX_OCTETS && !text.contains("=?");
    let value = if is_plain { text.to_owned() } else { encoded_words(text) };
    (!text.is_empty()).then(|| format!("Subject: {value}\n"))
}

/// Text as encoded words (RFC 2047), one on each line.
fn encoded_words(text: &str) -> String {
    let mut words = vec![String::new()];
    for c in text.chars() {
        if words.last().is_some_and(|word| word.len() + c.len_utf8() > ENCODED_WORD_OCTETS) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(c);
        }
    }
    let words: Vec<String> =
        words.iter().map(|word| format!("=?utf-8?B?{}?=", base64::encode(word.as_bytes()))).collect();
    words.join("\n ")
}

#[cfg(test)]
mod tests;
