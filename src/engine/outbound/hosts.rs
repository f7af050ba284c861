//! From a next hop to addresses: MX look-up, order, and who is this host itself (RFC 5321 §5.1, RFC 7505).

use crate::engine::host::site::Site;
use crate::engine::log::event::Event;
use crate::mail::address::Domain;
use crate::mail::mx::MxAnswer;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::Diagnostic;
use crate::mail::status::{Class, EnhancedStatus};
use crate::net::resolver::{DnsError, DnsErrorKind, Resolve};
use crate::rules::tls::mx;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::sys;
use std::net::{IpAddr, SocketAddr};

/// A host to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name, or its address literal.
    pub name: String,
    /// Its port.
    pub port: u16,
    /// The operator named it, in this way: trouble with its name is never the message's. `None`: a host of an MX look-up.
    pub smarthost: Option<Smarthost>,
    /// What its domain or its own zone wants of TLS.
    pub policy: TlsPolicy,
}

impl Host {
    /// Logs what a policy that is only tested would not have let pass.
    pub fn log_test_failure(&self, reason: &str) {
        let reason = format!("MTA-STS is tested, and fails: {reason}");
        Event::TlsPolicy { domain: &self.name, reason: &reason }.log();
    }
}

/// Why a next hop can't be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// For now: the route pauses.
    Route(Diagnostic),
    /// For good: its messages fail.
    Message(Diagnostic),
    /// The host is this one itself. Worse hosts must not be tried; the messages fail, unless a better one may yet answer.
    Circle(Diagnostic),
}

impl Unreachable {
    /// Why.
    #[must_use]
    pub const fn diagnostic(&self) -> &Diagnostic {
        match self {
            Self::Route(diagnostic) | Self::Message(diagnostic) | Self::Circle(diagnostic) => diagnostic,
        }
    }
}

/// The hosts of a next hop, in the order in which to try them.
///
/// # Errors
/// There is none.
pub fn hosts(site: &Site, next_hop: &NextHop, resolver: &dyn Resolve) -> Result<Vec<Host>, Unreachable> {
    let port = site.settings.relay.port;
    match next_hop {
        NextHop::Smarthosts(hosts) => Ok(hosts.iter().map(smarthost).collect()),
        NextHop::Mx(Domain::Literal(ip)) => Ok(vec![mx_host(ip.to_string(), port)]),
        NextHop::Mx(name @ Domain::Name(_)) => {
            let domain = name.to_ascii().ok_or_else(|| no_dns_name(name))?;
            let names = match resolver.mx(&domain).map_err(dns_failure)? {
                MxAnswer::Implicit => vec![domain],
                MxAnswer::Null => {
                    let text = format!("{domain} takes no mail (null MX)");
                    return Err(Unreachable::Message(Diagnostic::local(EnhancedStatus::NULL_MX, text)));
                }
                MxAnswer::Hosts(exchanges) => {
                    let own =
                        |name: &str| site.hostname.name().is_some_and(|own| own.eq_ignore_ascii_case(name));
                    mx::in_order(exchanges, &own, &mut || sys::random() as u32)
                        .map_err(|_| Unreachable::Message(looping(&domain)))?
                }
            };
            Ok(names.into_iter().map(|name| mx_host(name, port)).collect())
        }
    }
}

fn mx_host(name: String, port: u16) -> Host {
    Host { name, port, smarthost: None, policy: TlsPolicy::None }
}

fn smarthost(host: &Smarthost) -> Host {
    let name = match &host.host {
        Domain::Name(name) => name.clone(),
        Domain::Literal(ip) => ip.to_string(),
    };
    Host { name, port: host.port, smarthost: Some(host.clone()), policy: TlsPolicy::None }
}

/// The addresses of a host, at least one.
///
/// # Errors
/// The look-up failed, or there is none that may be used.
pub fn addresses(site: &Site, host: &Host, resolver: &dyn Resolve) -> Result<Vec<SocketAddr>, Unreachable> {
    let found = look_up(site, host, resolver)?;
    let found_any = !found.is_empty();
    let addresses: Vec<SocketAddr> = found
        .into_iter()
        .filter(|&ip| site.allows_family(ip))
        .map(|ip| SocketAddr::new(ip, host.port))
        .collect();
    if addresses.iter().any(|&address| site.is_own_address(address)) {
        return Err(if host.smarthost.is_some() {
            let text = format!("the smarthost {} is this host itself; correct relay.smarthost", host.name);
            Unreachable::Route(Diagnostic::local(
                EnhancedStatus::ROUTING_LOOP.with_class(Class::Transient),
                text,
            ))
        } else {
            Unreachable::Circle(looping(&host.name))
        });
    }
    if addresses.is_empty() {
        let text = format!("the host {} has no address that can be used", host.name);
        let diagnostic = Diagnostic::local(EnhancedStatus::UNABLE_TO_ROUTE, text);
        // What relay.family leaves out is there; and what the operator named will be.
        return Err(if found_any || host.smarthost.is_some() {
            Unreachable::Route(diagnostic.with_class(Class::Transient))
        } else {
            Unreachable::Message(diagnostic)
        });
    }
    Ok(addresses)
}

/// Smarthosts are named in the operator's own words (mDNS, a directory, a search domain): the system's resolver knows
/// these, unless name servers are configured.
fn look_up(site: &Site, host: &Host, resolver: &dyn Resolve) -> Result<Vec<IpAddr>, Unreachable> {
    if let Ok(ip) = host.name.parse() {
        return Ok(vec![ip]);
    }
    if host.smarthost.is_some() && site.settings.dns.servers.is_empty() {
        return dns_lookup::lookup_host(&host.name).map(Iterator::collect).map_err(|error| {
            let text = format!("the smarthost {} can't be resolved: {error}", host.name);
            Unreachable::Route(Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, text))
        });
    }
    resolver.addresses(&host.name).map_err(|error| match dns_failure(error) {
        Unreachable::Message(mut diagnostic) if host.smarthost.is_some() => {
            diagnostic.text = format!("the smarthost {} can't be resolved: {}", host.name, diagnostic.text);
            Unreachable::Route(diagnostic.with_class(Class::Transient))
        }
        other => other,
    })
}

/// What a failed look-up means for a next hop.
pub(crate) fn dns_failure(error: DnsError) -> Unreachable {
    match error.kind {
        DnsErrorKind::Temporary => {
            Unreachable::Route(Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, error.text))
        }
        DnsErrorKind::TooManyCnames => {
            Unreachable::Message(Diagnostic::local(EnhancedStatus::ROUTING_LOOP, error.text))
        }
        DnsErrorKind::NoSuchDomain | DnsErrorKind::BadName => {
            Unreachable::Message(Diagnostic::local(EnhancedStatus::NO_SUCH_DOMAIN, error.text))
        }
    }
}

fn no_dns_name(domain: &Domain) -> Unreachable {
    let text = format!("{domain} has no form that DNS knows");
    Unreachable::Message(Diagnostic::local(EnhancedStatus::NO_SUCH_DOMAIN, text))
}

fn looping(domain: &str) -> Diagnostic {
    let text =
        format!("mail for {domain} comes back to this host; make it a local domain, or correct its MX");
    Diagnostic::local(EnhancedStatus::ROUTING_LOOP, text)
}
