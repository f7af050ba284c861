//! `sendmail -bs`: SMTP on standard input and output, as alpine and others speak it.
//!
//! The session is that of the server; each message takes the way of all sendmail messages ([`super::handover`]). Local names
//! are not looked up here: the daemon bounces mail to unknown users. A message that was answered with 250 is on stable
//! storage. May fail: reading input or writing output.
//!
//! What differs from the daemon's listener:
//!
//! | | listener | here |
//! | --- | --- | --- |
//! | extensions | all that are configured | no STARTTLS, no AUTH: the peer is a local user already |
//! | line ends | CRLF; a bare LF is refused or repaired | decided by the first line |
//! | RCPT | verdict by route and relay rules | every well-formed recipient is accepted; the daemon bounces |
//! | end of data | 250 after the commit of all copies | 250 after the handover |
//! | bare names | get the domain of this host | the daemon adds the domain |
//!
//! At most one message is open at a time: either DATA, which is read to its end within one action, or chunks of BDAT, which stay
//! in [`StdinSession::handover`] between commands and are forgotten when the session stops chunking.

use super::super::exit::{self, CommandFailure};
use super::{Handover, failure};
use crate::config::Settings;
use crate::engine::intake::submission::Accepted;
use crate::mail::address::{Domain, ForwardPath, LocalPart, Mailbox, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::Unqualified;
use crate::rules::routing::route::Routed;
use crate::smtp::data::{ChunkDecoder, DotDecoder};
use crate::smtp::extension::{Offer, RcptParameters};
use crate::smtp::line::LineCutter;
use crate::smtp::reply::Reply;
use crate::smtp::server::{Action, Home, ServerSession, ServerTerms, ServerTransaction};
use crate::store::drop::{DropEnvelope, RECIPIENTS_MAX, Sender};
use crate::sys::clock::{Clock, SystemClock};
use std::io::{self, BufRead, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Stands for the domain of bare names. The daemon, which knows the name of this host, replaces it.
const HERE: Domain = Domain::Literal(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Speaks until QUIT or the end of the input.
///
/// # Errors
/// Input or output failed.
pub fn serve(settings: &Settings) -> Result<(), CommandFailure> {
    let hostname = settings.hostname.as_ref().map(ToString::to_string);
    let terms = ServerTerms {
        hostname: hostname.unwrap_or_else(|| "localhost".into()),
        home: Home { of_senders: HERE, of_recipients: HERE },
        offer: Offer {
            message_size_octets: settings.limits.message_size,
            recipients: RECIPIENTS_MAX,
            ..Offer::default()
        },
        recipients: RECIPIENTS_MAX,
        errors: settings.limits.errors,
    };
    let mut session = ServerSession::new(Arc::new(terms));
    session.trust(true);
    let (input, replies) = (io::stdin().lock(), Vec::new());
    let mut conversation =
        StdinSession { settings, session, input, replies, handover: None, lines: LineEnds::default() };
    conversation.run().map_err(|error| failure(exit::IO, &format!("SMTP: {error}")))
}

/// One session, from the greeting to QUIT or the end of the input.
struct StdinSession<'a> {
    settings: &'a Settings,
    /// The protocol's state machine, which decides every reply.
    session: ServerSession<Accepted>,
    input: io::StdinLock<'static>,
    /// Replies that are not written yet: those to a group of pipelined commands leave together.
    replies: Vec<u8>,
    /// The message whose chunks (BDAT) are arriving.
    handover: Option<StdinMessage<'a>>,
    lines: LineEnds,
}

/// Local programs may write LF where SMTP wants CRLF. The first line decides: if it ends with CRLF, a bare LF ends neither a
/// command nor the data from then on.
#[derive(Default)]
struct LineEnds {
    /// A bare LF counts as CRLF; `None` before the first line.
    are_repaired: Option<bool>,
    /// The last octet was a CR.
    after_cr: bool,
}

impl LineEnds {
    /// Appends octets, which have no LF but at their end, with CRLF there if that is repaired.
    fn pass(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        let text = octets.strip_suffix(b"\n");
        let is_bare = match text {
            Some(text) => text.last().map_or(!self.after_cr, |&last| last != b'\r'),
            None => false,
        };
        if text.is_some() {
            self.are_repaired.get_or_insert(is_bare);
        }
        self.after_cr = octets.last().map_or(self.after_cr, |&last| last == b'\r');
        out.extend_from_slice(text.unwrap_or(octets));
        if text.is_some() {
            let is_repaired = is_bare && self.are_repaired == Some(true);
            out.extend_from_slice(if is_repaired { b"\r\n" } else { b"\n" });
        }
    }
}

/// A message that is being received.
struct StdinMessage<'a> {
    handover: Handover<'a>,
    envelope: DropEnvelope,
    decoder: ChunkDecoder,
}

impl<'a> StdinSession<'a> {
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
            // One line at most: data may follow.
            let there = self.input.fill_buf()?;
            let end = there.iter().position(|&octet| octet == b'\n').map_or(there.len(), |at| at + 1);
            self.lines.pass(there.get(..end).unwrap_or_default(), &mut held);
            if end == 0 {
                return Ok(());
            }
            self.input.consume(end);
        }
    }

    /// Carries out an action of the session. `false`: the session is over.
    fn act(&mut self, action: Action<Accepted>) -> io::Result<bool> {
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
                self.session.recipient_verdict(Ok(accepted(path, parameters)))
            }
            Action::AskData(transaction) => return self.receive(transaction),
            Action::ReadChunk(transaction, chunk) => {
                let mut incoming = match transaction {
                    Some(transaction) => Some(self.begin(transaction)),
                    None => self.handover.take(),
                };
                let (mut lines, mut piece) = (Vec::new(), Vec::new());
                self.read_octets(chunk.octets, |octets, ends| {
                    if let Some(incoming) = &mut incoming {
                        lines.clear();
                        octets
                            .split_inclusive(|&octet| octet == b'\n')
                            .for_each(|line| ends.pass(line, &mut lines));
                        incoming.decoder.decode(&lines, &mut piece);
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
                self.read_octets(octets, |_, _| ())?;
                Action::Reply(reply)
            }
            // Neither TLS nor logins are offered.
            Action::StartTls(_) | Action::AskLogin(..) | Action::ReplyEach(..) => return Ok(false),
        };
        self.act(next)
    }

    /// A message of which no data has come.
    fn begin(&self, transaction: ServerTransaction<Accepted>) -> StdinMessage<'a> {
        let envelope = envelope(transaction);
        StdinMessage { handover: Handover::new(self.settings), envelope, decoder: ChunkDecoder::default() }
    }

    /// Reads the data after 354, and hands the message over. `false`: the input ended before the data did.
    fn receive(&mut self, transaction: ServerTransaction<Accepted>) -> io::Result<bool> {
        let mut incoming = self.begin(transaction);
        let action = self.session.data_verdict(Ok(()));
        self.act(action)?;
        self.flush()?;
        let (mut decoder, mut line, mut piece) = (DotDecoder::repairing(true), Vec::new(), Vec::new());
        while !decoder.is_at_end() {
            let there = self.input.fill_buf()?;
            let end = there.iter().position(|&octet| octet == b'\n').map_or(there.len(), |at| at + 1);
            if end == 0 {
                return Ok(false);
            }
            // Only a complete line can end the data.
            line.clear();
            self.lines.pass(there.get(..end).unwrap_or_default(), &mut line);
            decoder.decode(&line, &mut piece);
            self.input.consume(end);
            incoming.handover.write(&piece, decoder.octets());
            piece.clear();
        }
        let verdict = finish(incoming, decoder.is_malformed());
        let action = self.session.end_of_data(verdict);
        self.act(action)
    }

    /// Passes the next `octets` octets of the input to `take`, in pieces.
    fn read_octets(&mut self, octets: u64, mut take: impl FnMut(&[u8], &mut LineEnds)) -> io::Result<()> {
        let mut left = octets;
        while left > 0 {
            let there = self.input.fill_buf()?;
            let used = usize::try_from(left).map_or(there.len(), |left| left.min(there.len()));
            if used == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            take(there.get(..used).unwrap_or_default(), &mut self.lines);
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

/// Hands a complete message over. Exit codes of [`super::handover`] become replies.
fn finish(incoming: StdinMessage<'_>, is_malformed: bool) -> Result<QueueId, Reply> {
    if is_malformed {
        return Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, "the message has a bare CR"));
    }
    let taken = incoming.handover.commit(&incoming.envelope).map_err(|failure| {
        let text = failure.lines.concat();
        match failure.code {
            exit::DATA => Reply::new(552, EnhancedStatus::MESSAGE_TOO_BIG, text),
            exit::UNKNOWN_USER => Reply::new(550, EnhancedStatus::NO_SUCH_USER, text),
            _ => Reply::new(451, EnhancedStatus::SYSTEM_TROUBLE, text),
        }
    })?;
    // A message in the drop directory has no id yet: this one is only for the reply.
    Ok(taken.unwrap_or_else(|| QueueId::new(SystemClock.wall_micros(), crate::sys::random())))
}

/// An accepted recipient; the daemon looks its route up. The type is the engine's, since a second instance of the generic
/// session would add 20 KiB to the program.
fn accepted(path: ForwardPath, parameters: RcptParameters) -> Accepted {
    let mailbox = match path {
        ForwardPath::Mailbox(mailbox) => mailbox,
        ForwardPath::Postmaster => Mailbox { local_part: LocalPart::postmaster(), domain: HERE },
    };
    Accepted { routed: Routed::by_queue(mailbox, false), parameters }
}

/// The mailbox as sendmail hands it over: [`HERE`] becomes no domain.
fn unqualified(mailbox: Mailbox) -> Unqualified {
    let domain = Some(mailbox.domain).filter(|domain| *domain != HERE);
    Unqualified { local_part: mailbox.local_part, domain }
}

/// The envelope for the handover. It has one NOTIFY for all recipients: that of the first one.
fn envelope(transaction: ServerTransaction<Accepted>) -> DropEnvelope {
    let sender = match transaction.reverse_path {
        ReversePath::Null => Sender::Null,
        ReversePath::Mailbox(mailbox) => Sender::Address(unqualified(mailbox)),
    };
    let notify = transaction.recipients.first().and_then(|first| first.parameters.notify);
    DropEnvelope {
        sender,
        recipients: transaction.recipients.into_iter().map(|to| unqualified(to.routed.mailbox)).collect(),
        body: transaction.parameters.body,
        ret: transaction.parameters.ret,
        envid: transaction.parameters.envid,
        notify,
    }
}
