use super::client::{Client, plain};
use super::harness::{Daemon, SOON, wait_until};
use super::submission::{Post, USERS, tls};
use pillarbox::mail::base64;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const MESSAGE: &[u8] = b"Subject: x\r\n\r\nx\r\n";

fn served(more: &str) -> (Post, Daemon) {
    let post = Post::new(more);
    let daemon = post.place.serve();
    (post, daemon)
}

/// A session of an honest client within TLS.
fn good_client_is_served(post: &Post, daemon: &mut Daemon) {
    let mut client = Client::within_tls(post);
    client.log_in(USERS[1]).unwrap();
    assert!(client.send("s@box.test", &["good@box.test"], MESSAGE).unwrap().starts_with("250 2.0.0"));
    assert!(client.command("QUIT").unwrap().starts_with("221 "));
    assert!(daemon.is_running());
}

#[test]
fn nothing_said_in_clear_counts_within_tls() {
    let (post, mut daemon) = served("");
    let login = format!("AUTH PLAIN {}\r\n", plain(USERS[1].0, USERS[1].1));
    let mail = "MAIL FROM:<s@box.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n";
    // All in one packet: the octets behind STARTTLS are discarded, a login included.
    let injected = format!("STARTTLS\r\nEHLO evil.test\r\n{login}{mail}");
    // A login before STARTTLS is forgotten.
    let before = format!("{login}STARTTLS\r\n");
    for (text, replies) in [(injected, &["220"][..]), (before, &["235", "220"])] {
        let mut client = Client::hello(post.submission).unwrap();
        client.write(text.as_bytes()).unwrap();
        for reply in replies {
            client.expect(reply).unwrap();
        }
        let mut client = client.shake_hands(&post);
        // The first reply within TLS is that to the first command within TLS.
        for (command, reply) in [
            ("NOOP", "250 2.0.0"),
            ("MAIL FROM:<s@box.test>", "503 5.5.1"),
            ("EHLO client.test", "250-"),
            ("RCPT TO:<u@box.test>", "503 5.5.1"),
            ("MAIL FROM:<s@box.test>", "530 5.7.0"),
            ("QUIT", "221 "),
        ] {
            let answer = client.command(command).unwrap();
            assert!(answer.starts_with(reply), "{command}: {answer}");
        }
    }
    // Octets left in the socket make the handshake fail.
    let mut client = Client::hello(post.submission).unwrap();
    client.command("STARTTLS").unwrap();
    client.write(format!("EHLO evil.test\r\n{login}").as_bytes()).unwrap();
    assert!(!client.rest().contains("235"));
    post.place.wait_for_log(&["event=closed", "TLS handshake: TLS: "]);
    good_client_is_served(&post, &mut daemon);
    assert_eq!(post.place.mail("u").len(), 0);
}

/// Collects writes, and sends them at once when the client waits for an answer.
#[derive(Debug)]
struct HeldBack(TcpStream, Vec<u8>);

impl Read for HeldBack {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.write_all(&std::mem::take(&mut self.1))?;
        self.0.read(buffer)
    }
}

impl Write for HeldBack {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.1.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn who_talks_before_the_greeting_within_tls_gets_554() {
    let (post, mut daemon) = served("");
    let stream = TcpStream::connect(("127.0.0.1", post.submissions)).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // The end of the handshake and EHLO leave in one packet.
    let mut client = Client::over(tls(&post).connect("localhost", HeldBack(stream, Vec::new())).unwrap());
    client.write(b"EHLO client.test\r\n").unwrap();
    client.expect("554 5.5.1").unwrap();
    assert_eq!(client.rest(), "");
    post.place.wait_for_log(&["event=closed", "spoke before the greeting"]);
    good_client_is_served(&post, &mut daemon);
}

#[test]
fn the_handshake_has_its_time_and_the_port_no_other_language() {
    let (post, mut daemon) = served("limits.command_timeout = \"1s\"\n");
    let mut silent = Client::connect(post.submissions).unwrap();
    let begun = Instant::now();
    assert_eq!(silent.rest(), "");
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    post.place.wait_for_log(&["event=closed client=127.0.0.1", "TLS handshake: timed out"]);

    let mut plain = Client::connect(post.submissions).unwrap();
    plain.write(b"EHLO client.test\r\nMAIL FROM:<s@box.test>\r\n").unwrap();
    let answer = plain.rest();
    // A TLS alert may come, but no SMTP reply.
    assert!(!answer.contains("250") && !answer.contains("220"), "{answer:?}");
    post.place.wait_for_log(&["event=closed client=127.0.0.1", "TLS handshake: TLS: "]);

    // The reverse: TLS on a port that expects SMTP in clear.
    for port in [post.submission, post.place.port, post.lmtp] {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        assert!(tls(&post).connect("localhost", stream).is_err());
    }
    good_client_is_served(&post, &mut daemon);
}

/// A line with this beginning, of this many octets in all.
fn long_line(start: &str, octets: usize) -> Vec<u8> {
    let mut line = start.as_bytes().to_vec();
    line.resize(octets - 2, b'A');
    line.extend_from_slice(b"\r\n");
    line
}

#[test]
fn long_lines_and_nul_around_auth_are_answered_and_the_session_goes_on() {
    let (post, mut daemon) = served("limits.errors = 20\n");
    let mut client = Client::within_tls(&post);
    for (begin, octets, expected) in [
        (None, 12_288, "501 5.5.2 invalid base64"),
        (None, 12_289, "500 5.5.2 the line is too long"),
        (None, 100_000, "500 5.5.2 the line is too long"),
        (Some("AUTH PLAIN"), 12_288, "501 5.5.2 invalid base64"),
        (Some("AUTH PLAIN"), 12_289, "500 5.5.6 line too long"),
        (Some("AUTH LOGIN"), 300_000, "500 5.5.6 line too long"),
    ] {
        if let Some(begin) = begin {
            assert!(client.command(begin).unwrap().starts_with("334"));
        }
        let start = if begin.is_some() { "" } else { "AUTH PLAIN " };
        client.write(&long_line(start, octets)).unwrap();
        let reply = client.reply().unwrap();
        assert!(reply.starts_with(expected), "{begin:?} {octets}: {reply}");
    }
    for (line, expected) in [
        ("AUTH PLAIN \0", "500 5.5.2"),
        ("AUTH PLAIN AAA\0", "500 5.5.2"),
        ("AUTH PLAIN =", "501 5.5.2"),
        ("AUTH PLAIN ==", "501 5.5.2"),
        ("AUTH LOGIN =", "334 UGFzc3dvcmQ6"),
        ("=", "501 5.5.2"),
        ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        ("dGlt\0", "501 5.5.2"),
        ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        ("dGlt", "334 UGFzc3dvcmQ6"),
        ("*", "501 5.7.0"),
        ("dGlt", "500 5.5.2"),
    ] {
        let reply = client.command(line).unwrap();
        assert!(reply.starts_with(expected), "{line:?}: {reply}");
    }
    // Octet by octet, each in a record of its own.
    for octet in format!("AUTH PLAIN {}\r\n", plain(USERS[0].0, USERS[0].1)).bytes() {
        client.write(&[octet]).unwrap();
    }
    client.expect("235 2.7.0").unwrap();
    good_client_is_served(&post, &mut daemon);
    assert_eq!(post.place.logged(&["event=auth_failed"]), [""; 0], "nobody has guessed");
}

#[test]
fn commands_behind_auth_are_answered_in_their_order() {
    let (post, mut daemon) = served("");
    let behind = "MAIL FROM:<s@box.test>\r\nRCPT TO:<u@box.test>\r\nDATA\r\n";
    for (password, replies) in [
        (USERS[1].1, ["235 2.7.0", "250 2.1.0", "250 2.1.5", "354 "]),
        ("wrong", ["535 5.7.8", "530 5.7.0", "503 5.5.1", "503 5.5.1"]),
    ] {
        let responses = [
            format!("AUTH PLAIN {}\r\n", plain(USERS[1].0, password)),
            format!(
                "AUTH LOGIN {}\r\n{}\r\n",
                base64::encode(USERS[1].0.as_bytes()),
                base64::encode(password.as_bytes())
            ),
        ];
        for login in responses {
            let mut client = Client::within_tls(&post);
            client.write(format!("{login}{behind}").as_bytes()).unwrap();
            if login.starts_with("AUTH LOGIN") {
                client.expect("334 ").unwrap();
            }
            for reply in replies {
                client.expect(reply).unwrap();
            }
        }
    }
    good_client_is_served(&post, &mut daemon);
}

#[test]
fn failures_look_alike_and_get_slow() {
    let (post, _daemon) = served("");
    let mut client = Client::within_tls(&post);
    let mut answers = Vec::new();
    let mut times = Vec::new();
    for (name, mechanism) in [("nobody", "PLAIN"), ("tim", "PLAIN"), ("tim", "LOGIN"), ("nobody", "LOGIN")] {
        let begun = Instant::now();
        let lines = if mechanism == "PLAIN" {
            format!("AUTH PLAIN {}\r\n", plain(name, "wrong"))
        } else {
            format!("AUTH LOGIN {}\r\nd3Jvbmc=\r\n", base64::encode(name.as_bytes()))
        };
        client.write(lines.as_bytes()).unwrap();
        if mechanism == "LOGIN" {
            client.expect("334 ").unwrap();
        }
        answers.push(client.reply().unwrap());
        times.push(begun.elapsed());
    }
    assert_eq!(answers, ["535 5.7.8 wrong name or password"; 4]);
    for (time, least) in times.iter().zip([0, 900, 1900, 3900]) {
        assert!(*time >= Duration::from_millis(least), "{times:?}");
    }
    assert!(times[0] < Duration::from_millis(900), "the first answer waits for nothing: {times:?}");
}

#[test]
fn no_password_is_taken_in_clear_from_elsewhere_and_no_mail_without_one() {
    let (post, mut daemon) = served("");
    let mut client = Client::hello(post.submission).unwrap();
    for to in ["u@box.test", "a@far.test"] {
        let refusal = client.send("s@box.test", &[to], MESSAGE).unwrap_err().to_string();
        assert!(refusal.starts_with("530 5.7.0"), "{refusal}");
    }
    client.log_in(USERS[2]).unwrap();
    let Some(own) = post.own else { return };
    let mut client = Client::connect_to((own, post.submission)).unwrap();
    client.expect("220").unwrap();
    let offered = client.command("EHLO client.test").unwrap();
    assert!(offered.contains("250-STARTTLS\n") && !offered.contains("AUTH"), "{offered}");
    for line in [format!("AUTH PLAIN {}", plain(USERS[1].0, USERS[1].1)), "AUTH LOGIN".into()] {
        let reply = client.command(&line).unwrap();
        assert!(reply.starts_with("538 5.7.11"), "{reply}");
    }
    let reply = client.command("MAIL FROM:<s@box.test>").unwrap();
    assert!(reply.starts_with("530 5.7.0"), "{reply}");
    let mut client = client.start_tls(&post);
    let offered = client.command("EHLO client.test").unwrap();
    assert!(offered.contains("AUTH PLAIN LOGIN") && !offered.contains("STARTTLS"), "{offered}");
    client.log_in(USERS[1]).unwrap();
    assert!(client.send("s@box.test", &["u@box.test"], MESSAGE).unwrap().starts_with("250 2.0.0"));
    post.place.wait_for_log(&["event=accepted", &format!("client={own} "), "auth=sam@box.test"]);
    // LMTP is for trusted networks, and this address is in none.
    let mut client = Client::connect_to((own, post.lmtp)).unwrap();
    client.expect("220").unwrap();
    assert!(client.command("LHLO client.test").unwrap().starts_with("250"));
    let reply = client.command("MAIL FROM:<s@box.test>").unwrap();
    assert!(reply.starts_with("550 5.7.1"), "{reply}");
    good_client_is_served(&post, &mut daemon);
}

#[test]
fn a_signal_takes_the_users_file_again() {
    let (post, daemon) = served("");
    let mut running = Client::within_tls(&post);
    running.log_in(USERS[0]).unwrap();
    let changed = [USERS[0], (USERS[1].0, "new"), ("ann", "pässword")];
    post.write_users(&changed);
    post.reload(&daemon);
    for user in changed {
        Client::within_tls(&post).log_in(user).unwrap();
    }
    let error = Client::within_tls(&post).log_in(USERS[2]).unwrap_err().to_string();
    assert_eq!(error, "535 5.7.8 wrong name or password");

    // A users file that others can read is refused.
    std::fs::set_permissions(post.place.path("users"), PermissionsExt::from_mode(0o644)).unwrap();
    post.reload(&daemon);
    let error = Client::within_tls(&post).log_in(USERS[0]).unwrap_err().to_string();
    assert!(error.starts_with("454 4.7.0"), "{error}");
    post.place.wait_for_log(&["event=trouble", "reading the users file", "others may use"]);

    std::fs::remove_file(post.place.path("users")).unwrap();
    post.reload(&daemon);
    let error = Client::within_tls(&post).log_in(USERS[0]).unwrap_err().to_string();
    assert!(error.starts_with("454 4.7.0"), "{error}");
    post.place.wait_for_log(&["event=trouble", "reading the users file", "nobody can log in"]);
    assert!(running.send("s@box.test", &["u@box.test"], MESSAGE).unwrap().starts_with("250 2.0.0"));

    post.write_users(&USERS);
    post.reload(&daemon);
    Client::within_tls(&post).log_in(USERS[1]).unwrap();
    assert_eq!(post.place.logged(&["event=auth_failed"]).len(), 1, "454 is nobody's failure");
}

#[test]
fn a_listener_keeps_its_kind_until_the_restart_that_takes_it_away() {
    let (mut post, daemon) = served("");
    let old = (post.submission, post.submissions);
    (post.submission, post.submissions) = (super::harness::free_port(), super::harness::free_port());
    post.configure("");
    post.reload(&daemon);
    post.place.wait_for_log(&["listener addresses change only with a restart"]);
    // The daemon does not fall back to another certificate meanwhile.
    let file = post.place.path("pillarbox.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("/state\"", "/other\"")).unwrap();
    post.reload(&daemon);
    post.place.wait_for_log(&["state changes only with a restart"]);
    assert_eq!(post.place.logged(&["event=trouble"]), [""; 0]);
    let mut client = Client::hello(old.0).unwrap();
    let refusal = client.send("s@box.test", &["u@box.test"], MESSAGE).unwrap_err().to_string();
    assert!(refusal.starts_with("530 5.7.0"), "{refusal}");
    (post.submission, post.submissions) = old;
    Client::within_tls(&post).log_in(USERS[1]).unwrap();
}

#[test]
fn sigterm_waits_for_nobody_who_waits() {
    let (post, mut daemon) = served("");
    let mut idle = Client::within_tls(&post);
    // Silence within the handshake: with implicit TLS, and after STARTTLS.
    let mut silent = Client::connect(post.submissions).unwrap();
    let mut stuck = Client::hello(post.submission).unwrap();
    stuck.command("STARTTLS").unwrap();
    let mut asked = Client::within_tls(&post);
    asked.command("AUTH LOGIN").unwrap();
    // The fourth answer takes four seconds.
    let mut slowed = Client::within_tls(&post);
    for _ in 0..3 {
        slowed.log_in(("tim", "wrong")).unwrap_err();
    }
    slowed.write(format!("AUTH PLAIN {}\r\n", plain(USERS[1].0, USERS[1].1)).as_bytes()).unwrap();
    wait_until("the answer is slowed", SOON, || post.place.logged(&["event=auth_failed"]).len() == 3);
    std::thread::sleep(Duration::from_millis(200));
    let begun = Instant::now();
    daemon.signal("TERM");
    for client in [&mut idle, &mut asked, &mut slowed] {
        let farewell = client.reply().unwrap();
        assert!(farewell.starts_with("421 4.3.2 "), "{farewell}");
        assert_eq!(client.rest(), "");
    }
    assert!(!silent.rest().contains("220"));
    assert!(!stuck.rest().contains("220"));
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "stopped after {:?}", begun.elapsed());
}
