use super::client::send;
use super::harness::{Daemon, Place, SOON, program, python, run, wait_until};
use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nhello\r\n";
/// A next hop that refuses connections: port 1.
const DEAD: &str = "relay.smarthost = \"smtp://127.0.0.1:1\"\n";

/// Runs `pillarbox status`; exit code, output, errors.
fn status(place: &Place, words: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg("-c").arg(place.path("pillarbox.toml")).arg("status").args(words);
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A daemon whose control socket is open.
fn served(place: &Place) -> Daemon {
    let daemon = place.serve();
    let is_open = || UnixStream::connect(place.path("run/control.sock")).is_ok();
    wait_until("the control socket is open", SOON, is_open);
    daemon
}

/// As [`status`]; panics unless it succeeds.
fn reported(place: &Place, words: &[&str]) -> String {
    let (code, output, errors) = status(place, words);
    assert_eq!((code, errors.as_str()), (0, ""), "{words:?}: {output}");
    output
}

/// The value at a path of the JSON, as Python parses it.
fn json(place: &Place, expression: &str) -> String {
    let file = place.write("status.json", &reported(place, &["--json"]));
    let script = format!("import json, sys\ns = json.load(open(sys.argv[1]))\nprint({expression})");
    python(&script, &[file.to_str().unwrap()]).trim().to_owned()
}

/// The exit code and line of a plugin, checked against the pattern of monitors.
fn check(place: &Place, words: &[&str]) -> (i32, String) {
    let words: Vec<&str> = ["--check"].into_iter().chain(words.iter().copied()).collect();
    let (code, line, errors) = status(place, &words);
    assert_eq!(errors, "", "{line}");
    let pattern = r#"
import re, sys
words = ['OK', 'WARNING', 'CRITICAL', 'UNKNOWN']
assert re.fullmatch(r"PILLARBOX (\w+) - [^|\n]+(\|('[^']+'|\w+)=\d+(s|B)?(;\d*){0,4}( \w+=\d+(s|B)?(;\d*){0,4})*)?\n", sys.argv[1]), sys.argv[1]
assert words.index(sys.argv[1].split()[1]) == int(sys.argv[2]), sys.argv
"#;
    python(pattern, &[&line, &code.to_string()]);
    (code, line)
}

#[test]
fn prometheus_and_python_read_it_and_a_restart_keeps_the_totals() {
    let place = Place::new();
    place.configure(DEAD);
    let daemon = served(&place);
    for to in ["alice@box.test", "a@far.test"] {
        send(place.port, "s@y.test", to, MESSAGE);
    }
    place.wait_for_log(&["event=paused"]);
    let exposed = place.write("metrics", &reported(&place, &["--prometheus"]));
    let Output { status, stdout, stderr } = program("promtool", "prometheus")
        .args(["check", "metrics"])
        .stdin(fs::File::open(&exposed).unwrap())
        .output()
        .unwrap();
    let said = [stdout, stderr].map(|octets| String::from_utf8(octets).unwrap()).concat();
    assert!(status.success() && said.is_empty(), "{said}");
    let exposed = fs::read_to_string(exposed).unwrap();
    for line in [
        "pillarbox_messages_accepted_total{door=\"smtp\"} 2",
        "pillarbox_queue_messages 1",
        "pillarbox_connections_total{result=\"refused\"} 0",
        "pillarbox_route_failing_seconds{route=\"smtp://127.0.0.1:1\"} ",
    ] {
        assert!(exposed.contains(&format!("\n{line}")), "{line}\n{exposed}");
    }
    assert_eq!(
        json(&place, "s['queue_messages'], s['paused_routes'], s['alarms'], len(s['routes'])"),
        "1 1 [] 1"
    );
    assert_eq!(
        json(&place, "s['routes'][0]['route'], 'refused' in s['routes'][0]['reason']"),
        "smtp://127.0.0.1:1 True"
    );
    let accepted = "s['messages_accepted_smtp']['since_start'], s['messages_accepted_smtp']['in_all']";
    assert_eq!(json(&place, accepted), "2 2");
    let text = reported(&place, &[]);
    assert!(
        text.starts_with("1 message waits for smtp://127.0.0.1:1, which ")
            && (text.contains("could not be reached just now")
                || text.contains("has not been reachable for "))
            && text.contains("Connection refused")
            && text.contains("\nlast delivered  "),
        "{text}"
    );
    let text = reported(&place, &["--all"]);
    assert!(
        text.contains("\npaused: smtp://127.0.0.1:1 is tried again in ")
            && text.contains("Connection refused"),
        "{text}"
    );
    daemon.stop();

    let daemon = served(&place);
    send(place.port, "s@y.test", "alice@box.test", MESSAGE);
    assert_eq!(json(&place, accepted), "1 3");
    assert_eq!(json(&place, "s['queue_messages'], s['attempts_delivered']['in_all']"), "1 2");
    daemon.stop();
    let (code, output, errors) = self::status(&place, &[]);
    assert_eq!((code, output.as_str()), (69, ""));
    assert!(
        errors.contains("no daemon answers") && errors.contains("start it: systemctl start pillarbox"),
        "{errors}"
    );
    assert!(errors.contains("1 message waits in the queue: "), "{errors}");
}

#[test]
fn monitors_are_told_in_one_line() {
    let place = Place::new();
    place.configure(DEAD);
    assert_eq!(check(&place, &[]).0, 2, "there is no daemon");
    let daemon = served(&place);
    assert_eq!(check(&place, &[]).0, 0);
    for to in ["a@far.test", "b@far.test"] {
        send(place.port, "s@y.test", to, MESSAGE);
    }
    place.wait_for_log(&["event=paused"]);
    let (code, line) = check(&place, &[]);
    assert!(
        code == 0
            && line.contains(" - 2 queued, the oldest for ")
            && line.contains("|queue=2;5000;9000;0;10000 age="),
        "{line}"
    );
    let link = |word: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        run(command.arg("-c").arg(place.path("pillarbox.toml")).args(["link", word]));
    };
    link("down");
    let (code, line) = check(&place, &[]);
    assert!(
        code == 1 && line.contains("; The link is down: 2 messages wait for other hosts. Run "),
        "{line}"
    );
    link("up");
    assert_eq!(check(&place, &["--warning", "1"]).0, 1);
    assert_eq!(check(&place, &["--warning=0", "--critical=1"]).0, 2);
    assert_eq!(check(&place, &["--critical-age", "5d", "--warning-age=1h"]).0, 0);
    wait_until("the mail is older than that", SOON, || check(&place, &["--critical-age", "0s"]).0 == 2);
    for unknown in [&["--warning", "much"][..], &["--critical"], &["--json"]] {
        assert_eq!(check(&place, unknown).0, 3, "{unknown:?}");
    }
    place.write("pillarbox.toml", "stat = 1\n");
    assert_eq!(check(&place, &[]).0, 3);
    daemon.stop();
}

/// Makes a script; returns its path.
fn script(place: &Place, text: &str) -> String {
    place.script("alarm.sh", text).display().to_string()
}

#[test]
fn an_alarm_runs_its_command_once_and_once_when_it_is_over() {
    let place = Place::new();
    let told_file = place.path("reported");
    let command = script(
        &place,
        &format!(
            "echo \"$PILLARBOX_STATE $PILLARBOX_REASON $PILLARBOX_ID$PILLARBOX_ROUTE\" >> {}",
            told_file.display()
        ),
    );
    let alarm = format!("alarm.command = \"{command}\"\nalarm.stuck_after = \"1s\"\n");
    place.configure(&format!("{DEAD}{alarm}"));
    let daemon = served(&place);
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    let reported = || fs::read_to_string(&told_file).unwrap_or_default();
    wait_until("both reasons are reported", SOON, || reported().lines().count() >= 2);
    assert!(place.wait_for_log(&["event=alarm state=alarm reason=stuck"]).contains("Connection refused"));
    assert_eq!(
        json(&place, "s['standing_alarms'], sorted(s['alarms'])"),
        "2 ['route smtp://127.0.0.1:1', 'stuck']"
    );
    // A few checks later nothing more is reported.
    std::thread::sleep(Duration::from_secs(3));
    let mut lines: Vec<String> = reported().lines().map(str::to_owned).collect();
    lines.sort();
    let [route, stuck] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(route, "alarm route smtp://127.0.0.1:1");
    assert!(stuck.starts_with("alarm stuck C"), "{stuck}");
    let mut remove = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    run(remove.arg("-c").arg(place.path("pillarbox.toml")).args(["queue", "remove", "all"]));
    wait_until("its end is reported", SOON, || reported().contains("\nok stuck \n"));
    daemon.stop();
}

#[test]
fn a_command_that_hangs_is_killed_and_mail_goes_on() {
    let place = Place::new();
    let command = script(&place, "sleep 3000 & echo $! > \"$0.pid\"; wait");
    place.configure(&format!("{DEAD}alarm.command = \"{command}\"\nalarm.stuck_after = \"1s\"\n"));
    let daemon = served(&place);
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    let pid =
        || fs::read_to_string(place.path("alarm.sh.pid")).ok().and_then(|pid| pid.trim().parse::<u32>().ok());
    wait_until("the command runs", SOON, || pid().is_some());
    send(place.port, "s@y.test", "alice@box.test", MESSAGE);
    assert_eq!(place.mail("alice").len(), 1);
    // One at a time: the alarm of the route waits for this one.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(place.logged(&["event=alarm"]).len(), 1);
    let first = pid().unwrap();
    let killed = ["running alarm.command", "killed after 30 seconds"];
    wait_until("it is killed", 2 * SOON, || !place.logged(&killed).is_empty());
    assert!(
        !fs::exists(format!("/proc/{first}/cmdline")).unwrap() || is_zombie(first),
        "what it had started is gone"
    );
    daemon.stop();
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
