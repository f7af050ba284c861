//! How the tokens of a site stand, for `status`, `login --status` and the alarm. No token is part of it.

use super::TokenKeeper;
use super::client::OauthClient;
use crate::config::Settings;
use crate::rules::accounts::oauth::kept::AccessState;
use crate::rules::advice::monitor::span;

/// A login whose refresh token ends sooner than this without a refresh deserves a look, in days.
const NEAR_END_DAYS: u64 = 14;

/// How the token of a login stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenStanding {
    /// The user name.
    pub username: String,
    /// What to say about it.
    pub state: TokenState,
    /// The seconds until the access token ends; `None`: no token is there, or the clocks do not tell.
    pub seconds_left: Option<u64>,
    /// The wall clock at the last grant, in seconds since 1970; 0: never.
    pub granted: u64,
    /// What the provider said last; empty: it granted a token.
    pub answer: String,
}

/// The states of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenState {
    /// It works.
    Good,
    /// It works, and was not refreshed for so long that it will end soon.
    NearEnd,
    /// The provider can't be asked now, and the access token still works.
    Hindered,
    /// The same, and no access token works.
    Ended,
    /// Nobody has logged in.
    Missing,
    /// The provider has refused it for good.
    Refused,
}

impl TokenState {
    /// Its word in JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::NearEnd => "near_end",
            Self::Hindered => "hindered",
            Self::Ended => "ended",
            Self::Missing => "missing",
            Self::Refused => "refused",
        }
    }

    /// Whether mail waits until a person has logged in.
    #[must_use]
    pub const fn needs_login(self) -> bool {
        matches!(self, Self::Missing | Self::Refused)
    }

    /// Whether a person should look at it.
    #[must_use]
    pub const fn deserves_look(self) -> bool {
        !matches!(self, Self::Good)
    }
}

impl TokenStanding {
    /// The state in words, with what to do.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { username, answer, .. } = self;
        let left = self.seconds_left.map_or_else(|| "now".to_owned(), |left| format!("in {}", span(left)));
        match self.state {
            TokenState::Good if self.seconds_left.is_none() => {
                format!("the token of {username} is fetched when it is needed")
            }
            TokenState::Good => format!("the token of {username} ends {left}, and is refreshed before"),
            TokenState::NearEnd => format!(
                "the login of {username} was not refreshed for long, and ends within {NEAR_END_DAYS} days; run: pillarbox login {username}"
            ),
            TokenState::Hindered => {
                format!("the token of {username} ends {left}, and can't be refreshed now: {answer}")
            }
            TokenState::Ended => {
                format!("the token of {username} has ended, and can't be refreshed now: {answer}")
            }
            TokenState::Missing => {
                format!("there is no token for {username} yet; run: pillarbox login {username}")
            }
            TokenState::Refused => {
                format!("the token of {username} is refused: {answer}; run: pillarbox login {username}")
            }
        }
    }
}

impl TokenKeeper {
    /// How the tokens of all logins of the settings stand.
    #[must_use]
    pub fn standing(&self, settings: &Settings) -> Vec<TokenStanding> {
        let names = settings.relay.token_names();
        let Some(client) = OauthClient::of(settings).ok().filter(|_| !names.is_empty()) else {
            return Vec::new();
        };
        names.into_iter().map(|name| self.standing_of(settings, &client, name)).collect()
    }

    fn standing_of(&self, settings: &Settings, client: &OauthClient<'_>, username: String) -> TokenStanding {
        let now = self.now();
        let Some(kept) = self.load(&settings.state, &client.file_name(&username)) else {
            // A client with its own credentials fetches the first one when mail is there.
            let state = if client.is_unattended() { TokenState::Good } else { TokenState::Missing };
            return TokenStanding { username, state, seconds_left: None, granted: 0, answer: String::new() };
        };
        let has_token = kept.access_state(now) != AccessState::Ended;
        let idle = u64::from(client.oauth.known().idle_days).saturating_sub(NEAR_END_DAYS) * 86_400;
        let is_idle = !client.is_unattended() && idle > 0 && now.wall.saturating_sub(kept.granted) > idle;
        let state = match () {
            () if kept.refused.is_some() => TokenState::Refused,
            () if kept.refresh_tokens().is_empty() && !client.is_unattended() && !has_token => {
                TokenState::Missing
            }
            () if kept.answer.is_empty() && is_idle => TokenState::NearEnd,
            () if kept.answer.is_empty() => TokenState::Good,
            () if has_token => TokenState::Hindered,
            () => TokenState::Ended,
        };
        let seconds_left = kept.seconds_left(now).filter(|_| has_token);
        TokenStanding { username, state, seconds_left, granted: kept.granted, answer: kept.answer }
    }
}
