//! Messages that a next hop cannot take unchanged: lines over 998 octets, and octets beyond ASCII where 8BITMIME is not
//! offered. The announced sizes are those that are sent, by DATA and BDAT, and the signatures match what is sent.

use crate::engine::tests::world::*;
use crate::mail::date::WallTime;
use crate::rules::message::dkim::Signer;
use crate::sys::clock::Clock;
use std::sync::Arc;

fn world(config: &str, extensions: &[&'static str]) -> (World, Arc<Host>) {
    let world = World::new(config);
    let host = Host::friendly();
    *host.extensions.lock().unwrap() = extensions.to_vec();
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    (world, host)
}

/// Sends a message with BODY=8BITMIME from loopback. Returns the MAIL command that the host got, and the message that
/// it accepted, with LF line ends.
fn sent(world: &World, host: &Host, content: &str) -> (String, String) {
    let content = content.replace('\n', "\r\n");
    let input = format!(
        "EHLO c\r\nMAIL FROM:<root@box.example> BODY=8BITMIME\r\nRCPT TO:<x@far.example>\r\nDATA\r\n{content}.\r\nQUIT\r\n"
    );
    let said = world.session(input.as_bytes(), &mut |_| ());
    assert!(said.contains("\r\n250 2.0.0 Ok: "), "{said}");
    world.pass();
    assert_eq!(world.queue(), []);
    let commands = host.commands.lock().unwrap();
    let mail = commands.iter().rev().find(|command| command.starts_with("MAIL")).unwrap().clone();
    let taken = host.taken.lock().unwrap();
    let content = String::from_utf8(taken.last().unwrap().content.clone()).unwrap();
    // What SIZE said, if it was asked for.
    if let Some((_, size)) = mail.split_once(" SIZE=") {
        assert_eq!(size.split(' ').next().unwrap().parse(), Ok(content.len()), "{mail}");
    }
    (mail, content.replace("\r\n", "\n"))
}

const UMLAUT: &str = "MIME-Version: 1.0\nFrom: root@box.example\nContent-Type: text/plain; charset=utf-8\n\
                      Content-Transfer-Encoding: 8bit\nTo: x@far.example\nDate: x\nMessage-ID: <x@box.example>\nSubject: x\n\n.\n\nfür\n";

#[test]
fn eight_bits_become_seven_where_there_is_no_way_for_them() {
    for extensions in [&["SIZE"][..], &["SIZE", "CHUNKING"]] {
        let (world, host) = world("", extensions);
        let (mail, content) = sent(&world, &host, &UMLAUT.replace("\n.\n", "\n..\n"));
        assert!(!mail.contains("BODY"), "{mail}");
        assert!(content.is_ascii(), "{content}");
        assert!(
            content.contains("\nSubject: x\nContent-Transfer-Encoding: quoted-printable\n\n"),
            "{content}"
        );
        assert!(content.ends_with("\n\n=2E\n\nf=C3=BCr\n"), "{content}");
        *host.extensions.lock().unwrap() = vec!["SIZE", "8BITMIME"];
        world.live(MINUTE);
        let (mail, content) = sent(&world, &host, &UMLAUT.replace("\n.\n", "\n..\n"));
        assert!(mail.contains(" BODY=8BITMIME"), "{mail}");
        assert!(content.ends_with(UMLAUT), "{content}");
    }
}

#[test]
fn long_lines_are_broken_for_everybody_and_large_messages_stream() {
    let line = "x".repeat(5000);
    for extensions in [&["SIZE", "8BITMIME"][..], &["SIZE", "8BITMIME", "CHUNKING"]] {
        for lines in [1, 50] {
            let (world, host) = world("", extensions);
            let content =
                format!("MIME-Version: 1.0\nFrom: root@box.example\n\n{}", format!("{line}\n").repeat(lines));
            let (_, sent) = sent(&world, &host, &content);
            assert!(sent.lines().all(|line| line.len() <= 998));
            let body = sent.split_once("\n\n").unwrap().1.replace("=\n", "");
            assert!(body == format!("{line}\n").repeat(lines), "{lines} lines");
        }
    }
}

#[test]
fn what_may_not_be_touched_is_not() {
    let signed = UMLAUT.replace("Subject:", "DKIM-Signature: v=1\nSubject:").replace("\n.\n", "\n..\n");
    let (world, host) = world("", &["SIZE"]);
    let (_, content) = sent(&world, &host, &signed);
    assert!(content.ends_with("\n\n.\n\nfür\n"), "{content}");
    let (world, host) = self::world("rewrite.repair = false\n", &["SIZE"]);
    let (_, content) = sent(&world, &host, &UMLAUT.replace("\n.\n", "\n..\n"));
    assert!(content.ends_with(UMLAUT), "{content}");
}

#[test]
fn the_signature_is_that_of_what_is_sent() {
    let directory = TestDirectory::new();
    let key = openssl::pkey::PKey::generate_ed25519().unwrap();
    let file = directory.secret("key.pem", key.private_key_to_pem_pkcs8().unwrap());
    let config = format!("[[dkim]]\ndomain = \"box.example\"\nselector = \"s\"\nkey = {file:?}\n");
    let (world, host) = world(&config, &["SIZE"]);
    let (_, content) = sent(&world, &host, &UMLAUT.replace("\n.\n", "\n..\n"));
    let body = content.find("\nReceived:").map(|end| end + 1).unwrap();
    let (signature, signed) = content.split_at(body);
    assert!(signature.starts_with("DKIM-Signature: "), "{content}");
    // The same message signed again, at the same time, has the same signature.
    let site = crate::engine::host::site::current(&world.site);
    let now = WallTime(world.clock.wall_micros());
    let mut signer = Signer::new(&site.dkim, now);
    signer.feed(signed.as_bytes());
    let again = signer.finish().unwrap();
    let hash = |text: &str| text.split("bh=").nth(1).unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(hash(signature), hash(&again));
}
