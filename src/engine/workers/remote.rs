//! One worker at one next hop: looks the hosts up, connects, and sends what is due there, one message after the other
//! over the same connection (RFC 5321 §5.1).
//!
//! What it learns about a message goes to the manager as outcomes; what it learns about the route pauses the route and
//! leaves the messages as they are.

use super::egress::Egress;
use crate::engine::log::event::Event;
use crate::engine::outbound::connect::connect;
use crate::engine::outbound::context::OutboundContext;
use crate::engine::outbound::conversation::{Conversation, Talk};
use crate::engine::outbound::hosts::Unreachable;
use crate::engine::outbound::outgoing::{NextHopTraits, Outgoing};
use crate::engine::queue::attempt::{Again, Attempt};
use crate::engine::queue::index::{Blame, Hop, InHand, Pending};
use crate::engine::queue::manager::Manager;
use crate::mail::address::ReversePath;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::Class;
use crate::rules::advice::refusal::SmarthostRefusal;
use crate::rules::message::recode::HopSupport;
use crate::rules::pacing::breaker::RouteFailure;
use crate::rules::pacing::retry::pause_after_refusal;
use crate::smtp::client::{ClientTransaction, SessionEnd};
use crate::sys;
use std::sync::Arc;
use std::time::Duration;

/// Sends what is due at a next hop, until nothing is or the route fails.
pub fn work(manager: &Manager, egress: &Egress, next_hop: &NextHop) {
    let hop = Hop::Relay(next_hop.clone());
    let mut conversation: Option<Conversation<'_>> = None;
    while let Some(pending) = next_job(manager, &hop, egress.linger, conversation.is_some()) {
        let site = manager.site();
        let _held = manager.hold(&hop, pending);
        let usable = conversation.take_if(|conversation| conversation.can_go_on(&site));
        if let Some(conversation) = conversation.take() {
            conversation.leave();
        }
        let (mut ready, is_new) = match usable {
            Some(conversation) => (conversation, false),
            None => match connect(
                &OutboundContext { hop: Some(&hop), ..egress.outside(manager) },
                &site,
                next_hop,
            ) {
                Ok(ready) => (ready, true),
                Err(Unreachable::Message(diagnostic) | Unreachable::Circle(diagnostic)) => {
                    manager.fail_all(&hop, pending, &diagnostic);
                    // That is an answer, too: the pause of an earlier failure is over.
                    manager.index.hop_succeeded(&hop);
                    continue;
                }
                Err(Unreachable::Route(_))
                    if manager.index.gave_way(&hop, pending, manager.clock.now().running) =>
                {
                    return;
                }
                Err(Unreachable::Route(diagnostic)) => {
                    return manager.route_failed(&hop, Some(pending), &diagnostic.into());
                }
            },
        };
        manager.index.hop_answered(&hop, manager.clock.now().running);
        if manager.index.knows_no_chunks(&ready.host) {
            ready.session.forgo_chunks();
        }
        let after = deliver(manager, &hop, pending, &mut ready);
        if ready.session.knows_no_chunks() {
            manager.index.remember_no_chunks(&ready.host);
        }
        match after {
            After::Pauses(failure) => {
                ready.leave();
                manager.route_failed(&hop, None, &failure);
                if failure.refusal.is_some() {
                    manager.log_waiting(&hop, pending, &failure.reason);
                }
                return;
            }
            // A pause that began with the message is over.
            After::IsToBlame => manager.index.hop_goes_on(&hop),
            // Only after the first transaction: a host that greets us and then refuses mail has failed, and its back-off
            // must grow. Not after later ones: they say nothing about new connections.
            After::Goes if is_new => manager.index.hop_succeeded(&hop),
            After::Goes | After::Elsewhere => {}
        }
        // Some take what follows the BDAT that they don't know for commands, and have to be left.
        if matches!(after, After::Goes | After::IsToBlame) && ready.is_usable() {
            conversation = Some(ready);
        } else {
            ready.leave();
        }
    }
    if let Some(conversation) = conversation {
        conversation.leave();
    }
}

/// The next message; with an open connection it is worth waiting for one a moment.
fn next_job(manager: &Manager, hop: &Hop, linger: Duration, connected: bool) -> Option<Pending> {
    let now = manager.clock.now().running;
    if let Some(pending) = manager.index.take(hop, now) {
        return Some(pending);
    }
    // What has left the queue is synced when the worker ends: a second later at most, or with the next new mail's name.
    if connected { manager.index.linger(hop, linger, now) } else { None }
}

/// What a message has come to, for the route.
enum After {
    /// It goes on.
    Goes,
    /// It goes on, and the failure was the message's.
    IsToBlame,
    /// It goes on with the next smarthost.
    Elsewhere,
    /// It pauses.
    Pauses(RouteFailure),
}

/// Sends one message to its recipients at this hop.
fn deliver(manager: &Manager, hop: &Hop, pending: Pending, conversation: &mut Conversation<'_>) -> After {
    let Some(mut attempt) = manager.begin_attempt(hop, pending) else { return After::Goes };
    let site = manager.site();
    let entry = Arc::clone(&attempt.entry);
    let traits = NextHopTraits {
        is_delivered: conversation.session.is_lmtp(),
        support: match &conversation.session {
            session if session.takes_utf8() => HopSupport::Utf8,
            session if session.takes_eight_bits() => HopSupport::EightBit,
            _ => HopSupport::SevenBit,
        },
    };
    let outgoing = Outgoing::new(&site, &entry, traits, manager.clock.now(), manager.clock.last_jump());
    let end = send(conversation, &outgoing, &mut attempt);
    attempt.relay.clone_from(&conversation.relay);
    if conversation.session.passes_dsn() {
        attempt.passed_on = attempt.outcomes.iter().map(|&(place, _)| place).collect();
    }
    let after = judge(manager, hop, conversation, &outgoing.envelope.reverse_path, &mut attempt, end);
    let again_at = match &after {
        After::Pauses(_) => Again::WhenRouteWorks,
        _ => Again::AtOnce,
    };
    manager.end_attempt(hop, attempt, again_at);
    after
}

/// Says all of a message that is to be said, and notes what came of it. `None`: the conversation can go on.
fn send(
    conversation: &mut Conversation<'_>,
    outgoing: &Outgoing<'_>,
    attempt: &mut Attempt,
) -> Option<SessionEnd> {
    let entry = Arc::clone(&attempt.entry);
    loop {
        let envelope = &entry.description().envelope;
        let untried = attempt.untried();
        let recipients: Vec<_> = untried.iter().filter_map(|&i| envelope.recipients.get(i)).collect();
        if recipients.is_empty() {
            return None;
        }
        conversation.session.begin(&ClientTransaction {
            envelope: &outgoing.envelope,
            recipients: &recipients,
            size_octets: outgoing.size_octets,
            is_trial: false,
        });
        match conversation.talk(Some(outgoing)) {
            Talk::Finished(outcomes) => attempt.note(&untried, outcomes),
            Talk::Ready => {}
            Talk::Over(end) => return Some(end),
        }
        // After the outcomes: whether the session goes on.
        match conversation.talk(None) {
            Talk::Ready => {}
            Talk::Finished(_) => {}
            Talk::Over(end) => return Some(end),
        }
    }
}

/// Whether the route is to blame for what failed, or the message (INTERFACE section 4); the outcomes say it then.
fn judge(
    manager: &Manager,
    hop: &Hop,
    conversation: &Conversation<'_>,
    sender: &ReversePath,
    attempt: &mut Attempt,
    end: Option<SessionEnd>,
) -> After {
    let (index, site) = (&manager.index, manager.site());
    let (id, named) = (attempt.pending.id, sender.to_string());
    if attempt.outcomes.iter().any(|(_, outcome)| matches!(outcome, Some(Outcome::Delivered(_)))) {
        index.message_passed(hop, id, &named);
        conversation.smarthost.iter().for_each(|host| index.host_works(host));
    }
    let refusal = |diagnostic: &Diagnostic| {
        let is_submission = site.settings.relay.smarthost.contains(conversation.smarthost.as_ref()?);
        let is_null_sender = *sender == ReversePath::Null;
        let refusal = SmarthostRefusal { diagnostic, is_null_sender, is_submission };
        let reason = diagnostic.clone().with_class(Class::Transient);
        refusal.of_route().map(|about| RouteFailure { reason, refusal: Some(about) })
    };
    let refused = |outcome: &Option<Outcome>| match outcome {
        Some(Outcome::Failed(diagnostic)) => refusal(diagnostic),
        _ => None,
    };
    let failure = attempt.outcomes.iter().find_map(|(_, outcome)| refused(outcome));
    let is_by_session = failure.is_none();
    let Some(failure) = failure.or_else(|| match end {
        Some(SessionEnd::Route(reason)) => Some(refusal(&reason).unwrap_or_else(|| reason.into())),
        _ => None,
    }) else {
        return After::Goes;
    };
    let reply = failure.refusal.and(Some(failure.reason.line()));
    let blame = index.blame(hop, InHand { id, sender: &named, refusal: reply });
    for (_, slot) in &mut attempt.outcomes {
        let is_refused = refused(slot).is_some();
        match blame {
            Blame::Hop if is_refused => *slot = None,
            Blame::Message(_) if is_refused || slot.is_none() => {
                *slot = Some(Outcome::Deferred(failure.reason.clone()));
            }
            // It was said to the session, and to whom of them it was meant nobody knows.
            Blame::Refused if is_by_session && slot.is_none() => {
                let reason = failure.reason.clone();
                *slot = Some(Outcome::Failed(reason.with_class(Class::Permanent)));
            }
            Blame::Hop | Blame::Message(_) | Blame::Refused => {}
        }
    }
    match (blame, &conversation.smarthost) {
        (Blame::Hop, Some(host)) if failure.refusal.is_some() => {
            another_smarthost(manager, hop, host, failure)
        }
        (Blame::Hop, _) => After::Pauses(failure),
        (Blame::Message(failures), _) => {
            attempt.failures = failures;
            After::IsToBlame
        }
        (Blame::Refused, _) => After::IsToBlame,
    }
}

/// A smarthost refuses: the next one of the list is tried, and if all do, the route pauses.
fn another_smarthost(manager: &Manager, hop: &Hop, host: &Smarthost, failure: RouteFailure) -> After {
    let (index, now) = (&manager.index, manager.clock.now().running);
    let step = |refusals| pause_after_refusal(refusals, sys::random() as u32);
    let pause = index.host_refused(host, now, &step);
    match hop {
        Hop::Relay(NextHop::Smarthosts(all)) if all.iter().any(|other| !index.is_refusing(other, now)) => {
            Event::paused(&host.to_string(), pause, &failure).log();
            After::Elsewhere
        }
        _ => After::Pauses(failure),
    }
}
