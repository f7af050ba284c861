//! docs/screens.md shows what the commands say. Each screen is that of a real run here, beside Postfix as the smarthost; names,
//! ports and files are replaced by those of an example. `UPDATE_EXPECT=1 cargo test --test interop screens` writes the screens
//! into the document; otherwise the test compares, and lets numbers, times and queue ids differ.

use super::client::send;
use super::harness::{Place, SOON, free_port, wait_until};
use super::probe::probe;
use super::setup::{command, smarthost, terminal};
use super::smarthost::{PASSWORD, password_file, place, reconfigure};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// What a command shows, on both outputs.
fn shown(place: &Place, words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let output = command.arg("-c").arg(place.path("pillarbox.toml")).args(words).output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// The whole screen of a setup in which a person types these lines, each after a prompt that ends so.
fn dialogue(place: &Place, typed: &[(&str, &str)]) -> String {
    let (mut person, program) = terminal();
    let mut command = command(place, &[]);
    command.stdin(program.try_clone().unwrap()).stdout(program.try_clone().unwrap()).stderr(program);
    let mut child = command.spawn().unwrap();
    // It holds the program's end of the terminal, too.
    drop(command);
    let (mut screen, mut typed) = (String::new(), typed.iter());
    let mut next = typed.next();
    let mut buffer = [0; 4096];
    // The terminal reports an error once nobody holds the other end.
    while let Ok(read @ 1..) = person.read(&mut buffer) {
        screen.push_str(&String::from_utf8_lossy(&buffer[..read]).replace("\r\n", "\n"));
        if let Some((prompt, line)) = next.filter(|(prompt, _)| screen.ends_with(prompt)) {
            writeln!(person, "{line}").unwrap();
            assert!(!prompt.is_empty());
            next = typed.next();
        }
    }
    assert!(child.wait().unwrap().success() && next.is_none() && !screen.contains(PASSWORD), "{screen}");
    screen
}

/// Puts the names of an example in place of those of the test.
fn with_examples(place: &Place, port: u16, text: &str) -> String {
    let d = place.dir.display().to_string();
    let mut text = text.to_owned();
    for (from, to) in [
        (&*format!("pillarbox -c {d}/etc/pillarbox.toml"), "pillarbox"),
        (&format!("{d}/state"), "/var/spool/pillarbox"),
        (&format!("{d}/etc"), "/etc/pillarbox"),
        (&d, "/etc/pillarbox"),
        ("joe@smart.test", "nas@example.com"),
        ("them@far.test", "me@example.org"),
        ("wrong.test", "mail.example.com"),
        ("smart.test", "smtp.example.com"),
        ("box.test", "nas.example.net"),
        ("ca.test", "Example CA"),
        ("127.0.0.1", "192.0.2.25"),
        (&format!(":{port}"), ":587"),
    ] {
        text = text.replace(from, to);
    }
    text
}

/// A screen without what differs from run to run.
fn comparable(screen: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_id = bare.len() >= 13
            && bare.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b':');
        if is_id {
            return word.replace(bare, "ID");
        }
        let names =
            ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Jan", "Feb", "Mar", "Apr", "May", "Jun"];
        let months = ["Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        if names.iter().chain(&months).any(|name| bare == *name) {
            return "DATE".to_owned();
        }
        let mut kept = String::new();
        for c in word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }) {
            if !(c == '0' && kept.ends_with('0')) {
                kept.push(c);
            }
        }
        ["0d", "0h", "0m", "0s", "KiB", "MiB", "GiB", "0.0"]
            .iter()
            .fold(kept, |kept, unit| kept.replace(unit, "0"))
    };
    let line = |line: &str| {
        if line.starts_with("Next: ") {
            return "Next".to_owned();
        }
        let mut words: Vec<String> = line.split_whitespace().map(word).collect();
        words.dedup();
        words.join(" ")
    };
    screen.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Compares the screens with the blocks of the document, or writes them there.
fn compare(screens: &[(&str, String)]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/screens.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let pieces: Vec<&str> = document.split("```").collect();
    assert_eq!(pieces.len(), 2 * screens.len() + 1, "blocks of docs/screens.md, and screens here");
    let mut made = pieces[0].to_owned();
    for (pair, (command, screen)) in pieces[1..].chunks(2).zip(screens) {
        let block = format!("console\n$ {command}\n{}\n", screen.trim_end());
        if std::env::var_os("UPDATE_EXPECT").is_none() {
            assert_eq!(comparable(pair[0]), comparable(&block), "docs/screens.md shows another screen");
        }
        made += &format!("```{block}```{}", pair[1]);
    }
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, made).unwrap();
    }
}

const MISTAKES: &str = "admin = “me@example.org”\n";
const MORE_MISTAKES: &str = "admin = \"me@example.org\"\n[relay]\nsmarthost = \"smtp.example.com\"\nuser = \"nas@example.com\"\n\n\
                             [log]\nlevl = \"debug\"\n";

#[test]
fn the_document_of_screens_shows_what_the_commands_say() {
    let Some(place) = place() else { return };
    let port = free_port();
    let (_postfix, _dovecot, dns) = smarthost(&place, port);
    let mut screens: Vec<(&str, String)> = Vec::new();
    let typed =
        [("alerts: ", "joe@smart.test"), ("none): ", ""), ("no login): ", "wr0ng"), ("give up): ", PASSWORD)];
    screens.push(("sudo pillarbox setup", dialogue(&place, &typed)));
    drop(dns);
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1", "--host-record=wrong.test,127.0.0.1"]);
    let file = password_file(&place, PASSWORD);
    let relay = |host: &str| {
        let ca = place.path("ca.pem");
        format!(
            "admin = \"them@far.test\"\nrelay.smarthost = \"smtp+starttls://{host}:{port}\"\n\
             relay.username = \"joe@smart.test\"\nrelay.password_file = {file:?}\nrelay.ca_file = {ca:?}\n\
             queue.retry = [\"30m\"]\n"
        )
    };
    place.configure(&relay("smart.test"));
    let daemon = place.serve();
    let is_open = || UnixStream::connect(place.path("run/control.sock")).is_ok();
    wait_until("the control socket is open", SOON, is_open);
    send(place.port, "root@box.test", "them@far.test", b"Subject: backup\r\n\r\ndone\r\n");
    place.wait_for_empty_queue(SOON);
    screens.push(("pillarbox status", shown(&place, &["status"])));
    screens.push(("sudo pillarbox probe me@example.org", probe(&place, &["them@far.test"]).1));

    password_file(&place, "wr0ng");
    reconfigure(&place, &daemon, &relay("smart.test"));
    send(place.port, "root@box.test", "them@far.test", b"Subject: disk\r\n\r\nfull\r\n");
    place.wait_for_log(&["event=paused"]);
    screens.push(("sudo pillarbox status", shown(&place, &["status"])));
    screens.push(("mailq", shown(&place, &["queue"])));
    screens.push(("sudo pillarbox probe me@example.org", probe(&place, &["them@far.test"]).1));
    password_file(&place, PASSWORD);
    shown(&place, &["queue", "remove", "all"]);
    reconfigure(&place, &daemon, &relay("wrong.test"));
    screens.push(("sudo pillarbox probe me@example.org", probe(&place, &["them@far.test"]).1));
    daemon.stop();
    for mistakes in [MISTAKES, MORE_MISTAKES] {
        place.write("pillarbox.toml", mistakes);
        screens.push(("sudo pillarbox check", shown(&place, &["check"])));
    }
    for (_, screen) in &mut screens {
        *screen = with_examples(&place, port, screen);
    }
    compare(&screens);
}
