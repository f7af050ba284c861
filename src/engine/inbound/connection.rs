//! One SMTP connection: octets from the socket into the session, and the actions that the session asks for.
//!
//! | part | owns |
//! | --- | --- |
//! | this file | the socket, the buffers, the deadlines |
//! | `smtp::server::Session` | the order of commands, and the replies |
//! | `verdicts` | decisions about the client: login, sender, recipient |
//! | `content` | the data on its way to intake |
//! | `asked` | the command under way, for the log |
//! | `Intake` | the message |
//!
//! How a connection ends:
//!
//! | end | the client gets | the log has |
//! | --- | --- | --- |
//! | QUIT, or the client leaves between transactions | 221, or nothing | nothing |
//! | a limit or a stop of the daemon | 421 | `closed` with the reason |
//! | the socket fails | nothing | `closed` with the reason; at debug level if nothing was asked for |
//! | the TLS handshake fails | nothing | `closed` with the reason; it is counted |
//! | a PROXY header that is refused | nothing | `closed` with the reason |
//!
//! A panic ends this connection and no other.

mod asked;
mod content;
mod verdicts;

use self::asked::Asked;
use self::content::Chunks;
use super::input::Input;
use super::policy::ListenerPolicy;
use super::slots::{Caps, Slot};
use crate::config::ListenerKind;
use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::submission::Accepted;
use crate::engine::log::counters::Count;
use crate::engine::log::event::Event;
use crate::mail::status::EnhancedStatus;
use crate::net::handshake::Handshake;
use crate::net::proxy::{self, Announced, ProxyError};
use crate::net::transport::{Deadline, Transport, WireError};
use crate::rules::pacing::patience::{HURRIED, is_crowded};
use crate::smtp::line::LineCutter;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::server::{Action, ServerSession, Service};
use std::net::IpAddr;
use std::time::Duration;

/// Room for a command line, and little enough for a thousand idle connections.
const COMMAND_BUFFER_OCTETS: usize = 4096;
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
    /// Nothing is said to whoever it is, for this reason.
    Silent(String),
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
    slot: &'a Slot,
    transport: &'a mut dyn Transport,
    /// Version and cipher, within TLS.
    tls: Option<String>,
    client: IpAddr,
    trusted: bool,
    session: ServerSession<Accepted>,
    /// The message of which chunks have come in.
    chunks: Option<Chunks<'a>>,
    listener: ListenerPolicy,
    service: Service,
    /// What MAIL said of the message's size, in octets.
    declared_octets: u64,
    /// The command in hand, for the log.
    asked: Asked,
    /// The proxy named no client: most likely it looks whether this host is alive.
    is_check: bool,
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
        slot: &'a Slot,
        transport: &'a mut dyn Transport,
        client: IpAddr,
    ) -> Self {
        let trusted = site.admission.trusts(client);
        let mut session = ServerSession::new(site.terms.clone());
        session.trust(trusted);
        Self {
            site,
            intake,
            slot,
            transport,
            tls: None,
            client,
            trusted,
            session,
            chunks: None,
            listener: ListenerPolicy::default(),
            declared_octets: 0,
            asked: Asked::default(),
            is_check: false,
            service: Service::Smtp,
            handshake: None,
            input: Input::new(COMMAND_BUFFER_OCTETS),
            replies: Vec::new(),
            session_deadline: Deadline::after(site.settings.limits.session_timeout),
            hurried_deadline: Deadline::after(HURRIED),
        }
    }

    /// Says by which listener it came; else it is SMTP in clear.
    #[must_use]
    pub fn by(mut self, listener: ListenerPolicy) -> Self {
        self.service = listener.kind.service();
        self.listener = listener;
        self.session.serve(self.service, self.access(self.client.is_loopback()));
        self
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
            // Monitors and proxies come every few seconds, and go as soon as they see that the port is open.
            Err(End::Lost(error))
                if self.asked.is_nothing() || (self.is_check && !self.session.is_in_transaction()) =>
            {
                let reason = error.to_string();
                return Event::Closed { client: &self.client.to_string(), reason: &reason }.log_quietly();
            }
            Err(End::Lost(error)) => error.to_string(),
            Err(End::NoHandshake(error)) => {
                self.intake.counters.count(Count::HandshakesFailed);
                format!("TLS handshake: {error}")
            }
            Err(End::Silent(reason)) => reason,
        };
        Event::Closed { client: &self.client.to_string(), reason: &reason }.log();
    }

    fn run(&mut self) -> Result<(), End> {
        if self.listener.proxy_protocol {
            self.read_proxy_header()?;
        }
        if self.listener.kind == ListenerKind::Submissions {
            self.handshake = self.prepare_handshake();
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
            self.session.follow(used < self.input.octets().len());
            self.asked.note(&line, &self.session);
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

    /// Learns from a proxy who the client is, and begins again to judge it. Not inlined: what it needs on the stack is not
    /// to be held for the life of each connection, nor what the handshake and a login need.
    #[inline(never)]
    fn read_proxy_header(&mut self) -> Result<(), End> {
        let refused = |why: String| End::Silent(why);
        if !self.trusted {
            let why = "PROXY headers are believed from relay.trusted_networks alone; add the proxy there";
            return Err(refused(why.to_owned()));
        }
        let limits = &self.site.settings.limits;
        let deadline = Deadline::after(HANDSHAKE.min(limits.command_timeout)).min(self.session_end());
        let announced = proxy::read_header(self.transport, deadline);
        let client = match announced {
            Ok(Announced::Client(client)) => client.ip(),
            // Nobody knows who it is: it gets no share in the trust that the proxy has.
            Ok(Announced::Unchanged) => {
                (self.trusted, self.is_check) = (false, true);
                self.session.serve(self.service, self.access(false));
                self.session.trust(false);
                return Ok(());
            }
            Err(ProxyError::Nobody) => return Err(End::Lost(WireError::Closed)),
            Err(error) => return Err(refused(error.to_string())),
        };
        (self.client, self.trusted) = (client, self.site.admission.trusts(client));
        self.session.serve(self.service, self.access(client.is_loopback()));
        self.session.trust(self.trusted);
        let caps = Caps { total: limits.connections, per_address: limits.connections_per_ip };
        self.slot
            .change_client(client, self.trusted, caps)
            .map_err(|_| End::Aborted("has too many connections"))
    }

    /// Sends what is due and reads more of the command phase.
    fn wait_for_command(&mut self) -> Result<(), End> {
        self.flush()?;
        self.slot.set_busy(self.session.is_in_transaction());
        let limits = &self.site.settings.limits;
        let line_started = !self.input.octets().is_empty();
        if !line_started {
            self.input.line_deadline = Deadline::after(limits.command_timeout);
        }
        let deadline = self.input.line_deadline;
        if self.slot.is_stopping() && !self.session.is_in_transaction() {
            return Err(End::Aborted("is shutting down"));
        }
        let filled = self.fill(deadline);
        // Whole transactions come in one piece from clients that pipeline: a shutdown waits for what is in hand.
        self.slot.set_busy(true);
        match filled {
            Ok(()) if line_started => Ok(()),
            Ok(()) => {
                // The line has its own time, from its first octet on.
                self.input.line_deadline = Deadline::after(limits.command_timeout);
                Ok(())
            }
            Err(WireError::TimedOut) => Err(End::Aborted("timed out waiting for a command")),
            Err(WireError::Closed) if self.slot.is_stopping() => Err(End::Aborted("is shutting down")),
            Err(WireError::Closed) if !self.session.is_in_transaction() => Err(End::Regular),
            Err(error) => Err(error.into()),
        }
    }

    fn act(&mut self, action: Action<Accepted>) -> Result<(), End> {
        let next = match action {
            Action::Reply(reply) => {
                self.note_refusal(&reply);
                reply.print(&mut self.replies);
                return Ok(());
            }
            Action::Close(reply) => {
                self.tell_refused(&reply);
                reply.print(&mut self.replies);
                self.flush()?;
                if reply.severity() == Severity::Transient {
                    Event::Closed { client: &self.client.to_string(), reason: &reply.to_string() }.log();
                }
                return Err(End::Regular);
            }
            Action::AskTls => {
                self.handshake = self.prepare_handshake();
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
                self.note_refusal(&reply);
                (0..times).for_each(|_| reply.print(&mut self.replies));
                return Ok(());
            }
            Action::AskSender(_, parameters) => {
                self.declared_octets = parameters.size_octets.unwrap_or(0);
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

    /// Counts a reply and logs it, if it is a no.
    fn note_refusal(&self, reply: &Reply) {
        let what = match (reply.severity(), reply.status.map(|status| status.subject)) {
            (Severity::Success | Severity::Intermediate, _) => return,
            (Severity::Transient, _) => Count::RefusedForNow,
            (Severity::Permanent, Some(1)) => Count::RefusedAddress,
            (Severity::Permanent, Some(7)) => Count::RefusedPolicy,
            (Severity::Permanent, _) => Count::RefusedOther,
        };
        self.intake.counters.count(what);
        self.tell_refused(reply);
    }

    /// Logs a no to a command that somebody may want to know of; beyond so many in a minute, quietly.
    fn tell_refused(&self, reply: &Reply) {
        let is_no = matches!(reply.severity(), Severity::Transient | Severity::Permanent);
        if !is_no || !self.asked.is_telling() {
            return;
        }
        let event = Event::Refused {
            client: &self.client.to_string(),
            helo: self.session.client_name().unwrap_or("-"),
            from: self.asked.from.as_deref().unwrap_or("-"),
            to: self.asked.to.as_deref().unwrap_or("-"),
            reply: &reply.to_string(),
        };
        if self.slot.tells_refusal(self.intake.clock.now().running) {
            event.log();
        } else {
            event.log_quietly();
        }
    }

    #[inline(never)]
    fn shake_hands(&mut self) -> Result<(), End> {
        let no_certificate = || WireError::Io(std::io::Error::other("there is no certificate"));
        let handshake = self.handshake.take().ok_or_else(|| End::NoHandshake(no_certificate()))?;
        let time = HANDSHAKE.min(self.site.settings.limits.command_timeout);
        let deadline = Deadline::after(time).min(self.session_end());
        // A shutdown does not wait for a handshake.
        self.slot.set_busy(false);
        if self.slot.is_stopping() {
            return Err(End::NoHandshake(WireError::Closed));
        }
        self.tls = Some(self.transport.start_tls(handshake, deadline).map_err(End::NoHandshake)?);
        Ok(())
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
            let step = if !self.is_own() { Deadline::after(HURRIED) } else { deadline };
            let end = deadline.min(self.session_end());
            match self.input.fill(self.transport, end.min(step)) {
                Err(WireError::TimedOut)
                    if !self.is_own() && !end.min(self.session_end()).remaining().is_zero() => {}
                result => return result,
            }
        }
    }

    /// When the session has to end: soon, if the client is a stranger and connections run short.
    fn session_end(&self) -> Deadline {
        let (open, most) = (self.slot.open_connections(), self.site.settings.limits.connections);
        if !self.is_own() && is_crowded(open, most) {
            self.session_deadline.min(self.hurried_deadline)
        } else {
            self.session_deadline
        }
    }
}
