use super::client::send;
use super::harness::{Daemon, Place, Running, SOON, files, free_port, program, run, wait_until};
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use pillarbox::mail::date::WallTime;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const MESSAGE: &[u8] = b"From: a@box.test\r\nSubject: disk\r\n\r\n.\r\nfull\r\n";
pub(super) const PASSWORD: &str = "cOrrect-h0rse";
const DAY: i64 = 86_400;

/// A certification authority below a place, and the certificates that it has signed.
pub(super) struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

impl Authority {
    pub(super) fn new(place: &Place) -> Self {
        let (key, certificate) = certificate("ca.test", &[], DAY, None);
        place.write("ca.pem", &String::from_utf8(certificate.to_pem().unwrap()).unwrap());
        Self { key, certificate }
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub(super) fn sign(&self, place: &Place, file: &str, names: &[&str], days: i64) {
        keep(place, file, &certificate(names[0], names, days * DAY, Some(self)));
    }
}

/// Writes `NAME.pem` and `NAME.key` of a certificate that is its own issuer.
pub(super) fn self_signed(place: &Place, file: &str, names: &[&str]) {
    keep(place, file, &certificate(names[0], names, 30 * DAY, None));
}

fn keep(place: &Place, file: &str, (key, certificate): &(PKey<Private>, X509)) {
    place.write(&format!("{file}.pem"), &String::from_utf8(certificate.to_pem().unwrap()).unwrap());
    let key = key.private_key_to_pem_pkcs8().unwrap();
    let path = place.write(&format!("{file}.key"), &String::from_utf8(key).unwrap());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn certificate(
    subject: &str,
    names: &[&str],
    seconds: i64,
    signer: Option<&Authority>,
) -> (PKey<Private>, X509) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509Name::builder().unwrap();
    name.append_entry_by_text("CN", subject).unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&BigNum::from_u32(rand_serial()).unwrap().to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(signer.map_or(&name, |signer| signer.certificate.subject_name())).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let after = |seconds: i64| {
        let time = WallTime(now.checked_add_signed(seconds).unwrap() * 1_000_000);
        Asn1Time::from_str_x509(&time.to_generalized()).unwrap()
    };
    builder.set_not_before(&after(-2 * DAY)).unwrap();
    builder.set_not_after(&after(seconds)).unwrap();
    builder.set_pubkey(&key).unwrap();
    if names.is_empty() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    } else {
        let mut alternative = SubjectAlternativeName::new();
        for name in names {
            if name.parse::<IpAddr>().is_ok() {
                alternative.ip(name);
            } else {
                alternative.dns(name);
            }
        }
        let context = builder.x509v3_context(None, None);
        let extension = alternative.build(&context).unwrap();
        builder.append_extension(extension).unwrap();
    }
    builder.sign(signer.map_or(&key, |signer| &signer.key), MessageDigest::sha256()).unwrap();
    (key, builder.build())
}

fn rand_serial() -> u32 {
    let mut octets = [0; 4];
    openssl::rand::rand_bytes(&mut octets).unwrap();
    u32::from_ne_bytes(octets)
}

/// Postfix's options for a listener that takes mail of those who have logged in within TLS.
pub(super) const FOR_LOGINS: &str = "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=encrypt \
    -o smtpd_client_restrictions=permit_sasl_authenticated,reject";

/// A place that other users can reach; `None` without root, which Postfix and Dovecot need.
pub(super) fn place() -> Option<Place> {
    if !rustix::process::geteuid().is_root() {
        println!("note: Postfix and Dovecot are started by root alone; nothing is tested here");
        return None;
    }
    let place = Place::open();
    fs::create_dir(place.path("inbox")).unwrap();
    Some(place)
}

fn account(name: &str) -> pillarbox::sys::user::SystemUser {
    pillarbox::sys::user::find(name).unwrap().unwrap_or_else(|| panic!("no user {name}"))
}

/// A private Postfix with `smtpd` on some ports. It takes mail for `far.test` from anyone, and other mail after AUTH.
pub(super) struct Postfix {
    directory: PathBuf,
}

impl Postfix {
    /// `services`: ports with their certificate and further options.
    pub(super) fn start(place: &Place, services: &[(u16, &str, &str)]) -> Self {
        let postfix = account("postfix");
        let directory = place.path("postfix");
        for name in ["", "queue", "data"] {
            fs::create_dir(directory.join(name)).unwrap();
        }
        let inbox = place.path("inbox");
        for path in [directory.join("data"), inbox.clone()] {
            chown(path, Some(postfix.uid), Some(postfix.gid)).unwrap();
        }
        let (d, dir, uid, gid) = (directory.display(), place.dir.display(), postfix.uid, postfix.gid);
        let main = format!(
            "compatibility_level = 3.6\nqueue_directory = {d}/queue\ndata_directory = {d}/data\n\
             daemon_directory = /usr/lib/postfix/sbin\ncommand_directory = /usr/sbin\nmail_owner = postfix\n\
             setgid_group = postdrop\nmaillog_file = {d}/log\nmaillog_file_prefixes = {d}\nmyhostname = smart.test\n\
             mydestination =\nalias_maps =\nmynetworks =\ninet_interfaces = 127.0.0.1\ninet_protocols = ipv4\n\
             smtpd_peername_lookup = no\ndisable_dns_lookups = yes\nvirtual_mailbox_domains = far.test\n\
             virtual_mailbox_maps = static:them/\nvirtual_mailbox_base = {}\nvirtual_minimum_uid = 1\n\
             virtual_uid_maps = static:{uid}\nvirtual_gid_maps = static:{gid}\nsmtpd_sasl_type = dovecot\n\
             smtpd_sasl_path = {dir}/dovecot/auth-client\nsmtpd_tls_loglevel = 1\nbiff = no\n\
             smtpd_tls_auth_only = yes\nsmtpd_relay_restrictions = permit_sasl_authenticated, reject_unauth_destination\n",
            inbox.display()
        );
        fs::write(directory.join("main.cf"), main).unwrap();
        let mut master = String::new();
        for (port, certificate, options) in services {
            master.push_str(&format!(
                "127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_cert_file={dir}/{certificate}.pem \
                 -o smtpd_tls_key_file={dir}/{certificate}.key {options}\n"
            ));
        }
        master.push_str(
            "cleanup unix n - n - 0 cleanup\nqmgr unix n - n 300 1 qmgr\nrewrite unix - - n - - trivial-rewrite\n\
             tlsmgr unix - - n 1000? 1 tlsmgr\nbounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\n\
             trace unix - - n - 0 bounce\nproxymap unix - - n - - proxymap\nanvil unix - - n - 1 anvil\n\
             virtual unix - n n - - virtual\nerror unix - - n - - error\nretry unix - - n - - error\n\
             flush unix n - n 1000? 0 flush\npostlog unix-dgram n - n - 1 postlogd\n",
        );
        fs::write(directory.join("master.cf"), master).unwrap();
        run(program("postfix", "postfix").arg("-c").arg(&directory).arg("start"));
        let postfix = Self { directory };
        wait_until("Postfix runs", SOON, || postfix.log().contains("daemon started"));
        postfix
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Waits for that many log lines with all of these parts.
    pub(super) fn wait_for_log(&self, parts: &[&str], count: usize) {
        let found = || self.log().lines().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        let end = std::time::Instant::now() + SOON;
        while found() < count {
            assert!(std::time::Instant::now() < end, "not {count} lines with {parts:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _ = Command::new("/usr/sbin/postfix").arg("-c").arg(&self.directory).arg("abort").output();
    }
}

/// Dovecot's AUTH for Postfix, with one user, and its LMTP on a port.
pub(super) fn dovecot(place: &Place) -> Running {
    let nobody = account("nobody");
    let (d, port, uid, gid) = (place.dir.display(), place.sink_port, nobody.uid, nobody.gid);
    place.write("dovecot.users", &format!("joe@smart.test:{{PLAIN}}{PASSWORD}::::::\n"));
    fs::create_dir(place.path("lmtp")).unwrap();
    chown(place.path("lmtp"), Some(uid), Some(gid)).unwrap();
    let config = place.write(
        "dovecot.conf",
        &format!(
            "base_dir = {d}/dovecot\nlog_path = {d}/dovecot.log\nssl = no\nprotocols = lmtp\n\
             first_valid_uid = 1\nfirst_valid_gid = 1\nmail_location = maildir:{d}/lmtp/%n\n\
             auth_mechanisms = plain login cram-md5 scram-sha-256\nauth_failure_delay = 0\n\
             passdb {{\n driver = passwd-file\n args = {d}/dovecot.users\n}}\n\
             userdb {{\n driver = static\n args = uid={uid} gid={gid} home={d}/lmtp allow_all_users=yes\n}}\n\
             service auth {{\n unix_listener auth-client {{\n mode = 0666\n }}\n}}\n\
             service lmtp {{\n inet_listener lmtp {{\n address = 127.0.0.1\n port = {port}\n }}\n}}\n\
             service anvil {{\n unix_listener anvil-auth-penalty {{\n mode = 0\n }}\n}}\n"
        ),
    );
    let mut command = program("dovecot", "dovecot-lmtpd");
    let dovecot = Running::start(command.args(["-F", "-c"]).arg(config));
    wait_until("Dovecot listens", SOON, || place.path("dovecot/auth-client").exists());
    dovecot
}

pub(super) fn password_file(place: &Place, password: &str) -> PathBuf {
    let path = place.write("password", &format!("{password}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Writes a configuration, and makes the daemon read it.
pub fn reconfigure(place: &Place, daemon: &Daemon, more: &str) {
    let count = || place.logged(&["configuration read again"]).len();
    let before = count();
    place.configure(more);
    daemon.signal("HUP");
    wait_until("the configuration is read again", SOON, || count() > before);
}

/// Names ports from the start: a reload could not add them.
pub(super) fn named(ports: &[u16]) -> String {
    let routes: Vec<String> =
        ports.iter().map(|port| format!("\"p{port}.test\" = \"smtp://127.0.0.1:{port}\"")).collect();
    format!("relay.routes = {{ {} }}\n", routes.join(", "))
}

pub(super) const ROUTE: &str = "queue.retry = [\"1h\"]\n";

/// Postfix as the smarthost, with Dovecot's AUTH: every mechanism, both kinds of TLS; the password is never sent in clear.
#[test]
fn postfix_with_dovecots_auth_takes_every_mechanism() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "smart", &["smart.test"], 30);
    let _dovecot = dovecot(&place);
    let (submission, smtps) = (free_port(), free_port());
    let auth = "-o smtpd_sasl_auth_enable=yes -o smtpd_client_restrictions=permit_sasl_authenticated,reject";
    let postfix = Postfix::start(
        &place,
        &[
            (submission, "smart", &format!("{auth} -o smtpd_tls_security_level=encrypt")),
            (smtps, "smart", &format!("{auth} -o smtpd_tls_wrappermode=yes")),
        ],
    );
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let file = password_file(&place, PASSWORD);
    let named = named(&[submission, smtps]);
    let settings = |url: &str, auth: &str| {
        format!(
            "{named}relay.smarthost = \"{url}\"\nrelay.username = \"joe@smart.test\"\nrelay.password_file = {file:?}\n\
             relay.auth = \"{auth}\"\nrelay.ca_file = \"{}\"\nlog.level = \"trace\"\n{ROUTE}",
            place.path("ca.pem").display()
        )
    };
    let starttls = format!("smtp+starttls://smart.test:{submission}");
    place.configure(&settings(&starttls, "plain"));
    let daemon = place.serve();
    let smtps = format!("smtps://smart.test:{smtps}");
    let ways = [
        (&starttls, "plain", "PLAIN"),
        (&starttls, "login", "LOGIN"),
        (&starttls, "cram-md5", "CRAM-MD5"),
        (&starttls, "scram-sha-256", "SCRAM-SHA-256"),
        (&starttls, "auto", "SCRAM-SHA-256"),
        (&smtps, "auto", "SCRAM-SHA-256"),
    ];
    for (number, (url, auth, method)) in ways.iter().enumerate() {
        reconfigure(&place, &daemon, &settings(url, auth));
        send(place.port, "a@box.test", "them@far.test", MESSAGE);
        place.wait_for_empty_queue(SOON);
        let method = format!("sasl_method={method},");
        postfix.wait_for_log(&[&method, "sasl_username=joe@smart.test"], 1);
        assert_eq!(
            place.logged(&["event=connected", "tls=verified", "auth=joe@smart.test"]).len(),
            number + 1
        );
    }
    // No dots are doubled in a chunk.
    postfix.wait_for_log(&["disconnect from", "mail=1 rcpt=1 bdat=1 quit=1"], ways.len());
    let inbox = place.path("inbox/them/new");
    wait_until("all have arrived", SOON, || files(&inbox).len() == ways.len());
    for file in files(&inbox) {
        let text = fs::read_to_string(file).unwrap();
        assert!(text.ends_with("\n\n.\nfull\n"), "{text}");
    }
    daemon.stop();
    for secret in [PASSWORD.to_owned(), pillarbox::mail::base64::encode(PASSWORD.as_bytes())] {
        assert!(!place.log().contains(&secret), "{secret} is in the log:\n{}", place.log());
    }
}

/// The route pauses and says why; one connection a pause; and mail flows once the password is right.
#[test]
fn a_wrong_password_pauses_the_route() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "smart", &["smart.test"], 30);
    let _dovecot = dovecot(&place);
    let port = free_port();
    let postfix = Postfix::start(
        &place,
        &[(port, "smart", "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=encrypt")],
    );
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    // As systemd passes it.
    let file = password_file(&place, "wr0ng-battery");
    fs::rename(&file, file.with_file_name("relay-password")).unwrap();
    place.configure(&format!(
        "relay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.username = \"joe@smart.test\"\n\
         relay.ca_file = \"{}\"\nlog.level = \"trace\"\n{ROUTE}",
        place.path("ca.pem").display()
    ));
    let mut command = place.command(env!("CARGO_BIN_EXE_pillarbox").as_ref());
    let daemon = place.run(command.env("CREDENTIALS_DIRECTORY", &place.dir));
    for number in 0..5 {
        send(place.port, "a@box.test", &format!("u{number}@far.test"), MESSAGE);
    }
    let line = place.wait_for_log(&["event=paused"]);
    assert!(
        line.contains("status=4.7.8") && line.contains("535 5.7.8 Error: authentication failed"),
        "{line}"
    );
    // One attempt for each kind of proof: LOGIN sends the same as PLAIN, so a server that counts failures must count one.
    postfix.wait_for_log(&["disconnect from", "auth=0/3"], 1);
    // The pause is an hour: no attempt comes earlier.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(postfix.log().matches(": connect from").count(), 1, "{}", postfix.log());
    assert_eq!(place.queued(), 5);
    fs::rename(password_file(&place, PASSWORD), file.with_file_name("relay-password")).unwrap();
    daemon.signal("HUP");
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.logged(&["event=delivered"]).len(), 5);
    daemon.stop();
    for secret in ["wr0ng-battery", PASSWORD] {
        assert!(!place.log().contains(secret), "{secret} is in the log");
    }
}

/// Certificates with a wrong name, expired, or self-signed: the reason is reported, and no password is sent.
#[test]
fn a_wrong_certificate_pauses_the_route_and_hears_no_password() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "other", &["other.test"], 30);
    authority.sign(&place, "old", &["smart.test", "127.0.0.1"], -1);
    authority.sign(&place, "good", &["127.0.0.1"], 30);
    let _dovecot = dovecot(&place);
    let ports: [u16; 4] = std::array::from_fn(|_| free_port());
    let port = |number: usize| ports[number - 1];
    let (auth, wrapped) =
        ("-o smtpd_sasl_auth_enable=yes", "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_wrappermode=yes");
    let may = "-o smtpd_tls_security_level=may";
    let both = format!("{auth} {may}");
    let postfix = Postfix::start(
        &place,
        &[
            (port(1), "other", &both),
            (port(2), "old", &both),
            (port(3), "good", &both),
            (port(4), "other", wrapped),
        ],
    );
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let file = password_file(&place, PASSWORD);
    let ca = place.path("ca.pem");
    let named = named(&ports);
    let settings = |url: &str, more: &str| {
        format!(
            "{named}relay.smarthost = \"{url}\"\nrelay.username = \"joe@smart.test\"\nrelay.password_file = {file:?}\n\
             {more}\n{ROUTE}"
        )
    };
    let with_ca = format!("relay.ca_file = \"{}\"", ca.display());
    let cases = [
        (format!("smtp+starttls://smart.test:{}", port(1)), with_ca.as_str(), "ostname mismatch"),
        (format!("smtps://smart.test:{}", port(4)), &with_ca, "ostname mismatch"),
        (format!("smtp+starttls://smart.test:{}", port(2)), &with_ca, "certificate has expired"),
        (format!("smtp+starttls://127.0.0.1:{}", port(3)), "", "local issuer certificate"),
    ];
    place.configure(&settings(&cases[0].0, with_ca.as_str()));
    let daemon = place.serve();
    send(place.port, "a@box.test", "them@far.test", MESSAGE);
    for (number, (url, more, words)) in cases.iter().enumerate() {
        if number > 0 {
            reconfigure(&place, &daemon, &settings(url, more));
        }
        place.wait_for_log(&["event=paused", words]);
        assert_eq!(place.queued(), 1);
    }
    postfix.wait_for_log(&["disconnect from"], cases.len());
    assert!(!postfix.log().contains(" auth=") && !postfix.log().contains(" mail="), "{}", postfix.log());
    // With the trust anchor, by IP address.
    reconfigure(&place, &daemon, &settings(&cases[3].0, &with_ca));
    place.wait_for_empty_queue(SOON);
    postfix.wait_for_log(&["sasl_username=joe@smart.test"], 1);
    daemon.stop();
}

/// MX hosts: TLS where it is offered, with any certificate; verified where that is required; in clear where TLS fails, in
/// the same attempt.
#[test]
fn postfix_as_mx_host() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "mx", &["mx.far.test"], 30);
    let postfix = Postfix::start(&place, &[(place.sink_port, "mx", "-o smtpd_tls_security_level=may")]);
    let _dns = place.dns_of_far();
    place.configure(ROUTE);
    let daemon = place.serve();
    send(place.port, "a@box.test", "them@far.test", MESSAGE);
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.logged(&["event=connected", "tls=unverified"]).len(), 1, "{}", place.log());
    postfix.wait_for_log(&["TLS connection established", "TLSv1.3"], 1);
    let required = format!("relay.tls = \"required\"\n{ROUTE}");
    reconfigure(&place, &daemon, &required);
    send(place.port, "a@box.test", "them@far.test", MESSAGE);
    place.wait_for_log(&["event=paused", "local issuer certificate"]);
    assert_eq!(place.queued(), 1);
    reconfigure(
        &place,
        &daemon,
        &format!("relay.ca_file = \"{}\"\n{required}", place.path("ca.pem").display()),
    );
    place.wait_for_empty_queue(SOON);
    assert_eq!(place.logged(&["event=connected", "tls=verified"]).len(), 1, "{}", place.log());
    wait_until("both have arrived", SOON, || files(&place.path("inbox/them/new")).len() == 2);
    daemon.stop();
}

/// A host that offers STARTTLS and answers it by a function, once per connection; returns what came in clear afterwards.
fn broken_mx(
    port: u16,
    break_tls: fn(&mut BufReader<std::net::TcpStream>),
) -> std::thread::JoinHandle<String> {
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut all = String::new();
            stream.get_mut().write_all(b"220 mx ESMTP\r\n").unwrap();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                all.push_str(&line);
                let reply: &[u8] = match line.get(..4).unwrap_or_default() {
                    "EHLO" => b"250-mx\r\n250 STARTTLS\r\n",
                    "STAR" => {
                        break_tls(&mut stream);
                        break;
                    }
                    "DATA" => b"354 go\r\n",
                    "QUIT" => b"221 bye\r\n",
                    "From" | "Subj" | ".\r\n" | "..\r\n" | "full" | "\r\n" if line != ".\r\n" => b"",
                    _ if line.starts_with([' ', '\t']) || line.starts_with("Received") || line == "\r\n" => {
                        b""
                    }
                    _ => b"250 ok\r\n",
                };
                stream.get_mut().write_all(reply).unwrap();
            }
            if all.contains("QUIT") {
                return all;
            }
        }
        String::new()
    })
}

#[test]
fn an_mx_host_with_broken_starttls_gets_its_mail_in_clear() {
    let breakages: [fn(&mut BufReader<std::net::TcpStream>); 3] = [
        |_| (),
        |stream| stream.get_mut().write_all(b"220 go\r\n").unwrap(),
        |stream| {
            stream
                .get_mut()
                .write_all(b"220 go\r\n")
                .and_then(|()| {
                    let _ = stream.fill_buf();
                    stream.get_mut().write_all(b"this is no TLS\r\n")
                })
                .unwrap()
        },
    ];
    for break_tls in breakages {
        let place = Place::new();
        let host = broken_mx(place.sink_port, break_tls);
        let _dns = place.dns_of_far();
        place.configure(ROUTE);
        let daemon = place.serve();
        send(place.port, "a@box.test", "them@far.test", MESSAGE);
        place.wait_for_empty_queue(SOON);
        assert_eq!(place.logged(&["event=paused"]), [] as [&str; 0]);
        assert_eq!(place.logged(&["event=connected", "tls=none"]).len(), 1);
        assert_eq!(place.logged(&["event=delivered", "attempt=1"]).len(), 1);
        daemon.stop();
        assert!(host.join().unwrap().contains("full\r\n"));
    }
}

/// Another host with a false certificate gets no password by `smtp://`, nor does one without TLS.
#[test]
fn the_password_is_not_sent_where_others_could_listen() {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // This sends nothing: the kernel only chooses the source address.
    let own = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr()).map(|address| address.ip());
    let Some(own) = own.ok().filter(|ip| !ip.is_loopback()) else {
        println!("note: this host has no address but loopback; nothing is tested here");
        return;
    };
    for offers in ["250-smart\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", "250-smart\r\n250 AUTH PLAIN\r\n"] {
        let place = Place::new();
        let listener = TcpListener::bind((own, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (key, certificate) = certificate("smart.test", &["smart.test"], DAY, None);
        let host = std::thread::spawn(move || {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut all = String::new();
            stream.get_mut().write_all(b"220 smart\r\n").unwrap();
            while stream.read_line(&mut all).unwrap() > 0 {
                if all.contains("STARTTLS") {
                    stream.get_mut().write_all(b"220 go\r\n").unwrap();
                    let mut acceptor =
                        openssl::ssl::SslAcceptor::mozilla_intermediate_v5(openssl::ssl::SslMethod::tls())
                            .unwrap();
                    acceptor.set_private_key(&key).unwrap();
                    acceptor.set_certificate(&certificate).unwrap();
                    // The handshake never ends.
                    let Err(error) = acceptor.build().accept(stream.into_inner()) else { panic!("{all}") };
                    return format!("{all}{error}");
                }
                let reply = if all.contains("QUIT") { "221 bye\r\n" } else { offers };
                stream.get_mut().write_all(reply.as_bytes()).unwrap();
            }
            all
        });
        let file = password_file(&place, PASSWORD);
        place.configure(&format!(
            "relay.smarthost = \"smtp://{own}:{port}\"\nrelay.username = \"joe\"\nrelay.password_file = {file:?}\n{ROUTE}"
        ));
        let daemon = place.serve();
        send(place.port, "a@box.test", "them@far.test", MESSAGE);
        let line = place.wait_for_log(&["event=paused"]);
        let heard = host.join().unwrap();
        assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{heard}");
        assert!(
            line.contains("self-signed certificate") || line.contains("without verified TLS"),
            "{line}\n{heard}"
        );
        assert_eq!(place.queued(), 1);
        daemon.stop();
    }
}

#[test]
fn dovecot_takes_mail_by_lmtp() {
    let Some(place) = place() else { return };
    let _dovecot = dovecot(&place);
    place.configure(&format!("relay.smarthost = \"lmtp://127.0.0.1:{}\"\n{ROUTE}", place.sink_port));
    let daemon = place.serve();
    send(place.port, "a@box.test", "them@far.test", MESSAGE);
    place.wait_for_empty_queue(SOON);
    let mail = files(&place.path("lmtp/them/new"));
    assert_eq!(mail.len(), 1, "{}", place.log());
    assert!(fs::read_to_string(&mail[0]).unwrap().replace("\r\n", "\n").ends_with("\n\n.\nfull\n"));
    assert!(place.wait_for_log(&["event=delivered"]).contains("Saved"));
    daemon.stop();
}

/// One pillarbox relays to another by STARTTLS and AUTH, and the other delivers.
#[test]
fn pillarbox_is_a_smarthost() {
    let (near, far) = (Place::new(), Place::new());
    let authority = Authority::new(&far);
    authority.sign(&far, "smart", &["smart.test"], 30);
    let mut passwd = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let mut passwd =
        passwd.args(["passwd", "joe"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(passwd.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let users = far.path("users");
    fs::write(&users, passwd.wait_with_output().unwrap().stdout).unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let (port, d) = (free_port(), far.dir.display());
    far.configure(&format!(
        "hostname = \"smart.test\"\nlocal.domains = \"far.test\"\nauth.users = {users:?}\n\
         tls.certificate = \"{d}/smart.pem\"\ntls.key = \"{d}/smart.key\"\n\
         [[listener]]\naddress = \"127.0.0.1:{port}\"\nkind = \"submission\"\n"
    ));
    let smart = far.serve();
    let _dns = near.dns(&["--host-record=smart.test,127.0.0.1"]);
    let file = password_file(&near, PASSWORD);
    near.configure(&format!(
        "relay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.username = \"joe\"\n\
         relay.password_command = \"/bin/cat {}\"\nrelay.ca_file = \"{d}/ca.pem\"\n{ROUTE}",
        file.display()
    ));
    let daemon = near.serve();
    send(near.port, "a@box.test", "them@far.test", MESSAGE);
    let mail = far.wait_for_mail("them", 1);
    assert!(mail[0].ends_with(b"\n\n.\nfull\n"));
    far.wait_for_log(&["event=accepted", "TLSv1.3", "auth=joe"]);
    near.wait_for_empty_queue(SOON);
    daemon.stop();
    smart.stop();
}
