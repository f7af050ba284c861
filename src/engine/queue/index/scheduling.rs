//! Scheduling: at which hop the forwarder starts the next worker, how long it may sleep, and how the workers stop.
//!
//! A worker is started at a hop if all of this holds:
//!
//! - The link lets a message out that waits there, its due time has come, and the pause of the hop is over.
//! - No worker is idle there: an idle worker takes the message itself.
//! - The hop has room:
//!
//! | hop | has room for |
//! | --- | --- |
//! | local | one worker, which does not count as a connection |
//! | any, after a pause | one worker: the single try, which has the hop to itself |
//! | has answered within [`LATELY`] | `relay.connections_per_domain` workers, within `relay.connections`; places that are lent (see `places`) do not count |
//! | any other | one worker, while such hops together have less than half of `relay.connections` |
//!
//! Of several hops the local one goes first, then hops without a worker, then by [`HopState::rank`].
//!
//! Hops are forgotten here: one with no worker, no message and no pause may belong to a domain that is never seen
//! again.

use super::hop_state::{HopState, link_for};
use super::places::{LENT_MAX, WaitingHops};
use super::{Hop, Inner, Next, QueueIndex, WorkerCaps};
use crate::sys::lock::wait_while;
use std::time::Duration;

/// A hop that has answered within this time may have several connections.
pub(super) const LATELY: Duration = Duration::from_secs(600);

impl QueueIndex {
    /// What the forwarder does at `now`. A worker that is to be started is counted already.
    #[must_use]
    pub fn next(&self, now: Duration, caps: WorkerCaps) -> Next {
        self.inner.lock().next(now, caps)
    }

    /// Like [`Self::next`], but if there is nothing to do it first waits for a change, at most for `longest`.
    #[must_use]
    pub fn wait(&self, now: Duration, caps: WorkerCaps, longest: Duration) -> Next {
        let mut inner = self.inner.lock();
        let next = inner.next(now, caps);
        let Next::Wait(until) = next else { return next };
        if std::mem::take(&mut inner.is_woken) {
            return next;
        }
        let time = until.map_or(longest, |until| until.saturating_sub(now).min(longest));
        // One wait: whatever has changed, the caller looks at all again.
        let mut is_told = false;
        inner.is_asleep = true;
        let waits = |_: &mut Inner| !std::mem::replace(&mut is_told, true);
        wait_while(&self.changed, inner, time, waits).is_asleep = false;
        Next::Wait(until)
    }

    /// Counts a worker out.
    pub fn worker_ended(&self, hop: &Hop) {
        let mut inner = self.inner.lock();
        let Inner { workers, hops, holds, .. } = &mut *inner;
        *workers = workers.saturating_sub(usize::from(*hop != Hop::Local));
        if let Some(state) = hops.get_mut(hop) {
            state.workers = state.workers.saturating_sub(1);
            if state.workers == 0 {
                *holds = holds.saturating_sub(state.holds.len());
                state.holds.clear();
            }
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Stops handing messages out, and ends idle workers. The others end after their current message.
    pub fn stop(&self) {
        let mut inner = self.inner.lock();
        inner.stopping = true;
        for worker in inner.hops.values_mut().flat_map(|state| state.idle.drain(..)) {
            worker.end();
        }
        drop(inner);
        self.changed.notify_all();
    }

    /// Lets the forwarder look again what is to be done.
    pub fn wake(&self) {
        self.inner.lock().is_woken = true;
        self.changed.notify_all();
    }

    /// Waits up to `patience` until the last worker has ended.
    pub fn wait_for_workers(&self, patience: Duration) {
        let busy = |inner: &mut Inner| inner.hops.values().any(|state| state.workers > 0);
        drop(self.changed.wait_timeout_while(self.inner.lock(), patience, busy));
    }
}

/// The workers that limit a further one.
struct Room {
    caps: WorkerCaps,
    /// Workers at all remote hops.
    workers: usize,
    /// Those of them at hops that have not answered lately.
    at_unproven: usize,
    /// Lent places beyond the bound: of all hops if all connections are taken, otherwise of hops that have not answered
    /// lately.
    lent_beyond: usize,
}

impl Room {
    /// Whether a hop may have one more worker.
    fn is_left(&self, hop: &Hop, state: &HopState, has_answered: bool) -> bool {
        match hop {
            Hop::Local => state.workers == 0,
            // The single try after a pause has the hop to itself: `take` gives a second worker nothing.
            Hop::Relay(_) if state.breaker.pause().is_some() && state.workers > 0 => false,
            Hop::Relay(_) if self.workers >= self.caps.total => false,
            Hop::Relay(_) if has_answered => state.workers < self.caps.per_hop,
            // One connection finds out whether the host answers. Otherwise all of them could wait for silent hosts; and
            // half of the connections are reserved for hops that do answer.
            Hop::Relay(_) => state.workers == 0 && self.at_unproven < (self.caps.total / 2).max(1),
        }
    }
}

impl Inner {
    /// The workers that count, without those whose places are lent.
    fn room(&self, now: Duration, caps: WorkerCaps, has_answered: &dyn Fn(&Hop) -> bool) -> Room {
        let (mut at_unproven, mut lent, mut lent_unproven) = (0, 0, 0);
        for (hop, state) in self.hops.iter().filter(|(hop, _)| **hop != Hop::Local) {
            let lent_here = state.lent(now).min(state.workers);
            lent += lent_here;
            if !has_answered(hop) {
                at_unproven += state.workers;
                lent_unproven += lent_here;
            }
        }
        let workers = self.workers.saturating_sub(lent.min(LENT_MAX));
        let lent_here = if workers >= caps.total { lent } else { lent_unproven };
        Room {
            caps,
            workers,
            at_unproven: at_unproven.saturating_sub(lent_unproven.min(LENT_MAX)),
            lent_beyond: lent_here.saturating_sub(LENT_MAX),
        }
    }

    fn next(&mut self, now: Duration, caps: WorkerCaps) -> Next {
        if self.stopping {
            return Next::Stop;
        }
        self.hops
            .retain(|_, state| state.workers > 0 || !state.waiting.is_empty() || state.breaker.is_open(now));
        self.answered.retain(|(_, at)| now.saturating_sub(*at) < LATELY);
        let has_answered = |hop: &Hop| self.answered.iter().any(|(known, _)| known == hop);
        let room = self.room(now, caps, &has_answered);
        let (is_full, lent_beyond) = (room.workers >= caps.total, room.lent_beyond);
        self.waiting_hops = WaitingHops { is_full, lent_beyond, ..WaitingHops::default() };
        let mut earliest: Option<Duration> = None;
        let mut found: Option<(&Hop, &mut HopState, _)> = None;
        let start = self.starts;
        for (hop, state) in &mut self.hops {
            state.lacks_place = false;
            let Some((due, _)) = state.first(link_for(self.link, hop), &self.messages) else { continue };
            let due = state.breaker.pause().map_or(due, |pause| due.max(pause.until));
            if due > now {
                earliest = Some(earliest.map_or(due, |other| other.min(due)));
                continue;
            }
            if !state.idle.is_empty() {
                continue;
            }
            if room.is_left(hop, state, has_answered(hop)) {
                let rank = (*hop != Hop::Local, state.workers > 0, state.rank(due, now, start));
                if found.as_ref().is_none_or(|(.., best)| rank < *best) {
                    found = Some((hop, state, rank));
                }
            } else if *hop != Hop::Local && state.workers == 0 {
                self.waiting_hops.add(state);
            }
        }
        let Some((hop, state, _)) = found else {
            if self.waiting_hops.count > 0 {
                let holds = self.hops.values().flat_map(|state| &state.holds);
                earliest = holds.map(|(_, from)| *from).filter(|&from| from > now).chain(earliest).min();
            }
            return Next::Wait(earliest.filter(|&due| due < Duration::MAX));
        };
        // The pause, if there was one, is over (see above): this is the single try after it.
        let _ = state.breaker.admit(now);
        if state.workers == 0 && *hop != Hop::Local && !has_answered(hop) {
            self.starts = start.wrapping_add(1);
        }
        state.workers += 1;
        self.workers += usize::from(*hop != Hop::Local);
        Next::Work(hop.clone())
    }
}
