//! One SMTP connection: octets from the socket into the session, and what the session wants done.
//!
//! It owns the deadlines and the buffers; the session owns the order of things; intake owns the message. A panic in here
//! ends this connection and no other.

use super::counters::Permit;
use super::event::Event;
use super::input::Input;
use super::intake::{Accepted, Incoming, Intake, Refusal, Submission};
use super::logins::Verdict;
use super::site::{Site, SystemAccounts};
use crate::config::{Listener, ListenerKind};
use crate::mail::address::{ForwardPath, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::message::Origin;
use crate::mail::status::EnhancedStatus;
use crate::net::tls::Handshake;
use crate::net::transport::{Deadline, Stopwatch, Transport, WireError};
use crate::rules::route::{Routed, Users};
use crate::smtp::data::{ChunkDecoder, DotDecoder};
use crate::smtp::extension::{MailParameters, size};
use crate::smtp::line::LineCutter;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::sasl::{self, Credentials, Mechanism};
use crate::smtp::server::{Action, Chunk, Service, Session, Transaction};
use crate::store::free_space;
use std::net::IpAddr;
use std::time::Duration;

/// Room for a command line, and little enough for a thousand idle connections.
const COMMAND_BUFFER_OCTETS: usize = 4096;
/// Deadlines shrink to this for strangers when connections run short (INTERFACE section 2).
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

/// What is particular about the listener that a connection came by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Door {
    /// What is spoken.
    pub service: Service,
    /// TLS comes before the greeting.
    pub implicit_tls: bool,
    /// Lone LFs in mail data are repaired.
    pub repairs: bool,
}

impl From<&Listener> for Door {
    fn from(listener: &Listener) -> Self {
        Self {
            service: match listener.kind {
                ListenerKind::Smtp => Service::Smtp,
                ListenerKind::Submission | ListenerKind::Submissions => Service::Submission,
                ListenerKind::Lmtp => Service::Lmtp,
            },
            implicit_tls: listener.kind == ListenerKind::Submissions,
            repairs: listener.bare_newline == "repair",
        }
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
    door: Door,
    handshake: Option<Handshake>,
    input: Input,
    replies: Vec<u8>,
    session_deadline: Deadline,
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
            door: Door::default(),
            handshake: None,
            input: Input::new(COMMAND_BUFFER_OCTETS),
            replies: Vec::new(),
            session_deadline: Deadline::after(site.settings.limits.session_timeout),
        }
    }

    /// Says by which listener it came; else it is SMTP in clear.
    #[must_use]
    pub fn by(mut self, door: Door) -> Self {
        self.session.serve(door.service, self.client.is_loopback());
        Self { door, ..self }
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
        if self.door.implicit_tls {
            let tls = self.site.tls.as_ref();
            self.handshake = tls.and_then(|tls| tls.handshake(self.intake.clock.now().wall));
            self.shake_hands()?;
            self.session.within_tls();
        }
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
            let most = self.session.line_max_octets(self.input.octets());
            let (used, line) = cutter.cut(self.input.octets(), most);
            let Some(line) = line else {
                self.input.consume(used);
                self.input.make_room(most);
                self.wait_for_command()?;
                continue;
            };
            let action = self.session.line(&line);
            self.input.consume(used);
            self.input.shrink(COMMAND_BUFFER_OCTETS);
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
            self.input.line_deadline = Deadline::after(self.hurried(limits.command_timeout));
        }
        let deadline = self.input.line_deadline.min(self.session_deadline);
        if self.permit.is_stopping() && !self.session.is_in_transaction() {
            return Err(End::Aborted("is shutting down"));
        }
        let filled = self.input.fill(self.transport, deadline);
        // Whole transactions come in one piece from clients that pipeline: a shutdown waits for what is in hand.
        self.permit.set_busy(true);
        match filled {
            Ok(()) if line_started => Ok(()),
            Ok(()) => {
                // The line has its own time, from its first octet on.
                self.input.line_deadline = Deadline::after(self.hurried(limits.command_timeout));
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
            Action::StartTls(reply) => {
                reply.print(&mut self.replies);
                self.flush()?;
                // What came in clear behind STARTTLS may be somebody else's, and must not be taken for the client's words
                // within TLS (CVE-2011-0411). What is still in the socket makes the handshake fail.
                self.input.clear();
                return self.shake_hands();
            }
            Action::AskLogin(credentials, mechanism) => {
                let verdict = self.judge_login(&credentials, mechanism)?;
                self.session.login_verdict(verdict)
            }
            Action::ReplyEach(reply, times) => {
                (0..times).for_each(|_| reply.print(&mut self.replies));
                return Ok(());
            }
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

    fn shake_hands(&mut self) -> Result<(), End> {
        let no_certificate = || WireError::Io(std::io::Error::other("there is no certificate"));
        let handshake = self.handshake.take().ok_or_else(|| End::NoHandshake(no_certificate()))?;
        let time = self.hurried(HANDSHAKE.min(self.site.settings.limits.command_timeout));
        let deadline = Deadline::after(time).min(self.session_deadline);
        // A shutdown does not wait for a handshake.
        self.permit.set_busy(false);
        if self.permit.is_stopping() {
            return Err(End::NoHandshake(WireError::Closed));
        }
        self.tls = Some(self.transport.start_tls(handshake, deadline).map_err(End::NoHandshake)?);
        Ok(())
    }

    /// Whether somebody may log in. Who fails often waits for the answer, whether it is a yes or a no: guesses get slow,
    /// and nothing is learnt from the wait.
    fn judge_login(
        &mut self,
        credentials: &Credentials,
        mechanism: Mechanism,
    ) -> Result<Result<(), Reply>, End> {
        self.flush()?;
        let wait = self.permit.login_wait(self.intake.clock.now().running);
        if !self.permit.pause(wait) {
            return Err(End::Aborted("is shutting down"));
        }
        Ok(match self.site.logins.check(credentials) {
            Verdict::Right => {
                self.permit.logged_in();
                Ok(())
            }
            Verdict::Wrong => {
                self.permit.login_failed(self.intake.clock.now().running);
                let (client, name) = (&self.client.to_string(), credentials.name.as_str());
                Event::AuthFailed { client, name, mechanism: mechanism.keyword() }.log();
                Err(sasl::refused())
            }
            Verdict::Unknown => Err(sasl::unavailable()),
        })
    }

    /// Whether the client may send another message now, and there is room for what MAIL announces.
    fn judge_sender(&self, parameters: &MailParameters) -> Result<(), Reply> {
        if self.door.service == Service::Lmtp && !self.trusted {
            let text = "LMTP is for relay.trusted_networks";
            return Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, text));
        }
        let limit = self.site.settings.limits.messages_per_minute_per_ip;
        if limit > 0 && !self.permit.takes_message(self.intake.clock.now().running, limit) {
            let text = "too many messages in a minute; come again later";
            return Err(Reply::new(450, EnhancedStatus::POLICY_NOW, text));
        }
        let needed = self.site.settings.limits.free_space.saturating_add(parameters.size_octets.unwrap_or(0));
        let maildirs = self.site.settings.local.maildir.fixed_directory();
        let state = Some(self.site.settings.state.as_path());
        for path in [state, maildirs.filter(|path| Some(*path) != state)].into_iter().flatten() {
            // A file system that can't be asked says no when it is written to.
            if free_space(path).is_ok_and(|space| space < needed) {
                return Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "no space left on the disk"));
            }
        }
        Ok(())
    }

    fn judge_recipient(&self, path: &ForwardPath) -> Result<Routed, Reply> {
        let routed = self.site.routes.route(path, &SystemAccounts).map_err(|no_route| no_route.reply())?;
        if self.door.service == Service::Lmtp && !routed.is_local {
            let text = "LMTP is for local recipients";
            return Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, text));
        }
        self.site.admission.admit(&routed, self.trusted || self.session.login().is_some())?;
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

    /// The `with` clause of Received (RFC 3848, RFC 6531 §4.3).
    fn protocol(&self, smtputf8: bool) -> String {
        let word = match (self.door.service, self.session.is_extended(), smtputf8) {
            (Service::Lmtp, _, false) => "LMTP",
            (Service::Lmtp, _, true) => "UTF8LMTP",
            // There is no word for HELO within TLS.
            (_, false, _) => return "SMTP".to_owned(),
            (_, true, false) => "ESMTP",
            (_, true, true) => "UTF8SMTP",
        };
        let secured = if self.tls.is_some() { "S" } else { "" };
        let authenticated = if self.session.login().is_some() { "A" } else { "" };
        format!("{word}{secured}{authenticated}")
    }

    fn submission(&self, transaction: Transaction<Accepted>) -> Submission {
        let client = self.client.to_string();
        let origin = Origin {
            helo: self.session.client_name().unwrap_or_default().to_owned(),
            client: match self.client {
                IpAddr::V4(ip) => format!("[{ip}]"),
                IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
            },
            protocol: self.protocol(transaction.parameters.smtputf8),
            tls: self.tls.clone(),
        };
        Submission {
            reverse_path: transaction.reverse_path,
            parameters: transaction.parameters,
            recipients: transaction.recipients,
            origin: Some(origin),
            client,
            login: self.session.login().map(str::to_owned),
        }
    }

    /// Reads the data to its end, whatever is wrong with it; the inner result says what that was.
    fn read_data(&mut self, incoming: &mut Incoming<'_>) -> Result<Result<(), Reply>, End> {
        let (mut decoder, mut piece) = (DotDecoder::repairing(self.door.repairs), Vec::new());
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
        let timeout = self.hurried(self.site.settings.limits.data_timeout);
        self.input.grow_if_full();
        match self.input.fill(self.transport, Deadline::after(timeout).min(self.session_deadline)) {
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

    /// The time a client gets: little, if it is a stranger and connections run short.
    fn hurried(&self, time: Duration) -> Duration {
        let open = self.permit.open_connections() as u64;
        let is_crowded = open * 4 > u64::from(self.site.settings.limits.connections) * 3;
        if is_crowded && !self.trusted && self.session.login().is_none() { time.min(HURRIED) } else { time }
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

/// An octet a minute must not hold a thread for an hour.
fn is_too_slow(octets: u64, elapsed: Duration) -> bool {
    elapsed > DATA_GRACE && octets / elapsed.as_secs().max(1) < DATA_MIN_RATE
}
