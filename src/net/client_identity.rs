//! The certificate by which this host shows a next hop who it is, and its private key.
//!
//! | part | form |
//! | --- | --- |
//! | certificate | PEM: this host's own first, then those of its issuers |
//! | key | PEM, in any form that OpenSSL reads, in clear or encrypted with a passphrase |
//!
//! The module reads no files and never asks for the clock. What cannot be used is an [`IdentityFault`], which says in which
//! part the mistake is and what to do.

use crate::mail::date::WallTime;
use native_tls::Identity;
use openssl::asn1::{Asn1Time, Asn1TimeRef};
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::x509::X509;
use std::fmt;

/// What a key begins with that is encrypted: PKCS #8, or the older header of RFC 1421.
const ENCRYPTED: [&str; 2] = ["BEGIN ENCRYPTED PRIVATE KEY", "Proc-Type: 4,ENCRYPTED"];

/// A certificate with its key.
#[derive(Clone)]
pub struct ClientIdentity {
    pub(super) inner: Identity,
    ends: WallTime,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("ends", &self.ends).finish_non_exhaustive()
    }
}

/// Where a mistake is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityPart {
    /// In the file of the certificate.
    Certificate,
    /// In the file of the key.
    Key,
    /// In the file of the passphrase.
    Passphrase,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFault {
    /// The part with the mistake.
    pub part: IdentityPart,
    /// What is wrong with it, and the remedy: what follows the name of the file.
    pub text: String,
}

impl IdentityFault {
    fn new(part: IdentityPart, text: impl Into<String>) -> Self {
        Self { part, text: text.into() }
    }
}

impl From<ErrorStack> for IdentityFault {
    fn from(stack: ErrorStack) -> Self {
        Self::new(IdentityPart::Certificate, format!("can't be used: {stack}; take another"))
    }
}

impl ClientIdentity {
    /// Reads a chain and its key, both in PEM.
    ///
    /// # Errors
    /// A part is missing or damaged, the passphrase is missing or wrong, the key belongs to another certificate, or the
    /// certificate has ended.
    pub fn new(
        chain: &[u8],
        key: &[u8],
        passphrase: Option<&[u8]>,
        now: WallTime,
    ) -> Result<Self, IdentityFault> {
        use IdentityPart::{Certificate, Key};
        let none = "holds no certificate in PEM; write its chain there, this host's own first";
        let certificates = X509::stack_from_pem(chain).map_err(|_| IdentityFault::new(Certificate, none))?;
        let (leaf, others) =
            certificates.split_first().ok_or_else(|| IdentityFault::new(Certificate, none))?;
        let key = private_key(key, passphrase)?;
        if !leaf.public_key()?.public_eq(&key) {
            let text = "is not the key of this certificate; name the key that it was made with";
            return Err(IdentityFault::new(Key, text));
        }
        let ends = ends(leaf.not_after())?;
        if ends < now {
            let text = format!("ended on {}; renew it, and send SIGHUP", leaf.not_after());
            return Err(IdentityFault::new(Certificate, text));
        }
        let mut pem = leaf.to_pem()?;
        for other in others {
            pem.extend(other.to_pem()?);
        }
        let inner = Identity::from_pkcs8(&pem, &key.private_key_to_pem_pkcs8()?).map_err(|error| {
            IdentityFault::new(Certificate, format!("can't be used: {error}; take another"))
        })?;
        Ok(Self { inner, ends })
    }

    /// The end of its validity.
    #[must_use]
    pub const fn ends(&self) -> WallTime {
        self.ends
    }
}

/// The private key of a PEM text.
fn private_key(pem: &[u8], passphrase: Option<&[u8]>) -> Result<PKey<Private>, IdentityFault> {
    use IdentityPart::{Key, Passphrase};
    let text = String::from_utf8_lossy(pem);
    let is_encrypted = ENCRYPTED.iter().any(|mark| text.contains(mark));
    match (passphrase, is_encrypted) {
        (None, true) => {
            let text = "is encrypted; name the file of its passphrase in key_password_file";
            Err(IdentityFault::new(Key, text))
        }
        (Some(passphrase), true) => PKey::private_key_from_pem_passphrase(pem, passphrase)
            .map_err(|_| IdentityFault::new(Passphrase, "has another passphrase than the key; correct it")),
        // Without this OpenSSL would ask for a passphrase on the terminal.
        (_, false) => PKey::private_key_from_pem_callback(pem, |_| Ok(0))
            .map_err(|_| IdentityFault::new(Key, "holds no private key in PEM; name the file of one")),
    }
}

/// The end of the first certificate of a PEM text, whatever else it holds; in words if it has no certificate.
///
/// # Errors
/// There is no certificate.
pub fn end_of(pem: &[u8]) -> Result<WallTime, String> {
    let end = X509::from_pem(pem).and_then(|certificate| ends(certificate.not_after()));
    end.map_err(|_| "it holds no certificate in PEM".to_owned())
}

/// The wall time of the end of a certificate; 1970 for one before.
fn ends(time: &Asn1TimeRef) -> Result<WallTime, ErrorStack> {
    let span = Asn1Time::from_str_x509(&WallTime(0).to_generalized())?.diff(time)?;
    let seconds = i64::from(span.days) * 86_400 + i64::from(span.secs);
    Ok(WallTime(u64::try_from(seconds).unwrap_or_default().saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::super::self_signed;
    use super::*;
    use openssl::symm::Cipher;

    const NOW: WallTime = WallTime(1_795_416_810_000_000);
    const DAY: u64 = 86_400_000_000;

    fn told(chain: &[u8], key: &[u8], passphrase: Option<&[u8]>, now: WallTime) -> Result<(), IdentityFault> {
        ClientIdentity::new(chain, key, passphrase, now).map(drop)
    }

    #[test]
    fn each_mistake_says_where_it_is() {
        use IdentityPart::{Certificate, Key, Passphrase};
        let pem = self_signed::make("box.example", NOW).unwrap();
        let other = self_signed::make("box.example", NOW).unwrap();
        let clear = PKey::private_key_from_pem(&pem).unwrap();
        let locked =
            clear.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), b"open sesame").unwrap();
        let old = clear.ec_key().unwrap();
        let old_locked = old.private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"open sesame").unwrap();
        let old = old.private_key_to_pem().unwrap();
        let right = Some(&b"open sesame"[..]);
        for (key, passphrase) in
            [(&pem, None), (&pem, right), (&old, None), (&locked, right), (&old_locked, right)]
        {
            assert_eq!(told(&pem, key, passphrase, NOW), Ok(()), "{passphrase:?}");
        }
        assert_eq!(told(&[&*pem, &*other].concat(), &pem, None, NOW), Ok(()), "a chain");
        let last = WallTime(NOW.0 + 824 * DAY);
        assert_eq!(ClientIdentity::new(&pem, &pem, None, last).unwrap().ends().0 / DAY, last.0 / DAY);
        for (chain, key, passphrase, now, part, start) in [
            (&b""[..], &pem, None, NOW, Certificate, "holds no certificate in PEM;"),
            (&old, &pem, None, NOW, Certificate, "holds no certificate in PEM;"),
            (&pem[..pem.len() - 99], &pem, None, NOW, Certificate, "holds no certificate in PEM;"),
            (&pem, &Vec::new(), None, NOW, Key, "holds no private key in PEM;"),
            (&pem, &locked, None, NOW, Key, "is encrypted; name the file of its passphrase"),
            (&pem, &old_locked, None, NOW, Key, "is encrypted; name the file of its passphrase"),
            (&pem, &locked, Some(&b"x"[..]), NOW, Passphrase, "has another passphrase than the key;"),
            (&pem, &old_locked, Some(&b""[..]), NOW, Passphrase, "has another passphrase than the key;"),
            (&pem, &other, None, NOW, Key, "is not the key of this certificate;"),
            (&pem, &pem, None, WallTime(NOW.0 + 826 * DAY), Certificate, "ended on Feb 24 "),
        ] {
            let fault = told(chain, key, passphrase, now).unwrap_err();
            assert_eq!(fault.part, part, "{fault:?}");
            assert!(fault.text.starts_with(start), "{start} ≠ {fault:?}");
        }
        let shown = format!("{:?}", ClientIdentity::new(&pem, &pem, None, NOW).unwrap());
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
