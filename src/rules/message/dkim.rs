//! DKIM signatures of mail that leaves (RFC 6376): RSA-SHA256 and Ed25519-SHA256 (RFC 8463), relaxed/relaxed.
//!
//! It reads a message once, in pieces, keeps no more of it than its header section, and gives the fields to put in front.
//! Content and fields have LF line ends ([`crate::mail::message`]); what is hashed has CRLF, as the client sends it. Which
//! keys sign is up to the domain in From. It never changes the message, and never says who may use a key: a caller that
//! signs what strangers send makes their forgeries genuine. May fail, with a [`Problem`]: then the mail goes unsigned.
//!
//! No `l=`, which lets others append to the body (§8.2), no `x=`, which makes queued mail stale, and no `i=`.

use crate::mail::address::Domain;
use crate::mail::base64;
use crate::mail::date::WallTime;
use crate::mail::header::split_field;
use crate::rules::advice::authenticity::tag;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::sha::{Sha256, sha256};
use std::fmt;

/// Shortest RSA key in bits (RFC 8301 §3.2).
pub const RSA_BITS_MIN: u32 = 1024;
/// What an RSA key should have at least (RFC 8301 §3.2): some hosts take no shorter one any more.
pub const RSA_BITS_GOOD: u32 = 2048;
/// Longest header section that is signed, in octets.
pub const HEADER_MAX_OCTETS: usize = 256 * 1024;
/// Most fields that are signed: some of each, where RFC 5322 §3.6 allows one.
pub const FIELDS_MAX: usize = 100;
/// Longest line of a signature, where it can be folded, in characters (RFC 5322 §2.1.1).
const LINE_MAX: usize = 78;

/// What is signed. Each is named once more than it is there, so that nobody can add another one that readers would see in
/// place of ours (§8.15); RFC 5322 §3.6 allows none more than once anyway. `Always`: also where there is none. That is for
/// fields that no honest host adds on the way, while some do add a To, Date or Message-ID that is missing.
const SIGNED: [(&str, Listed); 21] = [
    ("from", Listed::Always),
    ("reply-to", Listed::Always),
    ("subject", Listed::Always),
    ("cc", Listed::Always),
    ("to", Listed::IfPresent),
    ("date", Listed::IfPresent),
    ("message-id", Listed::IfPresent),
    ("sender", Listed::IfPresent),
    ("in-reply-to", Listed::IfPresent),
    ("references", Listed::IfPresent),
    ("mime-version", Listed::IfPresent),
    ("content-type", Listed::IfPresent),
    ("content-transfer-encoding", Listed::IfPresent),
    ("list-id", Listed::IfPresent),
    ("list-help", Listed::IfPresent),
    ("list-unsubscribe", Listed::IfPresent),
    // RFC 8058 §4 wants this one signed.
    ("list-unsubscribe-post", Listed::IfPresent),
    ("list-subscribe", Listed::IfPresent),
    ("list-post", Listed::IfPresent),
    ("list-owner", Listed::IfPresent),
    ("list-archive", Listed::IfPresent),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Always,
    IfPresent,
}

/// A private key, and where its public half stands in DNS.
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

/// Why a key is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyProblem {
    /// The text is none, or it has a password.
    NoKey,
    /// It is of another kind.
    Kind,
    /// An RSA key of so many bits.
    Short(u32),
    /// Domain or selector have no form in ASCII.
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
    /// Reads a private key in PEM, for `SELECTOR._domainkey.DOMAIN`.
    ///
    /// # Errors
    /// What is wrong with it.
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

    /// Where its public half has to stand in DNS.
    #[must_use]
    pub fn record_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// Whether a TXT record has its public half (§3.6.1, RFC 8463 §4).
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

    /// Whether it may sign for a domain: its own, or one below it, which DMARC takes for aligned (RFC 7489 §3.1.1).
    fn serves(&self, domain: &str) -> bool {
        domain.strip_suffix(&self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    fn sign(&self, text: &[u8]) -> Result<Vec<u8>, ErrorStack> {
        use openssl::sign::Signer;
        match self.algorithm {
            Algorithm::RsaSha256 => {
                Signer::new(MessageDigest::sha256(), &self.key)?.sign_oneshot_to_vec(text)
            }
            // What is signed is the hash (RFC 8463 §3).
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

/// Appends a piece, on the next line if it does not fit on this one.
fn fold(field: &mut String, piece: &str) {
    let column = field.len() - field.rfind('\n').map_or(0, |end| end + 1);
    if column + piece.len() > LINE_MAX {
        field.push_str("\n\t");
        field.push_str(piece.trim_start());
    } else {
        field.push_str(piece);
    }
}

/// The keys that sign for a domain, in lower case: those with the most of it in common.
#[must_use]
pub fn choose<'a>(keys: &'a [DkimKey], domain: &str) -> Vec<&'a DkimKey> {
    let serving = || keys.iter().filter(|key| key.serves(domain));
    let longest = serving().map(|key| key.domain.len()).max();
    serving().filter(|key| Some(key.domain.len()) == longest).collect()
}

/// Why a message is not signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// Its header section is longer than [`HEADER_MAX_OCTETS`], or has more than [`FIELDS_MAX`] fields to sign.
    LongHeader,
    /// A line of its header section is no field: verifiers would not agree on what was signed.
    MalformedHeader,
    /// It has not exactly one From (RFC 5322 §3.6), or no domain is in it.
    From,
    /// OpenSSL's words.
    Library(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LongHeader => f.write_str("the header section is too long"),
            Self::MalformedHeader => f.write_str("a line of the header section is no field"),
            Self::From => f.write_str("there is not one From with an address"),
            Self::Library(error) => f.write_str(error),
        }
    }
}

impl std::error::Error for Problem {}

/// A field that is signed: its row in [`SIGNED`], and what is hashed of it, without CRLF.
#[derive(Debug)]
struct Field {
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
        fields: Vec<Field>,
        keys: Vec<&'a DkimKey>,
        hash: BodyHash,
    },
    /// No key serves, or there is a problem.
    Over(Result<(), Problem>),
}

impl<'a> Signer<'a> {
    /// A signer with all keys that there are. `now` goes into the signatures.
    #[must_use]
    pub fn new(keys: &'a [DkimKey], now: WallTime) -> Self {
        Self { keys, now, section: Section::Header(Vec::new()) }
    }

    /// Whether more of the message has to be read: not if it won't be signed.
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
                self.section = Section::Over(Err(Problem::LongHeader));
            } else if header.ends_with(b"\n\n") || header == b"\n" {
                self.end_header();
            }
            rest = after;
        }
        if let Section::Body { hash, .. } = &mut self.section {
            hash.feed(rest);
        }
    }

    /// The message has ended. Gives the fields to put in front of it, with LF line ends; none if no key serves.
    ///
    /// # Errors
    /// It can't be signed.
    pub fn finish(mut self) -> Result<String, Problem> {
        if matches!(self.section, Section::Header(_)) {
            // There is no body.
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
            let signature = key.sign(&text).map_err(|error| Problem::Library(error.to_string()))?;
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

    fn body_of(&self, header: &[u8]) -> Result<Section<'a>, Problem> {
        let fields = fields(header).ok_or(Problem::MalformedHeader)?;
        if fields.len() > FIELDS_MAX {
            return Err(Problem::LongHeader);
        }
        let mut from = fields.iter().filter(|field| field.row == FROM);
        let (Some(only), None) = (from.next(), from.next()) else { return Err(Problem::From) };
        let domain = author_domain(&only.relaxed).ok_or(Problem::From)?;
        let keys = choose(self.keys, &domain);
        if keys.is_empty() {
            return Ok(Section::Over(Ok(())));
        }
        Ok(Section::Body { fields, keys, hash: BodyHash::default() })
    }
}

/// The fields of a header section that are signed. `None` if a line is no field.
fn fields(header: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    let mut rest = header;
    while !matches!(rest, [] | [b'\n']) {
        // A field ends where a line begins that is no continuation.
        let is_end = |pair: &[u8]| matches!(pair, [b'\n', next] if !matches!(next, b' ' | b'\t'));
        let end = rest.windows(2).position(is_end).map_or(rest.len(), |at| at + 1);
        let (field, after) = rest.split_at(end);
        let (name, value) = split_field(field)?;
        let row = SIGNED.iter().position(|(signed, _)| signed.as_bytes().eq_ignore_ascii_case(name));
        fields.extend(row.map(|row| Field { row, relaxed: relaxed(name, value) }));
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

/// The domain of the first address of a From in relaxed form, as DNS knows it, in lower case. Comments, quoted strings,
/// display names and the names of groups are passed over (RFC 5322 §3.4).
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
fn names(fields: &[Field]) -> Vec<&'static str> {
    let mut names = Vec::new();
    for (row, (name, listed)) in SIGNED.into_iter().enumerate() {
        let count = fields.iter().filter(|field| field.row == row).count();
        if count > 0 || listed == Listed::Always {
            names.extend(std::iter::repeat_n(name, count + 1));
        }
    }
    names
}

/// What is signed (§3.7): the fields, those of a name from the bottom up (§5.4.2), and at last the signature's own without
/// the signature.
fn signed_text(fields: &[Field], template: &str) -> Vec<u8> {
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

/// The hash of a body in relaxed form (§3.4.4): no blanks at the ends of lines, one for each run of them within, no empty
/// lines at the end.
#[derive(Default)]
struct BodyHash {
    hash: Sha256,
    /// Line ends that are hashed when text follows.
    line_ends: u64,
    /// Whether blanks came since the last text.
    is_blank: bool,
    has_text: bool,
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyHash")
    }
}

impl BodyHash {
    fn feed(&mut self, piece: &[u8]) {
        let is_text = |octet: &u8| !matches!(octet, b' ' | b'\t' | b'\n');
        for run in piece.chunk_by(|a, b| is_text(a) && is_text(b)) {
            match run {
                [b'\n'] => {
                    self.line_ends += 1;
                    self.is_blank = false;
                }
                [b' ' | b'\t'] => self.is_blank = true,
                text => self.text(text),
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        for _ in 0..std::mem::take(&mut self.line_ends) {
            self.hash.update(b"\r\n");
        }
        if std::mem::take(&mut self.is_blank) {
            self.hash.update(b" ");
        }
        self.hash.update(text);
        self.has_text = true;
    }

    fn finish(mut self) -> [u8; 32] {
        if self.has_text {
            self.hash.update(b"\r\n");
        }
        self.hash.finish()
    }
}

#[cfg(test)]
mod tests;
