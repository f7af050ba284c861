//! Next hops: the order in which they are tried, what pauses them, and what continues meanwhile.

use crate::engine::tests::world::*;
use crate::mail::mx::MxAnswer;
use crate::net::resolver::DnsErrorKind;
use std::sync::Arc;

#[test]
fn a_route_that_fails_pauses_and_leaves_its_messages_as_they_are() {
    let world = World::new("");
    let good = Host::friendly();
    world.net.domain("dead.example", "192.0.2.1", Peer::Refuses);
    world.net.domain("good.example", "192.0.2.2", Peer::Host(Arc::clone(&good)));
    let ids: Vec<_> = (0..5).map(|_| world.accept("alice@box.example", &["joe@dead.example"])).collect();
    let size = |id: &crate::mail::id::QueueId| {
        std::fs::metadata(world.state().join("queue").join(id.to_string())).unwrap().len()
    };
    let sizes: Vec<u64> = ids.iter().map(size).collect();
    world.accept("alice@box.example", &["joe@good.example"]);
    let wait = world.pass().unwrap();
    assert!(wait >= MINUTE * 9 / 10 && wait <= MINUTE * 11 / 10, "{wait:?}");
    assert_eq!(good.taken.lock().unwrap().len(), 1);
    assert_eq!(world.queue().len(), 5);
    world.live(HOUR);
    let attempts = world.net.take_attempts();
    let dead = attempts.iter().filter(|address| *address == "192.0.2.1:25").count();
    // At 0, 1, 6, 21 and 51 minutes: one connection each, however many messages wait.
    assert_eq!(dead, 5, "{attempts:?}");
    assert_eq!(ids.iter().map(size).collect::<Vec<_>>(), sizes, "no journal");
    assert!(world.queue().iter().all(|summary| summary.progress[0].attempts == 0));

    let host = Host::friendly();
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.pass();
    assert_eq!(host.count(), 0, "it pauses still");
    world.manager.index.flush(world.manager.clock.now().running);
    world.pass();
    assert_eq!((host.taken.lock().unwrap().len(), host.count(), world.queue()), (5, 1, vec![]));
}

#[test]
fn a_success_ends_the_back_off() {
    let world = World::new("");
    world.net.domain("far.example", "192.0.2.1", Peer::Refuses);
    world.accept("alice@box.example", &["joe@far.example"]);
    world.live(10 * MINUTE);
    let host = Host::friendly();
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&host)));
    world.live(HOUR);
    assert_eq!((host.count(), world.queue()), (1, vec![]));
    world.net.peer("192.0.2.1", Peer::Refuses);
    world.accept("alice@box.example", &["joe@far.example"]);
    let wait = world.pass().unwrap();
    assert!(wait <= MINUTE * 11 / 10, "the back-off begins anew: {wait:?}");
}

/// A peer that greets and then refuses mail has failed: each such try lengthens the pause.
#[test]
fn a_peer_that_refuses_every_transaction_backs_off_too() {
    for code in ["421 4.3.2 busy", "530 5.7.0 authenticate first"] {
        let world = World::new("");
        let host = Host::new(move |stage, _| if stage == Stage::Mail { reply(code) } else { Say::Yes });
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        world.accept("alice@box.example", &["joe@far.example"]);
        world.live(HOUR);
        assert_eq!(host.count(), 5, "{code}: at 0, 1, 6, 21 and 51 minutes");
        assert_eq!(world.queue().len(), 1);
    }
}

#[test]
fn hosts_and_addresses_are_tried_in_order() {
    let world = World::new("");
    world.net.mx("far.example", &[(30, "c.far.example"), (10, "a.far.example"), (20, "b.far.example")]);
    world.net.address("a.far.example", &["192.0.2.1", "192.0.2.2"]);
    world.net.address("b.far.example", &["192.0.2.3"]);
    world.net.address("c.far.example", &["192.0.2.4", "2001:db8::4"]);
    world.net.peer("192.0.2.2", Peer::TimesOut);
    let angry = Host::new(|_, _| reply("554 go away"));
    world.net.peer("192.0.2.3", Peer::Host(Arc::clone(&angry)));
    let closing = Host::new(|_, _| Say::Close);
    world.net.peer("192.0.2.4", Peer::Host(closing));
    let good = Host::friendly();
    world.net.peer("[2001:db8::4]:25", Peer::Host(Arc::clone(&good)));
    world.accept("alice@box.example", &["joe@far.example"]);
    world.pass();
    assert_eq!(
        world.net.take_attempts(),
        ["192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25", "192.0.2.4:25", "[2001:db8::4]:25"]
    );
    assert_eq!((good.taken.lock().unwrap().len(), world.queue()), (1, vec![]));
    assert_eq!(*angry.commands.lock().unwrap(), ["QUIT"]);
}

#[test]
fn the_own_name_and_the_own_address_cut_the_list() {
    let world = World::new("[[listener]]\naddress = \"192.0.2.9:25\"");
    let good = Host::friendly();
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&good)));
    world.net.address("a.far.example", &["192.0.2.8"]);
    world.net.address("self.far.example", &["192.0.2.9"]);
    world.net.address("worse.far.example", &["192.0.2.1"]);
    for own in ["BOX.example", "self.far.example"] {
        // A better host that does not answer now is waited for; a worse one must not get the mail.
        world.net.mx("far.example", &[(10, "a.far.example"), (20, own), (30, "worse.far.example")]);
        world.accept("alice@box.example", &["joe@far.example"]);
        world.pass();
        assert_eq!(world.net.take_attempts(), ["192.0.2.8:25"], "{own}");
        assert_eq!((world.queue().len(), world.mail("alice").len()), (1, 0));
        // This host comes first: a loop.
        world.net.mx("far.example", &[(10, own), (20, "worse.far.example")]);
        world.manager.index.flush(world.manager.clock.now().running);
        world.pass();
        assert!(world.net.take_attempts().is_empty(), "{own}");
        let notice = world.mail("alice").remove(0);
        assert!(notice.contains("Status: 5.4.6") && notice.contains("comes back to this host"), "{notice}");
        assert_eq!(world.queue(), []);
        std::fs::remove_dir_all(world.maildir("alice")).unwrap();
    }
}

#[test]
fn what_the_dns_says_for_good_bounces_and_all_else_is_deferred() {
    for (answer, status) in [
        (Ok(MxAnswer::Null), Some("5.1.10")),
        (Err(DnsErrorKind::NoSuchDomain), Some("5.1.2")),
        (Err(DnsErrorKind::BadName), Some("5.1.2")),
        (Err(DnsErrorKind::TooManyCnames), Some("5.4.6")),
        (Err(DnsErrorKind::Temporary), None),
    ] {
        let world = World::new("");
        world.net.mx_answer("far.example", answer.clone().map_err(dns_error));
        world.accept("alice@box.example", &["joe@far.example"]);
        world.pass();
        let notices = world.mail("alice");
        match status {
            Some(status) => {
                assert!(notices[0].contains(&format!("Status: {status}\n")), "{answer:?}");
                assert_eq!(world.queue(), [], "{answer:?}");
            }
            None => assert_eq!((notices.len(), world.queue().len()), (0, 1), "{answer:?}"),
        }
    }
}

#[test]
fn one_host_without_an_address_does_not_spoil_the_others() {
    use DnsErrorKind::*;
    for kind in [NoSuchDomain, TooManyCnames, BadName, Temporary] {
        let world = World::new("");
        world.net.mx("far.example", &[(10, "a.far.example"), (20, "b.far.example")]);
        world.net.address_error("a.far.example", dns_error(kind));
        world.net.address("b.far.example", &["192.0.2.2"]);
        let good = Host::friendly();
        world.net.peer("192.0.2.2", Peer::Host(Arc::clone(&good)));
        world.accept("alice@box.example", &["joe@far.example"]);
        world.pass();
        assert_eq!(good.taken.lock().unwrap().len(), 1, "{kind:?}");
    }
}

#[test]
fn a_message_fails_only_if_every_host_says_so() {
    for (second, fails) in [(Some(DnsErrorKind::NoSuchDomain), true), (None, false)] {
        for reversed in [false, true] {
            let world = World::new("");
            let (a, b) = if reversed { (20, 10) } else { (10, 20) };
            world.net.mx("far.example", &[(a, "a.far.example"), (b, "b.far.example")]);
            world.net.address("a.far.example", &[]);
            match second {
                Some(kind) => world.net.address_error("b.far.example", dns_error(kind)),
                None => world.net.address("b.far.example", &["192.0.2.1"]),
            }
            world.accept("alice@box.example", &["joe@far.example"]);
            world.pass();
            assert_eq!(world.queue().is_empty(), fails, "{second:?} {reversed}");
        }
    }
}

/// The operator named the smarthost: whatever the DNS says of it, the mail is not to blame.
#[test]
fn a_smarthost_that_does_not_resolve_is_always_temporary() {
    use DnsErrorKind::*;
    let errors = [NoSuchDomain, BadName, TooManyCnames, Temporary].map(Some);
    for (config, answer) in [("", None), ("relay.family = \"ipv4\"", Some(None))]
        .into_iter()
        .chain(errors.map(|kind| ("", Some(kind))))
    {
        let world = World::new(&format!(
            "relay.smarthost = \"smtp://smart.example\"\nqueue.warn_after = 0\n{config}"
        ));
        match answer {
            Some(Some(kind)) => world.net.address_error("smart.example", dns_error(kind)),
            Some(None) => world.net.address("smart.example", &["2001:db8::1"]),
            None => world.net.address("smart.example", &[]),
        }
        world.accept("alice@box.example", &["joe@far.example"]);
        world.live(DAY);
        assert_eq!((world.queue().len(), world.mail("alice").len()), (1, 0), "{answer:?}");
        let host = Host::friendly();
        world.net.address("smart.example", &["192.0.2.1"]);
        world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&host)));
        world.live(DAY);
        assert_eq!((world.queue().len(), host.count()), (0, 1), "{answer:?}");
    }
}

#[test]
fn smarthosts_are_tried_in_their_order() {
    let world = World::new("relay.smarthost = [\"smtp://a.example\", \"smtp://192.0.2.2:26\"]");
    let host = Host::friendly();
    world.net.peer("192.0.2.2:26", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example", "jim@other.example"]);
    world.pass();
    assert_eq!(host.recipients(), ["joe@far.example", "jim@other.example"]);
    assert_eq!(host.taken.lock().unwrap().len(), 1, "one transaction for all");
}

#[test]
fn one_connection_serves_many_messages() {
    let world = World::new("");
    let host = world.far_host();
    for _ in 0..50 {
        world.accept("alice@box.example", &["joe@far.example"]);
    }
    world.pass();
    assert_eq!((host.taken.lock().unwrap().len(), host.count(), world.queue()), (50, 1, vec![]));
    assert_eq!(host.commands.lock().unwrap().last().map(String::as_str), Some("QUIT"));
}

#[test]
fn a_peer_that_closes_after_each_message_gets_a_connection_for_each() {
    for closing in [Say::YesAndClose, reply("250 ok\r\n421 4.3.2 enough")] {
        let world = World::new("");
        let host = Host::new(move |stage, _| if stage == Stage::Dot { closing.clone() } else { Say::Yes });
        world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
        for _ in 0..10 {
            world.accept("alice@box.example", &["joe@far.example"]);
        }
        assert_eq!(world.pass(), None);
        assert_eq!((host.taken.lock().unwrap().len(), host.count(), world.queue()), (10, 10, vec![]));
        assert!(take_events("paused").is_empty());
    }
}

#[test]
fn more_recipients_than_a_transaction_may_have_are_sent_in_several() {
    let world = World::new("limits.recipients = 1000");
    let host = world.far_host();
    let to: Vec<String> = (0..250).map(|i| format!("user{i}@far.example")).collect();
    world.accept("alice@box.example", &to.iter().map(String::as_str).collect::<Vec<_>>());
    world.pass();
    let sizes: Vec<_> = host.taken.lock().unwrap().iter().map(|taken| taken.to.len()).collect();
    assert_eq!((sizes, host.count(), world.queue()), (vec![100, 100, 50], 1, vec![]));
    assert_eq!(host.recipients(), to);
}

/// A filter that cuts the connection at the content, and more recipients than it was told of: those deferred and
/// those not tried yet must not take turns without end.
#[test]
fn a_connection_that_is_cut_each_time_makes_no_busy_loop() {
    let world = World::new("limits.recipients = 1000");
    let mut connections = 0;
    let host = Host::new(move |stage, _| {
        connections += u32::from(stage == Stage::Greeting);
        match stage {
            _ if connections > 20 => Say::Yes,
            Stage::Dot => Say::Close,
            _ => Say::Yes,
        }
    });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    let to: Vec<String> = (0..150).map(|i| format!("user{i}@far.example")).collect();
    world.accept("alice@box.example", &to.iter().map(String::as_str).collect::<Vec<_>>());
    let wait = world.pass();
    assert!(host.count() <= 2, "{} connections at once", host.count());
    assert!(wait.is_some_and(|wait| wait >= MINUTE * 9 / 10), "{wait:?}");
}

#[test]
fn after_a_reload_queued_mail_takes_the_new_route() {
    let world = World::new("relay.smarthost = \"smtp://192.0.2.1\"");
    world.net.peer("192.0.2.1", Peer::Refuses);
    let ids = [(); 2].map(|()| world.accept("alice@box.example", &["joe@far.example"]));
    world.live(2 * HOUR);
    let host = Host::friendly();
    world.net.peer("192.0.2.2", Peer::Host(Arc::clone(&host)));
    world.net.take_attempts();
    world.reload("relay.smarthost = \"smtp://192.0.2.2\"");
    assert_eq!(world.pass(), None);
    assert_eq!(world.net.take_attempts(), ["192.0.2.2:25"]);
    assert_eq!((host.taken.lock().unwrap().len(), world.queue()), (2, vec![]), "{ids:?}");
}

#[test]
fn after_a_reload_an_exception_may_refuse_what_is_queued() {
    let world = World::new("relay.smarthost = \"smtp://192.0.2.1\"");
    world.accept("alice@box.example", &["joe@bad.example"]);
    world.pass();
    world.reload("relay.routes = { \"bad.example\" = \"error:5.1.2 no mail there\" }");
    world.live(HOUR);
    let notice = world.mail("alice").remove(0);
    assert!(notice.contains("Status: 5.1.2") && notice.contains("no mail there"), "{notice}");
    assert_eq!(world.queue(), []);
}

/// A hop without mail leaves nothing in memory; otherwise a relay would remember each dead domain for ever.
#[test]
fn routes_without_mail_are_forgotten() {
    let world = World::new("queue.retry = \"1m\"\nqueue.lifetime = \"1h\"");
    for i in 0..20 {
        world.net.domain(&format!("dead{i}.example"), "192.0.2.1", Peer::Refuses);
        world.accept("alice@box.example", &[&format!("joe@dead{i}.example")]);
    }
    world.live(3 * HOUR);
    assert_eq!(world.queue(), []);
    world.clock.advance(HOUR);
    world.pass();
    assert_eq!(world.manager.index.hops(), 0);
}

/// Otherwise each connection would wait for the dead smarthost first.
#[test]
fn a_smarthost_that_does_not_answer_is_asked_last_for_a_while() {
    let hosts = "relay.smarthost = [\"smtp://192.0.2.1\", \"smtp://192.0.2.2\"]";
    let world = World::new(hosts);
    let (first, second) = (Host::friendly(), Host::friendly());
    world.net.peer("192.0.2.1", Peer::TimesOut);
    world.net.peer("192.0.2.2", Peer::Host(Arc::clone(&second)));
    let send = || {
        world.accept("alice@box.example", &["joe@far.example"]);
        world.pass();
        assert_eq!(world.queue(), []);
        world.net.take_attempts()
    };
    assert_eq!(send(), ["192.0.2.1:25", "192.0.2.2:25"]);
    world.clock.advance(4 * MINUTE);
    assert_eq!(send(), ["192.0.2.2:25"]);
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&first)));
    assert_eq!(send(), ["192.0.2.2:25"]);
    world.clock.advance(MINUTE);
    assert_eq!(send(), ["192.0.2.1:25"], "it is the first again");
    // A flush or another configuration means that the operator has repaired something.
    world.net.peer("192.0.2.1", Peer::TimesOut);
    assert_eq!(send().len(), 2);
    world.reload(hosts);
    assert_eq!(send().len(), 2);
    world.manager.index.flush(world.manager.clock.now().running);
    assert_eq!(send().len(), 2);
    // It is the only one left.
    world.net.peer("192.0.2.2", Peer::Refuses);
    world.net.peer("192.0.2.1", Peer::Host(Arc::clone(&first)));
    assert_eq!(send(), ["192.0.2.2:25", "192.0.2.1:25"]);
}

/// The other addresses of a host have the same users: each more failed login brings its owner closer to being locked
/// out.
#[test]
fn a_refused_login_is_not_tried_at_the_hosts_other_addresses() {
    let place = World::place();
    let file = place.secret("password", "wrong\n");
    let config = format!(
        "relay.smarthost = \"smtp://smart.example:25\"\nrelay.username = \"joe\"\nrelay.password_file = {file:?}"
    );
    let world = World::at(&config, place);
    let host = Host::friendly();
    host.extensions.lock().unwrap().push("AUTH PLAIN");
    host.now_says(|at, _| if at == Stage::Auth(0) { reply("535 no") } else { Say::Yes });
    world.net.address("smart.example", &["127.0.0.8", "127.0.0.9"]);
    world.net.peer("127.0.0.8", Peer::Host(Arc::clone(&host)));
    world.net.peer("127.0.0.9", Peer::Host(Arc::clone(&host)));
    world.accept("alice@box.example", &["joe@far.example"]);
    world.pass();
    assert_eq!(world.net.take_attempts(), ["127.0.0.8:25"]);
    let commands = host.commands.lock().unwrap().clone();
    assert_eq!(commands, ["EHLO box.example", "AUTH PLAIN AGpvZQB3cm9uZw==", "QUIT"]);
}
