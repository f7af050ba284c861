//! Files and directories in a directory of the test, and the problems that each user gets.

use super::*;
use crate::config::parse;
use crate::test_directory::TestDirectory;
use std::fs::{Permissions, create_dir_all, set_permissions};
use std::os::unix::fs::PermissionsExt;

fn account(uid: u32, groups: &[u32]) -> ProcessUser {
    ProcessUser { name: format!("u{uid}"), uid, groups: groups.to_vec() }
}

fn chmod(path: &Path, mode: u32) {
    set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// The texts of all problems; paths in them are shortened to `D`.
fn reported(root: &Path, keys: &str, started_as: &ProcessUser) -> Vec<String> {
    let d = root.display();
    let text = format!(
        "state = \"{d}/state\"\ncontrol = \"{d}/run/c.sock\"\n[local]\nmaildir = \"{d}/mail/{{user}}\"\n{keys}"
    );
    let settings = parse(&text, "f").unwrap();
    let place = |line, column| FilePosition { line, column };
    let places = Places(vec![("", "state", place(1, 9)), ("", "control", place(2, 11))]);
    let stranger = account(4_000_000, &[4_000_001]);
    let look_up = |name: &str| (name == "pillarbox").then(|| stranger.clone());
    let found = problems(&settings, &places, "f", started_as, &look_up);
    found.iter().map(|problem| problem.to_string().replace(&d.to_string(), "D")).collect()
}

#[test]
fn missing_directories_are_fine_where_they_can_be_made() {
    let root = TestDirectory::new();
    chmod(&root, 0o777);
    assert_eq!(reported(&root, "", &account(0, &[0])), [""; 0]);
    assert_eq!(reported(&root, "", &account(4_000_000, &[])), [""; 0]);
    chmod(&root, 0o755);
    let owner = std::fs::metadata(&root).unwrap();
    let (uid, gid) = (owner.uid(), owner.gid());
    let why = format!(
        "user \"u4000000\" can't write to \"D\" (owner {uid}, group {gid}, mode 755); give it to the user or a group of it"
    );
    let maildir = format!("f: \"D/mail\" can't be made: {why}");
    // Root makes the first two before it becomes another user; Maildirs are made by that user, unless they are those of
    // system users, for whom the delivery agent stays root.
    let root_says = |users: &str| reported(&root, &format!("users = \"{users}\"\n"), &account(0, &[0]));
    assert_eq!(root_says("any"), *std::slice::from_ref(&maildir));
    assert_eq!(root_says("system"), [""; 0]);
    assert_eq!(
        reported(&root, "", &account(4_000_000, &[])),
        [
            format!("f:1:9: \"D/state\" can't be made: {why}"),
            format!("f:2:11: \"D/run\" can't be made: {why}"),
            maildir,
        ]
    );
}

#[test]
fn a_state_that_nobody_can_make_is_told() {
    let root = TestDirectory::new();
    let d = root.display();
    std::os::unix::fs::symlink(root.join("gone"), root.join("link")).unwrap();
    root.file("file", "");
    for (state, why) in [
        ("/proc/pillarbox".to_owned(), "can't be made: nobody can write to the file system of \"/proc\""),
        ("/sys/a/b".to_owned(), "can't be made: nobody can write to the file system of \"/sys\""),
        (format!("{d}/link"), "is a link that leads nowhere"),
        (format!("{d}/file"), "is not a directory"),
        (format!("{d}/file/below"), "can't be looked at"),
        (format!("{d}/none/below"), ""),
    ] {
        let root = account(0, &[0]);
        let found = directory(Path::new(&state), &root, &root).err().unwrap_or_default();
        assert!(found.contains(why) && found.is_empty() == why.is_empty(), "{state}: {found}");
        assert!(why.is_empty() || found.contains("; "), "{state}: {found}");
    }
}

#[test]
fn rights_go_by_owner_then_group_then_others() {
    let root = TestDirectory::new();
    let metadata = std::fs::metadata(&root).unwrap();
    let (owner, group) = (account(metadata.uid(), &[]), account(4_000_000, &[metadata.gid()]));
    let other = account(4_000_000, &[4_000_001]);
    for (mode, expected) in [
        (0o700, [true, false, false]),
        (0o770, [true, true, false]),
        (0o775, [true, true, false]),
        (0o777, [true, true, true]),
        (0o1733, [true, true, true]),
        (0o707, [true, false, true]),
        (0o720, [true, false, false]),
    ] {
        chmod(&root, mode);
        let metadata = std::fs::metadata(&root).unwrap();
        assert_eq!(
            [&owner, &group, &other].map(|who| may(&metadata, who, WRITE_AND_SEARCH)),
            expected,
            "{mode:o}"
        );
    }
}

#[test]
fn what_is_of_the_wrong_kind_is_named() {
    let root = TestDirectory::new();
    root.file("state", "");
    create_dir_all(root.join("run/c.sock")).unwrap();
    root.file("mail", "");
    assert_eq!(
        reported(&root, "", &account(0, &[0])),
        [
            "f:1:9: \"D/state\" is not a directory; name another",
            "f:2:11: \"D/run/c.sock\" exists and is not a socket; name another",
            "f: \"D/mail\" is not a directory; name another",
        ]
    );
}

#[test]
fn homes_may_belong_to_others_and_users_must_exist() {
    let root = TestDirectory::new();
    chmod(&root, 0o777);
    let text = "local.maildir = \"{home}/Maildir\"\nstate = \"/tmp\"\ncontrol = \"/tmp/c\"\n";
    let check = |text: &str, uid| {
        let look_up = |name: &str| (name == "pillarbox").then(|| account(4_000_000, &[]));
        let settings = parse(text, "f").unwrap();
        let found = problems(&settings, &Places::default(), "f", &account(uid, &[]), &look_up);
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(check(text, 0), [""; 0]);
    assert_eq!(check(text, 4_000_000), [""; 0]);
    let missing = check(&format!("{text}user = \"nobody-here\"\n"), 0);
    assert_eq!(
        missing,
        [
            "f: user \"nobody-here\" does not exist; make it (useradd --system --user-group --no-create-home nobody-here), or name another"
        ]
    );
}

#[test]
fn a_secret_is_closed_to_others() {
    let root = TestDirectory::new();
    let file = root.join("password");
    assert!(secret_file::check(&file).unwrap_err().contains("can't be read"));
    root.file("password", "x");
    for (mode, good) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false), (0o601, false)] {
        chmod(&file, mode);
        assert_eq!(secret_file::check(&file).is_ok(), good, "{mode:o}");
    }
}

#[test]
fn what_is_read_again_must_be_there_for_the_user() {
    let root = TestDirectory::new();
    chmod(&root, 0o755);
    let owner = std::fs::metadata(&root).unwrap();
    let (user, stranger) = (account(4_000_000, &[owner.gid()]), account(4_000_000, &[]));
    let wrong = |name: &str, mode: u32, who: &ProcessUser, is_set: bool| {
        let path = root.join(name);
        if mode > 0 {
            root.file_of_mode(name, "x", mode);
        }
        let mut settings = Settings::default();
        settings.auth.users = (name == "users").then(|| path.clone());
        settings.relay.password_file = (name == "password").then(|| path.clone());
        settings.relay.ca_file = (name == "anchors").then(|| path.clone());
        let place = FilePosition { line: 1, column: 1 };
        let places = Places(if is_set { vec![("auth", "users", place)] } else { Vec::new() });
        let mut found = read_again(&settings, &places, who);
        found.extend(passwords(&settings.relay, who).map(|(path, text)| {
            assert_eq!(Some(path), settings.relay.password_file);
            ("relay", "password_file", text)
        }));
        let _ = std::fs::remove_file(path);
        found.into_iter().map(|(_, key, text)| format!("{key}: {text}")).collect::<String>()
    };
    for (name, key) in [("users", "users"), ("password", "password_file"), ("anchors", "ca_file")] {
        assert_eq!(wrong(name, 0o640, &user, true), "", "{name}");
        let unreadable = wrong(name, 0o640, &stranger, true);
        assert!(unreadable.starts_with(&format!("{key}: user \"u4000000\" can't read")), "{unreadable}");
        let missing = wrong(name, 0, &user, true);
        assert!(missing.starts_with(&format!("{key}: ")) && missing.contains("can't be read"), "{missing}");
        let open = wrong(name, 0o644, &user, true);
        assert_eq!(open.contains("others may use"), name != "anchors", "{open}");
    }
    // The users file of the defaults may be missing, but not be open to others.
    assert_eq!(wrong("users", 0, &user, false), "");
    assert!(wrong("users", 0o644, &user, false).contains("others may use"));
}

#[test]
fn the_key_is_for_the_user_and_for_no_others() {
    let root = TestDirectory::new();
    chmod(&root, 0o777);
    std::fs::create_dir_all(root.join("pki")).unwrap();
    let d = root.display();
    let keys = format!("[tls]\ncertificate = \"{d}/pki/chain\"\nkey = \"{d}/pki/key\"\n");
    let missing = |key: &str| {
        format!(
            "f: \"D/pki/{key}\" can't be read: No such file or directory (os error 2); make the file{}",
            if key == "chain" { ", or name another" } else { "" }
        )
    };
    assert_eq!(reported(&root, &keys, &account(0, &[0])), [missing("chain"), missing("key")]);
    for name in ["chain", "key"] {
        root.file(&format!("pki/{name}"), "x");
    }
    let metadata = std::fs::metadata(root.join("pki/key")).unwrap();
    let (group, stranger) = (account(4_000_000, &[metadata.gid()]), account(4_000_000, &[]));
    for (folder, chain, key, who, wrong) in [
        (0o755, 0o644, 0o640, &group, &[][..]),
        (0o710, 0o640, 0o440, &group, &[]),
        (0o755, 0o644, 0o644, &group, &["others may use \"D/pki/key\""]),
        (0o755, 0o644, 0o600, &group, &["can't read \"D/pki/key\" because of \"D/pki/key\""]),
        (0o755, 0o644, 0o640, &stranger, &["can't read \"D/pki/key\" because of \"D/pki/key\""]),
        (0o700, 0o644, 0o640, &group, &["because of \"D/pki\" (", "because of \"D/pki\" ("]),
    ] {
        for (path, mode) in [("pki/chain", chain), ("pki/key", key), ("pki", folder)] {
            chmod(&root.join(path), mode);
        }
        let problems = reported(&root, &keys, who);
        assert_eq!(problems.len(), wrong.len(), "{problems:?}");
        for (problem, wrong) in problems.iter().zip(wrong) {
            assert!(problem.contains(wrong), "{problem}");
        }
    }
    // A link is as good as the way to where it leads.
    std::os::unix::fs::symlink(root.join("pki/key"), root.join("link")).unwrap();
    assert!(readable(&root.join("link"), &group).unwrap_err().contains(&format!("because of \"{d}/pki\" (")));
    chmod(&root.join("pki"), 0o755);
    assert_eq!(readable(&root.join("link"), &group), Ok(()));
    let dkim =
        |key: &str| format!("[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"{d}/pki/{key}\"\n");
    chmod(&root.join("pki/key"), 0o640);
    assert_eq!(reported(&root, &dkim("key"), &group), [""; 0]);
    let [open, closed, none] =
        reported(&root, &[dkim("chain"), dkim("key"), dkim("none")].concat(), &stranger).try_into().unwrap();
    assert!(open.contains("others may use \"D/pki/chain\""), "{open}");
    assert!(closed.contains("can't read \"D/pki/key\" because of"), "{closed}");
    assert!(none.contains("\"D/pki/none\" can't be read"), "{none}");
}
