use super::client::Client;
use super::harness::{Daemon, Place, SOON, files, program, run, signal, wait_until};
use std::os::unix::fs::chown;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";
/// What nobody waits for longer, on a busy machine too; the waits that were too long lasted two and ten minutes.
const HANGS: Duration = Duration::from_secs(60);

/// Runs pillarbox to its end: exit code, output, errors.
fn pillarbox(place: &Place, arguments: &[&str]) -> (i32, String, String) {
    let mut command = program("timeout", "coreutils");
    command.args(["--signal=KILL", &HANGS.as_secs().to_string(), env!("CARGO_BIN_EXE_pillarbox"), "-c"]);
    command.arg(place.path("pillarbox.toml")).args(arguments);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// The child of the daemon with this name.
fn child(daemon: &Daemon, name: &str) -> u32 {
    let output = run(program("pgrep", "procps").args(["-P", &daemon.pid().to_string(), name]));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

#[test]
fn nobody_waits_for_a_daemon_that_is_stopped() {
    let place = Place::new();
    place.configure("relay.smarthost = \"smtp://127.0.0.1:1\"\n");
    let daemon = place.serve();
    place.wait_for_log(&["ready"]);
    daemon.signal("STOP");
    let (code, line, errors) = pillarbox(&place, &["status", "--check"]);
    assert!(code == 2 && line.contains("does not answer") && errors.is_empty(), "{code} {line} {errors}");
    // Each waits some seconds, so they wait together.
    std::thread::scope(|scope| {
        for words in [&["status"][..], &["queue"], &["link", "up"], &["queue", "flush"]] {
            let place = &place;
            scope.spawn(move || {
                let (code, said, errors) = pillarbox(place, words);
                let is_told = errors.contains("does not answer");
                assert!(code == 75 && said.is_empty() && is_told, "{words:?}: {code} {errors}");
            });
        }
    });
    daemon.signal("CONT");
    assert_eq!(pillarbox(&place, &["queue"]).0, 0);
    daemon.stop();
}

#[test]
fn a_client_does_not_wait_long_for_a_delivery_agent_that_is_stopped() {
    let Some(place) = Place::of_root() else { return };
    place.configure("user = \"nobody\"\nlocal.users = \"system\"\n");
    let daemon = place.serve();
    let agent = child(&daemon, "pillarbox-mda");
    signal(agent, "STOP");
    let begun = Instant::now();
    let mut client = Client::hello(place.port).unwrap();
    client.stream().set_read_timeout(Some(HANGS)).unwrap();
    let reply = client.send("s@y.test", &["daemon@box.test"], MESSAGE).unwrap();
    assert!(reply.starts_with("451"), "{reply} after {:?}", begun.elapsed());
    let (code, line, _) = pillarbox(&place, &["status", "--check"]);
    assert!(code == 2 && line.contains("mailboxes that do not answer: 1"), "{code} {line}");
    daemon.signal("HUP");
    place.wait_for_log(&["event=trouble", "the delivery agent the old one"]);
    assert!(!place.log().contains("configuration read again"), "{}", place.log());
    signal(agent, "CONT");
    let send = || Client::hello(place.port).unwrap().send("s@y.test", &["daemon@box.test"], MESSAGE).unwrap();
    let healed = || send().starts_with("250");
    wait_until("the agent answers again", SOON, healed);
    assert_eq!(files(&place.path("mail/daemon/new")).len(), 1);
    daemon.stop();
}

#[test]
fn without_the_process_for_its_commands_the_daemon_ends_to_be_started_again() {
    let place = Place::new();
    let with = "alarm.command = \"/bin/true\"\n";
    place.configure(with);
    let mut daemon = place.serve();
    place.wait_for_log(&["ready"]);
    signal(child(&daemon, "pillarbox-comma"), "KILL");
    assert_eq!(daemon.wait().code(), Some(75), "{}", place.log());
    assert!(place.log().contains("stopping, to be started again"), "{}", place.log());
    // A daemon that has no command any more goes on, and says so if it gets one.
    let mut daemon = place.serve();
    place.configure("");
    daemon.signal("HUP");
    place.wait_for_log(&["configuration read again"]);
    let commands = child(&daemon, "pillarbox-comma");
    signal(commands, "KILL");
    let is_dead =
        || std::fs::read_to_string(format!("/proc/{commands}/stat")).is_ok_and(|it| it.contains(") Z "));
    wait_until("it has ended", SOON, is_dead);
    place.configure(with);
    daemon.signal("HUP");
    place.wait_for_log(&["the old one stays", "need a restart"]);
    assert!(daemon.is_running());
    daemon.stop();
}

#[test]
fn a_queue_that_cannot_be_read_is_not_called_empty() {
    let Some(place) = Place::of_root() else { return };
    place.configure("user = \"nobody\"\nrelay.smarthost = \"smtp://127.0.0.1:1\"\n");
    let daemon = place.serve();
    Client::hello(place.port).unwrap().send("s@y.test", &["a@far.test"], MESSAGE).unwrap();
    daemon.stop();
    // As after a restore from a backup.
    for file in files(&place.path("state/queue")) {
        chown(file, Some(0), Some(0)).unwrap();
    }
    let (code, said, errors) = pillarbox(&place, &["queue"]);
    assert!(code == 74 && said.is_empty(), "{code} {said}");
    assert!(
        errors.contains("Permission denied") && errors.contains("no message of the queue can be read"),
        "{errors}"
    );
    let (code, _, errors) = pillarbox(&place, &["status"]);
    assert!(code == 69 && errors.contains("1 files that can't be read"), "{code} {errors}");
}
