//! A certificate that this host signs itself, for hosts without another one. It protects against passive listeners,
//! and a client can pin it.
//!
//! | field | value |
//! | --- | --- |
//! | subject, issuer | the host name; `pillarbox` if the name is longer than 64 octets |
//! | subject alternative name | the host name |
//! | validity | from one day ago, 825 days |
//! | serial number | 159 random bits |
//! | signature | SHA-256 with the key itself: EC P-256, or RSA of 2048 bits for old devices |
//!
//! The module never touches the disk. Failures are errors of OpenSSL.

use crate::mail::date::WallTime;
use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, MsbOption};
use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, PKeyRef, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::SubjectAlternativeName;
use openssl::x509::{X509, X509Name};

const SECONDS_A_DAY: u64 = 86_400;
/// How long the certificate is valid. Some clients refuse more than 825 days, even from a certificate that they
/// trust.
const LIFETIME_DAYS: u64 = 825;
/// How many days ago the validity begins: small boxes often have a clock that is slow.
const BACKDATED_DAYS: u64 = 1;
/// The longest common name (RFC 5280, appendix A.1).
const COMMON_NAME_MAX_OCTETS: usize = 64;
/// A serial number is positive and has at most 20 octets (RFC 5280 §4.1.2.2).
const SERIAL_BITS: i32 = 159;
/// The size of an RSA key in bits.
const RSA_BITS: u32 = 2048;

/// Makes an EC P-256 key and a certificate of `hostname` (in ASCII) for it; both in PEM, the key first.
///
/// # Errors
/// OpenSSL cannot generate the key or sign the certificate.
pub fn make(hostname: &str, now: WallTime) -> Result<Vec<u8>, ErrorStack> {
    let key = EcKey::generate(&*EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?)?;
    certify(&*PKey::from_ec_key(key)?, hostname, now)
}

/// As [`make`], with an RSA key, for devices that know nothing newer. A slow processor needs some seconds.
///
/// # Errors
/// OpenSSL cannot generate the key or sign the certificate.
pub fn make_rsa(hostname: &str, now: WallTime) -> Result<Vec<u8>, ErrorStack> {
    certify(&*PKey::from_rsa(Rsa::generate(RSA_BITS)?)?, hostname, now)
}

fn certify(key: &PKeyRef<Private>, hostname: &str, now: WallTime) -> Result<Vec<u8>, ErrorStack> {
    let mut name = X509Name::builder()?;
    let common = if hostname.len() <= COMMON_NAME_MAX_OCTETS { hostname } else { "pillarbox" };
    name.append_entry_by_nid(Nid::COMMONNAME, common)?;
    let name = name.build();
    let mut serial = BigNum::new()?;
    serial.rand(SERIAL_BITS, MsbOption::MAYBE_ZERO, false)?;
    let time =
        |seconds: u64| Asn1Time::from_str_x509(&WallTime(seconds.saturating_mul(1_000_000)).to_generalized());
    let begin = now.seconds().saturating_sub(BACKDATED_DAYS * SECONDS_A_DAY);

    let mut certificate = X509::builder()?;
    certificate.set_version(2)?;
    certificate.set_serial_number(&*serial.to_asn1_integer()?)?;
    certificate.set_subject_name(&name)?;
    certificate.set_issuer_name(&name)?;
    certificate.set_not_before(&*time(begin)?)?;
    certificate.set_not_after(&*time(begin + LIFETIME_DAYS * SECONDS_A_DAY)?)?;
    certificate.set_pubkey(key)?;
    let names = SubjectAlternativeName::new().dns(hostname).build(&certificate.x509v3_context(None, None))?;
    certificate.append_extension(names)?;
    certificate.sign(key, MessageDigest::sha256())?;
    Ok([key.private_key_to_pem_pkcs8()?, certificate.build().to_pem()?].concat())
}
