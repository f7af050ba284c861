//! Tokens of OAuth 2.0 (RFC 6749), with which this host logs in at a smarthost: what is asked of a provider, what its
//! answers mean, and what is kept.
//!
//! | file | for |
//! | --- | --- |
//! | [`provider`] | the URLs and habits of known providers |
//! | [`url`] | `https://` URLs, and forms in them |
//! | [`request`] | the forms of each grant: device code (RFC 8628), authorization code, client credentials, refresh |
//! | [`pkce`] | the URL for the browser, and the pasted answer (RFC 7636) |
//! | [`assertion`] | the proof of a client that has a certificate (RFC 7523) |
//! | [`reply`] | the answers of the end points |
//! | [`kept`] | what lies on disk: the tokens, their ends, and when they are refreshed |
//!
//! ```text
//! nothing ── login: device, paste or client ──▶ kept ──▶ access token ──▶ AUTH XOAUTH2, OAUTHBEARER
//!                                                │ ▲
//!                                  near its end  ▼ │ granted: saved before it is used
//!                                               refresh ── refused for good: alarm, until the next login
//! ```
//!
//! No file here has a socket, a clock or a disk. Random octets and times are arguments. Secrets are `Secret`, which
//! shows nothing and is overwritten.

pub mod assertion;
pub mod kept;
pub mod pkce;
pub mod provider;
pub mod reply;
pub mod request;
pub mod url;

use crate::mail::base64;

/// Base64 for URLs, without padding (RFC 4648 §5), as PKCE and JWT want it.
#[must_use]
pub fn base64url(octets: &[u8]) -> String {
    base64::encode(octets).trim_end_matches('=').replace('+', "-").replace('/', "_")
}
