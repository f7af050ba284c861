//! A probe ends in time, whatever hangs: hosts that are silent, that dribble or never end a reply, at each step, as an MX host
//! and as a smarthost; ports that are blocked; and look-ups without an answer. The limits are a seventh of the real ones.

use super::probe::{FAR, LOGIN, names, now, world};
use crate::engine::host::site::{Site, current};
use crate::engine::probe::walk::{Mark, ProbeContext, ProbeNews, ProbeTime, Step, probe};
use crate::engine::tests::world::*;
use crate::mail::mx::MxAnswer;
use crate::net::connect::{Connect, Failures};
use crate::net::resolver::{DnsError, RecordSet, Resolve, Rtype, SystemLookUp};
use crate::net::transport::{Deadline, Stopwatch, Transport, WireError};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

/// The whole time of a probe here, for 50 s.
const WHOLE: Duration = Duration::from_secs(7);
const CONNECT: Duration = Duration::from_millis(1400);
const REPLY: Duration = Duration::from_millis(2800);
/// What a slow machine may add.
const SLACK: Duration = Duration::from_secs(20);

/// What a host does at a step in place of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trick {
    /// It says nothing more.
    Silence,
    /// It sends an octet of its reply now and then.
    Dribble,
    /// It sends line after line, none of which is the last.
    Lines,
    /// It closes the connection.
    Close,
}

/// A host on a real socket that plays its trick at the step.
fn host(at: &'static str, trick: Trick) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || talk(stream, at, trick));
        }
    });
    address
}

fn talk(mut stream: TcpStream, at: &str, trick: Trick) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::from("greeting");
    loop {
        let (step, reply) = match line.trim().get(..4).unwrap_or_default() {
            "gree" => ("greeting", "220 here"),
            "EHLO" if matches!(at, "starttls" | "tls") => ("ehlo", "250-here\r\n250 STARTTLS"),
            "EHLO" => ("ehlo", "250-here\r\n250 AUTH PLAIN"),
            "STAR" => ("starttls", "220 go"),
            "AUTH" => ("auth", "235 ok"),
            "MAIL" => ("mail", "250 ok"),
            "RCPT" => ("rcpt", "250 ok"),
            _ => ("other", "250 ok"),
        };
        if step == at {
            return play(stream, trick);
        }
        if stream.write_all(format!("{reply}\r\n").as_bytes()).is_err() {
            return;
        }
        if step == "starttls" {
            // What comes next is the handshake.
            return play(stream, trick);
        }
        line.clear();
        if !lines.read_line(&mut line).is_ok_and(|octets| octets > 0) {
            return;
        }
    }
}

fn play(mut stream: TcpStream, trick: Trick) {
    let piece: &[u8] = match trick {
        Trick::Close => return,
        Trick::Silence => {
            let _ = stream.read_to_end(&mut Vec::new());
            return;
        }
        Trick::Dribble => b"2",
        Trick::Lines => b"220-and so on\r\n",
    };
    if trick == Trick::Dribble {
        let _ = stream.write_all(b"220-");
    }
    while stream.write_all(piece).is_ok() {
        // Too seldom for a reply with too many lines.
        sleep(Duration::from_millis(100));
    }
}

/// Connects to nobody: as behind a firewall that drops packets.
struct Blocked;

impl Connect for Blocked {
    fn connect_while(
        &self,
        addresses: &mut Vec<SocketAddr>,
        _: &[IpAddr],
        timeout: Duration,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        let end = Deadline::after(timeout);
        while goes_on() && !end.remaining().is_zero() {
            sleep(Duration::from_millis(5));
        }
        Err(addresses.drain(..).map(|address| (address, WireError::TimedOut)).collect())
    }
}

/// Walks within the scaled limits; returns the steps, those that failed, and the time.
fn timed(world: &World, resolver: &dyn Resolve, connect: &dyn Connect) -> (Vec<Step>, Vec<Step>, Duration) {
    let since = Stopwatch::start();
    let own = |far: IpAddr| far.is_ipv4().then(|| "192.0.2.99".parse().unwrap());
    let context = ProbeContext {
        resolver,
        connect,
        maildirs: &world.intake.maildirs,
        now: now(),
        own_address: &own,
        time: ProbeTime { end: Deadline::after(WHOLE), connect: CONNECT, reply: REPLY },
    };
    let mut steps = Vec::new();
    let verdict = probe(&current(&world.site), &context, FAR, &mut |news| {
        if let ProbeNews::Ended(step) = news {
            steps.push(step);
        }
    });
    (steps, verdict.failures, since.elapsed())
}

/// Each case waits for a limit, so all of them run at once.
#[test]
fn a_host_that_hangs_at_a_step_is_named_there_and_in_time() {
    std::thread::scope(|scope| {
        for trick in [Trick::Silence, Trick::Dribble, Trick::Lines, Trick::Close] {
            for at in ["greeting", "ehlo", "starttls", "tls", "auth", "mail", "rcpt"] {
                for is_smarthost in [false, true] {
                    if at == "auth" && !is_smarthost || trick != Trick::Silence && at == "tls" {
                        continue;
                    }
                    scope.spawn(move || is_named(trick, at, is_smarthost));
                }
            }
        }
    });
}

fn is_named(trick: Trick, at: &'static str, is_smarthost: bool) {
    let config = match (at, is_smarthost) {
        (_, false) => "",
        ("starttls" | "tls", true) => "relay.smarthost = \"smtp+starttls://smart.example:2525\"\n",
        (_, true) => LOGIN,
    };
    let world = world(config);
    let peer = Peer::Socket(host(at, trick));
    world.net.peer(if is_smarthost { "127.0.0.1:2525" } else { "192.0.2.1" }, peer);
    let (steps, failures, took) = timed(&world, &*world.net, &*world.net);
    let case = format!("{trick:?} at {at}, smarthost: {is_smarthost}\n{steps:#?}");
    assert!(took < WHOLE + SLACK, "{took:?}, {case}");
    // Clear text follows where TLS fails and nothing demands it.
    let is_tls = matches!(at, "starttls" | "tls");
    let step = if is_tls && !is_smarthost {
        let warned = |step: &&Step| step.mark != Mark::Ok && step.stage.name() == at;
        steps.iter().find(warned).unwrap_or_else(|| panic!("{case}"))
    } else {
        failures.first().unwrap_or_else(|| panic!("{case}"))
    };
    assert_eq!(step.stage.name(), at, "{case}");
    assert!(step.hint.is_some(), "{case}");
}

#[test]
fn hosts_behind_a_blocked_port_share_the_time_and_the_first_is_named() {
    let world = world("");
    let hosts: Vec<String> = (1..=9).map(|n| format!("mx{n}.far.example")).collect();
    let listed: Vec<(u16, &str)> = hosts.iter().zip(1..).map(|(host, at)| (at, host.as_str())).collect();
    world.net.mx("far.example", &listed);
    for (host, n) in hosts.iter().zip(1..) {
        world.net.address(host, &[&format!("192.0.2.{n}")]);
    }
    let (steps, failures, took) = timed(&world, &*world.net, &Blocked);
    assert!(took >= CONNECT && took < WHOLE + SLACK, "{took:?}\n{steps:#?}");
    assert_eq!(names(&failures), "connect=FAIL", "{steps:#?}");
    assert!(failures[0].hint.unwrap().contains("Port 25 is blocked"), "{failures:?}");
    // Nothing is reported that was not tried.
    let tried = steps.iter().filter(|step| step.text.starts_with("connect to")).count();
    assert!((2..=6).contains(&tried), "{steps:#?}");
    assert_eq!(steps.last(), failures.last());
}

/// A resolver whose system look-up hangs.
struct Hanging<'a>(&'a Net);

impl Resolve for Hanging<'_> {
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        Resolve::mx(self.0, domain)
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        Resolve::addresses(self.0, host)
    }

    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError> {
        // As a server that does not answer.
        sleep(WHOLE / 4);
        Resolve::records(self.0, name, rtype)
    }

    fn system_look_up(&self) -> SystemLookUp {
        |_| {
            sleep(Duration::from_secs(3600));
            Err(std::io::ErrorKind::TimedOut.into())
        }
    }
}

#[test]
fn look_ups_that_hang_end_in_time() {
    // Without dns.servers, the system is asked for a smarthost.
    let by_system = world(LOGIN);
    let site = current(&by_system.site);
    let mut settings = site.settings.clone();
    settings.dns.servers.clear();
    *by_system.site.lock() = Arc::new(Site::new(settings, site.hostname.clone(), None));
    let (steps, failures, took) = timed(&by_system, &Hanging(&by_system.net), &*by_system.net);
    assert!(took < WHOLE + SLACK, "{took:?}");
    assert_eq!(names(&failures), "address=FAIL", "{steps:#?}");
    assert!(failures[0].hint.unwrap().contains("name server does not answer"), "{failures:?}");

    let by_mx = world("");
    let (steps, failures, took) = timed(&by_mx, &Hanging(&by_mx.net), &*by_mx.net);
    assert!(took < WHOLE + SLACK, "{took:?}");
    assert_eq!(failures.len(), 1, "{steps:#?}");
    assert!(failures[0].text.contains("the time of the probe is over"), "{failures:?}");
    assert!(failures[0].hint.is_some(), "{failures:?}");
}
