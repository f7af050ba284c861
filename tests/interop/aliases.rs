use super::client::Client;
use super::harness::{LATER, Place};
use std::fs::{File, create_dir, set_permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

/// The reply to RCPT.
fn rcpt(place: &Place, to: &str) -> String {
    let mut client = Client::hello(place.port).unwrap();
    client.command("MAIL FROM:<x@client.test>").unwrap();
    client.command(&format!("RCPT TO:<{to}>")).unwrap()
}

fn send(place: &Place, to: &[&str]) {
    let reply = Client::hello(place.port).unwrap().send("x@client.test", to, b"Subject: a\r\n\r\nb\r\n");
    assert!(reply.as_ref().is_ok_and(|reply| reply.starts_with("250 2.0.0 Ok")), "{reply:?}");
}

#[test]
fn aliases_are_followed_as_they_are_now() {
    let place = Place::new();
    let (_dns, _sink) = (place.dns_of_far(), place.sink(&[]));
    let (aliases, team) = (place.path("aliases"), place.path("team"));
    let users = "local.users = [\"alice\", \"bob\"]\n";
    place.write("team", "alice\nthem@far.test # and\n");
    place.write("aliases", &format!("root: alice\nteam: :include:{}\n", team.display()));
    place.configure(&format!("{users}local.aliases = {aliases:?}\n"));
    let daemon = place.serve();
    send(&place, &["root", "team"].map(|name| format!("{name}@box.test")).each_ref().map(String::as_str));
    place.wait_for_empty_queue(LATER);
    assert_eq!(place.wait_for_mail("alice", 1).len(), 1, "one copy, though two aliases name her");
    let sunk = String::from_utf8(place.sunk().concat()).unwrap();
    assert!(sunk.contains("X-Rcpt-Args: <them@far.test>\n"), "{sunk}");
    assert!(sunk.contains("\nDelivered-To: team@box.test\n"), "{sunk}");
    // Changed in place and by another file; no signal.
    place.write("team", "bob\n");
    place.write(
        "new",
        &format!("root: bob, alice\nteam: :include:{}\nloop: loop2\nloop2: loop\n", team.display()),
    );
    std::fs::rename(place.path("new"), &aliases).unwrap();
    send(&place, &["root@box.test"]);
    send(&place, &["team@box.test"]);
    place.wait_for_mail("bob", 2);
    place.wait_for_mail("alice", 2);
    assert!(rcpt(&place, "loop@box.test").starts_with("550 5.4.6 the alias \"loop\" is part of a loop"));
    place.wait_for_log(&["event=trouble", "loop@box.test", "part of a loop"]);
    // What can't be read now says nothing about anybody.
    std::fs::remove_file(&team).unwrap();
    assert!(rcpt(&place, "team@box.test").starts_with("451 4.3.0 "));
    assert!(rcpt(&place, "root@box.test").starts_with("250 "));
    place.wait_for_log(&["event=trouble", "team@box.test", "No such file"]);
    std::fs::remove_file(&aliases).unwrap();
    assert!(rcpt(&place, "root@box.test").starts_with("550 5.1.1 "));
    assert!(rcpt(&place, "alice@box.test").starts_with("250 "));
    daemon.stop();
}

#[test]
fn names_are_the_same_in_any_case_and_composed_or_not() {
    let place = Place::new();
    place.write("aliases", "a\u{f1}il: bob\nJ\u{f6}rg: o'brien\nstra\u{df}e: bob\n");
    let aliases = place.path("aliases");
    let users = "local.users = [\"bob\", \"O'Brien\", \"Zo\u{e8}\"]\n";
    place.configure(&format!("{users}local.aliases = {aliases:?}\n"));
    let daemon = place.serve();
    let to = |names: &[&str]| {
        let mut client = Client::hello(place.port).unwrap();
        client.command("MAIL FROM:<x@client.test> SMTPUTF8").unwrap();
        for name in names {
            let reply = client.command(&format!("RCPT TO:<{name}@box.test>")).unwrap();
            assert!(reply.starts_with("250 "), "{name}: {reply}");
        }
        client.command("DATA").unwrap();
        let reply = client.command("Subject: a\r\n\r\nb\r\n.").unwrap();
        assert!(reply.starts_with("250 2.0.0 Ok"), "{reply}");
    };
    to(&["a\u{f1}il"]);
    to(&["A\u{d1}IL"]);
    to(&["an\u{303}il"]);
    to(&["AN\u{303}IL+detail", "Stra\u{df}e"]);
    to(&["JO\u{308}RG"]);
    to(&["o'brien", "O'BRIEN", "o'brien+x"]);
    to(&["ZOE\u{300}", "zo\u{e8}"]);
    place.wait_for_mail("bob", 4);
    place.wait_for_mail("o'brien", 2);
    place.wait_for_mail("zo\u{e8}", 1);
    for other in ["anil", "zoe", "obrien", "zo\u{e9}"] {
        assert!(!rcpt(&place, &format!("{other}@box.test")).starts_with("250"), "{other}");
    }
    daemon.stop();
}

/// With another /etc/passwd, which only the daemon sees; so only root can run it, where mounts are allowed.
#[test]
fn a_user_of_the_system_forwards_his_mail() {
    if !Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let place = Place::new();
    let home = place.path("home");
    create_dir(&home).unwrap();
    let entry = |name: &str, uid| format!("{name}:x:{uid}:{uid}::{}:/bin/sh\n", place.path(name).display());
    let passwd = place.write(
        "passwd",
        &format!("root:x:0:0::/root:/bin/sh\n{}{}", entry("home", 2001), entry("mia", 2002)),
    );
    let forward = place.write("home/.forward", "\\home, mia\n");
    chown(&forward, Some(2001), None).unwrap();
    let config = place.configure("local.users = \"system\"\n");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/passwd && exec \"$@\""]);
    command.arg(&passwd).arg(env!("CARGO_BIN_EXE_pillarbox")).arg("-c").arg(&config).arg("serve");
    command.stderr(File::create(place.path("log")).unwrap());
    let daemon = place.run(&mut command);
    send(&place, &["home@box.test"]);
    place.wait_for_mail("mia", 1);
    assert_eq!(place.mail("home").len(), 1, "a copy stays");
    set_permissions(&forward, PermissionsExt::from_mode(0o666)).unwrap();
    send(&place, &["home@box.test"]);
    place.wait_for_log(&["event=trouble", ".forward", "others can write to it"]);
    assert_eq!((place.wait_for_mail("home", 2).len(), place.mail("mia").len()), (2, 1));
    daemon.stop();
}

#[test]
fn check_tells_what_is_wrong_with_the_aliases() {
    let place = Place::new();
    let (aliases, list) = (place.path("aliases"), place.path("list"));
    place.write("list", "bob\n  |/bin/sh\n");
    place.write(
        "aliases",
        &format!("root: alice,\n  \"|/bin/vacation alice\"\nteam: :include:{}\n", list.display()),
    );
    let config = place.configure(&format!("local.aliases = {aliases:?}\n"));
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        let output = command.arg("-c").arg(&config).arg("check").output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = check();
    assert_eq!(code, Some(78), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0].starts_with(&format!("{}:2:3: \"\\\"|/bin/vacation alice", aliases.display())),
        "{told}"
    );
    assert!(lines[1].starts_with(&format!("{}:2:3: \"|/bin/sh\" is a command", list.display())), "{told}");
    place.write("list", "bob\n");
    place.write("aliases", "root: alice\n");
    assert_eq!(check().0, Some(0));
    // What was named and is not there is a mistake; the default may be missing.
    std::fs::remove_file(&aliases).unwrap();
    assert!(check().1.contains("can't be read"), "{:?}", check());
    let newaliases = Command::new(env!("CARGO_BIN_EXE_pillarbox")).arg("newaliases").output().unwrap();
    assert_eq!((newaliases.status.code(), newaliases.stdout), (Some(0), vec![]));
}
