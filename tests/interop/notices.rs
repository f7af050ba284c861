use super::client::Client;
use super::harness::{Place, files, python};

/// The first attempt ends before the warning, on a busy machine too.
const CONFIG: &str = "local.domains = \"box.test\"\nqueue.retry = [\"1s\"]\nqueue.warn_after = \"3s\"\n";

/// Prints a report as Python's email package parses it: its types, and the fields of each recipient.
const READ: &str = r#"
import email, email.policy, sys
m = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.SMTPUTF8)
assert not m.defects, m.defects
assert m["Auto-Submitted"] == "auto-replied" and m["Return-Path"] == "<>"
words, status, returned = m.iter_parts()
for part in m.walk():
    assert not part.defects, part.defects
print(m.get_content_type(), m.get_param("report-type"))
print(words.get_content_type(), status.get_content_type(), returned.get_content_type())
# Only of message/delivery-status this parser knows that it is made of blocks.
if status.get_content_type() == "message/delivery-status":
    blocks = status.get_payload()
else:
    text = status.get_payload()[0].as_bytes().replace(b"\r\n", b"\n")
    blocks = [email.message_from_bytes(block + b"\n", policy=email.policy.SMTPUTF8) for block in text.strip().split(b"\n\n")]
assert blocks[0]["Reporting-MTA"] == "dns; box.test", blocks[0]["Reporting-MTA"]
assert blocks[0]["Arrival-Date"]
for block in blocks[1:]:
    print(block["Original-Recipient"], "|", block["Final-Recipient"], "|", block["Action"], "|", block["Status"])
print("whole" if "no space left" in m.as_string() else "headers")
"#;

/// Sends a message with these parameters; returns what Python parses from the only notice to `user`.
fn notice(place: &Place, user: &str, parameters: &str, to: &[&str]) -> String {
    let mut client = Client::hello(place.port).unwrap();
    let mut say = |line: &str, code: &str| {
        let reply = client.command(line).unwrap();
        assert!(reply.starts_with(code), "{line}: {reply}");
    };
    say(&format!("MAIL FROM:<{user}@box.test>{parameters}"), "250");
    to.iter().for_each(|to| say(&format!("RCPT TO:{to}"), "250"));
    say("DATA", "354");
    say("From: a@box.test\r\nSubject: backup failed\r\n\r\nno space left\r\n.", "250");
    place.wait_for_mail(user, 1);
    let file = &files(&place.path("mail").join(user).join("new"))[0];
    python(READ, &[file.to_str().unwrap()])
}

#[test]
fn python_reads_delays_successes_and_utf_8() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    place.configure(CONFIG);
    let _daemon = place.serve();
    let joe = "<joe@far.test> ORCPT=rfc822;j+2Boe@x.test";
    let report = "multipart/report delivery-status\ntext/plain message/delivery-status ";
    assert_eq!(
        notice(&place, "late", "", &[joe]),
        format!(
            "{report}text/rfc822-headers\nrfc822;j+oe@x.test | rfc822; joe@far.test | delayed | 4.4.1\nheaders\n"
        )
    );
    assert_eq!(
        notice(&place, "here", " RET=FULL", &["<tim@box.test> NOTIFY=SUCCESS", "<tom@box.test>"]),
        format!("{report}text/rfc822-headers\nNone | rfc822; tim@box.test | delivered | 2.0.0\nheaders\n")
    );
    assert_eq!(
        notice(&place, "wide", " SMTPUTF8", &["<jürgen@nowhere.test> ORCPT=utf-8;jürgen@x.test"]),
        "multipart/report global-delivery-status\ntext/plain message/global-delivery-status message/global\n\
         utf-8;jürgen@x.test | utf-8; jürgen@nowhere.test | failed | 5.1.2\nwhole\n"
    );
}

#[test]
fn a_host_without_dsn_leaves_the_success_to_us() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    // HELO alone: no extensions.
    let _sink = place.sink(&["-e"]);
    place.configure(CONFIG);
    let _daemon = place.serve();
    let text = notice(&place, "asks", "", &["<joe@far.test> NOTIFY=SUCCESS"]);
    assert!(text.contains("\nNone | rfc822; joe@far.test | relayed | 2."), "{text}");
    assert_eq!(place.sunk().len(), 1);
}
