//! How the certificate of another host is checked in a TLS handshake.
//!
//! | check | accepts | used for |
//! | --- | --- | --- |
//! | `Nothing` | any certificate | opportunistic TLS (RFC 7435), and DANE with no usable record |
//! | `Name` | a valid chain for the host's name | smarthosts, MTA-STS, `relay.tls = "required"` |
//! | `Dane` | a certificate that a TLSA record names | DANE (RFC 7672) |
//! | `Fingerprint` | a certificate with this SHA-256, or with such a public key; chain, name and dates do not count | smarthosts with `relay.fingerprint` |
//!
//! `host_policy` chooses the check for a host.

use super::context::{Observer, TraceEvent};
use crate::mail::fingerprint::Fingerprint;
use crate::net::tls_client::{Connector, Verify};
use crate::net::transport::{Deadline, Transport, WireError};
use crate::rules::advice::step::Stage;
use crate::rules::tls::certificate::has_fingerprint;
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
    /// The certificate or its public key has to have this fingerprint.
    Fingerprint(Fingerprint),
}

impl CertificateCheck {
    /// Does the TLS handshake with a host of this name (or address), which is asked for (SNI) and, for `Name`, has to be in
    /// the certificate. Returns the end point of the channel (`tls-server-end-point`, RFC 5929) if
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
        let judge = |certificate: &[u8]| {
            let judged = match self {
                Self::Fingerprint(wanted) => has_fingerprint(certificate, wanted),
                Self::Dane(records) if records.iter().any(|record| record.matches(certificate)) => Ok(()),
                _ => Err("no TLSA record is for the certificate".to_owned()),
            };
            judged.inspect_err(|_| observer.see(TraceEvent::Refused { certificate }))
        };
        let verify = match self {
            Self::Nothing => Verify::Nothing,
            Self::Name => Verify::Name,
            Self::Dane(_) | Self::Fingerprint(_) => Verify::By(&judge),
        };
        let shown = connector.start_tls(transport, host, verify, deadline)?;
        let is_verified = !matches!(self, Self::Nothing);
        observer.see(TraceEvent::Tls { is_verified, certificate: &shown.certificate });
        Ok(shown.end_point)
    }
}
