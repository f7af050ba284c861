//! What is kept of a login: its tokens, when they end, and what the provider said last.
//!
//! Two refresh tokens are kept where the provider changes them: the one that has worked, and the newer one that came for
//! it. The newer one is used only once it lies on disk, and the older one stays until the newer one has worked. So a crash
//! or a full disk between an answer and its save leaves a token that the provider still takes, if it lets the older one
//! live until the newer one is used; no client can do more.
//!
//! | answer to | access | refresh | newer |
//! | --- | --- | --- | --- |
//! | login | new | new | – |
//! | refresh, with a new refresh token | new | the one that was presented | new |
//! | refresh, without one | new | the one that was presented | – |
//! | `invalid_grant` to the newer one | – | is presented next | stays until a grant |
//!
//! Ends are kept by two clocks ([`Moment`]). In the same boot of the box only the running clock counts, so a wall clock
//! that is set or wrong by years neither ends a token nor makes it eternal. After a restart the wall clock counts, if it
//! is plausible; if not, the token is refreshed once, and its new end is by the running clock again.

use super::reply::Grant;
use crate::smtp::sasl::Secret;
use std::fmt::Write;

/// Name and version of the format.
const MAGIC: &str = "pillarbox-token 1";
/// A token that ends sooner is not used any more, in seconds: a login takes some time.
const LEAST: u64 = 20;
/// Tokens are refreshed so long before their end at most, in seconds.
const AHEAD_MAX: u64 = 3600;
/// The first pause after a failure, and the longest of our own, in seconds.
const PAUSE: (u64, u64) = (30, 3600);
/// The longest pause that a provider may ask for, in seconds.
const RETRY_AFTER_MAX: u64 = 86_400;

/// An instant by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment {
    /// Seconds since 1970, by the wall clock.
    pub wall: u64,
    /// Seconds since the box started, sleep included.
    pub running: u64,
    /// The number of this start of the box; 0: unknown.
    pub boot_id: u128,
}

impl Moment {
    /// The instant so many seconds later.
    #[must_use]
    pub const fn after(self, seconds: u64) -> Self {
        Self {
            wall: self.wall.saturating_add(seconds),
            running: self.running.saturating_add(seconds),
            ..self
        }
    }

    /// The seconds from `now` until this instant, which was `longest` ahead when it was made. `None`: the clocks do not
    /// tell.
    #[must_use]
    pub fn remaining(self, now: Self, longest: u64) -> Option<u64> {
        let left = if self.boot_id == now.boot_id && now.boot_id != 0 {
            self.running.saturating_sub(now.running)
        } else {
            self.wall.saturating_sub(now.wall)
        };
        (left <= longest).then_some(left)
    }
}

/// An access token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The token.
    pub token: Secret,
    /// When it ends.
    pub ends: Moment,
    /// How long it lived when it came, in seconds.
    pub lifetime: u64,
}

/// How an access token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessState {
    /// It is good, and not near its end.
    Fresh,
    /// It is good; a new one should be fetched.
    Due,
    /// There is no token, or it has ended, or nobody knows.
    Ended,
}

/// Why the provider is not asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// It has refused for good.
    Refused,
    /// For so many seconds.
    Seconds(u64),
}

/// What is kept of a login.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// The user name at the smarthost.
    pub username: String,
    /// Where the tokens come from.
    pub token_url: String,
    /// The access token.
    pub access: Option<Access>,
    /// The refresh token that has worked.
    pub refresh: Option<Secret>,
    /// The one that came for it, and has not been used.
    pub newer: Option<Secret>,
    /// The wall clock at the last grant, in seconds since 1970.
    pub granted: u64,
    /// What the provider, or the way to it, said last; empty: it granted a token.
    pub answer: String,
    /// The wall clock then, in seconds since 1970.
    pub answered: u64,
    /// Failures in a row.
    pub failures: u32,
    /// When it may be asked again, and how long that was ahead.
    pub again: Option<(Moment, u64)>,
    /// It has refused what has this fingerprint.
    pub refused: Option<u64>,
}

impl Kept {
    /// Nothing is kept yet for this login.
    #[must_use]
    pub fn new(username: &str, token_url: &str) -> Self {
        Self { username: username.to_owned(), token_url: token_url.to_owned(), ..Self::default() }
    }

    /// How the access token stands. The time at which it becomes due differs from token to token, so that not all boxes
    /// of an operator ask in the same second.
    #[must_use]
    pub fn access_state(&self, now: Moment) -> AccessState {
        let Some(access) = &self.access else { return AccessState::Ended };
        let jitter: u64 =
            access.token.octets().iter().fold(0, |sum, &octet| (sum * 31 + u64::from(octet)) % 1000);
        // Between a fifth and a third of its life.
        let ahead = (access.lifetime * (200 + jitter * 133 / 1000) / 1000).min(AHEAD_MAX + jitter);
        match access.ends.remaining(now, access.lifetime) {
            Some(left) if left > ahead.max(LEAST.min(access.lifetime / 2)) => AccessState::Fresh,
            Some(left) if left > LEAST.min(access.lifetime / 4) => AccessState::Due,
            _ => AccessState::Ended,
        }
    }

    /// The seconds until the access token ends, if there is one and the clocks tell.
    #[must_use]
    pub fn seconds_left(&self, now: Moment) -> Option<u64> {
        self.access.as_ref().and_then(|access| access.ends.remaining(now, access.lifetime))
    }

    /// The refresh tokens, in the order in which they are presented.
    #[must_use]
    pub fn refresh_tokens(&self) -> Vec<Secret> {
        self.newer.iter().chain(&self.refresh).cloned().collect()
    }

    /// Whether the provider may be asked now with what has this fingerprint.
    ///
    /// # Errors
    /// Why not.
    pub fn may_ask(&self, fingerprint: u64, now: Moment) -> Result<(), Wait> {
        if self.refused == Some(fingerprint) {
            return Err(Wait::Refused);
        }
        match self.again.map(|(at, ahead)| at.remaining(now, ahead)) {
            Some(Some(left)) if left > 0 => Err(Wait::Seconds(left)),
            _ => Ok(()),
        }
    }

    /// Takes a grant that came for `presented`; `None`: for a login, or for the client's own credentials.
    pub fn granted(&mut self, grant: Grant, presented: Option<&Secret>, now: Moment) {
        let Grant { access, refresh, lifetime } = grant;
        self.access = Some(Access { token: access, ends: now.after(lifetime), lifetime });
        (self.refresh, self.newer) = match presented {
            None => (refresh, None),
            Some(presented) => (Some(presented.clone()), refresh.filter(|newer| newer != presented)),
        };
        (self.granted, self.answered) = (now.wall, now.wall);
        (self.failures, self.again, self.refused) = (0, None, None);
        self.answer.clear();
    }

    /// Notes that the provider could not be asked, or has no time. `random` spreads the pauses.
    pub fn hindered(&mut self, text: &str, retry_after: Option<u64>, random: u64, now: Moment) {
        let own = PAUSE.0.checked_shl(self.failures.min(16)).unwrap_or(PAUSE.1).min(PAUSE.1);
        let wanted = retry_after.unwrap_or(0).min(RETRY_AFTER_MAX).max(own);
        let pause = wanted + wanted * (random % 256) / 1024;
        self.failures = self.failures.saturating_add(1);
        self.again = Some((now.after(pause), pause));
        self.answered = now.wall;
        text.clone_into(&mut self.answer);
    }

    /// Notes that the provider has refused for good what has this fingerprint.
    pub fn refused(&mut self, text: &str, fingerprint: u64, now: Moment) {
        self.refused = Some(fingerprint);
        self.again = None;
        self.answered = now.wall;
        text.clone_into(&mut self.answer);
    }

    /// Prints it for the disk.
    #[must_use]
    pub fn print(&self) -> Secret {
        // Never grows: a vector that moves leaves its old octets behind.
        let mut lines = Vec::with_capacity(64 * 1024);
        let mut line = |key: &str, value: &[u8]| {
            lines.extend_from_slice(key.as_bytes());
            lines.push(b' ');
            // A line is one line, whatever a provider said.
            lines.extend(value.iter().map(|&octet| if octet.is_ascii_control() { b' ' } else { octet }));
            lines.push(b'\n');
        };
        line(MAGIC, b"");
        line("username", self.username.as_bytes());
        line("token-url", self.token_url.as_bytes());
        if let Some(access) = &self.access {
            line("access", access.token.octets());
            line("ends", print_moment(access.ends, access.lifetime).as_bytes());
        }
        for (key, token) in [("refresh", &self.refresh), ("newer", &self.newer)] {
            if let Some(token) = token {
                line(key, token.octets());
            }
        }
        line("granted", self.granted.to_string().as_bytes());
        line("answered", self.answered.to_string().as_bytes());
        line("answer", self.answer.as_bytes());
        line("failures", self.failures.to_string().as_bytes());
        if let Some((again, ahead)) = self.again {
            line("again", print_moment(again, ahead).as_bytes());
        }
        if let Some(refused) = self.refused {
            line("refused", format!("{refused:016x}").as_bytes());
        }
        Secret::new(lines)
    }

    /// Parses what [`Self::print`] wrote; `None` for any other text. Unknown lines are skipped.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(octets).ok()?.lines();
        if lines.next()?.trim_end() != MAGIC {
            return None;
        }
        let mut kept = Self::default();
        let mut token = None;
        let secret = |value: &str| Some(Secret::new(value.as_bytes().to_vec()));
        for line in lines {
            let (key, value) = line.split_once(' ')?;
            match key {
                "username" => value.clone_into(&mut kept.username),
                "token-url" => value.clone_into(&mut kept.token_url),
                "access" => token = secret(value),
                "ends" => {
                    let (ends, lifetime) = parse_moment(value)?;
                    kept.access = token.take().map(|token| Access { token, ends, lifetime });
                }
                "refresh" => kept.refresh = secret(value),
                "newer" => kept.newer = secret(value),
                "granted" => kept.granted = value.parse().ok()?,
                "answered" => kept.answered = value.parse().ok()?,
                "answer" => value.clone_into(&mut kept.answer),
                "failures" => kept.failures = value.parse().ok()?,
                "again" => kept.again = Some(parse_moment(value)?),
                "refused" => kept.refused = Some(u64::from_str_radix(value, 16).ok()?),
                _ => {}
            }
        }
        Some(kept)
    }
}

fn print_moment(moment: Moment, ahead: u64) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{} {} {:032x} {ahead}", moment.wall, moment.running, moment.boot_id);
    text
}

fn parse_moment(text: &str) -> Option<(Moment, u64)> {
    let mut words = text.split(' ');
    let (wall, running) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let boot_id = u128::from_str_radix(words.next()?, 16).ok()?;
    Some((Moment { wall, running, boot_id }, words.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
