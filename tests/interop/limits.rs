use super::bad_input::{beginning, good_client_is_served, served, stranger};
use super::client::Client;
use super::harness::{Daemon, Place, SOON, alone, files, free_port, measured, wait_until};
use openssl::ssl::{SslConnector, SslMethod, SslStream, SslVerifyMode};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The threads: main, a listener, the forwarder, and those of the control socket and the drop directory.
const OWN_THREADS: usize = 5;
const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
const TOO_MANY: &str = "421 4.3.2 box.test has too many connections";
/// Memory of an idle connection within TLS, in KiB.
const TLS_CONNECTION_KIB: f64 = 100.0;
const TLS_CONNECTIONS: usize = 100;

/// Raises the limit of open files of this process for these tests.
fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum.map_or(Some(4096), |maximum| Some(maximum.min(4096)));
    if limit.current > getrlimit(Resource::Nofile).current {
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

/// A daemon with a limit set by the shell: `-n 64`, `-v 65536`.
fn served_with(limit: &str, more: &str) -> (Place, Daemon) {
    let place = Place::new();
    place.configure(more);
    let daemon = place.command(Path::new(env!("CARGO_BIN_EXE_pillarbox")));
    let log = fs::File::options().create(true).append(true).open(place.path("log")).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {limit}; exec \"$@\""), "sh"]).arg(daemon.get_program());
    let daemon = place.run(command.args(daemon.get_args()).stderr(log));
    (place, daemon)
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Opens connections from loopback; each gets a place, or 421.
fn flood(port: u16, count: usize) -> (Vec<TcpStream>, usize) {
    let mut streams: Vec<TcpStream> = (0..count).map(|_| connect(port)).collect();
    let greetings: Vec<String> = streams.iter().map(beginning).collect();
    for greeting in &greetings {
        assert!(greeting.starts_with("220 ") || greeting.starts_with("421 4.3.2 "), "{greeting:?}");
    }
    let mut greetings = greetings.iter();
    streams.retain(|_| greetings.next().is_some_and(|greeting| greeting.starts_with("220 ")));
    let placed = streams.len();
    assert!(placed < count, "all {count} got a place");
    (streams, placed)
}

fn threads(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap().count()
}

#[test]
fn a_connection_too_many_gets_421_and_costs_no_thread() {
    let (place, mut daemon) = served("limits.connections = 8\nrelay.trusted_networks = [\"127.0.0.1\"]\n");
    // The thread of the last honest client may still run.
    let greeting = |last: u8| {
        let stream = stranger(place.port, last);
        (beginning(&stream), stream)
    };
    let mut streams = Vec::new();
    wait_until("six strangers have a place", SOON, || {
        let (greeting, stream) = greeting(1 + streams.len() as u8);
        if greeting.starts_with("220 ") {
            streams.push(stream);
        }
        streams.len() == 6
    });
    let before = threads(&daemon);
    for last in 0..200 {
        assert!(greeting(last).0.starts_with(TOO_MANY));
    }
    assert_eq!(threads(&daemon), before);
    good_client_is_served(&place, &mut daemon);
    drop(streams.pop());
    wait_until("there is a place again", SOON, || greeting(9).0.starts_with("220 "));
}

#[test]
fn a_good_client_is_served_beside_500_that_are_idle_and_50_that_are_slow() {
    let _alone = alone();
    allow_descriptors();
    let (place, mut daemon) = served("limits.connections = 1000\n");
    let idle: Vec<Client> = (0..500).map(|_| Client::hello(place.port).unwrap()).collect();
    let mut slow: Vec<Client> = (0..50).map(|_| Client::hello(place.port).unwrap()).collect();
    let half = slow.len() / 2;
    for client in &mut slow[..half] {
        client.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<slow@box.test>\r\nDATA\r\n").unwrap();
        for reply in ["250", "250", "354"] {
            client.expect(reply).unwrap();
        }
    }
    // An octet a second each: half of them within a command, half of them within data.
    for second in b"NOOP" {
        let begun = Instant::now();
        slow.iter_mut().for_each(|client| client.write(&[*second]).unwrap());
        while begun.elapsed() < Duration::from_secs(1) {
            good_client_is_served(&place, &mut daemon);
        }
    }
    // All of them are still connected, and are served in turn.
    for (number, client) in slow.iter_mut().enumerate() {
        let (end, reply) = if number < half { ("\r\n.\r\n", "250 2.0.0 Ok") } else { ("\r\n", "250 2.0.0") };
        client.write(end.as_bytes()).unwrap();
        client.expect(reply).unwrap();
    }
    assert_eq!(place.mail("slow").len(), half);
    for mut client in idle {
        assert!(client.command("NOOP").unwrap().starts_with("250"));
    }
}

/// Strangers may take three quarters of the places, and lose them soon when places run short.
#[test]
fn a_crowd_of_strangers_leaves_a_reserve_and_is_hurried() {
    let _alone = alone();
    let (place, mut daemon) = served("relay.trusted_networks = [\"127.0.0.1\"]\n");
    wait_until("the first client has left its place", SOON, || threads(&daemon) == OWN_THREADS);
    let mut of_one: Vec<TcpStream> = (0..40).map(|_| stranger(place.port, 1)).collect();
    of_one.retain(|stream| beginning(stream).starts_with("220 "));
    assert_eq!(of_one.len(), 16, "places of one address");
    // Few clients: the configured time-outs apply.
    good_client_is_served(&place, &mut daemon);
    let begun = Instant::now();
    let mut of_many: Vec<TcpStream> = (0..60).map(|last| stranger(place.port, 2 + last)).collect();
    of_many.retain(|stream| beginning(stream).starts_with("220 "));
    assert_eq!(of_many.len(), 32, "places of others");
    assert!(beginning(&stranger(place.port, 99)).starts_with(TOO_MANY));
    // Some send commands, so that no wait is long.
    let mut is_over = false;
    while !is_over {
        assert!(begun.elapsed() < SOON, "the crowd stays:\n{}", place.log());
        of_many.iter().take(8).for_each(|mut stream| drop(stream.write_all(b"NOOP\r\n")));
        good_client_is_served(&place, &mut daemon);
        std::thread::sleep(Duration::from_millis(200));
        is_over = beginning(&stranger(place.port, 99)).starts_with("220 ");
    }
    let lasted = begun.elapsed();
    assert!(lasted > Duration::from_secs(5), "the crowd was gone after {lasted:?}");
    place.wait_for_log(&["event=closed", "timed out waiting for a command"]);
}

/// Each local program may connect from all of 127.0.0.0/8. What is idle keeps nobody out for long, trusted or not.
#[test]
fn idle_loopback_clients_keep_none_out_and_end_when_places_run_short() {
    let _alone = alone();
    let (place, mut daemon) = served("");
    let begun = Instant::now();
    let mut idle: Vec<TcpStream> = (0..64).map(|number| stranger(place.port, 2 + number % 2)).collect();
    idle.retain(|stream| beginning(stream).starts_with("220 "));
    assert_eq!(idle.len(), 48, "places of all loopback addresses");
    let mut client = Client::hello(place.port).unwrap();
    assert!(client.send("s@y.test", &["good@box.test"], MESSAGE).unwrap().starts_with("250"));
    // One of them is in a transaction, and stays.
    let mut working = idle.pop().unwrap();
    for command in ["HELO c\r\n", "MAIL FROM:<s@y.test>\r\n"] {
        working.write_all(command.as_bytes()).unwrap();
        assert!(beginning(&working).starts_with("250 "));
    }
    wait_until("there is a place again", SOON, || beginning(&stranger(place.port, 2)).starts_with("220 "));
    assert!(begun.elapsed() > Duration::from_secs(5), "they were gone after {:?}", begun.elapsed());
    place.wait_for_log(&["event=closed", "client=127.9.9.", "timed out waiting for a command"]);
    working.write_all(b"RCPT TO:<u@box.test>\r\n").unwrap();
    assert!(beginning(&working).starts_with("250 2.1.5 "), "the transaction goes on");
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn without_descriptors_clients_are_told_421_and_served_again_later() {
    let _alone = alone();
    allow_descriptors();
    let (place, mut daemon) = served_with("-n 64", "limits.connections = 1000\nqueue.retry = \"1s\"\n");
    place.wait_for_log(&[
        "event=notice",
        "the limit of open files (ulimit -n) allows 16 connections, not the 1000",
    ]);
    let (streams, placed) = flood(place.port, 300);
    assert_eq!(placed, 12, "one address gets three quarters");
    drop(streams);
    wait_until("there is a place again", SOON, || beginning(&connect(place.port)).starts_with("220 "));
    good_client_is_served(&place, &mut daemon);
    // Messages for many Maildirs, whose files are all open at once: some get 451 or go to the queue, but no message is lost.
    let port = place.port;
    std::thread::scope(|scope| (0..12).for_each(|_| drop(scope.spawn(|| send_to_ten(port)))));
    // Queue files that could not be opened are tried again after a minute, or on a flush.
    daemon.signal("USR1");
    place.wait_for_empty_queue(SOON);
    for number in 0..10 {
        assert!(place.mail(&format!("u{number}")).len() >= 12, "mail of u{number} is lost:\n{}", place.log());
    }
    good_client_is_served(&place, &mut daemon);
}

/// Sends a message to ten users, again after each temporary refusal, until it is accepted.
fn send_to_ten(port: u16) {
    let to: Vec<String> = (0..10).map(|number| format!("u{number}@box.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let mut client = None;
    // The thread of a closed connection may hold its place a little longer.
    wait_until("there is a place", SOON, || {
        client = Client::hello(port).ok();
        client.is_some()
    });
    wait_until("the message is taken", SOON, || {
        let reply = client.as_mut().unwrap().send("s@y.test", &to, MESSAGE).unwrap();
        assert!(reply.starts_with("250 2.0.0") || reply.starts_with("451 4.3.0"), "{reply}");
        reply.starts_with("250")
    });
}

/// The accepted connections use up the limit, and no client may wait in the backlog until they end.
#[test]
fn a_connection_without_a_descriptor_is_told_so_at_once() {
    let (place, mut daemon) = served("");
    let open = || -> Vec<u64> {
        let open = files(Path::new(&format!("/proc/{}/fd", daemon.pid())));
        let numbers = open.iter().map(|file| file.file_name().unwrap().to_str().unwrap().parse().unwrap());
        numbers.filter(|number| *number < 100).collect()
    };
    wait_until("only the daemon's own files are open", SOON, || threads(&daemon) == OWN_THREADS);
    let set = |current: u64| {
        let pid = rustix::process::Pid::from_raw(daemon.pid().try_into().unwrap());
        let before = getrlimit(Resource::Nofile);
        let new = rustix::process::Rlimit { current: Some(current), ..before };
        rustix::process::prlimit(pid, Resource::Nofile, new).unwrap();
    };
    // What the start reads is open for moments only.
    let mut open_before = Vec::new();
    wait_until("nothing more is opened", SOON, || {
        std::thread::sleep(Duration::from_millis(300));
        let now = open();
        std::mem::replace(&mut open_before, now.clone()) == now
    });
    let open = open_before;
    // The limit is one of numbers. It is above all that is open: the descriptor that the listener keeps to spare may have a
    // high one, since it was opened while the start had other files open, and below the limit it would be of no use.
    let limit = open.iter().max().unwrap() + 4;
    let free = (0..limit).filter(|number| !open.contains(number)).count();
    set(limit);
    for _ in 0..3 {
        let (streams, placed) = flood(place.port, free + 17);
        // A file that was briefly open during the count leaves one more place.
        assert!((1..=free + 1).contains(&placed), "{placed} places, {free} free");
        drop(streams);
        wait_until("their threads are gone", SOON, || threads(&daemon) == OWN_THREADS);
    }
    assert!(place.logged(&["event=closed", "has too many open files"]).len() >= 3 * 16);
    set(1024);
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn without_memory_clients_are_told_421_and_served_again_later() {
    let _alone = alone();
    allow_descriptors();
    let port = free_port();
    let (place, mut daemon) =
        served_with("-v 65536", &format!("limits.connections = 1000\n{}", with_tls(port)));
    let reported = place.wait_for_log(&["event=notice", "the limit of memory (ulimit -v) allows"]);
    let (streams, placed) = flood(place.port, 500);
    assert!(placed >= 24, "{placed} places: {reported}");
    drop(streams);
    wait_until("there is a place again", SOON, || beginning(&connect(place.port)).starts_with("220 "));
    // As many connections as are accepted, each with everything that it can request: TLS, recipients, data.
    let mut greedy: Vec<Greedy> = (0..placed).map(|_| Greedy::connect(port)).collect();
    let (streams, _) = flood(place.port, 100);
    drop(streams);
    let mapped = mapped_kib(&daemon);
    println!("64 MiB of address space: {placed} greedy connections map {mapped} KiB");
    greedy.iter_mut().for_each(Greedy::finish);
    drop(greedy);
    wait_until("there is a place again", SOON, || beginning(&connect(place.port)).starts_with("220 "));
    good_client_is_served(&place, &mut daemon);
    daemon.stop();
}

fn mapped_kib(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmPeak:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A client within TLS that makes the server hold as much memory as possible, just before the end of its data.
struct Greedy(SslStream<TcpStream>);

impl Greedy {
    fn connect(port: u16) -> Self {
        let mut greedy = Self(within_tls(port));
        greedy.command("EHLO client.test", "250");
        greedy.command(&format!("MAIL FROM:<s@y.test> ENVID={}", "e".repeat(100)), "250");
        for number in 0..100 {
            let (local, orcpt) = (format!("{number:x<64}"), "o".repeat(400));
            let domain = format!("{}.{}.test", "d".repeat(60), "d".repeat(60));
            greedy.command(&format!("RCPT TO:<{local}@{domain}> ORCPT=rfc822;{orcpt}@y.test"), "250");
        }
        greedy.command("DATA", "354");
        let line = format!("{:62}\r\n", "x");
        greedy.0.write_all(line.repeat(1023).as_bytes()).unwrap();
        greedy
    }

    /// Sends a line and reads its reply, whose code must be this.
    fn command(&mut self, line: &str, code: &str) {
        self.0.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        let mut reply = Vec::new();
        let is_complete = |reply: &[u8]| {
            let last =
                reply.strip_suffix(b"\r\n").and_then(|reply| reply.rsplit(|&octet| octet == b'\n').next());
            last.is_some_and(|last| last.get(3) == Some(&b' '))
        };
        while !is_complete(&reply) {
            let mut octets = [0; 1024];
            let length = self.0.read(&mut octets).unwrap();
            assert!(length > 0, "{line}: the connection is closed");
            reply.extend_from_slice(&octets[..length]);
        }
        assert!(reply.starts_with(code.as_bytes()), "{line}: {}", String::from_utf8_lossy(&reply));
    }

    fn finish(&mut self) {
        self.command(".", "250 2.0.0 Ok: ");
    }
}

/// A listener that has TLS for clients on loopback as well, by the self-signed certificate.
fn with_tls(port: u16) -> String {
    format!("[[listener]]\naddress = \"127.0.0.1:{port}\"\ntls = \"require\"\n")
}

/// A connection after STARTTLS and its handshake.
fn within_tls(port: u16) -> SslStream<TcpStream> {
    let mut client = Client::hello(port).unwrap();
    assert!(client.command("STARTTLS").unwrap().starts_with("220"));
    let stream = client.stream().try_clone().unwrap();
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    let configuration = connector.build().configure().unwrap().verify_hostname(false);
    configuration.connect("box.test", stream).unwrap()
}

#[test]
fn an_idle_connection_within_tls_is_small() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let place = Place::new();
    let port = free_port();
    place.configure(&format!("limits.connections = 300\n{}", with_tls(port)));
    let daemon = place.run(&mut place.command(&binary));
    place.wait_for_rsa_key();
    drop(within_tls(port));
    std::thread::sleep(Duration::from_millis(200));
    let before = daemon.memory_kib("Private_");
    let clients: Vec<Greedy> = (0..TLS_CONNECTIONS)
        .map(|_| {
            let mut client = Greedy(within_tls(port));
            client.command("EHLO client.test", "250");
            client
        })
        .collect();
    let grown = daemon.memory_kib("Private_").saturating_sub(before) as f64 / TLS_CONNECTIONS as f64;
    println!("idle connection within TLS: {grown:.1} KiB");
    drop(clients);
    assert!(!is_release || grown <= TLS_CONNECTION_KIB, "{grown:.1} KiB");
}
