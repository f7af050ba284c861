//! DKIM of outgoing mail: which mail is signed, by which key, and that nothing else changes.

use crate::engine::tests::world::*;
use crate::mail::date::WallTime;
use crate::rules::message::dkim::Signer;
use crate::sys::clock::Clock;
use std::sync::Arc;

/// A key in a file, and the configuration with it.
struct Key {
    _directory: TestDirectory,
    config: String,
}

impl Key {
    fn new() -> Self {
        let directory = TestDirectory::new();
        let key = openssl::pkey::PKey::generate_ed25519().unwrap();
        let file = directory.secret("key.pem", key.private_key_to_pem_pkcs8().unwrap());
        let config = format!("[[dkim]]\ndomain = \"box.example\"\nselector = \"s\"\nkey = {file:?}\n");
        Self { _directory: directory, config }
    }
}

fn world(config: &str, key: &Key) -> (World, Arc<Host>) {
    let world = World::new(&format!("{config}\n{}", key.config));
    let host = world.far_host();
    (world, host)
}

const MESSAGE: &str = "From: root <root@box.example>\nSubject: alert\nDate: Mon, 23 Nov 2026 06:53:30 +0000\nMessage-ID: <a@b>\n\
                       To: joe@far.example\nMIME-Version: 1.0\n\n.The disk\n\n is \t full.\n\n\n";

/// The message that the host has accepted, with LF line ends.
fn taken(host: &Host) -> Vec<String> {
    let taken = host.taken.lock().unwrap();
    taken
        .iter()
        .map(|taken| String::from_utf8(taken.content.clone()).unwrap().replace("\r\n", "\n"))
        .collect()
}

#[test]
fn own_mail_is_signed_as_it_leaves() {
    let key = Key::new();
    let (world, host) = world("", &key);
    assert!(
        world.submit("root@box.example", &["joe@far.example", "ann@far.example"], MESSAGE).starts_with("250")
    );
    assert_eq!(world.pass(), None);
    let all = taken(&host);
    let [message] = all.as_slice() else { panic!("{all:?}") };
    let (signature, content) = message.split_at(message.find("Received: ").unwrap());
    assert!(signature.starts_with("DKIM-Signature: v=1; a=ed25519-sha256; "), "{message}");
    assert!(content.ends_with(MESSAGE), "{message}");
    // Ed25519 gives the same each time: it is that of what follows it, as it stands there.
    let site = crate::engine::host::site::current(&world.site);
    let mut signer = Signer::new(&site.dkim, WallTime(world.clock.wall_micros()));
    signer.feed(content.as_bytes());
    assert_eq!(signer.finish().unwrap(), signature);
    let size = message.replace('\n', "\r\n").len();
    let commands = host.commands.lock().unwrap();
    assert!(commands.iter().any(|line| line.ends_with(&format!("SIZE={size}"))), "{size}: {commands:?}");
}

/// A key signs for those who may relay: a stranger's mail for a domain that this host is backup for would look genuine.
#[test]
fn mail_of_strangers_and_of_other_domains_is_not_signed() {
    let key = Key::new();
    let strangers = "relay.trusted_networks = \"10.0.0.0/8\"\nrelay.domains = \"far.example\"";
    for (config, from, is_signed) in
        [("", "box.example", true), (strangers, "box.example", false), ("", "far.example", false)]
    {
        let (world, host) = world(config, &key);
        let message = MESSAGE.replace("box.example", from);
        assert!(world.submit("root@box.example", &["joe@far.example"], &message).starts_with("250"));
        assert_eq!(world.pass(), None);
        assert_eq!(taken(&host)[0].starts_with("DKIM-Signature: "), is_signed, "{config} {from}");
        assert_eq!(take_events("trouble"), [""; 0]);
    }
}

#[test]
fn a_bounce_is_signed_and_what_can_not_be_signed_leaves_without() {
    let key = Key::new();
    let (world, host) = world("rewrite.repair = false", &key);
    world.net.domain(
        "bad.example",
        "192.0.2.2",
        Peer::Host(Host::new(|stage, _| match stage {
            Stage::Rcpt => reply("550 5.1.1 nobody"),
            _ => Say::Yes,
        })),
    );
    // No From.
    assert!(world.submit("joe@far.example", &["bob@bad.example"], "Subject: x\n\nx\n").starts_with("250"));
    world.live(MINUTE);
    let trouble = take_events("trouble");
    assert!(trouble.len() == 1 && trouble[0].contains("leaves unsigned"), "{trouble:?}");
    let notices = taken(&host);
    let [notice] = notices.as_slice() else { panic!("{notices:?}") };
    assert!(notice.starts_with("DKIM-Signature: ") && notice.contains("550 5.1.1 nobody"), "{notice}");
}
