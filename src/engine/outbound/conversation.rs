//! An SMTP session on its connection: what the session wants said is written, what the peer says is read, each with its
//! deadline (RFC 5321 §4.5.3.2).
//!
//! The session (`smtp::client`) owns the order of commands; a conversation owns the connection, the deadlines and the
//! buffers. It opens one host ([`Conversation::open`]), address after address; which host comes next is the matter of
//! `connect`. Every failure is a [`Diagnostic`]; whether the message or the route is to blame is decided by the caller.

use super::certificate_check::CertificateCheck;
use super::context::{OutboundContext, TraceEvent};
use super::host_policy::{HostPolicy, login};
use super::hosts::Host;
use super::outgoing::Outgoing;
use super::password;
use crate::engine::host::site::Site;
use crate::engine::log::event::Event;
use crate::mail::next_hop::Smarthost;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::net::transport::{Deadline, Stopwatch, Transport, WireError};
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::{ClientSession, ClientStep, Lost, Security, SessionEnd, Waiting};
use crate::smtp::data::{DotEncoder, encode_chunk};
use crate::smtp::limits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Sent at once, or a little more.
const PIECE_OCTETS: usize = 32 * 1024;
/// How often a worker that waits asks whether others wait for its place.
const GLANCE: Duration = Duration::from_millis(200);
/// What replies are read into.
const REPLY_BUFFER_OCTETS: usize = 2048;

/// An SMTP session on its connection.
pub struct Conversation<'a> {
    out: OutboundContext<'a>,
    transport: Box<dyn Transport>,
    /// The language.
    pub session: ClientSession,
    /// The host and its address, for the log.
    pub relay: String,
    site: Arc<Site>,
    /// The host, if the operator named it.
    pub smarthost: Option<Smarthost>,
    /// Its name, which the certificate has to have; and how that is looked at.
    pub host: String,
    check: CertificateCheck,
    deadline: Deadline,
    /// Which reply the deadline of the read is for, and since when it is awaited.
    awaited: Option<(u32, Deadline, Stopwatch)>,
}

/// Why an address can't be used.
struct Unusable {
    diagnostic: Diagnostic,
    /// TLS, or what came of it, is to blame.
    is_tls: bool,
    /// The host has refused the login.
    is_login: bool,
}

/// What a conversation has come to.
pub enum Talk {
    /// What became of each recipient.
    Finished(Vec<Option<Outcome>>),
    /// The session waits for a message.
    Ready,
    /// The session has ended.
    Over(SessionEnd),
}

impl<'a> Conversation<'a> {
    /// Connects to a host by the first of its addresses that serves, with all that comes before the first message: TLS,
    /// EHLO, AUTH.
    ///
    /// # Errors
    /// Why none of them can be used now.
    pub fn open(
        out: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        addresses: Vec<SocketAddr>,
    ) -> Result<Self, Diagnostic> {
        let opened = Self::open_one(out, site, host, addresses);
        opened.map_err(|diagnostic| host.policy.explain(diagnostic))
    }

    fn open_one(
        out: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Self, Diagnostic> {
        let login = login(out, site, host)?;
        let mut last = None;
        loop {
            let (address, transport) = match connect_to(out, site, host, &mut addresses) {
                Ok(connected) => connected,
                // What a host has said is worth more than that its other address says nothing.
                Err(diagnostic) => return Err(last.unwrap_or(diagnostic)),
            };
            let policy = || HostPolicy::towards(site, host, address, login.clone());
            let mut result = Self::begin(out, site, host, address, transport, policy());
            if let (Err(Unusable { diagnostic, is_tls: true, .. }), TlsPolicy::StsTesting) =
                (&result, &host.policy)
            {
                host.log_test_failure(diagnostic.line());
                let untested = Host { policy: TlsPolicy::None, ..host.clone() };
                addresses.insert(0, address);
                return Self::open_one(out, site, &untested, addresses);
            }
            if let (Err(Unusable { diagnostic, is_tls: true, .. }), Some(policy)) =
                (&result, policy().in_clear())
            {
                log::debug!(target: "pillarbox", "event=unreachable host={} reason={diagnostic:?}", host.name);
                let (_, transport) = connect_to(out, site, host, &mut vec![address])?;
                result = Self::begin(out, site, host, address, transport, policy);
            }
            match result {
                Ok(conversation) => return Ok(conversation),
                // Its other addresses have the same users: another failed login is of no use, and counted there.
                Err(Unusable { diagnostic, is_login: true, .. }) => return Err(diagnostic),
                Err(Unusable { diagnostic, .. }) if addresses.is_empty() => return Err(diagnostic),
                Err(Unusable { diagnostic, .. }) => last = Some(diagnostic),
            }
        }
    }

    /// On a connection that has come up.
    fn begin(
        out: &OutboundContext<'a>,
        site: &Arc<Site>,
        host: &Host,
        address: SocketAddr,
        mut transport: Box<dyn Transport>,
        policy: HostPolicy,
    ) -> Result<Self, Unusable> {
        let HostPolicy { mut conduct, check } = policy;
        if conduct.security != Security::Clear {
            let deadline = Deadline::after(limits::TLS_HANDSHAKE);
            let connector = &site.connector;
            let shaken = check.start_tls(connector, &mut transport, &host.name, deadline, out.watch);
            conduct.end_point = shaken.map_err(|error| {
                let text = format!("TLS with {}: {error}", host.name);
                let diagnostic = out.failed(unreachable(host, EnhancedStatus::POLICY_NOW, text));
                Unusable { diagnostic, is_tls: true, is_login: false }
            })?;
        }
        if let Some(login) = &mut conduct.login {
            login.nonce = password::nonce();
        }
        let login = conduct.login.as_ref().map(|login| login.name.clone());
        let mut conversation = Self {
            out: *out,
            transport,
            session: ClientSession::new(host.name.as_str(), site.client_name.clone(), conduct),
            relay: format!("{}[{}]:{}", host.name, address.ip(), address.port()),
            site: Arc::clone(site),
            smarthost: host.smarthost.clone(),
            host: host.name.clone(),
            check,
            deadline: Deadline::after(limits::CLIENT_SESSION),
            awaited: None,
        };
        match conversation.greet() {
            Ok(()) => {
                let security = conversation.session.security();
                if security == Security::Clear && host.policy == TlsPolicy::StsTesting {
                    host.log_test_failure("STARTTLS is not offered");
                }
                let verdict = host.policy.verdict().filter(|_| security == Security::Verified);
                let (relay, tls) = (conversation.relay.as_str(), verdict.unwrap_or(security.name()));
                Event::Connected { relay, tls, auth: login.as_deref() }.log();
                Ok(conversation)
            }
            Err(diagnostic) => {
                let session = &conversation.session;
                Err(Unusable {
                    diagnostic: out.failed(diagnostic),
                    is_tls: session.has_tls_failed(),
                    is_login: session.is_login_refused(),
                })
            }
        }
    }

    /// Goes on until the session is ready for mail.
    fn greet(&mut self) -> Result<(), Diagnostic> {
        loop {
            match self.talk(None) {
                // An answer ahead of its command is not believed (DESIGN section 4.10): the session is shown it, and ends.
                Talk::Ready if self.transport.has_input() => self.read_early(),
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
        // What came in clear behind the 220 is not the host's word that TLS protects (RFC 3207 §4.2).
        if self.transport.has_input() {
            return self.read_early();
        }
        let deadline = Deadline::after(limits::TLS_HANDSHAKE).min(self.deadline);
        let connector = &self.site.connector;
        match self.check.start_tls(connector, &mut self.transport, &self.host, deadline, self.out.watch) {
            Ok(end_point) => {
                let is_checked = !matches!(self.check, CertificateCheck::Nothing);
                let security = if is_checked { Security::Verified } else { Security::Unverified };
                self.session.tls_established(security, end_point);
            }
            Err(error) => self.session.tls_failed(&error.to_string()),
        }
    }

    /// Whether it may take another message, by the configuration of now: one that was opened under another may be less
    /// safe than what is wanted since. A peer that has something to say between two messages says goodbye; and
    /// what is left of the session's time must do for any message, or its end would come in the middle of one: a
    /// duplicate, and a pause that the route has not earned.
    pub fn can_go_on(&mut self, site: &Arc<Site>) -> bool {
        Arc::ptr_eq(&self.site, site)
            && !self.transport.has_input()
            && self.deadline.remaining() > limits::CLIENT_SESSION / 2
    }

    /// Whether the session has not ended.
    pub fn is_usable(&mut self) -> bool {
        self.session.next_step() == ClientStep::Ready
    }

    /// Says QUIT, if anybody listens.
    pub fn leave(mut self) {
        self.session.quit();
        while !matches!(self.talk(None), Talk::Over(_)) {}
    }

    /// Does what the session says until it has news. `content` is what is sent after DATA.
    pub fn talk(&mut self, content: Option<&Outgoing<'_>>) -> Talk {
        loop {
            match self.session.next_step() {
                ClientStep::Send(octets) => self.send(&octets),
                ClientStep::Read { waiting, reply } => self.read(waiting, reply),
                ClientStep::StartTls => self.start_tls(),
                step @ (ClientStep::SendContent | ClientStep::SendChunk) => {
                    let dots = (step == ClientStep::SendContent).then(DotEncoder::default);
                    match content.map(|content| self.send_content(content, dots)) {
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

    fn read_early(&mut self) {
        self.read_until(self.deadline);
    }

    fn read(&mut self, waiting: Waiting, reply: u32) {
        let (deadline, since) = match self.awaited {
            Some((awaited, deadline, since)) if awaited == reply => (deadline, since),
            _ => {
                self.out.watch.see(TraceEvent::Begins(waiting.into()));
                (Deadline::after(waiting.deadline()).min(self.deadline), Stopwatch::start())
            }
        };
        self.awaited = Some((reply, deadline, since));
        // To the end of the data there may be an answer on its way: without it the message would come twice.
        if self.out.hop.is_some() && !matches!(waiting, Waiting::FinalDot | Waiting::LastChunk) {
            return self.read_while_nobody_waits(deadline, since);
        }
        self.read_until(deadline);
    }

    /// Reads until the deadline, or until the place is to be given away, which is asked for now and then.
    fn read_while_nobody_waits(&mut self, deadline: Deadline, since: Stopwatch) {
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        loop {
            let glance = Deadline::after(GLANCE);
            match self.transport.read(&mut buffer, glance.min(deadline)) {
                Err(WireError::TimedOut)
                    if glance.remaining().is_zero()
                        && !deadline.remaining().is_zero()
                        && !self.out.gives_way(since.elapsed()) => {}
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
        let watch = self.out.watch;
        match result {
            Ok(length) => {
                let octets = buffer.get(..length).unwrap_or_default();
                self.session.hear(octets, &mut |waiting, reply| watch.see(TraceEvent::Reply(waiting, reply)));
            }
            Err(error) => self.session.lost(&lost(error)),
        }
    }

    /// By DATA through `dots`; without, as the one chunk whose size was told.
    fn send_content(&mut self, outgoing: &Outgoing<'_>, mut dots: Option<DotEncoder>) -> Result<(), Lost> {
        let mut wire = Vec::new();
        let is_chunk = dots.is_none();
        let mut chunk_left = outgoing.size_octets;
        let mut lost = None;
        let read = outgoing.each_piece(&mut |piece| {
            // What came last waits until it is sure that it ends where it should.
            if wire.len() >= PIECE_OCTETS {
                if let Err(error) = self.write_data(&wire) {
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
            // More than was told would be taken for commands.
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
            // Less would be waited for.
            None if chunk_left > 0 => return Err(other_size()),
            None => {}
        }
        self.write_data(&wire)
    }

    fn write_data(&mut self, wire: &[u8]) -> Result<(), Lost> {
        let deadline = Deadline::after(limits::DATA_BLOCK).min(self.deadline);
        self.transport.write_all(wire, deadline).map_err(lost)
    }
}

fn other_size() -> Lost {
    Lost::Broken("the message has another size than its queue file says".into())
}

/// Connects to the first of a host's addresses that answers, and takes it out of the list.
fn connect_to(
    out: &OutboundContext<'_>,
    site: &Site,
    host: &Host,
    addresses: &mut Vec<SocketAddr>,
) -> Result<(SocketAddr, Box<dyn Transport>), Diagnostic> {
    out.watch.see(TraceEvent::Begins(Stage::Connect));
    let since = Stopwatch::start();
    let source = &site.settings.relay.source;
    let goes_on = || !out.gives_way(since.elapsed());
    let result = out.connect.connect_while(addresses, source, limits::CONNECT, &goes_on);
    if let Ok((address, _)) = &result {
        out.watch.see(TraceEvent::Connected(*address));
    }
    result.map_err(|failures| {
        let failures: Vec<String> =
            failures.iter().map(|(address, error)| format!("[{address}]: {error}")).collect();
        let text = format!("connect to {} {}", host.name, failures.join(", "));
        out.failed(unreachable(host, EnhancedStatus::NO_ANSWER, text))
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
