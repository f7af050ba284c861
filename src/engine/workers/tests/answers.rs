//! What a peer does at which step, and what becomes of the message. The session's own table says what outcome a reply
//! means; this one says what is settled by it: queue, pause, notice.

use crate::engine::tests::host_tls;
use crate::engine::tests::world::*;
use crate::store::queue::RecipientState;
use std::sync::Arc;

/// What is to be seen after one pass over a message for two recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    /// Taken, and out of the queue.
    Delivered,
    /// The same, in clear over a second connection.
    InClear,
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

/// How a host is to be talked to, and what it offers.
#[derive(Debug, Clone, Copy)]
enum Manner {
    /// As the MX host that it is.
    Mx(&'static [&'static str]),
    /// The same, where TLS is required.
    Tls,
    /// As a smarthost with a login by this mechanism.
    Login(&'static str),
}

impl Manner {
    fn world(self, host: &Arc<Host>) -> World {
        let place = World::place();
        let config = match self {
            Self::Mx(_) => String::new(),
            Self::Tls => {
                let ca_file = place.file("ca.pem", host_tls::pem());
                format!("relay.tls = \"required\"\nrelay.ca_file = {ca_file:?}")
            }
            Self::Login(mechanism) => format!(
                "relay.smarthost = \"smtp://127.0.0.8\"\nrelay.username = \"joe\"\n\
                 relay.auth = \"{mechanism}\"\nrelay.password_file = {:?}",
                place.secret("password", "secret\n")
            ),
        };
        *host.extensions.lock().unwrap() = match self {
            Self::Mx(extensions) => extensions.to_vec(),
            Self::Tls => vec!["STARTTLS"],
            Self::Login(_) => vec!["AUTH PLAIN LOGIN"],
        };
        let world = World::at(&config, place);
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(host)));
        world.net.peer("127.0.0.8", Peer::Host(Arc::clone(host)));
        world
    }
}

fn settle(stage: Stage, says: Say, manner: Manner) -> Settled {
    let host = Host::new(move |at, _| match at {
        // There is HELO only where there is no EHLO.
        Stage::Ehlo if stage == Stage::Helo => reply("502 what"),
        _ if at == stage => says.clone(),
        _ => Say::Yes,
    });
    let world = manner.world(&host);
    world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    let wait = world.pass();
    let paused = !take_events("paused").is_empty();
    let queue = world.queue();
    let notices = world.mail("alice");
    assert_eq!(world.manager.index.size().0, queue.len());
    let commands = host.commands.lock().unwrap().clone();
    let said = |verb: &str| commands.iter().filter(|command| command.starts_with(verb)).count();
    let tries = host.count();
    // The connection after TLS has failed knows nothing of it.
    assert!(tries == 1 || (tries, said("STARTTLS")) == (2, 1), "a second try at once: {commands:?}");
    let Some(summary) = queue.first() else {
        assert_eq!(wait, None);
        let delivered = host.taken.lock().unwrap().len();
        assert_eq!((delivered + notices.len(), paused), (1, false));
        return if delivered == 0 {
            let [notice] = notices.as_slice() else { panic!("{notices:?}") };
            assert_eq!(notice.matches("Action: failed").count(), 2, "{notice}");
            // What the host has said, and not more or less.
            assert_eq!(notice.matches("\nDiagnostic-Code: smtp; 55").count(), 2, "{notice}");
            assert!(notice.contains("To: <alice@box.example>"), "{notice}");
            assert_eq!(notice.matches("\nStatus: 5.").count(), 2, "{notice}");
            Bounced
        } else if tries == 2 {
            InClear
        } else {
            Delivered
        };
    };
    assert_eq!(tries, 1);
    let wait = wait.expect("it is on the board");
    assert!(wait >= MINUTE * 9 / 10 && wait <= MINUTE * 11 / 10, "{wait:?}");
    assert_eq!(notices.len(), 0);
    assert!(summary.progress.iter().all(|progress| progress.state == RecipientState::Pending));
    let attempts: Vec<_> = summary.progress.iter().map(|progress| progress.attempts).collect();
    assert_eq!(attempts[0], attempts[1]);
    match (attempts[0], paused) {
        (0, true) => Paused,
        (1, true) => DeferredAndPaused,
        (1, false) => Deferred,
        other => panic!("{other:?}"),
    }
}

/// Each step, and what becomes of the message after each answer there: `ok` delivered, `clear` delivered in clear over
/// a second connection, `d` deferred, `P` the route pauses and the message is as it was, `dP` both, `B` bounced.
const CARD: &str = "
    step       manner     4yz   5yz   421   words half  cut   hush  close reset long  101   mixed
    greeting   mx         P     P     P     P     P     P     P     P     P     P     P     P
    EHLO       mx         P     P     P     P     P     P     P     P     P     P     P     P
    HELO       mx         P     P     P     P     P     P     P     P     P     P     P     P
    MAIL       mx         d     B     P     dP    dP    d     dP    d     d     dP    dP    dP
    RCPT       mx         d     B     P     dP    dP    d     dP    d     d     dP    dP    dP
    DATA       mx         d     B     P     dP    dP    d     dP    d     d     dP    dP    dP
    dot        mx         d     B     dP    dP    dP    d     dP    d     d     dP    dP    dP
    QUIT       mx         ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
    MAIL       chunks     d     B     P     dP    dP    d     dP    d     d     dP    dP    dP
    RCPT       chunks     d     B     P     dP    dP    d     dP    d     d     dP    dP    dP
    BDAT       chunks     d     ok    dP    dP    dP    d     dP    d     d     dP    dP    dP
    QUIT       chunks     ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok    ok
    STARTTLS   offered    ok    ok    P     P     clear clear clear clear clear P     P     P
    handshake  offered    clear clear clear clear clear clear clear clear clear clear clear clear
    TLS-EHLO   offered    P     P     P     P     clear clear clear clear clear P     P     P
    STARTTLS   required   P     P     P     P     P     P     P     P     P     P     P     P
    handshake  required   P     P     P     P     P     P     P     P     P     P     P     P
    dot        required   d     B     dP    dP    dP    d     dP    d     d     dP    dP    dP
    AUTH       plain      P     P     P     P     P     P     P     P     P     P     P     P
    AUTH       login      P     P     P     P     P     P     P     P     P     P     P     P
    AUTH-name  login      P     P     P     P     P     P     P     P     P     P     P     P
    AUTH-word  login      P     P     P     P     P     P     P     P     P     P     P     P
    RCPT       plain      d     B     P     dP    dP    d     dP    d     d     dP    dP    dP
";

/// The answers of the card, in its order.
fn answers() -> [Say; 12] {
    let lines = |count: usize| "250-x\r\n".repeat(count - 1) + "250 x";
    [
        reply("450 4.2.0 later"),
        reply("554 5.7.1 no"),
        reply("421 4.3.2 bye"),
        reply("what do you want?"),
        Say::Half("250 o".into(), false),
        Say::Half("250 o".into(), true),
        Say::Nothing,
        Say::Close,
        Say::Reset,
        reply(&format!("250 {}", "x".repeat(2048))),
        reply(&lines(101)),
        reply("250-yes\r\n550 no"),
    ]
}

#[test]
fn the_card_of_answers_holds_at_each_step() {
    let mut lines = CARD.trim().lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let columns = lines.next().unwrap().split_off(2);
    assert_eq!(columns.len(), answers().len());
    let mut wrong = Vec::new();
    for line in lines {
        let stage = match line[0] {
            "greeting" => Stage::Greeting,
            "EHLO" => Stage::Ehlo,
            "HELO" => Stage::Helo,
            "STARTTLS" => Stage::StartTls,
            "handshake" => Stage::Handshake,
            "TLS-EHLO" => Stage::TlsEhlo,
            "AUTH" => Stage::Auth(0),
            "AUTH-name" => Stage::Auth(1),
            "AUTH-word" => Stage::Auth(2),
            "MAIL" => Stage::Mail,
            "RCPT" => Stage::Rcpt,
            "DATA" => Stage::Data,
            "BDAT" => Stage::Chunk,
            "dot" => Stage::Dot,
            "QUIT" => Stage::Quit,
            other => panic!("{other}"),
        };
        let manners: &[Manner] = match line[1] {
            "mx" => &[Manner::Mx(&[]), Manner::Mx(&["PIPELINING"])],
            "chunks" => &[Manner::Mx(&["CHUNKING"]), Manner::Mx(&["PIPELINING", "CHUNKING"])],
            "offered" => &[Manner::Mx(&["STARTTLS"])],
            "required" => &[Manner::Tls],
            "plain" => &[Manner::Login("plain")],
            "login" => &[Manner::Login("login")],
            other => panic!("{other}"),
        };
        for ((says, expected), column) in answers().into_iter().zip(&line[2..]).zip(&columns) {
            let expected = match *expected {
                "ok" => Delivered,
                "clear" => InClear,
                "d" => Deferred,
                "P" => Paused,
                "dP" => DeferredAndPaused,
                "B" => Bounced,
                other => panic!("{other}"),
            };
            for &manner in manners {
                let seen = std::panic::catch_unwind(|| settle(stage, says.clone(), manner));
                if !matches!(&seen, Ok(seen) if *seen == expected) {
                    wrong.push(format!("{stage:?} {column} {manner:?}: {seen:?}, not {expected:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the card has no column for.
#[test]
fn some_codes_and_orders_have_a_meaning_of_their_own() {
    use Stage::*;
    let say = reply;
    let table = [
        (Ehlo, say("502 what"), Delivered),
        (Ehlo, say("250-x\r\n550 y"), Paused),
        (Mail, say("530 5.7.0 authenticate"), Paused),
        (Mail, say("552 full"), Bounced),
        (Mail, say("354 go"), DeferredAndPaused),
        (Rcpt, say("552 full"), Bounced),
        (Rcpt, say("530 authenticate"), Paused),
        (Rcpt, say("251 forwarded"), Delivered),
        (Data, say("250 what"), DeferredAndPaused),
        (Dot, say("552 too big"), Bounced),
        (Dot, Say::Yes, Delivered),
        (Dot, Say::YesAndClose, Delivered),
        (Quit, say("500 what"), Delivered),
    ];
    let mut wrong = Vec::new();
    for (stage, says, expected) in table {
        for extensions in [&["PIPELINING"][..], &[]] {
            let seen = std::panic::catch_unwind(|| settle(stage, says.clone(), Manner::Mx(extensions)));
            if !matches!(&seen, Ok(seen) if *seen == expected) {
                wrong.push(format!("{stage:?} {says:?} {extensions:?}: {seen:?}, not {expected:?}"));
            }
        }
    }
    // The dot is answered in the chunk's place, and an offer that is not kept costs nothing.
    for (says, expected) in [
        (say("552 too big"), Bounced),
        (say("500 what"), Delivered),
        (say("503 what"), Delivered),
        (Say::YesAndClose, Delivered),
    ] {
        let seen = settle(Chunk, says.clone(), Manner::Mx(&["CHUNKING"]));
        if seen != expected {
            wrong.push(format!("{says:?}: {seen:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// RSET clears away the transaction before: whatever comes of it is no fault of the message behind it.
#[test]
fn what_is_said_to_rset_costs_a_connection_and_nothing_else() {
    for says in answers() {
        for extensions in [&["PIPELINING"][..], &[], &["CHUNKING"]] {
            let refusal = says.clone();
            let host = Host::new(move |at, line| match at {
                Stage::Rset => refusal.clone(),
                Stage::Rcpt if line.contains("nobody") => reply("550 5.1.1 unknown"),
                _ => Say::Yes,
            });
            let world = Manner::Mx(extensions).world(&host);
            world.accept("bob@box.example", &["nobody@far.example"]);
            world.accept("alice@box.example", &["joe@far.example"]);
            assert_eq!(world.pass(), None, "{says:?} {extensions:?}");
            let resets = host.commands.lock().unwrap().iter().filter(|line| *line == "RSET").count();
            assert_eq!((resets, host.count()), (1, 2), "{says:?} {extensions:?}");
            assert_eq!((host.recipients(), world.queue()), (vec!["joe@far.example".to_owned()], vec![]));
            assert_eq!((world.mail("bob").len(), world.mail("alice").len()), (1, 0));
            assert!(take_events("paused").is_empty());
        }
    }
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

/// Who offers what it does not know and takes the content for commands, or hangs up, gets the message by DATA over
/// another connection: once, and not BDAT again and again.
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
