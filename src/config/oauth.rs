//! `[oauth]`: what a provider has and what the file says become one, and contradictions between its keys.

use super::keys::{Oauth, Settings};
use crate::rules::accounts::oauth::provider::{Provider, named};
use crate::rules::accounts::oauth::url::HttpsUrl;
use std::path::Path;

/// The mechanisms that take a token.
pub(super) const TOKEN_MECHANISMS: [&str; 2] = ["xoauth2", "oauthbearer"];

/// How a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// A person types a code elsewhere.
    Device,
    /// A person pastes the answer of a browser.
    Paste,
    /// The client has an account of its own.
    Client,
}

impl Oauth {
    /// Whether anything is configured.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.provider.is_empty() || !self.client_id.is_empty() || self.token_url.is_some()
    }

    /// What is known of the provider.
    #[must_use]
    pub fn known(&self) -> Provider {
        named(self.provider)
    }

    /// How a token is asked for.
    #[must_use]
    pub fn flow(&self) -> Flow {
        match self.flow {
            "paste" => Flow::Paste,
            "client" => Flow::Client,
            _ => Flow::Device,
        }
    }

    /// The URL that gives tokens.
    #[must_use]
    pub fn token_end_point(&self) -> Option<HttpsUrl> {
        self.url(self.token_url.as_ref(), self.known().token_url)
    }

    /// The URL that gives device codes.
    #[must_use]
    pub fn device_end_point(&self) -> Option<HttpsUrl> {
        self.url(self.device_url.as_ref(), self.known().device_url)
    }

    /// The URL for a browser.
    #[must_use]
    pub fn authorization_end_point(&self) -> Option<HttpsUrl> {
        self.url(self.authorization_url.as_ref(), self.known().authorization_url)
    }

    /// The scope of the flow.
    #[must_use]
    pub fn wanted_scope(&self) -> &str {
        let known = self.known();
        match self.flow() {
            _ if !self.scope.is_empty() => &self.scope,
            Flow::Client => known.client_scope,
            Flow::Device | Flow::Paste => known.scope,
        }
    }

    /// The client's certificate and key.
    #[must_use]
    pub fn certificate_and_key(&self) -> Option<(&Path, &Path)> {
        self.certificate.as_deref().zip(self.key.as_deref())
    }

    fn url(&self, own: Option<&HttpsUrl>, known: &str) -> Option<HttpsUrl> {
        own.cloned().or_else(|| HttpsUrl::parse(&known.replace("{tenant}", &self.tenant)).ok())
    }
}

/// What contradicts itself: the key below `[oauth]`, or `auth` below `[relay]`, and the advice.
pub fn contradictions(settings: &Settings) -> Vec<(&'static str, &'static str, String)> {
    let oauth = &settings.oauth;
    if !oauth.is_set() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut tell = |key, text: &str| found.push(("oauth", key, text.to_owned()));
    let place = if oauth.provider.is_empty() { "token_url" } else { "provider" };
    if oauth.client_id.is_empty() {
        tell(
            place,
            "a token needs an application that you have registered at the provider; write its client_id",
        );
    }
    if oauth.token_end_point().is_none() {
        tell("client_id", "the provider is missing; write oauth.provider, or oauth.token_url");
        return found;
    }
    let has_secret = oauth.client_secret_file.is_some();
    match oauth.flow() {
        Flow::Device if oauth.device_end_point().is_none() => {
            tell(
                place,
                "flow = \"device\" needs oauth.device_url; write it, or flow = \"paste\" or \"client\"",
            );
        }
        Flow::Device if !oauth.known().has_device_flow && oauth.scope.is_empty() => tell(
            place,
            "Google gives device codes for no mail (only for profiles and some files); write flow = \"paste\"",
        ),
        Flow::Paste if oauth.authorization_end_point().is_none() => {
            tell("flow", "flow = \"paste\" needs oauth.authorization_url; write it");
        }
        Flow::Client if !has_secret && oauth.certificate.is_none() => {
            tell("flow", "flow = \"client\" needs client_secret_file, or certificate and key; write them");
        }
        Flow::Client if oauth.wanted_scope().is_empty() && !oauth.provider.is_empty() => tell(
            "flow",
            "this provider lets no application send mail by its own credentials; write flow = \"paste\" or \"device\"",
        ),
        _ => {}
    }
    if oauth.certificate.is_some() != oauth.key.is_some() {
        let key = if oauth.key.is_some() { "key" } else { "certificate" };
        tell(key, "certificate and key belong together; write both, or none");
    } else if has_secret && oauth.certificate.is_some() {
        tell("client_secret_file", "a client has a secret or a certificate; remove one of the two");
    }
    if oauth.provider.starts_with("microsoft") && settings.relay.auth == TOKEN_MECHANISMS[1] {
        let text = "Microsoft takes tokens by XOAUTH2 alone; write auth = \"xoauth2\"";
        found.push(("relay", "auth", text.to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::config::values::PROVIDER_NAMES;

    fn told(text: &str) -> Vec<String> {
        parse(text, "f").err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_provider_gives_what_the_file_leaves_out() {
        let oauth = |text: &str| parse(text, "f").unwrap_or_else(|problems| panic!("{problems:?}")).oauth;
        let text = |url: Option<HttpsUrl>| url.map(|url| url.to_string()).unwrap_or_default();
        let own =
            oauth("oauth.provider = \"microsoft\"\noauth.client_id = \"x\"\noauth.tenant = \"a.example\"\n");
        assert_eq!(
            text(own.token_end_point()),
            "https://login.microsoftonline.com/a.example/oauth2/v2.0/token"
        );
        assert_eq!(own.wanted_scope(), "https://outlook.office.com/SMTP.Send offline_access");
        let client = "oauth.provider = \"microsoft\"\noauth.client_id = \"x\"\noauth.flow = \"client\"\n\
                      oauth.client_secret_file = \"/s\"\n";
        assert_eq!(oauth(client).wanted_scope(), "https://outlook.office365.com/.default");
        assert_eq!(oauth(&format!("{client}oauth.scope = \"own\"\n")).wanted_scope(), "own");
        let other = oauth(
            "oauth.client_id = \"x\"\noauth.token_url = \"https://a.test/t\"\noauth.device_url = \"https://a.test/d\"\n",
        );
        assert_eq!(text(other.device_end_point()), "https://a.test/d");
        assert!(other.authorization_end_point().is_none() && other.is_set());
        assert!(!oauth("").is_set());
    }

    #[test]
    fn what_can_not_work_is_told_at_its_place() {
        let ms = "oauth.provider = \"microsoft\"\noauth.client_id = \"x\"\n";
        for (text, expected) in [
            ("oauth.provider = \"microsoft\"\n".into(), "f:1:18: a token needs an application"),
            ("oauth.client_id = \"x\"\n".into(), "f:1:19: the provider is missing"),
            (
                "oauth.client_id = \"x\"\noauth.token_url = \"https://a.test/t\"\n".into(),
                "f:2:19: flow = \"device\" needs",
            ),
            (
                "oauth.provider = \"google\"\noauth.client_id = \"x\"\n".into(),
                "f:1:18: Google gives device codes",
            ),
            (format!("{ms}oauth.flow = \"client\"\n"), "f:3:14: flow = \"client\" needs"),
            (format!("{ms}oauth.certificate = \"/c\"\n"), "f:3:21: certificate and key"),
            (format!("{ms}oauth.key = \"/c\"\n"), "f:3:13: certificate and key"),
            (
                format!(
                    "{ms}oauth.key = \"/c\"\noauth.certificate = \"/c\"\noauth.client_secret_file = \"/s\"\n"
                ),
                "f:5:28: a client has",
            ),
            (
                "oauth.token_url = \"https://a.test/t\"\noauth.client_id = \"x\"\noauth.flow = \"paste\"\n"
                    .into(),
                "f:3:14: flow = \"paste\" needs",
            ),
            (
                ms.replace("microsoft", "google")
                    + "oauth.flow = \"client\"\noauth.client_secret_file = \"/s\"\n",
                "f:3:14: this provider lets no application",
            ),
            (format!("{ms}relay.auth = \"oauthbearer\"\n"), "f:3:14: Microsoft takes tokens by XOAUTH2"),
            ("oauth.tenant = \"a/b\"\n".into(), "f:1:16: "),
            ("oauth.token_url = \"http://a.test\"\n".into(), "f:1:19: \"http://a.test\" does not begin"),
        ] {
            let told = told(&text);
            assert!(told.len() == 1 && told[0].starts_with(expected), "{text}{told:?}");
        }
    }

    #[test]
    fn the_words_are_those_of_the_providers() {
        use crate::rules::accounts::oauth::provider::PROVIDERS;
        let names: Vec<&str> = PROVIDERS.iter().map(|provider| provider.name).collect();
        assert_eq!(names, PROVIDER_NAMES[1..]);
    }
}
