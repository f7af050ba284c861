use super::client::{Client, send};
use super::harness::{LATER, Place, Random, SOON, alone, files, measured, program, python, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Prints subject and last line of each message that Python's mailbox package finds.
const READER: &str = "import mailbox,sys\nfor m in mailbox.mbox(sys.argv[1]):\n text=m.get_payload()\n \
                      print(m['Subject'],m.get_from().split()[0],text.strip().splitlines()[-1:],text.count('\\n>From '),sep='|')";

/// The mbox of `u`, which exists and is empty.
fn with_mbox(more: &str) -> (Place, PathBuf) {
    let place = Place::new();
    place.configure(more);
    fs::create_dir(place.path("mail")).unwrap();
    let mbox = place.write("mail/u", "");
    (place, mbox)
}

fn content(subject: &str, lines: usize) -> String {
    let text = format!("{}\r\nFrom the depths\r\n>From above\r\n", "x".repeat(70)).repeat(lines);
    format!("Subject: {subject}\r\n\r\n{text}end of {subject}\r\n")
}

/// The output of [`READER`] for it.
fn read(subject: &str, lines: usize) -> String {
    format!("{subject}|s@y.test|['end of {subject}']|{lines}")
}

fn messages(mbox: &Path) -> Vec<String> {
    python(READER, &[mbox.to_str().unwrap()]).lines().map(str::to_owned).collect()
}

/// Runs a mail program on a terminal of its own, with these keys; returns its output.
fn at_terminal(place: &Place, command: &str, input: &str) -> String {
    let mut script = program("timeout", "coreutils");
    script.args(["60", "script", "--quiet", "--return", "--command", command]).arg("/dev/null");
    script.env("TERM", "xterm").env("HOME", &place.dir).env("MAILRC", "/dev/null");
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut keys, input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(keys);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The subjects that a mail program shows of an mbox.
fn subjects(place: &Place, reader: &str, mbox: &Path) -> Vec<String> {
    let mbox = mbox.display();
    let shown = match reader {
        "mutt" => {
            fs::create_dir_all(place.path("Mail")).unwrap();
            let out = place.path("shown");
            let _ = fs::remove_file(&out);
            let settings = "set sleep_time=0; set pipe_split=yes; set quit=yes; set wait_key=no; set move=no";
            let keys = format!(
                "push \"<tag-pattern>~A<enter><tag-prefix><pipe-message>cat >> {}<enter><quit>\"",
                out.display()
            );
            let path = program("mutt", "mutt").get_program().display().to_string();
            at_terminal(
                place,
                &format!("{path} -n -F /dev/null -R -e '{settings}' -e '{keys}' -f {mbox}"),
                "",
            );
            fs::read_to_string(out).unwrap_or_default()
        }
        program_name => {
            let package = if program_name == "s-nail" { "s-nail" } else { "bsd-mailx" };
            let path = program(program_name, package).get_program().display().to_string();
            let mut command = Command::new("sh");
            let script = format!("printf 'type *\\nexit\\n' | {path} -n -N -f {mbox} | cat");
            command
                .args(["-c", &script])
                .env("HOME", &place.dir)
                .env("MAILRC", "/dev/null")
                .env("PAGER", "cat");
            String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
        }
    };
    let lines = shown.lines().filter_map(|line| line.strip_prefix("Subject: "));
    lines.map(|subject| subject.trim().to_owned()).collect()
}

const READERS: [&str; 3] = ["bsd-mailx", "s-nail", "mutt"];

#[test]
fn mail_programs_read_an_mbox_while_it_is_written() {
    let (place, mbox) = with_mbox("");
    let daemon = place.serve();
    send(place.port, "s@y.test", "u@box.test", content("first", 1).as_bytes());
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for reader in READERS {
            let (place, mbox, ends) = (&place, &mbox, &ends);
            scope.spawn(move || {
                let mut before = 0;
                while !ends.load(Ordering::SeqCst) {
                    let seen = subjects(place, reader, mbox);
                    assert!(seen.len() >= before.max(1) && seen[0] == "first", "{reader}: {seen:?}");
                    before = seen.len();
                }
            });
        }
        let writers: Vec<_> = (0..4)
            .map(|session| {
                let port = place.port;
                scope.spawn(move || {
                    for i in 0..8 {
                        // Some are too large to stay in memory.
                        let lines = if i % 4 == 3 { 1000 } else { 3 };
                        let content = content(&format!("{session}.{i}"), lines);
                        send(port, "s@y.test", "u@box.test", content.as_bytes());
                    }
                })
            })
            .collect();
        let all_are_sent = writers.into_iter().all(|writer| writer.join().is_ok());
        ends.store(true, Ordering::SeqCst);
        assert!(all_are_sent);
    });
    daemon.stop();
    let mut expected: Vec<String> = (0..4)
        .flat_map(|session| {
            (0..8).map(move |i| read(&format!("{session}.{i}"), if i % 4 == 3 { 1000 } else { 3 }))
        })
        .collect();
    expected.push(read("first", 1));
    let mut found = messages(&mbox);
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for reader in READERS {
        assert_eq!(subjects(&place, reader, &mbox).len(), 33, "{reader}");
    }
    let text = fs::read_to_string(&mbox).unwrap();
    assert!(text.starts_with("From s@y.test ") && text.contains("\n\nFrom s@y.test "));
    assert!(text.contains("\nReturn-Path: <s@y.test>\nDelivered-To: u@box.test\nReceived: "));
    assert!(text.contains("\n>From the depths\n>>From above\n"));
    assert_eq!(files(&place.path("mail")).len(), 1, "no lock is left, and no Maildir is made");
}

#[test]
fn a_locked_mbox_takes_its_mail_later() {
    let (place, mbox) = with_mbox("queue.retry = \"1s\"\n");
    let mut daemon = place.serve();
    let text = mbox.to_str().unwrap();
    let fcntl = "import fcntl,sys\nf=open(sys.argv[1],'r+')\nfcntl.lockf(f,fcntl.LOCK_EX)\nprint(flush=True)\nsys.stdin.read()";
    for (count, lock) in [(1, "fcntl"), (2, "mutt_dotlock")] {
        let mut holder = program("python3", "python3");
        holder.args(["-c", fcntl, if lock == "fcntl" { text } else { "/dev/null" }]);
        if lock == "mutt_dotlock" {
            run(program("mutt_dotlock", "mutt").arg(text));
            holder = program("cat", "coreutils");
        }
        let mut child = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        if lock == "fcntl" {
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        }
        let before = fs::metadata(&mbox).unwrap().len();
        // No other copy exists, so the client keeps the message, after some seconds.
        let mut client = Client::hello(place.port).unwrap();
        let began = Instant::now();
        let message = content("late", 1);
        let reply = client.send("s@y.test", &["u@box.test"], message.as_bytes()).unwrap();
        assert!(reply.starts_with("451 4.3.0"), "{lock}: {reply}");
        assert!((Duration::from_secs(4)..SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
        // Otherwise the queue keeps it.
        let reply = client.send("s@y.test", &["v@box.test", "u@box.test"], message.as_bytes()).unwrap();
        assert!(reply.starts_with("250 "), "{lock}: {reply}");
        assert_eq!((place.queued(), fs::metadata(&mbox).unwrap().len()), (1, before), "{lock}");
        place.wait_for_mail("v", count);
        place.wait_for_log(&["event=deferred", "another program has locked the mbox"]);
        drop(child.stdin.take());
        child.wait().unwrap();
        if lock == "mutt_dotlock" {
            run(program("mutt_dotlock", "mutt").args(["-u", text]));
        }
        place.wait_for_empty_queue(SOON);
        assert_eq!(messages(&mbox), vec![read("late", 1); count], "{lock}");
    }
    assert!(daemon.is_running());
}

#[test]
fn nothing_that_had_its_250_is_lost_in_an_mbox_by_kill_9() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let (place, mbox) = with_mbox("log.level = \"warn\"\nqueue.retry = \"1s\"\nrewrite.repair = false\n");
    let mut random = Random(std::process::id().into());
    let mut accepted: Vec<String> = Vec::new();
    for round in 0..if is_release { 20 } else { 6 } {
        let daemon = place.run(&mut place.command(&binary));
        std::thread::scope(|scope| {
            let port = place.port;
            let sessions: Vec<_> = (0..3)
                .map(|session| {
                    scope.spawn(move || {
                        let mut accepted = Vec::new();
                        for i in 0.. {
                            let subject = format!("{round}.{session}.{i}");
                            let content = content(&subject, 300);
                            let Ok(mut client) = Client::hello(port) else { return accepted };
                            match client.send("s@y.test", &["u@box.test"], content.as_bytes()) {
                                Ok(reply) if reply.starts_with("250") => accepted.push(read(&subject, 300)),
                                Ok(reply) => panic!("{reply}"),
                                Err(_) => return accepted,
                            }
                        }
                        accepted
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(50 + random.below(300)));
            daemon.signal("KILL");
            for session in sessions {
                accepted.extend(session.join().unwrap());
            }
        });
    }
    let daemon = place.run(&mut place.command(&binary));
    // Also with a stale lock.
    send(place.port, "s@y.test", "u@box.test", content("last", 1).as_bytes());
    place.wait_for_empty_queue(LATER);
    daemon.stop();
    accepted.push(read("last", 1));
    let found = messages(&mbox);
    println!("{} accepted, {} found", accepted.len(), found.len());
    for message in &accepted {
        assert_eq!(found.iter().filter(|it| *it == message).count(), 1, "{message}");
    }
    // Only the truncated message is damaged.
    assert!(found.iter().filter(|it| !accepted.contains(it)).count() <= 3 * 20);
    assert_eq!(files(&place.path("mail")).len(), 1);
}

#[test]
fn what_can_not_be_written_in_full_is_cut_off_again() {
    let (place, mbox) = with_mbox("");
    let old = format!("From x\n\n{}\n", "old\n".repeat(45_000));
    fs::write(&mbox, &old).unwrap();
    let serve = place.command(Path::new(env!("CARGO_BIN_EXE_pillarbox")));
    let mut command = program("env", "coreutils");
    command.args(["--ignore-signal=XFSZ", "prlimit", "--fsize=200000"]);
    command.arg(serve.get_program()).args(serve.get_args());
    command.stderr(fs::File::create(place.path("log")).unwrap());
    let daemon = place.run(&mut command);
    let mut client = Client::hello(place.port).unwrap();
    let reply = client.send("s@y.test", &["u@box.test"], content("large", 400).as_bytes()).unwrap();
    assert!(reply.starts_with("45"), "{reply}");
    assert!(fs::read_to_string(&mbox).unwrap() == old);
    let reply = client.send("s@y.test", &["u@box.test"], content("small", 1).as_bytes()).unwrap();
    assert!(reply.starts_with("250 "), "{reply}");
    let text = fs::read_to_string(&mbox).unwrap();
    assert!(text.strip_prefix(&old).unwrap().starts_with("From s@y.test "), "{:.100}", &text[old.len()..]);
    daemon.stop();
}

#[test]
fn check_names_what_is_no_mailbox() {
    let place = Place::new();
    place.configure("");
    let daemon = place.serve();
    super::client::send(place.port, "s@y.test", "u@box.test", content("x", 1).as_bytes());
    daemon.stop();
    let check = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        let output = program.arg("-c").arg(place.path("pillarbox.toml")).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(), (Some(0), String::new()));
    std::os::unix::fs::symlink("u", place.path("mail/link")).unwrap();
    fs::create_dir(place.path("mail/half")).unwrap();
    fs::write(place.path("mail/half/new"), "").unwrap();
    let pipe = place.path("mail/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(78), "{said}");
    for (name, flaw) in [
        ("link", "it is a link, which is not followed"),
        ("pipe", "it is neither a directory nor a file"),
        ("half", "its tmp, new or cur is no directory"),
    ] {
        let is_told =
            |line: &str| line.contains(&format!("mail for {name:?} has to wait")) && line.contains(flaw);
        assert!(said.lines().any(is_told), "{said}");
    }
    assert_eq!(said.lines().count(), 3, "{said}");
    fs::remove_dir_all(place.path("mail/half")).unwrap();
    fs::remove_file(place.path("mail/link")).unwrap();
    fs::remove_file(pipe).unwrap();
    if rustix::process::geteuid().is_root() {
        place.configure("user = \"nobody\"\n");
        let (code, said) = check();
        assert!(code == Some(78) && said.contains("the directory belongs to another user"), "{said}");
    }
}

#[test]
fn check_names_an_mbox_that_takes_nothing() {
    let (place, mbox) = with_mbox("");
    let check = || {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        let output = program.arg("-c").arg(place.path("pillarbox.toml")).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check(), (Some(0), String::new()));
    fs::hard_link(&mbox, place.path("second")).unwrap();
    let (code, said) = check();
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("mail for \"u\" has to wait") && said.contains("mail/u\""), "{said}");
    assert!(said.contains("a second name (a hard link); make it a file of its user's own"), "{said}");
    let daemon = place.serve();
    let mut client = Client::hello(place.port).unwrap();
    let reply = client.send("s@y.test", &["u@box.test"], content("x", 1).as_bytes()).unwrap();
    assert!(reply.starts_with("451 4.3.0"), "{reply}");
    let probe = |code| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        program.arg("-c").arg(place.path("pillarbox.toml")).args(["probe", "u@box.test"]);
        let output = program.output().unwrap();
        assert_eq!(output.status.code() == Some(0), code, "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let reported = probe(false);
    assert!(reported.contains("a hard link") && reported.contains("An mbox must be a file"), "{reported}");
    fs::remove_file(place.path("second")).unwrap();
    assert_eq!(check(), (Some(0), String::new()));
    let reported = probe(true);
    assert!(reported.contains("mail/u: ") && reported.contains(", an mbox"), "{reported}");
    assert_eq!(fs::read(&mbox).unwrap(), b"");
    daemon.stop();
}
