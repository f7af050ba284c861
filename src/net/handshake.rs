//! A prepared TLS handshake of a server.
//!
//! `tls` prepares it with the certificate, before the client asks for it; a transport that can speak TLS consumes
//! it in `start_tls`. The type has a file of its own because the transport knows no certificates.

use openssl::ssl::Ssl;

/// A handshake that is ready to begin.
#[derive(Debug)]
pub struct Handshake(pub(super) Ssl);
