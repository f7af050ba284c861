//! One worker at one next hop: connects, and sends the messages that are due there, one after the other over the same
//! connection (RFC 5321 §5.1).
//!
//! ```text
//! take a message ─▶ connection: the open one, or a new one ─▶ begin_attempt ─▶ transactions ─▶ verdict ─▶ end_attempt
//!       ▲                                                                                         │
//!       └──────────────── lingers for the next message ◀── goes on ───────────────────────────────┘
//! ```
//!
//! An outcome of a recipient goes to the manager. A failure of the hop pauses the hop and leaves its messages as they
//! are. After each message, the verdict on the hop:
//!
//! | verdict | when | connection | the hop |
//! | --- | --- | --- | --- |
//! | [`HopVerdict::GoesOn`] | every recipient has an outcome, or the session ended without blame | kept if usable | works |
//! | [`HopVerdict::MessageFailed`] | the same message was being sent at an earlier failure too | kept if usable | goes on with its back-off |
//! | [`HopVerdict::GaveWay`] | silence while another hop waits for a place | closed | its message goes to the end of the line |
//! | [`HopVerdict::NextSmarthost`] | this smarthost refuses, and another one is left | closed | goes on |
//! | [`HopVerdict::Pauses`] | the session failed at MAIL or later, or all smarthosts refuse | closed | pauses |
//!
//! # What a failure concerns
//!
//! | failure | concerns | its messages | the next try |
//! | --- | --- | --- | --- |
//! | the domain does not exist, has a null MX, or leads back here | the messages | fail | – |
//! | no host can be used: DNS, TLS policy, connect, TLS, EHLO, AUTH | the hop | stay as they are | after its pause |
//! | silence while another hop waits for a place | neither | go to the end of the line | at their next turn |
//! | a reply to RCPT or to the data | the recipient | 4yz deferred, 5yz failed | 4yz: after the step of the message |
//! | 421 or a lost connection at MAIL or later, the first time with this message | the hop | stay as they are | after its pause |
//! | the same again with the same message | the message | deferred | after the step of the message |
//! | a smarthost refuses the account or a limit | the smarthost; the hop if all refuse | stay as they are | the next smarthost, or after the pause |
//! | the same refusal, while other messages pass | the message | deferred, in the end failed | after the step of the message |
//!
//! `index/suspects.rs` decides between hop and message; `rules::advice::refusal` decides which replies are about the
//! account. "Stay as they are" means that the journal gets no record: the failure of the hop counts as an attempt of
//! each message that waits there.
//!
//! The worker ends if nothing is due, the hop fails, the worker gives its place away, or the daemon stops.

use super::egress::Egress;
use crate::engine::host::advice::advice;
use crate::engine::log::event::Event;
use crate::engine::outbound::connect::connect;
use crate::engine::outbound::context::OutboundContext;
use crate::engine::outbound::conversation::{Conversation, Talk};
use crate::engine::outbound::hosts::Unreachable;
use crate::engine::outbound::outgoing::{NextHopTraits, Outgoing};
use crate::engine::queue::attempt::{Again, Attempt};
use crate::engine::queue::index::{Blame, FailedMessage, Hop, Pending};
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
use crate::smtp::limits::RECIPIENTS_PER_TRANSACTION;
use crate::sys;
use std::sync::Arc;
use std::time::Duration;

/// Sends the messages that are due at a next hop, until none is due or the hop fails.
pub fn work(manager: &Manager, egress: &Egress, next_hop: &NextHop) {
    let hop = Hop::Relay(next_hop.clone());
    let mut open: Option<Conversation<'_>> = None;
    while let Some(pending) = next_pending(manager, &hop, egress.linger, open.is_some()) {
        let site = manager.site();
        let _guard = manager.guard(&hop, pending);
        let usable = open.take_if(|conversation| conversation.can_go_on(&site));
        if let Some(conversation) = open.take() {
            conversation.leave();
        }
        let is_new = usable.is_none();
        let context = || OutboundContext { hop: Some(&hop), ..egress.context(manager) };
        let mut conversation = match usable.map_or_else(|| connect(&context(), &site, next_hop), Ok) {
            Ok(conversation) => conversation,
            Err(Unreachable::Message(diagnostic) | Unreachable::Loop(diagnostic)) => {
                manager.fail_all(&hop, pending, &diagnostic);
                // The answer of the DNS ends the pause of an earlier failure, too.
                manager.index.hop_succeeded(&hop);
                continue;
            }
            Err(Unreachable::Hop(diagnostic)) => {
                if !manager.index.gave_way(&hop, pending, manager.clock.now().running) {
                    manager.hop_failed(&hop, Some(pending), &diagnostic.into());
                }
                return;
            }
        };
        match deliver(manager, &hop, pending, &mut conversation) {
            HopVerdict::GaveWay => {
                conversation.leave();
                let _ = manager.index.gave_way(&hop, pending, manager.clock.now().running);
                return;
            }
            HopVerdict::Pauses(_) => return conversation.leave(),
            HopVerdict::NextSmarthost => {
                conversation.leave();
                continue;
            }
            HopVerdict::MessageFailed => manager.index.hop_goes_on(&hop),
            // Only after the first transaction: a host that greets us and then refuses mail has failed, and its
            // back-off must grow. Not after later ones: they say nothing about new connections.
            HopVerdict::GoesOn if is_new => manager.index.hop_succeeded(&hop),
            HopVerdict::GoesOn => {}
        }
        // A host that takes the data after an unknown BDAT for commands has to be left.
        if conversation.is_usable() {
            open = Some(conversation);
        } else {
            conversation.leave();
        }
    }
    if let Some(conversation) = open {
        conversation.leave();
    }
}

/// Settles an attempt with which the hop has failed. The hop pauses before the message waits again: another worker would
/// take it, and fail with it too.
fn pause(manager: &Manager, hop: &Hop, attempt: Attempt, failure: &RouteFailure) {
    let (pending, pause) = (attempt.pending, manager.pause_hop(hop, failure));
    manager.end_attempt(hop, attempt, Again::WhenHopWorks);
    manager.hop_paused(hop, None, pause, failure);
    if failure.refusal.is_some() {
        manager.log_waiting(hop, pending, &failure.reason);
    }
}

/// The next message. With an open connection it is worth waiting for one.
fn next_pending(manager: &Manager, hop: &Hop, linger: Duration, connected: bool) -> Option<Pending> {
    let now = manager.clock.now().running;
    if let Some(pending) = manager.index.take(hop, now) {
        return Some(pending);
    }
    // Removals are synced when the worker ends, a second later at most, or with the name of the next new message.
    if connected { manager.index.linger(hop, linger, now) } else { None }
}

/// What a message means for its hop. See the module.
enum HopVerdict {
    /// The hop goes on.
    GoesOn,
    /// The hop goes on, and the failure was the message's.
    MessageFailed,
    /// The hop goes on with its next smarthost.
    NextSmarthost,
    /// It was silent while other hops wait for its place: its message waits again.
    GaveWay,
    /// The hop pauses.
    Pauses(RouteFailure),
}

/// Sends one message to its recipients at this hop.
fn deliver(
    manager: &Manager,
    hop: &Hop,
    pending: Pending,
    conversation: &mut Conversation<'_>,
) -> HopVerdict {
    let Some(mut attempt) = manager.begin_attempt(hop, pending) else { return HopVerdict::GoesOn };
    let site = manager.site();
    let entry = Arc::clone(&attempt.entry);
    if manager.index.knows_no_chunks(&conversation.host) {
        conversation.session.forgo_chunks();
    }
    let traits = NextHopTraits {
        is_delivered: conversation.session.is_lmtp(),
        support: match &conversation.session {
            session if session.takes_utf8() => HopSupport::Utf8,
            session if session.takes_eight_bits() => HopSupport::EightBit,
            _ => HopSupport::SevenBit,
        },
        smarthost: conversation.smarthost.as_ref(),
    };
    let outgoing = Outgoing::new(&site, &entry, traits, manager.clock.now(), manager.clock.last_jump());
    let end = send(conversation, &outgoing, &mut attempt);
    if conversation.session.knows_no_chunks() {
        manager.index.remember_no_chunks(&conversation.host);
    }
    attempt.relay.clone_from(&conversation.relay);
    if conversation.session.passes_dsn() {
        attempt.passed_on = attempt.outcomes.iter().map(|&(place, _)| place).collect();
    }
    let verdict = if end.is_some() && manager.index.is_giving_way(hop) {
        for (_, slot) in &mut attempt.outcomes {
            // The end that this host made is nobody's failure.
            slot.take_if(|outcome| matches!(outcome, Outcome::Deferred(reason) if reason.reply.is_none()));
        }
        HopVerdict::GaveWay
    } else {
        judge(manager, hop, conversation, &outgoing.envelope.reverse_path, &mut attempt, end)
    };
    let again = match &verdict {
        HopVerdict::Pauses(failure) => {
            pause(manager, hop, attempt, failure);
            return verdict;
        }
        HopVerdict::GaveWay => Again::WhenHopWorks,
        // A host that hangs at the same message again has not answered it.
        HopVerdict::MessageFailed => Again::AtOnce,
        _ => {
            manager.index.hop_answered(hop, manager.clock.now().running);
            Again::AtOnce
        }
    };
    manager.end_attempt(hop, attempt, again);
    verdict
}

/// Sends a message in as many transactions as it takes, and notes the outcomes. `None`: the session can go on.
fn send(
    conversation: &mut Conversation<'_>,
    outgoing: &Outgoing<'_>,
    attempt: &mut Attempt,
) -> Option<SessionEnd> {
    let entry = Arc::clone(&attempt.entry);
    loop {
        let envelope = &entry.description().envelope;
        let mut untried = attempt.untried();
        untried.truncate(RECIPIENTS_PER_TRANSACTION);
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
        // After the outcomes the session says whether it goes on.
        if let Talk::Over(end) = conversation.talk(None) {
            return Some(end);
        }
    }
}

/// Decides whether the hop or the message is to blame for a failure, and changes the outcomes accordingly.
fn judge(
    manager: &Manager,
    hop: &Hop,
    conversation: &Conversation<'_>,
    sender: &ReversePath,
    attempt: &mut Attempt,
    end: Option<SessionEnd>,
) -> HopVerdict {
    let index = &manager.index;
    let (id, named) = (attempt.pending.id, sender.to_string());
    if attempt.outcomes.iter().any(|(_, outcome)| matches!(outcome, Some(Outcome::Delivered(_)))) {
        index.message_passed(hop, id, &named);
        conversation.smarthost.iter().for_each(|host| index.host_works(host));
    }
    let refusal = |diagnostic: &Diagnostic| {
        let is_submission = conversation.smarthost.as_ref()?.login.is_some();
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
        return HopVerdict::GoesOn;
    };
    let reply = failure.refusal.and(Some(failure.reason.line()));
    let blame = index.blame(hop, FailedMessage { id, sender: &named, refusal: reply });
    for (_, slot) in &mut attempt.outcomes {
        let is_refused = refused(slot).is_some();
        apply(blame, slot, is_refused, &failure.reason, is_by_session);
    }
    match (blame, &conversation.smarthost) {
        (Blame::Hop, Some(host)) if failure.refusal.is_some() => {
            another_smarthost(manager, hop, host, failure)
        }
        (Blame::Hop, _) => HopVerdict::Pauses(failure),
        (Blame::Message(failures), _) => {
            attempt.failures = failures;
            HopVerdict::MessageFailed
        }
        (Blame::Refused, _) => HopVerdict::MessageFailed,
    }
}

/// Changes the outcome of one recipient by the verdict. `is_by_session`: the refusal was an answer to the session, not
/// to a recipient.
fn apply(
    blame: Blame,
    slot: &mut Option<Outcome>,
    is_refused: bool,
    reason: &Diagnostic,
    is_by_session: bool,
) {
    match blame {
        Blame::Hop if is_refused => *slot = None,
        Blame::Message(_) if is_refused || slot.is_none() => *slot = Some(Outcome::Deferred(reason.clone())),
        // It is unknown which of the recipients a refusal of the session concerns: it fails all that are left.
        Blame::Refused if is_by_session && slot.is_none() => {
            *slot = Some(Outcome::Failed(reason.clone().with_class(Class::Permanent)));
        }
        Blame::Hop | Blame::Message(_) | Blame::Refused => {}
    }
}

/// A smarthost refuses: the next one of the list is tried, and if all of them refuse, the hop pauses.
fn another_smarthost(manager: &Manager, hop: &Hop, host: &Smarthost, failure: RouteFailure) -> HopVerdict {
    let (index, now) = (&manager.index, manager.clock.now().running);
    let step = |refusals| pause_after_refusal(refusals, sys::random() as u32);
    let pause = index.host_refused(host, now, &step);
    match hop {
        Hop::Relay(NextHop::Smarthosts(all)) if all.iter().any(|other| !index.is_refusing(other, now)) => {
            let advice = advice(&manager.site(), &failure.reason);
            Event::paused(&host.to_string(), pause, &failure, advice).log();
            HopVerdict::NextSmarthost
        }
        _ => HopVerdict::Pauses(failure),
    }
}
