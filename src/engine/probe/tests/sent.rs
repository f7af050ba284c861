//! What a test message waits for that has no outcome yet.

use super::probe::{FAR, world};
use crate::engine::host::site::current;
use crate::engine::probe::test_message::{submit, waiting};
use crate::engine::tests::world::*;
use crate::rules::pacing::downtime::Uplink;

/// Sends a test message to `far.example` in one pass; returns what it waits for.
fn waits(world: &World) -> Vec<(String, String)> {
    let id = submit(&world.intake, &current(&world.site), FAR).unwrap();
    world.pass();
    let left = waiting(&world.manager, id);
    left.into_iter().map(|(to, reason)| (to, reason.line().to_owned())).collect()
}

fn says(world: &World, at: Stage, text: &'static str) {
    let host = Host::new(move |stage, _| if stage == at { reply(text) } else { Say::Yes });
    world.net.peer("192.0.2.1", Peer::Host(host));
}

#[test]
fn a_message_that_has_left_waits_for_nothing() {
    let delivered = world("");
    assert_eq!(waits(&delivered), []);
    let refused = world("");
    says(&refused, Stage::Rcpt, "550 5.1.1 no such user");
    assert_eq!(waits(&refused), []);
}

#[test]
fn what_holds_it_back_is_named() {
    let waits_for = |world: &World| {
        let waits = waits(world);
        let [(to, reason)] = waits.as_slice() else { panic!("{waits:?}") };
        assert_eq!(to, FAR);
        reason.clone()
    };
    // A route that pauses by 421 leaves the message as it is: no outcome, and no line in the log.
    for at in [Stage::Mail, Stage::Data] {
        let world = world("");
        says(&world, at, "421 4.7.0 Try again later, closing connection");
        assert_eq!(waits_for(&world), "421 4.7.0 Try again later, closing connection", "{at:?}");
    }
    let greylisted = world("");
    says(&greylisted, Stage::Rcpt, "450 4.2.0 Greylisted");
    assert_eq!(waits_for(&greylisted), "450 4.2.0 Greylisted");
    let unreachable = world("");
    unreachable.net.peer("192.0.2.1", Peer::TimesOut);
    assert!(waits_for(&unreachable).contains("timed out"));
    for (link, reason) in [(Uplink::Down, "the link is down"), (Uplink::Metered, "the link is metered")] {
        let world = world("");
        world.manager.index.set_link(link, world.manager.clock.now().running);
        assert_eq!(waits_for(&world), reason);
    }
    let scheduled = world("queue.schedule = \"0 3 * * *\"\n");
    scheduled.manager.load();
    let reason = waits_for(&scheduled);
    assert!(
        reason.starts_with("until the next time of queue.schedule, ") && reason.contains("03:00:00"),
        "{reason}"
    );
}
