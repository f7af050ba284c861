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

use crate::mail::outcome::Diagnostic;
use crate::smtp::client::Waiting;
use crate::smtp::reply::is_reply;

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

/// Beginnings and parts of this host's own reasons, with the step that they name.
const OWN_WORDS: &[(&str, Stage)] = &[
    ("no password for ", Stage::Password),
    ("no token for ", Stage::Password),
    ("connect to ", Stage::Connect),
    ("TLS with ", Stage::Tls),
    ("does not offer STARTTLS", Stage::StartTls),
    ("AUTH with ", Stage::Auth),
    ("the password is not sent", Stage::Auth),
    ("offers no AUTH", Stage::Auth),
    ("for AUTH, and none", Stage::Auth),
    ("can't be resolved", Stage::Address),
    ("has no address that can be used", Stage::Address),
    ("is this host itself", Stage::Address),
    ("null MX", Stage::Mx),
    ("comes back to this host", Stage::Mx),
    ("MTA-STS policy", Stage::Policy),
    ("TLSA records", Stage::Policy),
    ("does not exist", Stage::Mx),
    ("no answer from ", Stage::Mx),
    ("cannot ask ", Stage::Mx),
    ("takes at most", Stage::Mail),
    ("while sending the message", Stage::Send),
    ("timed out sending the message", Stage::Send),
];

impl Stage {
    /// The step at which something failed, by its reason: the command that a reply answers, or this host's own words. `None`:
    /// the reason names no step.
    #[must_use]
    pub fn of(reason: &Diagnostic) -> Option<Self> {
        let text = reason.text.as_str();
        match &reason.reply {
            Some(reply) => Some(Waiting::named(text).map_or_else(|| Self::of_code(reply), Self::from)),
            // A shared reason has the reply as its text. Our own words may begin with the address of a host.
            None if is_reply(text) => Some(Self::of_code(text)),
            None => Self::awaited(text).or_else(|| Self::of_own_words(text)),
        }
    }

    /// The step of a reply whose command is not known: codes of a refused login have no other one.
    fn of_code(reply: &str) -> Self {
        if ["454", "534", "535", "538"].iter().any(|code| reply.starts_with(code)) {
            Self::Auth
        } else {
            Self::Send
        }
    }

    /// The step whose reply did not come.
    fn awaited(text: &str) -> Option<Self> {
        let (_, awaited) = text.split_once("waiting for ")?;
        let Some(command) = awaited.strip_prefix("the reply to ") else {
            return awaited.starts_with("the greeting").then_some(Self::Greeting);
        };
        let end = [" from ", ":", ";"].iter().filter_map(|end| command.find(end)).min();
        Waiting::named(end.and_then(|end| command.get(..end)).unwrap_or(command)).map(Self::from)
    }

    fn of_own_words(text: &str) -> Option<Self> {
        // A Maildir or an mbox is named by its path.
        let is_path = text.starts_with('/').then_some(Self::Maildir);
        is_path.or_else(|| OWN_WORDS.iter().find(|(words, _)| text.contains(words)).map(|(_, stage)| *stage))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::status::EnhancedStatus;

    #[test]
    fn each_reason_names_its_step() {
        let own = |text: &str| Stage::of(&Diagnostic::local(EnhancedStatus::NO_ANSWER, text));
        for (text, stage) in [
            ("timed out waiting for the greeting from mx.far.example", Stage::Greeting),
            ("timed out waiting for the reply to MAIL from mx.far.example", Stage::Mail),
            ("connection closed by mx.far.example while waiting for the reply to RCPT", Stage::Rcpt),
            ("connection to mx broke while waiting for the reply to AUTH: reset", Stage::Auth),
            (
                "timed out waiting for the reply to the final dot from mx; the message may have arrived",
                Stage::Send,
            ),
            ("mx speaks no SMTP, waiting for the greeting: the line has no reply code", Stage::Greeting),
            ("connect to mx.far.example [192.0.2.1:25]: timed out", Stage::Connect),
            ("TLS with smart: self-signed certificate", Stage::Tls),
            ("smart does not offer STARTTLS, which is required for it", Stage::StartTls),
            ("192.0.2.1 does not offer STARTTLS, which is required for it", Stage::StartTls),
            (
                "192.0.2.1 speaks no SMTP, waiting for the greeting: the line has no reply code",
                Stage::Greeting,
            ),
            ("365.example offers no AUTH; is this its port for submission?", Stage::Auth),
            ("550-5.7.1 no", Stage::Send),
            ("smart offers XOAUTH2 for AUTH, and none of them can be used here", Stage::Auth),
            ("no password for smart: /etc/pillarbox/password: No such file or directory", Stage::Password),
            ("the smarthost smart can't be resolved: failed to lookup address information", Stage::Address),
            ("far.example takes no mail (null MX)", Stage::Mx),
            ("far.example does not exist (NXDOMAIN)", Stage::Mx),
            ("mx.far.example is not named by the MTA-STS policy of far.example", Stage::Policy),
            ("/home/joe/Maildir: Permission denied (os error 13)", Stage::Maildir),
            ("535 5.7.8 wrong", Stage::Auth),
            ("550 5.7.1 no", Stage::Send),
        ] {
            assert_eq!(own(text), Some(stage), "{text}");
        }
        assert_eq!(own("waits for a digest"), None);
        let reply = Diagnostic {
            reply: Some("550 no".into()),
            ..Diagnostic::local(EnhancedStatus::NO_ANSWER, "EHLO")
        };
        assert_eq!(Stage::of(&reply), Some(Stage::Ehlo));
    }
}
