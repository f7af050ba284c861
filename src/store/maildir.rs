//! Maildirs: the final place of local mail, as qmail laid it down and Dovecot, mutt and neomutt read it.
//!
//! A message is written into `tmp`, synced, and renamed into `new`, which is synced too. Never follows a link below
//! the administrator's part of the path, for the user who owns the rest could point it anywhere. Keeps no descriptor
//! from one delivery to the next, so that a Maildir can be moved away under the running daemon.
//!
//! `tmp` is the last directory to be made, after `new` and every parent have been synced. So whoever finds `tmp`, in
//! this process or another, after a crash or before, may rely on the names of the others, at the cost of no call.

mod errand;

pub use self::errand::{Agent, Done, Errand, Whose, perform};
use super::durable::{
    Access, Owner, StagedFile, SyncedFile, make_below, make_directories, open_below, open_directory,
};
use super::{ErrorKind, StoreError};
use crate::mail::date::WallTime;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A file in `tmp` that is older was left by a crash: no delivery takes so long (the rule of qmail's maildir(5)).
const TMP_MAX_AGE_SECONDS: u64 = 36 * 60 * 60;
/// How much of the host name goes into a file name: the whole name has to stay within 255 octets.
const HOST_MAX_OCTETS: usize = 128;
/// How many names are tried before a delivery is given up; even the second is never needed.
const NAME_ATTEMPTS: usize = 3;

/// Whether a name, such as a user's, may be one component of a path: no `/`, no leading dot (so neither `..` nor a
/// hidden file), no control character, 1 to 255 octets.
#[must_use]
pub fn is_safe_component(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

/// Where a Maildir is, and who may have had a hand in which part of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildirPath {
    /// The administrator's part; links in it are followed.
    base: PathBuf,
    /// The administrator's part is a home. One that is missing is not mounted now, or was never meant to be there.
    base_is_home: bool,
    /// The rest, from the first name of a user on; links in it are refused. Never empty.
    below: Vec<String>,
    whose: Whose,
    owner: Option<Owner>,
    /// How many octets the messages may have in all; 0: any number.
    quota: u64,
}

impl MaildirPath {
    /// Fills in a template of the configuration such as `/var/mail/{user}` or `{home}/Maildir`. Everything up to the
    /// component with the first placeholder is the administrator's, and so is a home. With an `owner`, what is made
    /// below is given to them, as far as this process may or has an agent that may.
    ///
    /// # Errors
    /// `Refused` if a name is not a safe component, or the template asks for a home and there is none.
    pub fn expand(
        template: &str,
        user: &str,
        domain: &str,
        home: Option<&Path>,
        owner: Option<Owner>,
    ) -> Result<Self, StoreError> {
        let refuse = |reason| StoreError::new(ErrorKind::Refused, template, reason);
        let mut base = PathBuf::from(if template.starts_with('/') { "/" } else { "" });
        let mut base_is_home = false;
        let mut below = Vec::new();
        for component in template.split('/').filter(|c| !c.is_empty()) {
            if component == "{home}" && below.is_empty() {
                base = home.ok_or_else(|| refuse("the user has no home"))?.to_owned();
                base_is_home = true;
            } else if component.contains('{') {
                below.push(fill_in(component, user, domain).ok_or_else(|| refuse("not a safe name"))?);
            } else if below.is_empty() && !base_is_home {
                base.push(component);
            } else if matches!(component, "." | "..") {
                return Err(refuse("a dot component after a user's name"));
            } else {
                below.push(component.to_owned());
            }
        }
        // A Maildir itself is never reached through a link, even if its path has no user's name in it.
        if below.is_empty() {
            let name =
                base.file_name().and_then(OsStr::to_str).ok_or_else(|| refuse("not a directory name"))?;
            below.push(name.to_owned());
            base.pop();
        }
        let whose = Whose { user: user.to_owned(), domain: domain.to_owned() };
        Ok(Self { base, base_is_home, below, whose, owner, quota: 0 })
    }

    /// The same, with so many octets for all its messages; 0: any number.
    #[must_use]
    pub fn with_quota(self, quota: u64) -> Self {
        Self { quota, ..self }
    }

    /// The path as text for people.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.base.join(self.below.iter().collect::<PathBuf>())
    }

    /// Opens the Maildir itself, component by component.
    fn open(&self, access: Access) -> io::Result<OwnedFd> {
        let base = open_directory(&self.base, Access::Search)?;
        let last = self.below.len() - 1;
        let mut names = self.below.iter().enumerate();
        names.try_fold(base, |parent, (i, name)| {
            open_below(parent, name.as_ref(), if i == last { access } else { Access::Search })
        })
    }

    /// Makes what is missing of the Maildir and syncs all of it, `tmp` last. Users must be able to pass through the
    /// parents of what is given to them.
    fn make(&self, owner: Option<Owner>) -> io::Result<()> {
        static MAKING: Mutex<()> = Mutex::new(());
        let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let private = Mode::RWXU;
        let passable = if owner.is_some() { private | Mode::XGRP | Mode::XOTH } else { private };
        if !self.base_is_home {
            make_directories(&self.base, passable)?;
        }
        let mut directory = open_directory(&self.base, Access::Read)?;
        for (i, name) in self.below.iter().enumerate() {
            let last = i + 1 == self.below.len();
            let mode = if last { private } else { passable };
            directory = make_below(&directory, name.as_ref(), mode, owner.filter(|_| last))?;
        }
        for name in ["new", "cur", "tmp"] {
            make_below(&directory, name.as_ref(), private, owner)?;
        }
        Ok(())
    }

    /// An error about this Maildir. `O_NOFOLLOW` shows a link as `ENOTDIR`, or `ELOOP`.
    fn error(&self, error: io::Error) -> StoreError {
        match Errno::from_io_error(&error) {
            Some(Errno::NOTDIR | Errno::LOOP) => {
                StoreError::new(ErrorKind::Refused, self.path(), "a link or a file in place of a directory")
            }
            _ => StoreError::io(self.path(), error),
        }
    }
}

/// Puts the names into one component; `None` unless each of them is safe, and the result, too. Done in one pass: a
/// user called `{domain}` stays `{domain}`.
fn fill_in(component: &str, user: &str, domain: &str) -> Option<String> {
    let mut filled = String::new();
    let mut rest = component;
    while let Some((literal, placeholder)) = rest.split_once('{') {
        let (placeholder, after) = placeholder.split_once('}')?;
        let value = match placeholder {
            "user" => user,
            "domain" => domain,
            _ => return None,
        };
        filled.push_str(literal);
        filled.push_str(Some(value).filter(|value| is_safe_component(value))?);
        rest = after;
    }
    filled.push_str(rest);
    // A dot that the administrator wrote in front of a name is meant: `.{user}`.
    (filled.len() <= 255).then_some(filled)
}

/// What gives every delivered file its name: one for the whole process.
#[derive(Debug)]
pub struct Maildirs {
    /// The host as file names write it.
    host: String,
    /// A random 63-bit number, so that names differ after restarts, in containers and when the clock is set back.
    first: u64,
    pid: u32,
    /// How many names were given out; a word, for 32-bit boxes have no larger atomic.
    count: AtomicUsize,
    rights: Rights,
}

/// What may be done about Maildirs that belong to somebody else.
#[derive(Debug, Clone, Default)]
pub enum Rights {
    /// Nothing: all that is made is this process' own.
    #[default]
    None,
    /// It may be given away: this process is root's.
    GiveAway,
    /// Another process does it.
    Agent(Arc<dyn Agent>),
}

impl Maildirs {
    /// Begins with a random number. `host` is this host's name.
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
        // The standard library's own keys are random, and never wait for entropy, as a router at boot would.
        let first = RandomState::new().build_hasher().finish();
        Self { host: name, first, pid: std::process::id(), count: AtomicUsize::new(0), rights: Rights::None }
    }

    /// The same, with rights.
    #[must_use]
    pub fn with_rights(self, rights: Rights) -> Self {
        Self { rights, ..self }
    }

    fn next_name(&self, now: WallTime) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed) as u64;
        let number = self.first.wrapping_add(count) & (u64::MAX >> 1);
        format!("{}.M{}P{}Q{number}.{}", now.seconds(), now.subsec_micros(), self.pid, self.host)
    }

    /// Begins a delivery; the Maildir is made if it is missing.
    ///
    /// # Errors
    /// `MailboxFull`, `Refused` for a link in place of a directory, `Full` and `Trouble` as the system says.
    pub fn stage(&self, path: &MaildirPath, now: WallTime) -> Result<Delivery, StoreError> {
        let room = self.room(path)?;
        if room == 0 {
            return Err(mailbox_full(path.path()));
        }
        let mut error = io::Error::from(Errno::NOENT);
        for _ in 0..NAME_ATTEMPTS {
            match self.try_stage(path, now) {
                Ok(delivery) => return Ok(Delivery { room, ..delivery }),
                // Not made yet, or taken away between two calls.
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
        let (file, new) = match self.agent(path) {
            None => {
                let (file, new) = errand::create(path, &name, self.owner(path))?;
                (file, Some(new))
            }
            Some(agent) => {
                let Done::File(file) = agent.go(&path.whose, Errand::Stage(&name))? else {
                    return Err(Errno::BADF.into());
                };
                let mover = errand::OfAgent { agent: Arc::clone(agent), whose: path.whose.clone() };
                (StagedFile::made_elsewhere(file, name.clone(), Box::new(mover)), None)
            }
        };
        Ok(Delivery { file, new, path: path.path().join("new"), name, room: u64::MAX })
    }

    /// Who does it; `None`: this process.
    fn agent(&self, path: &MaildirPath) -> Option<&Arc<dyn Agent>> {
        match &self.rights {
            Rights::Agent(agent) if path.owner.is_some() => Some(agent),
            _ => None,
        }
    }

    /// To whom this process gives what it makes.
    fn owner(&self, path: &MaildirPath) -> Option<Owner> {
        path.owner.filter(|_| matches!(self.rights, Rights::GiveAway))
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

    /// The configuration has changed.
    pub fn reload(&self) {
        if let Rights::Agent(agent) = &self.rights {
            agent.reload();
        }
    }

    /// Unlinks what a crash left in `tmp`, and tells how many files that were. Meant for now and then, such as once a
    /// day.
    ///
    /// # Errors
    /// As for [`Self::stage`]; a Maildir that does not exist yet is none.
    pub fn sweep(&self, path: &MaildirPath, now: WallTime) -> Result<u64, StoreError> {
        self.count(path, Errand::Sweep, now)
    }

    /// How many octets there is room for by the quota. With one, all names of the Maildir are read for it.
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
    StoreError::new(ErrorKind::MailboxFull, path, "the mailbox has all that local.quota allows")
}

/// A message on its way into a Maildir, in its `tmp`.
#[derive(Debug)]
pub struct Delivery {
    file: StagedFile,
    new: Option<Arc<OwnedFd>>,
    path: PathBuf,
    name: String,
    /// What the quota leaves for it, in octets.
    room: u64,
}

impl Delivery {
    /// Appends `octets`.
    ///
    /// # Errors
    /// `Full` or `Trouble`; the delivery can't be completed then.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.file.write(octets).map_err(|error| StoreError::io(&self.path, error))
    }

    /// Appends `octets` octets of `source`, from `offset` on.
    ///
    /// # Errors
    /// `Full` or `Trouble`; the delivery can't be completed then.
    pub fn append_from(&mut self, source: &File, offset: u64, octets: u64) -> Result<(), StoreError> {
        let result = self.file.append_from(source, offset, octets, |_| ());
        result.map_err(|error| StoreError::io(&self.path, error))
    }

    /// Octets written so far.
    #[must_use]
    pub fn octets(&self) -> u64 {
        self.file.octets()
    }

    /// The file with all that was written so far, for other targets to copy from.
    ///
    /// # Errors
    /// `Full` or `Trouble`; the delivery can't be completed then.
    pub fn content_source(&mut self) -> Result<&File, StoreError> {
        self.file.contents().map_err(|error| StoreError::io(&self.path, error))
    }

    /// Puts the message on stable storage; a commit then makes it visible in `new`.
    ///
    /// # Errors
    /// `MailboxFull`, `Full` or `Trouble`; the file has been thrown away.
    pub fn sync(self) -> Result<SyncedFile, StoreError> {
        if self.file.octets() > self.room {
            return Err(mailbox_full(self.path));
        }
        let path = self.path.join(format!("{},S={}", self.name, self.file.octets()));
        self.file.sync(self.new, path)
    }
}

#[cfg(test)]
mod tests;
