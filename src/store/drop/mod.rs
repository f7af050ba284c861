//! The drop directory, `drop/` below the state directory: local programs leave messages there for the daemon, with
//! any user's rights and also while the daemon is down. Its mode is 1733: every user may create files there, only the
//! daemon's user may list them.
//!
//! A writer needs no special rights, so the reader trusts nothing in the directory but the owner of a file. What may
//! lie there:
//!
//! | | what | means | who cleans up |
//! |---|---|---|---|
//! | D1 | `.NAME` | being written, or left by a crash or a kill: nobody was promised anything | a sweep, after 36 hours |
//! | D2 | `NAME`, a whole file | handed over: the program that wrote it has exited with 0 | the daemon, once the message is synced in the queue or the Maildirs. A crash between the two makes a duplicate |
//! | D3 | a file with two names | a mistake or an attack: the content is somewhere else, too. For a moment also a message, on a system without `RENAME_NOREPLACE` | the daemon unlinks the name, when it is a minute old |
//! | D4 | a directory | the same | the daemon removes it if it is empty; else it stays |
//! | D5 | anything else: links, FIFOs, truncated, too large, or in another format | the same | the daemon moves it to `corrupt/`, where [`aside`] bounds what a user may have; what cannot be moved stays |
//!
//! The life of a dropped file, and what a crash after each step leaves:
//!
//! | step | done by | a crash after it leaves |
//! |---|---|---|
//! | create `.NAME`, mode 0600 | the program, in [`StagedDrop::create`] | D1 |
//! | write message and envelope, then the first line | the program | D1 |
//! | mode 0644, sync, rename to `NAME`, sync | the program, in [`StagedDrop::commit`] | D2 |
//! | open and lock `NAME` | the daemon, in [`DropDirectory::open_message`] | D2: the lock ends with the process |
//! | commit all copies in the queue and the Maildirs | the daemon's intake | D2: the message is taken a second time |
//! | unlink `NAME`, sync | the daemon, in [`DropDirectory::remove`] and [`DropDirectory::sync`] | nothing |
//!
//! The daemon opens a file by its name alone, relative to the directory's descriptor, and follows no link; the sender
//! is the owner of the file, as the kernel reports it. A file has exactly one name: otherwise a hard link to another
//! user's file would make the daemon read that file and mail it. The daemon is not root and must be able to read the
//! file, so the mode is 0644; a name of 128 random bits in a directory that nobody can list keeps it private.

mod aside;
mod format;

pub use aside::Aside;
pub use format::{DropEnvelope, ENVELOPE_MAX_OCTETS, RECIPIENTS_MAX, Sender};

use super::durable::{self, DirectoryAccess, Owner, StagedFile};
use super::{ErrorKind, StoreError, try_lock};
use crate::mail::date::WallTime;
use format::{HEADER_OCTETS, parse_header, print_header};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the directory below the state directory.
const NAME: &str = "drop";
/// A temporary file not written to for this long is swept, as in a Maildir.
const STALE_SECONDS: u64 = 36 * 3600;
/// A file with two names may be a message of a program that has not unlinked the first one yet, for this long.
const SETTLED_SECONDS: u64 = 60;
const DIRECTORY: &str = "it is a directory";
/// Why a file with several names is no message.
pub const SEVERAL_NAMES: &str = "it has several names";
/// How many octets of a message are read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// A message that is being written to the drop directory.
#[derive(Debug)]
pub struct StagedDrop {
    file: StagedFile,
    directory: Arc<OwnedFd>,
    path: PathBuf,
}

impl StagedDrop {
    /// Creates a file in the drop directory below `state`. `name` must be random, so that nobody can guess it.
    ///
    /// # Errors
    /// The drop directory does not exist, or cannot be written to; the error holds its path.
    pub fn create(state: &Path, name: &str) -> Result<Self, StoreError> {
        let path = state.join(NAME);
        let create = || {
            let state = durable::open_directory(state, DirectoryAccess::Search)?;
            let directory = Arc::new(durable::open_below(state, NAME.as_ref(), DirectoryAccess::Search)?);
            let mut file = StagedFile::create(&directory, format!(".{name}"), None)?;
            file.write(&[b' '; HEADER_OCTETS])?;
            Ok((file, directory))
        };
        let (file, directory) = create().map_err(|error: io::Error| StoreError::io(&path, error))?;
        Ok(Self { file, directory, path: path.join(name) })
    }

    /// Appends `octets`, in canonical form, to the message.
    ///
    /// # Errors
    /// `Full` or `Trouble`. The file cannot be committed afterwards.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.file.write(octets).map_err(|error| StoreError::io(&self.path, error))
    }

    /// The file, the offset of the message in it, and the message's size in octets so far; to pass the open file to
    /// another process.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn message(&mut self) -> Result<(&File, u64, u64), StoreError> {
        let octets = self.file.octets() - HEADER_OCTETS as u64;
        let file = self.file.contents().map_err(|error| StoreError::io(&self.path, error))?;
        Ok((file, HEADER_OCTETS as u64, octets))
    }

    /// Completes the file and makes it durable. The daemon sees it from then on.
    ///
    /// # Errors
    /// `Full` or `Trouble`. No file is left behind.
    pub fn commit(mut self, envelope: &DropEnvelope) -> Result<(), StoreError> {
        let text = envelope.print();
        let header = print_header(self.file.octets() - HEADER_OCTETS as u64, text.len());
        let file = &mut self.file;
        let written = file.write(text.as_bytes()).and_then(|()| file.write_start(header.as_bytes()));
        written.and_then(|()| file.publish()).map_err(|error| StoreError::io(&self.path, error))?;
        self.file.sync(self.directory, self.path)?.commit().map(drop)
    }
}

/// Something in the drop directory.
#[derive(Debug)]
pub struct Found {
    /// Its name.
    pub name: CString,
    /// Its owner, if it was looked at.
    pub uid: Option<u32>,
    /// Its state.
    pub key: FoundKey,
    /// Why it cannot be a message, as far as one look shows.
    pub bad: Option<&'static str>,
}

impl Found {
    /// Whether it may be a message of which a program is about to unlink the first name.
    #[must_use]
    pub fn may_be_unfinished(&self, now: WallTime) -> bool {
        let changed = u64::try_from(self.key.changed.0).unwrap_or_default();
        self.bad == Some(SEVERAL_NAMES) && now.seconds() < changed.saturating_add(SETTLED_SECONDS)
    }
}

/// A file in one state: its inode, and when that changed last, in seconds and nanoseconds since 1970; of a directory the
/// inode alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundKey {
    inode: u64,
    changed: (i64, i64),
}

impl FoundKey {
    fn of(stat: &Stat) -> Self {
        Self { inode: stat.st_ino as _, changed: (stat.st_ctime as _, stat.st_ctime_nsec as _) }
    }
}

/// The drop directory, as the daemon empties it.
#[derive(Debug)]
pub struct DropDirectory {
    path: PathBuf,
    drop: Arc<OwnedFd>,
    corrupt: OwnedFd,
}

/// The result of opening a file.
#[derive(Debug)]
pub enum Opened {
    /// A message; its file is locked.
    Message(Dropped),
    /// Another process has locked it, or it is gone.
    Busy,
    /// Not a message; the text says why.
    Bad(&'static str),
    /// A whole message that cannot be taken with the present configuration.
    TooLarge,
    /// The daemon may not read it, at present: the user can change the mode, and the administrator what restrains the
    /// daemon.
    Denied,
}

/// A dropped message.
#[derive(Debug)]
pub struct Dropped {
    /// The owner of the file.
    pub uid: u32,
    /// Sender, recipients and options.
    pub envelope: DropEnvelope,
    file: File,
    message_octets: u64,
}

impl DropDirectory {
    /// Opens the directory below the existing directory `state`. A missing directory is made, durably, and given to
    /// `owner`.
    ///
    /// # Errors
    /// The directory could not be made or opened; the error holds its path.
    pub fn open(state: &Path, owner: Option<Owner>) -> Result<Self, StoreError> {
        let path = state.join(NAME);
        let open = || {
            let state = durable::open_directory(state, DirectoryAccess::Read)?;
            let mode = Mode::RWXU | Mode::WGRP | Mode::XGRP | Mode::WOTH | Mode::XOTH | Mode::SVTX;
            let wanted = [(NAME, mode), ("corrupt", Mode::RWXU)];
            let [drop, corrupt] = durable::make_each_below(&state, wanted, owner)?;
            Ok((drop?, corrupt?))
        };
        let (drop, corrupt) = open().map_err(|error: io::Error| StoreError::io(&path, error))?;
        Ok(Self { path, drop: Arc::new(drop), corrupt })
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What has been handed over or lies in the directory otherwise, except temporary files. Costs one look at each, and
    /// none at a directory, where the file system tells it by the name.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn entries(&self) -> Result<impl Iterator<Item = Found>, StoreError> {
        let names = Dir::read_from(&self.drop).map_err(|errno| StoreError::io(&self.path, errno))?;
        let entries = names.map_while(Result::ok);
        let entries = entries.filter(|entry| !entry.file_name().to_bytes().starts_with(b"."));
        Ok(entries.filter_map(|entry| {
            let name = entry.file_name().to_owned();
            if entry.file_type() == FileType::Directory {
                // No message, whatever its inode was before: the time of change is not needed.
                let key = FoundKey { inode: entry.ino(), changed: (0, 0) };
                return Some(Found { name, uid: None, key, bad: Some(DIRECTORY) });
            }
            let stat = statat(&self.drop, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            Some(Found { name, uid: Some(stat.st_uid), key: FoundKey::of(&stat), bad: check(&stat).err() })
        }))
    }

    /// The owner of an entry that was not looked at.
    #[must_use]
    pub fn owner(&self, name: &CStr) -> Option<u32> {
        statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| stat.st_uid)
    }

    /// Opens and locks the file `name`, and parses its envelope. A message of more than `message_max` octets is
    /// `TooLarge`.
    ///
    /// # Errors
    /// An I/O error: the file cannot be read at present.
    pub fn open_message(&self, name: &CStr, message_max: u64) -> Result<Opened, StoreError> {
        let opened = self.try_open(name, message_max);
        match opened {
            // A link that replaced the file after the first look: the kernel was asked not to follow it.
            Err(Errno::LOOP) => Ok(Opened::Bad("it is a link")),
            Err(Errno::NOENT) => Ok(Opened::Busy),
            result => result.map_err(|errno| StoreError::io(self.path.join(display(name)), errno)),
        }
    }

    fn try_open(&self, name: &CStr, message_max: u64) -> Result<Opened, Errno> {
        // Looked at before it is opened: opening a device may have an effect.
        if let Err(reason) = check(&statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW)?) {
            return Ok(Opened::Bad(reason));
        }
        let file = match open_file(&self.drop, name) {
            Err(Errno::ACCESS | Errno::PERM) => return Ok(Opened::Denied),
            result => result?,
        };
        if !try_lock(&file)? {
            return Ok(Opened::Busy);
        }
        let stat = fstat(&file)?;
        if stat.st_nlink == 0 {
            // The previous holder of the lock has taken the message.
            return Ok(Opened::Busy);
        }
        if let Err(reason) = check(&stat) {
            return Ok(Opened::Bad(reason));
        }
        let parsed = match read_frame(&file, stat.st_size as u64, message_max) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("it is truncated"),
            result => result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
        };
        Ok(match parsed {
            Ok(None) => Opened::TooLarge,
            Ok(Some((message_octets, envelope))) => {
                Opened::Message(Dropped { uid: stat.st_uid, envelope, file, message_octets })
            }
            Err(reason) => Opened::Bad(reason),
        })
    }

    /// Unlinks a message whose copies are safe. Call [`Self::sync`] after one or more removals.
    ///
    /// # Errors
    /// An I/O error. A message that is already gone is not an error.
    pub fn remove(&self, name: &CStr) -> Result<(), StoreError> {
        match unlinkat(&self.drop, name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => Err(StoreError::io(self.path.join(display(name)), errno)),
            _ => Ok(()),
        }
    }

    /// Makes all removals so far durable.
    ///
    /// # Errors
    /// An I/O error; what was removed may reappear after a crash.
    pub fn sync(&self) -> Result<(), StoreError> {
        durable::sync_removals(&self.drop).map_err(|error| StoreError::io(&self.path, error))
    }

    /// Unlinks files that were begun and never handed over (D1), and returns how many.
    ///
    /// # Errors
    /// The directory cannot be read. A file that cannot be unlinked is left for the next sweep.
    pub fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        let names = Dir::read_from(&self.drop).map_err(|errno| StoreError::io(&self.path, errno))?;
        let mut swept = 0;
        for entry in names.flatten() {
            let name = entry.file_name();
            if !name.to_bytes().starts_with(b".") {
                continue;
            }
            let Ok(stat) = statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let age = now.seconds().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or_default());
            // This call cannot unlink a directory, so `.` and `..` need no exception.
            if age > STALE_SECONDS && unlinkat(&self.drop, name, AtFlags::empty()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

impl Dropped {
    /// The size of the message in octets.
    #[must_use]
    pub const fn message_octets(&self) -> u64 {
        self.message_octets
    }

    /// Passes the message to `take` in pieces. Returns false if the message is not in canonical form.
    ///
    /// # Errors
    /// The file cannot be read, or has become shorter.
    pub fn read(&self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let (mut offset, end) = (HEADER_OCTETS as u64, HEADER_OCTETS as u64 + self.message_octets);
        let mut piece = vec![0; PIECE_OCTETS];
        while offset < end {
            let room = usize::try_from(end - offset).map_or(PIECE_OCTETS, |left| left.min(PIECE_OCTETS));
            piece.truncate(room);
            self.file.read_exact_at(&mut piece, offset)?;
            // On the wire a bare CR could end a line, or the message, in the eyes of some receivers only (SMTP
            // smuggling).
            if piece.contains(&b'\r') {
                return Ok(false);
            }
            take(&piece);
            offset += room as u64;
        }
        Ok(true)
    }
}

/// Opens what any user may have put there since it was looked at.
fn open_file(directory: &OwnedFd, name: &CStr) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map(File::from)
}

fn check(stat: &Stat) -> Result<(), &'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink == 1 => Ok(()),
        FileType::RegularFile => Err(SEVERAL_NAMES),
        FileType::Symlink => Err("it is a link"),
        FileType::Directory => Err(DIRECTORY),
        _ => Err("it is not a regular file"),
    }
}

/// Reads what surrounds the message: its size and the envelope, or the reason why the file is not a dropped message.
/// `None`: the file has the size that it claims, but the message has more than `message_max` octets.
fn read_frame(
    file: &File,
    size: u64,
    message_max: u64,
) -> io::Result<Result<Option<(u64, DropEnvelope)>, &'static str>> {
    let mut header = [0; HEADER_OCTETS];
    file.read_exact_at(&mut header, 0)?;
    let Some((message, envelope)) = parse_header(&header) else {
        return Ok(Err("its first line is malformed"));
    };
    if envelope > ENVELOPE_MAX_OCTETS {
        return Ok(Err("its envelope is too large"));
    }
    let start = message.saturating_add(HEADER_OCTETS as u64);
    if start.saturating_add(envelope as u64) != size {
        return Ok(Err("its size differs from its first line"));
    }
    if message > message_max {
        return Ok(Ok(None));
    }
    let mut octets = vec![0; envelope];
    file.read_exact_at(&mut octets, start)?;
    Ok(DropEnvelope::parse(&octets)
        .map(|envelope| Some((message, envelope)))
        .ok_or("its envelope is malformed"))
}

fn display(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Why a message could not be handed over, in words for the user of the program.
#[must_use]
pub fn explain(error: &StoreError) -> &'static str {
    match (error.kind, error.source.kind()) {
        (ErrorKind::Full, _) => "the disk is full",
        (_, io::ErrorKind::NotFound) => "there is no drop directory; start \"pillarbox serve\" once, as root",
        (_, io::ErrorKind::PermissionDenied) => "it has to be a directory with mode 1733",
        _ => "try again later",
    }
}

#[cfg(test)]
mod tests;
