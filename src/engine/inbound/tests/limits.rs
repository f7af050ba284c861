//! Each limit of `[limits]`: just below it, at it, and just above it. Limits that need no engine are tested beside their code:
//! connections in `slots`, slow data and crowds in `patience`; errors, recipients and idle commands by transcripts;
//! messages a minute in `inbound`.

use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;
use crate::net::transport::{Deadline, Transport, WireError};
use crate::store::has_room;
use std::collections::VecDeque;
use std::time::Duration;

const ALICE: &str = "alice@box.example";
const BOB: &str = "bob@box.example";
const HELLO: &str = "EHLO c\r\n";
const ENVELOPE: &str = "MAIL FROM:<x@y.example>\r\nRCPT TO:<alice@box.example>\r\n";

/// A client that sends one piece for each read and then nothing; records the time that each read was given.
struct Slow {
    pieces: VecDeque<String>,
    given: Vec<Duration>,
    output: Vec<u8>,
}

impl Transport for Slow {
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError> {
        self.given.push(deadline.remaining());
        let piece = self.pieces.pop_front().ok_or(WireError::TimedOut)?;
        buffer[..piece.len()].copy_from_slice(piece.as_bytes());
        Ok(piece.len())
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        self.output.extend_from_slice(octets);
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        false
    }
}

/// Plays the pieces; returns the last reply, and the seconds given for each read, rounded up.
fn play(config: &str, pieces: &[&str]) -> (String, Vec<u64>) {
    let world = World::new(config);
    let pieces = pieces.iter().map(ToString::to_string).collect();
    let mut slow = Slow { pieces, given: Vec::new(), output: Vec::new() };
    world.serve(&mut slow);
    assert_eq!((world.mail("alice").len(), world.half_written()), (0, 0));
    let output = String::from_utf8(slow.output).unwrap();
    let given = slow.given.iter().map(|given| given.as_secs_f64().ceil() as u64).collect();
    (output.lines().last().unwrap().to_owned(), given)
}

#[test]
fn commands_data_and_sessions_have_the_time_that_is_configured() {
    // Longer waits are cut into steps of ten seconds.
    let times = "limits.command_timeout = \"9s\"\nlimits.data_timeout = \"5s\"\n";
    let envelope = format!("{ENVELOPE}DATA\r\n");
    let (last, given) = play(times, &[HELLO, "NO", "OP\r\n"]);
    assert_eq!(last, "421 4.3.2 box.example timed out waiting for a command");
    // The time of a line continues with its second piece, and starts again with the next line.
    assert_eq!(given, [9, 9, 9, 9]);
    let (last, given) = play(times, &[HELLO, &envelope, "a line\r\n", "half a"]);
    assert_eq!(last, "421 4.3.2 box.example timed out waiting for data");
    assert_eq!(given, [9, 9, 5, 5, 5]);
    let (last, given) = play(times, &[HELLO, ENVELOPE, "BDAT 20\r\nhalf", "a"]);
    assert_eq!(last, "421 4.3.2 box.example timed out waiting for data");
    assert_eq!(given, [9, 9, 9, 5, 5]);
    for (session, expected) in [(4, [4, 4, 4]), (5, [5, 5, 5]), (6, [6, 6, 5]), (10, [9, 9, 5])] {
        let (last, given) = play(&format!("{times}limits.session_timeout = {session}"), &[HELLO, &envelope]);
        assert_eq!(
            (last.as_str(), given),
            ("421 4.3.2 box.example timed out waiting for data", expected.into())
        );
    }
}

#[test]
fn space_is_kept_free_beyond_what_mail_declares() {
    for (free, kept, declared, expected) in [
        (999, 1000, 0, false),
        (1000, 1000, 0, true),
        (1001, 1000, 0, true),
        (1499, 1000, 500, false),
        (1500, 1000, 500, true),
        (1501, 1000, 500, true),
        (u64::MAX - 1, u64::MAX, u64::MAX, false),
        (0, 0, 0, true),
    ] {
        assert_eq!(has_room(free, kept, declared), expected, "{free} {kept} {declared}");
    }
    let world = World::new("limits.free_space = \"1048576GiB\"");
    let output = world.session(format!("{HELLO}{ENVELOPE}DATA\r\nQUIT\r\n").as_bytes(), &mut |_| ());
    let replies: Vec<&str> = output.lines().skip_while(|line| line.starts_with("2")).collect();
    assert!(replies[0].starts_with("452 4.3.1 "), "{output}");
    assert!(replies[1].starts_with("503 ") && replies[2].starts_with("503 "), "{output}");
}

#[test]
fn sizes_are_exact_declared_and_true_by_data_and_by_bdat() {
    const LIMIT: usize = 70_000;
    let world = World::new(&format!("limits.message_size = {LIMIT}"));
    for (size, taken) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
        let declared = format!("{HELLO}MAIL FROM:<> SIZE={size}\r\nQUIT\r\n");
        let output = world.session(declared.as_bytes(), &mut |_| ());
        assert!(output.contains(if taken { "\n250 2.1.0 " } else { "\n552 5.3.4 " }), "{size}: {output}");
        // A declared size that is too small has no effect.
        let text = format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(size - 16));
        assert_eq!(text.len(), size);
        let (head, tail) = text.split_at(size / 2);
        let messages = [
            format!("DATA\r\n{text}.\r\n"),
            format!("BDAT {size} LAST\r\n{text}"),
            format!("BDAT {}\r\n{head}BDAT {} LAST\r\n{tail}", head.len(), tail.len()),
            format!("BDAT {size}\r\n{text}BDAT 0 LAST\r\n"),
        ];
        for message in messages {
            let before = world.mail("alice").len();
            let envelope = ENVELOPE.replace(">\r\nRCPT", "> SIZE=1\r\nRCPT");
            let output = world.session(format!("{HELLO}{envelope}{message}QUIT\r\n").as_bytes(), &mut |_| ());
            let expected = if taken { "\n250 2.0.0 Ok: " } else { "\n552 5.3.4 " };
            assert!(output.contains(expected) && output.ends_with("221 2.0.0 bye\r\n"), "{size}: {output}");
            assert_eq!(world.mail("alice").len(), before + usize::from(taken), "{output}");
        }
    }
    assert_eq!(world.half_written(), 0);
}

#[test]
fn a_line_of_data_may_be_as_long_as_the_message() {
    let world = World::new("rewrite.repair = false");
    for size in [998, 999, 2049, 300_000] {
        let text = format!("Subject: x\n\n{}\n", "x".repeat(size));
        let reply = world.submit("x@y.example", &["alice@box.example"], &text);
        assert!(reply.starts_with("250 "), "{size}: {reply}");
        let mail = world.mail("alice");
        assert!(mail.iter().any(|mail| mail.ends_with(&text)), "{size}");
    }
}

#[test]
fn a_command_line_has_2048_octets_however_it_comes() {
    let world = World::new("");
    for (octets, expected) in
        [(2047, "250 2.0.0 "), (2048, "250 2.0.0 "), (2049, "500 5.5.2 "), (5000, "500 5.5.2 ")]
    {
        let line = format!("NOOP {}\r\n", "x".repeat(octets - 7));
        assert_eq!(line.len(), octets);
        let input = format!("{HELLO}{line}VRFY x\r\nQUIT\r\n");
        for piece in [1, 1000, 2047, usize::MAX] {
            let mut typist =
                Typist { input: input.as_bytes(), read: 0, piece, output: Vec::new(), hook: &mut |_| () };
            world.serve(&mut typist);
            let output = String::from_utf8(typist.output).unwrap();
            let replies: Vec<&str> = output.lines().rev().take(3).collect();
            assert!(replies[2].starts_with(expected), "{octets} in pieces of {piece}: {output}");
            assert!(replies[1].starts_with("252 ") && replies[0].starts_with("221 "), "{output}");
        }
    }
}

/// Puts a message of this many octets into a Maildir, according to its name.
fn fill(world: &World, user: &str, octets: usize) -> std::path::PathBuf {
    let file = world.maildir(user).join(format!("cur/1.old,S={octets}:2,S"));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "").unwrap();
    file
}

#[test]
fn a_full_mailbox_takes_nothing_and_tells_its_own_recipient_alone() {
    let world = World::new("local.quota = \"10KiB\"\n");
    let full = "452 4.2.2 the mailbox is full";
    let text = format!("Subject: x\n\n{}\n", "x".repeat(999));
    let old = fill(&world, "alice", 9 * 1024);
    // There is room, but not for this message; SIZE would have shown it before the data.
    assert_eq!(world.submit("x@y.example", &[ALICE], &text), full);
    let announced = "EHLO c\r\nMAIL FROM:<x@y.example> SIZE=1025\r\nRCPT TO:<alice@box.example>\r\nQUIT\r\n";
    let said = world.session(announced.as_bytes(), &mut |_| ());
    assert!(said.contains(&format!("\r\n{full}\r\n")), "{said}");
    assert_eq!((world.mail("alice").len(), world.half_written()), (0, 0));
    // With other recipients the message is accepted, and her copy waits until there is room.
    assert!(world.submit("x@y.example", &[ALICE, BOB], &text).starts_with("250 "));
    assert_eq!((world.mail("alice").len(), world.mail("bob").len(), world.queue().len()), (0, 1, 1));
    world.live(HOUR);
    assert_eq!(world.queue().len(), 1);
    assert!(take_events("deferred").iter().any(|line| line.contains("status=4.2.2")));
    std::fs::remove_file(old).unwrap();
    world.live(DAY);
    assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 0));
    // Nothing fits at all: RCPT is refused, whatever size MAIL announces.
    fill(&world, "alice", 10 * 1024);
    let session = "EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<alice@box.example>\r\nRCPT TO:<bob@box.example>\r\nQUIT\r\n";
    let said = world.session(session.as_bytes(), &mut |_| ());
    assert!(said.contains(&format!("\r\n{full}\r\n250 2.1.5 ")), "{said}");
}

/// Anyone may say RCPT, any number of times: the mailbox is not looked at for strangers.
#[test]
fn a_stranger_learns_of_a_full_mailbox_what_is_known_and_starts_no_measure() {
    let world = World::new("local.quota = \"10KiB\"\n");
    fill(&world, "alice", 10 * 1024);
    let rcpt = "EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<alice@box.example>\r\nQUIT\r\n";
    let ask = |client| world.session_by(ListenerPolicy::default(), client, rcpt);
    let (stranger, own) = ("198.51.100.7", "127.0.0.1");
    for (client, reply) in [(stranger, "250 2.1.5"), (own, "452 4.2.2"), (stranger, "452 4.2.2")] {
        let said = ask(client);
        assert!(said.contains(&format!("\r\n{reply} ")), "{client}: {said}");
    }
    // What a stranger sends is measured after the data, when it would be stored.
    let world = World::new("local.quota = \"10KiB\"\n");
    fill(&world, "alice", 10 * 1024);
    let data = rcpt.replace("QUIT", "DATA\r\nSubject: x\r\n\r\nx\r\n.\r\nQUIT");
    let said = world.session_by(ListenerPolicy::default(), stranger, &data);
    assert!(said.contains("\r\n354 ") && said.contains("\r\n452 4.2.2 "), "{said}");
}
