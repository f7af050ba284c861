use super::harness::{Daemon, Place, SOON, alone, files, measured, program, run, wait_until};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A place that every user can pass through, with a copy of the program by the name of sendmail.
fn place(more: &str) -> (Place, PathBuf) {
    let place = Place::below(&std::env::temp_dir());
    fs::set_permissions(&place.dir, PermissionsExt::from_mode(0o755)).unwrap();
    place.configure(more);
    let (binary, _) = measured();
    run(Command::new("cp").arg(binary).arg(place.path("pillarbox")));
    symlink("pillarbox", place.path("sendmail")).unwrap();
    let sendmail = place.path("sendmail");
    (place, sendmail)
}

fn serve(place: &Place) -> Daemon {
    let daemon = place.run(&mut place.command(&place.path("pillarbox")));
    let socket = place.path("run/control.sock");
    wait_until("the socket is open", SOON, || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    daemon
}

/// The flags for a sendmail that finds no daemon at its socket, and leaves its mail in the drop directory.
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

/// A box that keeps no daemon: sendmail, and `queue run` from cron; two of them at once, and beside a daemon.
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

/// The daemon is not root, as it should be, and reads what anybody leaves.
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
    // Nobody else can see what lies there, nor take it away.
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
            // Some are killed in the middle of the message, some at any time afterwards.
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

/// Beside msmtp: both times, of a hundred calls.
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
    let time = |name: &str, program: &Path, arguments: &[&str]| {
        let script = "i=0; while [ $i -lt 100 ]; do \"$@\" <m >/dev/null || exit 1; i=$((i+1)); done; times";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program).args(arguments).env("PILLARBOX_CONFIG", &config);
        fs::write(place.path("m"), "Subject: x\n\nx\n").unwrap();
        let start = Instant::now();
        let output = run(command.current_dir(&place.dir));
        let wall = start.elapsed().as_secs_f64() * 10.0;
        let times = String::from_utf8(output.stdout).unwrap();
        println!(
            "{name}: {wall:.2} ms a call; processor time of 100 calls: {}",
            times.lines().last().unwrap()
        );
        wall
    };
    let ours = time("sendmail", &sendmail, &["u@box.test"]);
    let msmtp = program("msmtp", "msmtp").get_program().to_owned();
    let theirs = time(
        "msmtp",
        Path::new(&msmtp),
        &["-C", "/dev/null", "--host=127.0.0.1", &port, "--from=a@box.test", "u@box.test"],
    );
    let (_, is_release) = measured();
    assert!(!is_release || ours < theirs, "{ours} ms, and msmtp {theirs} ms");
    daemon.stop();
}
