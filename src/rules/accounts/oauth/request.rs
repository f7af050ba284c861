//! The forms that are sent to the end points of a provider, and how the client proves who it is.

use super::url::Form;
use crate::smtp::sasl::Secret;

/// The type of all forms.
pub const FORM_TYPE: &str = "application/x-www-form-urlencoded";

/// How the client proves who it is (RFC 6749 §2.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientProof {
    /// Not at all: a public client, as most applications on a device are.
    None,
    /// By a shared secret.
    Secret(Secret),
    /// By an assertion that its key has signed (RFC 7523 §2.2).
    Assertion(Secret),
}

/// What a token is asked for with.
#[derive(Debug, Clone, Copy)]
pub enum GrantRequest<'a> {
    /// The code of a device whose user logs in elsewhere (RFC 8628 §3.4).
    DeviceCode(&'a Secret),
    /// The code that came by way of the browser (RFC 6749 §4.1.3, RFC 7636 §4.5).
    AuthorizationCode {
        /// The code.
        code: &'a Secret,
        /// Where the browser was sent with it.
        redirect_url: &'a str,
        /// The verifier of PKCE.
        verifier: &'a Secret,
    },
    /// The client's own account (RFC 6749 §4.4.2), for this scope.
    ClientCredentials(&'a str),
    /// A refresh token (RFC 6749 §6).
    RefreshToken(&'a Secret),
}

/// The form that asks for a device code (RFC 8628 §3.1).
#[must_use]
pub fn device(client_id: &str, proof: &ClientProof, scope: &str) -> Secret {
    form(client_id, proof, &[("scope", scope.as_bytes())])
}

/// The form that asks for tokens.
#[must_use]
pub fn token(client_id: &str, proof: &ClientProof, grant: GrantRequest<'_>) -> Secret {
    match grant {
        GrantRequest::DeviceCode(code) => form(
            client_id,
            proof,
            &[
                ("grant_type", b"urn:ietf:params:oauth:grant-type:device_code"),
                ("device_code", code.octets()),
            ],
        ),
        GrantRequest::AuthorizationCode { code, redirect_url, verifier } => form(
            client_id,
            proof,
            &[
                ("grant_type", b"authorization_code"),
                ("code", code.octets()),
                ("redirect_uri", redirect_url.as_bytes()),
                ("code_verifier", verifier.octets()),
            ],
        ),
        GrantRequest::ClientCredentials(scope) => {
            form(client_id, proof, &[("grant_type", b"client_credentials"), ("scope", scope.as_bytes())])
        }
        GrantRequest::RefreshToken(refresh) => {
            form(client_id, proof, &[("grant_type", b"refresh_token"), ("refresh_token", refresh.octets())])
        }
    }
}

fn form(client_id: &str, proof: &ClientProof, fields: &[(&str, &[u8])]) -> Secret {
    let mut all = vec![("client_id", client_id.as_bytes())];
    all.extend_from_slice(fields);
    match proof {
        ClientProof::None => {}
        ClientProof::Secret(secret) => all.push(("client_secret", secret.octets())),
        ClientProof::Assertion(assertion) => all.extend([
            ("client_assertion_type", &b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"[..]),
            ("client_assertion", assertion.octets()),
        ]),
    }
    Form::new(&all).into_secret()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    fn text(form: &Secret) -> &str {
        std::str::from_utf8(form.octets()).unwrap()
    }

    #[test]
    fn each_grant_has_its_form() {
        let (none, key) = (ClientProof::None, ClientProof::Secret(secret("s&t")));
        assert_eq!(text(&device("id", &none, "a b")), "client_id=id&scope=a%20b");
        assert_eq!(
            text(&token("id", &none, GrantRequest::DeviceCode(&secret("D")))),
            "client_id=id&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=D"
        );
        let (code, verifier) = (secret("C"), secret("V"));
        let grant = GrantRequest::AuthorizationCode {
            code: &code,
            redirect_url: "http://127.0.0.1/",
            verifier: &verifier,
        };
        assert_eq!(
            text(&token("id", &key, grant)),
            "client_id=id&grant_type=authorization_code&code=C&redirect_uri=http%3A%2F%2F127.0.0.1%2F\
             &code_verifier=V&client_secret=s%26t"
        );
        assert_eq!(
            text(&token(
                "id",
                &ClientProof::Assertion(secret("a.b.c")),
                GrantRequest::ClientCredentials("S")
            )),
            "client_id=id&grant_type=client_credentials&scope=S&client_assertion_type=\
             urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b.c"
        );
        assert_eq!(
            text(&token("id", &none, GrantRequest::RefreshToken(&secret("R")))),
            "client_id=id&grant_type=refresh_token&refresh_token=R"
        );
    }
}
