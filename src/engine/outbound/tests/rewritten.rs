//! The senders of mail that leaves, and that they are changed nowhere else.

use crate::engine::host::site::current;
use crate::engine::tests::world::*;
use crate::mail::address::ReversePath;
use crate::mail::date::WallTime;
use crate::rules::message::dkim::{HEADER_MAX_OCTETS, Signer};
use crate::sys::clock::Clock;
use std::sync::Arc;

const MESSAGE: &str =
    "From: root (Cron)\nSubject: alert\nSender: root@box.example\n\n.The disk\n is full.\n\n\n";
const LEFT: &str = "From: \"Cron (root on box)\" <alerts@far.example>\nX-Original-From: root (Cron)\nSubject: alert\n\n\
                    .The disk\n is full.\n\n\n";
/// Without repair, so that nothing else changes.
const FROM: &str = "rewrite.from = \"alerts@far.example\"\nrewrite.repair = false";

fn world(config: &str) -> (World, Arc<Host>) {
    let world = World::new(config);
    let host = world.far_host();
    (world, host)
}

/// The reverse-path and the message of each that the host has taken, with LF line ends.
fn taken(host: &Host) -> Vec<(String, String)> {
    let text = |content: &[u8]| String::from_utf8(content.to_vec()).unwrap().replace("\r\n", "\n");
    host.taken.lock().unwrap().iter().map(|taken| (taken.from.clone(), text(&taken.content))).collect()
}

/// Behind the Received field.
fn without_trace(message: &str) -> &str {
    message.split_once("Nov 2026 06:53:30 +0000\n").unwrap().1
}

#[test]
fn what_leaves_is_from_somebody_else_and_what_stays_is_not() {
    let (world, host) = world(FROM);
    let long = format!("{MESSAGE}{}", "body\n..\n".repeat(40_000));
    for message in [MESSAGE, &long] {
        assert!(
            world
                .submit("root@box.example", &["alice@box.example", "joe@far.example"], message)
                .starts_with("250")
        );
        assert_eq!(world.pass(), None);
        let (from, left) = taken(&host).pop().unwrap();
        assert_eq!(from, "alerts@far.example");
        assert!(
            without_trace(&left) == message.replace(MESSAGE, LEFT),
            "{}",
            &left.get(..2000).unwrap_or(&left)
        );
        let commands = host.commands.lock().unwrap().clone();
        let size = format!("SIZE={}", left.replace('\n', "\r\n").len());
        assert!(commands.iter().any(|line| line.ends_with(&size)), "{size}: {commands:?}");
        let mail = world.mail("alice").pop().unwrap();
        assert!(mail.starts_with("Return-Path: <root@box.example>\n") && mail.ends_with(message));
    }
}

/// With the sizes of BDAT right, or the other server would not take it.
#[test]
fn it_leaves_as_one_chunk() {
    let near = World::new(FROM);
    let far = World::named("far.example", "rewrite.repair = false");
    near.net.domain("far.example", "192.0.2.1", Peer::Server(far.server()));
    for body in ["", "\n", "x\n", &"x\n".repeat(100_000)] {
        let message = format!("From: root\n\n{body}");
        assert!(near.submit("root@box.example", &["alice@far.example"], &message).starts_with("250"));
        assert_eq!(near.pass(), None);
        let mails = far.mail("alice");
        let mail = mails.iter().max_by_key(|mail| mail.len()).unwrap();
        assert!(mail.starts_with("Return-Path: <alerts@far.example>\n"), "{mail}");
        let expected = format!("From: \"root on box\" <alerts@far.example>\nX-Original-From: root\n\n{body}");
        assert!(mail.ends_with(&expected));
    }
    assert_eq!((far.mail("alice").len(), near.queue()), (4, vec![]));
}

#[test]
fn the_signature_is_that_of_what_leaves() {
    let directory = TestDirectory::new();
    let key = openssl::pkey::PKey::generate_ed25519().unwrap();
    let file = directory.secret("key.pem", key.private_key_to_pem_pkcs8().unwrap());
    let config = format!("{FROM}\n[[dkim]]\ndomain = \"far.example\"\nselector = \"s\"\nkey = {file:?}\n");
    let (world, host) = world(&config);
    assert!(world.submit("root@box.example", &["joe@far.example"], MESSAGE).starts_with("250"));
    assert_eq!(world.pass(), None);
    let (_, left) = taken(&host).pop().unwrap();
    let (signature, content) = left.split_at(left.find("Received: ").unwrap());
    let site = current(&world.site);
    let mut signer = Signer::new(&site.dkim, WallTime(world.clock.wall_micros()));
    signer.feed(content.as_bytes());
    assert!(!signature.is_empty());
    assert_eq!(signer.finish().unwrap(), signature);
    let size = format!("SIZE={}", left.replace('\n', "\r\n").len());
    assert!(host.commands.lock().unwrap().iter().any(|line| line.ends_with(&size)), "{size}");
}

#[test]
fn mail_of_strangers_passes_as_it_is() {
    let (world, host) =
        world(&format!("{FROM}\nrelay.trusted_networks = \"10.0.0.0/8\"\nrelay.domains = \"far.example\""));
    assert!(world.submit("root@box.example", &["joe@far.example"], MESSAGE).starts_with("250"));
    assert_eq!(world.pass(), None);
    let (from, left) = taken(&host).pop().unwrap();
    assert_eq!((from.as_str(), without_trace(&left)), ("root@box.example", MESSAGE));
}

#[test]
fn a_change_of_the_configuration_counts_for_what_is_queued() {
    let (world, host) = world("");
    host.now_says(|stage, _| if stage == Stage::Mail { reply("450 4.7.1 who are you") } else { Say::Yes });
    world.accept("root@box.example", &["joe@far.example"]);
    assert!(world.pass().is_some());
    host.now_says(|_, _| Say::Yes);
    world.reload(FROM);
    world.live(HOUR);
    assert_eq!(taken(&host).pop().unwrap().0, "alerts@far.example");
}

#[test]
fn a_bounce_goes_to_the_first_sender_and_one_that_leaves_has_an_author_that_others_take() {
    let (world, host) = world(FROM);
    let refusing = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no") } else { Say::Yes });
    world.net.domain("bad.example", "192.0.2.2", Peer::Host(refusing));
    for from in ["alice@box.example", "joe@far.example"] {
        assert!(world.submit(from, &["x@bad.example"], "From: x\n\nx\n").starts_with("250"));
    }
    world.live(HOUR);
    assert!(world.mail("alice")[0].contains("\nFrom: Mail Delivery System <MAILER-DAEMON@box.example>\n"));
    let (from, notice) = taken(&host).pop().unwrap();
    assert_eq!(from, "");
    let expected = "From: \"Mail Delivery System (MAILER-DAEMON on box)\" <alerts@far.example>\n\
                    X-Original-From: Mail Delivery System <MAILER-DAEMON@box.example>\nTo: <joe@far.example>\n";
    assert_eq!(notice.get(..expected.len()), Some(expected));
}

#[test]
fn what_comes_back_to_a_rewritten_sender_is_for_admin() {
    for (config, expected) in [
        ("admin = \"bob\"\nlocal.catch_all = \"alice\"", "bob@box.example"),
        ("", "postmaster@box.example"),
        ("rewrite.senders = { bob = \"alice@box.example\" }", "postmaster@box.example"),
    ] {
        let world = World::new(&format!("rewrite.from = \"alerts@box.example\"\n{config}"));
        let site = current(&world.site);
        let route = |to: &str| site.route(&crate::mail::address::ForwardPath::parse(to).unwrap());
        assert_eq!(route("Alerts@box.example").unwrap().mailbox.to_string(), expected);
        assert_eq!(route("alice@box.example").unwrap().mailbox.to_string(), "alice@box.example");
        assert_eq!(route("other@box.example").is_ok(), config.contains("catch_all"));
    }
}

#[test]
fn the_login_stands_in_for_all_senders_unless_the_operator_says_otherwise() {
    let smarthost = "relay.smarthost = \"smtps://smtp.far.example\"\n";
    for (config, expected) in [
        (format!("{smarthost}relay.username = \"box@far.example\""), "box@far.example"),
        (format!("{smarthost}relay.username = \"box@münchen.example\""), "box@xn--mnchen-3ya.example"),
        (format!("{smarthost}relay.username = \"box\""), "root@box.example"),
        (format!("{smarthost}relay.username = \"jürgen@far.example\""), "root@box.example"),
        ("relay.username = \"box@far.example\"".into(), "root@box.example"),
        (
            format!("{smarthost}relay.username = \"box@far.example\"\nrewrite.domain = \"x.example\""),
            "root@x.example",
        ),
        (format!("{smarthost}relay.username = \"box@far.example\"\n{FROM}"), "alerts@far.example"),
        (
            format!(
                "{smarthost}relay.username = \"box@far.example\"\nrewrite.senders = {{ root = \"r@far.example\" }}"
            ),
            "r@far.example",
        ),
    ] {
        let world = World::new(&config);
        let old = ReversePath::parse("root@box.example").unwrap();
        assert_eq!(current(&world.site).rewrite.reverse_path(&old).to_string(), expected, "{config}");
    }
}

#[test]
fn a_header_section_without_end_leaves_as_it_is() {
    for (fields, is_long) in [(HEADER_MAX_OCTETS / 4, false), (2 * HEADER_MAX_OCTETS, true)] {
        let (world, host) = world(FROM);
        let message = format!("{}From: root\n\nx\n", "X: y\n".repeat(fields / 5));
        assert!(world.submit("root@box.example", &["joe@far.example"], &message).starts_with("250"));
        take_log();
        assert_eq!(world.pass(), None);
        let (from, left) = taken(&host).pop().unwrap();
        assert_eq!(from, "alerts@far.example");
        assert_eq!((left.ends_with(&message), take_events("trouble").len()), (is_long, usize::from(is_long)));
    }
}

#[test]
fn what_the_next_hop_delivers_is_as_it_would_be_here() {
    let (world, host) =
        world(&format!("{FROM}\nrelay.routes = {{ \"far.example\" = \"lmtp://127.0.0.1:24\" }}"));
    world.net.peer("127.0.0.1:24", Peer::Host(Arc::clone(&host)));
    assert!(world.submit("root@box.example", &["joe@far.example"], MESSAGE).starts_with("250"));
    world.live(MINUTE);
    let (from, left) = taken(&host).pop().unwrap();
    assert_eq!((from.as_str(), without_trace(&left)), ("root@box.example", MESSAGE));
}

/// The prefix stands before the Subject of own mail that leaves, and of no other; the size is that of what is sent.
#[test]
fn subjects_of_own_mail_get_the_prefix_as_they_leave() {
    let (world, host) = world("rewrite.repair = false\nrewrite.subject_prefix = \"[{host}] \"");
    for message in [MESSAGE, &MESSAGE.replace("alert", "[box] alert")] {
        let recipients = ["alice@box.example", "joe@far.example"];
        assert!(world.submit("root@box.example", &recipients, message).starts_with("250"));
        assert_eq!(world.pass(), None);
        let (_, left) = taken(&host).pop().unwrap();
        assert_eq!(without_trace(&left), MESSAGE.replace("alert", "[box] alert"));
        let commands = host.commands.lock().unwrap().clone();
        let size = format!("SIZE={}", left.replace('\n', "\r\n").len());
        assert!(commands.iter().any(|line| line.ends_with(&size)), "{size}: {commands:?}");
        assert!(world.mail("alice").pop().unwrap().ends_with(message));
    }
}
