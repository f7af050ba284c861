use super::client::Client;
use super::harness::{Random, alone, tcp_socket};
use super::oracle::World;
use super::{random, times};
use rustix::net::{bind, connect};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest that an honest client may wait until its message is accepted, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The strangers at one time.
const STRANGERS: usize = 24;

/// Connects from one of 200 addresses that nobody trusts.
fn stranger(port: u16, random: &mut Random) -> rustix::io::Result<TcpStream> {
    let socket = tcp_socket()?;
    bind(&socket, &SocketAddr::from((Ipv4Addr::new(127, 7, 7, random.below(200) as u8 + 1), 0)))?;
    connect(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    Ok(stream)
}

/// One connection of a stranger. What it writes may fail: it is closed when the server has had enough.
fn annoy(stream: &mut TcpStream, random: &mut Random) -> std::io::Result<()> {
    let pause = |random: &mut Random| std::thread::sleep(Duration::from_millis(random.below(120)));
    match random.below(9) {
        // Says nothing.
        0 => {}
        1 => stream.write_all(&(0..4000).map(|_| random.below(256) as u8).collect::<Vec<u8>>())?,
        2 => stream.write_all(&b"NOOP\r\n".repeat(3000))?,
        3 => stream.write_all(&b"x".repeat(200_000))?,
        4 => stream
            .write_all(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\nhalf a mess")?,
        5 => {
            for octet in b"EHLO slow.test\r\nMAIL FROM:<" {
                stream.write_all(&[*octet])?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        6 => {
            stream.write_all(b"EHLO x\r\nMAIL FROM:<a@b.test>\r\n")?;
            stream.write_all(&b"RCPT TO:<nobody@far.test>\r\n".repeat(500))?;
        }
        7 => stream.write_all(b"EHLO x\r\nBDAT 4000000000 LAST\r\nxxxx")?,
        // Gone without a word: the kernel resets the connection.
        _ => rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?,
    }
    pause(random);
    Ok(())
}

#[test]
fn thousands_of_connections_lose_nothing_and_lock_nobody_out() {
    let _alone = alone();
    let seed = random("a crowd").0;
    let world = World::new("relay.trusted_networks = [\"127.0.0.1\"]\nlimits.connections = 40\n");
    let mut daemon = world.start();
    let count = times(10_000, 600);
    let (done, is_over, mut worst) = (AtomicUsize::new(0), AtomicBool::new(false), Duration::ZERO);
    std::thread::scope(|scope| {
        for number in 0..STRANGERS {
            let (world, done, is_over) = (&world, &done, &is_over);
            scope.spawn(move || {
                let mut random = Random(seed + 1 + number as u64);
                while !is_over.load(Ordering::SeqCst) && done.fetch_add(1, Ordering::SeqCst) < count {
                    if let Ok(mut stream) = stranger(world.place.port, &mut random) {
                        let _ = annoy(&mut stream, &mut random);
                    }
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while done.load(Ordering::SeqCst) < count {
                worst = worst.max(wait_of_a_good_client(&world));
            }
        }));
        is_over.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(daemon.is_running(), "it ended:\n{}", world.place.log());
    daemon.stop();
    println!("an honest client waited {worst:?} at most");
    world.settle(count).judge("hostile connections");
}

/// How long it takes until a message is accepted, with new connections after refusals.
fn wait_of_a_good_client(world: &World) -> Duration {
    let begun = Instant::now();
    let mut number = world.number();
    while !world.is_by_smtp(number) {
        number = world.number();
    }
    loop {
        let sent = Client::hello(world.place.port).and_then(|mut client| world.submit(&mut client, number));
        if sent.is_ok_and(|reply| reply.starts_with("250")) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "a client is locked out:\n{}", world.place.log());
        std::thread::sleep(Duration::from_millis(10));
    }
}
