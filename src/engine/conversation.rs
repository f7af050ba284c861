//! An SMTP session on its connection: what the session wants said is written, what the peer says is read, each with its
//! deadline (RFC 5321 §4.5.3.2); and how to talk to a host, by what the operator wrote about it.

use super::event::Event;
use super::forwarder::Forwarder;
use super::hosts::Host;
use super::password;
use super::site::Site;
use crate::config::TlsLevel;
use crate::mail::next_hop::Scheme;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::net::tls_client::{Connector, Verify};
use crate::net::transport::{Deadline, Transport, WireError};
use crate::rules::tls_policy::TlsPolicy;
use crate::rules::tls_policy::dane::Tlsa;
use crate::smtp::client::{Conduct, End, Login, Lost, Security, Session, Step, TlsUse, Waiting};
use crate::smtp::data::DotEncoder;
use crate::smtp::limits;
use crate::store::queue::Entry;
use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;

/// The largest piece of a message in memory, in octets.
const PIECE_OCTETS: usize = 64 * 1024;
/// What replies are read into.
const REPLY_BUFFER_OCTETS: usize = 2048;

/// How to talk to a host.
struct Manner {
    conduct: Conduct,
    check: Check,
}

/// How the certificate is looked at.
#[derive(Debug, Clone)]
enum Check {
    Nothing,
    /// Chain, dates and name.
    Name,
    /// It has to be that of one of these records.
    Dane(Vec<Tlsa>),
}

impl Check {
    fn start_tls(
        &self,
        connector: &Connector,
        transport: &mut Box<dyn Transport>,
        host: &str,
        deadline: Deadline,
    ) -> Result<Option<Vec<u8>>, WireError> {
        let is_named = |certificate: &[u8]| match self {
            Self::Dane(records) if records.iter().any(|record| record.matches(certificate)) => Ok(()),
            _ => Err("no TLSA record is for the certificate".to_owned()),
        };
        let verify = match self {
            Self::Nothing => Verify::Nothing,
            Self::Name => Verify::Name,
            Self::Dane(_) => Verify::By(&is_named),
        };
        connector.start_tls(transport, host, verify, deadline)
    }
}

/// As the operator wrote for MX hosts, or as the domain wants it, whichever is stricter.
fn towards_mx(level: TlsLevel, policy: &TlsPolicy) -> (TlsUse, Check) {
    match (level, policy) {
        (TlsLevel::Off, _) => (TlsUse::Off, Check::Nothing),
        (_, TlsPolicy::Dane(records)) => (TlsUse::Required, Check::Dane(records.clone())),
        (TlsLevel::Required, _) | (_, TlsPolicy::Sts) => (TlsUse::Required, Check::Name),
        (TlsLevel::Opportunistic, TlsPolicy::Encrypted) => (TlsUse::Required, Check::Nothing),
        (TlsLevel::Opportunistic, TlsPolicy::StsTesting) => (TlsUse::WhereOffered, Check::Name),
        (TlsLevel::Opportunistic, TlsPolicy::None) => (TlsUse::WhereOffered, Check::Nothing),
    }
}

impl Manner {
    /// As the operator wrote (INTERFACE section 2, `[relay]`).
    fn towards(site: &Site, host: &Host, address: SocketAddr) -> Result<Self, Diagnostic> {
        let relay = &site.settings.relay;
        let is_loopback = address.ip().is_loopback();
        let login = match &host.smarthost {
            Some(smarthost) if !relay.username.is_empty() && relay.smarthost.contains(smarthost) => {
                let password = password::read(relay).map_err(|error| {
                    Diagnostic::local(
                        EnhancedStatus::POLICY_NOW,
                        format!("no password for {}: {error}", host.name),
                    )
                })?;
                let name = relay.username.clone();
                Some(Login { name, password, choice: relay.auth, port: host.port, nonce: password::nonce() })
            }
            _ => None,
        };
        let scheme = host.smarthost.as_ref().map(|smarthost| smarthost.scheme);
        let verified = |is_needed| if is_needed { Check::Name } else { Check::Nothing };
        let (tls, check) = match scheme {
            None => towards_mx(relay.tls, &host.policy),
            Some(Scheme::SmtpStartTls | Scheme::Smtps) => (TlsUse::Required, Check::Name),
            // A password needs a host that is the right one; but on this host nobody listens.
            Some(Scheme::Smtp) => (TlsUse::WhereOffered, verified(login.is_some() && !is_loopback)),
            Some(Scheme::Lmtp) if is_loopback => (TlsUse::Off, Check::Nothing),
            Some(Scheme::Lmtp) => (TlsUse::WhereOffered, Check::Name),
        };
        let security = if scheme == Some(Scheme::Smtps) { Security::Verified } else { Security::Clear };
        let is_lmtp = scheme == Some(Scheme::Lmtp);
        Ok(Self { conduct: Conduct { is_lmtp, security, tls, is_loopback, login, end_point: None }, check })
    }
}

/// An SMTP session on its connection.
pub struct Conversation {
    transport: Box<dyn Transport>,
    /// The language.
    pub session: Session,
    /// The host and its address, for the log.
    pub relay: String,
    site: Arc<Site>,
    /// The name that the certificate has to have, and how it is looked at.
    host: String,
    check: Check,
    has_tls_failed: bool,
    deadline: Deadline,
    /// Which reply the deadline of the read is for.
    awaited: Option<(u32, Deadline)>,
}

/// What is sent after DATA, in canonical form: fields, and the message behind them.
pub struct Content<'a> {
    /// Whole fields with their line ends.
    pub fields: &'a str,
    /// The message.
    pub entry: &'a Entry,
}

/// What a conversation has come to.
pub enum Talk {
    /// What became of each recipient.
    Finished(Vec<Option<Outcome>>),
    /// The session waits for a message.
    Ready,
    /// The session has ended.
    Over(End),
}

impl Conversation {
    /// Connects to an address of a host, with all that comes before the first message: TLS, EHLO, AUTH.
    ///
    /// # Errors
    /// Why this address can't be used now.
    pub fn open(
        forwarder: &Forwarder,
        site: &Arc<Site>,
        host: &Host,
        address: SocketAddr,
    ) -> Result<Self, Diagnostic> {
        let manner = Manner::towards(site, host, address)?;
        let may_fall_back = manner.conduct.tls == TlsUse::WhereOffered && manner.conduct.login.is_none();
        let in_clear = Conduct { tls: TlsUse::Off, ..manner.conduct.clone() };
        match Self::open_in(forwarder, site, host, address, manner) {
            Err((diagnostic, true)) if host.policy == TlsPolicy::StsTesting && may_fall_back => {
                host.log_test_failure(diagnostic.line());
                let host = Host { policy: TlsPolicy::None, ..host.clone() };
                Self::open(forwarder, site, &host, address)
            }
            // Worse than clear is no mail: RFC 7435 §3.
            Err((diagnostic, true)) if may_fall_back => {
                log::debug!(target: "pillarbox", "event=unreachable host={} reason={diagnostic:?}", host.name);
                let manner = Manner { conduct: in_clear, check: Check::Nothing };
                Self::open_in(forwarder, site, host, address, manner).map_err(|(diagnostic, _)| diagnostic)
            }
            result => result.map_err(|(diagnostic, _)| host.policy.explain(diagnostic)),
        }
    }

    /// As `open`; an error says whether TLS was to blame.
    fn open_in(
        forwarder: &Forwarder,
        site: &Arc<Site>,
        host: &Host,
        address: SocketAddr,
        manner: Manner,
    ) -> Result<Self, (Diagnostic, bool)> {
        let unreachable = |doing: &str, error: &WireError| Diagnostic {
            remote: Some(host.name.clone()),
            ..Diagnostic::local(
                EnhancedStatus::NO_ANSWER,
                format!("{doing} {} [{address}]: {error}", host.name),
            )
        };
        let transport = forwarder.connect.connect(address, limits::CONNECT);
        let mut transport = transport.map_err(|error| (unreachable("connect to", &error), false))?;
        let Manner { mut conduct, check } = manner;
        if conduct.security != Security::Clear {
            let deadline = Deadline::after(limits::TLS_HANDSHAKE);
            let shaken = check.start_tls(&site.connector, &mut transport, &host.name, deadline);
            conduct.end_point = shaken.map_err(|error| (unreachable("TLS with", &error), true))?;
        }
        let login = conduct.login.as_ref().map(|login| login.name.clone());
        let mut conversation = Self {
            transport,
            session: Session::new(host.name.as_str(), site.client_name.clone(), conduct),
            relay: format!("{}[{}]:{}", host.name, address.ip(), address.port()),
            site: Arc::clone(site),
            host: host.name.clone(),
            check,
            has_tls_failed: false,
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
            Err(diagnostic) => Err((diagnostic, conversation.has_tls_failed)),
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
                    End::Route(diagnostic) | End::Dropped(diagnostic) | End::Reconnect(diagnostic),
                ) => {
                    return Err(diagnostic);
                }
                Talk::Over(End::Quit) => {
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
        match self.check.start_tls(&self.site.connector, &mut self.transport, &self.host, deadline) {
            Ok(end_point) => {
                let is_checked = !matches!(self.check, Check::Nothing);
                let security = if is_checked { Security::Verified } else { Security::Unverified };
                self.session.tls_established(security, end_point);
            }
            Err(error) => {
                self.has_tls_failed = true;
                self.session.tls_failed(&error.to_string());
            }
        }
    }

    /// Whether it may take another message. A peer that has something to say between two messages says goodbye; and
    /// what is left of the session's time must do for any message, or its end would come in the middle of one: a
    /// duplicate, and a pause that the route has not earned.
    pub fn can_go_on(&mut self) -> bool {
        !self.transport.has_input() && self.deadline.remaining() > limits::CLIENT_SESSION / 2
    }

    /// Says QUIT, if anybody listens.
    pub fn leave(mut self) {
        self.session.quit();
        while !matches!(self.talk(None), Talk::Over(_)) {}
    }

    /// Does what the session says until it has news. `content` is what is sent after DATA.
    pub fn talk(&mut self, content: Option<&Content<'_>>) -> Talk {
        loop {
            match self.session.next_step() {
                Step::Send(octets) => self.send(&octets),
                Step::Read { waiting, reply } => self.read(waiting, reply),
                Step::StartTls => self.start_tls(),
                Step::SendContent => match content.map(|content| self.send_content(content)) {
                    Some(Ok(())) => self.session.content_sent(),
                    Some(Err(lost)) => self.session.lost(&lost),
                    None => self.session.lost(&Lost::Broken("there is no message to send".into())),
                },
                Step::Finished(outcomes) => return Talk::Finished(outcomes),
                Step::Ready => return Talk::Ready,
                Step::Close(end) => return Talk::Over(end),
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
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        match self.transport.read(&mut buffer, self.deadline) {
            Ok(length) => self.session.received(buffer.get(..length).unwrap_or_default()),
            Err(error) => self.session.lost(&lost(error)),
        }
    }

    fn read(&mut self, waiting: Waiting, reply: u32) {
        let deadline = match self.awaited {
            Some((awaited, deadline)) if awaited == reply => deadline,
            _ => Deadline::after(waiting.deadline()).min(self.deadline),
        };
        self.awaited = Some((reply, deadline));
        let mut buffer = [0; REPLY_BUFFER_OCTETS];
        match self.transport.read(&mut buffer, deadline) {
            Ok(length) => self.session.received(buffer.get(..length).unwrap_or_default()),
            Err(error) => self.session.lost(&lost(error)),
        }
    }

    fn send_content(&mut self, &Content { fields, entry }: &Content<'_>) -> Result<(), Lost> {
        let (mut encoder, mut content) = (DotEncoder::default(), entry.content(0));
        let size = usize::try_from(entry.message_octets()).unwrap_or(usize::MAX).clamp(1, PIECE_OCTETS);
        let (mut piece, mut wire) = (vec![0; size], Vec::with_capacity(size + size / 16));
        encoder.encode(fields.as_bytes(), &mut wire);
        let mut left = entry.message_octets();
        while left > 0 {
            let length = content.read(&mut piece).map_err(|error| Lost::Broken(error.to_string()))?;
            if length == 0 {
                return Err(Lost::Broken("the queue file has become shorter".into()));
            }
            left = left.saturating_sub(length as u64);
            encoder.encode(piece.get(..length).unwrap_or_default(), &mut wire);
            if left > 0 {
                self.write_data(&wire)?;
                wire.clear();
            }
        }
        encoder.finish(&mut wire);
        self.write_data(&wire)
    }

    fn write_data(&mut self, wire: &[u8]) -> Result<(), Lost> {
        let deadline = Deadline::after(limits::DATA_BLOCK).min(self.deadline);
        self.transport.write_all(wire, deadline).map_err(lost)
    }
}

fn lost(error: WireError) -> Lost {
    match error {
        WireError::TimedOut => Lost::TimedOut,
        WireError::Closed => Lost::Closed,
        WireError::Io(error) => Lost::Broken(error.to_string()),
    }
}
