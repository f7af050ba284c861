//! Whole lives of messages.

use crate::engine::tests::world::*;
use crate::store::queue::RecipientState;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A host that does the same at one step each time, and notes when.
fn stubborn(world: &World, at: Stage, text: &'static str) -> (Arc<Host>, Arc<Mutex<Vec<Duration>>>) {
    let times = Arc::new(Mutex::new(Vec::new()));
    let (clock, noted) = (world.clock.clone(), Arc::clone(&times));
    let host = Host::new(move |stage, _| {
        if stage != at {
            return Say::Yes;
        }
        noted.lock().unwrap().push(clock.boot_time());
        reply(text)
    });
    (host, times)
}

#[test]
fn five_days_of_retries_end_with_a_notice() {
    let world = World::new("queue.warn_after = 0");
    let (host, times) = stubborn(&world, Stage::Rcpt, "450 4.2.1 mailbox busy");
    world.net.domain("far.example", "192.0.2.1", Peer::Host(host));
    let start = world.clock.boot_time();
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    world.live(4 * DAY);
    assert_eq!(world.queue().len(), 1, "it is not given up before its time");
    assert_eq!(world.mail("alice").len(), 0);
    world.live(2 * DAY);

    let times = times.lock().unwrap();
    assert_eq!(times[0], start);
    let steps = [1, 5, 15, 30, 60, 120].map(|minutes| minutes * MINUTE);
    for (i, pair) in times.windows(2).enumerate() {
        let (gap, step) = (pair[1] - pair[0], steps.get(i).copied().unwrap_or(4 * HOUR));
        assert!(gap >= step * 9 / 10 && gap <= step * 11 / 10, "attempt {i}: {gap:?}, not {step:?}");
    }
    let last = *times.last().unwrap() - start;
    assert!(last > 5 * DAY && last < 5 * DAY + 5 * HOUR, "{last:?}");

    let notices = world.mail("alice");
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    assert!(notice.starts_with("Return-Path: <>\nDelivered-To: alice@box.example\n"), "{notice}");
    for text in [
        "To: <alice@box.example>\n",
        "It was tried for 5 days and then given up.",
        "450 4.2.1 mailbox busy",
        "Final-Recipient: rfc822; joe@far.example\nAction: failed\nStatus: 5.2.1\n",
        "The disk is full.",
        &id.to_string(),
    ] {
        assert!(notice.contains(text), "{text:?} is not in {notice}");
    }
    assert_eq!((world.queue(), world.half_written()), (vec![], 0));
    assert_eq!(world.manager.index.size(), (0, 0));
    assert_eq!(world.pass(), None);
    let ends = take_events("expired");
    assert_eq!(ends.len(), 1);
    assert!(ends[0].contains(&format!("attempt={} ", times.len())) && ends[0].contains("status=5.4.7"));
}

#[test]
fn a_dead_route_expires_its_mail_with_the_routes_reason() {
    let world = World::new("queue.warn_after = 0");
    world.net.domain("dead.example", "192.0.2.1", Peer::TimesOut);
    world.accept("alice@box.example", &["joe@dead.example"]);
    world.live(4 * DAY);
    let before = world.net.take_attempts().len();
    assert!((25..60).contains(&before), "{before}");
    assert_eq!(world.queue()[0].progress[0].attempts, 0, "the message itself has not been tried");
    world.live(2 * DAY);
    assert_eq!(world.queue(), []);
    assert!(world.mail("alice")[0].contains("connect to mx.dead.example [192.0.2.1:25]: timed out"));
}

#[test]
fn each_recipient_has_an_outcome_of_its_own_and_the_sender_one_notice() {
    let world = World::new("");
    let host = Host::new(|stage, line| match stage {
        Stage::Rcpt if line.contains("<bad") => reply("550 5.1.1 no such user"),
        Stage::Rcpt if line.contains("<busy") => reply("450 4.2.1 busy"),
        _ => Say::Yes,
    });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    let to = ["good1", "bad1", "busy", "bad2", "good2"].map(|name| format!("{name}@far.example"));
    let id = world.accept("alice@box.example", &to.each_ref().map(String::as_str));
    world.pass();
    assert_eq!(host.taken.lock().unwrap()[0].to, ["good1@far.example", "good2@far.example"]);
    let summary = world.queued(id);
    let states: Vec<_> = summary.progress.iter().map(|progress| progress.state).collect();
    let (delivered, failed) = (RecipientState::Delivered, RecipientState::Failed);
    assert_eq!(states, [delivered, failed, RecipientState::Pending, failed, delivered]);
    assert!(summary.progress[1].notified && summary.progress[3].notified);
    let notices = world.mail("alice");
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    assert_eq!(notice.matches("Action: failed").count(), 2);
    assert!(notice.contains("<bad1@far.example>") && notice.contains("<bad2@far.example>"));
    assert!(!notice.contains("busy@") && !notice.contains("good1@"));

    host.now_says(|_, _| Say::Yes);
    world.live(HOUR);
    assert_eq!(host.taken.lock().unwrap()[1].to, ["busy@far.example"]);
    assert_eq!((world.queue(), world.mail("alice").len()), (vec![], 1));
}

#[test]
fn the_null_sender_is_never_told() {
    let world = World::new("");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 no") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(host));
    world.accept("", &["joe@far.example"]);
    world.live(DAY);
    assert_eq!(world.queue(), []);
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (0, 0));
    assert_eq!(take_events("bounced").len(), 1);
}

#[test]
fn a_bounce_that_nobody_takes_is_dropped_and_logged() {
    let world = World::new("");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 no") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("stranger@far.example", &["joe@far.example"]);
    take_log();
    world.live(DAY);
    assert_eq!(world.queue(), []);
    let commands = host.commands.lock().unwrap();
    let mail: Vec<_> = commands.iter().filter(|line| line.starts_with("MAIL")).collect();
    assert_eq!(mail.len(), 2);
    assert!(mail[1].starts_with("MAIL FROM:<> "), "{mail:?}");
    let bounced = take_events("bounced");
    assert_eq!(bounced.len(), 2);
    assert!(bounced[1].contains("to=stranger@far.example"));
}

/// A sender that is no longer a user of this host cannot be notified; that must not keep the message for ever.
#[test]
fn a_bounce_to_an_unknown_local_sender_is_dropped() {
    let world = World::new("");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 no") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(host));
    world.accept("nobody@box.example", &["joe@far.example"]);
    world.live(DAY);
    assert_eq!(world.queue(), []);
    assert!(take_events("trouble").iter().any(|line| line.contains("the sender is not notified")));
}

/// A notice takes the place of what it is about. If the limit of the queue held for it, a queue that is full of expired
/// mail would stay full for ever.
#[test]
fn a_full_queue_can_still_bounce() {
    let world = World::new("queue.max_messages = 4");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    for _ in 0..2 {
        world.accept("stranger@far.example", &["joe@far.example"]);
    }
    world.reload("queue.max_messages = 2");
    let more = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<joe@far.example>\r\nDATA\r\nQUIT\r\n";
    assert!(world.session(more, &mut |_| ()).contains("\n452 4.3.1 the queue is full\r\n"));
    world.pass();
    host.now_says(
        |stage, line| {
            if stage == Stage::Rcpt && line.contains("joe") { reply("550 no") } else { Say::Yes }
        },
    );
    world.live(DAY);
    assert_eq!(world.queue(), []);
    assert_eq!(host.recipients(), ["stranger@far.example"; 2]);
}

#[test]
fn a_notice_that_cannot_be_written_is_tried_again() {
    let world = World::new("");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 no") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    std::fs::create_dir(world.maildir("").parent().unwrap()).ok();
    world.block("alice");
    world.accept("alice@box.example", &["joe@far.example"]);
    world.live(10 * MINUTE);
    assert_eq!(world.queue()[0].progress[0].state, RecipientState::Failed);
    assert!(!world.queue()[0].progress[0].notified);
    std::fs::remove_file(world.maildir("alice")).unwrap();
    world.live(2 * MINUTE);
    assert_eq!((world.queue(), world.mail("alice").len()), (vec![], 1));
    assert_eq!(host.count(), 1, "the next hop has said what it had to say");
}

#[test]
fn two_boxes_pass_a_message_on() {
    let far = World::named("far.example", "rewrite.repair = false");
    let near = World::new("rewrite.repair = false");
    near.net.domain("far.example", "192.0.2.1", Peer::Server(far.server()));
    let content = "Subject: dots\n\n.\n..\n.hidden\nlast";
    let reply = near.submit("alice@box.example", &["bob@far.example", "alice@far.example"], content);
    assert!(reply.starts_with("250 2.0.0 Ok: "), "{reply}");
    near.accept("alice@box.example", &["nobody@far.example", "bob@far.example"]);
    near.live(HOUR);
    assert_eq!(near.queue(), []);
    assert_eq!(near.net.take_attempts().len(), 1, "one connection serves both messages");
    assert_eq!(far.mail("bob").len(), 2);
    for (user, mail) in [("bob", &far.mail("bob")[0]), ("alice", &far.mail("alice")[0])] {
        let head = format!("Return-Path: <alice@box.example>\nDelivered-To: {user}@far.example\nReceived: ");
        assert!(mail.starts_with(&head), "{mail}");
        assert!(mail.ends_with("\nSubject: dots\n\n.\n..\n.hidden\nlast\n"), "{mail}");
        assert_eq!(mail.matches("Received: ").count(), 2);
    }
    let notice = near.mail("alice").remove(0);
    assert!(notice.contains("550 5.1.1 no such user here"), "{notice}");
    assert!(notice.contains("Status: 5.1.1"), "{notice}");
}

#[test]
fn a_schedule_holds_mail_until_it_fires_and_a_flush_overrides_it() {
    let world = World::new("queue.schedule = \"0 * * * *\"\nqueue.warn_after = 0");
    let host = world.far_host();
    world.accept("alice@box.example", &["joe@far.example"]);
    assert_eq!(world.pass(), None);
    assert_eq!(host.count(), 0);
    world.manager.index.flush(world.manager.clock.now().running);
    world.pass();
    assert_eq!((host.taken.lock().unwrap().len(), world.queue()), (1, vec![]));
    host.now_says(|stage, _| if stage == Stage::Mail { reply("450 later") } else { Say::Yes });
    world.accept("alice@box.example", &["joe@far.example"]);
    world.manager.index.flush(world.manager.clock.now().running);
    assert_eq!(world.pass(), None, "what was deferred waits for the schedule, too");
    assert_eq!(world.queue().len(), 1);
}

/// The schedule saves a metered link; local delivery does not use it.
#[test]
fn a_schedule_does_not_hold_local_copies() {
    let world = World::new("queue.schedule = \"0 0 1 1 *\"");
    world.block("bob");
    world.accept("x@y.example", &["alice@box.example", "bob@box.example"]);
    std::fs::remove_file(world.maildir("bob")).unwrap();
    world.live(HOUR);
    assert_eq!((world.mail("alice").len(), world.mail("bob").len(), world.queue()), (1, 1, vec![]));
}

/// Some peers close after each message; the rest of the mail must not wait for the next time for that.
#[test]
fn a_schedule_that_has_fired_sends_all_even_if_the_peer_closes_after_each_message() {
    let world = World::new("queue.schedule = \"0 * * * *\"");
    let host = Host::new(|stage, _| if stage == Stage::Dot { Say::YesAndClose } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    for _ in 0..3 {
        world.accept("alice@box.example", &["joe@far.example"]);
    }
    world.manager.index.flush(world.manager.clock.now().running);
    world.pass();
    assert_eq!((host.taken.lock().unwrap().len(), world.queue()), (3, vec![]));
}
