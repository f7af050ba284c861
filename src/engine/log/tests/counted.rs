//! What is counted, and what a restart and a crash leave of it.

use crate::config::ListenerKind;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::log::counters::{COUNTS, Count};
use crate::engine::tests::world::*;
use std::sync::Arc;

const ALICE: &str = "alice@box.example";

fn world() -> (World, Arc<Host>) {
    let world = World::new("queue.warn_after = 0");
    let host = world.far_host();
    (world, host)
}

/// Those that are not zero.
fn counted(world: &World) -> Vec<(usize, u64)> {
    let counts = world.intake.counters.since_start();
    counts.into_iter().enumerate().filter(|&(at, count)| count > 0 && at != Count::Octets as usize).collect()
}

fn expected(counts: &[(Count, u64)]) -> Vec<(usize, u64)> {
    counts.iter().map(|&(count, number)| (count as usize, number)).collect()
}

#[test]
fn the_life_of_messages_is_counted() {
    let (world, host) = world();
    host.now_says(|stage, line| match stage {
        Stage::Rcpt if line.contains("no@") => reply("550 5.1.1 no"),
        Stage::Rcpt if line.contains("later@") => reply("450 later"),
        _ => Say::Yes,
    });
    world.accept(ALICE, &["bob@box.example", "yes@far.example", "no@far.example", "later@far.example"]);
    world.pass();
    let lmtp = ListenerPolicy { kind: ListenerKind::Lmtp, ..ListenerPolicy::default() };
    let message = "LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<bob@box.example>\r\nDATA\r\n\r\nx\r\n.\r\nQUIT\r\n";
    world.session_by(lmtp, "127.0.0.1", message);
    // A bounce to alice is a delivery as well.
    let counts = expected(&[
        (Count::BySmtp, 1),
        (Count::ByLmtp, 1),
        (Count::Delivered, 3),
        (Count::Relayed, 1),
        (Count::Deferred, 1),
        (Count::Bounced, 1),
        (Count::Notices, 1),
    ]);
    assert_eq!(counted(&world), counts);
    assert!(world.intake.counters.since_start()[Count::Octets as usize] > 20);
    world.live(6 * DAY);
    let counts = world.intake.counters.since_start();
    assert_eq!((counts[Count::Expired as usize], counts[Count::Notices as usize]), (1, 2));
}

#[test]
fn refusals_are_counted_by_what_they_are_about() {
    let (world, _) = world();
    let from_far = "EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<nobody@box.example>\r\nRCPT TO:<x@far.example>\r\n\
                    RCPT TO:<y@far.example>\r\nFOO\r\nQUIT\r\n";
    world.session_by(ListenerPolicy::default(), "192.0.2.7", from_far);
    let counts = [(Count::RefusedAddress, 1), (Count::RefusedPolicy, 2), (Count::RefusedOther, 1)];
    assert_eq!(counted(&world), expected(&counts));
}

#[test]
fn totals_outlive_a_restart_and_are_written_once_an_hour() {
    let (world, _) = world();
    let written = |world: &World| std::fs::read(world.state().join("statistics")).ok();
    let save = |world: &World, at_stop| world.intake.counters.save(world.intake.clock.now(), at_stop);
    save(&world, true);
    assert_eq!(written(&world), None, "there is nothing to save");
    world.accept(ALICE, &[ALICE]);
    world.clock.advance(HOUR - MINUTE);
    save(&world, false);
    assert_eq!(written(&world), None);
    world.clock.advance(MINUTE);
    save(&world, false);
    let first = written(&world);
    assert!(first.is_some());
    world.clock.advance(5 * HOUR);
    save(&world, false);
    assert_eq!(written(&world), first, "nothing has changed");
    world.accept(ALICE, &[ALICE]);
    save(&world, true);
    assert_ne!(written(&world), first);

    // A crash forgets what came after the last save.
    world.accept(ALICE, &[ALICE]);
    let world = world.restart();
    let accepted = |counts: [u64; COUNTS]| counts[Count::BySmtp as usize];
    let counters = &world.intake.counters;
    assert_eq!((accepted(counters.since_start()), accepted(counters.in_all())), (0, 2));
    world.accept(ALICE, &[ALICE]);
    assert_eq!((accepted(counters.since_start()), accepted(counters.in_all())), (1, 3));
    std::fs::write(world.state().join("statistics"), "damaged").unwrap();
    assert_eq!(accepted(world.restart().intake.counters.in_all()), 0);
}

#[test]
fn the_history_outlives_a_restart_and_is_written_once_an_hour() {
    let (world, _) = world();
    let written = |world: &World| std::fs::read(world.state().join("history")).ok();
    let note = |world: &World, at_stop| world.intake.counters.note_hour(world.intake.clock.now(), 2, at_stop);
    let hours = |world: &World| world.intake.counters.hours(world.intake.clock.now(), 2);
    let numbers =
        |world: &World| hours(world).iter().map(|it| (it.delivered, it.waiting)).collect::<Vec<_>>();
    world.accept(ALICE, &[ALICE]);
    world.clock.advance(HOUR - MINUTE);
    note(&world, false);
    assert_eq!(
        (written(&world), numbers(&world)),
        (None, vec![(1, 2)]),
        "the current hour is shown, and not written"
    );
    world.clock.advance(MINUTE);
    note(&world, false);
    let first = written(&world);
    assert!(first.is_some());
    world.accept(ALICE, &[ALICE]);
    world.accept(ALICE, &[ALICE]);
    note(&world, false);
    assert_eq!(written(&world), first);
    world.clock.advance(HOUR);
    assert_eq!(numbers(&world), [(2, 2), (1, 2)]);
    note(&world, true);
    assert_ne!(written(&world), first);
    world.accept(ALICE, &[ALICE]);
    let world = world.restart();
    assert_eq!(numbers(&world), [(2, 2), (1, 2)], "a crash forgets what came after the last save");
    world.accept(ALICE, &[ALICE]);
    assert_eq!(numbers(&world), [(3, 2), (1, 2)], "the hour before the restart goes on");
    std::fs::write(world.state().join("history"), "damaged").unwrap();
    assert_eq!(numbers(&world.restart()), [(0, 2)]);
}
