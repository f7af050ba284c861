use super::client::{Client, send};
use super::harness::{Place, SOON};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";

/// Runs pillarbox to its end; returns its exit code and its standard error.
fn pillarbox(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pillarbox")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn sigterm_ends_idle_sessions_at_once_and_lets_transactions_finish() {
    for name in ["TERM", "INT"] {
        let place = Place::new();
        place.configure("");
        let mut daemon = place.serve();
        let mut idle = Client::hello(place.port).unwrap();
        let mut busy = Client::hello(place.port).unwrap();
        busy.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
        for reply in ["250", "250", "354"] {
            busy.expect(reply).unwrap();
        }
        busy.write(b"Subject: x\r\n").unwrap();
        let begun = Instant::now();
        daemon.signal(name);
        let farewell = idle.reply().unwrap();
        assert!(farewell.starts_with("421 4.3.2 "), "{farewell}");
        assert!(begun.elapsed() < Duration::from_secs(2), "421 after {:?}", begun.elapsed());
        assert_eq!(idle.rest(), "");
        busy.write(b"\r\nx\r\n.\r\n").unwrap();
        busy.expect("250 2.0.0").unwrap();
        busy.expect("421").unwrap();
        assert_eq!(daemon.wait().code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(8), "stopped after {:?}", begun.elapsed());
        assert_eq!(place.mail("u").len(), 1);
        assert!(Client::connect(place.port).is_err(), "the listener is still open");
        place.wait_for_log(&["event=notice text=\"stopped\""]);
    }
}

#[test]
fn sigterm_waits_ten_seconds_for_a_transaction_and_no_longer() {
    let place = Place::new();
    place.configure("");
    let mut daemon = place.serve();
    let mut stuck = Client::hello(place.port).unwrap();
    stuck.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
    for reply in ["250", "250", "354"] {
        stuck.expect(reply).unwrap();
    }
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    let lasted = begun.elapsed().as_secs();
    assert!((9..=15).contains(&lasted), "{lasted} s");
}

#[test]
fn sighup_takes_a_good_file_and_keeps_to_the_old_one_with_a_bad_one() {
    let place = Place::new();
    place.configure("local.users = [\"old\"]\n");
    let daemon = place.serve();
    place.configure("local.users = [\"new\"]\nlocal.userz = 1\n");
    daemon.signal("HUP");
    place.wait_for_log(&["event=trouble", "the old one stays", "pillarbox.toml:", "userz"]);
    send(place.port, "s@y.test", "old@box.test", MESSAGE);
    let mut open = Client::hello(place.port).unwrap();
    place.configure("local.users = [\"new\"]\n");
    daemon.signal("HUP");
    place.wait_for_log(&["configuration read again"]);
    send(place.port, "s@y.test", "new@box.test", MESSAGE);
    let mut client = Client::hello(place.port).unwrap();
    let refusal = client.send("s@y.test", &["old@box.test"], MESSAGE).unwrap_err().to_string();
    assert!(refusal.starts_with("550 5.1.1"), "{refusal}");
    assert!(
        open.send("s@y.test", &["old@box.test"], MESSAGE).unwrap().starts_with("250"),
        "an open session keeps its own"
    );
}

#[test]
fn sighup_gives_queued_mail_the_new_routes() {
    let place = Place::new();
    let _sink = place.sink(&[]);
    let more = "queue.retry = [\"1h\"]\nrelay.smarthost = \"smtp://127.0.0.1:PORT\"\n";
    place.configure(&more.replace("PORT", "1"));
    let daemon = place.serve();
    send(place.port, "s@box.test", "a@far.test", MESSAGE);
    place.wait_for_log(&["event=paused"]);
    place.configure(&more.replace("PORT", &place.sink_port.to_string()));
    daemon.signal("HUP");
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn signals_during_a_delivery_do_not_send_the_message_twice() {
    let place = Place::new();
    // Slow to answer DATA, so that the signals come in the middle of a transaction.
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&["-w", "1"]));
    place.configure("");
    let daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    let file = || super::harness::files(&place.path("sink")).len();
    super::harness::wait_until("the transaction begins", SOON, || file() == 1);
    for name in ["HUP", "USR1", "HUP"] {
        daemon.signal(name);
        std::thread::sleep(Duration::from_millis(100));
    }
    place.wait_for_empty_queue(SOON);
    daemon.stop();
    assert_eq!(file(), 1, "{}", place.log());
}

#[test]
fn sigusr1_tries_what_is_deferred_at_once() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure("queue.retry = [\"1h\"]\n");
    let daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    place.wait_for_log(&["event=paused", "route=far.test"]);
    let _sink = place.sink(&[]);
    daemon.signal("USR1");
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn a_schedule_holds_mail_until_it_fires_or_is_overridden() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    // The 29th of February.
    place.configure("queue.schedule = \"0 0 29 2 *\"\n");
    let daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((place.queued(), place.sunk().len()), (1, 0));
    daemon.signal("USR1");
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn what_is_queued_survives_a_restart() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure("queue.retry = [\"1s\"]\n");
    let daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    place.wait_for_log(&["event=deferred"]);
    daemon.stop();
    let _sink = place.sink(&[]);
    let _daemon = place.serve();
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn only_one_serves_a_state() {
    let (place, other) = (Place::new(), Place::new());
    place.configure("");
    let mut daemon = place.serve();
    other.configure("");
    let config = std::fs::read_to_string(other.path("pillarbox.toml")).unwrap();
    let state = |place: &Place| format!("\"{}/state\"", place.dir.display());
    let config = other.write("same.toml", &config.replace(&state(&other), &state(&place)));
    let (code, said) = pillarbox(&["-c", config.to_str().unwrap(), "serve"]);
    assert_eq!(code, 75, "{said}");
    assert!(said.contains("another pillarbox serves"), "{said}");
    assert!(daemon.is_running());
    send(place.port, "s@y.test", "u@box.test", MESSAGE);
}

#[test]
fn a_broken_configuration_is_told_by_file_line_and_column() {
    let place = Place::new();
    let path = place.configure("limits.conections = 5\n");
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().position(|line| line.contains("conections")).unwrap() + 1;
    for command in ["serve", "check"] {
        let (code, said) = pillarbox(&["-c", path.to_str().unwrap(), command]);
        assert_eq!(code, 78, "{command}: {said}");
        assert!(said.starts_with(&format!("{}:{line}:8: ", path.display())), "{command}: {said}");
        assert!(said.contains("connections"), "the likely key is named: {said}");
    }
    place.configure("");
    assert_eq!(pillarbox(&["-c", path.to_str().unwrap(), "check"]), (0, String::new()));
    assert_eq!(pillarbox(&["-c", "/nonexistent.toml", "serve"]).0, 78);
    assert_eq!(pillarbox(&["frobnicate"]).0, 64);
}

#[test]
fn a_port_that_is_taken_is_told() {
    let place = Place::new();
    place.configure("");
    let _daemon = place.serve();
    let config = std::fs::read_to_string(place.path("pillarbox.toml")).unwrap();
    let config = place.write("b.toml", &config.replace("/state\"", "/state2\""));
    let (code, said) = pillarbox(&["-c", config.to_str().unwrap(), "serve"]);
    assert_eq!(code, 69, "{said}");
    assert!(said.contains(&format!("127.0.0.1:{}", place.port)), "{said}");
    assert!(!Path::new(&place.path("state2")).exists());
}
