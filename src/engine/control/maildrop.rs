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
//! | is no message, contains a CR, or is in a mail loop | moved to `corrupt/` and logged |
//! | is locked by another process | left for the next round |
//! | cannot be taken now: disk, limits, look-ups | left for the next round; the first one of a round is logged |
//! | cannot be removed or moved | logged and skipped from then on |
//!
//! A crash between the commit and the removal makes a duplicate, never a loss.
//!
//! # Rounds
//!
//! A round begins when inotify reports an arrival, and after a minute at the latest, since a locked file or a full disk
//! gives no event. After a round with trouble the thread sleeps for ten seconds before it reacts to arrivals again. Each
//! round also sweeps temporary files that programs have left. [`Maildrop::stop`] waits for the message that is being
//! taken.

use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::local_submission::{self, LocalDelivery};
use crate::engine::intake::refusal::Refusal;
use crate::engine::log::event::trouble;
use crate::store::drop::{DropDirectory, Dropped, Opened};
use crate::sys;
use crate::sys::lock::Lock;
use crate::sys::watch::DirectoryWatch;
use std::ffi::CString;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The longest time between two rounds, with or without events of arrivals.
const ROUND_INTERVAL: Duration = Duration::from_secs(60);
/// The pause after a round with trouble, in which arrivals start no round: a full queue must not be tried for each.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);
/// How many names of files to skip are remembered. Beyond that, all are forgotten and tried again.
const SKIPPED_MAX: usize = 1000;

/// The drop directory, and the state of the thread that empties it.
#[derive(Debug)]
pub struct Maildrop {
    directory: DropDirectory,
    /// Held while a message is taken: a stop waits for it, and no other thread takes it.
    state: Lock<Rounds>,
}

#[derive(Debug, Default)]
struct Rounds {
    has_stopped: bool,
    /// The number of messages that the last round left because of trouble on this host. Only the first one is logged.
    waiting: usize,
    /// Files that cannot be removed or moved. To take or log them in every round would make duplicates and fill the log.
    skipped: Vec<CString>,
}

impl Maildrop {
    /// A drop directory whose thread has not started yet.
    #[must_use]
    pub fn new(directory: DropDirectory) -> Self {
        Self { directory, state: Lock::default() }
    }

    /// Takes messages as they arrive, until [`Self::stop`]. `site` returns the current configuration.
    pub fn run(&self, intake: &Intake, site: &dyn Fn() -> Arc<Site>) {
        let watch = DirectoryWatch::for_arrivals(self.directory.path());
        if !watch.sees() {
            log::warn!(target: "pillarbox", "event=notice text=\"no inotify: dropped mail is taken once a minute\"");
        }
        while !self.state().has_stopped {
            self.take_all(intake, &site());
            if self.state().waiting > 0 {
                sys::thread::sleep(TROUBLE_PAUSE);
            } else {
                watch.wait(ROUND_INTERVAL);
            }
        }
    }

    /// Waits until the current message is taken, and takes no other one.
    pub fn stop(&self) {
        self.state().has_stopped = true;
    }

    /// Makes one round over the directory; returns the number of messages taken.
    pub fn take_all(&self, intake: &Intake, site: &Site) -> usize {
        let names = match self.directory.names() {
            Ok(names) => names,
            Err(error) => {
                trouble("looking for dropped mail", &error);
                return 0;
            }
        };
        let mut taken = 0;
        self.state().waiting = 0;
        for name in names {
            let mut state = self.state();
            if state.has_stopped {
                break;
            }
            if !state.skipped.contains(&name) {
                taken += usize::from(self.take(intake, site, name, &mut state));
            }
        }
        if taken > 0
            && let Err(error) = self.directory.sync()
        {
            trouble("removing dropped mail", &error);
        }
        match self.directory.sweep(intake.clock.now().wall) {
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
    fn take(&self, intake: &Intake, site: &Site, name: CString, state: &mut Rounds) -> bool {
        let dropped = match self.directory.open_message(&name, site.settings.limits.message_size) {
            Ok(Opened::Message(dropped)) => dropped,
            Ok(Opened::Busy) => return false,
            Ok(Opened::Bad(reason)) => {
                self.set_aside(name, reason, state);
                return false;
            }
            Err(error) => {
                trouble("reading dropped mail", &error);
                return false;
            }
        };
        match hand_over(intake, site, &dropped) {
            Ok(()) => {
                if let Err(error) = self.directory.remove(&name) {
                    trouble("removing dropped mail", &error);
                    skip(state, name);
                }
                true
            }
            Err(NotTaken::Invalid(reason)) => {
                self.set_aside(name, reason, state);
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

    /// Moves a file that is no valid message to `corrupt/` and logs that.
    fn set_aside(&self, name: CString, reason: &'static str, state: &mut Rounds) {
        let shown = name.to_string_lossy().into_owned();
        let error = match self.directory.set_aside(&name) {
            Ok(to) => format!("{shown}: {reason}; moved to corrupt/{to}"),
            Err(error) => {
                skip(state, name);
                format!("{shown}: {reason}; it cannot be moved to corrupt/: {}", error.source)
            }
        };
        trouble("checking dropped mail", &error);
    }
}

/// Excludes a file from later rounds.
fn skip(state: &mut Rounds, name: CString) {
    if state.skipped.len() >= SKIPPED_MAX {
        state.skipped.clear();
    }
    state.skipped.push(name);
}

/// Why a message was not taken.
enum NotTaken {
    /// It can never be accepted.
    Invalid(&'static str),
    /// It may be accepted later: this host has trouble.
    Temporary(String),
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
    if !local_submission::has_room_for(site, dropped.message_octets()) {
        return Err(NotTaken::Temporary("no space left on the disk".into()));
    }
    match try_delivery(intake, site, dropped, LocalDelivery::Direct)? {
        // A Maildir that cannot be written must not delay the other recipients.
        Err(Refusal::Store(_)) => try_delivery(intake, site, dropped, LocalDelivery::Queued)?,
        result => result,
    }
    .map_err(|refusal| match refusal {
        Refusal::Loop => NotTaken::Invalid("mail loop detected"),
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
    let submitted = local_submission::submission(site, dropped.uid, &dropped.envelope, local)
        .map_err(NotTaken::Temporary)?;
    let mut incoming = match intake.begin(site, submitted.submission) {
        Ok(incoming) => incoming,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !dropped.read(|piece| incoming.write(piece))? {
        return Err(NotTaken::Invalid("the message contains a CR"));
    }
    Ok(incoming.commit().map(drop))
}
