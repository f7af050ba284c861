//! The server's side of TLS for a scripted host: in memory, and in the thread of the client.

use crate::mail::date::WallTime;
use crate::net::self_signed;
use openssl::pkey::PKey;
use openssl::ssl::{HandshakeError, MidHandshakeSslStream, SslAcceptor, SslMethod, SslStream};
use openssl::x509::X509;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::OnceLock;
use std::time::SystemTime;

/// The name in the certificate of every scripted host.
pub const CERTIFIED: &str = "mx.far.example";

/// Key and certificate of every scripted host, in PEM.
pub fn pem() -> &'static [u8] {
    static PEM: OnceLock<Vec<u8>> = OnceLock::new();
    PEM.get_or_init(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        self_signed::make(CERTIFIED, WallTime(now.as_micros().try_into().unwrap())).unwrap()
    })
}

fn acceptor() -> &'static SslAcceptor {
    static ACCEPTOR: OnceLock<SslAcceptor> = OnceLock::new();
    ACCEPTOR.get_or_init(|| {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_private_key(&PKey::private_key_from_pem(pem()).unwrap()).unwrap();
        acceptor.set_certificate(&X509::from_pem(pem()).unwrap()).unwrap();
        acceptor.build()
    })
}

/// The encrypted octets received and not yet read, and those to send.
#[derive(Debug, Default)]
struct Wire {
    come: VecDeque<u8>,
    go: VecDeque<u8>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.come.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { self.come.read(buffer) }
    }
}

impl Write for Wire {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.go.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The TLS state of a connection.
#[derive(Debug)]
enum Layer {
    Clear(VecDeque<u8>),
    /// STARTTLS was accepted; the next octets begin the handshake.
    Expected(VecDeque<u8>),
    Shaking(MidHandshakeSslStream<Wire>),
    On(Box<SslStream<Wire>>),
    /// The handshake has failed; the octets left to send, such as the alert.
    Failed(VecDeque<u8>),
}

/// The layer between a scripted host and the connection: clear text or TLS.
#[derive(Debug)]
pub struct HostTls(Layer);

impl Default for HostTls {
    fn default() -> Self {
        Self(Layer::Clear(VecDeque::new()))
    }
}

impl HostTls {
    pub fn is_on(&self) -> bool {
        matches!(self.0, Layer::On(_))
    }

    pub fn is_expected(&self) -> bool {
        matches!(self.0, Layer::Expected(_))
    }

    /// Expects a handshake: the host has accepted STARTTLS.
    pub fn expect(&mut self) {
        self.0 = Layer::Expected(VecDeque::new());
    }

    /// Begins the host's side of the handshake.
    pub fn begin(&mut self) {
        self.0 = match acceptor().accept(Wire::default()) {
            Err(HandshakeError::WouldBlock(shaking)) => Layer::Shaking(shaking),
            other => panic!("{other:?}"),
        };
    }

    /// Takes octets of the client; clear and decrypted ones are appended to `heard`.
    pub fn hear(&mut self, octets: &[u8], heard: &mut Vec<u8>) {
        let layer = std::mem::replace(&mut self.0, Layer::Failed(VecDeque::new()));
        self.0 = match layer {
            Layer::Shaking(mut shaking) => {
                shaking.get_mut().come.extend(octets);
                match shaking.handshake() {
                    Ok(stream) => Layer::On(Box::new(stream)),
                    Err(HandshakeError::WouldBlock(shaking)) => Layer::Shaking(shaking),
                    Err(HandshakeError::Failure(mut failed)) => {
                        Layer::Failed(std::mem::take(&mut failed.get_mut().go))
                    }
                    Err(HandshakeError::SetupFailure(error)) => panic!("{error}"),
                }
            }
            Layer::On(mut stream) => {
                stream.get_mut().come.extend(octets);
                Layer::On(stream)
            }
            clear => {
                heard.extend_from_slice(octets);
                clear
            }
        };
        if let Layer::On(stream) = &mut self.0 {
            // It ends with WouldBlock once all is read.
            let _ = stream.read_to_end(heard);
        }
    }

    /// Encrypts what the host says, if TLS is active; returns the octets to send.
    pub fn on_wire(&mut self, says: &mut VecDeque<u8>) -> &mut VecDeque<u8> {
        match &mut self.0 {
            Layer::Clear(wire) | Layer::Expected(wire) | Layer::Failed(wire) => {
                wire.append(says);
                wire
            }
            Layer::Shaking(shaking) => &mut shaking.get_mut().go,
            Layer::On(stream) => {
                stream.write_all(says.make_contiguous()).unwrap();
                says.clear();
                &mut stream.get_mut().go
            }
        }
    }
}
