//! Replies as text, and fetches from an HTTPS server on loopback.

use super::super::connect::TcpConnect;
use super::super::self_signed;
use super::*;
use crate::mail::date::WallTime;
use crate::test_directory::TestDirectory;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, SystemTime};

const BODY: &str = "version: STSv1\n";
const BODY_MAX: usize = 64 * 1024;

fn reply(head: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{head}\r\n{body}")
}

#[test]
fn a_reply_is_read_only_if_it_is_sound() {
    let fine = |head: &str, body: &str| reply(head, body);
    for text in [
        fine("Content-Length: 15\r\n", BODY),
        fine("content-length:15\r\nX: y\r\n", &format!("{BODY}more")),
        reply("Content-Length: 15\r\n", BODY).replace("text/plain", "Text/Plain; charset=utf-8"),
        reply("Content-Length: 15\r\n", BODY).replace("HTTP/1.1 200 OK", "HTTP/1.0 200"),
        fine("Transfer-Encoding: chunked\r\n", "8;x=y\r\nversion:\r\n7\r\n STSv1\n\r\n0\r\n\r\n"),
        fine("Transfer-Encoding: Chunked\r\nContent-Length: 3\r\n", "F\r\nversion: STSv1\n\r\n000\r\n"),
    ] {
        let whole = parse_reply(text.as_bytes(), BODY_MAX);
        let read = whole.clone().unwrap().unwrap();
        assert_eq!((read.status, read.content_type.as_str()), (200, "text/plain"), "{text}");
        assert_eq!(read.body, BODY.as_bytes(), "{text}");
        for cut in 0..text.len() {
            let part = parse_reply(&text.as_bytes()[..cut], BODY_MAX);
            assert!(part == Ok(None) || part == whole, "{cut} octets of {text}: {part:?}");
        }
    }
    let long = format!("Content-Length: {}\r\n", BODY_MAX + 1);
    let chunks = format!("8000\r\n{}\r\n", "x".repeat(0x8000)).repeat(3);
    for (text, why) in [
        (fine("", BODY), "does not state its length"),
        (fine("Content-Length: -1\r\n", BODY), "no sound length"),
        (fine("Content-Length: +1\r\n", BODY), "no sound length"),
        (fine("Content-Length: \r\n", BODY), "no sound length"),
        (fine("Content-Length: 99999999999999999999999\r\n", BODY), "no sound length"),
        (fine(&long, BODY), "no sound length"),
        (fine("Transfer-Encoding: chunked\r\n", "x\r\n"), "no sound size"),
        (fine("Transfer-Encoding: chunked\r\n", "\r\n"), "no sound size"),
        (fine("Transfer-Encoding: chunked\r\n", "2\r\nabcd\r\n"), "longer than its size"),
        (fine("Transfer-Encoding: chunked\r\n", &chunks), "too long"),
        (fine("Transfer-Encoding: gzip, chunked\r\n", BODY), "encoded as"),
        (fine("Content-Encoding: gzip\r\nContent-Length: 15\r\n", BODY), "encoded as"),
        (fine("Content-Length: 15\r\nno colon\r\n", BODY), "the line"),
        ("HTTP/1.1 2000 OK\r\n\r\n".into(), "2000"),
        ("HTTP/1.1 -20 OK\r\n\r\n".into(), "-20"),
        ("HTTP/2 200 OK\r\n\r\n".into(), "HTTP/2"),
        ("220 smtp\r\n\r\n".into(), "220 smtp"),
        ("x".repeat(HEAD_MAX_OCTETS + 1), "head of the reply is too long"),
    ] {
        let error = parse_reply(text.as_bytes(), BODY_MAX).unwrap_err();
        assert!(error.contains(why), "{error}, not {why}");
    }
}

#[test]
fn status_retry_and_type_are_told_and_left_to_the_caller() {
    let read = |text: &str| parse_reply(text.as_bytes(), 100).unwrap().unwrap();
    let busy = read("HTTP/1.1 429 Too Many\r\nRetry-After: 17\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((busy.status, busy.retry_after, busy.content_type.as_str()), (429, Some(17), ""));
    let dated = "HTTP/1.1 503 X\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(read(dated).retry_after, None);
    assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n").body, b"");
    let moved = read("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((moved.status, moved.status_line.as_str()), (301, "HTTP/1.1 301 Moved"));
}

#[test]
fn a_request_says_what_it_brings_and_where_it_goes() {
    let get = HttpsRequest {
        host: "a.test",
        port: 443,
        path: "/x?y",
        accept: "text/plain",
        body: None,
        body_max_octets: 9,
    };
    assert_eq!(
        head_of(&get),
        "GET /x?y HTTP/1.1\r\nHost: a.test\r\nUser-Agent: pillarbox\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    );
    let post = head_of(&HttpsRequest { port: 8443, body: Some(("text/x", b"abc")), ..get });
    assert!(post.starts_with("POST /x?y HTTP/1.1\r\nHost: a.test:8443\r\n"), "{post}");
    assert!(post.contains("\r\nContent-Type: text/x\r\nContent-Length: 3\r\n"), "{post}");
}

proptest! {
    #[test]
    fn no_reply_breaks_the_reader(head in "[ -~\r\n]{0,60}", body in prop::collection::vec("[0-9a-f]{0,2}\r?\n?", 0..9)) {
        let body = body.concat();
        for text in [head.clone(), reply(&format!("{head}\r\nTransfer-Encoding: chunked\r\n"), &body)] {
            if let Ok(Some(read)) = parse_reply(text.as_bytes(), BODY_MAX) {
                prop_assert!(read.body.len() <= BODY_MAX);
            }
        }
    }
}

/// A server that gives this reply to one client for any request. Its certificate is in a file.
struct Server {
    address: SocketAddr,
    directory: TestDirectory,
    asked: thread::JoinHandle<String>,
}

impl Server {
    fn start(name: &str, reply: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let pem = self_signed::make(name, WallTime(now.as_micros().try_into().unwrap())).unwrap();
        let directory = TestDirectory::new();
        directory.file("ca.pem", &pem);
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&PKey::private_key_from_pem(&pem).unwrap()).unwrap();
        acceptor.set_certificate(&X509::from_pem(&pem).unwrap()).unwrap();
        let asked = thread::spawn(move || {
            let Ok(mut stream) = acceptor.build().accept(listener.accept().unwrap().0) else {
                return String::new();
            };
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut octet = [0];
                stream.read_exact(&mut octet).unwrap();
                asked.push(octet[0]);
            }
            // The client may have hung up.
            let _ = stream.write_all(reply.as_bytes());
            let _ = stream.shutdown();
            String::from_utf8(asked).unwrap()
        });
        Self { address, directory, asked }
    }

    /// What a client gets that trusts the certificate, or not.
    fn fetch(self, is_trusted: bool) -> (Result<HttpsReply, String>, String) {
        let nobody = "127.0.0.1:1".parse().unwrap();
        let ca_file = is_trusted.then(|| self.directory.join("ca.pem"));
        let fetched = ask(&Connector::new(ca_file), &[nobody, self.address], None);
        (fetched, self.asked.join().unwrap())
    }
}

fn ask(
    connector: &Connector,
    addresses: &[SocketAddr],
    body: Option<(&str, &[u8])>,
) -> Result<HttpsReply, String> {
    let (host, port, path) = ("mta-sts.far.test", PORT_HTTPS, "/policy");
    let request = HttpsRequest { host, port, path, accept: "text/plain", body, body_max_octets: BODY_MAX };
    let deadline = Deadline::after(Duration::from_secs(20));
    exchange(&TcpConnect::default(), connector, addresses, &request, deadline)
}

#[test]
fn a_reply_comes_from_the_second_address_within_verified_tls() {
    let server = Server::start("mta-sts.far.test", reply("Content-Length: 15\r\n", BODY));
    let (fetched, asked) = server.fetch(true);
    assert_eq!(fetched.unwrap().body, BODY.as_bytes());
    assert!(asked.starts_with("GET /policy HTTP/1.1\r\nHost: mta-sts.far.test\r\n"), "{asked}");
}

#[test]
fn nobody_else_is_asked_and_nothing_half_is_believed() {
    let server = Server::start("mta-sts.far.test", reply("Content-Length: 15\r\n", BODY));
    let (fetched, asked) = server.fetch(false);
    assert!(fetched.unwrap_err().starts_with("TLS: certificate verify failed"));
    assert_eq!(asked, "", "nothing was asked of who is not trusted");
    let server = Server::start("other.test", reply("Content-Length: 15\r\n", BODY));
    let (fetched, asked) = server.fetch(true);
    assert!(fetched.unwrap_err().contains("ostname mismatch"));
    assert_eq!(asked, "");
    let too_long = HEAD_MAX_OCTETS + 2 * BODY_MAX;
    for (reply, why) in [
        (reply("Content-Length: 16\r\n", BODY), "cut"),
        (reply(&format!("X: {}\r\n", "x".repeat(too_long)), BODY), "too long"),
    ] {
        let server = Server::start("mta-sts.far.test", reply);
        let error = server.fetch(true).0.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let nowhere = ask(&Connector::new(None), &[], Some(("text/plain", b"x")));
    assert_eq!(nowhere.unwrap_err(), "the host has no address");
}

/// Where only the status counts, no body makes a reply unsound.
#[test]
fn a_body_that_is_not_wanted_is_not_read() {
    for head in [
        "Content-Length: 99999999999999999999\r\n",
        "Content-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "",
    ] {
        let read = parse_reply(reply(head, "\u{1f}\u{8b}").as_bytes(), 0).unwrap().unwrap();
        assert_eq!((read.status, read.body.len()), (200, 0), "{head}");
    }
    assert!(parse_reply(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", 0).is_err());
    assert_eq!(parse_reply(b"HTTP/1.1 200 OK\r\n", 0), Ok(None));
}
