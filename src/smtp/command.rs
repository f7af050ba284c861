//! Commands (RFC 5321 §4.1): one grammar, which the server parses and the client prints.
//!
//! A command is well-formed by construction: its arguments cannot hold CR, LF or NUL, so a printed command is always
//! one line. Whether a command is allowed at a moment is decided by the session, not by the grammar.
//!
//! ```text
//! line    = verb [ blanks argument ] [ blanks ]           at most 2048 octets, AUTH 12288
//! EHLO, HELO, LHLO  any octets; unfit ones become "?"     MAIL  FROM:<path> *( blank parameter )
//! AUTH    mechanism [ initial-response ]                  RCPT  TO:<path> *( blank parameter )
//! BDAT    octets [ LAST ]                                 NOOP, HELP, VRFY, EXPN  any text
//! DATA, RSET, QUIT, STARTTLS  nothing
//! ```
//!
//! More than RFC 5321 allows is accepted where devices send it: see [`Command::parse`].

use crate::mail::address::{self, AddressError};
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::Unqualified;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::Secret;
use std::fmt;

/// A command with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO (§4.1.1.1).
    Ehlo(ClientName),
    /// HELO (§4.1.1.1).
    Helo(ClientName),
    /// LHLO, which is LMTP's EHLO (RFC 2033 §4.1).
    Lhlo(ClientName),
    /// AUTH: the mechanism as written, and the initial response (RFC 4954 §4).
    Auth(String, Option<Secret>),
    /// MAIL (§4.1.1.2); `None` is the null reverse-path. Only this host's own clients may send a bare name.
    Mail(Option<Unqualified>, Vec<Parameter>),
    /// RCPT (§4.1.1.3); bare names as in MAIL, and `postmaster`.
    Rcpt(Unqualified, Vec<Parameter>),
    /// DATA (§4.1.1.4).
    Data,
    /// BDAT: the number of octets that follow, and whether they are the last of the message (RFC 3030 §2).
    Bdat(u64, bool),
    /// STARTTLS (RFC 3207 §4).
    StartTls,
    /// RSET (§4.1.1.5).
    Rset,
    /// VRFY (§4.1.1.6).
    Vrfy,
    /// EXPN (§4.1.1.7).
    Expn,
    /// HELP (§4.1.1.8).
    Help,
    /// NOOP (§4.1.1.9).
    Noop,
    /// QUIT (§4.1.1.10).
    Quit,
}

/// Every verb; [`Command::parse`] decides about their arguments. HELP lists them in this order.
pub const VERBS: [&str; 15] = [
    "EHLO", "HELO", "LHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY",
    "EXPN", "HELP", "QUIT",
];

/// The methods that begin a request of HTTP.
const HTTP_VERBS: [&str; 9] =
    ["GET", "POST", "PUT", "HEAD", "CONNECT", "OPTIONS", "PATCH", "DELETE", "TRACE"];

/// How a client names itself: a domain, an address literal, or what devices send instead. Holds only octets that
/// cannot break out of a Received field or a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientName(String);

impl ClientName {
    /// Longest name in octets, as for any domain (RFC 5321 §4.5.3.1.2).
    const MAX_OCTETS: usize = 255;

    /// Accepts a name of letters, digits and `.-_:[]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = !text.is_empty() && text.len() <= Self::MAX_OCTETS && text.chars().all(Self::fits);
        is_name.then(|| Self(text.to_owned()))
    }

    /// Accepts any name of a client that is not empty: each character that does not fit becomes `?`, and a long name
    /// is cut. Many devices send no proper domain (`my pc`, `(none)`), and refusing them would lose their alerts; RFC
    /// 5321 §4.1.4 forbids refusing mail because the name does not match the client.
    #[must_use]
    pub fn of_client(octets: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(octets);
        let harmless = |c| if Self::fits(c) { c } else { '?' };
        let name: String = text.chars().take(Self::MAX_OCTETS).map(harmless).collect();
        (!name.is_empty()).then_some(Self(name))
    }

    fn fits(c: char) -> bool {
        c.is_ascii_alphanumeric() || ".-_:[]".contains(c)
    }

    /// The name of a host that has no name.
    #[must_use]
    pub fn localhost() -> Self {
        Self("localhost".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A parameter of MAIL or RCPT: `KEYWORD` or `KEYWORD=value` (§4.1.2). The keyword is in upper case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Letters, digits and hyphens.
    pub keyword: String,
    /// Printable characters other than `=` and blanks.
    pub value: Option<String>,
}

impl Parameter {
    fn parse(text: &str) -> Option<Self> {
        let (keyword, value) = text.split_once('=').map_or((text, None), |(k, v)| (k, Some(v)));
        let is_keyword = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
            && keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let is_value = value.is_none_or(|v| !v.is_empty() && v.chars().all(|c| c != '=' && !c.is_control()));
        (is_keyword && is_value)
            .then(|| Self { keyword: keyword.to_ascii_uppercase(), value: value.map(str::to_owned) })
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.keyword),
            None => f.write_str(&self.keyword),
        }
    }
}

/// Why a line is not a command. Each error has its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// An unknown verb.
    Unrecognized,
    /// A request of HTTP: a browser or a script was tricked into connecting to this port.
    Http,
    /// The octets are not text: a control character, or 8-bit octets that are not UTF-8.
    NoText,
    /// An argument for a verb that takes none.
    UnexpectedArgument(&'static str),
    /// HELO or EHLO without a name.
    BadName(&'static str),
    /// AUTH without a mechanism, or with more than a mechanism and a response.
    NoMechanism,
    /// MAIL without `FROM:` or RCPT without `TO:`.
    NoPath(&'static str),
    /// The address in MAIL is malformed.
    BadReversePath(AddressError),
    /// The address in RCPT is malformed.
    BadForwardPath(AddressError),
    /// The text after the path is not a list of parameters.
    BadParameter,
    /// BDAT without a size: what follows cannot be told from commands, so the session must end.
    BadChunk,
}

impl CommandError {
    /// The reply to such a line (RFC 5321 §4.2.2, §4.3.2).
    #[must_use]
    pub fn reply(self) -> Reply {
        let syntax = EnhancedStatus::INVALID_ARGUMENTS;
        match self {
            Self::Unrecognized => Reply::new(500, EnhancedStatus::SYNTAX_ERROR, "command not recognized"),
            Self::Http => {
                Reply::new(421, EnhancedStatus::POLICY_NOW, "this is a mail server, not an HTTP server")
            }
            Self::NoText => {
                Reply::new(500, EnhancedStatus::SYNTAX_ERROR, "a command is a line of plain text")
            }
            Self::UnexpectedArgument(verb) => Reply::new(501, syntax, format!("{verb} takes no argument")),
            Self::BadName(verb) => Reply::new(501, syntax, format!("write {verb} and the name of your host")),
            Self::NoMechanism => Reply::new(501, syntax, "write AUTH and the name of a mechanism"),
            Self::NoPath("MAIL") => Reply::new(501, syntax, "write MAIL FROM:<address>"),
            Self::NoPath(_) => Reply::new(501, syntax, "write RCPT TO:<address>"),
            Self::BadReversePath(e) => Reply::new(501, EnhancedStatus::BAD_SENDER_SYNTAX, e.to_string()),
            Self::BadForwardPath(e) => Reply::new(501, EnhancedStatus::BAD_RECIPIENT_SYNTAX, e.to_string()),
            Self::BadChunk => Reply::new(501, syntax, "write BDAT octets, or BDAT octets LAST"),
            Self::BadParameter => Reply::new(501, syntax, "a parameter is malformed"),
        }
    }
}

impl Command {
    /// Parses a command line without its CRLF. Verbs are accepted in any case (§2.4); blanks at the end are dropped
    /// (§4.1.1). As Postfix does, it accepts what devices write: blanks after `FROM:` and `TO:` and within the
    /// brackets, and paths without brackets.
    ///
    /// # Errors
    /// The reason why the line is not a command; see [`CommandError::reply`].
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let (word, argument) = split_word(line);
        let verb = find_verb(word).ok_or_else(|| unknown(line))?;
        if let Some(hello) = match verb {
            "EHLO" => Some(Self::Ehlo as fn(ClientName) -> Self),
            "HELO" => Some(Self::Helo as fn(ClientName) -> Self),
            "LHLO" => Some(Self::Lhlo as fn(ClientName) -> Self),
            _ => None,
        } {
            return ClientName::of_client(argument).map(hello).ok_or(CommandError::BadName(verb));
        }
        // The length of its chunk is unknown, so the following octets must not be taken for commands.
        let no_text = if verb == "BDAT" { CommandError::BadChunk } else { CommandError::NoText };
        let is_text = |argument: &&str| !argument.chars().any(|c| c.is_control() && c != '\t');
        let argument = std::str::from_utf8(argument).ok().filter(is_text).ok_or(no_text)?;
        let alone = |command| {
            if argument.is_empty() { Ok(command) } else { Err(CommandError::UnexpectedArgument(verb)) }
        };
        match verb {
            "AUTH" => parse_auth(argument).ok_or(CommandError::NoMechanism),
            "MAIL" => {
                let (path, parameters) =
                    parse_path_argument(argument, verb, "FROM:", CommandError::BadReversePath)?;
                if path.trim_matches([' ', '\t']).is_empty() {
                    return Ok(Self::Mail(None, parameters));
                }
                let path = Unqualified::parse_path(path).map_err(CommandError::BadReversePath)?;
                Ok(Self::Mail(Some(path), parameters))
            }
            "RCPT" => {
                let (path, parameters) =
                    parse_path_argument(argument, verb, "TO:", CommandError::BadForwardPath)?;
                Ok(Self::Rcpt(
                    Unqualified::parse_path(path).map_err(CommandError::BadForwardPath)?,
                    parameters,
                ))
            }
            "DATA" => alone(Self::Data),
            "BDAT" => parse_chunk(argument).ok_or(CommandError::BadChunk),
            "STARTTLS" => alone(Self::StartTls),
            "RSET" => alone(Self::Rset),
            "QUIT" => alone(Self::Quit),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "VRFY" => Ok(Self::Vrfy),
            _ => Ok(Self::Expn),
        }
    }
}

/// Splits the verb from the text behind the blanks; blanks at the end are dropped.
fn split_word(line: &[u8]) -> (&[u8], &[u8]) {
    let is_blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let end = line.iter().rposition(|octet| !is_blank(octet)).map_or(0, |last| last + 1);
    let line = line.get(..end).unwrap_or_default();
    let (word, rest) = line.split_at(line.iter().position(is_blank).unwrap_or(line.len()));
    let start = rest.iter().position(|octet| !is_blank(octet)).unwrap_or(rest.len());
    (word, rest.get(start..).unwrap_or_default())
}

fn find_verb(word: &[u8]) -> Option<&'static str> {
    VERBS.into_iter().find(|verb| word.eq_ignore_ascii_case(verb.as_bytes()))
}

/// The error for a line without a known verb.
fn unknown(line: &[u8]) -> CommandError {
    let word = split_word(line).0;
    let last = line.trim_ascii_end().rsplit(|&octet| octet == b' ').next().unwrap_or_default();
    let is_http = HTTP_VERBS.iter().any(|verb| word.eq_ignore_ascii_case(verb.as_bytes()));
    if is_http || last.starts_with(b"HTTP/") { CommandError::Http } else { CommandError::Unrecognized }
}

/// The verb and the path of a command for the log; a malformed path is given as it was written.
#[must_use]
pub fn verb_and_path(line: &[u8]) -> (Option<&'static str>, String) {
    let (word, argument) = split_word(line);
    let text = String::from_utf8_lossy(argument);
    let behind_colon = text.split_once(':').map_or("", |(_, path)| path.trim_matches([' ', '\t']));
    let path = address::split_path(behind_colon).map_or(behind_colon, |(path, _)| path);
    (find_verb(word), path.trim_matches([' ', '\t']).to_owned())
}

/// `mechanism` or `mechanism initial-response`.
fn parse_auth(argument: &str) -> Option<Command> {
    let mut words = argument.split([' ', '\t']).filter(|word| !word.is_empty());
    let mechanism = words.next()?.to_ascii_uppercase();
    let response = words.next().map(|response| Secret::new(response.as_bytes().to_vec()));
    words.next().is_none().then_some(Command::Auth(mechanism, response))
}

/// `octets` or `octets LAST`.
fn parse_chunk(argument: &str) -> Option<Command> {
    let mut words = argument.split([' ', '\t']).filter(|word| !word.is_empty());
    let octets =
        words.next().filter(|w| w.len() <= 20 && w.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Command::Bdat(octets, last))
}

/// Splits `FROM:<path> parameters`.
fn parse_path_argument<'a>(
    argument: &'a str,
    verb: &'static str,
    prefix: &str,
    bad_path: fn(AddressError) -> CommandError,
) -> Result<(&'a str, Vec<Parameter>), CommandError> {
    let rest = match argument.split_at_checked(prefix.len()) {
        Some((word, rest)) if word.eq_ignore_ascii_case(prefix) => rest.trim_start_matches([' ', '\t']),
        _ => return Err(CommandError::NoPath(verb)),
    };
    if rest.is_empty() {
        return Err(CommandError::NoPath(verb));
    }
    let (path, rest) = address::split_path(rest).map_err(bad_path)?;
    let words = rest.split([' ', '\t']).filter(|word| !word.is_empty());
    let parameters = words.map(|word| Parameter::parse(word).ok_or(CommandError::BadParameter));
    Ok((path, parameters.collect::<Result<_, _>>()?))
}

/// The command as a line without its CRLF.
impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_parameters = |f: &mut fmt::Formatter<'_>, parameters: &[Parameter]| {
            parameters.iter().try_for_each(|parameter| write!(f, " {parameter}"))
        };
        match self {
            Self::Ehlo(name) => write!(f, "EHLO {}", name.0),
            Self::Helo(name) => write!(f, "HELO {}", name.0),
            Self::Lhlo(name) => write!(f, "LHLO {}", name.0),
            Self::Auth(mechanism, response) => {
                write!(f, "AUTH {mechanism}")?;
                // Base64 by RFC 4954; a response that is not text was refused before.
                let response =
                    response.as_ref().and_then(|response| std::str::from_utf8(response.octets()).ok());
                response.map_or(Ok(()), |response| write!(f, " {response}"))
            }
            Self::Mail(path, parameters) => {
                f.write_str("MAIL FROM:<")?;
                path.as_ref().map_or(Ok(()), |path| write!(f, "{path}"))?;
                f.write_str(">")?;
                with_parameters(f, parameters)
            }
            Self::Rcpt(path, parameters) => {
                write!(f, "RCPT TO:<{path}>")?;
                with_parameters(f, parameters)
            }
            Self::Data => f.write_str("DATA"),
            Self::Bdat(octets, last) => write!(f, "BDAT {octets}{}", if *last { " LAST" } else { "" }),
            Self::StartTls => f.write_str("STARTTLS"),
            Self::Rset => f.write_str("RSET"),
            Self::Vrfy => f.write_str("VRFY"),
            Self::Expn => f.write_str("EXPN"),
            Self::Help => f.write_str("HELP"),
            Self::Noop => f.write_str("NOOP"),
            Self::Quit => f.write_str("QUIT"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(line: &str) -> Result<String, CommandError> {
        Command::parse(line.as_bytes()).map(|c| c.to_string())
    }

    #[test]
    fn commands_are_read_as_clients_write_them() {
        for (line, canonical) in [
            ("ehlo  box.lan ", "EHLO box.lan"),
            ("HELO [192.0.2.1]", "HELO [192.0.2.1]"),
            ("EHLO my_nas", "EHLO my_nas"),
            ("mail from:<>", "MAIL FROM:<>"),
            ("MAIL FROM: <a@b> size=10  body=8bitmime", "MAIL FROM:<a@b> SIZE=10 BODY=8bitmime"),
            ("MAIL FROM:a@b SIZE=1", "MAIL FROM:<a@b> SIZE=1"),
            ("RCPT TO:<@x,@y:c@d>", "RCPT TO:<c@d>"),
            ("RCPT TO:<Postmaster>", "RCPT TO:<Postmaster>"),
            ("RCPT TO:<root>", "RCPT TO:<root>"),
            ("MAIL FROM:<root> SIZE=1", "MAIL FROM:<root> SIZE=1"),
            ("MAIL FROM:\t< a@b\t>\tSIZE=1", "MAIL FROM:<a@b> SIZE=1"),
            ("MAIL FROM:< >", "MAIL FROM:<>"),
            ("MAIL FROM:\ta@b\tSIZE=1", "MAIL FROM:<a@b> SIZE=1"),
            ("RCPT TO:<a..b@c>", "RCPT TO:<\"a..b\"@c>"),
            ("RCPT TO:<x.@c>", "RCPT TO:<\"x.\"@c>"),
            ("EHLO my pc", "EHLO my?pc"),
            ("EHLO MÜLLER-PC", "EHLO M?LLER-PC"),
            ("HELO (none)", "HELO ?none?"),
            ("LHLO a/b\t;", "LHLO a?b??"),
            ("EHLO HP+LaserJet", "EHLO HP?LaserJet"),
            ("RCPT TO:<\"a b\"@[IPv6:::1]>", "RCPT TO:<\"a b\"@[IPv6:::1]>"),
            ("NOOP anything at all", "NOOP"),
            ("vrfy root", "VRFY"),
            ("Quit\t", "QUIT"),
            ("bdat 10", "BDAT 10"),
            ("starttls ", "STARTTLS"),
            ("lhlo box", "LHLO box"),
            ("auth plain", "AUTH PLAIN"),
            ("AUTH  Login  dGlt ", "AUTH LOGIN dGlt"),
            ("AUTH PLAIN =", "AUTH PLAIN ="),
            ("BDAT 0  last", "BDAT 0 LAST"),
        ] {
            assert_eq!(printed(line).as_deref(), Ok(canonical), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_apart() {
        use CommandError as E;
        for (line, error) in [
            ("", E::Unrecognized),
            ("FROBNICATE", E::Unrecognized),
            ("MAILFROM:<a@b>", E::Unrecognized),
            ("DATA now", E::UnexpectedArgument("DATA")),
            ("QUIT now", E::UnexpectedArgument("QUIT")),
            ("STARTTLS now", E::UnexpectedArgument("STARTTLS")),
            ("EHLO", E::BadName("EHLO")),
            ("HELO \t ", E::BadName("HELO")),
            ("GET / HTTP/1.1", E::Http),
            ("post /x HTTP/1.0", E::Http),
            ("PROPFIND /x HTTP/1.1", E::Http),
            ("DELETE", E::Http),
            ("GETS x", E::Unrecognized),
            ("RCPT TO:Joe <a@b>", E::BadParameter),
            ("RCPT TO:<Joe a@b>", E::BadForwardPath(AddressError::BadLocalPart)),
            ("RCPT TO:<a@b,c@d>", E::BadForwardPath(AddressError::BadLocalPart)),
            ("RCPT TO:<a@b>,<c@d>", E::BadForwardPath(AddressError::BadPath)),
            ("MAIL", E::NoPath("MAIL")),
            ("MAIL FROM", E::NoPath("MAIL")),
            ("MAIL FROM:", E::NoPath("MAIL")),
            ("RCPT FROM:<a@b>", E::NoPath("RCPT")),
            ("RCPT TO:<>", E::BadForwardPath(AddressError::NoDomain)),
            ("MAIL FROM:<a@b", E::BadReversePath(AddressError::BadPath)),
            ("MAIL FROM:<a@b>SIZE=1", E::BadReversePath(AddressError::BadPath)),
            ("MAIL FROM:<a@b> =1", E::BadParameter),
            ("MAIL FROM:<a@b> SIZE=", E::BadParameter),
            ("MAIL FROM:<a@b> A=b=c", E::BadParameter),
            ("AUTH", E::NoMechanism),
            ("AUTH PLAIN a b", E::NoMechanism),
            ("LHLO", E::BadName("LHLO")),
            ("BDAT", E::BadChunk),
            ("BDAT x", E::BadChunk),
            ("BDAT -1", E::BadChunk),
            ("BDAT 1 FIRST", E::BadChunk),
            ("BDAT 1 LAST 2", E::BadChunk),
            ("BDAT 18446744073709551616", E::BadChunk),
            ("NOOP \u{1}", E::NoText),
        ] {
            assert_eq!(printed(line), Err(error), "{line}");
        }
        assert_eq!(Command::parse(b"RCPT TO:<\xff@b>"), Err(CommandError::NoText));
        // The octets of the chunk follow in any case.
        assert_eq!(Command::parse(b"BDAT 6 LAST \xff"), Err(CommandError::BadChunk));
        assert_eq!(Command::parse(b"BDAT 6 \x01"), Err(CommandError::BadChunk));
    }

    #[test]
    fn any_name_of_a_client_is_taken_and_none_can_do_harm() {
        let name = |octets: &[u8]| Command::parse(octets).map(|command| command.to_string());
        assert_eq!(name(b"EHLO M\xdcLLER-PC").as_deref(), Ok("EHLO M?LLER-PC"));
        assert_eq!(name(b"HELO \xff\x01").as_deref(), Ok("HELO ??"));
        let long = format!("EHLO {}", "x".repeat(300));
        assert_eq!(name(long.as_bytes()), Ok(format!("EHLO {}", "x".repeat(255))));
    }

    #[test]
    fn verb_and_path_are_told_as_they_were_written() {
        for (line, verb, path) in [
            ("MAIL FROM:<a@b> SIZE=1", Some("MAIL"), "a@b"),
            ("rcpt to: <Joe a@b>", Some("RCPT"), "Joe a@b"),
            ("RCPT TO:Joe <a@b>", Some("RCPT"), "Joe"),
            ("MAIL FROM:<>", Some("MAIL"), ""),
            ("EHLO x", Some("EHLO"), ""),
            ("FOO x:y", None, "y"),
        ] {
            assert_eq!(verb_and_path(line.as_bytes()), (verb, path.to_owned()), "{line}");
        }
    }

    #[test]
    fn every_verb_is_read() {
        for verb in VERBS {
            assert!(!matches!(Command::parse(verb.as_bytes()), Err(CommandError::Unrecognized)), "{verb}");
        }
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(line in "(MAIL FROM|RCPT TO):<[a-z]{1,5}@[a-z]{1,5}>( [A-Z]{1,4}(=[!-<>-~]{1,6})?){0,3}|(EHLO|HELO) [a-z.-]{1,9}") {
            prop_assert_eq!(printed(&line), Ok(line));
        }

        #[test]
        fn no_octets_make_it_panic_or_print_two_lines(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
            for line in [octets.clone(), [b"MAIL FROM:<", octets.as_slice()].concat(), [b"EHLO ", octets.as_slice()].concat()] {
                if let Ok(command) = Command::parse(&line) {
                    prop_assert!(!command.to_string().contains(['\r', '\n', '\0']));
                }
            }
        }
    }
}
