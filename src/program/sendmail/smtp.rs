//! `sendmail -bs`: SMTP on standard input and output, as pine speaks it with a program of this host. The session is the
//! server's; each message goes where sendmail leaves all others. Local names are not looked up here: who does not exist
//! is bounced by the daemon. Fails only when output can't be written; what was answered with 250 is safe.

use super::super::exit::{self, Failure};
use super::{Handover, failure};
use crate::config::Settings;
use crate::mail::address::{ForwardPath, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::Unqualified;
use crate::smtp::data::{ChunkDecoder, DotDecoder};
use crate::smtp::extension::{Offer, RcptParameters};
use crate::smtp::line::LineCutter;
use crate::smtp::reply::Reply;
use crate::smtp::server::{Action, Session, Terms, Transaction};
use crate::store::drop::{DropEnvelope, RECIPIENTS_MAX, Sender};
use crate::sys::clock::{Clock, SystemClock};
use std::io::{self, BufRead, Write};
use std::sync::Arc;

/// A recipient, with what its sender wants to be told.
type Recipient = (Unqualified, RcptParameters);

/// Speaks until QUIT or the end of the input.
///
/// # Errors
/// Input or output failed.
pub fn serve(settings: &Settings) -> Result<(), Failure> {
    let hostname = settings.hostname.as_ref().map(ToString::to_string);
    let terms = Terms {
        hostname: hostname.unwrap_or_else(|| "localhost".into()),
        offer: Offer {
            message_size_octets: settings.limits.message_size,
            recipients: RECIPIENTS_MAX,
            ..Offer::default()
        },
        recipients: RECIPIENTS_MAX,
        errors: settings.limits.errors,
    };
    let session = Session::new(Arc::new(terms));
    let (input, replies) = (io::stdin().lock(), Vec::new());
    let mut conversation = Conversation { settings, session, input, replies, handover: None };
    conversation.run().map_err(|error| failure(exit::IO, &format!("SMTP: {error}")))
}

struct Conversation<'a> {
    settings: &'a Settings,
    session: Session<Recipient>,
    input: io::StdinLock<'static>,
    replies: Vec<u8>,
    /// The message of which chunks have come in.
    handover: Option<Incoming>,
}

/// A message that is coming in.
struct Incoming {
    handover: Handover,
    envelope: DropEnvelope,
    decoder: ChunkDecoder,
}

impl Conversation<'_> {
    fn run(&mut self) -> io::Result<()> {
        self.session.greeting().print(&mut self.replies);
        let (mut cutter, mut held) = (LineCutter::default(), Vec::new());
        loop {
            let most = self.session.line_max_octets(&held);
            let (used, line) = cutter.cut(&held, most);
            let action = line.map(|line| self.session.line(&line));
            held.drain(..used);
            if let Some(action) = action {
                if !self.session.is_chunking() {
                    self.handover = None;
                }
                if !self.act(action)? {
                    return self.flush();
                }
                continue;
            }
            self.flush()?;
            // A line and no more: what follows may be data.
            let there = self.input.fill_buf()?;
            let end = there.iter().position(|&octet| octet == b'\n').map_or(there.len(), |at| at + 1);
            held.extend_from_slice(there.get(..end).unwrap_or_default());
            if end == 0 {
                return Ok(());
            }
            self.input.consume(end);
        }
    }

    /// False: the session is over.
    fn act(&mut self, action: Action<Recipient>) -> io::Result<bool> {
        let next = match action {
            Action::Reply(reply) => {
                reply.print(&mut self.replies);
                return Ok(true);
            }
            Action::Close(reply) => {
                reply.print(&mut self.replies);
                return Ok(false);
            }
            Action::AskTls => self.session.tls_verdict(false),
            Action::AskSender(..) => self.session.sender_verdict(Ok(())),
            Action::AskRecipient(path, parameters) => {
                self.session.recipient_verdict(Ok((unqualified(path), parameters)))
            }
            Action::AskData(transaction) => return self.receive(transaction),
            Action::ReadChunk(transaction, chunk) => {
                let mut incoming = match transaction {
                    Some(transaction) => Some(self.begin(transaction)),
                    None => self.handover.take(),
                };
                let mut piece = Vec::new();
                self.read_octets(chunk.octets, |octets| {
                    if let Some(incoming) = &mut incoming {
                        incoming.decoder.decode(octets, &mut piece);
                        incoming.handover.write(&piece, incoming.decoder.octets());
                        piece.clear();
                    }
                })?;
                let verdict = match incoming {
                    Some(incoming) if chunk.is_last => {
                        let is_malformed = incoming.decoder.is_malformed(true);
                        finish(incoming, is_malformed).map(Some)
                    }
                    incoming => {
                        self.handover = incoming;
                        Ok(None)
                    }
                };
                self.session.chunk_verdict(verdict, chunk)
            }
            Action::SkipChunk(octets, reply) => {
                self.read_octets(octets, |_| ())?;
                Action::Reply(reply)
            }
            // Neither TLS nor logins are offered.
            Action::StartTls(_) | Action::AskLogin(..) | Action::ReplyEach(..) => return Ok(false),
        };
        self.act(next)
    }

    fn begin(&self, transaction: Transaction<Recipient>) -> Incoming {
        let envelope = envelope(transaction);
        Incoming { handover: Handover::begin(self.settings), envelope, decoder: ChunkDecoder::default() }
    }

    fn receive(&mut self, transaction: Transaction<Recipient>) -> io::Result<bool> {
        let mut incoming = self.begin(transaction);
        let action = self.session.data_verdict(Ok(()));
        self.act(action)?;
        self.flush()?;
        // Programs of a Unix end their lines as they like.
        let (mut decoder, mut piece) = (DotDecoder::repairing(true), Vec::new());
        while !decoder.is_at_end() {
            let there = self.input.fill_buf()?;
            if there.is_empty() {
                return Ok(false);
            }
            let used = decoder.decode(there, &mut piece);
            self.input.consume(used);
            incoming.handover.write(&piece, decoder.octets());
            piece.clear();
        }
        let verdict = finish(incoming, decoder.is_malformed());
        let action = self.session.end_of_data(verdict);
        self.act(action)
    }

    fn read_octets(&mut self, octets: u64, mut take: impl FnMut(&[u8])) -> io::Result<()> {
        let mut left = octets;
        while left > 0 {
            let there = self.input.fill_buf()?;
            let used = usize::try_from(left).map_or(there.len(), |left| left.min(there.len()));
            if used == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(there.get(..used).unwrap_or_default());
            self.input.consume(used);
            left -= used as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut output = io::stdout().lock();
        output.write_all(&self.replies)?;
        self.replies.clear();
        output.flush()
    }
}

fn finish(incoming: Incoming, is_malformed: bool) -> Result<QueueId, Reply> {
    if is_malformed {
        return Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, "the message has a bare CR"));
    }
    incoming.handover.commit(incoming.envelope).map_err(|failure| {
        let text = failure.lines.concat();
        if failure.code == exit::DATA {
            return Reply::new(552, EnhancedStatus::MESSAGE_TOO_BIG, text);
        }
        Reply::new(451, EnhancedStatus::SYSTEM_TROUBLE, text)
    })?;
    // For the reply alone: the daemon gives the message its own.
    Ok(QueueId::new(SystemClock.wall_micros(), crate::sys::random()))
}

fn unqualified(path: ForwardPath) -> Unqualified {
    match path {
        ForwardPath::Postmaster => {
            Unqualified { local_part: crate::mail::address::LocalPart::postmaster(), domain: None }
        }
        ForwardPath::Mailbox(mailbox) => {
            Unqualified { local_part: mailbox.local_part, domain: Some(mailbox.domain) }
        }
    }
}

/// A dropped message has one NOTIFY for all its recipients: that of the first one.
fn envelope(transaction: Transaction<Recipient>) -> DropEnvelope {
    let sender = match transaction.reverse_path {
        ReversePath::Null => Sender::Null,
        ReversePath::Mailbox(mailbox) => Sender::Address(unqualified(ForwardPath::Mailbox(mailbox))),
    };
    let notify = transaction.recipients.first().and_then(|(_, parameters)| parameters.notify);
    DropEnvelope {
        sender,
        recipients: transaction.recipients.into_iter().map(|(recipient, _)| recipient).collect(),
        body: transaction.parameters.body,
        ret: transaction.parameters.ret,
        envid: transaction.parameters.envid,
        notify,
    }
}
