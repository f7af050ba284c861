//! Which hosts may be used, and which TLS they must have: MX order, MTA-STS, DANE, certificates.

pub mod certificate;
pub mod mx;
pub mod tls_policy;
