//! Two providers with a login each: real servers tell, from their own logs, what they were shown.

use super::client::send;
use super::harness::{SOON, files, free_port, wait_until};
use super::probe::probe;
use super::smarthost::{Authority, PASSWORD, Postfix, dovecot, place};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const OTHER_PASSWORD: &str = "st4ple-battery";

/// The first provider refuses its login: the second one takes the mail, with its own login and sender.
#[test]
fn failover_shows_each_provider_its_own_login() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "smart", &["one.test", "two.test"], 30);
    let _dovecot = dovecot(&place);
    let users = place.path("dovecot.users");
    let joe = fs::read_to_string(&users).unwrap();
    fs::write(&users, format!("{joe}box@two.test:{{PLAIN}}{OTHER_PASSWORD}::::::\n")).unwrap();
    let (one, two) = (free_port(), free_port());
    let auth = "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=encrypt";
    let postfix = Postfix::start(
        &place,
        &[
            (one, "smart", &format!("{auth} -o syslog_name=one")),
            (two, "smart", &format!("{auth} -o syslog_name=two")),
        ],
    );
    let _dns = place.dns(&["--host-record=one.test,127.0.0.1", "--host-record=two.test,127.0.0.1"]);
    let secret = |name: &str, password: &str| {
        let path = place.write(name, &format!("{password}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let (wrong, right) = (secret("wrong", "wr0ng-horse"), secret("right", OTHER_PASSWORD));
    place.configure(&format!(
        "relay.smarthost = [\"smtp+starttls://one.test:{one}\", {{ url = \"smtp+starttls://two.test:{two}\", \
         username = \"box@two.test\", password_file = {right:?} }}]\n\
         relay.username = \"joe@smart.test\"\nrelay.password_file = {wrong:?}\nrelay.auth = \"plain\"\n\
         relay.ca_file = \"{}\"\nlog.level = \"trace\"\n",
        place.path("ca.pem").display()
    ));
    let daemon = place.serve();
    send(place.port, "a@box.test", "them@far.test", b"Subject: disk\r\n\r\nfull\r\n");
    place.wait_for_empty_queue(SOON);
    postfix.wait_for_log(&["two/smtpd", "sasl_username=box@two.test"], 1);
    let inbox = place.path("inbox/them/new");
    wait_until("it has arrived", SOON, || files(&inbox).len() == 1);
    let text = fs::read_to_string(&files(&inbox)[0]).unwrap();
    assert!(text.contains("Return-Path: <box@two.test>"), "{text}");
    assert_eq!(place.logged(&["event=connected", "relay=two.test", "auth=box@two.test"]).len(), 1);

    // A box that goes on with the first provider shows it the first login.
    fs::write(&wrong, format!("{PASSWORD}\n")).unwrap();
    let (code, seen) = probe(&place, &["them@far.test"]);
    assert!(code == Some(0) && seen.contains("found, for the login joe@smart.test"), "{seen}");
    daemon.stop();
    let log = postfix.log();
    let names = |service: &str, name: &str| {
        let is_it = |line: &&str| line.contains(&format!("{service}/")) && line.contains(name);
        log.lines().filter(is_it).count()
    };
    assert!(names("one", "authentication failed") > 0, "{log}");
    assert_eq!((names("one", "box@two.test"), names("two", "joe@smart.test")), (0, 0), "{log}");
    for secret in ["wr0ng-horse", PASSWORD, OTHER_PASSWORD] {
        assert!(!place.log().contains(secret), "{secret} is in the log");
    }
}
