use super::client::Client;
use super::harness::{Daemon, LATER, Place, SOON, alone, files, measured, wait_until};
use std::path::Path;
use std::time::Duration;

/// The limit of memory that no process shares: the heap, stacks, and relocated pages.
const IDLE_PRIVATE_KIB: u64 = 1024;
/// The limit of resident memory: libc, the loaded part of OpenSSL, and the program, whose pages other programs share or the
/// kernel can reclaim. A box that only sends alerts does without OpenSSL's tables and keys until it connects: with them, three
/// MiB more are resident.
const IDLE_RSS_KIB: u64 = 6 * 1024 + 512;
/// The limit of the release binary. It was 1 MiB without TLS, AUTH and submission, 1.5 MiB without sendmail's input,
/// rewriting, digests, probe and status, 1.75 MiB without mboxes, address lists, repairs of header fields and the
/// judgement of refusals, 1,920,000 without the confinement (22 KB), the agent's workers and the shares of users and
/// clients, 1,950,000 without the answers for a daemon or agent that hangs, the bounds of `corrupt/` and `memchr`, and
/// 1,960,000 without OAuth (140 KB, of which 28 are JSON), `setup --from` and lists of admins (85), the sentences and the page of
/// `status` (62), the advice and the deadline of `probe` (about 80), client certificates (31), logins and `mail` (about 50); and
/// 2,420,000 without signs of life, the last ends over a restart and the journal's levels (28), the help of each command and
/// plainer words (7), shared syncs (3), and the fast ways of octets and checksums (4); and 2,470,000 without the queue in memory
/// (34), one reading of small messages and one failure of a host with several connections (7), and state files in two slots (4).
/// 170 KB are std's printer of backtraces, which stable Rust cannot leave out.
const BINARY_OCTETS: u64 = 2_486_000;
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

/// A box runs for years: what the daemon holds after much mail and many clients that break off is what it held after a
/// little of both.
#[test]
fn memory_does_not_grow_with_time() {
    let _alone = alone();
    let (binary, is_release) = measured();
    // Rounds of 1,000 messages and 500 broken connections; `make faults` runs all of them.
    let is_full = std::env::var_os("PILLARBOX_FAULTS").is_some_and(|size| size == "full");
    let rounds = if is_full { 20 } else { 5 };
    let place = Place::below(Path::new("/dev/shm"));
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("log.level = \"warn\"\n");
    let daemon = place.run(&mut place.command(&binary));
    round(&place);
    let (rss, private) = settled(&daemon);
    for _ in 1..rounds {
        round(&place);
    }
    let (rss_then, private_then) = settled(&daemon);
    println!(
        "after 1,000 messages and 500 broken connections: {rss} KiB resident, {private} private; after {rounds} times \
         as many: {rss_then}, {private_then}"
    );
    daemon.stop();
    if is_release {
        assert!(rss_then * 10 <= rss * 11, "{rss} KiB grew to {rss_then}");
    }
}

/// Resident and private KiB once they have stopped changing.
fn settled(daemon: &Daemon) -> (u64, u64) {
    let mut last = (0, 0);
    wait_until("the daemon's memory settles", SOON, || {
        std::thread::sleep(Duration::from_millis(500));
        let now = (daemon.memory_kib("Rss"), daemon.memory_kib("Anonymous"));
        std::mem::replace(&mut last, now) == now
    });
    last
}

/// Eight clients send 125 messages each: local, relayed, for both, refused at RCPT and after the data, small and large. After
/// every second one a connection breaks off, at another point each time.
fn round(place: &Place) {
    std::thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut client = Client::hello(place.port).unwrap();
                for n in 0..125_usize {
                    let lines = if n % 50 == number { 4_000 } else { 15 };
                    let mut content = "Subject: disk\r\n\r\n".to_owned();
                    content.push_str(&format!("{:62}\r\n", "x").repeat(lines));
                    let to: &[&str] = match n % 4 {
                        0 => &["a@box.test"],
                        1 => &["a@box.test", "b@far.test"],
                        2 => &["c@far.test"],
                        _ => &["c@box.test", "d@box.test"],
                    };
                    if n % 10 == 9 {
                        client.command("MAIL FROM:<s@y.test>").unwrap();
                        assert!(client.command("RCPT TO:<a..@@box.test>").unwrap().starts_with('5'));
                        client.command("RSET").unwrap();
                        content.push_str("a bare\nnewline\r\n");
                    }
                    let expected = if n % 10 == 9 { '5' } else { '2' };
                    let reply = client.send("s@y.test", to, content.as_bytes()).unwrap();
                    assert!(reply.starts_with(expected), "{reply}");
                    if n % 2 == 0 {
                        break_off(place, n / 2);
                    }
                    // Ten errors end a session.
                    if n % 40 == 39 {
                        client = Client::hello(place.port).unwrap();
                    }
                }
            });
        }
    });
    place.wait_for_empty_queue(LATER);
    for folder in ["mail/a/new", "mail/c/new", "mail/d/new", "sink"] {
        for file in files(&place.path(folder)) {
            std::fs::remove_file(file).unwrap();
        }
    }
}

/// A client that closes its connection at one of eight points.
fn break_off(place: &Place, point: usize) {
    let begun: [&[u8]; 8] = [
        b"",
        b"EHLO x\r\n",
        b"EHLO x",
        b"EHLO x\r\nMAIL FROM:<a@y.test>\r\nRCPT TO:<a@box.test>\r\n",
        b"EHLO x\r\nSTARTTLS\r\n",
        b"EHLO x\r\nSTARTTLS\r\n\x16\x03\x01\x02\x00\x01\x00",
        b"EHLO x\r\nMAIL FROM:<a@y.test>\r\nRCPT TO:<a@box.test>\r\nDATA\r\nSubject: half\r\n",
        b"\x00\xff\xff\x00garbage\r\n\r\n",
    ];
    let mut client = Client::connect(place.port).unwrap();
    let octets = begun.get(point % begun.len()).unwrap();
    // Pieces: MAIL in one segment with EHLO would be refused.
    for line in octets.split_inclusive(|&octet| octet == b'\n') {
        let _ = client.write(line);
        if line.starts_with(b"EHLO") && line.ends_with(b"\n") {
            let _ = client.expect("220").and_then(|_| client.reply());
        }
    }
}
