//! Several logins in one configuration: which host is shown which, and that a failure of one is none of the others.

use crate::engine::tests::world::*;
use crate::mail::base64;
use std::sync::Arc;

/// A smarthost with a login in TOML, the password in a file.
fn entry(place: &TestDirectory, host: u8, name: &str) -> String {
    let file = place.secret(name, format!("secret of {name}\n"));
    format!(
        "{{ url = \"smtp://127.0.0.{host}\", username = \"{name}@{name}.example\", password_file = {file:?} }}"
    )
}

/// A host that offers AUTH at 127.0.0.`last`.
fn host(world: &World, last: u8) -> Arc<Host> {
    let host = Host::friendly();
    host.extensions.lock().unwrap().push("AUTH PLAIN");
    world.net.peer(&format!("127.0.0.{last}"), Peer::Host(Arc::clone(&host)));
    host
}

/// The names and passwords that a host was shown.
fn shown(host: &Host) -> Vec<String> {
    let commands = host.commands.lock().unwrap();
    let said = |line: &String| {
        let octets = base64::decode(line.strip_prefix("AUTH PLAIN ")?.as_bytes())?;
        Some(String::from_utf8(octets).unwrap().trim_matches('\0').replace('\0', " "))
    };
    commands.iter().filter_map(said).collect()
}

fn mail_from(host: &Host) -> Vec<String> {
    host.taken.lock().unwrap().iter().map(|taken| taken.from.clone()).collect()
}

#[test]
fn the_next_smarthost_gets_its_own_login_and_never_that_of_another() {
    let place = World::place();
    let config = format!(
        "relay.smarthost = [{}, {}, \"smtp://127.0.0.12\"]\n",
        entry(&place, 10, "one"),
        entry(&place, 11, "two")
    );
    let world = World::at(&config, place);
    let (one, two, three) = (host(&world, 10), host(&world, 11), host(&world, 12));
    world.accept("root@box.example", &["joe@far.example"]);
    world.pass();
    assert_eq!(
        (shown(&one), mail_from(&one)),
        (vec!["one@one.example secret of one".to_owned()], vec!["one@one.example".to_owned()])
    );

    one.now_says(|at, _| if at == Stage::Auth(0) { reply("535 5.7.8 no") } else { Say::Yes });
    world.accept("root@box.example", &["joe@far.example"]);
    world.pass();
    assert_eq!(shown(&two), ["two@two.example secret of two"]);
    // Mail leaves with the address of the login that it leaves by.
    assert_eq!(mail_from(&two), ["two@two.example"]);
    assert_eq!(shown(&one), ["one@one.example secret of one"; 2]);

    two.now_says(|_, _| Say::Close);
    world.accept("root@box.example", &["joe@far.example"]);
    world.live(MINUTE * 10);
    assert_eq!(world.queue(), vec![]);
    assert_eq!((shown(&three), mail_from(&three)), (vec![], vec!["root@box.example".to_owned()]));
    let all = [shown(&one), shown(&two)].concat();
    assert!(all.iter().all(|it| it.split_once('@').is_some_and(|(name, _)| it.ends_with(name))), "{all:?}");
}

#[test]
fn a_sender_has_a_provider_of_its_own() {
    let place = World::place();
    let config = format!(
        "relay.smarthost = {}\nrelay.routes = {{ \"near.example\" = \"smtp://127.0.0.13\" }}\n\
         relay.senders = {{ \"nas@shop.example\" = {}, \"@shop.example\" = {} }}\n",
        entry(&place, 10, "one"),
        entry(&place, 11, "two"),
        entry(&place, 10, "three")
    );
    let world = World::at(&config, place);
    let (one, two, near) = (host(&world, 10), host(&world, 11), host(&world, 13));
    world.accept("root@box.example", &["joe@far.example"]);
    world.accept("NAS@shop.example", &["joe@far.example"]);
    world.accept("till@shop.example", &["joe@far.example"]);
    world.accept("till@shop.example", &["joe@near.example"]);
    world.accept("", &["joe@far.example"]);
    world.pass();
    assert_eq!(world.queue(), vec![]);
    assert_eq!(shown(&two), ["two@two.example secret of two"]);
    // The sender is the provider's own already, so it stays.
    assert_eq!(mail_from(&two), ["NAS@shop.example"]);
    let mut logins = shown(&one);
    logins.sort_unstable();
    assert_eq!(logins, ["one@one.example secret of one", "three@three.example secret of three"]);
    assert_eq!((shown(&near), mail_from(&near).len()), (vec![], 1), "a route comes before the sender");
    let mut from = mail_from(&one);
    from.sort_unstable();
    assert_eq!(from, ["", "one@one.example", "till@shop.example"]);
}

#[test]
fn a_login_that_fails_holds_no_other_back_at_the_same_host() {
    let place = World::place();
    let config = format!(
        "relay.smarthost = {}\nrelay.senders = {{ \"@shop.example\" = {} }}\n",
        entry(&place, 10, "one"),
        entry(&place, 10, "two")
    );
    let world = World::at(&config, place);
    let one = host(&world, 10);
    let refused = base64::encode(b"\0two@two.example\0secret of two");
    one.now_says(move |at, line| match at {
        Stage::Auth(0) if line.ends_with(&refused) => reply("535 5.7.8 wrong password"),
        _ => Say::Yes,
    });
    world.accept("till@shop.example", &["joe@far.example"]);
    world.pass();
    let paused = take_events("paused");
    assert_eq!(paused.len(), 1);
    assert!(paused[0].contains("route=\"smtp://127.0.0.10:25 as two@two.example\""), "{paused:?}");
    world.accept("root@box.example", &["joe@far.example"]);
    world.pass();
    assert_eq!(mail_from(&one), ["one@one.example"]);
    assert_eq!(world.queue().len(), 1, "the other one waits for its login");
}
