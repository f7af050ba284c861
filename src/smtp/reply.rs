//! Replies (RFC 5321 §4.2, RFC 2034): what the server prints and the client reads.
//!
//! A reply of this host cannot carry CR, LF or another control character: they are replaced when it is printed. The
//! parser is lenient about the text of a peer's reply and strict about its codes.
//!
//! ```text
//! 220 mx.example ESMTP              one line
//! 250-mx.example                    "-" after the code: more lines follow, with the same code
//! 250 SIZE 10485760                 a blank, or nothing: the last line
//! 550 5.1.1 no such user            the enhanced status code, if its class fits the code (RFC 2034 §4)
//! ```

use super::limits::REPLY_MAX_LINES;
use crate::mail::status::EnhancedStatus;
use std::borrow::Cow;
use std::fmt;

/// The first digit of a reply code (RFC 5321 §4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// 2yz: done.
    Success,
    /// 3yz: continue.
    Intermediate,
    /// 4yz: not at present.
    Transient,
    /// 5yz: refused.
    Permanent,
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The enhanced status code, where one is defined (RFC 2034 §4).
    pub status: Option<EnhancedStatus>,
    /// The lines of text, without codes; never empty.
    pub lines: Vec<Cow<'static, str>>,
}

impl Reply {
    /// A reply of one line.
    #[must_use]
    pub fn new(code: u16, status: EnhancedStatus, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: Some(status), lines: vec![text.into()] }
    }

    /// A reply without an enhanced status code: greeting, HELO, EHLO and 354 (RFC 2034 §4).
    #[must_use]
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, status: None, lines: vec![text.into()] }
    }

    /// The meaning of the first digit.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self.code / 100 {
            2 => Severity::Success,
            3 => Severity::Intermediate,
            4 => Severity::Transient,
            _ => Severity::Permanent,
        }
    }

    /// Appends the reply to `out` in wire form.
    pub fn print(&self, out: &mut Vec<u8>) {
        for (i, line) in self.lines.iter().enumerate() {
            let separator = if i + 1 == self.lines.len() { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(status) = self.status {
                out.extend_from_slice(format!("{status} ").as_bytes());
            }
            out.extend(line.bytes().map(|b| if b.is_ascii_control() { b'?' } else { b }));
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The reply as one line, for logs, queue files and DSNs: `550 5.1.1 no such user`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        self.lines.iter().filter(|line| !line.is_empty()).try_for_each(|line| write!(f, " {line}"))
    }
}

/// Why a line of a peer is not a reply line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// It does not begin with three digits from 200 to 599, followed by a blank, a hyphen or the end.
    NoCode,
    /// Its code differs from the first code of the reply.
    CodesDiffer,
    /// The reply has too many lines.
    TooManyLines,
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoCode => "the line has no reply code",
            Self::CodesDiffer => "the lines of one reply have different codes",
            Self::TooManyLines => "the reply has too many lines",
        })
    }
}

/// Assembles a peer's reply line by line.
#[derive(Debug, Default)]
pub struct ReplyParser {
    reply: Option<Reply>,
}

impl ReplyParser {
    /// Takes the next line, without its line end; returns the reply after its last line.
    ///
    /// # Errors
    /// The line is malformed. The session cannot continue afterwards.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Reply>, ReplyError> {
        let (code, is_last, text) = split_line(line).ok_or(ReplyError::NoCode)?;
        let reply = self.reply.get_or_insert_with(|| Reply { code, status: None, lines: Vec::new() });
        if reply.code != code {
            return Err(ReplyError::CodesDiffer);
        }
        if reply.lines.len() >= REPLY_MAX_LINES {
            return Err(ReplyError::TooManyLines);
        }
        let (status, text) = split_status(code, text);
        if reply.lines.is_empty() {
            reply.status = status;
        }
        // Only a line with the status of the reply loses it, so that no text of the peer is lost.
        let text =
            if status == reply.status { text } else { split_line(line).map_or(Cow::Borrowed(""), |l| l.2) };
        reply.lines.push(Cow::Owned(text.into_owned()));
        Ok(if is_last { self.reply.take() } else { None })
    }

    /// Whether a reply has begun and is not complete.
    #[must_use]
    pub const fn is_within_reply(&self) -> bool {
        self.reply.is_some()
    }
}

fn split_line(line: &[u8]) -> Option<(u16, bool, Cow<'_, str>)> {
    let (digits, rest) = line.split_at_checked(3)?;
    let code =
        std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()?;
    let (is_last, text) = match rest.split_first() {
        None => (true, rest),
        Some((b' ', text)) => (true, text),
        Some((b'-', text)) => (false, text),
        Some(_) => return None,
    };
    (200..600).contains(&code).then(|| (code, is_last, String::from_utf8_lossy(text)))
}

/// Splits an enhanced status code from the text, if its class agrees with the code (RFC 2034 §4).
fn split_status(code: u16, text: Cow<'_, str>) -> (Option<EnhancedStatus>, Cow<'_, str>) {
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    match EnhancedStatus::parse(word)
        .filter(|_| word.as_bytes().first() == code.to_string().as_bytes().first())
    {
        Some(status) => (Some(status), Cow::Owned(rest.to_owned())),
        None => (None, text),
    }
}

/// Whether a text is a reply: it begins with three digits, and a blank or a hyphen after them. Reasons of this host may begin
/// with the address of another one.
#[must_use]
pub fn is_reply(text: &str) -> bool {
    let code = text.split([' ', '-']).next().unwrap_or_default();
    code.len() == 3 && code.bytes().all(|octet| octet.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_is_no_reply() {
        assert!(is_reply("550 no") && is_reply("550-no") && is_reply("250"));
        for text in ["", "192.0.2.1 offers no AUTH", "550.example offers no AUTH", "5500 no", "55", "connect"]
        {
            assert!(!is_reply(text), "{text}");
        }
    }

    fn parse(text: &str) -> Result<Option<Reply>, ReplyError> {
        let mut parser = ReplyParser::default();
        let mut last = Ok(None);
        for line in text.split_terminator("\r\n") {
            last = parser.line(line.as_bytes());
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        last
    }

    #[test]
    fn replies_of_real_hosts_are_read() {
        let reply = parse("250-2.1.5 first\r\n250 2.1.5 second\r\n").unwrap().unwrap();
        assert_eq!(reply.status, Some(EnhancedStatus::RECIPIENT_OK));
        assert_eq!(reply.lines, ["first", "second"]);
        assert_eq!(reply.to_string(), "250 2.1.5 first second");
        assert_eq!(parse("354\r\n").unwrap().unwrap(), Reply::plain(354, ""));
        assert_eq!(parse("550 4.1.1 classes differ\r\n").unwrap().unwrap().status, None);
        assert_eq!(parse("550 5.1.1\r\n").unwrap().unwrap().to_string(), "550 5.1.1");
        assert_eq!(parse("250-\r\n250 \r\n").unwrap().unwrap().lines, ["", ""]);
    }

    #[test]
    fn broken_replies_are_told_apart() {
        assert_eq!(parse("hello\r\n"), Err(ReplyError::NoCode));
        assert_eq!(parse("25\r\n"), Err(ReplyError::NoCode));
        assert_eq!(parse("2500 x\r\n"), Err(ReplyError::NoCode));
        assert_eq!(parse("650 x\r\n"), Err(ReplyError::NoCode));
        assert_eq!(parse("250-a\r\n550 b\r\n"), Err(ReplyError::CodesDiffer));
        assert_eq!(parse(&"250-x\r\n".repeat(101)), Err(ReplyError::TooManyLines));
        assert_eq!(parse("250-more to come\r\n"), Ok(None));
    }

    #[test]
    fn no_text_forges_a_line() {
        let mut out = Vec::new();
        Reply::new(550, EnhancedStatus::NO_SUCH_USER, "a\r\n250 ok".to_owned()).print(&mut out);
        assert_eq!(out, b"550 5.1.1 a??250 ok\r\n");
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(
            code in 200u16..600, with_status: bool, subject in 0u16..1000,
            lines in proptest::collection::vec("[a-z][ -~]{0,20}", 1..5),
        ) {
            let status = with_status
                .then(|| EnhancedStatus::parse(&format!("{}.{subject}.1", code / 100)))
                .flatten();
            let reply = Reply { code, status, lines: lines.into_iter().map(Cow::Owned).collect() };
            let mut wire = Vec::new();
            reply.print(&mut wire);
            prop_assert_eq!(parse(std::str::from_utf8(&wire).unwrap()), Ok(Some(reply)));
        }
    }
}
