use super::client::send;
use super::harness::{Daemon, Place, Running, SOON, free_port, program, python, run, wait_until};
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// An MX host of these domains, with a self-signed certificate for this name in `certificate.pem`.
fn mx(name: &str, domains: &str) -> (Place, Daemon) {
    let place = Place::new();
    certificate(&place, name);
    let d = place.dir.display();
    place.configure(&format!(
        "hostname = \"{name}\"\nlocal.domains = [{domains}]\n\
         tls.certificate = \"{d}/certificate.pem\"\ntls.key = \"{d}/key.pem\"\n"
    ));
    let daemon = place.serve();
    (place, daemon)
}

pub fn certificate(place: &Place, name: &str) {
    let mut command = program("openssl", "openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "9",
    ]);
    command.args(["-subj", "/CN=far", "-addext", &format!("subjectAltName=DNS:{name}")]);
    command.arg("-keyout").arg(place.path("key.pem")).arg("-out").arg(place.path("certificate.pem"));
    run(&mut command);
    fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// The SHA-256 of the certificate's key in hexadecimal, as TLSA 3 1 1 wants it, by openssl(1).
fn key_hash(place: &Place) -> String {
    let script =
        "openssl x509 -noout -pubkey -in \"$0\" | openssl pkey -pubin -outform DER | openssl sha256 -r";
    let output = run(program("sh", "dash").args(["-c", script]).arg(place.path("certificate.pem")));
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

fn send_to(place: &Place, recipient: &str) {
    send(place.port, "s@y.test", recipient, b"Subject: hello\r\n\r\nhello\r\n");
}

/// unbound on `dns_port`, with a zone that ldns has signed; `tamper` changes it afterwards.
fn unbound(place: &Place, zone: &str, tamper: impl Fn(String) -> String) -> Running {
    place.write("zone", zone);
    let keygen = run(program("ldns-keygen", "ldnsutils").current_dir(&place.dir).args([
        "-a",
        "ECDSAP256SHA256",
        "-k",
        "far.test",
    ]));
    let key = String::from_utf8(keygen.stdout).unwrap().trim().to_owned();
    run(program("ldns-signzone", "ldnsutils").current_dir(&place.dir).args(["-o", "far.test", "zone", &key]));
    let signed = fs::read_to_string(place.path("zone.signed")).unwrap();
    place.write("zone.signed", &tamper(signed));
    let (d, port) = (place.dir.display(), place.dns_port);
    let conf = format!(
        "server:\n interface: 127.0.0.1\n port: {port}\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n\
         \x20directory: \"{d}\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"{d}/unbound.log\"\n\
         \x20local-zone: \"test.\" nodefault\n trust-anchor-file: \"{d}/{key}.key\"\n\
         remote-control:\n control-enable: no\n\
         auth-zone:\n name: \"far.test.\"\n zonefile: \"{d}/zone.signed\"\n for-downstream: no\n for-upstream: yes\n\
         \x20fallback-enabled: no\n"
    );
    let conf = place.write("unbound.conf", &conf);
    let unbound = Running::start(program("unbound", "unbound").arg("-c").arg(conf));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    wait_until("unbound answers", SOON, || {
        // SOA far.test, with the id 1.
        let asked = socket.send(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x03far\x04test\0\0\x06\0\x01").is_ok();
        asked && socket.recv(&mut [0; 512]).is_ok()
    });
    unbound
}

#[test]
fn dane_is_kept_to_behind_unbound_and_a_signed_zone() {
    let (far, _mx) =
        mx("other.test", "\"right.far.test\", \"wrong.far.test\", \"bogus.far.test\", \"plain.far.test\"");
    let (right, wrong, port) = (key_hash(&far), "11".repeat(32), far.port);
    let mut zone = String::from(
        "$ORIGIN far.test.\n$TTL 60\n@ IN SOA ns h 1 60 60 60 60\n@ IN NS ns\nns IN A 127.0.0.1\n",
    );
    for (name, hash) in [("right", &right), ("wrong", &wrong), ("bogus", &right)] {
        zone += &format!(
            "{name} IN MX 10 mx.{name}\nmx.{name} IN A 127.0.0.1\n_{port}._tcp.mx.{name} IN TLSA 3 1 1 {hash}\n"
        );
    }
    zone += "plain IN MX 10 mx.plain\nmx.plain IN A 127.0.0.1\n";
    let place = Place::new();
    let forged = "22".repeat(32);
    let _dns = unbound(&place, &zone, |signed| {
        let lines = signed.lines().map(|line| {
            let is_bogus = line.contains("mx.bogus") && line.contains("\tTLSA\t");
            if is_bogus { line.replace(&right, &forged) } else { line.to_owned() }
        });
        let text = lines.collect::<Vec<_>>().join("\n") + "\n";
        assert!(text.contains(&forged), "nothing was forged:\n{signed}");
        text
    });
    let with_tls = free_port();
    place.configure(&format!(
        "relay.port = {port}\nqueue.retry = \"1h\"\n[[listener]]\naddress = \"127.0.0.1:{with_tls}\"\ntls = \"require\"\n"
    ));
    let _daemon = place.serve();
    send_to(&place, "u@right.far.test");
    // Neither its name nor its issuer counts.
    far.wait_for_mail("u", 1);
    place.wait_for_log(&["event=connected relay=mx.right.far.test", " tls=dane "]);
    send_to(&place, "u@wrong.far.test");
    place.wait_for_log(&[
        "event=paused route=wrong.far.test",
        "status=4.7.0",
        "no TLSA record is for the certificate",
    ]);
    send_to(&place, "u@bogus.far.test");
    place.wait_for_log(&["event=paused route=bogus.far.test", "status=4.4.3", "TLSA"]);
    assert_eq!((far.mail("u").len(), place.queued()), (1, 2));
    // A host that requires verified TLS is reached with DANE, and not without it.
    python(REQUIRETLS, &[&with_tls.to_string(), "tls@right.far.test"]);
    far.wait_for_mail("tls", 1);
    python(REQUIRETLS, &[&with_tls.to_string(), "tls@plain.far.test"]);
    place.wait_for_log(&["event=bounced", "to=tls@plain.far.test", "status=5.7.30"]);
    place.wait_for_log(&["event=connected relay=mx.plain.far.test", " tls=unverified "]);
}

/// Sends with REQUIRETLS (RFC 8689).
const REQUIRETLS: &str = r#"
import smtplib, sys
with smtplib.SMTP("127.0.0.1", int(sys.argv[1])) as s:
    s.starttls()
    s.sendmail("s@box.test", [sys.argv[2]], "Subject: hello\r\n\r\nhello\r\n", mail_options=["REQUIRETLS"])
"#;

/// Serves a policy as `https://mta-sts.far.test` has it.
const HTTPS: &str = r#"
import http.server, os, ssl, sys
address, directory = sys.argv[1:]
os.chdir(directory + "/www")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(directory + "/certificate.pem", directory + "/key.pem")
server = http.server.ThreadingHTTPServer((address, 443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

/// The server of the policy, on an address of its own: it is on port 443 or nowhere (RFC 8461 §3.3).
fn https(place: &Place, policy: &str) -> Option<(Running, String)> {
    let pid = std::process::id();
    let address = format!("127.{}.{}.{}", 128 + pid % 64, pid / 64 % 256, 1 + pid / 16384 % 254);
    if let Err(error) = TcpListener::bind((address.as_str(), 443)) {
        println!(
            "note: only root may listen on port 443, so the fetch of policies is not tested here: {error}"
        );
        return None;
    }
    certificate(place, "mta-sts.far.test");
    publish(place, policy);
    let mut command = program("python3", "python3");
    command.args(["-c", HTTPS, &address]).arg(&place.dir);
    let server = Running::start(command.stderr(fs::File::create(place.path("https.log")).unwrap()));
    wait_until("the HTTPS server listens", SOON, || {
        std::net::TcpStream::connect((address.as_str(), 443)).is_ok()
    });
    Some((server, address))
}

fn publish(place: &Place, policy: &str) {
    fs::create_dir_all(place.path("www/.well-known")).unwrap();
    fs::write(place.path("www/.well-known/mta-sts.txt"), policy).unwrap();
}

fn fetches(place: &Place) -> usize {
    fs::read_to_string(place.path("https.log")).unwrap().matches("GET /.well-known/mta-sts.txt").count()
}

#[test]
fn mta_sts_is_fetched_from_an_https_server_and_kept_to() {
    const POLICY: &str = "version: STSv1\r\nmode: enforce\r\nmx: mx.far.test\r\nmax_age: 86400\r\n";
    let (far, _mx) = mx("mx.far.test", "\"far.test\"");
    let place = Place::new();
    let Some((_https, address)) = https(&place, POLICY) else { return };
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let anchors = read(&far.path("certificate.pem")) + &read(&place.path("certificate.pem"));
    place.write("anchors.pem", &anchors);
    let names = |txt: &str| {
        place.dns(&[
            "--mx-host=far.test,mx.far.test,10",
            "--host-record=mx.far.test,127.0.0.1",
            &format!("--host-record=mta-sts.far.test,{address}"),
            &format!("--txt-record=_mta-sts.far.test,v=STSv1; id={txt};"),
        ])
    };
    let dns = names("1");
    place.configure(&format!(
        "relay.port = {}\nqueue.retry = \"1h\"\nrelay.ca_file = \"{}\"\n",
        far.port,
        place.path("anchors.pem").display()
    ));
    let daemon = place.serve();
    for count in 1..=2 {
        send_to(&place, "u@far.test");
        far.wait_for_mail("u", count);
    }
    assert_eq!(
        place.logged(&["event=connected relay=mx.far.test", " tls=sts "]).len(),
        place.logged(&["event=connected"]).len()
    );
    assert_eq!(fetches(&place), 1, "the policy was kept");
    daemon.stop();
    // The policy survives a restart; and a new policy that does not name the host is followed, too.
    drop(dns);
    let _dns = names("2");
    publish(&place, &POLICY.replace("mx.far.test", "*.other.test"));
    let _daemon = place.serve();
    send_to(&place, "u@far.test");
    let paused = place.wait_for_log(&["event=paused route=far.test", "status=4.7.0"]);
    assert!(paused.contains("mx.far.test is not named by the MTA-STS policy of far.test"), "{paused}");
    assert_eq!((fetches(&place), far.mail("u").len(), place.queued()), (2, 2, 1));
}
