//! Encodes the parts of a message that can't go as they are: with lines over 998 octets (RFC 5322 §2.1.1), or with octets
//! beyond ASCII for a next hop without 8BITMIME (RFC 6152 §3).
//!
//! The message passes twice: a [`Survey`] finds out what has to be done, and the [`Recoder`] does it, part by part, so that
//! what a reader sees and saves is the same. Text becomes quoted-printable, all else base64, and only where it is needed.
//!
//! Nothing is touched where that would break something: what is signed as a part (RFC 1847), a message with a DKIM signature
//! of somebody else, one that is not declared as MIME, and one whose parts can't be followed. Then it goes as it is, as all
//! mailers have sent such mail for decades; hardly a host minds. Header fields stay as they are.
//!
//! Takes octets in canonical form (see [`crate::mail::message`]) in pieces of any size. Nothing fails.

mod encoder;
mod parts;

use self::encoder::Encoder;
use self::parts::{Encoding, Event, Role, Walk, field, fields, is_named};

/// The longest line, without its end (RFC 5322 §2.1.1).
pub const LINE_MAX_OCTETS: usize = 998;

/// What the way bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Octets beyond ASCII.
    EightBit,
    /// ASCII alone.
    SevenBit,
}

/// What has to be done to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    way: Way,
    /// For each body in the order of the message, whether it is encoded.
    encoded: Vec<bool>,
}

/// Looks a message through.
#[derive(Debug)]
pub struct Survey {
    walk: Walk,
    findings: Findings,
}

#[derive(Debug)]
struct Findings {
    way: Way,
    encoded: Vec<bool>,
    encoding: Option<Encoding>,
    line_octets: usize,
    is_first_section: bool,
    /// It may be touched, and can be.
    is_open: bool,
}

impl Survey {
    /// Before a message that goes by `way`.
    #[must_use]
    pub fn new(way: Way) -> Self {
        let findings = Findings {
            way,
            encoded: Vec::new(),
            encoding: None,
            line_octets: 0,
            is_first_section: true,
            is_open: true,
        };
        Self { walk: Walk::default(), findings }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        if self.wants_more() {
            let findings = &mut self.findings;
            self.walk.feed(piece, &mut |event| findings.note(event));
        }
    }

    /// Whether the rest of the message can make a difference.
    #[must_use]
    pub const fn wants_more(&self) -> bool {
        self.findings.is_open && !self.walk.is_lost()
    }

    /// What has to be done; `None`: nothing, or nothing can be.
    #[must_use]
    pub fn finish(mut self) -> Option<Plan> {
        if !self.wants_more() {
            return None;
        }
        let findings = &mut self.findings;
        self.walk.finish(&mut |event| findings.note(event));
        let Findings { way, encoded, is_open, .. } = self.findings;
        let is_needed = is_open && !self.walk.is_lost() && encoded.contains(&true);
        is_needed.then_some(Plan { way, encoded })
    }
}

impl Findings {
    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Section(section, role) => {
                if std::mem::take(&mut self.is_first_section) {
                    let has = |name| field(section, name).is_some();
                    self.is_open = has("MIME-Version") && !has("DKIM-Signature");
                }
                self.encoding = None;
                if let Role::Leaf(encoding) = role {
                    self.encoding = encoding;
                    self.encoded.push(false);
                }
                self.line_octets = 0;
            }
            Event::Body(octets) => self.look(octets),
            Event::Boundary(_) | Event::Between(_) => {}
        }
    }

    fn look(&mut self, octets: &[u8]) {
        let has_eight_bits = self.way == Way::SevenBit && !octets.is_ascii();
        let mut is_needed = has_eight_bits;
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let (text, is_whole) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
            self.line_octets += text.len();
            is_needed |= self.line_octets > LINE_MAX_OCTETS;
            if is_whole {
                self.line_octets = 0;
            }
        }
        match (self.encoding, self.encoded.last_mut()) {
            (Some(_), Some(encoded)) => *encoded |= is_needed,
            // What can't be encoded has to go as it is, and then the rest may, too.
            _ => self.is_open &= !has_eight_bits,
        }
    }
}

/// Does what is planned.
#[derive(Debug)]
pub struct Recoder {
    walk: Walk,
    work: Work,
}

#[derive(Debug)]
struct Work {
    plan: Plan,
    bodies: usize,
    encoder: Option<Encoder>,
}

impl Recoder {
    /// Before the message that the plan was made for.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { walk: Walk::default(), work: Work { plan, bodies: 0, encoder: None } }
    }

    /// Takes the next piece, and appends to `out` what becomes of it.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let work = &mut self.work;
        self.walk.feed(piece, &mut |event| work.put(event, out));
    }

    /// The message is over: appends what was held.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let work = &mut self.work;
        self.walk.finish(&mut |event| work.put(event, out));
        if let Some(mut encoder) = work.encoder.take() {
            encoder.finish(false, out);
        }
    }
}

impl Work {
    fn put(&mut self, event: Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::Section(section, Role::Leaf(encoding)) => {
                let is_encoded = self.plan.encoded.get(self.bodies) == Some(&true);
                self.bodies += 1;
                self.encoder = encoding.filter(|_| is_encoded).map(Encoder::new);
                self.put_section(section, encoding.filter(|_| is_encoded), out);
            }
            Event::Section(section, Role::Container) => self.put_section(section, None, out),
            Event::Body(octets) => match &mut self.encoder {
                Some(encoder) => encoder.feed(octets, out),
                None => out.extend_from_slice(octets),
            },
            Event::Boundary(line) => {
                if let Some(mut encoder) = self.encoder.take() {
                    encoder.finish(true, out);
                }
                out.extend_from_slice(line);
            }
            Event::Between(octets) => out.extend_from_slice(octets),
        }
    }

    /// A header section with the encoding of its body, and with none for eight bits where there are only seven.
    fn put_section(&self, section: &[u8], encoding: Option<Encoding>, out: &mut Vec<u8>) {
        const NAME: &str = "Content-Transfer-Encoding";
        let is_true = |field: &[u8]| {
            let names_eight =
                field.to_ascii_lowercase().windows(4).any(|word| word == b"8bit" || word == b"bina");
            encoding.is_none() && !(self.plan.way == Way::SevenBit && names_eight)
        };
        let end =
            if section.ends_with(b"\n\n") || section == b"\n" { section.len() - 1 } else { section.len() };
        let (all, end) = section.split_at_checked(end).unwrap_or((section, b""));
        for field in fields(all).filter(|field| !is_named(field, NAME) || is_true(field)) {
            out.extend_from_slice(field);
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
