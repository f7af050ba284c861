//! DANE for SMTP (RFC 7672): TLSA records (RFC 6698), which of them can be used, and whether one matches a
//! certificate.
//!
//! A record on the wire (RFC 6698 §2.1), and the values that count here:
//!
//! | octet | field | values |
//! | --- | --- | --- |
//! | 0 | certificate usage | 3: DANE-EE, the host's own certificate |
//! | 1 | selector | 0: the whole certificate; 1: its public key with the algorithm |
//! | 2 | matching type | 0: the octets themselves; 1: SHA-256; 2: SHA-512 |
//! | 3… | association data | what the selected part must equal |
//!
//! A record with other values, or with data of the wrong length, cannot be used. Names and dates of the certificate
//! are not checked: with DANE-EE only the record counts (RFC 7672 §3.1.1).

use openssl::sha::{sha256, sha512};

/// Certificate usage DANE-EE: the certificate of the host itself.
const DANE_EE: u8 = 3;

/// A TLSA record (RFC 6698 §2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlsa {
    usage: u8,
    selector: Selector,
    matching: Matching,
    data: Vec<u8>,
}

/// The part of the certificate that is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Selector {
    /// 0: the whole certificate.
    Cert,
    /// 1: the public key with its algorithm.
    Spki,
    Unknown,
}

/// How the selected part is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Matching {
    /// 0: octet by octet.
    Full,
    /// 1: by its SHA-256.
    Sha256,
    /// 2: by its SHA-512.
    Sha512,
    Unknown,
}

impl Tlsa {
    /// Parses the wire format of a record. `None`: it is too short.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let [usage, selector, matching, data @ ..] = octets else { return None };
        let selector = match selector {
            0 => Selector::Cert,
            1 => Selector::Spki,
            _ => Selector::Unknown,
        };
        let matching = match matching {
            0 => Matching::Full,
            1 => Matching::Sha256,
            2 => Matching::Sha512,
            _ => Matching::Unknown,
        };
        Some(Self { usage: *usage, selector, matching, data: data.to_vec() })
    }

    /// Whether the record can be compared with a certificate. SMTP knows two usages (RFC 7672 §3.1), of which only
    /// DANE-EE works here: DANE-TA needs the whole chain, and the TLS library shows only its first certificate.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        let has_length = match self.matching {
            Matching::Full => !self.data.is_empty(),
            Matching::Sha256 => self.data.len() == 32,
            Matching::Sha512 => self.data.len() == 64,
            Matching::Unknown => false,
        };
        self.usage == DANE_EE && self.selector != Selector::Unknown && has_length
    }

    /// Whether the record matches this certificate, in DER.
    #[must_use]
    pub fn matches(&self, certificate: &[u8]) -> bool {
        let selected = match self.selector {
            Selector::Cert => Some(certificate),
            Selector::Spki => subject_public_key_info(certificate),
            Selector::Unknown => None,
        };
        let is_equal = |selected: &[u8]| match self.matching {
            Matching::Full => selected == self.data,
            Matching::Sha256 => sha256(selected).as_slice() == self.data,
            Matching::Sha512 => sha512(selected).as_slice() == self.data,
            Matching::Unknown => false,
        };
        self.is_usable() && selected.is_some_and(is_equal)
    }
}

const SEQUENCE: u8 = 0x30;
/// `version [0]`, which precedes the serial number in all but the oldest certificates.
const VERSION: u8 = 0xa0;
/// Serial number, signature, issuer, validity and subject precede the key (RFC 5280 §4.1).
const FIELDS_BEFORE_KEY: usize = 5;

/// The SubjectPublicKeyInfo of a certificate, octet for octet: a library that parsed and encoded it again might
/// produce other octets.
#[must_use]
pub fn subject_public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut fields, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    if let Some((VERSION, _, rest)) = element(fields) {
        fields = rest;
    }
    for _ in 0..FIELDS_BEFORE_KEY {
        (_, _, fields) = element(fields)?;
    }
    let (tag, _, rest) = element(fields)?;
    (tag == SEQUENCE).then(|| fields.get(..fields.len() - rest.len()))?
}

/// The first element of DER: its tag, its content, and the octets after it.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = octets.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (first.into(), rest)
    } else {
        let (digits, rest) =
            rest.split_at_checked(usize::from(first & 0x7f)).filter(|(d, _)| d.len() <= 4)?;
        (digits.iter().fold(0, |length: usize, &digit| length << 8 | usize::from(digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}
