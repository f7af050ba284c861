//! TLS towards next hops, by the system's library (native-tls).
//!
//! The caller chooses how the server's certificate is checked ([`Verify`]):
//!
//! | check | accepts | used for |
//! | --- | --- | --- |
//! | `Nothing` | any certificate | opportunistic TLS: better than clear text, and safe against passive listeners (RFC 7435) |
//! | `Name` | chain, dates, and the name or address that this host meant to reach | MTA-STS, smarthosts, HTTPS |
//! | `By` | a certificate that the caller's function accepts | DANE, fingerprints |
//!
//! A connector with a client certificate shows it to every host that asks for one, so each certificate has a connector of its
//! own.
//!
//! TLS 1.2 is the minimum. The trust anchors are read when a certificate is verified for the first time, because they
//! cost memory and time.
//!
//! Failures: a handshake, with the reason in words, and the file of additional trust anchors.

use super::client_identity::ClientIdentity;
pub use super::tls_failure::NOT_VERIFIED;
use super::tls_failure::{self, Circumstances, other};
use super::tls_socket::Socket;
use super::transport::{Deadline, Transport, WireError};
use crate::sys::file::{self, FileKind};
use native_tls::{Certificate, HandshakeError, Protocol, TlsConnector, TlsConnectorBuilder, TlsStream};
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
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

/// Makes TLS connections; all outgoing connections with the same client certificate, or without one, share it.
#[derive(Default)]
pub struct Connector {
    ca_file: Option<PathBuf>,
    identity: Option<ClientIdentity>,
    trusting: OnceLock<TlsConnector>,
    verifying: OnceLock<TlsConnector>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ca_file, identity, .. } = self;
        f.debug_struct("Connector")
            .field("ca_file", ca_file)
            .field("identity", identity)
            .finish_non_exhaustive()
    }
}

impl Connector {
    /// A connector that trusts the system's trust anchors and those of a PEM file.
    #[must_use]
    pub const fn new(ca_file: Option<PathBuf>) -> Self {
        Self { ca_file, identity: None, trusting: OnceLock::new(), verifying: OnceLock::new() }
    }

    /// The same with a client certificate.
    #[must_use]
    pub fn with_identity(ca_file: Option<PathBuf>, identity: ClientIdentity) -> Self {
        Self { identity: Some(identity), ..Self::new(ca_file) }
    }

    /// Whether it has a client certificate.
    #[must_use]
    pub const fn has_identity(&self) -> bool {
        self.identity.is_some()
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
        let socket = Socket::new(std::mem::replace(transport, Box::new(Gone)), deadline);
        let (has_certificate, is_greeted) = (self.has_identity(), socket.is_greeted());
        let is_verifying = matches!(verify, Verify::Name);
        let circumstances = || Circumstances {
            has_certificate,
            is_greeted: is_greeted.load(Ordering::Relaxed),
            is_verifying,
        };
        let failed = |error: native_tls::Error| tls_failure::of_handshake(&error, circumstances());
        match connector.connect(host, socket) {
            Ok(stream) => {
                let certificate =
                    stream.peer_certificate().and_then(|shown| shown.map(|it| it.to_der()).transpose());
                let certificate = certificate.map_err(failed)?.unwrap_or_default();
                if let Verify::By(judge) = verify {
                    judge(&certificate).map_err(other)?;
                }
                let end_point = stream.tls_server_end_point().ok().flatten();
                *transport = Box::new(TlsClientTransport { stream, ahead: None, has_certificate });
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
        let mut builder = self.builder();
        builder.disable_built_in_roots(true);
        builder.danger_accept_invalid_certs(true).danger_accept_invalid_hostnames(true);
        let connector = builder.build().map_err(|error| other(error.to_string()))?;
        Ok(self.trusting.get_or_init(|| connector))
    }

    fn verifying(&self) -> Result<&TlsConnector, WireError> {
        if let Some(connector) = self.verifying.get() {
            return Ok(connector);
        }
        let mut builder = self.builder();
        for anchor in self.ca_file.as_deref().map_or(Ok(Vec::new()), anchors).map_err(other)? {
            builder.add_root_certificate(anchor);
        }
        let connector = builder.build().map_err(|error| other(error.to_string()))?;
        Ok(self.verifying.get_or_init(|| connector))
    }

    fn builder(&self) -> TlsConnectorBuilder {
        let mut builder = TlsConnector::builder();
        builder.min_protocol_version(Some(Protocol::Tlsv12));
        if let Some(identity) = &self.identity {
            builder.identity(identity.inner.clone());
        }
        builder
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

/// A TLS connection on the client's side.
struct TlsClientTransport {
    stream: TlsStream<Socket>,
    /// An octet that `has_input` has read.
    ahead: Option<u8>,
    /// The connector has a client certificate.
    has_certificate: bool,
}

impl TlsClientTransport {
    fn failed(&self, error: io::Error) -> WireError {
        let has_certificate = self.has_certificate;
        let circumstances = Circumstances { has_certificate, is_greeted: true, is_verifying: false };
        tls_failure::of_stream(error, circumstances)
    }

    /// Why a write fails: a host that refuses the client certificate in TLS 1.3 says so and closes, and the alert is there
    /// to read.
    fn unwritten(&mut self, error: io::Error) -> WireError {
        if error.kind() == io::ErrorKind::WouldBlock {
            return WireError::TimedOut;
        }
        self.stream.get_mut().set_deadline(Deadline::after(GLANCE));
        match self.stream.read(&mut [0; 1]).map_err(|error| self.failed(error)) {
            Err(told @ WireError::Io(_)) => told,
            _ => self.failed(error),
        }
    }
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
        match self.stream.read(buffer) {
            Ok(0) => Err(WireError::Closed),
            Ok(octets) => Ok(octets),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError> {
        self.stream.get_mut().set_deadline(deadline);
        self.stream.write_all(octets).map_err(|error| self.unwritten(error))
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
mod tests;
