//! Which mail counts as this host's own, and how it leaves: repaired, without Bcc, with fields that fit the next hop.

use crate::config::ListenerKind;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;
use std::sync::Arc;

const LAN: &str =
    "relay.trusted_networks = [\"127.0.0.0/8\", \"192.168.77.0/24\"]\nrelay.domains = \"far.example\"";

fn world(config: &str, extensions: &[&'static str]) -> (World, Arc<Host>) {
    let world = World::new(config);
    let host = Host::friendly();
    *host.extensions.lock().unwrap() = extensions.to_vec();
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    (world, host)
}

/// The last message that the host has accepted, with LF line ends, and the MAIL command that it received.
fn last(host: &Host) -> (String, String) {
    let commands = host.commands.lock().unwrap();
    let mail = commands.iter().rev().find(|command| command.starts_with("MAIL")).unwrap().clone();
    let content = host.taken.lock().unwrap().last().unwrap().content.clone();
    // The size that SIZE announced.
    if let Some((_, size)) = mail.split_once(" SIZE=") {
        assert_eq!(size.split(' ').next().unwrap().parse(), Ok(content.len()), "{mail}");
    }
    (mail, String::from_utf8(content).unwrap().replace("\r\n", "\n"))
}

/// The recipe for a network printer (docs/recipes.md), and the same from a stranger, whose mail is in transit.
#[test]
fn what_trusted_networks_send_is_own_and_what_strangers_send_is_not() {
    let scan = "Subject: scan\r\nTo: friend@far.example\r\nBcc: boss@far.example\r\n\r\nhi\r\n";
    let input = format!(
        "EHLO printer\r\nMAIL FROM:<scan@example.net>\r\nRCPT TO:<friend@far.example>\r\nDATA\r\n{scan}.\r\nQUIT\r\n"
    );
    for (client, is_own) in [("192.168.77.9", true), ("127.0.0.1", true), ("192.0.2.9", false)] {
        let (world, host) = world(LAN, &["SIZE"]);
        let said = world.session_by(ListenerPolicy::default(), client, &input);
        assert!(said.contains("\r\n250 2.0.0 Ok: "), "{said}");
        assert_eq!(world.queue()[0].description.envelope.is_own, is_own);
        world.pass();
        let (_, left) = last(&host);
        for field in ["\nDate: ", "\nMessage-ID: <", "\nFrom: scan@example.net\n"] {
            assert_eq!(left.contains(field), is_own, "{client} {field}: {left}");
        }
        assert_eq!(left.contains("boss"), !is_own, "{client}: {left}");
        assert!(is_own || left.replace('\n', "\r\n").ends_with(scan), "{left}");
    }
}

/// LMTP hands over mail that another host has accepted.
#[test]
fn what_comes_by_lmtp_is_in_transit() {
    let world = World::new("");
    let lmtp = ListenerPolicy { kind: ListenerKind::Lmtp, ..ListenerPolicy::default() };
    let message = "Subject: x\r\nBcc: z@far.example\r\n\r\nx\r\n";
    let input = format!(
        "LHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<alice@box.example>\r\nDATA\r\n{message}.\r\nQUIT\r\n"
    );
    world.session_by(lmtp, "127.0.0.1", &input);
    assert!(world.mail("alice")[0].ends_with(&message.replace('\r', "")), "{:?}", world.mail("alice"));
}

#[test]
fn fields_leave_as_the_next_hop_takes_them() {
    let message =
        "From: Jürgen <j@box.example>\nTo: x@far.example\nTo: y@far.example\nSubject: läuft\n\nfür\n";
    let encoded = "From: =?utf-8?Q?J=C3=BCrgen?= <j@box.example>\nTo: x@far.example,\n y@far.example\n\
                   Subject: =?utf-8?Q?l=C3=A4uft?=\n";
    let raw = "From: Jürgen <j@box.example>\nTo: x@far.example,\n y@far.example\nSubject: läuft\n";
    for (extensions, expected, body) in [
        (&["SIZE"][..], encoded, "f=C3=BCr\n"),
        (&["SIZE", "CHUNKING"], encoded, "f=C3=BCr\n"),
        (&["SIZE", "SMTPUTF8"], encoded, "f=C3=BCr\n"),
        (&["SIZE", "8BITMIME"], encoded, "für\n"),
        (&["SIZE", "8BITMIME", "SMTPUTF8"], raw, "für\n"),
    ] {
        let (world, host) = world("", extensions);
        assert!(world.submit("j@box.example", &["x@far.example"], message).starts_with("250"));
        world.pass();
        let (mail, left) = last(&host);
        assert!(left.contains(&format!("\n{expected}")) && left.ends_with(body), "{extensions:?}: {left}");
        assert_eq!(mail.contains(" SMTPUTF8"), expected == raw, "{mail}");
    }
    // No repair where the operator has switched it off, or for mail in transit.
    for (config, client) in [("rewrite.repair = false", "127.0.0.1"), (LAN, "192.0.2.9")] {
        let (world, host) = world(config, &["SIZE"]);
        let input = format!(
            "EHLO c\r\nMAIL FROM:<j@y.example>\r\nRCPT TO:<x@far.example>\r\nDATA\r\n{}.\r\nQUIT\r\n",
            message.replace('\n', "\r\n")
        );
        world.session_by(ListenerPolicy::default(), client, &input);
        world.pass();
        assert!(last(&host).1.ends_with(message), "{config}");
    }
}

#[test]
fn nuls_leave_as_base64_and_stay_in_transit() {
    for (client, body) in [("127.0.0.1", "YQBiDQo=\n"), ("192.0.2.9", "a\0b\n")] {
        let (world, host) = world(LAN, &["SIZE", "8BITMIME", "SMTPUTF8"]);
        let input = "EHLO c\r\nMAIL FROM:<j@y.example>\r\nRCPT TO:<x@far.example>\r\nDATA\r\nMIME-Version: 1.0\r\n\r\na\0b\r\n.\r\nQUIT\r\n";
        world.session_by(ListenerPolicy::default(), client, input);
        world.pass();
        let (_, left) = last(&host);
        assert!(left.ends_with(&format!("\n\n{body}")), "{left:?}");
    }
}

/// A notice with UTF-8 in its parts, to a sender whose host accepts only ASCII.
#[test]
fn a_bounce_with_utf8_in_it_leaves_as_ascii() {
    let (world, host) = world("", &["SIZE"]);
    let refusing = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no") } else { Say::Yes });
    *refusing.extensions.lock().unwrap() = vec!["SIZE", "8BITMIME", "SMTPUTF8"];
    world.net.domain("bad.example", "192.0.2.2", Peer::Host(refusing));
    let input = "EHLO c\r\nMAIL FROM:<joe@far.example> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<jürgen@bad.example>\r\nDATA\r\n\
                 To: jürgen@bad.example\r\nSubject: läuft\r\n\r\nfür\r\n.\r\nQUIT\r\n";
    assert!(world.session(input.as_bytes(), &mut |_| ()).contains("250 2.0.0 Ok: "));
    world.live(HOUR);
    assert_eq!(world.queue(), []);
    let (mail, left) = last(&host);
    assert!(mail.starts_with("MAIL FROM:<>") && !mail.contains("UTF8") && !mail.contains("BODY"), "{mail}");
    assert!(left.is_ascii(), "{left}");
    assert!(
        left.contains(
            "\nContent-Type: message/global-delivery-status\nContent-Transfer-Encoding: quoted-printable\n\n"
        ),
        "{left}"
    );
    assert!(left.contains("\n=46inal-Recipient: utf-8; j=C3=BCrgen@bad.example\n"), "{left}");
    assert!(
        left.contains("\nContent-Type: message/global\nContent-Transfer-Encoding: quoted-printable\n\n"),
        "{left}"
    );
    assert!(left.contains("\nSubject: l=C3=A4uft\n"), "{left}");
}
