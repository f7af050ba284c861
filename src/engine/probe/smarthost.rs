//! Finds out how a smarthost may be talked to: one way after the other is probed, until one would take a message.
//!
//! It goes by `engine::probe`, and so by the code of delivery; nothing is sent and nothing is kept. A host that has
//! refused a login is not asked again by another port: its users are the same, and guesses lock accounts.

use super::walk as probe;
use super::walk::{ProbeNews, Step, World};
use crate::config::Settings;
use crate::engine::host::site::Site;
use crate::mail::address::Domain;
use crate::mail::next_hop::Smarthost;
use crate::net::resolver::{DnsRecord, Resolve, Rtype};
use crate::rules::advice::providers;
use crate::rules::advice::step::Stage;
use std::sync::Arc;

/// What is proposed for the addresses of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// As [`providers::Named`] reads it.
    pub smarthost: String,
    /// Nobody could have forged it.
    pub is_certain: bool,
}

/// What is proposed for the addresses of a domain: the host of its provider, or what its SRV records say (RFC 6186,
/// RFC 8314 §5.1).
#[must_use]
pub fn propose(resolver: &dyn Resolve, domain: &Domain) -> Option<Proposal> {
    let domain = domain.name().and(domain.to_ascii())?;
    if let Some(host) = providers::host_of(&domain) {
        return Some(Proposal { smarthost: host.to_owned(), is_certain: true });
    }
    providers::SERVICES.iter().find_map(|&(service, scheme)| {
        let found = resolver.records(&format!("{service}.{domain}"), Rtype::SRV).ok()?;
        let data = found.records.iter().filter_map(|record| match record {
            DnsRecord::Data(data) => Some(data.as_slice()),
            _ => None,
        });
        let best = providers::best_host(data, scheme)?;
        let is_certain = found.is_secure || providers::is_within(&best.host, &domain);
        Some(Proposal { smarthost: best.to_string(), is_certain })
    })
}

/// What came of a way.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// The value of `relay.smarthost`: one host, or none: by MX.
    pub smarthost: Vec<Smarthost>,
    /// All steps.
    pub steps: Vec<Step>,
    /// The one that failed first; without one a message would be accepted.
    pub failure: Option<Step>,
}

/// Tries one value of `relay.smarthost` after the other for a message to `address`, the settings being the same
/// otherwise, and tells of each that is over. Gives the first that serves, or else the one that got farthest.
pub fn find(
    settings: &Settings,
    hostname: &Domain,
    world: &World<'_>,
    ways: &[Vec<Smarthost>],
    address: &str,
    tell: &mut dyn FnMut(&Trial),
) -> Trial {
    let mut farthest = Trial::default();
    for way in ways {
        let mut settings = settings.clone();
        settings.relay.smarthost.clone_from(way);
        let site = Arc::new(Site::new(settings, hostname.clone(), None));
        let mut steps = Vec::new();
        let verdict = probe::probe(&site, world, address, &mut |news| {
            if let ProbeNews::Ended(step) = news {
                steps.push(step);
            }
        });
        let failure = verdict.failures.into_iter().next();
        let trial = Trial { smarthost: way.clone(), steps, failure };
        tell(&trial);
        let is_over = trial.failure.as_ref().is_none_or(|step| !is_of_the_port(step));
        if is_over || trial.steps.len() > farthest.steps.len() {
            farthest = trial;
        }
        if is_over {
            break;
        }
    }
    farthest
}

/// Whether another port, or another use of TLS, may do better.
fn is_of_the_port(failure: &Step) -> bool {
    match failure.stage {
        Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Tls => true,
        // No login is offered there. What begins with a reply code is a refusal.
        Stage::Auth => !failure.text.starts_with(|c: char| c.is_ascii_digit()),
        _ => false,
    }
}
