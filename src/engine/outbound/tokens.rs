//! Keeps the tokens of logins by OAuth 2.0: gives them to sessions, and refreshes them ahead of their end.
//!
//! | who asks | gets |
//! | --- | --- |
//! | a session that logs in ([`TokenKeeper::token`]) | the token that is kept; a new one if that has ended |
//! | a session whose host has refused the token ([`TokenKeeper::renew`]) | another one: what another process has fetched, or a new one |
//! | the housekeeping, once a minute ([`TokenKeeper::keep`]) | nothing: what is near its end is refreshed |
//!
//! # A refresh
//!
//! 1. The lock of the login is taken, which one thread of one process has at a time, and the file is read again: another
//!    process (`queue run`, `probe`) may have refreshed meanwhile.
//! 2. Room for the answer is reserved on the disk. Without room the provider is not asked, since it may end the old
//!    refresh token with its answer; a client with its own credentials has no such token, and goes on in memory.
//! 3. The newest refresh token is presented; if it is not valid, the one before it.
//! 4. The answer is saved before anything of it is used. If that fails all the same, it is kept in memory and saved later;
//!    the access token may be used, the new refresh token not before it is saved.
//!
//! | answer | then |
//! | --- | --- |
//! | a token | saved, used |
//! | 429, 5xx, no JSON | a pause on disk, for all processes: half a minute to an hour, or as long as the provider wants |
//! | none: no network | a pause of half a minute, in memory |
//! | refused for good | noted on disk: nothing is asked until the file or the client's credentials change; alarm |
//!
//! The ends of tokens are by the clocks of `rules::accounts::oauth::kept`.

pub mod client;
pub mod standing;

use self::client::{OauthClient, Proven, ask};
use super::web::WebWorld;
use crate::engine::host::site::Site;
use crate::engine::log::event::{Event, trouble};
use crate::net::transport::Deadline;
use crate::rules::accounts::oauth::kept::{AccessState, Kept, Moment, Wait};
use crate::rules::accounts::oauth::reply::{Refusal, RefusalKind, TokenReply, token};
use crate::rules::accounts::oauth::request::{GrantRequest, token as token_form};
use crate::rules::advice::monitor::span;
use crate::smtp::sasl::Secret;
use crate::store::state_file::tokens::{self, Reserved, TokenLock};
use crate::sys;
use crate::sys::clock::{Clock, SystemClock, boot_id};
use crate::sys::lock::Lock;
use crate::sys::thread;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often the housekeeping looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a session waits for another one that asks.
const LOCK_PATIENCE: Duration = Duration::from_secs(45);
/// The pause between two looks at the lock.
const LOCK_GLANCE: Duration = Duration::from_millis(100);
/// The pause after a provider that could not be reached, in seconds.
const UNREACHED: u64 = 30;
/// A token younger than this is not replaced because a host refuses it, in seconds: the host would refuse the next one.
const YOUNG: u64 = 10;
/// Room for lines without tokens.
const LINES_MAX_OCTETS: usize = 4 * 1024;

/// The keeper of all tokens of a process.
pub struct TokenKeeper {
    clock: Box<dyn Clock>,
    boot_id: u128,
    memory: Lock<Memory>,
    is_busy: AtomicBool,
}

#[derive(Default)]
struct Memory {
    /// What could not be saved.
    unsaved: Vec<Unsaved>,
    /// Providers that could not be reached: the file, the running time of the next try, and the reason.
    unreached: Vec<(String, u64, String)>,
    /// The running time of the next look.
    next_look: Duration,
}

/// A version of a file that could not be saved.
struct Unsaved {
    file: String,
    /// What lies on disk. If that changes, a person has logged in again, and this version is void.
    on_disk: Option<Vec<u8>>,
    kept: Kept,
    /// A person logs in, and has not tried it yet: it is not to be saved.
    is_trial: bool,
}

/// Ends a look when it is dropped, also by a panic.
struct Look<'a>(&'a AtomicBool);

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What is wanted.
#[derive(Clone, Copy)]
enum Want<'a> {
    /// A token that works.
    Usable,
    /// One that works for long.
    Fresh,
    /// Another one than this.
    Other(&'a Secret),
}

impl Want<'_> {
    /// The kept token, if it is what is wanted.
    fn suits(self, kept: &Kept, now: Moment) -> Option<Secret> {
        let state = kept.access_state(now);
        let token = &kept.access.as_ref()?.token;
        let suits = match self {
            Self::Usable => state != AccessState::Ended,
            Self::Fresh => state == AccessState::Fresh,
            Self::Other(refused) => state != AccessState::Ended && token != refused,
        };
        suits.then(|| token.clone())
    }
}

impl Default for TokenKeeper {
    fn default() -> Self {
        Self::new(Box::new(SystemClock), boot_id())
    }
}

impl fmt::Debug for TokenKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKeeper").finish_non_exhaustive()
    }
}

impl TokenKeeper {
    /// A keeper with these clocks.
    #[must_use]
    pub fn new(clock: Box<dyn Clock>, boot_id: u128) -> Self {
        Self { clock, boot_id, memory: Lock::default(), is_busy: AtomicBool::new(false) }
    }

    /// A token for a login.
    ///
    /// # Errors
    /// No token is available now; in words, with the command to run if a person has to log in.
    pub fn token(&self, world: &WebWorld<'_>, username: &str) -> Result<Secret, String> {
        self.obtain(world, username, Want::Usable)
    }

    /// Another token for a login whose host has refused this one.
    ///
    /// # Errors
    /// No other token is available now; in words.
    pub fn renew(&self, world: &WebWorld<'_>, username: &str, refused: &Secret) -> Result<Secret, String> {
        self.obtain(world, username, Want::Other(refused))
    }

    /// Refreshes the tokens that are near their end, and saves what could not be saved. Failures are logged.
    pub fn keep(&self, world: &WebWorld<'_>) {
        let _look = Look(&self.is_busy);
        for username in world.site.settings.relay.token_names() {
            // A failure has been logged, and stands in the file.
            let _ = self.obtain(world, &username, Want::Fresh);
        }
    }

    /// Whether [`Self::keep`] is to be called now, in a thread of its own; then no other thread is told so before it ends.
    pub fn begins_look(&self, site: &Site) -> bool {
        let running = self.clock.boot();
        let mut memory = self.memory.lock();
        let is_due = running >= memory.next_look
            && !site.settings.relay.token_names().is_empty()
            && !self.is_busy.swap(true, Ordering::SeqCst);
        if is_due {
            memory.next_look = running.saturating_add(LOOK_INTERVAL);
        }
        is_due
    }

    /// The look that [`Self::begins_look`] announced does not happen.
    pub fn end_look(&self) {
        drop(Look(&self.is_busy));
    }

    /// The present, by both clocks.
    #[must_use]
    pub fn now(&self) -> Moment {
        let (wall, running) = (self.clock.wall_micros() / 1_000_000, self.clock.boot().as_secs());
        Moment { wall, running, boot_id: self.boot_id }
    }

    /// Takes a login that was made now, to be tried and then [saved](Self::save_login). Until then it is in memory alone.
    pub fn try_login(&self, state: &Path, file: &str, kept: Kept) {
        let unsaved =
            Unsaved { file: file.to_owned(), on_disk: tokens::load(state, file), kept, is_trial: true };
        let mut memory = self.memory.lock();
        memory.unsaved.retain(|it| it.file != file);
        memory.unsaved.push(unsaved);
    }

    /// Whether a login could be saved.
    ///
    /// # Errors
    /// Why not.
    pub fn can_save(state: &Path, file: &str) -> Result<(), String> {
        let _lock = Self::lock(state, file)?;
        let room = Reserved::begin(state, file, LINES_MAX_OCTETS);
        room.map(drop).map_err(|error| format!("no token can be kept: {error}"))
    }

    /// Saves a login that was tried.
    ///
    /// # Errors
    /// It can't be saved; the login before it is still there.
    pub fn save_login(&self, state: &Path, file: &str) -> Result<(), String> {
        let lock = Self::lock(state, file)?;
        let Some(kept) = self.load(state, file) else { return Err("there is no login to save".into()) };
        let text = kept.print();
        let saved =
            Reserved::begin(state, file, text.octets().len()).and_then(|room| room.save(text.octets()));
        saved.map_err(|error| error.to_string())?;
        self.memory.lock().unsaved.retain(|it| it.file != file);
        drop(lock);
        Ok(())
    }

    fn obtain(&self, world: &WebWorld<'_>, username: &str, want: Want<'_>) -> Result<Secret, String> {
        let state = &world.site.settings.state;
        let client = OauthClient::of(&world.site.settings)?;
        let file = client.file_name(username);
        let kept = self.load(state, &file);
        if kept.is_none() && !client.is_unattended() {
            return Err(missing(username));
        }
        let found = kept.and_then(|kept| want.suits(&kept, self.now()));
        if let Some(token) = found.filter(|_| !self.has_unsaved(&file)) {
            return Ok(token);
        }
        let _lock = Self::lock(state, &file)?;
        self.save_again(state, &file);
        let now = self.now();
        let kept = self.load(state, &file);
        if let Some(token) = kept.as_ref().and_then(|kept| want.suits(kept, now)) {
            return Ok(token);
        }
        let kept = kept.unwrap_or_else(|| Kept::new(username, &client.token_url.to_string()));
        let age = kept
            .access
            .as_ref()
            .zip(kept.seconds_left(now))
            .map(|(it, left)| it.lifetime - left.min(it.lifetime));
        if matches!(want, Want::Other(_)) && age.is_some_and(|age| age < YOUNG) {
            return Err("the token came just now, so another one would not do".into());
        }
        self.refresh(world, &client, &file, kept, now)
    }

    /// Asks for a new token with what is kept, and keeps the answer.
    fn refresh(
        &self,
        world: &WebWorld<'_>,
        client: &OauthClient<'_>,
        file: &str,
        mut kept: Kept,
        now: Moment,
    ) -> Result<Secret, String> {
        let Proven { proof, fingerprint } = client.prove(now.wall)?;
        self.may_ask(file, &kept, fingerprint, now)?;
        let mut presented: Vec<Option<Secret>> = kept.refresh_tokens().into_iter().map(Some).collect();
        if client.is_unattended() {
            presented = vec![None];
        }
        if presented.is_empty() {
            return Err(missing(&kept.username));
        }
        let state = &world.site.settings.state;
        let room = match Reserved::begin(state, file, 2 * kept.print().octets().len() + LINES_MAX_OCTETS) {
            Ok(_) if self.has_unsaved(file) && !client.is_unattended() => {
                return Err("no new token is fetched before the last one could be kept".into());
            }
            Ok(room) => Some(room),
            Err(_) if client.is_unattended() => None,
            Err(error) => {
                return Err(format!("no new token is fetched, since it could not be kept: {error}"));
            }
        };
        let last = presented.len() - 1;
        for (i, presented) in presented.iter().enumerate() {
            let grant = match presented {
                Some(token) => GrantRequest::RefreshToken(token),
                None => GrantRequest::ClientCredentials(client.oauth.wanted_scope()),
            };
            let form = token_form(&client.oauth.client_id, &proof, grant);
            let answer = match ask(world, &client.token_url, &form) {
                Ok(answer) => answer,
                Err(text) => return Err(self.note_unreached(file, &kept.username, text)),
            };
            let reply = token(answer.as_read());
            let is_over = |refusal: &Refusal| refusal.kind != RefusalKind::InvalidGrant || i == last;
            if !matches!(&reply, TokenReply::Refused(refusal) if !is_over(refusal)) {
                let outcome = self.settle(&mut kept, reply, presented.as_ref(), fingerprint);
                log_outcome(&kept, outcome.as_ref().err());
                self.save(state, file, room, kept);
                return outcome;
            }
        }
        Err("no token is left to be presented".into())
    }

    /// Notes an answer in what is kept, and returns the token of a grant.
    fn settle(
        &self,
        kept: &mut Kept,
        reply: TokenReply,
        presented: Option<&Secret>,
        fingerprint: u64,
    ) -> Result<Secret, String> {
        let now = self.now();
        let (text, retry_after) = match reply {
            TokenReply::Granted(grant) => {
                let access = grant.access.clone();
                kept.granted(grant, presented, now);
                return Ok(access);
            }
            TokenReply::Refused(refusal) => {
                kept.refused(&refusal.text, fingerprint, now);
                return Err(refused_text(kept));
            }
            TokenReply::Temporary(hindrance) => (hindrance.text, hindrance.retry_after),
            TokenReply::Pending | TokenReply::SlowDown => {
                ("the answer is that to another question".into(), None)
            }
        };
        kept.hindered(&text, retry_after, sys::random(), now);
        Err(format!("it can't be refreshed now: {text}"))
    }

    /// Whether the provider may be asked now.
    fn may_ask(&self, file: &str, kept: &Kept, fingerprint: u64, now: Moment) -> Result<(), String> {
        match kept.may_ask(fingerprint, now) {
            Err(Wait::Refused) => return Err(refused_text(kept)),
            Err(Wait::Seconds(seconds)) => {
                return Err(format!("it is refreshed in {}, because: {}", span(seconds), kept.answer));
            }
            Ok(()) => {}
        }
        let memory = self.memory.lock();
        match memory.unreached.iter().find(|(own, until, _)| own == file && *until > now.running) {
            Some((.., text)) => Err(text.clone()),
            None => Ok(()),
        }
    }

    fn note_unreached(&self, file: &str, username: &str, text: String) -> String {
        let until = self.now().running + UNREACHED;
        let mut memory = self.memory.lock();
        memory.unreached.retain(|(own, ..)| own != file);
        memory.unreached.push((file.to_owned(), until, text.clone()));
        drop(memory);
        Event::Token { login: username, state: "deferred", reason: &text }.log();
        text
    }

    /// Reads what is kept: the version in memory that could not be saved, or the one on disk.
    fn load(&self, state: &Path, file: &str) -> Option<Kept> {
        let on_disk = tokens::load(state, file);
        let mut memory = self.memory.lock();
        memory.unsaved.retain(|it| it.file != file || it.on_disk == on_disk);
        let unsaved = memory.unsaved.iter().find(|it| it.file == file).map(|it| it.kept.clone());
        unsaved.or_else(|| on_disk.and_then(|octets| Kept::parse(Secret::new(octets).octets())))
    }

    fn has_unsaved(&self, file: &str) -> bool {
        self.memory.lock().unsaved.iter().any(|it| it.file == file && !it.is_trial)
    }

    /// Saves a version; one that can't be saved stays in memory.
    fn save(&self, state: &Path, file: &str, room: Option<Reserved>, kept: Kept) {
        let text = kept.print();
        let room = room.map_or_else(|| Reserved::begin(state, file, text.octets().len()), Ok);
        let on_disk = tokens::load(state, file);
        let saved = room.and_then(|room| room.save(text.octets()));
        let mut memory = self.memory.lock();
        memory.unsaved.retain(|it| it.file != file);
        if let Err(error) = saved {
            memory.unsaved.push(Unsaved { file: file.to_owned(), on_disk, kept, is_trial: false });
            drop(memory);
            trouble("keeping a token", &error);
        }
    }

    /// Tries once more to save what could not be saved. The caller has the lock.
    fn save_again(&self, state: &Path, file: &str) {
        let unsaved = self.has_unsaved(file).then(|| self.load(state, file)).flatten();
        if let Some(kept) = unsaved {
            self.save(state, file, None, kept);
        }
    }

    fn lock(state: &Path, file: &str) -> Result<TokenLock, String> {
        let deadline = Deadline::after(LOCK_PATIENCE);
        loop {
            match TokenLock::take(state, file) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) if deadline.remaining().is_zero() => {
                    return Err("another process asks for a token, and does not end".into());
                }
                Ok(None) => thread::sleep(LOCK_GLANCE),
                Err(error) => return Err(format!("no token can be kept: {error}")),
            }
        }
    }
}

fn missing(username: &str) -> String {
    format!("there is no token yet; run: pillarbox login {username}")
}

fn refused_text(kept: &Kept) -> String {
    format!("the token is refused: {}; run: pillarbox login {}", kept.answer, kept.username)
}

fn log_outcome(kept: &Kept, error: Option<&String>) {
    let login = &kept.username;
    match error {
        None => Event::Token { login, state: "refreshed", reason: "" }.log_quietly(),
        Some(_) if kept.refused.is_some() => {
            Event::Token { login, state: "refused", reason: &kept.answer }.log()
        }
        Some(_) => Event::Token { login, state: "deferred", reason: &kept.answer }.log(),
    }
}
