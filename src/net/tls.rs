//! TLS for clients that connect to this host: certificates with their keys, the handshake, and the encrypted
//! connection.
//!
//! | | set to |
//! | --- | --- |
//! | versions | the listener's minimum, at least TLS 1.0 |
//! | ciphers | Mozilla's "intermediate" list; for a minimum of 1.0 or 1.1 also SHA-1, CBC and RSA key exchange |
//! | certificates | one for each kind of key (EC, RSA); the client's ciphers select one |
//! | resumption, tickets, renegotiation | off |
//!
//! The module reads no files and never asks for the wall clock. The caller must discard what a client sent in clear
//! before the handshake (RFC 3207 §4.2, CVE-2011-0411). Failures: an invalid certificate or key
//! ([`IdentityError`]), and any handshake, which is an ordinary event.

use super::handshake::Handshake;
use super::tls_socket::Socket;
use super::transport::{Deadline, TcpTransport, Transport, WireError};
use crate::mail::date::WallTime;
use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::PKey;
use openssl::ssl::{
    self, ErrorCode, Ssl, SslAcceptor, SslContextBuilder, SslMethod, SslOptions, SslSessionCacheMode,
    SslStream, SslVersion,
};
use openssl::x509::{X509, X509Ref};
use std::time::Duration;
use std::{fmt, io};

/// How long sending the close_notify may take. The peer's own one is not awaited: a QUIT has been answered by then.
const CLOSE_NOTIFY: Duration = Duration::from_millis(10);
/// How long the decryption of received octets may take: they are there, or the record is incomplete.
const GLANCE: Duration = Duration::from_millis(10);

/// Why a certificate and its key cannot be used.
#[derive(Debug)]
pub enum IdentityError {
    /// The file holds no certificate.
    Certificate,
    /// The file holds no private key, or an encrypted one.
    Key,
    /// Certificate and key do not belong together.
    Mismatch,
    /// The certificate has expired, on this date.
    Expired(String),
    /// OpenSSL refuses them, or is out of memory.
    Refused(ErrorStack),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate => {
                f.write_str("holds no certificate in PEM; write its whole chain there, the host's own first")
            }
            Self::Key => f.write_str("holds no private key in PEM without a password; name the file of one"),
            Self::Mismatch => {
                f.write_str("is not the key of tls.certificate; name the key that it was made with")
            }
            Self::Expired(when) => {
                write!(f, "ended on {when}; renew it, or take both keys out for a self-signed one")
            }
            Self::Refused(why) => write!(f, "can't be used: {why}; take another"),
        }
    }
}

impl std::error::Error for IdentityError {}

impl From<ErrorStack> for IdentityError {
    fn from(stack: ErrorStack) -> Self {
        Self::Refused(stack)
    }
}

/// The ciphers for old devices: also SHA-1, CBC and RSA without forward secrecy. TLS 1.3 has its own list.
const OLD_CIPHERS: &str = "ALL:!aNULL:!eNULL:!PSK:!SRP:!RC4:!MD5";

/// The oldest version of TLS that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Minimum {
    /// RFC 2246; with old suites.
    Tls10,
    /// RFC 4346; with old suites.
    Tls11,
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Certificates with their keys; all connections share them, and a clone is cheap.
#[derive(Clone)]
pub struct Acceptor {
    inner: SslAcceptor,
    /// The end of the certificate that expires first, in seconds since 1970.
    ends: i64,
}

/// A certificate chain and its key, both in PEM.
pub type Identity<'a> = (&'a [u8], &'a [u8]);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").field("ends", &self.ends).finish_non_exhaustive()
    }
}

impl Acceptor {
    /// Prepares certificate chains and their keys; each key must be of another kind. Clients cannot resume
    /// sessions: there are few clients and the handshake is cheap, while a cache would grow and ticket keys would
    /// outlive their sessions.
    ///
    /// # Errors
    /// A certificate or a key cannot be used; see [`IdentityError`].
    pub fn new(identities: &[Identity<'_>], now: WallTime) -> Result<Self, IdentityError> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        // Each handshake sets its own minimum.
        builder.clear_options(SslOptions::NO_TLSV1 | SslOptions::NO_TLSV1_1);
        builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_TICKET);
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_num_tickets(0)?;
        let mut ends = i64::MAX;
        for identity in identities {
            ends = ends.min(Self::show(&mut builder, *identity, now)?);
        }
        Ok(Self { inner: builder.build(), ends })
    }

    /// Adds a certificate with its key. Returns the end of its validity.
    fn show(
        builder: &mut SslContextBuilder,
        (chain, key): Identity<'_>,
        now: WallTime,
    ) -> Result<i64, IdentityError> {
        let chain = X509::stack_from_pem(chain).map_err(|_| IdentityError::Certificate)?;
        let (leaf, others) = chain.split_first().ok_or(IdentityError::Certificate)?;
        // Without this OpenSSL would ask for the password on the terminal.
        let key = PKey::private_key_from_pem_callback(key, |_| Ok(0));
        let key = key.map_err(|_| IdentityError::Key)?;
        if !leaf.public_key()?.public_eq(&key) {
            return Err(IdentityError::Mismatch);
        }
        let ends = ends(leaf)?;
        if i64::try_from(now.seconds()).is_ok_and(|now| now > ends) {
            return Err(IdentityError::Expired(leaf.not_after().to_string()));
        }
        builder.set_certificate(leaf)?;
        builder.set_private_key(&key)?;
        for certificate in others {
            builder.add_extra_chain_cert(certificate.clone())?;
        }
        Ok(ends)
    }

    /// The end of the certificate that expires first.
    #[must_use]
    pub fn ends(&self) -> WallTime {
        WallTime(u64::try_from(self.ends).unwrap_or(0).saturating_mul(1_000_000))
    }

    /// Prepares a handshake. `None`: OpenSSL is out of memory.
    #[must_use]
    pub fn handshake(&self, minimum: Minimum) -> Option<Handshake> {
        let mut ssl = Ssl::new(self.inner.context()).ok()?;
        let (version, is_old) = match minimum {
            Minimum::Tls10 => (SslVersion::TLS1, true),
            Minimum::Tls11 => (SslVersion::TLS1_1, true),
            Minimum::Tls12 => (SslVersion::TLS1_2, false),
            Minimum::Tls13 => (SslVersion::TLS1_3, false),
        };
        ssl.set_min_proto_version(Some(version)).ok()?;
        if is_old {
            // These versions sign with SHA-1, which OpenSSL 3 does only at security level 0.
            ssl.set_security_level(0);
            ssl.set_cipher_list(OLD_CIPHERS).ok()?;
        }
        Some(Handshake(ssl))
    }
}

/// The end of the validity in seconds since 1970.
fn ends(certificate: &X509Ref) -> Result<i64, ErrorStack> {
    let span = Asn1Time::from_str_x509(&WallTime(0).to_generalized())?.diff(certificate.not_after())?;
    Ok(i64::from(span.days) * 86_400 + i64::from(span.secs))
}

/// The first cause in words, without places in OpenSSL's source.
fn reason(stack: &ErrorStack) -> String {
    let first = stack.errors().first().and_then(|error| error.reason());
    first.unwrap_or("no reason given").to_owned()
}

fn wire_error(error: ssl::Error) -> WireError {
    match error.code() {
        ErrorCode::WANT_READ | ErrorCode::WANT_WRITE => return WireError::TimedOut,
        ErrorCode::ZERO_RETURN => return WireError::Closed,
        _ => {}
    }
    if let Some(stack) = error.ssl_error() {
        let why = reason(stack);
        // The peer closed without close_notify. SMTP detects a truncated message itself.
        let is_end = why == "unexpected eof while reading";
        return if is_end {
            WireError::Closed
        } else {
            WireError::Io(io::Error::other(format!("TLS: {why}")))
        };
    }
    error.into_io_error().map_or(WireError::Closed, WireError::from)
}

/// A TLS connection.
#[derive(Debug)]
pub struct TlsTransport(SslStream<Socket>);

impl TlsTransport {
    /// Performs the handshake as the server.
    ///
    /// # Errors
    /// The deadline passed, the peer closed or violated the protocol, or both sides have no version or cipher in
    /// common.
    pub fn accept(tcp: TcpTransport, handshake: Handshake, deadline: Deadline) -> Result<Self, WireError> {
        let stream = SslStream::new(handshake.0, Socket::new(Box::new(tcp), deadline));
        let mut stream = stream.map_err(|stack| WireError::Io(stack.into()))?;
        stream.accept().map_err(wire_error)?;
        Ok(Self(stream))
    }

    /// Version and cipher: `TLSv1.3 with cipher TLS_AES_256_GCM_SHA384`.
    #[must_use]
    pub fn description(&self) -> String {
        let ssl = self.0.ssl();
        let cipher = ssl.current_cipher().map_or("none", |cipher| cipher.name());
        format!("{} with cipher {cipher}", ssl.version_str())
    }
}

impl Transport for TlsTransport {
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError> {
        self.0.get_mut().set_deadline(deadline);
        match self.0.ssl_read(buffer).map_err(wire_error)? {
            0 => Err(WireError::Closed),
            octets => Ok(octets),
        }
    }

    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError> {
        self.0.get_mut().set_deadline(deadline);
        let mut rest = octets;
        while !rest.is_empty() {
            let written = self.0.ssl_write(rest).map_err(wire_error)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Octets below TLS may be no SMTP input, such as a close_notify: only an octet within TLS counts.
    fn has_input(&mut self) -> bool {
        if self.0.ssl().pending() == 0 && self.0.get_mut().has_input() {
            self.0.get_mut().set_deadline(Deadline::after(GLANCE));
            return self.0.ssl_peek(&mut [0; 1]).is_ok_and(|octets| octets > 0);
        }
        self.0.ssl().pending() > 0
    }
}

impl Drop for TlsTransport {
    fn drop(&mut self) {
        self.0.get_mut().set_deadline(Deadline::after(CLOSE_NOTIFY));
        // Without close_notify the peer could not distinguish the end from an attacker's cut.
        let _ = self.0.shutdown();
    }
}

/// The server's end of a connection: in clear, or within TLS after STARTTLS.
#[derive(Debug)]
pub enum ServerTransport {
    /// In clear.
    Plain(TcpTransport),
    /// Within TLS.
    Tls(Box<TlsTransport>),
    /// The handshake has failed; the connection cannot be used.
    Closed,
}

impl ServerTransport {
    fn current(&mut self) -> Result<&mut dyn Transport, WireError> {
        match self {
            Self::Plain(tcp) => Ok(tcp),
            Self::Tls(tls) => Ok(&mut **tls),
            Self::Closed => Err(WireError::Closed),
        }
    }
}

impl Transport for ServerTransport {
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError> {
        self.current()?.read(buffer, deadline)
    }

    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError> {
        self.current()?.write_all(octets, deadline)
    }

    fn has_input(&mut self) -> bool {
        self.current().is_ok_and(|transport| transport.has_input())
    }

    fn start_tls(&mut self, handshake: Handshake, deadline: Deadline) -> Result<String, WireError> {
        let Self::Plain(tcp) = std::mem::replace(self, Self::Closed) else { return Err(WireError::Closed) };
        let tls = TlsTransport::accept(tcp, handshake, deadline)?;
        let description = tls.description();
        *self = Self::Tls(Box::new(tls));
        Ok(description)
    }
}

#[cfg(test)]
mod tests;
