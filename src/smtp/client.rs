//! The SMTP client's session (RFC 5321 §3, §4.2, §4.5.3.2; RFC 2920; RFC 1870): one connection, many transactions.
//!
//! [`ClientSession`] has no socket and no clock. The caller asks [`ClientSession::next_step`] what to do, does it, and reports
//! the result by [`ClientSession::received`], [`ClientSession::content_sent`] or [`ClientSession::lost`]. No method returns an error:
//! every result is an [`Outcome`] for a recipient, an [`SessionEnd`] of the session, or both. The card of all replies:
//!
//! | reply to | 2yz | 4yz | 5yz | 421, 530, 534, 535, 538 | other, garbled, no reply |
//! | --- | --- | --- | --- | --- | --- |
//! | greeting, HELO | go on | route | route | route | route |
//! | EHLO | go on | route | 500, 501, 502, 504, 550: HELO, where TLS and login are not needed; else route | route | route |
//! | STARTTLS | handshake | in clear, where that is allowed; else route | as for 4yz | route | route |
//! | AUTH | go on | route | a refused token: another one, once; else the next mechanism; after the last: route | 421: route; else as 5yz | route |
//! | MAIL | go on | all deferred | all failed | route | all deferred |
//! | RCPT | accepted | deferred | failed; too many recipients: tried again | route | deferred, where undecided |
//! | DATA | deferred (3yz: go on) | deferred, where accepted | failed, where accepted | route | deferred, where undecided |
//! | final dot | delivered, where accepted | deferred | failed | route, and deferred | deferred: may have arrived |
//! | BDAT | delivered, where accepted | deferred | by DATA, if the reply may be about BDAT; else failed | route, and deferred | deferred: may have arrived; by DATA next time |
//!
//! "Failed" is what a 5yz of an MX host means. A smarthost may also refuse because of the account, the sender's
//! rights, a limit or relaying: that is a fault of the route, and `rules::refusal` tells the two apart. The session
//! reads only codes, no texts.
//!
//! "Route" leaves recipients without an outcome as they are. Recipients that are undecided when a transaction breaks
//! off are deferred, even though the network may be to blame: a message that makes a filter cut the connection each
//! time must grow old and must not hold up the other mail of the route. So a connection that is closed within a
//! transaction counts against the message ([`SessionEnd::Dropped`]) and not against the route; if the host is gone, the next
//! connect finds that out.
//!
//! Steps that the caller sees, in the order of a session:
//!
//! ```text
//! Read greeting ─ Send EHLO ─ Read ─[ Send STARTTLS ─ Read ─ StartTls ─ Send EHLO ─ Read ]─[ Send AUTH ─ Read …[ RenewToken ─ Send AUTH … ]]─
//! Ready
//! Ready ─ begin() ─ Send MAIL, RCPT … DATA ─ Read … ─ SendContent or SendChunk ─ Read ─ Finished ─ Ready
//! Ready ─ quit() ─ Send QUIT ─ Read ─ Close(Quit)
//! any step ─ lost(), or a reply that fits nowhere ─ Finished, if a transaction was open ─ Close(Route, Dropped or
//! Reconnect)
//! ```
//!
//! | end | the caller |
//! | --- | --- |
//! | [`SessionEnd::Quit`] | keeps the route as it is |
//! | [`SessionEnd::Reconnect`] | opens a new connection at once for recipients without an outcome |
//! | [`SessionEnd::Dropped`] | goes on with other messages of the route |
//! | [`SessionEnd::Route`] | pauses the route |

mod opening;
mod step;
mod transaction;
mod waiting;

pub use self::opening::{Login, Security, SessionOptions, TlsUse};
pub use self::step::{ClientStep, ClientTransaction, Lost, SessionEnd};
pub use self::waiting::Waiting;

use self::transaction::{AfterReply, RunningTransaction};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::{Class, EnhancedStatus};
use crate::smtp::command::{ClientName, Command};
use crate::smtp::extension::PeerOffer;
use crate::smtp::limits;
use crate::smtp::reply::{Reply, ReplyParser, Severity};
use crate::smtp::sasl::client::{ClientExchange, ClientMechanism};
use std::io::Write as _;
use std::mem;

/// The state of the session.
#[derive(Debug)]
enum Phase {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// The caller performs the TLS handshake.
    Handshaking,
    Auth(ClientMechanism, ClientExchange),
    /// The caller fetches another token, since the peer has refused this one.
    Renewing(ClientMechanism),
    /// `is_open`: the peer still has the last transaction open, so the next one begins with RSET.
    Ready {
        is_open: bool,
    },
    InTransaction(RunningTransaction),
    Quitting(SessionEnd),
    Ended(SessionEnd),
}

/// Why the session ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SessionFault {
    /// The connection is gone.
    Dropped,
    /// The peer is silent, sends a reply without a command, or does not speak SMTP: a fault of the route.
    Unsound,
    /// The peer refuses the session (421), or a session of this kind (530 and similar codes).
    Refused,
}

/// A client's session.
#[derive(Debug)]
pub struct ClientSession {
    remote: String,
    name: ClientName,
    conduct: SessionOptions,
    security: Security,
    /// TLS, or what followed it before the first reply within it, ended the session.
    has_tls_failed: bool,
    /// Mechanisms that the peer refused.
    refused: Vec<ClientMechanism>,
    /// The peer's reply to the last refused login.
    refusal: Option<Diagnostic>,
    /// A second token was fetched, and the peer has not answered it yet.
    is_retrying: bool,
    offer: PeerOffer,
    phase: Phase,
    /// Commands that [`ClientStep::Send`] has not handed out yet.
    unsent: Vec<u8>,
    /// The beginning of a reply line whose end has not arrived.
    line: Vec<u8>,
    parser: ReplyParser,
    replies: u32,
    /// How many transactions the peer has answered to the end.
    served: u32,
    /// The peer advertises CHUNKING but rejects BDAT, in this session or an earlier one.
    knows_no_chunks: bool,
    finished: Option<Vec<Option<Outcome>>>,
}

impl ClientSession {
    /// A session on a connection that has just been opened. `remote` is the peer's name in diagnostics; `name` is the
    /// argument of EHLO.
    #[must_use]
    pub fn new(remote: impl Into<String>, name: ClientName, conduct: SessionOptions) -> Self {
        Self {
            remote: remote.into(),
            name,
            security: conduct.security,
            conduct,
            has_tls_failed: false,
            refused: Vec::new(),
            refusal: None,
            is_retrying: false,
            offer: PeerOffer::default(),
            phase: Phase::Greeting,
            unsent: Vec::new(),
            line: Vec::new(),
            parser: ReplyParser::default(),
            replies: 0,
            served: 0,
            knows_no_chunks: false,
            finished: None,
        }
    }

    /// What to do now. Outcomes and octets are returned once; the other steps repeat until something happens.
    pub fn next_step(&mut self) -> ClientStep {
        if let Some(outcomes) = self.finished.take() {
            return ClientStep::Finished(outcomes);
        }
        if !self.unsent.is_empty() {
            return ClientStep::Send(mem::take(&mut self.unsent));
        }
        match (&self.phase, self.waiting()) {
            (_, Some(waiting)) => ClientStep::Read { waiting, reply: self.replies },
            (Phase::Handshaking, None) => ClientStep::StartTls,
            (Phase::Renewing(_), None) => ClientStep::RenewToken,
            (Phase::InTransaction(running), None) if running.is_chunked() => ClientStep::SendChunk,
            (Phase::InTransaction(_), None) => ClientStep::SendContent,
            (Phase::Ended(end), None) => ClientStep::Close(end.clone()),
            _ => ClientStep::Ready,
        }
    }

    /// Begins a transaction. On a session that is not ready nothing is tried.
    ///
    /// Content with 8-bit octets is sent unchanged, even to a peer without 8BITMIME: most accept it, and refusing it
    /// would lose an alert.
    pub fn begin(&mut self, transaction: &ClientTransaction<'_>) {
        let count = transaction.recipients.len();
        let Phase::Ready { is_open } = self.phase else {
            self.finished = Some(vec![None; count]);
            return;
        };
        if let Some(outcome) = self.too_big(transaction.size_octets) {
            self.finished = Some(vec![Some(outcome); count]);
        } else if let Some(outcomes) = transaction::unspeakable(transaction, &self.offer, &self.remote) {
            // The other recipients begin again: the session stays ready.
            self.finished = Some(outcomes);
        } else if count == 0 {
            self.finished = Some(Vec::new());
        } else {
            let mut running =
                RunningTransaction::new(transaction, &self.offer, is_open, self.conduct.is_lmtp);
            self.unsent = running.next_commands();
            self.phase = Phase::InTransaction(running);
        }
    }

    /// Whether the peer is an LMTP server, which delivers what it accepts (RFC 2033).
    #[must_use]
    pub const fn is_lmtp(&self) -> bool {
        self.conduct.is_lmtp
    }

    /// Whether the peer accepts octets beyond ASCII (RFC 6152).
    #[must_use]
    pub const fn takes_eight_bits(&self) -> bool {
        self.offer.eight_bit_mime
    }

    /// Whether the peer accepts UTF-8 in header fields (RFC 6531 §3.1 item 8 requires 8BITMIME as well).
    #[must_use]
    pub const fn takes_utf8(&self) -> bool {
        self.offer.smtputf8 && self.offer.eight_bit_mime
    }

    /// Whether the peer offers DSN, so that it takes over the duty to notify the sender (RFC 3461 §5.2.1).
    #[must_use]
    pub fn passes_dsn(&self) -> bool {
        self.offer.dsn
    }

    /// Whether the peer failed at the BDAT that it offers: it refused the command, or the connection ended over it.
    /// The next session with this host must [forgo](Self::forgo_chunks) BDAT, or it would fail in the same way,
    /// without end.
    #[must_use]
    pub fn knows_no_chunks(&self) -> bool {
        self.knows_no_chunks
    }

    /// Sends no message by BDAT, even if the peer offers it (RFC 3030).
    pub fn forgo_chunks(&mut self) {
        self.knows_no_chunks = true;
        self.offer.chunking = false;
    }

    /// Reports that the message has been written, including its final dot or its whole chunk.
    pub fn content_sent(&mut self) {
        if let Phase::InTransaction(running) = &mut self.phase {
            running.content_sent();
        }
    }

    /// Sends QUIT; on a session that is not ready this changes nothing.
    pub fn quit(&mut self) {
        if matches!(self.phase, Phase::Ready { .. }) {
            self.leave(SessionEnd::Quit);
        }
    }

    /// Takes octets that the peer sent. LF ends a line, with or without CR: unlike commands, replies carry no mail
    /// that could be smuggled.
    pub fn received(&mut self, octets: &[u8]) {
        self.hear(octets, &mut |_, _| ());
    }

    /// As [`Self::received`]; passes each whole reply, and what it answers, to `heard`.
    pub fn hear(&mut self, octets: &[u8], heard: &mut dyn FnMut(Waiting, &Reply)) {
        for piece in octets.split_inclusive(|&b| b == b'\n') {
            let Some(waiting) = self.waiting().filter(|_| self.unsent.is_empty()) else {
                // A reply ahead of its command does not answer it: the peer, or an attacker in between, injected it.
                return self.unsound(format!("{} sent a reply without a command", self.remote));
            };
            if self.line.len() + piece.len() > limits::REPLY_LINE_MAX_OCTETS {
                return self.unsound(format!("a line of {} is too long, {}", self.remote, self.doing()));
            }
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                let reply = self.parser.line(self.line.trim_ascii_end());
                self.line.clear();
                match reply {
                    Ok(None) => {}
                    Ok(Some(reply)) => {
                        heard(waiting, &reply);
                        self.take_reply(&reply, waiting);
                    }
                    Err(error) => {
                        let remote = &self.remote;
                        return self.unsound(format!("{remote} speaks no SMTP, {}: {error}", self.doing()));
                    }
                }
            }
        }
    }

    /// Reports that the connection can no longer be used.
    pub fn lost(&mut self, how: &Lost) {
        let (remote, doing) = (&self.remote, self.doing());
        let mut text = match how {
            Lost::Closed => format!("connection closed by {remote} while {doing}"),
            Lost::TimedOut => format!("timed out {doing} from {remote}"),
            Lost::Broken(error) => format!("connection to {remote} broke while {doing}: {error}"),
        };
        if matches!(self.waiting(), Some(Waiting::FinalDot | Waiting::LastChunk)) {
            text.push_str("; the message may have arrived");
        }
        self.has_tls_failed = match self.phase {
            Phase::StartTls => true,
            // In TLS 1.3 a peer that rejects the handshake reports it only after the handshake.
            Phase::Ehlo => self.security != self.conduct.security,
            _ => false,
        };
        let fault = if *how == Lost::TimedOut { SessionFault::Unsound } else { SessionFault::Dropped };
        self.fall(fault, self.own_words(EnhancedStatus::BAD_CONNECTION, text));
    }

    fn waiting(&self) -> Option<Waiting> {
        match &self.phase {
            Phase::Greeting => Some(Waiting::Greeting),
            Phase::Ehlo => Some(Waiting::Ehlo),
            Phase::Helo => Some(Waiting::Helo),
            Phase::StartTls => Some(Waiting::StartTls),
            Phase::Auth(..) => Some(Waiting::Auth),
            Phase::InTransaction(running) => running.waiting(),
            Phase::Quitting(_) => Some(Waiting::Quit),
            Phase::Handshaking | Phase::Renewing(_) | Phase::Ready { .. } | Phase::Ended(_) => None,
        }
    }

    /// The current step, for diagnostics.
    fn doing(&self) -> String {
        match (self.waiting(), &self.phase) {
            (Some(waiting), _) => format!("waiting for {waiting}"),
            (None, Phase::InTransaction(_)) => "sending the message".to_owned(),
            (None, _) => "idle".to_owned(),
        }
    }

    fn take_reply(&mut self, reply: &Reply, to: Waiting) {
        self.replies = self.replies.wrapping_add(1);
        let is_success = reply.severity() == Severity::Success;
        let may_say_helo = self.may_say_helo();
        match &mut self.phase {
            Phase::Greeting if is_success => self.say_hello(),
            Phase::Ehlo if is_success => {
                self.offer = PeerOffer::parse(&reply.lines);
                self.offer.requiretls &= self.security == Security::Verified;
                self.secure();
            }
            Phase::Ehlo if may_say_helo && matches!(reply.code, 500 | 501 | 502 | 504 | 550) => {
                self.say(&Command::Helo(self.name.clone()), Phase::Helo);
            }
            Phase::Helo if is_success => self.phase = Phase::Ready { is_open: false },
            Phase::StartTls => self.starttls_answered(reply, to),
            Phase::Auth(..) => self.auth_answered(reply, to),
            Phase::Greeting | Phase::Ehlo | Phase::Helo => {
                let diagnostic = answer(&self.remote, reply, to, EnhancedStatus::NOT_ACCEPTING);
                if reply.code == 421 {
                    self.fall(SessionFault::Refused, diagnostic);
                } else {
                    self.leave(SessionEnd::Route(diagnostic));
                }
            }
            Phase::InTransaction(running) => {
                let next = running.take_reply(reply, to, &self.remote);
                self.go_on(next);
            }
            Phase::Quitting(end) => self.phase = Phase::Ended(mem::replace(end, SessionEnd::Quit)),
            Phase::Handshaking | Phase::Renewing(_) | Phase::Ready { .. } | Phase::Ended(_) => {}
        }
    }

    fn go_on(&mut self, next: AfterReply) {
        match next {
            AfterReply::Send(commands) => self.unsent = commands,
            AfterReply::Done { undecided, is_open } => {
                let phase = mem::replace(&mut self.phase, Phase::Ready { is_open });
                if let Phase::InTransaction(running) = phase {
                    self.finished = Some(running.finish(undecided.as_ref()));
                    self.served = self.served.saturating_add(1);
                }
            }
            AfterReply::NoChunks => {
                // The peer offers a command that it does not know. All its recipients are tried again, by DATA.
                self.forgo_chunks();
                self.go_on(AfterReply::Done { undecided: None, is_open: true });
            }
            AfterReply::Refused(diagnostic) => self.fall(SessionFault::Refused, diagnostic),
            AfterReply::Unsound(diagnostic) => self.fall(SessionFault::Unsound, diagnostic),
        }
    }

    /// Queues a command and waits for its reply.
    fn say(&mut self, command: &Command, then: Phase) {
        print(command, &mut self.unsent);
        self.phase = then;
    }

    /// Ends the session by QUIT (RFC 5321 §4.1.1.10).
    fn leave(&mut self, end: SessionEnd) {
        self.say(&Command::Quit, Phase::Quitting(end));
    }

    fn unsound(&mut self, text: String) {
        // Clear text at the place of the handshake means that TLS has failed.
        self.has_tls_failed |= matches!(self.phase, Phase::Handshaking);
        let status = EnhancedStatus::PROTOCOL_TROUBLE.with_class(Class::Transient);
        self.fall(SessionFault::Unsound, self.own_words(status, text));
    }

    /// Ends the session at once, without QUIT.
    fn fall(&mut self, fault: SessionFault, diagnostic: Diagnostic) {
        self.unsent.clear();
        let had_served = self.served > 0;
        let end = match mem::replace(&mut self.phase, Phase::Ended(SessionEnd::Quit)) {
            Phase::Quitting(end) | Phase::Ended(end) => end,
            Phase::Ready { .. } if had_served => SessionEnd::Reconnect(diagnostic),
            Phase::InTransaction(running) if had_served && !running.is_mail_answered() => {
                self.finished = Some(running.finish(None));
                SessionEnd::Reconnect(diagnostic)
            }
            Phase::InTransaction(running) => {
                self.knows_no_chunks |= running.is_at_chunk();
                let is_at_end = matches!(running.waiting(), Some(Waiting::FinalDot | Waiting::LastChunk));
                let is_blameless = fault == SessionFault::Refused && !is_at_end;
                let undecided = (!is_blameless).then(|| Outcome::Deferred(diagnostic.clone()));
                self.finished = Some(running.finish(undecided.as_ref()));
                if fault == SessionFault::Dropped {
                    SessionEnd::Dropped(diagnostic)
                } else {
                    SessionEnd::Route(diagnostic)
                }
            }
            Phase::Greeting
            | Phase::Ehlo
            | Phase::Helo
            | Phase::StartTls
            | Phase::Handshaking
            | Phase::Ready { .. } => SessionEnd::Route(diagnostic),
            // A peer that ends the session after a wrong password has given the reason before.
            Phase::Auth(..) | Phase::Renewing(_) => {
                SessionEnd::Route(self.refusal.take().unwrap_or(diagnostic))
            }
        };
        self.phase = Phase::Ended(end);
    }

    /// RFC 1870 §6.1: a message over the peer's limit is not sent at all. A limit of 0 means no limit.
    fn too_big(&self, size_octets: u64) -> Option<Outcome> {
        let limit = self.offer.size_octets.filter(|&limit| limit != 0 && limit < size_octets)?;
        let remote = &self.remote;
        let text = format!("the message has {size_octets} octets, and {remote} takes at most {limit}");
        Some(Outcome::Failed(self.own_words(EnhancedStatus::MESSAGE_TOO_BIG, text)))
    }

    fn own_words(&self, status: EnhancedStatus, text: String) -> Diagnostic {
        Diagnostic { status, remote: Some(self.remote.clone()), reply: None, text }
    }
}

/// The diagnostic for a reply. `unless` gives the status if the reply has none (not every host implements RFC 2034),
/// and it always gives the class: what pauses a route is temporary, whatever the reply's class.
fn answer(remote: &str, reply: &Reply, to: Waiting, unless: EnhancedStatus) -> Diagnostic {
    let mut text = reply.to_string();
    if text.len() > limits::REPLY_KEPT_MAX_CHARACTERS {
        text = text.chars().take(limits::REPLY_KEPT_MAX_CHARACTERS).collect();
    }
    Diagnostic {
        status: reply.status.unwrap_or(unless).with_class(unless.class),
        remote: Some(remote.to_owned()),
        reply: Some(text),
        text: to.to().to_owned(),
    }
}

fn print(command: &Command, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{command}\r\n");
}

#[cfg(test)]
mod tests;
