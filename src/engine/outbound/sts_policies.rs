//! The MTA-STS policies of domains (RFC 8461): fetched by HTTPS, kept on disk, and fetched again when DNS names
//! another id.
//!
//! | `_mta-sts` TXT record | policy on disk | result |
//! | --- | --- | --- |
//! | missing, or not readable | holds | the one on disk (§3.1) |
//! | missing, or not readable | missing, or ended | no policy |
//! | there, with the same id | holds, and no refresh is due | the one on disk |
//! | there | any other | fetched and saved; if the fetch fails, the one on disk while it holds |
//!
//! A policy "holds" until its max_age has passed, by the wall clock or by the running clock. A fetch that failed is not repeated for ten minutes for the same id
//! (§3.3). A failure is logged, and never stops mail by itself.

use crate::engine::host::site::Site;
use crate::engine::log::event::{Event, trouble};
use crate::mail::date::Now;
use crate::net::connect::Connect;
use crate::net::https::PORT_HTTPS;
use crate::net::policy_fetch;
use crate::net::resolver::{DnsRecord, Resolve, Rtype};
use crate::net::transport::Deadline;
use crate::rules::tls::tls_policy::mta_sts::{self, FetchTime, Kept, Policy};
use crate::store::state_file::sts;
use crate::sys::lock::Lock;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a fetch may take, from the first connect on (RFC 8461 §3.3 suggests a minute, while mail waits).
const FETCH: Duration = Duration::from_secs(10);
/// A fetch that failed is tried again after this time (§3.3: at least five minutes).
const FETCH_AGAIN: Duration = Duration::from_secs(600);
/// The most failures that are remembered.
const FAILURES_MAX: usize = 256;

/// A fetch that failed.
#[derive(Debug)]
struct FailedFetch {
    domain: String,
    id: String,
    /// The running time from which on it may be tried again.
    again_at: Duration,
}

/// The MTA-STS policies. They lie on disk; only the fetches that failed lately are in memory.
#[derive(Debug, Default)]
pub struct StsPolicies(Lock<Vec<FailedFetch>>);

impl StsPolicies {
    /// The policy that holds for a domain, given in lower case. It is fetched if DNS names a new one.
    pub fn policy(
        &self,
        resolver: &dyn Resolve,
        connect: &dyn Connect,
        now: Now,
        site: &Site,
        domain: &str,
    ) -> Option<Policy> {
        let state = &site.settings.state;
        let time = FetchTime { wall: now.wall.seconds(), running: now.running.as_secs() };
        let kept = read_kept(site, domain).filter(|kept| kept.holds(time));
        let records = resolver.records(&format!("_mta-sts.{domain}"), Rtype::TXT);
        let id =
            records.ok().and_then(|set| mta_sts::find_id(&data(&set.records).cloned().collect::<Vec<_>>()));
        // Without a record there is no new policy, and the one on disk still holds (RFC 8461 §3.1).
        let Some(id) = id else { return kept.map(|kept| kept.policy) };
        let is_current = kept.as_ref().is_some_and(|kept| kept.id == id && !kept.wants_refresh(time));
        if is_current || self.has_failed(domain, &id, now.running) {
            return kept.map(|kept| kept.policy);
        }
        match fetch(resolver, connect, site, domain) {
            Ok((text, policy)) => {
                if let Err(error) = sts::save(state, domain, &Kept::print(&id, time, &text)) {
                    trouble("keeping an MTA-STS policy", &error);
                }
                Some(policy)
            }
            Err(reason) => {
                let reason = format!("the MTA-STS policy can't be fetched: {reason}");
                Event::TlsPolicy { domain, reason: &reason }.log();
                self.note_failure(FailedFetch {
                    domain: domain.to_owned(),
                    id,
                    again_at: now.running.saturating_add(FETCH_AGAIN),
                });
                kept.map(|kept| kept.policy)
            }
        }
    }

    fn has_failed(&self, domain: &str, id: &str, now: Duration) -> bool {
        let failures = self.0.lock();
        failures.iter().any(|it| it.domain == domain && it.id == id && it.again_at > now)
    }

    fn note_failure(&self, failure: FailedFetch) {
        let mut failures = self.0.lock();
        failures.retain(|it| it.domain != failure.domain);
        if failures.len() >= FAILURES_MAX {
            failures.remove(0);
        }
        failures.push(failure);
    }
}

fn read_kept(site: &Site, domain: &str) -> Option<Kept> {
    let octets = sts::load(&site.settings.state, domain)?;
    let kept = std::str::from_utf8(&octets).ok().and_then(Kept::parse);
    if kept.is_none() {
        Event::TlsPolicy { domain, reason: "the MTA-STS policy that is kept can't be read" }.log();
    }
    kept
}

fn fetch(
    resolver: &dyn Resolve,
    connect: &dyn Connect,
    site: &Site,
    domain: &str,
) -> Result<(String, Policy), String> {
    let host = format!("mta-sts.{domain}");
    let addresses = resolver.addresses(&host).map_err(|error| error.text)?;
    let allowed = addresses.into_iter().filter(|&ip| site.allows_family(ip));
    let addresses: Vec<SocketAddr> = allowed.map(|ip| SocketAddr::new(ip, PORT_HTTPS)).collect();
    let text = policy_fetch::fetch(connect, &site.connector, &host, &addresses, Deadline::after(FETCH))?;
    let policy = Policy::parse(&text).ok_or("it is not a valid policy (RFC 8461)")?;
    Ok((text, policy))
}

/// The octets of TXT and TLSA records.
pub(super) fn data(records: &[DnsRecord]) -> impl Iterator<Item = &Vec<u8>> {
    records.iter().filter_map(|record| match record {
        DnsRecord::Data(octets) => Some(octets),
        DnsRecord::Address(_) | DnsRecord::Mx(_) => None,
    })
}
