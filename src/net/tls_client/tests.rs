//! Handshakes over loopback, with OpenSSL's server at the other end.

use super::super::self_signed;
use super::*;
use crate::mail::date::WallTime;
use crate::net::transport::{Stopwatch, TcpTransport};
use crate::test_directory::TestDirectory;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslAcceptorBuilder, SslMethod, SslVerifyMode, SslVersion};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

/// What becomes of a handshake with a peer that does this.
fn shake(peer: impl FnOnce(TcpStream) + Send + 'static, patience: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let peer = std::thread::spawn(move || peer(far));
    let mut transport: Box<dyn Transport> = Box::new(TcpTransport::new(Arc::new(near)));
    let connector = Connector::new(None);
    let shaken =
        connector.start_tls(&mut transport, "mx.example", Verify::Nothing, Deadline::after(patience));
    assert!(matches!(transport.read(&mut [0], Deadline::after(patience)), Err(WireError::Closed)));
    drop(transport);
    peer.join().unwrap();
    shaken.unwrap_err().to_string()
}

#[test]
fn a_peer_that_hangs_in_the_handshake_is_left_at_the_deadline() {
    let stopwatch = Stopwatch::start();
    let silent = |mut far: TcpStream| drop(far.read_to_end(&mut Vec::new()));
    assert_eq!(shake(silent, Duration::from_millis(80)), "timed out");
    // Nor does an octet now and then lengthen it: the beginning of a record that is never whole.
    let slow = |mut far: TcpStream| {
        for octet in [0x16, 3, 3, 0x40, 0].into_iter().chain(std::iter::repeat(2)) {
            crate::sys::thread::sleep(Duration::from_millis(15));
            if far.write_all(&[octet]).is_err() {
                return;
            }
        }
    };
    assert_eq!(shake(slow, Duration::from_millis(150)), "timed out");
    assert!(stopwatch.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_handshake_that_fails_says_why_in_words() {
    let long = Duration::from_secs(20);
    let garbage = |mut far: TcpStream| far.write_all(b"554 go away, this is no TLS\r\n").unwrap();
    assert_eq!(shake(garbage, long), "wrong version number");
    let closed = shake(|mut far| drop(far.read(&mut [0; 4096])), long);
    assert!(!closed.contains("error:") && !closed.is_empty(), "{closed}");
}

#[test]
fn a_file_without_anchors_is_told() {
    let directory = TestDirectory::new();
    let path = directory.join("anchors");
    assert!(anchors(&path).err().unwrap().contains("can't be read"));
    for (text, words) in [
        ("", "holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n", "a damaged certificate"),
    ] {
        directory.file("anchors", text);
        assert!(anchors(&path).err().unwrap().contains(words));
    }
}

const NOW: WallTime = WallTime(1_795_416_810_000_000);

/// A server that wants a certificate, trusts only `trusted`, and sends `hello` when it has got one. Returns the name that it
/// was shown.
fn serve(
    mut far: SslAcceptorBuilder,
    trusted: &X509,
    hello: &'static [u8],
    tcp: TcpStream,
) -> Option<String> {
    let mut store = X509StoreBuilder::new().unwrap();
    store.add_cert(trusted.clone()).unwrap();
    // The certificates of the tests are made for a fixed time.
    store.set_flags(X509VerifyFlags::NO_CHECK_TIME | X509VerifyFlags::PARTIAL_CHAIN).unwrap();
    far.set_verify_cert_store(store.build()).unwrap();
    far.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    let mut stream = far.build().accept(tcp).ok()?;
    stream.write_all(hello).ok()?;
    let shown = stream.ssl().peer_certificate()?;
    let name = shown.subject_name().entries().next()?.data().to_string().ok()?.to_string();
    // The peer reads before the connection ends.
    let _ = stream.read(&mut [0; 9]);
    Some(name)
}

/// What the client hears from a server of this TLS version, and the name that the server was shown.
fn show(
    connector: &Connector,
    trusted: &X509,
    version: SslVersion,
) -> (Result<Vec<u8>, String>, Option<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let tcp = listener.accept().unwrap().0;
    let pem = self_signed::make("mx.example", NOW).unwrap();
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate(&X509::from_pem(&pem).unwrap()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(&pem).unwrap()).unwrap();
    acceptor.set_min_proto_version(Some(version)).unwrap();
    acceptor.set_max_proto_version(Some(version)).unwrap();
    let trusted = trusted.clone();
    let server = std::thread::spawn(move || serve(acceptor, &trusted, b"220 hi", tcp));
    let long = Deadline::after(Duration::from_secs(30));
    let mut transport: Box<dyn Transport> = Box::new(TcpTransport::new(Arc::new(near)));
    let mut heard = [0; 9];
    let result = connector
        .start_tls(&mut transport, "mx.example", Verify::Nothing, long)
        .and_then(|_| transport.read(&mut heard, long))
        .map(|length| heard[..length].to_vec());
    drop(transport);
    (result.map_err(|error| error.to_string()), server.join().unwrap())
}

#[test]
fn a_host_that_wants_a_certificate_gets_ours_and_says_so_otherwise() {
    let ours = self_signed::make("box.example", NOW).unwrap();
    let other = self_signed::make("other.example", NOW).unwrap();
    let certificate = |pem: &[u8]| X509::from_pem(pem).unwrap();
    let identity = ClientIdentity::new(&ours, &ours, None, NOW).unwrap();
    let with = Connector::with_identity(None, identity);
    assert!(with.has_identity() && !Connector::new(None).has_identity());
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (heard, name) = show(&with, &certificate(&ours), version);
        assert_eq!((heard.as_deref(), name.as_deref()), (Ok(&b"220 hi"[..]), Some("box.example")));
        let (refused, name) = show(&with, &certificate(&other), version);
        let refused = refused.unwrap_err();
        assert!(refused.starts_with("the host does not accept the client certificate ("), "{refused}");
        assert_eq!(name, None);
        let (missing, _) = show(&Connector::new(None), &certificate(&ours), version);
        let start = match version {
            SslVersion::TLS1_3 => "the host wants a client certificate (",
            _ => "the host ends the handshake, as for want of a client certificate (",
        };
        assert!(missing.as_ref().is_err_and(|text| text.starts_with(start)), "{missing:?}");
    }
}
