//! Handshakes over loopback, with OpenSSL's client at the other end.

use super::super::self_signed;
use super::*;
use openssl::pkey::Id;
use openssl::ssl::{SslConnector, SslVerifyMode};
use openssl::symm::Cipher;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;

const NOW: WallTime = WallTime(1_795_416_810_000_000);

fn long() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// With a certificate of each kind, made once.
fn handshake(minimum: Minimum) -> Handshake {
    static ACCEPTOR: OnceLock<Acceptor> = OnceLock::new();
    let acceptor = ACCEPTOR.get_or_init(|| {
        let ec = self_signed::make("box.example", NOW).unwrap();
        let rsa = self_signed::make_rsa("box.example", NOW).unwrap();
        Acceptor::new(&[(&ec, &ec), (&rsa, &rsa)], NOW).unwrap()
    });
    acceptor.handshake(minimum).unwrap()
}

fn pair() -> (TcpTransport, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let far = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (TcpTransport::new(Arc::new(listener.accept().unwrap().0)), far)
}

/// What a client speaks: this version and no other, and these suites below TLS 1.3.
type Tongue = (Option<SslVersion>, &'static str);
const ANY_SUITE: &str = "ALL:@SECLEVEL=0";

fn connect(far: TcpStream, (version, suites): Tongue) -> Result<SslStream<TcpStream>, String> {
    let mut connector = SslConnector::builder(SslMethod::tls_client()).unwrap();
    connector.set_verify(SslVerifyMode::NONE);
    connector.set_security_level(0);
    connector.set_cipher_list(suites).unwrap();
    connector.set_min_proto_version(version).unwrap();
    connector.set_max_proto_version(version).unwrap();
    connector.build().connect("box.example", far).map_err(|error| error.to_string())
}

/// Shakes hands with such a client; the server's view and the client's.
fn shake(
    minimum: Minimum,
    tongue: Tongue,
) -> (Result<ServerTransport, WireError>, Result<SslStream<TcpStream>, String>) {
    let (near, far) = pair();
    let handshake = handshake(minimum);
    let client = thread::spawn(move || connect(far, tongue));
    let mut transport = ServerTransport::Plain(near);
    if let Err(error) = transport.start_tls(handshake, long()) {
        assert!(matches!(transport.read(&mut [0], long()), Err(WireError::Closed)));
        drop(transport);
        return (Err(error), client.join().unwrap());
    }
    (Ok(transport), client.join().unwrap())
}

#[test]
fn versions_from_the_minimum_on_are_spoken() {
    use SslVersion as V;
    for (minimum, version, works) in [
        (Minimum::Tls10, Some(V::TLS1), true),
        (Minimum::Tls10, Some(V::TLS1_3), true),
        (Minimum::Tls11, Some(V::TLS1), false),
        (Minimum::Tls11, Some(V::TLS1_1), true),
        (Minimum::Tls12, Some(V::TLS1_1), false),
        (Minimum::Tls12, Some(V::TLS1_2), true),
        (Minimum::Tls12, Some(V::TLS1_3), true),
        (Minimum::Tls12, None, true),
        (Minimum::Tls13, Some(V::TLS1_2), false),
        (Minimum::Tls13, Some(V::TLS1_3), true),
    ] {
        let (server, client) = shake(minimum, (version, ANY_SUITE));
        assert_eq!((server.is_ok(), client.is_ok()), (works, works), "{minimum:?} {version:?}");
        if let Err(error) = server {
            assert_eq!(error.to_string(), "TLS: unsupported protocol");
        }
    }
}

#[test]
fn version_and_cipher_are_told() {
    for (version, start) in [
        (SslVersion::TLS1_3, "TLSv1.3 with cipher TLS_"),
        (SslVersion::TLS1_2, "TLSv1.2 with cipher ECDHE-ECDSA-"),
    ] {
        let (near, far) = pair();
        let client = thread::spawn(move || connect(far, (Some(version), ANY_SUITE)));
        let description = ServerTransport::Plain(near).start_tls(handshake(Minimum::Tls12), long());
        let description = description.unwrap();
        assert!(description.starts_with(start), "{description}");
        client.join().unwrap().unwrap();
    }
}

#[test]
fn octets_go_both_ways_and_the_end_is_told() {
    let (server, client) = shake(Minimum::Tls12, (None, ANY_SUITE));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert!(!server.has_input());
    client.write_all(b"hello").unwrap();
    let mut buffer = [0; 3];
    assert_eq!(server.read(&mut buffer, long()).unwrap(), 3);
    assert!(server.has_input(), "what OpenSSL holds counts");
    assert_eq!(server.read(&mut buffer, long()).unwrap(), 2);
    let text = vec![b'x'; 100_000];
    let sender = thread::spawn(move || {
        server.write_all(&text, long()).unwrap();
        drop(server);
    });
    let mut received = Vec::new();
    // Without close_notify this would be an error.
    client.read_to_end(&mut received).unwrap();
    assert_eq!(received.len(), 100_000);
    sender.join().unwrap();
}

/// Nagle's algorithm would delay the octets after the handshake.
fn arrive(server: &mut ServerTransport) {
    let ServerTransport::Tls(server) = server else { panic!("no TLS") };
    while !server.0.get_mut().has_input() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A health check makes a handshake and closes: it did not speak before the greeting.
#[test]
fn the_end_of_tls_is_no_input() {
    let (server, client) = shake(Minimum::Tls12, (None, ANY_SUITE));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    client.shutdown().unwrap();
    arrive(&mut server);
    assert!(!server.has_input());
    assert!(matches!(server.read(&mut [0], long()), Err(WireError::Closed)));
    let (server, client) = shake(Minimum::Tls12, (None, ANY_SUITE));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    client.write_all(b"E").unwrap();
    // A look is short: on a slow machine one may end before the octet is decrypted.
    while !server.has_input() {
        thread::sleep(Duration::from_millis(1));
    }
    assert!(server.has_input(), "an octet is not used up by looking at it");
    assert_eq!(server.read(&mut [0; 9], long()).unwrap(), 1);
}

#[test]
fn the_end_of_the_peer_is_an_end_with_and_without_a_word() {
    for polite in [true, false] {
        let (server, client) = shake(Minimum::Tls12, (None, ANY_SUITE));
        let (mut server, mut client) = (server.unwrap(), client.unwrap());
        if polite {
            client.shutdown().unwrap();
        }
        drop(client);
        assert!(matches!(server.read(&mut [0], long()), Err(WireError::Closed)), "{polite}");
    }
}

#[test]
fn a_read_ends_at_its_deadline_and_the_connection_goes_on() {
    let (server, client) = shake(Minimum::Tls12, (None, ANY_SUITE));
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    let short = Deadline::after(Duration::from_millis(20));
    assert!(matches!(server.read(&mut [0; 9], short), Err(WireError::TimedOut)));
    server.write_all(b"421", long()).unwrap();
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 3);
    client.write_all(b"late").unwrap();
    assert_eq!(server.read(&mut [0; 9], long()).unwrap(), 4);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_at_the_deadline() {
    let (server, client) = shake(Minimum::Tls12, (None, ANY_SUITE));
    let mut server = server.unwrap();
    let error = server.write_all(&vec![0; 64 << 20], Deadline::after(Duration::from_millis(50))).unwrap_err();
    assert!(matches!(error, WireError::TimedOut), "{error}");
    drop(client);
}

#[test]
fn a_handshake_has_a_deadline_however_its_octets_drip() {
    let (near, mut far) = pair();
    let drip = thread::spawn(move || {
        // A record of 512 octets is announced; one comes each 10 ms, so that no single wait is long.
        far.write_all(&[0x16, 3, 1, 2, 0]).unwrap();
        while far.write_all(&[1]).is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut transport = ServerTransport::Plain(near);
    let deadline = Deadline::after(Duration::from_millis(100));
    let error = transport.start_tls(handshake(Minimum::Tls12), deadline).unwrap_err();
    assert!(matches!(error, WireError::TimedOut), "{error}");
    assert!(deadline.remaining().is_zero());
    drop(transport);
    drip.join().unwrap();
}

#[test]
fn plain_text_is_no_handshake() {
    for text in [
        "MAIL FROM:<injected@evil.example>\r\n",
        "EHLO x\r\n",
        "\0\0\0\0\0\0\0\0\0\0\0",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        let (near, mut far) = pair();
        far.write_all(text.as_bytes()).unwrap();
        let mut transport = ServerTransport::Plain(near);
        let error = transport.start_tls(handshake(Minimum::Tls12), long()).unwrap_err();
        assert!(error.to_string().starts_with("TLS: "), "{text:?}: {error}");
    }
}

/// The cipher suites of an old device select one of the two certificates.
#[test]
fn rsa_and_old_suites_are_there_for_those_who_need_them() {
    use Minimum::{Tls10, Tls12};
    use SslVersion as V;
    for (minimum, version, suites, expected) in [
        (Tls12, V::TLS1_2, "ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0", Some(Id::RSA)),
        (Tls12, V::TLS1_2, "ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0", Some(Id::EC)),
        (Tls12, V::TLS1_2, ANY_SUITE, Some(Id::EC)),
        (Tls12, V::TLS1_2, "AES128-SHA:@SECLEVEL=0", None),
        (Tls12, V::TLS1_2, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", None),
        (Tls10, V::TLS1_2, "AES128-SHA:@SECLEVEL=0", Some(Id::RSA)),
        (Tls10, V::TLS1, "AES128-SHA:@SECLEVEL=0", Some(Id::RSA)),
        (Tls10, V::TLS1, "DHE-RSA-AES256-SHA:@SECLEVEL=0", Some(Id::RSA)),
        (Tls10, V::TLS1_1, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", Some(Id::EC)),
        (Tls10, V::TLS1_2, "AECDH-AES128-SHA:NULL:@SECLEVEL=0", None),
    ] {
        let (_server, client) = shake(minimum, (Some(version), suites));
        let key = client.ok().map(|c| c.ssl().peer_certificate().unwrap().public_key().unwrap().id());
        assert_eq!(key, expected, "{minimum:?} {version:?} {suites}");
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_told() {
    let pem = self_signed::make("box.example", NOW).unwrap();
    let other = self_signed::make("box.example", NOW).unwrap();
    let text = String::from_utf8(pem.clone()).unwrap();
    let (key, certificate) = text.split_at(text.find("-----BEGIN CERT").unwrap());
    let locked = PKey::private_key_from_pem(key.as_bytes()).unwrap();
    let locked = locked.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
    let told = |chain: &[u8], key: &[u8], now| match Acceptor::new(&[(chain, key)], now) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    };
    let days = |days: u64| WallTime(NOW.0 + days * 86_400_000_000);
    assert_eq!(told(certificate.as_bytes(), key.as_bytes(), NOW), "");
    assert_eq!(told(&[certificate.as_bytes(), &other].concat(), key.as_bytes(), NOW), "", "a chain");
    assert_eq!(told(&pem, &pem, days(824)), "");
    assert_eq!(told(&pem, &pem, WallTime(0)), "", "the clock of a box may be late");
    for (chain, key, now, start) in [
        (&b""[..], pem.as_slice(), NOW, "holds no certificate in PEM;"),
        (key.as_bytes(), &pem, NOW, "holds no certificate in PEM;"),
        (&pem[..pem.len() - 99], &pem, NOW, "holds no certificate in PEM;"),
        (&pem, b"", NOW, "holds no private key in PEM without a password;"),
        (&pem, certificate.as_bytes(), NOW, "holds no private key in PEM"),
        (&pem, &locked, NOW, "holds no private key in PEM without a password;"),
        (&pem, &other, NOW, "is not the key of tls.certificate"),
        (&pem, &pem, days(825), "ended on Feb 24 "),
    ] {
        let text = told(chain, key, now);
        assert!(text.starts_with(start), "{start} ≠ {text}");
    }
}

#[test]
fn a_self_signed_certificate_says_who_and_how_long() {
    let made = |hostname: &str| X509::from_pem(&self_signed::make(hostname, NOW).unwrap()).unwrap();
    let rsa = |hostname: &str| X509::from_pem(&self_signed::make_rsa(hostname, NOW).unwrap()).unwrap();
    let long_name = format!("{}.example", "a23456789.".repeat(20));
    for (hostname, common, certificate) in [
        ("box.example", "box.example", made("box.example")),
        (long_name.as_str(), "pillarbox", made(&long_name)),
        ("box.example", "box.example", rsa("box.example")),
    ] {
        let name = certificate.subject_name().entries().next().unwrap().data().to_string().unwrap();
        assert_eq!(name.to_string(), common);
        let names = certificate.subject_alt_names().unwrap();
        assert_eq!(names.get(0).unwrap().dnsname(), Some(hostname));
        assert!(certificate.verify(&certificate.public_key().unwrap()).unwrap());
        let seconds = |time| Asn1Time::from_str_x509("19700101000000Z").unwrap().diff(time).unwrap();
        let (from, to) = (seconds(certificate.not_before()), seconds(certificate.not_after()));
        assert_eq!(i64::from(from.days), (NOW.seconds() / 86_400) as i64 - 1);
        assert_eq!(to.days - from.days, 825);
    }
    let serial = |c: X509| c.serial_number().to_bn().unwrap();
    assert_ne!(serial(made("a")), serial(made("a")));
}
