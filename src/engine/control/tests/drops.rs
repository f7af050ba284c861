//! The drop directory: each message arrives once, also after failures; files that are no messages do no harm.

use crate::engine::control::maildrop::Maildrop;
use crate::engine::host::site::current;
use crate::engine::intake::digest_windows::DigestWindows;
use crate::engine::intake::incoming::{Intake, NewEntry, OnQueued};
use crate::engine::tests::world::*;
use crate::mail::address::ReversePath;
use crate::mail::envelope::{Body, Notify, Recipient, Ret};
use crate::mail::unqualified::Unqualified;
use crate::rules::pacing::shares::Owner;
use crate::store::drop::{DropDirectory, DropEnvelope, Sender, StagedDrop};
use crate::store::maildir::Maildirs;
use crate::store::queue::{Checkout, Queue};
use crate::sys::lock::Lock;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

fn envelope(sender: Sender, to: &[&str]) -> DropEnvelope {
    DropEnvelope {
        sender,
        recipients: to.iter().map(|to| Unqualified::parse(to).unwrap()).collect(),
        body: Body::SevenBit,
        ret: None,
        envid: None,
        notify: None,
    }
}

fn by(address: &str) -> Sender {
    Sender::Address(Unqualified::parse(address).unwrap())
}

fn leave(world: &World, name: &str, envelope: &DropEnvelope, content: &str) {
    let mut staged = StagedDrop::create(&world.state(), name).unwrap();
    staged.write(content.as_bytes()).unwrap();
    staged.commit(envelope).unwrap();
}

fn drops(world: &World) -> Maildrop {
    Maildrop::new(DropDirectory::open(&world.state(), None).unwrap())
}

#[test]
fn an_addressee_that_could_not_be_read_is_bounced_and_the_others_get_it() {
    let world = World::new("");
    let drops = drops(&world);
    let mut envelope = envelope(by("bob"), &["alice"]);
    envelope.recipients.push(Unqualified::unreadable("Team [Ops"));
    leave(&world, "one", &envelope, ALERT);
    assert_eq!((take(&world, &drops), left(&world)), (1, 0));
    world.pass();
    let [bounce] = world.mail("bob").try_into().unwrap();
    assert!(bounce.contains("Team [Ops") && bounce.contains("can't be read as an address"), "{bounce}");
    assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 0));
}

/// The files in the drop directory.
fn left(world: &World) -> usize {
    std::fs::read_dir(world.state().join("drop")).unwrap().count()
}

fn set_aside(world: &World) -> usize {
    std::fs::read_dir(world.state().join("corrupt")).unwrap().count()
}

fn take(world: &World, drops: &Maildrop) -> usize {
    drops.take_all(&world.intake, &current(&world.site))
}

const ALERT: &str = "To: alice\nBcc: hidden\nSubject: x\n\nThe disk is full.\n";

#[test]
fn what_is_left_is_submitted_by_its_owner() {
    let world = World::new("");
    let host = world.far_host();
    let drops = drops(&world);
    let envelope = envelope(Sender::Owner, &["alice", "joe@far.example"]);
    leave(&world, "one", &envelope, ALERT);
    let uid = std::fs::metadata(world.state().join("drop/one")).unwrap().uid();
    let name = crate::sys::user::find_uid(uid).unwrap().map_or(uid.to_string(), |account| account.name);
    take_log();
    assert_eq!((take(&world, &drops), take(&world, &drops)), (1, 0));
    let [accepted] = take_events("accepted").try_into().unwrap();
    assert!(
        accepted.contains(&format!(" from={name}@box.example to=alice@box.example,joe@far.example ")),
        "{accepted}"
    );
    assert!(accepted.contains(&format!(" client=\"uid {uid}\" ")), "{accepted}");
    assert_eq!((left(&world), world.queue().len(), world.half_written()), (0, 1, 0));
    assert!(world.queue()[0].description.envelope.is_own);
    let [mail] = world.mail("alice").try_into().unwrap();
    assert!(mail.starts_with(&format!("Return-Path: <{name}@box.example>\n")), "{mail}");
    assert!(mail.contains(&format!(
        "\nReceived: from localhost (uid {uid})\n\tby box.example (pillarbox) with local id "
    )));
    assert!(mail.contains("\nTo: alice@box.example\n") && !mail.contains("hidden"), "{mail}");
    world.pass();
    assert_eq!(host.recipients(), ["joe@far.example"]);
}

#[test]
fn the_envelope_is_what_the_flags_said() {
    let world = World::new("");
    let drops = drops(&world);
    for (sender, expected) in
        [(Sender::Null, ""), (by("bob"), "bob@box.example"), (by("x@far.example"), "x@far.example")]
    {
        let notify = Some(Notify { failure: true, ..Notify::default() });
        let flags = DropEnvelope {
            notify,
            ret: Some(Ret::Headers),
            envid: Some("Q".into()),
            body: Body::EightBitMime,
            ..envelope(sender, &["ü@far.example"])
        };
        leave(&world, "x", &flags, ALERT);
        assert_eq!(take(&world, &drops), 1);
        let [summary] = world.queue().try_into().unwrap();
        let found = &summary.description.envelope;
        assert_eq!(found.reverse_path.to_string(), expected);
        assert_eq!(
            (found.ret, found.envid.as_deref(), found.body, found.smtputf8),
            (flags.ret, Some("Q"), flags.body, true)
        );
        assert_eq!(found.recipients[0].notify, notify);
        std::fs::remove_file(world.state().join("queue").join(summary.id.to_string())).unwrap();
    }
}

#[test]
fn who_does_not_exist_is_bounced() {
    let world = World::new("relay.routes = { \"bad.example\" = \"error:5.1.2 no mail there\" }");
    let drops = drops(&world);
    leave(&world, "x", &envelope(by("bob"), &["nobody", "x@bad.example", "alice"]), ALERT);
    assert_eq!(take(&world, &drops), 1);
    assert_eq!(world.mail("alice").len(), 1);
    world.pass();
    let [bounce] = world.mail("bob").try_into().unwrap();
    assert!(bounce.contains("nobody@box.example") && bounce.contains("5.1.1"), "{bounce}");
    assert!(bounce.contains("x@bad.example") && bounce.contains("5.1.2"), "{bounce}");
    assert!(world.queue().is_empty());
}

#[test]
fn a_bare_name_is_somebody_here_whatever_the_host_is_called() {
    let world = World::new("");
    let drops = drops(&world);
    // The host's name is not one of its local domains.
    let mut site = Arc::try_unwrap(std::mem::replace(&mut *world.site.lock(), current(&World::new("").site)));
    let site = site.as_mut().unwrap();
    site.hostname = crate::mail::address::Domain::parse("other.example").unwrap();
    leave(&world, "x", &envelope(by("bob"), &["alice", "postmaster"]), ALERT);
    assert_eq!(drops.take_all(&world.intake, site), 1);
    assert_eq!(world.mail("alice").len(), 1);
}

#[test]
fn a_maildir_that_takes_nothing_does_not_keep_a_message_waiting() {
    let world = World::new("");
    let drops = drops(&world);
    std::fs::create_dir_all(world.maildir("alice").parent().unwrap()).unwrap();
    symlink("/nowhere", world.maildir("alice")).unwrap();
    leave(&world, "x", &envelope(by("bob"), &["alice"]), ALERT);
    assert_eq!((take(&world, &drops), left(&world), world.queue().len()), (1, 0, 1));
    std::fs::remove_file(world.maildir("alice")).unwrap();
    world.live(DAY);
    assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 0));
}

#[test]
fn with_trouble_of_our_own_a_message_stays_and_is_tried_again() {
    let world = World::new("queue.max_messages = 1");
    let drops = drops(&world);
    for name in ["a", "b", "bb"] {
        leave(&world, name, &envelope(by("bob"), &["joe@far.example"]), ALERT);
    }
    take_log();
    assert_eq!((take(&world, &drops), left(&world)), (1, 2));
    assert_eq!((take(&world, &drops), left(&world)), (0, 2));
    // Logged once a round, for any number of messages.
    let reported = take_events("trouble");
    assert!(reported.len() == 2 && reported[0].contains("the queue is full"), "{reported:?}");
    world.reload("");
    assert_eq!((take(&world, &drops), left(&world), world.queue().len()), (2, 0, 3));
    // The same with a full disk.
    world.reload("limits.free_space = \"1024TiB\"");
    leave(&world, "c", &envelope(by("bob"), &["alice"]), ALERT);
    assert_eq!((take(&world, &drops), left(&world)), (0, 1));
    world.reload("");
    assert_eq!((take(&world, &drops), left(&world), world.mail("alice").len()), (1, 0, 1));
}

/// The queue does not expand aliases again: without the expansion here, root's mail would reach the wrong mailbox.
#[test]
fn an_alias_is_followed_and_waited_for() {
    let world = World::new("");
    let drops = drops(&world);
    let aliases = world.state().parent().unwrap().join("aliases");
    std::fs::write(&aliases, "list: alice, bob\n").unwrap();
    leave(&world, "one", &envelope(by("bob"), &["list"]), ALERT);
    assert_eq!((take(&world, &drops), left(&world)), (1, 0));
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (1, 1));
    std::fs::remove_file(&aliases).unwrap();
    std::fs::create_dir(&aliases).unwrap();
    leave(&world, "two", &envelope(by("bob"), &["alice"]), ALERT);
    assert_eq!((take(&world, &drops), left(&world), world.queue().len()), (0, 1, 0));
    std::fs::remove_dir(&aliases).unwrap();
    assert_eq!((take(&world, &drops), left(&world), world.mail("alice").len()), (1, 0, 2));
}

#[test]
fn what_is_no_message_is_set_aside_once_and_the_others_arrive() {
    let world = World::new("");
    let drops = drops(&world);
    let path = world.state().join("drop");
    std::fs::write(path.join("bad\nevent=accepted id=X"), "rubbish").unwrap();
    symlink("/etc/shadow", path.join("link")).unwrap();
    leave(&world, "cr", &envelope(by("bob"), &["alice"]), "a: b\r\n\r\n.\r\nMAIL FROM:<>\r\n");
    leave(&world, "loop", &envelope(by("bob"), &["alice"]), &"Received: x\n".repeat(101));
    leave(&world, "good", &envelope(by("bob"), &["alice"]), ALERT);
    take_log();
    assert_eq!((take(&world, &drops), left(&world), set_aside(&world)), (1, 0, 4));
    let reported = take_events("trouble");
    assert!(reported.len() == 1 && reported[0].contains("; and 3 more"), "{reported:?}");
    assert!(!reported[0].contains('\n'), "{reported:?}");
    assert_eq!((take(&world, &drops), take_log().len()), (0, 0));
    assert_eq!((world.mail("alice").len(), world.queue().len(), world.half_written()), (1, 0, 0));
}

/// Nobody hides what another user's programs do wrong, and nobody fills the log.
#[test]
fn each_user_has_a_line_and_many_users_have_few() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    let world = World::new("");
    let drops = drops(&world);
    for uid in 4000..4100 {
        for number in 0..2 {
            let file = world.state().join(format!("drop/{uid}.{number}"));
            std::fs::write(&file, "rubbish").unwrap();
            std::os::unix::fs::chown(&file, Some(uid), None).unwrap();
        }
    }
    take_log();
    assert_eq!((take(&world, &drops), left(&world)), (0, 0));
    let lines = take_events("trouble");
    assert_eq!(lines.len(), 16, "{lines:?}");
    let users: std::collections::HashSet<&str> =
        lines.iter().filter_map(|line| line.split_once(" of uid ")?.1.split(':').next()).collect();
    assert_eq!(users.len(), 16, "{lines:?}");
    let others = |line: &String| line.split_once("; and ")?.1.split(' ').next()?.parse::<usize>().ok();
    assert_eq!(lines.iter().filter_map(others).sum::<usize>() + lines.len(), 200, "{lines:?}");
}

/// More than are remembered: each round would read them all again.
#[test]
fn thousands_of_messages_that_can_not_be_taken_cost_one_look_a_round() {
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    let world = World::new("limits.message_size = \"1KiB\"");
    let drops = drops(&world);
    leave(&world, "large", &envelope(by("bob"), &["alice"]), &"x".repeat(2000));
    let path = world.state().join("drop");
    for number in 0..8300 {
        let file = path.join(number.to_string());
        std::fs::copy(path.join("large"), &file).unwrap();
        std::os::unix::fs::chown(&file, Some(4000), None).unwrap();
    }
    std::fs::remove_file(path.join("large")).unwrap();
    take(&world, &drops);
    assert_eq!((set_aside(&world), left(&world)), (16, 8284));
    leave(&world, "good", &envelope(by("bob"), &["alice"]), "Subject: x\n\nx\n");
    world.clock.advance(MINUTE);
    take_log();
    assert_eq!((take(&world, &drops), left(&world)), (1, 8284));
    let lines = take_events("trouble");
    assert!(lines.len() == 1 && !lines[0].contains("; and"), "{lines:?}");
}

#[test]
fn what_can_not_be_moved_is_told_of_once() {
    let world = World::new("");
    let drops = drops(&world);
    let path = world.state().join("drop");
    std::fs::write(path.join("bad"), "rubbish").unwrap();
    // A file in place of `corrupt/`: nothing can be moved there.
    std::fs::remove_dir(world.state().join("corrupt")).unwrap();
    take_log();
    assert_eq!((take(&world, &drops), take_events("trouble").len()), (0, 1));
    assert_eq!((take(&world, &drops), take_log().len(), left(&world)), (0, 0, 1));
}

/// It is remembered, so later mail of its user does not wait for it.
#[test]
fn what_can_not_be_moved_keeps_no_other_mail_waiting() {
    let world = World::new("limits.message_size = \"1KiB\"");
    let drops = drops(&world);
    std::fs::remove_dir(world.state().join("corrupt")).unwrap();
    // Whatever the order of the directory, one of the large ones comes first.
    for name in ["large", "one", "two", "larger"] {
        let content = if name.starts_with('l') { &*"x".repeat(2000) } else { ALERT };
        leave(&world, name, &envelope(by("bob"), &["alice"]), content);
    }
    assert_eq!((take(&world, &drops), left(&world)), (2, 2));
}

/// Any user can make thousands of names here. They cost little, and keep no message waiting.
#[test]
fn thousands_of_names_cost_a_line_a_minute_and_keep_no_message_waiting() {
    let world = World::new("");
    let drops = drops(&world);
    let path = world.state().join("drop");
    let own = world.state().parent().unwrap().join("own");
    std::fs::write(&own, "mine").unwrap();
    for number in 0..3000 {
        std::fs::create_dir_all(path.join(format!("d{number}/full"))).unwrap();
        std::fs::hard_link(&own, path.join(format!("h{number}"))).unwrap();
    }
    let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_nsec / 1000;
    let mut lines = 0;
    take_log();
    // The hard links are of today, and the clock of this world is not.
    world.clock.jump(100 * 365 * 24 * 3600);
    for round in 0..20 {
        leave(&world, "good", &envelope(by("bob"), &["alice"]), ALERT);
        assert_eq!(take(&world, &drops), 1, "round {round}");
        let begun = cpu();
        take(&world, &drops);
        println!("an idle round beside {} names: {} µs of processor time", left(&world), cpu() - begun);
        world.clock.advance(std::time::Duration::from_secs(6));
        lines += take_log().iter().filter(|line| line.contains("event=trouble")).count();
    }
    assert_eq!(lines, 2, "in two minutes");
    // The links are gone, the directories stay and are looked at only.
    assert_eq!((left(&world), set_aside(&world)), (3000, 0));
    assert_eq!(std::fs::read(&own).unwrap(), b"mine");
    let again = std::fs::metadata(path.join("d0")).unwrap().ino();
    std::fs::remove_dir_all(path.join("d0")).unwrap();
    leave(&world, "late", &envelope(by("bob"), &["alice"]), ALERT);
    assert_eq!((take(&world, &drops), left(&world)), (1, 2999), "inode {again} may be used again");
    // An empty directory is removed.
    std::fs::create_dir(path.join("empty")).unwrap();
    take(&world, &drops);
    assert_eq!(left(&world), 2999);
}

/// While a program links its file to the final name and has not unlinked the first one, the file has two names.
#[test]
fn a_message_that_is_being_linked_is_taken_later() {
    let world = World::new("");
    let drops = drops(&world);
    leave(&world, "x", &envelope(by("bob"), &["alice"]), ALERT);
    let path = world.state().join("drop");
    std::fs::hard_link(path.join("x"), path.join(".x")).unwrap();
    assert_eq!((take(&world, &drops), left(&world)), (0, 2));
    std::fs::remove_file(path.join(".x")).unwrap();
    assert_eq!((take(&world, &drops), left(&world)), (1, 0));
}

/// After a crash between commit and removal the next daemon takes the message again: a duplicate, never a loss.
#[test]
fn a_crash_before_the_removal_makes_a_duplicate_at_worst() {
    let world = World::new("");
    drops(&world);
    leave(&world, "x", &envelope(by("bob"), &["alice"]), ALERT);
    let path = world.state().join("drop/x");
    let copy = std::fs::read(&path).unwrap();
    assert_eq!(take(&world, &drops(&world)), 1);
    std::fs::write(&path, copy).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let world = world.restart();
    assert_eq!((take(&world, &drops(&world)), left(&world), world.mail("alice").len()), (1, 0, 2));
}

#[test]
fn nothing_is_taken_after_a_stop() {
    let world = World::new("");
    let drops = drops(&world);
    leave(&world, "x", &envelope(by("bob"), &["alice"]), ALERT);
    drops.stop();
    assert_eq!((take(&world, &drops), left(&world)), (0, 1));
}

/// A daemon's intake whose mailboxes are as patient as those outside of tests.
fn patient(world: &World, on_queued: Option<Arc<dyn OnQueued>>) -> Intake {
    Intake {
        clock: Arc::clone(&world.intake.clock),
        queue: Arc::clone(&world.intake.queue),
        maildirs: Maildirs::new("box.example"),
        on_queued: on_queued.unwrap_or_else(|| Arc::clone(&world.intake.on_queued)),
        counters: Arc::clone(&world.intake.counters),
        ids: AtomicUsize::new(1000),
        sweeps: Lock::default(),
        digests: DigestWindows::resume(&world.state()),
    }
}

/// Each would cost five seconds, in the one thread that takes the mail of all users.
#[test]
fn a_locked_mbox_keeps_nobody_waiting() {
    let world = World::new("");
    let drops = drops(&world);
    std::fs::create_dir_all(world.maildir("")).unwrap();
    std::fs::write(world.maildir("alice"), "").unwrap();
    std::fs::write(world.maildir("alice.lock"), "").unwrap();
    for name in ["a", "b", "c", "d"] {
        leave(&world, name, &envelope(by("bob"), &["alice"]), ALERT);
    }
    let begun = std::time::Instant::now();
    let taken = drops.take_all(&patient(&world, None), &current(&world.site));
    assert_eq!((taken, left(&world), world.queue().len()), (4, 0, 4));
    assert!(begun.elapsed() < std::time::Duration::from_secs(12), "{:?} instead of 20 s", begun.elapsed());
}

/// A queue that does not answer until a test lets it.
struct Stuck {
    told: Mutex<Told>,
    opened: Mutex<std::sync::mpsc::Receiver<()>>,
}

type Told = std::sync::mpsc::Sender<()>;

impl OnQueued for Stuck {
    fn queued(&self, _: NewEntry, _: &ReversePath, _: &[Recipient]) {}
    fn collected(&self, _: NewEntry, _: std::time::Duration) {}
    fn size(&self) -> (usize, u64) {
        let _ = self.told.lock().unwrap().send(());
        let _ = self.opened.lock().unwrap().recv();
        (0, 0)
    }
    fn share_of(&self, _: Owner) -> (usize, u64) {
        (0, 0)
    }
}

#[test]
fn a_stop_does_not_wait_for_ever_for_a_message_that_is_being_taken() {
    let world = World::new("");
    let drops = drops(&world);
    for name in ["a", "b"] {
        leave(&world, name, &envelope(by("bob"), &["joe@far.example"]), ALERT);
    }
    let ((told, begun), (open, opened)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let stuck = Stuck { told: Mutex::new(told), opened: Mutex::new(opened) };
    let (intake, site) = (patient(&world, Some(Arc::new(stuck))), current(&world.site));
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| drops.take_all(&intake, &site));
        begun.recv().unwrap();
        drops.stop();
        drops.wait(std::time::Duration::from_millis(20));
        assert!(!taking.is_finished());
        drop(open);
        drops.wait(std::time::Duration::from_secs(60));
        assert_eq!((taking.join().unwrap(), left(&world)), (1, 1), "the current one, and no other");
    });
}

/// After a reload with a smaller limit, or in a loop: its sender was told that it is safe.
#[test]
fn a_whole_message_that_is_not_taken_is_kept_and_one_that_may_not_be_read_stays() {
    let world = World::new("limits.message_size = \"64KiB\"");
    let drops = drops(&world);
    for number in 0..20 {
        leave(&world, &format!("l{number}"), &envelope(by("bob"), &["alice"]), &"Received: x\n".repeat(101));
        leave(&world, &format!("s{number}"), &envelope(by("bob"), &["alice"]), &"x\n".repeat(40_000));
    }
    assert_eq!((take(&world, &drops), left(&world), set_aside(&world)), (0, 0, 40));
    let names = std::fs::read_dir(world.state().join("corrupt")).unwrap();
    assert!(names.flatten().all(|entry| entry.file_name().to_string_lossy().starts_with("message-")));
    if !rustix::process::geteuid().is_root() {
        return;
    }
    leave(&world, "x", &envelope(by("bob"), &["alice"]), ALERT);
    let path = world.state().join("drop/x");
    std::os::unix::fs::chown(&path, Some(4711), Some(4711)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    world.clock.advance(std::time::Duration::from_secs(120));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            crate::sys::rights::keep_for_delivery().unwrap();
            take_log();
            assert_eq!((take(&world, &drops), take(&world, &drops), left(&world)), (0, 0, 1));
            let told = take_events("trouble");
            assert!(told.len() == 1 && told[0].contains("may not read it; it stays"), "{told:?}");
        });
    });
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    assert_eq!((take(&world, &drops), world.mail("alice").len()), (1, 1));
}

/// A queue that looks, as a worker does, at what it is told of.
struct Eager {
    queue: Queue,
    is_free: Mutex<Vec<bool>>,
}

impl OnQueued for Eager {
    fn queued(&self, new: NewEntry, _: &ReversePath, _: &[Recipient]) {
        let checkout = self.queue.checkout(new.id).unwrap();
        self.is_free.lock().unwrap().push(matches!(checkout, Checkout::Ready(_)));
    }
    fn collected(&self, _: NewEntry, _: std::time::Duration) {}
    fn size(&self) -> (usize, u64) {
        (0, 0)
    }
    fn share_of(&self, _: Owner) -> (usize, u64) {
        (0, 0)
    }
}

/// A worker that found it locked would come back two seconds later.
#[test]
fn a_message_is_free_when_the_queue_learns_of_it() {
    let world = World::new("");
    let drops = drops(&world);
    let large = format!("Subject: log\n\n{}", "It was a long night.\n".repeat(10_000));
    for (name, content) in [("small", ALERT), ("large", &large)] {
        leave(&world, name, &envelope(by("bob"), &["joe@far.example"]), content);
    }
    let queue = Queue::open(&world.state(), None).unwrap();
    let eager = Arc::new(Eager { queue, is_free: Mutex::default() });
    assert_eq!(drops.take_all(&patient(&world, Some(Arc::clone(&eager) as _)), &current(&world.site)), 2);
    assert_eq!(*eager.is_free.lock().unwrap(), [true, true]);
}
