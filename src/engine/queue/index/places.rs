//! Places among the connections to other hosts, and when a worker gives its place away: silent hosts must not keep a
//! new destination waiting.
//!
//! A hop that has not answered lately may be silent for half a second if another hop waits for a place. Then its worker
//! closes the connection, its message goes to the end of the line, and at its next turn the silence may last twice as
//! long. So any number of silent hosts delays a new destination by less than a second, and a slow host gets the full
//! time of a connect as soon as no other hop waits.
//!
//! ```text
//! gives_way ─ true ─▶ the worker closes the connection ─▶ gave_way ─ true ─▶ the message waits again, the worker ends
//!     └ false: read on                                       └ false ─▶ hop_failed: the silence was a failure
//! ```
//!
//! | hop | other hops wait for a place | silence that is allowed |
//! | --- | --- | --- |
//! | any | no | the deadline of the command |
//! | has not answered lately | yes | 0.5 s, doubled with each turn, at most [`limits::CONNECT`] |
//! | has answered lately | yes, and all of `relay.connections` are taken | [`limits::CONNECT`]; then it has failed |
//!
//! A hop has answered once it has replied to all of a message: hostile hosts greet, too.
//!
//! Three steps are not ended by another hop's short wait: a TLS handshake, the sending of data, and the wait for the answer
//! to it, whose end may make a duplicate. After a moment their places are lent ([`QueueIndex::hold`]): up to [`LENT_MAX`]
//! more connections than `relay.connections` are open then. If more places are lent than that and a hop still waits, hosts
//! that hang have taken them all, and [`QueueIndex::gives_up`] ends a step:
//!
//! | step | more than [`LENT_MAX`] places are lent, and other hops wait | otherwise |
//! | --- | --- | --- |
//! | TLS handshake | [`limits::TLS_HANDSHAKE`], which is as short as a connect | the same |
//! | data | [`limits::CONNECT`] for all of it; then the hop has failed | the deadline of the block; it is [`limits::CONNECT`] from [`HURRY_FROM`] steps on, unless the hop has answered lately |
//! | the answer to the data | [`limits::CONNECT`]; then the hop has failed, the one that is silent for longest first | the deadline of the reply |
//!
//! Hops that have answered lately are spared while their share has room. The host may have taken the message whose answer
//! never came: such an end can make a duplicate at this hop, and at no other.
//!
//! Who gets a free place: the hop that has given way least often, of several the one with the fewest failures. Of several
//! such hops the newest goes first, so that no number of hosts keeps a new destination waiting; but at every second start
//! the one goes first that has waited longest, if that is [`LONG_WAIT`] or more, so that no stream of new hops does so
//! either. At one start of four, turns and failures do not count then.
//!
//! While the daemon stops, hops that have not answered lately give way at once: they have no transaction to lose.

use super::hop_state::HopState;
use super::{ANSWERED_MAX, Hop, Inner, Pending, QueueIndex};
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::smtp::limits;
use std::time::Duration;

/// A hop that has waited for a place for this time goes before newer ones at some starts.
const LONG_WAIT: Duration = Duration::from_secs(5);
/// After this number of starts the order of hops repeats.
const ROUND: u8 = 4;
/// The silence that a hop is allowed at its first turn.
const FIRST_SILENCE: Duration = Duration::from_millis(500);
/// The most places that are lent.
pub(super) const LENT_MAX: usize = 16;
/// From this number of steps on whose places may be lent, a block of data has less time.
const HURRY_FROM: usize = LENT_MAX / 2;

/// A step that is not ended by another hop's short wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LongStep {
    /// The TLS handshake.
    Handshake,
    /// Data is sent.
    Data,
    /// The answer to the data is awaited.
    Answer,
}

impl LongStep {
    /// After this time the place is lent.
    #[must_use]
    pub const fn lent_after(self) -> Duration {
        match self {
            Self::Handshake => Duration::from_millis(500),
            Self::Data | Self::Answer => Duration::from_secs(5),
        }
    }
}

/// A worker in such a step, and the running time from which on its place is lent.
pub type Hold = (LongStep, Duration);

/// The hops that wait for a place.
#[derive(Debug, Default)]
pub(super) struct WaitingHops {
    /// Their number, less the places that were given away for them.
    pub count: usize,
    /// The lowest [`HopState::turns`] among them.
    pub turns: u32,
    /// All of `relay.connections` are taken, not only the share of hops that have not answered lately.
    pub is_full: bool,
    /// How many more places are lent than [`LENT_MAX`], less those that were given up.
    pub lent_beyond: usize,
}

impl WaitingHops {
    /// Adds a hop that waits.
    pub fn add(&mut self, state: &mut HopState) {
        state.lacks_place = true;
        self.turns = if self.count == 0 { state.turns } else { self.turns.min(state.turns) };
        self.count += 1;
    }
}

impl HopState {
    /// The number of its workers whose places are lent.
    pub(super) fn lent(&self, now: Duration) -> usize {
        self.holds.iter().filter(|(_, from)| *from <= now).count()
    }

    /// The order among hops that have no connection yet, at this place of the round of [`ROUND`] starts: see the module.
    pub(super) fn rank(&self, due: Duration, now: Duration, start: u8) -> (u32, u32, Duration) {
        let (turns, failures) = (self.turns, self.breaker.failures());
        match start % ROUND {
            _ if now.saturating_sub(due) < LONG_WAIT => (turns, failures, Duration::MAX.saturating_sub(due)),
            3 => (0, 0, due),
            1 => (turns, failures, due),
            _ => (turns, failures, Duration::MAX.saturating_sub(due)),
        }
    }
}

impl Inner {
    /// Whether a hop has answered lately.
    pub(super) fn is_known(&self, hop: &Hop) -> bool {
        self.answered.iter().any(|(known, _)| known == hop)
    }
}

impl QueueIndex {
    /// Begins a long step of a worker. Other hops may use its place from a running time on, until [`Self::release`].
    pub fn hold(&self, hop: &Hop, hold: Hold) {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        if let Some(state) = inner.hops.get_mut(hop) {
            state.holds.push(hold);
            inner.holds += 1;
        }
        let is_wanted = inner.waiting_hops.count > 0;
        drop(guard);
        if is_wanted {
            self.changed.notify_one();
        }
    }

    /// Ends a step that began with [`Self::hold`].
    pub fn release(&self, hop: &Hop, hold: Hold) {
        let inner = &mut *self.inner.lock();
        if let Some(state) = inner.hops.get_mut(hop)
            && let Some(place) = state.holds.iter().position(|held| *held == hold)
        {
            state.holds.swap_remove(place);
            inner.holds = inner.holds.saturating_sub(1);
        }
    }

    /// Whether so many workers are in long steps that the next block of data has the time of a connect.
    #[must_use]
    pub fn hurries(&self, hop: &Hop) -> bool {
        let inner = self.inner.lock();
        inner.holds >= HURRY_FROM && !inner.is_known(hop)
    }

    /// Whether a worker in a long step that has lasted for `silence` ends it, because hosts that hang have taken all
    /// places that may be lent. If so, the hop has failed.
    #[must_use]
    pub fn gives_up(&self, hop: &Hop, (_, from): Hold, silence: Duration) -> bool {
        let Some(beyond) = silence.checked_sub(limits::CONNECT) else { return false };
        let inner = &mut *self.inner.lock();
        let is_known = inner.is_known(hop);
        let WaitingHops { count, is_full, lent_beyond, .. } = inner.waiting_hops;
        if count == 0 || lent_beyond == 0 || (is_known && !is_full) {
            return false;
        }
        // Another worker that has been silent for as long as a connect, and for longer than this one, asks soon.
        let goes_first = |(other, state): (&Hop, &HopState)| {
            let mut silent = state.holds.iter().filter(|(step, _)| *step == LongStep::Answer);
            silent.any(|&(_, since)| {
                since <= from.saturating_add(beyond) && (inner.is_known(other), since) < (is_known, from)
            })
        };
        if inner.hops.iter().any(goes_first) {
            return false;
        }
        inner.waiting_hops.count -= 1;
        inner.waiting_hops.lent_beyond -= 1;
        if let Some(state) = inner.hops.get_mut(hop) {
            state.gives_way = false;
        }
        true
    }

    /// Whether a worker of a hop was told to give its place away, and has not done so yet.
    #[must_use]
    pub fn is_giving_way(&self, hop: &Hop) -> bool {
        self.inner.lock().hops.get(hop).is_some_and(|state| state.gives_way)
    }

    /// Notes that a hop has answered all commands of a message: it may have several connections, also of the half that
    /// is reserved for such hops.
    pub fn hop_answered(&self, hop: &Hop, now: Duration) {
        let mut inner = self.inner.lock();
        if let Some(state) = inner.hops.get_mut(hop) {
            (state.turns, state.gives_way) = (0, false);
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

    /// Whether a worker that has waited for an answer for `silence` gives its place away. If so, the worker has to
    /// close the connection and call [`Self::gave_way`]: the place is promised to another hop.
    #[must_use]
    pub fn gives_way(&self, hop: &Hop, silence: Duration) -> bool {
        let inner = &mut *self.inner.lock();
        let Inner { hops, waiting_hops, answered, stopping, .. } = inner;
        let Some(state) = hops.get_mut(hop) else { return false };
        // A hop that has answered lately keeps its place, but not for a longer silence than a connect is allowed.
        let is_known = answered.iter().any(|(known, _)| known == hop);
        // It was asked before; or the daemon stops, and the hop has no transaction to lose.
        state.gives_way |= *stopping && !is_known;
        if state.gives_way || waiting_hops.count == 0 {
            return state.gives_way;
        }
        let turns = if waiting_hops.turns < state.turns { 0 } else { state.turns };
        let allowed = FIRST_SILENCE.saturating_mul(1 << turns.min(16)).min(limits::CONNECT);
        let allowed = if is_known { limits::CONNECT } else { allowed };
        if silence < allowed || (is_known && !waiting_hops.is_full) {
            return false;
        }
        waiting_hops.count -= 1;
        // A silence as long as this is a failure, not a turn.
        state.gives_way = silence < limits::CONNECT;
        true
    }

    /// Whether the failure of a connection was only that the worker gave its place away. Then the message goes to the
    /// end of the line.
    #[must_use]
    pub fn gave_way(&self, hop: &Hop, pending: Pending, now: Duration) -> bool {
        let mut inner = self.inner.lock();
        let Some(state) = inner.hops.get_mut(hop).filter(|state| state.gives_way) else { return false };
        state.gives_way = false;
        state.turns = state.turns.saturating_add(1);
        state.breaker.put_off(now);
        inner.wait(hop.clone(), pending, now);
        true
    }

    /// The reason why a message that is due waits, if its hop lacks a place.
    pub(super) fn place_reason(&self, hop: &Hop, id: QueueId, now: Duration) -> Option<Diagnostic> {
        let inner = self.inner.lock();
        let state = inner.hops.get(hop).filter(|state| state.lacks_place)?;
        let text = "waits for a free connection (relay.connections)";
        let is_due = state.due.get(&id).is_some_and(|&due| due <= now);
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

    /// Starts all workers that may be started.
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
        // The hop waits itself now, and has twice the time at its next turn.
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
            // At any turn, a silence as long as a connect is a failure.
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
    fn a_hop_that_has_answered_may_be_silent_for_as_long_as_a_connect_if_all_places_are_taken() {
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
    fn steps_that_cannot_be_ended_lend_their_places_after_a_moment() {
        let index = QueueIndex::default();
        for n in 0..4 {
            index.submit(hop(&format!("h{n}.example")), pending(n), seconds(0));
        }
        let working = start(&index, 1);
        assert_eq!(working.len(), 2);
        working.iter().for_each(|hop| index.hold(hop, (LongStep::Answer, seconds(6))));
        assert_eq!(index.next(seconds(1), CAPS), Next::Wait(Some(seconds(6))), "the forwarder looks again");
        assert_eq!(start(&index, 5), []);
        assert_eq!(start(&index, 6).len(), 2);
        // One answers, and its place counts again.
        index.release(&working[0], (LongStep::Answer, seconds(6)));
        index.submit(hop("new.example"), pending(9), seconds(7));
        assert_eq!(start(&index, 7), []);
        index.worker_ended(&working[0]);
        assert_eq!(start(&index, 7), []);
        // Lent places have a bound.
        let index = QueueIndex::default();
        for n in 0..90 {
            index.submit(hop(&format!("h{n}.example")), pending(n), seconds(0));
        }
        let mut all = 0;
        loop {
            let working = start(&index, 9);
            if working.is_empty() {
                break;
            }
            all += working.len();
            working.iter().for_each(|hop| index.hold(hop, (LongStep::Answer, seconds(9))));
        }
        assert_eq!(all, LENT_MAX + CAPS.total / 2);
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

    /// A sender of mail to ever new black holes, as many as are tried, outranks no hop for long: not one that was never
    /// tried, nor one that has failed before.
    #[test]
    fn a_stream_of_new_silent_hosts_goes_before_no_hop_that_has_waited_long() {
        for has_failed in [false, true] {
            let index = QueueIndex::default();
            let (good, begun) = (hop("good.example"), millis(5000));
            if has_failed {
                let reason = Diagnostic::local(EnhancedStatus::NO_ANSWER, "no answer").into();
                index.hop_failed(&good, None, begun, &|_| Duration::ZERO, &reason, seconds(999));
            }
            let mut working: Vec<Hop> = Vec::new();
            let started = (0..200).find_map(|tick| {
                let now = millis(500 * tick);
                if now == begun {
                    index.submit(good.clone(), pending(9999), now);
                }
                for n in [2 * tick, 2 * tick + 1] {
                    index.submit(hop(&format!("s{n}.example")), pending(n), now + millis(1));
                }
                if !working.is_empty() {
                    assert!(matches!(index.next(now + millis(1), CAPS), Next::Wait(_)));
                }
                for silent in working.drain(..) {
                    assert!(index.gives_way(&silent, millis(500)));
                    let taken = index.take(&silent, now).unwrap();
                    assert!(index.gave_way(&silent, taken, now));
                    index.worker_ended(&silent);
                }
                while let Next::Work(hop) = index.next(now + millis(1), CAPS) {
                    working.push(hop);
                }
                working.contains(&good).then_some(now)
            });
            let waited = started.map(|now| now - begun);
            assert!(waited.is_some_and(|waited| waited <= limits::CONNECT), "{has_failed} {waited:?}");
        }
    }

    /// Ends the steps that may be ended at `now`; `begun` holds the hops in the order of their final dots.
    fn give_up(index: &QueueIndex, begun: &mut Vec<(Hop, Duration)>, now: Duration) {
        // The newest asks first, and the oldest goes first.
        while let Some(place) = begun.iter().rposition(|(hop, at)| {
            let hold = (LongStep::Answer, *at + LongStep::Answer.lent_after());
            index.gives_up(hop, hold, now - *at)
        }) {
            let (hop, at) = begun.remove(place);
            assert!(begun.iter().all(|(_, other)| *other >= at), "the longest silence ends first");
            index.release(&hop, (LongStep::Answer, at + LongStep::Answer.lent_after()));
            let taken = index.take(&hop, now).unwrap();
            let reason = Diagnostic::local(EnhancedStatus::NO_ANSWER, "timed out").into();
            index.hop_failed(&hop, Some(taken), now, &|_| seconds(1), &reason, seconds(9999));
            index.worker_ended(&hop);
        }
    }

    /// However many hosts hang after the final dot, as fast as they can, and again as soon as their pause is over.
    #[test]
    fn hosts_that_hang_after_the_final_dot_keep_a_new_hop_no_longer_than_a_connect() {
        let caps = WorkerCaps { total: 8, per_hop: 2 };
        for (hosts, arrival) in [(21, 25), (40, 1), (40, 24), (40, 26), (40, 200), (400, 100), (400, 500)] {
            let index = QueueIndex::default();
            let good = hop("good.example");
            for n in 0..hosts {
                index.submit(hop(&format!("s{n}.example")), pending(n), Duration::ZERO);
            }
            let mut begun: Vec<(Hop, Duration)> = Vec::new();
            let started = (0..2 * 600).find_map(|tick| {
                let now = millis(500 * tick);
                if now == seconds(arrival) {
                    index.submit(good.clone(), pending(9999), now);
                }
                give_up(&index, &mut begun, now);
                while let Next::Work(hop) = index.next(now, caps) {
                    index.hold(&hop, (LongStep::Answer, now + LongStep::Answer.lent_after()));
                    begun.push((hop, now));
                }
                assert!(begun.len() <= LENT_MAX + caps.total);
                begun.iter().any(|(hop, _)| *hop == good).then_some(now)
            });
            let waited = started.map(|now| now - seconds(arrival));
            assert!(
                waited.is_some_and(|waited| waited <= limits::CONNECT + seconds(1)),
                "{hosts} hosts, {arrival} s: {waited:?}"
            );
        }
    }

    #[test]
    fn a_host_that_hangs_after_the_final_dot_keeps_its_time_while_places_can_be_lent() {
        let index = QueueIndex::default();
        let hold = (LongStep::Answer, seconds(6));
        index.submit(hop("slow.example"), pending(0), seconds(0));
        for n in 1..4 {
            index.submit(hop(&format!("h{n}.example")), pending(n), seconds(1));
        }
        for hop in start(&index, 1) {
            index.hold(&hop, hold);
        }
        assert!(matches!(index.next(seconds(2), CAPS), Next::Wait(Some(_))), "others wait");
        assert!(!index.gives_up(&hop("slow.example"), hold, seconds(599)));
        assert!(!index.hurries(&hop("slow.example")));
    }

    /// Hosts that answered a message first, and hang now: they may have all of the connections.
    #[test]
    fn hosts_that_have_answered_lately_give_up_only_if_all_places_are_taken() {
        let index = QueueIndex::default();
        let hold = |n| (LongStep::Answer, seconds(n));
        for n in 0..30 {
            let hop = hop(&format!("h{n}.example"));
            index.submit(hop.clone(), pending(n), seconds(0));
            index.hop_answered(&hop, seconds(0));
        }
        let mut all = Vec::new();
        while let Next::Work(hop) = index.next(seconds(9), CAPS) {
            index.hold(&hop, hold(9));
            all.push(hop);
        }
        assert_eq!(all.len(), CAPS.total + LENT_MAX);
        assert!(index.hurries(&hop("new.example")) && !index.hurries(&all[0]));
        assert!(!index.gives_up(&all[0], hold(9), millis(29_999)));
        assert!(index.gives_up(&all[0], hold(9), limits::CONNECT));
        let more = all[1..].iter().filter(|hop| index.gives_up(hop, hold(9), limits::CONNECT));
        assert_eq!(more.count(), CAPS.total - 1, "one for each place beyond those that may be lent");
        index.worker_ended(&all[0]);
        assert!(matches!(index.next(seconds(40), CAPS), Next::Work(_)));
    }
}
