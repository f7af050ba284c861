//! DATA and BDAT in the server's session (RFC 5321 §4.1.1.4, RFC 3030): when a message may come, and the replies after it.
//! The caller reads the octets.
//!
//! ```text
//! DATA ─▶ AskData ─▶ data_verdict ─▶ 354 ─▶ the caller reads the data ─▶ end_of_data ─▶ 250, or the refusal
//! BDAT ─▶ ReadChunk ─▶ the caller reads the chunk ─▶ chunk_verdict ─▶ 250, and more chunks; after the last one end_of_data
//! BDAT refused ─▶ SkipChunk ─▶ the caller reads the octets and ignores them ─▶ the refusal
//! ```

use super::{Action, Chunk, ServerSession, ServerTransaction, Service, SessionState, ok, out_of_sequence};
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::smtp::reply::Reply;

impl<R> ServerSession<R> {
    /// DATA and the first BDAT need a transaction with a recipient.
    fn take_transaction(&mut self) -> Result<ServerTransaction<R>, Reply> {
        match std::mem::replace(&mut self.state, SessionState::AskingData) {
            SessionState::InTransaction(transaction) if !transaction.recipients.is_empty() => {
                self.recipients = transaction.recipients.len();
                Ok(transaction)
            }
            state => {
                let reply = match state {
                    SessionState::InTransaction(_) if self.service == Service::Lmtp => {
                        out_of_sequence("no valid recipients")
                    }
                    // RFC 2920 §3.1: every RCPT of a pipelined group was refused.
                    SessionState::InTransaction(_) => {
                        Reply::new(554, EnhancedStatus::INVALID_COMMAND, "no valid recipients")
                    }
                    SessionState::Chunking => out_of_sequence("the message goes on with BDAT"),
                    _ => out_of_sequence("say MAIL and RCPT first"),
                };
                self.state = state;
                Err(reply)
            }
        }
    }

    pub(super) fn data(&mut self) -> Action<R> {
        match self.take_transaction() {
            Ok(transaction) => Action::AskData(transaction),
            Err(reply) => self.reply(reply),
        }
    }

    pub(super) fn chunk(&mut self, chunk: Chunk) -> Action<R> {
        if matches!(self.state, SessionState::Chunking) {
            return Action::ReadChunk(None, chunk);
        }
        match self.take_transaction() {
            Ok(transaction) => {
                self.state = SessionState::Chunking;
                Action::ReadChunk(Some(transaction), chunk)
            }
            // The refusal counts like any other, but its chunk has to be read first.
            Err(reply) => match self.reply(reply) {
                Action::Reply(reply) => Action::SkipChunk(chunk.octets, reply),
                close => close,
            },
        }
    }

    /// Takes the caller's decision about DATA: after `Ok` the data follows, after `Err` the transaction is over.
    pub fn data_verdict(&mut self, verdict: Result<(), Reply>) -> Action<R> {
        match verdict {
            Ok(()) => {
                self.state = SessionState::ReceivingData;
                self.reply(Reply::plain(354, "end the data with <CRLF>.<CRLF>"))
            }
            Err(reply) => {
                self.state = SessionState::Greeted;
                self.reply(reply)
            }
        }
    }

    /// Whether a message is being received by BDAT and has not ended: the caller has to keep what it has of the
    /// message.
    #[must_use]
    pub const fn is_chunking(&self) -> bool {
        matches!(self.state, SessionState::Chunking)
    }

    /// Takes the result of a chunk: `Ok(None)` if more chunks follow; an id if it was the last one and the message is
    /// accepted.
    pub fn chunk_verdict(&mut self, verdict: Result<Option<QueueId>, Reply>, chunk: Chunk) -> Action<R> {
        match verdict.transpose() {
            None => self.reply(ok(format!("{} octets taken", chunk.octets))),
            // LMTP clients expect one reply for each recipient only after the last chunk.
            Some(Err(reply)) if !chunk.is_last => {
                self.state = SessionState::Greeted;
                self.reply(reply)
            }
            Some(verdict) => self.end_of_data(verdict),
        }
    }

    /// Takes the result of the message, once the end of its data has been read.
    pub fn end_of_data(&mut self, verdict: Result<QueueId, Reply>) -> Action<R> {
        self.state = SessionState::Greeted;
        let action = match verdict {
            Ok(id) => {
                self.idle_commands = 0;
                self.reply(ok(format!("Ok: {id}")))
            }
            Err(reply) => self.reply(reply),
        };
        match action {
            Action::Reply(reply) if self.service == Service::Lmtp => {
                Action::ReplyEach(reply, self.recipients)
            }
            action => action,
        }
    }
}
