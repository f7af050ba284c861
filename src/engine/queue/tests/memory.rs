//! `queue.storage = "memory-first"`: what lies in memory, and when it moves to the disk.

use super::kept::ADMIN;
use crate::engine::host::site::current;
use crate::engine::queue::saving::MemoryFacts;
use crate::engine::tests::world::*;
use crate::net::transport::Deadline;
use std::sync::Arc;
use std::time::Duration;

const FAR: &str = "joe@far.example";
const FIRST: &str = "queue.storage = \"memory-first\"\nqueue.memory_grace = \"10m\"\n";

/// A world with messages in memory, and a host that takes mail only later.
fn world(config: &str) -> (World, Arc<Host>) {
    let world = World::new(&format!("{FIRST}{config}"));
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("450 4.2.0 later") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    take_log();
    (world, host)
}

/// The files below `state`, with their sizes and inodes.
fn disk(world: &World) -> Vec<String> {
    let found = std::process::Command::new("find")
        .arg(world.state())
        .args(["-type", "f", "-printf", "%p %s %i %T@\n"])
        .output()
        .unwrap();
    let mut lines: Vec<_> = String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn an_alert_that_leaves_at_once_touches_no_disk() {
    let (world, host) = world("");
    host.now_says(|_, _| Say::Yes);
    world.pass();
    let before = disk(&world);
    for _ in 0..30 {
        world.accept("me@box.example", &[FAR]);
        assert_eq!(world.shelves(), (1, 0));
        world.pass();
        assert_eq!(world.shelves(), (0, 0));
    }
    assert_eq!((host.recipients().len(), world.manager.queue.memory_octets()), (30, 0));
    assert_eq!(disk(&world), before);
    // A message may come in without waking the forwarder.
    assert_eq!(world.manager.keep_saving(&current(&world.site)), 10 * MINUTE);
}

#[test]
fn a_message_moves_when_the_grace_is_over() {
    let (world, host) = world("");
    let old = world.accept("me@box.example", &[FAR]);
    world.pass();
    world.clock.advance(5 * MINUTE);
    let young = world.accept("me@box.example", &[FAR]);
    world.pass();
    assert_eq!(world.shelves(), (2, 0));
    // The forwarder starts a thread, and no sooner than it is due.
    let site = current(&world.site);
    let wait = world.manager.keep_saving(&site);
    assert!(wait <= 5 * MINUTE && wait >= 4 * MINUTE, "{wait:?}");
    world.clock.advance(wait);
    world.manager.keep_saving(&site);
    let moved = (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        world.shelves() == (1, 1)
    });
    assert!(moved, "{:?}", world.shelves());
    assert_eq!(world.queued(old).progress[0].attempts, 2, "the journal came along");
    assert!(world.queued(young).progress[0].attempts >= 1);
    assert_eq!(world.manager.memory_facts().messages, 1);
    host.now_says(|_, _| Say::Yes);
    world.clock.advance(5 * MINUTE);
    world.pass();
    assert_eq!((world.shelves(), host.recipients().len()), ((0, 0), 2));
}

#[test]
fn a_start_finds_what_lies_in_memory_and_disk_takes_it_over() {
    let (world, _host) = world("");
    let id = world.accept("me@box.example", &[FAR]);
    world.pass();
    let mut world = world.restart();
    assert_eq!((world.shelves(), world.queue().len(), world.manager.index.size().0), ((1, 0), 1, 1));
    assert_eq!(world.queued(id).progress[0].attempts, 1);
    world.set_config("");
    let world = world.restart();
    assert_eq!((world.shelves(), world.queue().len()), ((1, 0), 1));
    // New mail goes to the disk, and a command for the queue shows both.
    world.clock.advance(MINUTE);
    world.accept("me@box.example", &[FAR]);
    assert_eq!(world.shelves(), (1, 1));
    assert_eq!(ask(&world, "queue --json").1.lines().count(), 2);
    world.pass();
    assert_eq!((world.shelves(), world.queue().len()), ((0, 2), 2));
}

#[test]
fn a_reload_to_disk_empties_memory() {
    let (world, _host) = world("");
    world.accept("me@box.example", &[FAR]);
    world.reload("");
    world.accept("me@box.example", &[FAR]);
    assert_eq!(world.shelves(), (1, 1));
    world.pass();
    assert_eq!(world.shelves(), (0, 2));
    world.reload(FIRST);
    world.accept("me@box.example", &[FAR]);
    assert_eq!(world.shelves(), (1, 2));
}

#[test]
fn a_stop_moves_all() {
    let (world, _host) = world("");
    for _ in 0..20 {
        world.accept("me@box.example", &[FAR]);
    }
    let entry = world.manager.queue.checkout(world.queue()[0].id).unwrap();
    world.manager.leave_memory(Deadline::after(Duration::from_secs(10)));
    assert_eq!(world.shelves(), (0, 20));
    drop(entry);
    world.accept("me@box.example", &[FAR]);
    assert_eq!(world.shelves(), (0, 21), "what comes in meanwhile goes to the disk");
    assert_eq!(take_events("notice").len(), 1);
    let world = world.restart();
    assert_eq!(world.queue().len(), 21);
}

#[test]
fn no_message_is_refused_because_memory_is_full() {
    let (world, _host) = world("queue.memory_max = 16384\nqueue.max_messages = 16");
    for _ in 0..7 {
        world.accept("me@box.example", &[FAR]);
    }
    assert_eq!(world.shelves(), (4, 3));
    let large = format!("Subject: x\n\n{}", "0123456789abcde\n".repeat(20_000));
    assert!(world.submit("me@box.example", &[FAR], &large).starts_with("250"));
    assert_eq!(world.shelves(), (4, 4));
    // Both count, and one client has a half of the queue now.
    assert!(!world.submit("me@box.example", &[FAR], "Subject: x\n\nx\n").starts_with("250"));
}

#[test]
fn the_operator_works_on_messages_wherever_they_lie() {
    let (world, host) = world("");
    let id = world.accept("me@box.example", &[FAR]);
    let other = world.accept("me@box.example", &[FAR]);
    assert!(ask(&world, &format!("queue show {id}")).1.contains("Subject"));
    assert_eq!(ask(&world, &format!("queue hold {id}")).0, 0);
    assert_eq!(world.shelves(), (1, 1), "a power cut must not undo a hold");
    let world = world.restart();
    assert!(world.queued(id).progress[0].held);
    world.clock.advance(MINUTE);
    assert_eq!(ask(&world, &format!("queue remove {other}")).0, 0);
    assert_eq!(world.shelves(), (0, 1));
    host.now_says(|_, _| Say::Yes);
    assert_eq!(ask(&world, &format!("queue release {id}")).0, 0);
    let third = world.accept("me@box.example", &[FAR]);
    assert_eq!(ask(&world, &format!("queue bounce {third}")).0, 0);
    assert_eq!(ask(&world, "queue flush").0, 0);
    world.pass();
    assert_eq!(world.shelves().0, 0, "notices go to the disk");
}

#[test]
fn a_hold_is_done_when_it_is_on_the_disk() {
    let (world, _host) = world("");
    let id = world.accept("me@box.example", &[FAR]);
    let tmp = world.state().join("tmp").join(id.to_string());
    std::fs::create_dir(&tmp).unwrap();
    for _ in 0..2 {
        assert_ne!(ask(&world, &format!("queue hold {id}")).0, 0);
        assert_eq!(world.shelves(), (1, 0));
    }
    std::fs::remove_dir(&tmp).unwrap();
    assert_eq!(ask(&world, &format!("queue hold {id}")).0, 0);
    assert_eq!(world.shelves(), (0, 1));
    assert!(world.restart().queued(id).progress[0].held);
}

#[test]
fn mail_that_is_kept_for_admin_is_on_the_disk() {
    let world = World::new(&format!("{FIRST}{ADMIN}"));
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("", &["boss@far.example"]);
    world.pass();
    assert_eq!(world.shelves(), (0, 1));
    assert!(world.queue()[0].progress[0].kept.is_some());
}

#[test]
fn a_disk_that_takes_nothing_raises_an_alarm_and_loses_nothing() {
    let (world, host) = world("");
    let id = world.accept("me@box.example", &[FAR]);
    let tmp = world.state().join("tmp").join(id.to_string());
    std::fs::create_dir(&tmp).unwrap();
    world.clock.advance(11 * MINUTE);
    world.pass();
    assert_eq!((world.shelves(), world.queue().len()), ((1, 0), 1));
    assert!(!take_events("trouble").is_empty());
    let look = || {
        world.clock.advance(MINUTE);
        world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
        take_events("alarm")
    };
    let [alarm] = look().try_into().unwrap();
    assert!(alarm.contains("state=alarm reason=memory"), "{alarm}");
    let (code, check) = ask(&world, "status --check");
    assert!(code == 2 && check.contains("can't be saved, and a power cut would lose them"), "{check}");
    assert!(ask(&world, "status").1.contains("Messages in memory can't be saved"));
    std::fs::remove_dir(&tmp).unwrap();
    world.pass();
    assert_eq!(world.shelves(), (0, 1));
    let over = look();
    assert!(over[0].contains("state=ok reason=memory"), "{over:?}");
    host.now_says(|_, _| Say::Yes);
    world.clock.advance(HOUR);
    world.pass();
    assert_eq!(host.recipients().len(), 1);
}

#[test]
fn status_says_what_a_power_cut_would_lose() {
    let (world, _host) = world("");
    assert!(!ask(&world, "status").1.contains("in memory"));
    world.accept("me@box.example", &[FAR]);
    world.clock.advance(3 * MINUTE);
    world.accept("me@box.example", &[FAR]);
    let MemoryFacts { messages, octets, oldest, failure } = world.manager.memory_facts();
    assert_eq!((messages, octets, oldest, failure), (2, 8192, 3 * MINUTE, None));
    let (_, text) = ask(&world, "status");
    let line = "in memory       2 messages, 8 KiB, the oldest for 3m: a power cut would lose them\n";
    assert!(text.contains(line), "{text}");
    let (_, json) = ask(&world, "status --json");
    for part in
        ["\"queue_memory_messages\":2", "\"queue_memory_bytes\":8192", "\"queue_memory_oldest_seconds\":180"]
    {
        assert!(json.contains(part), "{json}");
    }
    let (_, page) = ask(&world, "status --html");
    assert!(page.contains("a power cut would lose them"), "{page}");
}
