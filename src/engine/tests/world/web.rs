//! A scripted web server: HTTPS on loopback, in threads of its own.

use super::World;
use super::net::Peer;
use crate::mail::date::WallTime;
use crate::net::self_signed;
use openssl::pkey::PKey;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The name of every web server.
pub const WEB_NAME: &str = "login.test";

/// What a web server answers: a status line with further fields, and the body. `None`: it closes the connection.
pub type Answer = Option<(&'static str, String)>;

/// Key and certificate of every web server, in PEM.
pub fn web_certificate() -> &'static [u8] {
    static PEM: OnceLock<Vec<u8>> = OnceLock::new();
    PEM.get_or_init(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self_signed::make(WEB_NAME, WallTime(now.as_micros().try_into().unwrap())).unwrap()
    })
}

/// Starts a web server, which the world knows by [`WEB_NAME`]. Its script gets the request line and the body.
pub fn serve_web(world: &World, mut script: impl FnMut(&str, &str) -> Answer + Send + 'static) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.net.address(WEB_NAME, &["127.0.0.50"]);
    world.net.peer("127.0.0.50:443", Peer::Socket(listener.local_addr().unwrap()));
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_private_key(&PKey::private_key_from_pem(web_certificate()).unwrap()).unwrap();
    acceptor.set_certificate(&X509::from_pem(web_certificate()).unwrap()).unwrap();
    let acceptor = acceptor.build();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = acceptor.accept(stream.unwrap()) else { continue };
            let (line, body) = read_request(&mut stream);
            if let Some((head, body)) = script(&line, &body) {
                let length = body.len();
                let _ = write!(stream, "HTTP/1.1 {head}\r\nContent-Length: {length}\r\n\r\n{body}");
            }
            let _ = stream.shutdown();
        }
    });
}

/// The request line, and the body.
fn read_request(stream: &mut impl Read) -> (String, String) {
    let mut octets = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&octets).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if length.is_none_or(|length| body.len() >= length.parse().unwrap()) {
                return (head.lines().next().unwrap_or_default().to_owned(), body.to_owned());
            }
        }
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => octets.extend_from_slice(&buffer[..length]),
            _ => return (String::new(), String::new()),
        }
    }
}
