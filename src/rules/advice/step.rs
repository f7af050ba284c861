//! The steps of the way that a message takes: what advice, probes and the outcome of a delivery name them by.
//!
//! A conversation with a host has its own steps ([`Waiting`]); each of them is one of these.

use crate::smtp::client::Waiting;

/// A step of the way that a message takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The configuration is read.
    Config,
    /// What the clock says.
    Clock,
    /// The address is one.
    Recipient,
    /// Aliases, and where it goes.
    Route,
    /// The queue's directory.
    Queue,
    /// The Maildir of a user here.
    Maildir,
    /// Who takes the mail of a domain.
    Mx,
    /// What is wanted of TLS: DANE, MTA-STS.
    Policy,
    /// The addresses of a host.
    Address,
    /// Whether the sender's domain lets this host send (RFC 7208).
    Spf,
    /// Whether DNS has the key that signs (RFC 6376).
    Dkim,
    /// What the sender's domain wants of the two (RFC 7489).
    Dmarc,
    /// The name of this host's address.
    Ptr,
    /// The password for the smarthost.
    Password,
    /// A TCP connection.
    Connect,
    /// The first reply.
    Greeting,
    /// EHLO, LHLO or HELO.
    Ehlo,
    /// The command.
    StartTls,
    /// The handshake, and the certificate.
    Tls,
    /// The login.
    Auth,
    /// The sender.
    Mail,
    /// The recipient.
    Rcpt,
    /// The transaction is taken back.
    Rset,
    /// Goodbye.
    Quit,
    /// What became of the test message.
    Send,
}

impl Stage {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Clock => "clock",
            Self::Recipient => "recipient",
            Self::Route => "route",
            Self::Queue => "queue",
            Self::Maildir => "maildir",
            Self::Mx => "mx",
            Self::Policy => "policy",
            Self::Address => "address",
            Self::Spf => "spf",
            Self::Dkim => "dkim",
            Self::Dmarc => "dmarc",
            Self::Ptr => "ptr",
            Self::Password => "password",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "starttls",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Rset => "rset",
            Self::Quit => "quit",
            Self::Send => "send",
        }
    }
}

impl From<Waiting> for Stage {
    fn from(waiting: Waiting) -> Self {
        match waiting {
            Waiting::Greeting => Self::Greeting,
            Waiting::Ehlo | Waiting::Helo => Self::Ehlo,
            Waiting::StartTls => Self::StartTls,
            Waiting::Auth => Self::Auth,
            Waiting::Rset => Self::Rset,
            Waiting::Mail => Self::Mail,
            Waiting::Rcpt => Self::Rcpt,
            Waiting::Data | Waiting::FinalDot | Waiting::LastChunk => Self::Send,
            Waiting::Quit => Self::Quit,
        }
    }
}
