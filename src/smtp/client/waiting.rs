//! The replies that the client waits for: their names in diagnostics, and their deadlines (RFC 5321 §4.5.3.2).

use crate::smtp::limits;
use std::fmt;
use std::time::Duration;

/// The awaited reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// The first one of the session.
    Greeting,
    /// To EHLO.
    Ehlo,
    /// To HELO.
    Helo,
    /// To STARTTLS.
    StartTls,
    /// To AUTH, or a line of its exchange.
    Auth,
    /// To RSET.
    Rset,
    /// To MAIL.
    Mail,
    /// To RCPT.
    Rcpt,
    /// To DATA.
    Data,
    /// To the end of the data.
    FinalDot,
    /// To the end of the data, sent as one chunk (RFC 3030).
    LastChunk,
    /// To QUIT.
    Quit,
}

impl Waiting {
    pub(super) const ALL: [Self; 12] = [
        Self::Greeting,
        Self::Ehlo,
        Self::Helo,
        Self::StartTls,
        Self::Auth,
        Self::Rset,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
        Self::FinalDot,
        Self::LastChunk,
        Self::Quit,
    ];

    /// How long to wait for the whole reply (RFC 5321 §4.5.3.2).
    #[must_use]
    pub const fn deadline(self) -> Duration {
        match self {
            Self::Greeting => limits::GREETING,
            Self::Ehlo | Self::Helo | Self::StartTls | Self::Auth | Self::Rset | Self::Mail | Self::Rcpt => {
                limits::COMMAND_REPLY
            }
            Self::Data => limits::DATA_INITIATION,
            Self::FinalDot | Self::LastChunk => limits::DATA_TERMINATION,
            Self::Quit => limits::QUIT_REPLY,
        }
    }

    /// The step that a [`crate::mail::outcome::Diagnostic::text`] names when it stands beside a reply.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|waiting| waiting.to() == text)
    }

    /// What the reply answers, as [`crate::mail::outcome::Diagnostic::text`] needs it.
    #[must_use]
    pub const fn to(self) -> &'static str {
        match self {
            Self::Greeting => "the connection",
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "AUTH",
            Self::Rset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::FinalDot => "the final dot",
            Self::LastChunk => "BDAT",
            Self::Quit => "QUIT",
        }
    }
}

impl Waiting {
    /// Whether `to`, from a diagnostic, names a reply that comes after the whole message was sent.
    #[must_use]
    pub fn is_after_content(to: &str) -> bool {
        [Self::FinalDot, Self::LastChunk].iter().any(|waiting| waiting.to() == to)
    }
}

/// `the greeting`, `the reply to MAIL`.
impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Greeting => f.write_str("the greeting"),
            _ => write!(f, "the reply to {}", self.to()),
        }
    }
}
