//! Several threads with one queue, as in the daemon.

use crate::engine::queue::index::Next;
use crate::engine::tests::world::*;
use crate::net::transport::Stopwatch;
use crate::store::queue::{Checkout, EntrySummary};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The forwarder with its own thread and workers, until the value is dropped.
struct Running<'a>(&'a World, Option<std::thread::JoinHandle<()>>);

impl<'a> Running<'a> {
    fn start(world: &'a World) -> Self {
        let forwarder = Arc::clone(&world.forwarder);
        Self(world, Some(std::thread::spawn(move || forwarder.run(&|_, _| ()))))
    }

    /// Waits for something to come true.
    fn until(&self, mut is_true: impl FnMut(&World) -> bool) {
        for _ in 0..10_000 {
            if is_true(self.0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it never came true: {:?}", self.0.manager.index);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.manager.index.stop();
        let _ = self.1.take().map(std::thread::JoinHandle::join);
        self.0.manager.index.wait_for_workers(Duration::from_secs(10));
    }
}

/// Reloads read the queue while workers send its messages and new ones come in.
#[test]
fn nothing_is_sent_twice_or_forgotten_while_the_configuration_is_read_again() {
    let world = World::new("relay.connections_per_domain = 4");
    let host = Host::new(|stage, _| {
        if stage == Stage::Dot {
            std::thread::sleep(Duration::from_micros(300));
        }
        Say::Yes
    });
    world.net.domain("a.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.net.domain("b.example", "192.0.2.2", Peer::Host(Arc::clone(&host)));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let running = Running::start(&world);
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                world.reload("relay.connections_per_domain = 4");
            }
        });
        for i in 0..150 {
            let to = [format!("u{i}@a.example"), format!("u{i}@b.example")];
            world.accept("alice@box.example", &[&to[0], &to[1]]);
        }
        running.until(|world| {
            // A worker that meets a message that is just being closed tries it again in a minute.
            world.clock.advance(Duration::from_secs(1));
            world.queue().is_empty()
        });
        is_over.store(true, Ordering::SeqCst);
    });
    let mut counts: HashMap<String, usize> = HashMap::new();
    for recipient in host.recipients() {
        *counts.entry(recipient).or_default() += 1;
    }
    assert_eq!(counts.len(), 300);
    let twice: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

/// Mail that comes in while the queue is being read at start is seen by both.
#[test]
fn nothing_is_sent_twice_at_start() {
    let world = World::new("relay.connections_per_domain = 4");
    let host = Host::friendly();
    world.net.domain("a.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@a.example"]);
    world.manager.load();
    world.manager.load();
    assert_eq!(world.manager.index.waiting(), 1);
    world.pass();
    assert_eq!((host.count(), host.taken.lock().unwrap().len()), (1, 1));
}

#[test]
fn a_worker_that_panics_gives_back_its_message_and_its_place() {
    let world = World::new("");
    let host = Host::new(|stage, _| {
        assert!(stage != Stage::Rcpt, "forced by the test");
        Say::Yes
    });
    world.net.domain("a.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    let good = Host::friendly();
    world.net.domain("b.example", "192.0.2.2", Peer::Host(Arc::clone(&good)));
    let running = Running::start(&world);
    world.accept("alice@box.example", &["joe@a.example", "jim@b.example"]);
    running.until(|_| host.count() == 1 && good.taken.lock().unwrap().len() == 1);
    running.until(|world| world.manager.index.waiting() == 1 && world.manager.index.workers() == 0);
    host.now_says(|_, _| Say::Yes);
    drop(running);
    assert_eq!(host.count(), 1);
    let world = world.restart();
    world.pass();
    assert_eq!((host.taken.lock().unwrap().len(), world.queue()), (1, vec![]));
}

/// As above, without the restart: the message is in the index, and its route pauses for a minute and no longer.
#[test]
fn after_a_panic_the_route_is_tried_again_in_a_minute() {
    let world = World::new("");
    let host = Host::new(|_, _| panic!("forced by the test"));
    world.net.domain("a.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    {
        let running = Running::start(&world);
        world.accept("alice@box.example", &["joe@a.example"]);
        running.until(|_| host.count() == 1);
        running.until(|world| world.manager.index.waiting() == 1 && world.manager.index.workers() == 0);
        let now = world.manager.clock.now().running;
        let caps = crate::engine::queue::index::WorkerCaps { total: 1, per_hop: 1 };
        assert_eq!(world.manager.index.next(now, caps), Next::Wait(Some(now + MINUTE)));
        host.now_says(|_, _| Say::Yes);
        world.clock.advance(MINUTE);
        running.until(|world| {
            // Wakes the forwarder, again and again: it may have read the clock before, and not wait yet.
            world.manager.index.worker_ended(&crate::engine::queue::index::Hop::Local);
            world.queue().is_empty()
        });
    }
    assert_eq!(host.taken.lock().unwrap().len(), 1);
}

/// Otherwise it could take the connections that are reserved for hosts that answer.
#[test]
fn a_host_that_hangs_after_the_final_dot_has_not_answered_however_often_it_does_so() {
    let world = World::new("");
    let host = Host::new(|stage, _| if stage == Stage::Dot { Say::Nothing } else { Say::Yes });
    world.net.domain("a.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@a.example"]);
    // After the second failure with the same message, the message waits and the hop goes on.
    while let Some(wait) = world.pass().filter(|_| host.count() < 2) {
        world.clock.advance(wait);
    }
    assert_eq!(host.count(), 2);
    for _ in 0..2 {
        world.accept("alice@box.example", &["jim@a.example"]);
    }
    let caps = crate::engine::queue::index::WorkerCaps { total: 8, per_hop: 2 };
    let next = || world.manager.index.next(world.manager.clock.now().running, caps);
    assert!(matches!(next(), Next::Work(_)));
    assert!(matches!(next(), Next::Wait(_)), "one connection finds out whether it answers");
}

/// On real sockets: hosts that accept and say nothing share half of the connections, and keep no new destination
/// waiting.
#[test]
fn hosts_that_say_nothing_keep_no_new_destination_waiting() {
    let world = World::new("relay.connections = 8\nqueue.warn_after = 0");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for n in 0..14 {
        let domain = format!("silent{n}.example");
        world.net.domain(
            &domain,
            &format!("192.0.2.{}", 100 + n),
            Peer::Socket(silent.local_addr().unwrap()),
        );
        world.accept("alice@box.example", &[&format!("joe@{domain}")]);
    }
    let good = Host::friendly();
    world.net.domain("good.example", "192.0.2.1", Peer::Host(Arc::clone(&good)));
    let forwarder = Arc::clone(&world.forwarder);
    let running = std::thread::spawn(move || forwarder.run(&|_, _| ()));
    while world.manager.index.workers() < 4 {
        std::thread::yield_now();
    }
    let now = world.manager.clock.now().running;
    let waits = |summary: &EntrySummary| {
        let hops = world.manager.index.hops_of(summary.id);
        hops.iter().find_map(|hop| world.manager.index.wait_reason(hop, summary.id, now))
    };
    // Which hop lacks a place is known when the forwarder has looked again.
    let stopwatch = Stopwatch::start();
    let mut reasons = Vec::new();
    while reasons.len() < 9 && stopwatch.elapsed() < Duration::from_secs(10) {
        reasons = world.queue().iter().filter_map(waits).collect();
    }
    assert!(reasons.len() >= 9, "{reasons:?}");
    assert!(reasons.iter().all(|it| it.text == "waits for a free connection (relay.connections)"));
    let stopwatch = Stopwatch::start();
    world.accept("alice@box.example", &["joe@good.example"]);
    while good.recipients().is_empty() && stopwatch.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(stopwatch.elapsed() < Duration::from_secs(10), "{:?}", stopwatch.elapsed());
    assert!(world.manager.index.workers() <= 8);
    // A stop does not wait for them, either.
    world.manager.index.stop();
    world.manager.index.wait_for_workers(Duration::from_secs(10));
    assert_eq!(world.manager.index.workers(), 0);
    running.join().unwrap();
    assert_eq!(world.queue().len(), 14);
}

#[test]
fn a_message_that_is_being_settled_holds_up_no_other() {
    let world = World::new("");
    for domain in ["a.example", "b.example"] {
        world.net.domain(domain, "192.0.2.1", Peer::Host(Host::friendly()));
    }
    let id = world.accept("alice@box.example", &["joe@a.example"]);
    world.accept("alice@box.example", &["joe@b.example"]);
    let Ok(Checkout::Ready(entry)) = world.manager.queue.checkout(id) else { panic!("it is there") };
    let settling = entry.settle();
    let running = Running::start(&world);
    running.until(|world| world.queue().len() == 1);
    assert_eq!(world.queue()[0].id, id);
    drop(settling);
    running.until(|world| world.queue().is_empty());
}

#[test]
fn two_workers_at_one_message_report_each_failure_once() {
    let world = World::new("relay.connections_per_domain = 4");
    for domain in ["a.example", "b.example"] {
        let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no") } else { Say::Yes });
        world.net.domain(domain, "192.0.2.1", Peer::Host(host));
    }
    for _ in 0..20 {
        world.accept("alice@box.example", &["joe@a.example", "joe@b.example"]);
    }
    let running = Running::start(&world);
    running.until(|world| world.queue().is_empty());
    let notices = world.mail("alice").concat();
    assert_eq!(notices.matches("\nFinal-Recipient: ").count(), 40, "{notices}");
}
