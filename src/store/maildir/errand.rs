//! What is done in a Maildir by its path, in one step each: by this process, or by an [`Agent`], a process that may
//! write where this one may not.
//!
//! No step keeps anything for the next one, so a caller cannot make the agent hold files open. Each step fails with
//! the error of the operating system.
//!
//! A delivery through an agent, step by step:
//!
//! | caller | agent | left by a crash of the caller here |
//! | --- | --- | --- |
//! | [`Errand::Stage`] | makes `tmp/NAME` and passes the open file back | an empty file, for the sweep |
//! | writes and syncs the file | – | a part of a message in `tmp`, for the sweep |
//! | [`Errand::Commit`] | renames it to `new/NAME,S=…` and syncs `new` | the delivered message |
//! | [`Errand::Discard`] instead | unlinks it | nothing |

use super::{MaildirPath, TMP_MAX_AGE_SECONDS, is_safe_component, mbox};
use crate::mail::date::WallTime;
use crate::store::durable::{DirectoryAccess, Mover, Owner, StagedFile, SyncedFile, open_below};
use rustix::fs::{AtFlags, Dir, FileType, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::{fmt, io};

/// One step. [`super::Maildirs`] makes the names in it.
#[derive(Debug, Clone, Copy)]
pub enum Errand<'a> {
    /// Makes the Maildir if it is missing, and an empty file in `tmp`. For an mbox: only checks that it can be
    /// written.
    Stage(&'a str),
    /// Moves a file that has been written and synced from `tmp` to the second name in `new`, durably.
    Commit(&'a str, &'a str),
    /// Unlinks a file in `tmp`.
    Discard(&'a str),
    /// Appends the file to the mbox, durably, below the given `From ` line.
    Append(&'a str, &'a File),
    /// Unlinks what a crash left in `tmp`, and counts it.
    Sweep,
    /// Adds up the octets of all messages, including those in subfolders.
    Measure,
}

/// The result of a step.
#[derive(Debug)]
pub enum Done {
    /// The new file, to be written.
    File(File),
    /// A count; 0 where nothing is counted, such as after [`Errand::Stage`] for an mbox.
    Count(u64),
}

/// Whose Maildir it is: the user's name and the domain, as [`MaildirPath::expand`] takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildirUser {
    /// The user.
    pub user: String,
    /// The domain of the address.
    pub domain: String,
}

/// Another process that does steps in Maildirs that this process may not write to.
pub trait Agent: fmt::Debug + Send + Sync {
    /// Does one step.
    ///
    /// # Errors
    /// As for [`perform`]; or the agent does not answer, or refuses the step.
    fn go(&self, whose: &MaildirUser, errand: Errand<'_>) -> io::Result<Done>;
    /// Reports that the configuration has changed: Maildirs may be elsewhere.
    fn reload(&self);
}

/// A [`Mover`] that has an [`Agent`] move the file that the agent made.
#[derive(Debug)]
pub(super) struct OfAgent {
    pub agent: Arc<dyn Agent>,
    pub whose: MaildirUser,
}

impl Mover for OfAgent {
    fn commit(&self, name: &str, to: &OsStr) -> io::Result<()> {
        let to = to.to_str().ok_or(Errno::INVAL)?;
        self.agent.go(&self.whose, Errand::Commit(name, to)).map(|_| ())
    }

    fn discard(&self, name: &str) {
        // If this fails, the sweep finds the file.
        let _ = self.agent.go(&self.whose, Errand::Discard(name));
    }
}

/// Does `errand` in the Maildir at `path`, and gives what it makes to `owner`.
///
/// # Errors
/// An I/O error; `EINVAL` for a name that is not safe as a component of a path.
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
                // Not made yet, or removed between two calls.
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
            let tmp =
                open_below(path.open(DirectoryAccess::Search)?, "tmp".as_ref(), DirectoryAccess::Search)?;
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

/// Whether the error says that the path is not a directory: it may be an mbox.
pub(super) fn is_no_directory(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOTDIR)
}

/// Counts 0 for a Maildir that does not exist yet.
fn counted(result: io::Result<u64>) -> io::Result<Done> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Done::Count(0)),
        result => result.map(Done::Count),
    }
}

/// Opens `tmp` and `new`.
fn open_both(path: &MaildirPath) -> io::Result<(Arc<OwnedFd>, Arc<OwnedFd>)> {
    let maildir = path.open(DirectoryAccess::Search)?;
    let tmp = open_below(&maildir, "tmp".as_ref(), DirectoryAccess::Search)?;
    Ok((Arc::new(tmp), Arc::new(open_below(&maildir, "new".as_ref(), DirectoryAccess::Read)?)))
}

/// Creates an empty file in `tmp`, and opens `new`.
pub(super) fn create(
    path: &MaildirPath,
    name: &str,
    owner: Option<Owner>,
) -> io::Result<(StagedFile, Arc<OwnedFd>)> {
    let (tmp, new) = open_both(path)?;
    Ok((StagedFile::create(&tmp, name.to_owned(), owner)?, new))
}

fn sweep(path: &MaildirPath, now: WallTime) -> io::Result<u64> {
    let tmp = open_below(path.open(DirectoryAccess::Search)?, "tmp".as_ref(), DirectoryAccess::Read)?;
    let mut swept = 0;
    for entry in Dir::read_from(&tmp)? {
        let entry = entry?;
        let name = entry.file_name();
        let Ok(stat) = statat(&tmp, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let age = now.seconds().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0));
        // This call cannot unlink a directory, so `.` and `..` need no exception.
        if age > TMP_MAX_AGE_SECONDS && unlinkat(&tmp, name, AtFlags::empty()).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Adds up `new` and `cur` of the Maildir and of its subfolders, which begin with a dot (Maildir++).
fn measure(path: &MaildirPath) -> io::Result<u64> {
    let maildir = path.open(DirectoryAccess::Read)?;
    let mut octets = measure_folder(maildir.as_fd());
    for entry in Dir::read_from(&maildir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), [b'.', second, ..] if *second != b'.')
            && let Ok(folder) =
                open_below(&maildir, OsStr::new(&*name.to_string_lossy()), DirectoryAccess::Search)
        {
            octets = octets.saturating_add(measure_folder(folder.as_fd()));
        }
    }
    Ok(octets)
}

fn measure_folder(folder: impl AsFd + Copy) -> u64 {
    let mut octets = 0_u64;
    for name in ["new", "cur"] {
        let Ok(directory) = open_below(folder, name.as_ref(), DirectoryAccess::Read) else { continue };
        let Ok(entries) = Dir::read_from(&directory) else { continue };
        // The user chooses the names, so they may hold any text.
        octets = entries
            .flatten()
            .map(|entry| size(directory.as_fd(), entry.file_name()))
            .fold(octets, u64::saturating_add);
    }
    octets
}

/// The size of a message: from its name (`,S=`), which costs no system call, or else from the file.
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
