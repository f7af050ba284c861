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
mod path;

pub use self::errand::{Agent, Done, Errand, MaildirUser, perform};
pub use self::mbox::problem as mbox_problem;
pub use self::path::{MaildirPath, is_safe_component};
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
/// How many octets of the host name go into a file name: the whole name must stay within 255 octets.
const HOST_MAX_OCTETS: usize = 128;
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
    /// Where messages for an mbox are staged, if the directory exists.
    scratch: PathBuf,
    /// How often a locked mbox is tried.
    lock_attempts: u32,
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
        let mut name = String::new();
        for c in host.chars() {
            match c {
                '/' => name.push_str("\\057"),
                ':' => name.push_str("\\072"),
                c if c.is_ascii_graphic() && c != ',' => name.push(c),
                _ => name.push('_'),
            }
            if name.len() >= HOST_MAX_OCTETS {
                break;
            }
        }
        // The keys of the standard library are random and never block for entropy, as a router at boot would have to.
        let first = RandomState::new().build_hasher().finish();
        Self {
            host: name,
            first,
            pid: std::process::id(),
            count: AtomicUsize::new(0),
            rights: MaildirRights::None,
            scratch: std::env::temp_dir(),
            lock_attempts: LOCK_ATTEMPTS,
        }
    }

    /// The same, with `rights`.
    #[must_use]
    pub fn with_rights(self, rights: MaildirRights) -> Self {
        Self { rights, ..self }
    }

    /// The same, with a directory where messages for an mbox are staged as files without a name.
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
        format!("{}.M{}P{}Q{number}.{}", now.seconds(), now.subsec_micros(), self.pid, self.host)
    }

    /// Begins a delivery. A missing Maildir is made.
    ///
    /// # Errors
    /// `MailboxFull`; `Refused` for a link in place of a directory; `Full` or `Trouble` for I/O errors.
    pub fn stage(&self, path: &MaildirPath, now: WallTime) -> Result<Delivery, StoreError> {
        let room = self.room(path)?;
        if room == 0 {
            return Err(mailbox_full(path.path()));
        }
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
        let (file, to) = match self.agent(path) {
            None => match errand::create(path, &name, self.owner(path)) {
                Err(error) if errand::is_no_directory(&error) && mbox::size(path).is_some() => {
                    mbox::look(path, self.owner(path))?;
                    return self.stage_for_mbox(path, now);
                }
                created => created.map(|(file, new)| (file, To::New { new: Some(new), name }))?,
            },
            Some(agent) => match agent.go(&path.whose, Errand::Stage(&name))? {
                Done::Count(_) => return self.stage_for_mbox(path, now),
                Done::File(file) => {
                    let mover = errand::OfAgent { agent: Arc::clone(agent), whose: path.whose.clone() };
                    let file = StagedFile::made_elsewhere(file, name.clone(), Box::new(mover));
                    (file, To::New { new: None, name })
                }
            },
        };
        Ok(Delivery { file, to, path: path.path().join("new"), room: u64::MAX })
    }

    fn stage_for_mbox(&self, path: &MaildirPath, now: WallTime) -> io::Result<Delivery> {
        let file = match StagedFile::without_name(&self.scratch) {
            // Only for `probe`, when an ordinary user runs it or the daemon has never run.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                StagedFile::without_name(&std::env::temp_dir())?
            }
            made => made?,
        };
        let appender = mbox::Appender {
            path: path.clone(),
            owner: self.owner(path),
            agent: self.agent(path).cloned(),
            attempts: self.lock_attempts,
            from_line: from_line(&ReversePath::Null, now),
            now,
        };
        Ok(Delivery { file, to: To::Mbox(Box::new(appender)), path: path.path(), room: u64::MAX })
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
            None => perform(path, None, errand, now),
        };
        match done {
            Ok(Done::Count(count)) => Ok(count),
            Ok(Done::File(_)) => Ok(0),
            Err(error) => Err(path.error(error)),
        }
    }

    /// Reports to the agent that the configuration has changed.
    pub fn reload(&self) {
        if let MaildirRights::Agent(agent) = &self.rights {
            agent.reload();
        }
    }

    /// Unlinks what a crash left in `tmp`, and returns how many files. Meant to run rarely, such as once a day.
    ///
    /// # Errors
    /// As for [`Self::stage`]. A Maildir that does not exist yet is not an error.
    pub fn sweep(&self, path: &MaildirPath, now: WallTime) -> Result<u64, StoreError> {
        self.count(path, Errand::Sweep, now)
    }

    /// How many octets the quota still allows. With a quota, this reads all names of the Maildir.
    ///
    /// # Errors
    /// As for [`Self::sweep`].
    pub fn room(&self, path: &MaildirPath) -> Result<u64, StoreError> {
        match path.quota {
            0 => Ok(u64::MAX),
            quota => Ok(quota.saturating_sub(self.count(path, Errand::Measure, WallTime(0))?)),
        }
    }
}

fn mailbox_full(path: PathBuf) -> StoreError {
    StoreError::new(ErrorKind::MailboxFull, path, "the mailbox has reached local.quota")
}

/// A message that is being written to the `tmp` of a Maildir, or for an mbox.
#[derive(Debug)]
pub struct Delivery {
    file: StagedFile,
    to: To,
    path: PathBuf,
    /// What the quota allows for it, in octets.
    room: u64,
}

/// The target of a delivery.
#[derive(Debug)]
enum To {
    /// The `new` of a Maildir. `new` is `None` if an agent moves the file.
    New {
        new: Option<Arc<OwnedFd>>,
        name: String,
    },
    Mbox(Box<mbox::Appender>),
}

impl Delivery {
    /// Writes the fields that final delivery puts in front of a message (`Return-Path:`, `Delivered-To:`).
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn begin(&mut self, sender: &ReversePath, mailbox: &Mailbox) -> Result<(), StoreError> {
        if let To::Mbox(appender) = &mut self.to {
            appender.from_line = from_line(sender, appender.now);
        }
        self.write(delivery_fields(sender, mailbox).as_bytes())
    }

    /// Makes the commit fail at once if another program has locked the mbox: the caller tries again later anyway.
    pub fn hurry(&mut self) {
        if let To::Mbox(appender) = &mut self.to {
            appender.attempts = 1;
        }
    }

    /// Whether the target is an mbox.
    #[must_use]
    pub const fn is_for_mbox(&self) -> bool {
        matches!(self.to, To::Mbox(_))
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
        let result = self.file.append_from(source, offset, octets, |_| ());
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
    /// `MailboxFull`, `Full` or `Trouble`. The file is discarded.
    pub fn sync(self) -> Result<SyncedFile, StoreError> {
        if self.file.octets() > self.room {
            return Err(mailbox_full(self.path));
        }
        match self.to {
            To::New { new, name } => {
                let path = self.path.join(format!("{name},S={}", self.file.octets()));
                self.file.sync(new, path)
            }
            To::Mbox(appender) => {
                let file = self.file.finish().map_err(|error| StoreError::io(&self.path, error))?;
                Ok(SyncedFile::to_append(Box::new(mbox::Staged { file, appender }), self.path))
            }
        }
    }
}

#[cfg(test)]
mod tests;
