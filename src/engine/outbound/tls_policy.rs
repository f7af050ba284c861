//! What a domain wants of TLS with its MX hosts: its MTA-STS policy (RFC 8461), and its TLSA records where a validating
//! resolver vouches for the way to them (RFC 7672 §2.2).
//!
//! This file asks; `rules::tls::tls_policy` decides what the answers mean. Only hosts that an MX look-up named are asked
//! about: for a smarthost the operator's configuration counts. If a TLSA look-up fails the host is not used: an attacker who
//! can break the look-up could otherwise downgrade the connection.

use super::context::OutboundContext;
use super::hosts::{self, Host, Unreachable};
use super::sts_policies::data;
use crate::config::TlsLevel;
use crate::engine::host::site::Site;
use crate::engine::log::event::Event;
use crate::mail::address::Domain;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::net::resolver::{DnsErrorKind, Resolve, Rtype};
use crate::rules::tls::tls_policy::dane::Tlsa;
use crate::rules::tls::tls_policy::mta_sts::{Policy, StsMode};
use crate::rules::tls::tls_policy::{self, TlsPolicy};

/// What a domain says about TLS with its MX hosts. By default, nothing.
#[derive(Debug, Default)]
pub struct DomainPolicy {
    domain: String,
    /// Its MX records are secure, so that TLSA records of the hosts count.
    is_secure: bool,
    sts: Option<Policy>,
}

impl DomainPolicy {
    /// Finds out.
    ///
    /// # Errors
    /// Whether the MX records are secure can't be told now.
    pub fn of(out: &OutboundContext<'_>, site: &Site, next_hop: &NextHop) -> Result<Self, Unreachable> {
        let relay = &site.settings.relay;
        let NextHop::Mx(name @ Domain::Name(_)) = next_hop else { return Ok(Self::default()) };
        let Some(domain) = name.to_ascii().filter(|_| relay.tls != TlsLevel::Off) else {
            return Ok(Self::default());
        };
        let domain = domain.to_ascii_lowercase();
        let is_secure = relay.dane
            && match out.resolver.records(&domain, Rtype::MX) {
                Ok(set) => set.is_secure,
                Err(error) if error.kind == DnsErrorKind::Temporary => return Err(hosts::dns_failure(error)),
                Err(_) => false,
            };
        // A backup MX has its orders from the domain itself.
        let asks_sts = relay.mta_sts && !site.admission.relay_domains.contains(name);
        let sts =
            asks_sts.then(|| out.sts.policy(out.resolver, out.connect, out.now, site, &domain)).flatten();
        Ok(Self { domain, is_secure, sts })
    }

    /// What holds for a host.
    ///
    /// # Errors
    /// Why the host can't be used now.
    pub fn of_host(&self, resolver: &dyn Resolve, host: &Host) -> Result<TlsPolicy, Diagnostic> {
        let tlsa = if self.is_secure { tlsa(resolver, host)? } else { None };
        tls_policy::of_host(&host.name, tlsa, self.sts.as_ref()).or_else(|reason| {
            let domain = self.domain.as_str();
            if self.sts.as_ref().is_some_and(|policy| policy.mode == StsMode::Testing) {
                Event::TlsPolicy { domain, reason: &reason }.log();
                return Ok(TlsPolicy::None);
            }
            Err(Diagnostic::local(EnhancedStatus::POLICY_NOW, format!("{reason} of {domain}")))
        })
    }
}

/// The TLSA records of a host's port, if they and its addresses are secure: with addresses that are not, the zone is not
/// signed, and its name servers may be of the kind that fail when asked for anything new (RFC 7672 §2.2.2).
fn tlsa(resolver: &dyn Resolve, host: &Host) -> Result<Option<Vec<Tlsa>>, Diagnostic> {
    let is_secure = |rtype| resolver.records(&host.name, rtype).is_ok_and(|set| set.is_secure);
    if !is_secure(Rtype::A) && !is_secure(Rtype::AAAA) {
        return Ok(None);
    }
    let name = format!("_{}._tcp.{}", host.port, host.name);
    match resolver.records(&name, Rtype::TLSA) {
        Ok(set) if set.is_secure && !set.records.is_empty() => {
            Ok(Some(data(&set.records).filter_map(|octets| Tlsa::parse(octets)).collect()))
        }
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind, DnsErrorKind::NoSuchDomain | DnsErrorKind::BadName) => Ok(None),
        Err(error) => {
            let text = format!("{} can't be used without knowing its TLSA records: {error}", host.name);
            Err(Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, text))
        }
    }
}
