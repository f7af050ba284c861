//! The share of one client: half of the queue, so that others keep room.

use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;

const NETWORKS: &str = "relay.trusted_networks = [\"127.0.0.0/8\", \"::1\", \"192.0.2.0/24\"]\n";

/// Sends a message from an address; returns the reply to DATA or to the data.
fn send(world: &World, client: &str, to: &str, octets: usize) -> String {
    let script = format!(
        "EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{to}>\r\nDATA\r\nSubject: x\r\n\r\n{}\r\n.\r\nQUIT\r\n",
        "x".repeat(octets)
    );
    let said = world.session_by(ListenerPolicy::default(), client, &script);
    let after = said.split_once("\r\n354 ").map_or(&*said, |(_, after)| after);
    let reply = after.lines().find(|line| line.starts_with("452") || line.starts_with("250 2.0.0 Ok:"));
    reply.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_client_has_half_of_the_queue_before_and_after_a_restart() {
    let mut world = World::new(&format!("{NETWORKS}queue.max_messages = 6\n"));
    let half = "452 4.3.1 half of the queue is yours, and the rest is for others";
    for client in ["127.0.0.2", "127.0.0.1", "::1"] {
        assert!(send(&world, client, "joe@far.example", 9).starts_with("250 "));
    }
    for _ in 0..2 {
        for client in ["127.0.0.2", "127.3.3.3", "::1"] {
            assert_eq!(send(&world, client, "joe@far.example", 9), half);
            assert!(send(&world, client, "alice@box.example", 9).starts_with("250 "));
        }
        world = world.restart();
        world.clock.advance(MINUTE);
    }
    for client in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        assert!(send(&world, client, "joe@far.example", 9).starts_with("250 "));
    }
    assert_eq!(send(&world, "192.0.2.1", "joe@far.example", 9), "452 4.3.1 the queue is full");
}

#[test]
fn the_size_counts_too() {
    let world = World::new(&format!("{NETWORKS}queue.max_size = 10000\n"));
    for expected in ["250", "250", "452"] {
        let reply = send(&world, "127.0.0.1", "joe@far.example", 900 * 2);
        assert!(reply.starts_with(expected), "{reply}");
    }
    // What comes in counts, too.
    assert!(send(&world, "192.0.2.1", "joe@far.example", 900 * 6).starts_with("452 "));
    assert!(send(&world, "192.0.2.1", "joe@far.example", 900).starts_with("250 "));
}
