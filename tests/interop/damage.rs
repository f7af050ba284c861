use super::client::{Client, send};
use super::harness::{Daemon, Place, Running, SOON, wait_until};
use pillarbox::config::load;
use pillarbox::engine::daemon::Daemon as Engine;
use pillarbox::engine::host::clock::EngineClock;
use pillarbox::engine::host::site::Site;
use pillarbox::engine::inbound::connection::Connection;
use pillarbox::engine::inbound::listener::Listener;
use pillarbox::engine::inbound::slots::{Caps, ConnectionSlots};
use pillarbox::engine::intake::digest_windows::DigestWindows;
use pillarbox::engine::intake::incoming::Intake;
use pillarbox::engine::intake::submission::Submission;
use pillarbox::engine::log::counters::Counters;
use pillarbox::engine::queue::enqueue::Enqueue;
use pillarbox::engine::queue::index::Hop;
use pillarbox::engine::queue::manager::Manager;
use pillarbox::engine::workers::egress::Egress;
use pillarbox::engine::workers::forwarder::Forwarder;
use pillarbox::mail::address::{Domain, ForwardPath, Mailbox, ReversePath};
use pillarbox::mail::mx::MxAnswer;
use pillarbox::mail::next_hop::NextHop;
use pillarbox::net::connect::TcpConnect;
use pillarbox::net::resolver::{DnsError, RecordSet, Resolve, Rtype};
use pillarbox::net::transport::{Deadline, Transport, WireError};
use pillarbox::store::drop::DropDirectory;
use pillarbox::store::maildir::Maildirs;
use pillarbox::store::queue::Queue;
use pillarbox::sys::clock::SystemClock;
use pillarbox::sys::lock::Lock;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// Local and relayed mail, so that every thread has something to log.
fn mail_goes_on(place: &Place, daemon: &mut Daemon, messages: usize) {
    let mut client = Client::hello(place.port).unwrap();
    for _ in 0..messages {
        let reply = client.send("s@y.test", &["u@box.test", "a@far.test"], MESSAGE).unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    drop(client);
    place.wait_for_empty_queue(SOON);
    assert_eq!((place.mail("u").len(), place.sunk().len()), (messages, messages));
    assert!(daemon.is_running());
}

fn command(place: &Place) -> Command {
    place.command(Path::new(env!("CARGO_BIN_EXE_pillarbox")))
}

/// As systemd says that standard error is its journal: levels stand in front, for `journalctl -p warning`. A variable that names
/// another stream was inherited, and changes nothing.
#[test]
fn the_journal_gets_the_level_of_each_line() {
    use std::os::unix::fs::MetadataExt;
    for is_journal in [true, false] {
        let place = Place::new();
        place.configure("relay.smarthost = \"smtp://127.0.0.1:1\"\n");
        let mut command = command(&place);
        let log = std::fs::metadata(place.path("log")).unwrap();
        let inode = if is_journal { log.ino() } else { log.ino() + 1 };
        let daemon = place.run(command.env("JOURNAL_STREAM", format!("{}:{inode}", log.dev())));
        send(place.port, "s@y.test", "a@far.test", MESSAGE);
        let paused = place.wait_for_log(&["event=paused"]);
        let accepted = place.wait_for_log(&["event=accepted"]);
        daemon.stop();
        let log = place.log();
        if is_journal {
            assert!(
                paused.starts_with("<4>event=paused ") && accepted.starts_with("<6>event=accepted "),
                "{log}"
            );
            assert!(log.lines().all(|line| line.starts_with('<')), "{log}");
        } else {
            assert!(paused.contains("WARN") && !log.contains("<4>"), "{log}");
        }
    }
}

#[test]
fn mail_goes_on_when_the_reader_of_the_log_goes() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("log.level = \"trace\"\n");
    let mut daemon = place.run(command(&place).stderr(Stdio::piped()));
    let mut log = daemon.0.child.stderr.take().unwrap();
    assert_ne!(log.read(&mut [0; 64]).unwrap(), 0);
    drop(log);
    mail_goes_on(&place, &mut daemon, 20);
    daemon.signal("HUP");
    daemon.stop();
}

#[test]
fn mail_goes_on_when_nobody_reads_the_log() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("");
    let mut daemon = place.run(command(&place).stderr(Stdio::piped()));
    // 400 messages log more than the 64 KiB of a pipe.
    mail_goes_on(&place, &mut daemon, 400);
    let mut log = daemon.0.child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    // Once the log is read again, the loss is reported.
    std::thread::sleep(Duration::from_millis(300));
    send(place.port, "s@y.test", "v@box.test", MESSAGE);
    daemon.stop();
    let text = reader.join().unwrap();
    assert!(text.contains("event=log_lines_dropped count="), "{}", text.len());
    assert!(text.lines().all(|line| line.contains(" [pillarbox] event=")), "no line is torn");
}

#[test]
fn mail_goes_on_with_no_standard_descriptors_at_all() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("");
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "exec \"$0\" \"$@\" 0<&- 1>&- 2>&-", env!("CARGO_BIN_EXE_pillarbox"), "-c"]);
    shell.arg(place.path("pillarbox.toml")).arg("serve");
    let mut daemon = place.run(&mut shell);
    mail_goes_on(&place, &mut daemon, 20);
    daemon.stop();
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut daemon = place.run(command(&place).stderr(full));
    mail_goes_on(&place, &mut daemon, 20);
    daemon.stop();
}

/// A client whose transport panics at the end of its input.
#[derive(Debug)]
struct Fuse(&'static [u8]);

impl Transport for Fuse {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        assert!(!self.0.is_empty(), "forced");
        // A line at a time, as from a client that waits for each reply.
        let line = self.0.split_inclusive(|&octet| octet == b'\n').next().unwrap_or_default();
        let length = line.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.0[..length]);
        self.0 = &self.0[length..];
        Ok(length)
    }

    fn write_all(&mut self, _: &[u8], _: Deadline) -> Result<(), WireError> {
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        false
    }
}

/// The daemon has no hidden switch that makes it panic, so its parts run in this process, and the panic comes from a
/// transport, below a connection as the listener makes it.
#[test]
fn a_panic_ends_its_connection_and_nothing_else() {
    let place = Place::new();
    let path = place.configure("limits.connections = 1\n");
    let site = Site::new(load(&path).unwrap(), Domain::parse("box.test").unwrap(), None);
    let queue = Queue::open(&place.path("state"), None).unwrap();
    let drops = DropDirectory::open(&place.path("state"), None).unwrap();
    let engine = Arc::new(Engine::new(site, queue, drops, None));
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, place.port)).unwrap();
    let listener = Arc::new(Listener::opened(socket));
    engine.start(&[Arc::clone(&listener)]).unwrap();
    let scripts: [&[u8]; 4] = [
        b"",
        b"EHLO x\r\nMAIL FROM:<a@b.test>\r\n",
        b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\nhalf a mess",
        b"EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n1\r\n.\r\nNOOP\r\n",
    ];
    for script in scripts {
        let result = catch_unwind(AssertUnwindSafe(|| {
            let stream = Arc::new(unused_stream());
            let ip = Ipv4Addr::LOCALHOST.into();
            let permit =
                engine.inbound.slots.admit(stream, ip, true, Caps { total: 1, per_address: 1 }).unwrap();
            let site = engine.site();
            Connection::new(&site, &engine.intake, &permit, &mut Fuse(script), ip).serve();
        }));
        let panic = result.unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"forced"));
        // The only place was given back.
        send(place.port, "s@y.test", "v@box.test", MESSAGE);
        wait_until("that connection ends", SOON, || engine.inbound.slots.count() == 0);
    }
    assert_eq!((place.mail("u").len(), place.mail("v").len()), (1, 4));
    assert_eq!(super::harness::files(&place.path("mail/u/tmp")).len(), 0);
    engine.stop(&[listener]);
}

/// An unused connected socket.
fn unused_stream() -> TcpStream {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap()
}

/// A resolver that panics once.
#[derive(Debug, Default)]
struct Mine(AtomicBool);

impl Resolve for Mine {
    fn mx(&self, _: &str) -> Result<MxAnswer, DnsError> {
        assert!(self.0.swap(true, Ordering::SeqCst), "forced");
        Ok(MxAnswer::Implicit)
    }

    fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, DnsError> {
        Ok(vec![Ipv4Addr::LOCALHOST.into()])
    }

    fn records(&self, _: &str, _: Rtype) -> Result<RecordSet, DnsError> {
        Ok(RecordSet::default())
    }
}

#[test]
fn a_panic_in_a_worker_delays_its_message_and_nothing_else() {
    let place = Place::new();
    let _sink = place.sink(&[]);
    let path = place.configure("queue.retry = [\"1s\"]\n");
    let site = Site::new(load(&path).unwrap(), Domain::parse("box.test").unwrap(), None);
    let clock = Arc::new(EngineClock::resume(Box::new(SystemClock), &place.path("state")));
    let queue = Arc::new(Queue::open(&place.path("state"), None).unwrap());
    let enqueue = Arc::new(Enqueue { site: Arc::new(Lock::new(Arc::new(site))), index: Arc::default() });
    let (maildirs, on_queued, ids) =
        (Maildirs::new("box.test"), Arc::clone(&enqueue) as _, AtomicUsize::new(0));
    let sweeps = Lock::default();
    let counters =
        Arc::new(Counters::resume(&place.path("state"), Arc::new(ConnectionSlots::default()), clock.now()));
    let digests = DigestWindows::default();
    let intake = Arc::new(Intake { clock, queue, maildirs, on_queued, counters, ids, sweeps, digests });
    let manager = Arc::new(Manager::new(&enqueue, Arc::clone(&intake)));
    let egress = Egress::new(Box::new(Mine::default()), Box::new(TcpConnect::default()), Duration::ZERO);
    let forwarder = Arc::new(Forwarder { manager: Arc::clone(&manager), egress });
    let thread = std::thread::spawn({
        let forwarder = Arc::clone(&forwarder);
        move || forwarder.run(&|_, _| ())
    });
    let site = manager.site();
    let to = ForwardPath::Mailbox(Mailbox::parse("a@far.test").unwrap());
    let submission = Submission {
        is_own: false,
        ..Submission::internal(ReversePath::Null, vec![site.route(&to).unwrap().into()], "test".into())
    };
    let mut incoming = intake.begin(&site, submission).unwrap();
    incoming.write(MESSAGE);
    incoming.commit().unwrap();
    // The route pauses; its message stays in the index, so a flush delivers it.
    let hop = Hop::Relay(NextHop::Mx(Domain::parse("far.test").unwrap()));
    let now = || manager.clock.now().running;
    wait_until("the route pauses", SOON, || manager.index.pause_reason(&hop, now()).is_some());
    manager.index.flush(now());
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
    manager.index.stop();
    thread.join().unwrap();
}

/// Files that are no queue files are put aside, and the others are delivered.
#[test]
fn a_damaged_queue_file_stops_nothing() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure("queue.retry = [\"1s\"]\n");
    let daemon = place.serve();
    for _ in 0..3 {
        send(place.port, "s@y.test", "a@far.test", MESSAGE);
    }
    place.wait_for_log(&["event=deferred"]);
    daemon.signal("KILL");
    drop(daemon);
    let files = super::harness::files(&place.path("state/queue"));
    let octets = std::fs::read(&files[0]).unwrap();
    std::fs::write(&files[0], &octets[..octets.len() / 2]).unwrap();
    std::fs::write(place.path("state/queue/README"), "not a message").unwrap();
    let _sink: Running = place.sink(&[]);
    let _daemon = place.serve();
    wait_until("the others leave", SOON, || place.sunk().len() == 2);
    wait_until("the damaged one is aside", SOON, || {
        super::harness::files(&place.path("state/corrupt")).len() == 1
    });
    place.wait_for_log(&["event=trouble", &files[0].file_name().unwrap().to_string_lossy()]);
    wait_until("README alone stays where it is", SOON, || place.queued() == 1);
}

/// Beyond the limit the kernel sends SIGXFSZ, which ends a process by default.
#[test]
fn a_limit_of_file_sizes_is_a_full_disk() {
    let place = Place::new();
    place.configure("relay.smarthost = \"smtp://127.0.0.1:1\"\n");
    let serve = command(&place);
    let mut limited = super::harness::program("prlimit", "util-linux");
    limited.arg("--fsize=65536").arg(serve.get_program()).args(serve.get_args());
    let log = std::fs::File::options().append(true).open(place.path("log")).unwrap();
    limited.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut daemon = place.run(&mut limited);
    let large = [b"Subject: x\r\n\r\n", "0123456789\r\n".repeat(10_000).as_bytes()].concat();
    for to in ["u@box.test", "a@far.test"] {
        let reply = Client::hello(place.port).unwrap().send("s@y.test", &[to], &large).unwrap();
        assert!(reply.starts_with("452 4.3.1 "), "{to}: {reply}");
        let reply = Client::hello(place.port).unwrap().send("s@y.test", &[to], MESSAGE).unwrap();
        assert!(reply.starts_with("250 "), "{to}: {reply}");
    }
    assert!(daemon.is_running());
    assert_eq!((place.mail("u").len(), place.queued()), (1, 1));
    assert_eq!(super::harness::files(&place.path("state/tmp")).len(), 0);
    daemon.stop();
}
