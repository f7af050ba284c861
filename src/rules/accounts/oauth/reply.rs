//! What the end points of a provider answer (RFC 6749 §5, RFC 8628 §3.2 and §3.5).
//!
//! | reply | means |
//! | --- | --- |
//! | 2xx with a token | granted |
//! | an error with the code `authorization_pending`, `slow_down` | the person has not finished yet |
//! | 429, 408, 5xx, `temporarily_unavailable`, `server_error`, a redirect, no JSON | temporary: asked again later |
//! | any other error | refused, until the operator changes something |
//!
//! Texts are the provider's, without control characters and cut; a token is never part of one.

use crate::mail::json::JsonObject;
use crate::mail::text::is_hostile;
use crate::smtp::sasl::Secret;

/// The longest token in octets: longer ones do not fit into AUTH (RFC 4954 §4 allows 12288 octets of base64).
pub const TOKEN_MAX_OCTETS: usize = 8192;
/// How long a token lives if the provider does not say, in seconds: the shortest that is usual.
const LIFETIME: u64 = 3600;
/// The longest life of an access token that is believed, in seconds.
const LIFETIME_MAX: u64 = 400 * 86_400;
/// The longest text of a provider that is shown, in characters.
const TEXT_MAX: usize = 300;

/// What a server answered, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct HttpAnswer<'a> {
    /// The status code.
    pub status: u16,
    /// The seconds of `Retry-After`.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: &'a [u8],
}

/// A token, and what came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The access token.
    pub access: Secret,
    /// A refresh token, where the provider gives one: it takes the place of the one before.
    pub refresh: Option<Secret>,
    /// How long the access token lives, in seconds.
    pub lifetime: u64,
}

/// Why nothing was granted, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// The provider's code and words.
    pub text: String,
}

/// The kinds of refusals that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The person said no.
    AccessDenied,
    /// The device code is too old.
    ExpiredToken,
    /// The refresh token or the code is not valid, or not any more.
    InvalidGrant,
    /// The client is unknown, or its secret is wrong.
    InvalidClient,
    /// Any other.
    Other,
}

/// Why there is no answer now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// In words.
    pub text: String,
    /// The seconds after which the provider wants to be asked again.
    pub retry_after: Option<u64>,
}

/// The answer to a request for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenReply {
    /// A token.
    Granted(Grant),
    /// The person has not finished.
    Pending,
    /// The same, and the device asks too often.
    SlowDown,
    /// No.
    Refused(Refusal),
    /// Not now.
    Temporary(Hindrance),
}

/// A device code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// What the device asks with.
    pub device_code: Secret,
    /// What the person types.
    pub user_code: String,
    /// Where.
    pub verification_url: String,
    /// How long both hold, in seconds.
    pub lifetime: u64,
    /// The seconds between two questions.
    pub interval: u64,
}

/// The answer to a request for a device code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceReply {
    /// A code.
    Code(DeviceCode),
    /// No.
    Refused(Refusal),
    /// Not now.
    Temporary(Hindrance),
}

/// Reads the answer to a request for a token.
#[must_use]
pub fn token(answer: HttpAnswer<'_>) -> TokenReply {
    let Some(object) = JsonObject::parse(answer.body) else { return TokenReply::Temporary(no_json(answer)) };
    if (200..300).contains(&answer.status) {
        return match grant(&object) {
            Ok(grant) => TokenReply::Granted(grant),
            Err(text) => TokenReply::Refused(Refusal { kind: RefusalKind::Other, text }),
        };
    }
    match object.text("error") {
        Some("authorization_pending") => TokenReply::Pending,
        Some("slow_down") => TokenReply::SlowDown,
        _ => error(answer, &object).map_or_else(TokenReply::Temporary, TokenReply::Refused),
    }
}

/// Reads the answer to a request for a device code.
#[must_use]
pub fn device(answer: HttpAnswer<'_>) -> DeviceReply {
    let Some(object) = JsonObject::parse(answer.body) else { return DeviceReply::Temporary(no_json(answer)) };
    if !(200..300).contains(&answer.status) {
        return error(answer, &object).map_or_else(DeviceReply::Temporary, DeviceReply::Refused);
    }
    // Google says `verification_url`.
    let url = object.text("verification_uri").or_else(|| object.text("verification_url"));
    match (object.text("device_code").and_then(secret), object.text("user_code"), url) {
        (Some(device_code), Some(user_code), Some(url)) => DeviceReply::Code(DeviceCode {
            device_code,
            user_code: clean(user_code),
            verification_url: clean(url),
            lifetime: object.number("expires_in").unwrap_or(900).clamp(1, 86_400),
            // RFC 8628 §3.2: five seconds unless it says otherwise.
            interval: object.number("interval").unwrap_or(5).clamp(1, 300),
        }),
        _ => {
            let text = "the answer has no device_code, user_code and verification_uri".into();
            DeviceReply::Refused(Refusal { kind: RefusalKind::Other, text })
        }
    }
}

fn grant(object: &JsonObject) -> Result<Grant, String> {
    if let Some(kind) = object.text("token_type").filter(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(format!(
            "the token is of the type {:?}, and mail servers take bearer tokens",
            clean(kind)
        ));
    }
    let access = object.text("access_token").ok_or("the answer has no access_token")?;
    let unfit = "a token in the answer is empty, has more than 8192 octets, or characters that no token has";
    let access = secret(access).ok_or(unfit)?;
    let refresh = object.text("refresh_token").map(|text| secret(text).ok_or(unfit)).transpose()?;
    let lifetime = object.number("expires_in").unwrap_or(LIFETIME).min(LIFETIME_MAX);
    Ok(Grant { access, refresh, lifetime })
}

/// A token, if it is well-formed (RFC 6749 appendix A.12: visible ASCII).
fn secret(text: &str) -> Option<Secret> {
    let is_fit = (1..=TOKEN_MAX_OCTETS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    is_fit.then(|| Secret::new(text.as_bytes().to_vec()))
}

/// An error of a server that speaks JSON: a refusal, or a hindrance.
fn error(answer: HttpAnswer<'_>, object: &JsonObject) -> Result<Refusal, Hindrance> {
    let code = object.text("error").map(clean).unwrap_or_default();
    let description = object.text("error_description").map(clean).unwrap_or_default();
    let status = answer.status;
    let text = match (code.as_str(), description.as_str()) {
        ("", "") => format!("HTTP status {status}"),
        (code, "") => code.to_owned(),
        ("", description) => description.to_owned(),
        (code, description) => format!("{code}: {description}"),
    };
    let is_temporary = matches!(status, 408 | 429 | 500..)
        || !(400..500).contains(&status)
        || code.is_empty()
        || matches!(code.as_str(), "temporarily_unavailable" | "server_error");
    if is_temporary {
        return Err(Hindrance { text, retry_after: answer.retry_after });
    }
    let kind = match code.as_str() {
        // Google's name for the second.
        "access_denied" | "authorization_declined" => RefusalKind::AccessDenied,
        "expired_token" | "code_expired" => RefusalKind::ExpiredToken,
        "invalid_grant" | "bad_verification_code" => RefusalKind::InvalidGrant,
        "invalid_client" | "unauthorized_client" => RefusalKind::InvalidClient,
        _ => RefusalKind::Other,
    };
    Ok(Refusal { kind, text })
}

fn no_json(answer: HttpAnswer<'_>) -> Hindrance {
    let text = match answer.status {
        300..400 => format!("HTTP status {}: the URL leads elsewhere, and is not followed", answer.status),
        status => format!("HTTP status {status}, without JSON"),
    };
    Hindrance { text, retry_after: answer.retry_after }
}

/// A provider's text, in one line and without what a terminal or a log must not get. Microsoft's ends in numbers for its
/// support.
pub fn clean(text: &str) -> String {
    let text = text.split("Trace ID:").next().unwrap_or_default();
    let plain: String = text.chars().map(|c| if is_hostile(c) { ' ' } else { c }).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    words.join(" ").chars().take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answered(status: u16, body: &str) -> TokenReply {
        token(HttpAnswer { status, retry_after: Some(7), body: body.as_bytes() })
    }

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn a_token_is_granted_with_what_the_provider_says_of_it() {
        let whole = r#"{"token_type":"bearer","access_token":"A","refresh_token":"R","expires_in":"3599","scope":"x"}"#;
        let grant = Grant { access: secret("A"), refresh: Some(secret("R")), lifetime: 3599 };
        assert_eq!(answered(200, whole), TokenReply::Granted(grant));
        let bare = Grant { access: secret("A"), refresh: None, lifetime: 3600 };
        assert_eq!(answered(200, r#"{"access_token":"A"}"#), TokenReply::Granted(bare));
        for (body, why) in [
            (r#"{"token_type":"DPoP","access_token":"A"}"#, "bearer"),
            (r#"{"access_token":""}"#, "characters"),
            (r#"{"access_token":"A B"}"#, "characters"),
            (r#"{"access_token":"A\r\nQUIT"}"#, "characters"),
            (r#"{"access_token":"A","refresh_token":"\u0001"}"#, "characters"),
            (r#"{"expires_in":1}"#, "no access_token"),
            (&format!(r#"{{"access_token":"{}"}}"#, "x".repeat(TOKEN_MAX_OCTETS + 1)), "8192"),
        ] {
            let TokenReply::Refused(refusal) = answered(200, body) else { panic!("{body}") };
            assert!(refusal.text.contains(why) && refusal.kind == RefusalKind::Other, "{refusal:?}");
        }
    }

    #[test]
    fn errors_are_for_good_for_now_or_for_the_person() {
        use RefusalKind::{AccessDenied, ExpiredToken, InvalidClient, InvalidGrant, Other};
        assert_eq!(answered(400, r#"{"error":"authorization_pending"}"#), TokenReply::Pending);
        assert_eq!(answered(400, r#"{"error":"slow_down"}"#), TokenReply::SlowDown);
        for (status, code, kind) in [
            (400, "access_denied", AccessDenied),
            (400, "authorization_declined", AccessDenied),
            (400, "expired_token", ExpiredToken),
            (400, "invalid_grant", InvalidGrant),
            (401, "invalid_client", InvalidClient),
            (400, "unauthorized_client", InvalidClient),
            (400, "invalid_scope", Other),
            (403, "org_internal", Other),
        ] {
            let TokenReply::Refused(refusal) = answered(status, &format!(r#"{{"error":"{code}"}}"#)) else {
                panic!("{code}")
            };
            assert_eq!((refusal.kind, refusal.text.as_str()), (kind, code));
        }
        for (status, body) in [
            (429, r#"{"error":"invalid_grant"}"#),
            (503, r#"{"error":"invalid_client"}"#),
            (400, r#"{"error":"temporarily_unavailable"}"#),
            (400, r#"{"message":"?"}"#),
            (302, r#"{"error":"invalid_grant"}"#),
            (200, "<html>log in to the hotel's network</html>"),
            (404, "no"),
            (307, ""),
        ] {
            let TokenReply::Temporary(hindrance) = answered(status, body) else { panic!("{status} {body}") };
            assert_eq!(hindrance.retry_after, Some(7));
            assert!(!hindrance.text.is_empty());
        }
    }

    #[test]
    fn words_of_a_provider_are_cleaned_and_cut() {
        let long = "x".repeat(2 * TEXT_MAX);
        let body = format!(
            r#"{{"error":"invalid_grant","error_description":"AADSTS70008: ended\r\n\u001b[31mTrace ID: 1 {long}"}}"#
        );
        let TokenReply::Refused(refusal) = answered(400, &body) else { panic!() };
        assert_eq!(refusal.text, "invalid_grant: AADSTS70008: ended [31m");
        assert_eq!(clean(&long).len(), TEXT_MAX);
    }

    #[test]
    fn a_device_code_has_its_bounds() {
        let read = |body: &str| device(HttpAnswer { status: 200, retry_after: None, body: body.as_bytes() });
        let body = r#"{"device_code":"D","user_code":"AB\u001bC","verification_url":"https://a.test","expires_in":1e12}"#;
        let DeviceReply::Code(code) = read(body) else { panic!() };
        assert_eq!((code.user_code.as_str(), code.lifetime, code.interval), ("AB C", 86_400, 5));
        assert!(matches!(read("{}"), DeviceReply::Refused(_)));
        assert!(matches!(read("x"), DeviceReply::Temporary(_)));
        let refused = HttpAnswer { status: 400, retry_after: None, body: br#"{"error":"invalid_scope"}"# };
        assert!(matches!(device(refused), DeviceReply::Refused(_)));
    }

    proptest! {
        #[test]
        fn no_reply_breaks_the_reader(status in 0u16..700, body in "\\{?(\"(error|access_token|expires_in)\":\"?[a-z0-9]{0,9}\"?,?){0,3}\\}?") {
            let answer = HttpAnswer { status, retry_after: None, body: body.as_bytes() };
            let _ = (token(answer), device(answer));
        }
    }
}
