//! What is done in a Maildir by its path, in one step each: by this process, or by one that may where this one may not.
//!
//! Never keeps anything from one step to the next, so that whoever asks can't make it hold files open. What may fail:
//! every call, with the error of the system.

use super::{MaildirPath, TMP_MAX_AGE_SECONDS, is_safe_component, mbox};
use crate::mail::date::WallTime;
use crate::store::durable::{Access, Mover, Owner, StagedFile, SyncedFile, open_below};
use rustix::fs::{AtFlags, Dir, FileType, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// One step. Its names are those that [`super::Maildirs`] makes.
#[derive(Debug, Clone, Copy)]
pub enum Errand<'a> {
    /// Makes the Maildir if it is missing, and an empty file in `tmp`; looks whether an mbox can be written, and makes none.
    Stage(&'a str),
    /// Moves a file that has been written and synced from `tmp` to another name in `new`, durably.
    Commit(&'a str, &'a str),
    /// Unlinks a file in `tmp`.
    Discard(&'a str),
    /// Appends this file to the mbox, durably, behind this first line.
    Append(&'a str, &'a File),
    /// Unlinks what a crash has left in `tmp`, and counts it.
    Sweep,
    /// Adds up the octets of all messages, those in subfolders included.
    Measure,
}

/// What came of it.
#[derive(Debug)]
pub enum Done {
    /// The file that was made, to be written.
    File(File),
    /// How many; 0 where nothing is counted, such as after [`Errand::Stage`] where there is an mbox.
    Count(u64),
}

/// Whose Maildir it is: the user's name and the domain as [`MaildirPath::expand`] takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whose {
    /// The user.
    pub user: String,
    /// The domain of the address.
    pub domain: String,
}

/// Another process that goes on errands to Maildirs that are not this process' own.
pub trait Agent: fmt::Debug + Send + Sync {
    /// Goes on an errand.
    ///
    /// # Errors
    /// As for [`perform`]; it does not answer; it does not do such a thing.
    fn go(&self, whose: &Whose, errand: Errand<'_>) -> io::Result<Done>;
    /// The configuration has changed: Maildirs may be elsewhere.
    fn reload(&self);
}

/// An [`Agent`] that moves the file it has made.
#[derive(Debug)]
pub(super) struct OfAgent {
    pub agent: Arc<dyn Agent>,
    pub whose: Whose,
}

impl Mover for OfAgent {
    fn commit(&self, name: &str, to: &OsStr) -> io::Result<()> {
        let to = to.to_str().ok_or(Errno::INVAL)?;
        self.agent.go(&self.whose, Errand::Commit(name, to)).map(|_| ())
    }

    fn discard(&self, name: &str) {
        // What stays is found by the sweep.
        let _ = self.agent.go(&self.whose, Errand::Discard(name));
    }
}

/// Does `errand` in the Maildir at `path`, and gives what is made to `owner`.
///
/// # Errors
/// Whatever the system says; `EINVAL` for a name that is none.
pub fn perform(
    path: &MaildirPath,
    owner: Option<Owner>,
    errand: Errand<'_>,
    now: WallTime,
) -> io::Result<Done> {
    let checked = |name: &str| if is_safe_component(name) { Ok(()) } else { Err(Errno::INVAL) };
    match errand {
        Errand::Stage(name) => {
            checked(name)?;
            let created = match create(path, name, owner) {
                // Not made yet, or taken away between two calls.
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                    path.make(owner)?;
                    create(path, name, owner)
                }
                Err(error) if mbox::size(path).is_some() && is_no_directory(&error) => {
                    return mbox::look(path, owner).map(|()| Done::Count(0));
                }
                result => result,
            };
            created.map(|(file, _)| Done::File(file.hand_over()))
        }
        Errand::Commit(name, to) => {
            checked(name)?;
            checked(to)?;
            let (tmp, new) = open_both(path)?;
            let synced = SyncedFile::adopt(&tmp, name.to_owned(), new, path.path().join("new").join(to));
            synced.commit().map_err(|error| error.source)?;
            Ok(Done::Count(0))
        }
        Errand::Discard(name) => {
            checked(name)?;
            let tmp = open_below(path.open(Access::Search)?, "tmp".as_ref(), Access::Search)?;
            unlinkat(tmp, name, AtFlags::empty())?;
            Ok(Done::Count(0))
        }
        Errand::Append(from_line, message) => {
            mbox::append(path, owner, from_line, message, now)?;
            Ok(Done::Count(0))
        }
        Errand::Sweep => counted(sweep(path, now).or_else(|error| mbox::size(path).map(|_| 0).ok_or(error))),
        Errand::Measure => counted(measure(path).or_else(|error| mbox::size(path).ok_or(error))),
    }
}

/// Whether it is not a Maildir: an mbox, perhaps.
pub(super) fn is_no_directory(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOTDIR)
}

/// A Maildir that does not exist yet has nothing in it.
fn counted(result: io::Result<u64>) -> io::Result<Done> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Done::Count(0)),
        result => result.map(Done::Count),
    }
}

/// `tmp` and `new`.
fn open_both(path: &MaildirPath) -> io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let maildir = path.open(Access::Search)?;
    let tmp = open_below(&maildir, "tmp".as_ref(), Access::Search)?;
    Ok((Arc::new(tmp), Arc::new(open_below(&maildir, "new".as_ref(), Access::Read)?)))
}

/// An empty file in `tmp`, and `new`.
pub(super) fn create(
    path: &MaildirPath,
    name: &str,
    owner: Option<Owner>,
) -> io::Result<(StagedFile, Arc<OwnedFd>)> {
    let (tmp, new) = open_both(path)?;
    Ok((StagedFile::create(&tmp, name.to_owned(), owner)?, new))
}

fn sweep(path: &MaildirPath, now: WallTime) -> io::Result<u64> {
    let tmp = open_below(path.open(Access::Search)?, "tmp".as_ref(), Access::Read)?;
    let mut swept = 0;
    for entry in Dir::read_from(&tmp)? {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(stat) = statat(&tmp, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let age = now.seconds().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0));
        // A directory can't be unlinked like this, so `.` and `..` need no care.
        if age > TMP_MAX_AGE_SECONDS && unlinkat(&tmp, name, AtFlags::empty()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Adds up `new` and `cur` of the Maildir and of its subfolders, which begin with a dot (Maildir++).
fn measure(path: &MaildirPath) -> io::Result<u64> {
    let maildir = path.open(Access::Read)?;
    let mut octets = measure_folder(maildir.as_fd());
    for entry in Dir::read_from(&maildir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), [b'.', second, ..] if *second != b'.')
            && let Ok(folder) = open_below(&maildir, OsStr::new(&*name.to_string_lossy()), Access::Search)
        {
            octets = octets.saturating_add(measure_folder(folder.as_fd()));
        }
    }
    Ok(octets)
}

fn measure_folder(folder: impl AsFd + Copy) -> u64 {
    let mut octets = 0_u64;
    for name in ["new", "cur"] {
        let Ok(directory) = open_below(folder, name.as_ref(), Access::Read) else { continue };
        let Ok(entries) = Dir::read_from(&directory) else { continue };
        // Names are the user's, and may say anything.
        octets = entries
            .flatten()
            .map(|entry| size(directory.as_fd(), entry.file_name()))
            .fold(octets, u64::saturating_add);
    }
    octets
}

/// By the name if it tells (`,S=`), which costs no call; else by the file.
fn size(directory: impl AsFd, name: &CStr) -> u64 {
    let text = name.to_string_lossy();
    let told = text.split_once(",S=").and_then(|(_, rest)| {
        rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok())
    });
    told.unwrap_or_else(|| {
        statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| {
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            if is_file { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 }
        })
    })
}
