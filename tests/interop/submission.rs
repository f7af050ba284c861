use super::client::{Client, without_trace};
use super::fail2ban;
use super::harness::{Daemon, Place, free_port, program, run, wait_until};
use openssl::ssl::{SslConnector, SslMethod, SslStream};
use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Lines that a careless client or server would change, all of them too short to be encoded.
const BODY: &str =
    "a line\n.a line with a dot\n..two dots\n.\n\n Grüße, and a blank at the end \nFrom here\n";
/// Users, their passwords, and the tools for their hashes.
pub const USERS: [(&str, &str); 3] = [("tim", "ge heim\"\\$&="), ("sam@box.test", "secret"), ("eve", "p4ss")];

/// A pillarbox with all kinds of listeners, a certificate that clients verify, and users.
#[derive(Debug)]
pub struct Post {
    pub place: Place,
    pub submission: u16,
    pub submissions: u16,
    pub lmtp: u16,
    /// An address of this machine that is not on loopback; `None` without a network.
    pub own: Option<IpAddr>,
    pub certificate: PathBuf,
}

impl Client {
    /// Sends STARTTLS and makes the handshake.
    pub fn start_tls(mut self, post: &Post) -> Client<SslStream<TcpStream>> {
        self.write(b"STARTTLS\r\n").unwrap();
        self.expect("220").unwrap();
        self.shake_hands(post)
    }

    /// Makes the handshake at any point of the session.
    pub fn shake_hands(self, post: &Post) -> Client<SslStream<TcpStream>> {
        Client::over(tls(post).connect("localhost", self.into_stream()).unwrap())
    }
}

impl Client<SslStream<TcpStream>> {
    /// Connects to `submissions`, and says EHLO.
    pub fn within_tls(post: &Post) -> Self {
        Client::connect(post.submissions).unwrap().shake_hands(post).greeted().unwrap()
    }
}

/// A TLS connector that trusts the server of a test.
pub fn tls(post: &Post) -> SslConnector {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_ca_file(&post.certificate).unwrap();
    connector.build()
}

impl Post {
    pub fn new(more: &str) -> Self {
        let place = Place::new();
        let own = own_address();
        let certificate = make_certificate(&place, own);
        let post = Self {
            place,
            submission: free_port(),
            submissions: free_port(),
            lmtp: free_port(),
            own,
            certificate,
        };
        post.write_users(&USERS);
        post.configure(more);
        post
    }

    /// Writes the configuration; `more`: lines with dotted keys.
    pub fn configure(&self, more: &str) {
        let d = self.place.dir.display();
        let mut text = format!(
            "tls.certificate = \"{d}/chain.pem\"\ntls.key = \"{d}/key.pem\"\nauth.users = \"{d}/users\"\n{more}\n"
        );
        let kinds = [("submission", self.submission), ("submissions", self.submissions), ("lmtp", self.lmtp)];
        for (kind, port) in kinds {
            let own = self.own.map(|ip| format!(", \"{ip}:{port}\"")).unwrap_or_default();
            text.push_str(&format!(
                "[[listener]]\nkind = \"{kind}\"\naddress = [\"127.0.0.1:{port}\"{own}]\n"
            ));
        }
        self.place.configure(&text);
    }

    /// Writes the users file: hashes by `pillarbox passwd` and by OpenSSL, with and without Dovecot's prefix.
    pub fn write_users(&self, users: &[(&str, &str)]) {
        let mut text = String::from("# NAME:HASH\n");
        for (number, (name, password)) in users.iter().enumerate() {
            match number {
                0 => text.push_str(&output_of(
                    Command::new(env!("CARGO_BIN_EXE_pillarbox")).args(["passwd", name]),
                    password,
                )),
                _ => {
                    let (kind, prefix) = if number == 1 { ("-6", "{SHA512-CRYPT}") } else { ("-5", "") };
                    let hash =
                        output_of(program("openssl", "openssl").args(["passwd", kind, "-stdin"]), password);
                    text.push_str(&format!("{name}:{prefix}{hash}"));
                }
            }
        }
        let users = self.place.write("users", &text);
        std::fs::set_permissions(users, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }

    /// The port of a client that begins in clear, or within TLS.
    pub fn port(&self, is_implicit: bool) -> u16 {
        if is_implicit { self.submissions } else { self.submission }
    }

    /// Reads the configuration again.
    pub fn reload(&self, daemon: &Daemon) {
        let read = || self.place.logged(&["configuration read again"]).len();
        let before = read();
        daemon.signal("HUP");
        wait_until("the configuration is read again", super::harness::SOON, || read() > before);
    }
}

/// The first IPv4 address of this machine outside loopback; not every client knows IPv6.
fn own_address() -> Option<IpAddr> {
    let output = Command::new("hostname").arg("-I").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let addresses = text.split_whitespace().filter_map(|word| word.parse::<IpAddr>().ok());
    let own = addresses.filter(|ip| ip.is_ipv4()).find(|ip| TcpListener::bind((*ip, 0)).is_ok());
    if own.is_none() {
        println!("note: this machine has no address but loopback: clients from elsewhere are left out");
    }
    own
}

fn make_certificate(place: &Place, own: Option<IpAddr>) -> PathBuf {
    let own = own.map(|ip| format!(",IP:{ip}")).unwrap_or_default();
    let (certificate, key) = (place.path("chain.pem"), place.path("key.pem"));
    let mut command = program("openssl", "openssl");
    command.args(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost".split(' '),
    );
    command.args(["-addext", &format!("subjectAltName=DNS:localhost,IP:127.0.0.1{own}")]);
    run(command.arg("-out").arg(&certificate).arg("-keyout").arg(&key));
    certificate
}

/// Runs a program with this input; panics unless it succeeds. Returns its output.
fn output_of(command: &mut Command, input: &str) -> String {
    let output = run_with(command, input.as_bytes());
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn run_with(command: &mut Command, input: &[u8]) -> Output {
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // A program that fails early does not read its input.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), input);
    child.wait_with_output().unwrap()
}

/// The task of a client: a message from `s@box.test` to `u@box.test`.
struct Task<'a> {
    post: &'a Post,
    is_implicit: bool,
    name: &'a str,
    password: &'a str,
}

impl Task<'_> {
    fn port(&self) -> String {
        self.post.port(self.is_implicit).to_string()
    }

    fn certificate(&self) -> &Path {
        &self.post.certificate
    }

    /// A home directory without settings.
    fn client(&self, name: &str, package: &str) -> Command {
        let mut command = program(name, package);
        command.current_dir(&self.post.place.dir).env("HOME", &self.post.place.dir).env("LC_ALL", "C.UTF-8");
        command.env("DEAD", self.post.place.path("dead.letter"));
        command
    }
}

/// A whole message with LF line ends, for clients that send a file unchanged.
fn message() -> String {
    format!(
        "From: s@box.test\nTo: u@box.test\nSubject: hi\nDate: Mon, 23 Nov 2026 08:00:00 +0000\nMessage-ID: <1@box.test>\nMIME-Version: 1.0\n\n{BODY}"
    )
}

/// The part of the message that a client leaves unchanged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    All,
    Body,
}

/// A client sends by STARTTLS and within TLS, and fails with a wrong password.
fn submits(kept: Kept, client: impl Fn(&Task<'_>) -> (Command, Vec<u8>)) {
    let post = Post::new("");
    let _daemon = post.place.serve();
    for (number, is_implicit) in [false, true].into_iter().enumerate() {
        let (name, password) = USERS[number];
        let task = Task { post: &post, is_implicit, name, password };
        let (mut command, input) = client(&task);
        let output = run_with(&mut command, &input);
        assert!(output.status.success(), "{command:?}: {output:?}\n{}", post.place.log());
        arrived(&post, kept, name, number + 1);
    }
    for (number, is_implicit) in [false, true].into_iter().enumerate() {
        let task = Task { post: &post, is_implicit, name: "eve", password: "wrong" };
        let (mut command, input) = client(&task);
        let output = run_with(&mut command, &input);
        assert!(!output.status.success(), "{command:?}: {output:?}");
        let lines = post.place.logged(&["event=auth_failed", "name=\"eve\""]);
        assert!(lines.len() > number, "{output:?}\n{}", post.place.log());
        let texts: Vec<&str> = lines.iter().map(|line| line.split_once(' ').unwrap().1).collect();
        if let Some(found) = fail2ban::found(&texts) {
            assert!(found.iter().all(|address| address == "127.0.0.1"), "{lines:?}: {found:?}");
        }
    }
    assert_eq!(post.place.mail("u").len(), 2, "nothing came without the password");
}

/// Checks that the newest of `count` messages is unchanged, and that trace and log name its protocol.
fn arrived(post: &Post, kept: Kept, name: &str, count: usize) {
    let mail = post.place.wait_for_mail("u", count);
    let (trace, content) = without_trace(mail.last().unwrap());
    assert!(
        trace.contains(" with ESMTPSA id ") && trace.contains("(using TLSv1.3 with cipher TLS_"),
        "{trace}"
    );
    let content = String::from_utf8(content).unwrap();
    match kept {
        Kept::All => assert_eq!(content, message()),
        Kept::Body => {
            assert!(content.ends_with(&format!("\n\n{BODY}")), "{content}");
            assert!(content.contains("Subject: hi\n"), "{content}");
        }
    }
    let line = post.place.logged(&["event=accepted", &format!("auth={name}")]);
    assert_eq!(line.len(), 1, "{}", post.place.log());
    assert!(line[0].contains(" client=127.0.0.1 tls=\"TLSv1.3 with cipher TLS_"), "{line:?}");
}

/// The options of swaks for a login.
fn swaks(task: &Task<'_>, mechanism: &str) -> (Command, Vec<u8>) {
    let mut command = task.client("swaks", "swaks");
    command.args([
        "--server",
        "127.0.0.1",
        "--port",
        &task.port(),
        "--from",
        "s@box.test",
        "--to",
        "u@box.test",
    ]);
    command.arg(if task.is_implicit { "--tls-on-connect" } else { "--tls" });
    command.arg("--tls-verify").arg("--tls-ca-path").arg(task.certificate());
    command.args(["--auth", mechanism, "--auth-user", task.name, "--auth-password", task.password]);
    task.post.place.write("message", message().trim_end_matches('\n'));
    command.args(["--data", "@message"]);
    (command, Vec::new())
}

#[test]
fn swaks_by_plain() {
    submits(Kept::All, |task| swaks(task, "PLAIN"));
}

#[test]
fn swaks_by_login() {
    submits(Kept::All, |task| swaks(task, "LOGIN"));
}

#[test]
fn msmtp() {
    for mechanism in ["plain", "login"] {
        submits(Kept::All, |task| {
            let mut command = task.client("msmtp", "msmtp");
            command.args(["--host=127.0.0.1", &format!("--port={}", task.port()), "--from=s@box.test"]);
            command.arg(format!("--tls-starttls={}", if task.is_implicit { "off" } else { "on" }));
            command.arg(format!("--tls-trust-file={}", task.certificate().display())).arg("--tls=on");
            command.args([&format!("--auth={mechanism}"), &format!("--user={}", task.name)]);
            task.post.place.write("password", task.password);
            command.args(["--passwordeval=cat password", "--set-from-header=off", "--", "u@box.test"]);
            (command, message().into_bytes())
        });
    }
}

#[test]
fn curl() {
    for mechanism in ["PLAIN", "LOGIN"] {
        submits(Kept::All, |task| {
            let mut command = task.client("curl", "curl");
            let scheme = if task.is_implicit { "smtps" } else { "smtp" };
            command.args([
                "--verbose",
                "--ssl-reqd",
                &format!("{scheme}://127.0.0.1:{}/client.test", task.port()),
            ]);
            command.arg("--cacert").arg(task.certificate());
            command.args(["--user", &format!("{}:{}", task.name, task.password)]);
            command.args(["--login-options", &format!("AUTH={mechanism}")]);
            command.args(["--mail-from", "s@box.test", "--mail-rcpt", "u@box.test", "--upload-file", "-"]);
            (command, message().replace('\n', "\r\n").into_bytes())
        });
    }
}

#[test]
fn python_smtplib() {
    const SCRIPT: &str = r#"
import smtplib, ssl, sys
port, implicit, ca, name, password, mechanism = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
if implicit == "true":
    s = smtplib.SMTP_SSL("127.0.0.1", int(port), context=context)
else:
    s = smtplib.SMTP("127.0.0.1", int(port))
    s.starttls(context=context)
s.ehlo()
assert s.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"], s.esmtp_features
assert s.has_extn("requiretls") and not s.has_extn("starttls")
s.esmtp_features["auth"] = mechanism
try:
    s.login(name, password)
except smtplib.SMTPAuthenticationError as e:
    assert e.smtp_code == 535 and e.smtp_error == b"5.7.8 wrong name or password", e
    raise
assert s.sendmail("s@box.test", ["u@box.test"], sys.stdin.buffer.read()) == {}
s.quit()
"#;
    for mechanism in ["PLAIN", "LOGIN"] {
        submits(Kept::All, |task| {
            let mut command = task.client("python3", "python3");
            command.args(["-c", SCRIPT, &task.port(), &task.is_implicit.to_string()]).arg(task.certificate());
            command.args([task.name, task.password, mechanism]);
            (command, message().replace('\n', "\r\n").into_bytes())
        });
    }
}

#[test]
fn lettre() {
    use lettre::transport::smtp::authentication::{Credentials, Mechanism};
    use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
    use lettre::{SmtpTransport, Transport, address::Envelope};
    for mechanism in [Mechanism::Plain, Mechanism::Login] {
        let post = Post::new("");
        let _daemon = post.place.serve();
        let send = |is_implicit, name: &str, password: &str| {
            let ca = Certificate::from_pem(&fs::read(&post.certificate).unwrap()).unwrap();
            let tls =
                TlsParameters::builder("localhost".into()).add_root_certificate(ca).build_native().unwrap();
            let client = SmtpTransport::builder_dangerous("127.0.0.1").port(post.port(is_implicit));
            let client = client.tls(if is_implicit { Tls::Wrapper(tls) } else { Tls::Required(tls) });
            let client = client.authentication(vec![mechanism]);
            let client = client.credentials(Credentials::new(name.into(), password.into())).build();
            let (from, to) = ("s@box.test".parse().unwrap(), "u@box.test".parse().unwrap());
            let envelope = Envelope::new(Some(from), vec![to]).unwrap();
            // It adds a line end.
            client.send_raw(&envelope, message().trim_end().replace('\n', "\r\n").as_bytes())
        };
        for (number, is_implicit) in [false, true].into_iter().enumerate() {
            let (name, password) = USERS[number];
            send(is_implicit, name, password).unwrap();
            arrived(&post, Kept::All, name, number + 1);
            let error = send(is_implicit, name, "wrong").unwrap_err();
            assert_eq!(error.status().unwrap().to_string(), "535", "{error:?}");
        }
    }
}

#[test]
fn s_nail() {
    for mechanism in ["plain", "login"] {
        submits(Kept::Body, |task| {
            let mut command = task.client("s-nail", "s-nail");
            // In a URL the name and the password are percent-encoded; of a certificate it knows the names only.
            let encode = |octet: u8| match octet {
                b'a'..=b'z' | b'0'..=b'9' | b'.' => char::from(octet).to_string(),
                _ => format!("%{octet:02X}"),
            };
            let encoded = |text: &str| text.bytes().map(encode).collect::<String>();
            let scheme = if task.is_implicit { "smtps" } else { "smtp" };
            let url = format!(
                "{scheme}://{}:{}@localhost:{}",
                encoded(task.name),
                encoded(task.password),
                task.port()
            );
            command.args(["-:/", "-S", "v15-compat", "-S", &format!("mta={url}"), "-S", "sendwait"]);
            command.args(["-S", &format!("smtp-auth={mechanism}"), "-S", "from=s@box.test"]);
            command.args(["-S", "smtp-use-starttls", "-S", "tls-verify=strict", "-S", "mime-encoding=8b"]);
            command.arg("-S").arg(format!("tls-ca-file={}", task.certificate().display()));
            command.args(["-S", "ttycharset=UTF-8", "-s", "hi", "u@box.test"]);
            (command, BODY.as_bytes().to_vec())
        });
    }
}

#[test]
fn mutt() {
    submits(Kept::Body, |task| {
        let scheme = if task.is_implicit { "smtps" } else { "smtp" };
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$");
        let name = task.name.replace('@', "%40");
        let settings = format!(
            "set smtp_url=\"{scheme}://{name}@127.0.0.1:{}\" smtp_pass=\"{}\" from=s@box.test use_from=yes\n\
             set ssl_starttls=yes ssl_force_tls=yes certificate_file={:?} ssl_use_system_certs=no\n\
             set allow_8bit=yes charset=utf-8 send_charset=utf-8 copy=no record=\"\" hostname=box.test\n",
            task.port(),
            quoted(task.password),
            task.certificate(),
        );
        let settings = task.post.place.write("muttrc", &settings);
        let mut command = task.client("mutt", "mutt");
        command.arg("-n").arg("-F").arg(settings).args(["-s", "hi", "u@box.test"]);
        (command, BODY.as_bytes().to_vec())
    });
}

#[test]
fn git_send_email() {
    submits(Kept::Body, |task| {
        let mut command = task.client("git", "git");
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CEILING_DIRECTORIES", &task.post.place.dir);
        let encryption = if task.is_implicit { "ssl" } else { "tls" };
        command.args([
            "send-email",
            "--smtp-server=127.0.0.1",
            &format!("--smtp-server-port={}", task.port()),
        ]);
        command.args([
            &format!("--smtp-encryption={encryption}"),
            &format!("--smtp-user={}", task.name),
            &format!("--smtp-pass={}", task.password),
            &format!("--smtp-ssl-cert-path={}", task.certificate().display()),
        ]);
        command.args(["--from=s@box.test", "--to=u@box.test", "--confirm=never", "--no-validate"]);
        command.args(["--suppress-cc=all", "--no-thread", "--no-xmailer", "--8bit-encoding=UTF-8"]);
        command.arg(task.post.place.write("0001.patch", &message()));
        (command, Vec::new())
    });
}

/// The output of sslscan for a port.
fn sslscan(port: u16, options: &[&str]) -> String {
    let mut command = program("sslscan", "sslscan");
    command.args(["--no-colour", "--show-certificate", "--no-heartbleed"]).args(options);
    let output = run(command.arg(format!("127.0.0.1:{port}")));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sslscan_finds_nothing_old_and_nothing_weak() {
    for (minimum, versions) in [("1.2", &["TLSv1.2", "TLSv1.3"][..]), ("1.3", &["TLSv1.3"])] {
        let post = Post::new(&format!("tls.minimum = \"{minimum}\""));
        let _daemon = post.place.serve();
        let starttls = &["--starttls-smtp"][..];
        for (port, options) in
            [(post.place.port, starttls), (post.submission, starttls), (post.submissions, &[])]
        {
            let found = sslscan(port, options);
            let ciphers: Vec<Vec<&str>> = found
                .lines()
                .filter(|line| line.starts_with("Accepted") || line.starts_with("Preferred"))
                .map(|line| line.split_whitespace().collect())
                .collect();
            for cipher in &ciphers {
                let [_, version, bits, "bits", name, ..] = cipher[..] else { panic!("{cipher:?}\n{found}") };
                let is_strong = ["_GCM_", "-GCM-", "CHACHA20"].iter().any(|kind| name.contains(kind));
                let has_forward_secrecy = name.starts_with("TLS_") || name.contains("DHE-");
                assert!(versions.contains(&version), "{found}");
                assert!(
                    is_strong && has_forward_secrecy && bits.parse::<u32>().unwrap() >= 128,
                    "{cipher:?}"
                );
            }
            for version in versions {
                assert!(ciphers.iter().any(|cipher| cipher[1] == *version), "{version}: {found}");
            }
            for version in ["SSLv2", "SSLv3", "TLSv1.0", "TLSv1.1"] {
                let is_off = |line: &str| line.starts_with(version) && line.trim_end().ends_with("disabled");
                assert!(found.lines().any(is_off), "{version}: {found}");
            }
            assert!(!found.contains("Insecure session renegotiation"), "{found}");
            assert!(!found.contains("Compression enabled"), "{found}");
        }
    }
}

#[test]
fn lmtp_by_swaks_and_python() {
    const SCRIPT: &str = r#"
import smtplib, sys
s = smtplib.LMTP("127.0.0.1", int(sys.argv[1]))
text = sys.stdin.buffer.read()
refused = s.sendmail("s@box.test", ["p@box.test", "no one@box.test", "q@box.test"], text)
assert list(refused) == ["no one@box.test"] and refused["no one@box.test"][0] == 501, refused
# smtplib reads one reply after the data: the other one comes before that of NOOP.
assert [s.noop()[0], s.getreply()[0]] == [250, 250]
for command in "MAIL FROM:<s@box.test>", "RCPT TO:<a@far.test>", "RCPT TO:<u@box.test>", "RCPT TO:<v@box.test>", "DATA":
    print(s.docmd(command)[0])
s.send(b"bare\nLF\r\n.\r\n")
print(s.getreply()[0], s.getreply()[0])
print(s.docmd("MAIL FROM:<s@box.test>")[0], s.docmd("DATA")[0], s.docmd("EHLO x")[0], s.docmd("AUTH PLAIN x")[0])
s.quit()
"#;
    let post = Post::new("");
    let _daemon = post.place.serve();
    let mut command = program("swaks", "swaks");
    command.args([
        "--protocol",
        "LMTP",
        "--server",
        "127.0.0.1",
        "--port",
        &post.lmtp.to_string(),
        "--pipeline",
    ]);
    command.args(["--from", "s@box.test", "--to", "one@box.test,two@box.test", "--body", "hello"]);
    let reported = String::from_utf8(run(&mut command).stdout).unwrap();
    assert_eq!(reported.matches("Ok: ").count(), 2, "{reported}");
    for user in ["one", "two"] {
        let (trace, _) = without_trace(&post.place.wait_for_mail(user, 1)[0]);
        assert!(trace.contains(" with LMTP id "), "{trace}");
    }
    let mut command = program("python3", "python3");
    let replies =
        output_of(command.args(["-c", SCRIPT, &post.lmtp.to_string()]), &message().replace('\n', "\r\n"));
    assert_eq!(replies, "250\n550\n250\n250\n354\n550 550\n250 503 500 502\n");
    for user in ["p", "q"] {
        assert_eq!(without_trace(&post.place.wait_for_mail(user, 1)[0]).1, message().into_bytes());
    }
}

#[test]
fn a_message_that_requires_tls_does_not_leave_in_clear() {
    let post = Post::new("local.domains = \"box.test\"\nrelay.tls = \"off\"\n");
    let (_dns, _sink) = (post.place.dns_of_far(), post.place.sink(&[]));
    let _daemon = post.place.serve();
    let mut client = Client::within_tls(&post);
    client.log_in(USERS[1]).unwrap();
    client.write(b"MAIL FROM:<s@box.test> REQUIRETLS\r\nRCPT TO:<a@far.test>\r\nDATA\r\n").unwrap();
    for reply in ["250", "250", "354"] {
        client.expect(reply).unwrap();
    }
    assert!(client.command("Subject: secret\r\n\r\nx\r\n.").unwrap().starts_with("250 2.0.0"));
    let bounce = String::from_utf8(post.place.wait_for_mail("s", 1).remove(0)).unwrap();
    assert!(
        bounce.contains("\nStatus: 5.7.30\n") && bounce.contains("Final-Recipient: rfc822; a@far.test\n"),
        "{bounce}"
    );
    post.place.wait_for_log(&["event=bounced", "to=a@far.test", "status=5.7.30"]);
    let sunk = post.place.sunk();
    assert!(!sunk.iter().any(|file| String::from_utf8_lossy(file).contains("secret")), "it has left");
}
