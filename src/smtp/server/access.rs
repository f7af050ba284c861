//! What a client may ask for, decided by its listener and its address; and STARTTLS in the server's session (RFC
//! 3207). The caller performs the handshake.

use super::{Action, ServerSession, SessionState, out_of_sequence};
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
pub enum LoginPolicy {
    /// No.
    Never,
    /// Within TLS.
    WithinTls,
    /// In clear as well.
    Always,
    /// In clear as well, and by any name and password: nothing is checked, not even their form.
    Unchecked,
}

/// What a client may ask for, decided by its listener and its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAccess {
    /// STARTTLS.
    pub starttls: StartTls,
    /// AUTH.
    pub logins: LoginPolicy,
}

impl ClientAccess {
    /// The access of SMTP between servers.
    pub const DEFAULT: Self = Self { starttls: StartTls::Offered, logins: LoginPolicy::Never };
}

impl<R> ServerSession<R> {
    /// Whether STARTTLS is offered. If TLS is required and not available at present, it is offered and answered with
    /// a temporary 454, not a permanent 502.
    pub(super) fn has_starttls(&self) -> bool {
        match self.access.starttls {
            StartTls::Never => false,
            StartTls::Offered => self.terms.offer.starttls,
            StartTls::Required => true,
        }
    }

    /// Whether the client has to begin TLS before anything else.
    pub(super) fn must_start_tls(&self) -> bool {
        self.access.starttls == StartTls::Required && !self.is_secured
    }

    pub(super) fn check_starttls(&self) -> Result<(), Reply> {
        match self.state {
            _ if !self.has_starttls() => {
                Err(Reply::new(502, EnhancedStatus::INVALID_COMMAND, "TLS is not available here"))
            }
            _ if self.is_secured => Err(out_of_sequence("TLS is active already")),
            SessionState::Greeted => Ok(()),
            SessionState::Connected => Err(self.say_hello_first()),
            _ => Err(out_of_sequence("a transaction is open; RSET ends it")),
        }
    }

    /// Takes whether a TLS handshake can begin. If so, everything the client said is forgotten (RFC 3207 §4.2).
    pub fn tls_verdict(&mut self, is_ready: bool) -> Action<R> {
        if !is_ready {
            let text = "TLS is not available at present";
            return self.reply(Reply::new(454, EnhancedStatus::POLICY_NOW, text));
        }
        (self.state, self.client, self.is_secured) = (SessionState::Connected, None, true);
        self.login = None;
        Action::StartTls(Reply::new(220, EnhancedStatus::OK, "begin the handshake"))
    }
}
