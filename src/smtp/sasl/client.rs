//! The client's side of AUTH (RFC 4954 §4): the choice of a mechanism, and its messages.
//!
//! It has no socket and no random numbers: the nonce is an argument. It sends nothing where others could eavesdrop,
//! and it rejects a server that does not prove, where the mechanism allows that, that it knows the password. It never
//! changes to another mechanism by itself: the caller does so after a 5yz, and never after a [`Failed`], which a
//! false server could use to get a weaker mechanism. From the strongest:
//!
//! ```text
//! mechanism           initial response   then
//! EXTERNAL            the account or =   –                               RFC 4422 app. A: by the client certificate of TLS
//! SCRAM-SHA-256-PLUS  name, nonce        proof; checks the server's      RFC 5802, 7677; bound to the TLS channel
//! SCRAM-SHA-256       name, nonce        proof; checks the server's      RFC 5802, 7677
//! CRAM-MD5            –                  name, keyed hash of challenge   RFC 2195
//! PLAIN               all                –                               RFC 4616
//! LOGIN               –                  name; password                  draft-murchison-sasl-login
//! XOAUTH2             all                to an error: nothing            Google's, for OAuth 2.0
//! OAUTHBEARER         all                to an error: ^A                 RFC 7628 §3.2.3
//! ```
//!
//! SASLprep is not applied: names and passwords are sent unchanged, which makes no difference for ASCII.

use super::Secret;
use crate::mail::base64;
use crate::mail::json::JsonObject;
use crate::mail::text::is_hostile;
use crate::smtp::limits;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use std::{fmt, mem};

/// Fewest rounds of SCRAM (RFC 7677 §4): with fewer, an eavesdropper finds the password sooner.
pub const ROUNDS_MIN: usize = 4096;
/// Most rounds of SCRAM: about half a second on a fast machine. A server must not turn each login into a denial of
/// service.
pub const ROUNDS_MAX: usize = 1_000_000;

/// How a client proves who it is; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ClientMechanism {
    External,
    ScramSha256Plus,
    ScramSha256,
    CramMd5,
    Plain,
    Login,
    XOauth2,
    OauthBearer,
}

use ClientMechanism::{CramMd5, External, Login, OauthBearer, Plain, ScramSha256, ScramSha256Plus, XOauth2};

/// The words of `relay.auth`, each with the mechanisms that it allows, the strongest first. A token must not be sent
/// as a password, nor a password as a token, so the mechanisms for tokens have to be asked for.
pub const CHOICES: [(&str, &[ClientMechanism]); 8] = [
    (AUTO, &[External, ScramSha256Plus, ScramSha256, CramMd5, Plain, Login]),
    ("plain", &[Plain]),
    ("login", &[Login]),
    ("cram-md5", &[CramMd5]),
    ("scram-sha-256", &[ScramSha256Plus, ScramSha256]),
    ("xoauth2", &[XOauth2]),
    ("oauthbearer", &[OauthBearer]),
    ("external", &[External]),
];
/// The word that leaves the choice to the client.
pub const AUTO: &str = "auto";

impl ClientMechanism {
    /// Whether it sends a token of OAuth.
    #[must_use]
    pub const fn takes_token(self) -> bool {
        matches!(self, XOauth2 | OauthBearer)
    }

    /// Its registered name.
    #[must_use]
    pub const fn keyword(self) -> &'static str {
        match self {
            External => "EXTERNAL",
            ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            ScramSha256 => "SCRAM-SHA-256",
            CramMd5 => "CRAM-MD5",
            Plain => "PLAIN",
            Login => "LOGIN",
            XOauth2 => "XOAUTH2",
            OauthBearer => "OAUTHBEARER",
        }
    }
}

/// Binds SCRAM to the TLS connection below it, so that an attacker in between cannot relay it (RFC 5056).
#[derive(Debug, Clone, Copy)]
pub struct ChannelBinding<'a> {
    /// `tls-exporter` (RFC 9266) or `tls-server-end-point` (RFC 5929).
    pub name: &'a str,
    /// The octets of the binding.
    pub octets: &'a [u8],
}

/// What the client knows of the session in which it logs in.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The words after AUTH in the reply to EHLO; within TLS those of the EHLO within it.
    pub offered: &'a [&'a str],
    /// A word of [`CHOICES`].
    pub wanted: &'a str,
    /// Whether nobody can eavesdrop: TLS with a verified certificate, or loopback.
    pub is_private: bool,
    /// The channel binding, if there is TLS and the library provides it.
    pub channel: Option<ChannelBinding<'a>>,
    /// Whether a client certificate is at hand. Without one EXTERNAL has to be asked for.
    pub has_certificate: bool,
    /// Whether a password is at hand. Without one only EXTERNAL is possible.
    pub has_password: bool,
}

/// The account to log in with, and its server.
#[derive(Debug, Clone, Copy)]
pub struct LoginAccount<'a> {
    /// The user name; may be empty for EXTERNAL: then the server takes the one of the certificate.
    pub name: &'a str,
    /// The password, or the token of OAuth; `None` for EXTERNAL.
    pub password: Option<&'a Secret>,
    /// The server's name, as configured; OAUTHBEARER sends it.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
}

/// Why an exchange cannot continue: one sentence without a secret. The caller cancels with `*` (RFC 4954 §4) and
/// pauses the route; no other mechanism is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed(pub &'static str);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Failed {}

impl From<ErrorStack> for Failed {
    fn from(_: ErrorStack) -> Self {
        Self("OpenSSL can't do what the mechanism needs")
    }
}

/// The longest text about a refused token that is shown.
const TOKEN_ERROR_MAX_CHARACTERS: usize = 200;

const UNFIT: Failed = Failed("the name or the password is empty, or has characters that can't be sent");
const MALFORMED: Failed = Failed("the server's challenge is malformed");
const NOT_OURS: Failed = Failed("the server's challenge is the answer to another client");
const ROUNDS: Failed = Failed("the server wants fewer than 4096 or more than 1000000 rounds of SCRAM");
const FALSE: Failed = Failed("the server does not know the password: it is not the one it claims to be");
const TOO_EARLY: Failed = Failed("the server accepts the login before it can know who logs in");
const TOO_MUCH: Failed = Failed("the server sends more challenges than the mechanism has");

impl Client<'_> {
    /// The strongest mechanism that both sides support and that was not refused; `None`: a login is not possible
    /// here.
    #[must_use]
    pub fn choose(&self, refused: &[ClientMechanism]) -> Option<ClientMechanism> {
        let (_, choice) = CHOICES.iter().find(|(word, _)| *word == self.wanted)?;
        choice.iter().copied().find(|&mechanism| {
            self.is_private
                && self.offers(mechanism)
                && !refused.contains(&mechanism)
                && (mechanism != ScramSha256Plus || self.channel.is_some())
                && match mechanism {
                    External => self.has_certificate || self.wanted != AUTO,
                    _ => self.has_password,
                }
        })
    }

    fn offers(&self, mechanism: ClientMechanism) -> bool {
        self.offered.iter().any(|word| word.eq_ignore_ascii_case(mechanism.keyword()))
    }

    /// Begins an exchange. Returns it with the AUTH command, without CRLF. `nonce` is random for each exchange: at
    /// least 18 octets, in base64.
    ///
    /// # Errors
    /// The name or the password cannot be sent by this mechanism.
    pub fn start(
        &self,
        mechanism: ClientMechanism,
        account: &LoginAccount<'_>,
        nonce: &str,
    ) -> Result<(ClientExchange, Secret), Failed> {
        let password = account.password.map(Secret::octets).unwrap_or_default();
        let name = account.name.as_bytes();
        let is_sendable = |text: &[u8]| !text.iter().any(|octet| matches!(octet, 0 | 1 | b'\r' | b'\n'));
        let is_whole = mechanism == External || !name.is_empty() && !password.is_empty();
        if !is_whole || !is_sendable(name) || !is_sendable(password) {
            return Err(UNFIT);
        }
        let (state, response) = match mechanism {
            External => (ExchangeState::Said, Some(name.to_vec())),
            ScramSha256Plus | ScramSha256 => {
                let scram = self.scram(mechanism, account, nonce);
                let first = [scram.gs2_header.as_bytes(), scram.first.as_bytes()].concat();
                (ExchangeState::ScramFirst(scram), Some(first))
            }
            CramMd5 => {
                (ExchangeState::CramMd5 { name: account.name.to_owned(), password: copy(password) }, None)
            }
            Plain => (ExchangeState::Said, Some([b"\0", name, b"\0", password].concat())),
            Login => (ExchangeState::LoginName { name: encode(name), password: encode(password) }, None),
            XOauth2 => {
                let parts = [b"user=", name, b"\x01auth=Bearer ", password, b"\x01\x01"];
                (ExchangeState::Bearer { to_error: b"" }, Some(parts.concat()))
            }
            OauthBearer => {
                let head = format!(
                    "n,a={},\x01host={}\x01port={}\x01auth=Bearer ",
                    escape(account.name),
                    account.host,
                    account.port
                );
                let parts = [head.as_bytes(), password, b"\x01\x01"];
                (ExchangeState::Bearer { to_error: b"\x01" }, Some(parts.concat()))
            }
        };
        let unsent = response.map(|octets| match octets.as_slice() {
            // An empty initial response (RFC 4954 §4).
            [] => Secret::new(b"=".to_vec()),
            _ => encode(Secret::new(octets).octets()),
        });
        Ok(ClientExchange { error: None, unsent, state }.command(mechanism))
    }

    /// The GS2 flag says what the client knows of channel binding. `y` lets the server detect that an attacker
    /// removed the -PLUS mechanisms from its offer (RFC 5802 §6).
    fn scram(&self, mechanism: ClientMechanism, account: &LoginAccount<'_>, nonce: &str) -> Scram {
        let (gs2_header, channel) = match self.channel {
            Some(channel) if mechanism == ScramSha256Plus => {
                (format!("p={},,", channel.name), channel.octets.to_vec())
            }
            Some(_) if !self.offers(ScramSha256Plus) => ("y,,".to_owned(), Vec::new()),
            _ => ("n,,".to_owned(), Vec::new()),
        };
        Scram {
            gs2_header,
            channel,
            first: format!("n={},r={nonce}", escape(account.name)),
            nonce: nonce.to_owned(),
            password: copy(account.password.map(Secret::octets).unwrap_or_default()),
        }
    }
}

/// An exchange in progress.
#[derive(Debug)]
pub struct ClientExchange {
    /// What the server says of a token that it refuses.
    error: Option<String>,
    /// The initial response, if it was too long for the AUTH command.
    unsent: Option<Secret>,
    state: ExchangeState,
}

/// What the exchange expects next.
#[derive(Debug)]
enum ExchangeState {
    /// Name and password, both in base64, for the two challenges.
    LoginName {
        name: Secret,
        password: Secret,
    },
    LoginPassword(Secret),
    CramMd5 {
        name: String,
        password: Secret,
    },
    ScramFirst(Scram),
    /// The signature by which the server must prove that it knows the password.
    ScramFinal(Secret),
    /// A token was sent; this answers a challenge, which then is an error.
    Bearer {
        to_error: &'static [u8],
    },
    /// Everything has been sent.
    Said,
    /// The exchange can no longer succeed.
    Lost,
}

/// What SCRAM needs to prove knowledge of the password.
#[derive(Debug)]
struct Scram {
    gs2_header: String,
    channel: Vec<u8>,
    /// Name and nonce: `client-first-message-bare`.
    first: String,
    nonce: String,
    password: Secret,
}

impl ClientExchange {
    fn command(mut self, mechanism: ClientMechanism) -> (Self, Secret) {
        let verb = format!("AUTH {}", mechanism.keyword());
        let room = limits::AUTH_COMMAND_MAX_OCTETS - " \r\n".len() - verb.len();
        let line = match self.unsent.take_if(|response| response.octets().len() <= room) {
            Some(response) => [verb.as_bytes(), b" ", response.octets()].concat(),
            None => verb.into_bytes(),
        };
        (self, Secret::new(line))
    }

    /// Answers the text of a 334. Returns a line without CRLF.
    ///
    /// # Errors
    /// The challenge does not belong to this mechanism, or the server is not the one it claims to be.
    pub fn answer(&mut self, challenge: &[u8]) -> Result<Secret, Failed> {
        if let Some(response) = self.unsent.take() {
            return Ok(response);
        }
        let decoded = || base64::decode(challenge.trim_ascii()).ok_or(MALFORMED);
        let (state, line) = match mem::replace(&mut self.state, ExchangeState::Lost) {
            // The prompts are not compared: servers differ in them.
            ExchangeState::LoginName { name, password } => (ExchangeState::LoginPassword(password), name),
            ExchangeState::LoginPassword(password) => (ExchangeState::Said, password),
            ExchangeState::CramMd5 { name, password } => {
                let hash = hmac(MessageDigest::md5(), password.octets(), &decoded()?)?;
                let hex: String = hash.octets().iter().map(|octet| format!("{octet:02x}")).collect();
                (ExchangeState::Said, encode(format!("{name} {hex}").as_bytes()))
            }
            ExchangeState::ScramFirst(scram) => {
                let (message, signature) = scram.prove(&decoded()?)?;
                (ExchangeState::ScramFinal(signature), encode(message.as_bytes()))
            }
            // An error is answered, so that the server can send its 535, which then is an ordinary refusal.
            ExchangeState::ScramFinal(_) if decoded()?.starts_with(b"e=") => {
                (ExchangeState::Lost, Secret::new(Vec::new()))
            }
            ExchangeState::ScramFinal(signature) if is_signed(&decoded()?, &signature) => {
                (ExchangeState::Said, Secret::new(Vec::new()))
            }
            ExchangeState::ScramFinal(_) => return Err(FALSE),
            ExchangeState::Bearer { to_error } => {
                self.error = decoded().ok().map(|message| token_error(&message));
                (ExchangeState::Lost, encode(to_error))
            }
            ExchangeState::Said | ExchangeState::Lost => return Err(TOO_MUCH),
        };
        self.state = state;
        Ok(line)
    }

    /// What the server said of the token before it refused the login; `None`: nothing.
    #[must_use]
    pub fn token_error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Checks whether a 235 can be trusted. The proof of SCRAM may also stand in its text, though RFC 4954 §4
    /// requires a 334 for it.
    ///
    /// # Errors
    /// It came without the proof, or before the client had sent everything.
    pub fn success(&self, text: &str) -> Result<(), Failed> {
        let is_proof = |word: &str, signature: &Secret| {
            base64::decode(word.as_bytes()).is_some_and(|message| is_signed(&message, signature))
        };
        match &self.state {
            ExchangeState::Said | ExchangeState::Bearer { .. } if self.unsent.is_none() => Ok(()),
            ExchangeState::ScramFinal(signature) => {
                let mut words = text.split_ascii_whitespace();
                words.any(|word| is_proof(word, signature)).then_some(()).ok_or(FALSE)
            }
            _ => Err(TOO_EARLY),
        }
    }
}

impl Scram {
    /// From the server's first message: the client's final message, and the signature that the server has to return
    /// (RFC 5802 §3).
    fn prove(&self, server_first: &[u8]) -> Result<(String, Secret), Failed> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| MALFORMED)?;
        // A mandatory extension, m=, would stand in place of the nonce; others may follow the rounds (RFC 5802 §5.1).
        let mut fields = server_first.split(',');
        let mut field = |key: &str| fields.next()?.strip_prefix(key);
        let nonce = field("r=").ok_or(MALFORMED)?;
        let salt = field("s=").and_then(|text| base64::decode(text.as_bytes())).ok_or(MALFORMED)?;
        let rounds: usize = field("i=").and_then(|text| text.parse().ok()).ok_or(MALFORMED)?;
        if nonce.strip_prefix(&self.nonce).is_none_or(str::is_empty) {
            return Err(NOT_OURS);
        }
        if !(ROUNDS_MIN..=ROUNDS_MAX).contains(&rounds) {
            return Err(ROUNDS);
        }
        let sha256 = MessageDigest::sha256;
        let mut salted = Secret::new(vec![0; sha256().size()]);
        openssl::pkcs5::pbkdf2_hmac(self.password.octets(), &salt, rounds, sha256(), &mut salted.0)?;
        let binding = base64::encode(&[self.gs2_header.as_bytes(), &self.channel].concat());
        let unproven = format!("c={binding},r={nonce}");
        let auth_message = format!("{},{server_first},{unproven}", self.first);
        let mut proof = hmac(sha256(), salted.octets(), b"Client Key")?;
        let stored_key = openssl::sha::sha256(proof.octets());
        let signature = hmac(sha256(), &stored_key, auth_message.as_bytes())?;
        proof.0.iter_mut().zip(signature.octets()).for_each(|(octet, other)| *octet ^= other);
        let server_key = hmac(sha256(), salted.octets(), b"Server Key")?;
        let server_signature = hmac(sha256(), server_key.octets(), auth_message.as_bytes())?;
        Ok((format!("{unproven},p={}", base64::encode(proof.octets())), server_signature))
    }
}

/// The words of an error about a token (RFC 7628 §3.2.2): its status and the scope that would do; of anything else the
/// beginning. Without control characters.
fn token_error(message: &[u8]) -> String {
    let object = JsonObject::parse(message);
    let member =
        |name: &str| object.as_ref().and_then(|object| Some(format!("{name} {}", object.text(name)?)));
    let told: Vec<String> = ["status", "scope"].into_iter().filter_map(member).collect();
    let text = if told.is_empty() { String::from_utf8_lossy(message).into_owned() } else { told.join(", ") };
    text.chars().map(|c| if is_hostile(c) { '?' } else { c }).take(TOKEN_ERROR_MAX_CHARACTERS).collect()
}

/// Whether a server's final message carries the signature.
fn is_signed(message: &[u8], signature: &Secret) -> bool {
    let value = message.strip_prefix(b"v=").and_then(|rest| rest.split(|&octet| octet == b',').next());
    let octets = value.and_then(base64::decode).unwrap_or_default();
    // The comparison panics on different lengths.
    octets.len() == signature.octets().len() && openssl::memcmp::eq(&octets, signature.octets())
}

fn hmac(digest: MessageDigest, key: &[u8], text: &[u8]) -> Result<Secret, ErrorStack> {
    let key = PKey::hmac(key)?;
    Signer::new(digest, &key)?.sign_oneshot_to_vec(text).map(Secret::new)
}

/// A name within a list of fields (RFC 5802 §5.1, `saslname`).
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

fn encode(octets: &[u8]) -> Secret {
    Secret::new(base64::encode(octets).into_bytes())
}

fn copy(octets: &[u8]) -> Secret {
    Secret::new(octets.to_vec())
}

#[cfg(test)]
mod tests;
