//! The result of one attempt for one recipient (the record that Postfix calls a DSN, RFC 3464 §2.3).
//!
//! | outcome | when | then |
//! | --- | --- | --- |
//! | `Delivered` | committed to a mailbox, or accepted by the next hop | the recipient is finished |
//! | `Deferred` | a 4yz, no answer, or anything unknown | tried again, until it is too old |
//! | `Failed` | a permanent answer about the message or the recipient, or too old | a bounce, unless the sender is null |

use super::status::{Class, EnhancedStatus};

/// The end of an attempt for one recipient. Unknown means deferred: only a proven permanent answer about the message
/// or the recipient makes `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Committed to its mailbox, or accepted by the next hop.
    Delivered(Diagnostic),
    /// To be tried again.
    Deferred(Diagnostic),
    /// Never to be tried again.
    Failed(Diagnostic),
}

impl Outcome {
    /// The reason, for any outcome.
    #[must_use]
    pub fn diagnostic(&self) -> &Diagnostic {
        match self {
            Self::Delivered(d) | Self::Deferred(d) | Self::Failed(d) => d,
        }
    }
}

/// The reason for an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The RFC 3463 code: the peer's if it gave one, otherwise this host's.
    pub status: EnhancedStatus,
    /// The host that answered or failed to answer; `None`: this host decided.
    pub remote: Option<String>,
    /// The peer's reply with its code, as one line; `None`: there was no reply, and `text` is the whole reason.
    pub reply: Option<String>,
    /// The reason in words. With a reply: what the peer replied to, such as "RCPT".
    pub text: String,
}

impl Diagnostic {
    /// A reason of this host, without a peer.
    #[must_use]
    pub fn local(status: EnhancedStatus, text: impl Into<String>) -> Self {
        Self { status, remote: None, reply: None, text: text.into() }
    }

    /// The text for the log and the queue listing: the reply if there is one, otherwise `text`.
    #[must_use]
    pub fn line(&self) -> &str {
        self.reply.as_deref().unwrap_or(&self.text)
    }

    /// The same with another class, so that the reason for a deferral can become the reason for a failure: `4.4.1` →
    /// `5.4.1`.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.status = self.status.with_class(class);
        self
    }
}
