//! The wire: sockets with deadlines, TLS, and the resolver.

pub mod connect;
pub mod resolver;
pub mod self_signed;
pub mod tls;
pub mod tls_client;
mod tls_socket;
pub mod transport;
