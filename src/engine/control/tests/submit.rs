//! Messages that programs of this host submit on the control socket.

use crate::engine::control::output::{Output, Peer};
use crate::engine::control::submit::{take, verify};
use crate::engine::host::site::current;
use crate::engine::tests::world::*;
use crate::mail::id::QueueId;
use crate::mail::unqualified::Unqualified;
use crate::protocol::question::SubmissionSizes;
use crate::protocol::rights::PeerRights;
use std::io::{self, Read};
use std::sync::Arc;

/// A client that has its envelope and message ready.
struct Program<'a> {
    says: &'a [u8],
    envelope_left: usize,
    was_asked: bool,
    output: String,
    errors: Vec<String>,
}

impl Output for Program<'_> {
    fn output(&mut self, octets: &[u8]) -> io::Result<()> {
        self.output.push_str(std::str::from_utf8(octets).unwrap());
        Ok(())
    }

    fn error(&mut self, line: &str) -> io::Result<()> {
        self.errors.push(line.to_owned());
        Ok(())
    }
}

impl Peer for Program<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.says.read(&mut buffer[..])?;
        assert!(self.was_asked || length <= self.envelope_left, "it has not been asked for the message");
        self.envelope_left = self.envelope_left.saturating_sub(length);
        Ok(length)
    }

    fn go(&mut self, _: u64) -> io::Result<()> {
        self.was_asked = true;
        Ok(())
    }
}

/// Announces a message of `octets` octets and sends `message`, which may be shorter.
fn hand_over(
    world: &World,
    uid: u32,
    envelope: &str,
    message: &str,
    octets: u64,
) -> (io::Result<u8>, String) {
    let says = format!("{envelope}{message}");
    let (was_asked, output, errors) = (false, String::new(), Vec::new());
    let mut program =
        Program { says: says.as_bytes(), envelope_left: envelope.len(), was_asked, output, errors };
    let handover = SubmissionSizes { envelope_octets: envelope.len(), message_octets: octets };
    let code = take(&world.manager, uid, handover, &mut program);
    (code, program.output + &program.errors.join("\n"))
}

/// Submits a whole message; returns the exit code and the text of the answer.
pub(super) fn submit(world: &World, uid: u32, envelope: &str, message: &str) -> (u8, String) {
    let (code, said) = hand_over(world, uid, envelope, message, message.len() as u64);
    (code.unwrap(), said)
}

const ALERT: &str = "To: alice\nBcc: hidden\nSubject: x\n\nThe disk is full.\n";

#[test]
fn what_is_handed_over_is_safe_and_of_the_user_whom_the_kernel_names() {
    let world = World::new("");
    for (uid, name) in [(0, "root"), (4321, "4321")] {
        take_log();
        let (code, id) = submit(&world, uid, "to=alice\nto=joe@far.example\n", ALERT);
        assert_eq!((code, world.half_written()), (0, 0), "{id}");
        let [accepted] = take_events("accepted").try_into().unwrap();
        assert!(accepted.contains(&format!(" id={id} from={name}@box.example ")), "{accepted}");
        assert!(accepted.contains(&format!(" client=\"uid {uid}\" ")), "{accepted}");
        let queued = world.queued(QueueId::parse(&id).unwrap()).description.envelope;
        assert!(queued.is_own && queued.reverse_path.to_string() == format!("{name}@box.example"));
    }
    let mail = world.mail("alice");
    assert!(mail.iter().all(|mail| mail.contains("\nTo: alice@box.example\n") && !mail.contains("hidden")));
    assert_eq!((mail.len(), world.queue().len()), (2, 2));
    // The client may name any sender, as in the drop directory; the log and Received show the user.
    assert_eq!(submit(&world, 4321, "sender=\nto=bob\n", ALERT).0, 0);
    assert_eq!(submit(&world, 4321, "sender=boss@far.example\nto=bob\n", ALERT).0, 0);
    let mail = world.mail("bob").concat();
    assert!(
        mail.contains("Return-Path: <>\n") && mail.contains("Return-Path: <boss@far.example>\n"),
        "{mail}"
    );
    assert_eq!(mail.matches("\nReceived: from localhost (uid 4321)\n").count(), 2, "{mail}");
}

#[test]
fn what_is_not_handed_over_whole_is_forgotten() {
    let world = World::new("");
    let large = format!("{ALERT}{}", "x\n".repeat(200_000));
    for message in [ALERT, &large] {
        for octets in [message.len() as u64 + 1, message.len() as u64 * 2] {
            let (code, _) = hand_over(&world, 0, "to=alice\nto=joe@far.example\n", message, octets);
            assert!(code.is_err());
        }
        let (code, _) = hand_over(&world, 0, "to=al", "", 0);
        assert!(code.is_ok_and(|code| code == 64), "an envelope that is cut short is none");
        assert_eq!((world.mail("alice").len(), world.queue().len(), world.half_written()), (0, 0, 0));
    }
    let handover = SubmissionSizes { envelope_octets: 100, message_octets: 0 };
    let mut program = Program {
        says: b"to=alice\n",
        envelope_left: 100,
        was_asked: false,
        output: String::new(),
        errors: vec![],
    };
    assert!(take(&world.manager, 0, handover, &mut program).is_err());
    let (code, _) = submit(&world, 0, "to=alice\nto=joe@far.example\n", &large);
    assert_eq!((code, world.mail("alice").len(), world.queue().len()), (0, 1, 1));
}

/// As users of sendmail expect: an error at once if no recipient is left; else the invalid ones are bounced.
#[test]
fn who_does_not_exist_is_told_at_once_only_if_nobody_is_left() {
    let world = World::new("relay.routes = { \"bad.example\" = \"error:5.1.2 no mail there\" }");
    take_log();
    let (code, said) = submit(&world, 0, "sender=bob\nto=nobody\nto=x@bad.example\n", ALERT);
    assert_eq!(code, 67);
    assert_eq!(said, "nobody@box.example: no such user here\nx@bad.example: no mail there");
    let refused = "event=refused client=\"uid 0\" helo=- from=bob@box.example to=";
    assert_eq!(
        take_events("refused"),
        [
            format!("{refused}nobody@box.example reply=\"no such user here\""),
            format!("{refused}x@bad.example reply=\"no mail there\""),
        ]
    );
    assert_eq!((world.queue().len(), world.half_written()), (0, 0));
    assert_eq!(submit(&world, 0, "sender=bob\nto=nobody\nto=x@bad.example\nto=alice\n", ALERT).0, 0);
    assert_eq!(world.mail("alice").len(), 1);
    world.pass();
    let [bounce] = world.mail("bob").try_into().unwrap();
    assert!(bounce.contains("nobody@box.example") && bounce.contains("x@bad.example"), "{bounce}");
    assert!(world.queue().is_empty());
}

/// With any route: an address that sendmail could not parse never reaches another host or a catch-all here.
#[test]
fn an_addressee_that_could_not_be_read_is_bounced() {
    for config in ["", "relay.smarthost = \"smtp://192.0.2.1\"", "local.catch_all = \"alice\""] {
        let world = World::new(config);
        let host = Host::friendly();
        world.net.domain(
            "far.example",
            "192.0.2.1",
            crate::engine::tests::world::Peer::Host(Arc::clone(&host)),
        );
        let team = format!("to={}\n", Unqualified::unreadable("Team [Ops"));
        let (code, said) = submit(&world, 0, &format!("sender=bob\n{team}"), ALERT);
        assert_eq!(code, 67, "{said}");
        assert!(
            said.contains("\"Team [Ops\"@unreadable.invalid: ") && said.contains("can't be read"),
            "{said}"
        );
        take_log();
        assert_eq!(submit(&world, 0, &format!("sender=bob\nto=joe@far.example\n{team}"), ALERT).0, 0);
        world.pass();
        let [bounced] = take_events("bounced").try_into().unwrap();
        assert!(bounced.contains("Team [Ops") && bounced.contains("status=5.1.3"), "{bounced}");
        assert_eq!(host.recipients(), ["joe@far.example"], "{config}");
        let [bounce] = world.mail("bob").try_into().unwrap();
        assert!(bounce.contains("Team [Ops") && bounce.contains("can't be read as an address"), "{bounce}");
        assert!(world.mail("alice").is_empty() && world.queue().is_empty());
    }
}

#[test]
fn one_user_has_half_of_the_queue_and_root_all() {
    let mut world = World::new("queue.max_messages = 4");
    let to = "to=joe@far.example\n";
    let half = (75, "half of the queue is yours, and the rest is for others".to_owned());
    assert_eq!([(); 2].map(|()| submit(&world, 4321, to, ALERT).0), [0, 0]);
    assert_eq!(submit(&world, 4321, to, ALERT), half);
    assert_eq!(submit(&world, 4321, "to=alice\n", ALERT).0, 0, "no room in the queue is needed");
    world = world.restart();
    world.clock.advance(MINUTE);
    assert_eq!(submit(&world, 4321, to, ALERT), half);
    assert_eq!(submit(&world, 0, to, ALERT).0, 0);
    assert_eq!(submit(&world, 4322, to, ALERT).0, 0);
    assert_eq!(submit(&world, 0, to, ALERT), (75, "the queue is full".into()));
}

#[test]
fn what_can_not_be_taken_is_told_with_its_exit_code() {
    let world = World::new("queue.max_messages = 1\nlimits.message_size = \"1KiB\"");
    let to = "to=joe@far.example\n";
    for (envelope, message, code, reason) in [
        (to, &*"x".repeat(1025), 65, "limits.message_size"),
        ("", ALERT, 64, "malformed"),
        ("to=root\nuid=0\n", ALERT, 64, "malformed"),
        (&*"to=root\n".repeat(1001), ALERT, 64, "malformed"),
        (&*"x".repeat(1 << 20), ALERT, 64, "malformed"),
        (&*"x".repeat((1 << 20) + 1), ALERT, 65, "too large"),
        (to, "A: 1\r\n\r\n.\r\n", 65, "a CR"),
        (to, &*"Received:\n".repeat(101), 65, "mail loop"),
        (to, &*format!("{ALERT}{}", "x".repeat(1024 - ALERT.len())), 0, ""),
        (to, ALERT, 75, "the queue is full"),
    ] {
        take_log();
        let (found, said) = submit(&world, 0, envelope, message);
        let refused = take_events("refused");
        assert_eq!(refused.len(), usize::from(code != 0), "{reason}: {refused:?}");
        assert!(refused.iter().all(|line| line.contains(reason)), "{reason}: {refused:?}");
        assert!(found == code && said.contains(reason), "{reason}: {found} {said}");
        assert_eq!((world.queue().len(), world.half_written()), (usize::from(code % 75 == 0), 0), "{reason}");
    }
    world.reload("limits.free_space = \"1024TiB\"");
    assert_eq!(submit(&world, 0, to, ALERT), (75, "no space left on the disk".into()));
    world.reload("");
    let aliases = world.state().parent().unwrap().join("aliases");
    std::fs::create_dir(aliases).unwrap();
    let (code, said) = submit(&world, 0, "to=alice\n", ALERT);
    assert!(code == 75 && said.contains("aliases"), "{code} {said}");
    // The Maildir cannot be written: the drop directory is tried next, and the queue takes the message from there.
    let world = World::new("");
    world.block("alice");
    assert_eq!(submit(&world, 0, "to=alice\n", ALERT).0, 75);
    assert_eq!((world.queue().len(), world.half_written()), (0, 0));
}

#[test]
fn recipients_are_verified_as_they_would_be_routed() {
    let world = World::new(
        "relay.smarthost = \"smtps://smtp.example.com\"\nrelay.routes = { \"bad.example\" = \"error:5.1.2 no mail there\" }",
    );
    std::fs::write(world.state().parent().unwrap().join("aliases"), "list: alice, joe@far.example\n")
        .unwrap();
    let ask = |rights, to: &[&str]| {
        let to: Vec<Unqualified> = to.iter().map(|to| Unqualified::parse(to).unwrap()).collect();
        let mut program =
            Program { says: b"", envelope_left: 0, was_asked: false, output: String::new(), errors: vec![] };
        let code = verify(&current(&world.site), rights, &to, &mut program).unwrap();
        (code, program.output)
    };
    let relay = "deliverable: mailer relay, host smtps://smtp.example.com:465, user joe@far.example";
    assert_eq!(
        ask(PeerRights::All, &["alice", "joe@far.example", "list"]),
        (
            0,
            format!(
                "alice... deliverable: mailer local, user alice@box.example\njoe@far.example... {relay}\n\
                 list... deliverable: mailer local, user alice@box.example\nlist... {relay}\n"
            )
        )
    );
    assert_eq!(
        ask(PeerRights::Own, &["list", "nobody", "x@bad.example", "alice"]),
        (
            67,
            "list... deliverable: mailer alias, user list@box.example\nnobody... undeliverable: no such user here\n\
             x@bad.example... undeliverable: no mail there\nalice... deliverable: mailer local, user alice@box.example\n"
                .into()
        )
    );
    let aliases = world.state().parent().unwrap().join("aliases");
    std::fs::write(&aliases, "root: me@box.example").unwrap();
    let relay = "deliverable: mailer relay, host smtps://smtp.example.com:465, user me@box.example";
    assert_eq!(ask(PeerRights::All, &["root"]), (0, format!("root... {relay}\n")));
    std::fs::remove_file(&aliases).unwrap();
    std::fs::create_dir(&aliases).unwrap();
    let (code, said) = ask(PeerRights::Own, &["joe@far.example", "alice"]);
    assert!(code == 75 && said.contains("\nalice... deferred: "), "{code} {said}");
}

#[test]
fn what_waits_for_a_digest_moves_from_memory_to_the_disk() {
    let config = "queue.storage = \"memory-first\"\nqueue.memory_grace = \"5m\"\ndigest.after = 2\ndigest.window = \"10m\"\n";
    let world = World::new(config);
    let host = Host::friendly();
    let peer = crate::engine::tests::world::Peer::Host(std::sync::Arc::clone(&host));
    world.net.domain("far.example", "192.0.2.1", peer);
    for number in 0..5 {
        let alert = format!("Subject: disk {number}0 % full\n\nalert\n");
        assert_eq!(submit(&world, 0, "to=joe@far.example\n", &alert).0, 0);
    }
    world.pass();
    assert_eq!((world.shelves(), host.recipients().len()), ((3, 0), 2));
    world.clock.advance(5 * MINUTE);
    world.pass();
    assert_eq!((world.shelves(), world.intake.digests.all().len()), ((0, 3), 3));
    world.clock.advance(10 * MINUTE);
    world.pass();
    assert_eq!((world.shelves(), host.recipients().len()), ((0, 0), 3));
}
