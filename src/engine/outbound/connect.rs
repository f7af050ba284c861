//! The way from a next hop to a session that is ready for mail: look-ups, TLS policy, connection, greeting.
//!
//! ```text
//! next hop ─▶ hosts, in order ─▶ policy of the domain ─▶ each host: addresses ─▶ policy of the host ─▶ conversation
//! ```
//!
//! The first host that greets is used. A worker and `probe` connect by the same function, so that the probe finds what
//! a delivery would find. Which failure concerns what:
//!
//! | step | failure | concerns |
//! | --- | --- | --- |
//! | MX look-up | temporary (time-out, SERVFAIL) | the hop |
//! | MX look-up | no such domain, null MX (RFC 7505), this host is the best MX | the messages |
//! | security of the MX records (DANE) | unknown | the hop |
//! | addresses of an MX host | temporary; `relay.family` leaves none | the host: the next one is tried |
//! | addresses of an MX host | none; no such name | the host; the messages if every host fails for good |
//! | addresses of an MX host | an address of this host | the loop ends the list: worse hosts must not be tried |
//! | addresses of a smarthost | any | the host, never the messages: the operator named it |
//! | TLS policy of the host | forbids it, or cannot be known | the host |
//! | connect, TLS, EHLO, AUTH | any | the host |
//!
//! If every host fails, one failure is returned: that of the hop, if any host may work later, so that the messages stay
//! in the queue. The deadlines are those of `conversation`.

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
    context: &OutboundContext<'a>,
    site: &Arc<Site>,
    next_hop: &NextHop,
) -> Result<Conversation<'a>, Unreachable> {
    let mut last: Option<Unreachable> = None;
    let seen = |error: Unreachable| {
        context.observer.see(TraceEvent::Failed(error.diagnostic()));
        error
    };
    context.observer.see(TraceEvent::Begins(Stage::Mx));
    let hosts = in_order(context, hosts::hosts(site, next_hop, context.resolver).map_err(seen)?);
    context.observer.see(TraceEvent::Hosts(&hosts));
    context.observer.see(TraceEvent::Begins(Stage::Policy));
    let demanded = DomainPolicy::of(context, site, next_hop).map_err(seen)?;
    for mut host in hosts {
        let smarthost = host.smarthost.clone();
        let failed = |error: Unreachable| {
            if let Some(smarthost) = &smarthost {
                context.index.host_failed(smarthost, context.now.running);
            }
            error
        };
        context.observer.see(TraceEvent::Begins(Stage::Address));
        let addresses = match hosts::addresses(site, &host, context.resolver).map_err(seen) {
            Ok(addresses) => addresses,
            Err(Unreachable::Loop(diagnostic)) => {
                // The better MX hosts have failed, and worse ones must not be tried.
                return Err(last.unwrap_or(Unreachable::Message(diagnostic)));
            }
            Err(error) => {
                last = Some(worse(last, failed(error)));
                continue;
            }
        };
        context.observer.see(TraceEvent::Addresses(&host, &addresses));
        context.observer.see(TraceEvent::Begins(Stage::Policy));
        match demanded.of_host(context.resolver, &host) {
            Ok(policy) => {
                context.observer.see(TraceEvent::Policy(&policy));
                host.policy = policy;
            }
            Err(diagnostic) => {
                last = Some(Unreachable::Hop(context.failed(diagnostic)));
                continue;
            }
        }
        let used = |_: &_| demanded.note_use(site, &host.policy);
        match Conversation::open(context, site, &host, addresses).inspect(used) {
            Ok(conversation) => return Ok(conversation),
            Err(diagnostic) => {
                log::debug!(target: "pillarbox", "event=unreachable host={} reason={diagnostic:?}", host.name);
                last = Some(failed(Unreachable::Hop(diagnostic)));
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        Unreachable::Hop(Diagnostic::local(EnhancedStatus::NO_ANSWER, "no host to connect to"))
    }))
}

/// The hosts in the order in which they are tried. A smarthost that did not answer lately comes last, so that not every
/// delivery waits for it; one that refused lately is left out while there is another. The order of MX hosts is not
/// changed: hosts that are worse than this host itself must not be tried (RFC 5321 §5.1).
fn in_order(context: &OutboundContext<'_>, hosts: Vec<Host>) -> Vec<Host> {
    let now = context.now.running;
    let is_silent = |host: &Host| host.smarthost.as_ref().is_some_and(|it| context.index.is_silent(it, now));
    let is_refusing =
        |host: &Host| host.smarthost.as_ref().is_some_and(|it| context.index.is_refusing(it, now));
    let (silent, mut hosts): (Vec<_>, Vec<_>) = hosts.into_iter().partition(is_silent);
    hosts.extend(silent);
    if !hosts.iter().all(is_refusing) {
        hosts.retain(|host| !is_refusing(host));
    }
    hosts
}

/// Of two failures the one that keeps the messages in the queue: they fail only if every host fails for good.
fn worse(before: Option<Unreachable>, now: Unreachable) -> Unreachable {
    match before {
        Some(hop @ Unreachable::Hop(_)) => hop,
        _ => now,
    }
}
