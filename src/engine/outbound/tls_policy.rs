//! What a domain demands of TLS with its MX hosts: its MTA-STS policy (RFC 8461), and its TLSA records, if DNSSEC
//! protects the way to them (RFC 7672 §2.2).
//!
//! This file looks the policies up; `rules::tls::tls_policy` decides what they mean. Only hosts of an MX look-up have
//! such a policy: for a smarthost the operator's configuration counts. If the look-up of a host's addresses or TLSA records
//! fails, the host is not used: an attacker who can break the look-up could otherwise downgrade the connection.

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
use crate::net::resolver::{DnsError, DnsErrorKind, Resolve, Rtype};
use crate::rules::tls::tls_policy::dane::Tlsa;
use crate::rules::tls::tls_policy::mta_sts::{Policy, StsMode};
use crate::rules::tls::tls_policy::{self, TlsPolicy};
use crate::store::state_file::sts;

/// What a domain demands of TLS with its MX hosts. The default is nothing.
#[derive(Debug, Default)]
pub struct DomainPolicy {
    domain: String,
    /// The MX records are secure (DNSSEC), so that TLSA records of the hosts count.
    is_secure: bool,
    sts: Option<Policy>,
}

impl DomainPolicy {
    /// Looks up what the domain of a next hop demands.
    ///
    /// # Errors
    /// The look-up whether the MX records are secure failed.
    pub fn of(context: &OutboundContext<'_>, site: &Site, next_hop: &NextHop) -> Result<Self, Unreachable> {
        let relay = &site.settings.relay;
        let NextHop::Mx(name @ Domain::Name(_)) = next_hop else { return Ok(Self::default()) };
        let Some(domain) = name.to_ascii().filter(|_| relay.tls != TlsLevel::Off) else {
            return Ok(Self::default());
        };
        let domain = domain.to_ascii_lowercase();
        let is_secure = relay.dane
            && match context.resolver.records(&domain, Rtype::MX) {
                Ok(set) => set.is_secure,
                Err(error) if error.kind == DnsErrorKind::Temporary => return Err(hosts::dns_failure(error)),
                Err(_) => false,
            };
        // For a domain that this host is a backup MX of, the owner has chosen the hosts: its MTA-STS policy is not
        // asked for.
        let asks_sts = relay.mta_sts && !site.admission.relay_domains.contains(name);
        let sts = asks_sts
            .then(|| context.sts.policy(context.resolver, context.connect, context.now, site, &domain))
            .flatten();
        Ok(Self { domain, is_secure, sts })
    }

    /// Notes that mail leaves by a host that the domain's MTA-STS policy demands: such a policy is kept longest.
    pub fn note_use(&self, site: &Site, policy: &TlsPolicy) {
        if *policy == TlsPolicy::Sts {
            sts::mark_used(&site.settings.state, &self.domain);
        }
    }

    /// The policy for one host.
    ///
    /// # Errors
    /// The policy forbids the host, or its TLSA records cannot be looked up.
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

/// The TLSA records of a host's port, if they and its addresses are secure. If the addresses are not, the zone is not
/// signed, and its name servers may be old ones that fail for record types that they do not know (RFC 7672 §2.2.2).
fn tlsa(resolver: &dyn Resolve, host: &Host) -> Result<Option<Vec<Tlsa>>, Diagnostic> {
    let unknown = |error: DnsError| {
        let text = format!("{} can't be used without knowing its TLSA records: {error}", host.name);
        Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, text)
    };
    if !has_secure_address(resolver, host).map_err(unknown)? {
        return Ok(None);
    }
    let name = format!("_{}._tcp.{}", host.port, host.name);
    match resolver.records(&name, Rtype::TLSA) {
        Ok(set) if set.is_secure && !set.records.is_empty() => {
            Ok(Some(data(&set.records).filter_map(|octets| Tlsa::parse(octets)).collect()))
        }
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind, DnsErrorKind::NoSuchDomain | DnsErrorKind::BadName) => Ok(None),
        Err(error) => Err(unknown(error)),
    }
}

/// Whether the addresses of a host are secure.
///
/// # Errors
/// A look-up failed for now, and the other one does not show that the zone is not signed. What an attacker breaks must not
/// count as unsigned (RFC 7672 §2.1.1).
fn has_secure_address(resolver: &dyn Resolve, host: &Host) -> Result<bool, DnsError> {
    let mut failure = None;
    for rtype in [Rtype::A, Rtype::AAAA] {
        match resolver.records(&host.name, rtype) {
            Ok(set) if set.is_secure => return Ok(true),
            Ok(set) if !set.records.is_empty() => return Ok(false),
            Err(error) if error.kind == DnsErrorKind::Temporary => failure = Some(error),
            Ok(_) | Err(_) => {}
        }
    }
    failure.map_or(Ok(false), Err)
}
