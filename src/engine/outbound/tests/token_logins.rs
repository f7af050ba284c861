//! Logins by token: what a host refuses is renewed once, without a pause of the route.

use super::provider::*;
use crate::engine::tests::world::*;
use crate::mail::base64;
use std::sync::Arc;

/// The error of a token that has ended, as Gmail has it.
fn ended() -> String {
    format!("334 {}", base64::encode(b"{\"status\":\"400\",\"scope\":\"https://mail.test/\"}"))
}

/// A host at 127.0.0.10 that takes one token. `closes`: it closes the connection after a refused one.
fn host(world: &World, right: &'static str, closes: bool) -> Arc<Host> {
    let mut is_refused = false;
    let host = Host::new(move |at, line| match at {
        Stage::Auth(0) => {
            let sent = line.strip_prefix("AUTH XOAUTH2 ").and_then(|text| base64::decode(text.as_bytes()));
            let sent = String::from_utf8(sent.unwrap()).unwrap();
            let is_right = sent == format!("user={JOE}\x01auth=Bearer {right}\x01\x01");
            if is_refused && closes {
                is_refused = false;
                return Say::Close;
            }
            is_refused = !is_right;
            reply(if is_right { "235 2.7.0 ok" } else { Box::leak(ended().into_boxed_str()) })
        }
        Stage::Auth(_) => reply("535 5.7.8 no"),
        _ => Say::Yes,
    });
    host.extensions.lock().unwrap().push("AUTH XOAUTH2");
    world.net.peer("127.0.0.10", Peer::Host(Arc::clone(&host)));
    host
}

fn auths(host: &Host) -> usize {
    host.commands.lock().unwrap().iter().filter(|line| line.starts_with("AUTH ")).count()
}

#[test]
fn a_token_that_the_host_refuses_is_renewed_and_the_mail_leaves_without_a_pause() {
    for (closes, connections) in [(false, 1), (true, 2)] {
        let world = world("");
        log_in(&world, "OLD", "R1", 3600);
        world.clock.advance(MINUTE * 2);
        let provider = Provider::new(&world, |_| granted("NEW", "R2", 3600));
        let host = host(&world, "NEW", closes);
        take_log();
        world.accept("root@box.example", &["joe@far.example"]);
        world.pass();
        assert_eq!((world.queue(), host.recipients()), (vec![], vec!["joe@far.example".to_owned()]));
        assert_eq!((provider.take_asked().len(), host.count()), (1, connections));
        assert!(!take_log().concat().contains("event=paused"));
        // The next message finds it.
        world.accept("root@box.example", &["joe@far.example"]);
        world.pass();
        assert_eq!((world.queue(), provider.take_asked().len()), (vec![], 0));
    }
}

#[test]
fn a_second_refusal_pauses_the_route_and_is_told_with_the_error() {
    let world = world("");
    log_in(&world, "OLD", "R1", 3600);
    world.clock.advance(MINUTE * 2);
    let provider = Provider::new(&world, |_| granted("NEW", "R2", 3600));
    let host = host(&world, "OTHER", false);
    take_log();
    world.accept("root@box.example", &["joe@far.example"]);
    world.pass();
    let events = take_log().concat();
    assert!(events.contains("event=paused"), "{events}");
    assert!(events.contains("535 5.7.8 no (status 400, scope https://mail.test/)"), "{events}");
    assert_eq!((auths(&host), provider.take_asked().len()), (2, 1));
    assert!(!events.contains("OLD") && !events.contains("NEW"));
    // A token that came just now is not replaced by yet another one.
    world.manager.index.flush(world.manager.clock.now().running);
    world.pass();
    assert_eq!((auths(&host), provider.take_asked().len()), (3, 0));
}

#[test]
fn a_provider_that_refuses_pauses_the_route_with_the_command_to_run() {
    let world = world("");
    log_in(&world, "OLD", "R1", 60);
    world.clock.advance(MINUTE * 2);
    let _provider = Provider::new(&world, |_| refuses("invalid_grant"));
    let host = host(&world, "OLD", false);
    take_log();
    world.accept("root@box.example", &["joe@far.example"]);
    world.pass();
    let events = take_log().concat();
    assert!(
        events.contains("event=paused") && events.contains("run: pillarbox login joe@far.example"),
        "{events}"
    );
    assert_eq!((auths(&host), world.queue().len()), (0, 1));
}

#[test]
fn a_command_is_asked_again_once() {
    let directory = TestDirectory::new();
    let count = directory.join("count");
    // It prints OLD, and from the second time on NEW.
    let text = format!(
        "echo x >> {0}\nif [ $(wc -l < {0}) = 1 ]; then echo OLD; else echo NEW; fi\n",
        count.display()
    );
    let script = directory.file("token", text);
    for (right, left) in [("NEW", 0), ("OTHER", 1)] {
        let _ = std::fs::remove_file(&count);
        let world = world(&format!("relay.password_command = \"/bin/sh {}\"\n", script.display()));
        let host = host(&world, right, false);
        world.accept("root@box.example", &["joe@far.example"]);
        world.pass();
        assert_eq!((world.queue().len(), auths(&host)), (left, 2), "{right}");
    }
}
