//! DKIM signatures of outgoing mail (RFC 6376): RSA-SHA256 and Ed25519-SHA256 (RFC 8463), relaxed/relaxed.
//!
//! What a signature covers:
//!
//! | part | how |
//! | --- | --- |
//! | the fields of [`SIGNED`] that the message has | in relaxed form (§3.4.2), those of one name from the bottom up (§5.4.2) |
//! | the absence of another one | each name stands in h= once more than the message has it (§5.4, §8.15) |
//! | the body | the hash of its relaxed form (§3.4.4), in bh= |
//! | the signature's own field | in relaxed form, with an empty b= (§3.7) |
//! | the time | t= |
//!
//! There is no `l=`, which would let others append to the body (§8.2), no `x=`, which would expire queued mail, and
//! no `i=`.
//!
//! The signer reads a message once, in pieces, and keeps only its header section. It returns the fields to put in
//! front. Content and fields have LF line ends ([`crate::mail::message`]); CRLF is hashed, as the client sends it.
//! The domain of From selects the keys. The signer never changes the message and does not know whether a sender may
//! use a key: a caller that signs mail of strangers makes their forgeries genuine. On a [`SigningProblem`] the mail leaves
//! unsigned.
//!
//! # An example
//!
//! For a message with From, Subject, To and Date:
//!
//! ```text
//! DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.com; s=box1;
//!     t=1795910400; h=from:from:reply-to:subject:subject:cc:to:to:date:date;
//!     bh=…; b=…
//! ```
//!
//! # The states of the signer
//!
//! | state | reads | ends with |
//! | --- | --- | --- |
//! | `Header` | the header section, and holds it | the empty line: From selects the keys |
//! | `Body` | the body, and hashes it | the end of the message: one field for each key |
//! | `Over` | nothing more | no key may sign, or a [`SigningProblem`] |

mod body_hash;

use self::body_hash::BodyHash;
use crate::mail::address::Domain;
use crate::mail::base64;
use crate::mail::date::WallTime;
use crate::mail::header::split_field;
use crate::rules::advice::authenticity::tag;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::sha::sha256;
use std::fmt;

/// The shortest RSA key in bits (RFC 8301 §3.2).
pub const RSA_BITS_MIN: u32 = 1024;
/// The recommended length of an RSA key (RFC 8301 §3.2): some hosts accept no shorter one.
pub const RSA_BITS_GOOD: u32 = 2048;
/// The longest header section that is signed, in octets.
pub const HEADER_MAX_OCTETS: usize = 256 * 1024;
/// The most fields that are signed. RFC 5322 §3.6 allows one of each name, so this leaves ample room.
pub const FIELDS_MAX: usize = 100;
/// The longest line of a signature, where it can be folded, in characters (RFC 5322 §2.1.1).
const LINE_MAX: usize = 78;

/// The fields that are signed. Each name is listed once more than the message has it, so that nobody can add another
/// field that readers would show instead (§8.15); RFC 5322 §3.6 allows each of them only once anyway. `Always` lists
/// a name even if the message has no such field. This is for fields that no honest host adds on the way; some hosts
/// do add a missing To, Date or Message-ID.
const SIGNED: [(&str, SignWhen); 21] = [
    ("from", SignWhen::Always),
    ("reply-to", SignWhen::Always),
    ("subject", SignWhen::Always),
    ("cc", SignWhen::Always),
    ("to", SignWhen::IfPresent),
    ("date", SignWhen::IfPresent),
    ("message-id", SignWhen::IfPresent),
    ("sender", SignWhen::IfPresent),
    ("in-reply-to", SignWhen::IfPresent),
    ("references", SignWhen::IfPresent),
    ("mime-version", SignWhen::IfPresent),
    ("content-type", SignWhen::IfPresent),
    ("content-transfer-encoding", SignWhen::IfPresent),
    ("list-id", SignWhen::IfPresent),
    ("list-help", SignWhen::IfPresent),
    ("list-unsubscribe", SignWhen::IfPresent),
    // RFC 8058 §4 requires this one to be signed.
    ("list-unsubscribe-post", SignWhen::IfPresent),
    ("list-subscribe", SignWhen::IfPresent),
    ("list-post", SignWhen::IfPresent),
    ("list-owner", SignWhen::IfPresent),
    ("list-archive", SignWhen::IfPresent),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignWhen {
    Always,
    IfPresent,
}

/// A private key, and the DNS name of its public half.
#[derive(Debug)]
pub struct DkimKey {
    key: PKey<Private>,
    algorithm: Algorithm,
    /// A-labels in lower case.
    domain: String,
    selector: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    RsaSha256,
    Ed25519Sha256,
}

/// Why a key cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyProblem {
    /// The text is not a private key in PEM, or is encrypted.
    NoKey,
    /// A key of another kind.
    Kind,
    /// An RSA key with too few bits.
    Short(u32),
    /// Domain or selector has no ASCII form.
    Name,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoKey => {
                f.write_str("holds no private key in PEM without a password; name the file of one")
            }
            Self::Kind => f.write_str("is neither an RSA nor an Ed25519 key; make one of these"),
            Self::Short(bits) => write!(f, "has {bits} bits; make one of 2048"),
            Self::Name => f.write_str("has a domain or selector that DNS can't have; write another"),
        }
    }
}

impl std::error::Error for KeyProblem {}

impl DkimKey {
    /// Parses a private key in PEM, for `SELECTOR._domainkey.DOMAIN`.
    ///
    /// # Errors
    /// The key cannot be used; see [`KeyProblem`].
    pub fn from_pem(pem: &[u8], domain: &Domain, selector: &Domain) -> Result<Self, KeyProblem> {
        // Without the callback OpenSSL would ask for the password on the terminal.
        let key = PKey::private_key_from_pem_callback(pem, |_| Ok(0)).map_err(|_| KeyProblem::NoKey)?;
        let algorithm = match key.id() {
            Id::RSA if key.bits() < RSA_BITS_MIN => return Err(KeyProblem::Short(key.bits())),
            Id::RSA => Algorithm::RsaSha256,
            Id::ED25519 => Algorithm::Ed25519Sha256,
            _ => return Err(KeyProblem::Kind),
        };
        let name = |domain: &Domain| {
            let ascii = domain.name().and_then(|_| domain.to_ascii());
            ascii.map(|name| name.to_ascii_lowercase()).ok_or(KeyProblem::Name)
        };
        Ok(Self { key, algorithm, domain: name(domain)?, selector: name(selector)? })
    }

    /// The DNS name at which the public half must be published.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// Whether a TXT record publishes the public half (§3.6.1, RFC 8463 §4).
    #[must_use]
    pub fn is_published_by(&self, record: &str) -> bool {
        let octets = match self.algorithm {
            Algorithm::RsaSha256 => self.key.public_key_to_der(),
            Algorithm::Ed25519Sha256 => self.key.raw_public_key(),
        };
        octets.is_ok_and(|octets| tag(record, "p").is_some_and(|p| p == base64::encode(&octets)))
    }

    /// The length of an RSA key in bits.
    #[must_use]
    pub fn rsa_bits(&self) -> Option<u32> {
        (self.algorithm == Algorithm::RsaSha256).then(|| self.key.bits())
    }

    /// Whether the key may sign for a domain: its own, or a subdomain, which DMARC treats as aligned (RFC 7489
    /// §3.1.1).
    fn serves(&self, domain: &str) -> bool {
        domain.strip_suffix(&self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        use openssl::sign::Signer;
        match self.algorithm {
            Algorithm::RsaSha256 => {
                Signer::new(MessageDigest::sha256(), &self.key)?.sign_oneshot_to_vec(text)
            }
            // Ed25519 signs the hash (RFC 8463 §3).
            Algorithm::Ed25519Sha256 => {
                Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(&sha256(text))
            }
        }
    }

    /// The field up to the signature (§3.5).
    fn template(&self, now: WallTime, names: &[&str], body_hash: &str) -> String {
        let algorithm = match self.algorithm {
            Algorithm::RsaSha256 => "rsa-sha256",
            Algorithm::Ed25519Sha256 => "ed25519-sha256",
        };
        let mut field = format!("DKIM-Signature: v=1; a={algorithm}; c=relaxed/relaxed;");
        fold(&mut field, &format!(" d={};", self.domain));
        fold(&mut field, &format!(" s={};", self.selector));
        fold(&mut field, &format!(" t={};", now.seconds()));
        for (i, name) in names.iter().enumerate() {
            let head = if i == 0 { " h=" } else { "" };
            let tail = if i + 1 == names.len() { ";" } else { ":" };
            fold(&mut field, &format!("{head}{name}{tail}"));
        }
        fold(&mut field, &format!(" bh={body_hash};"));
        fold(&mut field, " b=");
        field
    }
}

/// Appends a piece, on a new line if it does not fit on the current one.
fn fold(field: &mut String, piece: &str) {
    let column = field.len() - field.rfind('\n').map_or(0, |end| end + 1);
    if column + piece.len() > LINE_MAX {
        field.push_str("\n\t");
        field.push_str(piece.trim_start());
    } else {
        field.push_str(piece);
    }
}

/// The keys that sign for a domain, in lower case: those whose domain is the longest match.
#[must_use]
pub fn choose<'a>(keys: &'a [DkimKey], domain: &str) -> Vec<&'a DkimKey> {
    let serving = || keys.iter().filter(|key| key.serves(domain));
    let longest = serving().map(|key| key.domain.len()).max();
    serving().filter(|key| Some(key.domain.len()) == longest).collect()
}

/// Why a message is not signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningProblem {
    /// The header section exceeds [`HEADER_MAX_OCTETS`], or has more than [`FIELDS_MAX`] fields to sign.
    LongHeader,
    /// A line of the header section is no field: verifiers would disagree about what was signed.
    MalformedHeader,
    /// The message does not have exactly one From (RFC 5322 §3.6), or its From has no domain.
    From,
    /// OpenSSL failed, in its words.
    Library(String),
}

impl fmt::Display for SigningProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongHeader => f.write_str("the header section is too long"),
            Self::MalformedHeader => f.write_str("a line of the header section is no field"),
            Self::From => f.write_str("there is not one From with an address"),
            Self::Library(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for SigningProblem {}

/// A field that is signed: its row in [`SIGNED`], and its relaxed form without CRLF.
#[derive(Debug)]
struct SignedField {
    row: usize,
    relaxed: Vec<u8>,
}

/// The row of From.
const FROM: usize = 0;

/// Signs one message.
#[derive(Debug)]
pub struct Signer<'a> {
    keys: &'a [DkimKey],
    now: WallTime,
    section: Section<'a>,
}

#[derive(Debug)]
enum Section<'a> {
    Header(Vec<u8>),
    Body {
        fields: Vec<SignedField>,
        keys: Vec<&'a DkimKey>,
        hash: BodyHash,
    },
    /// No key may sign, or there is a problem.
    Over(Result<(), SigningProblem>),
}

impl<'a> Signer<'a> {
    /// A signer with all keys of this host. `now` goes into the signatures.
    #[must_use]
    pub fn new(keys: &'a [DkimKey], now: WallTime) -> Self {
        Self { keys, now, section: Section::Header(Vec::new()) }
    }

    /// Whether the signer needs more of the message; false if it will not be signed.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        !matches!(self.section, Section::Over(_))
    }

    /// Takes the next piece of the content, of any size.
    pub fn feed(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let (Section::Header(header), false) = (&mut self.section, rest.is_empty()) {
            let end = rest.iter().position(|&octet| octet == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            header.extend_from_slice(line);
            if header.len() > HEADER_MAX_OCTETS {
                self.section = Section::Over(Err(SigningProblem::LongHeader));
            } else if header.ends_with(b"\n\n") || header == b"\n" {
                self.end_header();
            }
            rest = after;
        }
        if let Section::Body { hash, .. } = &mut self.section {
            hash.feed(rest);
        }
    }

    /// Ends the message. Returns the fields to put in front of it, with LF line ends; empty if no key may sign.
    ///
    /// # Errors
    /// The message cannot be signed; see [`SigningProblem`].
    pub fn finish(mut self) -> Result<String, SigningProblem> {
        if matches!(self.section, Section::Header(_)) {
            // The message has no body.
            self.end_header();
        }
        let (fields, keys, hash) = match self.section {
            Section::Over(result) => return result.map(|()| String::new()),
            Section::Header(_) => return Ok(String::new()),
            Section::Body { fields, keys, hash } => (fields, keys, hash.finish()),
        };
        let names = names(&fields);
        let mut signatures = String::new();
        for key in keys {
            let mut field = key.template(self.now, &names, &base64::encode(&hash));
            let text = signed_text(&fields, &field);
            let signature = key.sign(&text).map_err(|error| SigningProblem::Library(error.to_string()))?;
            for letter in base64::encode(&signature).chars() {
                fold(&mut field, letter.encode_utf8(&mut [0; 4]));
            }
            signatures.push_str(&field);
            signatures.push('\n');
        }
        Ok(signatures)
    }

    fn end_header(&mut self) {
        let Section::Header(header) = &self.section else { return };
        self.section = match self.body_of(header) {
            Ok(section) => section,
            Err(problem) => Section::Over(Err(problem)),
        };
    }

    fn body_of(&self, header: &[u8]) -> Result<Section<'a>, SigningProblem> {
        let fields = fields(header).ok_or(SigningProblem::MalformedHeader)?;
        if fields.len() > FIELDS_MAX {
            return Err(SigningProblem::LongHeader);
        }
        let mut from = fields.iter().filter(|field| field.row == FROM);
        let (Some(only), None) = (from.next(), from.next()) else { return Err(SigningProblem::From) };
        let domain = author_domain(&only.relaxed).ok_or(SigningProblem::From)?;
        let keys = choose(self.keys, &domain);
        if keys.is_empty() {
            return Ok(Section::Over(Ok(())));
        }
        Ok(Section::Body { fields, keys, hash: BodyHash::default() })
    }
}

/// The fields of a header section that are signed. `None`: a line is no field.
fn fields(header: &[u8]) -> Option<Vec<SignedField>> {
    let mut fields = Vec::new();
    let mut rest = header;
    while !matches!(rest, [] | [b'\n']) {
        // A field ends before a line that is no continuation.
        let is_end = |pair: &[u8]| matches!(pair, [b'\n', next] if !matches!(next, b' ' | b'\t'));
        let end = rest.windows(2).position(is_end).map_or(rest.len(), |at| at + 1);
        let (field, after) = rest.split_at(end);
        let (name, value) = split_field(field)?;
        let row = SIGNED.iter().position(|(signed, _)| signed.as_bytes().eq_ignore_ascii_case(name));
        fields.extend(row.map(|row| SignedField { row, relaxed: relaxed(name, value) }));
        rest = after;
    }
    Some(fields)
}

/// A field in relaxed form (§3.4.2), without CRLF.
fn relaxed(name: &[u8], value: &[u8]) -> Vec<u8> {
    let words = value.split(|octet| matches!(octet, b' ' | b'\t' | b'\n')).filter(|word| !word.is_empty());
    let value = words.collect::<Vec<_>>().join(&b' ');
    [&name.to_ascii_lowercase(), &b":"[..], &value].concat()
}

/// The domain of the first address of a relaxed From, with A-labels, in lower case. Comments, quoted strings, display
/// names and names of groups are skipped (RFC 5322 §3.4).
fn author_domain(from: &[u8]) -> Option<String> {
    let (mut address, mut comments, mut is_quoted) = (Vec::new(), 0_usize, false);
    let mut octets = from.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' if is_quoted || comments > 0 => drop(octets.next()),
            b'"' if comments == 0 => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' => comments += 1,
            b')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            b'<' | b':' => address.clear(),
            b'>' | b',' | b';' if address.contains(&b'@') => break,
            b' ' => {}
            _ => address.push(*octet),
        }
    }
    let (_, domain) = std::str::from_utf8(&address).ok()?.rsplit_once('@')?;
    let domain = Domain::parse(domain).ok()?;
    Some(domain.name().and_then(|_| domain.to_ascii())?.to_ascii_lowercase())
}

/// The names for h=; see [`SIGNED`].
fn names(fields: &[SignedField]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (row, (name, listed)) in SIGNED.into_iter().enumerate() {
        let count = fields.iter().filter(|field| field.row == row).count();
        if count > 0 || listed == SignWhen::Always {
            names.extend(std::iter::repeat_n(name, count + 1));
        }
    }
    names
}

/// The text that is signed (§3.7): the fields, those of one name from the bottom up (§5.4.2), then the signature's
/// own field without the signature.
fn signed_text(fields: &[SignedField], template: &str) -> Vec<u8> {
    let mut text = Vec::new();
    for row in 0..SIGNED.len() {
        for field in fields.iter().rev().filter(|field| field.row == row) {
            text.extend_from_slice(&field.relaxed);
            text.extend_from_slice(b"\r\n");
        }
    }
    let (name, value) = template.split_once(':').unwrap_or_default();
    text.extend(relaxed(name.as_bytes(), value.as_bytes()));
    text
}

#[cfg(test)]
mod tests;
