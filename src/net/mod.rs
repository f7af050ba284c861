//! The wire: sockets with deadlines, TLS, the resolver, and the fetch of MTA-STS policies.

pub mod connect;
pub mod handshake;
pub mod policy_fetch;
pub mod proxy;
pub mod resolver;
pub mod self_signed;
pub mod tls;
pub mod tls_client;
mod tls_socket;
pub mod transport;
