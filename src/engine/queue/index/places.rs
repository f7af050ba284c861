//! Who has a place among the connections to other hosts, and who has to give it away: another host's silence must not keep
//! a new destination waiting.
//!
//! A destination that has not answered lately has its place for half a second of silence if another one waits for it; then
//! it goes to the end of the line, and has twice the time when its turn comes again. So any number of hosts that say
//! nothing costs a new destination moments, and a host that is slow gets its minutes as soon as nobody waits.

use super::hop_state::HopState;
use super::{ANSWERED_MAX, Hop, Inner, Pending, QueueIndex, lock};
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::smtp::limits;
use std::cmp::Reverse;
use std::time::Duration;

/// Silence that is allowed at first while others wait; it doubles each time.
const FIRST_SILENCE: Duration = Duration::from_millis(500);

/// Destinations that wait for a place.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// How many.
    pub waiting: usize,
    /// How often that one of them has given its place away that did so least.
    pub turns: u32,
    /// It is `relay.connections` that leaves no place, not the share of those who have not answered lately.
    pub is_full: bool,
}

impl Crowd {
    /// Takes note of a destination that waits.
    pub fn add(&mut self, route: &mut HopState) {
        route.lacks_place = true;
        self.turns = if self.waiting == 0 { route.turns } else { self.turns.min(route.turns) };
        self.waiting += 1;
    }
}

impl HopState {
    /// Who goes first among those that have no connection yet: who has waited in vain least often, then what is newest.
    pub(super) fn rank(&self, due: Duration) -> (u32, u32, Reverse<Duration>) {
        (self.turns, self.breaker.failures(), Reverse(due))
    }
}

impl QueueIndex {
    /// A hop has answered, and let us in: it may have more than one connection, of those that are kept for such hops.
    pub fn hop_answered(&self, hop: &Hop, now: Duration) {
        let mut inner = lock(&self.inner);
        if let Some(route) = inner.routes.get_mut(hop) {
            (route.turns, route.gives_way) = (0, false);
        }
        if let Some((_, at)) = inner.answered.iter_mut().find(|(known, _)| known == hop) {
            *at = now;
            return;
        }
        if inner.answered.len() >= ANSWERED_MAX {
            let oldest = inner.answered.iter().enumerate().min_by_key(|(_, (_, at))| *at);
            let oldest = oldest.map_or(0, |(place, _)| place);
            inner.answered.swap_remove(oldest);
        }
        inner.answered.push((hop.clone(), now));
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether a worker at a hop that has waited for so long for an answer has to give its place away. It is told to only
    /// if it does so then: end the connection, and ask [`Self::gave_way`].
    #[must_use]
    pub fn gives_way(&self, hop: &Hop, silence: Duration) -> bool {
        let inner = &mut *lock(&self.inner);
        let Inner { routes, crowd, answered, stopping, .. } = inner;
        let Some(route) = routes.get_mut(hop) else { return false };
        // Whoever has answered lately has a claim, but not to be silent for longer than a connect may be.
        let is_known = answered.iter().any(|(known, _)| known == hop);
        // It is on its way out, or it has nothing to lose yet and the daemon stops.
        route.gives_way |= *stopping && !is_known;
        if route.gives_way || crowd.waiting == 0 {
            return route.gives_way;
        }
        let turns = if crowd.turns < route.turns { 0 } else { route.turns };
        let allowed = FIRST_SILENCE.saturating_mul(1 << turns.min(16)).min(limits::CONNECT);
        let allowed = if is_known { limits::CONNECT } else { allowed };
        if silence < allowed || (is_known && !crowd.is_full) {
            return false;
        }
        crowd.waiting -= 1;
        // That long a silence is a failure.
        route.gives_way = silence < limits::CONNECT;
        true
    }

    /// Whether a worker has just given its place away: its message goes to the end of the line.
    #[must_use]
    pub fn gave_way(&self, hop: &Hop, pending: Pending, now: Duration) -> bool {
        let mut inner = lock(&self.inner);
        let Some(route) = inner.routes.get_mut(hop).filter(|route| route.gives_way) else { return false };
        route.gives_way = false;
        route.turns = route.turns.saturating_add(1);
        route.breaker.put_off(now);
        inner.wait(hop.clone(), pending, now);
        true
    }

    /// Why a message is not tried at a hop although it is due, if it waits for a place.
    pub(super) fn place_reason(&self, hop: &Hop, id: QueueId, now: Duration) -> Option<Diagnostic> {
        let inner = lock(&self.inner);
        let route = inner.routes.get(hop).filter(|route| route.lacks_place)?;
        let text = "waits for a free connection (relay.connections)";
        let is_due = route.due.get(&id).is_some_and(|&due| due <= now);
        is_due.then(|| Diagnostic::local(EnhancedStatus::DELAYED, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::queue::index::tests::{hop, pending, seconds};
    use crate::engine::queue::index::{Next, WorkerCaps};

    const CAPS: WorkerCaps = WorkerCaps { total: 4, per_hop: 2 };

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// Starts all that may be started.
    fn start(index: &QueueIndex, now: u64) -> Vec<Hop> {
        std::iter::from_fn(|| match index.next(seconds(now), CAPS) {
            Next::Work(hop) => Some(hop),
            _ => None,
        })
        .collect()
    }

    fn end(index: &QueueIndex, hop: &Hop, now: u64) -> bool {
        let pending = index.take(hop, seconds(now));
        let gave_way = pending.is_some_and(|pending| index.gave_way(hop, pending, seconds(now)));
        index.worker_ended(hop);
        gave_way
    }

    #[test]
    fn silence_is_allowed_while_nobody_waits_and_one_place_is_given_to_one() {
        let index = QueueIndex::default();
        for (n, name) in (0..).zip(["a.example", "b.example"]) {
            index.submit(hop(name), pending(n), seconds(n));
        }
        let silent = start(&index, 9);
        assert_eq!(silent.len(), 2);
        assert!(!index.gives_way(&silent[0], seconds(200)), "nobody waits");
        index.submit(hop("new.example"), pending(7), seconds(10));
        assert_eq!(start(&index, 10), []);
        let reason = index.wait_reason(&hop("new.example"), pending(7).id, seconds(10)).unwrap();
        assert_eq!(reason.text, "waits for a free connection (relay.connections)");
        assert!(!index.gives_way(&silent[0], millis(499)));
        assert!(index.gives_way(&silent[0], millis(500)));
        assert!(index.gives_way(&silent[0], millis(1)), "it has been told");
        assert!(!index.gives_way(&silent[1], seconds(20)), "one is enough");
        assert!(end(&index, &silent[0], 10));
        assert_eq!(start(&index, 10), [hop("new.example")], "before the one that gave way");
        assert_eq!(index.wait_reason(&hop("new.example"), pending(7).id, seconds(10)), None);
        assert!(index.wait_reason(&silent[0], pending(1).id, seconds(10)).is_some());
        // It waits itself now, and has twice the time when its turn comes.
        assert!(index.gives_way(&silent[1], millis(500)));
        assert!(end(&index, &silent[1], 10));
        assert_eq!(start(&index, 10).len(), 1);
    }

    #[test]
    fn any_number_of_silent_hosts_costs_a_new_one_moments() {
        let index = QueueIndex::default();
        for n in 0..40 {
            index.submit(hop(&format!("s{n}.example")), pending(n), seconds(0));
        }
        let mut working = start(&index, 1);
        assert_eq!(working.len(), 2);
        for round in 0..30 {
            let silent = working.remove(0);
            // Whatever its turn, it never has longer than a connect; that long a silence is a failure.
            assert!(index.gives_way(&silent, limits::CONNECT), "{round}");
            let taken = index.take(&silent, seconds(1)).unwrap();
            assert!(!index.gave_way(&silent, taken, seconds(1)));
            let reason = Diagnostic::local(EnhancedStatus::NO_ANSWER, "timed out").into();
            index.hop_failed(&silent, Some(taken), seconds(1), &|_| seconds(60), &reason, seconds(999));
            index.worker_ended(&silent);
            working.extend(start(&index, 1));
        }
        index.submit(hop("good.example"), pending(99), seconds(1));
        assert_eq!(start(&index, 1), []);
        assert!(index.gives_way(&working[0], millis(500)));
        assert!(end(&index, &working[0], 1));
        assert_eq!(start(&index, 1), [hop("good.example")], "before the eight that have waited for longer");
    }

    #[test]
    fn who_has_answered_is_borne_with_for_as_long_as_a_connect_if_all_places_are_taken() {
        let index = QueueIndex::default();
        for (n, name) in (0..).zip(["a.example", "b.example"].into_iter().cycle().take(4)) {
            index.submit(hop(name), pending(n), seconds(0));
        }
        let first = start(&index, 1);
        first.iter().for_each(|hop| index.hop_answered(hop, seconds(1)));
        assert_eq!(start(&index, 1).len(), 2, "all four");
        index.submit(hop("new.example"), pending(9), seconds(1));
        assert_eq!(start(&index, 1), []);
        assert!(!index.gives_way(&hop("a.example"), millis(29_999)));
        assert!(index.gives_way(&hop("a.example"), limits::CONNECT));
        let pending = index.take(&hop("a.example"), seconds(1)).unwrap();
        assert!(!index.gave_way(&hop("a.example"), pending, seconds(1)), "that is a failure");
    }

    #[test]
    fn the_one_try_after_a_pause_may_give_way_and_starts_again() {
        let index = QueueIndex::default();
        let reason = Diagnostic::local(EnhancedStatus::NO_ANSWER, "no answer").into();
        let caps = WorkerCaps { total: 2, per_hop: 1 };
        index.submit(hop("a.example"), pending(1), seconds(0));
        index.hop_failed(&hop("a.example"), None, seconds(1), &|_| seconds(60), &reason, seconds(999));
        assert_eq!(index.next(seconds(61), caps), Next::Work(hop("a.example")));
        let taken = index.take(&hop("a.example"), seconds(61)).unwrap();
        index.submit(hop("b.example"), pending(2), seconds(61));
        assert!(matches!(index.next(seconds(61), caps), Next::Wait(_)));
        assert!(index.gives_way(&hop("a.example"), seconds(1)));
        assert!(index.gave_way(&hop("a.example"), taken, seconds(62)));
        index.worker_ended(&hop("a.example"));
        assert_eq!(index.next(seconds(62), caps), Next::Work(hop("b.example")));
        index.worker_ended(&hop("b.example"));
        index.withdraw(pending(2).id);
        assert_eq!(index.next(seconds(62), caps), Next::Work(hop("a.example")), "not in an hour");
    }
}
