//! What people want to read in a next hop's certificate, and the configuration by which it would be accepted.
//!
//! | if the handshake says | what is written for a smarthost |
//! | --- | --- |
//! | another name | `relay.tls_name`, with a name of the certificate |
//! | an unknown issuer | `relay.ca_file`, for the certificate of the issuer |
//! | signed by itself, or another fingerprint | `relay.fingerprint` |
//! | a date | nothing: a certificate that has ended is to be renewed |
//!
//! The module does not verify the certificate: the handshake does that. A certificate that cannot be parsed gives `None`.
//! Its texts come from another host, so they are cut, and characters that could play tricks on a terminal become `?`.

use super::tls_policy::dane::subject_public_key_info;
use crate::mail::date::WallTime;
use crate::mail::fingerprint::Fingerprint;
use crate::mail::text::is_hostile;
use openssl::asn1::Asn1Time;
use openssl::nid::Nid;
use openssl::sha::sha256;
use openssl::x509::{GeneralNameRef, X509, X509NameRef, X509VerifyResult};
use std::fmt;
use std::net::IpAddr;

/// How many alternative names are shown.
const NAMES_MAX: usize = 6;
/// The longest text of a certificate that is shown, in characters.
const TEXT_MAX_CHARS: usize = 80;

/// The parts of a certificate that are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of the subject, or else the first alternative name.
    pub name: String,
    /// The alternative names, DNS names and addresses: the first few.
    pub names: Vec<String>,
    /// The common name or organisation of the issuer.
    pub issuer: String,
    /// The first day, in OpenSSL's format.
    pub begins: String,
    /// The last day, in OpenSSL's format.
    pub ends: String,
    /// Whole days until then; negative: the certificate has expired.
    pub days_left: i32,
    /// It is its own issuer.
    pub is_self_signed: bool,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
}

impl Certificate {
    /// Parses a certificate in DER.
    #[must_use]
    pub fn parse(der: &[u8], now: WallTime) -> Option<Self> {
        let certificate = X509::from_der(der).ok()?;
        let names: Vec<String> = certificate
            .subject_alt_names()
            .map(|names| names.iter().filter_map(alternative).take(NAMES_MAX).collect())
            .unwrap_or_default();
        let now = Asn1Time::from_str_x509(&now.to_generalized()).ok()?;
        Some(Self {
            name: word(certificate.subject_name()).or_else(|| names.first().cloned()).unwrap_or_default(),
            names,
            issuer: word(certificate.issuer_name()).unwrap_or_default(),
            begins: certificate.not_before().to_string(),
            ends: certificate.not_after().to_string(),
            days_left: now.diff(certificate.not_after()).ok()?.days,
            is_self_signed: certificate.issued(&certificate) == X509VerifyResult::OK,
            fingerprint: fingerprint(der),
        })
    }

    /// The line of the configuration with which the certificate would be accepted, after this reason of its refusal: in
    /// words that go on a sentence. `None`: no line helps.
    #[must_use]
    pub fn line(&self, reason: &str) -> Option<String> {
        let has = |words: &str| reason.contains(words);
        let by_fingerprint = || format!("relay.fingerprint = \"{}\"", self.fingerprint);
        let is_plain = |name: &&String| !name.contains('*') && name.parse::<IpAddr>().is_err();
        match () {
            () if has("expired") || has("not yet valid") => None,
            () if has("mismatch") => Some(match self.names.iter().find(is_plain) {
                Some(name) => format!("relay.tls_name = \"{name}\""),
                None => by_fingerprint(),
            }),
            () if has("fingerprint") || self.is_self_signed => Some(by_fingerprint()),
            () => Some(format!(
                "relay.ca_file = \"FILE\" with the certificate of {:?} in FILE, or {}",
                self.issuer,
                by_fingerprint()
            )),
        }
    }
}

/// All that helps to recognise it: `certificate of NAME (names A, B) by ISSUER, from … to …, SHA-256 fingerprint …`.
impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, names, issuer, begins, ends, fingerprint, .. } = self;
        write!(f, "certificate of {name}")?;
        if !names.is_empty() {
            write!(f, " (names {})", names.join(", "))?;
        }
        let by = if self.is_self_signed { "itself" } else { issuer };
        write!(f, " by {by}, from {begins} to {ends}, SHA-256 fingerprint {fingerprint}")
    }
}

/// Whether a certificate in DER, or its public key, has this fingerprint.
///
/// # Errors
/// It has another one; in words, with both of its own.
pub fn has_fingerprint(der: &[u8], wanted: &Fingerprint) -> Result<(), String> {
    let certificate = fingerprint(der);
    let key = subject_public_key_info(der).map_or(certificate, fingerprint);
    if wanted.is_of(&certificate, &key) {
        return Ok(());
    }
    Err(format!(
        "the certificate has not the fingerprint of relay.fingerprint, but {certificate} (its public key: {key})"
    ))
}

fn fingerprint(octets: &[u8]) -> Fingerprint {
    Fingerprint::new(sha256(octets))
}

/// The common name, or the organisation.
fn word(name: &X509NameRef) -> Option<String> {
    let entry = |nid| Some(clean(&name.entries_by_nid(nid).next()?.data().to_string().ok()?));
    entry(Nid::COMMONNAME).or_else(|| entry(Nid::ORGANIZATIONNAME))
}

/// A DNS name or an address.
fn alternative(name: &GeneralNameRef) -> Option<String> {
    let address = || match name.ipaddress()? {
        octets @ [_, _, _, _] => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        octets => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
    };
    name.dnsname().map(clean).or_else(|| address().map(|address| address.to_string()))
}

/// A text of another host, for the terminal.
fn clean(text: &str) -> String {
    text.chars().take(TEXT_MAX_CHARS).map(|c| if is_hostile(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::x509::X509Name;
    use openssl::x509::extension::SubjectAlternativeName;

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

    /// A certificate of `subject` with these alternative names; signed by itself, or by `issuer`.
    fn made(subject: &str, issuer: Option<&str>, names: &[&str]) -> Vec<u8> {
        let key = PKey::generate_ed25519().unwrap();
        let name = |text: &str| {
            let mut name = X509Name::builder().unwrap();
            name.append_entry_by_text("CN", text).unwrap();
            name.build()
        };
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name(subject)).unwrap();
        builder.set_issuer_name(&name(issuer.unwrap_or(subject))).unwrap();
        builder.set_not_before(&Asn1Time::from_str_x509("20251124000000Z").unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::from_str_x509("20261124000000Z").unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        if !names.is_empty() {
            let mut list = SubjectAlternativeName::new();
            for name in names {
                if name.parse::<IpAddr>().is_ok() {
                    list.ip(name)
                } else {
                    list.dns(name)
                };
            }
            let list = list.build(&builder.x509v3_context(None, None)).unwrap();
            builder.append_extension(list).unwrap();
        }
        builder.sign(&key, MessageDigest::null()).unwrap();
        builder.build().to_der().unwrap()
    }

    #[test]
    fn what_is_shown_is_cleaned_and_bounded() {
        let names: Vec<String> = (0..20).map(|i| format!("n{i}.example")).collect();
        let names: Vec<&str> =
            ["127.0.0.1", "::1"].into_iter().chain(names.iter().map(String::as_str)).collect();
        let der = made("a\u{1b}[2J\nb\u{202e}", None, &names);
        let certificate = Certificate::parse(&der, WallTime(0)).unwrap();
        let shown = certificate.to_string();
        assert!(
            shown.starts_with(
                "certificate of a?[2J?b? (names 127.0.0.1, ::1, n0.example, n1.example, n2.example, n3.example) by \
                 itself, from Nov 24 00:00:00 2025 GMT to Nov 24 00:00:00 2026 GMT, SHA-256 fingerprint "
            ),
            "{shown}"
        );
        assert!(!shown.chars().any(is_hostile));
        let long = Certificate::parse(&made(&"x".repeat(64), Some("CA"), &[]), WallTime(0)).unwrap();
        assert!(long.to_string().contains("xx by CA, from"), "{long}");
    }

    #[test]
    fn a_fingerprint_is_that_of_the_certificate_or_of_its_key() {
        let der = made("bridge.example", None, &[]);
        let x509 = X509::from_der(&der).unwrap();
        let of_key = Fingerprint::new(sha256(&x509.public_key().unwrap().public_key_to_der().unwrap()));
        let shown = Certificate::parse(&der, WallTime(0)).unwrap().fingerprint;
        let digest = x509.digest(MessageDigest::sha256()).unwrap();
        assert_eq!(shown, Fingerprint::new(digest.as_ref().try_into().unwrap()));
        assert_eq!(has_fingerprint(&der, &shown), Ok(()));
        assert_eq!(has_fingerprint(&der, &of_key), Ok(()));
        let other = made("bridge.example", None, &[]);
        for wanted in [shown, of_key] {
            let error = has_fingerprint(&other, &wanted).unwrap_err();
            assert!(error.contains("has not the fingerprint of relay.fingerprint, but "), "{error}");
        }
        assert!(has_fingerprint(b"none", &shown).is_err());
    }

    #[test]
    fn the_line_to_write_depends_on_what_is_wrong() {
        let line = |issuer, names: &[&str], reason: &str| {
            let der = made("mx.example", issuer, names);
            let certificate = Certificate::parse(&der, WallTime(0)).unwrap();
            let fingerprint = certificate.fingerprint.to_string();
            certificate.line(reason).map(|line| line.replace(&fingerprint, "F"))
        };
        let by_fingerprint = Some("relay.fingerprint = \"F\"");
        for (issuer, names, reason, expected) in [
            (None, &[][..], "certificate verify failed (self-signed certificate)", by_fingerprint),
            (None, &[], "certificate verify failed (certificate has expired)", None),
            (Some("CA"), &[], "certificate verify failed (certificate is not yet valid)", None),
            (Some("CA"), &[], "the certificate has not the fingerprint of relay.fingerprint", by_fingerprint),
            (
                Some("CA"),
                &["127.0.0.1", "*.example", "mx1.example"],
                "certificate verify failed (hostname mismatch)",
                Some("relay.tls_name = \"mx1.example\""),
            ),
            (Some("CA"), &["127.0.0.1"], "certificate verify failed (IP address mismatch)", by_fingerprint),
            (
                Some("CA \"1\""),
                &["mx.example"],
                "certificate verify failed (unable to get local issuer certificate)",
                Some(
                    "relay.ca_file = \"FILE\" with the certificate of \"CA \\\"1\\\"\" in FILE, or relay.fingerprint = \"F\"",
                ),
            ),
        ] {
            assert_eq!(line(issuer, names, reason).as_deref(), expected, "{reason}");
        }
    }
}
