//! `sendmail -bs`: SMTP on standard input and output, as pine speaks it with a program of this host. The session is the
//! server's; each message goes where sendmail leaves all others. Local names are not looked up here: who does not exist
//! is bounced by the daemon. Fails only when output can't be written; what was answered with 250 is safe.

use super::super::exit::{self, Failure};
use super::{Handover, failure};
use crate::config::Settings;
use crate::engine::intake::submission::Accepted;
use crate::mail::address::{Domain, ForwardPath, LocalPart, Mailbox, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::next_hop::NextHop;
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::Unqualified;
use crate::rules::routing::route::{Destination, Routed};
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

/// The domain of bare names: this host, whatever it is called. The daemon, which knows, puts its own in its place.
const HERE: Domain = Domain::Literal(IpAddr::V4(Ipv4Addr::LOCALHOST));

/// Speaks until QUIT or the end of the input.
///
/// # Errors
/// Input or output failed.
pub fn serve(settings: &Settings) -> Result<(), Failure> {
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
        Conversation { settings, session, input, replies, handover: None, lines: LineEnds::default() };
    conversation.run().map_err(|error| failure(exit::IO, &format!("SMTP: {error}")))
}

struct Conversation<'a> {
    settings: &'a Settings,
    session: ServerSession<Accepted>,
    input: io::StdinLock<'static>,
    replies: Vec<u8>,
    /// The message of which chunks have come in.
    handover: Option<Incoming<'a>>,
    lines: LineEnds,
}

/// Programs of a Unix write LF where SMTP wants CRLF. The first line says what this one does: where that ends with CRLF, a
/// bare LF ends nothing, neither a command nor the data.
#[derive(Default)]
struct LineEnds {
    /// LF is as good as CRLF; `None` until a line has come.
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

/// A message that is coming in.
struct Incoming<'a> {
    handover: Handover<'a>,
    envelope: DropEnvelope,
    decoder: ChunkDecoder,
}

impl<'a> Conversation<'a> {
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
            self.lines.pass(there.get(..end).unwrap_or_default(), &mut held);
            if end == 0 {
                return Ok(());
            }
            self.input.consume(end);
        }
    }

    /// False: the session is over.
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

    fn begin(&self, transaction: ServerTransaction<Accepted>) -> Incoming<'a> {
        let envelope = envelope(transaction);
        Incoming { handover: Handover::new(self.settings), envelope, decoder: ChunkDecoder::default() }
    }

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
            // The data can't end but with a line.
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

fn finish(incoming: Incoming<'_>, is_malformed: bool) -> Result<QueueId, Reply> {
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
    // What lies in the drop directory has none yet; the one here is for the reply alone.
    Ok(taken.unwrap_or_else(|| QueueId::new(SystemClock.wall_micros(), crate::sys::random())))
}

/// The daemon asks for the route. The type is its own, since a session for another one would be 20 KiB of program.
fn accepted(path: ForwardPath, parameters: RcptParameters) -> Accepted {
    let mailbox = match path {
        ForwardPath::Mailbox(mailbox) => mailbox,
        ForwardPath::Postmaster => Mailbox { local_part: LocalPart::postmaster(), domain: HERE },
    };
    let destination = Destination::Relay(NextHop::Mx(mailbox.domain.clone()));
    Accepted { routed: Routed { mailbox, destination, is_local: false, leaves: false }, parameters }
}

fn unqualified(mailbox: Mailbox) -> Unqualified {
    let domain = Some(mailbox.domain).filter(|domain| *domain != HERE);
    Unqualified { local_part: mailbox.local_part, domain }
}

/// A dropped message has one NOTIFY for all its recipients: that of the first one.
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
