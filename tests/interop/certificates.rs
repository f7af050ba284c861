use super::client::send;
use super::exim::{self, Extra};
use super::harness::{Daemon, Place, SOON, files, free_port, program, run, wait_until};
use super::smarthost::{
    Authority, PASSWORD, Postfix, ROUTE, dovecot, named, password_file, place, reconfigure, self_signed,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const MESSAGE: &[u8] = b"From: a@box.test\r\nSubject: disk\r\n\r\nfull\r\n";

/// What openssl(1) prints.
fn openssl(arguments: &[&str]) -> String {
    String::from_utf8(run(program("openssl", "openssl").args(arguments)).stdout).unwrap().trim().to_owned()
}

/// What `probe` prints for the recipient of these tests, and its exit code.
fn probe(place: &Place) -> (String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let output =
        command.arg("-c").arg(place.path("pillarbox.toml")).args(["probe", "them@far.test"]).output();
    let output = output.unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code().unwrap())
}

/// Sends a message that must wait, and returns the line of the log that says why.
fn paused(place: &Place, words: &[&str]) -> String {
    send(place.port, "a@box.test", "them@far.test", MESSAGE);
    let line = place.wait_for_log(&[&["event=paused"], words].concat());
    assert_eq!(place.queued(), 1, "{}", place.log());
    line
}

/// The waiting message leaves under this configuration.
fn leaves(place: &Place, daemon: &Daemon, settings: &str) {
    reconfigure(place, daemon, settings);
    place.wait_for_empty_queue(SOON);
}

/// Postfix that takes mail from holders of one certificate, by its fingerprint: with TLS 1.3 and 1.2, from the start and by
/// STARTTLS, with the key in clear and encrypted. Without a certificate the reason is told.
#[test]
fn postfix_takes_mail_by_client_certificate() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "smart", &["smart.test"], 30);
    authority.sign(&place, "box", &["box.test"], 30);
    authority.sign(&place, "stranger", &["stranger.test"], 30);
    self_signed(&place, "foreign", &["box.test"]);
    let file = |name: &str| place.path(name).display().to_string();
    let printed = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &file("box.pem")]);
    place.write("clients", &format!("{} box\n", printed.split_once('=').unwrap().1));
    place.write("passphrase", "open sesame\n");
    let locked = openssl(&[
        "pkcs8",
        "-topk8",
        "-v2",
        "aes-256-cbc",
        "-passout",
        &format!("file:{}", file("passphrase")),
        "-in",
        &file("box.key"),
    ]);
    place.write("locked.key", &locked);
    for name in ["passphrase", "locked.key"] {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let wants = format!(
        "-o smtpd_tls_req_ccert=yes -o smtpd_tls_CAfile={} -o smtpd_tls_fingerprint_digest=sha256 \
         -o relay_clientcerts=texthash:{} -o smtpd_client_restrictions=permit_tls_clientcerts,reject",
        file("ca.pem"),
        file("clients")
    );
    let ports: [u16; 3] = std::array::from_fn(|_| free_port());
    let encrypt = "-o smtpd_tls_security_level=encrypt";
    let postfix = Postfix::start(
        &place,
        &[
            (ports[0], "smart", &format!("{wants} {encrypt}")),
            (ports[1], "smart", &format!("{wants} {encrypt} -o smtpd_tls_mandatory_protocols=TLSv1.2")),
            (ports[2], "smart", &format!("{wants} -o smtpd_tls_wrappermode=yes")),
        ],
    );
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let named = named(&ports);
    let settings = |url: &str, keys: &str| {
        format!("{named}relay.smarthost = \"{url}\"\nrelay.ca_file = \"{}\"\n{keys}{ROUTE}", file("ca.pem"))
    };
    let certificate = |name: &str, key: &str| {
        format!("relay.certificate = \"{}\"\nrelay.key = \"{}\"\n", file(name), file(key))
    };
    let mine = certificate("box.pem", "box.key");
    let encrypted = format!(
        "{}relay.key_password_file = \"{}\"\n",
        certificate("box.pem", "locked.key"),
        file("passphrase")
    );
    let ways = [
        (format!("smtp+starttls://smart.test:{}", ports[0]), &mine, "TLSv1.3"),
        (format!("smtp+starttls://smart.test:{}", ports[1]), &encrypted, "TLSv1.2"),
        (format!("smtps://smart.test:{}", ports[2]), &mine, "TLSv1.3"),
    ];
    place.configure(&settings(&ways[0].0, ""));
    let daemon = place.serve();
    for (number, (url, keys, version)) in ways.iter().enumerate() {
        reconfigure(&place, &daemon, &settings(url, ""));
        paused(&place, &[&ports[number].to_string(), "No client certificate presented"]);
        let (text, code) = probe(&place);
        assert!(text.contains("name it in relay.certificate, and its key"), "{text}");
        assert_ne!(code, 0, "{text}");
        leaves(&place, &daemon, &settings(url, keys));
        let count = ways.iter().take(number + 1).filter(|way| way.2 == *version).count();
        postfix.wait_for_log(&["Trusted TLS connection established", version], count);
        let (text, code) = probe(&place);
        assert_eq!(code, 0, "{text}");
    }
    // One of another issuer, and one that is not in the list.
    reconfigure(&place, &daemon, &settings(&ways[0].0, &certificate("foreign.pem", "foreign.key")));
    paused(&place, &["Client certificate not trusted"]);
    assert!(probe(&place).0.contains("has to trust the issuer or the fingerprint"));
    reconfigure(&place, &daemon, &settings(&ways[0].0, &certificate("stranger.pem", "stranger.key")));
    place.wait_for_log(&["event=paused", "Client host rejected: Access denied"]);
    // A key of another certificate: nobody is asked, and the text names the file. `check` does, too.
    let wrong = settings(&ways[0].0, &certificate("box.pem", "stranger.key"));
    reconfigure(&place, &daemon, &wrong);
    place.wait_for_log(&[
        "event=paused",
        "no client certificate for smart.test",
        "is not the key of this certificate",
    ]);
    let mut check = Command::new(env!("CARGO_BIN_EXE_pillarbox"));
    let check = check.arg("-c").arg(place.path("pillarbox.toml")).arg("check").output().unwrap();
    let told = String::from_utf8_lossy(&[check.stdout, check.stderr].concat()).into_owned();
    let line = told
        .lines()
        .find(|line| line.contains("is not the key of this certificate"))
        .unwrap_or_else(|| panic!("{told}"));
    let text = fs::read_to_string(place.path("pillarbox.toml")).unwrap();
    let number = text.lines().position(|line| line.starts_with("relay.key =")).unwrap() + 1;
    assert!(
        line.starts_with(&format!("{}:{number}:", file("pillarbox.toml"))) && line.contains("stranger.key"),
        "{line}"
    );
    leaves(&place, &daemon, &settings(&ways[0].0, &mine));
    wait_until("all have arrived", SOON, || files(&place.path("inbox/them/new")).len() == ways.len() + 1);
    daemon.stop();
    assert!(!place.log().contains("open sesame") && !place.log().contains("PRIVATE KEY"));
}

/// A relay of the own network that signs its certificate itself, as Proton Bridge does for 127.0.0.1: `probe` prints the line
/// to write, and the fingerprint is believed in each form; another certificate gets no login.
#[test]
fn a_self_signed_relay_is_known_by_its_fingerprint() {
    let Some(place) = place() else { return };
    self_signed(&place, "bridge", &["127.0.0.1"]);
    self_signed(&place, "other", &["127.0.0.1"]);
    let _dovecot = dovecot(&place);
    let ports: [u16; 2] = std::array::from_fn(|_| free_port());
    let options = "-o smtpd_sasl_auth_enable=yes -o smtpd_tls_security_level=may \
                   -o smtpd_client_restrictions=permit_sasl_authenticated,reject";
    let postfix = Postfix::start(&place, &[(ports[0], "bridge", options), (ports[1], "other", options)]);
    let password = password_file(&place, PASSWORD);
    let named = named(&ports);
    let settings = |scheme: &str, port: u16, fingerprint: &str| {
        format!(
            "{named}relay.smarthost = \"{scheme}://127.0.0.1:{port}\"\nrelay.username = \"joe@smart.test\"\n\
             relay.password_file = {password:?}\n{fingerprint}\n{ROUTE}"
        )
    };
    place.configure(&settings("smtp+starttls", ports[0], ""));
    let daemon = place.serve();
    paused(&place, &["certificate verify failed (self-signed certificate)"]);
    let (text, code) = probe(&place);
    assert_eq!(code, 69, "{text}");
    let (_, line) = text.split_once("if it is the host's own, write ").unwrap_or_else(|| panic!("{text}"));
    let (line, _) = line.split_once(';').unwrap();
    let file = place.path("bridge.pem").display().to_string();
    let printed = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &file]);
    assert_eq!(line, format!("relay.fingerprint = \"{}\"", printed.split_once('=').unwrap().1));
    assert!(!postfix.log().contains("sasl_username"), "{}", postfix.log());
    leaves(&place, &daemon, &settings("smtp+starttls", ports[0], line));
    postfix.wait_for_log(&["sasl_username=joe@smart.test"], 1);

    // As curl has it: `openssl dgst` prints the same digest.
    let key = openssl(&["x509", "-noout", "-pubkey", "-in", &file]);
    let key = place.write("bridge.pub", &format!("{key}\n")).display().to_string();
    let der = place.path("bridge.der").display().to_string();
    openssl(&["pkey", "-pubin", "-in", &key, "-outform", "DER", "-out", &der]);
    let digest = run(program("openssl", "openssl").args(["dgst", "-sha256", "-binary", &der])).stdout;
    let pin = format!("relay.fingerprint = \"sha256//{}\"", pillarbox::mail::base64::encode(&digest));
    let printed = format!("relay.fingerprint = \"{printed}\"");
    for (number, (scheme, line)) in [("smtp+starttls", &pin), ("smtp", &printed)].into_iter().enumerate() {
        // Another host in its place gets neither login nor mail, and no clear text either.
        reconfigure(&place, &daemon, &settings(scheme, ports[1], line));
        let refused =
            || place.logged(&["event=paused", "has not the fingerprint of relay.fingerprint"]).len();
        send(place.port, "a@box.test", "them@far.test", MESSAGE);
        wait_until("the route pauses", SOON, || refused() == number + 1);
        let (text, _) = probe(&place);
        assert!(
            text.contains("another host answers in its place") && text.contains("it shows a certificate"),
            "{text}"
        );
        leaves(&place, &daemon, &settings(scheme, ports[0], line));
        postfix.wait_for_log(&["sasl_username=joe@smart.test"], number + 2);
    }
    assert_eq!(postfix.log().matches("sasl_username").count(), 3, "{}", postfix.log());
    daemon.stop();
}

/// A smarthost whose certificate has another name: `probe` prints the line to write.
#[test]
fn a_certificate_with_another_name_is_taken_by_tls_name() {
    let Some(place) = place() else { return };
    let authority = Authority::new(&place);
    authority.sign(&place, "other", &["mail.other.test"], 30);
    let port = free_port();
    let _postfix = Postfix::start(&place, &[(port, "other", "-o smtpd_tls_security_level=encrypt")]);
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let settings = |name: &str| {
        format!(
            "relay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.ca_file = \"{}\"\n{name}\n{ROUTE}",
            place.path("ca.pem").display()
        )
    };
    place.configure(&settings(""));
    let daemon = place.serve();
    paused(&place, &["ostname mismatch"]);
    let (text, _) = probe(&place);
    let (_, line) = text.split_once("if it is the host's own, write ").unwrap_or_else(|| panic!("{text}"));
    let (line, _) = line.split_once(';').unwrap();
    assert_eq!(line, "relay.tls_name = \"mail.other.test\"");
    leaves(&place, &daemon, &settings(line));
    assert_eq!(place.logged(&["event=connected", "tls=verified"]).len(), 1, "{}", place.log());
    daemon.stop();
}

/// A place with the certificates of Exim, `smart.test`, and of this host.
fn place_of_exim() -> (Place, Authority) {
    let place = Place::open();
    let authority = Authority::new(&place);
    authority.sign(&place, "certificate", &["smart.test"], 30);
    fs::rename(place.path("certificate.key"), place.path("key.pem")).unwrap();
    authority.sign(&place, "box", &["box.test"], 30);
    (place, authority)
}

/// Exim's `external` authenticator, behind GnuTLS: the certificate is the login, with a user name and without one.
#[test]
fn exim_takes_external() {
    let (place, authority) = place_of_exim();
    authority.sign(&place, "stranger", &["stranger.test"], 30);
    let d = place.dir.display().to_string();
    let extra = Extra {
        main: &format!("tls_try_verify_hosts = *\ntls_verify_certificates = {d}/ca.pem\n"),
        acl: " accept authenticated = *\n deny message = log in first\n",
        authenticators: "ext:\n driver = external\n public_name = EXTERNAL\n \
             server_advertise_condition = ${if eq{$tls_in_certificate_verified}{1}}\n \
             server_condition = ${if eq{${certextract{subject,CN}{$tls_in_peercert}}}{box.test}}\n \
             server_set_id = ${if def:auth1{$auth1}{by-certificate}}\n",
    };
    let Some(_exim) = exim::start(&place, &extra) else { return };
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let port = place.sink_port;
    let settings = |name: &str, more: &str| {
        format!(
            "relay.smarthost = \"smtp+starttls://smart.test:{port}\"\nrelay.ca_file = \"{d}/ca.pem\"\n\
             relay.certificate = \"{d}/{name}.pem\"\nrelay.key = \"{d}/{name}.key\"\n{more}\n{ROUTE}"
        )
    };
    place.configure(&settings("stranger", ""));
    let daemon = place.serve();
    paused(&place, &["535"]);
    let (text, code) = probe(&place);
    assert!(text.contains("takes the client certificate for none of its accounts"), "{text}");
    assert_eq!(code, 77, "{text}");
    // The operator of this host puts another certificate in its place: SIGHUP is enough.
    for kind in ["pem", "key"] {
        fs::copy(place.path(&format!("box.{kind}")), place.path(&format!("stranger.{kind}"))).unwrap();
    }
    leaves(&place, &daemon, &settings("stranger", ""));
    let log = || exim::log(&place);
    wait_until("Exim has it", SOON, || log().contains(" A=ext:by-certificate "));
    for auth in ["auto", "external"] {
        reconfigure(
            &place,
            &daemon,
            &settings("box", &format!("relay.username = \"joe\"\nrelay.auth = \"{auth}\"")),
        );
        send(place.port, "a@box.test", "them@far.test", MESSAGE);
        place.wait_for_empty_queue(SOON);
    }
    wait_until("Exim has all", SOON, || log().matches(" A=ext:joe ").count() == 2);
    assert_eq!(place.logged(&["event=connected", "tls=verified", "auth=joe"]).len(), 2, "{}", place.log());
    daemon.stop();
}

/// Exim that ends the handshake without a certificate, or with one of another issuer: GnuTLS sends the alerts.
#[test]
fn exim_asks_for_a_certificate_by_alerts() {
    let (place, _) = place_of_exim();
    let d = place.dir.display().to_string();
    let main = format!("tls_verify_hosts = *\ntls_verify_certificates = {d}/ca.pem\n");
    let Some(_exim) = exim::start(&place, &Extra { main: &main, ..Extra::default() }) else { return };
    let _dns = place.dns(&["--host-record=smart.test,127.0.0.1"]);
    let settings = |more: &str| {
        format!(
            "relay.smarthost = \"smtp+starttls://smart.test:{}\"\nrelay.ca_file = \"{d}/ca.pem\"\n{more}\n{ROUTE}",
            place.sink_port
        )
    };
    place.configure(&settings(""));
    let daemon = place.serve();
    paused(&place, &["the host wants a client certificate (tlsv13 alert certificate required)"]);
    let (text, _) = probe(&place);
    assert!(text.contains("name it in relay.certificate, and its key"), "{text}");
    let both = fs::read(place.path("box.pem")).unwrap();
    let both = [both, fs::read(place.path("box.key")).unwrap()].concat();
    place.write("both.pem", &String::from_utf8(both).unwrap());
    fs::set_permissions(place.path("both.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    leaves(&place, &daemon, &settings(&format!("relay.certificate = \"{d}/both.pem\"")));
    assert!(exim::log(&place).contains(" <= a@box.test "), "{}", exim::log(&place));
    daemon.stop();
}
