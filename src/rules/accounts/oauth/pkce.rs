//! A login by way of a browser whose answer a person pastes (RFC 6749 §4.1, RFC 8252, RFC 7636).
//!
//! The verifier never leaves this host before the code comes back, so a code that somebody else sees is worth nothing.
//! `state` ties the answer to the question: without it, somebody could have the operator paste the answer to a question of
//! theirs, and mail would leave by their account.

use super::base64url;
use super::url::{Form, field};
use crate::mail::text::is_hostile;
use crate::smtp::sasl::Secret;

/// The octets of randomness that a login wants: for the verifier, and for `state`.
pub const RANDOM_OCTETS: usize = 48;
/// How many of them are the verifier's.
const VERIFIER_OCTETS: usize = 32;

/// A login that waits for its answer.
#[derive(Debug)]
pub struct BrowserLogin {
    /// The secret of PKCE (RFC 7636 §4.1).
    pub verifier: Secret,
    state: String,
}

/// What the URL for the browser is made of.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The end point.
    pub authorization_url: &'a str,
    /// The client.
    pub client_id: &'a str,
    /// The scope.
    pub scope: &'a str,
    /// Where the browser goes afterwards.
    pub redirect_url: &'a str,
    /// Whom to propose as the account.
    pub username: &'a str,
    /// Further parameters that a provider wants.
    pub extra: &'a [(&'a str, &'a str)],
}

impl BrowserLogin {
    /// Begins a login with octets that nobody can guess.
    #[must_use]
    pub fn begin(random: &[u8; RANDOM_OCTETS]) -> Self {
        let (verifier, state) = random.split_at(VERIFIER_OCTETS);
        Self { verifier: Secret::new(base64url(verifier).into_bytes()), state: base64url(state) }
    }

    /// The URL for the browser.
    #[must_use]
    pub fn url(&self, question: &Question<'_>) -> String {
        let challenge = base64url(&openssl::sha::sha256(self.verifier.octets()));
        let mut fields = vec![
            ("response_type", "code"),
            ("client_id", question.client_id),
            ("redirect_uri", question.redirect_url),
            ("scope", question.scope),
            ("state", &self.state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
            ("login_hint", question.username),
        ];
        fields.extend_from_slice(question.extra);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let joint = if question.authorization_url.contains('?') { '&' } else { '?' };
        format!("{}{joint}{}", question.authorization_url, Form::new(&fields).text())
    }

    /// The code in what was pasted: the whole URL to which the browser went, or the code alone.
    ///
    /// # Errors
    /// It is no answer, that to another question, or the provider's refusal; in words.
    pub fn answer(&self, pasted: &Secret) -> Result<Secret, String> {
        let text = std::str::from_utf8(pasted.octets()).map_err(|_| "what was pasted is not text")?.trim();
        if !text.contains(['?', '#', '&', '=']) {
            let is_code = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_graphic());
            let code = is_code.then(|| Secret::new(text.as_bytes().to_vec()));
            return code.ok_or_else(|| "nothing was pasted, or more than a code".to_owned());
        }
        let query = text.find(['?', '#']).and_then(|at| text.get(at + 1..)).unwrap_or(text);
        let query = query.split('#').next().unwrap_or_default();
        if let Some(error) = field(query, "error") {
            let description = field(query, "error_description").unwrap_or_default();
            let shown: String =
                format!("{error}: {description}").chars().filter(|c| !is_hostile(*c)).collect();
            return Err(shown.trim_end_matches(": ").chars().take(500).collect());
        }
        match (field(query, "code"), field(query, "state")) {
            (None, _) => {
                Err("the URL has no code; paste all of the address to which the browser went".into())
            }
            (_, state) if state.as_deref() != Some(self.state.as_str()) => {
                Err("the answer belongs to another login (its `state` differs); begin again".into())
            }
            (Some(code), _) => Ok(Secret::new(code.into_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636 appendix B.
        let verifier = secret("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let login = BrowserLogin { verifier, state: "S".into() };
        let question = Question {
            authorization_url: "https://a.test/auth",
            client_id: "id",
            scope: "mail send",
            redirect_url: "http://127.0.0.1/",
            username: "joe@a.test",
            extra: &[("prompt", "consent")],
        };
        assert_eq!(
            login.url(&question),
            "https://a.test/auth?response_type=code&client_id=id&redirect_uri=http%3A%2F%2F127.0.0.1%2F\
             &scope=mail%20send&state=S&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
             &code_challenge_method=S256&login_hint=joe%40a.test&prompt=consent"
        );
        let other = Question { authorization_url: "https://a.test/auth?x=y", ..question };
        assert!(login.url(&other).starts_with("https://a.test/auth?x=y&response_type=code&"));
    }

    #[test]
    fn two_logins_share_nothing() {
        let (a, b) = (BrowserLogin::begin(&[1; RANDOM_OCTETS]), BrowserLogin::begin(&[2; RANDOM_OCTETS]));
        assert!(a.verifier != b.verifier && a.state != b.state);
        assert_eq!((a.verifier.octets().len(), a.state.len()), (43, 22), "RFC 7636 §4.1 wants 43 at least");
    }

    #[test]
    fn only_the_answer_to_the_own_question_counts() {
        let login = BrowserLogin { verifier: secret("v"), state: "S".into() };
        for text in [
            "http://127.0.0.1/?code=C%2F1&state=S",
            " http://127.0.0.1/?state=S&session=9&code=C/1#x \n",
            "code=C/1&state=S",
            "C/1",
        ] {
            assert_eq!(login.answer(&secret(text)), Ok(secret("C/1")), "{text}");
        }
        for (text, why) in [
            ("http://127.0.0.1/?code=C&state=T", "another login"),
            ("http://127.0.0.1/?code=C", "another login"),
            ("http://127.0.0.1/?state=S", "no code"),
            ("https://a.test/auth?response_type=code&client_id=id", "no code"),
            ("http://127.0.0.1/?error=access_denied&state=S", "access_denied"),
            ("http://127.0.0.1/?error=x&error_description=no%1b%5B2J+way", "x: no[2J way"),
            ("", "nothing"),
            ("two words", "nothing"),
        ] {
            let error = login.answer(&secret(text)).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(login.answer(&Secret::new(vec![0xff])).is_err());
    }
}
