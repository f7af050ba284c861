//! STARTTLS of the real program with other people's clients: OpenSSL's s_client and Python. Each test has its own
//! directory and port on 127.0.0.1.

use super::harness::{self, Daemon, Place, SOON, wait_until};
use super::test_directory::TestDirectory;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A place with a daemon.
struct Box {
    daemon: Daemon,
    place: Place,
}

impl Box {
    /// Starts it. `more`: lines of configuration with dotted keys. Clients on loopback also see the self-signed
    /// certificate, because TLS is required.
    fn start(more: &str) -> Self {
        Self::start_with(more, "tls = \"require\"")
    }

    /// The same with these lines in the table of the listener.
    fn start_with(more: &str, listener: &str) -> Self {
        Self::start_in(Place::new(), more, listener)
    }

    fn start_in(place: Place, more: &str, listener: &str) -> Self {
        let mut file = fs::File::options().append(true).open(place.configure(more)).unwrap();
        writeln!(file, "{listener}").unwrap();
        Self { daemon: place.serve(), place }
    }

    fn reload(&self) {
        let is_read = ["reading the configuration again", "configuration read again"];
        let count = || is_read.map(|text| self.place.log().matches(text).count()).iter().sum::<usize>();
        let before = count();
        self.daemon.signal("HUP");
        wait_until("the configuration is read again", SOON, || count() > before);
    }

    /// The output of `openssl s_client -starttls smtp`.
    fn s_client(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("openssl");
        command.args([
            "s_client",
            "-starttls",
            "smtp",
            "-connect",
            &format!("127.0.0.1:{}", self.place.port),
        ]);
        command.args(arguments).stdin(Stdio::null()).output().expect("apt-get install openssl")
    }

    /// The certificate that a new client sees, in PEM.
    fn certificate(&self) -> String {
        let output = self.s_client(&["-showcerts"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let start = text.find("-----BEGIN").unwrap_or_else(|| panic!("{output:?}"));
        text[start..].split_inclusive("-----END CERTIFICATE-----").next().unwrap().to_owned()
    }

    /// Runs a script with the port as its argument, then `arguments`.
    fn python(&self, script: &str, arguments: &[&str]) -> String {
        harness::python(script, &[&[&*self.place.port.to_string()], arguments].concat())
    }
}

fn pillarbox(place: &Place, command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    program.arg("--config").arg(place.path("pillarbox.toml")).arg(command).stdin(Stdio::null());
    program
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Makes a certificate of `name` and its key in `directory`; lines of configuration that name them.
fn make_certificate(directory: &Path, name: &str) -> String {
    fs::create_dir_all(directory).unwrap();
    let (certificate, key) = (directory.join("chain.pem"), directory.join("key.pem"));
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    format!("tls.certificate = {certificate:?}\ntls.key = {key:?}\n")
}

const SEND: &str = "
import smtplib, ssl, sys
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), local_hostname='client.test', timeout=30)
s.ehlo()
assert s.has_extn('starttls')
context = ssl.create_default_context(cafile=sys.argv[2])
context.check_hostname = False
s.starttls(context=context)
assert not s.ehlo_resp
s.ehlo()
assert not s.has_extn('starttls') and s.has_extn('size')
s.sendmail('a@client.test', ['root@localhost'], 'Subject: x\\n\\n' + 'text\\n' * 50000)
s.quit()
";

#[test]
fn mail_comes_in_by_tls_with_the_self_signed_certificate() {
    let daemon = Box::start("");
    let file = daemon.place.path("state/tls/self-signed.pem");
    wait_until("it is made", SOON, || file.exists());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    daemon.python(SEND, &[file.to_str().unwrap()]);
    let mail = fs::read_dir(daemon.place.path("mail/root/new")).unwrap().next().unwrap().unwrap().path();
    let mail = read(&mail);
    let (trace, _) = mail.split_once("Subject:").unwrap();
    assert!(trace.contains("\t(using TLSv1.3 with cipher TLS_AES_"), "{trace}");
    assert!(trace.contains(" with ESMTPS id "), "{trace}");
    assert_eq!(mail.matches("text\n").count(), 50_000);
    assert!(daemon.place.log().contains("tls=\"TLSv1.3 with cipher TLS_AES_"), "{}", daemon.place.log());
}

/// The offers to a client at `address`: the lines of the reply to EHLO without their codes, then the reply to STARTTLS.
fn offered(daemon: &Box, address: &str) -> String {
    const SCRIPT: &str = "
import socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30)
f = s.makefile('rb')
if sys.argv[2]: s.sendall(b'PROXY TCP4 %s 192.0.2.1 4000 25\\r\\n' % sys.argv[2].encode())
f.readline()
s.sendall(b'EHLO c.test\\r\\n')
while True:
    line = f.readline().decode()
    print(line[4:].strip())
    if line[3] == ' ': break
s.sendall(b'STARTTLS\\r\\n')
print(f.readline().decode().strip())
";
    daemon.python(SCRIPT, &[address])
}

/// Many clients on this host refuse a self-signed certificate; for a client elsewhere it is better than clear text.
#[test]
fn the_self_signed_certificate_is_not_offered_on_loopback() {
    let keys = |directory: &Path| make_certificate(directory, "localhost");
    let pki = TestDirectory::new();
    for (more, listener, client, is_offered) in [
        (String::new(), "", "", false),
        (String::new(), "kind = \"submission\"", "", false),
        (String::new(), "tls = \"require\"", "", true),
        (String::new(), "proxy_protocol = true", "127.0.0.9", false),
        (String::new(), "proxy_protocol = true", "192.0.2.9", true),
        (String::new(), "proxy_protocol = true\ntls = \"off\"", "192.0.2.9", false),
        (keys(&pki), "", "", true),
        (keys(&pki), "tls = \"off\"", "", false),
    ] {
        let daemon = Box::start_with(&more, listener);
        let text = offered(&daemon, client);
        assert_eq!(text.contains("\nSTARTTLS\n"), is_offered, "{more}{listener} {client}: {text}");
        let last = text.lines().last().unwrap();
        assert!(last.starts_with(if is_offered { "220 2.0.0 " } else { "502 5.5.1 " }), "{listener}: {last}");
        // A client on this host logs in without TLS.
        assert_eq!(text.contains("\nAUTH PLAIN LOGIN\n"), listener.contains("submission"), "{text}");
    }
}

#[test]
fn only_versions_from_the_minimum_on_are_spoken() {
    for (minimum, versions) in [
        ("", [("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)]),
        ("tls.minimum = \"1.3\"", [("-tls1_1", false), ("-tls1_2", false), ("-tls1_3", true)]),
    ] {
        let daemon = Box::start(minimum);
        for (version, works) in versions {
            let output = daemon.s_client(&[version, "-cipher", "ALL:@SECLEVEL=0"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!(text.contains("-----BEGIN CERTIFICATE"), works, "{minimum} {version}: {text}");
            assert!(!works || text.contains("CN = box.test"), "{text}");
        }
        daemon.place.wait_for_log(&["reason=\"TLS handshake: TLS: unsupported protocol\""]);
    }
}

#[test]
fn what_was_said_in_clear_does_not_count_within_tls() {
    const SCRIPT: &str = "
import socket, ssl, sys
def reply(f):
    while True:
        line = f.readline()
        if line[3:4] != b'-': return line.decode().strip()
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30)
f = s.makefile('rb')
reply(f)
s.sendall(b'EHLO evil.test\\r\\n'); reply(f)
s.sendall(b'STARTTLS\\r\\nEHLO evil.test\\r\\nMAIL FROM:<evil@evil.test>\\r\\nRCPT TO:<root@localhost>\\r\\nDATA\\r\\n')
print(reply(f))
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
t = context.wrap_socket(s)
f = t.makefile('rb')
for line in b'NOOP', b'RCPT TO:<root@localhost>', b'MAIL FROM:<>', b'EHLO good.test', b'STARTTLS', b'MAIL FROM:<>', b'QUIT':
    t.sendall(line + b'\\r\\n')
    print(reply(f))
t.settimeout(30)
print(repr(t.recv(9)))
";
    let daemon = Box::start("");
    let replies = daemon.python(SCRIPT, &[]);
    let codes: Vec<&str> = replies.lines().map(|line| &line[..3]).collect();
    assert_eq!(codes, ["220", "250", "503", "503", "250", "503", "250", "221", "b''"], "{replies}");
}

#[test]
fn plain_text_and_silence_instead_of_a_handshake_end_the_connection() {
    const SCRIPT: &str = "
import socket, sys, time
s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), 30)
f = s.makefile('rb')
f.readline()
s.sendall(b'HELO evil.test\\r\\n'); f.readline()
s.sendall(b'STARTTLS\\r\\n'); print(f.readline()[:3].decode())
if sys.argv[2] == 'text': s.sendall(b'MAIL FROM:<evil@evil.test>\\r\\n')
if sys.argv[2] == 'drip':
    s.sendall(bytes([22, 3, 1, 2, 0]))
    try:
        for _ in range(300): s.sendall(b'x'); time.sleep(0.1)
        sys.exit('still there')
    except OSError: pass
    sys.exit()
print(b'250' in f.read())
";
    let daemon = Box::start("limits.command_timeout = \"2s\"");
    assert_eq!(daemon.python(SCRIPT, &["text"]), "220\nFalse\n");
    daemon.place.wait_for_log(&["TLS handshake: TLS: "]);
    assert_eq!(daemon.python(SCRIPT, &["silence"]), "220\nFalse\n");
    daemon.place.wait_for_log(&["TLS handshake: timed out"]);
    assert_eq!(daemon.python(SCRIPT, &["drip"]), "220\n");
    wait_until("the second time-out", SOON, || {
        daemon.place.log().matches("TLS handshake: timed out").count() == 2
    });
}

#[test]
fn a_signal_swaps_certificates_and_sessions_go_on() {
    let pki = TestDirectory::new();
    let keys = make_certificate(&pki, "old.test");
    let daemon = Box::start(&keys);
    let old = daemon.certificate();
    assert_eq!(old.trim(), read(&pki.join("chain.pem")).trim());

    // A session within TLS, which must survive the change of the certificate.
    const SCRIPT: &str = "
import smtplib, ssl, sys
s = smtplib.SMTP('127.0.0.1', int(sys.argv[1]), timeout=60)
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
s.starttls(context=context)
print('up', flush=True)
sys.stdin.readline()
print(s.ehlo()[0], s.sendmail('a@client.test', ['root@localhost'], 'Subject: x\\n\\nx\\n'))
";
    let mut client = Command::new("python3")
        .args(["-c", SCRIPT, &daemon.place.port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 3];
    std::io::Read::read_exact(client.stdout.as_mut().unwrap(), &mut first).unwrap();

    make_certificate(&pki, "new.test");
    assert_eq!(daemon.certificate(), old, "nothing changes without the signal");
    daemon.reload();
    let new = daemon.certificate();
    assert_eq!(new.trim(), read(&pki.join("chain.pem")).trim());
    assert_ne!(new, old);

    // An unusable certificate changes nothing, and is reported.
    fs::write(pki.join("key.pem"), "nothing").unwrap();
    daemon.reload();
    assert_eq!(daemon.certificate(), new);
    daemon.place.wait_for_log(&["holds no private key in PEM"]);

    drop(client.stdin.take());
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "250 {}", "{}", daemon.place.log());
}

#[test]
fn the_self_signed_certificate_stays_over_restarts_and_signals() {
    let daemon = Box::start("");
    let first = daemon.certificate();
    assert!(read(&daemon.place.path("state/tls/self-signed.pem")).contains(&first));
    daemon.reload();
    assert_eq!(daemon.certificate(), first);
    let Box { place, daemon } = daemon;
    drop(daemon);
    let daemon = Box::start_in(place, "", "tls = \"require\"");
    assert_eq!(daemon.certificate(), first);
}

#[test]
fn check_tells_what_is_wrong_with_the_certificate() {
    let place = Place::new();
    let directory = place.dir.path();
    let keys = make_certificate(directory, "box.test");
    let (certificate, key) = keys.split_once('\n').unwrap();
    let reported = |more: &str| {
        place.configure(more);
        let output = pillarbox(&place, "check").output().unwrap();
        assert_eq!(output.status.code(), Some(if output.stderr.is_empty() { 0 } else { 78 }));
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(reported(&keys), "");
    let other = directory.join("other");
    make_certificate(&other, "other.test");
    let (of_other, chain) = (other.join("key.pem"), directory.join("chain.pem"));
    let file = directory.join("pillarbox.toml");
    for (text, position, expected) in [
        (certificate.to_owned(), "10:19", "the key is missing; write both"),
        (key.trim().to_owned(), "10:11", "the certificate is missing; write both"),
        (format!("{certificate}\ntls.key = {of_other:?}"), "11:11", "is not the key of tls.certificate"),
        (
            format!("tls.certificate = {key_file:?}\n{key}", key_file = directory.join("key.pem")),
            "10:19",
            "holds no certificate",
        ),
        (format!("{certificate}\ntls.key = \"/missing\""), "11:11", "can't be read"),
        (format!("tls.certificate = \"/\"\n{key}"), "10:19", "can't be read"),
    ] {
        let problem = reported(&text);
        assert!(problem.contains(expected), "{expected}: {problem}");
        assert!(problem.starts_with(&format!("{}:{position}: ", file.display())), "{position}: {problem}");
    }
    fs::set_permissions(directory.join("key.pem"), fs::Permissions::from_mode(0o604)).unwrap();
    assert!(reported(&keys).contains("others may use"));
    fs::set_permissions(directory.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let ended = Command::new("openssl")
        .args(["x509", "-in"])
        .arg(&chain)
        .arg("-signkey")
        .arg(directory.join("key.pem"))
        .args(["-days", "-1", "-out"])
        .arg(&chain)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert!(reported(&keys).contains("ended on"), "{}", reported(&keys));
    assert_eq!(pillarbox(&place, "serve").stderr(Stdio::null()).status().unwrap().code(), Some(78));
}

#[test]
fn without_a_certificate_mail_still_comes_in() {
    let place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    // A file is where the directory of the certificate should be.
    place.write("state/tls", "");
    let daemon = Box::start_in(place, "", "proxy_protocol = true");
    daemon.place.wait_for_log(&["STARTTLS is not offered"]);
    let text = offered(&daemon, "192.0.2.9");
    assert!(
        !text.contains("\nSTARTTLS\n") && text.lines().last().unwrap().starts_with("502 5.5.1 "),
        "{text}"
    );
    const SCRIPT: &str = "
import smtplib, sys
class Client(smtplib.SMTP):
    def _get_socket(self, *arguments):
        s = super()._get_socket(*arguments)
        s.sendall(b'PROXY TCP4 192.0.2.9 192.0.2.1 4000 25\\r\\n')
        return s
s = Client('127.0.0.1', int(sys.argv[1]), timeout=30)
print(s.sendmail('a@client.test', ['root@localhost'], 'Subject: x\\n\\nx\\n'))
";
    assert_eq!(daemon.python(SCRIPT, &[]), "{}\n");
}
