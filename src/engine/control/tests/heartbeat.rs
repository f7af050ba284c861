//! Signs of life: when the mail to `admin` is written and what it says; when the dead man's switch is asked, and what it is told.

use crate::engine::control::heartbeat::{beat, due};
use crate::engine::host::site::current;
use crate::engine::tests::world::*;
use crate::mail::date::Now;
use crate::net::resolver::{DnsError, DnsErrorKind};
use crate::store::state_file::line::CLOCK;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const WEEKLY: &str = "admin = \"boss@far.example\"\nheartbeat.every = \"7d\"";

/// The housekeeping of the daemon, with the work of the heartbeat in this thread.
fn housekeeping(world: &World) {
    let (site, now) = (current(&world.site), world.manager.clock.now());
    world.services.alarm.check(&world.manager, &site, now);
    if let Some(due) = due(&world.services, &site, now) {
        beat(&world.services, &world.forwarder.egress, &site, due);
    }
    world.intake.clock.save_if_due(|| false);
    world.intake.counters.save(now, false);
}

/// Lets hours pass, with housekeeping and a pass in each.
fn live(world: &World, hours: u64) {
    for _ in 0..hours {
        world.clock.advance(HOUR);
        housekeeping(world);
        world.pass();
    }
}

/// A world whose `admin` is behind a host that takes all.
fn weekly(config: &str) -> (World, Arc<Host>) {
    let world = World::new(&format!("{WEEKLY}\n{config}"));
    let host = world.far_host();
    world.clock.advance(MINUTE);
    housekeeping(&world);
    (world, host)
}

/// The mails that the host has taken since the last call, with LF line ends.
fn taken(host: &Host) -> Vec<String> {
    let taken = std::mem::take(&mut *host.taken.lock().unwrap());
    taken.into_iter().map(|it| String::from_utf8(it.content).unwrap().replace("\r\n", "\n")).collect()
}

/// What root is told, whatever the exit code.
fn told(world: &World, line: &str) -> String {
    ask(world, line).1
}

#[test]
fn admin_gets_a_mail_each_week_with_figures_since_the_last_one() {
    let (world, host) = weekly("");
    assert!(told(&world, "status").contains("\nheartbeat       the first mail to admin in 7d\n"));
    live(&world, 7 * 24 - 1);
    assert_eq!(taken(&host), [""; 0], "the first comes after one period");
    for _ in 0..3 {
        world.accept("alice@box.example", &["joe@far.example"]);
    }
    live(&world, 1);
    let mails = taken(&host);
    let mail = &mails[3];
    assert_eq!(mails.len(), 4);
    for part in [
        "From: \"Mail system of box.example\" <root@box.example>\n",
        "\nTo: <boss@far.example>\n",
        "\nSubject: box.example: all is well\n",
        "\nAuto-Submitted: auto-generated\n",
        "\nNow: Everything works: 3 messages are on the way.\n",
        "\nIn 7d:\n  accepted         3 messages\n  delivered        0 recipients\n",
        "\nWaiting now: 3 messages, the oldest for 1h.\n",
        "has been running for 7d.\n",
    ] {
        assert!(mail.contains(part), "{part}{mail}");
    }
    assert!(told(&world, "status").contains("\nheartbeat       mail to admin just now, the next in 7d\n"));
    live(&world, 2 * 7 * 24);
    let mails = taken(&host);
    assert_eq!(mails.len(), 2);
    // The mail before, and those that waited at that time.
    let part =
        "\nIn 7d, since the last such mail:\n  accepted         1 message\n  delivered        4 recipients\n";
    assert!(mails[0].contains(part) && mails[0].contains("\nWaiting now: 0 messages.\n"), "{}", mails[0]);
    assert!(
        mails[1].contains("  accepted         1 message\n  delivered        1 recipient\n"),
        "{}",
        mails[1]
    );
}

#[test]
fn restarts_neither_repeat_a_mail_nor_put_it_off() {
    let (mut world, host) = weekly("");
    for _ in 0..14 * 2 {
        live(&world, 12);
        // A crash: what is not saved is lost.
        world = world.restart();
        housekeeping(&world);
        world.pass();
    }
    assert_eq!(taken(&host).len(), 2);
    // And at once behind a mail.
    live(&world, 6 * 24);
    for _ in 0..24 {
        live(&world, 1);
        world = world.restart();
        housekeeping(&world);
        world.pass();
    }
    assert_eq!(taken(&host).len(), 1);
}

#[test]
fn a_clock_that_jumps_causes_no_mail_and_prevents_none() {
    for years in [-30i64, 10] {
        let (world, host) = weekly("");
        live(&world, 24);
        world.clock.jump(years * 31_536_000);
        live(&world, 6 * 24 - 1);
        assert_eq!(taken(&host).len(), 0, "{years}");
        live(&world, 1);
        assert_eq!(taken(&host).len(), 1, "{years}");
        world.clock.jump(-years * 31_536_000);
        live(&world, 7 * 24 - 1);
        assert_eq!(taken(&host).len(), 0, "{years}");
        live(&world, 1);
        assert_eq!(taken(&host).len(), 1, "{years}");
    }
}

#[test]
fn time_during_which_the_host_was_off_counts() {
    let (mut world, host) = weekly("");
    for _ in 0..7 {
        live(&world, 8);
        world.intake.clock.save();
        // Off for the night.
        let saved = CLOCK.load(&world.state()).unwrap();
        let mut words: Vec<&str> = saved.split(' ').collect();
        words[3] = "0000000000000000000000000000000b";
        CLOCK.save(&world.state(), &words.join(" ")).unwrap();
        world.clock.jump(16 * 3600);
        world.clock.reboot();
        world = world.restart();
    }
    housekeeping(&world);
    world.pass();
    let mails = taken(&host);
    assert!(mails.len() == 1 && mails[0].contains("\nIn 7d:\n"), "{mails:?}");
}

#[test]
fn what_is_wrong_is_in_the_mail() {
    let (world, host) = weekly("queue.lifetime = \"30d\"\nqueue.warn_after = 0");
    let near = Host::friendly();
    world.net.domain("near.example", "192.0.2.2", Peer::Host(Arc::clone(&near)));
    near.now_says(|stage, _| if stage == Stage::Greeting { reply("421 4.3.2 closed") } else { Say::Yes });
    world.accept("alice@box.example", &["joe@near.example"]);
    live(&world, 7 * 24);
    let mails = taken(&host);
    let mail = &mails[0];
    assert!(mails.len() == 1 && mail.contains("\nSubject: box.example: this needs a look\n"), "{mails:?}");
    assert!(
        mail.contains("\nNow: 1 message waits for near.example, which has been asking to try again"),
        "{mail}"
    );
    assert!(mail.lines().all(|line| line.len() < 80), "{mail}");
}

/// The link is down for a month, and then one mail tells of it.
#[test]
fn mails_do_not_pile_up_behind_one_that_waits() {
    let (world, host) = weekly("queue.lifetime = \"90d\"\nqueue.warn_after = 0");
    told(&world, "link down");
    live(&world, 30 * 24);
    assert_eq!((world.queue().len(), taken(&host).len()), (1, 0));
    told(&world, "link up");
    world.pass();
    assert_eq!(taken(&host).len(), 1);
    live(&world, 1);
    let mails = taken(&host);
    assert!(mails.len() == 1 && mails[0].contains("since the last such mail"), "{mails:?}");
}

#[test]
fn a_mail_that_cannot_be_written_is_tried_again() {
    let world = World::new("heartbeat.every = \"7d\"\nadmin = \"alice\"");
    housekeeping(&world);
    let aliases = world.state().with_file_name("aliases");
    std::fs::create_dir(&aliases).unwrap();
    take_log();
    live(&world, 7 * 24 + 5);
    let mut log = take_events("trouble");
    log.retain(|line| !line.contains("reading the aliases"));
    assert_eq!(log.len(), 6, "each hour: {log:?}");
    assert!(
        log[0].contains(
            "writing the mail of heartbeat.every; it is tried again\" error=\"alice@box.example: 451 "
        ),
        "{log:?}"
    );
    std::fs::remove_dir(&aliases).unwrap();
    world.reload("heartbeat.every = \"7d\"\nadmin = [\"alice\", \"bob\"]");
    live(&world, 1);
    for user in ["alice", "bob"] {
        let mail = world.mail(user);
        assert!(mail.len() == 1 && mail[0].contains("Subject: box.example: all is well\n"), "{mail:?}");
        assert!(mail[0].contains("\nTo: <alice@box.example>,\n\t<bob@box.example>\n"), "{mail:?}");
    }
    // Switched off and on again: a period begins.
    world.reload("admin = \"alice\"");
    live(&world, 30 * 24);
    world.reload("heartbeat.every = \"7d\"\nadmin = \"alice\"");
    live(&world, 7 * 24);
    assert_eq!(world.mail("alice").len(), 1);
    live(&world, 1);
    assert_eq!(world.mail("alice").len(), 2);
}

#[test]
fn a_lost_running_time_begins_the_period_again() {
    let (world, host) = weekly("");
    live(&world, 3 * 24);
    std::fs::remove_file(world.state().join("clock")).unwrap();
    let world = world.restart();
    // The record is of a running time that has not come yet.
    let last = world.intake.counters.last_beat().unwrap();
    assert!(!last.is_ahead_of(Now { running: last.at.running, ..last.at }));
    live(&world, 7 * 24);
    assert_eq!(taken(&host).len(), 1);
}

/// What a switch was asked.
#[derive(Clone, Default)]
struct Switch(Arc<Mutex<Vec<String>>>);

impl Switch {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// A world with a dead man's switch that answers with this status line.
fn switched(config: &str, status: Arc<Mutex<Option<&'static str>>>) -> (World, Switch) {
    let place = World::place();
    let path = place.file("web.pem", web_certificate());
    let config = format!(
        "relay.ca_file = {path:?}\nheartbeat.url = \"https://{WEB_NAME}/5e-cd\"\nalarm.stuck_after = \"1h\"\n\
         queue.warn_after = 0\n{config}"
    );
    let world = World::at(&config, place);
    let switch = Switch::default();
    let asked = Arc::clone(&switch.0);
    serve_web(&world, move |line, _| {
        asked.lock().unwrap().push(line.strip_suffix(" HTTP/1.1").unwrap().to_owned());
        let status = *status.lock().unwrap();
        status.map(|status| (status, "OK".to_owned()))
    });
    (world, switch)
}

fn ok() -> Arc<Mutex<Option<&'static str>>> {
    Arc::new(Mutex::new(Some("200 OK")))
}

fn minutes(world: &World, minutes: u64) {
    for _ in 0..minutes {
        world.clock.advance(MINUTE);
        housekeeping(world);
        world.pass();
    }
}

#[test]
fn the_switch_is_asked_each_interval_and_told_of_alarms_at_once() {
    let (world, switch) = switched("", ok());
    housekeeping(&world);
    assert_eq!(switch.take(), [""; 0], "a daemon that is started again and again is not well");
    assert!(
        told(&world, "status").contains("\nheartbeat       the dead man's switch has not been asked yet\n")
    );
    world.clock.advance(Duration::from_secs(10));
    housekeeping(&world);
    assert_eq!(switch.take(), ["GET /5e-cd"]);
    minutes(&world, 59);
    world.clock.jump(1_000_000_000);
    housekeeping(&world);
    assert_eq!(switch.take(), [""; 0]);
    minutes(&world, 121);
    assert_eq!(switch.take(), ["GET /5e-cd"; 3]);
    assert!(
        told(&world, "status")
            .contains("the dead man's switch was asked just now and told that all is well\n")
    );
    // Nobody answers at 192.0.2.9.
    world.net.domain("far.example", "192.0.2.9", Peer::Refuses);
    world.accept("alice@box.example", &["joe@far.example"]);
    minutes(&world, 59);
    assert_eq!(switch.take(), [""; 0], "no alarm is on yet");
    minutes(&world, 3);
    assert_eq!(
        switch.take(),
        ["GET /5e-cd", "GET /5e-cd/fail"],
        "that of the interval, and that of the alarm"
    );
    minutes(&world, 60);
    assert_eq!(switch.take(), ["GET /5e-cd/fail"]);
    assert!(told(&world, "status").contains(" and told of a failure\n"));
    world.net.peer("192.0.2.9", Peer::Host(Host::friendly()));
    told(&world, "queue flush");
    minutes(&world, 3);
    assert_eq!(switch.take(), ["GET /5e-cd"]);
}

#[test]
fn the_switch_is_not_told_that_all_is_well_without_link_or_room() {
    let (world, switch) = switched("limits.free_space = 0", ok());
    told(&world, "link down");
    minutes(&world, 120);
    assert_eq!(switch.take(), [""; 0]);
    told(&world, "link metered");
    minutes(&world, 1);
    assert_eq!(switch.take(), ["GET /5e-cd"]);
    let more = |room: &str| {
        let path = world.directory.join("web.pem");
        world.reload(&format!(
            "relay.ca_file = {path:?}\nheartbeat.url = \"https://{WEB_NAME}/5e-cd\"\nlimits.free_space = {room}"
        ));
        minutes(&world, 1);
        switch.take()
    };
    assert_eq!(more("\"900TiB\""), ["GET /5e-cd/fail"]);
    assert_eq!(more("0"), ["GET /5e-cd"]);
    std::fs::rename(world.state().join("queue"), world.state().join("gone")).unwrap();
    std::os::unix::fs::symlink("/proc/sys", world.state().join("queue")).unwrap();
    let said = more("0");
    std::fs::remove_file(world.state().join("queue")).unwrap();
    std::fs::rename(world.state().join("gone"), world.state().join("queue")).unwrap();
    assert_eq!(said, ["GET /5e-cd/fail"], "a file system that is read-only");
}

#[test]
fn a_switch_that_is_not_reached_is_logged_once_and_shown() {
    let status = ok();
    let (world, switch) = switched("", Arc::clone(&status));
    *status.lock().unwrap() = Some("404 Not Found");
    take_log();
    minutes(&world, 60);
    let log = take_events("trouble");
    let line = format!(
        "event=trouble doing=\"asking heartbeat.url\" error=\"{WEB_NAME} answers \\\"HTTP/1.1 404 Not Found\\\"\""
    );
    assert_eq!(log, [line]);
    assert_eq!(switch.take().len(), 12, "again after five minutes");
    let said = told(&world, "status");
    let start = "The dead man's switch of heartbeat.url has not been reached for 59m: login.test answers \"HTTP/1.1 404 Not Found\". Check ";
    assert!(said.starts_with(start), "{said}");
    assert!(told(&world, "status --check").starts_with("PILLARBOX OK"), "one interval has not passed");
    assert!(told(&world, "status --json").contains("\"heartbeat_unreached_seconds\":3540,"));
    // Closed, no host, a name that is not known: the reason is the last one.
    *status.lock().unwrap() = None;
    minutes(&world, 5);
    assert!(
        told(&world, "status").contains("for 1h 4m: login.test can't be asked: "),
        "{}",
        told(&world, "status")
    );
    let check = told(&world, "status --check");
    assert!(check.starts_with("PILLARBOX WARNING") && check.contains("The dead man's switch "), "{check}");
    world.net.address_error(WEB_NAME, DnsError { kind: DnsErrorKind::Temporary, text: "no answer".into() });
    minutes(&world, 5);
    assert!(told(&world, "status").contains("login.test can't be asked: no answer. Check "));
    assert!(!told(&world, "status").contains("5e-cd"), "whoever knows the path could answer for this host");
    world.net.address(WEB_NAME, &["127.0.0.50"]);
    *status.lock().unwrap() = Some("204 No Content");
    minutes(&world, 5);
    assert_eq!(take_events("notice"), ["event=notice text=\"heartbeat.url is reached again\""]);
    assert!(told(&world, "status").starts_with("Everything works"));
    // Redirects are not followed.
    *status.lock().unwrap() = Some("301 Moved Permanently\r\nLocation: https://login.test/other");
    minutes(&world, 60);
    assert!(told(&world, "status").contains("login.test answers \"HTTP/1.1 301 Moved Permanently\""));
}
