//! The steps in the delivery of a message, by which advice, `probe` and the outcome of a delivery name them.
//!
//! The steps follow one another in this order; a message to a mailbox of this host ends at `Maildir`, one to
//! another host goes on with the rest. Each state of an SMTP conversation ([`Waiting`]) is one of these steps.
//!
//! | steps | happen |
//! | --- | --- |
//! | `Config` to `Maildir` | on this host |
//! | `Mx` to `Address` | in DNS, and for MTA-STS by HTTPS |
//! | `Spf` to `Ptr` | in DNS, as receivers will ask it |
//! | `Password` | on this host, before the first connection that needs it |
//! | `Connect` to `Quit`, `Send` | in the conversation with the next hop |

use crate::smtp::client::Waiting;

/// A step in the delivery of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Reading the configuration.
    Config,
    /// Checking the clock.
    Clock,
    /// Parsing the address.
    Recipient,
    /// Aliases, and the route of the recipient.
    Route,
    /// The directory of the queue.
    Queue,
    /// The Maildir of a local user.
    Maildir,
    /// The MX hosts of a domain.
    Mx,
    /// The TLS policy of a domain: DANE, MTA-STS.
    Policy,
    /// The addresses of a host.
    Address,
    /// SPF: whether the sender's domain lets this host send (RFC 7208).
    Spf,
    /// DKIM: whether DNS has the public key of the signature (RFC 6376).
    Dkim,
    /// DMARC: the policy of the sender's domain (RFC 7489).
    Dmarc,
    /// The PTR record of this host's address.
    Ptr,
    /// The password for the smarthost.
    Password,
    /// A TCP connection.
    Connect,
    /// The greeting of the host.
    Greeting,
    /// EHLO, LHLO or HELO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// The TLS handshake and the certificate.
    Tls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// RSET, which ends the transaction.
    Rset,
    /// QUIT.
    Quit,
    /// The delivery of the message.
    Send,
}

impl Stage {
    /// The name in the output of `probe`.
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
