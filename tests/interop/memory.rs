use super::client::Client;
use super::harness::{Place, alone, measured};
use std::time::Duration;

/// The limit of memory that no process shares: the heap, stacks, and relocated pages.
const IDLE_PRIVATE_KIB: u64 = 2 * 1024;
/// The limit of resident memory. Five MiB of it are OpenSSL and libc, whose pages other programs share, and more than one
/// is the program itself, whose pages the kernel can reclaim at any time.
const IDLE_RSS_KIB: u64 = 9 * 1024;
/// The limit of the release binary. It was 1 MiB without TLS, AUTH and submission, 1.5 MiB without sendmail's input,
/// rewriting, digests, probe and status, and 1.75 MiB without mboxes, address lists, repairs of header fields and the
/// judgement of refusals. 170 KB are std's printer of backtraces, which stable Rust cannot leave out.
const BINARY_OCTETS: u64 = 1_920_000;
const CONNECTION_KIB: u64 = 20;
const CONNECTIONS: u64 = 200;

#[test]
fn an_idle_daemon_and_its_idle_connections_are_small() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let size = binary.metadata().unwrap().len();
    println!("binary: {size} octets");
    let place = Place::new();
    place.configure("limits.connections = 300\n");
    // The very first start makes keys, and the code for that stays resident for a while.
    let first = place.run(&mut place.command(&binary));
    place.wait_for_rsa_key();
    first.stop();
    let daemon = place.run(&mut place.command(&binary));
    std::thread::sleep(Duration::from_millis(500));
    let (private, rss) = (daemon.memory_kib("Anonymous"), daemon.memory_kib("Rss"));
    println!("idle daemon: {private} KiB private, {rss} KiB resident");
    let clients: Vec<Client> = (0..CONNECTIONS).map(|_| Client::hello(place.port).unwrap()).collect();
    let of_connection = daemon.memory_kib("Anonymous").saturating_sub(private) as f64 / CONNECTIONS as f64;
    println!("idle connection: {of_connection:.1} KiB");
    drop(clients);
    if is_release {
        assert!(private <= IDLE_PRIVATE_KIB, "{private} KiB private");
        assert!(rss <= IDLE_RSS_KIB, "{rss} KiB resident");
        assert!(of_connection <= CONNECTION_KIB as f64, "{of_connection} KiB an idle connection");
        assert!(size <= BINARY_OCTETS, "the binary has {size} octets");
    }
}

#[test]
fn memory_does_not_grow_with_the_message() {
    let place = Place::new();
    place.configure("limits.message_size = \"200MiB\"\n");
    let daemon = place.serve();
    let mut client = Client::hello(place.port).unwrap();
    client.send("s@y.test", &["u@box.test"], b"Subject: x\r\n\r\n").unwrap();
    let before = daemon.memory_kib("Anonymous");
    client
        .write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nRCPT TO:<a@far.test>\r\nDATA\r\n")
        .unwrap();
    for reply in ["250", "250", "250", "354"] {
        client.expect(reply).unwrap();
    }
    let block = format!("{:998}\r\n", "x").repeat(1000);
    let mut most = before;
    for _ in 0..100 {
        client.write(block.as_bytes()).unwrap();
        most = most.max(daemon.memory_kib("Anonymous"));
    }
    client.write(b".\r\n").unwrap();
    client.expect("250").unwrap();
    most = most.max(daemon.memory_kib("Anonymous"));
    println!("100 MB cost {} KiB", most - before);
    assert!(most - before < 1024, "100 MB cost {} KiB", most - before);
}
