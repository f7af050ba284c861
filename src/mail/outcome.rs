//! What became of one recipient in one attempt (the record that Postfix calls a DSN, RFC 3464 §2.3).

use super::status::{Class, EnhancedStatus};

/// The end of an attempt for one recipient. Unknown means deferred: only a proven permanent answer about the message
/// or the recipient makes `Failed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// In its Maildir, or taken over by the next hop.
    Delivered(Diagnostic),
    /// To be tried again.
    Deferred(Diagnostic),
    /// Never to be tried again.
    Failed(Diagnostic),
}

impl Outcome {
    /// The reason, whichever way it went.
    #[must_use]
    pub fn diagnostic(&self) -> &Diagnostic {
        match self {
            Self::Delivered(d) | Self::Deferred(d) | Self::Failed(d) => d,
        }
    }
}

/// Why an outcome is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// RFC 3463 code: the peer's own if it gave one, else ours.
    pub status: EnhancedStatus,
    /// The host that answered, or that was asked in vain; `None`: it was decided here.
    pub remote: Option<String>,
    /// The peer's reply with its code, as one line; `None`: the peer said nothing, `text` is all there is.
    pub reply: Option<String>,
    /// In plain words. With a reply: what the reply was to, such as "RCPT".
    pub text: String,
}

impl Diagnostic {
    /// A reason of our own, without a peer.
    #[must_use]
    pub fn local(status: EnhancedStatus, text: impl Into<String>) -> Self {
        Self { status, remote: None, reply: None, text: text.into() }
    }

    /// What the log and the queue listing show: the reply if there is one, else our words.
    #[must_use]
    pub fn line(&self) -> &str {
        self.reply.as_deref().unwrap_or(&self.text)
    }

    /// The same with another class, so that a reason seen while deferring can end a message: `4.4.1` → `5.4.1`.
    #[must_use]
    pub fn with_class(mut self, class: Class) -> Self {
        self.status = self.status.with_class(class);
        self
    }
}
