//! The operator's requests, also while mail is delivered.

use super::submit::submit;
use crate::engine::control::output::Asker;
use crate::engine::control::services::Services;
use crate::engine::tests::world::*;
use crate::mail::id::QueueId;
use crate::protocol::rights::PeerRights;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Asks as root; panics unless the exit code is 0.
fn ask(services: &Services, line: &str) -> String {
    let (code, output, errors) = ask_as(services, ROOT, line);
    assert_eq!((code, errors), (0, vec![]), "{line}");
    output
}

fn code(services: &Services, line: &str) -> u8 {
    ask_as(services, ROOT, line).0
}

fn world() -> (World, Arc<Host>) {
    let world = World::new("queue.warn_after = 0");
    let host = world.far_host();
    (world, host)
}

/// Lets time pass, also while nothing is due.
fn pass_time(world: &World, span: Duration) {
    let end = world.clock.boot_time() + span;
    world.live(span);
    world.clock.advance(end.saturating_sub(world.clock.boot_time()));
    world.pass();
}

/// Sends a request while a host answers a stage.
fn asks_at(world: &World, host: &Host, at: Stage, line: String, says: Say) -> Arc<Mutex<Option<u8>>> {
    let (forwarder, answered) = (Arc::clone(&world.services), Arc::new(Mutex::new(None)));
    let noted = Arc::clone(&answered);
    host.now_says(move |stage, _| {
        if stage != at || noted.lock().unwrap().is_some() {
            return Say::Yes;
        }
        *noted.lock().unwrap() = Some(code(&forwarder, &line));
        says.clone()
    });
    answered
}

#[test]
fn what_is_held_waits_for_its_release_over_restarts_and_lifetimes() {
    let (mut world, host) = world();
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    let other = world.accept("alice@box.example", &["jim@far.example"]);
    ask(&world.services, &format!("queue hold {id}"));
    assert_eq!(take_events("operator"), [format!("event=operator what=hold id={id} uid=0")]);
    for _ in 0..2 {
        pass_time(&world, 6 * DAY);
        ask(&world.services, "queue flush");
        ask(&world.services, &format!("queue flush {id} @far.example"));
        pass_time(&world, HOUR);
        assert_eq!(host.recipients(), ["jim@far.example"], "{other} is not held");
        assert!(ask(&world.services, "queue list").contains(&format!("\n{id}! ")));
        world = world.restart();
    }
    world.reload("");
    pass_time(&world, HOUR);
    assert_eq!((world.queue().len(), world.mail("alice").len()), (1, 0));
    ask(&world.services, &format!("queue release {id}"));
    ask(&world.services, &format!("queue release {id}"));
    world.pass();
    assert_eq!((host.recipients().len(), world.queue()), (2, vec![]));
}

#[test]
fn what_is_held_keeps_the_reason_for_which_it_waited() {
    let (mut world, host) = world();
    host.now_says(|stage, _| if stage == Stage::Greeting { reply("421 4.3.2 closed") } else { Say::Yes });
    let id = world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    world.pass();
    ask(&world.services, &format!("queue hold {id}"));
    // The route works again, for other mail, and the daemon starts again.
    host.now_says(|_, _| Say::Yes);
    world.accept("alice@box.example", &["ann@far.example"]);
    ask(&world.services, "queue flush");
    world.pass();
    assert_eq!(host.recipients(), ["ann@far.example"]);
    for _ in 0..2 {
        let list = ask(&world.services, "queue list");
        assert!(
            list.contains(&format!("\n{id}! ")) && list.matches("421 4.3.2 closed").count() == 1,
            "{list}"
        );
        let json = ask(&world.services, "queue list --json");
        assert_eq!(json.matches("\"reply\":\"421 4.3.2 closed\"").count(), 2, "{json}");
        let shown = ask(&world.services, &format!("queue show {id}"));
        assert!(shown.contains("to: <joe@far.example> pending 4.3.2 421 4.3.2 closed"), "{shown}");
        assert_eq!(shown.matches(" waited to=joe@far.example,jim@far.example ").count(), 1, "{shown}");
        let other = Asker { rights: PeerRights::Own, uid: 7 };
        assert!(ask_as(&world.services, other, "queue list").1.contains("(421 4.3.2 closed. The host"));
        world = world.restart();
    }
    ask(&world.services, &format!("queue release {id}"));
    world.pass();
    assert_eq!(
        (host.recipients().len(), world.queue()),
        (3, vec![]),
        "the reason was no attempt: it is tried at once"
    );
}

#[test]
fn a_message_is_held_in_the_middle_of_an_attempt() {
    let (world, host) = world();
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    let answered = asks_at(&world, &host, Stage::Rcpt, format!("queue hold {id}"), reply("450 later"));
    pass_time(&world, DAY);
    assert_eq!((*answered.lock().unwrap(), host.count()), (Some(0), 1));
    assert_eq!(world.queued(id).progress[0].attempts, 1);
    let world = world.restart();
    pass_time(&world, DAY);
    assert_eq!(host.count(), 1);
    ask(&world.services, &format!("queue release {id}"));
    pass_time(&world, MINUTE);
    assert_eq!((host.recipients().len(), world.queue()), (1, vec![]));
}

#[test]
fn what_is_removed_is_gone_without_a_word() {
    let (world, host) = world();
    let id = world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    ask(&world.services, &format!("queue remove {id}"));
    assert_eq!((world.queue(), world.manager.index.size(), world.pass()), (vec![], (0, 0), None));
    assert_eq!((host.count(), world.mail("alice").len()), (0, 0));
    for line in ["remove", "hold", "release", "bounce", "flush", "show"] {
        assert_eq!(code(&world.services, &format!("queue {line} {id}")), 66, "{line}");
    }
    assert_eq!(code(&world.services, "queue remove all"), 0);
}

#[test]
fn what_is_bounced_comes_back_once() {
    let (world, host) = world();
    host.now_says(|stage, line| if line.contains("<busy") { reply("450 later") } else { answer_of(stage) });
    let id = world.accept("alice@box.example", &["joe@far.example", "busy@far.example"]);
    world.accept("", &["busy@far.example"]);
    world.pass();
    ask(&world.services, &format!("queue hold {id}"));
    ask(&world.services, "queue bounce all");
    let mail = world.mail("alice");
    assert_eq!((mail.len(), world.queue(), world.manager.index.size()), (1, vec![], (0, 0)));
    assert_eq!(mail[0].matches("Action: failed").count(), 1);
    assert!(mail[0].contains("Final-Recipient: rfc822; busy@far.example\nAction: failed\nStatus: 5.0.0\n"));
    assert!(mail[0].contains("the administrator of this host has returned the message"), "{}", mail[0]);
    pass_time(&world, DAY);
    assert_eq!(world.mail("alice").len(), 1);
}

fn answer_of(_: Stage) -> Say {
    Say::Yes
}

#[test]
fn what_a_worker_has_in_hand_is_left_to_it() {
    for word in ["remove", "bounce"] {
        let (world, host) = world();
        let id = world.accept("alice@box.example", &["joe@far.example"]);
        let answered = asks_at(&world, &host, Stage::Dot, format!("queue {word} {id}"), Say::Yes);
        world.pass();
        assert_eq!(*answered.lock().unwrap(), Some(75), "{word}");
        assert_eq!((host.recipients().len(), world.mail("alice").len(), world.queue()), (1, 0, vec![]));
    }
}

/// If the sender's Maildir cannot be written, the notice is retried, and the answer says so.
#[test]
fn a_bounce_that_cannot_be_written_is_tried_again() {
    let (world, _host) = world();
    world.block("alice");
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    assert_eq!(code(&world.services, &format!("queue bounce {id}")), 75);
    std::fs::remove_file(world.maildir("alice")).unwrap();
    pass_time(&world, 10 * MINUTE);
    assert_eq!((world.mail("alice").len(), world.queue()), (1, vec![]));
}

#[test]
fn a_flush_reaches_what_it_names() {
    let (world, host) = world();
    world.net.domain("else.example", "192.0.2.2", Peer::Host(Arc::clone(&host)));
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    let a = world.accept("alice@box.example", &["a@far.example"]);
    world.accept("alice@box.example", &["b@far.example"]);
    world.accept("alice@box.example", &["c@else.example"]);
    world.pass();
    host.now_says(|_, _| Say::Yes);
    ask(&world.services, &format!("queue flush {a}"));
    world.pass();
    assert_eq!(host.recipients(), ["a@far.example"]);
    ask(&world.services, "queue flush @ELSE.example @nowhere.example");
    world.pass();
    assert_eq!(host.recipients(), ["a@far.example", "c@else.example"]);
    ask(&world.services, "queue flush");
    world.pass();
    assert_eq!(world.queue(), []);
}

#[test]
fn a_flush_ends_the_pause_of_a_route() {
    let (world, host) = world();
    world.net.peer("192.0.2.1", Peer::Refuses);
    let id = world.accept("alice@box.example", &["a@far.example"]);
    world.pass();
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.pass();
    assert_eq!(host.count(), 0);
    ask(&world.services, &format!("queue flush {id}"));
    world.pass();
    assert_eq!((host.count(), world.queue()), (1, vec![]));
}

#[test]
fn while_the_link_is_down_nothing_is_tried_and_nothing_ages() {
    let (mut world, host) = world();
    world.block("bob");
    host.now_says(|_, _| Say::Close);
    let id = world.accept("alice@box.example", &["joe@far.example", "bob@box.example", "alice@box.example"]);
    pass_time(&world, DAY);
    let before = host.count();
    ask(&world.services, "link down");
    let (_, _, errors) = ask_as(&world.services, ROOT, "queue flush");
    assert_eq!(errors, ["the link is down: nothing is tried before link up"]);
    world.accept("alice@box.example", &["new@far.example"]);
    std::fs::remove_file(world.maildir("bob")).unwrap();
    pass_time(&world, 10 * DAY);
    assert_eq!((host.count(), world.queue().len()), (before, 2));
    assert_eq!(world.mail("bob").len(), 1, "what stays here needs no link");
    assert!(ask(&world.services, "queue list").contains(" (the link is down)\n"));

    // A restart forgets that the link is down, but not for how long it was.
    world = world.restart();
    pass_time(&world, DAY);
    assert!(host.count() > before);
    assert_eq!((world.queue().len(), world.mail("alice").len()), (2, 1), "two days of five");
    ask(&world.services, "link down");
    pass_time(&world, 10 * DAY);
    let before = host.count();
    ask(&world.services, "link up");
    world.pass();
    assert_eq!(host.count(), before + 1, "it is tried at once");
    assert_eq!(world.queued(id).progress[0].attempts, 0);
    pass_time(&world, 4 * DAY);
    assert!(world.queue().iter().all(|summary| summary.id != id), "five days have passed with a link");
}

/// Submits a message with this header field to far.example.
fn accept_with(world: &World, field: &str, to: &str) -> QueueId {
    let to = format!("{to}@far.example");
    let said = world.submit("alice@box.example", &[&to], &format!("Subject: x\n{field}\n\ntext\n"));
    QueueId::parse(said.strip_prefix("250 2.0.0 Ok: ").unwrap()).unwrap()
}

#[test]
fn over_a_metered_link_leaves_what_is_urgent() {
    let (mut world, host) = world();
    ask(&world.services, "link metered");
    let ordinary = accept_with(&world, "Priority: normal", "a");
    let log = take_events("deferred").join("\n");
    assert!(log.contains(&format!("id={ordinary} ")) && log.contains("the link is metered"), "{log}");
    accept_with(&world, "Priority: urgent", "b");
    accept_with(&world, "X-Priority: 2 (High)", "c");
    accept_with(&world, &format!("Importance: high\n\n{}", "text\n".repeat(50_000)), "d");
    world.pass();
    assert_eq!(host.recipients(), ["b@far.example", "c@far.example", "d@far.example"]);
    let list = ask(&world.services, "queue list");
    assert!(list.contains(" (the link is metered)\n") && list.contains("a@far.example"), "{list}");
    let json = ask(&world.services, "queue list --json");
    assert!(json.contains("\"attempts\":0,\"next_attempt\":null"), "{json}");
    assert!(ask(&world.services, &format!("queue show {ordinary}")).contains(" the link is metered\n"));

    // A flush of all names no message. A reload reads the priority from the queue and keeps the state of the link.
    let (_, _, errors) = ask_as(&world.services, ROOT, "queue flush");
    assert_eq!((errors.len(), errors[0].starts_with("the link is metered: ")), (1, true), "{errors:?}");
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    accept_with(&world, "Importance: high", "e");
    world.reload("queue.warn_after = 0");
    pass_time(&world, HOUR);
    host.now_says(|_, _| Say::Yes);
    let tried = |name: &str| host.commands.lock().unwrap().iter().filter(|it| it.contains(name)).count();
    assert_eq!((tried("<a@"), tried("<e@") > 1), (0, true));
    assert_eq!(world.queued(ordinary).progress[0].attempts, 0);
    pass_time(&world, 3 * HOUR);
    assert_eq!(host.recipients()[3..], ["e@far.example"]);

    // A flush by id sends it.
    let named = accept_with(&world, "X: y", "f");
    ask(&world.services, &format!("queue flush {named}"));
    world.pass();
    assert_eq!(host.recipients()[4..], ["f@far.example"]);
    // Down overrides metered, and a restart means up.
    ask(&world.services, "link down");
    accept_with(&world, "Priority: urgent", "g");
    pass_time(&world, DAY);
    assert_eq!(world.queue().len(), 2);
    world = world.restart();
    world.pass();
    let mut left = host.recipients()[5..].to_vec();
    left.sort();
    assert_eq!((left, world.queue()), (vec!["a@far.example".to_owned(), "g@far.example".into()], vec![]));
}

#[test]
fn what_a_metered_link_keeps_back_does_not_age_and_the_rest_does() {
    let (mut world, host) = world();
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    let ordinary = accept_with(&world, "X: y", "a");
    let urgent = accept_with(&world, "Importance: high", "b");
    pass_time(&world, DAY);
    let before = world.queued(ordinary);
    ask(&world.services, "link metered");
    pass_time(&world, 10 * DAY);
    let alive = |world: &World, id| world.queue().iter().any(|summary| summary.id == id);
    assert!(!alive(&world, urgent) && world.mail("alice").len() == 1, "it has been tried for ten days");
    assert_eq!(world.queued(ordinary), before);
    // The route fails for an urgent message: the others keep the reason of the link.
    accept_with(&world, "Importance: high", "c");
    world.net.peer("192.0.2.1", Peer::Refuses);
    pass_time(&world, 10 * DAY);
    assert_eq!((world.queued(ordinary), world.mail("alice").len()), (before, 2));
    // A restart keeps the time spent metered, and the priorities of the queue.
    world = world.restart();
    ask(&world.services, "link metered");
    let urgent = accept_with(&world, "Importance: high", "d");
    world = world.restart();
    assert!(world.queued(urgent).description.envelope.is_urgent);
    pass_time(&world, 3 * DAY);
    assert!(alive(&world, ordinary));
    ask(&world.services, "link up");
    pass_time(&world, 2 * DAY);
    assert!(!alive(&world, ordinary), "five days and more have passed with a link for it");
}

#[test]
fn the_link_comes_up_for_a_schedule_too() {
    let world = World::new("queue.warn_after = 0\nqueue.schedule = \"0 0 1 1 *\"");
    let host = world.far_host();
    world.accept("alice@box.example", &["joe@far.example"]);
    ask(&world.services, "link down");
    ask(&world.services, "link up");
    assert_eq!((world.pass(), host.count()), (None, 0), "the schedule has not fired");
    ask(&world.services, "queue flush");
    world.pass();
    assert_eq!(host.count(), 1);
}

#[test]
fn a_list_tells_what_waits_for_whom_and_why() {
    let (world, host) = world();
    assert_eq!(ask(&world.services, "queue list"), "Mail queue is empty\n");
    assert_eq!(ask(&world.services, "queue list --json"), "");
    host.now_says(|stage, line| match (stage, line) {
        (Stage::Rcpt, line) if line.contains("<bad") => reply("450 4.2.1 mailbox busy"),
        _ => Say::Yes,
    });
    let mixed = world.accept("alice@box.example", &["good@far.example", "bad@far.example"]);
    let dead = world.accept("root@box.example", &["joe@dead.example"]);
    world.net.domain("dead.example", "192.0.2.9", Peer::Refuses);
    world.pass();
    let list = ask(&world.services, "queue list");
    for text in [mixed.to_string(), dead.to_string(), "450 4.2.1 mailbox busy)".into(), "refused. The".into()]
    {
        assert!(list.contains(&text), "{text} is not in {list}");
    }
    assert!(!list.contains("good@"), "{list}");
    assert!(list.ends_with("\n\n-- 1 Kbytes in 2 Requests.\n"), "{list}");
    let json = ask(&world.services, "queue list --json");
    let lines: Vec<&str> = json.lines().collect();
    assert!(
        lines[0].contains("\"state\":\"delivered\",\"status\":\"2.0.0\",\"reply\":\"250 2.0.0 taken\""),
        "{json}"
    );
    let soon = world.clock.boot_time().as_secs();
    assert!(soon > 0 && !json.contains("\"next_attempt\":null"), "{json}");
    assert!(lines.iter().all(|line| line.contains("\"attempts\":1,")), "{json}");

    let own = |uid| ask_as(&world.services, Asker { rights: PeerRights::Own, uid }, "queue list");
    // A monitor must see all mail: every message is listed, with the addresses of other users hidden.
    let addresses = |list: &str| list.matches('@').count();
    let all = ask(&world.services, "queue list");
    let (mine, others) = (own(0), own(1));
    assert_eq!((mine.0, mine.1.lines().count()), (0, all.lines().count()), "{mine:?}");
    assert_eq!((others.0, others.1.lines().last()), (0, all.lines().last()));
    assert!(others.1.contains(&dead.to_string()) && others.1.contains(&mixed.to_string()), "{others:?}");
    assert!(addresses(&all) > addresses(&mine.1) && addresses(&mine.1) > 0, "{mine:?}");
    assert_eq!(addresses(&others.1), 0, "{others:?}");
    for line in ["queue show ID", "queue flush", "queue remove all", "link down"] {
        let line = line.replace("ID", &dead.to_string());
        let (code, output, errors) =
            ask_as(&world.services, Asker { rights: PeerRights::Own, uid: 0 }, &line);
        assert_eq!((code, output.as_str(), errors.len()), (77, "", 1), "{line}");
    }
    assert_eq!(world.queue().len(), 2);
}

/// `mailq` of an ordinary user must cost the daemon nothing that grows with the mail of others.
#[test]
fn the_list_of_an_ordinary_user_reads_no_file_of_others() {
    let (world, host) = world();
    host.now_says(|stage, line| match (stage, line.contains("joe")) {
        (Stage::Rcpt, true) => reply("450 4.2.1 <joe@far.example>: busy"),
        _ => Say::Yes,
    });
    let ids = [
        world.accept("alice@box.example", &["joe@far.example", "jim@far.example", "joe2@far.example"]),
        world.accept("", &["joe@far.example"]),
    ];
    world.pass();
    ask(&world.services, &format!("queue hold {}", ids[1]));
    let own = |line| ask_as(&world.services, Asker { rights: PeerRights::Own, uid: 65_533 }, line);
    let (list, json) = (own("queue list"), own("queue list --json"));
    let whole = ask(&world.services, "queue list");
    assert_eq!(list.1.lines().count(), whole.lines().count(), "{list:?} {whole}");
    assert_eq!(list.1.lines().last(), whole.lines().last());
    let shown = |line: &str, column: std::ops::Range<usize>| line.get(column).map(str::to_owned);
    assert_eq!(
        list.1.lines().nth(1).and_then(|line| shown(line, 0..44)),
        whole.lines().nth(1).and_then(|line| shown(line, 0..44))
    );
    assert!(list.1.contains("(450 4.2.1 <hidden>: busy)") && list.1.contains("MAILER-DAEMON"), "{list:?}");
    assert!(list.1.contains(&format!("{}!", ids[1])), "{list:?}");
    assert_eq!(json.1.matches("\"state\":\"delivered\"").count(), 1, "{json:?}");
    assert_eq!(json.1.matches("\"attempts\":1,").count(), 2, "{json:?}");
    assert!(!list.1.contains('@') && !json.1.contains('@'), "{list:?} {json:?}");
    // The same after a restart, when the index is made from the files.
    let world = world.restart();
    let own = |line| ask_as(&world.services, Asker { rights: PeerRights::Own, uid: 65_533 }, line);
    assert_eq!(own("queue list"), list);
    for id in ids {
        std::fs::remove_file(world.state().join("queue").join(id.to_string())).unwrap();
    }
    assert_eq!(own("queue list"), list);
    assert_eq!(own("queue list --json").1.lines().count(), 2);
}

/// A user with thousands of messages must not have all of their files read by each question.
#[test]
fn of_many_messages_of_a_user_some_are_read() {
    let world = World::new("");
    let uid = 65_533;
    assert_eq!(submit(&world, uid, "to=joe@far.example\n", "Subject: x\n\nx\n").0, 0);
    let queue = world.state().join("queue");
    let file = std::fs::read_dir(&queue).unwrap().next().unwrap().unwrap().path();
    for number in 1..510 {
        std::fs::copy(&file, queue.join(QueueId::new(number, 0).to_string())).unwrap();
    }
    let world = world.restart();
    let (_, list, _) = ask_as(&world.services, Asker { rights: PeerRights::Own, uid }, "queue list");
    assert_eq!(list.matches("joe@far.example").count(), 500, "{list}");
}

#[test]
fn a_message_is_shown_with_its_history() {
    let (world, host) = world();
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 4.2.1 mailbox busy") } else { Say::Yes });
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    pass_time(&world, 2 * MINUTE);
    ask(&world.services, &format!("queue hold {id}"));
    let shown = ask(&world.services, &format!("queue show {id}"));
    let (head, message) = shown.split_once("\n\n").unwrap();
    assert_eq!(head.matches("\nhistory: ").count(), 3, "{shown}");
    assert!(head.contains(" deferred to=joe@far.example relay=mx.far.example"), "{shown}");
    assert!(head.contains("\nnext attempt: held\n"), "{shown}");
    assert!(message.starts_with("Received: ") && message.ends_with("\n\nThe disk is full.\n"), "{shown}");
}

/// Random changes while workers deliver: nothing is sent twice, and nothing is lost that was not removed.
#[test]
fn changes_and_deliveries_at_once_lose_nothing() {
    let world = World::new("relay.connections_per_domain = 4");
    let host = Host::new(|stage, _| {
        if stage == Stage::Dot {
            std::thread::sleep(Duration::from_micros(200));
        }
        Say::Yes
    });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    let forwarder = Arc::clone(&world.forwarder);
    let running = std::thread::spawn(move || forwarder.run(&|_, _| ()));
    let (is_over, removed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let mut all: Vec<QueueId> = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                let links = ["link metered", "link down", "link up"];
                for line in
                    ["queue hold all", "queue release all", "queue flush", "queue list"].iter().chain(&links)
                {
                    assert_eq!(code(&world.services, line), 0, "{line}");
                }
                let victim =
                    world.intake.queue.ids().unwrap().into_iter().find(|id| id.to_string().ends_with('0'));
                let victim = victim.filter(|id| code(&world.services, &format!("queue remove {id}")) == 0);
                removed.lock().unwrap().extend(victim);
            }
        });
        for i in 0..150 {
            all.push(world.accept("alice@box.example", &[&format!("u{i}@far.example")]));
        }
        is_over.store(true, Ordering::SeqCst);
    });
    ask(&world.services, "queue release all");
    for _ in 0..10_000 {
        // A message removed while it was loaded stays in the index until a worker opens it.
        if world.intake.queue.ids().unwrap().is_empty() && world.manager.index.size() == (0, 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    world.manager.index.stop();
    running.join().unwrap();
    world.manager.index.wait_for_workers(Duration::from_secs(10));
    assert_eq!((world.queue(), world.manager.index.size()), (vec![], (0, 0)));
    let mut got = host.recipients();
    got.sort();
    let count = got.len();
    got.dedup();
    assert_eq!((got.len(), count + removed.lock().unwrap().len()), (count, all.len()));
}
