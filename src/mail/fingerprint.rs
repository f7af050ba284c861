//! The fingerprint of a certificate or of its public key: 32 octets of SHA-256, as operators write it.
//!
//! | form | printed by | of |
//! | --- | --- | --- |
//! | `AB:CD:…`, 64 hexadecimal digits in either case, with or without colons | Proton Bridge, browsers, Postfix | certificate or public key |
//! | `sha256 Fingerprint=AB:CD:…`, `SHA256:abcd…` | `openssl x509 -fingerprint -sha256` | certificate or public key |
//! | `sha256//…`, 44 characters of base64 | `curl --pinnedpubkey`, RFC 7469 | public key |
//!
//! A text does not say of which of the two it is, so [`Fingerprint::is_of`] accepts both: no certificate has the digest
//! of another's key. This module computes no digest. A text in another form is refused, with what it seems to be.

use super::base64;
use std::fmt;

/// The octets of a SHA-256 digest.
const OCTETS: usize = 32;
/// What stands before the octets of a public key's digest in base64.
const PIN: &str = "sha256//";

/// A SHA-256 digest of a certificate in DER, or of its public key (SubjectPublicKeyInfo in DER).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; OCTETS]);

impl Fingerprint {
    /// The fingerprint with this digest.
    #[must_use]
    pub const fn new(digest: [u8; OCTETS]) -> Self {
        Self(digest)
    }

    /// Reads a fingerprint in one of the forms of the module.
    ///
    /// # Errors
    /// It has another form; in words, with what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if lower.starts_with(PIN) {
            let octets = text.get(PIN.len()..).and_then(|pin| base64::decode(pin.as_bytes()));
            return octets.and_then(|octets| octets.try_into().ok()).map(Self).ok_or_else(|| {
                format!("{text:?} is no pin of a public key; write sha256// and 44 characters of base64")
            });
        }
        // OpenSSL labels the digits: `sha256 Fingerprint=`.
        let rest = lower.rsplit_once("fingerprint=").map_or(lower.as_str(), |(_, rest)| rest);
        let rest = ["sha256:", "sha-256:"].iter().find_map(|label| rest.strip_prefix(label)).unwrap_or(rest);
        let digits: String = rest.chars().filter(|&c| c != ':' && c != ' ').collect();
        let nibbles: Option<Vec<u32>> = digits.chars().map(|digit| digit.to_digit(16)).collect();
        let old = match nibbles.as_ref().map(Vec::len) {
            Some(32) => Some("an MD5"),
            Some(40) => Some("a SHA-1"),
            _ => None,
        };
        let octets: Option<[u8; OCTETS]> =
            nibbles.filter(|nibbles| nibbles.len() == 2 * OCTETS).and_then(|it| {
                let pairs = it.as_chunks::<2>().0.iter().map(|[high, low]| (high << 4 | low) as u8);
                pairs.collect::<Vec<u8>>().try_into().ok()
            });
        octets.map(Self).ok_or_else(|| match old {
            Some(old) => format!(
                "{text:?} is {old} fingerprint, which can be forged; write that of SHA-256: openssl x509 -noout \
                 -fingerprint -sha256 -in FILE"
            ),
            None => format!(
                "{text:?} is no SHA-256 fingerprint; write 64 hexadecimal digits, with or without colons, or \
                 sha256// and a public key's pin in base64"
            ),
        })
    }

    /// Whether it is the fingerprint of a certificate with this digest, or of this digest of its public key.
    #[must_use]
    pub fn is_of(&self, certificate: &Self, public_key: &Self) -> bool {
        self == certificate || self == public_key
    }
}

/// Pairs of capital digits with colons between, as OpenSSL prints them.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02X}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SHOWN: &str =
        "E3:B0:C4:42:98:FC:1C:14:9A:FB:F4:C8:99:6F:B9:24:27:AE:41:E4:64:9B:93:4C:A4:95:99:1B:78:52:B8:55";

    /// All of these are the digest of nothing.
    #[test]
    fn every_form_that_programs_print_is_read() {
        let digits = SHOWN.replace(':', "");
        for text in [
            SHOWN.to_owned(),
            format!(" {SHOWN}\n"),
            SHOWN.to_lowercase(),
            digits.clone(),
            digits.to_lowercase(),
            SHOWN.replace(':', " "),
            format!("sha256 Fingerprint={SHOWN}"),
            format!("SHA256 Fingerprint={SHOWN}"),
            format!("sha256:{digits}"),
            format!("SHA256:{SHOWN}"),
            format!("SHA-256: {SHOWN}"),
            "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
            "SHA256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=".to_owned(),
        ] {
            let read = Fingerprint::parse(&text);
            assert_eq!(read.map(|it| it.to_string()).as_deref(), Ok(SHOWN), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_told_with_what_it_is() {
        let sha1 = "DA:39:A3:EE:5E:6B:4B:0D:32:55:BF:EF:95:60:18:90:AF:D8:07:09";
        for (text, words) in [
            (sha1, "is a SHA-1 fingerprint"),
            (&format!("SHA1 Fingerprint={sha1}"), "is a SHA-1 fingerprint"),
            ("d41d8cd98f00b204e9800998ecf8427e", "is an MD5 fingerprint"),
            ("", "is no SHA-256 fingerprint"),
            (SHOWN.get(2..).unwrap_or_default(), "is no SHA-256 fingerprint"),
            (&format!("{SHOWN}00"), "is no SHA-256 fingerprint"),
            (&SHOWN.replace('E', "G"), "is no SHA-256 fingerprint"),
            (&SHOWN.replace('E', "é"), "is no SHA-256 fingerprint"),
            ("sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", "no pin of a public key"),
            ("sha256//2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "no pin of a public key"),
            ("sha256//", "no pin of a public key"),
        ] {
            let error = Fingerprint::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn it_may_be_that_of_the_certificate_or_of_the_key() {
        let [one, two, three] = [1, 2, 3].map(|octet| Fingerprint::new([octet; OCTETS]));
        assert!(one.is_of(&one, &two) && one.is_of(&two, &one) && !one.is_of(&two, &three));
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(octets: [u8; 32]) {
            let fingerprint = Fingerprint::new(octets);
            prop_assert_eq!(Fingerprint::parse(&fingerprint.to_string()), Ok(fingerprint));
            let pin = format!("sha256//{}", base64::encode(&octets));
            prop_assert_eq!(Fingerprint::parse(&pin), Ok(fingerprint));
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = Fingerprint::parse(&text);
        }
    }
}
