//! Addresses as the envelope holds them: domains, local-parts, mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3).
//!
//! A value of these types is well-formed by construction: it holds no CR, LF, NUL or other control character, so it
//! cannot forge a command, a header field or a log line. `parse(print(x)) == x` holds for each type.
//!
//! | text | type | accepted beyond RFC 5321, because real senders use it |
//! | --- | --- | --- |
//! | `example.org`, `[192.0.2.1]` | [`Domain`] | a trailing dot (dropped), underscores |
//! | `"John Doe"`, `alice` | [`LocalPart`] | dots anywhere (`a..b`), up to 256 octets |
//! | `alice@example.org` | [`Mailbox`] | – |
//! | the argument of MAIL | [`ReversePath`] | source routes (dropped), no brackets |
//! | the argument of RCPT | [`ForwardPath`] | the same |
//!
//! Case: a domain compares without regard to ASCII case; a local-part keeps its case, which counts except for local
//! users.

use super::idna;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest domain in octets (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_MAX_OCTETS: usize = 255;
/// Longest local-part in octets. RFC 5321 §4.5.3.1.1 requires 64; senders with VERP use more, and Postfix accepts
/// more.
pub const LOCAL_PART_MAX_OCTETS: usize = 256;
/// Longest label of a domain name in octets (RFC 1035 §2.3.4).
const LABEL_MAX_OCTETS: usize = 63;

/// Why the text of an address is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressError {
    /// The domain is missing where one is needed.
    NoDomain,
    /// The domain is neither a host name nor an address literal (RFC 5321 §4.1.3).
    BadDomain,
    /// The local-part is neither a dot-string nor a quoted string.
    BadLocalPart,
    /// A part is longer than this program accepts.
    TooLong,
    /// The angle brackets do not pair, or there is text outside them.
    BadPath,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDomain => "the address has no domain",
            Self::BadDomain => "the domain is not a host name or an address literal",
            Self::BadLocalPart => "the local part is malformed",
            Self::TooLong => "the address is too long",
            Self::BadPath => "the angle brackets of the path do not match",
        })
    }
}

impl std::error::Error for AddressError {}

/// A domain: a host name or an address literal. Compared without regard to ASCII case (RFC 5321 §2.4); the original
/// case is kept for passing it on.
#[derive(Debug, Clone)]
pub enum Domain {
    /// A host name, possibly with U-labels (RFC 6531); without the trailing dot.
    Name(String),
    /// An address literal such as `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 §4.1.3).
    Literal(IpAddr),
}

impl Domain {
    /// Parses a host name or an address literal. A single trailing dot is dropped.
    ///
    /// # Errors
    /// `BadDomain` for any other text, `TooLong` over 255 octets, `NoDomain` for the empty text.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(AddressError::BadDomain)?;
            return parse_literal(inner).map(Self::Literal).ok_or(AddressError::BadDomain);
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err(AddressError::NoDomain);
        }
        if name.len() > DOMAIN_MAX_OCTETS {
            return Err(AddressError::TooLong);
        }
        if name.split('.').all(is_label) {
            Ok(Self::Name(name.to_owned()))
        } else {
            Err(AddressError::BadDomain)
        }
    }

    /// The host name, if it is not a literal.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            Self::Literal(_) => None,
        }
    }

    /// The name with A-labels (RFC 5890) in lower case, or the literal with its brackets: for keys and comparisons.
    #[must_use]
    pub fn key(&self) -> String {
        self.to_ascii().unwrap_or_else(|| self.to_string()).to_ascii_lowercase()
    }

    /// The domain in the form that DNS and hosts without SMTPUTF8 use; `None` if it has no such form.
    #[must_use]
    pub fn to_ascii(&self) -> Option<String> {
        match self {
            Self::Name(name) if !name.is_ascii() => {
                idna::to_ascii(name).filter(|ascii| ascii.len() <= DOMAIN_MAX_OCTETS)
            }
            _ => Some(self.to_string()),
        }
    }

    /// Whether it can be sent without SMTPUTF8 (RFC 6531) and IDNA.
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.name().is_none_or(str::is_ascii)
    }
}

/// Whether the text is a label: letters, digits, hyphens except at the ends, and underscores, which real hosts use;
/// or U-label text.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LABEL_MAX_OCTETS
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || is_utf8_text(c))
}

/// Whether the character is beyond ASCII and is neither a control, a separator nor a format character that could hide
/// in a terminal.
fn is_utf8_text(c: char) -> bool {
    !c.is_ascii()
        && !c.is_control()
        && !c.is_whitespace()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn parse_literal(inner: &str) -> Option<IpAddr> {
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
            inner.get(5..)?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        }
        _ => inner.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Literal(IpAddr::V4(ip)) => write!(f, "[{ip}]"),
            Self::Literal(IpAddr::V6(ip)) => write!(f, "[IPv6:{ip}]"),
        }
    }
}

impl PartialEq for Domain {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(a), Self::Name(b)) if a.is_ascii() && b.is_ascii() => a.eq_ignore_ascii_case(b),
            (Self::Name(_), Self::Name(_)) => self.key() == other.key(),
            (Self::Literal(a), Self::Literal(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Domain {}

impl Hash for Domain {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // That of the key; for most names without a copy on the heap, because the queue's index asks for it often.
        let mut lower = [0; DOMAIN_MAX_OCTETS];
        match self
            .name()
            .filter(|name| name.is_ascii())
            .and_then(|name| Some((name, lower.get_mut(..name.len())?)))
        {
            Some((name, lower)) => {
                lower.copy_from_slice(name.as_bytes());
                lower.make_ascii_lowercase();
                lower.hash(state);
            }
            None => self.key().as_bytes().hash(state),
        }
    }
}

/// A local-part, held without its quotes (RFC 5321 §4.1.2). Its case is kept and counts, except for local users.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LocalPart(String);

impl LocalPart {
    /// Parses a dot-string or a quoted string. Dots may stand anywhere, as in the addresses that carriers give to
    /// phones (`a..b@carrier.example`); such a local-part is printed within quotes, which makes it valid.
    ///
    /// # Errors
    /// `BadLocalPart` or `TooLong`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let content = match text.strip_prefix('"') {
            Some(rest) => unquote(rest).ok_or(AddressError::BadLocalPart)?,
            None if !text.is_empty() && text.chars().all(|c| c == '.' || is_atext(c)) => text.to_owned(),
            None => return Err(AddressError::BadLocalPart),
        };
        if content.len() > LOCAL_PART_MAX_OCTETS { Err(AddressError::TooLong) } else { Ok(Self(content)) }
    }

    /// `postmaster` (RFC 5321 §4.5.1).
    #[must_use]
    pub fn postmaster() -> Self {
        Self("postmaster".to_owned())
    }

    /// The content without quotes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if matches!(c, '"' | '\\') {
                f.write_str("\\")?;
            }
            fmt::Write::write_char(f, c)?;
        }
        f.write_str("\"")
    }
}

/// The content of a quoted string whose opening quote is already removed; `None` unless it ends with its closing
/// quote.
fn unquote(rest: &str) -> Option<String> {
    let mut content = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => break,
            '\\' => content.push(chars.next().filter(|c| matches!(c, ' '..='~'))?),
            c if matches!(c, ' '..='~') || is_utf8_text(c) => content.push(c),
            _ => return None,
        }
    }
    chars.as_str().is_empty().then_some(content)
}

fn is_dot_string(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

/// `atext` of RFC 5322 §3.2.3, with the UTF-8 of RFC 6531.
#[must_use]
pub fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_utf8_text(c)
}

/// `local-part@domain` (RFC 5321 §2.3.11).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    /// The text before the last `@` outside of quotes.
    pub local_part: LocalPart,
    /// The text after it.
    pub domain: Domain,
}

impl Mailbox {
    /// Parses `local-part@domain`, without angle brackets.
    ///
    /// # Errors
    /// The part that is malformed.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (local_part, domain) = split_at_sign(text)?;
        Ok(Self { local_part: LocalPart::parse(local_part)?, domain: Domain::parse(domain)? })
    }

    /// Whether it is ASCII, so that it can be sent without SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local_part.0.is_ascii() && self.domain.is_ascii()
    }

    /// The same mailbox in ASCII, its domain with A-labels; `None` if its local-part is not ASCII.
    #[must_use]
    pub fn to_ascii(&self) -> Option<Self> {
        let domain = match &self.domain {
            Domain::Name(_) => Domain::Name(self.domain.to_ascii()?),
            literal @ Domain::Literal(_) => literal.clone(),
        };
        self.local_part.0.is_ascii().then(|| Self { local_part: self.local_part.clone(), domain })
    }
}

/// Splits at the `@` that ends the local-part; an `@` within quotes does not.
fn split_at_sign(text: &str) -> Result<(&str, &str), AddressError> {
    let at = if text.starts_with('"') {
        let mut escaped = false;
        let close = text.char_indices().skip(1).find(|&(_, c)| {
            let closes = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            closes
        });
        close.map(|(i, _)| i + 1).filter(|&i| text.as_bytes().get(i) == Some(&b'@'))
    } else {
        text.rfind('@')
    };
    let at =
        at.ok_or(if text.contains('@') { AddressError::BadLocalPart } else { AddressError::NoDomain })?;
    match (text.get(..at), text.get(at + 1..)) {
        (Some(local_part), Some(domain)) => Ok((local_part, domain)),
        _ => Err(AddressError::BadLocalPart),
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local_part, self.domain)
    }
}

/// The argument of MAIL (RFC 5321 §3.3). The null reverse-path is never bounced to (§4.5.5).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`.
    Null,
    /// Where bounces go.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Parses the text between the angle brackets; a source route in front is dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    /// Those of [`Mailbox::parse`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            Ok(Self::Null)
        } else {
            Mailbox::parse(without_source_route(text)).map(Self::Mailbox)
        }
    }

    /// The mailbox, unless it is the null sender.
    #[must_use]
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

/// Printed without angle brackets: the null reverse-path is the empty text.
impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// The argument of RCPT (RFC 5321 §3.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<postmaster>` without a domain, in any case of letters (§4.5.1).
    Postmaster,
    /// Every other recipient.
    Mailbox(Mailbox),
}

impl ForwardPath {
    /// Parses the text between the angle brackets; a source route in front is dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    /// Those of [`Mailbox::parse`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.eq_ignore_ascii_case("postmaster") {
            return Ok(Self::Postmaster);
        }
        Mailbox::parse(without_source_route(text)).map(Self::Mailbox)
    }
}

/// Printed without angle brackets.
impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postmaster => f.write_str("postmaster"),
            Self::Mailbox(mailbox) => mailbox.fmt(f),
        }
    }
}

/// `@a,@b:user@c` → `user@c`, if the text before the colon is a list of domains.
pub(super) fn without_source_route(text: &str) -> &str {
    let Some((route, rest)) = text.split_once(':').filter(|_| text.starts_with('@')) else { return text };
    let hops_are_domains =
        route.split(',').all(|hop| hop.strip_prefix('@').is_some_and(|d| Domain::parse(d).is_ok()));
    if hops_are_domains { rest } else { text }
}

/// Splits `<path> rest` of a MAIL or RCPT argument into the text within the brackets and the text after them. A path
/// without brackets ends at the first blank, as old devices send it and Postfix accepts it.
///
/// # Errors
/// `BadPath` if a bracket is missing, or something other than a blank follows the closing one.
pub fn split_path(argument: &str) -> Result<(&str, &str), AddressError> {
    let Some(inner) = argument.strip_prefix('<') else {
        let (path, rest) = argument.split_once([' ', '\t']).unwrap_or((argument, ""));
        return if path.is_empty() || path.contains(['<', '>']) {
            Err(AddressError::BadPath)
        } else {
            Ok((path, rest))
        };
    };
    let (mut quoted, mut escaped) = (false, false);
    let close = inner.char_indices().find(|&(_, c)| {
        let closes = c == '>' && !quoted;
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        closes
    });
    let (path, rest) = close.and_then(|(i, _)| inner.split_at_checked(i)).ok_or(AddressError::BadPath)?;
    match rest.strip_prefix('>') {
        Some("") => Ok((path, "")),
        Some(rest) => rest.strip_prefix([' ', '\t']).map(|rest| (path, rest)).ok_or(AddressError::BadPath),
        None => Err(AddressError::BadPath),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn well_formed_mailboxes_keep_their_meaning() {
        for (text, printed) in [
            ("user@example.org", "user@example.org"),
            ("User@Example.ORG.", "User@Example.ORG"),
            ("\"user\"@example.org", "user@example.org"),
            ("\"a b\"@example.org", "\"a b\"@example.org"),
            ("\"a@b\"@example.org", "\"a@b\"@example.org"),
            ("\"a\\\"b\\\\\"@example.org", "\"a\\\"b\\\\\"@example.org"),
            ("\"\"@example.org", "\"\"@example.org"),
            ("a+b=c@[192.0.2.1]", "a+b=c@[192.0.2.1]"),
            ("a@[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"),
            ("a@[ipv6:::1]", "a@[IPv6:::1]"),
            ("a@my_host", "a@my_host"),
            ("jürgen@bücher.example", "jürgen@bücher.example"),
            ("a!b%c@d.example", "a!b%c@d.example"),
            ("a..b@c", "\"a..b\"@c"),
            (".a@b", "\".a\"@b"),
            ("a.@b", "\"a.\"@b"),
            ("..@b", "\"..\"@b"),
        ] {
            assert_eq!(Mailbox::parse(text).map(|m| m.to_string()), Ok(printed.to_owned()), "{text}");
        }
    }

    /// Found by fuzzing: the key of such a domain was a domain that could not be read again.
    #[test]
    fn a_domain_whose_a_labels_are_too_long_for_dns_has_no_ascii_form() {
        let domain = Domain::parse(&"é.".repeat(84)).unwrap();
        assert_eq!(domain.to_ascii(), None);
        assert_eq!(Domain::parse(&domain.key()), Ok(domain));
    }

    #[test]
    fn malformed_mailboxes_are_refused() {
        for text in [
            "",
            "@",
            "user",
            "user@",
            "@example.org",
            "a b@c",
            "a@b c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "\"a@b",
            "\"a\"b@c",
            "a\"b\"@c",
            "a@[1.2.3]",
            "a@[IPv6:zz]",
            "a@[1.2.3.4",
            "a\r@b",
            "\"a\nb\"@c",
            "\"a\0\"@c",
            "a@b\u{7f}",
            "a@b@c",
            "a\u{202e}b@c",
            "a@exa\u{200b}mple.org",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Mailbox::parse(&format!("{}@b", "a".repeat(257))), Err(AddressError::TooLong));
        assert_eq!(Mailbox::parse(&format!("a@{}", "a.".repeat(128) + "b")), Err(AddressError::TooLong));
        assert!(Mailbox::parse(&format!("a@{}", "a.".repeat(127) + "b")).is_ok(), "255 octets");
    }

    #[test]
    fn source_routes_are_dropped() {
        let path = ForwardPath::parse("@a.example,@b.example:user@c.example").unwrap();
        assert_eq!(path.to_string(), "user@c.example");
        assert!(ForwardPath::parse("@a.example:").is_err());
        assert!(ForwardPath::parse("@:user@c").is_err());
    }

    #[test]
    fn postmaster_needs_no_domain() {
        assert_eq!(ForwardPath::parse("PostMaster"), Ok(ForwardPath::Postmaster));
        assert_eq!(ForwardPath::parse("root"), Err(AddressError::NoDomain));
    }

    #[test]
    fn paths_are_cut_at_their_own_bracket() {
        assert_eq!(split_path("<a@b> SIZE=1"), Ok(("a@b", "SIZE=1")));
        assert_eq!(split_path("<\"a>b\"@c>"), Ok(("\"a>b\"@c", "")));
        assert_eq!(split_path("<\"a\\\">b\"@c> X"), Ok(("\"a\\\">b\"@c", "X")));
        assert_eq!(split_path("<>"), Ok(("", "")));
        assert_eq!(split_path("a@b BODY=7BIT"), Ok(("a@b", "BODY=7BIT")));
        assert_eq!(split_path("a@b\tBODY=7BIT"), Ok(("a@b", "BODY=7BIT")));
        assert_eq!(split_path("<a@b>\tX"), Ok(("a@b", "X")));
        for text in ["<a@b", "a@b>", "<a@b>x", "", "<\"a>@b"] {
            assert_eq!(split_path(text), Err(AddressError::BadPath), "{text}");
        }
    }

    #[test]
    fn domains_compare_without_case() {
        assert_eq!(Domain::parse("Example.ORG"), Domain::parse("example.org."));
        assert_eq!(Domain::parse("Bücher.example"), Domain::parse("xn--bcher-kva.EXAMPLE"));
        assert_ne!(Domain::parse("bücher.example"), Domain::parse("bucher.example"));
        assert_ne!(Domain::parse("[192.0.2.1]"), Domain::parse("192.0.2.1"));
    }

    #[test]
    fn equal_domains_have_one_hash() {
        let hash = |text: &str| {
            let mut hasher = std::hash::DefaultHasher::new();
            Domain::parse(text).unwrap().hash(&mut hasher);
            hasher.finish()
        };
        let long = "a".repeat(63);
        let long = [&*long; 4].join(".");
        for (one, other) in [
            ("Far.Example", "far.example"),
            ("xn--ZRICH-kva.example", "zürich.example"),
            ("[192.0.2.1]", "[192.0.2.1]"),
            (&*long, &*long.to_uppercase()),
        ] {
            assert_eq!(Domain::parse(one), Domain::parse(other));
            assert_eq!(hash(one), hash(other), "{one}");
        }
        assert_ne!(hash("a.example"), hash("b.example"));
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(local in "[ -~]{1,40}", domain in "[a-z0-9]{1,10}(\\.[a-z0-9]{1,10}){0,3}") {
            let mailbox = Mailbox { local_part: LocalPart(local), domain: Domain::Name(domain) };
            prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox.clone()));
            let printed = mailbox.to_string();
            let bracketed = format!("<{printed}> X=1");
            prop_assert_eq!(split_path(&bracketed), Ok((printed.as_str(), "X=1")));
        }

        #[test]
        fn no_text_makes_it_panic_or_carry_controls(text in "\\PC{0,60}|[\\x00-\\x7f]{0,60}") {
            if let Ok(mailbox) = Mailbox::parse(&text) {
                prop_assert!(!mailbox.to_string().chars().any(char::is_control));
                prop_assert_eq!(Mailbox::parse(&mailbox.to_string()), Ok(mailbox));
            }
            let _ = split_path(&text);
        }
    }
}
