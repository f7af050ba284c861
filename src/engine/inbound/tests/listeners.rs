//! The rules of each kind of listener: who may do what there, and which client a proxy announces.

use crate::config::{ListenerAuth, ListenerKind};
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::{World, take_events};

fn proxy() -> ListenerPolicy {
    ListenerPolicy { proxy_protocol: true, ..ListenerPolicy::default() }
}

const RELAY: &str = "EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<joe@far.example>\r\nQUIT\r\n";

#[test]
fn a_client_is_judged_by_what_its_proxy_announces() {
    let world = World::new("");
    for (header, reply) in [
        ("PROXY TCP4 192.0.2.9 192.0.2.1 4000 25\r\n", "\r\n550 5.7.1 "),
        ("PROXY TCP4 127.0.0.1 192.0.2.1 4000 25\r\n", "\r\n250 2.1.5 "),
        ("PROXY TCP6 2001:db8::9 2001:db8::1 4000 25\r\n", "\r\n550 5.7.1 "),
        // The proxy is trusted; the client behind it is not.
        ("PROXY UNKNOWN\r\n", "\r\n550 5.7.1 "),
    ] {
        let output = world.session_by(proxy(), "127.0.0.1", &format!("{header}{RELAY}"));
        assert!(output.contains(reply) && output.ends_with("221 2.0.0 bye\r\n"), "{header}: {output}");
    }
    let message =
        "EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<alice@box.example>\r\nDATA\r\nA: b\r\n.\r\nQUIT\r\n";
    world.session_by(proxy(), "127.0.0.1", &format!("PROXY TCP4 192.0.2.9 192.0.2.1 4000 25\r\n{message}"));
    assert!(
        world.mail("alice")[0].contains("\nReceived: from c ([192.0.2.9])\n"),
        "{:?}",
        world.mail("alice")
    );
}

#[test]
fn without_a_header_or_from_elsewhere_nothing_is_said() {
    let world = World::new("");
    for (from, input) in [
        ("127.0.0.1", RELAY.to_owned()),
        ("127.0.0.1", format!("PROXY TCP4 192.0.2.9\r\n{RELAY}")),
        ("192.0.2.7", format!("PROXY TCP4 127.0.0.1 192.0.2.1 4000 25\r\n{RELAY}")),
    ] {
        assert_eq!(world.session_by(proxy(), from, &input), "", "{from} {input}");
    }
}

#[test]
fn connections_count_for_whom_the_proxy_announces() {
    let world = World::new("limits.connections_per_ip = 1\nrelay.trusted_networks = [\"127.0.0.1/32\"]");
    let held = world.server();
    let permit = held.permit();
    let caps = crate::engine::inbound::slots::Caps { total: 64, per_address: 1 };
    let client = "192.0.2.9".parse().unwrap();
    permit.change_client(client, false, caps).unwrap();
    let announce = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 4000 25\r\nQUIT\r\n");
    let output = world.session_by(proxy(), "127.0.0.1", &announce("192.0.2.9"));
    assert!(output.starts_with("421 4.3.2 ") && !output.contains("220 "), "{output}");
    assert!(world.session_by(proxy(), "127.0.0.1", &announce("192.0.2.8")).starts_with("220 "));
    drop(permit);
    assert!(world.session_by(proxy(), "127.0.0.1", &announce("192.0.2.9")).starts_with("220 "));
}

#[test]
fn lmtp_is_for_local_recipients_and_trusted_networks() {
    let world = World::new("");
    let lmtp = ListenerPolicy { kind: ListenerKind::Lmtp, ..ListenerPolicy::default() };
    let script = "LHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<joe@far.example>\r\nRCPT TO:<alice@box.example>\r\n\
                  RCPT TO:<bob@box.example>\r\nDATA\r\nA: b\r\n.\r\nQUIT\r\n";
    let output = world.session_by(lmtp, "127.0.0.1", script);
    assert!(output.contains("\r\n550 5.7.1 LMTP is for local recipients\r\n"), "{output}");
    assert_eq!(output.matches("\r\n250 2.0.0 Ok: ").count(), 2, "{output}");
    assert_eq!((world.mail("alice").len(), world.mail("bob").len()), (1, 1));
    assert!(world.mail("alice")[0].contains(" with LMTP id "));
    let output = world.session_by(lmtp, "192.0.2.7", script);
    assert!(output.contains("\r\n550 5.7.1 LMTP is for relay.trusted_networks\r\n"), "{output}");
    assert_eq!(world.mail("alice").len(), 1);
}

/// INTERFACE section 9: no mail without AUTH, not even from loopback or for local recipients.
#[test]
fn submission_without_a_login_takes_nothing() {
    let world = World::new("");
    let listener = ListenerPolicy { kind: ListenerKind::Submission, ..ListenerPolicy::default() };
    let script = "EHLO c\r\nMAIL FROM:<alice@box.example>\r\nRCPT TO:<alice@box.example>\r\nQUIT\r\n";
    let output = world.session_by(listener, "127.0.0.1", script);
    assert!(output.contains("\r\n530 5.7.0 ") && output.contains("\r\n503 5.5.1 "), "{output}");
}

/// INTERFACE section 2, `auth = "any"`: a login gives a client no right beyond those of its network.
#[test]
fn any_login_is_for_trusted_networks_and_proves_nothing() {
    let script = "EHLO c\r\nAUTH PLAIN AHgAeQ==\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<joe@far.example>\r\n\
                  RCPT TO:<alice@box.example>\r\nDATA\r\nA: b\r\n.\r\nQUIT\r\n";
    for (kind, refusal) in [
        (ListenerKind::Smtp, "\r\n502 5.5.1 there is no AUTH here"),
        (ListenerKind::Submission, "\r\n538 5.7.11 "),
    ] {
        let world = World::new("");
        let listener = ListenerPolicy { kind, auth: ListenerAuth::Any, ..ListenerPolicy::default() };
        let output = world.session_by(listener, "127.0.0.1", script);
        assert!(output.contains("\r\n250-AUTH PLAIN LOGIN\r\n"), "{output}");
        assert!(output.contains("\r\n235 2.7.0 ") && output.contains("\r\n250 2.0.0 Ok: "), "{output}");
        let accepted = take_events("accepted");
        assert!(accepted.len() == 1 && accepted[0].ends_with(" auth=unchecked"), "{accepted:?}");
        assert!(world.mail("alice")[0].contains(" with ESMTP id "), "it has not proved who it is");
        let output = world.session_by(listener, "192.0.2.7", script);
        assert!(!output.contains("-AUTH ") && output.contains(refusal), "{output}");
        assert!(!output.contains("\r\n354 ") || output.contains("\r\n550 5.7.1 "), "{output}");
        assert_eq!(take_events("accepted").iter().filter(|line| line.contains("unchecked")).count(), 0);
    }
}

/// Whatever they say: an empty name or password, another identity, octets that are no UTF-8, no base64 at all.
#[test]
fn any_login_is_any() {
    let world = World::new("");
    let listener = ListenerPolicy { auth: ListenerAuth::Any, ..ListenerPolicy::default() };
    for lines in [
        "AUTH PLAIN AGNhbQA=",
        "AUTH PLAIN AAA=",
        "AUTH PLAIN =",
        "AUTH PLAIN eABjYW0AcHc=",
        "AUTH PLAIN APwAeA==",
        "AUTH PLAIN AGNhbQBwdw",
        "AUTH PLAIN\r\n",
        "AUTH LOGIN Y2Ft\r\n",
        "AUTH LOGIN\r\n\r\n",
        "AUTH LOGIN\r\ncam\r\ncam",
    ] {
        let output = world.session_by(listener, "127.0.0.1", &format!("HELO c\r\n{lines}\r\nQUIT\r\n"));
        assert!(output.contains("\r\n235 2.7.0 ") && output.contains("\r\n221 "), "{lines:?}: {output}");
    }
    let output = world.session_by(listener, "127.0.0.1", "HELO c\r\nAUTH LOGIN\r\ncam@nas\r\npw\r\nQUIT\r\n");
    let codes: Vec<&str> = output.lines().filter_map(|line| line.get(..3)).collect();
    assert_eq!(codes, ["220", "250", "334", "334", "235", "221"], "{output}");
    let output = world.session_by(listener, "127.0.0.1", "HELO c\r\nAUTH LOGIN\r\n*\r\nQUIT\r\n");
    assert!(output.contains("\r\n501 5.7.0 "), "{output}");
}
