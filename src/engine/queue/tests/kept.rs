//! Mail to `admin` that cannot be delivered: it is held with its reason, regardless of the host and the step that
//! refuse it.

use crate::engine::host::site::current;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::tests::world::*;
use std::sync::Arc;

pub(super) const ADMIN: &str = "admin = \"boss@far.example\"\n";

/// A host whose admin is at far.example, which refuses all mail with the given reply.
fn world(config: &str, at: Stage, refusal: &'static str) -> (World, Arc<Host>) {
    let world = World::new(&format!("{ADMIN}{config}"));
    let host = Host::new(move |stage, _| if stage == at { reply(refusal) } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    take_log();
    (world, host)
}

/// Lets time pass, also while nothing is due.
fn pass_days(world: &World, days: u32) {
    for _ in 0..days {
        world.clock.advance(DAY);
        world.pass();
    }
}

/// What has to be true of one message that is held.
fn is_held(world: &World, reason: &str) {
    let [held] = world.queue().try_into().unwrap();
    let last = held.description.envelope.recipients.len() - 1;
    assert!(held.progress[last].held && held.progress[last].kept.is_some(), "{held:?}");
    let (_, list) = ask(world, "queue list");
    assert!(list.contains(&format!("{}! ", held.id)) && list.contains(reason), "{list}");
    let (_, json) = ask(world, "queue --json");
    assert!(json.contains("\"hold\":true") && json.contains(reason), "{json}");
    let (code, check) = ask(world, "status --check");
    assert!(code == 2 && check.contains("held because they cannot be delivered to admin: 1"), "{check}");
    let (_, status) = ask(world, "status");
    let said = "1 message to admin could not be delivered: ";
    let remedy = format!("Mend that, and then run `pillarbox queue release {}`.\n", held.id);
    assert!(status.starts_with(said) && status.contains(reason) && status.contains(&remedy), "{status}");
}

#[test]
fn an_alert_that_is_refused_is_held_and_release_tries_again() {
    for (at, refusal) in [
        (Stage::Rcpt, "550 5.1.1 no such user"),
        (Stage::Dot, "552-5.7.0 This message was blocked\r\n552 5.7.0 because of its content"),
        (Stage::Dot, "554 5.7.1 spam"),
    ] {
        let reason = refusal.split("\r\n").next().unwrap().get(4..9).unwrap();
        let (world, host) = world("", at, refusal);
        world.accept("root@box.example", &["root@box.example"]);
        assert_eq!(world.pass(), None);
        let warned = take_events("held");
        assert!(warned.len() == 1 && warned[0].contains(" to=boss@far.example "), "{warned:?}");
        is_held(&world, reason);
        // No notice about it is sent to the same address.
        let mails = || host.commands.lock().unwrap().iter().filter(|line| line.starts_with("MAIL")).count();
        assert_eq!(mails(), 1);

        world.services.alarm.check(&world.manager, &current(&world.site), world.manager.clock.now());
        let alarm = take_events("alarm");
        assert!(alarm.len() == 1 && alarm[0].contains(" state=alarm reason=held "), "{alarm:?}");
        assert!(alarm[0].contains(reason), "{alarm:?}");

        // It is still so after a restart, days, and a configuration without admin.
        let world = world.restart();
        pass_days(&world, 20);
        is_held(&world, reason);
        world.reload("");
        pass_days(&world, 1);
        world.reload(ADMIN);
        is_held(&world, reason);
        assert_eq!(mails(), 1, "it is not tried");

        // The operator releases it too early; then the host is repaired.
        let id = world.queue()[0].id;
        assert_eq!(ask(&world, &format!("queue release {id}")).0, 0);
        world.pass();
        assert_eq!(mails(), 2);
        is_held(&world, reason);
        host.now_says(|_, _| Say::Yes);
        assert_eq!(ask(&world, &format!("queue release {id}")).0, 0);
        world.pass();
        assert_eq!((host.recipients(), world.queue()), (vec!["boss@far.example".to_owned()], vec![]));
        assert_eq!(ask(&world, "status --check").0, 0);
    }
}

/// The refusal of the null sender (Amazon SES does it) is the notice's fault.
#[test]
fn a_notice_to_admin_that_is_refused_is_held() {
    for (at, refusal) in [
        (Stage::Mail, "501 5.1.7 Invalid MAIL FROM address"),
        (Stage::Mail, "501 Invalid MAIL FROM address provided"),
        (Stage::Rcpt, "550 5.1.1 no such user"),
    ] {
        let (world, host) = world("", at, refusal);
        host.now_says(move |stage, line| match stage {
            _ if stage == Stage::Mail && line.contains("<>") => reply(refusal),
            _ if stage == Stage::Rcpt && (line.contains("joe") || at == Stage::Rcpt) => {
                reply("550 5.1.1 no such user")
            }
            _ => Say::Yes,
        });
        // root is admin: the bounce goes to them.
        world.accept("root@box.example", &["joe@far.example"]);
        world.live(DAY);
        is_held(&world, refusal);
        let held = world.queue().remove(0);
        assert_eq!(held.description.envelope.reverse_path.to_string(), "");
        let (_, shown) = ask(&world, &format!("queue show {}", held.id));
        assert!(
            shown.contains("The disk is full.") && shown.contains("held, because admin cannot be reached"),
            "{shown}"
        );
    }
}

#[test]
fn what_expires_on_its_way_to_admin_is_held_and_given_up_after_thirty_days() {
    let world = World::new(ADMIN);
    world.net.domain("far.example", "192.0.2.1", Peer::TimesOut);
    world.accept("root@box.example", &["boss@far.example"]);
    world.live(6 * DAY);
    // Held as well: the notice of the delay.
    let held = || world.queue().iter().filter(|it| it.progress[0].kept.is_some()).count();
    assert!(held() > 0);
    let alert = world.queue()[0].id;
    assert!(world.queued(alert).progress[0].kept.is_some());
    pass_days(&world, 23);
    take_log();
    assert!(world.queue().iter().any(|it| it.id == alert));
    pass_days(&world, 20);
    let lost: Vec<_> =
        take_events("expired").into_iter().filter(|line| line.contains("held for 30 days")).collect();
    assert!(lost.iter().any(|line| line.contains(&alert.to_string())), "{lost:?}");
    assert_eq!(world.queue(), [], "and nobody is told by the way that fails");
    assert_eq!(world.manager.index.size(), (0, 0));
}

#[test]
fn only_the_copy_of_admin_is_held() {
    let (world, host) = world("", Stage::Rcpt, "550 5.1.1 no such user");
    host.now_says(|stage, line| match stage {
        Stage::Rcpt if line.contains("boss") || line.contains("joe") => reply("550 5.1.1 no such user"),
        _ => Say::Yes,
    });
    world.accept("alice@box.example", &["jim@far.example", "joe@far.example", "boss@far.example"]);
    world.pass();
    assert_eq!(host.recipients(), ["jim@far.example"]);
    is_held(&world, "5.1.1");
    // She is another person, and is notified of both at once.
    let notices = world.mail("alice");
    assert!(notices.len() == 1 && notices[0].contains("joe@") && notices[0].contains("boss@"), "{notices:?}");
    let id = world.queue()[0].id;
    ask(&world, &format!("queue release {id}"));
    world.pass();
    is_held(&world, "5.1.1");
    assert_eq!(world.mail("alice").len(), 1, "once");
    // One recipient is busy: it goes on being tried beside the one that is held.
    host.now_says(|stage, line| match stage {
        Stage::Rcpt if line.contains("boss") => reply("550 5.1.1 no such user"),
        Stage::Rcpt => reply("450 4.2.1 busy"),
        _ => Say::Yes,
    });
    ask(&world, &format!("queue remove {id}"));
    let id = world.accept("root@box.example", &["joe@far.example", "boss@far.example"]);
    world.live(HOUR);
    let all_held = || world.manager.index.message(id).unwrap().is_held;
    assert!(!all_held());
    host.now_says(|_, _| Say::Yes);
    world.live(DAY);
    assert!(all_held());
    assert_eq!(host.recipients(), ["jim@far.example", "joe@far.example"]);
    is_held(&world, "5.1.1");
}

#[test]
fn the_operator_has_the_last_word() {
    let (world, host) = world("", Stage::Rcpt, "550 5.1.1 no such user");
    let refused = || {
        let id = world.accept("root@box.example", &["root@box.example"]);
        world.pass();
        id
    };
    let id = refused();
    assert_eq!(ask(&world, &format!("queue hold {id}")).0, 0);
    assert_eq!(ask(&world, "status --check").0, 0, "who holds it knows of it");
    pass_days(&world, 60);
    assert_eq!(world.queue().len(), 1, "and it stays");
    // A message that is released from a hold has its turn like any other.
    ask(&world, &format!("queue release {id}"));
    world.live(HOUR);
    is_held(&world, "5.1.1");
    ask(&world, &format!("queue remove {id}"));
    assert_eq!((world.queue(), ask(&world, "status --check").0), (vec![], 0));
    let id = refused();
    ask(&world, &format!("queue bounce {id}"));
    assert_eq!(world.queue(), []);
    assert_eq!(host.recipients(), Vec::<String>::new());
}

/// A spammer must not raise the alarm.
#[test]
fn what_strangers_send_to_admin_goes_back_to_them() {
    let (world, host) = world("", Stage::Rcpt, "550 5.7.1 spam");
    let input = "EHLO x\r\nMAIL FROM:<eve@evil.example>\r\nRCPT TO:<postmaster@box.example>\r\nDATA\r\n\r\nx\r\n.\r\nQUIT\r\n";
    let said = world.session_by(ListenerPolicy::default(), "192.0.2.77", input);
    assert!(said.contains("250 2.0.0 Ok"), "{said}");
    world.net.domain("evil.example", "192.0.2.9", Peer::Host(Host::friendly()));
    world.live(DAY);
    assert_eq!((world.queue(), host.count()), (vec![], 1));
    assert_eq!(ask(&world, "status --check").0, 0);
}

#[test]
fn whom_roots_alias_names_is_admin() {
    let world = World::new("");
    let host = Host::new(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no") } else { Say::Yes });
    world.net.domain("far.example", "192.0.2.1", Peer::Host(Arc::clone(&host)));
    let aliases = world.state().parent().unwrap().join("aliases");
    std::fs::write(aliases, "root: boss@far.example\n").unwrap();
    world.accept("root@box.example", &["root@box.example"]);
    world.live(DAY);
    is_held(&world, "5.1.1");
    assert_eq!(host.count(), 1, "no notice went out by the same way");
}
