use super::harness::{LATER, Place, alone, measured};
use super::intake::{source, source_message_id, source_payload};
use std::collections::HashSet;

#[test]
fn mail_goes_by_mx_to_smtp_sink_each_message_once_and_whole() {
    let _alone = alone();
    let (binary, is_release) = measured();
    let messages = if is_release { 10_000 } else { 1_000 };
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    place.configure("limits.connections = 100\nlog.level = \"warn\"\nqueue.max_messages = 20000\n");
    let daemon = place.run(&mut place.command(&binary));
    source(&place, 16, messages, "them@far.test", &[]);
    place.wait_for_empty_queue(LATER);
    let sunk = place.sunk();
    assert_eq!(sunk.len(), messages, "{}", place.log());
    let ids: HashSet<String> = sunk.iter().map(|file| check(file)).collect();
    assert_eq!(ids.len(), messages, "each message is there once");
    daemon.stop();
    let wrong = ["event=trouble", "event=paused", "event=panic"].map(|event| place.logged(&[event])).concat();
    assert_eq!(wrong, [] as [&str; 0]);
}

/// Checks a message as smtp-sink dumps it; returns its Message-ID.
fn check(file: &[u8]) -> String {
    let text = std::str::from_utf8(file).unwrap();
    assert!(text.contains("X-Helo-Args: box.test\n"), "{text}");
    assert!(text.contains("\nX-Mail-Args: <s@client.test>\n"), "{text}");
    assert!(text.contains("\nX-Rcpt-Args: <them@far.test>\n"), "{text}");
    assert!(
        text.contains("\nReceived: from client.test ([127.0.0.1])\n\tby box.test (pillarbox) "),
        "{text}"
    );
    let (head, body) = text.split_once("\n\n").unwrap();
    assert!(body == source_payload() + "\n", "{body}");
    source_message_id(head)
}
