//! Encodes a message that the next hop cannot take as it is.
//!
//! | found | problem | becomes |
//! | --- | --- | --- |
//! | a line over 998 octets (RFC 5322 §2.1.1) | any host | quoted-printable or base64; a header field is folded |
//! | octets above 127 in a body | no 8BITMIME (RFC 6152 §3) | quoted-printable for text, base64 for other types |
//! | a NUL | DATA cannot carry it (RFC 5321 §2.3.8) | base64 |
//! | a header field beyond ASCII | no SMTPUTF8 (RFC 6531 §3.3) | encoded words, see `fields` |
//!
//! The message passes twice: a [`Survey`] finds what to do, and a [`Recoder`] does it part by part, only where it is
//! needed. What a reader sees and saves stays the same.
//!
//! Not encoded is content that encoding would break: a signed part (RFC 1847); a message with a DKIM signature of
//! another host, except that its long header lines are folded; parts of a message without MIME-Version, or with a
//! structure that cannot be followed. Such a message is sent unchanged, as other mailers have done for decades; few
//! hosts object.
//!
//! Both take octets in canonical form (see [`crate::mail::message`]) in pieces of any size.
//!
//! | file | for |
//! | --- | --- |
//! | here | the survey, the plan, and the recoder |
//! | `parts` | the walk through the parts of a message, as both passes need it |
//! | `encoder` | quoted-printable and base64 |
//! | `fields` | header fields |
//! | `structured` | the tokens of structured header fields |

mod encoder;
mod fields;
mod parts;
mod structured;

use self::encoder::Encoder;
use self::fields::FieldEncoding;
use self::parts::{Encoding, PartEvent, PartWalk, Role, SECTION_MAX_OCTETS, SectionOwner, field, is_named};
use crate::mail::header::fields as each_field;
use memchr::memrchr;

/// The longest line without its end (RFC 5322 §2.1.1).
pub const LINE_MAX_OCTETS: usize = 998;

/// What the next hop accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HopSupport {
    /// UTF-8 in header fields, and octets above 127 in bodies.
    Utf8,
    /// Octets above 127 in bodies.
    EightBit,
    /// ASCII only.
    SevenBit,
}

/// The changes to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    support: HopSupport,
    /// The encoding of each body, in the order of the message.
    encoded: Vec<Option<Encoding>>,
    /// The message has a DKIM signature of another host.
    is_signed: bool,
    /// Parts change as well, not only header fields.
    is_whole: bool,
}

/// The result of a survey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyResult {
    /// The changes. `None`: nothing has to change, or nothing can.
    pub plan: Option<Plan>,
    /// The header section keeps its UTF-8: SMTPUTF8 has to be requested (RFC 6531 §3.6).
    pub has_utf8_fields: bool,
}

/// Reads a message to find what has to change.
#[derive(Debug)]
pub struct Survey {
    walk: PartWalk,
    findings: SurveyState,
}

#[derive(Debug)]
struct SurveyState {
    plan: Plan,
    encoding: Option<Encoding>,
    line_octets: usize,
    is_header_seen: bool,
    /// About the message's header section.
    header_changes: bool,
    part_changes: bool,
    has_utf8_fields: bool,
}

impl Survey {
    /// A survey of a message that goes to such a next hop.
    #[must_use]
    pub fn new(support: HopSupport) -> Self {
        let findings = SurveyState {
            plan: Plan { support, encoded: Vec::new(), is_signed: false, is_whole: true },
            encoding: None,
            line_octets: 0,
            is_header_seen: false,
            header_changes: false,
            part_changes: false,
            has_utf8_fields: false,
        };
        Self { walk: PartWalk::default(), findings }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.wants_more() {
            let findings = &mut self.findings;
            self.walk.feed(piece, &mut |event| findings.note(event));
        }
    }

    /// Whether the rest of the message can change the result.
    #[must_use]
    pub const fn wants_more(&self) -> bool {
        self.findings.plan.is_whole && !self.walk.is_lost()
    }

    /// Ends the survey: the message is over, or the rest cannot change the result.
    #[must_use]
    pub fn finish(mut self) -> SurveyResult {
        let findings = &mut self.findings;
        if findings.plan.is_whole && !self.walk.is_lost() {
            self.walk.finish(&mut |event| findings.note(event));
        }
        let SurveyState { mut plan, header_changes, part_changes, has_utf8_fields, .. } = self.findings;
        plan.is_whole &= !self.walk.is_lost();
        let parts_change = plan.is_whole && (part_changes || plan.encoded.iter().any(Option::is_some));
        let plan = (header_changes || parts_change).then_some(plan);
        SurveyResult { plan, has_utf8_fields }
    }
}

impl SurveyState {
    fn note(&mut self, event: PartEvent<'_>) {
        match event {
            // The walk is lost after such a section.
            PartEvent::Section(section, ..) if section.len() > SECTION_MAX_OCTETS => {}
            PartEvent::Section(section, role, whose) => {
                if !std::mem::replace(&mut self.is_header_seen, true) {
                    let has = |name| field(section, name).is_some();
                    self.plan.is_signed = has("DKIM-Signature");
                    self.plan.is_whole = has("MIME-Version") && !self.plan.is_signed;
                    self.has_utf8_fields = self.plan.support == HopSupport::Utf8
                        && each_field(section).any(|it| !it.is_ascii() && std::str::from_utf8(it).is_ok());
                }
                let manner = self.plan.manner(whose);
                let changes = each_field(section).any(|field| fields::is_changed(field, manner));
                match whose {
                    SectionOwner::Message => self.header_changes |= changes,
                    SectionOwner::Part | SectionOwner::Embedded => self.part_changes |= changes,
                }
                self.encoding = None;
                if let Role::Leaf(encoding) = role {
                    self.encoding = encoding;
                    self.plan.encoded.push(None);
                }
                self.line_octets = 0;
            }
            PartEvent::Body(octets) => self.look(octets),
            PartEvent::Boundary(_) | PartEvent::Between(_) => {}
        }
    }

    /// Whether a line is too long, so far. Only the last line end among as many octets as a line may have is looked for.
    fn has_long_line(&mut self, octets: &[u8]) -> bool {
        let mut rest = octets;
        loop {
            let most = LINE_MAX_OCTETS.saturating_sub(self.line_octets);
            let start = rest.get(..=most).unwrap_or(rest);
            match memrchr(b'\n', start).and_then(|at| rest.get(at + 1..)) {
                Some(after) => (rest, self.line_octets) = (after, 0),
                None => {
                    let is_long = start.len() > most;
                    let after =
                        memrchr(b'\n', rest).map_or(self.line_octets + rest.len(), |at| rest.len() - at - 1);
                    self.line_octets = after;
                    return is_long;
                }
            }
        }
    }

    fn look(&mut self, octets: &[u8]) {
        let has_eight_bits = self.plan.support == HopSupport::SevenBit && !octets.is_ascii();
        let has_nul = octets.contains(&0);
        let is_needed = has_eight_bits || has_nul || self.has_long_line(octets);
        match (self.encoding, self.plan.encoded.last_mut()) {
            (Some(_), Some(encoded)) if has_nul => *encoded = Some(Encoding::Base64),
            (Some(encoding), Some(encoded)) if is_needed => *encoded = Some(encoded.unwrap_or(encoding)),
            (Some(_), Some(_)) => {}
            // If one body must go unencoded, the other ones may as well.
            _ => self.plan.is_whole &= !has_eight_bits,
        }
    }
}

impl Plan {
    const fn manner(&self, whose: SectionOwner) -> FieldEncoding {
        FieldEncoding::of(self.support, whose, self.is_signed)
    }
}

/// Applies a plan to its message.
#[derive(Debug)]
pub struct Recoder {
    walk: PartWalk,
    work: Work,
}

#[derive(Debug)]
struct Work {
    plan: Plan,
    bodies: usize,
    encoder: Option<Encoder>,
}

impl Recoder {
    /// A recoder for the message that the plan was made for.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let walk = if plan.is_whole { PartWalk::default() } else { PartWalk::shallow() };
        Self { walk, work: Work { plan, bodies: 0, encoder: None } }
    }

    /// Takes the next piece and appends the result to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let work = &mut self.work;
        self.walk.feed(piece, &mut |event| work.put(event, out));
    }

    /// Ends the message and appends what was held.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let work = &mut self.work;
        self.walk.finish(&mut |event| work.put(event, out));
        if let Some(mut encoder) = work.encoder.take() {
            encoder.finish(false, out);
        }
    }
}

impl Work {
    fn put(&mut self, event: PartEvent<'_>, out: &mut Vec<u8>) {
        match event {
            PartEvent::Section(section, Role::Leaf(_), whose) => {
                let planned = self.plan.encoded.get(self.bodies).copied().flatten();
                let encoding = planned.filter(|_| self.plan.is_whole);
                self.bodies += 1;
                self.encoder = encoding.map(Encoder::new);
                self.put_section(section, encoding, whose, out);
            }
            PartEvent::Section(section, Role::Container, whose) => {
                self.put_section(section, None, whose, out)
            }
            PartEvent::Body(octets) => match &mut self.encoder {
                Some(encoder) => encoder.feed(octets, out),
                None => out.extend_from_slice(octets),
            },
            PartEvent::Boundary(line) => {
                if let Some(mut encoder) = self.encoder.take() {
                    encoder.finish(true, out);
                }
                out.extend_from_slice(line);
            }
            PartEvent::Between(octets) => out.extend_from_slice(octets),
        }
    }

    /// Appends a header section with the encoding of its body, and without an 8-bit declaration if the next hop takes
    /// only ASCII.
    fn put_section(
        &self,
        section: &[u8],
        encoding: Option<Encoding>,
        whose: SectionOwner,
        out: &mut Vec<u8>,
    ) {
        const NAME: &str = "Content-Transfer-Encoding";
        let is_true = |field: &[u8]| {
            let names_eight =
                field.to_ascii_lowercase().windows(4).any(|word| word == b"8bit" || word == b"bina");
            encoding.is_none()
                && !(self.plan.is_whole && self.plan.support == HopSupport::SevenBit && names_eight)
        };
        let end =
            if section.ends_with(b"\n\n") || section == b"\n" { section.len() - 1 } else { section.len() };
        let (all, end) = section.split_at_checked(end).unwrap_or((section, b""));
        for field in each_field(all).filter(|field| !is_named(field, NAME) || is_true(field)) {
            fields::put(field, self.plan.manner(whose), out);
        }
        let name = match encoding {
            Some(Encoding::QuotedPrintable) => "quoted-printable",
            Some(Encoding::Base64) => "base64",
            None => return out.extend_from_slice(end),
        };
        out.extend_from_slice(format!("{NAME}: {name}\n").as_bytes());
        out.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests;
