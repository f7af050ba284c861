//! What was learnt about single hosts: smarthosts that were silent or refused mail, and hosts whose CHUNKING does not
//! work.
//!
//! | learnt | by | effect | forgotten |
//! | --- | --- | --- | --- |
//! | a smarthost is silent | [`QueueIndex::host_failed`] | it is tried after the other smarthosts | after five minutes, or when it accepts a message |
//! | a smarthost refuses for account or limit | [`QueueIndex::host_refused`] | it is left out while another smarthost can be used | after a pause that grows, or when it accepts a message |
//! | a host does not accept BDAT | [`QueueIndex::remember_no_chunks`] | it gets DATA | when 64 other hosts were learnt since |
//!
//! A flush or a reload forgets the silent and refusing smarthosts as well. A restart forgets everything: it costs a
//! connection.

use super::QueueIndex;
use crate::mail::next_hop::Smarthost;
use std::time::Duration;

/// How long a silent smarthost is tried after the others.
const SILENCE: Duration = Duration::from_secs(300);
/// The most hosts without BDAT that are remembered.
const NO_CHUNKS_MAX: usize = 64;

/// A smarthost that others go before.
#[derive(Debug)]
pub(super) struct TroubledHost {
    host: Smarthost,
    /// The running time until which others go first.
    until: Duration,
    /// The number of refusals in a row for the account, a limit or a similar reason.
    refusals: u32,
}

impl QueueIndex {
    /// Notes that a smarthost could not be used: others go first for [`SILENCE`].
    pub fn host_failed(&self, host: &Smarthost, now: Duration) {
        let troubled_hosts = &mut self.inner.lock().troubled_hosts;
        troubled_hosts.retain(|known| known.refusals > 0 || known.until > now);
        let until = now.saturating_add(SILENCE);
        match troubled_hosts.iter_mut().find(|known| known.host == *host) {
            Some(known) => known.until = known.until.max(until),
            None => troubled_hosts.push(TroubledHost { host: host.clone(), until, refusals: 0 }),
        }
    }

    /// Notes that a smarthost refuses for a reason that is not the message's. It is left out for the time that `step`
    /// gives for the number of refusals in a row; the pause is returned. Refusals during the pause, to workers that
    /// were connected before, do not lengthen it.
    pub fn host_refused(&self, host: &Smarthost, now: Duration, step: &dyn Fn(u32) -> Duration) -> Duration {
        let troubled_hosts = &mut self.inner.lock().troubled_hosts;
        let known = troubled_hosts.iter().position(|known| known.host == *host);
        let refuses = known.and_then(|place| troubled_hosts.get(place)).filter(|known| known.refusals > 0);
        if let Some(pause) = refuses.map(|known| known.until.saturating_sub(now)).filter(|it| !it.is_zero()) {
            return pause;
        }
        let refusals = known.map_or(0, |place| troubled_hosts.swap_remove(place).refusals).saturating_add(1);
        let pause = step(refusals);
        troubled_hosts.push(TroubledHost { host: host.clone(), until: now.saturating_add(pause), refusals });
        pause
    }

    /// Notes that a smarthost has accepted a message.
    pub fn host_works(&self, host: &Smarthost) {
        self.inner.lock().troubled_hosts.retain(|known| known.host != *host);
    }

    /// Whether other smarthosts go before this one.
    #[must_use]
    pub fn is_silent(&self, host: &Smarthost, now: Duration) -> bool {
        self.inner.lock().troubled_hosts.iter().any(|known| known.host == *host && known.until > now)
    }

    /// Whether a smarthost has refused, and is left out.
    #[must_use]
    pub fn is_refusing(&self, host: &Smarthost, now: Duration) -> bool {
        let refuses = |known: &TroubledHost| known.host == *host && known.refusals > 0 && known.until > now;
        self.inner.lock().troubled_hosts.iter().any(refuses)
    }

    /// Notes that a host offers CHUNKING but did not accept BDAT.
    pub fn remember_no_chunks(&self, host: &str) {
        let known = &mut self.inner.lock().hosts_without_chunking;
        if known.iter().all(|name| name != host) {
            if known.len() >= NO_CHUNKS_MAX {
                known.remove(0);
            }
            known.push(host.to_owned());
        }
    }

    /// Whether a host offers CHUNKING but did not accept BDAT.
    #[must_use]
    pub fn knows_no_chunks(&self, host: &str) -> bool {
        self.inner.lock().hosts_without_chunking.iter().any(|name| name == host)
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
        assert_eq!(index.inner.lock().hosts_without_chunking.len(), NO_CHUNKS_MAX);
        assert!(index.knows_no_chunks("mx127.example") && !index.knows_no_chunks("mx0.example"));
    }

    /// As with [`Breaker`](crate::rules::pacing::breaker::Breaker): five workers would else make four hours of it at
    /// once.
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
