//! The rules for talking to one host: whether TLS is used, how the certificate is checked, and which login is sent.
//! They follow from the configuration of the operator and from the policy of the host's domain (`[relay]`).
//!
//! | host | TLS | certificate |
//! | --- | --- | --- |
//! | MX | as `relay.tls` says, or as DANE or MTA-STS demand it, whichever is stricter | unchecked, by name, or by TLSA |
//! | `smtps://`, `smtp+starttls://` | always | by name |
//! | `smtp://` | where offered | by name if there is a login and the host is not on loopback |
//! | `lmtp://` | where offered; never on loopback | by name |
//! | smarthost with `fingerprint` | always | by fingerprint |
//! | smarthost with `tls_name` | always | by that name |
//! | smarthost with `certificate` | always | as above, and by name for `smtp://`, as with a login |
//!
//! This file sends nothing; `conversation` applies the rules.

use super::certificate_check::CertificateCheck;
use super::context::{Observer, OutboundContext, TraceEvent};
use super::hosts::Host;
use super::password;
use crate::config::TlsLevel;
use crate::engine::host::client_certificate::CertificateFiles;
use crate::engine::host::site::Site;
use crate::mail::address::Domain;
use crate::mail::fingerprint::Fingerprint;
use crate::mail::next_hop::{Scheme, Smarthost};
use crate::mail::outcome::Diagnostic;
use crate::mail::relay_login::PasswordSource;
use crate::mail::status::EnhancedStatus;
use crate::net::tls_client::Connector;
use crate::net::transport::{Deadline, Transport, WireError};
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::{Login, Security, SessionOptions, TlsUse};
use crate::smtp::sasl::Secret;
use std::net::SocketAddr;
use std::sync::Arc;

/// The rules for talking to a host.
pub(super) struct HostPolicy {
    /// The options of the session.
    pub options: SessionOptions,
    /// The handshake.
    pub tls: HostTls,
}

/// How TLS is spoken with a host.
pub(super) struct HostTls {
    /// How its certificate is checked.
    pub check: CertificateCheck,
    /// The name that it is asked for, and that its certificate must have.
    pub name: String,
    /// What shows it this host's certificate; `None`: it is shown none.
    pub connector: Option<Arc<Connector>>,
}

impl HostTls {
    /// Does the handshake; see [`CertificateCheck::start_tls`].
    ///
    /// # Errors
    /// It failed, or the certificate is not accepted.
    pub fn start(
        &self,
        site: &Site,
        transport: &mut Box<dyn Transport>,
        deadline: Deadline,
        observer: &dyn Observer,
    ) -> Result<Option<Vec<u8>>, WireError> {
        let connector = self.connector.as_deref().unwrap_or(&site.connector);
        self.check.start_tls(connector, transport, &self.name, deadline, observer)
    }
}

/// TLS with an MX host: by `relay.tls` or by the policy of the domain, whichever is stricter.
fn towards_mx(level: TlsLevel, policy: &TlsPolicy) -> (TlsUse, CertificateCheck) {
    match (level, policy) {
        (TlsLevel::Off, _) => (TlsUse::Off, CertificateCheck::Nothing),
        (_, TlsPolicy::Dane(records)) => (TlsUse::Required, CertificateCheck::Dane(records.clone())),
        (TlsLevel::Required, _) | (_, TlsPolicy::Sts) => (TlsUse::Required, CertificateCheck::Name),
        (TlsLevel::Opportunistic, TlsPolicy::Encrypted) => (TlsUse::Required, CertificateCheck::Nothing),
        (TlsLevel::Opportunistic, TlsPolicy::StsTesting) => (TlsUse::WhereOffered, CertificateCheck::Name),
        (TlsLevel::Opportunistic, TlsPolicy::None) => (TlsUse::WhereOffered, CertificateCheck::Nothing),
    }
}

/// What the operator says of a smarthost's certificate, and of the one that it is shown.
#[derive(Default)]
struct Demands {
    fingerprint: Option<Fingerprint>,
    tls_name: Option<String>,
    certificate: Option<CertificateFiles>,
}

impl Demands {
    fn of(host: &Host) -> Self {
        let login = host.smarthost.as_ref().and_then(|smarthost| smarthost.login.as_deref());
        login.map_or_else(Self::default, |login| Self {
            fingerprint: login.fingerprint,
            tls_name: login.tls_name.as_ref().and_then(Domain::to_ascii),
            certificate: CertificateFiles::of(login),
        })
    }

    /// What is left of a policy: nothing of this is worth anything without TLS, so an attacker must not be able to remove it.
    fn harden(&self, tls: TlsUse, check: CertificateCheck) -> (TlsUse, CertificateCheck) {
        match (self.fingerprint, &self.tls_name, &self.certificate) {
            (Some(fingerprint), _, _) => (TlsUse::Required, CertificateCheck::Fingerprint(fingerprint)),
            (None, Some(_), _) => (TlsUse::Required, CertificateCheck::Name),
            (None, None, Some(_)) => (TlsUse::Required, check),
            (None, None, None) => (tls, check),
        }
    }
}

impl HostPolicy {
    /// The rules for a host at an address, with the login and the client certificate that it gets. See the table of the
    /// module.
    pub fn towards(
        site: &Site,
        host: &Host,
        address: SocketAddr,
        login: Option<Login>,
        connector: Option<Arc<Connector>>,
    ) -> Self {
        let is_loopback = address.ip().is_loopback();
        let scheme = host.smarthost.as_ref().map(|smarthost| smarthost.scheme);
        let verified = |is_needed| if is_needed { CertificateCheck::Name } else { CertificateCheck::Nothing };
        let is_known = login.is_some() || connector.is_some();
        let (tls, check) = match scheme {
            None => towards_mx(site.settings.relay.tls, &host.policy),
            Some(Scheme::SmtpStartTls | Scheme::Smtps) => (TlsUse::Required, CertificateCheck::Name),
            // A password needs a host whose identity is known. On loopback no other host can read the connection.
            Some(Scheme::Smtp) => (TlsUse::WhereOffered, verified(is_known && !is_loopback)),
            Some(Scheme::Lmtp) if is_loopback => (TlsUse::Off, CertificateCheck::Nothing),
            Some(Scheme::Lmtp) => (TlsUse::WhereOffered, CertificateCheck::Name),
        };
        let demands = Demands::of(host);
        let (tls, check) = demands.harden(tls, check);
        let security = if scheme == Some(Scheme::Smtps) { Security::Verified } else { Security::Clear };
        let is_lmtp = scheme == Some(Scheme::Lmtp);
        let name = demands.tls_name.unwrap_or_else(|| host.name.clone());
        Self {
            options: SessionOptions { is_lmtp, security, tls, is_loopback, login, end_point: None },
            tls: HostTls { check, name, connector },
        }
    }

    /// The same without TLS, if that is allowed: unencrypted beats undelivered (RFC 7435 §3). It is not allowed where
    /// the certificate must verify: an attacker with a false one could otherwise force clear text.
    pub fn in_clear(mut self) -> Option<Self> {
        let may =
            self.options.tls == TlsUse::WhereOffered && matches!(self.tls.check, CertificateCheck::Nothing);
        self.options.tls = TlsUse::Off;
        may.then_some(self)
    }

    /// The same without any verification, and with nothing that a false host must not have, to see the certificate that a
    /// verification by name refuses. `None`: another check sees it anyway.
    pub fn look(&self) -> Option<Self> {
        let options = SessionOptions { login: None, ..self.options.clone() };
        let tls = HostTls { check: CertificateCheck::Nothing, name: self.tls.name.clone(), connector: None };
        matches!(self.tls.check, CertificateCheck::Name).then_some(Self { options, tls })
    }
}

/// What shows a host the client certificate that the operator configured for it; `None`: no certificate is configured.
///
/// # Errors
/// The certificate or its key cannot be used.
pub(super) fn client_connector(
    context: &OutboundContext<'_>,
    site: &Site,
    host: &Host,
) -> Result<Option<Arc<Connector>>, Diagnostic> {
    let Some(files) = Demands::of(host).certificate else { return Ok(None) };
    let ca_file = site.settings.relay.ca_file.as_deref();
    let connector = site.client_connectors.get(&files, ca_file, context.now.wall);
    connector.map(Some).map_err(|error| {
        context.observer.see(TraceEvent::Begins(Stage::Config));
        let text = format!("no client certificate for {}: {error}", host.name);
        context.failed(Diagnostic::local(EnhancedStatus::POLICY_NOW, text))
    })
}

/// The login for a host, if the operator configured one. With a client certificate it may have no password, nor a name.
///
/// # Errors
/// The password cannot be read.
pub(super) fn login(
    context: &OutboundContext<'_>,
    site: &Site,
    host: &Host,
) -> Result<Option<Login>, Diagnostic> {
    let login = host.smarthost.as_ref().and_then(|smarthost| smarthost.login.as_deref());
    let Some(login) = login.filter(|it| !it.username.is_empty() || it.certificate.is_some()) else {
        return Ok(None);
    };
    let password = password::is_needed(login).then(|| {
        context.observer.see(TraceEvent::Begins(Stage::Password));
        let read =
            password::read(site, login, &|name| context.tokens.token(&context.token_world(site), name));
        let password = read.map_err(|error| {
            let what = if login.password == PasswordSource::Token { "token" } else { "password" };
            let text = format!("no {what} for {}: {error}", host.name);
            context.failed(Diagnostic::local(EnhancedStatus::POLICY_NOW, text))
        })?;
        context.observer.see(TraceEvent::Password(&login.username, &password));
        Ok(password)
    });
    Ok(Some(Login {
        name: login.username.clone(),
        password: password.transpose()?,
        has_certificate: login.certificate.is_some(),
        choice: login.auth,
        port: host.port,
        nonce: String::new(),
        renews: matches!(login.password, PasswordSource::Token | PasswordSource::Command(_)),
    }))
}

/// Another token for a host that has refused this one: a new one of the provider, or what the command prints now. `None`:
/// there is no other.
pub(super) fn renewed(
    context: &OutboundContext<'_>,
    site: &Site,
    smarthost: Option<&Smarthost>,
    refused: &Secret,
) -> Option<Secret> {
    let login = smarthost.and_then(|smarthost| smarthost.login.as_deref())?;
    let renew = |name: &str| context.tokens.renew(&context.token_world(site), name, refused);
    match password::read(site, login, &renew) {
        Ok(token) if token != *refused => Some(token),
        Ok(_) => None,
        Err(error) => {
            log::debug!(target: "pillarbox", "event=unreachable host={} reason={error:?}", login.username);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which hosts get TLS, which certificates are checked, and which hosts get clear text if TLS fails.
    #[test]
    fn each_kind_of_host_has_its_policy() {
        use TlsUse::{Off, Required, WhereOffered};
        for (tls, url, login, ip, expected) in [
            ("opportunistic", None, false, "192.0.2.1", (WhereOffered, false, true)),
            ("opportunistic", None, false, "127.0.0.1", (WhereOffered, false, true)),
            ("off", None, false, "192.0.2.1", (Off, false, false)),
            ("required", None, false, "192.0.2.1", (Required, true, false)),
            ("off", Some("smtps://h.example"), true, "192.0.2.1", (Required, true, false)),
            ("off", Some("smtps://h.example"), true, "127.0.0.1", (Required, true, false)),
            ("off", Some("smtp+starttls://h.example"), false, "192.0.2.1", (Required, true, false)),
            ("off", Some("smtp://h.example"), false, "192.0.2.1", (WhereOffered, false, true)),
            ("off", Some("smtp://h.example"), true, "192.0.2.1", (WhereOffered, true, false)),
            ("off", Some("smtp://h.example"), true, "127.0.0.1", (WhereOffered, false, true)),
            // Where the certificate must verify, a false one must not lead to clear text.
            ("off", Some("lmtp://h.example:24"), false, "192.0.2.1", (WhereOffered, true, false)),
            ("off", Some("lmtp://h.example:24"), false, "127.0.0.1", (Off, false, false)),
        ] {
            let smarthost = url.map(|url| format!("smarthost = \"{url}\"\n")).unwrap_or_default();
            let text = format!("[relay]\ntls = \"{tls}\"\n{smarthost}");
            let settings = crate::config::parse(&text, "f").unwrap();
            let smarthost = settings.relay.smarthosts().into_iter().next();
            let site = Site::new(settings, Domain::parse("box.example").unwrap(), None);
            let host = Host { name: "h.example".into(), port: 25, smarthost, policy: TlsPolicy::None };
            let login = login.then(|| Login {
                name: "joe".into(),
                password: Some(Secret::new(b"x".to_vec())),
                has_certificate: false,
                choice: "auto",
                port: 25,
                nonce: String::new(),
                renews: false,
            });
            let address = SocketAddr::new(ip.parse().unwrap(), 25);
            let policy = HostPolicy::towards(&site, &host, address, login, None);
            let (found, verify) =
                (policy.options.tls, !matches!(policy.tls.check, CertificateCheck::Nothing));
            let in_clear = policy.in_clear();
            assert!(in_clear.as_ref().is_none_or(|policy| policy.options.tls == Off));
            assert_eq!((found, verify, in_clear.is_some()), expected, "{tls} {url:?} {ip}");
        }
    }

    /// What the operator says of a smarthost's certificate holds for every scheme and address, and never leads to clear text.
    #[test]
    fn demands_of_a_smarthost_come_before_its_scheme() {
        let fingerprint = "ab".repeat(32);
        let by_fingerprint = format!("fingerprint = \"{fingerprint}\"");
        let by_certificate = "certificate = \"/c.pem\"".to_owned();
        let by_name = "tls_name = \"MX.far.example\"".to_owned();
        for url in
            ["smtp://h.example", "smtps://h.example", "smtp+starttls://h.example", "lmtp://h.example:24"]
        {
            for (keys, ip, check, name) in [
                (&by_fingerprint, "192.0.2.1", "Fingerprint", "h.example"),
                (&by_fingerprint, "127.0.0.1", "Fingerprint", "h.example"),
                (&by_name, "192.0.2.1", "Name", "MX.far.example"),
                (&by_name, "127.0.0.1", "Name", "MX.far.example"),
                (&format!("{by_name}\n{by_fingerprint}"), "192.0.2.1", "Fingerprint", "MX.far.example"),
                (&by_certificate, "192.0.2.1", "Name", "h.example"),
            ] {
                let text = format!("[relay]\nsmarthost = \"{url}\"\n{keys}\n");
                let settings = crate::config::parse(&text, "f").unwrap();
                let smarthost = settings.relay.smarthosts().into_iter().next();
                let site = Site::new(settings, Domain::parse("box.example").unwrap(), None);
                let host = Host { name: "h.example".into(), port: 25, smarthost, policy: TlsPolicy::None };
                let connector = keys.contains("certificate").then(Arc::default);
                let address = SocketAddr::new(ip.parse().unwrap(), 25);
                let policy = HostPolicy::towards(&site, &host, address, None, connector);
                assert_eq!(policy.options.tls, TlsUse::Required, "{text}");
                assert!(format!("{:?}", policy.tls.check).starts_with(check), "{text}");
                assert_eq!(policy.tls.name, name, "{text}");
                let look = policy.look();
                assert_eq!(look.is_some(), check == "Name");
                assert!(look.is_none_or(|look| look.tls.connector.is_none() && look.options.login.is_none()));
                assert!(policy.in_clear().is_none(), "{text}");
            }
        }
    }
}
