//! MTA-STS (RFC 8461): the TXT record that says that there is a policy, and the policy itself, read as the grammars of
//! §3.1 and §3.2 have it; and when a kept policy ends.
//!
//! Never lenient: who can write a policy can write it right, and what is half understood would be half obeyed. What can't
//! be read is no record and no policy (`None`).

use std::time::Duration;

/// No policy holds longer (RFC 8461 §3.2): a year.
const MAX_AGE_MAX: Duration = Duration::from_secs(31_557_600);
/// A kept policy is fetched anew each day (§3.3), or when half of its time is over.
const REFRESH: Duration = Duration::from_secs(86_400);
/// Longest id (§3.1).
const ID_MAX_OCTETS: usize = 32;
/// Longest name of an extension (§3.1, §3.2).
const NAME_MAX_OCTETS: usize = 32;

/// What the sender does about an MX host that does not keep to the policy (§5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Does not use it.
    Enforce,
    /// Uses it, and tells.
    Testing,
    /// Uses it: there is no policy any more.
    None,
}

const MODES: [(&str, Mode); 3] =
    [("enforce", Mode::Enforce), ("testing", Mode::Testing), ("none", Mode::None)];

/// The policy of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What it is for.
    pub mode: Mode,
    /// How long it may be kept after it was fetched.
    pub max_age: Duration,
    /// The hosts: names, or `*.` and a name for any name with one label more.
    pub mx: Vec<String>,
}

impl Policy {
    /// Reads a policy (§3.2).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (mut version, mut mode, mut max_age, mut mx) = (None, None, None, Vec::new());
        let text = text.strip_suffix('\n').unwrap_or(text);
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line).trim_end_matches(is_wsp);
            let (name, value) = line.split_once(':')?;
            let value = value.trim_start_matches(is_wsp);
            // Of all but `mx` the first one counts (§3.2); the others have to be well-formed, too.
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
        if mx.is_empty() && mode != Mode::None {
            return None;
        }
        Some(Self { mode, max_age: max_age?, mx })
    }

    /// Whether it names an MX host (§4.1).
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.mx.iter().any(|pattern| match pattern.strip_prefix("*.") {
            Some(above) => host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(above)),
            None => pattern.eq_ignore_ascii_case(host),
        })
    }
}

/// A policy that was fetched, and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The id that the TXT record had then.
    pub id: String,
    /// Seconds since 1970.
    pub fetched: u64,
    /// What it says.
    pub policy: Policy,
}

impl Kept {
    /// Prints what is kept of a policy: a line of our own in front of its text.
    #[must_use]
    pub fn print(id: &str, fetched: u64, text: &str) -> String {
        format!("mta-sts 1 {id} {fetched}\n{text}")
    }

    /// Reads it again.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, text) = text.split_once('\n')?;
        let (id, fetched) = first.strip_prefix("mta-sts 1 ")?.split_once(' ')?;
        let fetched = fetched.parse().ok()?;
        is_id(id).then_some(Self { id: id.to_owned(), fetched, policy: Policy::parse(text)? })
    }

    /// Whether it still holds at `now`, in seconds since 1970. A clock that stands before the fetch is wrong, and ends
    /// nothing.
    #[must_use]
    pub fn holds(&self, now: u64) -> bool {
        self.age(now) < self.policy.max_age
    }

    /// Whether it is time to fetch it again, though the id has not changed: who cuts us off from the policy's host must not
    /// only have to wait for its end (§3.3, §10.2).
    #[must_use]
    pub fn wants_refresh(&self, now: u64) -> bool {
        self.age(now) >= REFRESH.min(self.policy.max_age / 2) || now < self.fetched
    }

    fn age(&self, now: u64) -> Duration {
        Duration::from_secs(now.saturating_sub(self.fetched))
    }
}

/// The id in the TXT records of `_mta-sts.DOMAIN` (§3.1): exactly one of them is of this version.
#[must_use]
pub fn find_id(records: &[Vec<u8>]) -> Option<String> {
    let mut ours = records.iter().filter(|record| record.starts_with(b"v=STSv1;"));
    let (Some(record), None) = (ours.next(), ours.next()) else { return None };
    parse_record(std::str::from_utf8(record).ok()?).map(str::to_owned)
}

/// Reads a TXT record; gives its id.
fn parse_record(record: &str) -> Option<&str> {
    let mut fields = record.split(';').map(|field| field.trim_matches(is_wsp)).peekable();
    if fields.next() != Some("v=STSv1") || record.starts_with(is_wsp) {
        return None;
    }
    let (mut id, mut is_last) = (None, false);
    while let Some(field) = fields.next() {
        is_last |= fields.peek().is_none();
        let Some((name, value)) = field.split_once('=') else {
            // A delimiter may end the record, and nothing may follow it.
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
