//! What the caller gives to the client's session and gets from it: transactions, steps, and the ways that it ends.

use super::Waiting;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::outcome::{Diagnostic, Outcome};

/// A message for some of its recipients, all at one next hop.
#[derive(Debug, Clone, Copy)]
pub struct ClientTransaction<'a> {
    /// The reverse-path and the parameters of MAIL. Its own list of recipients is not used.
    pub envelope: &'a Envelope,
    /// The recipients. Those beyond [`crate::smtp::limits::RECIPIENTS_PER_TRANSACTION`] are not tried.
    pub recipients: &'a [&'a Recipient],
    /// Size of the content with CRLF line ends, in octets (RFC 1870 §6).
    pub size_octets: u64,
    /// A trial: RSET in place of the data. Accepted recipients get the outcome `Delivered`, and nothing is delivered.
    pub is_trial: bool,
}

/// What the caller has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientStep {
    /// Write these octets.
    Send(Vec<u8>),
    /// Read, and pass the octets to [`super::ClientSession::received`].
    Read {
        /// The awaited reply: it decides how long to wait.
        waiting: Waiting,
        /// Counts the replies. The deadline is for a whole reply, so it starts again only when this number changes: a
        /// peer that sends an octet a minute must not hold the session for hours.
        reply: u32,
    },
    /// Shake hands, as the client; then call [`super::ClientSession::tls_established`] or [`super::ClientSession::tls_failed`].
    StartTls,
    /// Fetch another token for the login, as the peer refuses this one; then call [`super::ClientSession::token_renewed`].
    RenewToken,
    /// Write the message through [`crate::smtp::data::DotEncoder`] with its end, then call [`super::ClientSession::content_sent`].
    SendContent,
    /// Write the message through [`crate::smtp::data::encode_chunk`], exactly [`ClientTransaction::size_octets`] of it, then
    /// call [`super::ClientSession::content_sent`].
    SendChunk,
    /// The outcome of each recipient, in the given order. `None`: nothing was learnt about it. If the session is
    /// ready again, the peer took as many recipients as it wanted in one transaction: begin another one for those
    /// without an outcome. This ends, because each transaction gives at least one recipient an outcome, except once,
    /// when the peer refuses the BDAT that it offers. Otherwise [`SessionEnd`] says what to do.
    Finished(Vec<Option<Outcome>>),
    /// Call [`super::ClientSession::begin`] or [`super::ClientSession::quit`].
    Ready,
    /// Close the connection.
    Close(SessionEnd),
}

/// Why the session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client sent QUIT.
    Quit,
    /// The peer ended a session that had already served a transaction, before it answered the next MAIL: the session
    /// was idle too long or carried enough messages. Recipients without an outcome deserve a new connection at once.
    /// This never ends the first transaction of a session, so it cannot loop.
    Reconnect(Diagnostic),
    /// The connection was closed within a transaction. Its recipients have their outcomes; other messages of the
    /// route may be tried.
    Dropped(Diagnostic),
    /// The route failed: pause it.
    Route(Diagnostic),
}

/// How a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The peer closed it.
    Closed,
    /// The deadline of the step has passed.
    TimedOut,
    /// Another error, in the words of the operating system.
    Broken(String),
}
