//! From the greeting to the first transaction: EHLO, TLS, EHLO again within it (RFC 3207 §4.2), and AUTH (RFC 4954).
//!
//! What fails here is the route's, and no message's: a wrong password, a certificate that has ended, a server that lost
//! its STARTTLS. A password is sent where nobody listens, or not at all.

use super::{End, Fault, Phase, Session, Waiting, answer};
use crate::mail::status::{Class, EnhancedStatus};
use crate::smtp::command::Command;
use crate::smtp::reply::{Reply, Severity};
use crate::smtp::sasl::Secret;
use crate::smtp::sasl::client::{Account, ChannelBinding, Client, Exchange, Failed, Mechanism};
use std::mem;

/// Who can read along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// Everybody on the way.
    #[default]
    Clear,
    /// Whoever can stand in between: TLS, with a certificate that nobody looked at.
    Unverified,
    /// Nobody: TLS with the host that was meant.
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

/// Whether STARTTLS is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsUse {
    /// Never.
    #[default]
    Off,
    /// Where the peer offers it (RFC 7435).
    WhereOffered,
    /// Or there is no session.
    Required,
}

/// Who logs in.
#[derive(Debug, Clone)]
pub struct Login {
    /// The name.
    pub name: String,
    /// The password or token.
    pub password: Secret,
    /// A word of [`crate::smtp::sasl::client::CHOICES`].
    pub choice: &'static str,
    /// Port of the server, which OAUTHBEARER tells.
    pub port: u16,
    /// Random anew for each session, in base64.
    pub nonce: String,
}

/// How a session is to be led.
#[derive(Debug, Clone, Default)]
pub struct Conduct {
    /// LMTP is spoken (RFC 2033).
    pub is_lmtp: bool,
    /// What is there before the greeting.
    pub security: Security,
    /// Whether STARTTLS is said, unless there is TLS already.
    pub tls: TlsUse,
    /// The peer is this host: nobody listens, with TLS or without.
    pub is_loopback: bool,
    /// Logs in before the first transaction.
    pub login: Option<Login>,
    /// What ties the login to the TLS that was there before the greeting (RFC 5929 §4).
    pub end_point: Option<Vec<u8>>,
}

impl Session {
    pub(super) fn say_hello(&mut self) {
        let name = self.name.clone();
        let hello = if self.conduct.is_lmtp { Command::Lhlo(name) } else { Command::Ehlo(name) };
        self.say(&hello, Phase::Ehlo);
    }

    /// HELO has no extensions, so neither TLS nor AUTH; LMTP has no HELO.
    pub(super) fn may_say_helo(&self) -> bool {
        let needs_tls = self.conduct.tls == TlsUse::Required && self.security == Security::Clear;
        !self.conduct.is_lmtp && !needs_tls && self.conduct.login.is_none()
    }

    /// After EHLO: TLS, if it is wanted and not there yet.
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
            _ => self.leave(End::Route(answer(&self.remote, reply, to, EnhancedStatus::POLICY_NOW))),
        }
    }

    /// TLS is there: all that was said in clear is forgotten (RFC 3207 §4.2).
    pub fn tls_established(&mut self, security: Security, end_point: Option<Vec<u8>>) {
        if matches!(self.phase, Phase::Handshaking) {
            self.security = security;
            self.conduct.end_point = end_point;
            self.say_hello();
        }
    }

    /// The handshake has failed, for this reason; the connection is of no use any more.
    pub fn tls_failed(&mut self, reason: &str) {
        self.has_tls_failed = true;
        let text = format!("TLS with {}: {reason}", self.remote);
        self.fall(Fault::Unsound, self.own_words(EnhancedStatus::POLICY_NOW, text));
    }

    /// Who can read along now.
    #[must_use]
    pub const fn security(&self) -> Security {
        self.security
    }

    /// Whether TLS was to blame for the end: what the peer did not say within it, it may say in clear.
    #[must_use]
    pub const fn has_tls_failed(&self) -> bool {
        self.has_tls_failed
    }

    /// Whether the peer has refused the login.
    #[must_use]
    pub const fn is_login_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// Begins AUTH with the strongest mechanism that was not refused yet.
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
        };
        let Some(mechanism) = client.choose(&self.refused) else { return self.no_way_in(client.is_private) };
        let (name, password, port) = (login.name.as_str(), &login.password, login.port);
        let account = Account { name, password, host: &self.remote, port };
        // A nonce serves once.
        let nonce = format!("{}{}", login.nonce, self.refused.len());
        match client.start(mechanism, &account, &nonce) {
            Ok((exchange, line)) => self.say_auth(mechanism, exchange, &line),
            Err(failed) => self.not_logged_in(failed),
        }
    }

    fn say_auth(&mut self, mechanism: Mechanism, exchange: Exchange, line: &Secret) {
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
            format!("{remote} offers {offered} for AUTH, and nothing of it serves")
        };
        self.route(EnhancedStatus::POLICY_NOW, text);
    }

    pub(super) fn auth_answered(&mut self, reply: &Reply, to: Waiting) {
        let phase = mem::replace(&mut self.phase, Phase::Ready { is_open: false });
        let Phase::Auth(mechanism, mut exchange) = phase else { return };
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
                self.refused.push(mechanism);
                if mechanism == Mechanism::Plain && reply.code == 535 {
                    // LOGIN would tell the server the same wrong password once more, and who counts these locks us out.
                    self.refused.push(Mechanism::Login);
                }
                let refusal = answer(
                    &self.remote,
                    reply,
                    to,
                    EnhancedStatus::INVALID_CREDENTIALS.with_class(Class::Transient),
                );
                self.refusal = Some(refusal.clone());
                self.log_in();
                // There was no other: what the last one was told says more than that.
                if let Phase::Quitting(end) = &mut self.phase {
                    *end = End::Route(refusal);
                }
            }
            Severity::Transient => {
                let trouble = answer(&self.remote, reply, to, EnhancedStatus::POLICY_NOW);
                // After a refusal it is the price of it, and says less.
                self.leave(End::Route(self.refusal.clone().unwrap_or(trouble)));
            }
        }
    }

    /// The server is not the one that it claims to be, or speaks another language: nothing more is said to it.
    fn not_logged_in(&mut self, failed: Failed) {
        let text = format!("AUTH with {}: {}", self.remote, failed.0);
        self.fall(Fault::Unsound, self.own_words(EnhancedStatus::POLICY_NOW, text));
    }

    /// Ends the session in good order, because of the route.
    fn route(&mut self, status: EnhancedStatus, text: String) {
        self.leave(End::Route(self.own_words(status, text)));
    }
}
