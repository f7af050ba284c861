//! Addresses as local programs write them: the domain may be missing, and the reader completes it with a domain of
//! this host (`root`, as cron writes). On the wire there are no such addresses (RFC 5321 §2.3.5), except for
//! `postmaster`.
//!
//! Well-formed by construction, like the parts of [`super::address`]; `parse(print(x)) == x`.
//!
//! An addressee that cannot be parsed becomes an address below `unreadable.invalid`. No route leads there, so the
//! sender gets a bounce that quotes the text; the message is not lost silently.

use super::address::{AddressError, Domain, ForwardPath, LocalPart, Mailbox, without_source_route};
use std::fmt;

/// The domain of addressees that cannot be parsed: no domain below `invalid` ever exists.
const UNREADABLE: &str = "unreadable.invalid";
/// How many characters of such text are kept.
const UNREADABLE_MAX_CHARS: usize = 200;

/// A mailbox, or a bare name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unqualified {
    /// The name.
    pub local_part: LocalPart,
    /// `None`: a name of this host.
    pub domain: Option<Domain>,
}

impl Unqualified {
    /// Parses `local-part` or `local-part@domain`, without angle brackets.
    ///
    /// # Errors
    /// The part that is malformed.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        // A local-part has no `@` outside of quotes, so the text can only be one of the two.
        if let Ok(local_part) = LocalPart::parse(text) {
            return Ok(Self { local_part, domain: None });
        }
        let Mailbox { local_part, domain } = Mailbox::parse(text)?;
        Ok(Self { local_part, domain: Some(domain) })
    }

    /// An address that stands for an addressee that cannot be parsed. It quotes the text, in ASCII so that the
    /// message does not need SMTPUTF8 for it, and no route leads to it: the sender gets a bounce.
    #[must_use]
    pub fn unreadable(text: &str) -> Self {
        let mut shown = text.split_whitespace().collect::<Vec<_>>().join(" ");
        shown = shown.chars().take(UNREADABLE_MAX_CHARS).collect();
        let shown = shown.replace(|c| !matches!(c, ' '..='~'), "?");
        let quoted = format!("\"{}\"", shown.replace('\\', "\\\\").replace('"', "\\\""));
        Self {
            local_part: LocalPart::parse(&quoted).unwrap_or_else(|_| LocalPart::postmaster()),
            domain: Some(Domain::Name(UNREADABLE.to_owned())),
        }
    }

    /// Parses the text within the angle brackets of MAIL or RCPT. Blanks at the ends and beside `@`, `.`, `,` and
    /// `:`, as devices write them, are ignored; a source route in front is dropped (RFC 5321 appendix C).
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn parse_path(text: &str) -> Result<Self, AddressError> {
        Self::parse(without_source_route(&without_blanks(text)))
    }

    /// The mailbox; a bare name gets the domain `home`.
    #[must_use]
    pub fn at(&self, home: &Domain) -> Mailbox {
        let domain = self.domain.as_ref().unwrap_or(home).clone();
        Mailbox { local_part: self.local_part.clone(), domain }
    }

    /// The same as a recipient: a bare `postmaster` always means this host's (RFC 5321 §4.5.1).
    #[must_use]
    pub fn forward_path(&self, home: &Domain) -> ForwardPath {
        if self.domain.is_none() && self.local_part.as_str().eq_ignore_ascii_case("postmaster") {
            return ForwardPath::Postmaster;
        }
        ForwardPath::Mailbox(self.at(home))
    }

    /// Whether it is ASCII, so that it can be sent without SMTPUTF8 (RFC 6531).
    #[must_use]
    pub fn is_ascii(&self) -> bool {
        self.local_part.as_str().is_ascii() && self.domain.as_ref().is_none_or(Domain::is_ascii)
    }
}

/// Whether a mailbox stands for an addressee that could not be parsed.
#[must_use]
pub fn is_unreadable(mailbox: &Mailbox) -> bool {
    mailbox.domain.name() == Some(UNREADABLE)
}

impl From<Mailbox> for Unqualified {
    fn from(Mailbox { local_part, domain }: Mailbox) -> Self {
        Self { local_part, domain: Some(domain) }
    }
}

/// Removes blanks that have no meaning; within quotes every blank may have one.
fn without_blanks(text: &str) -> String {
    let text = text.trim_matches([' ', '\t']);
    if text.contains('"') {
        return text.to_owned();
    }
    let joins = |c: Option<char>| c.is_some_and(|c| matches!(c, '@' | '.' | ',' | ':'));
    let mut joined = String::with_capacity(text.len());
    for word in text.split([' ', '\t']).filter(|word| !word.is_empty()) {
        if !joined.is_empty() && !joins(joined.chars().next_back()) && !joins(word.chars().next()) {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

impl fmt::Display for Unqualified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.local_part.fmt(f)?;
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bare_name_is_one_of_this_host() {
        let home = Domain::parse("box.example").unwrap();
        for (text, printed, path) in [
            ("root", "root", "root@box.example"),
            ("a@b.example", "a@b.example", "a@b.example"),
            ("\"a@b\"", "\"a@b\"", "\"a@b\"@box.example"),
            ("\"a b\"@c", "\"a b\"@c", "\"a b\"@c"),
            ("Postmaster", "Postmaster", "postmaster"),
            ("postmaster@far.example", "postmaster@far.example", "postmaster@far.example"),
        ] {
            let address = Unqualified::parse(text).unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(address.forward_path(&home).to_string(), path);
        }
        for text in ["", "@", "a@", "@b", "a b", "a\nb", "a@b c", "<a>", "a@b@c", "\"a"] {
            assert!(Unqualified::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_address_to_nobody() {
        let home = Domain::parse("box.example").unwrap();
        for (text, printed) in [
            ("a@", "\"a@\"@unreadable.invalid"),
            (" J\u{f6}rg\n \"[x\\\0", "\"J?rg \\\"[x\\\\?\"@unreadable.invalid"),
        ] {
            let address = Unqualified::unreadable(text);
            assert_eq!(address.to_string(), printed);
            assert!(address.is_ascii() && is_unreadable(&address.at(&home)));
            assert_eq!(Unqualified::parse(printed), Ok(address));
        }
        assert!(Unqualified::unreadable(&"\"".repeat(1000)).to_string().len() < 500);
        assert!(!is_unreadable(&Mailbox::parse("a@invalid").unwrap()));
    }

    #[test]
    fn blanks_in_a_path_count_for_nothing() {
        for (text, printed) in [
            (" a@b.example\t", "a@b.example"),
            ("a @ b . example", "a@b.example"),
            ("@x , @y : a@b", "a@b"),
            (" root ", "root"),
            (" \"a  b\"@c ", "\"a  b\"@c"),
            ("a..b@c", "\"a..b\"@c"),
        ] {
            assert_eq!(Unqualified::parse_path(text).unwrap().to_string(), printed, "{text:?}");
        }
        for text in ["a b@c", "Joe a@b", "a@b c@d", "a@b,c@d", "a@b, c@d", "a@b c", " ", "\"a\" @c"] {
            assert!(Unqualified::parse_path(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_again(text in "[a-zé\"\\\\@. \\[\\]<>\n]{0,12}") {
            if let Ok(address) = Unqualified::parse(&text) {
                prop_assert_eq!(Unqualified::parse_path(&address.to_string()), Ok(address.clone()));
                prop_assert_eq!(Unqualified::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
