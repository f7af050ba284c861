//! Messages that were being sent when their hop failed, at MAIL or later: the message may be to blame, or the hop.
//!
//! Such a message is handed out after the others, so that one message never holds the others back. The
//! verdict on each failure:
//!
//! | failure | so far | to blame |
//! | --- | --- | --- |
//! | no refusal (a lost connection, 421) | the message's first failure | the hop |
//! | no refusal | a later failure | the message: it waits its own step |
//! | refusal for account, limit or a similar reason | no other message has passed since | the hop |
//! | such a refusal | another message has passed | the message: it waits its own step |
//! | such a refusal, [`REFUSALS_MAX`] times in the same words | another message of the same sender has passed | the message, for good |
//!
//! A restart forgets the suspects: the count starts again, which costs one pause.

use super::hop_state::{HopState, Messages, passes};
use super::{Hop, QueueIndex};
use crate::mail::id::QueueId;
use crate::rules::pacing::downtime::Uplink;
use std::cmp::Reverse;
use std::time::Duration;

/// A message is refused for good after this number of refusals in the same words while others of its sender passed.
const REFUSALS_MAX: u32 = 3;

/// What is known of such a message.
#[derive(Debug, Default)]
pub(super) struct Suspect {
    /// Failures of the hop while it was being sent.
    failures: u32,
    /// The reverse-path that the host was given.
    sender: String,
    /// Another message has passed since.
    others_passed: bool,
    /// Another message of the same sender has passed since.
    same_passed: bool,
    /// The words of the latest refusal, and how often in a row they came.
    refused: String,
    refusals: u32,
}

/// A message that was being sent when its hop failed.
#[derive(Debug, Clone, Copy)]
pub struct FailedMessage<'a> {
    /// Its id.
    pub id: QueueId,
    /// The reverse-path that the host was given.
    pub sender: &'a str,
    /// The reply, if the smarthost refused for the account, a limit or a similar reason.
    pub refusal: Option<&'a str>,
}

/// The verdict on a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The hop: it pauses, and the message stays as it is.
    Hop,
    /// The message, which has failed this number of times: it waits its own step, and the hop goes on.
    Message(u32),
    /// The message, for good: it fails, and the hop goes on.
    Refused,
}

impl QueueIndex {
    /// Notes the failure of a hop while a message was being sent, and decides which of the two is to blame. A refusal
    /// is taken for the account's until another message passes, and proves nothing against the message until another
    /// message of the same sender passes.
    pub fn blame(&self, hop: &Hop, failed: FailedMessage<'_>) -> Blame {
        let mut inner = self.inner.lock();
        let state = inner.hops.entry(hop.clone()).or_default();
        let suspect = state.suspects.entry(failed.id).or_default();
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

    /// Notes that a message of this sender has passed: the refusals of other messages did not concern the whole
    /// account.
    pub fn message_passed(&self, hop: &Hop, id: QueueId, sender: &str) {
        let mut inner = self.inner.lock();
        let Some(state) = inner.hops.get_mut(hop) else { return };
        for (_, other) in state.suspects.iter_mut().filter(|(other, _)| **other != id) {
            other.others_passed = true;
            other.same_passed |= other.sender == sender;
        }
    }

    /// Notes that the failure was that of one message: the hop goes on at once, and keeps its back-off.
    pub fn hop_goes_on(&self, hop: &Hop) {
        if let Some(state) = self.inner.lock().hops.get_mut(hop) {
            state.breaker.resume();
        }
        self.changed.notify_one();
    }
}

impl HopState {
    /// The message that is handed out next of those that are due: first one that was not being sent at a failure. For
    /// the single try after a pause an urgent message goes first, then the newest: the oldest has had its turn.
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

/// A reply without the ids that providers put into it, so that the same refusal of two sessions compares equal.
fn without_ids(reply: &str) -> String {
    let is_id = |word: &str| word.bytes().any(|b| b.is_ascii_digit());
    let words = reply.split_whitespace().enumerate();
    // The first two words are code and status, which have digits too.
    let kept: Vec<&str> = words.filter(|(i, word)| *i < 2 || !is_id(word)).map(|(_, word)| word).collect();
    kept.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::hop_state::IndexedMessage;
    use super::*;

    #[test]
    fn what_the_link_keeps_back_is_not_handed_out_after_a_failure_either() {
        let id = |n| QueueId::new(n, 0);
        let message = |is_urgent| IndexedMessage::new(1, Duration::ZERO, is_urgent);
        let messages = Messages::from([(id(1), message(false)), (id(2), message(true))]);
        let mut state = HopState::default();
        let [first, second] = [1, 2].map(|n| (Duration::from_secs(n), id(n)));
        state.waiting.extend([(first, Duration::ZERO), (second, Duration::ZERO)]);
        state.suspects.insert(id(3), Suspect::default());
        let next = |link| state.next_due(Duration::from_secs(9), link, &messages);
        assert_eq!((next(Uplink::Metered), next(Uplink::Up)), (Some(second), Some(first)));
    }

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
