//! Forty hostile next hops: none keeps mail to a good one waiting that was never seen before.

use super::client::send;
use super::harness::{Place, SOON, tcp_socket, wait_until};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

const HOSTS: u8 = 40;
const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// For how long a hostile host keeps a connection.
const LONG: Duration = Duration::from_secs(600);

/// What a host does instead of an answer.
#[derive(Clone, Copy)]
enum Kind {
    /// Says nothing.
    Silence,
    /// Sends its greeting an octet at a time, with this pause.
    Dribble(Duration),
    /// Sends lines of its greeting without end.
    EndlessGreeting,
    /// Answers until it gets this command, and not to it.
    HangsAt(&'static str),
    /// Says nothing once TLS begins.
    HangsInTls,
    /// Accepts no connection.
    BlackHole,
}

const KINDS: [Kind; 10] = [
    Kind::Silence,
    Kind::Dribble(Duration::from_secs(1)),
    Kind::Dribble(Duration::from_millis(50)),
    Kind::EndlessGreeting,
    Kind::HangsAt("EHLO"),
    Kind::HangsAt("MAIL"),
    Kind::HangsAt("RCPT"),
    Kind::HangsAt("."),
    Kind::HangsInTls,
    Kind::BlackHole,
];

fn talk(mut stream: TcpStream, kind: Kind) -> std::io::Result<()> {
    match kind {
        Kind::Silence | Kind::BlackHole => {}
        Kind::Dribble(pause) => {
            for _ in 0..2000 {
                stream.write_all(b"2")?;
                std::thread::sleep(pause);
            }
        }
        Kind::EndlessGreeting => loop {
            stream.write_all(b"220-wait\r\n")?;
            std::thread::sleep(Duration::from_millis(300));
        },
        Kind::HangsAt(_) | Kind::HangsInTls => {
            let at = if let Kind::HangsAt(at) = kind { at } else { "" };
            answer(&stream, at, matches!(kind, Kind::HangsInTls))?;
        }
    }
    std::thread::sleep(LONG);
    Ok(())
}

/// Answers commands until `at` comes, TLS begins or the client leaves; returns the number of messages taken.
fn answer(mut stream: &TcpStream, at: &str, offers_tls: bool) -> std::io::Result<usize> {
    stream.write_all(b"220 mx ESMTP\r\n")?;
    let (mut taken, mut in_data) = (0, false);
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        let is_end = in_data && line == ".";
        if (is_end && at == ".") || (!in_data && !at.is_empty() && line.starts_with(at)) {
            return Ok(taken);
        }
        let reply: &[u8] = match line.get(..4).unwrap_or(&line) {
            _ if is_end => {
                (in_data, taken) = (false, taken + 1);
                b"250 2.0.0 taken\r\n"
            }
            _ if in_data => continue,
            "DATA" => {
                in_data = true;
                b"354 go\r\n"
            }
            "EHLO" if offers_tls => b"250-mx\r\n250 STARTTLS\r\n",
            "STAR" => {
                stream.write_all(b"220 go\r\n")?;
                return Ok(taken);
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n")?;
                return Ok(taken);
            }
            _ => b"250 ok\r\n",
        };
        stream.write_all(reply)?;
    }
    Ok(taken)
}

/// A host of this kind at an address.
fn hostile(address: SocketAddr, kind: Kind) {
    if matches!(kind, Kind::BlackHole) {
        use rustix::net::{bind, listen};
        let listener = tcp_socket().unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        // Its backlog is full after these; further connects get no answer.
        let full: Vec<_> =
            (0..2).map(|_| TcpStream::connect_timeout(&address, Duration::from_millis(200))).collect();
        std::mem::forget((listener, full));
        return;
    }
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(talk(stream, kind)));
        }
    });
}

/// Forty next hops of these kinds; returns their DNS records.
fn forty(place: &Place, kind_of: &dyn Fn(usize) -> Kind) -> Vec<String> {
    let mut records = Vec::new();
    for number in 0..HOSTS {
        let (mx, address) = (format!("mx{number}.test"), Ipv4Addr::new(127, 0, 5, 1 + number));
        records.push(format!("--mx-host=h{number}.test,{mx},10"));
        records.push(format!("--host-record={mx},{address}"));
        // Some have a second address, which is no better.
        if number % 4 == 3 {
            let second = Ipv4Addr::new(127, 0, 6, 1 + number);
            records.push(format!("--host-record={mx},{second}"));
            hostile((second, place.sink_port).into(), Kind::Silence);
        }
        hostile((address, place.sink_port).into(), kind_of(usize::from(number)));
    }
    records
}

/// A host that takes all mail to `good0.test`, `good1.test` and `good2.test`; adds its DNS records.
fn good(place: &Place, records: &mut Vec<String>) {
    let good = TcpListener::bind((Ipv4Addr::LOCALHOST, place.sink_port)).unwrap();
    std::thread::spawn(move || {
        for stream in good.incoming().flatten() {
            let _ = answer(&stream, "", false);
            let _ = (&stream).read(&mut [0; 1]);
        }
    });
    for number in 0..3 {
        records.push(format!("--mx-host=good{number}.test,good.test,10"));
    }
    records.push("--host-record=good.test,127.0.0.1".to_owned());
}

#[test]
fn forty_hostile_hosts_keep_no_new_destination_waiting() {
    let place = Place::new();
    let mut records = forty(&place, &|number| KINDS[number % KINDS.len()]);
    good(&place, &mut records);
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let _dns = place.dns(&records);
    place.configure("local.domains = \"box.test\"\nqueue.retry = [\"1s\"]\n");
    let _daemon = place.serve();
    for number in 0..HOSTS {
        send(place.port, "a@box.test", &format!("x@h{number}.test"), MESSAGE);
    }
    for number in 0..3 {
        std::thread::sleep(Duration::from_secs(7 * number));
        let begun = Instant::now();
        send(place.port, "a@box.test", &format!("x@good{number}.test"), MESSAGE);
        let to = format!("to=x@good{number}.test");
        wait_until("the good host has its mail", 2 * SOON, || {
            !place.logged(&["event=delivered", &to]).is_empty()
        });
        println!("delivered after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
    }
    assert_eq!(place.logged(&["event=delivered"]).len(), 3);
    assert_eq!(place.queued(), usize::from(HOSTS));
}

/// More hosts than connections that may be lent, all silent after the final dot, where RFC 5321 allows ten minutes.
#[test]
fn forty_hosts_that_hang_after_the_final_dot_keep_a_new_destination_no_longer_than_a_connect() {
    let place = Place::new();
    let mut records = forty(&place, &|_| Kind::HangsAt("."));
    good(&place, &mut records);
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    let _dns = place.dns(&records);
    place.configure("local.domains = \"box.test\"\n");
    let _daemon = place.serve();
    for number in 0..HOSTS {
        send(place.port, "a@box.test", &format!("x@h{number}.test"), MESSAGE);
    }
    // By now they have all places: four, and four more every five seconds.
    std::thread::sleep(Duration::from_secs(24));
    let begun = Instant::now();
    send(place.port, "a@box.test", "x@good0.test", MESSAGE);
    wait_until("the good host has its mail", 2 * SOON, || {
        !place.logged(&["event=delivered", "to=x@good0.test"]).is_empty()
    });
    println!("delivered after {:?}", begun.elapsed());
    // The time of a connect, and some for a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(45), "it took {:?}", begun.elapsed());
    assert_eq!(place.queued(), usize::from(HOSTS));
}
