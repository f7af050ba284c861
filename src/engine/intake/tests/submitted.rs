//! Mail of this host's own clients is repaired in all its copies; mail in transit is not touched.

use crate::engine::host::site::current;
use crate::engine::intake::refusal::Refusal;
use crate::engine::intake::submission::Submission;
use crate::engine::tests::world::*;
use crate::mail::address::{ForwardPath, Mailbox, ReversePath};
use crate::mail::id::QueueId;
use crate::mail::message::Origin;

const ALICE: &str = "alice@box.example";
const FAR: &str = "joe@far.example";
/// More than intake holds in memory, in octets.
const HELD_OCTETS: usize = 64 * 1024 + 2 * 40_000;

/// Passes a message to intake in pieces.
fn take(world: &World, is_own: bool, content: &str) -> Result<QueueId, Refusal> {
    let site = current(&world.site);
    let routed = |to: &str| {
        let path = ForwardPath::Mailbox(Mailbox::parse(to).unwrap());
        site.route(&path).unwrap().into()
    };
    let origin =
        Origin { helo: "nas".into(), client: "[192.0.2.7]".into(), protocol: "ESMTP".into(), tls: None };
    let submission = Submission {
        origin: Some(origin),
        is_own,
        ..Submission::internal(
            ReversePath::parse("root@box.example").unwrap(),
            vec![routed(ALICE), routed(FAR)],
            "192.0.2.7".into(),
        )
    };
    let mut incoming = world.intake.begin(&site, submission).unwrap();
    for piece in content.as_bytes().chunks(40_000) {
        incoming.write(piece);
        assert!(incoming.octets_in_memory() <= HELD_OCTETS);
    }
    incoming.commit()
}

/// Accepts a message; returns its id and the content of its two copies, without the trace fields.
fn stored(config: &str, is_own: bool, content: &str) -> (QueueId, String) {
    let world = World::new(config);
    let host = world.far_host();
    take_log();
    let id = take(&world, is_own, content).unwrap();
    let [accepted] = take_events("accepted").try_into().unwrap();
    world.pass();
    assert_eq!((world.queue(), world.half_written()), (vec![], 0));
    let without_trace = |text: &str| {
        let (trace, content) = text.split_once("Nov 2026 06:53:30 +0000\n").unwrap();
        assert!(trace.contains("Received: from nas"), "{trace}");
        content.to_owned()
    };
    let [mail] = world.mail("alice").try_into().unwrap();
    let mail = without_trace(&mail);
    let relayed = String::from_utf8(host.taken.lock().unwrap()[0].content.clone()).unwrap();
    assert!(accepted.contains(&format!(" size={} ", mail.replace('\n', "\r\n").len())), "{accepted}");
    assert!(without_trace(&relayed.replace("\r\n", "\n")) == mail, "the copies differ");
    (id, mail)
}

const WRITTEN: &str = "To: root (me)\nBcc: hidden@far.example,\n\thidden@box.example\nSubject: x\n";

fn added(id: QueueId) -> String {
    format!(
        "Date: Mon, 23 Nov 2026 06:53:30 +0000\nMessage-ID: <{id}@box.example>\nFrom: root@box.example\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
    )
}

/// Held in memory, and streamed to disk.
fn bodies() -> [String; 4] {
    ["".into(), "über\n".into(), "Bcc: body\n".repeat(5), "-- \nBcc: body\n".repeat(20_000)]
}

#[test]
fn a_submitted_message_is_repaired_in_the_maildir_and_in_the_queue() {
    for body in bodies() {
        let (id, mail) = stored("", true, &format!("{WRITTEN}\n{body}"));
        let expected = format!("To: root@box.example (me)\nSubject: x\n{}\n{body}", added(id));
        assert!(mail == expected, "{}", mail.chars().take(1000).collect::<String>());
    }
    // Without an empty line, and without a header section.
    let (id, mail) = stored("", true, WRITTEN);
    assert_eq!(mail, format!("To: root@box.example (me)\nSubject: x\n{}\n", added(id)));
    let (id, mail) = stored("", true, "The disk is full.\n");
    let to = "To: undisclosed-recipients:;\nMIME-Version";
    assert_eq!(mail, format!("{}\nThe disk is full.\n", added(id).replace("MIME-Version", to)));
}

#[test]
fn without_repair_a_submitted_message_loses_its_bcc_alone() {
    for body in bodies() {
        let (_, mail) = stored("rewrite.repair = false", true, &format!("{WRITTEN}\n{body}"));
        assert!(mail == format!("To: root (me)\nSubject: x\n\n{body}"));
    }
}

#[test]
fn a_message_in_transit_is_not_touched() {
    for body in bodies() {
        let content = format!("{WRITTEN}\n{body}");
        assert!(stored("", false, &content).1 == content);
    }
    // Except for the line that keeps text from being read as a header section.
    assert_eq!(stored("", false, "The disk is full.\n").1, "\nThe disk is full.\n");
}

#[test]
fn a_header_section_larger_than_memory_is_repaired_too() {
    let bcc = format!("Bcc: {}hidden\n", "hidden@far.example,\n ".repeat(20_000));
    let fields = "X-Filler: x\n".repeat(20_000);
    let (_, mail) = stored("", true, &format!("{bcc}{fields}{bcc}{fields}\nbody\n"));
    assert!(mail.starts_with(&format!("{fields}{fields}Date: ")) && mail.ends_with("\n\nbody\n"));
    assert!(!mail.contains("hidden"));
}

#[test]
fn a_submitted_message_that_loops_is_refused() {
    let world = World::new("");
    let content = format!("{}Bcc: a@b\n\nx\n", "Received: from a by b; c\n".repeat(101));
    assert!(matches!(take(&world, true, &content), Err(Refusal::Loop)));
    assert_eq!((world.queue(), world.mail("alice").len(), world.half_written()), (vec![], 0, 0));
}

/// Not with each message: a Maildir may have thousands of files.
#[test]
fn what_crashes_left_in_a_maildir_is_swept_once_a_day() {
    let world = World::new("");
    let submit = || world.submit("root@box.example", &[ALICE], "Subject: x\n\nx\n");
    submit();
    let left = world.maildir("alice").join("tmp/left");
    std::fs::File::create(&left).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    for (wait, is_there) in [(0, true), (86_399, true), (1, false)] {
        world.clock.advance(std::time::Duration::from_secs(wait));
        submit();
        assert_eq!(left.exists(), is_there, "{wait}");
    }
}
