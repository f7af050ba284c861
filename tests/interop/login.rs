//! `pillarbox login` from nothing to a delivered alert, with a provider in Python and Postfix with Dovecot's OAuth as the
//! smarthost: each flow and its errors, tokens that end, and kills around refreshes.

use super::client::send;
use super::harness::{Place, Running, SOON, files, free_port, program, wait_until};
use super::oauth::dovecot;
use super::smarthost::{Authority, FOR_LOGINS, Postfix, place};
use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// A provider: device codes and tokens by HTTPS. Its refresh tokens change with each use, and the one before lives until
/// the new one is used; with a `strict` file, no longer. Access tokens are those of a small issuer (HS256), and live as long
/// as the file `lifetime` says, whatever the provider tells (`claimed`). The file `next` holds errors that it answers first, one a line.
const PROVIDER: &str = r#"
import base64, hashlib, hmac, http.server, json, os, ssl, sys, time, urllib.parse
port, directory = int(sys.argv[1]), sys.argv[2]
at = lambda name: os.path.join(directory, name)
def read(name, default):
    try: return open(at(name)).read().strip()
    except FileNotFoundError: return default
def part(octets): return base64.urlsafe_b64encode(octets).rstrip(b"=")
def token(lifetime):
    now = int(time.time())
    claims = {"sub": "joe@smart.test", "email": "joe@smart.test", "iat": now - 60, "nbf": now - 60, "exp": now + lifetime, "n": os.urandom(4).hex()}
    text = b".".join(part(json.dumps(it).encode()) for it in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (text + b"." + part(hmac.new(b"KEY", text, hashlib.sha256).digest())).decode()
valid = {"newest": 0, "used": 0}
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def answer(self, status, body, **fields):
        body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in fields.items(): self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        log = dict(form); log["path"] = self.path
        with open(at("provider.log"), "a") as f: f.write(json.dumps(log) + "\n")
        if self.path == "/device":
            return self.answer(200, {"device_code": "D-1", "user_code": "WXYZ-1234", "verification_uri": "https://login.test/go", "expires_in": int(read("code-lifetime", "60")), "interval": 1})
        errors = read("next", "").split()
        if errors:
            open(at("next"), "w").write("\n".join(errors[1:]))
            status = int(errors[0]) if errors[0].isdigit() else 400
            return self.answer(status, {"error": errors[0], "error_description": "as the test says"}, Retry_After="1")
        if form.get("grant_type") == "refresh_token":
            number = int(form["refresh_token"].split("-")[1])
            if number not in ((valid["newest"],) if os.path.exists(at("strict")) else (valid["newest"], valid["used"])):
                return self.answer(400, {"error": "invalid_grant", "error_description": "AADSTS70008: too old"})
            valid["used"] = number
        elif form.get("grant_type") == "authorization_code":
            challenge = part(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
            if form["code"] != "C/1" or challenge != read("challenge", ""):
                return self.answer(400, {"error": "invalid_grant"})
        elif form.get("grant_type") == "client_credentials":
            if form.get("client_secret") != "s3cret": return self.answer(401, {"error": "invalid_client"})
        valid["newest"] += 1
        time.sleep(float(read("delay", "0")))
        lifetime = int(read("lifetime", "3600"))
        reply = {"token_type": "Bearer", "access_token": token(lifetime), "expires_in": int(read("claimed", str(lifetime)))}
        if form["grant_type"] != "client_credentials": reply["refresh_token"] = "R-%d" % valid["newest"]
        self.answer(200, reply)
class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *args): pass
server = Server(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(at("login.pem"), at("login.key"))
server.socket = context.wrap_socket(server.socket, server_side=True)
open(at("provider.ready"), "w").close()
server.serve_forever()
"#;

/// The provider, the smarthost that takes its tokens, and a box with a configuration for both.
struct Stage {
    place: Place,
    port: u16,
    smarthost: u16,
    _running: (Running, Running, Postfix, Running),
}

impl Stage {
    fn new() -> Option<Self> {
        let place = place()?;
        let authority = Authority::new(&place);
        authority.sign(&place, "smart", &["smart.test"], 30);
        authority.sign(&place, "login", &["login.test"], 30);
        let (port, smarthost) = (free_port(), free_port());
        let mut provider = program("python3", "python3");
        provider.args(["-c", PROVIDER, &port.to_string()]).arg(&place.dir);
        let provider = Running::start(&mut provider);
        wait_until("the provider listens", SOON, || place.path("provider.ready").exists());
        let dovecot = dovecot(&place);
        let postfix = Postfix::start(&place, &[(smarthost, "smart", FOR_LOGINS)]);
        let dns = place.dns(&["--host-record=smart.test,127.0.0.1", "--host-record=login.test,127.0.0.1"]);
        Some(Self { place, port, smarthost, _running: (provider, dovecot, postfix, dns) })
    }

    fn configure(&self, more: &str) {
        let Self { place, port, smarthost, .. } = self;
        let retry = if more.contains("queue.retry") { "" } else { "queue.retry = \"1h\"\n" };
        place.configure(&format!(
            "relay.smarthost = \"smtp+starttls://smart.test:{smarthost}\"\nrelay.username = \"joe@smart.test\"\n\
             relay.auth = \"xoauth2\"\nrelay.ca_file = \"{}\"\noauth.client_id = \"box\"\noauth.scope = \"mail\"\n\
             oauth.token_url = \"https://login.test:{port}/token\"\noauth.device_url = \"https://login.test:{port}/device\"\n\
             oauth.authorization_url = \"https://login.test:{port}/auth\"\n{retry}log.level = \"debug\"\n{more}",
            place.path("ca.pem").display()
        ));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
        command.arg("-c").arg(self.place.path("pillarbox.toml")).args(arguments);
        command
    }

    fn login(&self, arguments: &[&str]) -> Output {
        self.command(&[&["login"], arguments].concat()).stdin(Stdio::null()).output().unwrap()
    }

    /// The forms that the provider was sent since the last call.
    fn asked(&self) -> Vec<String> {
        let asked = fs::read_to_string(self.place.path("provider.log")).unwrap_or_default();
        let _ = fs::remove_file(self.place.path("provider.log"));
        asked.lines().map(str::to_owned).collect()
    }

    fn delivered(&self) -> usize {
        files(&self.place.path("inbox/them/new")).len()
    }

    fn alert(&self) {
        send(self.place.port, "a@box.test", "them@far.test", b"Subject: disk\r\n\r\nfull\r\n");
    }
}

fn text(output: &Output) -> String {
    [output.stdout.as_slice(), &output.stderr].concat().iter().map(|&octet| char::from(octet)).collect()
}

#[test]
fn from_nothing_to_a_delivered_alert_and_tokens_that_end_make_no_pause() {
    let Some(stage) = Stage::new() else { return };
    let place = &stage.place;
    stage.configure("");
    let daemon = place.serve();
    stage.alert();
    place.wait_for_log(&["event=paused", "no token yet; run: pillarbox login joe@smart.test"]);
    place.wait_for_log(&["event=alarm state=alarm reason=token"]);
    let status = stage.login(&["--status"]);
    assert_eq!(status.status.code(), Some(77), "{}", text(&status));
    let check = stage.command(&["status", "--check"]).output().unwrap();
    assert_eq!(check.status.code(), Some(2), "{}", text(&check));
    assert!(text(&check).contains("run pillarbox login): 1"), "{}", text(&check));
    // The first token ends within seconds, and nobody has been told.
    place.write("lifetime", "12");
    place.write("claimed", "3600");
    // A code, a person who takes a while, and a device that asks too often.
    place.write("next", "authorization_pending\nslow_down");
    let login = stage.login(&[]);
    assert_eq!(login.status.code(), Some(0), "{}", text(&login));
    let said = text(&login);
    assert!(said.contains("https://login.test/go") && said.contains("WXYZ-1234"), "{said}");
    assert!(said.contains("Logged in at smart.test as joe@smart.test"), "{said}");
    assert_eq!(stage.asked().len(), 4, "the device code, and three questions for the token");
    // The waiting alert leaves by itself: login has the daemon try the queue.
    wait_until("the alert arrives", SOON, || stage.delivered() == 1);
    assert!(text(&stage.login(&["--status"])).contains("and is refreshed before"));
    let json = text(&stage.command(&["status", "--json"]).output().unwrap());
    assert!(json.contains("\"tokens\":[{\"login\":\"joe@smart.test\",\"state\":\"good\""), "{json}");
    let file =
        files(&place.path("state/tokens")).into_iter().find(|path| path.extension().is_none()).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    std::thread::sleep(Duration::from_secs(13));
    let ended = fs::read(&file).unwrap();
    place.write("lifetime", "4");
    fs::remove_file(place.path("claimed")).unwrap();
    stage.alert();
    wait_until("Dovecot refuses the token, and the alert arrives", SOON, || stage.delivered() == 2);
    assert!(fs::read(&file).unwrap() != ended, "another token was fetched");
    for number in 3..5 {
        std::thread::sleep(Duration::from_secs(5));
        stage.alert();
        wait_until("the alert arrives", SOON, || stage.delivered() == number);
    }
    assert!(place.logged(&["event=paused"]).len() == 1, "{}", place.log());
    assert!(stage.asked().len() >= 3, "tokens were refreshed");
    daemon.stop();
    let kept = fs::read_to_string(&file).unwrap();
    let secrets = kept.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        ["access", "refresh", "newer"].contains(&key).then_some(value)
    });
    for secret in secrets {
        assert!(!place.log().contains(secret), "a token is in the log");
        assert!(!json.contains(secret), "a token is in the status");
    }
}

#[test]
fn kills_around_refreshes_leave_a_login_that_works() {
    let Some(stage) = Stage::new() else { return };
    let place = &stage.place;
    stage.configure("queue.retry = \"1s\"\n");
    place.write("lifetime", "4");
    assert_eq!(stage.login(&[]).status.code(), Some(0));
    place.write("lifetime", "2");
    place.write("delay", "0.1");
    let mut sent = 0;
    for round in 0..10_u64 {
        let mut daemon = place.serve();
        // The connection of the message before, and its token, have ended.
        std::thread::sleep(Duration::from_millis(2300));
        stage.alert();
        sent += 1;
        // Before, within and after the answer of the provider, and the login behind it.
        std::thread::sleep(Duration::from_millis(40 + 20 * round));
        daemon.0.child.kill().unwrap();
        daemon.wait();
    }
    place.write("lifetime", "3600");
    let daemon = place.serve();
    place.wait_for_empty_queue(SOON);
    wait_until("all have arrived", SOON, || stage.delivered() >= sent);
    assert!(place.logged(&["state=refused"]).is_empty(), "{}", place.log());
    let asked = stage.asked().iter().filter(|form| form.contains("refresh_token")).count();
    assert!(asked >= 8, "the kills hit no refresh: only {asked}");
    daemon.stop();
}

#[test]
fn each_flow_and_each_refusal_says_what_it_is() {
    let Some(stage) = Stage::new() else { return };
    let place = &stage.place;
    stage.configure("");
    for (next, code, words) in [
        ("access_denied", 77, "has said no"),
        ("authorization_pending\nexpired_token", 75, "not typed in time"),
        ("invalid_client", 78, "check oauth.client_id"),
        ("503\n429\nauthorization_pending\ninvalid_scope", 78, "check oauth.scope"),
    ] {
        place.write("next", next);
        let login = stage.login(&[]);
        assert_eq!(login.status.code(), Some(code), "{next}: {}", text(&login));
        assert!(text(&login).contains(words), "{next}: {}", text(&login));
    }
    place.write("code-lifetime", "2");
    place.write("next", "authorization_pending\nauthorization_pending\nauthorization_pending");
    assert_eq!(stage.login(&[]).status.code(), Some(75));
    place.write("next", "");
    assert!(
        files(&place.path("state/tokens")).iter().all(|path| path.extension().is_some()),
        "nothing is kept"
    );

    // The answer of a browser is pasted.
    stage.configure("oauth.flow = \"paste\"\n");
    let paste = |make: &dyn Fn(&str) -> String| {
        let mut command = stage.command(&["login", "joe@smart.test"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut shown = String::new();
        let mut reader = std::io::BufReader::new(child.stdout.as_mut().unwrap());
        while !shown.contains("code_challenge=") {
            assert!(std::io::BufRead::read_line(&mut reader, &mut shown).unwrap() > 0, "{shown}");
        }
        let part = |name: &str| {
            let rest = shown.split_once(&format!("{name}=")).unwrap().1;
            rest.split(['&', '\n']).next().unwrap().to_owned()
        };
        place.write("challenge", &part("code_challenge"));
        writeln!(child.stdin.take().unwrap(), "{}", make(&part("state"))).unwrap();
        child.wait_with_output().unwrap()
    };
    let other = paste(&|_| "http://127.0.0.1/?code=C%2F1&state=other".into());
    assert_eq!(other.status.code(), Some(77), "{}", text(&other));
    assert!(text(&other).contains("belongs to another login"));
    let right = paste(&|state| format!("http://127.0.0.1/?state={state}&code=C%2F1"));
    assert_eq!(right.status.code(), Some(0), "{}", text(&right));

    // The client's own credentials, and a smarthost that takes no token of this issuer.
    let secret = place.write("secret", "wrong\n");
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    stage.configure(&format!("oauth.flow = \"client\"\noauth.client_secret_file = {secret:?}\n"));
    assert_eq!(stage.login(&[]).status.code(), Some(78));
    place.write("secret", "s3cret\n");
    let login = stage.login(&[]);
    assert_eq!(login.status.code(), Some(0), "{}", text(&login));
    place.write("lifetime", "-3600");
    place.write("keys/default/HS256/default", &pillarbox::mail::base64::encode(b"OTHER"));
    let refused = stage.login(&[]);
    assert!(matches!(refused.status.code(), Some(77 | 78)), "{}", text(&refused));
    let usage = stage.login(&["nobody"]);
    assert_eq!(usage.status.code(), Some(64), "{}", text(&usage));
}
