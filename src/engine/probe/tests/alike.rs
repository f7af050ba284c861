//! Delivery, lists, the status, alarms and notices give the advice that a probe gives for the same failure.

use super::probe::{FAR, probe, world};
use crate::engine::host::site::current;
use crate::engine::tests::world::*;

/// The text in one line, as notices fold it.
fn unfolded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A route pauses: by an answer of the host, or because it cannot be reached.
#[test]
fn a_pause_is_explained_alike_everywhere() {
    let refuses = |at, text: &'static str| {
        Peer::Host(Host::new(move |stage, _| {
            let is_hello = at == Stage::Ehlo && stage == Stage::Helo;
            if stage == at || is_hello { reply(text) } else { Say::Yes }
        }))
    };
    for peer in [
        refuses(Stage::Greeting, "554 IP=192.0.2.99 - A problem occurred. (Ask your postmaster for help)"),
        refuses(Stage::Ehlo, "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)"),
        refuses(
            Stage::Mail,
            "421 4.7.0 [TSS06] Messages from 192.0.2.99 temporarily deferred due to user complaints",
        ),
        Peer::Refuses,
        Peer::TimesOut,
    ] {
        let world = world("queue.warn_after = \"4h\"\nalarm.stuck_after = \"1h\"\n");
        world.net.peer("192.0.2.1", peer);
        let (_, failures) = probe(&world, FAR);
        let hint = failures[0].hint.unwrap_or_else(|| panic!("{failures:?}"));
        let id = world.accept("alice@box.example", &[FAR]);
        take_log();
        world.pass();
        let paused = take_events("paused").concat();
        assert!(paused.ends_with(&format!(" advice={:?}", hint)), "{paused}\n{hint}");
        assert!(order(&world, "queue").contains(&format!(". {hint})\n")), "{}", order(&world, "queue"));
        assert!(order(&world, &format!("queue show {id}")).contains(&format!("\nadvice: {hint}\n")));
        let json = format!("\"advice\":{hint:?}");
        assert!(order(&world, "queue --json").contains(&json), "{}", order(&world, "queue --json"));
        assert!(order(&world, "status").contains(hint), "{}", order(&world, "status"));
        assert!(order(&world, "status --json").contains(&json));
        for _ in 0..5 {
            world.clock.advance(HOUR);
            world.pass();
            world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
        }
        let alarm = take_events("alarm").concat();
        assert!(alarm.contains(&hint.replace('"', "\\\"")), "{alarm}");
        let notice = unfolded(&world.mail("alice").concat());
        assert!(notice.contains(&format!("What can be done about it: {hint}")), "{notice}");
    }
}

/// A message that is refused for good.
#[test]
fn a_bounce_is_explained_as_a_probe_explains_the_refusal() {
    for text in ["550 5.1.1 no such user", "550 5.2.1 The email account is inactive"] {
        let world = world("");
        let host = Host::new(move |stage, _| if stage == Stage::Rcpt { reply(text) } else { Say::Yes });
        world.net.peer("192.0.2.1", Peer::Host(host));
        let (_, failures) = probe(&world, FAR);
        world.accept("alice@box.example", &[FAR]);
        world.pass();
        let notice = unfolded(&world.mail("alice").concat());
        let advice = failures[0].hint.unwrap();
        assert!(notice.contains(&format!("{text} What can be done about it: {advice}")), "{notice}");
    }
}
