use super::harness::{Place, free_port};
use super::smarthost::{Authority, FOR_LOGINS, PASSWORD, Postfix, dovecot, password_file, place};
use std::process::{Command, Output};

/// Probes with these arguments; returns the exit code and the output.
pub(super) fn probe(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    command.arg("-c").arg(place.path("pillarbox.toml")).arg("probe").args(arguments);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert!(!said.contains(PASSWORD), "{said}");
    (status.code(), said)
}

/// Each line as `mark step`, without advice and the last line.
fn steps(said: &str) -> Vec<String> {
    let lines = said.lines().filter(|line| ["ok ", "warn", "FAIL"].iter().any(|mark| line.starts_with(mark)));
    lines.map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
}

/// Postfix with Dovecot's AUTH within TLS: a working route ends with 0, and Postfix sees no message; then with `--send`;
/// then each broken route, with its exit code and advice.
#[test]
fn postfix_is_probed_and_gets_no_message_before_it_is_asked_for() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "smart", &["smart.test"], 30);
    let _dovecot = dovecot(&place);
    let port = free_port();
    let postfix = Postfix::start(&place, &[(port, "smart", FOR_LOGINS)]);
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let file = password_file(&place, PASSWORD);
    let ca = place.path("ca.pem").display().to_string();
    let configure = |scheme: &str, name: &str| {
        place.configure(&format!(
            "relay.smarthost = \"{scheme}://{name}:{port}\"\nrelay.username = \"joe@smart.test\"\n\
             relay.password_file = {file:?}\nrelay.ca_file = \"{ca}\"\n"
        ));
    };
    configure("smtp+starttls", "smart.test");
    let (code, said) = probe(&place, &["them@far.test"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        steps(&said),
        [
            "ok config",
            "warn queue",
            "ok clock",
            "ok recipient",
            "ok queue",
            "ok route",
            "ok address",
            "ok password",
            "ok connect",
            "ok greeting",
            "ok ehlo",
            "ok starttls",
            "ok tls",
            "ok ehlo",
            "ok auth",
            "ok mail",
            "ok rcpt",
            "ok rset",
            "ok quit",
        ],
        "{said}"
    );
    assert!(said.contains("certificate of smart.test by ca.test") && said.contains("; verified"), "{said}");
    postfix.wait_for_log(&["disconnect from", "auth=1", "mail=1 rcpt=1 rset=1 quit=1"], 1);
    assert!(!postfix.log().contains("qmgr["), "{}", postfix.log());

    let (code, said) = probe(&place, &["--json", "nobody@elsewhere.invalid"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.lines().all(|line| line.starts_with('{') && line.ends_with('}')), "{said}");
    assert!(
        said.ends_with("{\"address\":\"nobody@elsewhere.invalid\",\"accepted\":true,\"exit\":0}\n"),
        "{said}"
    );

    let (code, said) = probe(&place, &["--send", "them@far.test"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(steps(&said).ends_with(&["ok send".to_owned()]) && said.contains("delivered "), "{said}");
    postfix.wait_for_log(&["status=sent (delivered to maildir)"], 1);
    assert_eq!(place.queued(), 0);

    for (scheme, name, password, expected, words) in [
        ("smtp+starttls", "smart.test", "wr0ng", 77, "user name or the password is wrong"),
        ("smtps", "smart.test", PASSWORD, 69, "This port does not start with TLS"),
        ("smtp+starttls", "127.0.0.1", PASSWORD, 69, "The certificate is for another name"),
        ("smtp+starttls", "smatr.test", PASSWORD, 75, "check the spelling in relay.smarthost"),
        ("smtp+starttls", "smart.test", "", 78, "first line of the file"),
    ] {
        password_file(&place, password);
        configure(scheme, name);
        let (code, said) = probe(&place, &["them@far.test"]);
        assert_eq!(code, Some(expected), "{words}: {said}");
        assert!(said.contains(words) && said.contains("FAIL "), "{words}: {said}");
    }
    let (code, said) = probe(&place, &[]);
    assert_eq!((code, said.as_str()), (Some(64), "pillarbox: probe: give one ADDRESS\n"));
}

/// A local user, with a running daemon, and an unknown user.
#[test]
fn a_user_here_is_probed_beside_the_daemon() {
    let place = Place::new();
    place.configure("local.users = \"alice\"\n");
    let daemon = place.serve();
    place.wait_for_log(&["text=\"ready\""]);
    let (code, said) = probe(&place, &["alice"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(steps(&said).ends_with(&["ok route".to_owned(), "ok maildir".to_owned()]), "{said}");
    assert!(said.contains("the daemon runs"), "{said}");
    let (code, said) = probe(&place, &["bob"]);
    assert_eq!(code, Some(67), "{said}");
    assert!(said.contains("No user has this name"), "{said}");
    assert_eq!(place.mail("alice").len(), 0);
    let (code, said) = probe(&place, &["--send", "alice"]);
    assert_eq!((code, place.mail("alice").len()), (Some(0), 1), "{said}");
    daemon.stop();
}

/// What the daemon knows of the link is part of the way: a probe fails for now, and a test message waits and says so.
#[test]
fn a_message_that_would_wait_for_the_link_is_not_called_accepted() {
    let place = Place::new();
    let _dns = place.dns_of_far();
    let _sink = place.sink(&[]);
    place.configure("");
    let daemon = place.serve();
    place.wait_for_log(&["text=\"ready\""]);
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.arg("-c").arg(place.path("pillarbox.toml")).args(words);
        let Output { status, stdout, .. } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap())
    };
    assert_eq!(command(&["link", "down"]).0, Some(0));
    let (code, said) = probe(&place, &["them@far.test"]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("FAIL queue") && said.contains("run pillarbox link up"), "{said}");
    let (code, said) = probe(&place, &["--send", "them@far.test"]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("FAIL send") && said.contains("waits: the link is down"), "{said}");
    assert!(said.ends_with("would not be accepted now.\n"), "{said}");
    assert_eq!((place.queued(), place.sunk().len()), (1, 0), "{said}");
    // The daemon has it, and sends it when the link is up.
    assert_eq!(command(&["link", "up"]).0, Some(0));
    place.wait_for_empty_queue(std::time::Duration::from_secs(20));
    assert_eq!(place.sunk().len(), 1);
    let (code, said) = probe(&place, &["--send", "them@far.test"]);
    assert!(said.contains("them@far.test: delivered ("), "{said}");
    assert_eq!((code, place.sunk().len()), (Some(0), 2), "{said}");
    daemon.stop();
}
