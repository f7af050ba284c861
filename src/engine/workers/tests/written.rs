//! A box that is named like the mail domain: addresses that the operator wrote leave, and stay on their way out.

use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;
use std::sync::Arc;

const SMART: &str = "relay.smarthost = \"smtp://smart.example\"\n";
const ME: &str = "me@box.example";

/// The smarthost's address is known; what listens there is for the test.
fn world(config: &str, peer: Peer) -> World {
    let world = World::new(&format!("{SMART}{config}"));
    world.net.address("smart.example", &["192.0.2.5"]);
    world.net.peer("192.0.2.5:25", peer);
    world
}

fn rcpt_by(world: &World, client: &str, to: &str) -> String {
    let input = format!("EHLO c\r\nMAIL FROM:<x@y.example>\r\nRCPT TO:<{to}>\r\nQUIT\r\n");
    let output = world.session_by(ListenerPolicy::default(), client, &input);
    output.lines().rev().nth(1).unwrap().to_owned()
}

#[test]
fn what_waits_for_the_way_out_keeps_to_it() {
    for (config, aliases, to) in [
        ("admin = \"me@box.example\"\n", "", "root@box.example"),
        ("admin = \"me@box.example\"\n", "", "postmaster@box.example"),
        ("local.catch_all = \"me@box.example\"\n", "", "tim@box.example"),
        ("", "root: me@box.example", "root@box.example"),
        ("", "root: me@box.example", "ME@box.example"),
    ] {
        let world = world(config, Peer::Refuses);
        std::fs::write(world.state().parent().unwrap().join("aliases"), aliases).unwrap();
        for _ in 0..3 {
            world.accept("cron@box.example", &[to]);
        }
        world.live(HOUR);
        assert_eq!(world.queue().len(), 3, "{config}{aliases}: {to}");
        // After a restart, and although nobody names the address any more.
        let world = world.restart();
        std::fs::write(world.state().parent().unwrap().join("aliases"), "").unwrap();
        world.reload(SMART);
        let host = Host::friendly();
        world.net.peer("192.0.2.5:25", Peer::Host(Arc::clone(&host)));
        world.live(5 * HOUR);
        assert_eq!(world.queue(), [], "{config}{aliases}: {to}");
        assert!(host.recipients().iter().all(|it| it.eq_ignore_ascii_case(ME)), "{:?}", host.recipients());
        assert!(host.recipients().len() >= 2, "{config}{aliases}: {to}");
    }
}

#[test]
fn notices_to_the_admin_leave_too() {
    let host = Host::new(|stage, text| {
        if stage == Stage::Rcpt && text.contains("joe@") { reply("550 5.1.1 no") } else { Say::Yes }
    });
    let world = world("admin = \"me@box.example\"\n", Peer::Host(Arc::clone(&host)));
    world.accept("root@box.example", &["joe@far.example"]);
    world.live(MINUTE);
    assert_eq!((world.queue(), host.recipients()), (vec![], vec![ME.to_owned()]));
    let taken = host.taken.lock().unwrap();
    assert!(String::from_utf8_lossy(&taken[0].content).contains("Subject: Undelivered mail"));
}

/// What comes back from outside must not leave again.
#[test]
fn strangers_can_not_write_to_it_and_unknown_users_stay_unknown() {
    let world = world("admin = \"me@box.example\"\n", Peer::Refuses);
    assert_eq!(rcpt_by(&world, "127.0.0.1", ME), "250 2.1.5 ok");
    assert_eq!(rcpt_by(&world, "192.0.2.77", ME), "550 5.7.1 relaying is not permitted");
    assert_eq!(rcpt_by(&world, "192.0.2.77", "root@box.example"), "250 2.1.5 ok");
    for client in ["127.0.0.1", "192.0.2.77"] {
        assert_eq!(rcpt_by(&world, client, "tim@box.example"), "550 5.1.1 no such user here");
    }
}

/// Nobody but `admin` would hear of it: the message is kept until somebody looks at the queue.
#[test]
fn where_the_domain_s_mx_is_this_host_it_is_held() {
    let world = World::new("admin = \"me@box.example\"\n");
    for (n, host) in ["box.example", "mx.example"].into_iter().enumerate() {
        world.net.mx("box.example", &[(10, host)]);
        world.net.address(host, &["127.0.0.1"]);
        world.accept("alice@box.example", &["root@box.example"]);
        world.live(MINUTE);
        let mail = world.mail("alice");
        let notice = mail.last().unwrap_or_else(|| panic!("{host}: no notice, {:?}", world.queue()));
        assert!(notice.contains("Status: 5.4.6"), "{notice}");
        let queue = world.queue();
        assert_eq!(queue.len(), n + 1);
        assert!(queue.iter().all(|entry| entry.progress.iter().all(|it| it.held && it.kept.is_some())));
    }
}
