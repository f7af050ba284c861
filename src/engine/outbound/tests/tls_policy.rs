//! MTA-STS and DANE: MX hosts and an HTTPS server with certificates run in threads of the test; DNS answers come from a
//! table.

use crate::engine::tests::world::*;
use crate::mail::date::WallTime;
use crate::net::resolver::{DnsErrorKind, DnsRecord, RecordSet, Rtype};
use crate::net::self_signed;
use openssl::pkey::PKey;
use openssl::sha::sha256;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

const ENFORCE: &str = "version: STSv1\nmode: enforce\nmx: *.far.example\nmax_age: 600000\n";

/// A server with TLS on loopback, until the tests end.
struct TlsServer {
    address: SocketAddr,
    pem: Vec<u8>,
    /// Messages, or fetches.
    count: Arc<AtomicUsize>,
}

impl TlsServer {
    fn start(name: &str, serve: impl Fn(TcpStream, &SslAcceptor, &AtomicUsize) + Send + 'static) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let pem = self_signed::make(name, WallTime(now.as_micros().try_into().unwrap())).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&PKey::private_key_from_pem(&pem).unwrap()).unwrap();
        acceptor.set_certificate(&X509::from_pem(&pem).unwrap()).unwrap();
        let (acceptor, listener) = (acceptor.build(), TcpListener::bind("127.0.0.1:0").unwrap());
        let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&count);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                serve(stream, &acceptor, &counter);
            }
        });
        Self { address, pem, count }
    }

    fn mx(name: &str, starttls: bool) -> Self {
        Self::start(name, move |mut stream, acceptor, taken| {
            let _ = stream.write_all(b"220 mx\r\n");
            if speak(&mut stream, starttls, taken)
                && let Ok(mut stream) = acceptor.accept(stream)
            {
                speak(&mut stream, false, taken);
            }
        })
    }

    fn https(name: &str, policy: Arc<Mutex<String>>) -> Self {
        Self::start(name, move |stream, acceptor, fetches| {
            let Ok(mut stream) = acceptor.accept(stream) else { return };
            while line(&mut stream).is_some_and(|line| !line.is_empty()) {}
            fetches.fetch_add(1, Ordering::SeqCst);
            let policy = policy.lock().unwrap().clone();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n",
                policy.len()
            );
            let _ = stream.write_all((head + &policy).as_bytes());
            let _ = stream.shutdown();
        })
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// TLSA 3 1 1 of its key.
    fn tlsa(&self) -> Vec<u8> {
        let key = X509::from_pem(&self.pem).unwrap().public_key().unwrap().public_key_to_der().unwrap();
        [&[3, 1, 1], sha256(&key).as_slice()].concat()
    }
}

fn line(stream: &mut impl Read) -> Option<String> {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        stream.read_exact(&mut octet).ok()?;
        line.push(octet[0]);
    }
    Some(String::from_utf8(line).unwrap().trim_end().to_owned())
}

/// An SMTP server that takes everything; says whether TLS comes now.
fn speak(stream: &mut (impl Read + Write), starttls: bool, taken: &AtomicUsize) -> bool {
    while let Some(command) = line(stream) {
        let verb = command.split(' ').next().unwrap();
        let reply = match verb {
            "EHLO" if starttls => "250-mx\r\n250 STARTTLS\r\n",
            "STARTTLS" | "QUIT" => "220 bye\r\n",
            "DATA" => "354 go\r\n",
            _ => "250 ok\r\n",
        };
        if stream.write_all(reply.as_bytes()).is_err() || verb == "QUIT" {
            return false;
        }
        if verb == "STARTTLS" {
            return true;
        }
        if verb == "DATA" {
            while line(stream).is_some_and(|line| line != ".") {}
            taken.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(b"250 taken\r\n");
        }
    }
    false
}

/// A box, and `far.example` with its MX host and the host of its policy.
struct Scene {
    world: World,
    mx: TlsServer,
    https: TlsServer,
    policy: Arc<Mutex<String>>,
}

impl Scene {
    /// `certified`: the name in the certificate of the MX host.
    fn new(config: &str, certified: &str, starttls: bool) -> Self {
        let policy = Arc::new(Mutex::new(ENFORCE.to_owned()));
        let mx = TlsServer::mx(certified, starttls);
        let https = TlsServer::https("mta-sts.far.example", Arc::clone(&policy));
        let place = World::place();
        let ca_file = place.file("anchors.pem", [&*mx.pem, &https.pem].concat());
        let config = format!("relay.ca_file = {ca_file:?}\nqueue.retry = \"1m\"\n{config}");
        let world = World::at(&config, place);
        world.net.domain("far.example", "192.0.2.1", Peer::Socket(mx.address));
        world.net.address("mta-sts.far.example", &["192.0.2.2"]);
        world.net.peer("192.0.2.2:443", Peer::Socket(https.address));
        take_log();
        Self { world, mx, https, policy }
    }

    fn announces(&self, id: &str) {
        let record = format!("v=STSv1; id={id};");
        self.world.net.secure("_mta-sts.far.example", Rtype::TXT, &[record.as_bytes()]);
    }

    /// All of `far.example` is signed, and these are the TLSA records of its MX host.
    fn signed(&self, tlsa: &[&[u8]]) {
        self.world.net.secure("far.example", Rtype::MX, &[]);
        self.world.net.secure("mx.far.example", Rtype::A, &[]);
        self.world.net.secure("_25._tcp.mx.far.example", Rtype::TLSA, tlsa);
    }

    /// Sends a message; the word for TLS in the log, or why it did not go.
    fn send(&self) -> String {
        self.world.accept("alice@box.example", &["joe@far.example"]);
        self.send_queued()
    }

    fn send_queued(&self) -> String {
        let before = self.mx.count();
        self.world.manager.index.flush(self.world.manager.clock.now().running);
        self.world.pass();
        let log = take_log();
        let find = |event: &str| log.iter().find(|line| line.starts_with(event)).cloned();
        match find("event=connected ") {
            Some(line) => {
                assert!(self.mx.count() > before, "{log:#?}");
                line.split(' ').find_map(|part| part.strip_prefix("tls=")).unwrap().to_owned()
                    + if find("event=tls_policy ").is_some() { ", and a word" } else { "" }
            }
            None => {
                assert_eq!(self.mx.count(), before, "{log:#?}");
                find("event=paused ").unwrap_or_else(|| panic!("{log:#?}"))
            }
        }
    }
}

#[test]
fn a_policy_is_fetched_once_kept_and_followed() {
    let scene = Scene::new("", "mx.far.example", true);
    assert_eq!((scene.send().as_str(), scene.https.count()), ("unverified", 0), "nothing was announced");
    scene.announces("1");
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts", 1));
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts", 1), "it is kept");
    let file = scene.world.state().join("sts/far.example");
    assert!(std::fs::read_to_string(&file).unwrap().ends_with(ENFORCE));
    let mode = std::os::unix::fs::MetadataExt::mode(&file.metadata().unwrap());
    assert_eq!(mode & 0o777, 0o700, "marked: mail was sent under it");
    // Another id is another policy; what can't be fetched leaves the old one.
    scene.announces("2");
    *scene.policy.lock().unwrap() = "version: STSv2\n".into();
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts, and a word", 2));
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts", 2), "not again at once");
    scene.world.clock.advance(11 * MINUTE);
    *scene.policy.lock().unwrap() = ENFORCE.replace("*.far", "other.far");
    let paused = scene.send();
    assert!(
        paused.contains("status=4.7.0") && paused.contains("not named by the MTA-STS policy of far.example")
    );
    *scene.policy.lock().unwrap() = ENFORCE.replace("enforce", "none");
    scene.announces("3");
    assert_eq!((scene.send_queued().as_str(), scene.https.count()), ("unverified", 4));
    // A day later it is fetched again, though the id is the same.
    *scene.policy.lock().unwrap() = ENFORCE.into();
    assert_eq!(scene.send(), "unverified");
    scene.world.clock.advance(DAY);
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts", 5));
    // A damaged policy is fetched again; without a record nothing is fetched, and the policy on disk still holds.
    std::fs::write(&file, "damaged").unwrap();
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts, and a word", 6));
    scene.world.net.secure("_mta-sts.far.example", Rtype::TXT, &[]);
    scene.world.clock.advance(6 * DAY);
    assert_eq!((scene.send().as_str(), scene.https.count()), ("sts", 6));
    scene.world.clock.advance(DAY);
    assert_eq!((scene.send().as_str(), scene.https.count()), ("unverified", 6), "its time is over");
}

#[test]
fn a_host_that_breaks_the_policy_is_used_only_in_a_test() {
    for (certified, starttls, mx, why, testing) in [
        ("other.example", true, "*.far.example", "ostname mismatch", "unverified, and a word"),
        ("mx.far.example", false, "*.far.example", "does not offer STARTTLS", "none, and a word"),
        ("mx.far.example", true, "x.far.example", "is not named by the MTA-STS", "unverified, and a word"),
        ("mx.far.example", true, "mx.far.example", "", "sts"),
    ] {
        let scene = Scene::new("", certified, starttls);
        scene.announces("1");
        *scene.policy.lock().unwrap() = ENFORCE.replace("*.far.example", mx);
        let strict = scene.send();
        if why.is_empty() {
            assert_eq!(strict, "sts");
            scene.world.accept("alice@box.example", &["joe@far.example"]);
        } else {
            let expected = ["status=4.7.0", why, "MTA-STS policy of"];
            assert!(expected.iter().all(|part| strict.contains(part)), "{strict}");
        }
        *scene.policy.lock().unwrap() = ENFORCE.replace("*.far.example", mx).replace("enforce", "testing");
        scene.announces("2");
        assert_eq!(scene.send_queued(), testing, "{why}");
    }
}

#[test]
fn a_policy_that_can_not_be_had_is_none_and_is_not_asked_for_again_at_once() {
    let scene = Scene::new("", "mx.far.example", true);
    scene.announces("1");
    scene.world.net.peer("192.0.2.2:443", Peer::Refuses);
    for expected in ["unverified, and a word", "unverified"] {
        assert_eq!(scene.send(), expected);
    }
    let asked = || scene.world.net.take_attempts().iter().filter(|it| *it == "192.0.2.2:443").count();
    assert_eq!(asked(), 1);
    for (seconds, times) in [(599, 0), (1, 1)] {
        scene.world.clock.advance(Duration::from_secs(seconds));
        assert!(scene.send().starts_with("unverified"));
        assert_eq!(asked(), times, "{seconds}");
    }
    // No policy is asked for where the operator has decided, or where this host is a backup MX of the domain.
    for config in ["relay.tls = \"off\"", "relay.mta_sts = false", "relay.domains = \"far.example\""] {
        let scene = Scene::new(config, "other.example", true);
        scene.announces("1");
        let expected = if config.contains("off") { "none" } else { "unverified" };
        assert_eq!((scene.send().as_str(), scene.https.count()), (expected, 0), "{config}");
    }
}

#[test]
fn dane_counts_where_all_is_secure_and_then_before_all_else() {
    // No name, no chain: the certificate is for another host, and signed by nobody.
    let scene = Scene::new("", "other.example", true);
    let (right, wrong) = (scene.mx.tlsa(), [&[3, 1, 1], [7; 32].as_slice()].concat());
    let authority = [&[2, 0, 1], [7; 32].as_slice()].concat();
    scene.announces("1");
    scene.signed(&[&authority, &wrong, &right]);
    assert_eq!(scene.send(), "dane", "though MTA-STS would not have it");
    scene.signed(&[&authority, &wrong]);
    let paused = scene.send();
    assert!(
        paused.contains("status=4.7.0") && paused.contains("no TLSA record is for the certificate"),
        "{paused}"
    );
    scene.world.net.secure("_mta-sts.far.example", Rtype::TXT, &[]);
    let _ = std::fs::remove_file(scene.world.state().join("sts/far.example"));
    // No record is usable: encrypted, without a check.
    scene.signed(&[&authority]);
    assert_eq!(scene.send_queued(), "unverified");
    scene.signed(&[]);
    assert_eq!(scene.send(), "unverified", "there is none");
    // Not secure: as if the record did not exist.
    scene.signed(&[&wrong]);
    for (name, rtype) in
        [("far.example", Rtype::MX), ("mx.far.example", Rtype::A), ("_25._tcp.mx.far.example", Rtype::TLSA)]
    {
        scene.world.net.records(name, rtype, Ok(RecordSet::default()));
        assert_eq!(scene.send(), "unverified", "{name}");
        scene.signed(&[&wrong]);
    }
    // A failed look-up of the addresses is not taken for an unsigned zone, unless the other one shows that it is one.
    let failing = || Err(dns_error(DnsErrorKind::Temporary));
    let unsigned = || Ok(RecordSet { records: vec![DnsRecord::Data(vec![0; 4])], is_secure: false });
    let secure = || Ok(RecordSet { is_secure: true, ..RecordSet::default() });
    for (a, aaaa, expected) in [
        (failing(), failing(), "status=4.4.3"),
        (failing(), Ok(RecordSet::default()), "status=4.4.3"),
        (Ok(RecordSet::default()), failing(), "status=4.4.3"),
        (failing(), secure(), "no TLSA record is for the certificate"),
        (failing(), unsigned(), "unverified"),
        (unsigned(), failing(), "unverified"),
    ] {
        scene.world.net.records("mx.far.example", Rtype::A, a.clone());
        scene.world.net.records("mx.far.example", Rtype::AAAA, aaaa.clone());
        let sent = scene.send();
        assert!(sent.contains(expected), "{a:?} {aaaa:?}: {sent}");
    }
    scene.world.net.records("mx.far.example", Rtype::AAAA, Ok(RecordSet::default()));
    scene.signed(&[&wrong]);
    // A failed look-up is not taken for an answer.
    for (kind, waits) in [(DnsErrorKind::Temporary, true), (DnsErrorKind::NoSuchDomain, false)] {
        scene.world.net.records("_25._tcp.mx.far.example", Rtype::TLSA, Err(dns_error(kind)));
        let sent = scene.send();
        assert_eq!(sent.contains("status=4.4.3"), waits, "{sent}");
        assert_eq!(sent == "unverified", !waits, "{sent}");
    }
    scene.signed(&[&wrong]);
    scene.world.net.records("far.example", Rtype::MX, Err(dns_error(DnsErrorKind::Temporary)));
    assert!(scene.send().contains("status=4.4.3"));
}

#[test]
fn with_dane_nothing_goes_in_clear() {
    for (config, tlsa_is_right, expected) in [
        ("", true, "4.7.0"),
        ("", false, "4.7.0"),
        ("relay.dane = false", true, "none"),
        ("relay.tls = \"off\"", true, "none"),
    ] {
        let scene = Scene::new(config, "mx.far.example", false);
        let authority = [&[2, 0, 1], [7; 32].as_slice()].concat();
        scene.signed(&[if tlsa_is_right { scene.mx.tlsa() } else { authority }.as_slice()]);
        let sent = scene.send();
        assert!(
            sent == expected || sent.contains("does not offer STARTTLS") && sent.contains(expected),
            "{sent}"
        );
    }
    // The operator's word goes no further than DANE's.
    let scene = Scene::new("relay.tls = \"required\"", "other.example", true);
    assert!(scene.send().contains("ostname mismatch"));
    scene.signed(&[&scene.mx.tlsa()]);
    assert_eq!(scene.send_queued(), "dane");
}
