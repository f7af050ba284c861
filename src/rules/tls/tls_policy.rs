//! What a domain that takes mail wants of TLS with its MX hosts: MTA-STS (RFC 8461) and DANE (RFC 7672), each in its file;
//! and what follows for a host when both speak.
//!
//! Never asks DNS or the web, never reads the clock: both are arguments. Nothing fails here: what can't be read is no
//! policy, and what contradicts a policy is a reason in words.

pub mod dane;
pub mod mta_sts;

use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use dane::Tlsa;
use mta_sts::{Mode, Policy};

/// What TLS with an MX host has to be like, besides what the operator wants.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TlsPolicy {
    /// Nobody says anything.
    #[default]
    None,
    /// Encrypted; by whom, can't be told: DANE with no record that serves (RFC 7672 §2.2).
    Encrypted,
    /// With a certificate that one of these records is for.
    Dane(Vec<Tlsa>),
    /// With a certificate that is right for the host's name.
    Sts,
    /// The same, but what fails is only logged.
    StsTesting,
}

impl TlsPolicy {
    /// Its name in the log, once a certificate has been found right by it; `None`: it had no part in that.
    #[must_use]
    pub const fn verdict(&self) -> Option<&'static str> {
        match self {
            Self::None | Self::Encrypted => None,
            Self::Dane(_) => Some("dane"),
            Self::Sts | Self::StsTesting => Some("sts"),
        }
    }

    /// Adds to a failure of TLS who it is that wants it.
    #[must_use]
    pub fn explain(&self, mut failure: Diagnostic) -> Diagnostic {
        let who = match self {
            Self::None | Self::StsTesting => return failure,
            Self::Encrypted | Self::Dane(_) => "its TLSA records want TLS (DANE)",
            Self::Sts => "the MTA-STS policy of the domain wants verified TLS",
        };
        if failure.status == EnhancedStatus::POLICY_NOW {
            failure.text = format!("{}; {who}", failure.text);
        }
        failure
    }
}

/// What holds for the MX host `host`, with the TLSA records of its port (`None`: it has none, or none that are secure) and
/// the policy of the domain. DANE goes before MTA-STS (RFC 8461 §2), unless its records say no more than "encrypted".
///
/// # Errors
/// MTA-STS does not let the host be used, in words; with the mode `testing` it may be, and they are for the log.
pub fn of_host(host: &str, tlsa: Option<Vec<Tlsa>>, sts: Option<&Policy>) -> Result<TlsPolicy, String> {
    let without_sts = match tlsa {
        Some(records) if records.iter().any(Tlsa::is_usable) => return Ok(TlsPolicy::Dane(records)),
        Some(_) => TlsPolicy::Encrypted,
        None => TlsPolicy::None,
    };
    match sts {
        Some(policy) if policy.mode != Mode::None => {
            if !policy.names(host) {
                return Err(format!("{host} is not named by the MTA-STS policy"));
            }
            Ok(match (policy.mode, without_sts) {
                (Mode::Testing, TlsPolicy::Encrypted) => TlsPolicy::Encrypted,
                (Mode::Testing, _) => TlsPolicy::StsTesting,
                _ => TlsPolicy::Sts,
            })
        }
        _ => Ok(without_sts),
    }
}

#[cfg(test)]
mod tests;
