//! Remembers the results of look-ups as long as their TTL allows (RFC 1035 §7.3, RFC 2308, RFC 9520).
//!
//! The cache is small on purpose: a box that sends alerts asks for a handful of names. It never reads the clock: the
//! caller passes the time.

use super::DnsError;
use super::RecordSet;
use super::answer::DnsName;
use domain::base::iana::Rtype;
use std::time::Duration;

/// The number of results that are kept.
const ENTRIES_MAX: usize = 256;
/// An answer with more records is not remembered, so that hostile zones can't fill the memory.
const RECORDS_CACHED_MAX: usize = 32;

/// The result of a look-up. An empty set: the name has no record of the type.
pub(super) type LookUpResult = Result<RecordSet, DnsError>;

struct CacheEntry {
    name: DnsName,
    rtype: Rtype,
    expires: Duration,
    outcome: LookUpResult,
}

/// The latest results, unordered.
#[derive(Default)]
pub(super) struct Cache(Vec<CacheEntry>);

impl Cache {
    pub fn get(&self, name: &DnsName, rtype: Rtype, now: Duration) -> Option<LookUpResult> {
        let mut entries = self.0.iter();
        let entry = entries.find(|e| e.rtype == rtype && e.expires > now && e.name == *name)?;
        Some(entry.outcome.clone())
    }

    pub fn put(&mut self, name: DnsName, rtype: Rtype, outcome: LookUpResult, ttl: Duration, now: Duration) {
        self.0.retain(|e| e.expires > now && !(e.rtype == rtype && e.name == name));
        if ttl.is_zero() || outcome.as_ref().is_ok_and(|set| set.records.len() > RECORDS_CACHED_MAX) {
            return;
        }
        if self.0.len() >= ENTRIES_MAX
            && let Some((soonest, _)) = self.0.iter().enumerate().min_by_key(|(_, e)| e.expires)
        {
            self.0.swap_remove(soonest);
        }
        self.0.push(CacheEntry { name, rtype, expires: now.saturating_add(ttl), outcome });
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::DnsRecord;
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn name(text: &str) -> DnsName {
        text.parse().unwrap()
    }

    #[test]
    fn an_entry_lives_as_long_as_its_ttl_whatever_the_case() {
        let mut cache = Cache::default();
        cache.put(name("a.example"), Rtype::A, Ok(RecordSet::default()), Duration::from_secs(60), NOW);
        let at = |secs| cache.get(&name("A.Example"), Rtype::A, NOW + Duration::from_secs(secs));
        assert_eq!(at(59), Some(Ok(RecordSet::default())));
        assert_eq!(at(60), None);
        assert_eq!(cache.get(&name("a.example"), Rtype::AAAA, NOW), None);
    }

    #[test]
    fn a_full_cache_drops_what_would_expire_first() {
        let mut cache = Cache::default();
        for i in 0..=ENTRIES_MAX {
            let ttl = Duration::from_secs(if i == 7 { 1 } else { 60 });
            cache.put(name(&format!("n{i}.example")), Rtype::A, Ok(RecordSet::default()), ttl, NOW);
        }
        assert_eq!(cache.0.len(), ENTRIES_MAX);
        assert_eq!(cache.get(&name("n7.example"), Rtype::A, NOW), None);
        assert!(cache.get(&name("n256.example"), Rtype::A, NOW).is_some());
    }

    #[test]
    fn nothing_without_a_ttl_and_nothing_huge_is_kept() {
        let mut cache = Cache::default();
        let record = DnsRecord::Address([192, 0, 2, 1].into());
        let many = vec![record; RECORDS_CACHED_MAX + 1];
        cache.put(name("a.example"), Rtype::A, Ok(RecordSet::default()), Duration::ZERO, NOW);
        cache.put(
            name("b.example"),
            Rtype::A,
            Ok(RecordSet { records: many, is_secure: false }),
            Duration::from_secs(60),
            NOW,
        );
        assert!(cache.0.is_empty());
    }
}
