//! What was learnt of single hosts: smarthosts that were silent or refuse, and hosts whose CHUNKING does not work.
//!
//! Within bounds, and for as long as this process runs. Nothing here fails.

use super::{QueueIndex, lock};
use crate::mail::next_hop::Smarthost;
use std::time::Duration;

/// A smarthost that could not be used is asked last for this time.
const SILENCE: Duration = Duration::from_secs(300);
/// So many hosts without BDAT are remembered.
const NO_CHUNKS_MAX: usize = 64;

/// A smarthost that others go before.
#[derive(Debug)]
pub(super) struct Troubled {
    host: Smarthost,
    /// Until when.
    until: Duration,
    /// How often in a row it has refused for the account, a limit or the like.
    refusals: u32,
}

impl QueueIndex {
    /// A smarthost could not be used: others go first for a while.
    pub fn host_failed(&self, host: &Smarthost, now: Duration) {
        let troubled = &mut lock(&self.inner).troubled;
        troubled.retain(|known| known.refusals > 0 || known.until > now);
        let until = now.saturating_add(SILENCE);
        match troubled.iter_mut().find(|known| known.host == *host) {
            Some(known) => known.until = known.until.max(until),
            None => troubled.push(Troubled { host: host.clone(), until, refusals: 0 }),
        }
    }

    /// A smarthost refuses for a reason of its own: it is left alone for what `step` makes of the number of refusals in a
    /// row, which is given. What it refuses meanwhile to others, who were there before, tells nothing new.
    pub fn host_refused(&self, host: &Smarthost, now: Duration, step: &dyn Fn(u32) -> Duration) -> Duration {
        let troubled = &mut lock(&self.inner).troubled;
        let known = troubled.iter().position(|known| known.host == *host);
        let refuses = known.and_then(|place| troubled.get(place)).filter(|known| known.refusals > 0);
        if let Some(pause) = refuses.map(|known| known.until.saturating_sub(now)).filter(|it| !it.is_zero()) {
            return pause;
        }
        let refusals = known.map_or(0, |place| troubled.swap_remove(place).refusals).saturating_add(1);
        let pause = step(refusals);
        troubled.push(Troubled { host: host.clone(), until: now.saturating_add(pause), refusals });
        pause
    }

    /// A smarthost has taken a message.
    pub fn host_works(&self, host: &Smarthost) {
        lock(&self.inner).troubled.retain(|known| known.host != *host);
    }

    /// Whether a smarthost could not be used a while ago.
    #[must_use]
    pub fn is_silent(&self, host: &Smarthost, now: Duration) -> bool {
        lock(&self.inner).troubled.iter().any(|known| known.host == *host && known.until > now)
    }

    /// Whether a smarthost has refused, and is left alone.
    #[must_use]
    pub fn is_refusing(&self, host: &Smarthost, now: Duration) -> bool {
        let refuses = |known: &Troubled| known.host == *host && known.refusals > 0 && known.until > now;
        lock(&self.inner).troubled.iter().any(refuses)
    }

    /// A host did not take the BDAT that it offers: it gets DATA from now on.
    pub fn remember_no_chunks(&self, host: &str) {
        let known = &mut lock(&self.inner).without_chunks;
        if known.iter().all(|name| name != host) {
            if known.len() >= NO_CHUNKS_MAX {
                known.remove(0);
            }
            known.push(host.to_owned());
        }
    }

    /// Whether a host did not take the BDAT that it offers.
    #[must_use]
    pub fn knows_no_chunks(&self, host: &str) -> bool {
        lock(&self.inner).without_chunks.iter().any(|name| name == host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_has_a_bound() {
        let index = QueueIndex::default();
        for n in 0..2 * NO_CHUNKS_MAX {
            index.remember_no_chunks(&format!("mx{n}.example"));
            index.remember_no_chunks("mx100.example");
        }
        assert_eq!(lock(&index.inner).without_chunks.len(), NO_CHUNKS_MAX);
        assert!(index.knows_no_chunks("mx127.example") && !index.knows_no_chunks("mx0.example"));
    }

    /// As with [`Breaker`](crate::rules::pacing::breaker::Breaker): five workers would else make four hours of it at once.
    #[test]
    fn refusals_that_come_together_count_once() {
        let index = QueueIndex::default();
        let host = Smarthost::parse("smtp://a.example").unwrap();
        let at = Duration::from_secs;
        let step = |refusals: u32| at(900) * refusals;
        index.host_refused(&host, at(0), &step);
        for _ in 0..4 {
            assert_eq!(index.host_refused(&host, at(10), &step), at(890));
        }
        assert!(index.is_refusing(&host, at(899)) && !index.is_refusing(&host, at(900)));
        assert_eq!(index.host_refused(&host, at(900), &step), at(1800));
    }

    #[test]
    fn a_smarthost_that_refuses_is_left_alone_for_longer_each_time_until_it_takes_something() {
        let index = QueueIndex::default();
        let [host, other] =
            ["a", "b"].map(|name| Smarthost::parse(&format!("smtp://{name}.example")).unwrap());
        let at = Duration::from_secs;
        let step = |refusals: u32| at(900) * refusals;
        assert_eq!(index.host_refused(&host, at(0), &step), at(900));
        assert!(index.is_refusing(&host, at(899)) && index.is_silent(&host, at(899)));
        assert!(!index.is_refusing(&host, at(900)) && !index.is_refusing(&other, at(0)));
        index.host_failed(&other, at(1));
        assert!(index.is_silent(&other, at(300)) && !index.is_refusing(&other, at(300)));
        assert_eq!(index.host_refused(&host, at(1000), &step), at(1800));
        index.host_failed(&host, at(1001));
        assert!(index.is_refusing(&host, at(2799)));
        index.host_works(&host);
        assert!(!index.is_silent(&host, at(1001)));
        assert_eq!(index.host_refused(&host, at(5000), &step), at(900));
    }
}
