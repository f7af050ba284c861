//! The envelope: what MAIL and RCPT said (RFC 5321 §2.3.1), with the parameters that have to travel on.

use super::address::{Mailbox, ReversePath};

/// Everything about a message that is not its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where bounces go.
    pub reverse_path: ReversePath,
    /// Who gets it, in the order of the RCPT commands.
    pub recipients: Vec<Recipient>,
    /// What MAIL's BODY parameter declared (RFC 6152).
    pub body: Body,
    /// SMTPUTF8 was asked for (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS was asked for (RFC 8689).
    pub require_tls: bool,
    /// It came from who may speak for this host: programs of this host, clients that log in or are of a trusted network.
    /// It is repaired, rewritten, encoded for the next hop and signed by DKIM. All other mail is in transit and stays as
    /// it is: what strangers send to those that this host serves must not get a signature by which it looks genuine.
    pub is_own: bool,
    /// Its header section says so (see [`super::header`]): it leaves even by a metered link.
    pub is_urgent: bool,
    /// How much of the message a bounce returns (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// The sender's own name for this transaction, in xtext form (RFC 3461 §4.4).
    pub envid: Option<String>,
}

impl Envelope {
    /// An envelope without recipients and parameters.
    #[must_use]
    pub fn new(reverse_path: ReversePath) -> Self {
        Self {
            reverse_path,
            recipients: Vec::new(),
            body: Body::SevenBit,
            smtputf8: false,
            require_tls: false,
            is_own: false,
            is_urgent: false,
            ret: None,
            envid: None,
        }
    }
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The mailbox that it is for, after aliases.
    pub mailbox: Mailbox,
    /// The recipient as the sender first wrote it, in xtext form (RFC 3461 §4.2).
    pub orcpt: Option<String>,
    /// When the sender wants to be told; `None`: NOTIFY was absent (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// It leaves this host although its domain is local: the operator wrote the address, and nobody here has it.
    pub leaves: bool,
}

impl Recipient {
    /// A recipient without DSN parameters.
    #[must_use]
    pub fn new(mailbox: Mailbox) -> Self {
        Self { mailbox, orcpt: None, notify: None, leaves: false }
    }

    /// Named once more, the sender wants to be told of both.
    pub fn wishes_of(&mut self, other: &Self) {
        self.notify = Notify::both(self.notify, other.notify);
        self.leaves |= other.leaves;
    }
}

/// NOTIFY of RFC 3461 §4.1; all false is NEVER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// SUCCESS.
    pub success: bool,
    /// FAILURE.
    pub failure: bool,
    /// DELAY.
    pub delay: bool,
}

impl Notify {
    /// What is asked for where NOTIFY is absent: failures and, as this host does it, delays.
    const DEFAULT: Self = Self { success: false, failure: true, delay: true };

    /// What to do for a recipient that was named twice and gets one copy: all that was asked for.
    #[must_use]
    pub fn both(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        if one == other {
            return one;
        }
        let (one, other) = (one.unwrap_or(Self::DEFAULT), other.unwrap_or(Self::DEFAULT));
        Some(Self {
            success: one.success || other.success,
            failure: one.failure || other.failure,
            delay: one.delay || other.delay,
        })
    }
}

/// RET of RFC 3461 §4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Only its header section.
    Headers,
}

/// BODY of RFC 6152.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Body {
    /// `7BIT`, also when nothing was said. The content may still hold 8-bit octets: clients lie.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}
