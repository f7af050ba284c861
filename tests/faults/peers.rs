use super::harness::{Place, Random, SOON, alone, free_port, wait_until};
use super::oracle::World;
use super::sink::{HOSTILE, Manner, Sink};
use super::{random, times};
use crate::client::Client;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A DNS server that knows these names, and is hostile in most of its answers until it is told to be good.
struct Dns {
    is_good: Arc<AtomicBool>,
}

/// The names: an MX host of itself with an address of loopback, by number. `far.test` has all of them as MX hosts.
fn address_of(name: &str) -> Option<Ipv4Addr> {
    let number: u8 = name.strip_prefix('h')?.strip_suffix(".test")?.parse().ok()?;
    Some(Ipv4Addr::new(127, 0, 0, number))
}

impl Dns {
    fn start(port: u16, mut random: Random) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let is_good = Arc::new(AtomicBool::new(false));
        let for_thread = Arc::clone(&is_good);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let is_good = for_thread.load(Ordering::SeqCst);
                for answer in answers(&query[..length], is_good, &mut random) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { is_good }
    }
}

/// What the server sends for a query: nothing, one datagram, or several.
fn answers(query: &[u8], is_good: bool, random: &mut Random) -> Vec<Vec<u8>> {
    let Some(good) = answer(query) else { return Vec::new() };
    if is_good {
        return vec![good];
    }
    let mut bad = good.clone();
    match random.below(10) {
        0 => return Vec::new(),
        1 => return vec![(0..random.below(1400)).map(|_| random.below(256) as u8).collect()],
        // Another id, many times, before the right one.
        2 => {
            bad[0] ^= 0xff;
            return vec![bad.clone(), bad.clone(), bad, good];
        }
        // SERVFAIL, REFUSED.
        3 => bad[3] = 0x82,
        4 => bad[3] = 0x85,
        // Truncated, and there is no TCP.
        5 => bad[2] |= 0x02,
        6 => bad.truncate(12 + random.below((bad.len() - 12) as u64) as usize),
        // A name that points to itself.
        7 => bad.extend_from_slice(&[0xc0, bad.len() as u8, 0, 1, 0, 1]),
        // More records than there are.
        8 => bad[6] = 0xff,
        _ => {
            let at = 12 + random.below((bad.len() - 12) as u64) as usize;
            bad[at..].iter_mut().take(8).for_each(|octet| *octet = random.below(256) as u8);
            // Its question is another one, so nothing in it may be believed.
            bad[13] ^= 1;
        }
    }
    vec![bad]
}

/// The right answer to a query for A or MX; other types have no records.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    while *query.get(at)? > 0 {
        let length = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?).to_lowercase());
        at += 1 + length;
    }
    let (name, rtype, end) = (labels.join("."), *query.get(at + 2)?, at + 5);
    let mut answer = query.get(..end)?.to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
    let mut record = |octets: &[u8]| {
        answer.extend_from_slice(&[0xc0, 12, 0, rtype, 0, 1, 0, 0, 0, 1, 0, octets.len() as u8]);
        answer.extend_from_slice(octets);
        answer[7] += 1;
    };
    match (rtype, address_of(&name)) {
        (1, Some(address)) => record(&address.octets()),
        (15, Some(_)) => record(&[0, 10, 0xc0, 12]),
        (15, None) if name == "far.test" => {
            for number in FIRST..FIRST + HOSTS {
                let host = format!("h{number}");
                let label = [&[host.len() as u8], host.as_bytes(), &[4], b"test", &[0]].concat();
                record(&[&[0, number], label.as_slice()].concat());
            }
        }
        _ => {}
    }
    Some(answer)
}

/// The MX hosts of `far.test` are 127.0.0.51 and up; the last of them, with the lowest preference, is good.
const FIRST: u8 = 51;
const HOSTS: u8 = 4;

/// `far.test` has MX hosts that close, babble and are busy, and a good one. Other domains have hosts that hang.
#[test]
fn hostile_dns_servers_and_mx_hosts_lose_nothing() {
    let _alone = alone();
    let mut random = random("hostile peers");
    let port = free_port();
    let last = Ipv4Addr::new(127, 0, 0, FIRST + HOSTS - 1);
    let mut world = World::of(
        Place::new(),
        &format!(
            "relay.smarthost = []\nrelay.port = {port}\nrelay.family = \"ipv4\"\nlocal.domains = [\"box.test\"]\n"
        ),
    );
    world.sink = Sink::listen((last, port), Manner::Good);
    let manners = [Manner::Closes, Manner::Babbles, Manner::Busy];
    let of_far = (FIRST..FIRST + HOSTS - 1).zip(manners);
    let of_others = (FIRST + 50..).zip(HOSTILE);
    let hosts: Vec<(u8, Sink)> = of_far
        .chain(of_others)
        .map(|(number, manner)| (number, Sink::listen((Ipv4Addr::new(127, 0, 0, number), port), manner)))
        .collect();
    let dns = Dns::start(world.place.dns_port, Random(random.below(1 << 40) + 1));
    let mut daemon = world.start();
    let end = Instant::now() + Duration::from_secs(times(240, 10) as u64);
    let mut turns = 0;
    while Instant::now() < end {
        for (number, _) in &hosts {
            let mut client = Client::hello(world.place.port).unwrap();
            let to = format!("a@h{number}.test");
            let _ = client.send("", &[&to], b"Subject: hostile\r\n\r\nx\r\n");
            turns += 1;
        }
        for _ in 0..14 {
            world.try_next();
        }
        std::thread::sleep(Duration::from_millis(500));
        if random.below(8) == 0 {
            drop(daemon);
            daemon = world.start();
        }
    }
    assert!(daemon.is_running(), "it ended:\n{}", world.place.log());
    // DNS is good again, the hosts are not: mail for far.test leaves beside hosts that hang.
    dns.is_good.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let mut last_flush = begun;
    wait_until("mail for far.test leaves", SOON * 4, || {
        if last_flush.elapsed() > Duration::from_secs(3) {
            last_flush = Instant::now();
            daemon.signal("USR1");
        }
        world.ask(1).lost.is_empty()
    });
    println!("hostile peers: all good mail had left {:?} after DNS was good again", begun.elapsed());
    drop(daemon);
    hosts.iter().for_each(|(_, sink)| sink.becomes(Manner::Good));
    world.settle(turns).judge("messages for hosts that hang, babble and refuse, with a DNS server that lies");
}
