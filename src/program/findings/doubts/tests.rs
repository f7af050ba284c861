//! Configurations, and the exact beginnings of what is said about them.

use super::super::contents::examine;
use super::super::report::CheckReport;
use super::lacks_home;
use crate::rules::routing::route::{LocalUser, SystemAccount};
use crate::sys::user::ProcessUser;
use crate::test_directory::TestDirectory;

const SMART: &str = "relay.smarthost = \"smtp://smart.example\"\n";
const HASH: &str =
    "$6$abc$IdWKNKTJEb8LxY7CGg8YBXlvtfZzFw7Mp/r6niK9YB2mdvgY..TKjv1T..8RadRt2qvUHYRLr/TsVArtr91iR1";

/// How each line begins, and words in it.
type Lines<'a> = &'a [(&'a str, &'a str)];

struct Place(TestDirectory);

impl Place {
    fn new() -> Self {
        Self(TestDirectory::new())
    }

    fn file(&self, name: &str, octets: &[u8], mode: u32) {
        self.0.file_of_mode(name, octets, mode);
    }

    /// Checks a configuration for a box that is named like the mail domain, with one user; `keys` begin in line 7. Gives
    /// the lines, paths in them shortened to `D`.
    fn check(&self, keys: &str, user: Option<ProcessUser>) -> Vec<String> {
        let d = self.0.display().to_string();
        let name = if keys.contains("hostname =") { "" } else { "hostname = \"example.com\"" };
        let users = if keys.contains("local.users") { "" } else { "local.users = [\"alice\", \"root\"]" };
        let maildir = if keys.contains("local.maildir") {
            String::new()
        } else {
            format!("local.maildir = \"{d}/m/{{user}}\"")
        };
        let text = format!(
            "{name}\nstate = \"{d}/s\"\ncontrol = \"{d}/c.sock\"\n{maildir}\n\
             local.aliases = \"{d}/aliases\"\n{users}\n{}",
            keys.replace("D/", &format!("{d}/"))
        );
        let text = if keys.contains("[[listener]]") {
            text
        } else {
            text + "\n[[listener]]\naddress = \"127.0.0.1:0\"\n"
        };
        self.file("f", text.as_bytes(), 0o644);
        let started_as = ProcessUser {
            uid: if user.is_none() { 0 } else { ProcessUser::own().uid },
            ..ProcessUser::own()
        };
        let CheckReport { problems, warnings, .. } =
            examine(&self.0.join("f"), &started_as, &|_| user.clone(), &|_| true);
        let lines = warnings.iter().map(|it| format!("warning: {it}"));
        lines.chain(problems.iter().map(ToString::to_string)).map(|it| it.replace(&d, "D")).collect()
    }
}

/// The lines begin so and say that, and there are no others.
fn assert_told(reported: &[String], expected: Lines<'_>, what: &str) {
    let is_right =
        |(line, (begin, words)): (&String, &(&str, &str))| line.starts_with(begin) && line.contains(words);
    assert!(
        reported.len() == expected.len() && reported.iter().zip(expected).all(is_right),
        "{what}\n{reported:#?}\n{expected:#?}"
    );
}

#[test]
fn what_would_lose_the_first_alert_is_told() {
    let away = ("warning: D/f:7:9: no local user has the address me@example.com", "hostname to a name");
    let rows: &[(&str, &str, Lines<'_>)] = &[
        ("", "", &[]),
        ("", "admin = \"me@elsewhere.example\"\n", &[]),
        ("", "admin = \"me@example.com\"\n", &[away]),
        ("", "admin = \"alice@example.com\"\n", &[]),
        (
            "",
            &format!("admin = \"alice@example.com\"\n{SMART}"),
            &[("warning: D/f:7:9: mail for alice@example.com stays here", "local.domains")],
        ),
        (
            "",
            "local.catch_all = \"me@example.com\"\n",
            &[("warning: D/f:7:19: no local user has the address me@example.com", "by the MX hosts")],
        ),
        ("", "admin = \"alice\"\n", &[]),
        ("", "admin = \"bob\"\n", &[("D/f:7:9: no local user is named \"bob\"", "lost; write an address")]),
        (
            "",
            "local.maildir = \"{home}/Maildir\"\nlocal.users = \"system\"\nadmin = \"root\"\n",
            &[("D/f:9:9: the user \"root\" has no mailbox", "or another user")],
        ),
        (
            "",
            "admin = \"me@gone.example\"\nrelay.routes = { \"gone.example\" = \"error:5.1.2 no mail there\" }\n",
            &[("D/f:7:9: mail for me@gone.example goes nowhere: no mail there", "write another")],
        ),
        (
            "",
            "local.users = [\"alice\"]\n",
            &[("warning: D/f:7:15: mail for root has no recipient", "write admin")],
        ),
        (
            "root: alice, me@elsewhere.example\na: b\nb: a\n# x\nc: gone, alice\nd: me@example.com\n",
            "",
            &[
                ("warning: D/aliases:5:1: \"c\" leads to gone@example.com", "correct"),
                ("warning: D/aliases:6:1: no local user has the address me@example.com", "local.domains"),
                ("D/aliases:2:1: the alias \"a\" is part of a loop", "; remove"),
                ("D/aliases:3:1: the alias \"b\" is part of a loop", "; remove"),
            ],
        ),
        (
            "d: gone, gone2\n",
            "",
            &[("warning: D/aliases:1:1: \"d\" reaches no local user", "; correct its members")],
        ),
        (
            "",
            "local.users = \"sytem\"\nadmin = \"a@b.example\"\n",
            &[("D/f:7:15: ", "did you mean \"system\"?")],
        ),
        ("", "local.users = \"anny\"\nadmin = \"a@b.example\"\n", &[("warning: D/f:7:15: ", "\"any\"?")]),
        ("", "hostname = \"my_box.example.com\"\n", &[("warning: D/f:7:12: ", "underscore")]),
        ("", "hostname = \"12345\"\n", &[("warning: D/f:7:12: ", "ends in a number")]),
        ("", "hostname = \"box.17\"\n", &[("warning: D/f:7:12: ", "greets by its address")]),
        ("", "hostname = \"box\"\n", &[("warning: D/f:7:12: ", "has no dot")]),
        ("", "hostname = \"box\"\nrewrite.from = \"a@b.example\"\n", &[]),
        (
            "",
            "relay.smarthost = \"smtps://a.example:587\"\n",
            &[(
                "warning: D/f:7:19: TLS begins in another way on port 587",
                "write smtp+starttls://a.example:587",
            )],
        ),
        (
            "",
            "relay.smarthost = \"smtp+starttls://a.example:465\"\n",
            &[("warning: D/f:7:19: TLS begins", "write smtps://a.example:465")],
        ),
        ("", "hostname = \"192.0.2.1\"\n", &[("D/f:7:12: ", "is not a host name")]),
        ("", "relay.username = \"joe\"\n", &[("D/f:7:18: nobody logs in", "relay.smarthost")]),
        (
            "",
            &format!("relay.fingerprint = \"{}\"\n", "ab".repeat(32)),
            &[("D/f:7:21: this is for a smarthost", "; name one")],
        ),
        ("", &format!("relay.key = \"/k\"\n{SMART}"), &[("D/f:7:13: a key is of no use", "; name it")]),
        (
            "",
            &format!("relay.auth = \"external\"\n{SMART}"),
            &[("warning: D/f:7:14: \"external\" needs", "; write relay.certificate")],
        ),
        (
            "",
            "relay.trusted_networks = [\"10.0.0.0/8\", \"0.0.0.0/1\"]\n",
            &[("warning: D/f:7:26: ", "strangers")],
        ),
        ("", "relay.trusted_networks = \"0.0.0.0/0\"\n", &[("D/f:7:26: ", "open relay")]),
        ("", "[[listener]]\naddress = \"192.0.2.1:25\"\n", &[("D/f:8:11: no interface has", "; write")]),
        ("", "[[listener]]\naddress = \"[fe80::1]:25\"\n", &[("D/f:8:11: no interface has", "; write")]),
        (
            "",
            "[[listener]]\naddress = [\"127.0.0.1:2587\", \"0.0.0.0:2587\"]\n",
            &[("D/f:8:11: \"0.0.0.0:2587\" and \"127.0.0.1:2587\" overlap", "; write")],
        ),
        ("", "alarm.command = \"true x\"\nrelay.password_command = \"/bin/true x\"\n", &[]),
        (
            "",
            "alarm.command = \"D/blink red\"\nrelay.password_command = \"D/aliases\"\n",
            &[
                ("warning: D/f:7:17: \"D/blink\" is no program that can be run; write", "executable"),
                ("warning: D/f:8:26: \"D/aliases\" is no program that can be run; write", "executable"),
            ],
        ),
        (
            "",
            "[[listener]]\naddress = \"127.0.0.1:0\"\nkind = \"submission\"\n",
            &[("warning: D/f:9:8: nobody can log in, as there is no /etc/pillarbox/users; write", "passwd")],
        ),
        (
            "",
            "local.domain = \"a.example\"\n",
            &[("D/f:7:7: ", "did you mean \"domains\"? `domain` belongs to [rewrite]")],
        ),
    ];
    let place = Place::new();
    for (aliases, keys, expected) in rows {
        place.file("aliases", aliases.as_bytes(), 0o644);
        assert_told(&place.check(keys, Some(ProcessUser::own())), expected, &format!("{aliases}{keys}"));
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let keys = format!("[[listener]]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    let reported = place.check(&keys, Some(ProcessUser::own()));
    assert_told(&reported, &[("warning: D/f:8:11: \"127.0.0.1:", "is taken")], "a port in use");
}

#[test]
fn what_files_hold_is_looked_at() {
    let login = format!(
        "{SMART}relay.username = \"joe\"\nrelay.password_file = \"D/password\"\nrewrite.from = \"a@b.example\"\n"
    );
    let place = Place::new();
    place.file("aliases", b"", 0o644);
    let rows: &[(&[u8], Lines<'_>)] = &[
        (b"secret\n", &[]),
        (b"\xef\xbb\xbfsecret\n", &[]),
        (b"'secret'\n", &[("warning: D/password:1:1: the password is in quotes", "; remove")]),
        (b"secret \n", &[("warning: D/password:1:1: the password begins or ends with a blank", "; remove")]),
        (b"\nsecret\n", &[("D/password:1:1: the first line is empty", "; write")]),
        (b"\xff\xfes\0e\0\n\0", &[("D/password:1:1: the text is UTF-16", "; save")]),
    ];
    for (octets, expected) in rows {
        place.file("password", octets, 0o600);
        let reported = place.check(&login, Some(ProcessUser::own()));
        assert_told(&reported, expected, "");
        assert!(!reported.concat().contains("secret"), "{reported:?}");
    }
    place.file("password", b"secret\n", 0o604);
    assert_told(
        &place.check(&login, Some(ProcessUser::own())),
        &[("D/f:9:23: others may use", "chmod o=")],
        "open",
    );
    // Nobody waits for the other end of a pipe.
    std::fs::remove_file(place.0.join("password")).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, place.0.join("password"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    assert_told(
        &place.check(&login, Some(ProcessUser::own())),
        &[("D/f:9:23: \"D/password\" is no file", "; name")],
        "a pipe",
    );
    std::fs::remove_file(place.0.join("password")).unwrap();
    place.file("password", b"secret\n", 0o640);
    let without = login.replace("rewrite.from = \"a@b.example\"\n", "");
    assert_told(
        &place.check(&without, Some(ProcessUser::own())),
        &[("warning: D/f:8:18: this login is no address", "rewrite.from")],
        "",
    );
    let text = format!(
        "nocolon\nuser:plaintext\nu2:\n:$6$x$y\nu3:$1$abc$def\n# x\nok:{HASH}\nok:{HASH}\n a b\u{1b}:x\n"
    );
    place.file("users", text.as_bytes(), 0o640);
    let lines: Vec<String> = [1, 2, 3, 4, 5, 8, 9].map(|line| format!("D/users:{line}:1: ")).into();
    let expected: Vec<(&str, &str)> = lines.iter().map(|line| (line.as_str(), "")).collect();
    let reported = place.check("auth.users = \"D/users\"\n", Some(ProcessUser::own()));
    assert_told(&reported, &expected, "users");
    assert!(
        !["plaintext", "$1$", "$6$x"].iter().any(|secret| reported.concat().contains(secret)),
        "{reported:?}"
    );
}

#[test]
fn one_problem_hides_no_other() {
    let place = Place::new();
    place.file("aliases", b"nocolon\na: a2\na2: a\n", 0o644);
    place.file("users", b"nocolon\n", 0o644);
    place.file("password", b"\n", 0o600);
    let keys = format!(
        "user = \"gone\"\nadmin = \"bob\"\nauth.users = \"D/users\"\ntls.key = \"D/missing\"\n{SMART}relay.username = \"joe@b.example\"\n\
         relay.password_file = \"D/password\"\nrelay.ca_file = \"D/aliases\"\n\
         [[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"D/no-key\"\n\
         [[dkim]]\ndomain = \"a.example\"\nselector = \"t\"\nkey = \"D/users\"\n"
    );
    let files = [
        ("D/f:7:8: user \"gone\" does not exist", "useradd"),
        ("D/f:10:11: \"D/missing\" can't be read", "make the file"),
        ("D/f:9:14: others may use \"D/users\"", "chmod o="),
        ("D/f:18:7: \"D/no-key\" can't be read", "make the file"),
        ("D/f:22:7: others may use \"D/users\"", "chmod o="),
        ("D/aliases:1:1: there is no colon", ""),
        ("D/f:14:17: ", "no certificate in PEM"),
        ("D/password:1:1: the first line is empty", ""),
    ];
    let doubts = [
        ("D/f:8:9: no local user is named \"bob\"", ""),
        ("D/aliases:2:1: the alias \"a\" is part", ""),
        ("D/aliases:3:1: the alias \"a2\" is part", ""),
    ];
    assert_told(&place.check(&keys, None), &[&files[..], &doubts[..]].concat(), "all of them");
    // With a key that is wrong as well, whatever does not follow from that.
    let reported = place.check(&format!("stat = 1\n{keys}"), None);
    assert!(reported[0].starts_with("D/f:7:1: unknown key \"stat\""), "{reported:#?}");
    assert_eq!(reported.len(), 1 + files.len(), "{reported:#?}");
}

#[test]
fn tokens_that_nobody_uses_or_has_fetched_are_told() {
    let place = Place::new();
    place.file("aliases", b"", 0o644);
    let oauth = "oauth.provider = \"microsoft\"\noauth.client_id = \"x\"\n";
    let told = |keys: &str| -> Vec<String> {
        let all = place.check(&format!("{SMART}admin = \"alice\"\n{keys}"), Some(ProcessUser::own()));
        all.into_iter().filter(|line| line.contains("token") || line.contains("password")).collect()
    };
    let unused = told(oauth);
    assert!(
        unused.len() == 1 && unused[0].starts_with("warning: D/f:10:19: no login takes a token"),
        "{unused:?}"
    );
    let missing = told(&format!("{oauth}relay.username = \"joe@a.example\"\nrelay.auth = \"xoauth2\"\n"));
    let words = "there is no token for joe@a.example yet; run: pillarbox login joe@a.example";
    assert!(missing.len() == 1 && missing[0].ends_with(words), "{missing:?}");
}

#[test]
fn a_user_whose_home_is_missing_has_no_mailbox() {
    let user = |home: &str| {
        let account = SystemAccount { name: "joe".into(), uid: 1000, gid: 1000, home: home.into() };
        LocalUser { name: "joe".into(), account: Some(account) }
    };
    assert!(lacks_home(&user("/nonexistent/joe")) && !lacks_home(&user("/")));
    assert!(!lacks_home(&LocalUser { name: "joe".into(), account: None }));
}

#[test]
fn a_sign_of_life_that_nobody_would_read_is_told() {
    let place = Place::new();
    place.file("aliases", b"", 0o644);
    let every = "heartbeat.every = \"7d\"\n";
    let said = |keys: &str| {
        let lines = place.check(keys, None);
        lines.iter().filter(|line| line.contains("goes to the postmaster")).count()
    };
    assert_eq!([said(every), said(""), said(&format!("{every}admin = \"alice\"\n"))], [1, 0, 0]);
    place.file("aliases", b"postmaster: alice\n", 0o644);
    assert_eq!(said(every), 0);
}
