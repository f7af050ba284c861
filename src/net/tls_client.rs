//! TLS towards next hops, by the system's library (native-tls).
//!
//! The caller chooses how the server's certificate is checked ([`Verify`]):
//!
//! | check | accepts | used for |
//! | --- | --- | --- |
//! | `Nothing` | any certificate | opportunistic TLS: better than clear text, and safe against passive listeners (RFC 7435) |
//! | `Name` | chain, dates, and the name or address that this host meant to reach | MTA-STS, smarthosts, HTTPS |
//! | `By` | a certificate that the caller's function accepts | DANE |
//!
//! TLS 1.2 is the minimum. The trust anchors are read when a certificate is verified for the first time, because they
//! cost memory and time.
//!
//! Failures: a handshake, with the reason in words, and the file of additional trust anchors.

use super::tls_socket::Socket;
use super::transport::{Deadline, Transport, WireError};
use crate::sys::file::{self, FileKind};
use native_tls::{Certificate, HandshakeError, Protocol, TlsConnector, TlsStream};
use std::fmt;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

/// How long sending the close_notify may take.
const CLOSE_NOTIFY: Duration = Duration::from_millis(10);
/// How long the decryption of received octets may take: they are there, or the record is incomplete.
const GLANCE: Duration = Duration::from_millis(10);

/// How the server's certificate is checked.
#[derive(Clone, Copy)]
pub enum Verify<'a> {
    /// Not checked.
    Nothing,
    /// Chain, dates and name must be valid.
    Name,
    /// The function gets the certificate in DER and returns what is wrong with it.
    By(&'a dyn Fn(&[u8]) -> Result<(), String>),
}

/// What the server showed in its handshake.
#[derive(Debug, Default)]
pub struct Shown {
    /// `tls-server-end-point` (RFC 5929 §4), which ties a login to this connection.
    pub end_point: Option<Vec<u8>>,
    /// Its certificate, in DER.
    pub certificate: Vec<u8>,
}

/// Makes TLS connections; all outgoing connections share it.
#[derive(Default)]
pub struct Connector {
    ca_file: Option<PathBuf>,
    trusting: OnceLock<TlsConnector>,
    verifying: OnceLock<TlsConnector>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector that trusts the system's trust anchors and those of a PEM file.
    #[must_use]
    pub const fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, trusting: OnceLock::new(), verifying: OnceLock::new() }
    }

    /// Performs the handshake as the client, with a host of this name (or address), and replaces `transport` by the
    /// TLS connection.
    ///
    /// # Errors
    /// The deadline has passed, the peer closed, or the handshake failed, in words. The connection cannot be used
    /// afterwards.
    pub fn start_tls(
        &self,
        transport: &mut Box<dyn Transport>,
        host: &str,
        verify: Verify<'_>,
        deadline: Deadline,
    ) -> Result<Shown, WireError> {
        let connector = match verify {
            Verify::Name => self.verifying(),
            Verify::Nothing | Verify::By(_) => self.trusting(),
        }?;
        let below = std::mem::replace(transport, Box::new(Gone));
        match connector.connect(host, Socket::new(below, deadline)) {
            Ok(stream) => {
                let certificate =
                    stream.peer_certificate().and_then(|shown| shown.map(|it| it.to_der()).transpose());
                let certificate = certificate.map_err(failed)?.unwrap_or_default();
                if let Verify::By(judge) = verify {
                    judge(&certificate).map_err(other)?;
                }
                let end_point = stream.tls_server_end_point().ok().flatten();
                *transport = Box::new(TlsClientTransport { stream, ahead: None });
                Ok(Shown { end_point, certificate })
            }
            Err(HandshakeError::WouldBlock(_)) => Err(WireError::TimedOut),
            Err(HandshakeError::Failure(error)) => Err(failed(error)),
        }
    }

    fn trusting(&self) -> Result<&TlsConnector, WireError> {
        if let Some(connector) = self.trusting.get() {
            return Ok(connector);
        }
        // An unchecked certificate needs no trust anchors.
        let mut builder = TlsConnector::builder();
        builder.min_protocol_version(Some(Protocol::Tlsv12)).disable_built_in_roots(true);
        builder.danger_accept_invalid_certs(true).danger_accept_invalid_hostnames(true);
        let connector = builder.build().map_err(failed)?;
        Ok(self.trusting.get_or_init(|| connector))
    }

    fn verifying(&self) -> Result<&TlsConnector, WireError> {
        if let Some(connector) = self.verifying.get() {
            return Ok(connector);
        }
        let mut builder = TlsConnector::builder();
        builder.min_protocol_version(Some(Protocol::Tlsv12));
        for anchor in self.ca_file.as_deref().map_or(Ok(Vec::new()), anchors).map_err(other)? {
            builder.add_root_certificate(anchor);
        }
        let connector = builder.build().map_err(failed)?;
        Ok(self.verifying.get_or_init(|| connector))
    }
}

/// Stands for a connection that was handed over.
struct Gone;

impl Transport for Gone {
    fn read(&mut self, _: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        Err(WireError::Closed)
    }

    fn write_all(&mut self, _: &[u8], _: Deadline) -> Result<(), WireError> {
        Err(WireError::Closed)
    }

    fn has_input(&mut self) -> bool {
        false
    }
}

/// Reads trust anchors.
///
/// # Errors
/// The file cannot be read, or holds no valid certificate; in words.
pub fn anchors(path: &Path) -> Result<Vec<Certificate>, String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let octets = file::read(path, FileKind::Certificate);
    let octets = octets.map_err(|error| format!("{path:?} can't be read: {error}"))?;
    // Bundles have comments in any encoding.
    let text = String::from_utf8_lossy(&octets);
    let certificates = text.match_indices(BEGIN).map(|(at, _)| {
        let pem = text.get(at..).unwrap_or_default();
        Certificate::from_pem(pem.as_bytes()).map_err(|_| format!("{path:?} has a damaged certificate"))
    });
    let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() {
        Err(format!("{path:?} holds no certificate in PEM"))
    } else {
        Ok(certificates)
    }
}

fn other(text: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> WireError {
    WireError::Io(std::io::Error::other(text))
}

/// The reason without OpenSSL's numbers and source files: `certificate verify failed: (certificate has expired)`.
fn failed(error: native_tls::Error) -> WireError {
    let text = error.to_string();
    let parts: Vec<&str> = text.split(':').collect();
    // error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:../ssl/…:1889: (…)
    let words = match parts.as_slice() {
        ["error", _, _, _, reason, rest @ ..] => {
            let detail =
                rest.iter().rev().find(|part| part.trim_start().starts_with('(')).map(|part| part.trim());
            format!("{reason} {}", detail.unwrap_or_default()).trim_end().to_owned()
        }
        _ => text,
    };
    other(words)
}

/// A TLS connection on the client's side.
struct TlsClientTransport {
    stream: TlsStream<Socket>,
    /// An octet that `has_input` has read.
    ahead: Option<u8>,
}

impl fmt::Debug for TlsClientTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClientTransport").finish_non_exhaustive()
    }
}

impl Transport for TlsClientTransport {
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError> {
        if let (Some(first), Some(octet)) = (buffer.first_mut(), self.ahead) {
            (*first, self.ahead) = (octet, None);
            return Ok(1);
        }
        self.stream.get_mut().set_deadline(deadline);
        match self.stream.read(buffer)? {
            0 => Err(WireError::Closed),
            octets => Ok(octets),
        }
    }

    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError> {
        self.stream.get_mut().set_deadline(deadline);
        Ok(self.stream.write_all(octets)?)
    }

    /// Octets below TLS may be a session ticket (RFC 8446 §4.6.1), which is no SMTP input: only an octet within TLS
    /// counts.
    fn has_input(&mut self) -> bool {
        if self.ahead.is_none() && self.stream.get_mut().has_input() {
            let mut octet = [0; 1];
            self.stream.get_mut().set_deadline(Deadline::after(GLANCE));
            self.ahead = self.stream.read(&mut octet).is_ok_and(|octets| octets > 0).then_some(octet[0]);
        }
        self.ahead.is_some() || self.stream.buffered_read_size().is_ok_and(|octets| octets > 0)
    }
}

impl Drop for TlsClientTransport {
    fn drop(&mut self) {
        self.stream.get_mut().set_deadline(Deadline::after(CLOSE_NOTIFY));
        let _ = self.stream.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::transport::{Stopwatch, TcpTransport};
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
        let path = std::env::temp_dir().join(format!("pillarbox-anchors-{}", std::process::id()));
        assert!(anchors(&path).err().unwrap().contains("can't be read"));
        for (text, words) in [
            ("", "holds no certificate in PEM"),
            ("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n", "a damaged certificate"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(anchors(&path).err().unwrap().contains(words));
        }
        std::fs::remove_file(path).unwrap();
    }
}
