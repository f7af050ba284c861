use super::client::{Client, send};
use super::harness::{Daemon, Place, SOON, files, measured, program, signal, wait_until};
use super::test_directory::TestDirectory;
use super::trace::{Call, joined};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const ALERT: &[u8] = b"Subject: disk full\r\n\r\nx\r\n";

/// A place whose queue begins in /dev/shm.
struct Memory {
    place: Place,
    memory: PathBuf,
    _in_memory: TestDirectory,
}

impl Memory {
    /// Nothing answers at far.test.
    fn new(more: &str) -> Self {
        let new = Self::of(Place::new(), "memory");
        new.configure(&format!("queue.storage = \"memory-first\"\n{more}"));
        new
    }

    fn of(place: Place, name: &str) -> Self {
        let in_memory = TestDirectory::below(Path::new("/dev/shm"));
        Self { place, memory: in_memory.join(name), _in_memory: in_memory }
    }

    fn configure(&self, more: &str) {
        let sink = self.place.sink_port;
        self.place.configure(&format!(
            "relay.smarthost = \"smtp://127.0.0.1:{sink}\"\nqueue.memory = {:?}\n{more}",
            self.memory.display().to_string()
        ));
    }

    fn serve(&self) -> Daemon {
        let before = self.place.logged(&["text=\"ready\""]).len();
        let daemon = self.place.run(&mut self.place.command(&measured().0));
        // A signal during the start ends the process at once.
        wait_until("the start is over", SOON, || self.place.logged(&["text=\"ready\""]).len() > before);
        daemon
    }

    fn alert(&self) {
        send(self.place.port, "s@box.test", "a@far.test", ALERT);
    }

    /// How many messages lie in memory, and on the disk.
    fn shelves(&self) -> (usize, usize) {
        (files(&self.memory.join("queue")).len(), self.place.queued())
    }

    fn wait_for(&self, shelves: (usize, usize)) {
        wait_until(&format!("in memory and on the disk: {shelves:?}"), SOON, || self.shelves() == shelves);
    }

    /// Runs a command for the queue; returns its output.
    fn queue(&self, words: &[&str]) -> String {
        let output = Command::new(measured().0)
            .arg("-c")
            .arg(self.place.path("pillarbox.toml"))
            .arg("queue")
            .args(words)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "queue {words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The ids of all messages, as a list shows them.
    fn ids(&self) -> Vec<String> {
        let list = self.queue(&["list", "--json"]);
        let id = |line: &str| line.split('"').nth(3).unwrap().to_owned();
        list.lines().map(id).collect()
    }
}

#[test]
fn kill_9_loses_nothing_and_sigterm_leaves_all_on_the_disk() {
    let place = Memory::new("");
    let daemon = place.serve();
    let [warning] =
        place.place.logged(&["loses accepted mail that is not delivered yet"]).try_into().unwrap();
    assert!(warning.contains("the last 10m") && warning.contains("up to 2.0 MiB"), "{warning}");
    for _ in 0..5 {
        place.alert();
    }
    let large = [b"Subject: x\r\n\r\n".to_vec(), b"0123456789abcde\r\n".repeat(20_000)].concat();
    send(place.place.port, "s@box.test", "a@far.test", &large);
    assert_eq!(place.shelves(), (6, 0));
    daemon.signal("KILL");
    let mut daemon = daemon;
    daemon.wait();
    assert_eq!((place.shelves(), place.ids().len()), ((6, 0), 6), "a command sees them without a daemon");
    let mut daemon = place.serve();
    wait_until("the daemon lists them", SOON, || place.ids().len() == 6);
    place.alert();
    assert_eq!(place.shelves(), (7, 0));
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!(place.shelves(), (0, 7));
    // After a power cut memory is empty.
    fs::remove_dir_all(&place.memory).unwrap();
    let _sink = place.place.sink(&[]);
    let _daemon = place.serve();
    place.queue(&["flush"]);
    place.wait_for((0, 0));
    assert_eq!(place.place.sunk().len(), 7);
}

#[test]
fn a_message_moves_after_the_grace_without_further_activity() {
    let place = Memory::new("queue.memory_grace = \"3s\"\n");
    let _daemon = place.serve();
    place.alert();
    assert_eq!(place.shelves(), (1, 0));
    let begun = Instant::now();
    place.wait_for((0, 1));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn what_does_not_fit_into_memory_goes_to_the_disk() {
    let place = Memory::new("queue.memory_max = \"8KiB\"\n");
    let _daemon = place.serve();
    for _ in 0..5 {
        place.alert();
    }
    assert_eq!(place.shelves(), (2, 3));
    assert_eq!(place.ids().len(), 5);
}

#[test]
fn the_operator_sees_one_queue_with_and_without_a_daemon() {
    let place = Memory::new("");
    let daemon = place.serve();
    for _ in 0..4 {
        place.alert();
    }
    let ids = place.ids();
    place.queue(&["hold", &ids[0]]);
    assert_eq!(place.shelves(), (3, 1), "a power cut must not undo it");
    place.queue(&["remove", &ids[1]]);
    assert_eq!(place.shelves(), (2, 1));
    daemon.signal("KILL");
    let mut daemon = daemon;
    daemon.wait();
    place.queue(&["hold", &ids[2]]);
    place.queue(&["release", &ids[0]]);
    assert_eq!(place.shelves(), (1, 2));
    assert!(place.queue(&["show", &ids[3]]).contains("Subject: disk full"));
    place.queue(&["remove", &ids[3]]);
    assert_eq!(place.shelves(), (0, 2));
    let sink = place.place.sink(&[]);
    place.queue(&["flush"]);
    assert_eq!((place.shelves(), place.ids()), ((0, 1), vec![ids[2].clone()]), "the held one stays");
    // Without a daemon sendmail leaves its mail on the disk.
    let mut sendmail = Command::new(measured().0);
    sendmail.arg("-c").arg(place.place.path("pillarbox.toml")).args(["sendmail", "a@far.test"]);
    let mut sendmail = sendmail.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut sendmail.stdin.take().unwrap(), b"Subject: y\n\ny\n").unwrap();
    assert!(sendmail.wait().unwrap().success());
    assert_eq!((place.shelves(), files(&place.place.path("state/drop")).len()), ((0, 1), 1));
    let _daemon = place.serve();
    wait_until("it is taken and sent", SOON, || place.place.sunk().len() == 2);
    place.queue(&["release", &ids[2]]);
    place.wait_for((0, 0));
    drop(sink);
}

#[test]
fn disk_takes_over_what_lies_in_memory() {
    let place = Memory::new("");
    let mut daemon = place.serve();
    place.alert();
    place.alert();
    // As a reload.
    place.configure("");
    daemon.signal("HUP");
    place.wait_for((0, 2));
    place.alert();
    assert_eq!(place.shelves(), (0, 3));
    place.configure("queue.storage = \"memory-first\"\n");
    daemon.signal("HUP");
    place.place.wait_for_log(&["queue.storage and queue.memory change only with a restart"]);
    daemon.signal("TERM");
    daemon.wait();
    // As a restart after a kill.
    let daemon = place.serve();
    place.alert();
    assert_eq!(place.shelves(), (1, 3));
    daemon.signal("KILL");
    let mut daemon = daemon;
    daemon.wait();
    place.configure("");
    let _daemon = place.serve();
    place.wait_for((0, 4));
}

#[test]
fn a_directory_that_cannot_be_used_costs_no_mail() {
    let place = Memory::new("");
    fs::write(&place.memory, "no directory").unwrap();
    let daemon = place.serve();
    place.place.wait_for_log(&["event=trouble", "opening the queue in memory; all mail goes to the disk"]);
    place.alert();
    assert_eq!(place.place.queued(), 1);
    drop(daemon);
    fs::remove_file(&place.memory).unwrap();
}

#[test]
fn root_makes_the_directory_for_its_user() {
    let Some(place) = Place::of_root() else { return };
    let place = Memory::of(place, "above/queue");
    place.configure("user = \"nobody\"\nqueue.storage = \"memory-first\"\n");
    let mut daemon = place.serve();
    place.alert();
    assert_eq!(place.shelves(), (1, 0));
    let owner = |path: &std::path::Path| std::os::unix::fs::MetadataExt::uid(&path.metadata().unwrap());
    assert_ne!(owner(&place.memory), 0);
    assert_eq!(owner(&place.memory), owner(&place.place.path("state")));
    let strangers = place.memory.metadata().unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&strangers) & 0o077, 0);
    assert_eq!(place.ids().len(), 1);
    daemon.signal("TERM");
    daemon.wait();
    assert_eq!((place.shelves(), place.ids().len()), ((0, 1), 1));
}

/// Whether a call changes something below `state`, or syncs it.
fn wears(call: &Call) -> bool {
    let changes =
        ["write", "pwrite", "rename", "link", "unlink", "mkdir", "truncate", "ftruncate", "fallocate"];
    let makes = call.name.starts_with("open") && call.line.contains("O_CREAT");
    let is_change = call.is_sync() || makes || changes.iter().any(|name| call.name.starts_with(name));
    is_change && call.line.contains("/state/") && !call.line.contains("= -1")
}

#[test]
fn an_alert_that_is_relayed_at_once_writes_nothing_below_state() {
    for (storage, is_spared) in [("memory-first", true), ("disk", false)] {
        let place = Memory::new("");
        place.configure(&format!("queue.storage = \"{storage}\"\n"));
        let _sink = place.place.sink(&[]);
        let mut command = program("strace", "strace");
        command.args(["-f", "-y", "-s", "120", "-o"]).arg(place.place.path("trace")).arg(measured().0);
        command.arg("-c").arg(place.place.path("pillarbox.toml")).arg("serve");
        let mut strace = place.place.run(command.process_group(0));
        wait_until("the clock is saved", SOON, || place.place.path("state/clock").exists());
        let mut client = Client::hello(place.place.port).unwrap();
        for number in 1..=10 {
            client.send("s@box.test", &["a@far.test"], ALERT).unwrap();
            wait_until("it is relayed", SOON, || {
                place.place.sunk().len() == number && place.shelves() == (0, 0)
            });
        }
        let calls = joined(&fs::read_to_string(place.place.path("trace")).unwrap());
        let first = calls.iter().position(|call| call.receives("MAIL FROM:")).unwrap();
        let worn: Vec<&str> =
            calls[first..].iter().filter(|call| wears(call)).map(|call| call.line.as_str()).collect();
        println!("{storage}: {} calls that write below state, for 10 alerts", worn.len());
        assert_eq!(worn.is_empty(), is_spared, "{storage}: {}", worn.join("\n"));
        let in_memory =
            |call: &&Call| call.is_rename() && call.line.contains(&place.memory.display().to_string());
        assert_eq!(calls.iter().filter(in_memory).count(), if is_spared { 10 } else { 0 });
        let pid = strace.pid();
        let child = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        signal(child.trim().parse().unwrap(), "TERM");
        strace.wait();
    }
}
