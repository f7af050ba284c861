//! Finds the port and TLS mode of a smarthost, and proposes a smarthost for the addresses of a domain.
//!
//! # The search
//!
//! `pillarbox setup` lists candidates for `relay.smarthost`, for example TLS on port 465, STARTTLS on 587, STARTTLS on
//! 25. [`find`] walks each one ([`super::walk`]) with otherwise equal settings:
//!
//! ```text
//! next candidate ─▶ walk ─▶ accepted ────────────────────────▶ this one
//!       ▲             │
//!       │             └─▶ failed at ─▶ connect, greeting,  ─▶ try the next candidate
//!       │                              ehlo, starttls, tls,
//!       │                              auth not offered
//!       │                           ─▶ any other step ──────▶ stop: no other port helps
//!       └─ no candidate left ────────────────────────────────▶ the one that got farthest
//! ```
//!
//! A host that has refused a login is not asked at another port: it has the same users there, and repeated failures
//! lock accounts. A login that is not offered is different: many hosts offer AUTH on 587 and not on 25.
//!
//! # The proposal
//!
//! [`propose`] looks in the table of known providers first, then for SRV records of the domain (RFC 6186, RFC 8314
//! §5.1). An SRV answer can be forged without DNSSEC, and the password would go to the forger's host. So an answer is
//! certain only if DNSSEC secures it or the host is within the domain; otherwise setup asks the operator to confirm it.

use super::walk as probe;
use super::walk::{ProbeContext, ProbeNews, Step};
use crate::engine::host::site::Site;
use crate::mail::address::Domain;
use crate::mail::next_hop::Smarthost;
use crate::net::resolver::{DnsRecord, Resolve, Rtype};
use crate::rules::advice::providers;
use crate::rules::advice::step::Stage;
use crate::smtp::reply::is_reply;
use std::sync::Arc;

/// A proposed smarthost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The host, in the form that [`providers::Named`] parses.
    pub smarthost: String,
    /// It cannot be forged: a known provider, a secure answer, or a host within the domain.
    pub is_certain: bool,
}

/// Proposes a smarthost for the addresses of a domain: the host of its provider, or that of its SRV records (RFC 6186,
/// RFC 8314 §5.1). `None` if neither is known.
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

/// A candidate for `relay.smarthost`, and its walk.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// The candidate: one host, or an empty list for delivery by MX.
    pub smarthost: Vec<Smarthost>,
    /// All steps.
    pub steps: Vec<Step>,
    /// The first step that failed. `None`: a message would be accepted.
    pub failure: Option<Step>,
}

/// Tries the candidates in turn with a message to `address`, each on this host as if it were its smarthost, and calls `report`
/// after each. Returns the first that a message would pass or that no other port can better, else the one that got farthest.
pub fn find(
    candidates: Vec<(Vec<Smarthost>, Arc<Site>)>,
    world: &ProbeContext<'_>,
    address: &str,
    report: &mut dyn FnMut(&Trial),
) -> Trial {
    let mut farthest = Trial::default();
    for (smarthost, site) in candidates {
        let mut steps = Vec::new();
        let verdict = probe::probe(&site, world, address, &mut |news| {
            if let ProbeNews::Ended(step) = news {
                steps.push(step);
            }
        });
        let failure = verdict.failures.into_iter().next();
        let trial = Trial { smarthost, steps, failure };
        report(&trial);
        let is_over = trial.failure.as_ref().is_none_or(|step| !depends_on_port(step));
        if is_over || trial.steps.len() > farthest.steps.len() {
            farthest = trial;
        }
        if is_over {
            break;
        }
    }
    farthest
}

/// Whether another port or TLS mode may succeed where this step failed.
fn depends_on_port(failure: &Step) -> bool {
    match failure.stage {
        Stage::Connect | Stage::Greeting | Stage::Ehlo | Stage::StartTls | Stage::Tls => true,
        // A text that begins with a reply code is a refusal; others say that the host offers no login.
        Stage::Auth => !is_reply(&failure.text),
        _ => false,
    }
}
