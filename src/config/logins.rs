//! Which login each smarthost gets: what its entry sets, and what it inherits from `[relay]`.
//!
//! | entry | what it leaves out |
//! | --- | --- |
//! | the first of `relay.smarthost` | comes from `[relay]` |
//! | one that names the same host as the first | comes from `[relay]` |
//! | any other | is not set: no host is shown the password of another |
//!
//! This is done when the settings are put to use, so that `setup` can try other values.

use super::keys::Relay;
use super::oauth::TOKEN_MECHANISMS;
use super::smarthosts::{CertificateFiles, OwnLogin, SmarthostEntry};
use crate::mail::address::Mailbox;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::relay_login::{PasswordSource, RelayLogin};
use crate::rules::routing::next_hop::SenderPattern;
use std::sync::Arc;

impl Relay {
    /// The smarthosts of all mail, each with its login.
    #[must_use]
    pub fn smarthosts(&self) -> Vec<Smarthost> {
        self.of_all().map(|(entry, is_first)| self.resolved(entry, is_first, true)).collect()
    }

    /// The smarthosts of single senders, each with its login.
    #[must_use]
    pub fn sender_hosts(&self) -> Vec<(SenderPattern, NextHop)> {
        let hosts = |entries: &[SmarthostEntry]| {
            NextHop::Smarthosts(entries.iter().map(|entry| self.resolved(entry, false, false)).collect())
        };
        self.senders.iter().map(|it| (it.sender.clone(), hosts(&it.entries))).collect()
    }

    /// The logins of all smarthosts, each once.
    #[must_use]
    pub fn logins(&self) -> Vec<Arc<RelayLogin>> {
        let mut logins: Vec<Arc<RelayLogin>> = Vec::new();
        let of_senders = self.of_senders().map(|entry| self.resolved(entry, false, false));
        for host in self.smarthosts().into_iter().chain(of_senders) {
            logins.extend(host.login.filter(|login| !logins.contains(login)));
        }
        logins
    }

    /// The user names that log in by a token of `[oauth]`, each once.
    #[must_use]
    pub fn token_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for login in self.logins() {
            let is_new = login.password == PasswordSource::Token && !names.contains(&login.username);
            if is_new && !login.username.is_empty() {
                names.push(login.username.clone());
            }
        }
        names
    }

    /// The smarthosts that get no login, although `[relay]` has one: it belongs to another host.
    #[must_use]
    pub fn without_login(&self) -> Vec<Smarthost> {
        let has_none = |(entry, is_first): &(&SmarthostEntry, bool)| {
            !self.username.is_empty() && self.own_login(entry, *is_first).username.is_none()
        };
        self.of_all().filter(has_none).map(|(entry, _)| entry.host.clone()).collect()
    }

    /// The first entry that has a user name and no password that it may use: its key, and its host.
    pub(super) fn without_password(&self) -> Option<(&'static str, Smarthost)> {
        let has_none = |entry: &SmarthostEntry, is_first: bool| {
            let login = self.own_login(entry, is_first);
            // A certificate may be all of a login.
            let has_other = login.certificate.is_some_and(|files| files.certificate.is_some())
                || login.auth == Some("external");
            !has_other
                && login.username.is_some_and(|name| !name.is_empty())
                && login.password.is_none_or(|source| source == PasswordSource::Usual)
                && !self.inherits(entry, is_first)
        };
        let of_all = self.of_all().find(|(entry, is_first)| has_none(entry, *is_first));
        let of_all = of_all.map(|(entry, _)| ("smarthost", entry.host.clone()));
        let of_senders = || self.of_senders().find(|entry| has_none(entry, false));
        of_all.or_else(|| of_senders().map(|entry| ("senders", entry.host.clone())))
    }

    /// The entries of `relay.smarthost`, and whether each is the first one.
    fn of_all(&self) -> impl Iterator<Item = (&SmarthostEntry, bool)> {
        self.smarthost.iter().enumerate().map(|(i, entry)| (entry, i == 0))
    }

    fn of_senders(&self) -> impl Iterator<Item = &SmarthostEntry> {
        self.senders.iter().flat_map(|it| &it.entries)
    }

    fn inherits(&self, entry: &SmarthostEntry, is_first: bool) -> bool {
        is_first || self.smarthost.first().is_some_and(|first| first.host.host == entry.host.host)
    }

    /// The login of an entry, with what it inherits. One by a token takes it from `[oauth]`, unless it names a password.
    fn own_login(&self, entry: &SmarthostEntry, is_first: bool) -> OwnLogin {
        let mut login = self.inherited(entry, is_first);
        let takes_token = self.has_oauth && login.auth.is_some_and(|word| TOKEN_MECHANISMS.contains(&word));
        let is_usual = login.password.as_ref().is_none_or(|source| *source == PasswordSource::Usual);
        if takes_token && is_usual {
            login.password = Some(PasswordSource::Token);
        }
        login
    }

    fn inherited(&self, entry: &SmarthostEntry, is_first: bool) -> OwnLogin {
        let own = entry.own.clone();
        if !self.inherits(entry, is_first) {
            return own;
        }
        let certificate = CertificateFiles {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            key_password_file: self.key_password_file.clone(),
        };
        let mut base = OwnLogin::default();
        base.set_password(self.password_file.clone(), self.password_command.clone());
        OwnLogin {
            username: own.username.or_else(|| Some(self.username.clone())),
            password: own.password.or(base.password),
            auth: own.auth.or(Some(self.auth)),
            certificate: own.certificate.or(Some(certificate)),
            fingerprint: own.fingerprint.or(Some(self.fingerprint)),
            tls_name: own.tls_name.or_else(|| Some(self.tls_name.clone())),
        }
    }

    /// An entry with its login. `gives_identity`: its user name may become the sender of mail.
    fn resolved(&self, entry: &SmarthostEntry, is_first: bool, gives_identity: bool) -> Smarthost {
        let login = self.own_login(entry, is_first);
        let username = login.username.unwrap_or_default();
        let identity = || Mailbox::parse(&username).ok().and_then(|mailbox| mailbox.to_ascii());
        let files = login.certificate.unwrap_or_default();
        let resolved = RelayLogin {
            identity: gives_identity.then(identity).flatten(),
            is_one_of_several: self.has_several_names(),
            username,
            password: login.password.unwrap_or_default(),
            auth: login.auth.unwrap_or("auto"),
            certificate: files.certificate,
            key: files.key,
            key_password_file: files.key_password_file,
            fingerprint: login.fingerprint.flatten(),
            tls_name: login.tls_name.flatten(),
        };
        Smarthost { login: Some(Arc::new(resolved)), ..entry.host.clone() }
    }

    /// Whether the smarthosts have more than one user name.
    fn has_several_names(&self) -> bool {
        let of_all = self.of_all().map(|(entry, is_first)| self.own_login(entry, is_first));
        let of_senders = self.of_senders().map(|entry| self.own_login(entry, false));
        let names = of_all.chain(of_senders).filter_map(|login| login.username);
        let mut names = names.filter(|name| !name.is_empty());
        names.next().is_some_and(|first| names.any(|name| name != first))
    }
}

#[cfg(test)]
mod tests;
