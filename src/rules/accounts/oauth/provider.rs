//! Known providers: their URLs, the scope that lets a token send mail, and their habits.
//!
//! | provider | mechanisms | a login ends |
//! | --- | --- | --- |
//! | google | XOAUTH2, OAUTHBEARER | when it is withdrawn, after six months without use, or after 7 days if the application is in "testing" |
//! | microsoft, microsoft-personal | XOAUTH2 alone | 90 days after its last refresh, or when the tenant's policy says so |
//!
//! `{tenant}` in a URL stands for `oauth.tenant`. No client id is built in: the operator registers an application.

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Its name in the configuration.
    pub name: &'static str,
    /// Where a browser goes (RFC 6749 §3.1).
    pub authorization_url: &'static str,
    /// Where a device asks for a code (RFC 8628 §3.1).
    pub device_url: &'static str,
    /// Where tokens come from (RFC 6749 §3.2).
    pub token_url: &'static str,
    /// The scope for a person's login.
    pub scope: &'static str,
    /// The scope for client credentials; empty: the provider has none for mail.
    pub client_scope: &'static str,
    /// Further parameters of the URL for the browser.
    pub authorization_extra: &'static [(&'static str, &'static str)],
    /// Where the browser goes with the answer.
    pub redirect_url: &'static str,
    /// Whether client assertions are signed by PS256; otherwise by RS256.
    pub wants_ps256: bool,
    /// Days that a refresh token lives without use; 0: not known.
    pub idle_days: u32,
    /// Whether the device flow may ask for the scope.
    pub has_device_flow: bool,
}

/// Where the browser goes if no provider says otherwise: to its own host (RFC 8252 §7.3), where nothing answers, so that
/// the person can copy the URL.
pub const LOOPBACK: &str = "http://127.0.0.1/";

/// A provider of which only the configured URLs are known.
pub const OTHER: Provider = Provider {
    name: "",
    authorization_url: "",
    device_url: "",
    token_url: "",
    scope: "",
    client_scope: "",
    authorization_extra: &[],
    redirect_url: LOOPBACK,
    wants_ps256: false,
    idle_days: 0,
    has_device_flow: true,
};

const MICROSOFT: Provider = Provider {
    name: "microsoft",
    authorization_url: "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/authorize",
    device_url: "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/devicecode",
    token_url: "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token",
    scope: "https://outlook.office.com/SMTP.Send offline_access",
    client_scope: "https://outlook.office365.com/.default",
    authorization_extra: &[("response_mode", "query")],
    redirect_url: "https://login.microsoftonline.com/common/oauth2/nativeclient",
    wants_ps256: true,
    idle_days: 90,
    has_device_flow: true,
};

/// All known providers.
pub const PROVIDERS: [Provider; 3] = [
    Provider {
        name: "google",
        authorization_url: "https://accounts.google.com/o/oauth2/v2/auth",
        device_url: "https://oauth2.googleapis.com/device/code",
        token_url: "https://oauth2.googleapis.com/token",
        scope: "https://mail.google.com/",
        // Without both, a second login gets no refresh token.
        authorization_extra: &[("access_type", "offline"), ("prompt", "consent")],
        // Google lets limited devices read a profile and a few files, and no mail.
        has_device_flow: false,
        idle_days: 180,
        ..OTHER
    },
    MICROSOFT,
    Provider {
        name: "microsoft-personal",
        authorization_url: "https://login.microsoftonline.com/consumers/oauth2/v2.0/authorize",
        device_url: "https://login.microsoftonline.com/consumers/oauth2/v2.0/devicecode",
        token_url: "https://login.microsoftonline.com/consumers/oauth2/v2.0/token",
        client_scope: "",
        ..MICROSOFT
    },
];

/// The provider of that name; [`OTHER`] for any other name.
#[must_use]
pub fn named(name: &str) -> Provider {
    PROVIDERS.into_iter().find(|provider| provider.name == name).unwrap_or(OTHER)
}

/// The provider whose tokens a smarthost takes.
#[must_use]
pub fn of_smarthost(host: &str) -> Option<&'static str> {
    let hosts = [
        ("smtp.gmail.com", "google"),
        ("smtp.office365.com", "microsoft"),
        ("smtp-mail.outlook.com", "microsoft-personal"),
    ];
    hosts.iter().find(|(name, _)| host.eq_ignore_ascii_case(name)).map(|&(_, provider)| provider)
}

/// Whether the provider takes no passwords by SMTP any more.
#[must_use]
pub fn takes_no_password(provider: &str) -> bool {
    provider.starts_with("microsoft")
}

#[cfg(test)]
mod tests {
    use super::super::url::HttpsUrl;
    use super::*;

    #[test]
    fn each_provider_has_sound_urls_and_one_name() {
        for provider in PROVIDERS {
            assert_eq!(named(provider.name), provider);
            for url in [provider.authorization_url, provider.device_url, provider.token_url] {
                assert!(HttpsUrl::parse(&url.replace("{tenant}", "organizations")).is_ok(), "{url}");
            }
            assert!(!provider.scope.is_empty());
        }
        assert_eq!((named(""), named("x")), (OTHER, OTHER));
        assert_eq!(of_smarthost("SMTP.office365.com"), Some("microsoft"));
        assert_eq!(of_smarthost("mail.example"), None);
    }
}
