//! The wire: everything that holds a socket towards another host.
//!
//! | file | for |
//! | --- | --- |
//! | `transport` | the stream of octets with deadlines that a session reads and writes, and plain TCP behind it |
//! | `connect` | an outgoing TCP connection to the first address of a host that answers |
//! | `resolver` | DNS look-ups, `/etc/hosts`, `/etc/resolv.conf` |
//! | `tls` | TLS for clients that connect to this host (OpenSSL) |
//! | `tls_client` | TLS towards next hops (native-tls) |
//! | `client_identity` | the certificate and key that this host shows a next hop |
//! | `tls_failure` | what a failure of TLS means, in words |
//! | `tls_socket` | the adapter between a transport and both TLS libraries |
//! | `self_signed` | the certificate that this host makes for itself |
//! | `proxy` | the header in which a proxy announces its client |
//! | `https` | one request by HTTPS, and its reply |
//! | `policy_fetch` | the download of an MTA-STS policy |
//!
//! The floor knows no SMTP and makes no decision about mail. Every wait ends at a [`transport::Deadline`] that the
//! caller gives. Configuration, and the meaning of a failure, belong to the callers in `engine`.

pub mod client_identity;
pub mod connect;
pub mod handshake;
pub mod https;
pub mod policy_fetch;
pub mod proxy;
pub mod resolver;
pub mod self_signed;
pub mod tls;
pub mod tls_client;
mod tls_failure;
mod tls_socket;
pub mod transport;
