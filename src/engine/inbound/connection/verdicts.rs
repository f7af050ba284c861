//! What a connection decides about its client: the login, the sender, a recipient; and what intake is told of a message.

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

/// What the log has for the name of a client that may say any.
const UNCHECKED: &str = "unchecked";

impl Connection<'_> {
    /// What the client may ask for. On loopback nobody reads a password on its way, and hardly a client takes a
    /// certificate that nobody known has signed.
    pub(super) fn access(&self, is_loopback: bool) -> ClientAccess {
        let is_self_signed = || self.site.tls.as_ref().is_some_and(Tls::is_self_signed);
        let starttls = match self.listener.tls {
            ListenerTls::Require => StartTls::Required,
            ListenerTls::Offer if !(is_loopback && is_self_signed()) => StartTls::Offered,
            ListenerTls::Offer | ListenerTls::Off => StartTls::Never,
        };
        let logins = match self.service {
            _ if self.takes_any_login() => LoginPolicy::Always,
            Service::Submission if is_loopback => LoginPolicy::Always,
            Service::Submission => LoginPolicy::WithinTls,
            Service::Smtp | Service::Lmtp => LoginPolicy::Never,
        };
        ClientAccess { starttls, logins }
    }

    /// Makes ready for a handshake; `None` if it can't be had now.
    pub(super) fn prepare_handshake(&self) -> Option<Handshake> {
        let (now, minimum) = (self.intake.clock.now().wall, self.listener.tls_minimum);
        self.site.tls.as_ref()?.handshake(now, minimum, self.trusted)
    }

    /// Whether the client may log in by any name and password, which gives it nothing but what its network has.
    fn takes_any_login(&self) -> bool {
        self.trusted && self.listener.auth == ListenerAuth::Any
    }

    /// The name that the client has proved to be its own.
    fn login(&self) -> Option<&str> {
        self.session.login().filter(|_| !self.takes_any_login())
    }

    /// Whether somebody may log in. Who fails often waits for the answer, whether it is a yes or a no: guesses get slow,
    /// and nothing is learnt from the wait.
    #[inline(never)]
    pub(super) fn judge_login(
        &mut self,
        credentials: &Credentials,
        mechanism: ServerMechanism,
    ) -> Result<Result<(), Reply>, End> {
        if self.takes_any_login() {
            return Ok(Ok(()));
        }
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

    /// Whether the client may send another message now, and there is room for what MAIL announces.
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
        for path in [state, maildirs.filter(|path| Some(*path) != state)].into_iter().flatten() {
            // A file system that can't be asked says no when it is written to.
            if free_space(path).is_ok_and(|space| !has_room(space, kept, declared)) {
                return Err(Reply::new(452, EnhancedStatus::SYSTEM_FULL, "no space left on the disk"));
            }
        }
        Ok(())
    }

    pub(super) fn judge_recipient(&self, path: &ForwardPath) -> Result<Routed, Reply> {
        let routed = self.site.route(path).map_err(|no_route| no_route.reply())?;
        if self.service == Service::Lmtp && !routed.is_local {
            let text = "LMTP is for local recipients";
            return Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, text));
        }
        self.site.admission.admit(&routed, self.is_own())?;
        // A recipient who can't have a Maildir is told apart here: after the data it would be the end of the others', too.
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

    /// Whether the quota leaves room for what MAIL announced, or for anything at all. Told here, it is the answer for
    /// this recipient alone. What can't be found out now is no reason to refuse: the copy could wait in the queue.
    fn judge_room(&self, routed: &Routed) -> Result<(), Reply> {
        let path = self.site.maildir(routed).ok().flatten();
        let room = path.and_then(|path| self.intake.maildirs.room(&path).ok());
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
            // There is no word for HELO within TLS.
            (_, false, _) => return "SMTP".to_owned(),
            (_, true, false) => "ESMTP",
            (_, true, true) => "UTF8SMTP",
        };
        let secured = if self.tls.is_some() { "S" } else { "" };
        let authenticated = if self.login().is_some() { "A" } else { "" };
        format!("{word}{secured}{authenticated}")
    }

    /// Whether the client is one of this host's own: it may relay, and speak for its domains.
    pub(super) fn is_own(&self) -> bool {
        self.trusted || self.login().is_some()
    }

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
        Submission {
            reverse_path: transaction.reverse_path,
            parameters: transaction.parameters,
            recipients: transaction.recipients,
            origin: Some(origin),
            // LMTP hands over what another host has taken.
            is_own: self.is_own() && self.service != Service::Lmtp,
            client,
            login: self.session.login().map(|_| self.login().unwrap_or(UNCHECKED).to_owned()),
            dated: None,
        }
    }
}
