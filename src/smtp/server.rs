//! The SMTP server's session: which command is allowed when, and what is answered (RFC 5321 §4.1.4, §4.3.2).
//!
//! It has no socket, no clock and no disk: the caller passes it lines and verdicts, and does what the [`Action`]
//! says. It never decides who may send what to whom, or whether there is room: it asks the caller.
//!
//! The state table (✓ allowed; a number is the reply otherwise; every state allows EHLO, HELO, RSET, NOOP, HELP, VRFY
//! 252, EXPN 502 and QUIT):
//!
//! ```text
//! state          STARTTLS AUTH   MAIL   RCPT   DATA   BDAT     leaves it by
//! Connected        503    503    503    503    503    503      EHLO, HELO → Greeted
//! Greeted          ✓      ✓      ✓      503    503    503      MAIL → InTransaction; STARTTLS → Connected; AUTH → LoggingIn
//! LoggingIn        –      every line belongs to the exchange       its end → Greeted
//! InTransaction    503    503    503    ✓      ✓      ✓        DATA → ReceivingData; BDAT → Chunking; RSET, EHLO, HELO → Greeted
//!                                              (554 without a recipient)
//! ReceivingData    –      –      everything is data   –        end of data → Greeted
//! Chunking         503    503    503    503    503    ✓        last or refused chunk, RSET, EHLO, HELO → Greeted
//! Closed           nothing more is read
//! ```
//!
//! - STARTTLS is 502 where it is not offered, 503 once TLS is active, and 454 if the handshake cannot begin. After its
//!   220 everything said before is forgotten (RFC 3207 §4.2), except the count of errors, which would otherwise have no
//!   limit. Where TLS is required, MAIL is 530 and AUTH 538 in clear.
//! - AUTH is 502 where logins are not accepted, 538 in clear where they are accepted only within TLS, 503 before EHLO or
//!   after a login; MAIL is 530 on submission without a login.
//! - LMTP uses LHLO in place of EHLO and HELO, answers 503 to a transaction without recipients, and answers the end of
//!   data once for each recipient (RFC 2033 §4).
//! - Bare names (`MAIL FROM:<root>`) are 501, unless the client is trusted or has logged in.
//! - MAIL sent without waiting for the reply to EHLO is 503 and ends the session; HTTP is 421 and ends it.
//! - The octets of a chunk are read whatever the reply to its BDAT is: they are never taken for commands (RFC 3030 §2).
//!
//! Each question to the caller has one answer, which the caller gives before it passes the next line:
//!
//! | action | the caller decides | and answers by |
//! | --- | --- | --- |
//! | [`Action::AskTls`] | whether a handshake can begin | [`ServerSession::tls_verdict`] |
//! | [`Action::AskLogin`] | whether name and password are right | [`ServerSession::login_verdict`] |
//! | [`Action::AskSender`] | whether the reverse-path is accepted | [`ServerSession::sender_verdict`] |
//! | [`Action::AskRecipient`] | whether the recipient is accepted, and where it goes | [`ServerSession::recipient_verdict`] |
//! | [`Action::AskData`] | whether the message can be received | [`ServerSession::data_verdict`], then [`ServerSession::end_of_data`] |
//! | [`Action::ReadChunk`] | whether the chunk, and after the last one the message, is accepted | [`ServerSession::chunk_verdict`] |
//!
//! Two counters end a session with 421: replies of 5yz ([`ServerTerms::errors`]) and commands that move no mail
//! ([`IDLE_COMMANDS_MAX`]).

mod access;
mod auth;
mod envelope;
mod message;

pub use self::envelope::Home;

pub use access::{ClientAccess, LoginPolicy, StartTls};

use crate::mail::address::{ForwardPath, ReversePath};
use crate::mail::header::split_field;
use crate::mail::status::EnhancedStatus;
use crate::smtp::command::{ClientName, Command, CommandError, VERBS};
use crate::smtp::extension::{self, MailParameters, Offer, RcptParameters};
use crate::smtp::limits::{AUTH_LINE_MAX_OCTETS, COMMAND_LINE_MAX_OCTETS, IDLE_COMMANDS_MAX};
use crate::smtp::line::Line;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::sasl::{Credentials, ServerExchange, ServerMechanism};
use std::borrow::Cow;
use std::sync::Arc;

/// What a session needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct ServerTerms {
    /// The name in the greeting and in the reply to EHLO.
    pub hostname: String,
    /// The domains that complete bare names.
    pub home: Home,
    /// What the extensions offer.
    pub offer: Offer,
    /// Most recipients in a transaction; the next one gets 452.
    pub recipients: usize,
    /// Most replies of 5yz in a session; the next one becomes 421.
    pub errors: u32,
}

/// The protocol spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Service {
    /// SMTP between servers (RFC 5321).
    #[default]
    Smtp,
    /// Submission by clients that log in (RFC 6409).
    Submission,
    /// LMTP (RFC 2033).
    Lmtp,
}

/// A mail transaction (§3.3). `R` is what the caller stores for an accepted recipient.
#[derive(Debug)]
pub struct ServerTransaction<R> {
    /// The argument of MAIL.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The accepted recipients, in their order.
    pub recipients: Vec<R>,
}

/// What the caller has to do.
#[derive(Debug)]
pub enum Action<R> {
    /// Send this reply and continue to read.
    Reply(Reply),
    /// Prepare for a TLS handshake; then call [`ServerSession::tls_verdict`].
    AskTls,
    /// Send this, discard all that was read, and perform the handshake: the session continues within TLS.
    StartTls(Reply),
    /// Check this name and password; then call [`ServerSession::login_verdict`].
    AskLogin(Credentials, ServerMechanism),
    /// Send this reply so many times: LMTP answers for each recipient.
    ReplyEach(Reply, usize),
    /// Decide about the reverse-path of MAIL; then call [`ServerSession::sender_verdict`].
    AskSender(ReversePath, MailParameters),
    /// Decide about a recipient; then call [`ServerSession::recipient_verdict`].
    AskRecipient(ForwardPath, RcptParameters),
    /// Prepare to receive the message; then call [`ServerSession::data_verdict`].
    AskData(ServerTransaction<R>),
    /// Read this chunk; with a transaction it is the first of its message. Then call [`ServerSession::chunk_verdict`].
    ReadChunk(Option<ServerTransaction<R>>, Chunk),
    /// Read and discard the octets of a chunk, and send this.
    SkipChunk(u64, Reply),
    /// Send this and end the connection.
    Close(Reply),
}

/// A piece of a message sent by BDAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Its size in octets.
    pub octets: u64,
    /// Whether it is the last of its message.
    pub is_last: bool,
}

#[derive(Debug)]
enum SessionState<R> {
    Connected,
    Greeted,
    /// The next line belongs to the exchange.
    LoggingIn(ServerMechanism, ServerExchange),
    /// The caller checks name and password.
    AskingLogin(String),
    /// The caller decides about MAIL.
    AskingSender(ReversePath, MailParameters),
    InTransaction(ServerTransaction<R>),
    /// The caller decides about DATA, and has the transaction.
    AskingData,
    ReceivingData,
    /// Between the chunks of a message, or while the caller reads one.
    Chunking,
    Closed,
}

/// One session, from the greeting to QUIT.
#[derive(Debug)]
pub struct ServerSession<R> {
    terms: Arc<ServerTerms>,
    state: SessionState<R>,
    client: Option<(ClientName, bool)>,
    service: Service,
    access: ClientAccess,
    is_secured: bool,
    is_trusted: bool,
    /// More input has arrived behind the current line.
    is_followed: bool,
    /// The client did not wait for the reply to its EHLO.
    is_hasty: bool,
    login: Option<String>,
    /// How many recipients the message has that is being received.
    recipients: usize,
    errors: u32,
    idle_commands: u32,
}

impl<R> ServerSession<R> {
    /// A session that has not received anything.
    #[must_use]
    pub const fn new(terms: Arc<ServerTerms>) -> Self {
        Self {
            terms,
            state: SessionState::Connected,
            client: None,
            service: Service::Smtp,
            access: ClientAccess::DEFAULT,
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

    /// Sets the protocol, and what the client may ask for.
    pub const fn serve(&mut self, service: Service, access: ClientAccess) {
        (self.service, self.access) = (service, access);
    }

    /// Sets whether the client is one of this host's own before it logs in (`relay.trusted_networks`).
    pub const fn trust(&mut self, is_trusted: bool) {
        self.is_trusted = is_trusted;
    }

    /// Sets whether more input follows the next line: the client did not wait for the reply to that line.
    pub const fn follow(&mut self, is_followed: bool) {
        self.is_followed = is_followed;
    }

    /// Reports that TLS was active before the greeting (RFC 8314 §3.3).
    pub const fn within_tls(&mut self) {
        self.is_secured = true;
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
        !matches!(
            self.state,
            SessionState::Connected
                | SessionState::Greeted
                | SessionState::LoggingIn(..)
                | SessionState::Closed
        )
    }

    /// The open transaction, until its data begins.
    #[must_use]
    pub const fn transaction(&self) -> Option<&ServerTransaction<R>> {
        match &self.state {
            SessionState::InTransaction(transaction) => Some(transaction),
            _ => None,
        }
    }

    /// Whether the next line continues an earlier command: AUTH, or a message by BDAT.
    #[must_use]
    pub const fn is_within_command(&self) -> bool {
        matches!(self.state, SessionState::LoggingIn(..) | SessionState::Chunking)
    }

    fn protocol(&self) -> &'static str {
        if self.service == Service::Lmtp { "LMTP" } else { "ESMTP" }
    }

    /// The longest line that the client may send now, in octets with CRLF; `start` is the part that has arrived.
    #[must_use]
    pub fn line_max_octets(&self, start: &[u8]) -> usize {
        let is_auth = || start.get(..5).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        match self.state {
            SessionState::LoggingIn(..) => AUTH_LINE_MAX_OCTETS,
            SessionState::Greeted if self.may_log_in() && is_auth() => AUTH_LINE_MAX_OCTETS,
            _ => COMMAND_LINE_MAX_OCTETS,
        }
    }

    /// Takes a line of the command phase, or of the exchange that follows AUTH.
    pub fn line(&mut self, line: &Line<'_>) -> Action<R> {
        let still_hasty = self.is_hasty && self.is_followed;
        let is_hasty = std::mem::replace(&mut self.is_hasty, still_hasty);
        if let SessionState::LoggingIn(..) = self.state {
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
            // Scripts in browsers, and attackers who control what a proxy sends, hide mail in another protocol.
            Ok(Command::Mail(..)) if is_hasty => self.close(out_of_sequence("wait for the reply to EHLO")),
            Ok(command) => self.command(command),
            Err(error @ (CommandError::BadChunk | CommandError::Http)) => self.close(error.reply()),
            Err(CommandError::Unrecognized)
                if matches!(self.state, SessionState::Connected) && split_field(text).is_some() =>
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
                    self.state = SessionState::AskingSender(path.clone(), parameters.clone());
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
            Command::Vrfy => self.reply(Reply::new(
                252,
                EnhancedStatus::OK,
                "cannot verify the user, but will accept the message and attempt delivery",
            )),
            Command::Expn => {
                self.reply(Reply::new(502, EnhancedStatus::INVALID_COMMAND, "EXPN is not supported"))
            }
            Command::Quit => self.close(Reply::new(221, EnhancedStatus::OK, "bye")),
        }
    }

    /// EHLO and HELO end a transaction as RSET does (§4.1.4).
    fn hello(&mut self, name: ClientName, extended: bool) -> Action<R> {
        self.end_transaction();
        self.state = SessionState::Greeted;
        self.client = Some((name, extended));
        self.is_hasty = self.is_followed;
        let mut reply = Reply::plain(250, self.terms.hostname.clone());
        if extended {
            reply.lines.extend(extension::offered_lines(&self.offer()).into_iter().map(Cow::Owned));
        }
        self.reply(reply)
    }

    /// What is offered at present.
    fn offer(&self) -> Offer {
        let offer = self.terms.offer;
        Offer {
            starttls: self.has_starttls() && !self.is_secured,
            auth: self.may_log_in(),
            within_tls: self.is_secured,
            // Submission takes no MAIL before a login, and few clients say EHLO again after it.
            dsn: self.is_own() || self.service == Service::Submission,
            ..offer
        }
    }

    /// Takes the caller's decision about the sender.
    pub fn sender_verdict(&mut self, verdict: Result<(), Reply>) -> Action<R> {
        match (std::mem::replace(&mut self.state, SessionState::Greeted), verdict) {
            (SessionState::AskingSender(reverse_path, parameters), Ok(())) => {
                self.state = SessionState::InTransaction(ServerTransaction {
                    reverse_path,
                    parameters,
                    recipients: Vec::new(),
                });
                self.reply(Reply::new(250, EnhancedStatus::SENDER_OK, "ok"))
            }
            (_, Ok(())) => self.reply(out_of_sequence("say MAIL first")),
            (_, Err(reply)) => self.reply(reply),
        }
    }

    /// Takes the caller's decision about a recipient.
    pub fn recipient_verdict(&mut self, verdict: Result<R, Reply>) -> Action<R> {
        let reply = match (&mut self.state, verdict) {
            (SessionState::InTransaction(transaction), Ok(recipient)) => {
                transaction.recipients.push(recipient);
                Reply::new(250, EnhancedStatus::RECIPIENT_OK, "ok")
            }
            (_, Ok(_)) => out_of_sequence("say MAIL first"),
            (_, Err(reply)) => reply,
        };
        self.reply(reply)
    }

    /// The reply that ends the session for a reason of this host: shutdown, a deadline, lack of resources (§3.8).
    pub fn abort(&mut self, status: EnhancedStatus, text: &'static str) -> Reply {
        self.state = SessionState::Closed;
        Reply::new(421, status, format!("{} {text}", self.terms.hostname))
    }

    fn end_transaction(&mut self) {
        if !matches!(self.state, SessionState::Connected) {
            self.state = SessionState::Greeted;
        }
    }

    /// Sends the reply, unless it exceeds the limit of errors.
    fn reply(&mut self, reply: Reply) -> Action<R> {
        if reply.severity() == Severity::Permanent {
            if self.errors >= self.terms.errors {
                return self.close(Reply::new(421, EnhancedStatus::POLICY_NOW, "too many errors"));
            }
            self.errors += 1;
        }
        Action::Reply(reply)
    }

    /// The verbs of the protocol spoken.
    fn verbs(&self) -> String {
        let others: &[&str] = match self.service {
            Service::Smtp | Service::Submission => &["LHLO"],
            Service::Lmtp => &["EHLO", "HELO"],
        };
        let is_own = |verb: &&str| match *verb {
            "AUTH" => self.access.logins != LoginPolicy::Never,
            verb => !others.contains(&verb),
        };
        let own: Vec<&str> = VERBS.into_iter().filter(is_own).collect();
        own.join(" ")
    }

    fn say_hello_first(&self) -> Reply {
        out_of_sequence(if self.service == Service::Lmtp { "say LHLO first" } else { "say EHLO first" })
    }

    fn close(&mut self, reply: Reply) -> Action<R> {
        self.state = SessionState::Closed;
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
