//! This host as a client of a provider: what `[oauth]` says of it, its proof, and its questions.

use crate::config::oauth::Flow;
use crate::config::{Oauth, Settings, secret_file};
use crate::engine::outbound::web::{WebWorld, request};
use crate::net::https::{HttpsReply, HttpsRequest};
use crate::rules::accounts::oauth::assertion::ClientCertificate;
use crate::rules::accounts::oauth::reply::HttpAnswer;
use crate::rules::accounts::oauth::request::{ClientProof, FORM_TYPE};
use crate::rules::accounts::oauth::url::HttpsUrl;
use crate::rules::accounts::secret_shape::first_line;
use crate::smtp::sasl::Secret;
use crate::sys;
use crate::sys::file::{self, FileKind};
use std::time::Duration;

/// How long a question and its answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// The longest answer: three tokens of the longest kind, and some words.
const ANSWER_MAX_OCTETS: usize = 64 * 1024;

/// This host as a client of a provider.
#[derive(Debug, Clone)]
pub struct OauthClient<'a> {
    /// `[oauth]`.
    pub oauth: &'a Oauth,
    /// Where tokens come from.
    pub token_url: HttpsUrl,
}

/// The proof of the client, and a number that changes when something does that the provider judges.
#[derive(Debug)]
pub struct Proven {
    /// The proof.
    pub proof: ClientProof,
    /// The number.
    pub fingerprint: u64,
}

impl<'a> OauthClient<'a> {
    /// The client of the settings.
    ///
    /// # Errors
    /// `[oauth]` is not set.
    pub fn of(settings: &'a Settings) -> Result<Self, String> {
        let oauth = &settings.oauth;
        let token_url = oauth.token_end_point().filter(|_| !oauth.client_id.is_empty());
        let token_url = token_url.ok_or("[oauth] names no provider, or no client_id")?;
        Ok(Self { oauth, token_url })
    }

    /// The name of the file for a login: one for each user name and token URL.
    #[must_use]
    pub fn file_name(&self, username: &str) -> String {
        let digest = openssl::sha::sha256(format!("{username}\0{}", self.token_url).as_bytes());
        digest.iter().take(12).map(|octet| format!("{octet:02x}")).collect()
    }

    /// Reads what proves who the client is. `now` is the wall clock in seconds.
    ///
    /// # Errors
    /// A file cannot be read, or its form is wrong; in words.
    pub fn prove(&self, now: u64) -> Result<Proven, String> {
        let oauth = self.oauth;
        let mut judged =
            format!("{}\0{}\0{}\0", oauth.client_id, oauth.wanted_scope(), oauth.flow).into_bytes();
        let secret = |path| secret_file::read(path).map(Secret::new).map_err(|fault| fault.text);
        let proof = match (&oauth.client_secret_file, oauth.certificate_and_key()) {
            (Some(path), _) => {
                let octets = secret(path)?;
                let line = first_line(octets.octets());
                if line.is_empty() {
                    return Err(format!("{path:?} is empty; put the client's secret into it"));
                }
                judged.extend_from_slice(&openssl::sha::sha256(line));
                ClientProof::Secret(Secret::new(line.to_vec()))
            }
            (None, Some((certificate, key))) => {
                let pem = file::read(certificate, FileKind::Certificate)
                    .map_err(|error| format!("{certificate:?} can't be read: {error}"))?;
                judged.extend_from_slice(&openssl::sha::sha256(&pem));
                let certificate = ClientCertificate::parse(&pem, secret(key)?.octets())?;
                let (uses_pss, url) = (oauth.known().wants_ps256, self.token_url.to_string());
                let random = random::<16>();
                ClientProof::Assertion(certificate.assert(&oauth.client_id, &url, uses_pss, now, &random)?)
            }
            (None, None) => ClientProof::None,
        };
        let digest = openssl::sha::sha256(&judged);
        let fingerprint = digest.first_chunk().map_or(0, |octets| u64::from_be_bytes(*octets));
        Ok(Proven { proof, fingerprint })
    }

    /// Whether tokens come without a person.
    #[must_use]
    pub fn is_unattended(&self) -> bool {
        self.oauth.flow() == Flow::Client
    }
}

/// Sends a form to an end point.
///
/// # Errors
/// There is no answer; the reason in words.
pub fn ask(world: &WebWorld<'_>, url: &HttpsUrl, form: &Secret) -> Result<Answer, String> {
    let question = HttpsRequest {
        host: &url.host,
        port: url.port,
        path: &url.path,
        accept: "application/json",
        body: Some((FORM_TYPE, form.octets())),
        body_max_octets: ANSWER_MAX_OCTETS,
    };
    request(world, url, &question, ANSWER).map(Answer::new)
}

/// An answer, which may hold a secret.
#[derive(Debug)]
pub struct Answer {
    status: u16,
    retry_after: Option<u64>,
    body: Secret,
}

impl Answer {
    fn new(reply: HttpsReply) -> Self {
        Self { status: reply.status, retry_after: reply.retry_after, body: Secret::new(reply.body) }
    }

    /// The answer as the rules read it.
    #[must_use]
    pub fn as_read(&self) -> HttpAnswer<'_> {
        HttpAnswer { status: self.status, retry_after: self.retry_after, body: self.body.octets() }
    }
}

/// Random octets.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut octets = [0; N];
    for part in octets.chunks_mut(8) {
        let random = sys::random().to_ne_bytes();
        part.iter_mut().zip(random).for_each(|(octet, random)| *octet = random);
    }
    octets
}
