//! Standard error that is the journal of systemd: a socket that `JOURNAL_STREAM` names.

use super::client::send;
use super::harness::{Daemon, Place, Running, SOON, wait_until};
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// The reader of a stream, as journald is: it keeps lines.
struct Journal {
    text: Arc<Mutex<String>>,
    /// What a service manager says of the stream.
    name: String,
}

impl Journal {
    /// A journal, and the end that becomes standard error.
    fn open() -> (Self, OwnedFd) {
        let (mut here, there) = UnixStream::pair().unwrap();
        let there = OwnedFd::from(there);
        let metadata = fs::File::from(there.try_clone().unwrap()).metadata().unwrap();
        let text = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = here.read(&mut buffer) {
                kept.lock().unwrap().push_str(std::str::from_utf8(&buffer[..length]).unwrap());
            }
        });
        (Self { text, name: format!("{}:{}", metadata.dev(), metadata.ino()) }, there)
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// The line with these words, as soon as it is there.
    fn line(&self, words: &str) -> String {
        let find = || self.text().lines().find(|line| line.contains(words)).map(str::to_owned);
        wait_until(words, SOON, || find().is_some());
        find().unwrap()
    }
}

fn pillarbox(place: &Place, word: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg("-c").arg(place.path("pillarbox.toml")).arg(word).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A daemon with this standard error.
fn serve(place: &Place, stream: OwnedFd, name: &str) -> Daemon {
    let mut command = pillarbox(place, "serve");
    let child = command.env("JOURNAL_STREAM", name).stderr(Stdio::from(stream)).spawn().unwrap();
    Daemon(Running { child })
}

#[test]
fn the_journal_gets_a_level_in_place_of_date_and_target() {
    let place = Place::new();
    place.configure("relay.smarthost = \"smtp://127.0.0.1:1\"\nlog.level = \"debug\"\n");
    let (journal, stream) = Journal::open();
    let daemon = serve(&place, stream, &journal.name);
    assert_eq!(journal.line("text=\"ready\""), "<6>event=notice text=\"ready\"");
    send(place.port, "s@y.test", "a@far.test", b"Subject: x\r\n\r\nx\r\n");
    assert!(journal.line("event=paused").starts_with("<4>event=paused route="));
    assert!(journal.line("event=deferred").starts_with("<6>event=deferred id="));
    // A mistake that is found at SIGHUP.
    fs::write(place.path("pillarbox.toml"), "stat = 1\n").unwrap();
    daemon.signal("HUP");
    assert!(journal.line("event=trouble").starts_with("<3>event=trouble doing="));
    daemon.stop();
    for line in journal.text().lines() {
        let level = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let (level, text) = level.unwrap_or_else(|| panic!("no level: {line}"));
        assert!(["3", "4", "6", "7"].contains(&level) && text.starts_with("event="), "{line}");
    }

    // The command that ends with an error, and the warnings of `check`.
    let (journal, stream) = Journal::open();
    let end =
        pillarbox(&place, "serve").env("JOURNAL_STREAM", &journal.name).stderr(Stdio::from(stream)).status();
    assert_eq!(end.unwrap().code(), Some(78));
    assert!(journal.line("unknown key").starts_with("<3>"));
    place.configure("hostname = \"box\"\n");
    let (journal, stream) = Journal::open();
    pillarbox(&place, "check")
        .env("JOURNAL_STREAM", &journal.name)
        .stderr(Stdio::from(stream))
        .status()
        .unwrap();
    assert!(journal.line("warning: ").starts_with("<4>warning: "), "{}", journal.text());
}

/// Programs that a service has started, and terminals of a desktop, have the variable of another stream.
#[test]
fn other_streams_get_no_level() {
    let place = Place::new();
    place.configure("");
    let (journal, stream) = Journal::open();
    let (other, _other_stream) = Journal::open();
    let daemon = serve(&place, stream, &other.name);
    let line = journal.line("text=\"ready\"");
    assert!(
        line.starts_with("20") && line.ends_with(" INFO  [pillarbox] event=notice text=\"ready\""),
        "{line}"
    );
    daemon.stop();
    assert!(journal.text().lines().all(|line| line.starts_with("20")), "{}", journal.text());
    fs::write(place.path("pillarbox.toml"), "stat = 1\n").unwrap();
    for word in ["check", "serve", "queue", "status"] {
        let mut command = pillarbox(&place, word);
        let output = command.env("JOURNAL_STREAM", &other.name).stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("unknown key") && !text.contains('<'), "{text}");
    }
}
