//! Takes messages from the drop directory into the queue and the Maildirs, through intake like all other mail.
//!
//! [`crate::store::drop`] has the format and explains why the reader trusts nothing but the owner of a file. The program
//! that left a file there has reported the message as safe, so the file stays until its copies are safe.
//!
//! # Life of a dropped message
//!
//! ```text
//! a round lists the directory ─▶ open and lock the file ─▶ room on the disk? ─▶ submission: the owner's uid is the sender
//!                                      │                        │                    │
//!                                      │ no message             │ no                 ▼
//!                                      ▼                        ▼               intake: local copies straight to the
//!                                corrupt/, logged         next round            Maildirs, the others to the queue
//!                                                                                    │ a Maildir fails
//!                                                                                    ▼
//!                                                                               intake: all copies to the queue
//!                                                                                    │ committed
//!                                                                                    ▼
//!                                                                               remove the file, sync the directory
//! ```
//!
//! | the file | what happens to it |
//! | --- | --- |
//! | is taken | removed, once its copies are on stable storage |
//! | is no message, is too large, contains a CR, or is in a mail loop | put away, see `store::drop::aside` |
//! | may not be read by the daemon | logged, and left until its inode changes |
//! | is locked by another process, or has had two names for less than a minute | left for the next round |
//! | cannot be taken now: disk, limits, look-ups | left for the next round; the first one of a round is logged |
//! | is of a user who has a half of the queue | the same; further files of that user are not opened in this round |
//! | cannot be removed or put away | skipped until it changes |
//!
//! A crash between the commit and the removal makes a duplicate, never a loss.
//!
//! # Rounds
//!
//! A round begins when inotify reports an arrival, and after a minute at the latest, since a locked file or a full disk
//! gives no event. If the last round found nothing, the next one has time: an idle box should not wake up. After a round with trouble the thread sleeps for ten seconds before it reacts to arrivals again. Each
//! round also sweeps temporary files that programs have left, every ten minutes at most. After
//! [`Maildrop::stop`] no message is begun; [`Maildrop::wait`] waits for the one that is being taken, but not for ever.
//!
//! One thread takes the mail of all users, so no mailbox may hold it up: a mailbox that is locked, or does not answer
//! soon, gets its copy from the queue.
//!
//! Any user can put thousands of files here that are no messages. A round costs one look at each, and puts away at most
//! [`AWAY_MAX`] that are known by that look; messages are taken whatever lies beside them. What stays is remembered by
//! inode and time of change. The log gets one line a minute at most for a user, and for [`REPORTED_USERS_MAX`] users: the
//! first file, and the number of others.

use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::local_submission::{self, LocalDelivery};
use crate::engine::intake::refusal::Refusal;
use crate::engine::log::event::trouble;
use crate::store::drop::{Aside, DropDirectory, Dropped, Found, FoundKey, Opened, SEVERAL_NAMES};
use crate::sys;
use crate::sys::lock::Lock;
use crate::sys::watch::DirectoryWatch;
use std::ffi::CStr;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest time between two rounds, with or without events of arrivals.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);
/// The same where arrivals are seen and the directory was empty: the interval of the sweeps.
const IDLE_INTERVAL: Duration = SWEEP_INTERVAL;
/// The pause after a round with trouble, in which arrivals start no round: a full queue must not be tried for each.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);
/// How many files to skip are remembered: 40 octets each. Beyond that, those of earlier rounds that are gone make room;
/// what finds none is tried again in each round, within [`AWAY_MAX`].
const SKIPPED_MAX: usize = 8192;
/// The most directories, links and special files that a round puts away: a few milliseconds.
const AWAY_MAX: usize = 250;
/// The most users that have a log line of their own in [`REPORT_INTERVAL`]; those beyond are counted in the last line.
const REPORTED_USERS_MAX: usize = 16;
/// The least time between two log lines about files of one user that are no messages.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The least time between two sweeps of temporary files.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// The drop directory, and the state of the thread that empties it.
#[derive(Debug)]
pub struct Maildrop {
    directory: DropDirectory,
    has_stopped: AtomicBool,
    /// Held while a message is taken: no other thread takes it.
    state: Lock<Rounds>,
}

#[derive(Debug, Default)]
struct Rounds {
    /// The number of messages that the last round left because of trouble on this host. Only the first one is logged.
    waiting: usize,
    /// The last round found no file.
    is_empty: bool,
    /// Files that cannot be removed or moved, with the round that saw them last. To take or log them in every round would
    /// make duplicates and fill the log. Ordered by key.
    skipped: Vec<(FoundKey, u32)>,
    /// The number of this round.
    round: u32,
    /// Directories, links and special files that this round has put away.
    away: usize,
    /// What `corrupt/` holds, once this round has put something there.
    aside: Option<Aside>,
    /// Users of whom nothing more is taken in this round, and those of the round before: they have a half of the queue, or too many
    /// messages that can neither be taken nor put away.
    full: Vec<u32>,
    full_before: Vec<u32>,
    /// What was put away since the last log lines.
    unreported: Vec<Unreported>,
    /// When the last line about such files was logged, and when temporary files were swept, in running time.
    reported: Option<Duration>,
    swept: Option<Duration>,
}

/// The first file of a user that was put away since the last log line, and how many others were; at last those of all other
/// users.
#[derive(Debug)]
struct Unreported {
    uid: Option<u32>,
    first: String,
    others: usize,
}

impl Rounds {
    fn begin(&mut self) {
        (self.waiting, self.away, self.aside, self.is_empty) = (0, 0, None, true);
        self.full_before = std::mem::take(&mut self.full);
        self.round = self.round.wrapping_add(1);
    }

    /// Excludes a file from later rounds, until it changes.
    fn skip(&mut self, key: FoundKey) {
        let round = self.round;
        if self.skipped.len() >= SKIPPED_MAX {
            self.skipped.retain(|(_, seen)| round.wrapping_sub(*seen) <= 1);
        }
        if let Err(place) = self.place(&key)
            && self.skipped.len() < SKIPPED_MAX
        {
            self.skipped.insert(place, (key, round));
        }
    }

    /// Whether a file is excluded.
    fn skips(&mut self, key: &FoundKey) -> bool {
        let place = self.place(key).ok();
        let found = place.and_then(|place| self.skipped.get_mut(place));
        found.map(|(_, seen)| *seen = self.round).is_some()
    }

    fn place(&self, key: &FoundKey) -> Result<usize, usize> {
        self.skipped.binary_search_by_key(key, |(key, _)| *key)
    }

    /// Notes for the log what was not taken.
    fn note(&mut self, found: &Found, uid: Option<u32>, what: &str) {
        let is_full = self.unreported.len() >= REPORTED_USERS_MAX;
        let place = self.unreported.iter().position(|it| it.uid == uid);
        let last = self.unreported.len().saturating_sub(1);
        let known = place.or(is_full.then_some(last)).and_then(|place| self.unreported.get_mut(place));
        if let Some(known) = known {
            known.others += 1;
            return;
        }
        let shown = found.name.to_string_lossy();
        let owner = uid.map(|uid| format!(" of uid {uid}")).unwrap_or_default();
        let first = format!("{shown}{owner}: {what}");
        self.unreported.push(Unreported { uid, first, others: 0 });
    }

    /// Logs what was put away, once in [`REPORT_INTERVAL`].
    fn report(&mut self, now: Duration) {
        if !is_due(self.reported, now, REPORT_INTERVAL) {
            return;
        }
        for Unreported { first, others, .. } in self.unreported.drain(..) {
            let others = if others > 0 { format!("; and {others} more") } else { String::new() };
            trouble("checking dropped mail", &format!("{first}{others}"));
            self.reported = Some(now);
        }
    }
}

/// Whether time has come for something that is done once in an interval.
fn is_due(last: Option<Duration>, now: Duration, interval: Duration) -> bool {
    last.is_none_or(|at| now.saturating_sub(at) >= interval)
}

impl Maildrop {
    /// A drop directory whose thread has not started yet.
    #[must_use]
    pub fn new(directory: DropDirectory) -> Self {
        Self { directory, has_stopped: AtomicBool::new(false), state: Lock::default() }
    }

    /// Takes messages as they arrive, until [`Self::stop`]. `site` returns the current configuration.
    pub fn run(&self, intake: &Intake, site: &dyn Fn() -> Arc<Site>) {
        let watch = DirectoryWatch::for_arrivals(self.directory.path());
        if !watch.sees() {
            log::warn!(target: "pillarbox", "event=notice text=\"no inotify: dropped mail is taken once a minute\"");
        }
        while !self.has_stopped() {
            self.take_all(intake, &site());
            let (waiting, is_full, is_empty) = {
                let state = self.state();
                (state.waiting, !state.full.is_empty(), state.is_empty)
            };
            match () {
                () if waiting > 0 => sys::thread::sleep(TROUBLE_PAUSE),
                // A user who has a half of the queue keeps no other user waiting.
                () if is_full => watch.wait(TROUBLE_PAUSE),
                () if is_empty && watch.sees() => watch.wait(IDLE_INTERVAL),
                () => watch.wait(ROUND_INTERVAL),
            }
        }
    }

    /// Begins no other message. Does not wait.
    pub fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    /// Waits until the current message is taken, `patience` at most. A message that the end of the process interrupts
    /// is taken again by the next one.
    pub fn wait(&self, patience: Duration) {
        drop(self.state.lock_within(patience));
    }

    /// Makes one round over the directory; returns the number of messages taken.
    pub fn take_all(&self, intake: &Intake, site: &Site) -> usize {
        let found = match self.directory.entries() {
            Ok(found) => found,
            Err(error) => {
                trouble("looking for dropped mail", &error);
                return 0;
            }
        };
        let (mut taken, now) = (0, intake.clock.now());
        self.state().begin();
        for found in found {
            let mut state = self.state();
            if self.has_stopped() {
                break;
            }
            state.is_empty = false;
            if state.skips(&found.key) {
                continue;
            }
            match found.bad {
                None if found.uid.is_some_and(|uid| state.full.contains(&uid)) => {}
                None => taken += usize::from(self.take(intake, site, &found, &mut state)),
                Some(_) if state.away >= AWAY_MAX || found.may_be_unfinished(now.wall) => {}
                Some(reason) => {
                    state.away += 1;
                    self.put_away(&found, reason, false, &mut state);
                }
            }
        }
        if taken > 0
            && let Err(error) = self.directory.sync()
        {
            trouble("removing dropped mail", &error);
        }
        let mut state = self.state();
        state.report(now.running);
        if !is_due(state.swept, now.running, SWEEP_INTERVAL) {
            return taken;
        }
        state.swept = Some(now.running);
        drop(state);
        match self.directory.sweep(now.wall) {
            Ok(0) => {}
            Ok(swept) => {
                let path = self.directory.path().display().to_string();
                log::info!(target: "pillarbox", "event=swept path={path:?} files={swept}");
            }
            Err(error) => trouble("sweeping the drop directory", &error),
        }
        taken
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Rounds> {
        self.state.lock()
    }

    /// Takes one message; returns whether it was taken.
    fn take(&self, intake: &Intake, site: &Site, found: &Found, state: &mut Rounds) -> bool {
        let name: &CStr = &found.name;
        let dropped = match self.directory.open_message(name, site.settings.limits.message_size) {
            Ok(Opened::Message(dropped)) => dropped,
            // A second name that it got since it was found may be its first one.
            Ok(Opened::Busy | Opened::Bad(SEVERAL_NAMES)) => return false,
            Ok(Opened::Bad(reason)) => {
                self.put_away(found, reason, false, state);
                return false;
            }
            Ok(Opened::TooLarge) => {
                self.put_away(found, "it is larger than limits.message_size", true, state);
                return false;
            }
            Ok(Opened::Denied) => {
                state.skip(found.key);
                state.note(found, found.uid, "the daemon may not read it; it stays");
                return false;
            }
            Err(error) => {
                trouble("reading dropped mail", &error);
                return false;
            }
        };
        match hand_over(intake, site, &dropped) {
            Ok(()) => {
                if let Err(error) = self.directory.remove(name) {
                    trouble("removing dropped mail", &error);
                    state.skip(found.key);
                }
                true
            }
            Err(NotTaken::Invalid(reason)) => {
                self.put_away(found, reason, false, state);
                false
            }
            Err(NotTaken::Refused(reason)) => {
                self.put_away(found, reason, true, state);
                false
            }
            Err(NotTaken::ShareUsedUp) => {
                let uid = dropped.uid;
                state.full.push(uid);
                if !state.full_before.contains(&uid) {
                    let text = format!("uid {uid} has a half of the queue: its dropped mail waits");
                    trouble("taking dropped mail", &text);
                }
                false
            }
            Err(NotTaken::Temporary(error)) => {
                state.waiting += 1;
                if state.waiting == 1 {
                    let doing = "taking dropped mail; the file stays and is tried again";
                    trouble(doing, &error);
                }
                false
            }
        }
    }

    /// Puts away what can never be taken, and notes that for the log.
    fn put_away(&self, found: &Found, reason: &'static str, is_whole: bool, state: &mut Rounds) {
        let aside = state.aside.get_or_insert_with(|| self.directory.aside());
        let uid = found.uid.or_else(|| self.directory.owner(&found.name));
        let result = self.directory.put_away(&found.name, is_whole, aside);
        if result.is_err() {
            state.skip(found.key);
            // Each round would open and parse all those that are not remembered.
            if is_whole && !state.skips(&found.key) {
                state.full.extend(uid);
            }
        }
        let done = result.unwrap_or_else(|error| format!("it stays: {}", error.source));
        state.note(found, uid, &format!("{reason}; {done}"));
    }
}

/// Why a message was not taken.
enum NotTaken {
    /// It is no whole message.
    Invalid(&'static str),
    /// It is a whole message that can never be accepted.
    Refused(&'static str),
    /// It may be accepted later: this host has trouble.
    Temporary(String),
    /// The owner has a half of the queue.
    ShareUsedUp,
}

impl From<io::Error> for NotTaken {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Invalid("the file became shorter while it was read");
        }
        Self::Temporary(error.to_string())
    }
}

/// Commits the copies of a message: local ones to the Maildirs, or all to the queue if a Maildir fails.
///
/// # Errors
/// The message can never be accepted, or cannot be accepted now.
fn hand_over(intake: &Intake, site: &Site, dropped: &Dropped) -> Result<(), NotTaken> {
    if !local_submission::has_room_for(site, &intake.queue, dropped.message_octets()) {
        return Err(NotTaken::Temporary("no space left on the disk".into()));
    }
    match try_delivery(intake, site, dropped, LocalDelivery::Direct)? {
        // A Maildir that cannot be written must not delay the other recipients.
        Err(Refusal::Store(_)) => try_delivery(intake, site, dropped, LocalDelivery::Queued)?,
        result => result,
    }
    .map_err(|refusal| match refusal {
        Refusal::Loop => NotTaken::Refused("mail loop detected"),
        Refusal::ShareUsedUp => NotTaken::ShareUsedUp,
        refusal => NotTaken::Temporary(refusal.to_string()),
    })
}

/// Tries one commit. The inner result is intake's answer, the outer one a failure to read or route the message.
fn try_delivery(
    intake: &Intake,
    site: &Site,
    dropped: &Dropped,
    local: LocalDelivery,
) -> Result<Result<(), Refusal>, NotTaken> {
    let mut submitted = local_submission::submission(site, dropped.uid, &dropped.envelope, local)
        .map_err(NotTaken::Temporary)?;
    // One thread takes the messages of all users, and none of them may hold up those of others.
    submitted.submission.is_hurried = true;
    submitted.submission.is_new = false;
    let mut incoming = match intake.begin(site, submitted.submission) {
        Ok(incoming) => incoming,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !dropped.read(|piece| incoming.write(piece))? {
        return Err(NotTaken::Refused("the message contains a CR"));
    }
    Ok(incoming.commit().map(drop))
}
