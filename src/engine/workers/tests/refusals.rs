//! What a smarthost refuses for the account, and the one message that it refuses again and again: which message is
//! tried next, and when; what the queue lists, and what `status --check` says.

use crate::engine::tests::world::*;
use std::sync::Arc;
use std::time::Duration;

const ME: &str = "me@far.example";
const SMARTHOST: &str = "relay.smarthost = \"smtp://192.0.2.1\"\nqueue.warn_after = 0";
const LIMIT: &str = "550 5.4.5 Daily user sending limit exceeded";

fn smart(config: &str) -> (World, Arc<Host>) {
    let world = World::new(config);
    let host = Host::friendly();
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&host)));
    (world, host)
}

fn check(world: &World) -> (u8, String) {
    ask(world, "status --check")
}

/// What became of a message after one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Delivered,
    Bounced,
    /// No attempt is in the journal, and the route pauses for a refusal.
    Refused,
    /// The same, for a failure as any other.
    Paused,
}

fn settle(stage: Stage, says: &str, chunks: bool, by_smarthost: bool, from: &str) -> Seen {
    let config = if by_smarthost { SMARTHOST } else { "queue.warn_after = 0" };
    let (world, host) = smart(config);
    world.net.domain("far.example", "192.0.2.2", Peer::Host(Arc::clone(&host)));
    *host.extensions.lock().unwrap() =
        if chunks { vec!["PIPELINING", "CHUNKING"] } else { vec!["PIPELINING"] };
    let text = says.to_owned();
    // A host that refuses the chunk refuses the content as well.
    host.now_says(move |at, _| {
        let is_now = at == stage || stage == Stage::Chunk && at == Stage::Dot;
        if is_now { reply(&text) } else { Say::Yes }
    });
    take_log();
    world.accept(from, &[ME, "you@far.example"]);
    let wait = world.pass();
    let log = take_log();
    let find = |kind: &str| log.iter().find(|line| line.starts_with(&format!("event={kind} ")));
    let queue = world.queue();
    match (queue.is_empty(), find("paused")) {
        (true, None) if !host.taken.lock().unwrap().is_empty() => Seen::Delivered,
        (true, None) => {
            assert!(find("bounced").is_some(), "{log:#?}");
            Seen::Bounced
        }
        (false, Some(line)) => {
            assert!(line.contains(&format!("reason=\"{says}")), "{line}");
            assert!(queue[0].progress.iter().all(|progress| progress.attempts == 0), "as it was");
            assert_eq!(find("bounced"), None);
            let wait = wait.unwrap();
            let is_long = wait >= 15 * MINUTE && wait <= 17 * MINUTE;
            assert_ne!(is_long, line.contains("about=-"), "{line}");
            if is_long {
                let (code, line) = check(&world);
                assert!(code == 1 && line.contains(says), "{line}");
                assert!(ask(&world, "queue list").1.contains(says));
                let json = ask(&world, "queue list --json").1;
                assert!(json.contains(&format!("\"reply\":\"{says}")), "{json}");
                Seen::Refused
            } else {
                Seen::Paused
            }
        }
        other => panic!("{other:?}: {log:#?}"),
    }
}

/// What is refused, by which reply, and what becomes of it at MAIL, RCPT, DATA, the dot and BDAT: `R` the route pauses
/// as it is refused, `P` it pauses as for any failure, `B` the message bounces. Towards a smarthost, then towards an MX
/// host.
const CARD: &str = "
    limit      550 5.4.5 Daily user sending limit exceeded                | R R R R R | B B B B B
    limit      550 5.1.90 You have reached your daily limit               | R R R R R | B B B B B
    limit      554 5.7.0 limit on the number of allowed outgoing messages was exceeded. Try again later | R R R R R | B B B B B
    limit      552 5.7.0 You are over your relay quota                    | R R R R R | B B B B B
    limit      552 You are over your relay quota                          | R R R R R | B B B B B
    rate       550 5.7.0 too many emails per second                       | R R R R R | B B B B B
    account    550 5.7.501 Account joe@far blocked from sending           | R R R R R | B B B B B
    sender     554 5.2.0 STOREDRV; MapiExceptionSendAsDenied              | R R R R R | B B B B B
    sender     554 Message rejected: Email address is not verified.       | R R R R R | B B B B B
    sender     553 5.7.1 <a@b>: Sender address rejected: not owned by user joe | R R R R R | B B B B B
    relaying   554 5.7.1 <me@far.example>: Relay access denied            | R R R R R | B B B B B
    login      530 5.7.0 Authentication required                          | R R R R R | P P P P P
    unknown    550 5.7.1 no                                               | R B B B B | B B B B B
    recipient  550 5.1.1 User unknown                                     | R B B B B | B B B B B
    mailbox    552 5.2.2 over quota, daily limit exceeded                 | R B B B B | B B B B B
    mailbox    550 5.2.1 rate limit exceeded                              | R B B B B | B B B B B
    size       552 5.3.4 too big for your account, sending limit          | B B B B B | B B B B B
    syntax     501 5.1.7 bad sender                                       | B B B B B | B B B B B
    syntax     555 5.5.4 parameter                                        | B B B B B | B B B B B
    utf-8      550 5.6.7 SMTPUTF8                                         | B B B B B | B B B B B
    content    554 5.7.1 message content rejected                         | R B B B B | B B B B B
    content    550 5.6.0 lines too long                                   | R B B B B | B B B B B
";

#[test]
fn the_card_of_refusals_holds_at_each_step() {
    use Stage::*;
    let steps = [Mail, Rcpt, Data, Dot, Chunk];
    let mut wrong = Vec::new();
    for line in CARD.trim().lines() {
        let mut columns = line.split('|');
        let says = columns.next().unwrap().trim().split_once(' ').unwrap().1.trim();
        for by_smarthost in [true, false] {
            let expected: Vec<&str> = columns.next().unwrap().split_whitespace().collect();
            assert_eq!(expected.len(), steps.len(), "{line}");
            for (stage, expected) in steps.into_iter().zip(expected) {
                let seen = std::panic::catch_unwind(|| {
                    settle(stage, says, stage == Chunk, by_smarthost, "alice@box.example")
                });
                let expected = match expected {
                    "R" => Seen::Refused,
                    "P" => Seen::Paused,
                    "B" => Seen::Bounced,
                    other => panic!("{other}"),
                };
                // At the dot and after the chunk a login that is wanted leaves the message deferred as well.
                if says.starts_with("530") && matches!(stage, Dot | Chunk) {
                    continue;
                }
                if !matches!(seen, Ok(seen) if seen == expected) {
                    wrong.push(format!(
                        "{stage:?} {says} smarthost: {by_smarthost}: {seen:?}, not {expected:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_of_the_null_sender_is_the_notices() {
    for says in
        [LIMIT, "501 Invalid MAIL FROM address provided", "550 5.7.60 Client may not send as this sender"]
    {
        let (world, host) = smart(SMARTHOST);
        let text = says.to_owned();
        host.now_says(move |at, line| match at {
            Stage::Mail if line.contains("<>") => reply(&text),
            _ => Say::Yes,
        });
        take_log();
        world.accept("", &[ME]);
        world.pass();
        assert!(take_events("paused").is_empty(), "{says}");
        world.accept("alice@box.example", &[ME]);
        world.pass();
        assert_eq!(host.taken.lock().unwrap().len(), 1, "{says}");
    }
}

/// At 0, 15 and 45 minutes, and so on: one message each, whatever waits; and a flush or a link ends the pause.
#[test]
fn a_route_that_is_refused_backs_off_from_a_quarter_of_an_hour_to_four_hours() {
    let (world, host) = smart(SMARTHOST);
    host.now_says(|at, _| if at == Stage::Dot { reply(LIMIT) } else { Say::Yes });
    for _ in 0..4 {
        world.accept("alice@box.example", &[ME]);
    }
    let mut waits = Vec::new();
    for _ in 0..7 {
        let wait = world.pass().unwrap();
        waits.push(wait.as_secs().div_ceil(60));
        world.clock.advance(wait);
    }
    let steps = [15, 30, 60, 120, 240, 240, 240];
    assert!(waits.iter().zip(steps).all(|(wait, step)| wait.abs_diff(step) <= step / 10 + 1), "{waits:?}");
    assert!(waits.iter().all(|wait| (15..=240).contains(wait)), "{waits:?}");
    assert_eq!((host.count(), world.queue().len(), world.mail("alice").len()), (7, 4, 0));
    host.now_says(|_, _| Say::Yes);
    for ends in ["queue flush", "link up"] {
        host.now_says(|at, _| if at == Stage::Dot { reply(LIMIT) } else { Say::Yes });
        world.accept("alice@box.example", &[ME]);
        world.pass();
        host.now_says(|_, _| Say::Yes);
        ask(&world, ends);
        assert_eq!((world.pass(), world.queue()), (None, vec![]), "{ends}");
        assert_eq!(check(&world).0, 0);
    }
}

/// A refusal does not end by itself: the alarm reports it at once, and its end.
#[test]
fn a_refusal_raises_the_alarm_at_once() {
    let (world, host) = smart(SMARTHOST);
    let look = || {
        take_log();
        let site = crate::engine::host::site::current(&world.site);
        world.services.alarm.check(&world.manager, &site, world.manager.clock.now());
        take_events("alarm")
    };
    host.now_says(|at, _| if at == Stage::Mail { reply(LIMIT) } else { Say::Yes });
    world.accept("alice@box.example", &[ME]);
    world.pass();
    let told = look();
    assert!(told.len() == 1 && told[0].contains("reason=route") && told[0].contains(LIMIT), "{told:?}");
    host.now_says(|_, _| Say::Yes);
    world.live(HOUR);
    world.clock.advance(MINUTE);
    assert!(look().iter().any(|line| line.contains("state=ok")));
}

#[test]
fn the_next_smarthost_of_the_list_is_tried_at_once() {
    let both = "relay.smarthost = [\"smtp://192.0.2.1\", \"smtp://192.0.2.2\"]\nqueue.warn_after = 0";
    let (world, first) = smart(both);
    let second = Host::friendly();
    world.net.peer("192.0.2.2", Peer::Host(Arc::clone(&second)));
    first.now_says(|at, _| if at == Stage::Mail { reply(LIMIT) } else { Say::Yes });
    take_log();
    for _ in 0..3 {
        world.accept("alice@box.example", &[ME]);
    }
    assert_eq!((world.pass(), world.queue()), (None, vec![]));
    let paused = take_events("paused");
    assert!(paused.len() == 1 && paused[0].contains("route=smtp://192.0.2.1:25 "), "{paused:?}");
    assert!(paused[0].contains("about=limit") && paused[0].contains(LIMIT), "{paused:?}");
    assert_eq!((first.count(), second.taken.lock().unwrap().len()), (1, 3));
    // It is left alone, and asked again when its time is over.
    world.clock.advance(10 * MINUTE);
    world.accept("alice@box.example", &[ME]);
    world.pass();
    assert_eq!((first.count(), second.taken.lock().unwrap().len()), (1, 4));
    world.clock.advance(10 * MINUTE);
    world.accept("alice@box.example", &[ME]);
    world.pass();
    assert_eq!((first.count(), second.taken.lock().unwrap().len()), (2, 5));
    // Both refuse: the route pauses.
    second.now_says(|at, _| if at == Stage::Dot { reply(LIMIT) } else { Say::Yes });
    take_log();
    world.accept("alice@box.example", &[ME]);
    let wait = world.pass().unwrap();
    assert!(wait >= 15 * MINUTE && take_events("paused").len() == 1, "{wait:?}");
    assert_eq!((world.queue().len(), check(&world).0), (1, 1));
    // Whichever of them takes it first.
    second.now_says(|_, _| Say::Yes);
    world.live(HOUR);
    assert_eq!(world.queue(), []);
}

/// A message with this word in its recipient is refused or cuts the session short; all others pass.
fn poison(host: &Host, at: Stage, says: &'static str) {
    let mut is_poisoned = false;
    host.now_says(move |stage, line| {
        if stage == Stage::Rcpt || stage == Stage::Mail {
            is_poisoned = line.contains("poison");
        }
        if stage == at && is_poisoned { reply(says) } else { Say::Yes }
    });
}

/// Any number of them costs the others one pause.
#[test]
fn eight_messages_that_end_the_session_hold_no_alert_back() {
    for (at, says) in
        [(Stage::Rcpt, "421 4.7.0 go away"), (Stage::Dot, "421 4.7.0 go away"), (Stage::Dot, LIMIT)]
    {
        let (world, host) = smart(SMARTHOST);
        poison(&host, at, says);
        for i in 0..8 {
            world.accept("alice@box.example", &[&format!("poison{i}@far.example")]);
        }
        let pause = world.pass().unwrap();
        world.accept("alice@box.example", &[ME]);
        world.clock.advance(pause);
        world.pass();
        assert_eq!(host.recipients(), [ME], "{says} at {at:?}: after one pause it is the first");
        // So it is later on, whenever an alert comes.
        for _ in 0..20 {
            let before = host.taken.lock().unwrap().len();
            world.accept("alice@box.example", &[ME]);
            let wait = world.pass();
            if host.taken.lock().unwrap().len() == before {
                world.clock.advance(wait.unwrap());
                world.pass();
            }
            assert_eq!(host.taken.lock().unwrap().len(), before + 1, "{says} at {at:?}: {:?}", world.queue());
            world.clock.advance(20 * MINUTE);
        }
    }
}

#[test]
fn after_a_pause_the_urgent_goes_first_then_the_newest_then_what_was_in_hand() {
    let (world, host) = smart(SMARTHOST);
    poison(&host, Stage::Rcpt, "421 4.7.0 go away");
    let mut alerts = vec![world.submit("alice@box.example", &["poison@far.example"], "Subject: x\n\nx\n")];
    world.pass();
    for (to, head) in [("old", ""), ("urgent", "X-Priority: 1\n"), ("new", ""), ("newest", "")] {
        world.clock.advance(Duration::from_secs(1));
        let to = format!("{to}@far.example");
        alerts.push(world.submit("alice@box.example", &[&to], &format!("{head}Subject: x\n\nx\n")));
    }
    assert!(alerts.iter().all(|reply| reply.starts_with("250")), "{alerts:?}");
    // Each try finds the host out of order, and takes the next of them.
    host.now_says(|at, _| if at == Stage::Rcpt { reply("421 4.7.0 go away") } else { Say::Yes });
    for _ in 0..5 {
        world.clock.advance(world.pass().unwrap());
    }
    let commands = host.commands.lock().unwrap().clone();
    let asked: Vec<&str> =
        commands.iter().filter_map(|line| line.strip_prefix("RCPT TO:<")?.split('@').next()).collect();
    assert_eq!(asked[..5], ["poison", "urgent", "newest", "new", "old"], "{asked:?}");
}

/// The message was being sent at a second failure: it waits its own step, no other message waits for it, and it expires
/// like any other.
#[test]
fn a_message_that_fails_again_waits_its_own_step_and_expires_at_last() {
    let (world, host) = smart("relay.smarthost = \"smtp://192.0.2.1\"");
    poison(&host, Stage::Rcpt, "421 4.7.0 go away");
    let id = world.accept("alice@box.example", &["poison@far.example"]);
    let pause = world.pass().unwrap();
    assert_eq!(world.queued(id).progress[0].attempts, 0, "the route is to blame");
    world.clock.advance(pause);
    let wait = world.pass().unwrap();
    assert!(wait >= 5 * MINUTE * 9 / 10 && wait <= 5 * MINUTE * 11 / 10, "its second step: {wait:?}");
    assert_eq!(world.queued(id).progress[0].attempts, 1);
    assert!(ask(&world, "queue list").1.contains("421 4.7.0 go away"));
    // The route does not pause.
    world.accept("alice@box.example", &[ME]);
    world.pass();
    assert_eq!(host.recipients(), [ME]);
    take_log();
    world.live(6 * DAY);
    assert!(take_events("paused").is_empty());
    assert_eq!(world.queue(), []);
    let notices = world.mail("alice");
    assert_eq!(notices.len(), 2, "a delay and a failure: {notices:?}");
    assert!(notices.iter().any(|notice| notice.contains("Action: delayed")));
    assert!(notices.iter().any(|notice| notice.contains("Status: 5.4.7") || notice.contains("421 4.7.0")));
    // About as many attempts as a message that is deferred has: at 0, 1, 6, 21, 51 minutes and so on.
    assert!(host.count() >= 30 && host.count() <= 40, "{}", host.count());
}

/// The session in which the hop fails is counted once: with the hop's failures.
#[test]
fn a_recipient_that_is_deferred_before_the_hop_fails_has_its_three_attempts() {
    let (world, host) = smart("relay.smarthost = \"smtp://192.0.2.1\"\nqueue.lifetime = \"1m\"");
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 4.2.0 later") } else { Say::Yes });
    let id = world.accept("alice@box.example", &["a@far.example", "b@far.example"]);
    world.pass();
    world.clock.advance(HOUR);
    assert_eq!(world.queued(id).progress[0].attempts, 1);
    host.now_says(|stage, line| match stage {
        Stage::Rcpt if line.contains("b@") => reply("421 4.3.2 busy"),
        Stage::Rcpt => reply("450 4.2.0 later"),
        _ => Say::Yes,
    });
    world.pass();
    assert_eq!(world.mail("alice").len(), 0, "two attempts are not three");
}

/// While others of its sender pass, the same message is refused three times in the same words: it is the message.
#[test]
fn a_message_that_is_refused_while_others_pass_bounces_at_the_third_time() {
    let (world, host) = smart(SMARTHOST);
    poison(&host, Stage::Dot, LIMIT);
    let id = world.accept("alice@box.example", &["poison@far.example"]);
    world.clock.advance(world.pass().unwrap());
    world.accept("alice@box.example", &[ME]);
    world.pass();
    assert_eq!(host.recipients(), [ME]);
    assert_eq!(
        (world.queue().len(), world.queued(id).progress[0].attempts),
        (1, 1),
        "twice now, and it waits"
    );
    world.live(HOUR);
    assert_eq!(world.queue(), []);
    let notices = world.mail("alice");
    assert!(notices.len() == 1 && notices[0].contains(LIMIT), "{notices:?}");
    assert_eq!(host.commands.lock().unwrap().iter().filter(|line| line.contains("poison")).count(), 3);
}

/// One sender is not verified: it costs the mail of the others one pause, and no more.
#[test]
fn a_sender_that_is_refused_does_not_hold_back_those_who_pass() {
    let (world, host) = smart(SMARTHOST);
    host.now_says(|stage, line| match stage {
        Stage::Mail if line.contains("alice") => {
            reply("554 Message rejected: Email address is not verified.")
        }
        _ => Say::Yes,
    });
    world.accept("alice@box.example", &[ME]);
    world.clock.advance(world.pass().unwrap());
    for count in 1..20 {
        world.accept("bob@box.example", &[ME]);
        world.pass();
        assert_eq!(host.taken.lock().unwrap().len(), count);
        world.clock.advance(10 * MINUTE);
    }
    assert_eq!(world.queue().len(), 1, "nothing proves that it is the message");
}

#[test]
fn without_others_of_its_sender_that_pass_nothing_is_proved() {
    let (world, host) = smart(SMARTHOST);
    poison(&host, Stage::Dot, LIMIT);
    let id = world.accept("alice@box.example", &["poison@far.example"]);
    world.accept("bob@box.example", &[ME]);
    world.live(2 * DAY);
    assert_eq!(host.recipients(), [ME]);
    assert!(world.queued(id).progress[0].attempts > 0, "it is to blame for its own wait");
    assert!(world.mail("alice").is_empty());
    // Other words each time prove nothing either.
    let (world, host) = smart(SMARTHOST);
    let (mut is_poisoned, mut count) = (false, 0);
    host.now_says(move |stage, line| {
        is_poisoned = if stage == Stage::Rcpt { line.contains("poison") } else { is_poisoned };
        if stage != Stage::Dot || !is_poisoned {
            return Say::Yes;
        }
        count += 1;
        reply(["550 5.4.5 daily limit", "550 5.7.1 hourly limit"][count % 2])
    });
    world.accept("alice@box.example", &["poison@far.example"]);
    world.pass();
    for _ in 0..10 {
        world.accept("alice@box.example", &[ME]);
        world.live(HOUR);
    }
    assert_eq!((world.queue().len(), host.taken.lock().unwrap().len()), (1, 10));
}

/// The recipients that the smarthost takes get the message; the others wait for the route.
#[test]
fn a_recipient_that_is_refused_for_the_account_costs_the_others_nothing() {
    let (world, host) = smart(SMARTHOST);
    poison(&host, Stage::Rcpt, "554 5.7.1 Relay access denied");
    let id = world.accept("alice@box.example", &[ME, "poison@far.example"]);
    assert!(world.pass().unwrap() >= 15 * MINUTE);
    assert_eq!(host.recipients(), [ME]);
    let progress = world.queued(id).progress;
    assert!(progress[0].is_finished() && !progress[1].is_finished());
    assert!(world.mail("alice").is_empty());
}

/// A smarthost without a login takes mail for its own domain, and wants one for all others: what ends the session says
/// it.
#[test]
fn a_login_that_is_wanted_for_one_recipient_alone_makes_no_endless_loop() {
    let (world, host) = smart(SMARTHOST);
    poison(&host, Stage::Rcpt, "530 5.7.0 Authentication required");
    world.accept("alice@box.example", &["poison@far.example"]);
    world.clock.advance(world.pass().unwrap());
    for _ in 0..4 {
        world.accept("alice@box.example", &[ME]);
        world.live(HOUR);
    }
    assert_eq!(host.recipients().len(), 4);
    assert_eq!(world.queue(), []);
    let notices = world.mail("alice");
    assert!(notices.len() == 1 && notices[0].contains("530 5.7.0"), "{notices:?}");
    assert_eq!(host.commands.lock().unwrap().iter().filter(|line| line.contains("poison")).count(), 3);
}

/// It offers BDAT, and closes, stalls or refuses over it: the message goes by DATA next time, and so does all after it.
#[test]
fn a_host_whose_chunking_does_not_work_gets_data() {
    for says in
        [Say::Close, Say::Nothing, Say::Reset, reply("501 what"), reply("554 5.7.1 no"), reply("what")]
    {
        let (world, host) = smart("");
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        *host.extensions.lock().unwrap() = vec!["PIPELINING", "CHUNKING"];
        let (text, is_reply) = (says.clone(), matches!(&says, Say::Reply(text) if text.starts_with('5')));
        host.now_says(move |at, _| if at == Stage::Chunk { text.clone() } else { Say::Yes });
        world.accept("alice@box.example", &[ME]);
        let wait = world.pass();
        assert_eq!(
            wait.is_none(),
            is_reply,
            "{says:?}: a reply is definite, and is followed by DATA at once"
        );
        world.live(10 * MINUTE);
        assert_eq!((world.queue(), world.mail("alice").len()), (vec![], 0), "{says:?}");
        world.accept("alice@box.example", &[ME]);
        assert_eq!(world.pass(), None);
        let commands = host.commands.lock().unwrap().clone();
        let count = |verb: &str| commands.iter().filter(|line| line.starts_with(verb)).count();
        assert_eq!((count("BDAT"), count("DATA")), (1, 2), "{says:?}");
    }
}

/// What is about the content is said to DATA as well, and counts then.
#[test]
fn content_that_is_refused_after_bdat_is_sent_twice_at_most() {
    let (world, host) = smart(SMARTHOST);
    *host.extensions.lock().unwrap() = vec!["CHUNKING"];
    host.now_says(|at, _| match at {
        Stage::Chunk | Stage::Dot => reply("554 5.7.1 message content rejected"),
        _ => Say::Yes,
    });
    world.accept("alice@box.example", &[ME]);
    assert_eq!((world.pass(), world.mail("alice").len(), world.queue()), (None, 1, vec![]));
    let commands = host.commands.lock().unwrap().clone();
    let count = |verb: &str| commands.iter().filter(|line| line.starts_with(verb)).count();
    assert_eq!((count("BDAT"), count("DATA")), (1, 1));
}

/// RFC 7435: what follows the 220 to STARTTLS in clear is no handshake, and unencrypted beats undelivered where it may.
#[test]
fn junk_after_the_answer_to_starttls_is_a_handshake_that_failed() {
    for (config, expected) in [("", 1), ("relay.tls = \"required\"", 0)] {
        let (world, host) = smart(config);
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        *host.extensions.lock().unwrap() = vec!["STARTTLS"];
        host.now_says(|at, _| if at == Stage::StartTls { reply("220 go\r\njunk") } else { Say::Yes });
        world.accept("alice@box.example", &[ME]);
        world.pass();
        assert_eq!(host.taken.lock().unwrap().len(), expected, "{config}");
        assert_eq!(host.count(), 1 + expected);
    }
}
