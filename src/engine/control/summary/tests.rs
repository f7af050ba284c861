use super::*;
use crate::mail::status::EnhancedStatus;
use std::time::Duration;

const HOUR: u64 = 3600;
const NOW: WallTime = WallTime(1_795_416_810_000_000);

fn figures(messages: u64) -> Figures {
    let stuck_after = Duration::from_secs(4 * HOUR);
    Figures { messages, octets: 1500 * messages, max_messages: 100, stuck_after, ..Figures::default() }
}

/// The sentences of those who may see all.
fn said(facts: &Facts, figures: &Figures) -> Vec<(Level, String)> {
    let facts = Facts { wall: NOW, ..facts.clone() };
    findings(&facts, figures, true).into_iter().map(|it| (it.level, it.text)).collect()
}

/// The first of them.
fn first(facts: &Facts, figures: &Figures) -> (Level, String) {
    said(facts, figures).swap_remove(0)
}

fn login_refused(failing: u64) -> Route {
    let reply = Some("535 5.7.8 Bad \u{1b}[2Jcredentials.".to_owned());
    Route {
        name: "smtp.far.example".into(),
        waiting: 3,
        failing,
        wait: 300,
        reason: Diagnostic { reply, ..Diagnostic::local(EnhancedStatus::NO_ANSWER, "AUTH") },
        is_refused: true,
        advice: Some("Correct the password."),
    }
}

#[test]
fn a_box_that_works_is_told_in_one_sentence() {
    let nothing = Facts::default();
    let ok = |text: &str| vec![(Level::Ok, text.to_owned())];
    assert_eq!(said(&nothing, &figures(0)), ok("Everything works: the queue is empty."));
    assert_eq!(said(&nothing, &figures(1)), ok("Everything works: 1 message is on the way."));
    let facts = Facts { for_schedule: 2, schedule_in: Some(3 * HOUR), ..Facts::default() };
    let text = "Everything works. 2 messages wait for queue.schedule, which fires in 3h; `pillarbox queue flush` sends at once.";
    assert_eq!(said(&facts, &figures(2)), ok(text));
    let facts = Facts { held: 1, for_digest: 1, for_retry: 2, retry_in: Some(90), ..Facts::default() };
    let texts: Vec<String> = said(&facts, &figures(4)).into_iter().map(|it| it.1).collect();
    assert_eq!(
        texts,
        [
            "Everything works. 1 message is held by the operator; `pillarbox queue release ID` lets one go.",
            "1 message waits to leave in a digest.",
            "2 messages wait for another try, the first in 1m 30s; `pillarbox queue` shows why.",
        ]
    );
}

#[test]
fn a_route_that_refuses_is_told_with_its_reason_and_what_to_do() {
    let facts = Facts { routes: vec![login_refused(3 * HOUR)], ..Facts::default() };
    let expected = "3 messages wait for smtp.far.example, which has refused the login for 3h: 535 5.7.8 Bad ?[2Jcredentials. \
                    Correct the password. Then run `pillarbox queue flush`.";
    assert_eq!(first(&facts, &figures(3)), (Level::Warning, expected.to_owned()));
    let others = findings(&facts, &figures(3), false).swap_remove(0).text;
    let expected = "3 messages wait for a host, which has refused the login for 3h; the administrator of this host can see why.";
    assert_eq!(others, expected);
}

#[test]
fn what_a_host_did_is_named_by_its_step_and_its_reply() {
    for (step, reply, words) in [
        ("connect to smtp.far.example: timed out", None, "which has not been reachable for 10m"),
        ("TLS: certificate expired", None, "which has not worked for 10m"),
        ("MAIL", Some("550 5.7.1 no"), "which has refused the mail of this host for 10m"),
        ("AUTH", Some("454 4.7.0 later"), "which has been asking to try again later for 10m"),
    ] {
        let reason = Diagnostic {
            reply: reply.map(str::to_owned),
            ..Diagnostic::local(EnhancedStatus::NO_ANSWER, step)
        };
        let route =
            Route { reason, is_refused: false, advice: None, waiting: 1, failing: 600, ..login_refused(0) };
        let (level, text) = first(&Facts { routes: vec![route], ..Facts::default() }, &figures(1));
        assert!(level == Level::Ok && text.contains(words), "{text}");
        let remedy = ". The next try is in 5m; `pillarbox queue flush` tries at once.";
        assert!(text.starts_with("1 message waits for smtp.far.example") && text.ends_with(remedy), "{text}");
    }
}

#[test]
fn the_worst_comes_first() {
    let facts = Facts {
        link: Uplink::Down,
        for_link: 1,
        held: 3,
        routes: vec![login_refused(60)],
        certificates: vec![("/etc/c.pem".into(), Ok(WallTime(NOW.0 + 2 * DAY * 1_000_000)))],
        ..Facts::default()
    };
    let figures = Figures { kept: 2, ..figures(60) };
    let found = findings(&Facts { wall: NOW, ..facts }, &figures, true);
    let starts: Vec<String> = found.iter().map(|it| it.text.chars().take(25).collect()).collect();
    assert_eq!(
        starts,
        [
            "The certificate /etc/c.pe",
            "2 messages to admin could",
            "The queue is more than ha",
            "The link is down: 1 messa",
            "3 messages wait for smtp.",
            "1 message is held by the ",
        ]
    );
    // What `--check` would say twice is marked.
    let judged: Vec<bool> = found.iter().map(|it| it.is_judged).collect();
    assert_eq!(judged, [false, true, true, false, true, false]);
}

#[test]
fn the_link_is_told_with_what_waits_for_it() {
    for (link, waits, level, text) in [
        (Uplink::Down, 0, Level::Warning, "The link is down: no mail leaves. Run `pillarbox link up` when"),
        (Uplink::Down, 2, Level::Warning, "The link is down: 2 messages wait for other hosts. Run"),
        (Uplink::Metered, 0, Level::Ok, "Everything works. The link is metered: only urgent mail leaves."),
        (
            Uplink::Metered,
            1,
            Level::Ok,
            "The link is metered, and only urgent mail leaves: 1 message waits. `pil",
        ),
    ] {
        let (found, told) = first(&Facts { link, for_link: waits, ..Facts::default() }, &figures(waits));
        assert!(found == level && told.starts_with(text), "{told}");
    }
}

#[test]
fn limits_are_told_before_they_are_reached() {
    let level = |facts: &Facts, messages| first(facts, &figures(messages)).0;
    let nothing = Facts::default();
    for (messages, expected) in
        [(50, Level::Ok), (51, Level::Warning), (91, Level::Critical), (100, Level::Critical)]
    {
        assert_eq!(level(&nothing, messages), expected, "{messages}");
    }
    assert!(
        first(&nothing, &figures(100)).1.starts_with("The queue is full: 100 of 100 messages. No more mail")
    );
    let large = Facts { max_octets: 10_000, ..Facts::default() };
    assert_eq!(
        first(&large, &figures(4)).1,
        "The queue is more than half full: 5 KiB of 9 KiB. `pillarbox queue` shows what waits, and why."
    );
    let room = |room, kept_free| Facts { room: Some(room), kept_free, ..Facts::default() };
    assert_eq!(level(&room(0, 0), 0), Level::Ok, "limits.free_space = 0 switches the check off");
    assert_eq!(level(&room(5 << 20, 1 << 20), 0), Level::Ok);
    let (level, text) = first(&room((5 << 20) - 1, 1 << 20), &figures(0));
    assert_eq!(
        (level, text.split(';').next()),
        (Level::Warning, Some("The disk with the queue is nearly full: 4.9 MiB are free"))
    );
    assert_eq!(first(&room((1 << 20) - 1, 1 << 20), &figures(0)).0, Level::Critical);
    // The kernel mounts a card with bad blocks read-only.
    let unwritable = Some("Read-only file system (os error 30)".to_owned());
    let (level, text) = first(&Facts { unwritable, ..room(5 << 20, 1 << 20) }, &figures(0));
    assert_eq!(
        (level, text.as_str()),
        (
            Level::Critical,
            "Nothing can be written to the disk with the queue: Read-only file system (os error 30)."
        )
    );
}

#[test]
fn a_certificate_is_told_before_it_ends_and_after() {
    for (hours, expected, words) in [
        (
            -1,
            Level::Critical,
            "The certificate /etc/c?.pem ended 1h ago; renew it, and then run `systemctl reload",
        ),
        (3 * 24 - 1, Level::Critical, "The certificate /etc/c?.pem ends in 2d 23h;"),
        (10 * 24 - 1, Level::Warning, "The certificate /etc/c?.pem ends in 9d 23h;"),
        (10 * 24, Level::Ok, "Everything works"),
    ] {
        let ends = WallTime(NOW.0.saturating_add_signed(hours * 3_600_000_000));
        let facts =
            Facts { wall: NOW, certificates: vec![("/etc/c\n.pem".into(), Ok(ends))], ..Facts::default() };
        let (level, text) = first(&facts, &figures(0));
        assert!(level == expected && text.starts_with(words), "{text}");
        assert!(!findings(&facts, &figures(0), false).swap_remove(0).text.contains("/etc"));
    }
}

#[test]
fn a_certificate_that_cannot_be_read_is_told() {
    let certificates = vec![("/etc/c.pem".into(), Err("Permission denied".into()))];
    let facts = Facts { certificates, ..Facts::default() };
    let text = "The certificate /etc/c.pem can't be used: Permission denied. Run `pillarbox check`.";
    assert_eq!(first(&facts, &figures(0)), (Level::Warning, text.to_owned()));
}

#[test]
fn a_token_that_is_lost_is_told_with_the_command() {
    let text = "the token of joe@far.example is refused; run: pillarbox login joe@far.example".to_owned();
    let facts = Facts { tokens: vec![(Level::Critical, text)], ..Facts::default() };
    let (level, text) = first(&facts, &figures(0));
    assert!(
        level == Level::Critical && text.starts_with("The token of joe@far.example is refused; run: "),
        "{text}"
    );
    assert!(!findings(&facts, &figures(0), false)[0].text.contains("far"));
}

#[test]
fn an_old_message_is_told_unless_something_else_explains_it() {
    let id = QueueId::new(NOW.0, 1);
    let old = Figures { age: 5 * HOUR, ..figures(1) };
    let facts = |why: &str| Facts { oldest: Some((id, Some(why.to_owned()))), ..Facts::default() };
    let (level, text) = first(&facts("450 4.2.0 Greylisted"), &old);
    assert_eq!(
        (level, text),
        (Level::Warning, format!("Message {id} has waited for 5h: 450 4.2.0 Greylisted"))
    );
    assert_eq!(first(&facts("450 4.2.0 Greylisted"), &figures(1)).0, Level::Ok, "it is not that old");
    let route = login_refused(60);
    let explained = Facts { routes: vec![route.clone()], ..facts(route.reason.line()) };
    assert_eq!(said(&explained, &old).len(), 1);
    let down = Facts { link: Uplink::Down, for_link: 1, ..facts("the link is down") };
    assert_eq!(said(&down, &old).len(), 1);
    let others = findings(&facts("450 for joe@far.example"), &old, false).swap_remove(0).text;
    assert!(!others.contains("far"), "{others}");
}

#[test]
fn things_that_wait_for_a_person_are_critical() {
    let kept = first(&Facts { held: 1, ..Facts::default() }, &Figures { kept: 1, ..figures(1) });
    assert!(kept.0 == Level::Critical && kept.1.starts_with("1 message to admin could not be delivered: "));
    let id = QueueId::new(NOW.0, 1);
    let facts =
        Facts { oldest_kept: Some((id, "550 5.1.1 <boss@far.example>: no.".into())), ..Facts::default() };
    let figures_of_kept = Figures { kept: 2, ..figures(2) };
    let remedy = format!("Mend that, and then run `pillarbox queue release {id}`.");
    let expected =
        format!("2 messages to admin could not be delivered: 550 5.1.1 <boss@far.example>: no. {remedy}");
    assert_eq!(first(&facts, &figures_of_kept), (Level::Critical, expected));
    assert!(!findings(&facts, &figures_of_kept, false)[0].text.contains("boss"));
    let hanging = first(&Facts::default(), &Figures { hanging: 2, ..figures(0) });
    assert!(
        hanging.0 == Level::Critical && hanging.1.starts_with("The mailboxes of 2 users do not answer"),
        "{}",
        hanging.1
    );
}

/// It said "for 0s".
#[test]
fn what_has_just_happened_is_told_so() {
    for (step, reply, words) in [
        ("connect to smtp.far.example: timed out", None, "which could not be reached just now: "),
        ("TLS: certificate expired", None, "which did not work just now: "),
        ("MAIL", Some("550 5.7.1 no"), "which has just refused the mail of this host: "),
        ("AUTH", Some("535 5.7.8 no"), "which has just refused the login: "),
        ("AUTH", Some("454 4.7.0 later"), "which has just asked to try again later: "),
    ] {
        let reason = Diagnostic {
            reply: reply.map(str::to_owned),
            ..Diagnostic::local(EnhancedStatus::NO_ANSWER, step)
        };
        let route = Route { reason, failing: 0, ..login_refused(0) };
        let text = first(&Facts { routes: vec![route], ..Facts::default() }, &figures(1)).1;
        assert!(text.contains(words) && !text.contains("0s"), "{text}");
    }
    let facts = Facts { for_retry: 1, retry_in: Some(0), ..Facts::default() };
    assert!(first(&facts, &figures(1)).1.contains("for another try, the first now; "));
}

#[test]
fn a_switch_that_is_not_reached_is_told_with_its_reason() {
    let facts = |seconds, is_long| Facts {
        unreached_switch: Some((seconds, "hc.example can't be asked: x\u{1b}.".into(), is_long)),
        ..Facts::default()
    };
    let what = "The dead man's switch of heartbeat.url";
    let remedy = "Check heartbeat.url and the network; the switch may report this host as dead.";
    let expected = format!("{what} was not reached just now: hc.example can't be asked: x?. {remedy}");
    assert_eq!(first(&facts(0, false), &figures(0)), (Level::Ok, expected));
    let expected = format!("{what} has not been reached for 3h. {remedy}");
    let found = findings(&facts(3 * HOUR, true), &figures(0), false).swap_remove(0);
    assert_eq!((found.level, found.text), (Level::Warning, expected));
}
