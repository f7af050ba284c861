//! One SMTP connection: octets from the socket into the session, and what the session wants done.
//!
//! It owns the deadlines and the buffers; the session owns the order of things; intake owns the message. A panic in here
//! ends this connection and no other.

use super::counters::Permit;
use super::event::Event;
use super::intake::{Accepted, Incoming, Intake, Refusal, Submission};
use super::site::{Site, SystemAccounts};
use crate::mail::address::{ForwardPath, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::message::Origin;
use crate::mail::status::EnhancedStatus;
use crate::net::tls::Handshake;
use crate::net::transport::{Deadline, Stopwatch, Transport, WireError};
use crate::rules::route::{Routed, Users};
use crate::smtp::data::{ChunkDecoder, DotDecoder};
use crate::smtp::extension::{MailParameters, size};
use crate::smtp::limits::COMMAND_LINE_MAX_OCTETS;
use crate::smtp::line::LineCutter;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::server::{Action, Chunk, Session, Transaction};
use crate::store::free_space;
use std::net::IpAddr;
use std::time::Duration;

/// Room for a command line, and little enough for a thousand idle connections.
const COMMAND_BUFFER_OCTETS: usize = 4096;
/// Room for data, while there is much of it.
const DATA_BUFFER_OCTETS: usize = 64 * 1024;
/// Commands, data and sessions of strangers have so long in all when connections run short (INTERFACE section 2).
const HURRIED: Duration = Duration::from_secs(10);
/// Slow data is borne with for so long …
const DATA_GRACE: Duration = Duration::from_secs(60);
/// … and has to come at this rate on average after that, in octets a second.
const DATA_MIN_RATE: u64 = 500;
/// Time for a TLS handshake, if `limits.command_timeout` is not less.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Time for a client to take our replies.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// Replies are held back while more commands are there to be answered, up to so many octets (RFC 2920 §3.2).
const REPLIES_HELD_OCTETS: usize = 4096;

/// Why a connection ended.
enum End {
    /// As it should: QUIT, or the client went away between transactions.
    Regular,
    /// We end it, with this reason for the log and this 421 for the client.
    Aborted(&'static str),
    /// The socket is of no use any more.
    Lost(WireError),
    /// Nothing can be said to the client: the TLS handshake failed.
    NoHandshake(WireError),
}

impl From<WireError> for End {
    fn from(error: WireError) -> Self {
        Self::Lost(error)
    }
}

/// A connection that is being served.
pub struct Connection<'a> {
    site: &'a Site,
    intake: &'a Intake,
    permit: &'a Permit,
    transport: &'a mut dyn Transport,
    /// Version and cipher, within TLS.
    tls: Option<String>,
    client: IpAddr,
    trusted: bool,
    session: Session<Accepted>,
    /// The message of which chunks have come in.
    chunks: Option<Chunks<'a>>,
    repairs: bool,
    handshake: Option<Handshake>,
    input: Input,
    replies: Vec<u8>,
    session_deadline: Deadline,
    /// The end of the session when connections run short and the client is a stranger.
    hurried_deadline: Deadline,
}

impl<'a> Connection<'a> {
    /// A connection to which nothing has been said yet. `client` is in canonical form.
    #[must_use]
    pub fn new(
        site: &'a Site,
        intake: &'a Intake,
        permit: &'a Permit,
        transport: &'a mut dyn Transport,
        client: IpAddr,
    ) -> Self {
        let trusted = site.admission.trusts(client);
        Self {
            site,
            intake,
            permit,
            transport,
            tls: None,
            client,
            trusted,
            session: Session::new(site.terms.clone()),
            chunks: None,
            repairs: false,
            handshake: None,
            input: Input::new(COMMAND_BUFFER_OCTETS),
            replies: Vec::new(),
            session_deadline: Deadline::after(site.settings.limits.session_timeout),
            hurried_deadline: Deadline::after(HURRIED),
        }
    }

    /// Lone LFs in mail data are repaired (`listener.bare_newline`).
    #[must_use]
    pub fn repairing(self, repairs: bool) -> Self {
        Self { repairs, ..self }
    }

    /// Serves it to its end.
    pub fn serve(mut self) {
        let end = self.run();
        let reason = match end {
            Ok(()) | Err(End::Regular) => return,
            Err(End::Aborted(reason)) => {
                let reply = self.session.abort(EnhancedStatus::NOT_ACCEPTING, reason);
                reply.print(&mut self.replies);
                let _ = self.flush();
                reason.to_owned()
            }
            Err(End::Lost(error)) => error.to_string(),
            Err(End::NoHandshake(error)) => format!("TLS handshake: {error}"),
        };
        Event::Closed { client: &self.client.to_string(), reason: &reason }.log();
    }

    fn run(&mut self) -> Result<(), End> {
        // A client that talks before it was greeted is a robot, or is smuggling through a proxy.
        if self.transport.has_input() {
            Reply::new(554, EnhancedStatus::INVALID_COMMAND, "wait for the greeting")
                .print(&mut self.replies);
            self.flush()?;
            let reason = "spoke before the greeting";
            Event::Closed { client: &self.client.to_string(), reason }.log();
            // The 554 is all that is said: a 421 behind it would answer a command that nobody read.
            return Err(End::Regular);
        }
        self.session.greeting().print(&mut self.replies);
        let mut cutter = LineCutter::default();
        loop {
            let (used, line) = cutter.cut(self.input.octets(), COMMAND_LINE_MAX_OCTETS);
            let Some(line) = line else {
                self.input.consume(used);
                self.wait_for_command()?;
                continue;
            };
            let action = self.session.line(&line);
            self.input.consume(used);
            if !self.session.is_chunking() {
                // RSET and the like: what has come in of a message is thrown away.
                self.chunks = None;
            }
            self.act(action)?;
            if self.replies.len() > REPLIES_HELD_OCTETS {
                self.flush()?;
            }
        }
    }

    /// Sends what is due and reads more of the command phase.
    fn wait_for_command(&mut self) -> Result<(), End> {
        self.flush()?;
        self.permit.set_busy(self.session.is_in_transaction());
        let limits = &self.site.settings.limits;
        let line_started = !self.input.octets().is_empty();
        if !line_started {
            self.input.line_deadline = Deadline::after(limits.command_timeout);
        }
        let deadline = self.input.line_deadline;
        if self.permit.is_stopping() && !self.session.is_in_transaction() {
            return Err(End::Aborted("is shutting down"));
        }
        let filled = self.fill(deadline);
        // Whole transactions come in one piece from clients that pipeline: a shutdown waits for what is in hand.
        self.permit.set_busy(true);
        match filled {
            Ok(()) if line_started => Ok(()),
            Ok(()) => {
                // The line has its own time, from its first octet on.
                self.input.line_deadline = Deadline::after(limits.command_timeout);
                Ok(())
            }
            Err(WireError::TimedOut) => Err(End::Aborted("timed out waiting for a command")),
            Err(WireError::Closed) if self.permit.is_stopping() => Err(End::Aborted("is shutting down")),
            Err(WireError::Closed) if !self.session.is_in_transaction() => Err(End::Regular),
            Err(error) => Err(error.into()),
        }
    }

    fn act(&mut self, action: Action<Accepted>) -> Result<(), End> {
        let next = match action {
            Action::Reply(reply) => {
                reply.print(&mut self.replies);
                return Ok(());
            }
            Action::Close(reply) => {
                reply.print(&mut self.replies);
                self.flush()?;
                if reply.severity() == Severity::Transient {
                    Event::Closed { client: &self.client.to_string(), reason: &reply.to_string() }.log();
                }
                return Err(End::Regular);
            }
            Action::AskTls => {
                let tls = self.site.tls.as_ref();
                self.handshake = tls.and_then(|tls| tls.handshake(self.intake.clock.now().wall));
                self.session.tls_verdict(self.handshake.is_some())
            }
            Action::StartTls(reply) => return self.start_tls(&reply),
            Action::AskSender(_, parameters) => {
                let verdict = self.judge_sender(&parameters);
                self.session.sender_verdict(verdict)
            }
            Action::AskRecipient(path, parameters) => {
                let verdict = self.judge_recipient(&path).map(|routed| Accepted { routed, parameters });
                self.session.recipient_verdict(verdict)
            }
            Action::AskData(transaction) => return self.receive(transaction),
            Action::ReadChunk(transaction, chunk) => return self.read_chunk(transaction, chunk),
            Action::SkipChunk(octets, reply) => {
                self.read_octets(octets, |_| ())?;
                Action::Reply(reply)
            }
        };
        self.act(next)
    }

    fn start_tls(&mut self, reply: &Reply) -> Result<(), End> {
        reply.print(&mut self.replies);
        self.flush()?;
        // What came in clear behind STARTTLS may be somebody else's, and must not be taken for the client's words within
        // TLS (CVE-2011-0411). What is still in the socket makes the handshake fail.
        self.input.clear();
        let Some(handshake) = self.handshake.take() else { return Err(End::Aborted("lost a handshake")) };
        let time = HANDSHAKE.min(self.site.settings.limits.command_timeout);
        let deadline = Deadline::after(time).min(self.session_end());
        self.tls = Some(self.transport.start_tls(handshake, deadline).map_err(End::NoHandshake)?);
        Ok(())
    }

    /// Whether the client may send another message now, and there is room for what MAIL announces.
    fn judge_sender(&self, parameters: &MailParameters) -> Result<(), Reply> {
        let limit = self.site.settings.limits.messages_per_minute_per_ip;
        if limit > 0 && !self.permit.takes_message(self.intake.clock.now().running, limit) {
            let text = "too many messages in a minute; come again later";
            return Err(Reply::new(450, EnhancedStatus::POLICY_NOW, text));
        }
        let (kept, declared) = (self.site.settings.limits.free_space, parameters.size_octets.unwrap_or(0));
        let maildirs = self.site.settings.local.maildir.fixed_directory();
        let state = Some(self.site.settings.state.as_path());
        for path in [state, maildirs.filter(|path| Some(*path) != state)].into_iter().flatten() {
            // A file system that can't be asked says no when it is written to.
            if free_space(path).is_ok_and(|space| !has_room(space, kept, declared)) {
                return Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "no space left on the disk"));
            }
        }
        Ok(())
    }

    fn judge_recipient(&self, path: &ForwardPath) -> Result<Routed, Reply> {
        let routed = self.site.routes.route(path, &SystemAccounts).map_err(|no_route| no_route.reply())?;
        self.site.admission.admit(&routed, self.trusted)?;
        // A recipient who can't have a Maildir is told apart here: after the data it would be the end of the others', too.
        if self.site.routes.users == Users::Any
            && let Err(error) = self.site.maildir(&routed)
        {
            Event::Trouble { doing: "making room for a mailbox", error: &error.to_string() }.log();
            return Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "no more mailboxes can be made here"));
        }
        Ok(routed)
    }

    /// Takes the message: intake is made ready first, so that its refusal can still answer DATA.
    fn receive(&mut self, transaction: Transaction<Accepted>) -> Result<(), End> {
        let reverse_path = transaction.reverse_path.clone();
        let mut incoming = match self.intake.begin(self.site, self.submission(transaction)) {
            Ok(incoming) => incoming,
            Err(refusal) => {
                self.tell_refused(&reverse_path, &refusal.to_string());
                let action = self.session.data_verdict(Err(refusal.reply()));
                return self.act(action);
            }
        };
        let action = self.session.data_verdict(Ok(()));
        self.act(action)?;
        let verdict = self.read_data(&mut incoming)?.and_then(|()| commit(incoming));
        if let Err(reply) = &verdict {
            self.tell_refused(&reverse_path, &reply.to_string());
        }
        let action = self.session.end_of_data(verdict);
        self.act(action)
    }

    fn submission(&self, transaction: Transaction<Accepted>) -> Submission {
        let client = self.client.to_string();
        let origin = Origin {
            helo: self.session.client_name().unwrap_or_default().to_owned(),
            client: match self.client {
                IpAddr::V4(ip) => format!("[{ip}]"),
                IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
            },
            // RFC 3848, RFC 6531 §4.3. There is no word for HELO within TLS.
            protocol: match (self.session.is_extended(), transaction.parameters.smtputf8, &self.tls) {
                (false, ..) => "SMTP",
                (true, false, None) => "ESMTP",
                (true, false, Some(_)) => "ESMTPS",
                (true, true, None) => "UTF8SMTP",
                (true, true, Some(_)) => "UTF8SMTPS",
            },
            tls: self.tls.clone(),
        };
        Submission {
            reverse_path: transaction.reverse_path,
            parameters: transaction.parameters,
            recipients: transaction.recipients,
            origin: Some(origin),
            client,
        }
    }

    /// Reads the data to its end, whatever is wrong with it; the inner result says what that was.
    fn read_data(&mut self, incoming: &mut Incoming<'_>) -> Result<Result<(), Reply>, End> {
        let (mut decoder, mut piece) = (DotDecoder::repairing(self.repairs), Vec::new());
        let limits = &self.site.settings.limits;
        let started = Stopwatch::start();
        loop {
            let used = decoder.decode(self.input.octets(), &mut piece);
            self.input.consume(used);
            if decoder.octets() <= limits.message_size {
                incoming.write(&piece);
            }
            piece.clear();
            if decoder.is_at_end() {
                break;
            }
            self.flush()?;
            if is_too_slow(decoder.octets(), started.elapsed()) {
                return Err(End::Aborted("got the data too slowly"));
            }
            self.fill_with_data()?;
        }
        self.input.shrink(COMMAND_BUFFER_OCTETS);
        Ok(judge_data(decoder.is_malformed(), decoder.octets(), limits.message_size))
    }

    /// Reads a chunk of BDAT to its end, whatever is wrong with the message.
    fn read_chunk(&mut self, transaction: Option<Transaction<Accepted>>, chunk: Chunk) -> Result<(), End> {
        if let Some(transaction) = transaction {
            let reverse_path = transaction.reverse_path.clone();
            let incoming = self.intake.begin(self.site, self.submission(transaction));
            self.chunks = Some(Chunks { incoming, decoder: ChunkDecoder::default(), reverse_path });
        }
        let Some(mut chunks) = self.chunks.take() else { return Err(End::Aborted("lost a message")) };
        let limit = self.site.settings.limits.message_size;
        let mut piece = Vec::new();
        self.read_octets(chunk.octets, |octets| {
            chunks.decoder.decode(octets, &mut piece);
            if let (Ok(incoming), true) = (&mut chunks.incoming, chunks.decoder.octets() <= limit) {
                incoming.write(&piece);
            }
            piece.clear();
        })?;
        let verdict = chunks.verdict(limit, chunk.is_last);
        let verdict = match verdict {
            Err(reply) => {
                self.tell_refused(&chunks.reverse_path, &reply.to_string());
                Err(reply)
            }
            Ok(()) if chunk.is_last => {
                chunks.incoming.map_err(|refusal| refusal.reply()).and_then(commit).map(Some)
            }
            Ok(()) => {
                self.chunks = Some(chunks);
                Ok(None)
            }
        };
        let action = self.session.chunk_verdict(verdict, chunk);
        self.act(action)
    }

    /// Reads so many octets and hands them on in pieces.
    fn read_octets(&mut self, octets: u64, mut take: impl FnMut(&[u8])) -> Result<(), End> {
        let mut left = octets;
        let started = Stopwatch::start();
        while left > 0 {
            if self.input.octets().is_empty() {
                self.flush()?;
                if is_too_slow(octets - left, started.elapsed()) {
                    return Err(End::Aborted("got the data too slowly"));
                }
                self.fill_with_data()?;
            }
            let there = self.input.octets();
            let used = usize::try_from(left).map_or(there.len(), |left| left.min(there.len()));
            take(there.get(..used).unwrap_or_default());
            self.input.consume(used);
            left -= used as u64;
        }
        self.input.shrink(COMMAND_BUFFER_OCTETS);
        Ok(())
    }

    /// Waits for more of the data.
    fn fill_with_data(&mut self) -> Result<(), End> {
        self.input.grow_if_full();
        match self.fill(Deadline::after(self.site.settings.limits.data_timeout)) {
            Ok(()) => Ok(()),
            Err(WireError::TimedOut) => Err(End::Aborted("timed out waiting for data")),
            Err(error) => Err(error.into()),
        }
    }

    fn tell_refused(&self, from: &ReversePath, reply: &str) {
        Event::Refused { client: &self.client.to_string(), from, reply }.log();
    }

    fn flush(&mut self) -> Result<(), WireError> {
        if !self.replies.is_empty() {
            self.transport.write_all(&self.replies, Deadline::after(WRITE_DEADLINE))?;
            self.replies.clear();
        }
        Ok(())
    }

    /// Reads at least one octet. A stranger's wait can become too long while it lasts: it is looked at now and then.
    fn fill(&mut self, deadline: Deadline) -> Result<(), WireError> {
        loop {
            let end = deadline.min(self.session_end());
            let step = if self.trusted { end } else { end.min(Deadline::after(HURRIED)) };
            match self.input.fill(self.transport, step) {
                Err(WireError::TimedOut)
                    if !self.trusted && !end.min(self.session_end()).remaining().is_zero() => {}
                result => return result,
            }
        }
    }

    /// When the session has to end: soon, if the client is a stranger and connections run short. Strangers can take up
    /// three quarters of them, so from there on.
    fn session_end(&self) -> Deadline {
        let open = self.permit.open_connections() as u64;
        let is_crowded = open * 4 >= u64::from(self.site.settings.limits.connections) * 3;
        let is_hurried = is_crowded && !self.trusted;
        if is_hurried { self.session_deadline.min(self.hurried_deadline) } else { self.session_deadline }
    }
}

/// A message that comes in by BDAT.
struct Chunks<'a> {
    /// Or why intake does not take it.
    incoming: Result<Incoming<'a>, Refusal>,
    decoder: ChunkDecoder,
    reverse_path: ReversePath,
}

impl Chunks<'_> {
    /// What is wrong with the message so far.
    fn verdict(&self, limit: u64, at_end: bool) -> Result<(), Reply> {
        if let Err(refusal) = &self.incoming {
            return Err(refusal.reply());
        }
        judge_data(self.decoder.is_malformed(at_end), self.decoder.octets(), limit)
    }
}

fn judge_data(is_malformed: bool, octets: u64, limit: u64) -> Result<(), Reply> {
    if is_malformed {
        let text = "the message has a bare CR or LF; end lines with CRLF";
        return Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, text));
    }
    if octets > limit { Err(size::too_big(limit)) } else { Ok(()) }
}

fn commit(incoming: Incoming<'_>) -> Result<QueueId, Reply> {
    incoming.commit().map_err(|refusal| {
        Event::Trouble { doing: "taking a message", error: &refusal.to_string() }.log();
        refusal.reply()
    })
}

/// Whether a message of `declared` octets leaves `kept` ones free.
pub(super) const fn has_room(free: u64, kept: u64, declared: u64) -> bool {
    free >= kept.saturating_add(declared)
}

/// An octet a minute must not hold a thread for an hour.
pub(super) fn is_too_slow(octets: u64, elapsed: Duration) -> bool {
    elapsed > DATA_GRACE && octets / elapsed.as_secs().max(1) < DATA_MIN_RATE
}

/// What has been read and not been used.
struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The last read left no room.
    was_full: bool,
    line_deadline: Deadline,
}

impl Input {
    fn new(capacity: usize) -> Self {
        Self {
            buffer: vec![0; capacity],
            start: 0,
            end: 0,
            was_full: false,
            line_deadline: Deadline::after(Duration::ZERO),
        }
    }

    fn octets(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, octets: usize) {
        self.start = (self.start + octets).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Throws away what has not been used.
    const fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Reads at least one octet.
    fn fill(&mut self, transport: &mut dyn Transport, deadline: Deadline) -> Result<(), WireError> {
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // A line longer than the buffer has been passed over by the cutter: there is room.
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        self.end += transport.read(room, deadline)?;
        self.was_full = self.end == self.buffer.len();
        Ok(())
    }

    /// More room for data, if what there is was filled at once.
    fn grow_if_full(&mut self) {
        if self.was_full && self.start == self.end && self.buffer.len() < DATA_BUFFER_OCTETS {
            self.buffer.resize(DATA_BUFFER_OCTETS, 0);
        }
    }

    fn shrink(&mut self, capacity: usize) {
        if self.buffer.len() > capacity && self.end - self.start <= capacity {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            self.buffer.truncate(capacity);
            self.buffer.shrink_to_fit();
        }
    }
}
