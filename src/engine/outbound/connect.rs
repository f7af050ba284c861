//! The way from a next hop to a session that is ready for mail: look-ups, TLS policy, connection, greeting.
//!
//! ```text
//! next hop ─▶ hosts, in order ─▶ policy of the domain ─▶ for each host: addresses ─▶ policy of the host ─▶ conversation
//! ```
//!
//! The first host that greets is used. A worker and `probe` connect by the same function, so that the probe finds what a
//! delivery would find. Of the failures of several hosts one is returned: the one that leaves the message in the queue.

use super::context::{OutboundContext, TraceEvent};
use super::conversation::Conversation;
use super::hosts::{self, Host, Unreachable};
use super::tls_policy::DomainPolicy;
use crate::engine::host::site::Site;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::advice::step::Stage;
use std::sync::Arc;

/// Connects to the first host and address that answers and greets.
///
/// # Errors
/// No host is known, no host answered and greeted, or the TLS policy of the domain forbids those that would.
pub fn connect<'a>(
    out: &OutboundContext<'a>,
    site: &Arc<Site>,
    next_hop: &NextHop,
) -> Result<Conversation<'a>, Unreachable> {
    let mut last: Option<Unreachable> = None;
    let now = out.now.running;
    let seen = |error: Unreachable| {
        out.watch.see(TraceEvent::Failed(error.diagnostic()));
        error
    };
    out.watch.see(TraceEvent::Begins(Stage::Mx));
    let hosts = in_order(out, hosts::hosts(site, next_hop, out.resolver).map_err(seen)?);
    out.watch.see(TraceEvent::Hosts(&hosts));
    out.watch.see(TraceEvent::Begins(Stage::Policy));
    let wanted = DomainPolicy::of(out, site, next_hop).map_err(seen)?;
    for mut host in hosts {
        let smarthost = host.smarthost.clone();
        let failed = |error: Unreachable| {
            if let Some(smarthost) = &smarthost {
                out.index.host_failed(smarthost, now);
            }
            error
        };
        out.watch.see(TraceEvent::Begins(Stage::Address));
        let addresses = match hosts::addresses(site, &host, out.resolver).map_err(seen) {
            Ok(addresses) => addresses,
            Err(Unreachable::Circle(diagnostic)) => {
                // Better MX hosts have been tried.
                return Err(last.unwrap_or(Unreachable::Message(diagnostic)));
            }
            Err(error) => {
                last = Some(worse(last, failed(error)));
                continue;
            }
        };
        out.watch.see(TraceEvent::Addresses(&host, &addresses));
        out.watch.see(TraceEvent::Begins(Stage::Policy));
        match wanted.of_host(out.resolver, &host) {
            Ok(policy) => {
                out.watch.see(TraceEvent::Policy(&policy));
                host.policy = policy;
            }
            Err(diagnostic) => {
                last = Some(Unreachable::Route(out.failed(diagnostic)));
                continue;
            }
        }
        match Conversation::open(out, site, &host, addresses) {
            Ok(conversation) => return Ok(conversation),
            Err(diagnostic) => {
                log::debug!(target: "pillarbox", "event=unreachable host={} reason={diagnostic:?}", host.name);
                last = Some(failed(Unreachable::Route(diagnostic)));
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        Unreachable::Route(Diagnostic::local(EnhancedStatus::NO_ANSWER, "no host to connect to"))
    }))
}

/// The hosts in the order in which they are tried. A smarthost that did not answer lately comes last, so that it is not
/// waited for each time; one that refused lately is left out while there is another. The order of MX hosts is not changed:
/// behind this host's own name no other may come.
fn in_order(out: &OutboundContext<'_>, hosts: Vec<Host>) -> Vec<Host> {
    let now = out.now.running;
    let is_silent = |host: &Host| host.smarthost.as_ref().is_some_and(|it| out.index.is_silent(it, now));
    let is_refusing = |host: &Host| host.smarthost.as_ref().is_some_and(|it| out.index.is_refusing(it, now));
    let (silent, mut hosts): (Vec<_>, Vec<_>) = hosts.into_iter().partition(is_silent);
    hosts.extend(silent);
    if !hosts.iter().all(is_refusing) {
        hosts.retain(|host| !is_refusing(host));
    }
    hosts
}

/// Of two failures the one that leaves hope: a message fails only if every host says so.
fn worse(before: Option<Unreachable>, now: Unreachable) -> Unreachable {
    match before {
        Some(route @ Unreachable::Route(_)) => route,
        _ => now,
    }
}
