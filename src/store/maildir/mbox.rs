//! A regular file in the place of a Maildir: its user's mbox, to which messages are appended. Never makes one.
//!
//! A message is staged in a file without a name (see [`super::Maildirs::stage`]) and copied to the end of the mbox at its
//! commit, under the two locks of Debian Policy 11.6 that mail programs know: fcntl, then `NAME.lock`. Neither is waited for
//! here, so that an agent for all users never hangs on one of them. Where the directory lets this process make no
//! `NAME.lock`, or a directory has that name, fcntl alone must do, as with Postfix and Dovecot.
//!
//! | what lies at the end of the mbox | what it means | who cleans it up |
//! | --- | --- | --- |
//! | a whole message and an empty line | delivered, if the sync has come back | the user |
//! | a part of a message, both locks held | somebody is at work on it | they do: what can't be written in full and synced is cut off again |
//! | a part of a message, no lock, or a `NAME.lock` whose process is gone | a crash: nobody was promised anything, and the message comes again | nobody: the next message begins on a line of its own after an empty one |
//!
//! What may fail: every call; the rules of ours below, which are errors with numbers that no call on a file gives.

use super::errand::{Agent, Errand};
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The mbox belongs to somebody else.
const FOREIGN: Errno = Errno::OWNERDEAD;
/// It has another name, which could be that of any file of its user.
const LINKED: Errno = Errno::MLINK;
/// Another program has locked it.
const LOCKED: Errno = Errno::AGAIN;

/// A `NAME.lock` that names no process is left over after so long, as for liblockfile.
const LOCK_MAX_AGE_SECONDS: u64 = 5 * 60;
/// One that names a process which lives: after a boot that may be another one.
const HELD_LOCK_MAX_AGE_SECONDS: u64 = 60 * 60;
/// A larger file with such a name is no lock: it may be the mbox of a user called `NAME.lock`.
const LOCK_MAX_OCTETS: u64 = 256;
/// How much of a message is copied at once.
const PIECE_OCTETS: usize = 64 * 1024;

/// What the owner of an mbox may do with it: read and write.
const OWNER_READS_AND_WRITES: u32 = 0o600;

/// What is wrong with a file as an mbox of somebody with one of these uids, who opens it by their own rights or, with
/// `by_mode`, has to have them by its mode.
///
/// # Errors
/// One of the rules above, or `EACCES`.
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

/// What to tell of an error: the rules of ours in words, all else as the system says it.
pub(super) fn explain(error: io::Error) -> io::Error {
    let text = match Errno::from_io_error(&error) {
        Some(FOREIGN) => "the mbox belongs to another user",
        Some(LINKED) => "the mbox has a second name (a hard link)",
        Some(LOCKED) => "another program has locked the mbox",
        _ => return error,
    };
    io::Error::other(text)
}

/// The size of the mbox in octets; `None` if no regular file is there.
pub(super) fn size(path: &MaildirPath) -> Option<u64> {
    let (parent, name) = path.open_parent().ok()?;
    let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    is_file.then(|| u64::try_from(stat.st_size).unwrap_or(0))
}

/// What keeps messages from being appended to the mbox, for people; `None`: nothing, or there is no mbox. They will be
/// appended for the user with this uid, or by this process with its own rights.
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

/// Opens the mbox to see whether messages can be appended.
///
/// # Errors
/// They can't.
pub(super) fn look(path: &MaildirPath, owner: Option<Owner>) -> io::Result<()> {
    Mbox::open(path, owner).map(|_| ())
}

/// Appends a message, durably, if nobody else has locked the mbox. An empty message only tries the locks.
///
/// # Errors
/// The mbox is as it was before, as far as that could be done.
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
    // Programs that rewrite an mbox may have put another file in its place before they let go of it.
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
        // What can't be cut off stays a message that has no end, and the next one begins after an empty line.
        let _ = mbox.file.set_len(length).and_then(|()| durable::sync_data(&mbox.file));
    }
    result
}

/// What it takes to append a message, by this process or an agent.
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

/// A message that its commit appends.
#[derive(Debug)]
pub(super) struct Staged {
    pub file: File,
    pub appender: Box<Appender>,
}

impl Staged {
    fn append(&self) -> io::Result<()> {
        let Appender { path, owner, agent, from_line, now, .. } = &*self.appender;
        match agent {
            Some(agent) => agent.go(&path.whose, Errand::Append(from_line, &self.file)).map(|_| ()),
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

/// An mbox that is open.
struct Mbox<'a> {
    file: File,
    parent: OwnedFd,
    name: &'a str,
    /// The fcntl lock is the process': it goes when any descriptor of the file is closed, so there is one at a time.
    _only: MutexGuard<'static, ()>,
}

impl<'a> Mbox<'a> {
    /// With an `owner`, this process has more rights than they have, and must not use them.
    fn open(path: &'a MaildirPath, owner: Option<Owner>) -> io::Result<Self> {
        static ONE: Mutex<()> = Mutex::new(());
        let only = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (parent, name) = path.open_parent()?;
        // A device must not even be opened.
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::NOTDIR.into());
        }
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&parent, name, flags, Mode::empty())?);
        judge(&file.metadata()?, uids(path, owner), owner.is_some())?;
        Ok(Self { file, parent, name, _only: only })
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

    /// What is missing after the last message for an empty line.
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

/// Whose the file may be. A process without more rights than its own may write to what is its own, too.
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
    /// `None`: none can be made here.
    fn take(parent: &'a OwnedFd, name: &str, now: WallTime) -> io::Result<Option<Self>> {
        let name = format!("{name}.lock");
        let make = || make_lock(parent, &name);
        let made = match make() {
            // Of those who take the fcntl lock first, only one comes here at a time.
            Err(Errno::EXIST) if is_left_over(parent, &name, now) => {
                unlinkat(parent, &*name, AtFlags::empty()).and_then(|()| make())
            }
            result => result,
        };
        match made {
            Ok(()) => Ok(Some(Self { parent, name })),
            // No lock, but perhaps the Maildir of a user with such a name, which would hold this mbox up for ever.
            Err(Errno::EXIST) if type_of(parent, &name) == Some(FileType::Directory) => Ok(None),
            Err(Errno::EXIST) => Err(LOCKED.into()),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Drop for DotLock<'_> {
    fn drop(&mut self) {
        // What can't be unlinked is left over once this process is gone.
        let _ = unlinkat(self.parent, &*self.name, AtFlags::empty());
    }
}

/// Makes the file, with the number of this process in it: others look whether that lives. It gets its name last, for one
/// without a number would hold up the mail for minutes if this process were killed before it has written that.
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
        // The file system knows no such files, or there is no /proc; else the same goes wrong again.
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

/// Whether nobody holds the lock of that name any more.
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
        // Whoever had that number before this process: the fcntl lock is ours.
        Some(process) if process == getpid() => true,
        Some(process) if test_kill_process(process) == Err(Errno::SRCH) => true,
        Some(_) => age > HELD_LOCK_MAX_AGE_SECONDS,
        None => age > LOCK_MAX_AGE_SECONDS,
    }
}

#[cfg(test)]
mod tests;
