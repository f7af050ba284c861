//! What a peer does at which step, and what becomes of the message. The session's own table says what outcome a reply
//! means; this one says what is settled by it: queue, pause, notice.

use super::world::*;
use crate::store::queue::State;
use std::sync::Arc;

/// What is to be seen after one pass over a message for two recipients.
#[derive(Debug, PartialEq, Eq)]
enum Settled {
    /// Taken, and out of the queue.
    Delivered,
    /// An attempt is in the journal, and the message waits its step.
    Deferred,
    /// No attempt is in the journal, and the route pauses.
    Paused,
    /// An attempt is in the journal, and the route pauses.
    DeferredAndPaused,
    /// The sender knows, and the queue is empty.
    Bounced,
}
use Settled::*;

fn settle(stage: Stage, says: Say, extensions: &[&'static str]) -> Settled {
    let world = World::new("");
    let host = Host::new(move |at, _| if at == stage { says.clone() } else { Say::Yes });
    *host.extensions.lock().unwrap() = extensions.to_vec();
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    let wait = world.pass();
    let paused = !take_events("paused").is_empty();
    assert_eq!(host.count(), 1, "a second try at once");
    let queue = world.queue();
    let notices = world.mail("alice");
    assert_eq!(world.forwarder.board.size().0, queue.len());
    let Some(summary) = queue.first() else {
        assert_eq!(wait, None);
        let delivered = host.taken.lock().unwrap().len();
        assert_eq!((delivered + notices.len(), paused), (1, false));
        if delivered == 0 {
            assert_eq!(notices[0].matches("Action: failed").count(), 2);
        }
        return if delivered == 1 { Delivered } else { Bounced };
    };
    let wait = wait.expect("it is on the board");
    assert!(wait >= MINUTE * 9 / 10 && wait <= MINUTE * 11 / 10, "{wait:?}");
    assert_eq!(notices.len(), 0);
    assert!(summary.progress.iter().all(|progress| progress.state == State::Pending));
    let attempts: Vec<_> = summary.progress.iter().map(|progress| progress.attempts).collect();
    assert_eq!(attempts[0], attempts[1]);
    match (attempts[0], paused) {
        (0, true) => Paused,
        (1, true) => DeferredAndPaused,
        (1, false) => Deferred,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_answer_at_each_step_is_settled_as_the_card_says() {
    use Stage::*;
    let say = reply;
    let table = [
        (Greeting, say("554 no"), Paused),
        (Greeting, say("450 later"), Paused),
        (Greeting, say("421 later"), Paused),
        (Greeting, say("garbage"), Paused),
        (Greeting, Say::Close, Paused),
        (Greeting, Say::Reset, Paused),
        (Greeting, Say::Nothing, Paused),
        (Ehlo, say("502 what"), Delivered),
        (Ehlo, say("554 no"), Paused),
        (Ehlo, say("450 later"), Paused),
        (Ehlo, say("421 later"), Paused),
        (Ehlo, say("250-x\r\n550 y"), Paused),
        (Ehlo, Say::Close, Paused),
        (Ehlo, Say::Nothing, Paused),
        (Mail, say("550 5.7.1 no"), Bounced),
        (Mail, say("450 later"), Deferred),
        (Mail, say("421 later"), Paused),
        (Mail, say("530 5.7.0 authenticate"), Paused),
        (Mail, say("garbage"), DeferredAndPaused),
        (Mail, Say::Close, Deferred),
        (Mail, Say::Reset, Deferred),
        (Mail, Say::Nothing, DeferredAndPaused),
        (Rcpt, say("550 5.1.1 no"), Bounced),
        (Rcpt, say("552 full"), Deferred),
        (Rcpt, say("450 later"), Deferred),
        (Rcpt, say("421 later"), Paused),
        (Rcpt, say("530 authenticate"), Paused),
        (Rcpt, say("garbage"), DeferredAndPaused),
        (Rcpt, Say::Close, Deferred),
        (Rcpt, Say::Reset, Deferred),
        (Rcpt, Say::Nothing, DeferredAndPaused),
        (Data, say("554 no"), Bounced),
        (Data, say("450 later"), Deferred),
        (Data, say("250 what"), DeferredAndPaused),
        (Data, say("421 later"), Paused),
        (Data, say("garbage"), DeferredAndPaused),
        (Data, Say::Close, Deferred),
        (Data, Say::Reset, Deferred),
        (Data, Say::Nothing, DeferredAndPaused),
        (Dot, say("554 5.7.1 spam"), Bounced),
        (Dot, say("552 too big"), Bounced),
        (Dot, say("450 later"), Deferred),
        (Dot, say("421 later"), DeferredAndPaused),
        (Dot, say("garbage"), DeferredAndPaused),
        (Dot, Say::Close, Deferred),
        (Dot, Say::Reset, Deferred),
        (Dot, Say::Nothing, DeferredAndPaused),
        (Dot, Say::Yes, Delivered),
        (Dot, Say::YesAndClose, Delivered),
        (Quit, say("500 what"), Delivered),
        (Quit, say("garbage"), Delivered),
        (Quit, Say::Close, Delivered),
        (Quit, Say::Nothing, Delivered),
    ];
    let mut wrong = Vec::new();
    for (stage, says, expected) in table {
        for extensions in [&["PIPELINING"][..], &[]] {
            let seen = std::panic::catch_unwind(|| settle(stage, says.clone(), extensions));
            if !matches!(&seen, Ok(seen) if *seen == expected) {
                wrong.push(format!("{stage:?} {says:?} {extensions:?}: {seen:?}, not {expected:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_host_that_speaks_ahead_of_its_turn_is_not_believed() {
    let world = World::new("");
    let early = "250-mx\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken";
    let host = Host::new(move |at, _| if at == Stage::Ehlo { reply(early) } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example"]);
    world.pass();
    assert_eq!((world.queue().len(), host.taken.lock().unwrap().len()), (1, 0));
    assert_eq!(take_events("delivered"), Vec::<String>::new());
}

#[test]
fn a_message_over_the_peers_limit_is_not_sent() {
    let world = World::new("");
    let host = Host::friendly();
    *host.extensions.lock().unwrap() = vec!["SIZE 10"];
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example"]);
    world.pass();
    assert!(world.mail("alice")[0].contains("Status: 5.3.4"));
    assert_eq!(
        (world.queue(), host.commands.lock().unwrap().iter().any(|c| c.starts_with("MAIL"))),
        (vec![], false)
    );
}

/// Who offers what it does not know and takes the content for commands, or hangs up, gets the message by DATA over another
/// connection: once, and not BDAT again and again.
#[test]
fn a_host_that_offers_chunking_and_knows_no_bdat_is_not_asked_again_and_again() {
    let aftermaths = [reply("500 what\r\n500 what\r\n500 what"), reply("502 what\r\n421 bye")];
    for says in aftermaths {
        let world = World::new("");
        let host = Host::friendly();
        *host.extensions.lock().unwrap() = vec!["PIPELINING", "CHUNKING"];
        let scripted = Arc::downgrade(&host);
        host.now_says(move |at, _| {
            let is_endless = scripted.upgrade().is_none_or(|host| host.count() > 20);
            if at == Stage::Chunk && !is_endless { says.clone() } else { Say::Yes }
        });
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        for _ in 0..3 {
            world.accept("alice@box.example", &["joe@far.example"]);
        }
        assert_eq!(world.pass(), None);
        assert_eq!((host.count(), host.taken.lock().unwrap().len(), world.queue()), (2, 3, vec![]));
        assert!(take_events("paused").is_empty());
    }
}
