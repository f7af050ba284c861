//! What is done in a Maildir by its path, in one step each: by this process, or by an [`Agent`], a process that may
//! write where this one may not.
//!
//! No step keeps anything for the next one, so a caller cannot make the agent hold files open. Each step fails with
//! the error of the operating system.
//!
//! A delivery through an agent, step by step:
//!
//! | caller | agent | left by a crash of either here |
//! | --- | --- | --- |
//! | writes the message to a file without a name | – | nothing |
//! | [`Errand::Store`] | makes `tmp/NAME`, copies the message and syncs it | a part of a message in `tmp`, for the sweep |
//! | [`Errand::Commit`] | renames it to `new/NAME,S=…` and syncs `new`, once for all who commit there at the time | the delivered message |
//! | [`Errand::Discard`] instead | unlinks it | nothing |
//!
//! The caller gets no descriptor of a file in a mailbox, so it can neither read one nor change a delivered message, and
//! a file system that hangs holds only the agent's thread. The price is that the message is copied once more; it is
//! synced once, as without an agent.

use super::name::{is_composed, with_size};
use super::turn::Turn;
use super::{MaildirPath, TMP_MAX_AGE_SECONDS, mbox, measure};
use crate::mail::date::WallTime;
use crate::store::durable::{DirectoryAccess, Mover, Owner, StagedFile, SyncedFile, open_below};
use rustix::fs::{AtFlags, Dir, FileType, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::{fmt, io};

/// One step. [`super::Maildirs`] makes the names in it.
#[derive(Debug, Clone, Copy)]
pub enum Errand<'a> {
    /// Makes the Maildir if it is missing, copies the message to a new file in `tmp`, and syncs it. For an mbox: only
    /// checks that it can be written, and reports [`IS_MBOX`].
    Store(&'a str, &'a File),
    /// Moves a file that has been stored from `tmp` to the second name in `new`, durably.
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

/// The result of [`Errand::Store`] for an mbox, and for a Maildir.
pub const IS_MBOX: u64 = 1;
const IS_STORED: u64 = 0;

/// Whose Maildir it is: the user's name and the domain, as [`MaildirPath::expand`] takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaildirUser {
    /// The user.
    pub user: String,
    /// The domain of the address.
    pub domain: String,
}

/// Another process that does steps in Maildirs that this process may not write to.
pub trait Agent: Send + Sync {
    /// Does one step, and returns a count: see [`perform`].
    ///
    /// # Errors
    /// As for [`perform`]; or the agent does not answer, or refuses the step.
    fn go(&self, whose: &MaildirUser, errand: Errand<'_>) -> io::Result<u64>;
    /// The number of users whose mailbox does not answer at present.
    fn overdue(&self) -> usize;
    /// Reports that the configuration has changed: Maildirs may be elsewhere. Returns whether the agent has read it; why not is
    /// logged.
    fn reload(&self) -> bool;
}

/// Shows no fields: the table of functions of a `dyn` trait would bring what is derived for them into the binary.
impl fmt::Debug for dyn Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Agent")
    }
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

/// Does `errand` in the Maildir at `path`, and gives what it makes to `owner`. `make` makes a Maildir that is missing, or
/// a part of one. Returns the number of files or octets, or whether it is an mbox; 0 where nothing is counted.
///
/// # Errors
/// An I/O error; `EINVAL` for a name that [`super::Maildirs`] does not make, or that has another size than the file.
pub fn perform(
    path: &MaildirPath,
    owner: Option<Owner>,
    errand: Errand<'_>,
    now: WallTime,
    make: &dyn Fn() -> io::Result<()>,
) -> io::Result<u64> {
    let checked = |name: &str| if is_composed(name) { Ok(()) } else { Err(Errno::INVAL) };
    match errand {
        Errand::Store(name, message) => {
            checked(name)?;
            let created = match create(path, name, owner) {
                // Not made yet, or removed between two calls.
                Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
                    make()?;
                    create(path, name, owner)
                }
                // Perhaps another thread is making it: root makes the place, and gives it to the owner then.
                Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => {
                    drop(Turn::take(path.path()));
                    create(path, name, owner)
                }
                Err(error) if mbox::size(path).is_some() && is_no_directory(&error) => {
                    return mbox::look(path, owner).map(|()| IS_MBOX);
                }
                result => result,
            };
            store(created?.0, message)
        }
        Errand::Commit(name, to) => {
            checked(name)?;
            commit(path, name, to).map(|()| 0)
        }
        Errand::Discard(name) => {
            checked(name)?;
            let tmp =
                open_below(path.open(DirectoryAccess::Search)?, "tmp".as_ref(), DirectoryAccess::Search)?;
            unlinkat(tmp, name, AtFlags::empty())?;
            Ok(0)
        }
        Errand::Append(from_line, message) => mbox::append(path, owner, from_line, message, now).map(|()| 0),
        Errand::Sweep => counted(sweep(path, now).or_else(|error| mbox::size(path).map(|_| 0).ok_or(error))),
        Errand::Measure => counted(measure::measure(path).or_else(|error| mbox::size(path).ok_or(error))),
    }
}

/// Copies the message to the new file, and syncs it.
fn store(mut file: StagedFile, message: &File) -> io::Result<u64> {
    let metadata = message.metadata()?;
    if !metadata.is_file() {
        return Err(Errno::INVAL.into());
    }
    file.copy_from(message, 0, metadata.len())?;
    file.sync(None::<Arc<OwnedFd>>, PathBuf::new()).map_err(|error| error.source)?.leave();
    Ok(IS_STORED)
}

/// Moves the file to `new`. Its final name must tell its size, by which the quota is measured.
fn commit(path: &MaildirPath, name: &str, to: &str) -> io::Result<()> {
    let (tmp, new) = open_both(path)?;
    let stat = statat(&tmp, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let octets = u64::try_from(stat.st_size).unwrap_or(0);
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || to != with_size(name, octets) {
        return Err(Errno::INVAL.into());
    }
    let before = measure::before_commit(path, &new);
    let final_path = path.path().join("new").join(to);
    let synced = SyncedFile::adopt(&tmp, name.to_owned(), Arc::clone(&new), final_path);
    synced.commit().map_err(|error| error.source)?;
    measure::committed(path, &new, before, octets);
    Ok(())
}

/// Whether the error says that the path is not a directory: it may be an mbox.
pub(super) fn is_no_directory(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOTDIR)
}

/// Counts 0 for a Maildir that does not exist yet.
fn counted(result: io::Result<u64>) -> io::Result<u64> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        result => result,
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
