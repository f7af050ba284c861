use super::client::{Client, with_lf, without_trace};
use super::harness::{Daemon, Place, Random, alone, cpu_seconds_of_children, measured, program, run};
use std::collections::HashSet;
use std::path::Path;

/// Payload of a message of smtp-source, in octets.
const PAYLOAD: usize = 1024;
/// User and system time of pillarbox for a message of 1 KiB, as a multiple of what its client needs, Postfix's smtp-source.
/// Both sides of a conversation suffer alike from a slow or busy machine. Measured: 2.5 to 3.0.
const CPU_OF_THE_CLIENT: f64 = 3.6;
const QUIET: &str = "limits.connections = 200\nlog.level = \"warn\"\n";

#[test]
fn smtp_source_fills_maildirs_each_message_once_and_whole() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let place = Place::new();
    place.configure(QUIET);
    let daemon = place.run(&mut place.command(&binary));
    let part = if is_release { 1 } else { 10 };
    for (sessions, messages) in [(1, 2_000), (8, 4_000), (64, 4_000)] {
        let (messages, user) = (messages / part, format!("u{sessions}"));
        let cpu = cpu_of(&daemon, || source(&place, sessions, messages, &format!("{user}@box.test"), &[]));
        println!("{sessions} sessions: {:.3} ms of CPU a message", cpu / messages as f64);
        let mail = place.mail(&user);
        assert_eq!(mail.len(), messages);
        let ids: HashSet<String> = mail.iter().map(|file| check_source_message(file, &user)).collect();
        assert_eq!(ids.len(), messages, "each message is there once");
        for dir in ["tmp", "cur"] {
            assert_eq!(super::harness::files(&place.path("mail").join(&user).join(dir)), [] as [&Path; 0]);
        }
    }
    assert_eq!(place.queued(), 0, "local mail passes by the queue");
}

/// The CPU time of pillarbox itself. The state is in memory, because a sync costs the time of the file system (0.4 ms with
/// ext4 on the author's machine, for any program).
#[test]
fn a_message_costs_little_cpu_time() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let memory = Path::new("/dev/shm");
    assert!(memory.is_dir(), "/dev/shm is missing: mount -t tmpfs tmpfs /dev/shm");
    let place = Place::below(memory);
    place.configure(QUIET);
    let daemon = place.run(&mut place.command(&binary));
    let messages = if is_release { 4_000 } else { 400 };
    for options in [&["-d"][..], &[]] {
        let client = cpu_seconds_of_children();
        let used = cpu_of(&daemon, || source(&place, 4, messages, "u@box.test", options)) / messages as f64;
        let client = (cpu_seconds_of_children() - client) * 1000.0 / messages as f64;
        let ratio = used / client;
        println!(
            "in memory, smtp-source {options:?}: {used:.3} ms of CPU a message, {ratio:.2} times the client's"
        );
        assert!(
            !is_release || ratio < CPU_OF_THE_CLIENT,
            "{used} ms of CPU a message, {ratio} times the client's"
        );
    }
}

/// The user and system time of the daemon during a function, in milliseconds.
fn cpu_of(daemon: &Daemon, work: impl FnOnce()) -> f64 {
    let before = daemon.cpu_seconds();
    work();
    (daemon.cpu_seconds() - before) * 1000.0
}

/// Sends with Postfix's smtp-source.
pub fn source(place: &Place, sessions: usize, messages: usize, to: &str, options: &[&str]) {
    let mut command = program("smtp-source", "postfix");
    command.args(options);
    command.args(["-s", &sessions.to_string(), "-m", &messages.to_string(), "-l", &PAYLOAD.to_string()]);
    command.args([
        "-f",
        "s@client.test",
        "-t",
        to,
        "-M",
        "client.test",
        &format!("127.0.0.1:{}", place.port),
    ]);
    run(&mut command);
}

/// Checks a delivered message of smtp-source; returns its Message-ID.
fn check_source_message(file: &[u8], user: &str) -> String {
    let (trace, content) = without_trace(file);
    let fields =
        format!("Return-Path: <s@client.test>\nDelivered-To: {user}@box.test\nReceived: from client.test ");
    assert!(trace.starts_with(&fields), "{trace}");
    let content = String::from_utf8(content).unwrap();
    let (head, body) = content.split_once("\n\n").unwrap();
    assert!(body == source_payload(), "{body}");
    source_message_id(head)
}

pub fn source_message_id(head: &str) -> String {
    head.lines().find_map(|line| line.strip_prefix("Message-Id: ")).unwrap().to_owned()
}

/// The content that smtp-source writes, with LF line ends: a digit and X's, in lines of 80 octets with CRLF, then the rest.
pub fn source_payload() -> String {
    let line = |number| format!("{}{}\n", number % 10, "X".repeat(77));
    (1..=PAYLOAD / 80).map(line).collect::<String>() + &"X".repeat(PAYLOAD % 80) + "\n"
}

#[test]
fn whatever_the_octets_they_arrive_unchanged() {
    let place = Place::new();
    // The client is not trusted: only mail of this host is repaired.
    place.configure("relay.trusted_networks = \"192.0.2.0/24\"\n");
    let _daemon = place.serve();
    let mut client = Client::hello(place.port).unwrap();
    let mut random = Random(1);
    let sizes = [2, 100, 1_000, 65_535, 65_536, 65_537, 200_000, 3_000_000];
    // Everything is body: without the empty line, one would be inserted.
    let content = |octets| [b"\r\n", &*content(&mut random, octets)].concat();
    let contents: Vec<Vec<u8>> =
        (0..200).map(|i| sizes.get(i).copied().unwrap_or(5_000)).map(content).collect();
    for (i, content) in contents.iter().enumerate() {
        let to = format!("u{i}@box.test");
        // Every third message goes to two Maildirs: the second copy is made from the first.
        let to = if i % 3 == 0 { vec![to.clone(), format!("v{to}")] } else { vec![to] };
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        assert!(client.send("", &to, content).unwrap().starts_with("250 2.0.0"));
        let users = to.iter().map(|to| to.split('@').next().unwrap());
        for user in users {
            let [file] = &place.mail(user)[..] else { panic!("{user} has not one message") };
            let (trace, content_there) = without_trace(file);
            assert!(content_there == with_lf(content), "message {i} of {} octets has changed", content.len());
            assert!(trace.starts_with("Return-Path: <>\nDelivered-To: "), "{trace}");
        }
    }
}

/// Random lines: with dots in front, empty, long, 8-bit, with NUL; no bare CR or LF, and no trace field in front.
fn content(random: &mut Random, octets: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(octets + 5_000);
    while content.len() < octets {
        match random.below(6) {
            0 => {}
            1 => content.push(b'.'),
            2 => content.extend_from_slice(b"..a line with dots."),
            3 => content.resize(content.len() + random.below(20_000) as usize, b'l'),
            _ => {
                for _ in 0..random.below(200) {
                    let octet = random.below(256) as u8;
                    content.push(if octet == b'\r' || octet == b'\n' || octet == b'\t' { 0 } else { octet });
                }
            }
        }
        content.extend_from_slice(b"\r\n");
    }
    content
}

#[test]
fn a_bare_line_end_is_refused_wherever_it_stands_and_the_session_goes_on() {
    let place = Place::new();
    place.configure("");
    let _daemon = place.serve();
    let mut client = Client::hello(place.port).unwrap();
    for bad in [
        "a\nb\r\n",
        "a\r\r\n",
        "\n.\n\r\n",
        "a\n.\r\nMAIL FROM:<x@y.test>\r\n",
        "a\r\n.\rb\r\n",
        "\r\r\n.\nx\r\n",
    ] {
        client.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
        for reply in ["250", "250", "354"] {
            client.expect(reply).unwrap();
        }
        // The true end, after octets that other servers take for it.
        client.write(format!("{bad}.\r\n").as_bytes()).unwrap();
        let reply = client.reply().unwrap();
        assert!(reply.starts_with("550 5.5.2"), "{bad:?}: {reply}");
    }
    assert!(client.send("s@y.test", &["u@box.test"], b"Subject: good\r\n\r\n").unwrap().starts_with("250"));
    assert_eq!(place.mail("u").len(), 1, "nothing was smuggled in");
}

#[test]
fn a_listener_for_old_devices_repairs_lone_lfs_and_finds_the_same_end() {
    let place = Place::new();
    let path = place.configure("");
    // The listener's table is the last of the file.
    let text = std::fs::read_to_string(&path).unwrap() + "bare_newline = \"repair\"\n";
    std::fs::write(&path, text).unwrap();
    let _daemon = place.serve();
    let mut client = Client::hello(place.port).unwrap();
    client.write(b"MAIL FROM:<s@y.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n").unwrap();
    for reply in ["250", "250", "354"] {
        client.expect(reply).unwrap();
    }
    client.write(b"Subject: old\n\nline\n.\nMAIL FROM:<x@y.test>\n.\r\nlast\r\n.\r\n").unwrap();
    assert!(client.reply().unwrap().starts_with("250 2.0.0"));
    assert!(client.command("QUIT").unwrap().starts_with("221"), "nothing else was answered");
    let [mail] = place.wait_for_mail("u", 1).try_into().unwrap();
    assert!(mail.ends_with(b"\n\nline\n.\nMAIL FROM:<x@y.test>\n.\nlast\n"));
}
