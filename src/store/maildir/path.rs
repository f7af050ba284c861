//! Where a user's Maildir or mbox is, and which part of its path the administrator chose and which part the user may
//! have changed.
//!
//! | template | the administrator's part (links are followed) | the user's part (links are refused) |
//! | --- | --- | --- |
//! | `/var/mail/{user}` | `/var/mail` | `alice` |
//! | `/srv/{domain}/{user}/Maildir` | `/srv` | `example.org/alice/Maildir` |
//! | `{home}/Maildir` | the home, which must exist | `Maildir` |
//! | `/var/mail/shared` | `/var/mail` | `shared` |
//!
//! The user could point a link in their part anywhere, for example at another user's Maildir. Each call on a path
//! fails with the error of the operating system.

use super::errand::MaildirUser;
use super::mbox;
use super::turn::Turn;
use crate::store::durable::{
    DirectoryAccess, Owner, make_below, make_directories, open_below, open_directory,
};
use crate::store::{ErrorKind, StoreError};
use crate::sys::lock::Lock;
use rustix::fs::Mode;
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Whether a name, such as a user's, may be one component of a path: no `/`, no leading dot (so neither `..` nor a
/// hidden file), no control character, 1 to 255 octets.
#[must_use]
pub fn is_safe_component(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.chars().any(char::is_control)
}

/// The path of a Maildir, divided by who may have changed which part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildirPath {
    /// The rest, from the first name of a user on; links in it are refused. Never empty. It comes first because paths
    /// differ in it: a message for 10,000 users compares each with all others.
    pub(super) below: Vec<String>,
    /// The administrator's part; links in it are followed.
    pub(super) base: PathBuf,
    /// The administrator's part is a home. A missing home is not mounted at present, or was never meant to exist: it
    /// is not made.
    pub(super) base_is_home: bool,
    pub(super) whose: MaildirUser,
    pub(super) owner: Option<Owner>,
    /// The limit on the octets of all messages together; 0: no limit.
    pub(super) quota: u64,
}

impl MaildirPath {
    /// Fills in a template of the configuration such as `/var/mail/{user}` or `{home}/Maildir`. Everything up to the
    /// component with the first placeholder is the administrator's, and so is a home. With an `owner`, what is made
    /// below is given to the owner if this process, or its agent, may do that.
    ///
    /// # Errors
    /// `Refused` if a name is not a safe component, or if the template needs a home and the user has no home.
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
        // A Maildir itself is never reached through a link, even if no user's name is in its path.
        if below.is_empty() {
            let name =
                base.file_name().and_then(OsStr::to_str).ok_or_else(|| refuse("not a directory name"))?;
            below.push(name.to_owned());
            base.pop();
        }
        let whose = MaildirUser { user: user.to_owned(), domain: domain.to_owned() };
        Ok(Self { base, base_is_home, below, whose, owner, quota: 0 })
    }

    /// The same, with a limit on the octets of all its messages; 0: no limit.
    #[must_use]
    pub fn with_quota(self, quota: u64) -> Self {
        Self { quota, ..self }
    }

    /// The path as text, for logs and errors.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.base.join(self.below.iter().collect::<PathBuf>())
    }

    /// Opens the Maildir itself, component by component.
    pub(super) fn open(&self, access: DirectoryAccess) -> io::Result<OwnedFd> {
        let (parent, name) = self.open_parent()?;
        open_below(parent, name.as_ref(), access)
    }

    /// Opens the directory that holds the Maildir or mbox, and returns its name there.
    pub(super) fn open_parent(&self) -> io::Result<(OwnedFd, &str)> {
        let (name, parents) = self.below.split_last().ok_or(Errno::NOENT)?;
        let base = open_directory(&self.base, DirectoryAccess::Search)?;
        let open = |parent, name: &String| open_below(parent, name.as_ref(), DirectoryAccess::Search);
        Ok((parents.iter().try_fold(base, open)?, name))
    }

    /// Makes what is missing of the Maildir and syncs all of it, `tmp` last.
    pub(super) fn make(&self, owner: Option<Owner>) -> io::Result<()> {
        static MAKING: Lock<()> = Lock::new(());
        let _turn = Turn::take(self.path());
        let making = MAKING.lock();
        self.make_place(owner)?;
        // The inside may hang, and is its owner's alone.
        drop(making);
        self.make_inside(owner)
    }

    /// Makes what is missing of the way to the Maildir and the directory itself, and syncs all of it. The parents of
    /// what is given to a user get a mode that lets the user pass through. Two threads must not do this at once,
    /// except in different homes.
    ///
    /// # Errors
    /// An I/O error.
    pub fn make_place(&self, owner: Option<Owner>) -> io::Result<()> {
        let private = Mode::RWXU;
        let passable = if owner.is_some() { private | Mode::XGRP | Mode::XOTH } else { private };
        if !self.base_is_home {
            make_directories(&self.base, passable)?;
        }
        let mut directory = open_directory(&self.base, DirectoryAccess::Read)?;
        for (i, name) in self.below.iter().enumerate() {
            let last = i + 1 == self.below.len();
            let mode = if last { private } else { passable };
            directory = make_below(&directory, name.as_ref(), mode, owner.filter(|_| last))?;
        }
        Ok(())
    }

    /// Makes what is missing within the Maildir and syncs it, `tmp` last.
    ///
    /// # Errors
    /// An I/O error.
    pub fn make_inside(&self, owner: Option<Owner>) -> io::Result<()> {
        let directory = self.open(DirectoryAccess::Read)?;
        for name in ["new", "cur", "tmp"] {
            make_below(&directory, name.as_ref(), Mode::RWXU, owner)?;
        }
        Ok(())
    }

    /// What is wrong with what lies in the place of the mailbox, by its name alone, in words. `None`: nothing lies there, or a
    /// file, or a directory of the user with this number, or one that group or others may write to.
    #[must_use]
    pub fn flaw(&self, uid: u32) -> Option<&'static str> {
        let metadata = std::fs::symlink_metadata(self.path()).ok()?;
        let is_open = metadata.mode() & 0o022 != 0;
        match () {
            () if metadata.is_symlink() => Some("it is a link, which is not followed"),
            () if metadata.is_file() => None,
            () if !metadata.is_dir() => Some("it is neither a directory nor a file"),
            () if uid != 0 && metadata.uid() != uid && !is_open => {
                Some("the directory belongs to another user")
            }
            () if ["tmp", "new", "cur"].iter().any(|name| {
                std::fs::symlink_metadata(self.path().join(name)).is_ok_and(|below| !below.is_dir())
            }) =>
            {
                Some("its tmp, new or cur is no directory")
            }
            () => None,
        }
    }

    /// Whether the Maildir lies in the home of its user.
    #[must_use]
    pub fn is_in_home(&self) -> bool {
        self.base_is_home
    }

    /// The group that may make `NAME.lock` beside an mbox where its user may not: that of the administrator's directory,
    /// if the group may write there, and is not root's.
    #[must_use]
    pub fn group_of_locks(&self) -> Option<u32> {
        if self.base_is_home || self.below.len() > 1 {
            return None;
        }
        let stat = rustix::fs::stat(&self.base).ok()?;
        let may_write = Mode::from_raw_mode(stat.st_mode).contains(Mode::WGRP);
        (may_write && stat.st_gid != 0).then_some(stat.st_gid)
    }

    /// The error about this Maildir. `O_NOFOLLOW` reports a link as `ENOTDIR` or `ELOOP`.
    pub(super) fn error(&self, error: io::Error) -> StoreError {
        match Errno::from_io_error(&error) {
            Some(Errno::NOTDIR | Errno::LOOP) => {
                StoreError::new(ErrorKind::Refused, self.path(), "a link or a file in place of a directory")
            }
            _ => StoreError::io(self.path(), mbox::explain(error)),
        }
    }
}

/// Puts the names into one component; `None` if one of them, or the result, is not safe. One pass: a user called
/// `{domain}` stays `{domain}`.
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
    // A dot that the administrator wrote in front of a placeholder is meant: `.{user}`.
    (filled.len() <= 255).then_some(filled)
}
