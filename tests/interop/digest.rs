use super::harness::{LATER, Place, measured, python, run, wait_until};
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Counts with Python's library, in the files of a directory: messages, alerts in them, digests.
const COUNT: &str = r#"
import collections, email, email.policy, os, re, sys
messages, digests, alerts = 0, 0, collections.Counter()
def take(member):
    alerts[int(re.search(r"alert (\d+)\.", member.get_payload(decode=True).decode()).group(1))] += 1
for name in os.listdir(sys.argv[1]):
    with open(os.path.join(sys.argv[1], name), "rb") as file:
        octets = file.read()
    # What smtp-sink writes ahead of the message.
    octets = re.sub(rb"\A(X-[^\n]*\n|Received: from [^\n]*by smtp-sink[^\n]*\n(\s[^\n]*\n)*)*", b"", octets)
    message = email.message_from_bytes(octets, policy=email.policy.SMTP)
    messages += 1
    assert not message.defects, message.defects
    if not message.is_multipart():
        take(message)
        continue
    assert message.get_content_type() == "multipart/digest"
    words, *members = message.get_payload()
    assert all(member.get_content_type() == "message/rfc822" for member in members)
    assert f"{len(members)} similar messages" in words.get_content(), words.get_content()
    assert message["Subject"].startswith(f"[{len(members)} similar] job "), message["Subject"]
    for member in members:
        take(member.get_payload(0))
    digests += 1
print(messages, digests, len(alerts), sum(alerts.values()))
"#;

fn place(more: &str) -> (Place, PathBuf) {
    // The state is in memory: no disk is measured.
    let place = Place::below(Path::new("/dev/shm"));
    let sink = place.sink_port;
    place.configure(&format!("relay.smarthost = \"smtp://127.0.0.1:{sink}\"\n{more}"));
    let sendmail = place.path("sendmail");
    symlink(measured().0, &sendmail).unwrap();
    (place, sendmail)
}

fn sendmail(place: &Place, program: &Path, arguments: &[&str], input: &[u8]) {
    let mut command = Command::new(program);
    command.args(arguments).env("PILLARBOX_CONFIG", place.path("pillarbox.toml"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success());
}

fn queue(place: &Place, words: &[&str]) -> String {
    let mut command = Command::new(measured().0);
    let output = run(command.arg("-c").arg(place.path("pillarbox.toml")).arg("queue").args(words));
    String::from_utf8(output.stdout).unwrap()
}

fn counted(place: &Place) -> String {
    python(COUNT, &[place.path("sink").to_str().unwrap()]).trim().to_owned()
}

/// A looping script: 10,000 alerts, most of them in one session, because a process for each is slow. A few messages leave,
/// and they contain all alerts.
#[test]
fn ten_thousand_alerts_leave_in_a_handful_of_messages() {
    const BY_PROCESS: usize = 200;
    const ALL: usize = 10_000;
    let (place, program) = place("digest.after = 5\ndigest.window = \"1h\"\n");
    let sink = place.sink(&[]);
    let daemon = place.run(&mut place.command(&measured().0));
    let start = Instant::now();
    let content = |number: usize| format!("Subject: job {number} failed at {number}:00\n\nalert {number}.\n");
    for number in 0..BY_PROCESS {
        sendmail(&place, &program, &["-f", "box@box.test", "me@far.test"], content(number).as_bytes());
    }
    let mut session = "EHLO script\r\n".to_owned();
    for number in BY_PROCESS..ALL {
        session.push_str("MAIL FROM:<box@box.test>\r\nRCPT TO:<me@far.test>\r\nDATA\r\n");
        session.push_str(&content(number).replace('\n', "\r\n"));
        session.push_str(".\r\n");
    }
    session.push_str("QUIT\r\n");
    sendmail(&place, &program, &["-bs"], session.as_bytes());
    println!("{ALL} alerts are submitted after {:?}", start.elapsed());
    wait_until("all have been taken", LATER, || fs::read_dir(place.path("state/drop")).unwrap().count() == 0);
    wait_until("full digests leave before the window ends", LATER, || place.sunk().len() >= 5 + 4);
    let waiting = ALL - 5 - 4 * 2000;
    wait_until("only the others wait", LATER, || place.queued() == waiting);
    let list = queue(&place, &[]);
    assert_eq!(list.matches("(waits for a digest)").count(), waiting);
    queue(&place, &["flush"]);
    place.wait_for_empty_queue(LATER);
    wait_until("the last one arrives", LATER, || place.sunk().len() >= 5 + 5);
    println!(
        "{ALL} alerts have left after {:?}; the daemon has {} KiB",
        start.elapsed(),
        daemon.memory_kib("Anonymous:")
    );
    assert_eq!(counted(&place), format!("10 5 {ALL} {ALL}"));
    daemon.stop();
    drop(sink);
}

/// A host without a daemon: each run of the queue by cron is a process of its own.
#[test]
fn runs_of_the_queue_gather_alerts_and_send_them_when_the_window_ends() {
    let (place, program) = place("digest.after = 5\ndigest.window = \"5s\"\n");
    let sink = place.sink(&[]);
    // Makes the drop directory.
    queue(&place, &["run"]);
    let start = Instant::now();
    let mut number = 0;
    for _ in 0..3 {
        for _ in 0..4 {
            let content = format!("Subject: job {number} failed\n\nalert {number}.\n");
            sendmail(&place, &program, &["me@far.test"], content.as_bytes());
            number += 1;
        }
        queue(&place, &["run"]);
    }
    if start.elapsed() < Duration::from_secs(4) {
        assert_eq!((place.queued(), counted(&place)), (7, "5 0 5 5".to_owned()));
    }
    wait_until("a run of the queue sees that the window has ended", LATER, || {
        queue(&place, &["run"]);
        place.queued() == 0
    });
    assert_eq!(counted(&place), "6 1 12 12");
    drop(sink);
}
