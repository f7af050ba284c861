//! The proof of a client that has a certificate: a signed JWT (RFC 7523 §3, RFC 7515).
//!
//! ```text
//! base64url({"alg":"PS256","typ":"JWT","x5t#S256":SHA-256 of the certificate})
//! . base64url({"aud":the token URL,"iss":client,"sub":client,"jti":random,"nbf":now,"iat":now,"exp":now + 10 min})
//! . base64url(signature)
//! ```
//!
//! The key must be RSA: no provider is known that takes other keys and has these flows for mail.

use super::base64url;
use crate::smtp::sasl::Secret;
use openssl::hash::MessageDigest;
use openssl::pkey::{Id, PKey, Private};
use openssl::rsa::Padding;
use openssl::sign::{RsaPssSaltlen, Signer};
use openssl::x509::X509;

/// How long an assertion holds, in seconds.
const LIFETIME: u64 = 600;
/// It also holds this long before it was made, in seconds: the provider's clock may be behind.
const LEEWAY: u64 = 60;

/// A certificate and its key.
pub struct ClientCertificate {
    thumbprint: String,
    key: PKey<Private>,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl ClientCertificate {
    /// Reads both from PEM.
    ///
    /// # Errors
    /// One is damaged, they do not belong together, or the key is not RSA; in words.
    pub fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let certificate =
            X509::from_pem(certificate).map_err(|_| "oauth.certificate holds no certificate in PEM")?;
        // With the callback, no prompt appears for a key that wants a passphrase.
        let key = PKey::private_key_from_pem_callback(key, |_| Ok(0))
            .map_err(|_| "oauth.key holds no private key in PEM without a passphrase")?;
        if key.id() != Id::RSA {
            return Err(
                "oauth.key is not an RSA key; make one with openssl req -x509 -newkey rsa:2048".into()
            );
        }
        let is_theirs = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
        if !is_theirs {
            return Err("oauth.key is not the key of oauth.certificate".into());
        }
        let digest = certificate.digest(MessageDigest::sha256()).map_err(|error| error.to_string())?;
        Ok(Self { thumbprint: base64url(&digest), key })
    }

    /// Makes an assertion for a token URL. `now` is the wall clock in seconds, `random` makes the assertion unique.
    ///
    /// # Errors
    /// OpenSSL can't sign.
    pub fn assert(
        &self,
        client_id: &str,
        token_url: &str,
        uses_pss: bool,
        now: u64,
        random: &[u8; 16],
    ) -> Result<Secret, String> {
        let algorithm = if uses_pss { "PS256" } else { "RS256" };
        let head = format!(r#"{{"alg":"{algorithm}","typ":"JWT","x5t#S256":"{}"}}"#, self.thumbprint);
        let (from, until, jti) =
            (now.saturating_sub(LEEWAY), now.saturating_add(LIFETIME), base64url(random));
        let client = quoted(client_id);
        let claims = format!(
            r#"{{"aud":{},"iss":{client},"sub":{client},"jti":"{jti}","nbf":{from},"iat":{from},"exp":{until}}}"#,
            quoted(token_url)
        );
        let text = format!("{}.{}", base64url(head.as_bytes()), base64url(claims.as_bytes()));
        let signature =
            self.sign(text.as_bytes(), uses_pss).map_err(|error| format!("no assertion: {error}"))?;
        Ok(Secret::new(format!("{text}.{}", base64url(&signature)).into_bytes()))
    }

    fn sign(&self, text: &[u8], uses_pss: bool) -> Result<Vec<u8>, openssl::error::ErrorStack> {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key)?;
        if uses_pss {
            signer.set_rsa_padding(Padding::PKCS1_PSS)?;
            signer.set_rsa_mgf1_md(MessageDigest::sha256())?;
            // RFC 7518 §3.5.
            signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH)?;
        }
        signer.sign_oneshot_to_vec(text)
    }
}

/// A JSON string of text that the configuration has, which is without control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use openssl::asn1::Asn1Time;
    use openssl::rsa::Rsa;
    use openssl::sign::Verifier;
    use openssl::x509::X509NameBuilder;

    /// A self-signed certificate and its key, in PEM.
    pub fn make_certificate() -> (Vec<u8>, Vec<u8>) {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_text("CN", "box").unwrap();
        let name = name.build();
        let mut builder = X509::builder().unwrap();
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
    }

    fn decode(part: &str) -> Vec<u8> {
        let padded = format!("{part}{}", "=".repeat((4 - part.len() % 4) % 4));
        crate::mail::base64::decode(padded.replace('-', "+").replace('_', "/").as_bytes()).unwrap()
    }

    #[test]
    fn an_assertion_is_signed_as_its_head_says() {
        let (certificate, key) = make_certificate();
        let client = ClientCertificate::parse(&certificate, &key).unwrap();
        let x509 = X509::from_pem(&certificate).unwrap();
        for (uses_pss, algorithm) in [(true, "PS256"), (false, "RS256")] {
            let jwt = client.assert("my \"id\"", "https://a.test/t", uses_pss, 1_000_000, &[7; 16]).unwrap();
            let jwt = String::from_utf8(jwt.octets().to_vec()).unwrap();
            let parts: Vec<&str> = jwt.split('.').collect();
            let head = String::from_utf8(decode(parts[0])).unwrap();
            assert!(head.starts_with(&format!("{{\"alg\":\"{algorithm}\",")), "{head}");
            assert!(head.contains(&base64url(&x509.digest(MessageDigest::sha256()).unwrap())), "{head}");
            let claims = crate::mail::json::JsonObject::parse(&decode(parts[1])).unwrap();
            assert_eq!(claims.text("aud"), Some("https://a.test/t"));
            assert_eq!((claims.text("iss"), claims.text("sub")), (Some("my \"id\""), Some("my \"id\"")));
            assert_eq!((claims.number("nbf"), claims.number("exp")), (Some(999_940), Some(1_000_600)));
            let public = x509.public_key().unwrap();
            let mut verifier = Verifier::new(MessageDigest::sha256(), &public).unwrap();
            if uses_pss {
                verifier.set_rsa_padding(Padding::PKCS1_PSS).unwrap();
                verifier.set_rsa_mgf1_md(MessageDigest::sha256()).unwrap();
                verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).unwrap();
            }
            let text = format!("{}.{}", parts[0], parts[1]);
            assert!(verifier.verify_oneshot(&decode(parts[2]), text.as_bytes()).unwrap(), "{algorithm}");
        }
    }

    #[test]
    fn a_certificate_needs_its_own_rsa_key() {
        let ((certificate, key), (_, other)) = (make_certificate(), make_certificate());
        let elliptic = openssl::ec::EcKey::generate(
            &openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap(),
        );
        let elliptic = PKey::from_ec_key(elliptic.unwrap()).unwrap().private_key_to_pem_pkcs8().unwrap();
        let locked = PKey::private_key_from_pem(&key).unwrap();
        let locked =
            locked.private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_256_cbc(), b"x").unwrap();
        for (certificate, key, why) in [
            (&certificate, &other, "not the key"),
            (&certificate, &elliptic, "not an RSA key"),
            (&certificate, &locked, "passphrase"),
            (&certificate, &certificate, "no private key"),
            (&key, &key, "no certificate"),
        ] {
            let error = ClientCertificate::parse(certificate, key).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
