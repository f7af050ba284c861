//! From a next hop to hosts and from a host to addresses: MX look-up, order, and the loop at this host itself (RFC 5321
//! §5.1, RFC 7505).
//!
//! | next hop | hosts, in order |
//! | --- | --- |
//! | smarthosts | as the operator wrote them |
//! | an address literal | that address |
//! | a domain with MX records | by preference (`rules::tls::mx`); this host and those not better than it are left out |
//! | a domain without MX records | the domain itself (the implicit MX) |
//! | a domain with a null MX (RFC 7505) | none: its messages fail |

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
    /// The smarthost, if the operator named it: a failure of its look-up is never the fault of a message. `None`: a
    /// host of an MX look-up.
    pub smarthost: Option<Smarthost>,
    /// What the domain of the mail, or the zone of the host, demands of TLS.
    pub policy: TlsPolicy,
}

impl Host {
    /// Logs a connection that an MTA-STS policy in testing mode would have forbidden.
    pub fn log_test_failure(&self, reason: &str) {
        let reason = format!("MTA-STS is tested, and fails: {reason}");
        Event::TlsPolicy { domain: &self.name, reason: &reason }.log();
    }
}

/// Why a next hop cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// It cannot be reached now: the hop pauses.
    Hop(Diagnostic),
    /// It can never be reached: its messages fail.
    Message(Diagnostic),
    /// A host is this host itself. Worse hosts must not be tried; the messages fail, unless a better host may work
    /// later.
    Loop(Diagnostic),
}

impl Unreachable {
    /// The reason.
    #[must_use]
    pub const fn diagnostic(&self) -> &Diagnostic {
        match self {
            Self::Hop(diagnostic) | Self::Message(diagnostic) | Self::Loop(diagnostic) => diagnostic,
        }
    }
}

/// The hosts of a next hop, in the order in which to try them.
///
/// # Errors
/// No host is known (null MX, no such domain, this host is the best MX), or the look-up failed.
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
/// The look-up failed, no address may be used, or an address is this host's own.
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
            Unreachable::Hop(Diagnostic::local(
                EnhancedStatus::ROUTING_LOOP.with_class(Class::Transient),
                text,
            ))
        } else {
            Unreachable::Loop(looping(&host.name))
        });
    }
    if addresses.is_empty() {
        let text = format!("the host {} has no address that can be used", host.name);
        let diagnostic = Diagnostic::local(EnhancedStatus::UNABLE_TO_ROUTE, text);
        // Addresses that `relay.family` leaves out exist; and a smarthost is expected to get an address.
        return Err(if found_any || host.smarthost.is_some() {
            Unreachable::Hop(diagnostic.with_class(Class::Transient))
        } else {
            Unreachable::Message(diagnostic)
        });
    }
    Ok(addresses)
}

/// Looks the addresses of a host up. The operator may name a smarthost by mDNS, a directory or a search domain, which
/// only the system's resolver knows: it is used for smarthosts, unless name servers are configured.
fn look_up(site: &Site, host: &Host, resolver: &dyn Resolve) -> Result<Vec<IpAddr>, Unreachable> {
    if let Ok(ip) = host.name.parse() {
        return Ok(vec![ip]);
    }
    if host.smarthost.is_some() && site.settings.dns.servers.is_empty() {
        return resolver.by_system(&host.name).map(|found| found.addresses).map_err(|error| {
            let text = format!("the smarthost {} can't be resolved: {error}", host.name);
            Unreachable::Hop(Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, text))
        });
    }
    resolver.addresses(&host.name).map_err(|error| match dns_failure(error) {
        Unreachable::Message(mut diagnostic) if host.smarthost.is_some() => {
            diagnostic.text = format!("the smarthost {} can't be resolved: {}", host.name, diagnostic.text);
            Unreachable::Hop(diagnostic.with_class(Class::Transient))
        }
        other => other,
    })
}

/// What a failed look-up means for a next hop.
pub(crate) fn dns_failure(error: DnsError) -> Unreachable {
    match error.kind {
        DnsErrorKind::Temporary => {
            Unreachable::Hop(Diagnostic::local(EnhancedStatus::DIRECTORY_FAILURE, error.text))
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
