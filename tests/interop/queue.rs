use super::client::send;
use super::harness::{Place, SOON, copy_program, files, program, python, wait_until};
use pillarbox::mail::id::QueueId;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nhello \x1b[2J\r\n";
/// A next hop that refuses connections: port 1.
const DEAD: &str = "relay.smarthost = \"smtp://127.0.0.1:1\"\n";

/// Runs a command of pillarbox; exit code, output, errors.
fn pillarbox(place: &Place, words: &[&str]) -> (i32, String, String) {
    reported(
        Command::new(env!("CARGO_BIN_EXE_pillarbox")).arg("-c").arg(place.path("pillarbox.toml")).args(words),
    )
}

fn reported(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let text = |octets| String::from_utf8(octets).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// As [`pillarbox`]; panics unless it succeeds.
fn queue(place: &Place, words: &[&str]) -> String {
    let words: Vec<&str> = ["queue"].into_iter().chain(words.iter().copied()).collect();
    let (code, output, errors) = pillarbox(place, &words);
    assert_eq!((code, errors.as_str()), (0, ""), "{words:?}: {output}");
    output
}

fn ids(place: &Place) -> Vec<String> {
    files(&place.path("state/queue"))
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Counts as Nagios' check_mailq does, and parses the lines of Postfix's mailq as scripts do.
const MONITOR: &str = r#"
import re, sys
lines = open(sys.argv[1]).read().splitlines()
last = lines[-1]
found = re.search(r'Kbytes in (\d+)', last)
if found:
    assert lines[0] == '-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------', lines[0]
    heads = [line for line in lines if re.match(r'^[0-9A-Z]+[*!]?\s+\d+ (Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d \d\d:\d\d:\d\d\s+\S+$', line)]
    assert len(heads) == int(found.group(1)), lines
    assert re.match(r'^-- \d+ Kbytes in \d+ Requests?\.$', last), last
    # Programs keep the last line in parentheses as the reason: there is one in front of its recipients.
    for line, following in zip(lines, lines[1:]):
        assert not line.strip().startswith('(') or re.match(r'^ {45}\S+$', following), (line, following)
    print(found.group(1))
elif re.search(r'Mail queue is empty', last):
    print(0)
else:
    print('unknown', last)
"#;

fn counted_by_a_monitor(place: &Place) -> String {
    let list = place.write("list", &queue(place, &[]));
    python(MONITOR, &[list.to_str().unwrap()]).trim().to_owned()
}

#[test]
fn monitors_and_programs_read_the_list() {
    let place = Place::new();
    place.configure(DEAD);
    let daemon = place.serve();
    assert_eq!(queue(&place, &[]), "Mail queue is empty\n");
    assert_eq!(counted_by_a_monitor(&place), "0");
    for to in ["a@far.test", "b@far.test"] {
        send(place.port, "s@y.test", to, MESSAGE);
    }
    place.wait_for_log(&["event=paused"]);
    assert_eq!(counted_by_a_monitor(&place), "2");
    let list = queue(&place, &["list"]);
    assert!(list.contains("Connection refused (os error 111))\n"), "{list}");
    // Called as mailq.
    let link = place.path("mailq");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pillarbox"), &link).unwrap();
    for flags in [&[][..], &["-v"], &["-Ac"]] {
        let called = reported(Command::new(&link).args(flags).arg("-c").arg(place.path("pillarbox.toml")));
        assert_eq!(called, (0, list.clone(), String::new()), "{flags:?}");
    }
    let json = place.write("json", &queue(&place, &["--json"]));
    let parsed = python(
        "import json, sys\nfor line in open(sys.argv[1]):\n  m = json.loads(line)\n  r = m['recipients'][0]\n  \
         print(m['from'], r['to'], r['state'], r['status'], m['hold'], m['next_attempt'] > m['arrival'] > 1.7e9, m['size'] > 20)",
        &[json.to_str().unwrap()],
    );
    let line = |to: &str| format!("s@y.test {to}@far.test pending 4.4.1 False True True\n");
    assert_eq!(parsed, line("a") + &line("b"));
    daemon.stop();
    assert!(!place.path("run/control.sock").exists());
    assert_eq!(counted_by_a_monitor(&place), "2", "the same with no daemon");
}

#[test]
fn messages_are_held_released_removed_and_bounced_with_and_without_a_daemon() {
    for with_daemon in [true, false] {
        let place = Place::new();
        place.configure(DEAD);
        let mut daemon = Some(place.serve());
        for to in ["a@far.test", "b@far.test", "c@far.test"] {
            send(place.port, "s@box.test", to, MESSAGE);
        }
        place.wait_for_log(&["event=paused"]);
        if !with_daemon {
            daemon.take().unwrap().stop();
        }
        let all = ids(&place);
        queue(&place, &["hold", &all[0], &all[1]]);
        assert_eq!(queue(&place, &[]).matches("! ").count(), 2);
        queue(&place, &["release", &all[1]]);
        assert!(queue(&place, &["show", &all[0]]).contains("next attempt: held"));
        queue(&place, &["remove", &all[1]]);
        queue(&place, &["bounce", &all[2]]);
        assert_eq!((ids(&place), place.mail("s").len()), (vec![all[0].clone()], 1));
        let (code, output, errors) = pillarbox(&place, &["queue", "remove", &all[1], &all[0]]);
        let unknown = format!("pillarbox: {}: no message has this id\n", all[1]);
        assert_eq!((code, output.as_str(), errors), (66, "", unknown), "the others are done");
        assert_eq!(queue(&place, &[]), "Mail queue is empty\n");
        for (words, expected) in [
            (&["queue", "show", "x"][..], 66),
            (&["queue", "hold"], 64),
            (&["queue", "hold", "a\nall"], 64),
            (&["queue", "frobnicate"], 64),
            (&["link", "sideways"], 64),
        ] {
            assert_eq!(pillarbox(&place, words).0, expected, "{words:?}");
        }
        assert_eq!(pillarbox(&place, &["link", "up"]).0, if with_daemon { 0 } else { 69 });
        if let Some(daemon) = daemon {
            let log = place.log();
            assert!(log.contains("event=operator what=remove"), "{log}");
            daemon.stop();
        }
    }
}

#[test]
fn a_run_from_cron_delivers_with_no_daemon() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("queue.schedule = \"0 0 29 2 *\"\n");
    let daemon = place.serve();
    for to in ["a@far.test", "b@far.test"] {
        send(place.port, "s@y.test", to, MESSAGE);
    }
    assert_eq!(queue(&place, &["run"]), "", "a daemon keeps to its schedule");
    assert_eq!(place.queued(), 2);
    daemon.stop();
    assert_eq!(queue(&place, &["hold", &ids(&place)[0]]), "");
    // Two runs at once do not send twice.
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.arg("-c").arg(place.path("pillarbox.toml")).args(["queue", "run", "--all"]);
        command.stdout(Stdio::null()).spawn().unwrap()
    };
    let mut both = [start(), start()];
    assert!(both.iter_mut().all(|run| run.wait().unwrap().success()));
    assert_eq!((place.queued(), place.sunk().len()), (1, 1));
    queue(&place, &["release", "all"]);
    assert_eq!(queue(&place, &["flush", "@far.test"]), "");
    assert_eq!((place.queued(), place.sunk().len()), (0, 2));
}

#[test]
fn the_queue_is_flushed_and_the_link_told_by_command() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure("queue.retry = [\"1h\"]\n");
    let _daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    place.wait_for_log(&["event=paused", "route=far.test"]);
    let _sink = place.sink(&[]);
    assert_eq!(pillarbox(&place, &["link", "down"]).0, 0);
    let (code, _, errors) = pillarbox(&place, &["queue", "flush"]);
    assert_eq!((code, errors.contains("the link is down")), (0, true));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(place.sunk().len(), 0);
    assert_eq!(pillarbox(&place, &["link", "up"]).0, 0);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn a_metered_link_is_for_what_is_urgent() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("");
    let _daemon = place.serve();
    // The control socket is opened after the listeners.
    place.wait_for_log(&["text=\"ready\""]);
    assert_eq!(pillarbox(&place, &["link", "metered"]).0, 0);
    place.wait_for_log(&["text=\"the link is metered\""]);
    for field in ["X-Priority: 3", "Importance: normal"] {
        send(place.port, "s@y.test", "a@far.test", format!("{field}\r\n\r\nhello\r\n").as_bytes());
    }
    send(place.port, "s@y.test", "b@far.test", b"X-Priority: 1 (Highest)\r\n\r\nfire\r\n");
    wait_until("the urgent one leaves", SOON, || place.queued() == 2);
    let list = queue(&place, &[]);
    assert_eq!(list.matches("(the link is metered)\n").count(), 2, "{list}");
    let (code, _, errors) = pillarbox(&place, &["queue", "flush"]);
    assert_eq!((code, errors.contains("the link is metered")), (0, true));
    queue(&place, &["flush", &ids(&place)[0]]);
    wait_until("the one that was named leaves", SOON, || place.queued() == 1);
    assert_eq!(place.sunk().len(), 2);
    assert_eq!(pillarbox(&place, &["link", "up"]).0, 0);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 3);
}

/// Lists and changes while smtp-sink takes message after message.
#[test]
fn commands_during_deliveries_lose_nothing() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("");
    let _daemon = place.serve();
    let count = 60;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for i in 0..count {
                send(place.port, "s@y.test", &format!("u{i}@far.test"), MESSAGE);
            }
        });
        while !sender.is_finished() {
            for words in [&["queue"][..], &["queue", "hold", "all"], &["queue", "release", "all"]] {
                assert_eq!(pillarbox(&place, words).0, 0, "{words:?}");
            }
        }
    });
    queue(&place, &["release", "all"]);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), count);
}

/// A user opens too many connections: returns the answers to the surplus ones.
const MANY: &str = "
import os, socket, sys
os.setgroups([])
os.setgid(1)
os.setuid(1)
def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(sys.argv[1])
    return s
served = [connect() for _ in range(16)]
one_more = connect()
said = b''
while True:
    piece = one_more.recv(1000)
    if not piece: break
    said += piece
assert said == b'2 30\\ntoo many connections are open\\n0 75\\n', said
for s in served: s.sendall(b'queue list\\n')
print(len(served), len({s.recv(1) for s in served}))
";

#[test]
fn others_see_no_addresses_but_their_own_and_the_daemons_user_does_all() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let place = Place::open();
    let nobody = std::fs::read_to_string("/etc/passwd").unwrap();
    let nobody: Vec<u32> = nobody
        .lines()
        .find_map(|line| line.strip_prefix("nobody:"))
        .map(|rest| rest.split(':').skip(1).take(2).map(|n| n.parse().unwrap()).collect())
        .unwrap();
    std::fs::create_dir(place.path("mail")).unwrap();
    chown(place.path("mail"), Some(nobody[0]), Some(nobody[1])).unwrap();
    place.configure(&format!("user = \"nobody\"\n{DEAD}"));
    std::fs::set_permissions(place.path("pillarbox.toml"), PermissionsExt::from_mode(0o644)).unwrap();
    // Other users must be able to run it, too.
    let binary = place.path("pillarbox");
    copy_program(Path::new(env!("CARGO_BIN_EXE_pillarbox")), &binary);
    let run_as = |options: &[&str], words: &[&str]| {
        let mut command = program("setpriv", "util-linux");
        reported(command.args(options).arg(&binary).arg("-c").arg(place.path("pillarbox.toml")).args(words))
    };
    let daemon = place.serve();
    let socket = || place.path("run/control.sock").metadata();
    wait_until("the socket is for all", SOON, || socket().is_ok_and(|it| it.mode() & 0o777 == 0o666));
    let socket = socket().unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.uid(), nobody[0]);
    assert_eq!(place.path("run").metadata().unwrap().uid(), nobody[0]);
    send(place.port, "daemon@box.test", "a@far.test", MESSAGE);
    send(place.port, "s@y.test", "b@far.test", MESSAGE);
    place.wait_for_log(&["event=paused"]);

    let stranger = ["--reuid=daemon", "--regid=daemon", "--clear-groups"];
    let (code, list, _) = run_as(&stranger, &["queue"]);
    assert!(code == 0 && list.contains("a@far.test") && !list.contains("b@far.test"), "{list}");
    assert!(list.ends_with("in 2 Requests.\n") && list.matches("<hidden>").count() == 2, "{list}");
    let (code, status, _) = run_as(&stranger, &["status", "--json"]);
    let numbers_alone = status.contains("\"queue_messages\":2,") && status.contains("\"routes\":null,");
    assert!(code == 0 && numbers_alone && !status.contains("127.0.0.1"), "{status}");
    let id = ids(&place)[0].clone();
    for words in
        [&["queue", "show", &id][..], &["queue", "remove", "all"], &["queue", "flush"], &["link", "down"]]
    {
        assert_eq!(run_as(&stranger, words).0, 77, "{words:?}");
    }
    let group = format!("--groups={}", nobody[1]);
    let user = format!("--reuid={}", nobody[0]);
    for options in
        [&["--reuid=daemon", "--regid=daemon", &group][..], &[&user, "--regid=daemon", "--clear-groups"]]
    {
        assert_eq!(run_as(options, &["queue", "hold", &id]).0, 0, "{options:?}");
    }
    let socket = place.path("run/control.sock");
    assert_eq!(python(MANY, &[socket.to_str().unwrap()]), "16 1\n");
    daemon.stop();
    assert_eq!(run_as(&stranger, &["queue"]).0, 77, "the files are the daemon's");
    // Root leaves no file that the daemon's user could not use.
    queue(&place, &["release", "all"]);
    queue(&place, &["bounce", &id]);
    queue(&place, &["run", "--all"]);
    let is_users = |path: &Path| path.metadata().unwrap().uid() == nobody[0];
    assert!(files(&place.path("state/queue")).iter().all(|path| is_users(path)));
    assert!(is_users(&place.path("state/clock")));
}

/// On a terminal a message cannot move the cursor; in a pipe it is unchanged.
#[test]
fn a_terminal_gets_no_command_from_a_message() {
    let place = Place::new();
    place.configure(DEAD);
    let _daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    let id = ids(&place)[0].clone();
    assert!(queue(&place, &["show", &id]).contains("hello \u{1b}[2J"));
    let command = format!(
        "{} -c {} queue show {id}",
        env!("CARGO_BIN_EXE_pillarbox"),
        place.path("pillarbox.toml").display()
    );
    let typescript = reported(program("script", "bsdutils").args(["-qec", &command, "/dev/null"]));
    assert!(typescript.1.contains("hello \\u{1b}[2J") && !typescript.1.contains('\u{1b}'), "{typescript:?}");
}

#[test]
fn ten_thousand_messages_are_listed_fast() {
    let place = Place::new();
    place.configure(DEAD);
    let daemon = place.serve();
    send(place.port, "s@y.test", "a@far.test", MESSAGE);
    place.wait_for_log(&["event=paused"]);
    daemon.stop();
    let first = std::fs::read(&files(&place.path("state/queue"))[0]).unwrap();
    for i in 1..10_000u64 {
        let id = QueueId::new(1_795_416_810_000_000 + i, i);
        std::fs::write(place.path("state/queue").join(id.to_string()), &first).unwrap();
    }
    let timed = |what: &str| {
        let begun = Instant::now();
        assert_eq!(queue(&place, &[]).matches("a@far.test\n").count(), 10_000);
        println!("10,000 messages listed {what} in {:?}", begun.elapsed());
        // Three seconds of CPU time in a debug build; a busy machine takes longer.
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", begun.elapsed());
    };
    timed("without a daemon");
    let _daemon = place.serve();
    wait_until("the queue has been read", SOON, || queue(&place, &["--json"]).lines().count() == 10_000);
    timed("by the daemon");
    assert_eq!(counted_by_a_monitor(&place), "10000");
}

/// A command as an ordinary user outside the daemon's group.
fn as_ordinary_user(place: &Place, words: &[&str]) -> Command {
    let mut command = program("setpriv", "util-linux");
    command.args(["--reuid=games", "--regid=games", "--clear-groups"]).args(words);
    command.env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
    command
}

/// A monitor that reports OK while mail is stuck is worse than no monitor.
#[test]
fn a_monitor_as_an_ordinary_user_sees_what_is_stuck() {
    // Below a directory that every user may enter.
    let place = Place::below(Path::new("/var/tmp"));
    place.configure(DEAD);
    // The program, too.
    let mailq = place.path("mailq");
    copy_program(Path::new(env!("CARGO_BIN_EXE_pillarbox")), &mailq);
    let plugin = "/usr/lib/nagios/plugins/check_mailq";
    assert!(Path::new(plugin).exists(), "install monitoring-plugins-standard");
    let utils = std::fs::read_to_string("/usr/lib/nagios/plugins/utils.pm").unwrap();
    place.write("utils.pm", &utils.replace("\"/usr/bin/mailq\"", &format!("{mailq:?}")));
    let include = format!("-I{}", place.dir.display());
    let words = ["perl", &include, "-Mutils", plugin, "-M", "postfix", "-w", "1", "-c", "4"];
    let check_mailq = || reported(&mut as_ordinary_user(&place, &words));
    let listed = |more: &[&str]| {
        let words = [&[mailq.to_str().unwrap()], more].concat();
        reported(&mut as_ordinary_user(&place, &words))
    };

    let daemon = place.serve();
    place.wait_for_log(&["text=\"ready\""]);
    let (code, output, errors) = check_mailq();
    assert!(code == 0 && output.contains("OK"), "{code} {output}{errors}");
    for name in ["a", "b", "c", "d", "e"] {
        send(place.port, "secret@y.test", &format!("{name}@far.test"), MESSAGE);
    }
    place.wait_for_log(&["event=paused"]);
    let (code, output, errors) = check_mailq();
    assert!(code == 2 && output.contains("mailq is 5 "), "{code} {output}{errors}");
    let (code, output, errors) = listed(&[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    assert!(output.ends_with(" Kbytes in 5 Requests.\n") && !output.contains('@'), "{output}");
    assert_eq!(output.matches("<hidden>").count(), 10, "{output}");
    let (code, json, _) = listed(&["--json"]);
    assert!(code == 0 && json.lines().count() == 5 && !json.contains('@'), "{json}");
    daemon.stop();

    // Without a daemon no one answers, and an ordinary user may not read the queue.
    let (code, output, errors) = listed(&[]);
    assert!(code == 77 && output.is_empty() && errors.contains("can't be opened"), "{code} {output}{errors}");
    let (code, output, errors) = check_mailq();
    assert!(code != 0, "{code} {output}{errors}");
}
