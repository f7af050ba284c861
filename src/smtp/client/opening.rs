//! From the greeting to the first transaction: EHLO, TLS, EHLO again within it (RFC 3207 §4.2), and AUTH (RFC 4954).
//!
//! A failure here belongs to the route and not to a message: a wrong password, an expired certificate, a server that
//! no longer offers STARTTLS. The password is sent only over verified TLS or loopback.
//!
//! | `tls` | the peer offers STARTTLS | it does not | it refuses, or the handshake fails |
//! | --- | --- | --- | --- |
//! | `Off` | in clear | in clear | – |
//! | `WhereOffered` | TLS | in clear | refused: in clear; failed: the caller may connect again in clear ([`ClientSession::has_tls_failed`]) |
//! | `Required` | TLS | the route fails | the route fails |

use super::{ClientSession, Phase, SessionEnd, SessionFault, Waiting, answer};
use crate::mail::status::{Class, EnhancedStatus};
use crate::smtp::command::Command;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::sasl::Secret;
use crate::smtp::sasl::client::{
    AUTO, ChannelBinding, Client, ClientExchange, ClientMechanism, Failed, LoginAccount,
};
use std::mem;

/// How well the connection is protected against eavesdroppers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Not at all: every host on the way can read it.
    #[default]
    Clear,
    /// Against passive ones only: TLS with a certificate that was not verified.
    Unverified,
    /// Against active ones too: TLS with the intended host.
    Verified,
}

impl Security {
    /// Its name in the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clear => "none",
            Self::Unverified => "unverified",
            Self::Verified => "verified",
        }
    }
}

/// Whether the client uses STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsUse {
    /// Never.
    #[default]
    Off,
    /// If the peer offers it (RFC 7435).
    WhereOffered,
    /// Always: without it the session ends.
    Required,
}

/// The account for AUTH.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name; may be empty if the client certificate says who logs in.
    pub name: String,
    /// The password or token. `None`: the client certificate is all that there is.
    pub password: Option<Secret>,
    /// The TLS layer has a client certificate.
    pub has_certificate: bool,
    /// A word of [`crate::smtp::sasl::client::CHOICES`].
    pub choice: &'static str,
    /// The server's port, which OAUTHBEARER sends.
    pub port: u16,
    /// Random for each session, in base64.
    pub nonce: String,
    /// The caller can fetch another token if the peer refuses this one.
    pub renews: bool,
}

impl Login {
    /// Whether the handshake of TLS may be the whole login: a host that trusts the certificate need not offer EXTERNAL.
    fn is_certificate_alone(&self) -> bool {
        self.has_certificate && self.password.is_none() && self.choice == AUTO
    }
}

/// Options of a session.
#[derive(Debug, Clone, Default)]
pub struct SessionOptions {
    /// Speaks LMTP (RFC 2033).
    pub is_lmtp: bool,
    /// The protection before the greeting.
    pub security: Security,
    /// Whether to use STARTTLS if there is no TLS yet.
    pub tls: TlsUse,
    /// The peer is this host: there are no eavesdroppers, with or without TLS.
    pub is_loopback: bool,
    /// The account to log in with before the first transaction.
    pub login: Option<Login>,
    /// Binds the login to the TLS session that existed before the greeting (RFC 5929 §4).
    pub end_point: Option<Vec<u8>>,
}

impl ClientSession {
    pub(super) fn say_hello(&mut self) {
        let name = self.name.clone();
        let hello = if self.conduct.is_lmtp { Command::Lhlo(name) } else { Command::Ehlo(name) };
        self.say(&hello, Phase::Ehlo);
    }

    /// Whether HELO is possible: it has no extensions, so neither TLS nor AUTH; LMTP has no HELO.
    pub(super) fn may_say_helo(&self) -> bool {
        let needs_tls = self.conduct.tls == TlsUse::Required && self.security == Security::Clear;
        !self.conduct.is_lmtp && !needs_tls && self.conduct.login.is_none()
    }

    /// After EHLO: starts TLS if it is wanted and not active.
    pub(super) fn secure(&mut self) {
        match self.conduct.tls {
            TlsUse::WhereOffered | TlsUse::Required
                if self.security == Security::Clear && self.offer.starttls =>
            {
                self.say(&Command::StartTls, Phase::StartTls);
            }
            TlsUse::Required if self.security == Security::Clear => {
                let text = format!("{} does not offer STARTTLS, which is required for it", self.remote);
                self.route(EnhancedStatus::POLICY_NOW, text);
            }
            _ => self.log_in(),
        }
    }

    pub(super) fn starttls_answered(&mut self, reply: &Reply, to: Waiting) {
        match reply.severity() {
            Severity::Success => self.phase = Phase::Handshaking,
            Severity::Transient | Severity::Permanent
                if self.conduct.tls == TlsUse::WhereOffered && reply.code != 421 =>
            {
                self.log_in();
            }
            _ => self.leave(SessionEnd::Route(answer(&self.remote, reply, to, EnhancedStatus::POLICY_NOW))),
        }
    }

    /// Reports that TLS is active. Everything said in clear is forgotten (RFC 3207 §4.2).
    pub fn tls_established(&mut self, security: Security, end_point: Option<Vec<u8>>) {
        if matches!(self.phase, Phase::Handshaking) {
            self.security = security;
            self.conduct.end_point = end_point;
            self.say_hello();
        }
    }

    /// Reports that the handshake failed, with the reason. The connection can no longer be used.
    pub fn tls_failed(&mut self, reason: &str) {
        self.has_tls_failed = true;
        let text = format!("TLS with {}: {reason}", self.remote);
        self.fall(SessionFault::Unsound, self.own_words(EnhancedStatus::POLICY_NOW, text));
    }

    /// The current protection of the connection.
    #[must_use]
    pub const fn security(&self) -> Security {
        self.security
    }

    /// Whether TLS caused the end: the caller may try again in clear, where that is allowed.
    #[must_use]
    pub const fn has_tls_failed(&self) -> bool {
        self.has_tls_failed
    }

    /// Whether the peer has refused the login.
    #[must_use]
    pub const fn is_login_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// The token that the peer has refused, while another one is awaited.
    #[must_use]
    pub fn refused_token(&self) -> Option<&Secret> {
        let is_awaited = matches!(self.phase, Phase::Renewing(_));
        self.conduct.login.as_ref().filter(|_| is_awaited).and_then(|login| login.password.as_ref())
    }

    /// Takes another token in place of the one that the peer has refused. `None`: there is no other.
    pub fn token_renewed(&mut self, token: Option<Secret>) {
        let Phase::Renewing(mechanism) = self.phase else { return };
        let Some(login) = &mut self.conduct.login else { return };
        // Only once: a second refusal is about the account.
        login.renews = false;
        match token {
            Some(token) => {
                login.password = Some(token);
                self.is_retrying = true;
                self.log_in();
            }
            None => self.refused_by(mechanism),
        }
    }

    /// Whether the session ended before the peer answered the second token: a new session may work.
    #[must_use]
    pub const fn has_unanswered_token(&self) -> bool {
        self.is_retrying
    }

    /// Begins AUTH with the strongest mechanism that the peer has not refused.
    fn log_in(&mut self) {
        let Some(login) = &self.conduct.login else {
            self.phase = Phase::Ready { is_open: false };
            return;
        };
        let offered: Vec<&str> = self.offer.auth.iter().map(String::as_str).collect();
        let end_point = self.conduct.end_point.as_deref();
        let client = Client {
            offered: &offered,
            wanted: login.choice,
            is_private: self.security == Security::Verified || self.conduct.is_loopback,
            channel: end_point.map(|octets| ChannelBinding { name: "tls-server-end-point", octets }),
            has_certificate: login.has_certificate,
            has_password: login.password.is_some(),
        };
        let Some(mechanism) = client.choose(&self.refused) else {
            if login.is_certificate_alone() && self.refused.is_empty() {
                self.phase = Phase::Ready { is_open: false };
                return;
            }
            return self.no_way_in(client.is_private);
        };
        let (name, password, port) = (login.name.as_str(), login.password.as_ref(), login.port);
        let account = LoginAccount { name, password, host: &self.remote, port };
        // A nonce must not be used twice.
        let nonce = format!("{}{}", login.nonce, self.refused.len());
        match client.start(mechanism, &account, &nonce) {
            Ok((exchange, line)) => self.say_auth(mechanism, exchange, &line),
            Err(failed) => self.not_logged_in(failed),
        }
    }

    fn say_auth(&mut self, mechanism: ClientMechanism, exchange: ClientExchange, line: &Secret) {
        self.unsent.extend_from_slice(line.octets());
        self.unsent.extend_from_slice(b"\r\n");
        self.phase = Phase::Auth(mechanism, exchange);
    }

    fn no_way_in(&mut self, is_private: bool) {
        let remote = &self.remote;
        let text = if !is_private {
            format!(
                "the password is not sent to {remote} without verified TLS; use smtps:// or smtp+starttls://"
            )
        } else if self.offer.auth.is_empty() {
            format!("{remote} offers no AUTH; is this its port for submission?")
        } else {
            let offered = self.offer.auth.join(" ");
            format!("{remote} offers {offered} for AUTH, and none of them can be used here")
        };
        self.route(EnhancedStatus::POLICY_NOW, text);
    }

    pub(super) fn auth_answered(&mut self, reply: &Reply, to: Waiting) {
        let phase = mem::replace(&mut self.phase, Phase::Ready { is_open: false });
        let Phase::Auth(mechanism, mut exchange) = phase else { return };
        // A 421 is no answer to the token.
        self.is_retrying &= reply.code == 421 || reply.severity() == Severity::Intermediate;
        let text = reply.lines.first().map_or("", AsRef::as_ref);
        match reply.severity() {
            Severity::Intermediate => match exchange.answer(text.as_bytes()) {
                Ok(line) => self.say_auth(mechanism, exchange, &line),
                Err(failed) => self.not_logged_in(failed),
            },
            Severity::Success => match exchange.success(&reply.lines.join(" ")) {
                Ok(()) => {}
                Err(failed) => self.not_logged_in(failed),
            },
            Severity::Permanent => {
                let mut refusal = answer(
                    &self.remote,
                    reply,
                    to,
                    EnhancedStatus::INVALID_CREDENTIALS.with_class(Class::Transient),
                );
                if let (Some(reply), Some(error)) = (&mut refusal.reply, exchange.token_error()) {
                    reply.push_str(&format!(" ({error})"));
                }
                self.refusal = Some(refusal);
                let renews = self.conduct.login.as_ref().is_some_and(|login| login.renews);
                // 534 and 538 are about the mechanism (RFC 4954 §6).
                if renews && mechanism.takes_token() && !matches!(reply.code, 534 | 538) {
                    self.phase = Phase::Renewing(mechanism);
                    return;
                }
                if mechanism == ClientMechanism::Plain && reply.code == 535 {
                    // LOGIN would send the same wrong password again, and a server that counts failures would lock us
                    // out.
                    self.refused.push(ClientMechanism::Login);
                }
                self.refused_by(mechanism);
            }
            Severity::Transient => {
                let trouble = answer(&self.remote, reply, to, EnhancedStatus::POLICY_NOW);
                // After a refusal the first reply says more: this one is only its consequence.
                self.leave(SessionEnd::Route(self.refusal.clone().unwrap_or(trouble)));
            }
        }
    }

    /// Tries the next mechanism; if no mechanism is left, the last refusal says more than that.
    fn refused_by(&mut self, mechanism: ClientMechanism) {
        self.refused.push(mechanism);
        self.log_in();
        if let (Phase::Quitting(end), Some(refusal)) = (&mut self.phase, &self.refusal) {
            *end = SessionEnd::Route(refusal.clone());
        }
    }

    /// The server is not the one it claims to be, or breaks the protocol: the client sends nothing more.
    fn not_logged_in(&mut self, failed: Failed) {
        let text = format!("AUTH with {}: {}", self.remote, failed.0);
        self.fall(SessionFault::Unsound, self.own_words(EnhancedStatus::POLICY_NOW, text));
    }

    /// Ends the session by QUIT, with the blame on the route.
    fn route(&mut self, status: EnhancedStatus, text: String) {
        self.leave(SessionEnd::Route(self.own_words(status, text)));
    }
}
