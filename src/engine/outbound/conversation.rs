//! An SMTP session on its connection: sends what the session asks for and reads the replies, each with its deadline
//! (RFC 5321 §4.5.3.2).
//!
//! The session (`smtp::client`) owns the order of commands; a conversation owns the connection, the deadlines and the
//! buffers. [`Conversation::open`] tries one host, address after address; `connect` decides which host comes next.
//! Every failure is a [`Diagnostic`]; the caller decides whether the message or the hop is to blame.
//!
//! # Opening
//!
//! | what happened at an address | then |
//! | --- | --- |
//! | no connection | the next address; the host fails if none is left |
//! | TLS failed, and it is optional and unchecked | the same address again, in clear (RFC 7435 §3) |
//! | TLS failed under an MTA-STS policy in testing mode | logged; the same address again, without the policy |
//! | TLS failed otherwise, or the host refused the session | the next address |
//! | a token was refused | another one is fetched, once, and tried in the same session; in a new one if the host closes it |
//! | the login was refused | the host fails: its other addresses have the same users, and count failed logins |
//! | ready for mail | it is used |
//!
//! # Deadlines
//!
//! | for | limit |
//! | --- | --- |
//! | the connect, for each address | [`limits::CONNECT`] |
//! | a TLS handshake | [`limits::TLS_HANDSHAKE`] |
//! | writing a command; a block of data | [`limits::COMMAND_REPLY`]; [`limits::DATA_BLOCK`] |
//! | a reply | [`Waiting::deadline`], by the command |
//! | the whole session | [`limits::CLIENT_SESSION`] |
//! | silence or single octets while other hops wait for a place | `QueueIndex::gives_way`; in a handshake, while data is sent and after its end the place is lent, and `QueueIndex::gives_up` is asked |
//!
//! # What is never believed
//!
//! Input that arrives before it can be an answer: after the reply to STARTTLS and before the handshake (RFC 3207 §4.2),
//! and when the session is ready for its first message. The session is shown it and ends.

use super::certificate_check::CertificateCheck;
use super::context::{LentPlace, OutboundContext, TraceEvent};
use super::host_policy::{HostPolicy, HostTls, client_connector, login, renewed};
use super::hosts::Host;
use super::outgoing::Outgoing;
use super::password;
use crate::engine::host::site::Site;
use crate::engine::log::event::Event;
use crate::engine::queue::index::LongStep;
use crate::mail::next_hop::Smarthost;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::net::transport::{Deadline, Stopwatch, Transport, WireError};
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::{ClientSession, ClientStep, Login, Lost, Security, SessionEnd, Waiting};
use crate::smtp::data::{DotEncoder, encode_chunk};
use crate::smtp::limits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How much content is sent at once: this, or a little more.
const PIECE_OCTETS: usize = 32 * 1024;
/// How often a waiting worker asks whether other hops wait for its place.
const GLANCE: Duration = Duration::from_millis(200);
/// The size of the buffer for replies.
const REPLY_BUFFER_OCTETS: usize = 2048;

/// An SMTP session on its connection.
pub struct Conversation<'a> {
    context: OutboundContext<'a>,
    transport: Box<dyn Transport>,
    /// The state machine of the protocol.
    pub session: ClientSession,
    /// The host and its address, for the log.
    pub relay: String,
    site: Arc<Site>,
    /// The host, if the operator named it.
    pub smarthost: Option<Smarthost>,
    /// The name of the host.
    pub host: String,
    tls: HostTls,
    deadline: Deadline,
    opened: Stopwatch,
    /// The reply that is awaited, its deadline, and since when it is awaited.
    awaited: Option<(u32, Deadline, Stopwatch)>,
}

/// Why an address cannot be used.
pub(super) struct Unusable {
    pub(super) diagnostic: Diagnostic,
    /// TLS is to blame.
    is_tls: bool,
    /// The host refused the login.
    is_login: bool,
    /// The session ended before the host answered a second token.
    is_unanswered: bool,
}

/// Why the conversation has stopped.
pub enum Talk {
    /// The outcome of each recipient is known.
    Finished(Vec<Option<Outcome>>),
    /// The session waits for a message.
    Ready,
    /// The session has ended.
    Over(SessionEnd),
}

impl<'a> Conversation<'a> {
    /// Connects to the first address of a host that works, and does all that comes before the first message: TLS, EHLO,
    /// AUTH.
    ///
    /// # Errors
    /// No address can be used now, or the password cannot be read.
    pub fn open(
        context: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, Diagnostic> {
        let opened = Self::open_one(context, site, host, addresses);
        opened.map_err(|diagnostic| host.policy.explain(diagnostic))
    }

    fn open_one(
        context: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Self, Diagnostic> {
        let mut login = login(context, site, host)?;
        let connector = client_connector(context, site, host)?;
        let mut last = None;
        loop {
            let (address, transport) = match connect_to(context, site, host, &mut addresses) {
                Ok(connected) => connected,
                // A reply of the host says more than the silence of its other address.
                Err(diagnostic) => return Err(last.unwrap_or(diagnostic)),
            };
            let policy = || HostPolicy::towards(site, host, address, login.clone(), connector.clone());
            let mut result = Self::begin(context, site, host, address, transport, policy());
            if let (Err(Unusable { diagnostic, is_tls: true, .. }), TlsPolicy::StsTesting) =
                (&result, &host.policy)
            {
                host.log_test_failure(diagnostic.line());
                let untested = Host { policy: TlsPolicy::None, ..host.clone() };
                addresses.insert(0, address);
                return Self::open_one(context, site, &untested, addresses);
            }
            if let (Err(Unusable { diagnostic, is_tls: true, .. }), Some(policy)) =
                (&result, policy().in_clear())
            {
                log::debug!(target: "pillarbox", "event=unreachable host={} reason={diagnostic:?}", host.name);
                let (_, transport) = connect_to(context, site, host, &mut vec![address])?;
                result = Self::begin(context, site, host, address, transport, policy);
            }
            match result {
                Ok(conversation) => return Ok(conversation),
                // The token that was fetched has not been judged: once more, in a new session.
                Err(Unusable { is_unanswered: true, .. }) if login.as_ref().is_some_and(|it| it.renews) => {
                    login = self::login(context, site, host)?.map(|login| Login { renews: false, ..login });
                    addresses.insert(0, address);
                }
                // Its other addresses have the same users: another failed login is useless, and the host counts it.
                Err(Unusable { diagnostic, is_login: true, .. }) => return Err(diagnostic),
                Err(Unusable { diagnostic, .. }) if addresses.is_empty() => return Err(diagnostic),
                Err(Unusable { diagnostic, .. }) => last = Some(diagnostic),
            }
        }
    }

    /// Starts the session on an established connection.
    fn begin(
        context: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        address: SocketAddr,
        transport: Box<dyn Transport>,
        policy: HostPolicy,
    ) -> Result<Self, Unusable> {
        let look = policy.look().filter(|_| context.observer.is_curious());
        let login = policy.options.login.as_ref().map(|login| login.name.clone());
        // A client certificate may be all of a login.
        let login = login.filter(|name| !name.is_empty());
        let attempt = Self::attempt(context, site, host, address, transport, policy);
        let conversation = attempt.map_err(|mut unusable| {
            if let Some(look) = look {
                Self::look(context, site, host, address, look, &unusable.diagnostic);
            }
            unusable.diagnostic = context.failed(unusable.diagnostic);
            unusable
        })?;
        let security = conversation.session.security();
        if security == Security::Clear && host.policy == TlsPolicy::StsTesting {
            host.log_test_failure("STARTTLS is not offered");
        }
        let verdict = host.policy.verdict().filter(|_| security == Security::Verified);
        let (relay, tls) = (conversation.relay.as_str(), verdict.unwrap_or(security.name()));
        Event::Connected { relay, tls, auth: login.as_deref() }.log();
        Ok(conversation)
    }

    /// As [`Self::begin`], and says nothing about it.
    pub(super) fn attempt(
        context: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        address: SocketAddr,
        mut transport: Box<dyn Transport>,
        policy: HostPolicy,
    ) -> Result<Self, Unusable> {
        let HostPolicy { mut options, tls } = policy;
        if options.security != Security::Clear {
            let deadline = Deadline::after(limits::TLS_HANDSHAKE);
            let begun = Stopwatch::start();
            let _lent = context.lend(LongStep::Handshake, begun, begun);
            let shaken = tls.start(site, &mut transport, deadline, context.observer);
            options.end_point = shaken.map_err(|error| {
                let text = format!("TLS with {}: {error}", host.name);
                let diagnostic = unreachable(host, EnhancedStatus::POLICY_NOW, text);
                Unusable { diagnostic, is_tls: true, is_login: false, is_unanswered: false }
            })?;
        }
        if let Some(login) = &mut options.login {
            login.nonce = password::nonce();
        }
        let mut conversation = Self {
            context: *context,
            transport,
            session: ClientSession::new(host.name.as_str(), site.client_name.clone(), options),
            relay: format!("{}[{}]:{}", host.name, address.ip(), address.port()),
            site: Arc::clone(site),
            smarthost: host.smarthost.clone(),
            host: host.name.clone(),
            tls,
            deadline: Deadline::after(limits::CLIENT_SESSION),
            opened: Stopwatch::start(),
            awaited: None,
        };
        match conversation.greet() {
            Ok(()) => Ok(conversation),
            Err(diagnostic) => {
                let session = &conversation.session;
                let (is_tls, is_login) = (session.has_tls_failed(), session.is_login_refused());
                Err(Unusable { diagnostic, is_tls, is_login, is_unanswered: session.has_unanswered_token() })
            }
        }
    }

    /// Continues until the session is ready for mail.
    fn greet(&mut self) -> Result<(), Diagnostic> {
        loop {
            match self.talk(None) {
                // An answer before its command is not believed: the session is shown it and ends.
                Talk::Ready if self.transport.has_input() => self.read_until(self.deadline),
                Talk::Ready => return Ok(()),
                Talk::Finished(_) => {}
                Talk::Over(
                    SessionEnd::Route(diagnostic)
                    | SessionEnd::Dropped(diagnostic)
                    | SessionEnd::Reconnect(diagnostic),
                ) => {
                    return Err(diagnostic);
                }
                Talk::Over(SessionEnd::Quit) => {
                    return Err(Diagnostic::local(EnhancedStatus::BAD_CONNECTION, "the session ended"));
                }
            }
        }
    }

    fn start_tls(&mut self) {
        // Input in clear after the 220 may be injected: TLS would not protect it (RFC 3207 §4.2).
        if self.transport.has_input() {
            return self.read_until(self.deadline);
        }
        let deadline = Deadline::after(limits::TLS_HANDSHAKE).min(self.deadline);
        let _lent = self.lend(LongStep::Handshake, Stopwatch::start());
        match self.tls.start(&self.site, &mut self.transport, deadline, self.context.observer) {
            Ok(end_point) => {
                let is_checked = !matches!(self.tls.check, CertificateCheck::Nothing);
                let security = if is_checked { Security::Verified } else { Security::Unverified };
                self.session.tls_established(security, end_point);
            }
            Err(error) => self.session.tls_failed(&error.to_string()),
        }
    }

    /// Fetches another token for the login that the host has refused.
    fn renew_token(&mut self) {
        let refused = self.session.refused_token().cloned();
        let renew = |refused| renewed(&self.context, &self.site, self.smarthost.as_ref(), &refused);
        let token = refused.and_then(renew);
        self.session.token_renewed(token);
    }

    /// Whether the conversation may take another message. A session that was opened under another configuration may be
    /// less secure than the current one demands. Input between two messages means that the peer is closing. Enough time
    /// must be left for a whole message: a deadline in the middle of one makes a duplicate and pauses a healthy hop.
    pub fn can_go_on(&mut self, site: &Arc<Site>) -> bool {
        Arc::ptr_eq(&self.site, site)
            && !self.transport.has_input()
            && self.deadline.remaining() > limits::CLIENT_SESSION / 2
    }

    /// Whether the session has not ended.
    pub fn is_usable(&mut self) -> bool {
        self.session.next_step() == ClientStep::Ready
    }

    /// Sends QUIT, if the connection still works, and closes it.
    pub fn leave(mut self) {
        self.session.quit();
        while !matches!(self.talk(None), Talk::Over(_)) {}
    }

    /// Continues the session until it has outcomes, waits for a message or has ended. `content` is sent after DATA or
    /// BDAT.
    pub fn talk(&mut self, content: Option<&Outgoing<'_>>) -> Talk {
        loop {
            match self.session.next_step() {
                ClientStep::Send(octets) => self.send(&octets),
                ClientStep::Read { waiting, reply } => self.read(waiting, reply),
                ClientStep::StartTls => self.start_tls(),
                ClientStep::RenewToken => self.renew_token(),
                step @ (ClientStep::SendContent | ClientStep::SendChunk) => {
                    let dots = (step == ClientStep::SendContent).then(DotEncoder::default);
                    let lent = self.lend(LongStep::Data, Stopwatch::start());
                    match content.map(|content| self.send_content(content, dots, &lent)) {
                        Some(Ok(())) => self.session.content_sent(),
                        Some(Err(lost)) => self.session.lost(&lost),
                        None => self.session.lost(&Lost::Broken("there is no message to send".into())),
                    }
                }
                ClientStep::Finished(outcomes) => return Talk::Finished(outcomes),
                ClientStep::Ready => return Talk::Ready,
                ClientStep::Close(end) => return Talk::Over(end),
            }
        }
    }

    fn send(&mut self, octets: &[u8]) {
        let deadline = Deadline::after(limits::COMMAND_REPLY).min(self.deadline);
        if let Err(error) = self.transport.write_all(octets, deadline) {
            self.session.lost(&lost(error));
        }
    }

    fn read(&mut self, waiting: Waiting, reply: u32) {
        let (deadline, since) = match self.awaited {
            Some((awaited, deadline, since)) if awaited == reply => (deadline, since),
            _ => {
                self.context.observer.see(TraceEvent::Begins(waiting.into()));
                (Deadline::after(waiting.deadline()).min(self.deadline), Stopwatch::start())
            }
        };
        self.awaited = Some((reply, deadline, since));
        if self.context.hop.is_none() {
            return self.read_until(deadline);
        }
        // After the end of the data the answer may be on its way: giving way could make a duplicate.
        if matches!(waiting, Waiting::FinalDot | Waiting::LastChunk) {
            let lent = self.lend(LongStep::Answer, since);
            return self.read_unless(deadline, since, &|| lent.gives_up());
        }
        let context = self.context;
        self.read_unless(deadline, since, &|| context.gives_way(since.elapsed()));
    }

    /// Lends the place to other hops during a long step.
    fn lend(&self, step: LongStep, since: Stopwatch) -> LentPlace<'a> {
        self.context.lend(step, self.opened, since)
    }

    /// Reads until the deadline, or until the place has to be given away, which `ends` is asked every [`GLANCE`].
    fn read_unless(&mut self, deadline: Deadline, since: Stopwatch, ends: &dyn Fn() -> bool) {
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        // A host that sends an octet now and then is as silent as one that sends none.
        if since.elapsed() > GLANCE && ends() {
            return self.hear(&buffer, Err(WireError::TimedOut));
        }
        loop {
            let glance = Deadline::after(GLANCE);
            match self.transport.read(&mut buffer, glance.min(deadline)) {
                Err(WireError::TimedOut)
                    if glance.remaining().is_zero() && !deadline.remaining().is_zero() && !ends() => {}
                result => return self.hear(&buffer, result),
            }
        }
    }

    fn read_until(&mut self, deadline: Deadline) {
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        let result = self.transport.read(&mut buffer, deadline);
        self.hear(&buffer, result);
    }

    fn hear(&mut self, buffer: &[u8], result: Result<usize, WireError>) {
        let observer = self.context.observer;
        match result {
            Ok(length) => {
                let octets = buffer.get(..length).unwrap_or_default();
                self.session
                    .hear(octets, &mut |waiting, reply| observer.see(TraceEvent::Reply(waiting, reply)));
            }
            Err(error) => self.session.lost(&lost(error)),
        }
    }

    /// Sends the content: after DATA through `dots`, otherwise as the single chunk whose size BDAT announced.
    fn send_content(
        &mut self,
        outgoing: &Outgoing<'_>,
        mut dots: Option<DotEncoder>,
        lent: &LentPlace<'_>,
    ) -> Result<(), Lost> {
        let mut wire = Vec::new();
        let is_chunk = dots.is_none();
        let mut chunk_left = outgoing.size_octets;
        let mut lost = None;
        let read = outgoing.each_piece(&mut |piece| {
            // The last piece is sent only when the size of the whole is known to be right.
            if wire.len() >= PIECE_OCTETS {
                if let Err(error) = self.write_data(&wire, lent) {
                    lost = Some(error);
                    return false;
                }
                wire.clear();
            }
            let before = wire.len();
            match &mut dots {
                Some(dots) => dots.encode(piece, &mut wire),
                None => encode_chunk(piece, &mut wire),
            }
            // Octets beyond the announced size would be taken for commands.
            let left = chunk_left.checked_sub((wire.len() - before) as u64);
            chunk_left = left.unwrap_or_default();
            left.is_some() || !is_chunk || {
                lost = Some(other_size());
                false
            }
        });
        read.map_err(|error| Lost::Broken(error.to_string()))?;
        if let Some(lost) = lost {
            return Err(lost);
        }
        match dots {
            Some(dots) => dots.finish(&mut wire),
            // The peer would wait for the missing octets.
            None if chunk_left > 0 => return Err(other_size()),
            None => {}
        }
        self.write_data(&wire, lent)
    }

    fn write_data(&mut self, wire: &[u8], lent: &LentPlace<'_>) -> Result<(), Lost> {
        if lent.gives_up() {
            return Err(Lost::TimedOut);
        }
        let deadline = Deadline::after(lent.block_time()).min(self.deadline);
        self.transport.write_all(wire, deadline).map_err(lost)
    }
}

fn other_size() -> Lost {
    Lost::Broken("the message has another size than its queue file says".into())
}

/// Connects to the first of a host's addresses that answers, and takes it out of the list.
pub(super) fn connect_to(
    context: &OutboundContext<'_>,
    site: &Site,
    host: &Host,
    addresses: &mut Vec<SocketAddr>,
) -> Result<(SocketAddr, Box<dyn Transport>), Diagnostic> {
    context.observer.see(TraceEvent::Begins(Stage::Connect));
    let since = Stopwatch::start();
    let source = &site.settings.relay.source;
    let goes_on = || !context.gives_way(since.elapsed());
    let result = context.connect.connect_while(addresses, source, limits::CONNECT, &goes_on);
    if let Ok((address, _)) = &result {
        context.observer.see(TraceEvent::Connected(*address));
    }
    result.map_err(|failures| {
        let failures: Vec<String> =
            failures.iter().map(|(address, error)| format!("[{address}]: {error}")).collect();
        let text = format!("connect to {} {}", host.name, failures.join(", "));
        context.failed(unreachable(host, EnhancedStatus::NO_ANSWER, text))
    })
}

fn unreachable(host: &Host, status: EnhancedStatus, text: String) -> Diagnostic {
    Diagnostic { remote: Some(host.name.clone()), ..Diagnostic::local(status, text) }
}

fn lost(error: WireError) -> Lost {
    match error {
        WireError::TimedOut => Lost::TimedOut,
        WireError::Closed => Lost::Closed,
        WireError::Io(error) => Lost::Broken(error.to_string()),
    }
}
