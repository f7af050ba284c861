//! Takes messages from the drop directory into the queue and the Maildirs, by intake like all other mail.
//!
//! The program that left a file there has reported the message as safe. So the file stays until its copies are safe:
//!
//! | the file | what becomes of it |
//! | --- | --- |
//! | is taken | removed, once its copies are on stable storage |
//! | is no message | moved to `corrupt/`, and logged |
//! | is locked by another process | left for the next round |
//! | cannot be taken now: disk, limits, look-ups | left for the next round; the first one of a round is logged |
//!
//! A crash between the commit and the removal makes a duplicate, never a loss. Who the sender is comes from the owner of the
//! file; see [`crate::engine::intake::local_submission`].

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

/// The directory is looked at so often, whether or not the system tells of arrivals.
const ROUND: Duration = Duration::from_secs(60);
/// After a round with trouble, arrivals do not begin another one before this: a full queue must not be asked for each.
const TROUBLE_PAUSE: Duration = Duration::from_secs(10);
/// So many names that can't be removed are remembered; beyond it all are forgotten, and tried again.
const STUCK_MAX: usize = 1000;

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
    /// Messages that the last round has left where they are, by trouble of our own; the first one is told of.
    waiting: usize,
    /// What stays although it was taken, or is no message: to take it or to tell of it in each round would do harm.
    stuck: Vec<CString>,
}

impl Maildrop {
    /// Nothing is taken yet.
    #[must_use]
    pub fn new(directory: DropDirectory) -> Self {
        Self { directory, state: Lock::default() }
    }

    /// Takes what comes, until [`Self::stop`]. `site` gives the configuration of now.
    pub fn run(&self, intake: &Intake, site: &dyn Fn() -> Arc<Site>) {
        let watch = DirectoryWatch::for_arrivals(self.directory.path());
        if !watch.sees() {
            log::warn!(target: "pillarbox", "event=notice text=\"no inotify: dropped mail is seen once a minute\"");
        }
        while !self.state().has_stopped {
            self.take_all(intake, &site());
            if self.state().waiting > 0 {
                sys::thread::sleep(TROUBLE_PAUSE);
            } else {
                watch.wait(ROUND);
            }
        }
    }

    /// Waits until the message in hand is taken; no other is taken afterwards.
    pub fn stop(&self) {
        self.state().has_stopped = true;
    }

    /// One look at all that lies there; gives the number of messages taken.
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
            if !state.stuck.contains(&name) {
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

    /// True if the message is taken.
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
                    remember(state, name);
                }
                true
            }
            Err(NotTaken::Bad(reason)) => {
                self.set_aside(name, reason, state);
                false
            }
            Err(NotTaken::Ours(error)) => {
                state.waiting += 1;
                if state.waiting == 1 {
                    let doing = "taking dropped mail; it stays and is tried again";
                    trouble(doing, &error);
                }
                false
            }
        }
    }

    fn set_aside(&self, name: CString, reason: &'static str, state: &mut Rounds) {
        let shown = name.to_string_lossy().into_owned();
        let error = match self.directory.set_aside(&name) {
            Ok(to) => format!("{shown}: {reason}; it is corrupt/{to} now"),
            Err(error) => {
                remember(state, name);
                format!("{shown}: {reason}; it stays: {}", error.source)
            }
        };
        trouble("looking at dropped mail", &error);
    }
}

fn remember(state: &mut Rounds, name: CString) {
    if state.stuck.len() >= STUCK_MAX {
        state.stuck.clear();
    }
    state.stuck.push(name);
}

/// Why a message was not taken.
enum NotTaken {
    /// It is none that can be taken, ever.
    Bad(&'static str),
    /// It may be taken later.
    Ours(String),
}

impl From<io::Error> for NotTaken {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Bad("it has become shorter");
        }
        Self::Ours(error.to_string())
    }
}

fn hand_over(intake: &Intake, site: &Site, dropped: &Dropped) -> Result<(), NotTaken> {
    if !local_submission::has_room_for(site, dropped.message_octets()) {
        return Err(NotTaken::Ours("no space left on the disk".into()));
    }
    match try_delivery(intake, site, dropped, LocalDelivery::Direct)? {
        // A Maildir that takes nothing is no reason to keep the others waiting.
        Err(Refusal::Store(_)) => try_delivery(intake, site, dropped, LocalDelivery::Queued)?,
        result => result,
    }
    .map_err(|refusal| match refusal {
        Refusal::Loop => NotTaken::Bad("it is going round in circles"),
        refusal => NotTaken::Ours(refusal.to_string()),
    })
}

fn try_delivery(
    intake: &Intake,
    site: &Site,
    dropped: &Dropped,
    local: LocalDelivery,
) -> Result<Result<(), Refusal>, NotTaken> {
    let submitted =
        local_submission::submission(site, dropped.uid, &dropped.envelope, local).map_err(NotTaken::Ours)?;
    let mut incoming = match intake.begin(site, submitted.submission) {
        Ok(incoming) => incoming,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if !dropped.read(|piece| incoming.write(piece))? {
        return Err(NotTaken::Bad("it has a CR"));
    }
    Ok(incoming.commit().map(drop))
}
