//! Storm control: what waits, what leaves when in one message, and that a crash loses none of it.

use crate::engine::control::maildrop::Maildrop;
use crate::engine::host::site::current;
use crate::engine::tests::world::*;
use crate::mail::envelope::Body;
use crate::mail::unqualified::Unqualified;
use crate::store::drop::{DropDirectory, DropEnvelope, Sender, StagedDrop};
use mail_parser::{MessageParser, MimeHeaders, PartType};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const CONFIG: &str = "digest.after = 2\ndigest.window = \"10m\"\n";
const WINDOW: Duration = Duration::from_secs(600);

fn world(more: &str) -> (World, Arc<Host>) {
    let world = World::new(&format!("{CONFIG}{more}"));
    let host = world.far_host();
    (world, host)
}

/// Somebody on this host sends a message.
fn submit_by(world: &World, sender: &str, to: &[&str], content: &str) {
    let drops = Maildrop::new(DropDirectory::open(&world.state(), None).unwrap());
    let mut staged = StagedDrop::create(&world.state(), "x").unwrap();
    staged.write(content.as_bytes()).unwrap();
    let envelope = DropEnvelope {
        sender: Sender::Address(Unqualified::parse(sender).unwrap()),
        recipients: to.iter().map(|to| Unqualified::parse(to).unwrap()).collect(),
        body: Body::SevenBit,
        ret: None,
        envid: None,
        notify: None,
    };
    staged.commit(&envelope).unwrap();
    assert_eq!(drops.take_all(&world.intake, &current(&world.site)), 1);
}

fn submit(world: &World, content: &str) {
    submit_by(world, "bob", &["joe@far.example"], content);
}

/// Alerts that are alike, each with a body of its own.
fn storm(world: &World, numbers: std::ops::Range<usize>) {
    for number in numbers {
        submit(world, &format!("Subject: disk {number}0 % full\n\nalert {number}.\n"));
    }
}

/// The alerts that are in a message: of its own, and in the parts of a digest.
fn alerts(content: &[u8]) -> Vec<usize> {
    let number =
        |text: &str| -> Option<usize> { text.trim().strip_prefix("alert ")?.split_once('.')?.0.parse().ok() };
    let message = MessageParser::default().parse(content).unwrap();
    let parts = message.parts.iter().filter_map(|part| match &part.body {
        PartType::Message(member) => member.body_text(0).and_then(|text| number(&text)),
        _ => None,
    });
    parts.chain(number(&message.body_text(0).unwrap_or_default())).collect()
}

/// All alerts that a host has taken, sorted.
fn arrived(host: &Host) -> Vec<usize> {
    let taken = host.taken.lock().unwrap();
    let mut all: Vec<usize> = taken.iter().flat_map(|taken| alerts(&taken.content)).collect();
    all.sort_unstable();
    all
}

fn count(host: &Host) -> usize {
    host.taken.lock().unwrap().len()
}

fn files(world: &World) -> Vec<(PathBuf, Vec<u8>)> {
    let names = std::fs::read_dir(world.state().join("queue")).unwrap();
    names
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn the_first_leave_at_once_and_the_others_together() {
    let (world, host) = world("");
    storm(&world, 0..2);
    world.clock.advance(MINUTE);
    storm(&world, 2..10);
    world.pass();
    assert_eq!((arrived(&host), world.queue().len()), (vec![0, 1], 8));
    assert!(world.queue().iter().all(|waits| waits.description.digest.is_some()));
    // To the second: the window began with the first message.
    assert_eq!(world.pass(), Some(WINDOW - MINUTE));
    world.clock.advance(WINDOW - MINUTE - Duration::from_millis(1));
    assert!(world.pass().is_some());
    assert_eq!(count(&host), 2);
    take_log();
    world.live(MINUTE);
    let log = take_log();
    assert_eq!((arrived(&host), count(&host)), ((0..10).collect(), 3));
    assert_eq!((world.queue(), world.half_written(), world.manager.index.size()), (vec![], 0, (0, 0)));
    let of = |kind: &str| {
        log.iter().filter(|line| line.starts_with(&format!("event={kind} "))).cloned().collect::<Vec<_>>()
    };
    let [digest] = of("digest").try_into().unwrap();
    let id = digest.split(' ').nth(1).unwrap();
    assert_eq!(digest, format!("event=digest {id} messages=8"));
    let id = id.strip_prefix("id=").unwrap();
    let told = of("delivered").into_iter().filter(|line| line.contains(&format!("the digest {id}")));
    assert_eq!(told.count(), 8);
    assert!(of("accepted")[0].contains(" client=\"digest of 8 messages\""));
}

#[test]
fn a_digest_is_what_rfc_2046_says() {
    let (world, host) = world("");
    storm(&world, 0..2);
    for (subject, body) in
        [("disk 7 % full", "ü"), ("disk 8 % full", "From x\n.\n--\n"), ("disk 7 % full", "z")]
    {
        submit(
            &world,
            &format!("From: Bob <bob@box.example>\nTo: joe@far.example\nSubject: {subject}\n\n{body}\n"),
        );
        world.clock.advance(MINUTE);
    }
    world.live(HOUR);
    let taken = host.taken.lock().unwrap();
    assert_eq!(
        (taken[2].from.as_str(), taken[2].to.as_slice()),
        ("bob@box.example", &["joe@far.example".to_owned()][..])
    );
    let text = String::from_utf8(taken[2].content.clone()).unwrap();
    let head = text.split("\r\n\r\n").next().unwrap();
    for line in [
        "From: Bob <bob@box.example>",
        "To: joe@far.example",
        "Subject: [3 similar] disk 7 % full",
        "Date: Mon, 23 Nov 2026 07:03:30 +0000",
        "MIME-Version: 1.0",
        "Content-Transfer-Encoding: 8bit",
    ] {
        assert!(head.contains(&format!("{line}\r\n")) || head.ends_with(line), "{line}: {head}");
    }
    let message = MessageParser::default().parse(&taken[2].content).unwrap();
    let types: Vec<String> = message
        .parts
        .iter()
        .map(|part| {
            part.content_type().map_or("-".to_owned(), |t| format!("{}/{}", t.ctype(), t.subtype().unwrap()))
        })
        .collect();
    assert_eq!(types, ["multipart/digest", "text/plain", "-", "-", "-"]);
    let members: Vec<String> = message
        .parts
        .iter()
        .filter_map(|part| match &part.body {
            PartType::Message(member) => Some(member.body_text(0).unwrap().trim_end().replace("\r\n", "\n")),
            _ => None,
        })
        .collect();
    assert_eq!(members, ["ü", "From x\n.\n--", "z"]);
    let words = message.body_text(0).unwrap();
    for part in [
        "3 similar messages",
        "First: Mon, 23 Nov 2026 06:53:30 +0000",
        "Last:  Mon, 23 Nov 2026 06:55:30 +0000",
        "     2  disk 7 % full",
        "     1  disk 8 % full",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(taken.iter().all(|taken| taken.content.windows(9).filter(|w| w == b"Received:").count() <= 3));
}

#[test]
fn a_storm_that_goes_on_is_one_message_a_window_and_ends_with_it() {
    let (world, host) = world("");
    let mut next = 0;
    for window in 0..5 {
        for _ in 0..10 {
            storm(&world, next..next + 5);
            next += 5;
            world.pass();
            world.clock.advance(MINUTE);
        }
        world.pass();
        assert_eq!(count(&host), 2 + window + 1, "window {window}");
    }
    assert_eq!(arrived(&host), (0..next).collect::<Vec<_>>());
    // Two in a window make no digest: they are late once, and the next ones leave at once.
    storm(&world, next..next + 2);
    world.live(HOUR);
    assert_eq!(count(&host), 8);
    storm(&world, next + 2..next + 4);
    world.pass();
    assert_eq!((count(&host), world.queue().len()), (10, 0));
    assert_eq!(arrived(&host), (0..next + 4).collect::<Vec<_>>());
}

#[test]
fn what_is_not_alike_leaves_at_once() {
    let (world, host) = world("");
    storm(&world, 0..3);
    let before = world.queue().len();
    for (sender, to, subject) in [
        ("bob", "joe@far.example", "another disk 1 % full"),
        ("bob", "jim@far.example", "disk 1 % full"),
        ("eve", "joe@far.example", "disk 1 % full"),
    ] {
        submit_by(&world, sender, &[to], &format!("Subject: {subject}\n\nx\n"));
    }
    for urgent in ["Priority: urgent", "X-Priority: 1 (Highest)", "Importance: High"] {
        submit(&world, &format!("Subject: disk 1 % full\n{urgent}\n\nx\n"));
    }
    // Mail that others send is theirs to hold back.
    for _ in 0..3 {
        world.submit("bob@box.example", &["joe@far.example"], "Subject: disk 1 % full\n\nx\n");
    }
    let waits = world.queue().iter().filter(|summary| summary.description.digest.is_some()).count();
    assert_eq!((waits, world.queue().len()), (1, before + 9));
    world.pass();
    assert_eq!((count(&host), world.queue().len()), (2 + 9, 1));
}

#[test]
fn everybody_gets_everything_wherever_they_are() {
    let (world, host) = world("");
    std::fs::write(world.state().parent().unwrap().join("aliases"), "ops: alice, joe@far.example\n").unwrap();
    for number in 0..6 {
        let content = format!("Subject: disk {number}0 % full\n\nalert {number}.\n");
        submit_by(&world, "bob", &["ops", "bob", "jim@far.example"], &content);
    }
    assert_eq!(world.mail("alice").len(), 2);
    world.live(HOUR);
    let all = |mail: Vec<String>| {
        let mut all: Vec<usize> = mail.iter().flat_map(|mail| alerts(mail.as_bytes())).collect();
        all.sort_unstable();
        (mail.len(), all)
    };
    assert_eq!(all(world.mail("alice")), (3, (0..6).collect()));
    assert_eq!(all(world.mail("bob")), (3, (0..6).collect()));
    let taken = host.taken.lock().unwrap();
    for name in ["joe@far.example", "jim@far.example"] {
        let to_one = taken.iter().filter(|taken| taken.to.iter().any(|to| to == name));
        let mut got: Vec<usize> = to_one.flat_map(|taken| alerts(&taken.content)).collect();
        got.sort_unstable();
        assert_eq!(got, (0..6).collect::<Vec<_>>(), "{name}");
    }
    assert!(world.queue().is_empty());
}

#[test]
fn what_waits_survives_a_crash_and_its_window_does_too() {
    let (mut world, host) = world("");
    storm(&world, 0..5);
    world.pass();
    for number in 5..8 {
        world.manager.clock.save();
        world = world.restart();
        assert_eq!(world.pass(), Some(WINDOW - MINUTE * (number as u32 - 5)));
        storm(&world, number..number + 1);
        world.clock.advance(MINUTE);
    }
    assert_eq!((count(&host), world.queue().len()), (2, 6));
    world.manager.clock.save();
    // The window ends while nobody is there.
    world.clock.advance(HOUR);
    let world = world.restart();
    world.pass();
    assert_eq!((arrived(&host), count(&host), world.queue().len()), ((0..8).collect(), 3, 0));
}

/// Killed at any moment between the commit of the digest and the last removal: all of them arrive, some of them twice.
#[test]
fn a_crash_between_digest_and_removals_makes_duplicates_at_worst() {
    for removed in 0..=6 {
        let (world, host) = world("");
        storm(&world, 0..8);
        world.pass();
        let members = files(&world);
        assert_eq!(members.len(), 6);
        host.now_says(|_, _| Say::Close);
        world.clock.advance(WINDOW);
        world.pass();
        assert_eq!(world.queue().len(), 1, "the digest, which nobody takes");
        for (path, octets) in &members[removed..] {
            std::fs::write(path, octets).unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let world = world.restart();
        host.now_says(|_, _| Say::Yes);
        world.live(HOUR);
        let mut all = arrived(&host);
        assert_eq!(all.len(), 8 + 6 - removed);
        all.dedup();
        assert_eq!((all, world.queue()), ((0..8).collect(), vec![]));
    }
}

#[test]
fn a_single_one_leaves_as_it_is() {
    let (world, host) = world("");
    storm(&world, 0..3);
    world.live(HOUR);
    assert_eq!((arrived(&host), world.queue().len()), (vec![0, 1, 2], 0));
    let last = String::from_utf8(host.taken.lock().unwrap()[2].content.clone()).unwrap();
    assert!(last.contains("\r\nSubject: disk 20 % full\r\n") && !last.contains("multipart"), "{last}");
}

/// A message that was tried by itself is no member any more, also after a restart: some recipients may have it already.
#[test]
fn who_has_been_tried_alone_goes_on_alone() {
    let (world, host) = world("");
    storm(&world, 0..3);
    world.pass();
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    world.clock.advance(WINDOW);
    world.pass();
    assert_eq!(world.queue()[0].progress[0].attempts, 1);
    let world = world.restart();
    assert!(!order(&world, "queue").contains("waits for a digest"));
    host.now_says(|_, _| Say::Yes);
    storm(&world, 3..9);
    world.live(HOUR);
    assert_eq!((arrived(&host), world.queue().len()), ((0..9).collect(), 0));
}

#[test]
fn the_operator_sees_what_waits_and_moves_it() {
    let (world, host) = world("");
    storm(&world, 0..8);
    world.pass();
    let list = order(&world, "queue");
    assert_eq!(list.matches("(waits for a digest)\n").count(), 6, "{list}");
    let ids: Vec<String> = world.queue().iter().map(|summary| summary.id.to_string()).collect();
    order(&world, &format!("queue remove {}", ids[0]));
    order(&world, &format!("queue bounce {}", ids[1]));
    order(&world, &format!("queue hold {}", ids[2]));
    assert_eq!((world.mail("bob").len(), world.queue().len()), (1, 4));
    order(&world, &format!("queue flush {}", ids[3]));
    world.pass();
    assert_eq!((arrived(&host), count(&host)), (vec![0, 1, 5, 6, 7], 3));
    order(&world, &format!("queue release {}", ids[2]));
    world.live(HOUR);
    assert_eq!((arrived(&host), count(&host), world.queue().len()), (vec![0, 1, 4, 5, 6, 7], 4, 0));
    // All of them, by the signal.
    storm(&world, 8..13);
    order(&world, "queue flush");
    world.pass();
    assert_eq!(world.queue().len(), 0);
    assert_eq!(arrived(&host), [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}

#[test]
fn without_digests_what_waits_leaves_by_itself() {
    for restarts in [false, true] {
        let (mut world, host) = world("");
        storm(&world, 0..5);
        world.pass();
        assert_eq!(count(&host), 2);
        if restarts {
            world.reload("");
            world = world.restart();
        }
        world.reload("digest.after = 0");
        world.pass();
        assert_eq!((arrived(&host), count(&host), world.queue().len()), ((0..5).collect(), 5, 0));
        storm(&world, 5..15);
        world.pass();
        assert_eq!(count(&host), 15);
    }
}

#[test]
fn a_window_that_is_made_shorter_ends_sooner() {
    let (world, host) = world("");
    storm(&world, 0..5);
    world.reload("digest.after = 2\ndigest.window = \"1m\"");
    world.live(MINUTE);
    world.pass();
    assert_eq!((arrived(&host), count(&host)), ((0..5).collect(), 3));
}

#[test]
fn a_digest_that_is_full_leaves_before_the_window_ends() {
    let (world, host) = world("queue.max_messages = 40");
    for start in [0, 12, 17, 22, 27, 32, 37] {
        storm(&world, start..if start == 0 { 12 } else { start + 5 });
        world.pass();
    }
    assert_eq!((count(&host), arrived(&host)), (2 + 4, (0..42).collect()));
    assert_eq!(world.queue().len(), 0);
    // By size: three of these, and no fourth.
    let (world, host) = self::world("limits.message_size = \"400KiB\"");
    for number in 0..9 {
        let text = format!("{}\n", "x".repeat(99)).repeat(1000);
        submit(&world, &format!("Subject: disk {number} full\n\nalert {number}.\n{text}"));
        world.pass();
    }
    assert_eq!(count(&host), 2 + 2);
    assert!(host.taken.lock().unwrap().iter().all(|taken| taken.content.len() <= 400 * 1024));
    world.live(HOUR);
    assert_eq!((arrived(&host), count(&host), world.queue().len()), ((0..9).collect(), 5, 0));
}

#[test]
fn many_at_once_leave_in_full_digests_and_a_rest() {
    let (world, host) = world("queue.max_messages = 100");
    storm(&world, 0..90);
    world.pass();
    // 88 wait: three times 25, and 13 for the end of the window.
    assert_eq!((count(&host), world.queue().len()), (2 + 3, 13));
    world.live(HOUR);
    assert_eq!((arrived(&host), count(&host)), ((0..90).collect(), 6));
}

#[test]
fn a_full_queue_keeps_no_copy_waiting_that_could_be_delivered() {
    let (world, _) = world("queue.max_messages = 3");
    for number in 0..10 {
        submit_by(&world, "bob", &["alice"], &format!("Subject: disk {number}\n\nalert {number}.\n"));
    }
    assert!(world.queue().len() <= 3);
    world.live(HOUR);
    let mut all: Vec<usize> = world.mail("alice").iter().flat_map(|mail| alerts(mail.as_bytes())).collect();
    all.sort_unstable();
    assert_eq!(all, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_member_that_is_damaged_stops_no_digest() {
    let (world, host) = world("");
    storm(&world, 0..8);
    world.pass();
    let (path, mut octets) = files(&world).remove(3);
    let damaged = octets.len() - 3;
    octets[damaged] ^= 1;
    std::fs::write(path, octets).unwrap();
    world.live(HOUR);
    assert_eq!((arrived(&host).len(), count(&host), world.queue().len()), (7, 3, 0));
    assert_eq!(std::fs::read_dir(world.state().join("corrupt")).unwrap().count(), 1);
}

#[test]
fn who_waits_is_not_told_to_be_late() {
    let world = World::new("digest.after = 1\ndigest.window = \"1d\"\n");
    let host = world.far_host();
    storm(&world, 0..4);
    world.live(DAY - MINUTE);
    assert_eq!((count(&host), world.mail("bob").len()), (1, 0));
    world.live(HOUR);
    assert_eq!((arrived(&host), count(&host), world.mail("bob").len()), ((0..4).collect(), 2, 0));
}

/// A flush is for all that is queued then: what it makes of that leaves, too (INTERFACE section 8).
#[test]
fn a_flush_lets_the_digest_leave_past_the_schedule_and_a_metered_link() {
    let (world, host) = world("queue.schedule = \"0 0 1 1 *\"");
    storm(&world, 0..6);
    world.pass();
    assert_eq!(count(&host), 0);
    order(&world, "queue flush");
    world.pass();
    assert_eq!((arrived(&host), count(&host), world.queue().len()), ((0..6).collect(), 3, 0));
    storm(&world, 6..7);
    order(&world, "queue flush");
    world.pass();
    assert_eq!((count(&host), world.queue().len()), (4, 0), "one that leaves alone, too");
    // One that has gathered by itself waits for the schedule.
    storm(&world, 7..12);
    world.live(HOUR);
    assert_eq!(count(&host), 4);
    assert!(!world.queue().is_empty());

    let (world, host) = self::world("");
    storm(&world, 0..6);
    world.pass();
    order(&world, "link metered");
    storm(&world, 6..7);
    order(&world, &format!("queue flush {}", world.queue()[0].id));
    world.pass();
    assert_eq!((arrived(&host), world.queue().len()), ((0..7).collect(), 0));
    storm(&world, 7..12);
    world.live(HOUR);
    assert_eq!((count(&host), world.queue().len()), (3, 1), "nobody has named it");
}

#[test]
fn what_waits_for_a_digest_is_not_stuck() {
    let (world, host) = world("");
    world.reload("digest.after = 1\ndigest.window = \"1d\"\nalarm.stuck_after = \"1h\"");
    storm(&world, 0..3);
    world.live(2 * HOUR);
    assert_eq!((count(&host), world.queue().len()), (1, 2));
    take_log();
    world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
    assert_eq!(take_events("alarm"), Vec::<String>::new());
}

/// A box that has lost its running time: no window may end in the days that are gone.
#[test]
fn a_window_of_a_clock_that_is_lost_ends_all_the_same() {
    let (world, host) = world("");
    world.clock.advance(30 * DAY);
    storm(&world, 0..2);
    world.pass();
    world.intake.digests.save(&world.state(), world.manager.clock.now());
    world.clock.reboot();
    std::fs::write(world.state().join("clock"), "damaged").unwrap();
    let world = world.restart();
    assert!(world.manager.clock.now().running < DAY);
    storm(&world, 2..5);
    world.live(HOUR);
    assert_eq!((arrived(&host), world.queue().len()), ((0..5).collect(), 0));
}

/// A digest that is refused returns to the sender of its members, once and in full; the bounce is not collected.
#[test]
fn a_digest_that_fails_is_one_notice_to_its_sender() {
    let (world, host) = world("");
    storm(&world, 0..6);
    world.pass();
    // The queue is read again while they wait: none is lost, and none is sent twice.
    world.reload(CONFIG);
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 unknown") } else { Say::Yes });
    world.live(HOUR);
    let notices = world.mail("bob");
    assert_eq!((notices.len(), world.queue().len(), count(&host)), (1, 0, 2));
    for number in 2..6 {
        assert!(notices[0].contains(&format!("alert {number}.")), "{}", notices[0]);
    }
}

/// A box that is named like the mail domain.
#[test]
fn a_digest_leaves_a_local_domain_as_its_members_would() {
    let (world, host) = world("admin = \"me@box.example\"\nrelay.smarthost = \"smtp://far.example\"\n");
    world.net.address("far.example", &["192.0.2.1"]);
    for number in 0..5 {
        submit_by(&world, "bob", &["root"], &format!("Subject: disk {number}0 % full\n\nalert {number}.\n"));
    }
    world.live(WINDOW + MINUTE);
    assert_eq!((world.queue(), arrived(&host), count(&host)), (vec![], vec![0, 1, 2, 3, 4], 3));
    assert!(host.recipients().iter().all(|to| to == "me@box.example"), "{:?}", host.recipients());
}

#[test]
fn what_lay_on_the_disk_never_lies_in_memory() {
    let (world, host) = world("queue.storage = \"memory-first\"\n");
    storm(&world, 0..5);
    assert_eq!(world.shelves(), (0, 5), "from drop/");
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 4.2.0 later") } else { Say::Yes });
    world.clock.advance(WINDOW);
    world.pass();
    assert_eq!(world.shelves(), (0, 3), "with the digest");
}
