//! How the certificate of another host is checked in a TLS handshake.
//!
//! | check | accepts | used for |
//! | --- | --- | --- |
//! | `Nothing` | any certificate | opportunistic TLS (RFC 7435), and DANE with no usable record |
//! | `Name` | a valid chain for the host's name | smarthosts, MTA-STS, `relay.tls = "required"` |
//! | `Dane` | a certificate that a TLSA record names | DANE (RFC 7672) |
//!
//! `host_policy` chooses the check for a host.

use super::context::{Observer, TraceEvent};
use crate::net::tls_client::{Connector, Verify};
use crate::net::transport::{Deadline, Transport, WireError};
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::dane::Tlsa;

/// How the certificate of a host is checked.
#[derive(Debug, Clone)]
pub(super) enum CertificateCheck {
    /// Any certificate is accepted.
    Nothing,
    /// The chain, the dates and the name have to be valid.
    Name,
    /// One of these TLSA records has to match the certificate.
    Dane(Vec<Tlsa>),
}

impl CertificateCheck {
    /// Does the TLS handshake with `host`. Returns the end point of the channel (`tls-server-end-point`, RFC 5929) if
    /// the certificate has one.
    ///
    /// # Errors
    /// The handshake failed, or the certificate is not one that this check accepts.
    pub(super) fn start_tls(
        &self,
        connector: &Connector,
        transport: &mut Box<dyn Transport>,
        host: &str,
        deadline: Deadline,
        observer: &dyn Observer,
    ) -> Result<Option<Vec<u8>>, WireError> {
        observer.see(TraceEvent::Begins(Stage::Tls));
        let is_named = |certificate: &[u8]| match self {
            Self::Dane(records) if records.iter().any(|record| record.matches(certificate)) => Ok(()),
            _ => Err("no TLSA record is for the certificate".to_owned()),
        };
        let verify = match self {
            Self::Nothing => Verify::Nothing,
            Self::Name => Verify::Name,
            Self::Dane(_) => Verify::By(&is_named),
        };
        let shown = connector.start_tls(transport, host, verify, deadline)?;
        let is_verified = !matches!(self, Self::Nothing);
        observer.see(TraceEvent::Tls { is_verified, certificate: &shown.certificate });
        Ok(shown.end_point)
    }
}
