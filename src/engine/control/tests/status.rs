//! What `pillarbox status` says of a daemon, from its first sentence on.

use crate::engine::tests::world::*;
use std::sync::Arc;

const FAR: &str = "joe@far.example";

/// The first line of `pillarbox status`.
fn sentence(world: &World) -> String {
    ask(world, "status").1.lines().next().unwrap().to_owned()
}

fn world(config: &str) -> (World, Arc<Host>) {
    let world = World::new(&format!("queue.warn_after = 0\n{config}"));
    let host = world.far_host();
    (world, host)
}

#[test]
fn a_route_that_fails_is_the_first_sentence_until_it_works() {
    let (world, host) = world("");
    assert_eq!(sentence(&world), "Everything works: the queue is empty.");
    host.now_says(|stage, _| if stage == Stage::Greeting { reply("421 4.3.2 closed") } else { Say::Yes });
    let ids = [world.accept("alice@box.example", &[FAR]), world.accept("alice@box.example", &[FAR])];
    world.pass();
    let said = sentence(&world);
    let start = "2 messages wait for far.example, which has just asked to try again later: 421 4.3.2 closed. The host is busy";
    assert!(said.starts_with(start) && said.contains("`pillarbox queue flush`"), "{said}");
    ask(&world, &format!("queue hold {}", ids[1]));
    host.now_says(|_, _| Say::Yes);
    ask(&world, "queue flush");
    world.pass();
    let said = ask(&world, "status").1;
    assert!(
        said.starts_with("Everything works. 1 message is held by the operator; `pillarbox queue release"),
        "{said}"
    );
    let id = ids[0];
    assert!(said.contains(&format!(", {id} to {FAR}\nlast failed     none so far\n")), "{said}");
    assert!(said.contains("Outcomes for recipients: relayed") && !said.contains("bounced"), "{said}");
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 nobody") } else { Say::Yes });
    let id = world.accept("alice@box.example", &[FAR]);
    world.pass();
    let said = ask(&world, "status").1;
    assert!(said.contains(&format!(", {id} to {FAR}: 550 5.1.1 nobody\n")), "{said}");
}

#[test]
fn what_waits_for_link_schedule_and_next_try_is_told_apart() {
    let (world, host) = world("");
    ask(&world, "link down");
    world.accept("alice@box.example", &[FAR]);
    assert!(sentence(&world).starts_with("The link is down: 1 message waits for other hosts. "));
    let (code, line) = ask(&world, "status --check");
    assert!(
        code == 1 && line.starts_with("PILLARBOX WARNING - 1 queued, the oldest for 0s; The link is down: "),
        "{line}"
    );
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 later") } else { Say::Yes });
    ask(&world, "link up");
    world.pass();
    let said = sentence(&world);
    assert!(said.starts_with("Everything works. 1 message waits for another try, the first in "), "{said}");
    assert_eq!(ask(&world, "status --check").0, 0);
    world.reload("queue.schedule = \"0 0 1 1 *\"");
    let said = sentence(&world);
    assert!(
        said.starts_with("Everything works. 1 message waits for queue.schedule, which fires in "),
        "{said}"
    );
    // The numbers keep their form for programs.
    let json = ask(&world, "status --json").1;
    assert!(json.contains("\"link_up\":1,\"link_metered\":0,"), "{json}");
    assert!(ask(&world, "status --prometheus").1.contains("\npillarbox_link_up 1\n"));
    let all = ask(&world, "status --all").1;
    assert!(all.contains("Notices to senders and to admin ") && all.contains(" yes\n"), "{all}");
}

#[test]
fn a_message_that_is_too_old_is_told_with_its_last_reply() {
    let (world, host) = world("alarm.stuck_after = \"1h\"");
    host.now_says(|stage, _| if stage == Stage::Rcpt { reply("450 4.2.0 Greylisted") } else { Say::Yes });
    let id = world.accept("alice@box.example", &[FAR]);
    world.live(2 * HOUR);
    let said = sentence(&world);
    let start = format!(
        "Message {id} has waited for 2h: 450 4.2.0 Greylisted. The host delays unknown clients (greyl"
    );
    assert!(said.starts_with(&start), "{said}");
}

/// They are saved with the totals, so no message costs a write more.
#[test]
fn the_last_ends_outlive_a_restart() {
    let (world, host) = world("");
    world.accept("alice@box.example", &[FAR]);
    world.pass();
    host.now_says(
        |stage, _| if stage == Stage::Rcpt { reply("550 5.1.1 no\u{7}body\t\u{e9}") } else { Say::Yes },
    );
    let failed = world.accept("alice@box.example", &[FAR]);
    world.pass();
    let file = world.state().join("statistics");
    world.intake.counters.save(world.manager.clock.now(), false);
    assert!(!file.exists(), "an hour has not passed");
    world.clock.advance(HOUR);
    world.intake.counters.save(world.manager.clock.now(), false);
    let before = ask(&world, "status").1;
    assert!(before.contains(&format!(", {failed} to {FAR}: 550 5.1.1 no?body")), "{before}");
    let world = world.restart();
    let after = ask(&world, "status").1;
    for row in ["last delivered", "last failed"] {
        let of = |text: &str| text.lines().find(|line| line.starts_with(row)).unwrap().to_owned();
        assert_eq!(of(&after), of(&before));
    }
}

/// It was told only after a message had used it.
#[test]
fn a_client_certificate_that_no_message_has_used_is_told_before_it_ends() {
    let (world, _) = world("");
    let made = crate::net::self_signed::make("box.example", world.manager.clock.now().wall).unwrap();
    let path = world.directory.secret("client.pem", &made);
    world.reload(&format!(
        "relay.senders = {{ \"x@box.example\" = {{ url = \"smtps://far.example\", certificate = {path:?} }} }}"
    ));
    world.clock.jump(820 * 86_400);
    let said = sentence(&world);
    assert!(
        said.starts_with(&format!("The certificate {} ends in 4d; renew it, ", path.display())),
        "{said}"
    );
    assert_eq!(ask(&world, "status --check").0, 1);
    std::fs::remove_file(&path).unwrap();
    let said = sentence(&world);
    assert!(
        said.ends_with("can't be used: No such file or directory (os error 2). Run `pillarbox check`."),
        "{said}"
    );
}

#[test]
fn mail_that_its_mailbox_does_not_take_is_told_with_the_reason() {
    let (world, _) = world("");
    world.block("bob");
    world.accept("x@y.example", &["alice@box.example", "bob@box.example", FAR]);
    world.pass();
    let said = sentence(&world);
    assert!(said.starts_with("Mail for a mailbox of this host has to wait: "), "{said}");
    assert!(said.contains("/bob"), "{said}");
    assert_eq!(ask(&world, "status --check").0, 0);
}
