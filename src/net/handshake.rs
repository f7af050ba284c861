//! What a server's TLS handshake needs, made ready before the client asks for it. `tls` makes it from the certificate; a
//! transport that can speak TLS uses it up in `start_tls`. It stands below both, as the transport knows no certificates.

use openssl::ssl::Ssl;

/// A handshake that can begin.
#[derive(Debug)]
pub struct Handshake(pub(super) Ssl);
