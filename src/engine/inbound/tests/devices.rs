//! SMTP as devices speak it: text without a header section, invalid names, and the log line of a refusal.

use crate::config::ListenerKind;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;

const STRANGER: &str = "192.0.2.7";
const OWN: &str = "127.0.0.1";

/// A session of one message for alice, a local user, and joe, to whom anybody may relay.
fn send(world: &World, verbs: &str, content: &str) {
    let content = content.replace('\n', "\r\n");
    let script = match verbs {
        "DATA" => format!("DATA\r\n{content}.\r\nQUIT\r\n"),
        _ => format!("BDAT {} LAST\r\n{content}QUIT\r\n", content.len()),
    };
    let script = format!(
        "EHLO ups\r\nMAIL FROM:<ups@y.example>\r\nRCPT TO:<alice@box.example>\r\nRCPT TO:<joe@far.example>\r\n{script}"
    );
    let output = world.session_by(ListenerPolicy::default(), STRANGER, &script);
    assert!(output.contains("\r\n250 2.0.0 Ok: "), "{output}");
}

/// The content behind the fields that this host adds.
fn without_trace(message: &str) -> &str {
    message.split_once("Nov 2026 06:53:30 +0000\n").unwrap().1
}

/// The copies of alice and of joe's host, with LF line ends; `direct`: alice's copy did not pass through the queue.
fn received(content: &str, verbs: &str, direct: bool) -> (String, String) {
    let world = World::new("relay.domains = [\"far.example\"]\nqueue.retry = \"1m\"");
    let host = world.far_host();
    if !direct {
        world.block("alice");
    }
    send(&world, verbs, content);
    if !direct {
        std::fs::remove_file(world.maildir("alice")).unwrap();
    }
    world.live(2 * MINUTE);
    let mail = world.mail("alice").pop().unwrap();
    assert!(mail.starts_with("Return-Path: <ups@y.example>\nDelivered-To: alice@box.example\n"), "{mail}");
    let left = host.taken.lock().unwrap().pop().unwrap().content;
    let left = String::from_utf8(left).unwrap().replace("\r\n", "\n");
    (without_trace(&mail).to_owned(), without_trace(&left).to_owned())
}

/// `01-no-separator.smtp` and `12-mbox-from-line.smtp`.
#[test]
fn text_without_a_header_section_is_text_for_its_readers() {
    let long = "a long line of a log\n".repeat(10_000);
    for (content, expected) in [
        ("UPS on battery\nCall somebody\n", "\nUPS on battery\nCall somebody\n"),
        ("Subject: x\nUPS on battery\nCall: somebody\n", "Subject: x\n\nUPS on battery\nCall: somebody\n"),
        (" indented\nSubject: x\n", "\n indented\nSubject: x\n"),
        ("From nobody Thu Jan  1 00:00:00 1970\nSubject: x\n\nhi\n", "Subject: x\n\nhi\n"),
        ("Subject: x\n\nhi\n", "Subject: x\n\nhi\n"),
        (&long, &format!("\n{long}")),
    ] {
        for (verbs, direct) in [("DATA", true), ("BDAT", true), ("DATA", false)] {
            let (mail, left) = received(content, verbs, direct);
            assert!(mail == expected && left == expected, "{content:.99?} {verbs}: {mail:.99?} {left:.99?}");
        }
    }
}

#[test]
fn there_is_one_return_path_after_final_delivery_and_mail_in_transit_keeps_its_own() {
    for body in ["hi\n".to_owned(), "Return-Path: <c@d>\n".repeat(10_000)] {
        let content = format!("Return-Path: <a@b>\nSubject: x\nreturn-path:\n <e@f>\nX: y\n\n{body}");
        for direct in [true, false] {
            let (mail, left) = received(&content, "DATA", direct);
            assert!(mail == format!("Subject: x\nX: y\n\n{body}"), "{mail:.200}");
            assert!(left == content, "{left:.200}");
        }
    }
}

#[test]
fn a_copy_for_one_alone_has_one_return_path_however_large_it_is() {
    for size in [10, 100_000] {
        let world = World::new("");
        let body = "x\r\n".repeat(size);
        let script = format!(
            "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@box.example>\r\nDATA\r\nReturn-Path: <a@b>\r\nA: b\r\n\r\n{body}.\r\n"
        );
        world.session_by(ListenerPolicy::default(), STRANGER, &script);
        let mail = world.mail("alice").pop().unwrap();
        assert_eq!(mail.matches("Return-Path").count(), 1, "{mail:.200}");
        assert!(mail.starts_with("Return-Path: <>\n"));
        assert!(without_trace(&mail) == format!("A: b\n\n{}", body.replace('\r', "")));
    }
}

/// `03-bare-names.smtp`.
#[test]
fn bare_names_of_own_clients_are_those_of_this_host() {
    let lmtp = ListenerPolicy { kind: ListenerKind::Lmtp, ..ListenerPolicy::default() };
    let smtp = ListenerPolicy::default();
    let script = "MAIL FROM:<root>\r\nRCPT TO:<alice>\r\nDATA\r\nA: b\r\n\r\nc\r\n.\r\nQUIT\r\n";
    for (listener, hello, client, is_taken) in
        [(smtp, "EHLO", OWN, true), (lmtp, "LHLO", OWN, true), (smtp, "EHLO", STRANGER, false)]
    {
        let world = World::new("");
        let output = world.session_by(listener, client, &format!("{hello} my pc\r\n{script}"));
        assert_eq!(output.contains("\r\n250 2.0.0 Ok: "), is_taken, "{output}");
        assert_eq!(output.contains("\r\n501 5.1.7 the address has no domain\r\n"), !is_taken, "{output}");
        let mail = world.mail("alice");
        assert_eq!(mail.len(), usize::from(is_taken));
        for mail in mail {
            assert!(mail.starts_with("Return-Path: <root@box.example>\nDelivered-To: alice@box.example\n"));
            assert!(mail.contains("Received: from my?pc (["), "{mail}");
        }
    }
}

/// `07-refused-and-not-logged.smtp`, and the other commands.
#[test]
fn each_no_to_a_command_that_matters_is_a_line() {
    let world = World::new("");
    let submission = ListenerPolicy { kind: ListenerKind::Submission, ..ListenerPolicy::default() };
    let smtp = ListenerPolicy::default();
    for (listener, script, expected) in [
        (smtp, "EHLO", "helo=- from=- to=- reply=\"501 5.5.4 "),
        (smtp, "EHLO c d\r\nAUTH LOGIN", "helo=c?d from=- to=- reply=\"502 5.5.1 there is no AUTH here"),
        (submission, "EHLO c\r\nAUTH LOGIN", "helo=c from=- to=- reply=\"538 5.7.11 "),
        (submission, "EHLO c\r\nMAIL FROM:<a@b>", "helo=c from=a@b to=- reply=\"530 5.7.0 "),
        (smtp, "EHLO c\r\nMAIL FROM:<root>", "helo=c from=root to=- reply=\"501 5.1.7 "),
        (
            smtp,
            "EHLO c\r\nMAIL FROM:<a\" name=x@b>",
            "helo=c from=\"<a\\\" name=x@b>\" to=- reply=\"501 5.1.7 ",
        ),
        (
            smtp,
            "EHLO printer\r\nMAIL FROM:<scan@y.example>\r\nRCPT TO:<boss@z.example>",
            "helo=printer from=scan@y.example to=boss@z.example reply=\"550 5.7.1 relaying is not permitted\"",
        ),
        (smtp, "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<x\u{1}>", "helo=c from=\"\" to=\"x\\u{1}\" reply=\"500 "),
        (smtp, "EHLO c\r\nMAIL FROM:<>\r\nDATA", "helo=c from=\"\" to=- reply=\"554 5.5.1 "),
        (
            smtp,
            "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@box.example>\r\nRCPT TO:<bob@box.example>\r\nDATA\r\na\rb\r\n.",
            "helo=c from=\"\" to=alice@box.example,bob@box.example reply=\"550 5.5.2 ",
        ),
        (
            smtp,
            "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@box.example>\r\nBDAT 1 LAST\r\n\n",
            "helo=c from=\"\" to=alice@box.example reply=\"550 5.5.2 ",
        ),
    ] {
        take_log();
        world.session_by(listener, STRANGER, &format!("{script}\r\n"));
        let lines = take_events("refused");
        let expected = format!("event=refused client={STRANGER} {expected}");
        assert!(lines.len() == 1 && lines[0].starts_with(&expected), "{script:?}: {lines:?}");
    }
    world.session_by(smtp, STRANGER, "EHLO c\r\nFOO\r\nSTARTTLS\r\nEXPN x\r\nNOOP\r\nQUIT\r\n");
    assert_eq!(take_events("refused"), [""; 0], "nobody misses mail over these");
}

#[test]
fn refusals_of_a_robot_do_not_fill_the_log() {
    let world = World::new("");
    let server = world.server();
    let permit = server.permit();
    let now = world.intake.clock.now().running;
    assert_eq!((0..1000).filter(|_| permit.may_log_refusal(now)).count(), 60);
    assert!(permit.may_log_refusal(now + 2 * MINUTE));
}

/// Proxies and monitors check every few seconds whether the port is open.
#[test]
fn a_look_at_the_port_is_no_event() {
    let world = World::new("");
    let smtp = ListenerPolicy::default();
    let proxy = ListenerPolicy { proxy_protocol: true, ..smtp };
    let local = "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    take_log();
    for (listener, input) in [
        (smtp, ""),
        (proxy, ""),
        (proxy, local),
        (proxy, "PROXY UNKNOWN\r\n"),
        (proxy, &format!("{local}HELO localhost\r\n")),
        (proxy, &format!("{local}QUIT\r\n")),
    ] {
        world.session_by(listener, OWN, input);
        assert_eq!(take_log(), [""; 0], "{input:?}");
    }
    world.session_by(proxy, OWN, "PROXY TCP4");
    assert_eq!(take_events("closed").len(), 1);
}
