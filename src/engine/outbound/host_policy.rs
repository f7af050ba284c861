//! The rules for talking to one host: whether TLS is used, how the certificate is checked, and which login is sent.
//! They follow from the configuration of the operator and from the policy of the host's domain (INTERFACE section 2,
//! `[relay]`).
//!
//! | host | TLS | certificate |
//! | --- | --- | --- |
//! | MX | as `relay.tls` says, or as DANE or MTA-STS demand it, whichever is stricter | unchecked, by name, or by TLSA |
//! | `smtps://`, `smtp+starttls://` | always | by name |
//! | `smtp://` | where offered | by name if there is a login and the host is not on loopback |
//! | `lmtp://` | where offered; never on loopback | by name |
//!
//! This file sends nothing; `conversation` applies the rules.

use super::certificate_check::CertificateCheck;
use super::context::{OutboundContext, TraceEvent};
use super::hosts::Host;
use super::password;
use crate::config::TlsLevel;
use crate::engine::host::site::Site;
use crate::mail::next_hop::Scheme;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::{Login, Security, SessionOptions, TlsUse};
use std::net::SocketAddr;

/// The rules for talking to a host.
pub(super) struct HostPolicy {
    /// The options of the session.
    pub options: SessionOptions,
    /// How the certificate is checked.
    pub check: CertificateCheck,
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

impl HostPolicy {
    /// The rules for a host at an address, with the login that it gets. See the table of the module.
    pub fn towards(site: &Site, host: &Host, address: SocketAddr, login: Option<Login>) -> Self {
        let is_loopback = address.ip().is_loopback();
        let scheme = host.smarthost.as_ref().map(|smarthost| smarthost.scheme);
        let verified = |is_needed| if is_needed { CertificateCheck::Name } else { CertificateCheck::Nothing };
        let (tls, check) = match scheme {
            None => towards_mx(site.settings.relay.tls, &host.policy),
            Some(Scheme::SmtpStartTls | Scheme::Smtps) => (TlsUse::Required, CertificateCheck::Name),
            // A password needs a host whose identity is known. On loopback no other host can read the connection.
            Some(Scheme::Smtp) => (TlsUse::WhereOffered, verified(login.is_some() && !is_loopback)),
            Some(Scheme::Lmtp) if is_loopback => (TlsUse::Off, CertificateCheck::Nothing),
            Some(Scheme::Lmtp) => (TlsUse::WhereOffered, CertificateCheck::Name),
        };
        let security = if scheme == Some(Scheme::Smtps) { Security::Verified } else { Security::Clear };
        let is_lmtp = scheme == Some(Scheme::Lmtp);
        Self {
            options: SessionOptions { is_lmtp, security, tls, is_loopback, login, end_point: None },
            check,
        }
    }

    /// The same without TLS, if that is allowed: unencrypted beats undelivered (RFC 7435 §3). It is not allowed where
    /// the certificate must verify: an attacker with a false one could otherwise force clear text.
    pub fn in_clear(mut self) -> Option<Self> {
        let may = self.options.tls == TlsUse::WhereOffered && matches!(self.check, CertificateCheck::Nothing);
        self.options.tls = TlsUse::Off;
        may.then_some(self)
    }
}

/// The login for a host, if the operator configured one.
///
/// # Errors
/// The password cannot be read.
pub(super) fn login(
    context: &OutboundContext<'_>,
    site: &Site,
    host: &Host,
) -> Result<Option<Login>, Diagnostic> {
    let login = host.smarthost.as_ref().and_then(|smarthost| smarthost.login.as_deref());
    let Some(login) = login.filter(|login| !login.username.is_empty()) else { return Ok(None) };
    context.observer.see(TraceEvent::Begins(Stage::Password));
    let password = password::read(site, &login.password).map_err(|error| {
        let text = format!("no password for {}: {error}", host.name);
        context.failed(Diagnostic::local(EnhancedStatus::POLICY_NOW, text))
    })?;
    context.observer.see(TraceEvent::Password(&login.username, &password));
    let name = login.username.clone();
    Ok(Some(Login { name, password, choice: login.auth, port: host.port, nonce: String::new() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Domain;
    use crate::smtp::sasl::Secret;

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
                password: Secret::new(b"x".to_vec()),
                choice: "auto",
                port: 25,
                nonce: String::new(),
            });
            let address = SocketAddr::new(ip.parse().unwrap(), 25);
            let policy = HostPolicy::towards(&site, &host, address, login);
            let (found, verify) = (policy.options.tls, !matches!(policy.check, CertificateCheck::Nothing));
            let in_clear = policy.in_clear();
            assert!(in_clear.as_ref().is_none_or(|policy| policy.options.tls == Off));
            assert_eq!((found, verify, in_clear.is_some()), expected, "{tls} {url:?} {ip}");
        }
    }
}
