//! Restarts and crashes: after a crash at any point of a settlement, the queue on disk is taken up again, and nothing
//! is lost or reported twice.

use crate::engine::queue::index::Hop;
use crate::engine::tests::world::*;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::store::queue::{Checkout, Durability, JournalEvent, JournalRecord, RecipientState};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A message that was accepted and not tried, with records that a crash left.
fn crashed(world: World, id: QueueId, events: &[(usize, JournalEvent)]) -> World {
    let Ok(Checkout::Ready(entry)) = world.intake.queue.checkout(id) else { panic!("it is there") };
    let at = world.intake.clock.now();
    for (place, event) in events {
        let record = JournalRecord { recipients: vec![*place], at, event: event.clone() };
        world.intake.queue.record(&entry, &[record], Durability::Synced).unwrap();
    }
    drop(entry);
    world.restart()
}

fn failed() -> JournalEvent {
    JournalEvent::Attempted(Outcome::Failed(Diagnostic::local(EnhancedStatus::NO_SUCH_USER, "no such user")))
}

fn delivered() -> JournalEvent {
    JournalEvent::Attempted(Outcome::Delivered(Diagnostic::local(EnhancedStatus::OK, "taken")))
}

fn deferred() -> JournalEvent {
    JournalEvent::Attempted(Outcome::Deferred(Diagnostic::local(EnhancedStatus::NO_ANSWER, "no answer")))
}

fn world() -> (World, Arc<Host>) {
    let world = World::new("queue.warn_after = 0");
    let host = world.far_host();
    (world, host)
}

#[test]
fn a_restart_keeps_due_times_attempts_and_all_mail() {
    let (mut world, host) = world();
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    world.live(10 * MINUTE);
    assert_eq!(world.queued(id).progress[0].attempts, 3);
    for _ in 0..3 {
        world = world.restart();
        let wait = world.pass().unwrap();
        assert_eq!(host.count(), 3, "a restart is no reason to try again");
        assert!(wait <= 15 * MINUTE * 11 / 10, "{wait:?}");
        world.clock.advance(MINUTE);
    }
    // Three minutes and the four before them count, regardless of restarts.
    let wait = world.pass().unwrap();
    assert!(wait <= 11 * MINUTE, "{wait:?}");
    world.live(6 * DAY);
    assert_eq!((world.queue(), world.mail("alice").len()), (vec![], 1));
}

#[test]
fn a_crash_before_the_notice_is_made_good() {
    let (world, host) = world();
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    let world = crashed(world, id, &[(0, failed())]);
    assert_eq!(world.pass(), None);
    assert_eq!((world.queue(), world.mail("alice").len(), host.count()), (vec![], 1, 0));
    assert!(world.mail("alice")[0].contains("no such user"));
}

/// The notice must not wait for days for the next attempt at the other recipient.
#[test]
fn a_crash_before_the_notice_is_made_good_at_once_while_others_wait() {
    let (world, host) = world();
    host.now_says(|_, _| Say::Close);
    let id = world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    let world = crashed(world, id, &[(0, failed()), (1, deferred())]);
    assert!(world.pass().is_some());
    assert_eq!((host.count(), world.mail("alice").len(), world.queue().len()), (0, 1, 1));
    assert!(world.queue()[0].progress[0].notified);
    world.live(6 * DAY);
    assert_eq!((world.mail("alice").len(), world.queue()), (2, vec![]));
}

#[test]
fn a_crash_after_the_notice_repeats_it_at_worst_and_after_its_record_does_not() {
    let (world, host) = world();
    host.now_says(|stage, line| if line.contains("jim") { reply("450 later") } else { yes(stage) });
    let id = world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    let mut world = crashed(world, id, &[(0, failed()), (0, JournalEvent::Notified)]);
    for _ in 0..3 {
        world.live(HOUR);
        world = world.restart();
    }
    assert_eq!(world.mail("alice").len(), 0);
    assert_eq!(world.queue()[0].progress[1].state, RecipientState::Pending);
}

fn yes(_: Stage) -> Say {
    Say::Yes
}

#[test]
fn a_crash_before_the_removal_removes_and_sends_nothing() {
    for events in [vec![(0, delivered())], vec![(0, failed()), (0, JournalEvent::Notified)]] {
        let (world, host) = world();
        let id = world.accept("alice@box.example", &["joe@far.example"]);
        let world = crashed(world, id, &events);
        assert_eq!(world.pass(), None);
        assert_eq!((world.queue(), host.count(), world.mail("alice").len()), (vec![], 0, 0));
        assert_eq!(world.manager.index.size(), (0, 0));
    }
}

#[test]
fn a_crash_with_one_recipient_delivered_sends_to_the_others_only() {
    let (world, host) = world();
    let id = world.accept("alice@box.example", &["joe@far.example", "jim@far.example"]);
    let world = crashed(world, id, &[(0, delivered())]);
    world.pass();
    assert_eq!((host.recipients(), world.queue()), (vec!["jim@far.example".to_owned()], vec![]));
}

/// If the file cannot be unlinked, the journal has to say that the message is delivered.
#[test]
fn a_queue_file_that_cannot_be_removed_is_not_sent_twice() {
    let (world, host) = world();
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    let (file, aside) = (world.state().join("queue").join(id.to_string()), world.state().join("aside"));
    let (from, to) = (file.clone(), aside.clone());
    host.now_says(move |stage, _| {
        if stage == Stage::Dot {
            // A directory in the place of the file cannot be unlinked.
            std::fs::rename(&from, &to).unwrap();
            std::fs::create_dir(&from).unwrap();
        }
        Say::Yes
    });
    take_log();
    let wait = world.pass();
    assert_eq!(host.taken.lock().unwrap().len(), 1);
    assert_eq!(take_events("trouble").len(), 1);
    assert_eq!(wait, Some(MINUTE), "the removal is tried again");
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&aside, &file).unwrap();
    assert_eq!(world.queued(id).progress[0].state, RecipientState::Delivered);
    let world = world.restart();
    world.live(HOUR);
    assert_eq!((world.queue(), host.taken.lock().unwrap().len()), (vec![], 1));
}

#[test]
fn a_damaged_file_is_set_aside_and_stops_nothing() {
    let (world, host) = world();
    let bad = world.accept("alice@box.example", &["joe@far.example"]);
    let good = world.accept("alice@box.example", &["jim@far.example"]);
    let path = world.state().join("queue").join(bad.to_string());
    let mut octets = std::fs::read(&path).unwrap();
    let last = octets.len() - 3;
    octets[last] ^= 1;
    std::fs::write(&path, octets).unwrap();
    take_log();
    world.pass();
    assert_eq!(
        take_events("corrupt"),
        [format!("event=corrupt id={bad} file=corrupt/{bad} reason=\"its message is damaged\"")]
    );
    assert_eq!((host.recipients(), world.queue()), (vec!["jim@far.example".to_owned()], vec![]), "{good}");
    assert!(world.state().join("corrupt").join(bad.to_string()).is_file());
    assert_eq!(world.manager.index.size(), (0, 0));
}

/// Each reload reads the whole queue: no message may wait twice, and the figures stay right.
#[test]
fn reloads_put_nothing_on_the_board_twice() {
    let (world, host) = world();
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    for _ in 0..3 {
        world.accept("alice@box.example", &["joe@far.example"]);
    }
    let size = world.manager.index.size();
    // One of the reloads comes while a worker has taken a message.
    let (site, manager) = (Arc::clone(&world.site), Arc::clone(&world.manager));
    host.now_says(move |stage, _| match stage {
        Stage::Data => {
            drop(site.lock());
            manager.reload();
            reply("450 later")
        }
        _ => Say::Yes,
    });
    world.pass();
    assert_eq!(world.manager.index.waiting(), 3);
    world.reload("");
    assert_eq!(world.manager.index.waiting(), 3);
    assert_eq!(world.manager.index.size(), size);
    host.now_says(|_, _| Say::Yes);
    world.manager.index.flush(world.manager.clock.now().running);
    let before = host.connections.load(Ordering::SeqCst);
    world.pass();
    assert_eq!((host.taken.lock().unwrap().len(), host.count() - before), (3, 1));
    assert_eq!((world.manager.index.size(), world.manager.index.waiting()), ((0, 0), 0));
    assert_eq!(world.manager.index.take(&Hop::Local, DAY), None);
}

/// A reload changes the route of a message while it is being sent by the old one.
#[test]
fn what_is_deferred_after_a_reload_waits_for_the_new_route() {
    let (world, host) = world();
    let new = Host::friendly();
    world.net.peer("192.0.2.2", Peer::Host(Arc::clone(&new)));
    let id = world.accept("alice@box.example", &["joe@far.example"]);
    let other = World::new("relay.smarthost = \"smtp://192.0.2.2\"");
    let changed = Arc::clone(&*other.site.lock());
    let (site, manager) = (Arc::clone(&world.site), Arc::clone(&world.manager));
    let forwarder = Arc::clone(&world.forwarder);
    host.now_says(move |stage, _| match stage {
        Stage::Data => {
            *site.lock() = Arc::clone(&changed);
            manager.reload();
            // Another worker would take the message now.
            let smarthosts = changed.settings.relay.smarthosts();
            forwarder.work(&Hop::Relay(crate::mail::next_hop::NextHop::Smarthosts(smarthosts)));
            reply("450 later")
        }
        _ => Say::Yes,
    });
    world.pass();
    assert_eq!((host.count(), new.taken.lock().unwrap().len()), (1, 0), "nobody else has it meanwhile");
    assert_eq!(world.queued(id).progress[0].attempts, 1);
    world.live(2 * MINUTE);
    assert_eq!((new.taken.lock().unwrap().len(), world.queue()), (1, vec![]));
}

#[test]
fn damaged_records_are_told_of_where_there_are_some() {
    let (world, _) = world();
    let ids = ["joe", "jim"].map(|name| world.accept("", &[&format!("{name}@far.example")]));
    let file = world.state().join("queue").join(ids[0].to_string());
    let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    std::io::Write::write_all(&mut file, b"no record\n").unwrap();
    take_log();
    let _world = world.restart();
    let told = take_events("damaged_records");
    assert!(told.len() == 1 && told[0].ends_with(&format!("id={} count=1", ids[0])), "{told:?}");
}
