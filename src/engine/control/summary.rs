//! What a person should know of the daemon, as sentences: the first one is the answer to "does it work?", and says what to do.
//!
//! | about | level | also judged by `monitor::judge` |
//! | --- | --- | --- |
//! | a certificate that ends, or can't be read | warning 10 days before, critical 3 days before | |
//! | the token of a login | critical if somebody has to log in, warning if it has ended or will | yes |
//! | the disk | warning below 5 times `limits.free_space`, critical below it, or if it is read-only | |
//! | messages in memory that can't be moved to the disk | critical | |
//! | the queue: messages, size | warning from a half, critical from nine tenths | messages |
//! | mail to `admin` that is kept; mailboxes that do not answer | critical | yes |
//! | the link is down | warning | |
//! | a route that pauses | warning if it refuses, or fails for `alarm.stuck_after`; else a note | yes |
//! | a message that is too old | warning | yes |
//! | the dead man's switch of `heartbeat.url` is not reached | a note, warning after `heartbeat.interval` | |
//! | the link is metered and messages wait | note | |
//! | a mailbox of this host can't take a message now | note | |
//! | held by the operator, by the schedule, by a digest, for another try | fine | |
//!
//! The worst comes first, and then the order of this table. What is only fine follows the words "Everything works". Names of
//! hosts and files and replies of hosts are only for those who may see all; others read the same sentences without them.
//!
//! This module only formats; it does no I/O.

use super::listing::clean;
use crate::engine::queue::saving::MemoryFacts;
use crate::mail::date::WallTime;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::rules::advice::monitor::{Figures, Level, coming, lasting, size, span};
use crate::rules::pacing::downtime::Uplink;
use crate::smtp::client::Waiting;

const DAY: u64 = 86_400;
/// How many days before its end a certificate is worth a word.
const CERTIFICATE_WARNING_DAYS: u64 = 10;
const CERTIFICATE_CRITICAL_DAYS: u64 = 3;
/// The disk is nearly full below this many times `limits.free_space`.
const ROOM_FACTOR: u64 = 5;

/// What the sentences are made from.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    pub wall: WallTime,
    pub link: Uplink,
    /// Messages that the operator holds, and the kept ones.
    pub held: u64,
    /// Messages that the link, the schedule, a digest or the next try holds back.
    pub for_link: u64,
    pub for_schedule: u64,
    pub for_digest: u64,
    pub for_retry: u64,
    /// Seconds until the schedule fires, and until the first next try.
    pub schedule_in: Option<u64>,
    pub retry_in: Option<u64>,
    /// A message that could not be written to a mailbox of this host, and why.
    pub for_mailbox: Option<(QueueId, Option<String>)>,
    pub routes: Vec<Route>,
    /// The oldest message that is not held, and why it waits.
    pub oldest: Option<(QueueId, Option<String>)>,
    /// The oldest message to `admin` that is kept, and why it could not be delivered.
    pub oldest_kept: Option<(QueueId, String)>,
    /// Configured certificates with their ends, or why those are unknown.
    pub certificates: Vec<(String, Result<WallTime, String>)>,
    /// What to say of tokens of logins.
    pub tokens: Vec<(Level, String)>,
    /// Since when, in seconds, and why the switch of `heartbeat.url` is not reached; and whether that is long.
    pub unreached_switch: Option<(u64, String, bool)>,
    /// The octets that are free for `state`, unless they cannot be known, and `limits.free_space`.
    pub room: Option<u64>,
    pub kept_free: u64,
    /// Why the disk takes nothing, whatever room it has.
    pub unwritable: Option<String>,
    /// `queue.max_size`; 0: no limit.
    pub max_octets: u64,
    /// What lies in memory, with `queue.storage = "memory-first"`.
    pub memory: MemoryFacts,
}

/// A route that pauses.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub name: String,
    /// Messages that wait for it.
    pub waiting: u64,
    /// Seconds since its first failure.
    pub failing: u64,
    /// Seconds until it is tried again.
    pub wait: u64,
    pub reason: Diagnostic,
    pub is_refused: bool,
    /// What the operator should change.
    pub advice: Option<&'static str>,
}

/// A sentence, or a few, about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub level: Level,
    /// It is as it should be.
    pub is_fine: bool,
    /// `monitor::judge` judges it by figures, with thresholds that a monitor may set.
    pub is_judged: bool,
    pub text: String,
}

impl Finding {
    fn new(level: Level, text: String) -> Self {
        Self { level, is_fine: false, is_judged: false, text }
    }

    fn judged(level: Level, text: String) -> Self {
        Self { is_judged: true, ..Self::new(level, text) }
    }

    fn fine(text: String) -> Self {
        Self { is_fine: true, ..Self::new(Level::Ok, text) }
    }
}

/// All sentences, the most important first. There is always one.
pub(super) fn findings(facts: &Facts, figures: &Figures, sees_all: bool) -> Vec<Finding> {
    let mut found: Vec<Finding> =
        facts.certificates.iter().filter_map(|it| certificate(facts, it, sees_all)).collect();
    found.extend(facts.tokens.iter().map(|it| token(it, sees_all)));
    found.extend(room(facts));
    found.extend(unsaved(facts, sees_all));
    found.extend(limits(facts, figures));
    found.extend(stuck_things(facts, figures, sees_all));
    found.extend(link(facts));
    found.extend(facts.routes.iter().map(|it| route(it, figures, sees_all)));
    found.extend(too_old(facts, figures, sees_all));
    found.extend(switch(facts, sees_all));
    found.extend(facts.for_mailbox.iter().map(|it| mailbox(it, sees_all)));
    found.extend(waiting(facts, figures));
    found.sort_by_key(|it| (std::cmp::Reverse(it.level), it.is_fine));
    let is_fine = found.first().is_none_or(|it| it.is_fine);
    if is_fine {
        let rest = found.first().map(|it| it.text.clone());
        let text = match (rest, figures.messages) {
            (Some(rest), _) => format!("Everything works. {rest}"),
            (None, 0) => "Everything works: the queue is empty.".to_owned(),
            (None, n) => format!("Everything works: {} on the way.", are(n)),
        };
        found.splice(..found.len().min(1), [Finding::fine(text)]);
    }
    found
}

/// `1 message is`, `3 messages are`.
fn are(number: u64) -> String {
    if number == 1 { "1 message is".to_owned() } else { format!("{number} messages are") }
}

/// `1 message waits`, `3 messages wait`.
fn wait(number: u64) -> String {
    if number == 1 { "1 message waits".to_owned() } else { format!("{number} messages wait") }
}

type Certificate = (String, Result<WallTime, String>);

fn certificate(facts: &Facts, (name, ends): &Certificate, sees_all: bool) -> Option<Finding> {
    let name = if sees_all { format!("The certificate {}", clean(name)) } else { "A certificate".to_owned() };
    let ends = match ends {
        Ok(ends) => ends,
        Err(why) => {
            let text = format!("{name} can't be used: {}. Run `pillarbox check`.", clean(why));
            return Some(Finding::new(Level::Warning, text));
        }
    };
    let remedy = "renew it, and then run `systemctl reload pillarbox`, or send SIGHUP.";
    let Some(left) = ends.seconds().checked_sub(facts.wall.seconds()) else {
        let ago = span(facts.wall.seconds() - ends.seconds());
        return Some(Finding::new(Level::Critical, format!("{name} ended {ago} ago; {remedy}")));
    };
    let level = match left / DAY {
        0..CERTIFICATE_CRITICAL_DAYS => Level::Critical,
        CERTIFICATE_CRITICAL_DAYS..CERTIFICATE_WARNING_DAYS => Level::Warning,
        _ => return None,
    };
    Some(Finding::new(level, format!("{name} ends in {}; {remedy}", span(left))))
}

/// The text begins with a small letter, as it stands in logs.
fn token((level, text): &(Level, String), sees_all: bool) -> Finding {
    let text = clean(text);
    let mut rest = text.chars();
    let first: String = rest.next().into_iter().flat_map(char::to_uppercase).collect();
    let text = if sees_all {
        format!("{first}{}", rest.as_str())
    } else {
        "A login by token has a problem; the administrator of this host can see which.".to_owned()
    };
    Finding::judged(*level, text)
}

/// Messages that a power cut would lose, although they should be on the disk by now.
fn unsaved(facts: &Facts, sees_all: bool) -> Option<Finding> {
    let why = facts.memory.failure.as_ref()?;
    let text = "Messages in memory can't be saved, and a power cut would lose them";
    let text = if sees_all { format!("{text}: {}.", clean(why)) } else { format!("{text}.") };
    Some(Finding::new(Level::Critical, text))
}

fn room(facts: &Facts) -> Option<Finding> {
    if let Some(why) = &facts.unwritable {
        let text = format!("Nothing can be written to the disk with the queue: {}.", clean(why));
        return Some(Finding::new(Level::Critical, text));
    }
    let (room, kept) = (facts.room?, facts.kept_free);
    if room < kept {
        let text = format!(
            "The disk with the queue is full: {} are free, and limits.free_space keeps {}. No mail is accepted until \
             there is room.",
            size(room),
            size(kept)
        );
        return Some(Finding::new(Level::Critical, text));
    }
    (room < kept.saturating_mul(ROOM_FACTOR)).then(|| {
        let text = format!(
            "The disk with the queue is nearly full: {} are free; below {} no mail is accepted. Make room.",
            size(room),
            size(kept)
        );
        Finding::new(Level::Warning, text)
    })
}

fn limits(facts: &Facts, figures: &Figures) -> Vec<Finding> {
    let remedy = "`pillarbox queue` shows what waits, and why.";
    let judge = |now: u64, most: u64| match () {
        () if most == 0 || now <= most / 2 => None,
        () if now >= most => Some((Level::Critical, "full")),
        () if now > most.saturating_mul(9) / 10 => Some((Level::Critical, "nearly full")),
        () => Some((Level::Warning, "more than half full")),
    };
    let full = |word: &str| if word == "full" { " No more mail is accepted." } else { "" };
    let number = judge(figures.messages, figures.max_messages).map(|(level, word)| {
        let (now, most) = (figures.messages, figures.max_messages);
        Finding::judged(
            level,
            format!("The queue is {word}: {now} of {most} messages.{} {remedy}", full(word)),
        )
    });
    let octets = judge(figures.octets, facts.max_octets).map(|(level, word)| {
        let (now, most) = (size(figures.octets), size(facts.max_octets));
        Finding::new(level, format!("The queue is {word}: {now} of {most}.{} {remedy}", full(word)))
    });
    number.into_iter().chain(octets).collect()
}

fn stuck_things(facts: &Facts, figures: &Figures, sees_all: bool) -> Vec<Finding> {
    let oldest = facts.oldest_kept.as_ref().filter(|_| sees_all);
    let kept = (figures.kept > 0).then(|| {
        let (number, plural) = (figures.kept, if figures.kept == 1 { "" } else { "s" });
        let (why, id) = match oldest {
            Some((id, why)) => (clean(why).trim_end_matches('.').to_owned(), id.to_string()),
            None => ("`pillarbox queue` shows why".to_owned(), "ID".to_owned()),
        };
        let remedy = format!("Mend that, and then run `pillarbox queue release {id}`.");
        Finding::judged(
            Level::Critical,
            format!("{number} message{plural} to admin could not be delivered: {why}. {remedy}"),
        )
    });
    let hanging = (figures.hanging > 0).then(|| {
        let whose = match figures.hanging {
            1 => "The mailbox of 1 user does".to_owned(),
            number => format!("The mailboxes of {number} users do"),
        };
        Finding::judged(
            Level::Critical,
            format!(
                "{whose} not answer: its file system hangs, or the delivery agent does. Look at the file system; if it \
                 works, restart pillarbox."
            ),
        )
    });
    kept.into_iter().chain(hanging).collect()
}

fn link(facts: &Facts) -> Option<Finding> {
    let waits = facts.for_link;
    match facts.link {
        Uplink::Up => None,
        Uplink::Down => {
            let mail = if waits == 0 {
                "no mail leaves".to_owned()
            } else {
                format!("{} for other hosts", wait(waits))
            };
            let text =
                format!("The link is down: {mail}. Run `pillarbox link up` when the network is there again.");
            Some(Finding::new(Level::Warning, text))
        }
        Uplink::Metered if waits == 0 => {
            Some(Finding::fine("The link is metered: only urgent mail leaves.".to_owned()))
        }
        Uplink::Metered => {
            let text = format!(
                "The link is metered, and only urgent mail leaves: {}. `pillarbox link up` lets all mail go, `pillarbox \
                 queue flush ID` one message.",
                wait(waits)
            );
            Some(Finding::new(Level::Ok, text))
        }
    }
}

fn route(route: &Route, figures: &Figures, sees_all: bool) -> Finding {
    let is_long = route.is_refused || route.failing > figures.stuck_after.as_secs();
    let level = if is_long { Level::Warning } else { Level::Ok };
    let for_what = if sees_all { clean(&route.name) } else { "a host".to_owned() };
    let what = format!("{} for {for_what}, which {}", wait(route.waiting), how(route));
    if !sees_all {
        let text = format!("{what}; the administrator of this host can see why.");
        return Finding::judged(level, text);
    }
    let reason = clean(route.reason.line());
    let again = match route.wait {
        0 => "It is being tried now.".to_owned(),
        seconds => format!("The next try is in {}; `pillarbox queue flush` tries at once.", span(seconds)),
    };
    let remedy = match route.advice {
        Some(advice) if is_long => format!("{advice} Then run `pillarbox queue flush`."),
        Some(advice) => format!("{advice} {again}"),
        None => again,
    };
    Finding::judged(level, format!("{what}: {}. {remedy}", reason.trim_end_matches('.')))
}

fn switch(facts: &Facts, sees_all: bool) -> Option<Finding> {
    let (seconds, why, is_long) = facts.unreached_switch.as_ref()?;
    let level = if *is_long { Level::Warning } else { Level::Ok };
    let why = if sees_all { format!(": {}", clean(why).trim_end_matches('.')) } else { String::new() };
    let what = lasting(*seconds, "has not been reached", "was not reached just now");
    let remedy = "Check heartbeat.url and the network; the switch may report this host as dead.";
    let text = format!("The dead man's switch of heartbeat.url {what}{why}. {remedy}");
    Some(Finding::new(level, text))
}

/// What the host has done, as "has refused the login for 3h".
fn how(route: &Route) -> String {
    let (long, just) = match &route.reason.reply {
        None if route.reason.text.starts_with("connect") => {
            ("has not been reachable", "could not be reached just now")
        }
        None => ("has not worked", "did not work just now"),
        Some(reply) if !reply.starts_with('5') => {
            ("has been asking to try again later", "has just asked to try again later")
        }
        Some(_) if Waiting::named(&route.reason.text) == Some(Waiting::Auth) => {
            ("has refused the login", "has just refused the login")
        }
        Some(_) => ("has refused the mail of this host", "has just refused the mail of this host"),
    };
    lasting(route.failing, long, just)
}

fn too_old(facts: &Facts, figures: &Figures, sees_all: bool) -> Option<Finding> {
    let (id, why) = facts.oldest.as_ref()?;
    // The link and the routes have told it.
    let is_told = |why: &String| facts.routes.iter().any(|it| why.starts_with(it.reason.line()));
    let by_link = facts.link == Uplink::Down && facts.for_link > 0;
    if figures.age <= figures.stuck_after.as_secs() || by_link || why.as_ref().is_some_and(is_told) {
        return None;
    }
    let why = match why.as_ref().filter(|_| sees_all) {
        Some(why) => format!(": {}", clean(why)),
        None => format!("; `pillarbox queue show {id}` shows its history."),
    };
    Some(Finding::judged(Level::Warning, format!("Message {id} has waited for {}{why}", span(figures.age))))
}

fn mailbox((id, why): &(QueueId, Option<String>), sees_all: bool) -> Finding {
    let text = match why.as_ref().filter(|_| sees_all) {
        Some(why) => format!("Mail for a mailbox of this host has to wait: {}", clean(why)),
        None => {
            format!("Mail for a mailbox of this host has to wait; `pillarbox queue show {id}` shows why.")
        }
    };
    Finding::new(Level::Ok, text)
}

/// What waits because it should.
fn waiting(facts: &Facts, figures: &Figures) -> Vec<Finding> {
    let by_operator = facts.held.saturating_sub(figures.kept);
    let mut found = Vec::new();
    let mut say = |number: u64, text: String| {
        if number > 0 {
            found.push(Finding::fine(text));
        }
    };
    let (held, one) = (are(by_operator), "`pillarbox queue release ID` lets one go");
    say(by_operator, format!("{held} held by the operator; {one}."));
    let fires =
        facts.schedule_in.map_or_else(String::new, |seconds| format!(", which fires {}", coming(seconds)));
    let number = facts.for_schedule;
    say(
        number,
        format!("{} for queue.schedule{fires}; `pillarbox queue flush` sends at once.", wait(number)),
    );
    say(facts.for_digest, format!("{} to leave in a digest.", wait(facts.for_digest)));
    let first = facts.retry_in.map_or_else(String::new, |seconds| format!(", the first {}", coming(seconds)));
    say(
        facts.for_retry,
        format!("{} for another try{first}; `pillarbox queue` shows why.", wait(facts.for_retry)),
    );
    found
}

#[cfg(test)]
mod tests;
