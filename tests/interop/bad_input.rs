use super::client::{Client, send};
use super::harness::{Daemon, Place, Random, SOON, alone, tcp_socket, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// The longest that an honest client may wait for its 250 during an attack.
const PROMPT: Duration = Duration::from_secs(1);
/// The memory that a hostile client may cost, in KiB.
const MEMORY_MAX_KIB: u64 = 1024;

/// A whole session of an honest client, which must be served at once.
pub fn good_client_is_served(place: &Place, daemon: &mut Daemon) {
    let begun = Instant::now();
    send(place.port, "s@y.test", "good@box.test", MESSAGE);
    assert!(begun.elapsed() < PROMPT, "a good client was served after {:?}", begun.elapsed());
    assert!(daemon.is_running());
}

pub fn served(more: &str) -> (Place, Daemon) {
    let place = Place::new();
    place.configure(more);
    let mut daemon = place.serve();
    good_client_is_served(&place, &mut daemon);
    (place, daemon)
}

#[test]
fn random_octets_get_500_and_in_the_end_421() {
    let (place, mut daemon) = served("");
    let mut random = Random(7);
    for _ in 0..50 {
        let mut client = Client::connect(place.port).unwrap();
        client.expect("220").unwrap();
        let octets: Vec<u8> = (0..20_000).map(|_| random.below(256) as u8).collect();
        // The server closes before it has read everything: neither the rest nor its answer needs to get through.
        let _ = client.write(&octets).and_then(|()| client.write(b"\r\nNOOP\r\n"));
        client.close_sending_side();
        let answers = client.rest();
        assert!(
            answers.lines().all(|line| ["500 ", "501 ", "502 ", "421 ", "250 "]
                .iter()
                .any(|code| line.starts_with(code))),
            "{answers}"
        );
    }
    good_client_is_served(&place, &mut daemon);
    assert_eq!(
        place.log().lines().filter(|line| !line.contains(" [pillarbox] event=")).count(),
        0,
        "no line is forged"
    );
}

#[test]
fn errors_without_end_are_ended_with_421() {
    let (place, mut daemon) = served("limits.errors = 10\n");
    let mut client = Client::hello(place.port).unwrap();
    for number in 0..10 {
        assert!(client.command("\u{1}\u{2}bad").unwrap().starts_with("500 5.5."), "error {number}");
    }
    assert!(client.command("bad").unwrap().starts_with("421 "));
    assert_eq!(client.rest(), "");
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn an_endless_line_costs_nothing() {
    let _alone = alone();
    let (place, mut daemon) = served("");
    let before = daemon.memory_kib("Anonymous");
    let block = vec![b'x'; 1_000_000];
    let mut client = Client::hello(place.port).unwrap();
    let mut most = 0;
    for _ in 0..100 {
        client.write(&block).unwrap();
        most = most.max(daemon.memory_kib("Anonymous"));
    }
    good_client_is_served(&place, &mut daemon);
    client.write(b"\r\n").unwrap();
    client.expect("500 5.5.").unwrap();
    assert!(
        client.send("s@y.test", &["u@box.test"], MESSAGE).unwrap().starts_with("250"),
        "the session goes on"
    );
    let grown = most.saturating_sub(before);
    assert!(grown < MEMORY_MAX_KIB, "100 MB without a line end cost {grown} KiB");
}

#[test]
fn an_endless_line_of_data_is_read_to_its_end_and_refused_for_its_size() {
    let _alone = alone();
    let (place, mut daemon) = served("limits.message_size = \"1MiB\"\n");
    let before = daemon.memory_kib("Anonymous");
    let mut client = Client::hello(place.port).unwrap();
    client.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
    for reply in ["250", "250", "354"] {
        client.expect(reply).unwrap();
    }
    let block = vec![b'x'; 1_000_000];
    let mut most = 0;
    for _ in 0..100 {
        client.write(&block).unwrap();
        most = most.max(daemon.memory_kib("Anonymous"));
    }
    client.write(b"\r\n.\r\n").unwrap();
    client.expect("552 5.3.4").unwrap();
    assert!(
        client.send("s@y.test", &["u@box.test"], MESSAGE).unwrap().starts_with("250"),
        "the session goes on"
    );
    assert_eq!(place.mail("u").len(), 1);
    let grown = most.saturating_sub(before);
    assert!(grown < MEMORY_MAX_KIB, "100 MB of data cost {grown} KiB");
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn half_closed_connections_are_answered_and_cut_off_data_is_dropped() {
    let (place, mut daemon) = served("");
    let mut client = Client::hello(place.port).unwrap();
    client.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\nwhole\r\n.\r\n").unwrap();
    client.close_sending_side();
    let answers = client.rest();
    assert!(answers.contains("\r\n250 2.0.0 Ok: "), "{answers}");
    for script in ["MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\nhalf\r\n", "MAIL FR", ""] {
        let mut client = Client::hello(place.port).unwrap();
        client.write(script.as_bytes()).unwrap();
        client.close_sending_side();
        client.rest();
    }
    assert_eq!(place.mail("u").len(), 1, "half a message was delivered");
    assert_eq!(super::harness::files(&place.path("mail/u/tmp")).len(), 0);
    // Cut off by a reset, in the middle of the data.
    let client = Client::hello(place.port).unwrap();
    client.stream().write_all(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
    wait_until("replies that are never read", SOON, || client.stream().peek(&mut [0; 64]).unwrap() > 20);
    drop(client);
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn a_client_that_speaks_first_is_told_so() {
    let (place, mut daemon) = served("");
    // All octets must have arrived before the connection's thread reads; mostly they have.
    let reported = (0..50).any(|_| {
        let mut client = Client::connect(place.port).unwrap();
        client.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let answers = client.rest();
        assert!(answers.starts_with("554 ") || answers.starts_with("220 "), "{answers}");
        answers.starts_with("554 ")
    });
    assert!(reported);
    good_client_is_served(&place, &mut daemon);
}

/// Connects from an address of 127.0.0.0/8 that is trusted by nobody.
pub fn stranger(port: u16, last: u8) -> TcpStream {
    use rustix::net::{bind, connect};
    let socket = tcp_socket().unwrap();
    bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 9, 9, last), 0))).unwrap();
    connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port))).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

pub fn beginning(mut stream: &TcpStream) -> String {
    let mut octets = [0; 512];
    let length = stream.read(&mut octets).unwrap_or(0);
    String::from_utf8_lossy(&octets[..length]).into_owned()
}

#[test]
fn a_thousand_connections_get_their_place_or_421_and_a_good_client_is_served_meanwhile() {
    let _alone = alone();
    let (place, mut daemon) =
        served("relay.trusted_networks = [\"127.0.0.1\"]\nlimits.connections_per_ip = 1000\n");
    let before = daemon.memory_kib("Anonymous");
    let streams: Vec<TcpStream> = (0..1000).map(|i| stranger(place.port, 1 + (i % 20) as u8)).collect();
    let greetings: Vec<String> = streams.iter().map(beginning).collect();
    let placed = greetings.iter().filter(|line| line.starts_with("220 ")).count();
    let turned_away =
        greetings.iter().filter(|line| line.starts_with("421 4.3.2 box.test has too many")).count();
    // A quarter of the 64 is kept for trusted clients, and an eighth of the rest for those without a connection.
    assert_eq!((placed, turned_away), (42, 958), "{:?}", greetings.last());
    good_client_is_served(&place, &mut daemon);
    let grown = daemon.memory_kib("Anonymous").saturating_sub(before);
    assert!(grown < 2 * MEMORY_MAX_KIB, "1000 connections cost {grown} KiB");
    drop(streams);
    wait_until("there is a place again", SOON, || beginning(&stranger(place.port, 1)).starts_with("220 "));
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn no_address_takes_all_places() {
    let (place, mut daemon) = served("relay.trusted_networks = [\"127.0.0.1\"]\n");
    let streams: Vec<TcpStream> = (0..17).map(|_| stranger(place.port, 1)).collect();
    let greetings: Vec<String> = streams.iter().map(beginning).collect();
    assert!(greetings[..16].iter().all(|line| line.starts_with("220 ")), "{greetings:?}");
    assert!(
        greetings[16].starts_with("421 4.3.2 box.test has too many connections from your address"),
        "{greetings:?}"
    );
    assert!(beginning(&stranger(place.port, 2)).starts_with("220 "));
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn slow_clients_hold_nobody_up_and_lose_their_patience_first() {
    let _alone = alone();
    let (place, mut daemon) = served("limits.command_timeout = \"2s\"\nlimits.data_timeout = \"2s\"\n");
    let mut slow: Vec<Client> = (0..40).map(|_| Client::connect(place.port).unwrap()).collect();
    slow.iter_mut().for_each(|client| drop(client.expect("220").unwrap()));
    let begun = Instant::now();
    // An octet at a time: each arrives in time, the line does not.
    for octet in b"NOOP a line that comes an octet at a time".iter().take(14) {
        slow.iter_mut().for_each(|client| drop(client.write(&[*octet])));
        std::thread::sleep(Duration::from_millis(200));
        good_client_is_served(&place, &mut daemon);
    }
    for client in &mut slow {
        let farewell = client.rest();
        assert!(farewell.starts_with("421 4.3.2 ") || farewell.is_empty(), "{farewell}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "slow clients were tolerated for {:?}",
        begun.elapsed()
    );
    assert!(
        place.logged(&["event=closed", "timed out waiting for a command"]).len() == 40,
        "{}",
        place.log()
    );
}

#[test]
fn silent_data_ends_with_421() {
    let (place, mut daemon) = served("limits.data_timeout = \"1s\"\n");
    let mut client = Client::hello(place.port).unwrap();
    client.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\nhalf\r\n").unwrap();
    for reply in ["250", "250", "354", "421 4.3.2"] {
        client.expect(reply).unwrap();
    }
    assert_eq!(client.rest(), "");
    assert_eq!(place.mail("u").len(), 0);
    good_client_is_served(&place, &mut daemon);
}

#[test]
fn a_client_that_reads_nothing_does_not_fill_the_memory() {
    let _alone = alone();
    let (place, mut daemon) = served("limits.errors = 1000\n");
    let before = daemon.memory_kib("Anonymous");
    let client = Client::connect(place.port).unwrap();
    client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    // The reply to each line is longer than the line.
    let block = b"RCPT\r\n".repeat(10_000);
    let written = (0..100).take_while(|_| client.stream().write_all(&block).is_ok()).count();
    let grown = daemon.memory_kib("Anonymous").saturating_sub(before);
    assert!(grown < MEMORY_MAX_KIB, "{written} blocks without a reader cost {grown} KiB");
    good_client_is_served(&place, &mut daemon);
    let _ = client.stream().shutdown(Shutdown::Both);
}

#[test]
fn nobody_relays_who_is_not_trusted() {
    let (place, _daemon) = served("relay.trusted_networks = [\"127.0.0.2\"]\nlocal.users = [\"good\"]\n");
    let mut client = Client::hello(place.port).unwrap();
    client.write(b"MAIL FROM:<good@box.test>\r\n").unwrap();
    client.expect("250").unwrap();
    let refused = [
        "a@far.test",
        "a%far.test@box.test",
        "\"a@far.test\"@box.test",
        "far.test!a@box.test",
        "@box.test:a@far.test",
        "a@[127.0.0.5]",
        "a@far.test.",
        "a@box.test@far.test",
    ];
    for to in refused {
        let reply = client.command(&format!("RCPT TO:<{to}>")).unwrap();
        assert!(
            reply.starts_with("550 5.7.1") || reply.starts_with("550 5.1.1") || reply.starts_with("501 "),
            "{to}: {reply}"
        );
    }
}
