//! What programs write into sendmail, made canonical (see [`crate::mail::message`]) as it passes: LF or CRLF ends a line,
//! NULs of the header section go, a lone CR becomes a blank in the header section, where it must not begin a field, and a
//! line end in the body. A leading `From ` line goes, as mailboxes have it; `From :` is a field (RFC 5322 §4.5.2). The
//! header section ends at an empty line, or in front of the first line that is no field,
//! and gets an empty line there: what the body says is never taken for a field. Nothing fails.
//!
//! Of the message a field of the header section is held at a time, and the body not at all.

use super::addresses::HeaderRecipients;
use crate::mail::base64;
use crate::mail::header::split_field;

/// How the names of fields begin that messages begin with.
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
/// A line or field of the header section that is longer passes as it is, and so does all behind it.
const HELD_MAX_OCTETS: usize = 1 << 20;
/// Octets in an encoded word, so that it has at most 75 characters (RFC 2047 §2).
const ENCODED_WORD_OCTETS: usize = 45;
/// A longer Subject is encoded, lest its line should be longer than a mail may have (RFC 5322 §2.1.1).
const PLAIN_MAX_OCTETS: usize = 900;

/// The filter for one message.
#[derive(Debug)]
pub struct Content {
    /// Names of fields, and the fields that the message gets if it has none of that name.
    missing: Vec<(&'static str, String)>,
    recipients: HeaderRecipients,
    /// The field in hand, and the line that is coming in.
    field: Vec<u8>,
    line: Vec<u8>,
    is_first_line: bool,
    /// The caller gave the Subject apart, as with mailx: what it writes is text, unless it begins as messages do.
    is_text_likely: bool,
    in_body: bool,
    /// A CR has come, and it is not known yet what follows.
    pending_cr: bool,
    ends_with_line: bool,
    is_eight_bit: bool,
    octets: u64,
    lines: u64,
}

impl Content {
    /// A filter at the start of a message; `missing` are names of fields, each with the whole field that a message without
    /// such a one gets.
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

    /// Takes the next octets, and appends to `out` what becomes of them.
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
            // In the body it may be a character's half, as in UTF-16.
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

    /// The message is over: appends what was held, and a line end if the last line has none.
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

    fn end_line(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.line);
        let is_first = std::mem::replace(&mut self.is_first_line, false);
        let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
        if is_first && line.starts_with(b"From ") && split_field(&line).is_none() {
            // As mailboxes put it in front of each message. What follows is as good as the first line.
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

    fn end_field(&mut self, out: &mut Vec<u8>) {
        let field = std::mem::take(&mut self.field);
        if let Some((name, _)) = split_field(&field) {
            self.missing.retain(|(missing, _)| !name.eq_ignore_ascii_case(missing.as_bytes()));
        }
        self.recipients.field(&field);
        out.extend_from_slice(&field);
    }

    fn end_header(&mut self, out: &mut Vec<u8>) {
        self.end_field(out);
        for (_, field) in std::mem::take(&mut self.missing) {
            out.extend_from_slice(field.as_bytes());
        }
        self.in_body = true;
    }

    /// The header section is none that anybody wrote: what is held goes on as it is, and all behind it.
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

/// From with a name that `-F` gives, for an address.
#[must_use]
pub fn from_field(name: &str, address: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    if name.is_ascii() {
        let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
        return format!("From: \"{quoted}\" <{address}>\n");
    }
    format!("From: {} <{address}>\n", encoded_words(&name))
}

/// Subject with the text that `-s` gives; `None` if that is empty.
#[must_use]
pub fn subject_field(text: &str) -> Option<String> {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    let is_plain = text.is_ascii() && text.len() <= PLAIN_MAX_OCTETS && !text.contains("=?");
    let value = if is_plain { text.to_owned() } else { encoded_words(text) };
    (!text.is_empty()).then(|| format!("Subject: {value}\n"))
}

/// Text as encoded words (RFC 2047), a line each.
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
