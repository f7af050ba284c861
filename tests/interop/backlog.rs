use super::harness::{Daemon, LATER, Place, SOON, alone, measured, tcp_socket, wait_until};
use super::intake::{source, source_message_id};
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

/// Octets of memory for each waiting message.
const QUEUED_OCTETS: f64 = 300.0;
/// From the start of the program to its greeting, with 10,000 messages in the queue, on a machine with nothing else to do.
const GREETING: Duration = Duration::from_secs(1);

/// The state is in memory: these tests do not measure how fast a disk syncs ten thousand files.
fn place() -> Place {
    let memory = Path::new("/dev/shm");
    assert!(memory.is_dir(), "/dev/shm is missing: mount -t tmpfs tmpfs /dev/shm");
    Place::below(memory)
}

/// A host returns after a long absence: the daemon starts within a second, its memory does not grow with the queue, and
/// it delivers each message once.
#[test]
fn ten_thousand_deferred_messages_are_small_start_soon_and_leave_in_one_go() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let messages = if is_release { 10_000 } else { 1_000 };
    let place = place();
    let _dns = place.dns_of_far();
    place.configure(
        "queue.retry = \"2s\"\nqueue.max_messages = 20000\nlimits.connections = 100\nlog.level = \"warn\"\n",
    );
    let start = || {
        let begin = Instant::now();
        let daemon = place.run(&mut place.command(&binary));
        (daemon, begin.elapsed())
    };
    let (daemon, _) = start();
    let idle = settled_kib(&daemon);
    // Threads and buffers that exist by now belong to no message.
    source(&place, 16, 100, "them@far.test", &[]);
    let before = settled_kib(&daemon);
    source(&place, 16, messages - 100, "them@far.test", &[]);
    let octets = |more: u64, count: usize| more as f64 * 1024.0 / count as f64;
    let as_it_came = octets(settled_kib(&daemon).saturating_sub(before), messages - 100);
    assert_eq!(place.queued(), messages);
    daemon.stop();

    let (daemon, greeting) = start();
    let after_restart = octets(settled_kib(&daemon).saturating_sub(idle), messages);
    println!(
        "{messages} deferred messages: {as_it_came:.0} octets of memory each as they came, {after_restart:.0} after a \
         restart; greeting {greeting:?} after the start"
    );
    assert_eq!(place.queued(), messages);
    let (_sink, begin) = (place.sink(&[]), Instant::now());
    place.wait_for_empty_queue(LATER);
    println!("drained in {:?}", begin.elapsed());
    let sunk = place.sunk();
    let ids: HashSet<String> =
        sunk.iter().map(|file| source_message_id(std::str::from_utf8(file).unwrap())).collect();
    assert_eq!((sunk.len(), ids.len()), (messages, messages), "each message is there once");
    daemon.stop();
    // The time also depends on the load of the machine.
    assert!(greeting < GREETING * 5, "the greeting came {greeting:?} after the start");
    if is_release {
        assert!(as_it_came < QUEUED_OCTETS, "{as_it_came} octets a message");
        assert!(after_restart < QUEUED_OCTETS, "{after_restart} octets a message");
    }
}

/// The private memory of the daemon, once it has stopped changing.
fn settled_kib(daemon: &Daemon) -> u64 {
    let mut last = 0;
    wait_until("the daemon's memory settles", SOON, || {
        std::thread::sleep(Duration::from_millis(500));
        let now = daemon.memory_kib("Anonymous");
        std::mem::replace(&mut last, now) == now
    });
    last
}

/// A socket that accepts no connection: the kernel completes as many as fit into the backlog, and answers no others.
fn black_hole() -> (u16, TcpListener, Vec<TcpStream>) {
    let socket = tcp_socket().unwrap();
    rustix::net::bind(&socket, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let patience = Duration::from_millis(300);
    let fill = std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok());
    (address.port(), listener, fill.collect())
}

/// One destination accepts connections and stays silent, another accepts no connection: their messages wait for the
/// time-outs, and a thousand others are delivered without delay.
#[test]
fn a_hung_destination_and_a_dead_smarthost_hold_nobody_up() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let messages = if is_release { 1_000 } else { 300 };
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (dead, _listener, _connections) = black_hole();
    let run = |are_there: bool| {
        let place = place();
        let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
        place.configure(&format!(
            "limits.connections = 100\nqueue.retry = \"1h\"\n[relay.routes]\n\
             \"hung.test\" = \"smtp://127.0.0.1:{}\"\n\"dead.test\" = \"smtp://127.0.0.1:{dead}\"\n",
            mute.local_addr().unwrap().port()
        ));
        let daemon = place.run(&mut place.command(&binary));
        let stuck = |count: usize| {
            for to in ["them@hung.test", "them@dead.test"] {
                source(
                    &place,
                    1,
                    if are_there { count } else { 1 },
                    if are_there { to } else { "u@box.test" },
                    &["-d"],
                );
            }
        };
        stuck(50);
        let begin = Instant::now();
        source(&place, 8, messages / 2, "them@far.test", &[]);
        stuck(50);
        source(&place, 8, messages / 2, "them@far.test", &[]);
        let left = if are_there { 200 } else { 0 };
        wait_until("all others have left", LATER, || place.queued() <= left);
        let time = begin.elapsed();
        let log = place.log();
        let delivered =
            log.lines().filter(|line| line.contains("event=delivered") && line.contains("@far.test"));
        assert_eq!((delivered.count(), place.queued(), place.sunk().len()), (messages, left, messages));
        // The time-outs are still running: five minutes for the silent host, half a minute for the other.
        let paused = place.logged(&["event=paused"]);
        let is_dead = |line: &String| line.contains(&format!(":{dead} ")) && line.contains("timed out");
        assert!(paused.iter().all(is_dead), "{paused:?}");
        if are_there {
            mute.accept().unwrap();
        }
        // A regular stop would wait for the workers' current messages.
        drop(daemon);
        time
    };
    let (without, with) = (run(false), run(true));
    println!("{messages} messages: {without:?} with nobody in the way, {with:?} beside those that hang");
    assert!(with < without * 3 + Duration::from_secs(5), "{with:?}, and without {without:?}");
}
