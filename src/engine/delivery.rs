//! One worker at one next hop: looks the hosts up, connects, and sends what is due there, one message after the other
//! over the same connection (RFC 5321 §5.1).
//!
//! What it learns about a message goes to the forwarder as outcomes; what it learns about the route pauses the route and
//! leaves the messages as they are.

use super::attempt::Attempt;
use super::board::{Hop, Job};
use super::conversation::{Conversation, Talk};
use super::forwarder::Forwarder;
use super::hosts::{self, Unreachable};
use super::outgoing::{NextHopTraits, Outgoing};
use super::outside::{Outside, Sight};
use super::site::Site;
use super::tls_policy::DomainPolicy;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::rules::hints::Stage;
use crate::smtp::client::{End, Transaction};
use std::sync::Arc;

/// Sends what is due at a next hop, until nothing is or the route fails.
pub fn work(forwarder: &Forwarder, next_hop: &NextHop) {
    let hop = Hop::Relay(next_hop.clone());
    let mut conversation: Option<Conversation<'_>> = None;
    let mut forgoes_chunks = false;
    while let Some(job) = next_job(forwarder, &hop, conversation.is_some()) {
        let site = forwarder.site();
        let _held = forwarder.hold(&hop, job);
        let usable = conversation.take_if(|conversation| conversation.can_go_on(&site));
        if let Some(conversation) = conversation.take() {
            conversation.leave();
        }
        let (mut ready, is_new) = match usable {
            Some(conversation) => (conversation, false),
            None => match connect(&Outside { hop: Some(&hop), ..forwarder.outside() }, &site, next_hop) {
                Ok(ready) => (ready, true),
                Err(Unreachable::Message(diagnostic) | Unreachable::Circle(diagnostic)) => {
                    forwarder.fail_all(&hop, job, &diagnostic);
                    // That is an answer, too: the pause of an earlier failure is over.
                    forwarder.board.hop_succeeded(&hop);
                    continue;
                }
                Err(Unreachable::Route(_))
                    if forwarder.board.gave_way(&hop, job, forwarder.clock.now().running) =>
                {
                    return;
                }
                Err(Unreachable::Route(diagnostic)) => {
                    return forwarder.route_failed(&hop, Some(job), &diagnostic);
                }
            },
        };
        forwarder.board.hop_answered(&hop, forwarder.clock.now().running);
        if forgoes_chunks {
            ready.session.forgo_chunks();
        }
        let end = deliver(forwarder, &hop, job, &mut ready);
        // Some take what follows the BDAT that they don't know for commands, and have to be left.
        forgoes_chunks |= ready.session.knows_no_chunks();
        if let Some(End::Route(diagnostic)) = end {
            return forwarder.route_failed(&hop, None, &diagnostic);
        }
        if is_new {
            // Not before the first transaction: who greets and then wants no mail has failed, and is left alone for
            // longer each time. Not after later ones: they say nothing about new connections.
            forwarder.board.hop_succeeded(&hop);
        }
        if end.is_none() {
            conversation = Some(ready);
        }
    }
    if let Some(conversation) = conversation {
        conversation.leave();
    }
}

/// The next message; with an open connection it is worth waiting for one a moment.
fn next_job(forwarder: &Forwarder, hop: &Hop, connected: bool) -> Option<Job> {
    let now = forwarder.clock.now().running;
    if let Some(job) = forwarder.board.take(hop, now) {
        return Some(job);
    }
    // What has left the queue is synced when the worker ends: a second later at most, or with the next new mail's name.
    if connected { forwarder.board.linger(hop, forwarder.linger, now) } else { None }
}

/// Connects to the first host and address that answers and greets.
///
/// # Errors
/// None does.
pub fn connect<'a>(
    out: &Outside<'a>,
    site: &Arc<Site>,
    next_hop: &NextHop,
) -> Result<Conversation<'a>, Unreachable> {
    let mut last: Option<Unreachable> = None;
    let now = out.now.running;
    let seen = |error: Unreachable| {
        out.watch.see(Sight::Failed(error.diagnostic()));
        error
    };
    out.watch.see(Sight::Begins(Stage::Mx));
    let mut hosts = hosts::hosts(site, next_hop, out.resolver).map_err(seen)?;
    // A smarthost that could not be used lately is not waited for each time; it is the last hope. The order of MX hosts
    // is not ours to change: behind this host's own name there must come none.
    hosts.sort_by_key(|host| host.smarthost.as_ref().is_some_and(|it| out.board.is_silent(it, now)));
    out.watch.see(Sight::Hosts(&hosts));
    out.watch.see(Sight::Begins(Stage::Policy));
    let wanted = DomainPolicy::of(out, site, next_hop).map_err(seen)?;
    for mut host in hosts {
        let smarthost = host.smarthost.clone();
        let failed = |error: Unreachable| {
            if let Some(smarthost) = &smarthost {
                out.board.host_failed(smarthost, now);
            }
            error
        };
        out.watch.see(Sight::Begins(Stage::Address));
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
        out.watch.see(Sight::Addresses(&host, &addresses));
        out.watch.see(Sight::Begins(Stage::Policy));
        match wanted.of_host(out.resolver, &host) {
            Ok(policy) => {
                out.watch.see(Sight::Policy(&policy));
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

/// Of two failures the one that leaves hope: a message fails only if every host says so.
fn worse(before: Option<Unreachable>, now: Unreachable) -> Unreachable {
    match before {
        Some(route @ Unreachable::Route(_)) => route,
        _ => now,
    }
}

/// Sends one message to its recipients at this hop. `None`: the conversation can go on.
fn deliver(forwarder: &Forwarder, hop: &Hop, job: Job, conversation: &mut Conversation<'_>) -> Option<End> {
    let mut attempt = forwarder.begin_attempt(hop, job)?;
    let site = forwarder.site();
    let entry = Arc::clone(&attempt.entry);
    let traits = NextHopTraits {
        is_delivered: conversation.session.is_lmtp(),
        takes_eight_bits: conversation.session.takes_eight_bits(),
    };
    let outgoing = Outgoing::new(&site, &entry, traits, forwarder.clock.now().wall);
    let end = loop {
        let envelope = &entry.description().envelope;
        let untried = attempt.untried();
        let recipients: Vec<_> = untried.iter().filter_map(|&i| envelope.recipients.get(i)).collect();
        if recipients.is_empty() {
            break None;
        }
        conversation.session.begin(&Transaction {
            envelope: &outgoing.envelope,
            recipients: &recipients,
            size_octets: outgoing.size_octets,
            is_trial: false,
        });
        match conversation.talk(Some(&outgoing)) {
            Talk::Finished(outcomes) => attempt.note(&untried, outcomes),
            Talk::Ready => {}
            Talk::Over(end) => break Some(end),
        }
        // After the outcomes: whether the session goes on.
        match conversation.talk(None) {
            Talk::Ready => {}
            Talk::Finished(_) => {}
            Talk::Over(end) => break Some(end),
        }
    };
    attempt.relay.clone_from(&conversation.relay);
    if conversation.session.passes_dsn() {
        attempt.passed_on = attempt.outcomes.iter().map(|&(place, _)| place).collect();
    }
    let again_at = match &end {
        Some(End::Route(_)) => Again::WhenRouteWorks,
        _ => Again::AtOnce,
    };
    forwarder.end_attempt(hop, attempt, again_at);
    end
}

/// When the recipients that nothing was learnt about are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The route is to blame and pauses.
    WhenRouteWorks,
    /// The connection is to blame; a new one may serve.
    AtOnce,
}

impl Attempt {
    /// Recipients that nothing is known about yet.
    fn untried(&self) -> Vec<usize> {
        self.outcomes.iter().filter(|(_, outcome)| outcome.is_none()).map(|&(i, _)| i).collect()
    }

    /// Notes the outcomes of the recipients at these places.
    fn note(&mut self, places: &[usize], outcomes: Vec<Option<Outcome>>) {
        for (place, outcome) in places.iter().zip(outcomes) {
            if let Some(slot) = self.outcomes.iter_mut().find(|(i, _)| i == place) {
                slot.1 = outcome;
            }
        }
    }
}
