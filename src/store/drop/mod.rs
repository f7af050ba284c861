//! The drop directory, `drop/` of the state: where programs leave messages for the daemon, whoever runs them and
//! whether it is up or not. Mode 1733: everybody may put files there, nobody but the daemon's user may list them.
//!
//! Whoever writes needs no rights for that, so whoever reads believes nothing. What may lie there:
//!
//! | | what | means | who cleans up |
//! |---|---|---|---|
//! | D1 | `.NAME` | being written, or a crash or a kill left it: nobody was promised anything | a sweep, after 36 hours |
//! | D2 | `NAME`, a whole file | handed over: its owner's program has exited with 0 | the daemon, once the message is in queue or Maildirs, synced. A crash between the two: a duplicate |
//! | D3 | anything else: links, FIFOs, directories, files with two names, cut short, too large, or not in our form | somebody plays | the daemon moves it to `corrupt/`, and logs it; what can't be moved stays, and is logged once |
//!
//! A file is opened by its name alone, below a descriptor, and no link is followed; who sent it is who owns it, as the
//! kernel says. A file of somebody else with a second name here would be an order to read it: so one name is all that a
//! file may have. It has to be readable for the daemon, which is not root: its mode is 0644, and its name of 128 random
//! bits in a directory that nobody can list keeps it private.

mod format;

pub use format::{DropEnvelope, ENVELOPE_MAX_OCTETS, RECIPIENTS_MAX, Sender};

use super::durable::{self, Access, Owner, StagedFile};
use super::{ErrorKind, StoreError};
use crate::mail::date::WallTime;
use format::{HEADER_OCTETS, parse_header, print_header};
use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::fs::{flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The directory below the state.
const NAME: &str = "drop";
/// What nobody has written to for so long is swept, as in a Maildir.
const STALE_SECONDS: u64 = 36 * 3600;
/// How many names are tried in `corrupt/`.
const CORRUPT_NAMES: usize = 100;
/// How much of a message is read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// A message on its way into the drop directory.
#[derive(Debug)]
pub struct StagedDrop {
    file: StagedFile,
    directory: Arc<OwnedFd>,
    path: PathBuf,
}

impl StagedDrop {
    /// Begins a file below `state`. `name` is to be a random one that nobody can guess.
    ///
    /// # Errors
    /// With the path: there is no drop directory, or it can't be written to.
    pub fn create(state: &Path, name: &str) -> Result<Self, StoreError> {
        let path = state.join(NAME);
        let create = || {
            let state = durable::open_directory(state, Access::Search)?;
            let directory = Arc::new(durable::open_below(state, NAME.as_ref(), Access::Search)?);
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
    /// `Full` or `Trouble`; the file can't be committed then.
    pub fn write(&mut self, octets: &[u8]) -> Result<(), StoreError> {
        self.file.write(octets).map_err(|error| StoreError::io(&self.path, error))
    }

    /// The file, where the message begins in it, and its octets so far; for handing it to somebody who takes it at once.
    ///
    /// # Errors
    /// As for [`Self::write`].
    pub fn message(&mut self) -> Result<(&File, u64, u64), StoreError> {
        let octets = self.file.octets() - HEADER_OCTETS as u64;
        let file = self.file.contents().map_err(|error| StoreError::io(&self.path, error))?;
        Ok((file, HEADER_OCTETS as u64, octets))
    }

    /// Completes the file and makes it durable: the daemon sees it from here on.
    ///
    /// # Errors
    /// `Full` or `Trouble`; nothing is left behind.
    pub fn commit(mut self, envelope: &DropEnvelope) -> Result<(), StoreError> {
        let text = envelope.print();
        let header = print_header(self.file.octets() - HEADER_OCTETS as u64, text.len());
        let file = &mut self.file;
        let written = file.write(text.as_bytes()).and_then(|()| file.write_start(header.as_bytes()));
        written.and_then(|()| file.publish()).map_err(|error| StoreError::io(&self.path, error))?;
        self.file.sync(self.directory, self.path)?.commit().map(drop)
    }
}

/// The drop directory, for whoever empties it.
#[derive(Debug)]
pub struct DropDirectory {
    path: PathBuf,
    drop: OwnedFd,
    corrupt: OwnedFd,
}

/// What came of opening a file.
#[derive(Debug)]
pub enum Opened {
    /// A message, locked.
    Message(Dropped),
    /// Somebody else is at work on it, or it is gone.
    Busy,
    /// Not a message, for this reason.
    Bad(&'static str),
}

/// A dropped message.
#[derive(Debug)]
pub struct Dropped {
    /// Who owns the file.
    pub uid: u32,
    /// Whom it is for.
    pub envelope: DropEnvelope,
    file: File,
    message_octets: u64,
}

impl DropDirectory {
    /// Opens the directory below `state`, which is there. What is missing is made, durably, and given to `owner`.
    ///
    /// # Errors
    /// With the path that could not be made or opened.
    pub fn open(state: &Path, owner: Option<Owner>) -> Result<Self, StoreError> {
        let path = state.join(NAME);
        let open = || {
            let state = durable::open_directory(state, Access::Read)?;
            let mode = Mode::RWXU | Mode::WGRP | Mode::XGRP | Mode::WOTH | Mode::XOTH | Mode::SVTX;
            let drop = durable::make_below(&state, NAME.as_ref(), mode, owner)?;
            let corrupt = durable::make_below(&state, "corrupt".as_ref(), Mode::RWXU, owner)?;
            Ok((drop, corrupt))
        };
        let (drop, corrupt) = open().map_err(|error: io::Error| StoreError::io(&path, error))?;
        Ok(Self { path, drop, corrupt })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of what has been handed over.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn names(&self) -> Result<impl Iterator<Item = CString>, StoreError> {
        let names = Dir::read_from(&self.drop).map_err(|errno| StoreError::io(&self.path, errno))?;
        let names = names.map_while(Result::ok).map(|entry| entry.file_name().to_owned());
        Ok(names.filter(|name| !name.as_bytes().starts_with(b".")))
    }

    /// Opens and locks what has this name, if it is a message with at most `message_max` octets.
    ///
    /// # Errors
    /// It can't be read now.
    pub fn open_message(&self, name: &CStr, message_max: u64) -> Result<Opened, StoreError> {
        let opened = self.try_open(name, message_max);
        match opened {
            // A link where the kernel was asked to follow none; it came after the first look.
            Err(Errno::LOOP) => Ok(Opened::Bad("it is a link")),
            Err(Errno::NOENT) => Ok(Opened::Busy),
            result => result.map_err(|errno| StoreError::io(self.path.join(display(name)), errno)),
        }
    }

    fn try_open(&self, name: &CStr, message_max: u64) -> Result<Opened, Errno> {
        // First without opening it: a device may do something when it is opened.
        if let Err(reason) = check(&statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW)?) {
            return Ok(Opened::Bad(reason));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.drop, name, flags, Mode::empty()) {
            Err(Errno::ACCESS | Errno::PERM) => return Ok(Opened::Bad("its owner lets nobody read it")),
            result => File::from(result?),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(Opened::Busy),
            result => result?,
        }
        let stat = fstat(&file)?;
        if stat.st_nlink == 0 {
            // Whoever held the lock before has taken it.
            return Ok(Opened::Busy);
        }
        if let Err(reason) = check(&stat) {
            return Ok(Opened::Bad(reason));
        }
        let parsed = match read_frame(&file, stat.st_size as u64, message_max) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err("it is cut short"),
            result => result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
        };
        Ok(match parsed {
            Ok((message_octets, envelope)) => {
                Opened::Message(Dropped { uid: stat.st_uid, envelope, file, message_octets })
            }
            Err(reason) => Opened::Bad(reason),
        })
    }

    /// Takes a message out, whose copies are safe now. After one or more of them comes [`Self::sync`].
    ///
    /// # Errors
    /// Whatever the system says; one that is gone already is no error.
    pub fn remove(&self, name: &CStr) -> Result<(), StoreError> {
        match unlinkat(&self.drop, name, AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => Err(StoreError::io(self.path.join(display(name)), errno)),
            _ => Ok(()),
        }
    }

    /// Makes the removals so far durable.
    ///
    /// # Errors
    /// Whatever the system says; what was removed may come back then.
    pub fn sync(&self) -> Result<(), StoreError> {
        durable::sync_directory(&self.drop).map_err(|error| StoreError::io(&self.path, error))
    }

    /// Moves what is no message to `corrupt/`, and gives its name there.
    ///
    /// # Errors
    /// Whatever the system says, such as for somebody's directory; it stays where it is then.
    pub fn set_aside(&self, name: &CStr) -> Result<String, StoreError> {
        let set_aside = || {
            let inode = statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW)?.st_ino;
            let mut number = 0;
            loop {
                let to = format!("drop-{inode}.{number}");
                match durable::move_file(self.drop.as_fd(), name, self.corrupt.as_fd(), &to) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < CORRUPT_NAMES => {
                        number += 1;
                    }
                    result => return result.map(|()| to),
                }
            }
        };
        set_aside().map_err(|error: io::Error| StoreError::io(self.path.join(display(name)), error))
    }

    /// Unlinks what was begun and never handed over (D1), and tells how many files that were.
    ///
    /// # Errors
    /// The directory can't be read; what can't be unlinked is left for the next sweep.
    pub fn sweep(&self, now: WallTime) -> Result<usize, StoreError> {
        let names = Dir::read_from(&self.drop).map_err(|errno| StoreError::io(&self.path, errno))?;
        let mut swept = 0;
        for entry in names.flatten() {
            let name = entry.file_name();
            let Ok(stat) = statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let age = now.seconds().saturating_sub(u64::try_from(stat.st_mtime).unwrap_or_default());
            let is_stale = name.to_bytes().starts_with(b".") && age > STALE_SECONDS;
            // A directory can't be unlinked like this, so `.` and `..` need no care.
            if is_stale && unlinkat(&self.drop, name, AtFlags::empty()).is_ok() {
                swept += 1;
            }
        }
        Ok(swept)
    }
}

impl Dropped {
    /// Its size in octets.
    #[must_use]
    pub const fn message_octets(&self) -> u64 {
        self.message_octets
    }

    /// Hands the message on in pieces. False: it is not in canonical form.
    ///
    /// # Errors
    /// It can't be read, or has become shorter.
    pub fn read(&self, mut take: impl FnMut(&[u8])) -> io::Result<bool> {
        let (mut offset, end) = (HEADER_OCTETS as u64, HEADER_OCTETS as u64 + self.message_octets);
        let mut piece = vec![0; PIECE_OCTETS];
        while offset < end {
            let room = usize::try_from(end - offset).map_or(PIECE_OCTETS, |left| left.min(PIECE_OCTETS));
            piece.truncate(room);
            self.file.read_exact_at(&mut piece, offset)?;
            // On the wire it could end a line or a message where nobody else sees an end.
            if piece.contains(&b'\r') {
                return Ok(false);
            }
            take(&piece);
            offset += room as u64;
        }
        Ok(true)
    }
}

fn check(stat: &Stat) -> Result<(), &'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink == 1 => Ok(()),
        FileType::RegularFile => Err("it has several names"),
        FileType::Symlink => Err("it is a link"),
        FileType::Directory => Err("it is a directory"),
        _ => Err("it is no file"),
    }
}

/// Reads what stands around the message: its size and the envelope, or why it is none of ours.
fn read_frame(
    file: &File,
    size: u64,
    message_max: u64,
) -> io::Result<Result<(u64, DropEnvelope), &'static str>> {
    let mut header = [0; HEADER_OCTETS];
    file.read_exact_at(&mut header, 0)?;
    let Some((message, envelope)) = parse_header(&header) else {
        return Ok(Err("its first line is not ours"));
    };
    if message > message_max || envelope > ENVELOPE_MAX_OCTETS {
        return Ok(Err("it is too large"));
    }
    let start = HEADER_OCTETS as u64 + message;
    if start + envelope as u64 != size {
        return Ok(Err("its size is not what it says"));
    }
    let mut octets = vec![0; envelope];
    file.read_exact_at(&mut octets, start)?;
    Ok(DropEnvelope::parse(&octets).map(|envelope| (message, envelope)).ok_or("its envelope is malformed"))
}

fn display(name: &CStr) -> String {
    name.to_string_lossy().into_owned()
}

/// Why a message could not be handed over, in words for whoever waits for the answer.
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
