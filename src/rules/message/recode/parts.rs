//! The parts of a MIME message (RFC 2046 §5.1), reported in order while the message passes in pieces of any size.
//!
//! | event | octets | next |
//! | --- | --- | --- |
//! | `Section` | a header section with its empty line | of a leaf: `Body`; of a container: `Between` or `Section` |
//! | `Body` | a piece of the body of a leaf | `Body` or `Boundary` |
//! | `Boundary` | a boundary line | `Section`, or after a closing one `Between` |
//! | `Between` | text before the first or after the last part | `Between` or `Boundary` |
//!
//! The events add up to the message, octet for octet. The walk holds one header section, or the start of one line.
//! Beyond its limits it is lost ([`PartWalk::is_lost`]), and its further events mean nothing.
//!
//! # An example
//!
//! ```text
//! Content-Type: multipart/mixed; boundary=b     Section: Container, Message
//!                                               (with this empty line)
//! This is a multi-part message.                 Between
//! --b                                           Boundary
//! Content-Type: text/plain                      Section: Leaf, Part
//!                                               (with this empty line)
//! Hello.                                        Body
//! --b--                                         Boundary
//!                                               Between
//! ```

use crate::mail::header::{fields, split_field};
use crate::rules::message::dkim::HEADER_MAX_OCTETS;
use memchr::memchr;

/// The longest header section that is held.
pub const SECTION_MAX_OCTETS: usize = HEADER_MAX_OCTETS;
/// The longest delimiter: a boundary has at most 70 characters (RFC 2046 §5.1.1), with two hyphens at each end.
const DELIMITER_MAX_OCTETS: usize = 128;
/// How deep parts may be nested.
const DEPTH_MAX: usize = 32;
/// How many parts a message may have.
const PARTS_MAX: usize = 1000;

/// How a part may be encoded so that its lines are short and its octets below 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Quoted-printable: text stays readable (RFC 2045 §6.7).
    QuotedPrintable,
    /// Base64 (RFC 2045 §6.8).
    Base64,
}

/// What follows a header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Parts, or another message.
    Container,
    /// A body; its encoding, if it may be encoded.
    Leaf(Option<Encoding>),
}

/// The owner of a header section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionOwner {
    /// The message.
    Message,
    /// A part.
    Part,
    /// A message within the message.
    Embedded,
}

/// The next piece of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartEvent<'a> {
    /// The header section of the message or of a part, with the empty line after it.
    Section(&'a [u8], Role, SectionOwner),
    /// Octets of the body of the last leaf.
    Body(&'a [u8]),
    /// A boundary line, which ends the current leaf. The line end before it belongs to the boundary, not to the leaf.
    Boundary(&'a [u8]),
    /// Text before the first part of a container, or after its last one.
    Between(&'a [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WalkState {
    Section,
    Leaf,
    Between,
}

/// The walk through one message.
#[derive(Debug)]
pub struct PartWalk {
    state: WalkState,
    /// The delimiters of the open containers, the innermost last, and whether a part without a type is a message
    /// (multipart/digest, RFC 2046 §5.1.5).
    delimiters: Vec<(Vec<u8>, bool)>,
    /// The current header section, or the start of a line that may be a boundary.
    held: Vec<u8>,
    /// Where the current line of a header section begins in `held`.
    line: usize,
    is_at_line_start: bool,
    parts: usize,
    /// A boundary came last: the next header section belongs to a part, not to a message within it.
    is_behind_boundary: bool,
    is_lost: bool,
    /// Everything after the first header section counts as one body.
    is_shallow: bool,
}

impl Default for PartWalk {
    fn default() -> Self {
        Self {
            state: WalkState::Section,
            delimiters: Vec::new(),
            held: Vec::new(),
            line: 0,
            is_at_line_start: true,
            parts: 0,
            is_behind_boundary: false,
            is_lost: false,
            is_shallow: false,
        }
    }
}

impl PartWalk {
    /// A walk that reports the header section of the message and treats everything after it as one body.
    #[must_use]
    pub fn shallow() -> Self {
        Self { is_shallow: true, ..Self::default() }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8], tell: &mut dyn FnMut(PartEvent<'_>)) {
        let mut rest = piece;
        while !rest.is_empty() {
            let is_alone = self.delimiters.is_empty() && self.held.is_empty();
            if self.state == WalkState::Leaf && is_alone {
                // No boundary can follow.
                return self.pass(rest, tell);
            }
            let (line, after) = rest.split_at(memchr(b'\n', rest).map_or(rest.len(), |at| at + 1));
            rest = after;
            let is_whole = line.ends_with(b"\n");
            if self.state == WalkState::Section {
                self.held.extend_from_slice(line);
                if is_whole {
                    self.end_section_line(tell);
                } else {
                    self.is_lost |= self.held.len() > SECTION_MAX_OCTETS;
                }
            } else if self.is_at_line_start && (!self.held.is_empty() || line.starts_with(b"-")) {
                self.held.extend_from_slice(line);
                if is_whole {
                    let line = std::mem::take(&mut self.held);
                    self.end_line(&line, tell);
                } else if self.held.len() > DELIMITER_MAX_OCTETS {
                    // Too long for a boundary.
                    let start = std::mem::take(&mut self.held);
                    self.is_at_line_start = false;
                    self.pass(&start, tell);
                }
            } else {
                self.is_at_line_start = is_whole;
                self.pass(line, tell);
            }
        }
    }

    /// The message is over.
    pub fn finish(&mut self, tell: &mut dyn FnMut(PartEvent<'_>)) {
        let held = std::mem::take(&mut self.held);
        if self.state == WalkState::Section {
            self.begin_part(&held, tell);
        } else if !held.is_empty() {
            self.end_line(&held, tell);
        }
    }

    /// Whether the message exceeds a limit of the walk.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    fn pass(&self, octets: &[u8], tell: &mut dyn FnMut(PartEvent<'_>)) {
        tell(if self.state == WalkState::Leaf {
            PartEvent::Body(octets)
        } else {
            PartEvent::Between(octets)
        });
    }

    fn end_line(&mut self, line: &[u8], tell: &mut dyn FnMut(PartEvent<'_>)) {
        self.is_at_line_start = true;
        match self.boundary(line) {
            None => self.pass(line, tell),
            Some(next) => self.cross(line, next, tell),
        }
    }

    /// The state after a boundary, and the number of containers that stay open. `None`: the line is no boundary of
    /// the open containers.
    fn boundary(&self, line: &[u8]) -> Option<(WalkState, usize)> {
        let text = line.trim_ascii_end();
        self.delimiters.iter().enumerate().rev().find_map(|(i, (delimiter, _))| {
            match text.strip_prefix(delimiter.as_slice())? {
                b"" => Some((WalkState::Section, i + 1)),
                b"--" => Some((WalkState::Between, i)),
                _ => None,
            }
        })
    }

    fn cross(&mut self, line: &[u8], (state, open): (WalkState, usize), tell: &mut dyn FnMut(PartEvent<'_>)) {
        self.delimiters.truncate(open);
        self.state = state;
        self.line = 0;
        self.is_behind_boundary = true;
        tell(PartEvent::Boundary(line));
    }

    fn end_section_line(&mut self, tell: &mut dyn FnMut(PartEvent<'_>)) {
        let line = self.held.get(self.line..).unwrap_or_default();
        if line == b"\n" {
            let section = std::mem::take(&mut self.held);
            self.line = 0;
            self.begin_part(&section, tell);
        } else if let Some(next) = self.boundary(line) {
            // The part has no body.
            let line = line.to_vec();
            let mut section = std::mem::take(&mut self.held);
            section.truncate(self.line);
            tell(PartEvent::Section(&section, Role::Container, self.whose()));
            self.cross(&line, next, tell);
        } else {
            self.line = self.held.len();
            self.is_lost |= self.held.len() > SECTION_MAX_OCTETS;
        }
    }

    /// The owner of the current header section.
    const fn whose(&self) -> SectionOwner {
        match (self.parts, self.is_behind_boundary) {
            (0, _) => SectionOwner::Message,
            (_, true) => SectionOwner::Part,
            (_, false) => SectionOwner::Embedded,
        }
    }

    fn begin_part(&mut self, section: &[u8], tell: &mut dyn FnMut(PartEvent<'_>)) {
        let whose = self.whose();
        self.parts += 1;
        let in_digest = self.delimiters.last().is_some_and(|(_, is_digest)| *is_digest);
        let of_digest = std::mem::take(&mut self.is_behind_boundary) && in_digest;
        let part = if self.is_shallow { MediaPart::BODY } else { MediaPart::of(section, of_digest) };
        let role = match part.kind {
            MediaKind::Multipart { boundary, is_digest } => {
                self.delimiters.push(([b"--", boundary.as_slice()].concat(), is_digest));
                self.state = WalkState::Between;
                Role::Container
            }
            MediaKind::Message if section.ends_with(b"\n") => {
                self.state = WalkState::Section;
                self.parts += 1;
                Role::Container
            }
            MediaKind::Message | MediaKind::Other => {
                self.state = WalkState::Leaf;
                Role::Leaf(part.encoding)
            }
        };
        self.is_at_line_start = true;
        self.is_lost |= self.parts > PARTS_MAX || self.delimiters.len() > DEPTH_MAX;
        tell(PartEvent::Section(section, role, whose));
    }
}

enum MediaKind {
    /// Several parts.
    Multipart {
        boundary: Vec<u8>,
        is_digest: bool,
    },
    /// Another message in clear.
    Message,
    Other,
}

/// What the header section of a part says about the part.
struct MediaPart {
    kind: MediaKind,
    encoding: Option<Encoding>,
}

impl MediaPart {
    const BODY: Self = Self { kind: MediaKind::Other, encoding: None };

    fn of(section: &[u8], of_digest: bool) -> Self {
        let content_type = field(section, "Content-Type").unwrap_or_default();
        let media = content_type.split(|&octet| matches!(octet, b';' | b'(')).next().unwrap_or_default();
        let media = String::from_utf8_lossy(media).trim().to_ascii_lowercase();
        let encoding = field(section, "Content-Transfer-Encoding").unwrap_or_default();
        let encoding = String::from_utf8_lossy(&encoding).trim().to_ascii_lowercase();
        let is_plain = matches!(encoding.as_str(), "" | "7bit" | "8bit" | "binary");
        let plain = |encoding: Option<Encoding>| Self {
            kind: MediaKind::Other,
            encoding: encoding.filter(|_| is_plain),
        };
        if media.starts_with("multipart/") {
            // A signed part stays unchanged, octet for octet (RFC 1847 §2.1).
            let boundary = parameter(&content_type, "boundary").filter(|_| media != "multipart/signed");
            let is_digest = media == "multipart/digest";
            return boundary.map_or(plain(None), |boundary| Self {
                kind: MediaKind::Multipart { boundary, is_digest },
                encoding: None,
            });
        }
        match media.as_str() {
            "" if of_digest => Self { kind: MediaKind::Message, encoding: None },
            // The type hides behind a comment.
            "" if !content_type.is_empty() => plain(None),
            "message/rfc822" if is_plain => Self { kind: MediaKind::Message, encoding: None },
            // These may be encoded as a whole (RFC 6532 §3.7, RFC 6533 §4 to §6), with the UTF-8 in their addresses.
            media if media.starts_with("message/global") => plain(Some(Encoding::QuotedPrintable)),
            // Other types of message must have 7-bit octets, or stay unchanged (RFC 2046 §5.2).
            media if media.starts_with("message/") => plain(None),
            media if media.is_empty() || media.starts_with("text/") || !media.contains('/') => {
                plain(Some(Encoding::QuotedPrintable))
            }
            _ => plain(Some(Encoding::Base64)),
        }
    }
}

/// Whether a field has this name.
#[must_use]
pub fn is_named(field: &[u8], name: &str) -> bool {
    split_field(field).is_some_and(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
}

/// The value of the first field of this name; line ends become blanks.
#[must_use]
pub fn field(section: &[u8], name: &str) -> Option<Vec<u8>> {
    let field = fields(section).find(|field| is_named(field, name))?;
    let (_, value) = split_field(field)?;
    Some(value.iter().map(|&octet| if octet == b'\n' { b' ' } else { octet }).collect())
}

/// A parameter of a field such as Content-Type (RFC 2045 §5.1), quoted or not.
fn parameter(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut octets = value.iter().copied().peekable();
    loop {
        octets.find(|&octet| octet == b';')?;
        let mut word = Vec::new();
        while let Some(octet) = octets.next_if(|&octet| octet != b'=' && octet != b';') {
            word.push(octet);
        }
        if octets.next_if_eq(&b'=').is_none() {
            continue;
        }
        while octets.next_if(u8::is_ascii_whitespace).is_some() {}
        let mut text = Vec::new();
        if octets.next_if_eq(&b'"').is_some() {
            while let Some(octet) = octets.next().filter(|&octet| octet != b'"') {
                text.extend(if octet == b'\\' { octets.next() } else { Some(octet) });
            }
        } else {
            while let Some(octet) = octets.next_if(|&octet| octet != b';' && !octet.is_ascii_whitespace()) {
                text.push(octet);
            }
        }
        if word.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) {
            return Some(text).filter(|text| !text.is_empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory must not grow with a line that has no end.
    #[test]
    fn the_start_of_a_line_is_held_while_it_may_be_a_boundary() {
        for (octets, is_passed) in [(DELIMITER_MAX_OCTETS, false), (DELIMITER_MAX_OCTETS + 9, true)] {
            let (mut walk, mut passed) = (PartWalk::default(), 0);
            let mut tell = |event: PartEvent<'_>| {
                if let PartEvent::Body(octets) = event {
                    passed += octets.len();
                }
            };
            walk.feed(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n\n", &mut tell);
            walk.feed(&vec![b'-'; octets], &mut tell);
            assert_eq!(passed, if is_passed { octets } else { 0 });
        }
    }

    #[test]
    fn a_message_within_another_begins_behind_a_whole_section() {
        for (section, role) in
            [("Content-Type: message/rfc822", false), ("Content-Type: message/rfc822\n\n", true)]
        {
            let (mut walk, mut is_container) = (PartWalk::default(), false);
            let mut tell = |event: PartEvent<'_>| {
                if let PartEvent::Section(_, role, SectionOwner::Message) = event {
                    is_container = role == Role::Container;
                }
            };
            walk.feed(section.as_bytes(), &mut tell);
            walk.finish(&mut tell);
            assert_eq!(is_container, role, "{section:?}");
        }
    }
}
