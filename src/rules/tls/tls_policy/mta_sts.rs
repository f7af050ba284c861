//! MTA-STS (RFC 8461): the TXT record that announces a policy, the policy itself, and the life of a policy that was
//! kept.
//!
//! The life of a policy (§3.3, §5.1):
//!
//! | event | then |
//! | --- | --- |
//! | the TXT record shows a new id | the policy is fetched |
//! | the policy is a day old, or half of `max_age` has passed | it is fetched again, though the id is the same |
//! | the fetch fails, or the TXT record is gone | the kept policy still holds until `max_age` |
//! | `max_age` has passed, by the wall clock or by the running clock | the policy no longer holds |
//!
//! Both grammars (§3.1, §3.2) are applied strictly: a domain that can publish a policy can publish a correct one, and
//! a policy that is only half understood would only half be obeyed. A record or policy with a syntax error does not
//! exist (`None`).

use std::time::Duration;

/// The longest time for which a policy holds: a year (RFC 8461 §3.2).
const MAX_AGE_MAX: Duration = Duration::from_secs(31_557_600);
/// The age at which a kept policy is fetched again (§3.3), if half of its `max_age` is not shorter.
const REFRESH: Duration = Duration::from_secs(86_400);
/// The longest id (§3.1).
const ID_MAX_OCTETS: usize = 32;
/// The longest name of an extension (§3.1, §3.2).
const NAME_MAX_OCTETS: usize = 32;

/// What the sender does with an MX host that does not satisfy the policy (§5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StsMode {
    /// Does not use the host.
    Enforce,
    /// Uses the host, and reports the failure.
    Testing,
    /// Uses the host: the domain has withdrawn its policy.
    None,
}

const MODES: [(&str, StsMode); 3] =
    [("enforce", StsMode::Enforce), ("testing", StsMode::Testing), ("none", StsMode::None)];

/// The policy of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What a failure means.
    pub mode: StsMode,
    /// How long the policy may be kept after it was fetched.
    pub max_age: Duration,
    /// The hosts: a name, or `*.` and a name, which matches any name with one more label.
    pub mx: Vec<String>,
}

impl Policy {
    /// Parses a policy (§3.2).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        let text = text.strip_suffix('\n').unwrap_or(text);
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(is_wsp);
            let (name, value) = line.split_once(':')?;
            let value = value.trim_start_matches(is_wsp);
            // Of each key but `mx` the first one counts (§3.2); the others must still be well-formed.
            match name {
                "version" if value == "STSv1" => version = Some(()),
                "mode" => {
                    let (_, value) = MODES.iter().find(|(word, _)| *word == value)?;
                    mode = mode.or(Some(*value));
                }
                "max_age" => max_age = max_age.or(Some(parse_max_age(value)?)),
                "mx" if is_pattern(value) => mx.push(value.to_ascii_lowercase()),
                "version" | "mx" => return None,
                _ if is_name(name) && is_policy_value(value) => {}
                _ => return None,
            }
        }
        let mode = version.and(mode)?;
        if mx.is_empty() && mode != StsMode::None {
            return None;
        }
        Some(Self { mode, max_age: max_age?, mx })
    }

    /// Whether the policy names this MX host (§4.1).
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(above) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(above)),
            None => pattern.eq_ignore_ascii_case(host),
        })
    }
}

/// A time by both clocks. The wall clock may be wrong, or stand still; the running clock stands still while this host is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchTime {
    /// Seconds since 1970.
    pub wall: u64,
    /// Seconds of running time. `u64::MAX`: unknown, from a file of an older version.
    pub running: u64,
}

/// A policy that was fetched and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The id of the TXT record at that time.
    pub id: String,
    /// The time of the fetch.
    pub fetched: FetchTime,
    /// The policy.
    pub policy: Policy,
}

impl Kept {
    /// The text to keep: one line of pillarbox, then the policy as it was fetched.
    #[must_use]
    pub fn print(id: &str, fetched: FetchTime, text: &str) -> String {
        format!("mta-sts 1 {id} {} {}\n{text}", fetched.wall, fetched.running)
    }

    /// Parses what [`Kept::print`] wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, text) = text.split_once('\n')?;
        let (id, fetched) = first.strip_prefix("mta-sts 1 ")?.split_once(' ')?;
        let (wall, running) = fetched.split_once(' ').map_or((fetched, None), |(w, r)| (w, Some(r)));
        let running = running.map_or(Some(u64::MAX), |running| running.parse().ok())?;
        let fetched = FetchTime { wall: wall.parse().ok()?, running };
        is_id(id).then_some(Self { id: id.to_owned(), fetched, policy: Policy::parse(text)? })
    }

    /// Whether the policy still holds at `now`. It ends by the clock that has gone further since the fetch. A clock that shows
    /// a time before the fetch is wrong and expires nothing.
    #[must_use]
    pub fn holds(&self, now: FetchTime) -> bool {
        self.age(now) < self.policy.max_age
    }

    /// Whether the policy should be fetched again although the id is the same. Otherwise an attacker who blocks the
    /// policy's host would only have to wait until the policy expires (§3.3, §10.2).
    #[must_use]
    pub fn wants_refresh(&self, now: FetchTime) -> bool {
        self.age(now) >= REFRESH.min(self.policy.max_age / 2) || now.wall < self.fetched.wall
    }

    fn age(&self, now: FetchTime) -> Duration {
        let FetchTime { wall, running } = self.fetched;
        Duration::from_secs(now.wall.saturating_sub(wall).max(now.running.saturating_sub(running)))
    }
}

/// The id in the TXT records of `_mta-sts.DOMAIN` (§3.1). Exactly one of the records must have this version.
#[must_use]
pub fn find_id(records: &[Vec<u8>]) -> Option<String> {
    let mut ours = records.iter().filter(|record| record.starts_with(b"v=STSv1;"));
    let (Some(record), None) = (ours.next(), ours.next()) else { return None };
    parse_record(std::str::from_utf8(record).ok()?).map(str::to_owned)
}

/// Parses a TXT record and returns its id.
fn parse_record(record: &str) -> Option<&str> {
    let mut fields = record.split(';').map(|field| field.trim_matches(is_wsp)).peekable();
    if fields.next() != Some("v=STSv1") || record.starts_with(is_wsp) {
        return None;
    }
    let (mut id, mut is_last) = (None, false);
    while let Some(field) = fields.next() {
        is_last |= fields.peek().is_none();
        let Some((name, value)) = field.split_once('=') else {
            // A delimiter may end the record, but nothing may follow it.
            if field.is_empty() && is_last && !record.ends_with(is_wsp) {
                break;
            }
            return None;
        };
        let is_extension = is_name(name) && !value.is_empty() && value.bytes().all(is_record_octet);
        match name {
            "id" if is_id(value) => id = id.or(Some(value)),
            "id" => return None,
            _ if is_extension => {}
            _ => return None,
        }
    }
    id
}

fn is_wsp(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

fn is_id(text: &str) -> bool {
    (1..=ID_MAX_OCTETS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_record_octet(octet: u8) -> bool {
    octet.is_ascii_graphic() && octet != b'=' && octet != b';'
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX_OCTETS).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

fn is_policy_value(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c == ' ' || c.is_ascii_graphic() || !c.is_ascii())
}

fn parse_max_age(text: &str) -> Option<Duration> {
    let is_number = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let seconds = is_number.then(|| text.parse().ok()).flatten()?;
    Some(Duration::from_secs(seconds).min(MAX_AGE_MAX))
}

/// `["*."] Domain` (§3.2; RFC 5321 §4.1.2).
fn is_pattern(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}
