use super::client::{Client, send};
use super::harness::{Place, SOON, python, wait_until};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

const MESSAGE: &[u8] = b"From: a@box.test\r\nSubject: backup failed\r\n\r\nno space left\r\n";
const RETRY: &str = "local.domains = \"box.test\"\nqueue.retry = [\"1s\"]\n";

/// Prints the parts of a DSN (RFC 3464 in RFC 6522) that programs look for, as Python's email package parses it.
const READ_DSN: &str = r#"
import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
assert not m.defects, m.defects
print("type", m.get_content_type(), m.get_param("report-type"))
print("from", m["From"].addresses[0].addr_spec, "to", m["To"].addresses[0].addr_spec)
print("return-path", m["Return-Path"])
assert m["Date"].datetime and m["Message-ID"] and m["MIME-Version"] == "1.0"
assert m["Auto-Submitted"] == "auto-replied", m["Auto-Submitted"]
text, status, original = m.iter_parts()
assert text.get_content_type() == "text/plain"
assert status.get_content_type() == "message/delivery-status"
blocks = status.get_payload()
print("mta", blocks[0]["Reporting-MTA"])
for block in blocks[1:]:
    print("recipient", block["Final-Recipient"], "action", block["Action"], "status", block["Status"])
    print("diagnostic", block["Diagnostic-Code"])
original_message = original.get_content() if original.get_content_type() == "message/rfc822" else email.message_from_string(original.get_payload())
print("returned", original.get_content_type(), original_message["Subject"])
"#;

/// Waits for a bounce to this local user; returns what Python parses from it.
fn bounce(place: &Place, user: &str) -> String {
    place.wait_for_mail(user, 1);
    let file = &super::harness::files(&place.path("mail").join(user).join("new"))[0];
    python(READ_DSN, &[file.to_str().unwrap()])
}

/// Sends a message from a local user to this address; returns the bounce.
fn bounce_of(place: &Place, to: &str) -> String {
    let user = to.split('@').next().unwrap();
    send(place.port, &format!("{user}@box.test"), to, MESSAGE);
    let bounce = bounce(place, user);
    let expected = format!(
        "type multipart/report delivery-status\nfrom MAILER-DAEMON@box.test to {user}@box.test\nreturn-path <>\nmta dns; box.test\n"
    );
    assert!(bounce.to_lowercase().starts_with(&expected.to_lowercase()), "{bounce}");
    assert!(bounce.contains(&format!("recipient rfc822; {to} action failed status ")), "{bounce}");
    assert!(bounce.contains(" backup failed\n"), "{bounce}");
    place.wait_for_empty_queue(SOON);
    bounce
}

#[test]
fn a_host_that_is_down_gets_its_mail_when_it_is_up() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure(RETRY);
    let _daemon = place.serve();
    for number in 0..3 {
        send(place.port, "a@box.test", &format!("u{number}@far.test"), MESSAGE);
    }
    place.wait_for_log(&["event=paused", "route=far.test"]);
    place.wait_for_log(&["event=deferred", "to=u0@far.test", "status=4.4.1"]);
    assert_eq!(place.queued(), 3);
    let _sink = place.sink(&[]);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 3);
    assert_eq!(place.logged(&["event=delivered", "relay=mx.far.test[127.0.0.1]"]).len(), 3);
    assert_eq!(place.mail("a").len(), 0, "no bounce");
}

#[test]
fn mail_that_can_not_leave_for_its_lifetime_returns() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure(&format!("{RETRY}queue.lifetime = \"3s\"\n"));
    let _daemon = place.serve();
    let bounce = bounce_of(&place, "a@far.test");
    assert!(
        bounce.contains("status 5.4.1\ndiagnostic X-Pillarbox; connect to mx.far.test [127.0.0.1:"),
        "{bounce}"
    );
    place.wait_for_log(&["event=expired", "to=a@far.test"]);
}

#[test]
fn a_permanent_reply_returns_the_message() {
    for (command, sink) in [("RCPT", "RCPT"), ("MAIL", "MAIL"), ("DATA", "DATA"), ("dot", ".")] {
        let place = Place::new();
        let _dns = place.dns_of_far();
        let _sink = place.sink(&["-f", sink, "-B", "550 5.7.26 go away"]);
        place.configure(RETRY);
        let _daemon = place.serve();
        let bounce = bounce_of(&place, "a@far.test");
        assert!(bounce.contains(" status 5.7.26\n"), "{command}: {bounce}");
        assert!(bounce.contains("diagnostic smtp; 550 5.7.26 go away"), "{command}: {bounce}");
        place.wait_for_log(&["event=bounced", "to=a@far.test", "status=5.7.26", "go away"]);
    }
}

#[test]
fn a_transient_reply_defers_and_the_greeting_is_the_routes() {
    for (command, event) in [
        ("RCPT", "event=deferred"),
        (".", "event=deferred"),
        ("EHLO,HELO", "event=paused"),
        ("CONNECT", "event=paused"),
    ] {
        let place = Place::new();
        let _dns = place.dns_of_far();
        place.configure(RETRY);
        let _daemon = place.serve();
        {
            let _sink = place.sink(&["-r", command]);
            send(place.port, "a@box.test", "b@far.test", MESSAGE);
            place.wait_for_log(&[event]);
            assert_eq!(place.queued(), 1, "{command}");
        }
        // smtp-sink has started a file for the message that it refused.
        std::fs::remove_dir_all(place.path("sink")).unwrap();
        let _sink = place.sink(&[]);
        place.wait_for_empty_queue(SOON);
        assert_eq!(place.sunk().len(), 1, "{command}");
        assert_eq!(place.mail("a").len(), 0, "{command}: no bounce");
    }
}

#[test]
fn a_hard_no_to_the_session_is_the_routes_and_not_the_messages() {
    for command in ["CONNECT", "EHLO,HELO"] {
        let place = Place::new();
        let _dns = place.dns_of_far();
        let _sink = place.sink(&["-f", command]);
        place.configure(RETRY);
        let _daemon = place.serve();
        send(place.port, "a@box.test", "b@far.test", MESSAGE);
        place.wait_for_log(&["event=paused", "route=far.test"]);
        assert_eq!((place.queued(), place.mail("a").len()), (1, 0), "{command}");
    }
}

#[test]
fn what_dns_says_for_good_returns_the_message() {
    let place = Place::new();
    let _dns = place.dns(&[
        // A null MX: preference 0, the root.
        "--dns-rr=null.test,15,000000",
        "--mx-host=self.test,box.test,10",
        "--host-record=box.test,127.0.0.9",
        "--cname=c1.test,c2.test",
        "--cname=c2.test,c3.test",
        "--host-record=c3.test,127.0.0.1",
    ]);
    place.configure(RETRY);
    let _daemon = place.serve();
    for (to, status) in
        [("nx@nowhere.test", "5.1.2"), ("null@null.test", "5.1.10"), ("self@self.test", "5.4.6")]
    {
        let bounce = bounce_of(&place, to);
        assert!(bounce.contains(&format!("{to} action failed status {status}\n")), "{bounce}");
        assert!(bounce.contains("diagnostic X-Pillarbox; "), "no host has said that: {bounce}");
    }
}

#[test]
fn an_mx_whose_address_is_a_listener_of_this_host_is_a_loop() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure(&format!("{RETRY}relay.port = {}\n", place.port));
    let _daemon = place.serve();
    assert!(bounce_of(&place, "a@far.test").contains("status 5.4.6\n"));
}

#[test]
fn dns_that_does_not_answer_defers() {
    let place = Place::new();
    // No DNS server listens on the port.
    place.configure(&format!("{RETRY}dns.timeout = \"1s\"\n"));
    let _daemon = place.serve();
    send(place.port, "a@box.test", "b@far.test", MESSAGE);
    place.wait_for_log(&["event=deferred", "to=b@far.test", "status=4.4.3"]);
    assert_eq!((place.queued(), place.mail("a").len()), (1, 0));
    let (_sink, _dns) = (place.sink(&[]), place.dns_of_far());
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn a_bounce_that_bounces_is_dropped() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure(RETRY);
    let _daemon = place.serve();
    send(place.port, "", "b@nowhere.test", MESSAGE);
    place.wait_for_log(&["event=bounced", "to=b@nowhere.test"]);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.logged(&["event=accepted"]).len(), 1, "no notice was written");
}

#[test]
fn one_bounce_names_every_recipient_that_failed_and_the_others_get_the_mail() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure(RETRY);
    let _daemon = place.serve();
    let mut client = Client::hello(place.port).unwrap();
    let to = ["x@nowhere.test", "y@nowhere.test", "b@box.test", "c@far.test"];
    assert!(client.send("a@box.test", &to, MESSAGE).unwrap().starts_with("250"));
    let bounce = bounce(&place, "a");
    for lost in &to[..2] {
        assert!(bounce.contains(&format!("recipient rfc822; {lost} action failed status 5.1.2")), "{bounce}");
    }
    assert!(!bounce.contains("b@box.test action") && !bounce.contains("c@far.test action"), "{bounce}");
    place.wait_for_mail("b", 1);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.sunk().len(), 1);
}

#[test]
fn a_host_that_hangs_up_in_the_middle_gets_the_message_again() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, place.sink_port)).unwrap();
    place.configure(RETRY);
    let _daemon = place.serve();
    send(place.port, "a@box.test", "b@far.test", MESSAGE);
    for greeting in ["", "220 mx", "220 mx\r\n", "421 4.3.2 later\r\n"] {
        let (stream, _) = listener.accept().unwrap();
        let _ = std::io::Write::write_all(&mut &stream, greeting.as_bytes());
    }
    drop(listener);
    let _sink = place.sink(&[]);
    wait_until("the message arrives", Duration::from_secs(60), || place.queued() == 0);
    assert_eq!((place.sunk().len(), place.mail("a").len()), (1, 0));
}

/// 200 MX hosts do not fit into a datagram, so they come by TCP; and dnsmasq refuses names that it does not serve.
#[test]
fn two_hundred_mx_hosts_come_by_tcp_and_a_refusal_defers() {
    let place = Place::new();
    let records: Vec<String> = (1..200)
        .map(|n| format!("--mx-host=far.test,a-host-with-a-long-name-{n}.far.test,{n}"))
        .chain(["--mx-host=far.test,mx.far.test,0".into(), "--host-record=mx.far.test,127.0.0.1".into()])
        .collect();
    let _dns = place.dns(&records.iter().map(String::as_str).collect::<Vec<_>>());
    let _sink = place.sink(&[]);
    place.configure(RETRY);
    let _daemon = place.serve();
    send(place.port, "a@box.test", "b@far.test", MESSAGE);
    place.wait_for_empty_queue(SOON);
    assert_eq!((place.sunk().len(), place.mail("a").len()), (1, 0));
    send(place.port, "a@box.test", "b@elsewhere.example", MESSAGE);
    place.wait_for_log(&["event=paused", "route=elsewhere.example", "status=4.4.3", "REFUSED"]);
    assert_eq!((place.queued(), place.mail("a").len()), (1, 0));
}
