//! Enhanced mail system status codes (RFC 3463, registry of RFC 5248).
//!
//! The subjects: 1 addressing, 2 mailbox, 3 mail system, 4 network and routing, 5 protocol, 6 content, 7 policy. The
//! constants below are all codes that this program writes itself; a peer's code is passed on, even if it is not among
//! them.

use std::fmt;

/// The first digit of a status code: whether the matter is settled or may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 2: done.
    Success,
    /// 4: may succeed later.
    Transient,
    /// 5: will not succeed as it is.
    Permanent,
}

/// `class.subject.detail`, such as `5.1.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EnhancedStatus {
    /// Whether it succeeded, may succeed later, or failed.
    pub class: Class,
    /// The subject: 1 addressing, 2 mailbox, 3 system, 4 network, 5 protocol, 6 content, 7 policy.
    pub subject: u16,
    /// The case within the subject.
    pub detail: u16,
}

impl EnhancedStatus {
    /// A status of its three parts.
    #[must_use]
    pub const fn new(class: Class, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Parses `D.D{1,3}.D{1,3}` (RFC 2034 §4); `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => Class::Success,
            "4" => Class::Transient,
            "5" => Class::Permanent,
            _ => return None,
        };
        let (subject, detail) = (number(parts.next()?)?, number(parts.next()?)?);
        parts.next().is_none().then_some(Self { class, subject, detail })
    }

    /// The same subject and detail with another class.
    #[must_use]
    pub const fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }
}

fn number(text: &str) -> Option<u16> {
    ((1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

impl fmt::Display for EnhancedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Success => 2,
            Class::Transient => 4,
            Class::Permanent => 5,
        };
        write!(f, "{class}.{}.{}", self.subject, self.detail)
    }
}

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $class:ident $subject:literal $detail:literal;)*) => {
        impl EnhancedStatus { $($(#[$doc])* pub const $name: Self = Self::new(Class::$class, $subject, $detail);)* }
    };
}

statuses! {
    /// 2.0.0: done.
    OK = Success 0 0;
    /// 2.1.0: originator address valid.
    SENDER_OK = Success 1 0;
    /// 2.1.5: destination address valid.
    RECIPIENT_OK = Success 1 5;
    /// 2.6.0: message accepted, other media success.
    MESSAGE_OK = Success 6 0;
    /// 2.7.0: authentication succeeded (RFC 4954 §6).
    AUTHENTICATED = Success 7 0;
    /// 4.2.2: mailbox full.
    MAILBOX_FULL_NOW = Transient 2 2;
    /// 4.3.0: other mail system trouble.
    SYSTEM_TROUBLE = Transient 3 0;
    /// 4.3.1: mail system full.
    SYSTEM_FULL = Transient 3 1;
    /// 4.3.2: system not accepting messages at present.
    NOT_ACCEPTING = Transient 3 2;
    /// 4.4.1: no answer from host.
    NO_ANSWER = Transient 4 1;
    /// 4.4.2: bad connection.
    BAD_CONNECTION = Transient 4 2;
    /// 4.4.3: directory server failure: DNS.
    DIRECTORY_FAILURE = Transient 4 3;
    /// 4.4.7: delivery time expired, not yet final.
    DELAYED = Transient 4 7;
    /// 4.5.3: too many recipients, or too many messages at once.
    TOO_MANY_RECIPIENTS = Transient 5 3;
    /// 4.7.0: other policy reason, temporary.
    POLICY_NOW = Transient 7 0;
    /// 5.1.1: bad destination mailbox address.
    NO_SUCH_USER = Permanent 1 1;
    /// 5.1.2: bad destination system address.
    NO_SUCH_DOMAIN = Permanent 1 2;
    /// 5.1.3: bad destination mailbox address syntax.
    BAD_RECIPIENT_SYNTAX = Permanent 1 3;
    /// 5.1.7: bad sender's mailbox address syntax.
    BAD_SENDER_SYNTAX = Permanent 1 7;
    /// 5.1.10: recipient address has null MX (RFC 7505 §4.1).
    NULL_MX = Permanent 1 10;
    /// 5.3.4: message too big for system.
    MESSAGE_TOO_BIG = Permanent 3 4;
    /// 5.4.4: unable to route.
    UNABLE_TO_ROUTE = Permanent 4 4;
    /// 5.4.6: routing loop detected.
    ROUTING_LOOP = Permanent 4 6;
    /// 5.4.7: delivery time expired.
    EXPIRED = Permanent 4 7;
    /// 5.5.0: other protocol status.
    PROTOCOL_TROUBLE = Permanent 5 0;
    /// 5.5.1: invalid command.
    INVALID_COMMAND = Permanent 5 1;
    /// 5.5.2: syntax error.
    SYNTAX_ERROR = Permanent 5 2;
    /// 5.5.4: invalid command arguments.
    INVALID_ARGUMENTS = Permanent 5 4;
    /// 5.5.6: authentication exchange line too long (RFC 4954 §6).
    AUTH_LINE_TOO_LONG = Permanent 5 6;
    /// 5.6.7: non-ASCII addresses not permitted here (RFC 6531 §3.5).
    UTF8_NOT_PERMITTED = Permanent 6 7;
    /// 5.7.0: other security trouble: authentication needed.
    SECURITY = Permanent 7 0;
    /// 5.7.1: delivery not authorized, message refused.
    NOT_AUTHORIZED = Permanent 7 1;
    /// 5.7.10: encryption needed.
    ENCRYPTION_NEEDED = Permanent 7 10;
    /// 5.7.11: encryption required for requested authentication mechanism (RFC 4954 §6).
    AUTH_NEEDS_ENCRYPTION = Permanent 7 11;
    /// 5.7.30: REQUIRETLS support required (RFC 8689 §8).
    REQUIRETLS_NEEDED = Permanent 7 30;
    /// 5.7.8: authentication credentials invalid (RFC 4954 §6).
    INVALID_CREDENTIALS = Permanent 7 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_is_the_inverse_of_print() {
        for text in ["2.0.0", "4.4.7", "5.1.10", "5.999.999"] {
            assert_eq!(EnhancedStatus::parse(text).map(|s| s.to_string()).as_deref(), Some(text));
        }
        for text in ["", "5", "5.1", "3.1.1", "5.1.1.1", "5.1.1000", "5.-1.1", "5.+1.1", "5..1", "a.b.c"] {
            assert_eq!(EnhancedStatus::parse(text), None, "{text}");
        }
    }
}
