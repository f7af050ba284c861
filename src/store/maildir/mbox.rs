//! A regular file in place of a Maildir: its user's mbox, to which messages are appended. This module never creates
//! one.
//!
//! A message is staged in a scratch file (see [`super::Maildirs::stage`]). The commit copies it to the end of
//! the mbox, under the two locks of Debian Policy 11.6 that mail programs use: fcntl, then `NAME.lock`. This module
//! waits for neither, so that an agent for all users never hangs on one of them. Where the directory does not allow a
//! `NAME.lock`, or holds a directory of that name, fcntl is the only lock, as with Postfix and Dovecot.
//!
//! | what lies at the end of the mbox | means | who cleans up |
//! | --- | --- | --- |
//! | a whole message and an empty line | delivered, if the sync returned | the user |
//! | a part of a message, both locks held | a delivery is being written | the delivery: what cannot be written in full and synced is cut off again |
//! | a part of a message, no lock, or a `NAME.lock` whose process is gone | a crash: nobody was promised anything, and the message is delivered again | nobody: the next message begins on its own line after an empty one |
//!
//! Every call may fail. Three rules of pillarbox's own travel as errors whose numbers no call on a file returns:
//!
//! | number | rule |
//! | --- | --- |
//! | `EOWNERDEAD` | the mbox belongs to another user |
//! | `EMLINK` | the mbox has a second name, which could be that of any file of its user |
//! | `EAGAIN` | another program has locked the mbox |
//!
//! A `NAME.lock` is taken for left over if its process is gone, if it names this process, or by its age: after 5
//! minutes without a process number, after one hour with the number of a process that lives.

use super::errand::{Agent, Errand};
use super::turn::Turn;
use super::{LOCK_PAUSE, MaildirPath};
use crate::mail::date::WallTime;
use crate::mail::mbox::Quoter;
use crate::store::durable::{self, Mover, Owner};
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, fcntl_lock, fstat, linkat, openat, statat, unlinkat,
};
use rustix::io::{Errno, write};
use rustix::process::{Pid, getpid, test_kill_process};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// The mbox belongs to another user.
const FOREIGN: Errno = Errno::OWNERDEAD;
/// The mbox has a second name, which could be that of any file of its user.
const LINKED: Errno = Errno::MLINK;
/// Another program has locked the mbox.
const LOCKED: Errno = Errno::AGAIN;

/// After this time a `NAME.lock` without a process number is left over, as for liblockfile.
const LOCK_MAX_AGE_SECONDS: u64 = 5 * 60;
/// The same for one that names a live process: after a boot that may be a different process.
const HELD_LOCK_MAX_AGE_SECONDS: u64 = 60 * 60;
/// A larger file with such a name is not a lock: it may be the mbox of a user called `NAME.lock`.
const LOCK_MAX_OCTETS: u64 = 256;
/// How many octets of a message are copied at once.
const PIECE_OCTETS: usize = 64 * 1024;

/// The mode bits that the owner of an mbox needs.
const OWNER_READS_AND_WRITES: u32 = 0o600;

/// Checks a file as the mbox of a user with one of these uids. The user opens it with their own rights; with
/// `by_mode` this process has more rights, so the mode must allow the owner to read and write.
///
/// # Errors
/// One of the rules above, `ENOTDIR` if it is not a regular file, or `EACCES`.
fn judge(metadata: &Metadata, uids: [u32; 2], by_mode: bool) -> Result<(), Errno> {
    match metadata {
        _ if !metadata.is_file() => Err(Errno::NOTDIR),
        _ if !uids.contains(&metadata.uid()) => Err(FOREIGN),
        _ if metadata.nlink() > 1 => Err(LINKED),
        _ if by_mode && metadata.mode() & OWNER_READS_AND_WRITES != OWNER_READS_AND_WRITES => {
            Err(Errno::ACCESS)
        }
        _ => Ok(()),
    }
}

/// Turns the errors of our own rules into words; all others stay as the system reports them.
pub(super) fn explain(error: io::Error) -> io::Error {
    let text = match Errno::from_io_error(&error) {
        Some(FOREIGN) => "the mbox belongs to another user",
        Some(LINKED) => "the mbox has a second name (a hard link)",
        Some(LOCKED) => "another program has locked the mbox",
        _ => return error,
    };
    io::Error::other(text)
}

/// The size of the mbox in octets; `None` if there is no regular file.
pub(super) fn size(path: &MaildirPath) -> Option<u64> {
    let (parent, name) = path.open_parent().ok()?;
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file.then(|| u64::try_from(stat.st_size).unwrap_or(0))
}

/// Why messages cannot be appended to the mbox, in words; `None` if they can, or if there is no mbox. They are
/// appended with the rights of the user with this uid, or with those of this process.
#[must_use]
pub fn problem(path: &MaildirPath, uid: Option<u32>) -> Option<io::Error> {
    size(path)?;
    let found = match uid {
        Some(uid) => {
            std::fs::symlink_metadata(path.path()).and_then(|metadata| Ok(judge(&metadata, [uid; 2], true)?))
        }
        None => look(path, None),
    };
    found.err().map(explain)
}

/// Opens the mbox to check that messages can be appended.
///
/// # Errors
/// Messages cannot be appended.
pub(super) fn look(path: &MaildirPath, owner: Option<Owner>) -> io::Result<()> {
    Mbox::open(path, owner).map(|_| ())
}

/// Appends a message, durably, unless another program has locked the mbox. An empty message only tries the locks.
///
/// # Errors
/// The mbox is locked, or an I/O error. As far as possible the mbox is as it was before.
pub(super) fn append(
    path: &MaildirPath,
    owner: Option<Owner>,
    from_line: &str,
    message: &File,
    now: WallTime,
) -> io::Result<()> {
    if from_line.contains(char::is_control) || !message.metadata()?.is_file() {
        return Err(Errno::INVAL.into());
    }
    let mbox = Mbox::open(path, owner)?;
    match fcntl_lock(&mbox.file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::ACCESS) => return Err(LOCKED.into()),
        result => result?,
    }
    let _lock = DotLock::take(&mbox.parent, mbox.name, now)?;
    // A program that rewrites an mbox may have put another file in its place before it released the lock.
    let there = statat(&mbox.parent, mbox.name, AtFlags::SYMLINK_NOFOLLOW)?;
    let opened = fstat(&mbox.file)?;
    if (there.st_dev, there.st_ino) != (opened.st_dev, opened.st_ino) {
        return Err(LOCKED.into());
    }
    if message.metadata()?.len() == 0 {
        return Ok(());
    }
    let length = mbox.file.metadata()?.len();
    let result = mbox.write(length, from_line, message).and_then(|()| durable::sync_data(&mbox.file));
    if result.is_err() {
        // If this fails, a message without an end stays, and the next one begins after an empty line.
        let _ = mbox.file.set_len(length).and_then(|()| durable::sync_data(&mbox.file));
    }
    result
}

/// All that it takes to append a message, by this process or by an agent.
#[derive(Debug)]
pub(super) struct Appender {
    pub path: MaildirPath,
    pub owner: Option<Owner>,
    pub agent: Option<Arc<dyn Agent>>,
    /// How often a locked mbox is tried.
    pub attempts: u32,
    pub from_line: String,
    /// When the delivery began.
    pub now: WallTime,
}

/// A message that is appended on commit.
#[derive(Debug)]
pub(super) struct Staged {
    pub file: File,
    pub appender: Box<Appender>,
}

impl Staged {
    fn append(&self) -> io::Result<()> {
        let Appender { path, owner, agent, from_line, now, .. } = &*self.appender;
        match agent {
            Some(agent) => {
                let errand = Errand::Append(from_line, &self.file);
                agent.go(&path.whose, errand).map(|_| ())
            }
            None => append(path, *owner, from_line, &self.file, *now),
        }
    }
}

impl Mover for Staged {
    fn commit(&self, _: &str, _: &OsStr) -> io::Result<()> {
        let mut attempts = 1;
        loop {
            match self.append() {
                Err(error) if is_locked(&error) && attempts < self.appender.attempts => {
                    attempts += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                result => return result.map_err(explain),
            }
        }
    }

    fn discard(&self, _: &str) {}
}

fn is_locked(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(LOCKED)
}

/// An open mbox.
struct Mbox<'a> {
    file: File,
    parent: OwnedFd,
    name: &'a str,
    /// The fcntl lock belongs to the process, and closing any descriptor of the file releases it. Dropped last.
    _turn: Turn,
}

impl<'a> Mbox<'a> {
    /// With an `owner`, this process has more rights than the owner and must not use them.
    fn open(path: &'a MaildirPath, owner: Option<Owner>) -> io::Result<Self> {
        let turn = Turn::take(path.path());
        let (parent, name) = path.open_parent()?;
        // A device must not be opened at all.
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::NOTDIR.into());
        }
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&parent, name, flags, Mode::empty())?);
        judge(&file.metadata()?, uids(path, owner), owner.is_some())?;
        Ok(Self { file, parent, name, _turn: turn })
    }

    fn write(&self, length: u64, from_line: &str, message: &File) -> io::Result<()> {
        let mut output = self.gap(length)?.to_vec();
        output.extend_from_slice(from_line.as_bytes());
        output.push(b'\n');
        let (mut quoter, mut piece, mut offset) = (Quoter::default(), vec![0; PIECE_OCTETS], 0);
        loop {
            let read = message.read_at(&mut piece, offset)?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            quoter.feed(piece.get(..read).unwrap_or_default(), &mut output);
            if output.len() >= PIECE_OCTETS {
                (&self.file).write_all(&output)?;
                output.clear();
            }
        }
        quoter.finish(&mut output);
        (&self.file).write_all(&output)
    }

    /// The line ends that are missing for an empty line after the last message.
    fn gap(&self, length: u64) -> io::Result<&'static [u8]> {
        let mut end = [b'\n'; 2];
        let known = length.min(2);
        let tail = end.get_mut(2 - usize::try_from(known).unwrap_or(0)..).unwrap_or_default();
        self.file.read_exact_at(tail, length - known)?;
        Ok(match end {
            [b'\n', b'\n'] => b"",
            [_, b'\n'] => b"\n",
            _ => b"\n\n",
        })
    }
}

/// Which users may own the file. A process without extra rights may also write to its own file.
fn uids(path: &MaildirPath, owner: Option<Owner>) -> [u32; 2] {
    let own = rustix::process::geteuid().as_raw();
    match (owner, path.owner) {
        (Some(owner), _) => [owner.uid; 2],
        (None, Some(user)) => [user.uid, own],
        (None, None) => [own; 2],
    }
}

/// `NAME.lock`, unlinked on drop.
struct DotLock<'a> {
    parent: &'a OwnedFd,
    name: String,
}

impl<'a> DotLock<'a> {
    /// Takes the lock; `Ok(None)` where no lock file can be made.
    fn take(parent: &'a OwnedFd, name: &str, now: WallTime) -> io::Result<Option<Self>> {
        let name = format!("{name}.lock");
        let make = || make_lock(parent, &name);
        let made = match make() {
            // All who take the fcntl lock first come here one at a time.
            Err(Errno::EXIST) if is_left_over(parent, &name, now) => {
                unlinkat(parent, &*name, AtFlags::empty()).and_then(|()| make())
            }
            result => result,
        };
        match made {
            Ok(()) => Ok(Some(Self { parent, name })),
            // Not a lock but perhaps the Maildir of a user with such a name, which would block this mbox for ever.
            Err(Errno::EXIST) if type_of(parent, &name) == Some(FileType::Directory) => Ok(None),
            Err(Errno::EXIST) => Err(LOCKED.into()),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for DotLock<'_> {
    fn drop(&mut self) {
        // If this fails, the lock counts as left over once this process is gone.
        let _ = unlinkat(self.parent, &*self.name, AtFlags::empty());
    }
}

/// Creates the lock file with the number of this process in it: other programs check whether that process lives. The
/// file gets its name last: if this process were killed before it wrote the number, a lock without a number would
/// block mail for minutes.
fn make_lock(parent: &OwnedFd, name: &str) -> Result<(), Errno> {
    let number = format!("{}\n", getpid().as_raw_nonzero());
    let open = |path: &str, flags| {
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
        openat(parent, path, flags | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, mode)
    };
    let nameless = open(".", OFlags::TMPFILE).and_then(|file| {
        write(&file, number.as_bytes())?;
        let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(CWD, descriptor, parent, name, AtFlags::SYMLINK_FOLLOW)
    });
    match nameless {
        Ok(()) | Err(Errno::EXIST) => nameless,
        // The file system has no unnamed files, or there is no /proc; any other error occurs again here.
        Err(_) => {
            let file = open(name, OFlags::CREATE | OFlags::EXCL)?;
            write(&file, number.as_bytes()).map(|_| ()).inspect_err(|_| {
                let _ = unlinkat(parent, name, AtFlags::empty());
            })
        }
    }
}

fn type_of(parent: &OwnedFd, name: &str) -> Option<FileType> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

/// Whether the process that made this lock no longer holds it.
fn is_left_over(parent: &OwnedFd, name: &str, now: WallTime) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let octets = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || octets > LOCK_MAX_OCTETS {
        return false;
    }
    let mut text = String::new();
    if let Ok(file) = openat(parent, name, flags, Mode::empty()) {
        let _ = File::from(file).take(LOCK_MAX_OCTETS).read_to_string(&mut text);
    }
    let age = now.seconds().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or(0));
    let number = text.trim().parse::<u32>().ok().and_then(|number| i32::try_from(number).ok());
    match number.and_then(Pid::from_raw) {
        // An earlier process with our number: we hold the fcntl lock.
        Some(process) if process == getpid() => true,
        Some(process) if test_kill_process(process) == Err(Errno::SRCH) => true,
        Some(_) => age > HELD_LOCK_MAX_AGE_SECONDS,
        None => age > LOCK_MAX_AGE_SECONDS,
    }
}

#[cfg(test)]
mod tests;
