use super::*;
use crate::engine::log::last_ends::LastEnd;
use crate::engine::queue::index::{FailingHop, Hop};
use crate::engine::queue::saving::MemoryFacts;
use crate::mail::address::Domain;
use crate::mail::date::WallTime;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::rules::pacing::breaker::Pause;
use std::collections::BTreeSet;

/// Every value is another one, and a peer has written what it should not.
pub(super) fn status() -> Status {
    let seconds = Duration::from_secs;
    let reason = Diagnostic::local(EnhancedStatus::NO_ANSWER, "535 \"no\"\n# HELP \\x\u{1b}[2J");
    let route = |name: &str, pause| FailingHop {
        hop: Hop::Relay(NextHop::Mx(Domain::parse(name).unwrap())),
        since: seconds(400),
        pause,
        waiting: 2,
    };
    let pause = Pause { until: seconds(1300), reason, refusal: None, trying: false };
    let mut since_start = [0; COUNTS];
    since_start.iter_mut().zip(1000..).for_each(|(slot, number)| *slot = number);
    let settings = crate::config::parse("", "f").unwrap();
    let site = Site::new(settings, Domain::parse("box.example").unwrap(), None);
    let now = Now { wall: WallTime(1_795_416_810_000_000), running: seconds(1000) };
    let hops = [route("far.example", Some(pause)), route("flushed.example", None)];
    let routes = hops.iter().filter_map(|hop| facts::paused_route(&site, hop, now.running)).collect();
    Status {
        site: Arc::new(site),
        now,
        uptime: 101,
        link: Uplink::Metered,
        confined: Confined { landlock: 7, seccomp: false },
        connections: 102,
        oldest: 103,
        held: 104,
        figures: Figures {
            messages: 105,
            octets: 106,
            paused: 107,
            failing: 108,
            kept: 109,
            tokenless: 110,
            ..Figures::default()
        },
        tokens: vec![TokenStanding {
            username: "joe@far.example".into(),
            state: TokenState::Refused,
            seconds_left: None,
            granted: 1_795_400_000,
            answer: "invalid_grant: \"no\"\n# HELP 535 \u{1b}[2J".into(),
        }],
        alarms: vec![Reason::Stuck, Reason::Route("far.example".into())],
        in_all: since_start.map(|number| number + 5000),
        since_start,
        ends: Ends::default(),
        facts: Facts {
            routes,
            memory: MemoryFacts { messages: 112, octets: 113, oldest: seconds(114), failure: None },
            ..Facts::default()
        },
        beat: None,
        asked: None,
        unreached: 111,
        hours: Vec::new(),
    }
}

/// Each row has a description, a label where its name is not unique, and a valid name.
fn expected() -> Vec<(String, String, u64, Option<u64>)> {
    let status = status();
    let row = |row: &Row| {
        let (since, all) = match row.value {
            MetricValue::Gauge(get, _) => (get(&status), None),
            MetricValue::Counter(count) => (status.counts(count).0, Some(status.counts(count).1)),
        };
        let label = row.label.map(|(key, value)| format!("{{{key}=\"{value}\"}}")).unwrap_or_default();
        let total = if all.is_some() { "_total" } else { "" };
        (row.key(), format!("pillarbox_{}{total}{label}", row.name), since, all)
    };
    ROWS.iter().map(row).collect()
}

#[test]
fn every_count_has_a_row_and_no_two_rows_are_alike() {
    let counted =
        |row: &Row| if let MetricValue::Counter(count) = row.value { Some(count as usize) } else { None };
    let counts: BTreeSet<usize> = ROWS.iter().filter_map(counted).collect();
    assert_eq!(counts, (0..COUNTS).collect());
    assert_eq!(ROWS.iter().filter_map(counted).count(), COUNTS, "each once");
    let keys: BTreeSet<String> = ROWS.iter().map(Row::key).collect();
    assert_eq!(keys.len(), ROWS.len());
    let values: BTreeSet<u64> = expected().iter().map(|row| row.2).collect();
    assert!(values.len() >= ROWS.len() - 1, "a value is that of another row");
    for rows in ROWS.windows(2).filter(|rows| rows[0].name == rows[1].name) {
        assert_eq!(rows[0].about, rows[1].about, "one name, one HELP");
    }
    for row in &ROWS {
        assert!(row.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", row.name);
        assert!(row.title().len() <= 55 && !row.about.contains(['\n', '\\']), "{}", row.about);
        let unit = if let MetricValue::Gauge(_, unit) = row.value { unit } else { Unit::Number };
        assert_eq!(unit == Unit::Seconds, row.name.ends_with("_seconds"), "{}", row.name);
        assert!(unit != Unit::Octets || row.name.ends_with("_bytes"), "{}", row.name);
    }
}

#[test]
fn every_row_is_in_every_form() {
    let status = status();
    let (text, json, prometheus) = (status.text(true), status.json(true), status.prometheus(true));
    for ((key, name, since, all), row) in expected().into_iter().zip(&ROWS) {
        assert_eq!(prometheus.matches(&format!("\n{name} {since}\n")).count(), 1, "{name} {prometheus}");
        let json_value = all.map_or_else(
            || format!("\"{key}\":{since},"),
            |all| format!("\"{key}\":{{\"since_start\":{since},\"in_all\":{all}}},"),
        );
        assert_eq!(json.matches(&json_value).count(), 1, "{json_value} {json}");
        let line = text.lines().find(|line| line.starts_with(&format!("{} ", row.title()))).unwrap();
        let ends = all.is_none_or(|all| line.ends_with(&format!(" {since} {all:>14}")));
        assert!(ends, "{line}");
    }
}

#[test]
fn what_peers_wrote_forges_no_line() {
    let status = status();
    let text = status.text(true);
    assert!(
        text.contains(
            "paused: far.example is tried again in 5m, and has not worked for 10m: 535 \"no\"?# HELP"
        )
    );
    assert!(!text.contains('\u{1b}') && !text.contains("\n# HELP") && !text.contains("flushed"), "{text}");
    let json = status.json(true);
    assert!(json.contains("\"alarms\":[\"stuck\",\"route far.example\"],\"tokens\":[{\"login\":"), "{json}");
    let token =
        "\"state\":\"refused\",\"ends_in_seconds\":null,\"granted\":1795400000,\"answer\":\"invalid_grant: ";
    assert!(json.contains(token) && json.ends_with("}]}\n"), "{json}");
    assert!(
        text.contains("token: the token of joe@far.example is refused: invalid_grant: \"no\"?# HELP"),
        "{text}"
    );
    assert!(
        json.contains("\"next_attempt\":1795417110,\"failing_seconds\":600,\"status\":\"4.4.1\""),
        "{json}"
    );
    assert_eq!(json.matches('\n').count(), 1);
    assert!(
        status.prometheus(true).ends_with("\npillarbox_route_failing_seconds{route=\"far.example\"} 600\n")
    );
    assert_eq!(prometheus::label_value("a\"b\\c\nd"), "a\\\"b\\\\c?d");
}

#[test]
fn who_may_not_see_all_learns_no_name() {
    let status = status();
    for shown in [status.text(false), status.json(false), status.prometheus(false)] {
        assert!(!shown.contains("example") && !shown.contains("535"), "{shown}");
    }
    assert!(status.json(false).ends_with("\"routes\":null,\"alarms\":null,\"tokens\":null}\n"));
}

#[test]
fn people_read_yes_and_no_and_only_what_is_worth_a_look() {
    let mut status = status();
    let all = status.text(true);
    for (about, word) in
        [("Whether the network can be reached", "yes"), ("Whether a filter confines its system calls", "no")]
    {
        assert!(
            all.lines().any(|line| line.starts_with(about) && line.ends_with(&format!(" {word}"))),
            "{all}"
        );
    }
    status.since_start = [0; COUNTS];
    status.in_all = [0; COUNTS];
    (status.figures, status.held) = (Figures::default(), 0);
    status.facts = Facts::default();
    let line = format!("running for     1m 41s, version {}\n", env!("CARGO_PKG_VERSION"));
    let none = "none so far";
    let expected = format!(
        "Everything works: the queue is empty.\n\nqueue           empty\nlast delivered  {none}\nlast failed     {none}\n{line}"
    );
    assert_eq!(status.brief(true), expected);
    status.in_all[Count::Relayed as usize] = 7;
    let end = format!(
        "\n{:55} {:>12} {:>14}\n{:55} {:>12} {:>14}\n",
        "", "since start", "in all", "Outcomes for recipients: relayed", 0, 7
    );
    assert_eq!(status.brief(true), expected + &end);
}

#[test]
fn the_last_ends_name_people_only_to_those_who_may_see_them() {
    let mut status = status();
    let to = crate::mail::address::Mailbox::parse("joe@far.example").unwrap();
    let id = crate::mail::id::QueueId::new(7, 7);
    let end =
        |reply: &str| Some(LastEnd { id, to: to.clone(), at: status.now.wall, reply: reply.to_owned() });
    status.ends = Ends { delivered: end("250 ok"), failed: end("550 5.1.1 no\u{1b}such user") };
    let text = status.brief(true);
    let at = crate::engine::control::listing::local_time(status.now.wall);
    assert!(text.contains(&format!("\nlast delivered  {at}, {id} to joe@far.example\n")), "{text}");
    assert!(
        text.contains(&format!("\nlast failed     {at}, {id} to joe@far.example: 550 5.1.1 no?such user\n")),
        "{text}"
    );
    let text = status.brief(false);
    assert!(text.contains(&format!("\nlast failed     {at}\n")) && !text.contains("example"), "{text}");
}
