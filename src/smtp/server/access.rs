//! What a client may ask for, by its listener and its address; and STARTTLS in the server's session (RFC 3207). The
//! handshake itself is the caller's.

use super::{Action, Session, State, out_of_sequence};
use crate::mail::status::EnhancedStatus;
use crate::smtp::reply::Reply;

/// Whether the client may say STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// No.
    Never,
    /// Yes, if there is a certificate.
    Offered,
    /// It must, before MAIL and AUTH.
    Required,
}

/// Whether the client may log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logins {
    /// No.
    Never,
    /// Within TLS.
    WithinTls,
    /// In clear too.
    Always,
}

/// What a client may ask for, by its listener and its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// STARTTLS.
    pub starttls: StartTls,
    /// AUTH.
    pub logins: Logins,
}

impl Access {
    /// That of SMTP between servers.
    pub const DEFAULT: Self = Self { starttls: StartTls::Offered, logins: Logins::Never };
}

impl<R> Session<R> {
    /// Required TLS that can't be had now is for later, not for ever.
    pub(super) fn has_starttls(&self) -> bool {
        match self.access.starttls {
            StartTls::Never => false,
            StartTls::Offered => self.terms.offer.starttls,
            StartTls::Required => true,
        }
    }

    /// Whether the client has to begin TLS before it may do more.
    pub(super) fn must_start_tls(&self) -> bool {
        self.access.starttls == StartTls::Required && !self.is_secured
    }

    pub(super) fn check_starttls(&self) -> Result<(), Reply> {
        match self.state {
            _ if !self.has_starttls() => {
                Err(Reply::new(502, EnhancedStatus::INVALID_COMMAND, "TLS is not available here"))
            }
            _ if self.is_secured => Err(out_of_sequence("TLS is active already")),
            State::Greeted => Ok(()),
            State::Connected => Err(self.say_hello_first()),
            _ => Err(out_of_sequence("a transaction is open; RSET ends it")),
        }
    }

    /// Takes whether a TLS handshake can begin. If so, what the client has said is forgotten (RFC 3207 §4.2).
    pub fn tls_verdict(&mut self, is_ready: bool) -> Action<R> {
        if !is_ready {
            let text = "TLS is not available for now";
            return self.reply(Reply::new(454, EnhancedStatus::POLICY_NOW, text));
        }
        (self.state, self.client, self.is_secured) = (State::Connected, None, true);
        self.login = None;
        Action::StartTls(Reply::new(220, EnhancedStatus::OK, "begin the handshake"))
    }
}
