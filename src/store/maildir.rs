//! Maildirs: the final place of local mail, as qmail defined it and as Dovecot, mutt and neomutt read it.
//!
//! A message is written into `tmp`, synced, and renamed into `new`, which is synced too. No link is followed below
//! the administrator's part of the path: the user who owns the rest could point it anywhere. No descriptor is kept
//! from one delivery to the next, so a Maildir can be moved away while the daemon runs.
//!
//! A regular file in place of a Maildir is an mbox, and stays an mbox (see [`mbox`]).
//!
//! `tmp` is made last, after `new` and every parent have been synced. So any process that finds `tmp`, before or
//! after a crash, can rely on the names of the other directories without a system call.
//!
//! Names of delivered files (maildir(5), with the size of Maildir++):
//!
//! ```text
//! 1712345678.M123456P4711Q8070450532247928832.mail.example.org,S=2312
//! │          │      │    │                    │                └ octets of the file
//! │          │      │    │                    └ host, `/` as \057 and `:` as \072
//! │          │      │    └ a random 63-bit number of this process, plus the count of names so far
//! │          │      └ process id
//! │          └ microseconds
//! └ seconds
//! ```
//!
//! | what lies in a Maildir | means | who cleans up |
//! | --- | --- | --- |
//! | `tmp/NAME`, younger than 36 hours | a delivery is being written, or a crash left it | the delivery |
//! | `tmp/NAME`, older | left by a crash; nobody was promised anything | [`Maildirs::sweep`] |
//! | `new/NAME,S=…` | delivered, if the sync of `new` returned; otherwise the sender tries again and a duplicate may follow | the user |
//! | no `tmp` | the Maildir is not complete: the next delivery makes what is missing | – |

mod errand;
mod mbox;
mod measure;
mod name;
mod path;
mod rooms;
mod turn;

pub use self::errand::{Agent, Errand, IS_MBOX, MaildirUser, perform};
pub use self::mbox::problem as mbox_problem;
pub use self::name::is_composed;
pub use self::path::{MaildirPath, is_safe_component};
use self::rooms::Rooms;
pub use self::turn::Turn;
use super::durable::{Owner, StagedFile, SyncedFile};
use super::{ErrorKind, StoreError};
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::WallTime;
use crate::mail::mbox::from_line;
use crate::mail::message::delivery_fields;
use rustix::io::Errno;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Files in `tmp` that are older were left by a crash: no delivery takes that long (the rule of qmail's maildir(5)).
const TMP_MAX_AGE_SECONDS: u64 = 36 * 60 * 60;
/// How many names are tried before a delivery fails; even the second is never needed in practice.
const NAME_ATTEMPTS: usize = 3;
/// How often one delivery tries an mbox that another program has locked, and the pause between two tries: five
/// seconds in all. Mail programs hold their locks for a shorter time.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(200);

/// Delivers to Maildirs and makes the names of the files: one for the whole process.
#[derive(Debug)]
pub struct Maildirs {
    /// The host name as file names spell it.
    host: String,
    /// A random 63-bit number, so that names differ after a restart, in containers, and when the clock is set back.
    first: u64,
    pid: u32,
    /// How many names have been made; a machine word, because 32-bit boxes have no larger atomic.
    count: AtomicUsize,
    rights: MaildirRights,
    /// Where large messages for an mbox or an agent are staged.
    scratch: PathBuf,
    /// How often a locked mbox is tried.
    lock_attempts: u32,
    rooms: Arc<Rooms>,
}

/// How Maildirs of other users are written.
#[derive(Debug, Clone, Default)]
pub enum MaildirRights {
    /// As this process: all that it makes belongs to its own user.
    #[default]
    None,
    /// This process is root's and gives away what it makes.
    GiveAway,
    /// Another process writes them.
    Agent(Arc<dyn Agent>),
}

impl Maildirs {
    /// Starts with a random number. `host` is the name of this host.
    #[must_use]
    pub fn new(host: &str) -> Self {
        // The keys of the standard library are random and never block for entropy, as a router at boot would have to.
        let first = RandomState::new().build_hasher().finish();
        Self {
            host: name::spell_host(host),
            first,
            pid: std::process::id(),
            count: AtomicUsize::new(0),
            rights: MaildirRights::None,
            scratch: std::env::temp_dir(),
            lock_attempts: LOCK_ATTEMPTS,
            rooms: Arc::default(),
        }
    }

    /// The same, with `rights`.
    #[must_use]
    pub fn with_rights(self, rights: MaildirRights) -> Self {
        Self { rights, ..self }
    }

    /// The same, with a directory where large messages for an mbox or an agent are staged as files without a name.
    #[must_use]
    pub fn with_scratch(self, directory: PathBuf) -> Self {
        Self { scratch: directory, ..self }
    }

    /// The same, but without waiting for an mbox that another program has locked.
    #[cfg(test)]
    #[must_use]
    pub fn impatient(self) -> Self {
        Self { lock_attempts: 1, ..self }
    }

    fn next_name(&self, now: WallTime) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed) as u64;
        let number = self.first.wrapping_add(count) & (u64::MAX >> 1);
        name::compose(now, self.pid, number, &self.host)
    }

    /// Begins a delivery. A missing Maildir is made; one that an agent writes, only when the message is synced.
    ///
    /// # Errors
    /// `MailboxFull`; `Refused` for a link in place of a directory; `Full` or `Trouble` for I/O errors.
    pub fn stage(&self, path: &MaildirPath, now: WallTime) -> Result<Delivery, StoreError> {
        let room = match self.likely_room(path) {
            Some(room) if is_plenty(room, path) => room,
            _ => self.room(path)?,
        };
        if room == 0 {
            return Err(mailbox_full(path.path()));
        }
        self.stage_within(path, now, room)
    }

    fn stage_within(&self, path: &MaildirPath, now: WallTime, room: u64) -> Result<Delivery, StoreError> {
        let mut error = io::Error::from(Errno::NOENT);
        for _ in 0..NAME_ATTEMPTS {
            match self.try_stage(path, now) {
                Ok(delivery) => return Ok(Delivery { room, ..delivery }),
                // Not made yet, or removed between two calls.
                Err(missing) if missing.kind() == io::ErrorKind::NotFound && self.agent(path).is_none() => {
                    path.make(self.owner(path)).map_err(|error| path.error(error))?;
                    error = missing;
                }
                Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => error = taken,
                Err(other) => return Err(path.error(other)),
            }
        }
        Err(path.error(error))
    }

    fn try_stage(&self, path: &MaildirPath, now: WallTime) -> io::Result<Delivery> {
        let name = self.next_name(now);
        if self.agent(path).is_some() {
            return self.stage_to_copy(path, now, |appender| To::Agent { appender, name });
        }
        // Root makes `tmp`, and gives it to its user while it is empty: until then no file is created there.
        let turn = self.owner(path).map(|_| Turn::take(path.path()));
        let created = errand::create(path, &name, self.owner(path));
        drop(turn);
        match created {
            Err(error) if errand::is_no_directory(&error) && mbox::size(path).is_some() => {
                mbox::look(path, self.owner(path))?;
                self.stage_to_copy(path, now, To::Mbox)
            }
            created => {
                let (file, new) = created?;
                Ok(self.delivery(file, To::New { new, name }, path))
            }
        }
    }

    fn delivery(&self, file: StagedFile, to: To, path: &MaildirPath) -> Delivery {
        Delivery { file, to, path: path.path(), room: u64::MAX, rooms: Arc::clone(&self.rooms) }
    }

    /// Stages a message that is copied later, by the agent or to the end of an mbox.
    fn stage_to_copy(
        &self,
        path: &MaildirPath,
        now: WallTime,
        to: impl FnOnce(Box<mbox::Appender>) -> To,
    ) -> io::Result<Delivery> {
        let file = StagedFile::scratch(&self.scratch)?;
        let appender = mbox::Appender {
            path: path.clone(),
            owner: self.owner(path),
            agent: self.agent(path).cloned(),
            attempts: self.lock_attempts,
            from_line: from_line(&ReversePath::Null, now),
            now,
        };
        Ok(self.delivery(file, to(Box::new(appender)), path))
    }

    /// The process that writes this Maildir; `None`: this process.
    fn agent(&self, path: &MaildirPath) -> Option<&Arc<dyn Agent>> {
        match &self.rights {
            MaildirRights::Agent(agent) if path.owner.is_some() => Some(agent),
            _ => None,
        }
    }

    /// The owner to whom this process gives what it makes.
    fn owner(&self, path: &MaildirPath) -> Option<Owner> {
        path.owner.filter(|_| matches!(self.rights, MaildirRights::GiveAway))
    }

    fn count(&self, path: &MaildirPath, errand: Errand<'_>, now: WallTime) -> Result<u64, StoreError> {
        let done = match self.agent(path) {
            Some(agent) => agent.go(&path.whose, errand),
            None => perform(path, None, errand, now, &|| path.make(None)),
        };
        done.map_err(|error| path.error(error))
    }

    /// The number of users whose mailbox does not answer at present.
    #[must_use]
    pub fn overdue(&self) -> usize {
        if let MaildirRights::Agent(agent) = &self.rights { agent.overdue() } else { 0 }
    }

    /// Reports to the agent, if there is one, that the configuration has changed; returns whether it has read it.
    pub fn reload(&self) -> bool {
        match &self.rights {
            MaildirRights::Agent(agent) => agent.reload(),
            _ => true,
        }
    }

    /// Unlinks what a crash left in `tmp`, and returns how many files. Meant to run rarely, such as once a day.
    ///
    /// # Errors
    /// As for [`Self::stage`]. A Maildir that does not exist yet is not an error.
    pub fn sweep(&self, path: &MaildirPath, now: WallTime) -> Result<u64, StoreError> {
        self.count(path, Errand::Sweep, now)
    }

    /// How many octets the quota still allows. With a quota, this looks at the Maildir, and may read all its names.
    ///
    /// # Errors
    /// As for [`Self::sweep`].
    pub fn room(&self, path: &MaildirPath) -> Result<u64, StoreError> {
        if path.quota == 0 {
            return Ok(u64::MAX);
        }
        let octets = self.count(path, Errand::Measure, WallTime(0))?;
        self.rooms.learn(path.path(), octets);
        Ok(path.quota.saturating_sub(octets))
    }

    /// How many octets the quota still allowed within the last minute; `None` if nobody looked. Costs the mailbox
    /// nothing.
    #[must_use]
    pub fn likely_room(&self, path: &MaildirPath) -> Option<u64> {
        match path.quota {
            0 => Some(u64::MAX),
            quota => Some(quota.saturating_sub(self.rooms.remembered(&path.path())?)),
        }
    }
}

/// Whether so much is left that nobody needs to look.
fn is_plenty(room: u64, path: &MaildirPath) -> bool {
    room > path.quota / 4
}

fn mailbox_full(path: PathBuf) -> StoreError {
    StoreError::new(ErrorKind::MailboxFull, path, "the mailbox has reached local.quota")
}

/// A message that is being written to the `tmp` of a Maildir, or to be copied there, or to an mbox.
#[derive(Debug)]
pub struct Delivery {
    file: StagedFile,
    to: To,
    /// The Maildir or mbox.
    path: PathBuf,
    /// What the quota allows for it, in octets.
    room: u64,
    rooms: Arc<Rooms>,
}

/// The target of a delivery.
#[derive(Debug)]
enum To {
    /// The `new` of a Maildir.
    New {
        new: Arc<OwnedFd>,
        name: String,
    },
    Mbox(Box<mbox::Appender>),
    /// The agent finds out which of the two it is.
    Agent {
        appender: Box<mbox::Appender>,
        name: String,
    },
}

impl Delivery {
    /// Writes the fields that final delivery puts in front of a message (`Return-Path:`, `Delivered-To:`).
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn begin(&mut self, sender: &ReversePath, mailbox: &Mailbox) -> Result<(), StoreError> {
        if let To::Mbox(appender) | To::Agent { appender, .. } = &mut self.to {
            appender.from_line = from_line(sender, appender.now);
        }
        self.write(delivery_fields(sender, mailbox).as_bytes())
    }

    /// Makes the delivery fail at once if another program has locked the mbox, and soon if the mailbox does not answer:
    /// the caller tries again later anyway.
    pub fn hurry(&mut self) {
        if let To::Mbox(appender) | To::Agent { appender, .. } = &mut self.to {
            appender.attempts = 1;
        }
    }

    /// Appends `octets`.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The delivery cannot be completed afterwards.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.file.write(octets).map_err(|error| StoreError::io(&self.path, error))
    }

    /// Appends `octets` octets of `source`, from `offset` on.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The delivery cannot be completed afterwards.
    pub fn append_from(&mut self, source: &File, offset: u64, octets: u64) -> Result<(), StoreError> {
        let result = self.file.copy_from(source, offset, octets);
        result.map_err(|error| StoreError::io(&self.path, error))
    }

    /// Octets written so far.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.file.octets()
    }

    /// The file with everything written so far, for other targets to copy from.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The delivery cannot be completed afterwards.
    pub fn content_source(&mut self) -> Result<&File, StoreError> {
        self.file.contents().map_err(|error| StoreError::io(&self.path, error))
    }

    /// Puts the message on stable storage; the commit then makes it visible in `new`. For an mbox the commit alone
    /// appends and syncs the message.
    ///
    /// # Errors
    /// `MailboxFull`, `Refused`, `Full` or `Trouble`. The file is discarded.
    pub fn sync(self) -> Result<SyncedFile, StoreError> {
        let octets = self.file.octets();
        if octets > self.room {
            return Err(mailbox_full(self.path));
        }
        self.rooms.add(&self.path, octets);
        let in_new = |name: &str| self.path.join("new").join(name::with_size(name, octets));
        match self.to {
            To::New { new, name } => self.file.sync(new, in_new(&name)),
            To::Mbox(appender) => {
                let file = self.file.finish().map_err(|error| StoreError::io(&self.path, error))?;
                Ok(SyncedFile::to_append(Box::new(mbox::Staged { file, appender }), self.path))
            }
            To::Agent { appender, name } => {
                let path = in_new(&name);
                let file = self.file.finish().map_err(|error| StoreError::io(&self.path, error))?;
                store_by_agent(file, appender, name, path)
            }
        }
    }
}

/// Has the agent copy the message into the Maildir, or keeps it for the mbox.
fn store_by_agent(
    file: File,
    appender: Box<mbox::Appender>,
    name: String,
    path: PathBuf,
) -> Result<SyncedFile, StoreError> {
    let mbox::Appender { agent: Some(agent), path: maildir, .. } = &*appender else {
        return Err(StoreError::refused(path, "there is no delivery agent"));
    };
    let whose = maildir.whose.clone();
    match agent.go(&whose, Errand::Store(&name, &file)) {
        Ok(IS_MBOX) => {
            let path = maildir.path();
            Ok(SyncedFile::to_append(Box::new(mbox::Staged { file, appender }), path))
        }
        Ok(_) => {
            let mover = errand::OfAgent { agent: Arc::clone(agent), whose };
            Ok(SyncedFile::elsewhere(name, Box::new(mover), path))
        }
        Err(error) => Err(maildir.error(error)),
    }
}

#[cfg(test)]
mod tests;
