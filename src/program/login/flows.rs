//! The three ways to a first token: a code for another device (RFC 8628), the pasted answer of a browser (RFC 7636), and the
//! client's own credentials.

use super::say;
use crate::config::oauth::Flow;
use crate::engine::outbound::tokens::client::{OauthClient, ask, random};
use crate::engine::outbound::web::WebWorld;
use crate::program::exit;
use crate::program::remote::screen::escaped;
use crate::program::terminal::{line, prompt};
use crate::rules::accounts::oauth::pkce::{BrowserLogin, Question};
use crate::rules::accounts::oauth::reply::{
    DeviceCode, DeviceReply, Grant, Hindrance, Refusal, RefusalKind, TokenReply, device, token,
};
use crate::rules::accounts::oauth::request::{self, ClientProof, GrantRequest};
use crate::rules::advice::monitor::span;
use crate::smtp::sasl::Secret;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::thread;
use std::os::fd::AsFd;
use std::time::Duration;

/// What a device adds to its interval when it is told to slow down, in seconds (RFC 8628 §3.5).
const SLOW_DOWN: u64 = 5;
/// The longest pause between two questions of a device, in seconds.
const INTERVAL_MAX: u64 = 300;
/// The longest pasted answer in octets.
const PASTED_MAX_OCTETS: usize = 8192;

/// Why there is no token.
pub struct Failed {
    /// The exit code.
    pub code: u8,
    /// The reason in words.
    pub text: String,
}

impl Failed {
    fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind {
            RefusalKind::AccessDenied | RefusalKind::InvalidGrant => exit::NO_PERMISSION,
            RefusalKind::ExpiredToken => exit::TEMPORARY,
            RefusalKind::InvalidClient | RefusalKind::Other => exit::CONFIG,
        };
        Self { code, text: format!("the provider refuses: {}", refusal.text) }
    }
}

impl From<Hindrance> for Failed {
    fn from(hindrance: Hindrance) -> Self {
        let mut text = format!("the provider has no time: {}", hindrance.text);
        if let Some(seconds) = hindrance.retry_after {
            text.push_str(&format!("; try again in {}", span(seconds)));
        }
        Self { code: exit::TEMPORARY, text }
    }
}

/// Who asks for a first token, and for whom.
pub struct LoginQuestion<'a> {
    /// What is needed from outside.
    pub world: &'a WebWorld<'a>,
    /// The client.
    pub client: &'a OauthClient<'a>,
    /// Its proof.
    pub proof: &'a ClientProof,
    /// The user name at the smarthost.
    pub username: &'a str,
}

impl LoginQuestion<'_> {
    /// Asks for a token, by the flow of the configuration.
    pub fn ask(&self) -> Result<Grant, Failed> {
        match self.client.oauth.flow() {
            Flow::Device => self.device(),
            Flow::Paste => self.paste(),
            Flow::Client => self.granted(GrantRequest::ClientCredentials(self.client.oauth.wanted_scope())),
        }
    }

    fn device(&self) -> Result<Grant, Failed> {
        let oauth = self.client.oauth;
        let url = oauth
            .device_end_point()
            .ok_or_else(|| Failed::new(exit::CONFIG, "oauth.device_url is missing"))?;
        let form = request::device(&oauth.client_id, self.proof, oauth.wanted_scope());
        let answer = ask(self.world, &url, &form).map_err(|text| Failed::new(exit::TEMPORARY, text))?;
        let code = match device(answer.as_read()) {
            DeviceReply::Code(code) => code,
            DeviceReply::Refused(refusal) => return Err(refusal.into()),
            DeviceReply::Temporary(hindrance) => return Err(hindrance.into()),
        };
        say(&format!(
            "Open this page in a browser, on any device:\n    {}\nsign in as {}, and enter the code:\n    {}\nIt holds for {}.\n",
            escaped(&code.verification_url),
            escaped(self.username),
            escaped(&code.user_code),
            span(code.lifetime)
        ));
        self.poll(&code)
    }

    /// Asks until the person has finished, or the code has ended.
    fn poll(&self, code: &DeviceCode) -> Result<Grant, Failed> {
        let end = SystemClock.boot().saturating_add(Duration::from_secs(code.lifetime));
        let mut interval = code.interval;
        loop {
            thread::sleep(Duration::from_secs(interval));
            if SystemClock.boot() >= end {
                return Err(Failed::new(exit::TEMPORARY, "expired_token: the code was not typed in time"));
            }
            match self.reply(GrantRequest::DeviceCode(&code.device_code)) {
                Ok(TokenReply::Granted(grant)) => return Ok(grant),
                Ok(TokenReply::Pending) => {}
                Ok(TokenReply::SlowDown) => interval = (interval + SLOW_DOWN).min(INTERVAL_MAX),
                Ok(TokenReply::Refused(refusal)) => return Err(refusal.into()),
                Ok(TokenReply::Temporary(hindrance)) => {
                    interval = hindrance.retry_after.unwrap_or(2 * interval).clamp(interval, INTERVAL_MAX);
                }
                // RFC 8628 §3.5: less and less often.
                Err(_) => interval = (2 * interval).min(INTERVAL_MAX),
            }
        }
    }

    fn paste(&self) -> Result<Grant, Failed> {
        let oauth = self.client.oauth;
        let url = oauth.authorization_end_point();
        let url = url.ok_or_else(|| Failed::new(exit::CONFIG, "oauth.authorization_url is missing"))?;
        let known = oauth.known();
        let login = BrowserLogin::begin(&random());
        let question = Question {
            authorization_url: &url.to_string(),
            client_id: &oauth.client_id,
            scope: oauth.wanted_scope(),
            redirect_url: known.redirect_url,
            username: self.username,
            extra: known.authorization_extra,
        };
        say(&format!(
            "Open this page in a browser, and sign in as {}:\n\n{}\n\nAt the end the browser shows an empty page, or that it \
             can't reach 127.0.0.1.\nThat is right: copy the whole address from its address bar.\n",
            escaped(self.username),
            login.url(&question)
        ));
        prompt("Paste the address here: ");
        let pasted = line(std::io::stdin().as_fd(), PASTED_MAX_OCTETS);
        let pasted =
            pasted.map_err(|errno| Failed::new(exit::IO, format!("can't read the answer: {errno}")))?;
        let pasted = pasted.unwrap_or_else(|| Secret::new(Vec::new()));
        let code = login.answer(&pasted).map_err(|text| Failed::new(exit::NO_PERMISSION, text))?;
        let (redirect_url, verifier) = (known.redirect_url, &login.verifier);
        self.granted(GrantRequest::AuthorizationCode { code: &code, redirect_url, verifier })
    }

    /// Asks once.
    fn granted(&self, grant: GrantRequest<'_>) -> Result<Grant, Failed> {
        match self.reply(grant).map_err(|text| Failed::new(exit::TEMPORARY, text))? {
            TokenReply::Granted(grant) => Ok(grant),
            TokenReply::Refused(refusal) => Err(refusal.into()),
            TokenReply::Temporary(hindrance) => Err(hindrance.into()),
            TokenReply::Pending | TokenReply::SlowDown => {
                Err(Failed::new(exit::TEMPORARY, "the provider answers another question"))
            }
        }
    }

    fn reply(&self, grant: GrantRequest<'_>) -> Result<TokenReply, String> {
        let form = request::token(&self.client.oauth.client_id, self.proof, grant);
        ask(self.world, &self.client.token_url, &form).map(|answer| token(answer.as_read()))
    }
}
