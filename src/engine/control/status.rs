//! The state of the daemon (`pillarbox status`): for people, as JSON, for Prometheus, and for monitoring plugins.
//!
//! [`ROWS`] lists the metrics once for all forms:
//!
//! | metrics | source | meaning |
//! | --- | --- | --- |
//! | gauges of the queue | the index, read under its lock | messages, octets and ages now; `held` counts what the operator holds, `undelivered_to_admin` what is kept for `admin` |
//! | gauges of routes | the index | next hops that pause, and those that have failed for `alarm.stuck_after` or refuse |
//! | other gauges | link, confinement, listeners, alarm | the values now |
//! | counters | [`crate::engine::log::counters`] | since the start, and in all |
//!
//! An age is time during which the host was running: a laptop that slept does not make messages old.
//!
//! | form | option | gauges | counters | routes and alarms |
//! | --- | --- | --- | --- | --- |
//! | text | | those worth a look, after sentences ([`summary`]) | both, if one is not 0 | in the sentences |
//! | all | `--all` | all | both | a line for each paused route, each alarm, and each token that deserves a look |
//! | page | `--html` | as text | as text; plots of the last day and month | in the sentences |
//! | JSON | `--json` | all | both | `routes`, `alarms`, `tokens` |
//! | Prometheus | `--prometheus` | all | since the start | a gauge for each paused route |
//! | plugin | `--check` | those that [`monitor::judge`] judges, and sentences about the rest | no | the reason of one paused route |
//!
//! For people yes and no stand for 1 and 0. Numbers are for every user. Routes and alarms name hosts, so only a peer with all rights sees them; JSON has `null`
//! in their place. Prometheus gets the counters since the start, because it takes a value that falls for a restart: the
//! stored counters may lose a little in a crash. Replies within the output are cleaned as in lists.
//!
//! # The check
//!
//! `--check` returns the exit codes of monitoring plugins, in place of those of sysexits.h:
//!
//! | exit code | when |
//! | --- | --- |
//! | 0, OK | otherwise |
//! | 1, WARNING | half of `queue.max_messages`, a message older than `alarm.stuck_after`, a route that fails that long; or [`summary`] warns |
//! | 2, CRITICAL | nine tenths, a message twice that old, mail to `admin` that cannot be delivered, a mailbox that does not answer; or [`summary`] says so |
//! | 3, UNKNOWN | the daemon does not answer; the command says so itself |
//!
//! Options change the thresholds of number and age. The age is that of the oldest message that neither is
//! held, since the operator knows about it, nor waits for a digest.

mod brief;
mod facts;
mod json;
mod page;
mod prometheus;

pub(super) use self::brief::sentences;
use super::listing::clean;
use super::pulse::Asked;
use super::services::Services;
use super::summary::{self, Facts, Finding, Route};
use crate::engine::control::output::Output;
use crate::engine::host::site::Site;
use crate::engine::log::counters::{COUNTS, Count};
use crate::engine::log::history::Hour;
use crate::engine::log::last_ends::Ends;
use crate::engine::outbound::tokens::standing::{TokenStanding, TokenState};
use crate::mail::date::Now;
use crate::protocol::request::Show;
use crate::protocol::rights::PeerRights;
use crate::rules::advice::monitor::{self, Figures, coming, lasting, span};
use crate::rules::pacing::alarm::Reason;
use crate::rules::pacing::downtime::Uplink;
use crate::rules::pacing::heartbeat::LastBeat;
use crate::sys::confinement::Confined;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A metric.
struct Row {
    /// The name in JSON, and after `pillarbox_` in Prometheus' format.
    name: &'static str,
    /// Key and value of the label that distinguishes rows with the same name.
    label: Option<(&'static str, &'static str)>,
    /// The description for people.
    about: &'static str,
    value: MetricValue,
}

/// The kind of a metric, and the source of its value.
enum MetricValue {
    /// A value of the present.
    Gauge(fn(&Status) -> u64, Unit),
    /// A number of events.
    Counter(Count),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Number,
    Seconds,
    Octets,
    /// 1 or 0; for people `yes` or `no`.
    YesNo,
}

/// All metrics, in the order in which they are shown.
#[rustfmt::skip]
static ROWS: [Row; 41] = [
    gauge("uptime_seconds", "Time since the start", |s| s.uptime, Unit::Seconds),
    gauge("link_up", "Whether the network can be reached", |s| u64::from(s.link != Uplink::Down), Unit::YesNo),
    gauge("link_metered", "Whether the link is only for urgent mail", |s| u64::from(s.link == Uplink::Metered), Unit::YesNo),
    gauge("landlock_version", "Version of Landlock that confines the daemon (0: none)", |s| s.confined.landlock.into(), Unit::Number),
    gauge("seccomp_filter", "Whether a filter confines its system calls", |s| s.confined.seccomp.into(), Unit::YesNo),
    gauge("open_connections", "Connections of clients", |s| s.connections, Unit::Number),
    gauge("queue_messages", "Messages in the queue", |s| s.figures.messages, Unit::Number),
    gauge("queue_bytes", "Size of the queue", |s| s.figures.octets, Unit::Octets),
    gauge("queue_oldest_seconds", "Age of the oldest message in the queue", |s| s.oldest, Unit::Seconds),
    gauge("queue_memory_messages", "Messages that a power cut would lose (queue.storage)", |s| s.facts.memory.messages, Unit::Number),
    gauge("queue_memory_bytes", "Memory that they fill", |s| s.facts.memory.octets, Unit::Octets),
    gauge("queue_memory_oldest_seconds", "Age of the oldest of them", |s| s.facts.memory.oldest.as_secs(), Unit::Seconds),
    gauge("queue_held_messages", "Messages that are held", |s| s.held, Unit::Number),
    gauge("undelivered_to_admin", "Messages to admin that cannot be delivered", |s| s.figures.kept, Unit::Number),
    gauge("paused_routes", "Next hops that pause", |s| s.figures.paused, Unit::Number),
    gauge("failing_routes", "Next hops that refuse, or fail for alarm.stuck_after", |s| s.figures.failing, Unit::Number),
    gauge("logins_without_token", "Logins by token that need pillarbox login", |s| s.figures.tokenless, Unit::Number),
    gauge("heartbeat_unreached_seconds", "Time for which heartbeat.url has not been reached", |s| s.unreached, Unit::Seconds),
    gauge("standing_alarms", "Alarms that are not over", |s| s.alarms.len() as u64, Unit::Number),
    counter("messages_accepted", Some(("door", "smtp")), MESSAGES, Count::BySmtp),
    counter("messages_accepted", Some(("door", "submission")), MESSAGES, Count::BySubmission),
    counter("messages_accepted", Some(("door", "lmtp")), MESSAGES, Count::ByLmtp),
    counter("messages_accepted", Some(("door", "sendmail")), MESSAGES, Count::ByDrop),
    counter("messages_accepted_bytes", None, "Octets of accepted messages", Count::Octets),
    counter("refusals", Some(("reason", "address")), REFUSALS, Count::RefusedAddress),
    counter("refusals", Some(("reason", "policy")), REFUSALS, Count::RefusedPolicy),
    counter("refusals", Some(("reason", "other")), REFUSALS, Count::RefusedOther),
    counter("refusals", Some(("reason", "temporary")), REFUSALS, Count::RefusedForNow),
    counter("attempts", Some(("end", "delivered")), ATTEMPTS, Count::Delivered),
    counter("attempts", Some(("end", "relayed")), ATTEMPTS, Count::Relayed),
    counter("attempts", Some(("end", "deferred")), ATTEMPTS, Count::Deferred),
    counter("attempts", Some(("end", "bounced")), ATTEMPTS, Count::Bounced),
    counter("attempts", Some(("end", "expired")), ATTEMPTS, Count::Expired),
    counter("notices", None, "Notices to senders and to admin", Count::Notices),
    counter("logins", Some(("result", "right")), "Logins of clients", Count::LoginsRight),
    counter("logins", Some(("result", "wrong")), "Logins of clients", Count::LoginsWrong),
    counter("connections", Some(("result", "taken")), "Connections of clients", Count::ConnectionsTaken),
    counter("connections", Some(("result", "refused")), "Connections of clients", Count::ConnectionsRefused),
    counter("tls_handshake_failures", None, "TLS handshakes of clients that failed", Count::HandshakesFailed),
    counter("log_lines_dropped", None, "Log lines that were dropped", Count::LogLinesDropped),
    counter("alarms", None, "Alarms raised", Count::Alarms),
];

const MESSAGES: &str = "Accepted messages";
const REFUSALS: &str = "Refusals by this host, by subject";
const ATTEMPTS: &str = "Outcomes for recipients";

const fn gauge(name: &'static str, about: &'static str, get: fn(&Status) -> u64, unit: Unit) -> Row {
    Row { name, label: None, about, value: MetricValue::Gauge(get, unit) }
}

const fn counter(
    name: &'static str,
    label: Option<(&'static str, &'static str)>,
    about: &'static str,
    count: Count,
) -> Row {
    Row { name, label, about, value: MetricValue::Counter(count) }
}

impl Row {
    /// The name in JSON, with the label's value.
    fn key(&self) -> String {
        self.label.map_or_else(|| self.name.to_owned(), |(_, value)| format!("{}_{value}", self.name))
    }

    /// The title for people, with the label's value.
    fn title(&self) -> String {
        self.label.map_or_else(|| self.about.to_owned(), |(_, value)| format!("{}: {value}", self.about))
    }
}

/// The values of all metrics, and the routes and alarms, at one time.
struct Status {
    site: Arc<Site>,
    now: Now,
    /// In seconds, as `oldest`.
    uptime: u64,
    link: Uplink,
    confined: Confined,
    connections: u64,
    oldest: u64,
    held: u64,
    figures: Figures,
    alarms: Vec<Reason>,
    tokens: Vec<TokenStanding>,
    since_start: [u64; COUNTS],
    in_all: [u64; COUNTS],
    ends: Ends,
    facts: Facts,
    /// The last mail of `heartbeat.every`, how much of its interval has passed, and the last question to `heartbeat.url`.
    beat: Option<(LastBeat, Duration)>,
    asked: Option<Asked>,
    /// Seconds since `heartbeat.url` is not reached; 0: it is.
    unreached: u64,
    /// The last month, the newest hour first.
    hours: Vec<Hour>,
}

/// Reports the state of the daemon; returns the exit code.
///
/// # Errors
/// The connection is closed.
pub fn answer(
    services: &Services,
    rights: PeerRights,
    show: &Show,
    output: &mut dyn Output,
) -> io::Result<u8> {
    let status = Status::take(services);
    let sees_all = rights == PeerRights::All;
    let (text, code) = match show {
        Show::Text => (status.brief(sees_all), 0),
        Show::All => (status.text(sees_all), 0),
        Show::Html => (status.page(sees_all), 0),
        Show::Json => (status.json(sees_all), 0),
        Show::Prometheus => (status.prometheus(sees_all), 0),
        Show::Check(thresholds) => {
            let why = status.why_paused().filter(|_| sees_all);
            let others = status.findings(sees_all).into_iter().filter(|it| !it.is_judged && !it.is_fine);
            let others = others.map(|it| (it.level, it.text)).collect();
            monitor::judge(&Figures { why, others, ..status.figures.clone() }, thresholds)
        }
    };
    output.output(text.as_bytes())?;
    Ok(code)
}

impl Status {
    fn take(services: &Services) -> Self {
        let manager = &services.manager;
        let (site, now) = (manager.site(), manager.clock.now());
        let (index, counters) = (&manager.index, &manager.intake.counters);
        let stuck_after = site.settings.alarm.stuck_after;
        let queue = index.queue_facts(&manager.intake.digests.all());
        let age = |since: Duration| now.running.saturating_sub(since);
        let age_of = |message: Option<(_, Duration)>| message.map_or(0, |(_, at)| age(at).as_secs());
        let (paused, failing) = index.count_failing(now.running.checked_sub(stuck_after));
        let tokens = services.alarm.tokens.standing(&site.settings);
        let count_tokens =
            |is_so: fn(&TokenStanding) -> bool| tokens.iter().filter(|it| is_so(it)).count() as u64;
        let figures = Figures {
            tokenless: count_tokens(|it| it.state.needs_login()),
            ending: count_tokens(|it| matches!(it.state, TokenState::NearEnd | TokenState::Ended)),
            messages: queue.messages,
            octets: queue.octets,
            kept: queue.kept,
            hanging: manager.intake.maildirs.overdue() as u64,
            age: age_of(queue.oldest_moving),
            paused,
            failing,
            why: None,
            max_messages: site.settings.queue.max_messages.into(),
            stuck_after,
            others: Vec::new(),
        };
        let asked = services.pulse.last().filter(|_| site.settings.heartbeat.url.is_some());
        let beat = counters.last_beat().filter(|_| site.settings.heartbeat.every.is_some());
        let beat = beat.map(|last| (last, last.passed(now, manager.clock.last_jump())));
        let facts = facts::take(manager, &site, now, &queue, &tokens, asked.as_ref());
        Self {
            now,
            confined: site.confined,
            uptime: age(counters.started).as_secs(),
            link: index.link(),
            connections: counters.connections.value() as u64,
            oldest: age_of(queue.oldest),
            held: queue.held,
            figures,
            alarms: services.alarm.standing(),
            tokens,
            since_start: counters.since_start(),
            in_all: counters.in_all(),
            ends: counters.last_ends.so_far(),
            unreached: facts.unreached_switch.as_ref().map_or(0, |it| it.0),
            facts,
            beat,
            asked,
            hours: counters.hours(now, queue.messages),
            site,
        }
    }

    /// A counter's values since the start, and in all.
    fn counts(&self, count: Count) -> (u64, u64) {
        let of = |counts: &[u64; COUNTS]| counts.get(count as usize).copied().unwrap_or_default();
        (of(&self.since_start), of(&self.in_all))
    }

    /// What a person should know, the most important first.
    fn findings(&self, sees_all: bool) -> Vec<Finding> {
        summary::findings(&self.facts, &self.figures, sees_all)
    }

    /// The reason of one paused route: the first that refuses, else the one that has failed for longest.
    fn why_paused(&self) -> Option<String> {
        let routes = &self.facts.routes;
        let route = routes.iter().find(|route| route.is_refused).or_else(|| routes.first())?;
        Some(clean(&format!("{}: {}", route.name, route.reason.line())))
    }

    fn text(&self, sees_all: bool) -> String {
        let mut text = format!("pillarbox {}\n", env!("CARGO_PKG_VERSION"));
        for row in &ROWS {
            let MetricValue::Gauge(get, unit) = row.value else { continue };
            let value = get(self);
            let shown = match unit {
                Unit::Number => value.to_string(),
                Unit::Seconds => span(value),
                Unit::Octets => format!("{value} octets"),
                Unit::YesNo => if value == 0 { "no" } else { "yes" }.to_owned(),
            };
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{:55} {shown:>12}", row.title());
        }
        if self.figures.kept > 0 {
            text.push_str(
                "held: mail to admin could not be delivered; see pillarbox queue for the reason, fix it, and then run:\n\
                 \x20     pillarbox queue release ID\n",
            );
        }
        for Route { name, wait, failing, reason, advice, .. } in self.facts.routes.iter().filter(|_| sees_all)
        {
            let state = lasting(*failing, "has not worked", "did not work just now");
            let (name, next, reason) = (clean(name), coming(*wait), clean(reason.line()));
            let _ = writeln!(text, "paused: {name} is tried again {next}, and {state}: {reason}");
            if let Some(advice) = advice {
                let _ = writeln!(text, "        {advice}");
            }
        }
        for token in self.tokens.iter().filter(|token| sees_all && token.state.deserves_look()) {
            let _ = writeln!(text, "token: {}", clean(&token.text()));
        }
        for alarm in self.alarms.iter().filter(|_| sees_all) {
            let _ = writeln!(text, "alarm: {}", clean(&alarm_name(alarm)));
        }
        let _ = writeln!(text, "\n{:55} {:>12} {:>14}", "", "since start", "in all");
        for row in &ROWS {
            let MetricValue::Counter(count) = row.value else { continue };
            let (since, all) = self.counts(count);
            let _ = writeln!(text, "{:55} {since:>12} {all:>14}", row.title());
        }
        text
    }
}

/// The name of an alarm, with its route or its login.
fn alarm_name(alarm: &Reason) -> String {
    match alarm {
        Reason::Stuck | Reason::Held | Reason::Memory => alarm.word().to_owned(),
        Reason::Route(of) | Reason::Token(of) => format!("{} {of}", alarm.word()),
    }
}

#[cfg(test)]
mod tests;
