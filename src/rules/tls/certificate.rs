//! The fields of a next hop's certificate that people want to read: its name, its issuer and its last day.
//!
//! The module does not verify the certificate; the handshake has done that. A certificate that cannot be parsed gives
//! `None`.

use crate::mail::date::WallTime;
use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef};

/// The fields of a certificate that are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of the subject, or else the first alternative name.
    pub name: String,
    /// The common name or organisation of the issuer.
    pub issuer: String,
    /// The last day, in OpenSSL's format.
    pub ends: String,
    /// Whole days until then; negative: the certificate has expired.
    pub days_left: i32,
}

impl Certificate {
    /// Parses a certificate in DER.
    #[must_use]
    pub fn parse(der: &[u8], now: WallTime) -> Option<Self> {
        let certificate = X509::from_der(der).ok()?;
        let other = certificate.subject_alt_names();
        let other = other.and_then(|names| Some(names.iter().find_map(|name| name.dnsname())?.to_owned()));
        let now = Asn1Time::from_str_x509(&now.to_generalized()).ok()?;
        Some(Self {
            name: word(certificate.subject_name()).or(other).unwrap_or_default(),
            issuer: word(certificate.issuer_name()).unwrap_or_default(),
            ends: certificate.not_after().to_string(),
            days_left: now.diff(certificate.not_after()).ok()?.days,
        })
    }
}

/// The common name, or the organisation.
fn word(name: &X509NameRef) -> Option<String> {
    let entry = |nid| name.entries_by_nid(nid).next()?.data().to_string().ok();
    entry(Nid::COMMONNAME).or_else(|| entry(Nid::ORGANIZATIONNAME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::x509::X509Name;

    #[test]
    fn a_certificate_tells_its_name_and_its_end() {
        let key = PKey::generate_ed25519().unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", "mx.far.example").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_not_before(&Asn1Time::from_str_x509("19700101000000Z").unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_str_x509("20261124000000Z").unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&key, MessageDigest::null()).unwrap();
        let der = builder.build().to_der().unwrap();
        let days = |seconds: u64| Certificate::parse(&der, WallTime(seconds * 1_000_000)).unwrap().days_left;
        assert_eq!((days(1_795_478_400 - 86_400 * 3), days(1_795_478_400 + 86_400)), (3, -1));
        let certificate = Certificate::parse(&der, WallTime(0)).unwrap();
        assert_eq!(
            (certificate.name.as_str(), certificate.issuer.as_str()),
            ("mx.far.example", "mx.far.example")
        );
        assert_eq!(certificate.ends, "Nov 24 00:00:00 2026 GMT");
        assert_eq!(Certificate::parse(b"none", WallTime(0)), None);
    }
}
