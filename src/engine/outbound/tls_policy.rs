//! Finds out what a domain wants of TLS with its MX hosts: asks DNS, fetches and keeps the policy of MTA-STS (RFC 8461),
//! and asks for TLSA records where a validating resolver vouches for the way to them (RFC 7672 §2.2).
//!
//! Never decides what they mean; `rules/tls_policy` does. Only for hosts that an MX look-up named: for smarthosts the
//! operator's word counts. A policy that can't be fetched is none, unless one is kept that still holds; a TLSA look-up that
//! fails lets the host not be used, for who can make it fail could have forged it.

use super::hosts::{self, Host, Unreachable};
use super::outside::Outside;
use crate::config::TlsLevel;
use crate::engine::host::site::Site;
use crate::engine::log::event::Event;
use crate::mail::address::Domain;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::net::policy_fetch::{self, PORT_HTTPS};
use crate::net::resolver::{DnsErrorKind, Record, Resolve, Rtype};
use crate::net::transport::Deadline;
use crate::rules::tls::tls_policy::dane::Tlsa;
use crate::rules::tls::tls_policy::mta_sts::{self, Kept, Mode, Policy};
use crate::rules::tls::tls_policy::{self, TlsPolicy};
use crate::store::state_file::sts;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a fetch may take, from the first connect on (RFC 8461 §3.3 suggests a minute, while mail waits).
const FETCH: Duration = Duration::from_secs(10);
/// A fetch that failed is tried again after this time (§3.3: five minutes or more).
const FETCH_AGAIN: Duration = Duration::from_secs(600);
/// So many failures are remembered.
const FAILURES_MAX: usize = 256;

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
    pub fn of(out: &Outside<'_>, site: &Site, next_hop: &NextHop) -> Result<Self, Unreachable> {
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
        let sts = asks_sts.then(|| out.sts.policy(out, site, &domain)).flatten();
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
            if self.sts.as_ref().is_some_and(|policy| policy.mode == Mode::Testing) {
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

fn data(records: &[Record]) -> impl Iterator<Item = &Vec<u8>> {
    records.iter().filter_map(|record| match record {
        Record::Data(octets) => Some(octets),
        Record::Address(_) | Record::Mx(_) => None,
    })
}

/// A fetch that failed.
#[derive(Debug)]
struct Failure {
    domain: String,
    id: String,
    /// In running time.
    again_at: Duration,
}

/// The policies of MTA-STS: kept on disk, but for the memory of those that could not be had of late.
#[derive(Debug, Default)]
pub struct StsPolicies(Mutex<Vec<Failure>>);

impl StsPolicies {
    /// The policy of a domain, in lower case.
    fn policy(&self, out: &Outside<'_>, site: &Site, domain: &str) -> Option<Policy> {
        let (now, state) = (out.now, &site.settings.state);
        let wall = now.wall.seconds();
        let kept = read_kept(site, domain).filter(|kept| kept.holds(wall));
        let records = out.resolver.records(&format!("_mta-sts.{domain}"), Rtype::TXT);
        let id =
            records.ok().and_then(|set| mta_sts::find_id(&data(&set.records).cloned().collect::<Vec<_>>()));
        // Without a record there is nothing new, and what is kept holds on (RFC 8461 §3.1).
        let Some(id) = id else { return kept.map(|kept| kept.policy) };
        let is_current = kept.as_ref().is_some_and(|kept| kept.id == id && !kept.wants_refresh(wall));
        if is_current || self.has_failed(domain, &id, now.running) {
            return kept.map(|kept| kept.policy);
        }
        match fetch(out, site, domain) {
            Ok((text, policy)) => {
                if let Err(error) = sts::save(state, domain, &Kept::print(&id, wall, &text)) {
                    Event::Trouble { doing: "keeping an MTA-STS policy", error: &error.to_string() }.log();
                }
                Some(policy)
            }
            Err(reason) => {
                let reason = format!("the MTA-STS policy can't be fetched: {reason}");
                Event::TlsPolicy { domain, reason: &reason }.log();
                self.note_failure(Failure {
                    domain: domain.to_owned(),
                    id,
                    again_at: now.running.saturating_add(FETCH_AGAIN),
                });
                kept.map(|kept| kept.policy)
            }
        }
    }

    fn has_failed(&self, domain: &str, id: &str, now: Duration) -> bool {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.iter().any(|it| it.domain == domain && it.id == id && it.again_at > now)
    }

    fn note_failure(&self, failure: Failure) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failures.retain(|it| it.domain != failure.domain);
        if failures.len() >= FAILURES_MAX {
            failures.remove(0);
        }
        failures.push(failure);
    }
}

fn read_kept(site: &Site, domain: &str) -> Option<Kept> {
    let octets = sts::load(&site.settings.state, domain)?;
    let kept = std::str::from_utf8(&octets).ok().and_then(Kept::parse);
    if kept.is_none() {
        Event::TlsPolicy { domain, reason: "the MTA-STS policy that is kept can't be read" }.log();
    }
    kept
}

fn fetch(out: &Outside<'_>, site: &Site, domain: &str) -> Result<(String, Policy), String> {
    let host = format!("mta-sts.{domain}");
    let addresses = out.resolver.addresses(&host).map_err(|error| error.text)?;
    let allowed = addresses.into_iter().filter(|&ip| site.allows_family(ip));
    let addresses: Vec<SocketAddr> = allowed.map(|ip| SocketAddr::new(ip, PORT_HTTPS)).collect();
    let (connect, deadline) = (out.connect, Deadline::after(FETCH));
    let text = policy_fetch::fetch(connect, &site.connector, &host, &addresses, deadline)?;
    let policy = Policy::parse(&text).ok_or("it is none that RFC 8461 knows")?;
    Ok((text, policy))
}
