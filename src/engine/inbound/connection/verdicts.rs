//! The decisions of a connection about its client: the login, the sender, each recipient; and the submission for
//! intake.
//!
//! | question | refused with |
//! | --- | --- |
//! | AUTH | 535 for a wrong name or password, after the wait of `rules::pacing::auth_failures`; 454 without a users file |
//! | MAIL | 550 for LMTP from untrusted clients; 450 beyond `limits.messages_per_minute_per_ip`; 452 without room on disk |
//! | RCPT: route | the reply of `rules::routing` for an unknown user or a failed look-up |
//! | RCPT: rights | the reply of `rules::routing::admission`: relaying is for trusted clients and logins |
//! | RCPT: room | 452 if the quota is used up, or no more Maildirs can be made |
//!
//! On LMTP a recipient that is not local is refused with 550. The rules apply in the order of the table.

use super::{Accepted, Connection, End};
use crate::config::{ListenerAuth, ListenerTls};
use crate::engine::host::certificate::Tls;
use crate::engine::host::logins::LoginVerdict;
use crate::engine::intake::submission::Submission;
use crate::engine::log::counters::Count;
use crate::engine::log::event::{Event, trouble};
use crate::mail::address::ForwardPath;
use crate::mail::message::Origin;
use crate::mail::status::EnhancedStatus;
use crate::net::handshake::Handshake;
use crate::rules::routing::route::{LocalUsers, Routed};
use crate::smtp::extension::MailParameters;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{self, Credentials, ServerMechanism};
use crate::smtp::server::{ClientAccess, LoginPolicy, ServerTransaction, Service, StartTls};
use crate::store::{free_space, has_room};
use std::net::IpAddr;

/// The login in the log of a client that may log in by any name.
const UNCHECKED: &str = "unchecked";

impl Connection<'_> {
    /// Whether the client may use STARTTLS and AUTH. On loopback nobody can read a password on its way, and few clients
    /// accept a self-signed certificate.
    pub(super) fn access(&self, is_loopback: bool) -> ClientAccess {
        let is_kept_back = |tls: &Tls| is_loopback && tls.is_self_signed() || tls.is_missing();
        let starttls = match self.listener.tls {
            ListenerTls::Require => StartTls::Required,
            ListenerTls::Offer if !self.site.tls.as_ref().is_some_and(is_kept_back) => StartTls::Offered,
            ListenerTls::Offer | ListenerTls::Off => StartTls::Never,
        };
        let logins = match self.service {
            _ if self.takes_any_login() => LoginPolicy::Unchecked,
            Service::Submission if is_loopback => LoginPolicy::Always,
            Service::Submission => LoginPolicy::WithinTls,
            Service::Smtp | Service::Lmtp => LoginPolicy::Never,
        };
        ClientAccess { starttls, logins }
    }

    /// Prepares a handshake; `None` without a certificate, or without memory for one.
    pub(super) fn prepare_handshake(&self) -> Option<Handshake> {
        let (now, minimum) = (self.intake.clock.now().wall, self.listener.tls_minimum);
        self.site.tls.as_ref()?.handshake(now, minimum, self.trusted)
    }

    /// Whether the client may log in by any name and password. The login gives it no right beyond those of its network.
    fn takes_any_login(&self) -> bool {
        self.trusted && self.listener.auth == ListenerAuth::Any
    }

    /// The name of a login whose password was checked.
    fn login(&self) -> Option<&str> {
        self.session.login().filter(|_| !self.takes_any_login())
    }

    /// Whether a login is accepted. An address that fails often waits longer for the answer, accepted or not: guessing
    /// gets slow, and the wait reveals nothing.
    #[inline(never)]
    pub(super) fn judge_login(
        &mut self,
        credentials: &Credentials,
        mechanism: ServerMechanism,
    ) -> Result<Result<(), Reply>, End> {
        self.flush()?;
        let wait = self.slot.login_wait(self.intake.clock.now().running);
        if !self.slot.pause(wait) {
            return Err(End::Aborted("is shutting down"));
        }
        Ok(match self.site.logins.check(credentials) {
            LoginVerdict::Right => {
                self.slot.logged_in();
                self.intake.counters.count(Count::LoginsRight);
                Ok(())
            }
            LoginVerdict::Wrong => {
                self.slot.login_failed(self.intake.clock.now().running);
                self.intake.counters.count(Count::LoginsWrong);
                let (client, name) = (&self.client.to_string(), credentials.name.as_str());
                Event::AuthFailed { client, name, mechanism: mechanism.keyword() }.log();
                Err(sasl::refused())
            }
            LoginVerdict::Unknown => Err(sasl::unavailable()),
        })
    }

    /// Whether the client may send another message now, and the disk has room for the size that MAIL announces.
    pub(super) fn judge_sender(&self, parameters: &MailParameters) -> Result<(), Reply> {
        if self.service == Service::Lmtp && !self.trusted {
            let text = "LMTP is for relay.trusted_networks";
            return Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, text));
        }
        let limit = self.site.settings.limits.messages_per_minute_per_ip;
        if limit > 0 && !self.slot.takes_message(self.intake.clock.now().running, limit) {
            let text = "too many messages in a minute; come again later";
            return Err(Reply::new(450, EnhancedStatus::POLICY_NOW, text));
        }
        let (kept, declared) = (self.site.settings.limits.free_space, parameters.size_octets.unwrap_or(0));
        let maildirs = self.site.settings.local.maildir.fixed_directory();
        let state = Some(self.site.settings.state.as_path());
        // What lies in memory may have to move to the disk of `state`.
        let kept = kept.saturating_add(self.intake.queue.memory_octets());
        for path in [state, maildirs.filter(|path| Some(*path) != state)].into_iter().flatten() {
            // A file system that cannot be queried counts as having room: if it is full, the write fails.
            if free_space(path).is_ok_and(|space| !has_room(space, kept, declared)) {
                return Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "no space left on the disk"));
            }
        }
        Ok(())
    }

    /// The route of a recipient, if the client may send to it.
    pub(super) fn judge_recipient(&self, path: &ForwardPath) -> Result<Routed, Reply> {
        let routed = self.site.route(path).map_err(|no_route| no_route.reply())?;
        if self.service == Service::Lmtp && !routed.is_local {
            let text = "LMTP is for local recipients";
            return Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, text));
        }
        self.site.admission.admit(&routed, self.is_own())?;
        // A Maildir that cannot be made is refused here: after the data the refusal would be for all recipients.
        if self.site.routes.users == LocalUsers::Any
            && let Err(error) = self.site.maildir(&routed)
        {
            trouble("making room for a mailbox", &error);
            return Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "no more mailboxes can be made here"));
        }
        if self.site.settings.local.quota > 0 {
            self.judge_room(&routed)?;
        }
        Ok(routed)
    }

    /// Whether the quota leaves room for the size that MAIL announced, or for one octet. The reply to RCPT concerns
    /// only this recipient. A mailbox that cannot be measured now counts as having room: its copy could wait in the
    /// queue. For a stranger the mailbox is not looked at: only what is remembered counts, and intake looks after the
    /// data.
    fn judge_room(&self, routed: &Routed) -> Result<(), Reply> {
        let Ok(Some(path)) = self.site.maildir(routed) else { return Ok(()) };
        let maildirs = &self.intake.maildirs;
        let room = if self.is_own() { maildirs.room(&path).ok() } else { maildirs.likely_room(&path) };
        if room.is_some_and(|room| room < self.declared_octets.max(1)) {
            return Err(Reply::new(452, EnhancedStatus::MAILBOX_FULL_NOW, "the mailbox is full"));
        }
        Ok(())
    }

    /// The `with` clause of Received (RFC 3848, RFC 6531 §4.3).
    pub(super) fn protocol(&self, smtputf8: bool) -> String {
        let word = match (self.service, self.session.is_extended(), smtputf8) {
            (Service::Lmtp, _, false) => "LMTP",
            (Service::Lmtp, _, true) => "UTF8LMTP",
            // RFC 3848 has no word for HELO within TLS.
            (_, false, _) => return "SMTP".to_owned(),
            (_, true, false) => "ESMTP",
            (_, true, true) => "UTF8SMTP",
        };
        let secured = if self.tls.is_some() { "S" } else { "" };
        let authenticated = if self.login().is_some() { "A" } else { "" };
        format!("{word}{secured}{authenticated}")
    }

    /// Whether the client is one of this host's own: it may relay, and send in the name of its domains.
    pub(super) fn is_own(&self) -> bool {
        self.trusted || self.login().is_some()
    }

    /// The submission for intake.
    pub(super) fn submission(&self, transaction: ServerTransaction<Accepted>) -> Submission {
        let client = self.client.to_string();
        let origin = Origin {
            helo: self.session.client_name().unwrap_or_default().to_owned(),
            client: match self.client {
                IpAddr::V4(ip) => format!("[{ip}]"),
                IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
            },
            protocol: self.protocol(transaction.parameters.smtputf8),
            tls: self.tls.clone(),
        };
        let login = self.session.login().map(|_| self.login().unwrap_or(UNCHECKED).to_owned());
        let counter = match self.service {
            Service::Lmtp => Count::ByLmtp,
            _ if login.is_some() => Count::BySubmission,
            _ => Count::BySmtp,
        };
        // LMTP hands over mail that another host has accepted.
        let is_own = self.is_own() && self.service != Service::Lmtp;
        Submission::from_client(counter, origin, transaction, (client, login), is_own)
    }
}
