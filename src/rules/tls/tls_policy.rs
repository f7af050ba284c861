//! What a recipient domain requires of TLS with its MX hosts: MTA-STS (RFC 8461) and DANE (RFC 7672), each in its
//! file, and the rule for a host to which both apply.
//!
//! | TLSA records of the host | MTA-STS `enforce` | MTA-STS `testing` | no policy |
//! | --- | --- | --- | --- |
//! | one that can be used | DANE | DANE | DANE |
//! | none that can be used | verified TLS | encrypted | encrypted |
//! | no secure record | verified TLS | verified TLS, failures are only logged | what the operator wants |
//!
//! DANE goes before MTA-STS (RFC 8461 §2). Where DANE does not apply, a host that the policy does not name is an
//! error.
//!
//! The module never queries DNS or the web and never reads the clock: the caller supplies records, policies and the
//! time. A policy that cannot be parsed does not exist.

pub mod dane;
pub mod mta_sts;

use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use dane::Tlsa;
use mta_sts::{Policy, StsMode};

/// What TLS with an MX host must be like, besides what the operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TlsPolicy {
    /// No requirement.
    #[default]
    None,
    /// Encrypted, with any certificate: the TLSA records exist, but none can be used (RFC 7672 §2.2).
    Encrypted,
    /// With a certificate that one of these records matches.
    Dane(Vec<Tlsa>),
    /// With a certificate that is valid for the host's name.
    Sts,
    /// As `Sts`, but a failure is only logged.
    StsTesting,
}

impl TlsPolicy {
    /// The name in the log of the policy by which a certificate was verified. `None`: no policy required a
    /// certificate.
    #[must_use]
    pub const fn verdict(&self) -> Option<&'static str> {
        match self {
            Self::None | Self::Encrypted => None,
            Self::Dane(_) => Some("dane"),
            Self::Sts | Self::StsTesting => Some("sts"),
        }
    }

    /// Adds to a TLS failure which policy requires TLS.
    #[must_use]
    pub fn explain(&self, mut failure: Diagnostic) -> Diagnostic {
        let who = match self {
            Self::None | Self::StsTesting => return failure,
            Self::Encrypted | Self::Dane(_) => "its TLSA records require TLS (DANE)",
            Self::Sts => "the MTA-STS policy of the domain requires verified TLS",
        };
        if failure.status == EnhancedStatus::POLICY_NOW {
            failure.text = format!("{}; {who}", failure.text);
        }
        failure
    }
}

/// The policy for the MX host `host`. `tlsa` are the TLSA records of its port (`None`: no secure records), `sts` the
/// policy of the domain.
///
/// # Errors
/// The MTA-STS policy does not name the host, in words. In mode `testing` the host may still be used, and the text is
/// for the log.
pub fn of_host(host: &str, tlsa: Option<Vec<Tlsa>>, sts: Option<&Policy>) -> Result<TlsPolicy, String> {
    let without_sts = match tlsa {
        Some(records) if records.iter().any(Tlsa::is_usable) => return Ok(TlsPolicy::Dane(records)),
        Some(_) => TlsPolicy::Encrypted,
        None => TlsPolicy::None,
    };
    match sts {
        Some(policy) if policy.mode != StsMode::None => {
            if !policy.names(host) {
                return Err(format!("{host} is not named by the MTA-STS policy"));
            }
            Ok(match (policy.mode, without_sts) {
                (StsMode::Testing, TlsPolicy::Encrypted) => TlsPolicy::Encrypted,
                (StsMode::Testing, _) => TlsPolicy::StsTesting,
                _ => TlsPolicy::Sts,
            })
        }
        _ => Ok(without_sts),
    }
}

#[cfg(test)]
mod tests;
