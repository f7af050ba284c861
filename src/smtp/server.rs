//! The SMTP server's session: which command is allowed when, and what is answered (RFC 5321 §4.1.4, §4.3.2).
//!
//! It has no socket, no clock and no disk: the caller hands it lines and verdicts, and does what the [`Action`] says.
//! It never decides who may send what to whom, or whether there is room: that it asks.
//!
//! The whole of it on a card (✓ allowed; a number is the reply otherwise; every state allows EHLO, HELO, RSET, NOOP,
//! HELP, VRFY 252, EXPN 502 and QUIT):
//!
//! ```text
//! state          STARTTLS AUTH   MAIL   RCPT   DATA   BDAT     leaves it by
//! Connected        503    503    503    503    503    503      EHLO, HELO → Greeted
//! Greeted          ✓      ✓      ✓      503    503    503      MAIL → InTransaction; STARTTLS → Connected; AUTH → LoggingIn
//! LoggingIn        –      every line belongs to the exchange       its end → Greeted
//! InTransaction    503    503    503    ✓      ✓      ✓        DATA → ReceivingData; BDAT → Chunking; RSET, EHLO, HELO → Greeted
//!                                              (554 when there is no recipient)
//! ReceivingData    –      –      everything is data   –        end of data → Greeted
//! Chunking         503    503    503    503    503    ✓        last or refused chunk, RSET, EHLO, HELO → Greeted
//! Closed           nothing is read any more
//!
//! STARTTLS is 502 where it is not offered, 503 once TLS is active, and 454 if the handshake can't begin. After its 220
//! nothing that was said before counts (RFC 3207 §4.2); the count of errors does, or it would have no end. Where TLS is
//! required, MAIL is 530 and AUTH 538 in clear.
//!
//! AUTH is 502 where no login is taken, 538 in clear where it is taken within TLS, 503 after EHLO was left out or a login;
//! MAIL is 530 on submission without a login. LMTP says LHLO where SMTP says EHLO and HELO, has 503 for a transaction
//! without recipients, and answers the end of data once for each recipient (RFC 2033 §4).
//!
//! Bare names (`MAIL FROM:<root>`) are 501, unless the client is trusted or has logged in. MAIL that came in one piece
//! with EHLO is 503 and the end; HTTP is 421 and the end.
//!
//! The octets of a chunk are read whatever the answer to its BDAT is: they are never taken for commands (RFC 3030 §2).
//! ```

mod access;
mod auth;
mod envelope;

pub use self::envelope::Home;

pub use access::{Access, Logins, StartTls};

use crate::mail::address::{ForwardPath, ReversePath};
use crate::mail::header::split_field;
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::smtp::command::{ClientName, Command, CommandError, VERBS};
use crate::smtp::extension::{self, MailParameters, Offer, RcptParameters};
use crate::smtp::limits::{AUTH_LINE_MAX_OCTETS, COMMAND_LINE_MAX_OCTETS, IDLE_COMMANDS_MAX};
use crate::smtp::line::Line;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::sasl::{Credentials, Exchange, Mechanism};
use std::borrow::Cow;
use std::sync::Arc;

/// What a session needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The name in the greeting and in the reply to EHLO.
    pub hostname: String,
    /// The domains of bare names.
    pub home: Home,
    /// What the extensions offer.
    pub offer: Offer,
    /// Most recipients of a transaction; the next one gets 452.
    pub recipients: usize,
    /// Replies of 5yz in a session; the next one becomes 421.
    pub errors: u32,
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Service {
    /// SMTP between servers (RFC 5321).
    #[default]
    Smtp,
    /// Submission by those who log in (RFC 6409).
    Submission,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// A mail transaction (§3.3). `R` is what the caller makes of an accepted recipient.
#[derive(Debug)]
pub struct Transaction<R> {
    /// The argument of MAIL.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients accepted so far, in their order.
    pub recipients: Vec<R>,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action<R> {
    /// Send this and read on.
    Reply(Reply),
    /// Make ready for a TLS handshake; then call [`Session::tls_verdict`].
    AskTls,
    /// Send this, throw away all that was read, and shake hands: the session goes on within TLS.
    StartTls(Reply),
    /// Decide whether these are somebody's name and password; then call [`Session::login_verdict`].
    AskLogin(Credentials, Mechanism),
    /// Send this as often: LMTP answers for each recipient.
    ReplyEach(Reply, usize),
    /// Decide about the reverse-path of MAIL; then call [`Session::sender_verdict`].
    AskSender(ReversePath, MailParameters),
    /// Decide about a recipient; then call [`Session::recipient_verdict`].
    AskRecipient(ForwardPath, RcptParameters),
    /// Make ready to take the message; then call [`Session::data_verdict`].
    AskData(Transaction<R>),
    /// Read this chunk; with a transaction it is the first of its message. Then call [`Session::chunk_verdict`].
    ReadChunk(Option<Transaction<R>>, Chunk),
    /// Read the octets of a chunk, make no use of them, and send this.
    SkipChunk(u64, Reply),
    /// Send this and end the connection.
    Close(Reply),
}

/// A piece of a message that came with BDAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its size.
    pub octets: u64,
    /// It is the last of its message.
    pub is_last: bool,
}

#[derive(Debug)]
enum State<R> {
    Connected,
    Greeted,
    /// The next line is the exchange's.
    LoggingIn(Mechanism, Exchange),
    /// Name and password are with the caller.
    AskingLogin(String),
    /// MAIL is with the caller.
    AskingSender(ReversePath, MailParameters),
    InTransaction(Transaction<R>),
    /// DATA is with the caller, who has the transaction.
    AskingData,
    ReceivingData,
    /// Between the chunks of a message, or while the caller reads one.
    Chunking,
    Closed,
}

/// One session, from the greeting to QUIT.
#[derive(Debug)]
pub struct Session<R> {
    terms: Arc<Terms>,
    state: State<R>,
    client: Option<(ClientName, bool)>,
    service: Service,
    access: Access,
    is_secured: bool,
    is_trusted: bool,
    /// More has come behind the line in hand.
    is_followed: bool,
    /// The client did not wait for the reply to its EHLO.
    is_hasty: bool,
    login: Option<String>,
    /// Recipients of the message that is coming in.
    recipients: usize,
    errors: u32,
    idle_commands: u32,
}

impl<R> Session<R> {
    /// A session to which nothing was said yet.
    #[must_use]
    pub const fn new(terms: Arc<Terms>) -> Self {
        Self {
            terms,
            state: State::Connected,
            client: None,
            service: Service::Smtp,
            access: Access::DEFAULT,
            is_secured: false,
            is_trusted: false,
            is_followed: false,
            is_hasty: false,
            login: None,
            recipients: 0,
            errors: 0,
            idle_commands: 0,
        }
    }

    /// Says what is spoken, and what the client may ask for.
    pub const fn serve(&mut self, service: Service, access: Access) {
        (self.service, self.access) = (service, access);
    }

    /// Says whether the client is one of this host's own before it logs in (`relay.trusted_networks`).
    pub const fn trust(&mut self, is_trusted: bool) {
        self.is_trusted = is_trusted;
    }

    /// Says whether more has come behind the line that is handed over next: the client did not wait for its reply.
    pub const fn follow(&mut self, is_followed: bool) {
        self.is_followed = is_followed;
    }

    /// TLS was there before the greeting (RFC 8314 §3.3).
    pub const fn within_tls(&mut self) {
        self.is_secured = true;
    }

    /// What is spoken.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// The name of the client that has logged in.
    #[must_use]
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// The greeting (§3.1).
    #[must_use]
    pub fn greeting(&self) -> Reply {
        Reply::plain(220, format!("{} {} pillarbox", self.terms.hostname, self.protocol()))
    }

    /// How the client named itself.
    #[must_use]
    pub fn client_name(&self) -> Option<&str> {
        self.client.as_ref().map(|(name, _)| name.as_str())
    }

    /// Whether the client said EHLO.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.client.as_ref().is_some_and(|(_, extended)| *extended)
    }

    /// Whether a transaction is open, so that a shutdown waits for it.
    #[must_use]
    pub const fn is_in_transaction(&self) -> bool {
        !matches!(self.state, State::Connected | State::Greeted | State::LoggingIn(..) | State::Closed)
    }

    /// The transaction that is open and has no data yet.
    #[must_use]
    pub const fn transaction(&self) -> Option<&Transaction<R>> {
        match &self.state {
            State::InTransaction(transaction) => Some(transaction),
            _ => None,
        }
    }

    /// Whether what comes next goes on with a command that was said before: AUTH, or a message by BDAT.
    #[must_use]
    pub const fn is_within_command(&self) -> bool {
        matches!(self.state, State::LoggingIn(..) | State::Chunking)
    }

    fn protocol(&self) -> &'static str {
        if self.service == Service::Lmtp { "LMTP" } else { "ESMTP" }
    }

    /// Longest line that the client may send now, with its CRLF, in octets; `start` is what has come of it.
    #[must_use]
    pub fn line_max_octets(&self, start: &[u8]) -> usize {
        let is_auth = || start.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        match self.state {
            State::LoggingIn(..) => AUTH_LINE_MAX_OCTETS,
            State::Greeted if self.may_log_in() && is_auth() => AUTH_LINE_MAX_OCTETS,
            _ => COMMAND_LINE_MAX_OCTETS,
        }
    }

    /// Takes a line of the command phase, or of the exchange that follows AUTH.
    pub fn line(&mut self, line: &Line<'_>) -> Action<R> {
        let still_hasty = self.is_hasty && self.is_followed;
        let is_hasty = std::mem::replace(&mut self.is_hasty, still_hasty);
        if let State::LoggingIn(..) = self.state {
            return self.exchange_line(line);
        }
        let syntax_error = |text| Reply::new(500, EnhancedStatus::SYNTAX_ERROR, text);
        let text = match line {
            Line::Text(text) => text,
            Line::Malformed => {
                return self.reply(syntax_error("end each line with CRLF; no CR, LF or NUL within it"));
            }
            Line::TooLong => return self.reply(syntax_error("the line is too long")),
        };
        match Command::parse(text) {
            // Scripts in browsers, and whoever can have a proxy send what he likes, hide mail in what is another protocol's.
            Ok(Command::Mail(..)) if is_hasty => self.close(out_of_sequence("wait for the reply to EHLO")),
            Ok(command) => self.command(command),
            Err(error @ (CommandError::BadChunk | CommandError::Http)) => self.close(error.reply()),
            Err(CommandError::Unrecognized)
                if matches!(self.state, State::Connected) && split_field(text).is_some() =>
            {
                self.close(CommandError::Http.reply())
            }
            Err(error) => self.reply(error.reply()),
        }
    }

    fn command(&mut self, command: Command) -> Action<R> {
        if !matches!(
            command,
            Command::Mail(..) | Command::Rcpt(..) | Command::Data | Command::Bdat(..) | Command::Quit
        ) {
            self.idle_commands += 1;
            if self.idle_commands > IDLE_COMMANDS_MAX {
                return self.close(Reply::new(
                    421,
                    EnhancedStatus::POLICY_NOW,
                    "too many commands without mail",
                ));
            }
        }
        match command {
            Command::Ehlo(_) | Command::Helo(_) if self.service == Service::Lmtp => {
                self.reply(Reply::new(500, EnhancedStatus::INVALID_COMMAND, "this is LMTP; say LHLO"))
            }
            Command::Lhlo(_) if self.service != Service::Lmtp => {
                self.reply(Reply::new(500, EnhancedStatus::INVALID_COMMAND, "this is SMTP; say EHLO"))
            }
            Command::Ehlo(name) | Command::Lhlo(name) => self.hello(name, true),
            Command::Helo(name) => self.hello(name, false),
            Command::Auth(mechanism, response) => self.auth(&mechanism, response.as_ref()),
            Command::StartTls => match self.check_starttls() {
                Ok(()) => Action::AskTls,
                Err(reply) => self.reply(reply),
            },
            Command::Mail(path, parameters) => match self.check_mail(path.as_ref(), &parameters) {
                Ok((path, parameters)) => {
                    self.state = State::AskingSender(path.clone(), parameters.clone());
                    Action::AskSender(path, parameters)
                }
                Err(reply) => self.reply(reply),
            },
            Command::Rcpt(path, parameters) => match self.check_rcpt(&path, &parameters) {
                Ok((path, parameters)) => Action::AskRecipient(path, parameters),
                Err(reply) => self.reply(reply),
            },
            Command::Data => self.data(),
            Command::Bdat(octets, is_last) => self.chunk(Chunk { octets, is_last }),
            Command::Rset => {
                self.end_transaction();
                self.reply(ok("flushed"))
            }
            Command::Noop => self.reply(ok("at your service")),
            Command::Help => self.reply(Reply::new(214, EnhancedStatus::OK, self.verbs())),
            Command::Vrfy => {
                self.reply(Reply::new(252, EnhancedStatus::OK, "send some mail, and it will be tried"))
            }
            Command::Expn => {
                self.reply(Reply::new(502, EnhancedStatus::INVALID_COMMAND, "lists are not shown"))
            }
            Command::Quit => self.close(Reply::new(221, EnhancedStatus::OK, "bye")),
        }
    }

    /// EHLO and HELO end a transaction as RSET does (§4.1.4).
    fn hello(&mut self, name: ClientName, extended: bool) -> Action<R> {
        self.end_transaction();
        self.state = State::Greeted;
        self.client = Some((name, extended));
        self.is_hasty = self.is_followed;
        let mut reply = Reply::plain(250, self.terms.hostname.clone());
        if extended {
            reply.lines.extend(extension::offered_lines(&self.offer()).into_iter().map(Cow::Owned));
        }
        self.reply(reply)
    }

    /// What is offered now.
    fn offer(&self) -> Offer {
        let offer = self.terms.offer;
        Offer {
            starttls: self.has_starttls() && !self.is_secured,
            auth: self.may_log_in(),
            within_tls: self.is_secured,
            ..offer
        }
    }

    /// DATA and the first BDAT need a transaction with a recipient.
    fn take_transaction(&mut self) -> Result<Transaction<R>, Reply> {
        match std::mem::replace(&mut self.state, State::AskingData) {
            State::InTransaction(transaction) if !transaction.recipients.is_empty() => {
                self.recipients = transaction.recipients.len();
                Ok(transaction)
            }
            state => {
                let reply = match state {
                    State::InTransaction(_) if self.service == Service::Lmtp => {
                        out_of_sequence("no valid recipients")
                    }
                    // RFC 2920 §3.1: all of a pipelined group's RCPT were refused.
                    State::InTransaction(_) => {
                        Reply::new(554, EnhancedStatus::INVALID_COMMAND, "no valid recipients")
                    }
                    State::Chunking => out_of_sequence("the message goes on with BDAT"),
                    _ => out_of_sequence("say MAIL and RCPT first"),
                };
                self.state = state;
                Err(reply)
            }
        }
    }

    fn data(&mut self) -> Action<R> {
        match self.take_transaction() {
            Ok(transaction) => Action::AskData(transaction),
            Err(reply) => self.reply(reply),
        }
    }

    fn chunk(&mut self, chunk: Chunk) -> Action<R> {
        if matches!(self.state, State::Chunking) {
            return Action::ReadChunk(None, chunk);
        }
        match self.take_transaction() {
            Ok(transaction) => {
                self.state = State::Chunking;
                Action::ReadChunk(Some(transaction), chunk)
            }
            // The refusal counts as any other, but its chunk has to be read first.
            Err(reply) => match self.reply(reply) {
                Action::Reply(reply) => Action::SkipChunk(chunk.octets, reply),
                close => close,
            },
        }
    }

    /// Takes the decision about the sender.
    pub fn sender_verdict(&mut self, verdict: Result<(), Reply>) -> Action<R> {
        match (std::mem::replace(&mut self.state, State::Greeted), verdict) {
            (State::AskingSender(reverse_path, parameters), Ok(())) => {
                self.state =
                    State::InTransaction(Transaction { reverse_path, parameters, recipients: Vec::new() });
                self.reply(Reply::new(250, EnhancedStatus::SENDER_OK, "ok"))
            }
            (_, Ok(())) => self.reply(out_of_sequence("say MAIL first")),
            (_, Err(reply)) => self.reply(reply),
        }
    }

    /// Takes the decision about a recipient.
    pub fn recipient_verdict(&mut self, verdict: Result<R, Reply>) -> Action<R> {
        let reply = match (&mut self.state, verdict) {
            (State::InTransaction(transaction), Ok(recipient)) => {
                transaction.recipients.push(recipient);
                Reply::new(250, EnhancedStatus::RECIPIENT_OK, "ok")
            }
            (_, Ok(_)) => out_of_sequence("say MAIL first"),
            (_, Err(reply)) => reply,
        };
        self.reply(reply)
    }

    /// Takes the decision about DATA: with `Ok` the data follows, with `Err` the transaction is over.
    pub fn data_verdict(&mut self, verdict: Result<(), Reply>) -> Action<R> {
        match verdict {
            Ok(()) => {
                self.state = State::ReceivingData;
                self.reply(Reply::plain(354, "end the data with <CRLF>.<CRLF>"))
            }
            Err(reply) => {
                self.state = State::Greeted;
                self.reply(reply)
            }
        }
    }

    /// Whether a message is coming in by BDAT and has not ended: what the caller has of it is to be kept.
    #[must_use]
    pub const fn is_chunking(&self) -> bool {
        matches!(self.state, State::Chunking)
    }

    /// Takes what became of a chunk: `Ok(None)`, more are to come; an id, it was the last and the message is taken.
    pub fn chunk_verdict(&mut self, verdict: Result<Option<QueueId>, Reply>, chunk: Chunk) -> Action<R> {
        match verdict.transpose() {
            None => self.reply(ok(format!("{} octets taken", chunk.octets))),
            // The client waits for as many replies as there are recipients after the last chunk alone.
            Some(Err(reply)) if !chunk.is_last => {
                self.state = State::Greeted;
                self.reply(reply)
            }
            Some(verdict) => self.end_of_data(verdict),
        }
    }

    /// Takes what became of the message, once the end of its data has been read.
    pub fn end_of_data(&mut self, verdict: Result<QueueId, Reply>) -> Action<R> {
        self.state = State::Greeted;
        let action = match verdict {
            Ok(id) => {
                self.idle_commands = 0;
                self.reply(ok(format!("Ok: {id}")))
            }
            Err(reply) => self.reply(reply),
        };
        match action {
            Action::Reply(reply) if self.service == Service::Lmtp => {
                Action::ReplyEach(reply, self.recipients)
            }
            action => action,
        }
    }

    /// The reply that ends the session because of this host: shutdown, a deadline, no resources (§3.8).
    pub fn abort(&mut self, status: EnhancedStatus, text: &'static str) -> Reply {
        self.state = State::Closed;
        Reply::new(421, status, format!("{} {text}", self.terms.hostname))
    }

    fn end_transaction(&mut self) {
        if !matches!(self.state, State::Connected) {
            self.state = State::Greeted;
        }
    }

    /// Sends the reply, unless it is one error too many.
    fn reply(&mut self, reply: Reply) -> Action<R> {
        if reply.severity() == Severity::Permanent {
            if self.errors >= self.terms.errors {
                return self.close(Reply::new(421, EnhancedStatus::POLICY_NOW, "too many errors"));
            }
            self.errors += 1;
        }
        Action::Reply(reply)
    }

    /// The verbs of what is spoken.
    fn verbs(&self) -> String {
        let others: &[&str] = match self.service {
            Service::Smtp | Service::Submission => &["LHLO"],
            Service::Lmtp => &["EHLO", "HELO"],
        };
        let is_own = |verb: &&str| match *verb {
            "AUTH" => self.access.logins != Logins::Never,
            verb => !others.contains(&verb),
        };
        let own: Vec<&str> = VERBS.into_iter().filter(is_own).collect();
        own.join(" ")
    }

    fn say_hello_first(&self) -> Reply {
        out_of_sequence(if self.service == Service::Lmtp { "say LHLO first" } else { "say EHLO first" })
    }

    fn close(&mut self, reply: Reply) -> Action<R> {
        self.state = State::Closed;
        Action::Close(reply)
    }
}

fn ok(text: impl Into<Cow<'static, str>>) -> Reply {
    Reply::new(250, EnhancedStatus::OK, text)
}

fn out_of_sequence(text: &'static str) -> Reply {
    Reply::new(503, EnhancedStatus::INVALID_COMMAND, text)
}

#[cfg(test)]
mod tests;
