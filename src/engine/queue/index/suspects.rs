//! Messages that were in hand when their route failed at MAIL or later: the message may be to blame, or the route.
//!
//! They go behind the others, so that one message never holds the others back (INTERFACE section 4). Nothing of this is
//! kept over a restart: the count begins anew, and costs a pause. Nothing here fails.

use super::hop_state::{HopState, Messages, passes};
use super::{Hop, QueueIndex, lock};
use crate::mail::id::QueueId;
use crate::rules::pacing::downtime::Uplink;
use std::cmp::Reverse;
use std::time::Duration;

/// With so many refusals in the same words, while others of its sender passed, a message is refused for good.
const REFUSALS_MAX: u32 = 3;

/// What is known of such a message.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    /// Failures that it was in hand at.
    failures: u32,
    /// Its sender, as the host was told.
    sender: String,
    /// Another message has passed since.
    others_passed: bool,
    /// Another message of the same sender has.
    same_passed: bool,
    /// How the host refused it last, and how often in a row.
    refused: String,
    refusals: u32,
}

/// The failure of a route with a message in hand.
#[derive(Debug, Clone, Copy)]
pub struct InHand<'a> {
    /// The message.
    pub id: QueueId,
    /// Its sender, as the host was told.
    pub sender: &'a str,
    /// The reply, if the smarthost refused the message for the account, a limit or the like.
    pub refusal: Option<&'a str>,
}

/// Who is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The route: it pauses, and the message stays as it is.
    Hop,
    /// The message, which has failed so often: it waits its own step, and the route goes on.
    Message(u32),
    /// The message, for good.
    Refused,
}

impl QueueIndex {
    /// Takes note of the failure of a hop, and says who is to blame for it. A failure without a reason of the account's
    /// is the message's when it comes a second time. A refusal is the account's until others pass, and proves nothing
    /// against the message until others of its sender do.
    pub fn blame(&self, hop: &Hop, failed: InHand<'_>) -> Blame {
        let mut inner = lock(&self.inner);
        let route = inner.routes.entry(hop.clone()).or_default();
        let suspect = route.suspects.entry(failed.id).or_default();
        suspect.failures = suspect.failures.saturating_add(1);
        failed.sender.clone_into(&mut suspect.sender);
        match failed.refusal.map(without_ids) {
            Some(refused) => {
                let is_same = suspect.refused == refused;
                suspect.refusals = if is_same { suspect.refusals.saturating_add(1) } else { 1 };
                suspect.refused = refused;
                match suspect.others_passed {
                    true if suspect.same_passed && suspect.refusals >= REFUSALS_MAX => Blame::Refused,
                    true => Blame::Message(suspect.failures),
                    false => Blame::Hop,
                }
            }
            None if suspect.failures > 1 => Blame::Message(suspect.failures),
            None => Blame::Hop,
        }
    }

    /// A message of this sender has passed: what was refused to others was not the whole account's.
    pub fn message_passed(&self, hop: &Hop, id: QueueId, sender: &str) {
        let mut inner = lock(&self.inner);
        let Some(route) = inner.routes.get_mut(hop) else { return };
        for (_, other) in route.suspects.iter_mut().filter(|(other, _)| **other != id) {
            other.others_passed = true;
            other.same_passed |= other.sender == sender;
        }
    }

    /// The failure was that of one message: the hop goes on at once, with the back-off that it had.
    pub fn hop_goes_on(&self, hop: &Hop) {
        if let Some(route) = lock(&self.inner).routes.get_mut(hop) {
            route.breaker.resume();
        }
        self.changed.notify_one();
    }
}

impl HopState {
    /// What is handed out next of what is due: first what was in hand at no failure, and after a pause what is urgent and
    /// then the newest, since the oldest has had its turn.
    pub(super) fn next_due(
        &self,
        now: Duration,
        link: Uplink,
        messages: &Messages,
    ) -> Option<(Duration, QueueId)> {
        let first = self.first(link, messages).filter(|&(due, _)| due <= now)?;
        if self.suspects.is_empty() {
            return Some(first);
        }
        let failures = |id: QueueId| self.suspects.get(&id).map_or(0, |suspect| suspect.failures);
        let is_due =
            |&(&(due, id), _): &(&(Duration, QueueId), &Duration)| due <= now && passes(link, messages, id);
        let due = || self.waiting.iter().take_while(|((due, _), _)| *due <= now).filter(is_due);
        let chosen = if self.breaker.pause().is_none() {
            let blameless = due().find(|((_, id), _)| failures(*id) == 0);
            blameless.or_else(|| due().min_by_key(|((_, id), _)| failures(*id)))
        } else {
            let is_urgent = |id: QueueId| messages.get(&id).is_some_and(|known| known.is_urgent);
            due().min_by_key(|((_, id), arrival)| {
                (failures(*id), !is_urgent(*id), Reverse(**arrival), Reverse(*id))
            })
        };
        chosen.map(|(key, _)| *key)
    }
}

/// A reply as it would be given to any message: providers put the id of the session into it.
fn without_ids(reply: &str) -> String {
    let is_id = |word: &str| word.bytes().any(|b| b.is_ascii_digit());
    let words = reply.split_whitespace().enumerate();
    // Code and status come first.
    let kept: Vec<&str> = words.filter(|(i, word)| *i < 2 || !is_id(word)).map(|(_, word)| word).collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_the_same_but_for_the_ids_in_them() {
        let same = |a: &str, b: &str| without_ids(a) == without_ids(b);
        assert!(same(
            "550 5.4.5 Daily user sending limit exceeded. 4fb4d7f45d1cf-5a1 - gsmtp",
            "550 5.4.5 Daily user sending limit exceeded. 98e67ed59e1d1-2b7 - gsmtp"
        ));
        assert!(!same("550 5.4.5 limit exceeded", "550 5.7.1 limit exceeded"));
        assert!(!same("550 5.4.5 limit exceeded", "550 5.4.5 quota exceeded"));
        assert!(!same("550 limit exceeded", "554 limit exceeded"));
    }
}
