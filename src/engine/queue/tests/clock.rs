//! Wall clocks that jump: nothing expires early, and nothing freezes.

use crate::engine::tests::world::*;
use crate::rules::pacing::downtime::Uplink;
use crate::store::state_file::line::CLOCK;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const YEAR: i64 = 31_536_000;

/// A message whose peer defers it, and the number of tries so far.
fn deferred(at: Stage, says: Say) -> (World, Arc<Host>) {
    let world = World::new("queue.warn_after = 0");
    let host = Host::new(move |stage, _| if stage == at { says.clone() } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example"]);
    (world, host)
}

/// The longest time until the next attempt after this number of attempts.
fn longest_step(attempts: usize) -> Duration {
    let steps = [1, 5, 15, 30, 60, 120].map(|minutes| minutes * MINUTE);
    steps.get(attempts.saturating_sub(1)).copied().unwrap_or(4 * HOUR) * 11 / 10
}

fn check_that_it_waits(world: &World, host: &Host) {
    assert_eq!((world.queue().len(), world.mail("alice").len()), (1, 0), "it has expired early");
    let wait = world.pass().expect("it is on the board");
    assert_eq!((world.queue().len(), world.mail("alice").len()), (1, 0), "it has expired early");
    assert!(wait <= longest_step(host.count()), "frozen: {wait:?} after {} attempts", host.count());
}

#[test]
fn jumps_there_and_back_change_nothing_in_one_run() {
    for (at, says) in [(Stage::Rcpt, reply("450 later")), (Stage::Greeting, Say::Close)] {
        for years in [[-1, 1], [1, -1], [-50, 50]] {
            let (world, host) = deferred(at, says.clone());
            world.live(2 * HOUR);
            for year in years {
                let before = host.count();
                world.clock.jump(year * YEAR);
                check_that_it_waits(&world, &host);
                world.live(DAY);
                assert!(host.count() >= before + 5, "{at:?} {years:?}: {} after {before}", host.count());
            }
            world.live(2 * DAY);
            assert_eq!(world.queue().len(), 1, "{years:?}: five days have not passed");
            world.live(DAY + 4 * HOUR);
            assert_eq!((world.queue().len(), world.mail("alice").len()), (0, 1), "{years:?}");
        }
    }
}

#[test]
fn jumps_across_restarts_change_nothing() {
    for years in [[-1, 1], [1, -1]] {
        for reboots in [false, true] {
            for saved in [true, false] {
                let (mut world, host) = deferred(Stage::Rcpt, reply("450 later"));
                world.live(6 * HOUR);
                for year in years {
                    if saved {
                        world.intake.clock.save();
                    } else {
                        let _ = std::fs::remove_file(world.state().join("clock"));
                    }
                    world.clock.jump(year * YEAR);
                    if reboots {
                        world = reboot(world);
                    } else {
                        world = world.restart();
                    }
                    let before = host.count();
                    check_that_it_waits(&world, &host);
                    world.live(DAY);
                    let count = host.count();
                    assert!(count >= before + 5, "{years:?} {reboots} {saved}: {count} after {before}");
                }
                world.live(6 * DAY);
                assert_eq!(
                    (world.queue().len(), world.mail("alice").len()),
                    (0, 1),
                    "{years:?} {reboots} {saved}"
                );
            }
        }
    }
}

/// The system starts again: the boot clock is at zero, and the saved clock is that of another boot.
fn reboot(world: World) -> World {
    world.clock.reboot();
    if let Some(saved) = CLOCK.load(&world.state()) {
        let mut numbers: Vec<&str> = saved.split(' ').collect();
        numbers[3] = "0123456789abcdef0123456789abcdef";
        CLOCK.save(&world.state(), &numbers.join(" ")).unwrap();
    }
    world.restart()
}

/// The hooks of network managers tell the link at every event.
#[test]
fn a_link_that_stays_as_it_is_costs_no_write() {
    let world = World::new("");
    let path = world.state().join("clock");
    for (link, is_saved) in [
        (Uplink::Up, false),
        (Uplink::Down, true),
        (Uplink::Down, false),
        (Uplink::Metered, true),
        (Uplink::Metered, false),
        (Uplink::Up, true),
    ] {
        let _ = std::fs::remove_file(&path);
        world.intake.clock.note_link(link);
        assert_eq!(path.exists(), is_saved, "{link:?}");
    }
}

/// While nothing waits, the running time matters less, and is saved every hour. A message that is delivered at once never
/// waits.
#[test]
fn the_running_time_is_saved_more_often_while_mail_waits() {
    let world = World::new("");
    let waits = || world.manager.index.has_waited(world.intake.clock.now().running);
    assert!(!waits());
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(host));
    world.live(10 * MINUTE);
    world.submit("x@y.example", &["joe@far.example"], "Subject: x\n\nx\n");
    assert!(!waits());
    world.live(2 * MINUTE);
    assert!(waits());
    let path = world.state().join("clock");
    let saves = |minutes: u32| {
        let is_rare = || !waits();
        world.clock.advance(minutes * MINUTE);
        let _ = (world.intake.clock.now(), std::fs::remove_file(&path));
        world.intake.clock.save_if_due(is_rare);
        path.exists()
    };
    assert!(saves(10), "never saved before");
    assert_eq!((saves(9), saves(1)), (false, true));
    assert!(world.manager.index.ids().into_iter().all(|id| world.manager.index.forget_message(id)));
    assert_eq!((saves(10), saves(49), saves(1)), (false, false, true));
}

/// An alert that was written before the clock was set leaves with the right date, also after a restart; a date that the
/// client wrote stays.
#[test]
fn a_date_of_ours_is_right_once_the_clock_is() {
    for (reboots, date) in [(false, None), (true, None), (false, Some("Thu, 01 Jan 1970 00:10:00 +0000"))] {
        let world = World::new("");
        let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        world.clock.jump(-56 * YEAR);
        let field = date.map(|date| format!("Date: {date}\n")).unwrap_or_default();
        assert!(
            world
                .submit("x@y.example", &["joe@far.example"], &format!("{field}Subject: x\n\nx\n"))
                .starts_with("250")
        );
        world.live(10 * MINUTE);
        let _ = world.intake.clock.now();
        world.intake.clock.save();
        let world = if reboots { reboot(world) } else { world };
        world.clock.jump(56 * YEAR);
        host.now_says(|_, _| Say::Yes);
        world.live(HOUR);
        let taken = host.taken.lock().unwrap();
        let [taken] = taken.as_slice() else { panic!("not taken once") };
        let left = String::from_utf8(taken.content.clone()).unwrap();
        // A part of a second is lost between the clocks.
        let ours = ["Mon, 23 Nov 2026 06:53:29 +0000", "Mon, 23 Nov 2026 06:53:30 +0000"];
        let expected = date.map_or(ours.to_vec(), |date| vec![date]);
        assert!(expected.iter().any(|date| left.contains(&format!("\nDate: {date}\r\n"))), "{left}");
        let commands = host.commands.lock().unwrap();
        assert!(commands.iter().any(|line| line.ends_with(&format!("SIZE={}", left.len()))), "{commands:?}");
    }
}

/// A host that slept for longer than the lifetime has not tried: its mail gets three more attempts.
#[test]
fn after_a_jump_nothing_expires_before_three_more_attempts() {
    let (world, host) = deferred(Stage::Rcpt, reply("450 later"));
    world.live(4 * DAY);
    // Five days pass, and the wall clock shows a year.
    world.clock.advance(5 * DAY);
    world.clock.jump(YEAR);
    let before = host.count();
    world.live(5 * DAY);
    assert_eq!(world.queue(), []);
    assert_eq!(host.count() - before, 3);
}

/// The age starts at zero again if it is not known any more. A message still expires, also if only its hop fails.
#[test]
fn without_the_saved_clock_mail_lives_longer_but_not_for_ever() {
    for (at, says) in [(Stage::Rcpt, reply("450 later")), (Stage::Greeting, Say::Close)] {
        let (world, _) = deferred(at, says.clone());
        let world = {
            // The message arrived when the host had run for a year.
            world.clock.advance(365 * DAY);
            world.accept("alice@box.example", &["joe@far.example"]);
            world.live(HOUR);
            std::fs::remove_file(world.state().join("clock")).ok();
            reboot(world)
        };
        world.live(4 * DAY);
        assert_eq!(world.queue().len(), 1, "{at:?}");
        world.live(2 * DAY);
        assert_eq!(world.queue().len(), 0, "{at:?}");
    }
}

/// A schedule that was computed while the clock was years ahead.
#[test]
fn a_schedule_follows_a_clock_that_is_set_back() {
    let world = World::new("queue.schedule = \"0 * * * *\"");
    let host = world.far_host();
    world.clock.jump(4 * YEAR);
    let forwarder = Arc::clone(&world.forwarder);
    let rounds = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&rounds);
    let count = move |_: &_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let thread = std::thread::spawn(move || forwarder.run(&count));
    // A round may have begun before; the next one looks at the clocks, and has ended when a third one begins.
    let look = || {
        let enough = rounds.load(Ordering::SeqCst) + 3;
        while rounds.load(Ordering::SeqCst) < enough {
            // Any change wakes the forwarder.
            world.manager.index.worker_ended(&crate::engine::queue::index::Hop::Local);
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    look();
    world.accept("alice@box.example", &["joe@far.example"]);
    look();
    assert_eq!(host.count(), 0, "it has not fired yet");
    world.clock.jump(-4 * YEAR);
    look();
    world.clock.advance(HOUR);
    for _ in 0..5000 {
        look();
        if world.queue().is_empty() {
            break;
        }
    }
    assert_eq!(host.count(), 1, "the schedule is frozen");
    world.manager.index.stop();
    thread.join().unwrap();
    world.manager.index.wait_for_workers(Duration::from_secs(10));
}
