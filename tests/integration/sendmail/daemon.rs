//! `sendmail` with a daemon: first one that takes messages, with the same cases as without a daemon; then daemons that
//! refuse, break off, or answer nonsense. A message with exit code 0 was taken, or lies in the drop directory.

use super::{Place, SMALL, run, the_cases_pass};
use pillarbox::protocol::piece::PIECE_HEAD_MAX_OCTETS;
use pillarbox::protocol::question::{Question, SubmissionSizes};
use pillarbox::store::drop::DropEnvelope;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

/// The answers of a scripted daemon.
#[derive(Debug, Clone, Copy)]
struct Script {
    /// After question and envelope.
    first: &'static str,
    /// After the message, if it has asked for one.
    last: &'static str,
}

const TAKES: Script = Script { first: "3 0\n", last: "0 0\n" };

/// A daemon that follows a script, and keeps envelope and text of what is handed over.
#[derive(Clone, Default)]
pub(super) struct Scripted(Arc<Mutex<Vec<(String, String)>>>);

impl Scripted {
    pub(super) fn taking(place: &Place) -> Self {
        Self::start(place, TAKES)
    }

    fn start(place: &Place, script: Script) -> Self {
        let daemon = Self::default();
        let (listener, taken) = (UnixListener::bind(place.0.join("c.sock")).unwrap(), daemon.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                taken.answer(&stream.unwrap(), script);
            }
        });
        daemon
    }

    fn answer(&self, mut stream: &UnixStream, script: Script) {
        let (mut input, mut line) = (BufReader::new(stream), String::new());
        let _ = input.read_line(&mut line);
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        let Ok(Question::Submit(SubmissionSizes { envelope_octets, message_octets })) =
            Question::parse(&words)
        else {
            // A question about the queue.
            return stream.write_all(b"0 0\n").unwrap();
        };
        let mut envelope = vec![0; envelope_octets];
        input.read_exact(&mut envelope).unwrap();
        assert!(DropEnvelope::parse(&envelope).is_some());
        stream.write_all(script.first.as_bytes()).unwrap();
        if script.first != TAKES.first {
            return;
        }
        let mut text = String::new();
        assert_eq!(
            input.by_ref().take(message_octets).read_to_string(&mut text).unwrap() as u64,
            message_octets
        );
        let envelope = String::from_utf8(envelope).unwrap().trim_end().replace('\n', " ");
        self.0.lock().unwrap().push((envelope, text));
        stream.write_all(script.last.as_bytes()).unwrap();
        if script.last != TAKES.last {
            return;
        }
        let mut more = Vec::new();
        assert_eq!(input.read_to_end(&mut more).unwrap(), 0, "{more:?}");
    }

    /// The only message that it received, if any.
    pub(super) fn got(&self) -> Option<(String, String)> {
        let mut all = std::mem::take(&mut *self.0.lock().unwrap());
        assert!(all.len() <= 1, "{all:?}");
        all.pop()
    }
}

#[test]
fn the_callers_get_what_they_want_from_a_daemon_too() {
    let place = Place::with_drop_directory();
    let daemon = Scripted::taking(&place);
    let files = std::fs::read_dir(place.0.join("state/drop")).unwrap();
    assert_eq!(files.count(), 0);
    the_cases_pass(&place, Some(&daemon));
}

#[test]
fn a_large_message_is_handed_over_and_leaves_nothing_behind() {
    let place = Place::with_drop_directory();
    place.configure("limits.message_size = \"4MiB\"\n");
    let daemon = Scripted::taking(&place);
    // Below and above the size that stays in memory; without a directory for a file, all stays there.
    for (lines, drop) in [(10_000, true), (500_000, true), (500_000, false)] {
        if !drop {
            std::fs::remove_dir(place.0.join("state/drop")).unwrap();
        }
        let text = format!("A: 1\n\n{}", "x.\n".repeat(lines));
        let output = run(&mut place.command("sendmail", &["root"]), text.as_bytes());
        assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
        let (envelope, got) = daemon.got().unwrap();
        assert!(envelope == "to=root" && got == text, "{lines}: {} octets of {}", got.len(), text.len());
        assert!(!drop || place.left().is_none());
    }
}

/// The exit code and text of each case, and whether the message lies in the drop directory.
#[test]
fn a_daemon_that_takes_nothing_costs_no_message() {
    let turned_away = "2 12\ngo elsewhere0 75\n";
    for (first, last, code, text, left) in [
        (turned_away, "", 0, "", true),
        ("2 3\nno\n0 67\n", "", 67, "sendmail: no\n", false),
        ("2 3\nno\n0 65\n", "", 65, "sendmail: no\n", false),
        ("0 64\n", "", 0, "", true),
        ("0 74\n", "", 0, "", true),
        ("0 0\n", "", 0, "", true),
        ("", "", 0, "", true),
        ("HTTP/1.1 400 Bad Request\r\n", "", 0, "", true),
        ("3 0\n", "", 0, "", true),
        ("3 0\n", "3 0\n", 0, "", true),
        ("3 0\n", "0 75\n", 0, "", true),
        ("3 0\n", "2 5\nround0 65\n", 65, "sendmail: round\n", false),
        ("3 0\n", "1 17\n0000000000000000", 0, "", true),
        ("3 0\n", "1 2\nid0 0\n", 0, "", false),
    ] {
        let place = Place::with_drop_directory();
        Scripted::start(&place, Script { first, last });
        for text_octets in [10, 60_000] {
            let input = format!("A: 1\n\n{}\n", "x".repeat(text_octets));
            let output = run(&mut place.command("sendmail", &["root"]), input.as_bytes());
            let reported = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), reported.as_str()), (Some(code), text), "{first:?} {last:?}");
            assert_eq!(place.left().map(|(.., text)| text), left.then_some(input), "{first:?} {last:?}");
        }
    }
    // Without a drop directory, both reasons are reported.
    let place = Place::new();
    Scripted::start(&place, Script { first: turned_away, last: "" });
    let output = run(&mut place.command("sendmail", &["root"]), SMALL);
    let reported = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(
        reported.contains("there is no drop directory") && reported.contains("c.sock: go elsewhere"),
        "{reported}"
    );
    assert_eq!(reported.lines().count(), 1, "{reported}");
}

/// A daemon that hangs may wake up later: it must not get a message that it did not ask for, or the message arrives twice.
#[test]
fn one_that_hangs_gets_no_message_that_is_left_elsewhere() {
    let place = Place::with_drop_directory();
    let listener = UnixListener::bind(place.0.join("c.sock")).unwrap();
    let output = run(&mut place.command("sendmail", &["root"]), SMALL);
    assert_eq!((output.status.code(), &*output.stderr), (Some(0), &b""[..]));
    assert_eq!(place.left().unwrap().2.as_bytes(), SMALL);
    let mut said = String::new();
    listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
    assert_eq!(said, format!("submit 8 {}\nto=root\n", SMALL.len()));
    assert!(said.len() > PIECE_HEAD_MAX_OCTETS);
}

#[test]
fn what_is_verified_is_asked() {
    let place = Place::new();
    let output = run(&mut place.command("sendmail", &["-bv", "root"]), b"");
    let reported = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(69) && reported.contains("no daemon answers"), "{reported}");
    for arguments in [&["-bv"][..], &["-bv", "\"a b\"@far.example"], &["-bv", "a\nlink down"]] {
        let output = run(&mut place.command("sendmail", arguments), b"");
        assert_eq!(
            output.status.code(),
            Some(if arguments.len() == 2 && arguments[1].contains('\n') { 69 } else { 64 })
        );
    }
}
