//! AUTH in the server's session (RFC 4954): who may log in when, and the lines of the exchange. The caller checks the
//! password.

use super::{Action, LoginPolicy, ServerSession, SessionState, out_of_sequence};
use crate::mail::status::EnhancedStatus;
use crate::smtp::line::Line;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{ExchangeStep, Secret, ServerExchange, ServerMechanism, accepted};

impl<R> ServerSession<R> {
    /// Whether AUTH is offered at present.
    pub(super) fn may_log_in(&self) -> bool {
        match self.access.logins {
            LoginPolicy::Never => false,
            LoginPolicy::WithinTls => self.is_secured,
            LoginPolicy::Always | LoginPolicy::Unchecked => !self.must_start_tls(),
        }
    }

    /// The reply to MAIL before AUTH (RFC 4954 §6).
    pub(super) fn login_first(&self) -> Reply {
        let text =
            if self.may_log_in() { "log in first, by AUTH" } else { "say STARTTLS, and log in by AUTH" };
        Reply::new(530, EnhancedStatus::SECURITY, text)
    }

    fn check_auth(&self, mechanism: &str) -> Result<ServerMechanism, Reply> {
        if self.access.logins == LoginPolicy::Never {
            let text = "there is no AUTH here; submission has a port of its own";
            return Err(Reply::new(502, EnhancedStatus::INVALID_COMMAND, text));
        }
        match self.state {
            // Also after HELO: the libraries of small boards do not send EHLO.
            SessionState::Greeted => {}
            SessionState::Connected => return Err(out_of_sequence("say EHLO first")),
            _ => return Err(out_of_sequence("a transaction is open; RSET ends it")),
        }
        if self.login.is_some() {
            return Err(out_of_sequence("you have logged in already"));
        }
        if !self.may_log_in() {
            let text = "no password in clear; say STARTTLS first";
            return Err(Reply::new(538, EnhancedStatus::AUTH_NEEDS_ENCRYPTION, text));
        }
        let unknown = || Reply::new(504, EnhancedStatus::INVALID_ARGUMENTS, "take PLAIN or LOGIN");
        ServerMechanism::parse(mechanism).ok_or_else(unknown)
    }

    pub(super) fn auth(&mut self, mechanism: &str, initial_response: Option<&Secret>) -> Action<R> {
        match self.check_auth(mechanism) {
            Ok(mechanism) => {
                self.step(mechanism, ServerExchange::begin(mechanism, initial_response.map(Secret::octets)))
            }
            Err(reply) => self.reply(reply),
        }
    }

    pub(super) fn exchange_line(&mut self, line: &Line<'_>) -> Action<R> {
        match std::mem::replace(&mut self.state, SessionState::Greeted) {
            SessionState::LoggingIn(mechanism, exchange) => self.step(mechanism, exchange.line(line)),
            state => {
                self.state = state;
                self.reply(out_of_sequence("say AUTH first"))
            }
        }
    }

    fn step(&mut self, mechanism: ServerMechanism, step: ExchangeStep) -> Action<R> {
        match step {
            ExchangeStep::Challenge(reply, exchange) => {
                self.state = SessionState::LoggingIn(mechanism, exchange);
                Action::Reply(reply)
            }
            // Devices send an empty password, names in Latin-1, or no base64.
            ExchangeStep::Malformed(_, Some(rest)) if self.access.logins == LoginPolicy::Unchecked => {
                self.step(mechanism, rest.challenge())
            }
            ExchangeStep::Done(_) | ExchangeStep::Malformed(..)
                if self.access.logins == LoginPolicy::Unchecked =>
            {
                self.logged_in(String::new())
            }
            ExchangeStep::Done(credentials) => {
                self.state = SessionState::AskingLogin(credentials.name.clone());
                Action::AskLogin(credentials, mechanism)
            }
            ExchangeStep::Malformed(reply, _) | ExchangeStep::Failed(reply) => self.reply(reply),
        }
    }

    fn logged_in(&mut self, name: String) -> Action<R> {
        self.login = Some(name);
        self.idle_commands = 0;
        self.reply(accepted())
    }

    /// Takes the caller's decision about name and password.
    pub fn login_verdict(&mut self, verdict: Result<(), Reply>) -> Action<R> {
        match (std::mem::replace(&mut self.state, SessionState::Greeted), verdict) {
            (SessionState::AskingLogin(name), Ok(())) => self.logged_in(name),
            (_, Ok(())) => self.reply(out_of_sequence("say AUTH first")),
            (_, Err(reply)) => self.reply(reply),
        }
    }
}
