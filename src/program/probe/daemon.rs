//! What the daemon knows that a message would wait for: the link, the schedule, a full queue, held messages, paused routes; and
//! mail of sendmail that lies in `drop/`.
//!
//! | found | shown as |
//! | --- | --- |
//! | the link is down or metered, and the mail leaves this host | failure, temporary |
//! | `queue.max_messages` or `queue.max_size` is reached | failure, temporary; a warning from nine tenths on |
//! | a schedule | warning: mail leaves at its next time |
//! | held messages, mail to `admin` that is kept, paused routes, files in `drop/` | warning |
//! | mail for the same domain that waits | warning, with its reason |
//! | no daemon | warning |
//!
//! The daemon is asked for its status and its list, as any user may.

use super::screen::StepScreen;
use crate::engine::control::output::Output;
use crate::engine::host::site::Site;
use crate::engine::probe::walk::{Mark, ProbeNews};
use crate::mail::date::WallTime;
use crate::mail::status::Class;
use crate::program::exit::CommandFailure;
use crate::program::remote::client::{DaemonAnswer, ask};
use crate::protocol::request::{Form, Request, Show};
use crate::rules::advice::step::Stage;
use crate::rules::pacing::downtime::Uplink;
use crate::store::drop::DropDirectory;
use crate::sys::clock::{Clock, SystemClock, utc_offset_seconds};
use std::io;

/// How many paused routes are shown.
const ROUTES_MAX: usize = 5;

/// What the daemon says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct DaemonState {
    pub link: Uplink,
    messages: u64,
    octets: u64,
    held: u64,
    kept: u64,
    /// Routes that pause, with their reasons.
    routes: Vec<(String, String)>,
    /// How many recipients of the same domain wait, and the reason of the last one.
    waiting: (usize, String),
}

/// A finding, in the form of a step.
type Finding = (Mark, String, Option<Class>);

/// Shows whether a daemon runs, and what mail would wait for. Returns its state, if one answers.
pub(super) fn check(site: &Site, address: &str, screen: &mut StepScreen) -> Option<DaemonState> {
    screen.news(ProbeNews::Begins(Stage::Queue));
    let state = match ask_state(site, address) {
        Ok(state) => Some(state),
        Err(text) => {
            screen.step(Stage::Queue, Mark::Warn, text, None);
            None
        }
    };
    let leaves =
        address.rsplit_once('@').and_then(|(_, domain)| crate::mail::address::Domain::parse(domain).ok());
    let leaves = leaves.is_some_and(|domain| !site.routes.is_local(&domain));
    let now = WallTime(SystemClock.wall_micros());
    let mut findings = state.as_ref().map_or_else(Vec::new, |state| findings(site, state, leaves));
    findings.extend(scheduled(site, leaves, now));
    findings.extend(dropped(site, now));
    if findings.is_empty() && state.is_some() {
        screen.step(Stage::Queue, Mark::Ok, "the daemon runs".into(), None);
    }
    for (mark, text, class) in findings {
        screen.step(Stage::Queue, mark, text, class);
    }
    state
}

/// Asks the daemon for its status and its list.
///
/// # Errors
/// No daemon answers; in words.
fn ask_state(site: &Site, address: &str) -> Result<DaemonState, String> {
    let answer = |request: &Request| {
        let mut text = DaemonText::default();
        match ask(&site.settings.control, request, &mut text) {
            Ok(DaemonAnswer::Answered(_)) => Ok(text.0),
            Ok(DaemonAnswer::NoDaemon(why)) => Err(format!("no daemon answers: {why}")),
            Err(error) => Err(CommandFailure::from(error).lines.concat()),
        }
    };
    let status = answer(&Request::Status(Show::Json))?;
    let list = answer(&Request::List(Form::Json))?;
    let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
    Ok(DaemonState { waiting: waiting(&list, domain), ..read(&status) })
}

/// The answer of the daemon, as text.
#[derive(Default)]
pub(super) struct DaemonText(pub String);

impl Output for DaemonText {
    fn output(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.push_str(&String::from_utf8_lossy(octets));
        Ok(())
    }

    fn error(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the status in the form that the daemon writes.
fn read(json: &str) -> DaemonState {
    let number = |key: &str| {
        let (_, rest) = json.split_once(&format!("\"{key}\":"))?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
    };
    let link = match (number("link_up"), number("link_metered")) {
        (Some(0), _) => Uplink::Down,
        (_, Some(1)) => Uplink::Metered,
        _ => Uplink::Up,
    };
    let routes = json.split("{\"route\":").skip(1).filter_map(|part| {
        let (_, reason) = part.split_once("\"reason\":")?;
        Some((string(part)?, string(reason)?))
    });
    let value = |key| number(key).unwrap_or_default();
    DaemonState {
        link,
        messages: value("queue_messages"),
        octets: value("queue_bytes"),
        held: value("queue_held_messages"),
        kept: value("undelivered_to_admin"),
        routes: routes.take(ROUTES_MAX).collect(),
        waiting: (0, String::new()),
    }
}

/// The JSON string at the beginning of a text.
fn string(json: &str) -> Option<String> {
    let mut chars = json.strip_prefix('"')?.chars();
    let mut text = String::new();
    loop {
        match chars.next()? {
            '"' => return Some(text),
            '\\' => match chars.next()? {
                'u' => {
                    let code: String = chars.by_ref().take(4).collect();
                    text.extend(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32));
                }
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
}

/// The number of queued recipients of a domain, and the reason of the last one.
fn waiting(list: &str, domain: &str) -> (usize, String) {
    let recipients = list.split("{\"to\":\"").filter(|part| part.contains("\"state\":\"pending\""));
    let here = recipients.filter(|part| {
        let to = part.split_once('"').map_or("", |(to, _)| to);
        to.rsplit_once('@').is_some_and(|(_, of)| of.eq_ignore_ascii_case(domain))
    });
    let replies = here.filter_map(|part| string(part.split_once("\"reply\":")?.1));
    replies.fold((0, String::new()), |(count, _), reply| (count + 1, reply))
}

/// What the state of the daemon means for a message, which may leave this host.
fn findings(site: &Site, state: &DaemonState, leaves: bool) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut warn = |text: String| found.push((Mark::Warn, text, None));
    let (waiting, reason) = &state.waiting;
    if *waiting > 0 {
        let wait =
            if *waiting == 1 { "message for this domain waits" } else { "messages for this domain wait" };
        warn(format!("{waiting} {wait}: {reason}"));
    }
    if state.held > 0 {
        let are = if state.held == 1 { "message is" } else { "messages are" };
        warn(format!("{} {are} held by the operator", state.held));
    }
    if state.kept > 0 {
        let are = if state.kept == 1 { "message to admin is" } else { "messages to admin are" };
        warn(format!("{} {are} held, because no delivery was possible: see pillarbox queue", state.kept));
    }
    for (route, reason) in &state.routes {
        warn(format!("the route {route} pauses: {reason}"));
    }
    let limits = &site.settings.queue;
    for (key, value, limit) in [
        ("queue.max_messages", state.messages, u64::from(limits.max_messages)),
        ("queue.max_size", state.octets, limits.max_size),
    ] {
        // A limit of 0 means no limit.
        if limit > 0 && value >= limit {
            let text = format!("the queue is full: {value} of {key} = {limit}");
            found.push((Mark::Fail, text, Some(Class::Transient)));
        } else if limit > 0 && value >= limit / 10 * 9 {
            found.push((Mark::Warn, format!("the queue is nearly full: {value} of {key} = {limit}"), None));
        }
    }
    if state.link != Uplink::Up {
        let text = format!("the link is {}: the daemon was told so", state.link.word());
        let (mark, class) = if leaves { (Mark::Fail, Some(Class::Transient)) } else { (Mark::Warn, None) };
        found.push((mark, text, class));
    }
    found
}

/// When mail leaves, if it does by a schedule.
fn scheduled(site: &Site, leaves: bool, now: WallTime) -> Option<Finding> {
    let schedule = site.settings.queue.schedule.as_ref().filter(|_| leaves)?;
    let next = schedule.next_after(now, utc_offset_seconds(now.seconds()));
    let next = next.map_or_else(|| "never".to_owned(), |at| at.to_rfc5322().to_string());
    Some((Mark::Warn, format!("mail waits until the next time of queue.schedule: {next}"), None))
}

/// How much lies in `drop/`, where the daemon takes it from at once.
fn dropped(site: &Site, now: WallTime) -> Option<Finding> {
    let drops = DropDirectory::open(&site.settings.state, None).ok()?;
    let found = drops.entries().ok()?.filter(|found| !found.may_be_unfinished(now)).count();
    let files = if found == 1 { "file lies" } else { "files lie" };
    (found > 0).then(|| {
        (
            Mark::Warn,
            format!("{found} {files} in drop/ and {} not taken", if found == 1 { "is" } else { "are" }),
            None,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Domain;

    fn site(text: &str) -> Site {
        let settings = crate::config::parse(text, "f").unwrap();
        Site::new(settings, Domain::parse("box.example").unwrap(), None)
    }

    /// As the daemon writes it (`engine::control::status`).
    const STATUS: &str = "{\"version\":\"0\",\"uptime_seconds\":1,\"link_up\":0,\"link_metered\":0,\"queue_messages\":95,\"queue_bytes\":1000,\
        \"queue_held_messages\":2,\"undelivered_to_admin\":1,\"routes\":[{\"route\":\"far.example\",\"next_attempt\":5,\
        \"failing_seconds\":9,\"status\":\"4.4.1\",\"reason\":\"no \\\"way\\\"\\u000a\",\"advice\":null}],\"alarms\":[]}\n";

    #[test]
    fn the_status_is_read_as_it_is_written() {
        let state = read(STATUS);
        assert_eq!((state.link, state.messages, state.octets), (Uplink::Down, 95, 1000));
        assert_eq!((state.held, state.kept), (2, 1));
        assert_eq!(state.routes, [("far.example".to_owned(), "no \"way\"\n".to_owned())]);
        assert_eq!(read("").link, Uplink::Up);
        let metered = STATUS.replace("link_up\":0", "link_up\":1").replace("metered\":0", "metered\":1");
        assert_eq!(read(&metered).link, Uplink::Metered);
    }

    #[test]
    fn what_mail_would_wait_for_is_found() {
        let shown = |text: &str, state: &DaemonState, leaves| {
            let found = findings(&site(text), state, leaves);
            found
                .into_iter()
                .map(|(mark, text, class)| format!("{mark} {text} {class:?}"))
                .collect::<Vec<_>>()
        };
        let up = DaemonState::default();
        assert_eq!(shown("", &up, true), [] as [&str; 0]);
        let down = DaemonState { link: Uplink::Down, ..DaemonState::default() };
        assert!(shown("", &down, true)[0].starts_with("FAIL the link is down"));
        assert!(shown("", &down, false)[0].starts_with("warn the link is down"));
        let metered = DaemonState { link: Uplink::Metered, ..DaemonState::default() };
        assert!(shown("", &metered, true)[0].ends_with("Some(Transient)"));
        let full = DaemonState { messages: 95, octets: 1000, ..DaemonState::default() };
        for (text, expected) in [
            (
                "queue.max_messages = 95",
                "FAIL the queue is full: 95 of queue.max_messages = 95 Some(Transient)",
            ),
            (
                "queue.max_messages = 100",
                "warn the queue is nearly full: 95 of queue.max_messages = 100 None",
            ),
            (
                "queue.max_size = 1000",
                "FAIL the queue is full: 1000 of queue.max_size = 1000 Some(Transient)",
            ),
        ] {
            assert_eq!(shown(text, &full, true), [expected]);
        }
        let all = DaemonState { waiting: (2, "450 later".into()), link: Uplink::Up, ..read(STATUS) };
        let all = shown("", &all, true).join("\n");
        for words in [
            "2 messages for this domain wait: 450 later",
            "2 messages are held",
            "1 message to admin is held",
            "far.example pauses",
        ] {
            assert!(all.contains(words), "{words}: {all}");
        }
    }

    #[test]
    fn a_schedule_names_its_next_time() {
        let now = WallTime(1_795_416_810_000_000);
        let (mark, text, _) = scheduled(&site("queue.schedule = \"0 3 * * *\""), true, now).unwrap();
        assert!(mark == Mark::Warn && text.contains("03:00:00"), "{text}");
        assert_eq!(scheduled(&site("queue.schedule = \"0 3 * * *\""), false, now), None);
        assert_eq!(scheduled(&site(""), true, now), None);
    }

    #[test]
    fn what_waits_for_the_same_domain_is_found() {
        let list = "{\"id\":\"1\",\"recipients\":[{\"to\":\"a@far.example\",\"state\":\"pending\",\"reply\":\"the link is down\",\"relay\":null},\
                    {\"to\":\"b@far.example\",\"state\":\"delivered\",\"reply\":\"250\"}]}\n\
                    {\"id\":\"2\",\"recipients\":[{\"to\":\"a@other.example\",\"state\":\"pending\",\"reply\":\"no\"}]}\n";
        assert_eq!(waiting(list, "FAR.example"), (1, "the link is down".to_owned()));
        assert_eq!(waiting(list, "none.example"), (0, String::new()));
    }
}
