use super::client::send;
use super::harness::{Place, Running, SOON, files, free_port, program, python, wait_until};
use super::smarthost::{Authority, FOR_LOGINS, Postfix, place, reconfigure};
use std::fs;

/// A token (RFC 7519) for this user, signed by HS256 with the key `KEY`, valid for this many seconds.
const TOKEN: &str = r#"
import base64, hashlib, hmac, json, sys, time
def part(octets): return base64.urlsafe_b64encode(octets).rstrip(b"=")
user, seconds = sys.argv[1], int(sys.argv[2])
now = int(time.time())
claims = {"sub": user, "email": user, "iat": now - 7200, "nbf": now - 7200, "exp": now + seconds}
text = b".".join(part(json.dumps(it).encode()) for it in ({"alg": "HS256", "typ": "JWT"}, claims))
print((text + b"." + part(hmac.new(b"KEY", text, hashlib.sha256).digest())).decode())
"#;

/// Dovecot's AUTH for Postfix, which verifies the tokens itself.
pub(super) fn dovecot(place: &Place) -> Running {
    let d = place.dir.display();
    fs::create_dir_all(place.path("keys/default/HS256")).unwrap();
    place.write("keys/default/HS256/default", &pillarbox::mail::base64::encode(b"KEY"));
    place.write(
        "oauth2.conf",
        &format!(
            "introspection_mode = local\nlocal_validation_key_dict = fs:posix:prefix={d}/keys/\n\
             username_attribute = email\n"
        ),
    );
    let config = place.write(
        "dovecot.conf",
        &format!(
            "base_dir = {d}/dovecot\nlog_path = {d}/dovecot.log\nssl = no\nprotocols =\nauth_failure_delay = 0\n\
             auth_mechanisms = xoauth2 oauthbearer\nauth_debug = yes\n\
             passdb {{\n driver = oauth2\n mechanisms = xoauth2 oauthbearer\n args = {d}/oauth2.conf\n}}\n\
             userdb {{\n driver = static\n args = uid=65534 gid=65534 home={d} allow_all_users=yes\n}}\n\
             service auth {{\n unix_listener auth-client {{\n mode = 0666\n }}\n}}\n\
             service anvil {{\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n"
        ),
    );
    let dovecot = Running::start(program("dovecot", "dovecot-core").args(["-F", "-c"]).arg(config));
    wait_until("Dovecot listens", SOON, || place.path("dovecot/auth-client").exists());
    dovecot
}

/// Both mechanisms use the token of the command; an expired one pauses the route until the command prints another.
#[test]
fn postfix_with_dovecots_auth_takes_tokens() {
    let Some(place) = place() else { return };
    Authority::new(&place).sign(&place, "smart", &["smart.test"], 30);
    let _dovecot = dovecot(&place);
    let port = free_port();
    let postfix = Postfix::start(&place, &[(port, "smart", FOR_LOGINS)]);
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let good = python(TOKEN, &["joe@smart.test", "3600"]);
    let ended = python(TOKEN, &["joe@smart.test", "-3600"]);
    let settings = |mechanism: &str, token: &str| {
        let file = place.write("token", token);
        format!(
            "relay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.username = \"joe@smart.test\"\n\
             relay.password_command = \"/bin/cat {}\"\nrelay.auth = \"{mechanism}\"\nrelay.ca_file = \"{}\"\n\
             queue.retry = \"1h\"\nlog.level = \"trace\"\n",
            file.display(),
            place.path("ca.pem").display()
        )
    };
    place.configure(&settings("xoauth2", &good));
    let daemon = place.serve();
    let mechanisms = ["xoauth2", "oauthbearer"];
    for (number, mechanism) in mechanisms.into_iter().enumerate() {
        reconfigure(&place, &daemon, &settings(mechanism, &ended));
        send(place.port, "a@box.test", "them@far.test", b"Subject: disk\r\n\r\nfull\r\n");
        let paused = || place.logged(&["event=paused", "status=4.7.8", "authentication failed"]).len();
        wait_until("the route pauses", SOON, || paused() == number + 1);
        assert_eq!(place.queued(), 1);
        reconfigure(&place, &daemon, &settings(mechanism, &good));
        place.wait_for_empty_queue(SOON);
        let method = format!("sasl_method={},", mechanism.to_uppercase());
        postfix.wait_for_log(&[&method, "sasl_username=joe@smart.test"], 1);
    }
    wait_until("both have arrived", SOON, || files(&place.path("inbox/them/new")).len() == mechanisms.len());
    daemon.stop();
    for token in [good, ended] {
        assert!(!place.log().contains(token.trim()), "a token is in the log");
    }
}
