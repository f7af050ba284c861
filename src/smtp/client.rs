//! The SMTP client's session (RFC 5321 §3, §4.2, §4.5.3.2; RFC 2920; RFC 1870): one connection, many transactions.
//!
//! [`Session`] has no socket and no clock. The caller asks [`Session::next_step`] what to do, does it, and tells what came of
//! it by [`Session::received`], [`Session::content_sent`] or [`Session::lost`]. Nothing here fails: every way it can go
//! is an [`Outcome`] for a recipient, an [`End`] of the session, or both. The card of all answers:
//!
//! | reply to | 2yz | 4yz | 5yz | 421, 530, 534, 535, 538 | other, garbled, none |
//! | --- | --- | --- | --- | --- | --- |
//! | greeting, HELO | go on | route | route | route | route |
//! | EHLO | go on | route | 500, 501, 502, 504, 550: HELO, where TLS and login are not needed; else route | route | route |
//! | STARTTLS | handshake | in clear, where that is allowed; else route | as for 4yz | route | route |
//! | AUTH | go on | route | the next mechanism; after the last: route | 421: route; else as 5yz | route |
//! | MAIL | go on | all deferred | all failed | route | all deferred |
//! | RCPT | accepted | deferred | failed; too many recipients: tried again | route | undecided ones deferred |
//! | DATA | deferred (3yz: go on) | accepted ones deferred | accepted ones failed | route | undecided ones deferred |
//! | final dot | accepted ones delivered | deferred | failed | route, and deferred | deferred: may have arrived |
//! | BDAT | accepted ones delivered | deferred | by DATA, if it may be about BDAT; else failed | route, and deferred | deferred: may have arrived; by DATA next time |
//!
//! "Failed" is what an MX host means. What a smarthost refuses because of the account, the sender's right to send, a limit
//! or relaying is the route's as well, and `rules::refusal` tells: the session knows no words, only codes.
//!
//! "Route" leaves the recipients that have no outcome yet as they are. What is undecided when a transaction breaks off
//! is deferred even though the network may be to blame: a message that makes a filter cut the connection each time
//! must grow old, and must not hold up the route's other mail. So a connection that is closed within a transaction
//! blames the message ([`End::Dropped`]) and not the route; if the host is gone, the next connect will say so.

mod opening;
mod transaction;
mod waiting;

pub use self::opening::{Conduct, Login, Security, TlsUse};
pub use self::waiting::Waiting;

use self::transaction::{Next, Running};
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::{Class, EnhancedStatus};
use crate::smtp::command::{ClientName, Command};
use crate::smtp::extension::PeerOffer;
use crate::smtp::limits;
use crate::smtp::reply::{Reply, ReplyParser, Severity};
use crate::smtp::sasl::client::{Exchange, Mechanism};
use std::io::Write as _;
use std::mem;

/// A message for some of its recipients, all at one next hop.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// The reverse-path and the parameters of MAIL; its list of recipients is not looked at.
    pub envelope: &'a Envelope,
    /// Who is asked for. Of more than [`limits::RECIPIENTS_PER_TRANSACTION`] the rest is left untried.
    pub recipients: &'a [&'a Recipient],
    /// Size of the content with CRLF line ends, in octets (RFC 1870 §6).
    pub size_octets: u64,
    /// Ends with RSET in place of the data: who was accepted has the outcome `Delivered`, and nobody gets anything.
    pub is_trial: bool,
}

/// What the caller has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Write these octets.
    Send(Vec<u8>),
    /// Read, and give what came to [`Session::received`].
    Read {
        /// Which reply is awaited: it says how long to wait.
        waiting: Waiting,
        /// Counts the replies. The deadline is for a whole reply, so it starts again only when this changes: a peer
        /// that sends an octet a minute must not hold the session for hours.
        reply: u32,
    },
    /// Shake hands, as the client; then call [`Session::tls_established`] or [`Session::tls_failed`].
    StartTls,
    /// Write the message through [`crate::smtp::data::DotEncoder`] with its end, then call [`Session::content_sent`].
    SendContent,
    /// Write the message through [`crate::smtp::data::encode_chunk`], exactly [`Transaction::size_octets`] of it, then
    /// call [`Session::content_sent`].
    SendChunk,
    /// What became of each recipient, in the order given. `None`: nothing was learnt about it. If the session is ready
    /// again, the peer had enough recipients in one transaction: begin another one for those. That comes to an end, as
    /// at least one recipient has an outcome each time, but for one time when the peer refused the BDAT that it
    /// offers. Otherwise [`End`] says what to do.
    Finished(Vec<Option<Outcome>>),
    /// Call [`Session::begin`] or [`Session::quit`].
    Ready,
    /// Close the connection.
    Close(End),
}

/// Why the session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// QUIT was said.
    Quit,
    /// The peer ended a session that had served before it answered to the next MAIL: it was idle too long or had enough
    /// messages. Recipients without an outcome deserve a new connection at once. Never the end of a session's first
    /// transaction, so this makes no endless loop.
    Reconnect(Diagnostic),
    /// The connection was closed in the middle of a transaction. Its recipients have their outcomes; other messages of
    /// the route may be tried.
    Dropped(Diagnostic),
    /// The route failed: pause it.
    Route(Diagnostic),
}

/// How a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// The peer closed it.
    Closed,
    /// The deadline of the step has passed.
    TimedOut,
    /// Another error, in the system's words.
    Broken(String),
}

/// Where the session stands.
#[derive(Debug)]
enum Phase {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// The caller shakes hands.
    Handshaking,
    Auth(Mechanism, Exchange),
    /// `is_open`: the last transaction was left open, so that the next one begins with RSET.
    Ready {
        is_open: bool,
    },
    InTransaction(Running),
    Quitting(End),
    Ended(End),
}

/// What ended the session before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection is gone.
    Dropped,
    /// The peer is silent, speaks out of turn or speaks no SMTP. It holds a worker or can't be understood: the route's.
    Unsound,
    /// The peer wants no session (421), or none like this (530 and its like).
    Refused,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    remote: String,
    name: ClientName,
    conduct: Conduct,
    security: Security,
    /// TLS, or what came of it before the first answer within it, has ended the session.
    has_tls_failed: bool,
    /// Mechanisms by which the peer did not let us in.
    refused: Vec<Mechanism>,
    /// What it said to that.
    refusal: Option<Diagnostic>,
    offer: PeerOffer,
    phase: Phase,
    /// Commands that [`Step::Send`] has not handed out yet.
    unsent: Vec<u8>,
    /// The beginning of a reply line.
    line: Vec<u8>,
    parser: ReplyParser,
    replies: u32,
    /// Transactions that the peer has answered to the end.
    served: u32,
    /// The peer advertises CHUNKING but rejects BDAT, in this session or an earlier one.
    knows_no_chunks: bool,
    finished: Option<Vec<Option<Outcome>>>,
}

impl Session {
    /// A session on a connection that has just come up. `remote` is the peer as diagnostics name it; `name` is what
    /// EHLO says.
    #[must_use]
    pub fn new(remote: impl Into<String>, name: ClientName, conduct: Conduct) -> Self {
        Self {
            remote: remote.into(),
            name,
            security: conduct.security,
            conduct,
            has_tls_failed: false,
            refused: Vec::new(),
            refusal: None,
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

    /// What to do now. Outcomes and octets are handed out once; the other steps stay the same until something happens.
    pub fn next_step(&mut self) -> Step {
        if let Some(outcomes) = self.finished.take() {
            return Step::Finished(outcomes);
        }
        if !self.unsent.is_empty() {
            return Step::Send(mem::take(&mut self.unsent));
        }
        match (&self.phase, self.waiting()) {
            (_, Some(waiting)) => Step::Read { waiting, reply: self.replies },
            (Phase::Handshaking, None) => Step::StartTls,
            (Phase::InTransaction(running), None) if running.is_chunked() => Step::SendChunk,
            (Phase::InTransaction(_), None) => Step::SendContent,
            (Phase::Ended(end), None) => Step::Close(end.clone()),
            _ => Step::Ready,
        }
    }

    /// Begins a transaction on a session that is ready; on another one nothing is tried.
    ///
    /// Content with 8-bit octets goes out as it is, also to a peer without 8BITMIME: most take it, and to refuse it
    /// would lose an alert.
    pub fn begin(&mut self, transaction: &Transaction<'_>) {
        let count = transaction.recipients.len();
        let Phase::Ready { is_open } = self.phase else {
            self.finished = Some(vec![None; count]);
            return;
        };
        if let Some(outcome) = self.too_big(transaction.size_octets) {
            self.finished = Some(vec![Some(outcome); count]);
        } else if let Some(outcomes) = transaction::unspeakable(transaction, &self.offer, &self.remote) {
            // The others are begun with again: the session stays ready.
            self.finished = Some(outcomes);
        } else if count == 0 {
            self.finished = Some(Vec::new());
        } else {
            let mut running = Running::new(transaction, &self.offer, is_open, self.conduct.is_lmtp);
            self.unsent = running.next_commands();
            self.phase = Phase::InTransaction(running);
        }
    }

    /// Whether the peer delivers what it takes (RFC 2033).
    #[must_use]
    pub const fn is_lmtp(&self) -> bool {
        self.conduct.is_lmtp
    }

    /// Whether the peer takes octets beyond ASCII (RFC 6152).
    #[must_use]
    pub const fn takes_eight_bits(&self) -> bool {
        self.offer.eight_bit_mime
    }

    /// Whether it takes UTF-8 in header fields (RFC 6531), which it may only with the former.
    #[must_use]
    pub const fn takes_utf8(&self) -> bool {
        self.offer.smtputf8 && self.offer.eight_bit_mime
    }

    /// Whether the peer offers DSN, so that it owes the sender what it takes over with a message (RFC 3461 §5.2.1).
    #[must_use]
    pub fn passes_dsn(&self) -> bool {
        self.offer.dsn
    }

    /// Whether the peer did not take the BDAT that it offers: it refused it, or the connection ended over it. The next
    /// session with this host must [forgo](Self::forgo_chunks) it, or the same would come of it, and so on without end.
    #[must_use]
    pub fn knows_no_chunks(&self) -> bool {
        self.knows_no_chunks
    }

    /// Sends no message as a chunk, whatever the peer offers (RFC 3030).
    pub fn forgo_chunks(&mut self) {
        self.knows_no_chunks = true;
        self.offer.chunking = false;
    }

    /// The message has been written with its final dot.
    pub fn content_sent(&mut self) {
        if let Phase::InTransaction(running) = &mut self.phase {
            running.content_sent();
        }
    }

    /// Says QUIT; on a session that is not ready this changes nothing.
    pub fn quit(&mut self) {
        if matches!(self.phase, Phase::Ready { .. }) {
            self.leave(End::Quit);
        }
    }

    /// Takes octets that the peer sent. LF ends a line, with or without CR: unlike commands, replies carry no mail that
    /// could be smuggled.
    pub fn received(&mut self, octets: &[u8]) {
        self.hear(octets, &mut |_, _| ());
    }

    /// As [`Self::received`]; `heard` is shown each whole reply, and what it is to.
    pub fn hear(&mut self, octets: &[u8], heard: &mut dyn FnMut(Waiting, &Reply)) {
        for piece in octets.split_inclusive(|&b| b == b'\n') {
            let Some(waiting) = self.waiting().filter(|_| self.unsent.is_empty()) else {
                // An answer ahead of its command was not an answer to it, whoever put it there.
                return self.unsound(format!("{} spoke out of turn: it was not asked", self.remote));
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

    /// The connection is of no use any more.
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
            // In TLS 1.3 a peer that does not like the handshake says so when it is over.
            Phase::Ehlo => self.security != self.conduct.security,
            _ => false,
        };
        let fault = if *how == Lost::TimedOut { Fault::Unsound } else { Fault::Dropped };
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
            Phase::Handshaking | Phase::Ready { .. } | Phase::Ended(_) => None,
        }
    }

    /// The step under way, for messages.
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
                    self.fall(Fault::Refused, diagnostic);
                } else {
                    self.leave(End::Route(diagnostic));
                }
            }
            Phase::InTransaction(running) => {
                let next = running.take_reply(reply, to, &self.remote);
                self.go_on(next);
            }
            Phase::Quitting(end) => self.phase = Phase::Ended(mem::replace(end, End::Quit)),
            Phase::Handshaking | Phase::Ready { .. } | Phase::Ended(_) => {}
        }
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Send(commands) => self.unsent = commands,
            Next::Done { undecided, is_open } => {
                let phase = mem::replace(&mut self.phase, Phase::Ready { is_open });
                if let Phase::InTransaction(running) = phase {
                    self.finished = Some(running.finish(undecided.as_ref()));
                    self.served = self.served.saturating_add(1);
                }
            }
            Next::NoChunks => {
                // Whoever offers what it does not know gets it the other way; all its recipients are tried again.
                self.forgo_chunks();
                self.go_on(Next::Done { undecided: None, is_open: true });
            }
            Next::Refused(diagnostic) => self.fall(Fault::Refused, diagnostic),
            Next::Unsound(diagnostic) => self.fall(Fault::Unsound, diagnostic),
        }
    }

    /// Hands a command out and waits for its reply.
    fn say(&mut self, command: &Command, then: Phase) {
        print(command, &mut self.unsent);
        self.phase = then;
    }

    /// Ends the session in good order (RFC 5321 §4.1.1.10).
    fn leave(&mut self, end: End) {
        self.say(&Command::Quit, Phase::Quitting(end));
    }

    fn unsound(&mut self, text: String) {
        // What comes in clear where TLS was to begin is no handshake.
        self.has_tls_failed |= matches!(self.phase, Phase::Handshaking);
        let status = EnhancedStatus::PROTOCOL_TROUBLE.with_class(Class::Transient);
        self.fall(Fault::Unsound, self.own_words(status, text));
    }

    /// Ends the session here and now.
    fn fall(&mut self, fault: Fault, diagnostic: Diagnostic) {
        self.unsent.clear();
        let had_served = self.served > 0;
        let end = match mem::replace(&mut self.phase, Phase::Ended(End::Quit)) {
            Phase::Quitting(end) | Phase::Ended(end) => end,
            Phase::Ready { .. } if had_served => End::Reconnect(diagnostic),
            Phase::InTransaction(running) if had_served && !running.is_mail_answered() => {
                self.finished = Some(running.finish(None));
                End::Reconnect(diagnostic)
            }
            Phase::InTransaction(running) => {
                self.knows_no_chunks |= running.is_at_chunk();
                let is_at_end = matches!(running.waiting(), Some(Waiting::FinalDot | Waiting::LastChunk));
                let is_blameless = fault == Fault::Refused && !is_at_end;
                let undecided = (!is_blameless).then(|| Outcome::Deferred(diagnostic.clone()));
                self.finished = Some(running.finish(undecided.as_ref()));
                if fault == Fault::Dropped { End::Dropped(diagnostic) } else { End::Route(diagnostic) }
            }
            Phase::Greeting
            | Phase::Ehlo
            | Phase::Helo
            | Phase::StartTls
            | Phase::Handshaking
            | Phase::Ready { .. } => End::Route(diagnostic),
            // Who ends the session after a wrong password has said before what is wrong.
            Phase::Auth(..) => End::Route(self.refusal.take().unwrap_or(diagnostic)),
        };
        self.phase = Phase::Ended(end);
    }

    /// RFC 1870 §6.1: a message over the peer's limit is not worth a MAIL. An offer of 0 is no limit.
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

/// The diagnostic for a reply. `unless` gives the status where the reply has none (RFC 2034 is not spoken everywhere),
/// and the class in any case: what pauses a route is temporary, whatever the reply says.
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
    // Writing to a Vec can't fail.
    let _ = write!(out, "{command}\r\n");
}

#[cfg(test)]
mod tests;
