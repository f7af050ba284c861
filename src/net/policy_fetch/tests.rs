//! Replies as text, and fetches from an HTTPS server on loopback.

use super::super::connect::TcpConnect;
use super::super::self_signed;
use super::*;
use crate::mail::date::WallTime;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime};

const BODY: &str = "version: STSv1\n";

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
        let whole = parse_reply(text.as_bytes());
        assert_eq!(whole, Ok(Some(BODY.as_bytes().to_vec())), "{text}");
        for cut in 0..text.len() {
            let part = parse_reply(&text.as_bytes()[..cut]);
            assert!(part == Ok(None) || part == whole, "{cut} octets of {text}: {part:?}");
        }
    }
    let long = format!("Content-Length: {}\r\n", POLICY_MAX_OCTETS + 1);
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
        (reply("Content-Length: 15\r\n", BODY).replace("text/plain", "text/html"), "not of the type"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n".to_owned() + BODY, "not of the type"),
        ("HTTP/1.1 301 Moved\r\nLocation: https://x/\r\n\r\n".into(), "301 Moved"),
        ("HTTP/1.1 2000 OK\r\n\r\n".into(), "2000"),
        ("HTTP/2 200 OK\r\n\r\n".into(), "HTTP/2"),
        ("220 smtp\r\n\r\n".into(), "220 smtp"),
        ("x".repeat(HEAD_MAX_OCTETS + 1), "head of the reply is too long"),
    ] {
        let error = parse_reply(text.as_bytes()).unwrap_err();
        assert!(error.contains(why), "{error}, not {why}");
    }
}

proptest! {
    #[test]
    fn no_reply_breaks_the_reader(head in "[ -~\r\n]{0,60}", body in prop::collection::vec("[0-9a-f]{0,2}\r?\n?", 0..9)) {
        let body = body.concat();
        for text in [head.clone(), reply(&format!("{head}\r\nTransfer-Encoding: chunked\r\n"), &body)] {
            if let Ok(Some(body)) = parse_reply(text.as_bytes()) {
                prop_assert!(body.len() <= POLICY_MAX_OCTETS);
            }
        }
    }
}

/// A server that gives this reply to one client for any request. Its certificate is in a file.
struct Server {
    address: SocketAddr,
    ca_file: PathBuf,
    asked: thread::JoinHandle<String>,
}

impl Server {
    fn start(name: &str, reply: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let pem = self_signed::make(name, WallTime(now.as_micros().try_into().unwrap())).unwrap();
        let ca_file =
            std::env::temp_dir().join(format!("pillarbox-fetch-{}-{}", std::process::id(), address.port()));
        std::fs::write(&ca_file, &pem).unwrap();
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
        Self { address, ca_file, asked }
    }

    fn fetch(self, ca_file: Option<PathBuf>) -> (Result<String, String>, String) {
        let connector = Connector::new(ca_file);
        let deadline = Deadline::after(Duration::from_secs(20));
        let nobody = "127.0.0.1:1".parse().unwrap();
        let fetched =
            fetch(&TcpConnect::default(), &connector, "mta-sts.far.test", &[nobody, self.address], deadline);
        std::fs::remove_file(&self.ca_file).unwrap();
        (fetched, self.asked.join().unwrap())
    }
}

#[test]
fn a_policy_comes_from_the_second_address_within_verified_tls() {
    let server = Server::start("mta-sts.far.test", reply("Content-Length: 15\r\n", BODY));
    let ca_file = server.ca_file.clone();
    let (fetched, asked) = server.fetch(Some(ca_file));
    assert_eq!(fetched.as_deref(), Ok(BODY));
    assert!(
        asked.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.far.test\r\n"),
        "{asked}"
    );
}

#[test]
fn nobody_else_is_asked_and_nothing_half_is_believed() {
    let server = Server::start("mta-sts.far.test", reply("Content-Length: 15\r\n", BODY));
    let (fetched, asked) = server.fetch(None);
    assert!(fetched.unwrap_err().starts_with("TLS: certificate verify failed"));
    assert_eq!(asked, "", "nothing was asked of who is not trusted");
    let server = Server::start("other.test", reply("Content-Length: 15\r\n", BODY));
    let ca_file = server.ca_file.clone();
    let (fetched, asked) = server.fetch(Some(ca_file));
    assert!(fetched.unwrap_err().contains("ostname mismatch"));
    assert_eq!(asked, "");
    for (reply, why) in [
        (reply("Content-Length: 16\r\n", BODY), "cut"),
        (reply("Content-Length: 15\r\n", BODY).replace("200", "302"), "302"),
        (reply(&format!("X: {}\r\n", "x".repeat(REPLY_MAX_OCTETS)), BODY), "too long"),
    ] {
        let server = Server::start("mta-sts.far.test", reply);
        let ca_file = server.ca_file.clone();
        let error = server.fetch(Some(ca_file)).0.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let connector = Connector::new(None);
    let nowhere =
        fetch(&TcpConnect::default(), &connector, "mta-sts.far.test", &[], Deadline::after(Duration::ZERO));
    assert_eq!(nowhere.unwrap_err(), "the host has no address");
}
