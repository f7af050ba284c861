//! The exchange that follows AUTH (RFC 4954 §4): PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login).
//!
//! The exchange takes the client's lines and says what to answer, until it has a name and a password. It does not
//! check whether these are right, and it keeps nothing of a failed exchange. Anything that a client sends may be
//! wrong: then the exchange ends with a reply, and the session continues without AUTH.
//!
//! ```text
//! mechanism  initial response        without one           next line
//! PLAIN      done                    334 (empty)           done
//! LOGIN      the name, 334 Password  334 Username          the name, 334 Password; then the password, done
//! ```
//!
//! SASLprep (RFC 4616 §2) is not applied: names and passwords are compared octet by octet, as crypt(3) does.

pub mod client;

use super::line::Line;
use super::reply::Reply;
use crate::mail::base64;
use crate::mail::status::EnhancedStatus;
use std::fmt;

/// Longest name or password in octets (RFC 4616 §2: at least 255 must be accepted).
pub const CREDENTIAL_MAX_OCTETS: usize = 255;

/// `Username:` and `Password:` in base64, as every client of LOGIN expects them.
const LOGIN_NAME: &str = "VXNlcm5hbWU6";
const LOGIN_PASSWORD: &str = "UGFzc3dvcmQ6";

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerMechanism {
    /// Name and password in one response (RFC 4616).
    Plain,
    /// Name and password, asked for one after the other; for clients that support nothing else.
    Login,
}

impl ServerMechanism {
    /// Every mechanism, in the order in which they are offered.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Login];

    /// The mechanism of that name, in any case (RFC 4954 §4).
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.keyword().eq_ignore_ascii_case(word))
    }

    /// Its registered name.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// Octets that must not be shown: `Debug` hides them, and they are overwritten when dropped. Comparing them takes a
/// time that depends on where they differ, so what a peer sends is compared by its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the octets without copying them.
    #[must_use]
    pub const fn new(octets: Vec<u8>) -> Self {
        Self(octets)
    }

    /// The octets.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.fill(0);
        // Without this reader the compiler would remove the zeroing.
        std::hint::black_box(&self.0);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The name and password that a client sent. Neither is empty, longer than [`CREDENTIAL_MAX_OCTETS`], or has a NUL.
#[derive(Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name as the client sent it: any character except NUL.
    pub name: String,
    /// The password, in UTF-8.
    pub password: Secret,
}

impl Credentials {
    /// A name and a password, if both are well-formed.
    #[must_use]
    pub fn new(name: &[u8], password: &[u8]) -> Option<Self> {
        let name = credential(name)?.to_owned();
        Some(Self { name, password: Secret::new(credential(password)?.as_bytes().to_vec()) })
    }

    /// The response of PLAIN, in base64, as a client sends it and [`ServerExchange`] reads it.
    #[must_use]
    pub fn to_plain_response(&self) -> Secret {
        let mut octets = Vec::with_capacity(2 + self.name.len() + self.password.octets().len());
        for part in [self.name.as_bytes(), self.password.octets()] {
            octets.push(0);
            octets.extend_from_slice(part);
        }
        Secret::new(base64::encode(Secret::new(octets).octets()).into_bytes())
    }

    /// Parses `authzid NUL authcid NUL passwd` (RFC 4616 §2). No user may act for another: the authorization identity
    /// is empty or equals the name.
    fn from_plain(response: &[u8]) -> Option<Self> {
        let mut parts = response.split(|&octet| octet == 0);
        let (acts_as, name, password) = (parts.next()?, parts.next()?, parts.next()?);
        let is_whole = parts.next().is_none() && (acts_as.is_empty() || acts_as == name);
        Self::new(name, password).filter(|_| is_whole)
    }
}

/// The text of a name or a password, if it is well-formed.
fn credential(octets: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(octets).ok()?;
    ((1..=CREDENTIAL_MAX_OCTETS).contains(&text.len()) && !text.contains('\0')).then_some(text)
}

const NO_CREDENTIALS: &str = "malformed name or password";

/// What comes next.
#[derive(Debug)]
pub enum ExchangeStep {
    /// Send this 334 and pass the next line to the exchange.
    Challenge(Reply, ServerExchange),
    /// The client has sent name and password.
    Done(Credentials),
    /// Send this reply: what the client sent is no name and password. Where nothing is checked, the exchange goes on, if the
    /// client has still to send a password.
    Malformed(Reply, Option<ServerExchange>),
    /// Send this reply; the exchange has failed.
    Failed(Reply),
}

/// An exchange that waits for a line.
#[derive(Debug)]
pub struct ServerExchange(Wanted);

#[derive(Debug)]
enum Wanted {
    PlainResponse,
    LoginName,
    LoginPassword { name: Secret },
}

impl ServerExchange {
    /// Begins an exchange, with the initial response of the AUTH command if it had one.
    #[must_use]
    pub fn begin(mechanism: ServerMechanism, initial_response: Option<&[u8]>) -> ExchangeStep {
        let exchange = match mechanism {
            ServerMechanism::Plain => Self(Wanted::PlainResponse),
            ServerMechanism::Login => Self(Wanted::LoginName),
        };
        match initial_response {
            None => exchange.challenge(),
            // An empty response; nothing at all would mean that there is no initial response (RFC 4954 §4).
            Some(b"=") => exchange.response(Secret::new(Vec::new())),
            Some(text) => exchange.base64(text),
        }
    }

    /// Takes the client's next line, cut at [`super::limits::AUTH_LINE_MAX_OCTETS`].
    #[must_use]
    pub fn line(self, line: &Line<'_>) -> ExchangeStep {
        match line {
            Line::Text(b"*") => failed(501, EnhancedStatus::SECURITY, "authentication cancelled"),
            Line::Text(text) => self.base64(text),
            Line::Malformed => self.malformed(NO_CREDENTIALS),
            Line::TooLong => failed(500, EnhancedStatus::AUTH_LINE_TOO_LONG, "line too long"),
        }
    }

    fn base64(self, text: &[u8]) -> ExchangeStep {
        match base64::decode(text) {
            Some(response) => self.response(Secret::new(response)),
            None => self.malformed("invalid base64"),
        }
    }

    fn response(self, response: Secret) -> ExchangeStep {
        let credentials = match self.0 {
            Wanted::PlainResponse => Credentials::from_plain(response.octets()),
            Wanted::LoginName => {
                return Self(Wanted::LoginPassword { name: response }).challenge();
            }
            Wanted::LoginPassword { name } => Credentials::new(name.octets(), response.octets()),
        };
        credentials.map_or_else(|| malformed(NO_CREDENTIALS, None), ExchangeStep::Done)
    }

    /// The line that was wanted can't be read.
    fn malformed(self, text: &'static str) -> ExchangeStep {
        let name = Secret::new(Vec::new());
        malformed(text, matches!(self.0, Wanted::LoginName).then_some(Self(Wanted::LoginPassword { name })))
    }

    /// Asks for what is wanted.
    pub(super) fn challenge(self) -> ExchangeStep {
        let text = match self.0 {
            Wanted::PlainResponse => "",
            Wanted::LoginName => LOGIN_NAME,
            Wanted::LoginPassword { .. } => LOGIN_PASSWORD,
        };
        ExchangeStep::Challenge(Reply::plain(334, text), self)
    }
}

/// The reply to right credentials.
#[must_use]
pub fn accepted() -> Reply {
    Reply::new(235, EnhancedStatus::AUTHENTICATED, "authentication succeeded")
}

/// The reply when credentials cannot be checked at present (RFC 4954 §4).
#[must_use]
pub fn unavailable() -> Reply {
    Reply::new(454, EnhancedStatus::POLICY_NOW, "logins cannot be checked at present; try again later")
}

/// The reply to wrong credentials. It is the same for every reason: it must not reveal which names exist.
#[must_use]
pub fn refused() -> Reply {
    Reply::new(535, EnhancedStatus::INVALID_CREDENTIALS, "wrong name or password")
}

fn malformed(text: &'static str, rest: Option<ServerExchange>) -> ExchangeStep {
    ExchangeStep::Malformed(Reply::new(501, EnhancedStatus::SYNTAX_ERROR, text), rest)
}

fn failed(code: u16, status: EnhancedStatus, text: &'static str) -> ExchangeStep {
    ExchangeStep::Failed(Reply::new(code, status, text))
}

#[cfg(test)]
mod tests;
