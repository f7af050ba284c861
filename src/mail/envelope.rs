//! The envelope: the arguments of MAIL and RCPT (RFC 5321 §2.3.1), with the parameters that are passed on.
//!
//! | parameter | field | a next hop gets it if it offers |
//! | --- | --- | --- |
//! | BODY (RFC 6152) | `body` | 8BITMIME |
//! | SMTPUTF8 (RFC 6531) | `smtputf8` | SMTPUTF8 |
//! | REQUIRETLS (RFC 8689) | `require_tls` | REQUIRETLS within verified TLS; otherwise the message fails |
//! | RET, ENVID (RFC 3461) | `ret`, `envid` | DSN |
//! | NOTIFY, ORCPT (RFC 3461) | [`Recipient`] | DSN; otherwise this host sends the notices |
//!
//! SIZE is not kept: the client computes it again. AUTH is parsed and dropped.

use super::address::{Mailbox, ReversePath};

/// All about a message except its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where bounces go.
    pub reverse_path: ReversePath,
    /// The recipients, in the order of the RCPT commands.
    pub recipients: Vec<Recipient>,
    /// The declaration of MAIL's BODY parameter (RFC 6152).
    pub body: Body,
    /// Whether SMTPUTF8 was declared (RFC 6531).
    pub smtputf8: bool,
    /// Whether REQUIRETLS was declared (RFC 8689).
    pub require_tls: bool,
    /// Whether it comes from a sender that may speak for this host: a program of this host, or a client that has
    /// logged in or belongs to a trusted network. Such a message is repaired, rewritten, encoded for the next hop and
    /// signed by DKIM. All other mail is in transit and stays as it is: mail of strangers to local users must not get
    /// a signature that makes it look genuine.
    pub is_own: bool,
    /// Whether its header section calls it urgent (see [`super::header`]): then it leaves even by a metered link.
    pub is_urgent: bool,
    /// How much of the message a bounce returns (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// The sender's identifier for this transaction, as xtext (RFC 3461 §4.4).
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
    /// The mailbox of the recipient, after aliases.
    pub mailbox: Mailbox,
    /// The recipient as the sender first wrote it, as xtext (RFC 3461 §4.2).
    pub orcpt: Option<String>,
    /// Which notices the sender wants; `None`: NOTIFY was absent (RFC 3461 §4.1).
    pub notify: Option<Notify>,
    /// Whether it leaves this host although its domain is local: the operator wrote the address, and no user here has
    /// it.
    pub leaves: bool,
}

impl Recipient {
    /// A recipient without DSN parameters.
    #[must_use]
    pub fn new(mailbox: Mailbox) -> Self {
        Self { mailbox, orcpt: None, notify: None, leaves: false }
    }

    /// Adds the wishes of a second mention of the same recipient.
    pub fn wishes_of(&mut self, other: &Self) {
        self.notify = Notify::both(self.notify, other.notify);
        self.leaves |= other.leaves;
    }
}

/// NOTIFY of RFC 3461 §4.1; all false means NEVER.
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
    /// The default without NOTIFY: failures and, as this host does it, delays.
    const DEFAULT: Self = Self { success: false, failure: true, delay: true };

    /// What a recipient gets that was named twice and gets one copy: the notices of both.
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
    /// `7BIT`, or no declaration. The content may still hold 8-bit octets: clients lie.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}
