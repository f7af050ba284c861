//! The server's side of the engine: which mail is accepted, where its copies are, and what a client cannot break.

use crate::engine::host::site::current;
use crate::engine::inbound::connection::Connection;
use crate::engine::inbound::slots::Caps;
use crate::engine::intake::submission::Submission;
use crate::engine::tests::world::*;
use crate::mail::address::{ForwardPath, Mailbox, ReversePath};
use crate::rules::routing::route::NoRoute;
use rustix::fs::{FileType, Mode};
use std::io::Read;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const ALICE: &str = "alice@box.example";
const BOB: &str = "bob@box.example";
const FAR: &str = "joe@far.example";

/// Lines of 64 octets on the wire, some of which begin with a dot: `size` octets as RFC 1870 counts them.
fn content(size: usize) -> String {
    let mut content = String::from("Subject: large\n\n");
    let mut left = size - "Subject: large\r\n\r\n".len();
    for i in 0.. {
        if left <= 2 {
            break;
        }
        let mut line = format!("{}{i:07} {}", if i % 50 == 0 { "." } else { "-" }, "x".repeat(53));
        line.truncate(left - 2);
        // The space left after it must hold a line, or nothing at all.
        if (1..=2).contains(&(left - line.len() - 2)) {
            line.truncate(line.len() - 3);
        }
        content.push_str(&line);
        content.push('\n');
        left -= line.len() + 2;
    }
    assert_eq!(content.replace('\n', "\r\n").len(), size);
    content
}

/// Puts a FIFO in the place of a mailbox: neither a Maildir nor an mbox.
fn block(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

#[test]
fn a_maildir_that_takes_no_mail_is_retried_from_the_queue() {
    for is_link in [false, true] {
        for large in [false, true] {
            let world = World::new("queue.retry = \"1m\"\nrewrite.repair = false");
            if is_link {
                std::fs::create_dir_all(world.state().join("elsewhere")).unwrap();
                std::fs::create_dir_all(world.maildir("")).unwrap();
                std::os::unix::fs::symlink(world.state().join("elsewhere"), world.maildir("bob")).unwrap();
            } else {
                block(&world.maildir("bob"));
            }
            let text = content(if large { 300_000 } else { 300 });
            for to in [[ALICE, BOB], [BOB, ALICE]] {
                let reply = world.submit("x@y.example", &to, &text);
                assert!(reply.starts_with("250 "), "{reply}");
            }
            assert_eq!((world.mail("alice").len(), world.queue().len()), (2, 2));
            world.live(10 * MINUTE);
            assert_eq!((world.queue().len(), world.mail("bob").len()), (2, 0));
            std::fs::remove_file(world.maildir("bob")).unwrap();
            world.live(2 * MINUTE);
            assert_eq!((world.queue(), world.mail("bob").len()), (vec![], 2));
            for mail in world.mail("alice").iter().chain(&world.mail("bob")) {
                assert!(mail.ends_with(&text), "large: {large}");
            }
            assert_eq!(world.half_written(), 0);
            // No other copy exists: the client keeps the message.
            std::fs::remove_dir_all(world.maildir("bob")).unwrap();
            block(&world.maildir("bob"));
            let reply = world.submit("x@y.example", &[BOB], &text);
            assert_eq!(reply, "451 4.3.0 the message can't be stored now");
            assert_eq!((world.queue(), world.half_written()), (vec![], 0));
        }
    }
}

/// The rest of a large message must survive the loss of the copy that was begun first.
#[test]
fn an_mbox_that_is_locked_is_retried_from_the_queue() {
    for large in [false, true] {
        let world = World::new("queue.retry = \"1m\"");
        std::fs::create_dir_all(world.maildir("")).unwrap();
        std::fs::write(world.maildir("bob"), "").unwrap();
        // A link, which a sweep never removes.
        std::os::unix::fs::symlink("/nowhere", world.maildir("bob.lock")).unwrap();
        let text = content(if large { 300_000 } else { 300 });
        for to in [[ALICE, BOB], [BOB, ALICE]] {
            let reply = world.submit("x@y.example", &to, &text);
            assert!(reply.starts_with("250 "), "{reply}");
        }
        // An entry for the one and another for the remote recipients, each with its own id.
        assert!(world.submit("x@y.example", &[BOB, FAR], &text).starts_with("250 "));
        assert_eq!((world.mail("alice").len(), world.queue().len()), (2, 4));
        let reply = world.submit("x@y.example", &[BOB], &text);
        assert_eq!(reply, "451 4.3.0 the message can't be stored now");
        world.pass();
        assert_eq!(std::fs::read(world.maildir("bob")).unwrap(), b"");
        std::fs::remove_file(world.maildir("bob.lock")).unwrap();
        world.live(2 * MINUTE);
        let mbox = std::fs::read_to_string(world.maildir("bob")).unwrap();
        let messages: Vec<&str> = mbox.split("From x@y.example ").skip(1).collect();
        assert_eq!(messages.len(), 3);
        let (_, body) = text.split_once("\n\n").unwrap();
        assert!(messages.iter().all(|message| message.ends_with(&format!("\n\n{body}\n"))));
        assert_eq!(world.half_written(), 0);
        // One after the other, each beside the Maildir of another user.
        assert!(world.submit("x@y.example", &[BOB], &text).starts_with("250 "));
        assert!(world.submit("x@y.example", &[BOB, ALICE], &text).starts_with("250 "));
        let mbox = std::fs::read_to_string(world.maildir("bob")).unwrap();
        assert_eq!((mbox.matches("From x@y.example ").count(), world.mail("alice").len()), (5, 3));
    }
}

#[test]
fn a_large_message_survives_any_mix_of_recipients_that_fail() {
    for blocked in [&["alice"][..], &["bob"], &["alice", "bob"]] {
        for to in [&[ALICE, FAR][..], &[BOB, FAR], &[ALICE, BOB], &[FAR, BOB, ALICE]] {
            for size in [300, 70_000, 131_072, 300_001] {
                let world = World::new("rewrite.repair = false");
                let host = world.far_host();
                blocked.iter().for_each(|user| block(&world.maildir(user)));
                let text = content(size);
                let reply = world.submit("x@y.example", to, &text);
                assert!(reply.starts_with("250 "), "{blocked:?} {to:?} {size}: {reply}");
                world.pass();
                blocked.iter().for_each(|user| std::fs::remove_file(world.maildir(user)).unwrap());
                world.live(HOUR);
                assert_eq!(world.queue(), []);
                for user in ["alice", "bob"] {
                    let mail = world.mail(user);
                    assert_eq!(mail.len(), usize::from(to.iter().any(|to| to.starts_with(user))));
                    assert!(mail.iter().all(|mail| mail.ends_with(&text)), "{blocked:?} {to:?} {size}");
                }
                let taken = host.taken.lock().unwrap();
                assert_eq!(taken.len(), usize::from(to.contains(&FAR)));
                assert!(
                    taken.iter().all(|taken| taken.content.ends_with(text.replace('\n', "\r\n").as_bytes()))
                );
                assert_eq!(world.half_written(), 0);
            }
        }
    }
}

#[test]
fn a_large_message_is_the_same_everywhere_and_needs_little_memory() {
    let world = World::new("");
    let host = world.far_host();
    let text = content(5 << 20);
    let site = current(&world.site);
    let routed = |to: &&str| {
        let path = ForwardPath::Mailbox(Mailbox::parse(to).unwrap());
        site.route(&path)
    };
    let recipients: Result<Vec<_>, NoRoute> = [ALICE, BOB, FAR].iter().map(routed).collect();
    let submission = Submission {
        is_own: false,
        ..Submission::internal(
            ReversePath::Null,
            recipients.unwrap().into_iter().map(Into::into).collect(),
            "test".into(),
        )
    };
    let mut incoming = world.intake.begin(&site, submission).unwrap();
    for piece in text.as_bytes().chunks(40_000) {
        incoming.write(piece);
        let held = incoming.octets_in_memory();
        assert!(held <= 64 * 1024 + 40_000, "{held}");
    }
    incoming.commit().unwrap();
    world.pass();
    for user in ["alice", "bob"] {
        let fields = format!("Return-Path: <>\nDelivered-To: {user}@box.example\n");
        assert_eq!(world.mail(user), [format!("{fields}{text}")]);
    }
    assert_eq!(host.taken.lock().unwrap()[0].content, text.replace('\n', "\r\n").as_bytes());
}

/// The files in a Maildir may belong to its user, who can change them at once.
#[test]
fn whoever_writes_to_a_copy_that_comes_in_changes_no_other() {
    for to in [&[ALICE, BOB][..], &[ALICE, FAR], &[ALICE, BOB, FAR]] {
        let world = World::new("rewrite.repair = false");
        let text = content(300_000).replace("\n.", "\n..").replace('\n', "\r\n");
        let to: String = to.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
        let input = format!("EHLO x\r\nMAIL FROM:<x@y.example>\r\n{to}DATA\r\n{text}.\r\nQUIT\r\n");
        let tmp = world.maildir("alice").join("tmp");
        let output = world.session(input.as_bytes(), &mut |read| {
            let files = std::fs::read_dir(&tmp).into_iter().flatten().flatten();
            files.filter(|_| read > 200_000).for_each(|file| std::fs::write(file.path(), "forged").unwrap());
        });
        assert!(output.contains("250 2.0.0 Ok: "), "{output}");
        let bob = world.mail("bob");
        assert_eq!(bob.len(), usize::from(to.contains(BOB)));
        let text = content(300_000);
        assert!(bob.iter().all(|mail| mail.ends_with(&text)));
        for summary in world.queue() {
            let octets = std::fs::read(world.state().join("queue").join(summary.id.to_string()));
            assert!(octets.is_ok_and(|octets| octets.windows(text.len()).any(|it| it == text.as_bytes())));
        }
        assert_eq!(world.half_written(), 0);
    }
}

#[test]
fn the_size_limit_is_exact() {
    for limit in [2000, 100_000] {
        let world = World::new(&format!("limits.message_size = {limit}"));
        for (size, taken) in [(limit - 1, true), (limit, true), (limit + 1, false), (2 * limit, false)] {
            let reply = world.submit("x@y.example", &[ALICE, BOB], &content(size));
            let expected = if taken { "250 2.0.0" } else { "552 5.3.4" };
            assert!(reply.starts_with(expected), "{size}: {reply}");
        }
        assert_eq!((world.mail("alice").len(), world.mail("bob").len(), world.half_written()), (2, 2, 0));
    }
}

#[test]
fn a_client_that_goes_away_in_the_data_leaves_nothing() {
    let world = World::new("");
    let text = content(200_000).replace('\n', "\r\n");
    let input = format!(
        "EHLO x\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{ALICE}>\r\nRCPT TO:<{FAR}>\r\nDATA\r\n{text}"
    );
    for length in [200, 10_000, 100_000, input.len()] {
        let output = world.session(&input.as_bytes()[..length], &mut |_| ());
        assert!(output.ends_with("354 end the data with <CRLF>.<CRLF>\r\n"), "{output}");
        assert_eq!((world.mail("alice").len(), world.queue(), world.half_written()), (0, vec![], 0));
    }
    assert_eq!(world.connections.count(), 0);
}

#[test]
fn a_panic_in_one_connection_ends_that_one_only() {
    let world = World::new("");
    let text = content(200_000).replace('\n', "\r\n");
    let head =
        format!("EHLO x\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{ALICE}>\r\nRCPT TO:<{FAR}>\r\nDATA\r\n");
    let input = format!("{head}{text}.\r\nQUIT\r\n");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        world.session(input.as_bytes(), &mut |read| assert!(read < 100_000, "forced by the test"));
    }));
    assert!(panicked.is_err());
    assert_eq!(world.connections.count(), 0, "the permit is given back");
    assert_eq!((world.mail("alice").len(), world.queue(), world.half_written()), (0, vec![], 0));
    world.accept("x@y.example", &[ALICE, FAR]);
    assert_eq!((world.mail("alice").len(), world.queue().len()), (1, 1));
}

/// A whole transaction may arrive in one piece, so that the first wait within it is for data.
#[test]
fn a_shutdown_lets_a_transaction_end_that_came_in_one_piece() {
    let world = World::new("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let stream = Arc::new(listener.accept().unwrap().0);
    let client = IpAddr::from([127, 0, 0, 1]);
    let caps = Caps { total: 9, per_address: 9 };
    let permit = world.connections.admit(Arc::clone(&stream), client, true, caps).unwrap();
    let hello = "EHLO x\r\n";
    let head = format!("{hello}MAIL FROM:<x@y.example>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n");
    let input = format!("{head}Subject: x\r\n\r\nbody\r\n.\r\n");
    let connections = Arc::clone(&world.connections);
    let mut hook = |read: usize| {
        if read == head.len() {
            connections.stop(Duration::ZERO);
        }
    };
    let mut typist = Typist {
        input: input.as_bytes(),
        read: 0,
        piece: head.len() - hello.len(),
        output: Vec::new(),
        hook: &mut hook,
    };
    let site = current(&world.site);
    Connection::new(&site, &world.intake, &permit, &mut typist, client).serve();
    stream.set_nonblocking(true).unwrap();
    let shut = (&*stream).read(&mut [0; 1]);
    assert!(shut.is_err(), "its socket was shut: {shut:?}");
    let output = String::from_utf8(typist.output).unwrap();
    assert!(output.contains("\n250 2.0.0 Ok: "), "{output}");
    assert!(output.ends_with("421 4.3.2 box.example is shutting down\r\n"), "{output}");
    assert_eq!(world.mail("alice").len(), 1);
}

/// The input of a client that sends chunks of these sizes, in one piece.
fn chunked(to: &str, text: &str, sizes: &[usize]) -> Vec<u8> {
    let mut octets = format!("EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{to}>\r\n").into_bytes();
    let mut rest = text.as_bytes();
    for size in sizes {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        octets.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        octets.extend_from_slice(chunk);
        rest = after;
    }
    octets.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
    octets.extend_from_slice(rest);
    octets.extend_from_slice(b"QUIT\r\n");
    octets
}

#[test]
fn a_message_in_chunks_is_the_message_that_was_sent() {
    for size in [300, 70_000, 300_001] {
        let world = World::new("rewrite.repair = false");
        let text = content(size);
        for sizes in [&[][..], &[0, 1, 2], &[100, 64, 63], &[65_536, 4_096]] {
            let wire = text.replace('\n', "\r\n");
            let output = world.session(&chunked(ALICE, &wire, sizes), &mut |_| ());
            assert!(output.contains("250 2.0.0 Ok: ") && output.ends_with("221 2.0.0 bye\r\n"), "{output}");
        }
        let mails = world.mail("alice");
        assert_eq!(mails.len(), 4);
        assert!(mails.iter().all(|mail| mail.ends_with(&text)));
        assert_eq!(world.half_written(), 0);
    }
}

#[test]
fn chunks_of_a_message_that_ends_early_leave_nothing_behind() {
    let world = World::new("");
    let text = content(100_000).replace('\n', "\r\n");
    let whole = chunked(ALICE, &text, &[90_000]);
    for (cut, ending) in [(80_000, &b""[..]), (90_200, b"RSET\r\nQUIT\r\n"), (90_200, b"")] {
        let cut = if cut > 90_000 {
            whole.len() - "BDAT 10000 LAST\r\n".len() - 10_000 - "QUIT\r\n".len()
        } else {
            cut
        };
        let input = [&whole[..cut], ending].concat();
        world.session(&input, &mut |_| ());
        assert_eq!((world.mail("alice").len(), world.half_written()), (0, 0));
    }
    // A lone dot, a bare LF, a message over the limit: each is refused, and its octets are never read as commands.
    let bare = chunked(ALICE, "a\r\n.\r\nMAIL FROM:<>\r\nb\nc\r\n", &[3]);
    assert!(world.session(&bare, &mut |_| ()).contains("550 5.5.2 "));
    let small = World::new("limits.message_size = 1024");
    let output = small.session(&chunked(ALICE, &"x".repeat(5000), &[]), &mut |_| ());
    assert!(output.contains("552 5.3.4 ") && output.ends_with("221 2.0.0 bye\r\n"), "{output}");
    assert_eq!((world.mail("alice").len(), small.mail("alice").len()), (0, 0));
}

#[test]
fn what_dsn_asks_for_is_kept_and_followed() {
    let world = World::new("");
    world.net.mx_answer("far.example", Ok(crate::mail::mx::MxAnswer::Null));
    let input = format!(
        "EHLO c\r\nMAIL FROM:<{BOB}> RET=HDRS ENVID=e+2B1\r\nRCPT TO:<a@far.example> NOTIFY=NEVER\r\n\
         RCPT TO:<b@far.example> NOTIFY=FAILURE ORCPT=rfc822;first@far.example\r\nDATA\r\n\
         Subject: x\r\n\r\nsecret body\r\n.\r\nQUIT\r\n"
    );
    assert!(world.session(input.as_bytes(), &mut |_| ()).contains("250 2.0.0 Ok: "));
    let [summary] = world.queue().try_into().unwrap();
    let envelope = summary.description.envelope;
    assert_eq!(envelope.envid.as_deref(), Some("e+2B1"));
    assert_eq!(envelope.recipients[1].orcpt.as_deref(), Some("rfc822;first@far.example"));
    world.pass();
    let [notice] = world.mail("bob").try_into().unwrap();
    assert!(notice.contains("Original-Recipient: rfc822;first@far.example"), "{notice}");
    assert!(notice.contains("Original-Envelope-Id: e+1") && !notice.contains("a@far.example"), "{notice}");
    assert!(notice.contains("Subject: x") && !notice.contains("secret body"), "{notice}");
    assert_eq!(world.queue(), []);
}

#[test]
fn an_address_sends_so_many_messages_in_a_minute_and_no_more() {
    let message = format!("MAIL FROM:<x@y.example>\r\nRCPT TO:<{ALICE}>\r\nDATA\r\n\r\nx\r\n.\r\n");
    for (limit, count, refused) in [(3, 2, 0), (3, 3, 0), (3, 4, 1), (0, 9, 0)] {
        let world = World::new(&format!("limits.messages_per_minute_per_ip = {limit}"));
        let input = format!("EHLO c\r\n{}QUIT\r\n", message.repeat(count));
        let output = world.session(input.as_bytes(), &mut |_| ());
        assert_eq!(output.matches("450 4.7.0 too many messages").count(), refused, "{output}");
        assert_eq!(world.mail("alice").len(), count - refused);
    }
}
