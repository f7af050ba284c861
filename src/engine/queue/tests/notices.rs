//! Which sender gets which notice, and when: delays, successes, bounces that cannot be delivered.

use crate::engine::tests::world::*;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::store::queue::{Checkout, Durability, JournalEvent, JournalRecord};
use std::sync::Arc;

const CONTENT: &str = "Subject: alert\n\nThe disk is full.\n";

/// Sends a message with these parameters of MAIL and RCPT, and asserts that it is accepted.
fn accept(world: &World, from: &str, to: &[&str], content: &str) -> QueueId {
    let mut input = format!("EHLO client\r\nMAIL FROM:{from}\r\n");
    to.iter().for_each(|to| input.push_str(&format!("RCPT TO:{to}\r\n")));
    input.push_str(&format!("DATA\r\n{}.\r\nQUIT\r\n", content.replace('\n', "\r\n")));
    let output = world.session(input.as_bytes(), &mut |_| ());
    let id = output.lines().find_map(|line| line.strip_prefix("250 2.0.0 Ok: "));
    QueueId::parse(id.unwrap_or_else(|| panic!("{output}"))).unwrap()
}

/// A host whose mail for far.example gets the given reply.
fn world(config: &str, peer: Peer) -> World {
    let world = World::new(config);
    world.net.domain("far.example", "192.0.2.1", peer);
    world
}

fn deferring() -> Peer {
    Peer::Host(Host::new(|stage, _| if stage == Stage::Rcpt { reply("450 4.2.1 busy") } else { Say::Yes }))
}

fn refusing() -> Arc<Host> {
    Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no") } else { Say::Yes })
}

#[test]
fn a_delay_is_told_once_and_in_time_whatever_the_trouble() {
    let gone = [("busy", deferring()), ("timed out", Peer::TimesOut)];
    let late = ["", "queue.schedule = \"0 0 1 1 *\""].map(|config| (config, gone.clone()));
    for (config, (reason, peer)) in late.into_iter().flat_map(|(config, gone)| gone.map(|it| (config, it))) {
        // However these vary, none ends near the fourth hour.
        let world = world(&format!("queue.retry = [\"90m\"]\n{config}"), peer);
        world.accept("alice@box.example", &["joe@far.example"]);
        world.live(4 * HOUR - MINUTE);
        assert_eq!(world.mail("alice").len(), 0, "{config} {reason}: too early");
        let attempts = world.net.take_attempts().len();
        world.live(2 * MINUTE);
        let notices = world.mail("alice");
        let [notice] = notices.as_slice() else { panic!("{config} {reason}: {notices:?}") };
        let reason = if config.is_empty() { reason } else { "its turn has not come yet" };
        for text in [
            "Subject: Delayed mail: joe@far.example\n",
            "It has been tried for 4 hours so far.",
            "\nAction: delayed\nStatus: 4.",
            reason,
        ] {
            assert!(notice.contains(text), "{text:?} is not in {notice}");
        }
        assert!(!notice.contains("The disk is full."), "the header section will do");
        assert_eq!(world.net.take_attempts().len(), 0, "no attempt for it after {attempts}");
        world.live(DAY);
        let world = world.restart();
        world.live(2 * DAY);
        let world = world.restart();
        assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 1), "{config} {reason}");
    }
}

#[test]
fn the_delay_and_the_end_are_two_notices() {
    let world = world("", deferring());
    world.accept("alice@box.example", &["joe@far.example"]);
    world.live(6 * DAY);
    let notices = world.mail("alice");
    let count = |text: &str| notices.iter().filter(|notice| notice.contains(text)).count();
    assert_eq!((notices.len(), count("Action: delayed"), count("Action: failed")), (2, 1, 1));
    assert_eq!(world.queue(), []);
}

#[test]
fn warn_after_says_when_and_whether() {
    for (value, hours, count) in [("\"1h\"", 1, 1), ("\"2d\"", 47, 0), ("\"2d\"", 48, 1), ("0", 100, 0)] {
        let world = world(&format!("queue.warn_after = {value}"), deferring());
        world.accept("alice@box.example", &["joe@far.example"]);
        world.live(hours * HOUR + MINUTE);
        assert_eq!(world.mail("alice").len(), count, "{value} {hours}");
    }
}

/// A message became late while the daemon was not running, or because `warn_after` was made shorter.
#[test]
fn what_is_late_at_a_start_or_a_reload_is_told_at_once() {
    let world = world("queue.warn_after = \"2d\"", deferring());
    world.accept("alice@box.example", &["joe@far.example"]);
    world.live(5 * HOUR);
    assert_eq!(world.mail("alice").len(), 0);
    world.reload("");
    world.pass();
    assert_eq!(world.mail("alice").len(), 1);
    let world = world.restart();
    world.live(DAY);
    assert_eq!(world.mail("alice").len(), 1);
}

#[test]
fn a_delay_follows_notify() {
    for (notify, is_told) in [
        ("", true),
        (" NOTIFY=DELAY", true),
        (" NOTIFY=FAILURE", false),
        (" NOTIFY=SUCCESS,FAILURE", false),
        (" NOTIFY=NEVER", false),
    ] {
        let world = world("", Peer::TimesOut);
        let to = [format!("<joe@far.example>{notify}"), "<jim@far.example> NOTIFY=FAILURE".to_owned()];
        let id = accept(&world, "<alice@box.example>", &to.each_ref().map(String::as_str), CONTENT);
        let size = std::fs::metadata(world.state().join("queue").join(id.to_string())).unwrap().len();
        world.live(DAY);
        let notices = world.mail("alice");
        assert_eq!(notices.len(), usize::from(is_told), "{notify}");
        assert!(notices.iter().all(|notice| !notice.contains("jim@")), "{notices:?}");
        if !is_told {
            let now = std::fs::metadata(world.state().join("queue").join(id.to_string())).unwrap().len();
            assert_eq!(now, size, "nothing to write down");
        }
    }
}

#[test]
fn nobody_is_told_of_a_delay_after_a_success_or_of_a_null_sender() {
    let host = Host::new(|stage, line| {
        if stage == Stage::Rcpt && line.contains("joe") { reply("450 4.2.1 busy") } else { Say::Yes }
    });
    let world = world("admin = \"bob\"", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    world.accept("", &["joe@far.example"]);
    world.live(5 * HOUR);
    let notices = world.mail("alice");
    assert_eq!((notices.len(), world.mail("bob").len()), (1, 0));
    assert!(notices[0].contains("joe@") && !notices[0].contains("jim@"));
    host.now_says(|_, _| Say::Yes);
    world.live(DAY);
    assert_eq!((world.mail("alice").len(), world.queue()), (1, vec![]));
}

/// A notice must not delay mail.
#[test]
fn a_delay_notice_that_cannot_be_written_is_tried_again() {
    let world = world("", Peer::TimesOut);
    world.block("alice");
    world.accept("alice@box.example", &["joe@far.example"]);
    world.live(5 * HOUR);
    assert_eq!(world.queue().len(), 1);
    std::fs::remove_file(world.maildir("alice")).unwrap();
    world.live(2 * MINUTE);
    assert_eq!(world.mail("alice").len(), 1);
    world.live(DAY);
    assert_eq!(world.mail("alice").len(), 1);
}

#[test]
fn a_success_is_told_by_who_knows_last() {
    let sender = "<alice@box.example> RET=FULL ENVID=Q+2B1";
    for (offers_dsn, notify, is_told) in [
        (false, " NOTIFY=SUCCESS,FAILURE", true),
        (true, " NOTIFY=SUCCESS,FAILURE", false),
        (false, " NOTIFY=FAILURE", false),
        (false, " NOTIFY=NEVER", false),
        (false, "", false),
    ] {
        let host = Host::friendly();
        if offers_dsn {
            host.extensions.lock().unwrap().push("DSN");
        }
        let world = world("", Peer::Host(Arc::clone(&host)));
        accept(
            &world,
            sender,
            &[&format!("<joe@far.example>{notify} ORCPT=rfc822;j+2Boe@x.example")],
            CONTENT,
        );
        assert_eq!((world.pass(), world.queue()), (None, vec![]), "{offers_dsn} {notify}");
        let commands = host.commands.lock().unwrap();
        let is_passed_on = commands.iter().any(|line| line.contains(" NOTIFY=SUCCESS,FAILURE ORCPT="));
        assert_eq!(is_passed_on, offers_dsn, "{commands:?}");
        let notices = world.mail("alice");
        assert_eq!(notices.len(), usize::from(is_told), "{offers_dsn} {notify}");
        for notice in notices {
            for text in [
                "Original-Envelope-Id: Q+1\n",
                "Original-Recipient: rfc822;j+oe@x.example\nFinal-Recipient: rfc822; joe@far.example\n",
                "Action: relayed\nStatus: 2.0.0\nRemote-MTA: dns; mx.far.example\n",
                "250 2.0.0 taken",
                "\nSubject: alert\n",
            ] {
                assert!(notice.contains(text), "{text:?} is not in {notice}");
            }
            assert!(!notice.contains("The disk is full."), "RET is about failures");
        }
    }
}

#[test]
fn a_success_of_some_waits_for_no_others_and_is_told_once() {
    let host = Host::new(|stage, line| {
        if stage == Stage::Rcpt && line.contains("joe") { reply("450 4.2.1 busy") } else { Say::Yes }
    });
    let world = world("queue.warn_after = 0", Peer::Host(Arc::clone(&host)));
    let to = ["<joe@far.example> NOTIFY=SUCCESS", "<jim@far.example> NOTIFY=SUCCESS"];
    accept(&world, "<alice@box.example>", &to, CONTENT);
    world.pass();
    assert_eq!(world.mail("alice").len(), 1);
    let world = world.restart();
    world.live(HOUR);
    assert_eq!(world.mail("alice").len(), 1);
    host.now_says(|_, _| Say::Yes);
    world.live(DAY);
    assert_eq!((world.mail("alice").len(), world.queue()), (2, vec![]));
    let notices = world.mail("alice");
    assert!(notices.iter().all(|notice| notice.contains("joe@") != notice.contains("jim@")));
}

#[test]
fn a_crash_before_the_notice_of_a_success_is_made_good() {
    let world = world("", Peer::TimesOut);
    let id = accept(&world, "<alice@box.example>", &["<joe@far.example> NOTIFY=SUCCESS"], CONTENT);
    let Ok(Checkout::Ready(entry)) = world.intake.queue.checkout(id) else { panic!("it is there") };
    let at = world.intake.clock.now();
    let delivered = Outcome::Delivered(Diagnostic::local(EnhancedStatus::OK, "taken"));
    let records = [JournalEvent::Attempted(delivered), JournalEvent::Owed].map(|event| JournalRecord {
        recipients: vec![0],
        at,
        event,
    });
    world.intake.queue.record(&entry, &records, Durability::Synced).unwrap();
    drop(entry);
    let world = world.restart();
    assert_eq!(world.pass(), None);
    assert_eq!((world.queue(), world.mail("alice").len()), (vec![], 1));
    assert_eq!(world.manager.index.size(), (0, 0));
}

#[test]
fn a_local_delivery_is_told_where_that_was_asked_for() {
    let large = format!("Subject: alert\n\n{}", "The disk is full.\n".repeat(20_000));
    for content in [CONTENT, &large] {
        let world = World::new("");
        let to = ["<bob@box.example> NOTIFY=SUCCESS", "<alice@box.example> NOTIFY=FAILURE"];
        let id = accept(&world, "<alice@box.example>", &to, content);
        assert_eq!(world.mail("bob").len(), 1);
        let mail = world.mail("alice");
        let notices: Vec<_> = mail.iter().filter(|mail| mail.contains("multipart/report")).collect();
        let [notice] = notices.as_slice() else { panic!("{mail:?}") };
        for text in [
            "Return-Path: <>\n",
            "Subject: Delivered mail: bob@box.example\n",
            "Final-Recipient: rfc822; bob@box.example\nAction: delivered\nStatus: 2.0.0\n",
            "text/rfc822-headers\nContent-Transfer-Encoding: 8bit\n\nReceived: from client",
            "\nSubject: alert\n",
            &id.to_string(),
        ] {
            assert!(notice.contains(text), "{text:?} is not in {notice}");
        }
        assert!(!notice.contains("The disk is full.") && notice.matches("Action: ").count() == 1);
        accept(&world, "<>", &["<bob@box.example> NOTIFY=SUCCESS"], content);
        assert_eq!((world.mail("bob").len(), world.mail("alice").len()), (2, 2), "not to the null sender");
    }
}

#[test]
fn a_local_delivery_from_the_queue_is_told_too() {
    let world = World::new("");
    world.block("bob");
    let to = ["<bob@box.example> NOTIFY=SUCCESS", "<alice@box.example> NOTIFY=NEVER"];
    accept(&world, "<alice@box.example>", &to, CONTENT);
    assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 1));
    std::fs::remove_file(world.maildir("bob")).unwrap();
    world.live(HOUR);
    assert_eq!((world.mail("bob").len(), world.queue()), (1, vec![]));
    assert!(world.mail("alice").iter().any(|mail| mail.contains("Action: delivered\n")));
}

/// The mail is in its Maildir; that is what counts.
#[test]
fn a_success_that_cannot_be_told_harms_no_delivery() {
    let world = World::new("");
    world.block("alice");
    take_log();
    accept(&world, "<alice@box.example>", &["<bob@box.example> NOTIFY=SUCCESS"], CONTENT);
    assert_eq!((world.mail("bob").len(), world.queue()), (1, vec![]));
    assert_eq!(take_events("trouble").len(), 1);
}

/// The new entry of the copy reports its outcome.
#[test]
fn what_enters_the_queue_anew_keeps_what_the_sender_asked_for() {
    let world = world("", Peer::Host(Host::friendly()));
    world.block("postmaster");
    let to = ["<postmaster@box.example> NOTIFY=SUCCESS ORCPT=rfc822;b@x.example", "<alice@box.example>"];
    accept(&world, "<alice@box.example>", &to, CONTENT);
    world.reload("admin = \"joe@far.example\"");
    world.live(HOUR);
    let mail = world.mail("alice");
    let notices: Vec<_> = mail.iter().filter(|mail| mail.contains("multipart/report")).collect();
    let [notice] = notices.as_slice() else { panic!("{mail:?}") };
    let recipient =
        "Original-Recipient: rfc822;b@x.example\nFinal-Recipient: rfc822; joe@far.example\nAction: relayed\n";
    assert!(notice.contains(recipient), "{notice}");
}

#[test]
fn a_bounce_returns_what_ret_says_and_never_too_much() {
    let large = format!("Subject: alert\n\n{}", "The disk is full.\n".repeat(20_000));
    for (content, ret, is_whole) in [
        (CONTENT, "", true),
        (CONTENT, " RET=FULL", true),
        (CONTENT, " RET=HDRS", false),
        (large.as_str(), " RET=FULL", false),
    ] {
        let world = world("", Peer::Host(refusing()));
        accept(&world, &format!("<alice@box.example>{ret}"), &["<joe@far.example>"], content);
        world.pass();
        let notice = world.mail("alice").remove(0);
        assert_eq!(notice.contains("The disk is full."), is_whole, "{ret}");
        assert!(notice.contains("\nSubject: alert\n"), "{ret}");
    }
}

#[test]
fn a_message_by_smtputf8_is_told_of_in_utf_8() {
    let world = world("", Peer::Host(refusing()));
    let content = "Subject: Größe\n\nDie Platte ist voll.\n";
    accept(&world, "<alice@box.example> SMTPUTF8 BODY=8BITMIME", &["<jürgen@far.example>"], content);
    world.pass();
    let notice = world.mail("alice").remove(0);
    for text in [
        "report-type=global-delivery-status",
        "Content-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n",
        "\nFinal-Recipient: utf-8; jürgen@far.example\nAction: failed\nStatus: 5.6.7\n",
        "Content-Type: message/global\nContent-Transfer-Encoding: 8bit\n",
        "\nSubject: Größe\n",
    ] {
        assert!(notice.contains(text), "{text:?} is not in {notice}");
    }
}

/// The sender cannot be notified, so `admin` is.
#[test]
fn a_bounce_that_does_not_arrive_is_told_to_admin() {
    let host = refusing();
    let world = world("admin = \"bob\"", Peer::Host(Arc::clone(&host)));
    world.accept("stranger@far.example", &["joe@far.example"]);
    world.live(6 * DAY);
    let notices = world.mail("bob");
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    for text in [
        "Return-Path: <>\n",
        "To: <bob@box.example>\n",
        "A notice of failed delivery could not be delivered.",
        "Final-Recipient: rfc822; stranger@far.example\nAction: failed\nStatus: 5.1.1\n",
        // What the bounce said, with the message in it.
        "Final-Recipient: rfc822; joe@far.example\n",
        "The disk is full.",
    ] {
        assert!(notice.contains(text), "{text:?} is not in {notice}");
    }
    assert_eq!(world.queue(), []);
}

#[test]
fn what_an_unknown_sender_would_be_told_goes_to_admin() {
    let world = world("admin = \"bob\"", Peer::Host(refusing()));
    world.accept("nobody@box.example", &["joe@far.example"]);
    world.live(DAY);
    let notices = world.mail("bob");
    assert!(notices.len() == 1 && notices[0].contains("To: <nobody@box.example>\n"), "{notices:?}");
    assert_eq!(world.queue(), []);
}

#[test]
fn no_notice_is_ever_told_of_again() {
    // admin can't be reached (the notice is kept), is the sender of what bounces, or there is none; a stranger's bounce
    // is not ours.
    for (admin, from, mails, kept) in [
        ("admin = \"boss@far.example\"", "stranger@far.example", 3, 1),
        ("admin = \"boss@far.example\"", "boss@far.example", 2, 1),
        ("admin = \"boss@far.example\"", "nobody@box.example", 2, 1),
        ("", "stranger@far.example", 2, 0),
        ("admin = \"bob\"", "", 1, 0),
    ] {
        let host = refusing();
        let world = world(admin, Peer::Host(Arc::clone(&host)));
        world.accept(from, &["joe@far.example"]);
        world.live(6 * DAY);
        let commands = host.commands.lock().unwrap();
        let count = commands.iter().filter(|line| line.starts_with("MAIL")).count();
        assert_eq!((count, world.queue().len(), world.mail("bob").len()), (mails, kept, 0), "{admin} {from}");
    }
}

/// Only lost mail is worth the administrator's time.
#[test]
fn a_delay_notice_that_does_not_arrive_is_nobodys_business() {
    let host = refusing();
    let world = world("admin = \"bob\"", Peer::Host(Arc::clone(&host)));
    world.net.domain("slow.example", "192.0.2.2", Peer::TimesOut);
    world.accept("stranger@far.example", &["joe@slow.example"]);
    world.live(DAY);
    assert_eq!((host.count(), world.queue().len(), world.mail("bob").len()), (1, 1, 0));
}

/// One copy, and nobody who asked goes without word.
#[test]
fn a_recipient_named_twice_is_told_of_as_both_asked() {
    let world = world("", Peer::Host(refusing()));
    let to = [
        "<joe@far.example> NOTIFY=NEVER",
        "<joe@far.example>",
        "<bob@box.example>",
        "<bob+x@box.example> NOTIFY=SUCCESS",
    ];
    accept(&world, "<alice@box.example>", &to, CONTENT);
    world.pass();
    let notices = world.mail("alice");
    let count = |text: &str| notices.iter().filter(|notice| notice.contains(text)).count();
    assert_eq!((world.mail("bob").len(), notices.len()), (1, 2));
    assert_eq!((count("Action: delivered\n"), count("Action: failed\n")), (1, 1));
}

/// A message may wait for several hops, and each of them tells of its own recipients.
#[test]
fn what_waits_for_a_hop_is_told_of_its_own_recipients_alone() {
    let world = World::new("");
    world.net.domain("far.example", "192.0.2.1", Peer::Refuses);
    world.net.domain("other.example", "192.0.2.2", Peer::Refuses);
    world.accept("alice@box.example", &["joe@far.example", "jim@other.example"]);
    take_log();
    world.pass();
    let lines = take_events("deferred");
    for name in ["joe@far", "jim@other"] {
        assert_eq!(lines.iter().filter(|line| line.contains(name)).count(), 1, "{lines:?}");
    }
}
