use super::harness::{Daemon, Place, SOON, alone, copy_program, files, measured, program, run, wait_until};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A place that every user can pass through, with a copy of the program named sendmail.
pub fn place(more: &str) -> (Place, PathBuf) {
    let place = Place::open();
    place.configure(more);
    let (binary, _) = measured();
    copy_program(&binary, &place.path("pillarbox"));
    symlink("pillarbox", place.path("sendmail")).unwrap();
    let sendmail = place.path("sendmail");
    (place, sendmail)
}

/// Starts that program as a daemon and waits for its socket.
pub fn serve(place: &Place) -> Daemon {
    let daemon = place.run(&mut place.command(&place.path("pillarbox")));
    let socket = place.path("run/control.sock");
    wait_until("the socket is open", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    daemon
}

/// The flags for a sendmail that finds no daemon and uses the drop directory.
fn dropping(place: &Place) -> [String; 2] {
    let config =
        fs::read_to_string(place.path("pillarbox.toml")).unwrap().replace("control.sock", "none.sock");
    ["-C".into(), place.write("dropping.toml", &config).display().to_string()]
}

/// Runs a program with sendmail's configuration and this input.
fn feed(place: &Place, command: &mut Command, input: &str) {
    command.env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
    command.env("HOME", &place.dir).current_dir(&place.dir);
    let mut child =
        command.stdin(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{command:?}");
}

#[test]
fn what_is_too_large_is_in_the_log_of_the_daemon() {
    let (place, sendmail) = place("limits.message_size = \"1KiB\"\n");
    let daemon = serve(&place);
    let mut command = Command::new(&sendmail);
    command.arg("u@box.test").env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&[b'x'; 2000]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    place.wait_for_log(&["event=refused client=\"uid", "the message is larger than limits.message_size"]);
    daemon.stop();
}

#[test]
fn mail_that_was_left_while_the_daemon_was_down_arrives_and_later_mail_at_once() {
    let (place, sendmail) = place("");
    serve(&place).stop();
    let uids: &[u32] = if rustix::process::geteuid().is_root() { &[0, 65534, 4321] } else { &[] };
    let send = |subject: &str, flags: &[String]| {
        for uid in uids {
            let mut command = program("setpriv", "util-linux");
            command.args(["--reuid", &uid.to_string(), "--clear-groups"]).arg(&sendmail);
            command.args(flags).arg("u@box.test");
            feed(&place, &mut command, &format!("Subject: {subject} {uid}\n\nx\n"));
        }
        let input = format!("To: u\nSubject: {subject}\n\nx\n");
        feed(&place, Command::new(&sendmail).args(flags).arg("-t"), &input);
    };
    send("down", &[]);
    assert_eq!(files(&place.path("state/drop")).len(), uids.len() + 1);
    let daemon = serve(&place);
    place.wait_for_mail("u", uids.len() + 1);
    let start = Instant::now();
    send("dropped", &dropping(&place));
    place.wait_for_mail("u", (uids.len() + 1) * 2);
    assert!(start.elapsed() < Duration::from_secs(20), "a round is a minute; this was told by inotify");
    wait_until("all is removed", SOON, || files(&place.path("state/drop")).is_empty());
    send("up", &[]);
    assert_eq!(place.mail("u").len(), (uids.len() + 1) * 3, "what the daemon has taken is there");
    let mail: String =
        place.mail("u").iter().map(|mail| String::from_utf8_lossy(mail).into_owned()).collect();
    for (uid, name) in
        [(0, "root"), (65534, "nobody"), (4321, "4321")].into_iter().filter(|(uid, _)| uids.contains(uid))
    {
        assert!(mail.contains(&format!("Return-Path: <{name}@box.test>")), "{mail}");
        assert!(mail.contains(&format!("Subject: up {uid}\n")), "{mail}");
    }
    daemon.stop();
}

/// With a daemon, and without one until it starts.
#[test]
fn an_addressee_that_cannot_be_read_comes_back_to_the_sender_and_the_others_get_the_message() {
    let (place, sendmail) = place("");
    serve(&place).stop();
    let input = "To: Team [Ops, u@box.test; Team: u\nSubject: alert\n\nx\n";
    let send = || feed(&place, Command::new(&sendmail).args(["-f", "u", "-t"]), input);
    send();
    let daemon = serve(&place);
    place.wait_for_mail("u", 2);
    send();
    place.wait_for_mail("u", 4);
    daemon.stop();
    let mail: Vec<String> =
        place.mail("u").iter().map(|mail| String::from_utf8_lossy(mail).into_owned()).collect();
    let bounces = mail.iter().filter(|mail| mail.starts_with("Return-Path: <>\n"));
    let named = bounces.filter(|mail| {
        mail.contains("Team [Ops") && mail.contains("this addressee can't be read as an address")
    });
    assert_eq!(named.count(), 2, "{mail:?}");
    assert_eq!(place.log().matches("event=bounced").count(), 2, "{}", place.log());
}

/// A host without a daemon: sendmail, and `queue run` from cron; two runs at once, and a run with a daemon.
#[test]
fn without_a_daemon_a_run_of_the_queue_takes_what_was_left() {
    let (place, sendmail) = place("");
    let config = place.path("pillarbox.toml");
    let start_run = || {
        let mut command = Command::new(place.path("pillarbox"));
        command.arg("-c").arg(&config).args(["queue", "run"]).stdout(Stdio::null()).spawn().unwrap()
    };
    assert!(start_run().wait().unwrap().success());
    for round in 1..=10 {
        for _ in 0..10 {
            feed(&place, Command::new(&sendmail).arg("u"), "Subject: x\n\nx\n");
        }
        if round == 1 {
            let mut list = Command::new(place.path("pillarbox"));
            let output = list.arg("-c").arg(&config).arg("queue").output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(
                (output.stdout.as_slice(), output.status.code()),
                (&b"Mail queue is empty\n"[..], Some(0))
            );
            assert!(said.contains("not taken yet from drop/: 10; pillarbox queue run takes"), "{said}");
        }
        let daemon = (round == 5).then(|| serve(&place));
        let runs = [start_run(), start_run(), start_run()];
        assert!(runs.into_iter().all(|mut run| run.wait().unwrap().success()), "{}", place.log());
        place.wait_for_mail("u", round * 10);
        if let Some(daemon) = daemon {
            daemon.stop();
        }
        assert!(files(&place.path("state/drop")).is_empty());
    }
}

/// Two runs of cron while messages are dropped, and a daemon that starts meanwhile: no message is lost or duplicated.
#[test]
fn runs_of_the_queue_beside_each_other_and_a_daemon_take_each_message_once() {
    const SENDERS: usize = 4;
    const EACH: usize = 50;
    for has_daemon in [false, true] {
        let (place, sendmail) = place("log.level = \"warn\"\n");
        let run_queue = || {
            let mut command = Command::new(place.path("pillarbox"));
            run(command.arg("-c").arg(place.path("pillarbox.toml")).args(["queue", "run"]));
        };
        run_queue();
        let sent = AtomicUsize::new(0);
        let daemon = std::thread::scope(|scope| {
            let (place, sendmail, sent) = (&place, &sendmail, &sent);
            let send = move |sender| {
                for number in (0..EACH).map(|i| sender * EACH + i) {
                    let input = format!("Number: {number}\n\nx\n");
                    feed(place, Command::new(sendmail).arg("u"), &input);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            };
            let run_on = || {
                while sent.load(Ordering::Relaxed) < SENDERS * EACH {
                    run_queue();
                }
            };
            for sender in 0..SENDERS {
                scope.spawn(move || send(sender));
            }
            scope.spawn(run_on);
            scope.spawn(run_on);
            let middle = || place.mail("u").len() >= SENDERS * EACH / 4;
            has_daemon.then(|| {
                wait_until("the middle", SOON, middle);
                serve(place)
            })
        });
        if !has_daemon {
            run_queue();
        }
        let mail = place.wait_for_mail("u", SENDERS * EACH);
        let mail: String = mail.iter().map(|mail| String::from_utf8_lossy(mail).into_owned()).collect();
        for number in 0..SENDERS * EACH {
            assert_eq!(
                mail.matches(&format!("\nNumber: {number}\n")).count(),
                1,
                "{number}: {}",
                place.log()
            );
        }
        if let Some(daemon) = daemon {
            daemon.stop();
        }
        assert!(files(&place.path("state/drop")).is_empty() && place.queued() == 0);
    }
}

/// A daemon that is not root, as usual, reads the files of all users.
#[test]
fn the_daemon_needs_no_rights_to_read_what_others_leave() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (place, sendmail) = place("user = \"nobody\"\n");
    fs::create_dir(place.path("mail")).unwrap();
    fs::set_permissions(place.path("mail"), PermissionsExt::from_mode(0o777)).unwrap();
    let daemon = serve(&place);
    for uid in ["0", "4321", "65534"] {
        let mut command = program("setpriv", "util-linux");
        command.args([
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "sh",
            "-c",
            "umask 077; exec \"$@\"",
            "sh",
        ]);
        feed(&place, command.arg(&sendmail).args(dropping(&place)).arg("u"), "Subject: x\n\nx\n");
    }
    place.wait_for_mail("u", 3);
    // No other user can list the directory or remove a file.
    daemon.signal("STOP");
    feed(&place, Command::new(&sendmail).args(dropping(&place)).arg("u"), "Subject: x\n\nx\n");
    let name = files(&place.path("state/drop")).remove(0);
    let drop = place.path("state/drop").display().to_string();
    for script in
        [format!("ls {drop}"), format!("rm -f {}", name.display()), format!("mv {} {drop}/x", name.display())]
    {
        let mut command = program("setpriv", "util-linux");
        command.args(["--reuid", "4321", "--clear-groups", "sh", "-c", &script]).stderr(Stdio::null());
        assert!(!command.status().unwrap().success(), "{script}");
    }
    daemon.signal("CONT");
    place.wait_for_mail("u", 4);
    daemon.stop();
}

#[test]
fn what_sendmail_said_is_safe_survives_kill_9_of_sendmail_and_of_the_daemon() {
    let _alone = alone();
    let (place, sendmail) = place("log.level = \"warn\"\n");
    let mut said = Vec::new();
    for round in 0..20u64 {
        let daemon = serve(&place);
        let send = |i: u64| {
            let mut command = Command::new(&sendmail);
            command.arg("u").env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            let text = format!("Number: {round}-{i}\n\n{}end\n", "x\n".repeat(100));
            let mut stdin = child.stdin.take().unwrap();
            let (start, rest) = text.as_bytes().split_at(50);
            let _ = stdin.write_all(start);
            // Some are killed within the message, some later.
            if i.is_multiple_of(4) {
                child.kill().unwrap();
            }
            let _ = stdin.write_all(rest);
            drop(stdin);
            if i % 4 == 1 {
                std::thread::sleep(Duration::from_micros(round * i * 20));
                child.kill().unwrap();
            }
            child.wait().unwrap().success().then(|| format!("{round}-{i}"))
        };
        let safe: Vec<String> = std::thread::scope(|scope| {
            let send = &send;
            let senders: Vec<_> = (0..20).map(|i| scope.spawn(move || send(i))).collect();
            std::thread::sleep(Duration::from_millis(round * 3));
            daemon.signal("KILL");
            senders.into_iter().filter_map(|sender| sender.join().unwrap()).collect()
        });
        said.extend(safe);
    }
    let daemon = serve(&place);
    let unseen = || {
        files(&place.path("state/drop"))
            .iter()
            .any(|path| !path.file_name().unwrap().to_str().unwrap().starts_with('.'))
    };
    wait_until("all is taken", SOON, || !unseen());
    daemon.stop();
    let mail = place.mail("u");
    let text: Vec<String> = mail.iter().map(|mail| String::from_utf8_lossy(mail).into_owned()).collect();
    assert!(text.iter().all(|text| text.ends_with("\nend\n")), "half a message");
    for number in &said {
        assert!(text.iter().any(|text| text.contains(&format!("\nNumber: {number}\n"))), "{number} is lost");
    }
    println!("{} messages were safe, {} arrived", said.len(), mail.len());
    assert!(said.len() > 100 && files(&place.path("state/corrupt")).is_empty());
}

#[test]
fn the_programs_of_debian_send_by_it() {
    let (place, sendmail) = place("");
    let path = sendmail.display();
    let daemon = serve(&place);
    let mut mailer = program("s-nail", "s-nail");
    mailer.args(["-:/", "-Sv15-compat", &format!("-Smta=file://{path}"), "-s", "by s-nail", "u@box.test"]);
    feed(&place, &mut mailer, "text\n.\nmore\n");
    let mut mailer = program("mutt", "mutt");
    mailer.args([
        "-n",
        "-F",
        "/dev/null",
        "-e",
        &format!("set sendmail=\"{path} -oem -oi\""),
        "-e",
        "set record=\"\"",
    ]);
    feed(&place, mailer.args(["-s", "by mutt", "u@box.test"]), "text\n");
    let mut sender = program("git", "git");
    fs::write(
        place.path("a.patch"),
        "From 1 Mon Sep 17 00:00:00 2001\nFrom: Me <me@box.test>\nSubject: [PATCH] by git\n\n---\n x\n",
    )
    .unwrap();
    let has_send_email = Command::new("git")
        .args(["send-email", "-h"])
        .output()
        .is_ok_and(|output| !String::from_utf8_lossy(&output.stderr).contains("not a git command"));
    let mut expected = vec!["by s-nail", "by mutt"];
    if has_send_email {
        sender.args(["send-email", "--quiet", "--confirm=never", "--from=me@box.test", "--to=u@box.test"]);
        sender.args([&format!("--smtp-server={path}"), "a.patch"]);
        for who in ["AUTHOR", "COMMITTER"] {
            sender.env(format!("GIT_{who}_NAME"), "Me").env(format!("GIT_{who}_EMAIL"), "me@box.test");
        }
        feed(&place, &mut sender, "");
        expected.push("by git");
    }
    let mail = place.wait_for_mail("u", expected.len());
    let text: String = mail.iter().map(|mail| String::from_utf8_lossy(mail).into_owned()).collect();
    for subject in expected {
        assert!(text.contains(subject), "{subject} is not there: {text}");
    }
    assert!(text.contains("\ntext\n.\nmore\n"), "{text}");
    daemon.stop();
}

/// nullmailer's sendmail, below a prefix meant for its own tests. A copy has no set-id bit, with which it would become a
/// user who may not write there.
fn nullmailer(place: &Place) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let unpacked = target.join("peers/nullmailer");
    assert!(
        unpacked.exists(),
        "{unpacked:?} is missing: tests/tools/unpack {target:?}/peers nullmailer (make test does it)"
    );
    let root = place.path("nullmailer");
    for name in ["queue/queue", "queue/tmp", "conf"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    run(Command::new("cp").arg("-r").arg(unpacked.join("usr")).arg(&root));
    for name in ["bin", "sbin"] {
        symlink(Path::new("usr").join(name), root.join(name)).unwrap();
    }
    fs::write(root.join("mailname"), "box.test\n").unwrap();
    root.join("usr/sbin/sendmail")
}

/// A comparison with msmtp and nullmailer, a hundred alternating calls of each. nullmailer mostly waits for the same disk
/// as pillarbox, so its wall time is printed and not judged; `make bench` takes medians.
#[test]
fn a_call_takes_little_time_and_asks_nobody_but_the_daemon() {
    let _alone = alone();
    let (place, sendmail) = place("");
    let daemon = serve(&place);
    let config = place.path("pillarbox.toml");
    let trace = place.path("trace");
    let mut strace = program("strace", "strace");
    strace
        .args(["-f", "-e", "trace=network,clone,clone3,fork,vfork", "-o"])
        .arg(&trace)
        .arg(&sendmail)
        .arg("u");
    feed(&place, &mut strace, "Subject: x\n\nx\n");
    let calls = fs::read_to_string(&trace).unwrap();
    let asked: Vec<&str> =
        calls.lines().filter(|line| line.contains('(') && !line.contains("shutdown")).collect();
    let is_socket = |line: &&str| line.contains(" socket(") || line.contains(" connect(");
    let sockets: Vec<&str> = asked.iter().copied().filter(is_socket).collect();
    assert!(sockets.len() == 2 && sockets[0].contains("AF_UNIX"), "{sockets:?}");
    assert!(sockets[1].contains("/run/control.sock"), "{sockets:?}");
    assert!(!calls.contains("INET") && !calls.contains("fork") && !calls.contains("clone"), "{asked:?}");
    assert!(files(&place.path("state/drop")).is_empty());
    let port = format!("--port={}", place.port);
    fs::write(place.path("m"), "Subject: x\n\nx\n").unwrap();
    // Wall and processor time of a number of calls, in milliseconds a call.
    let time = |program: &Path, arguments: &[&str], calls: u32| {
        let script = format!("for i in $(seq {calls}); do \"$@\" <m >/dev/null || exit 1; done; times");
        let mut command = Command::new("dash");
        command.args(["-c", &script, "dash"]).arg(program).args(arguments).env("PILLARBOX_CONFIG", &config);
        command.env("NULLMAILER_TEST_PREFIX", place.path("nullmailer")).current_dir(&place.dir);
        let start = Instant::now();
        let output = String::from_utf8(run(&mut command).stdout).unwrap();
        let wall = start.elapsed().as_secs_f64();
        // Of the children: `0m0.123s 0m0.456s`.
        let seconds = |time: &str| {
            let (minutes, seconds) = time.trim_end_matches('s').split_once('m').unwrap();
            minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap()
        };
        let processor: f64 = output.lines().last().unwrap().split_whitespace().map(seconds).sum();
        [wall, processor].map(|seconds| seconds * 1e3 / f64::from(calls))
    };
    let msmtp = PathBuf::from(program("msmtp", "msmtp").get_program());
    let by_smtp = ["-C", "/dev/null", "--host=127.0.0.1", &port, "--from=a@box.test", "u@box.test"];
    let nullmailer = nullmailer(&place);
    let callers = [(&sendmail, &by_smtp[5..]), (&msmtp, &by_smtp), (&nullmailer, &by_smtp[5..])];
    let mut times = [[0.0; 2]; 3];
    for _ in 0..4 {
        for (sum, (program, arguments)) in times.iter_mut().zip(callers) {
            let [wall, processor] = time(program, arguments, 25);
            *sum = [sum[0] + wall / 4.0, sum[1] + processor / 4.0];
        }
    }
    println!("milliseconds a call, wall and processor, of sendmail, msmtp and nullmailer: {times:.2?}");
    let [ours, msmtp, nullmailer] = times;
    let is_less = ours[0] < msmtp[0] && ours[1] < msmtp[1] && ours[1] < nullmailer[1];
    assert!(!measured().1 || is_less, "{times:?}");
    daemon.stop();
}
