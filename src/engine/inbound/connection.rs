//! One SMTP connection: passes octets from the socket to the session, and does what the session's actions say.
//!
//! | part | owns |
//! | --- | --- |
//! | this file | the socket, the buffers, the deadlines |
//! | `smtp::server::ServerSession` | the order of commands, and the replies |
//! | `verdicts` | decisions about the client: login, sender, recipient |
//! | `content` | the data on its way to intake |
//! | `last_command` | the latest command, for the log |
//! | `Intake` | the message |
//!
//! # The life of a connection
//!
//! | phase | begins with | deadline |
//! | --- | --- | --- |
//! | admission | the accept; see `listener` and `slots` | no wait |
//! | PROXY header | the first octets, where the listener requires one; only from trusted addresses | 30 s or `limits.command_timeout`, the shorter |
//! | TLS | the first octets on a `submissions` listener, or 220 to STARTTLS | the same |
//! | greeting | 220, if the client was silent until then; else 554 and the end | 60 s for each write |
//! | commands | the first octet of a line, which must arrive within `limits.command_timeout` of the last reply | `limits.command_timeout` for the whole line |
//! | login | AUTH; the reply waits up to 16 s after failures | the wait ends at once if the daemon stops |
//! | data | 354, or BDAT | `limits.data_timeout` for each read, and a minimum rate |
//! | close | one of the ends below | – |
//!
//! Each wait also ends with the session: after `limits.session_timeout`, or while three quarters of all connections are
//! open after [`HURRIED`]: for a stranger since the session began, for a trusted client or after a login since its latest
//! transaction, and only while it waits outside a transaction. A wait that this may shorten is cut into steps of
//! [`HURRIED`].
//!
//! Replies are collected while the client has more commands in the buffer (RFC 2920 §3.2), and sent before each read.
//!
//! | end | the client gets | the log has |
//! | --- | --- | --- |
//! | QUIT, or the client closes between transactions | 221, or nothing | no line |
//! | a limit, or the daemon stops | 421 | `closed` with the reason |
//! | the socket fails | nothing | `closed` with the reason; at debug level if the client sent no command |
//! | the TLS handshake fails | nothing | `closed` with the reason; it is counted |
//! | a PROXY header is refused | nothing | `closed` with the reason |
//!
//! A panic ends only this connection.

mod content;
mod last_command;
mod verdicts;

use self::content::Chunks;
use self::last_command::LastCommand;
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

/// The buffer while commands arrive, in octets: a command line fits, and a thousand idle connections cost little.
const COMMAND_BUFFER_OCTETS: usize = 4096;
/// The time for a TLS handshake or a PROXY header, unless `limits.command_timeout` is shorter.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// The time for a client to read the replies.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// The most octets of replies that are held back while more commands are in the buffer (RFC 2920 §3.2).
const REPLIES_HELD_OCTETS: usize = 4096;

/// Why a connection ended.
enum End {
    /// Regularly: by QUIT, or the client closed between transactions.
    Regular,
    /// This host ends it, with this text for the log and for the 421.
    Aborted(&'static str),
    /// The socket has failed.
    Lost(WireError),
    /// The TLS handshake failed: the client can get no reply.
    NoHandshake(WireError),
    /// The client gets no reply, for this reason.
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
    /// TLS version and cipher, within TLS.
    tls: Option<String>,
    client: IpAddr,
    trusted: bool,
    session: ServerSession<Accepted>,
    /// The message that is being received by BDAT.
    chunks: Option<Chunks<'a>>,
    listener: ListenerPolicy,
    service: Service,
    /// The size that MAIL announced, in octets; 0 without one.
    declared_octets: u64,
    /// The latest command, for the log.
    last_command: LastCommand,
    /// The proxy named no client: most likely this is its health check.
    is_check: bool,
    handshake: Option<Handshake>,
    input: Input,
    replies: Vec<u8>,
    session_deadline: Deadline,
    /// The end of the session while connections are scarce.
    hurried_deadline: Deadline,
}

impl<'a> Connection<'a> {
    /// A connection before its greeting. `client` is in canonical form (`IpAddr::to_canonical`).
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
            last_command: LastCommand::default(),
            is_check: false,
            service: Service::Smtp,
            handshake: None,
            input: Input::new(COMMAND_BUFFER_OCTETS),
            replies: Vec::new(),
            session_deadline: Deadline::after(site.settings.limits.session_timeout),
            hurried_deadline: Deadline::after(HURRIED),
        }
    }

    /// Sets the listener that accepted it; the default is SMTP in clear.
    #[must_use]
    pub fn by(mut self, listener: ListenerPolicy) -> Self {
        self.service = listener.kind.service();
        self.listener = listener;
        self.session.serve(self.service, self.access(self.client.is_loopback()));
        self
    }

    /// Serves the connection until it ends, and logs why.
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
            // Monitors and proxies connect every few seconds, and close as soon as they see that the port is open.
            Err(End::Lost(error))
                if !self.last_command.has_spoken()
                    || (self.is_check && !self.session.is_in_transaction()) =>
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
        // A client that sends before the greeting is a robot, or smuggles mail through a proxy.
        if self.transport.has_input() {
            Reply::new(554, EnhancedStatus::INVALID_COMMAND, "wait for the greeting")
                .print(&mut self.replies);
            self.flush()?;
            let reason = "spoke before the greeting";
            Event::Closed { client: &self.client.to_string(), reason }.log();
            // The 554 is the only reply: a 421 behind it would answer a command that was never read.
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
            self.last_command.note(&line, &self.session);
            let action = self.session.line(&line);
            self.input.consume(used);
            self.input.shrink(COMMAND_BUFFER_OCTETS);
            if !self.session.is_chunking() {
                // RSET or EHLO has ended the transaction: the chunks received so far are dropped.
                self.chunks = None;
            }
            self.act(action)?;
            if self.replies.len() > REPLIES_HELD_OCTETS {
                self.flush()?;
            }
        }
    }

    /// Reads the client's address from the PROXY header, and judges the client again by it. Not inlined, like the
    /// handshake and the login: their stack frames must not be held for the life of each connection.
    #[inline(never)]
    fn read_proxy_header(&mut self) -> Result<(), End> {
        let refused = |why: String| End::Silent(why);
        if !self.trusted {
            let why = "PROXY headers are believed from relay.trusted_networks alone; add the proxy there";
            return Err(refused(why.to_owned()));
        }
        let limits = &self.site.settings.limits;
        let deadline = Deadline::after(HANDSHAKE.min(limits.command_timeout)).min(self.session_end(true));
        let announced = proxy::read_header(self.transport, deadline);
        let client = match announced {
            Ok(Announced::Client(client)) => client.ip(),
            // The client is unknown: it must not inherit the trust in the proxy.
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

    /// Sends the replies and waits for more octets of commands.
    fn wait_for_command(&mut self) -> Result<(), End> {
        self.flush()?;
        let is_idle = !self.session.is_in_transaction();
        self.slot.set_busy(!is_idle);
        if !is_idle {
            self.note_work();
        }
        let limits = &self.site.settings.limits;
        let line_started = !self.input.octets().is_empty();
        if !line_started {
            self.input.line_deadline = Deadline::after(limits.command_timeout);
        }
        let deadline = self.input.line_deadline;
        if self.slot.is_stopping() && is_idle {
            return Err(End::Aborted("is shutting down"));
        }
        let filled = self.fill(deadline, is_idle);
        // A client that pipelines may have sent a whole transaction: a shutdown waits for it.
        self.slot.set_busy(true);
        match filled {
            Ok(()) if line_started => Ok(()),
            Ok(()) => {
                // The time of the line begins with its first octet.
                self.input.line_deadline = Deadline::after(limits.command_timeout);
                Ok(())
            }
            Err(WireError::TimedOut) => Err(End::Aborted("timed out waiting for a command")),
            Err(WireError::Closed) if self.slot.is_stopping() => Err(End::Aborted("is shutting down")),
            Err(WireError::Closed) if is_idle => Err(End::Regular),
            Err(error) => Err(error.into()),
        }
    }

    /// Does what the session asks for. An answer to the session may lead to another action.
    fn act(&mut self, action: Action<Accepted>) -> Result<(), End> {
        let next = match action {
            Action::Reply(reply) => {
                self.note_refusal(&reply);
                reply.print(&mut self.replies);
                return Ok(());
            }
            Action::Close(reply) => {
                self.log_refusal(&reply);
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
                // Octets sent in clear behind STARTTLS may be an attacker's, and must not count as sent within TLS
                // (CVE-2011-0411). Octets that are still in the socket make the handshake fail.
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

    /// Counts and logs a reply that refuses something.
    fn note_refusal(&self, reply: &Reply) {
        let what = match (reply.severity(), reply.status.map(|status| status.subject)) {
            (Severity::Success | Severity::Intermediate, _) => return,
            (Severity::Transient, _) => Count::RefusedForNow,
            (Severity::Permanent, Some(1)) => Count::RefusedAddress,
            (Severity::Permanent, Some(7)) => Count::RefusedPolicy,
            (Severity::Permanent, _) => Count::RefusedOther,
        };
        self.intake.counters.count(what);
        self.log_refusal(reply);
    }

    /// Logs the refusal of a command, if such refusals are logged (see [`LastCommand`]); at debug level beyond the
    /// limit of the minute.
    fn log_refusal(&self, reply: &Reply) {
        let is_refusal = matches!(reply.severity(), Severity::Transient | Severity::Permanent);
        if !is_refusal || !self.last_command.is_logged() {
            return;
        }
        let event = Event::Refused {
            client: &self.client.to_string(),
            helo: self.session.client_name().unwrap_or("-"),
            from: self.last_command.from.as_deref().unwrap_or("-"),
            to: self.last_command.to.as_deref().unwrap_or("-"),
            reply: &reply.to_string(),
        };
        if self.slot.may_log_refusal(self.intake.clock.now().running) {
            event.log();
        } else {
            event.log_quietly();
        }
    }

    /// Performs the TLS handshake that was prepared.
    #[inline(never)]
    fn shake_hands(&mut self) -> Result<(), End> {
        let no_certificate = || WireError::Io(std::io::Error::other("there is no certificate"));
        let handshake = self.handshake.take().ok_or_else(|| End::NoHandshake(no_certificate()))?;
        let time = HANDSHAKE.min(self.site.settings.limits.command_timeout);
        let deadline = Deadline::after(time).min(self.session_end(true));
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

    /// Reads at least one octet. The deadline of a client that can be hurried may come closer during the wait, when
    /// connections become scarce: the wait is cut into steps of [`HURRIED`], and the deadline is read again after each.
    /// `is_idle`: the client is outside a transaction.
    fn fill(&mut self, deadline: Deadline, is_idle: bool) -> Result<(), WireError> {
        let can_be_hurried = is_idle || !self.is_own();
        loop {
            let end = deadline.min(self.session_end(is_idle));
            let is_step = can_be_hurried && end.remaining() > HURRIED;
            let step = if is_step { Deadline::after(HURRIED) } else { end };
            match self.input.fill(self.transport, step) {
                Err(WireError::TimedOut) if is_step => {}
                result => return result,
            }
        }
    }

    /// Notes that the client is in a transaction, or was until now. A client that is no stranger then has [`HURRIED`]
    /// again until its next transaction.
    fn note_work(&mut self) {
        if self.is_own() {
            self.hurried_deadline = Deadline::after(HURRIED);
        }
    }

    /// The end of the session: earlier while connections are scarce, for a stranger and for every client outside a
    /// transaction.
    fn session_end(&self, is_idle: bool) -> Deadline {
        let (open, most) = (self.slot.open_connections(), self.site.settings.limits.connections);
        if (is_idle || !self.is_own()) && is_crowded(open, most) {
            self.session_deadline.min(self.hurried_deadline)
        } else {
            self.session_deadline
        }
    }
}
