//! Opens files by path, for every floor. A test forbids `File::open` and its like elsewhere; `store` opens only names in
//! directories that it holds open.
//!
//! A path says nothing about the file that an open finds a moment later, so all judgement is of the descriptor: it must be a
//! regular file (or `/dev/null`, which is empty), and no longer than its kind allows. The open never waits: `O_NONBLOCK` for
//! a FIFO without a writer and for a file with a lease, `O_NOCTTY` for a terminal.
//!
//! | kind | files | a link in its place | octets at most |
//! | --- | --- | --- | --- |
//! | [`FileKind::Configuration`] | the configuration | is followed | 1 MiB |
//! | [`FileKind::Certificate`] | certificates and trust anchors: Let's Encrypt and `/etc/ssl` work with links | is followed | 4 MiB |
//! | [`FileKind::Secret`] | passwords, private keys, users: `config::secret_file` alone reads these, and looks at the mode, too | is followed | 1 MiB |
//! | [`FileKind::Aliases`] | the aliases file, see [`read_list`] | a user's is refused | 1 MiB |
//! | [`FileKind::List`] | files that aliases include, see [`read_list`] | the same | 1 MiB |
//! | [`FileKind::Forward`] | `.forward`: owned by its user or by root | is refused | 64 KiB |
//! | [`FileKind::System`] | resolv.conf (a link to systemd-resolved's), mailname | is followed | 1 MiB |
//! | [`FileKind::Hosts`] | `/etc/hosts`, read by lines: a list of blocked hosts has a million | is followed | 256 MiB |
//! | [`FileKind::Attachment`] | what a user sends by `pillarbox mail -A` | is followed | 256 MiB |
//! | [`FileKind::State`] | the small files below `state` | is refused | 128 KiB |

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, makedev, openat, readlinkat, statat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What a file is for, which decides how it is opened; see the table of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The configuration.
    Configuration,
    /// A certificate, or trust anchors.
    Certificate,
    /// A password, a private key, or the users file.
    Secret,
    /// The aliases file.
    Aliases,
    /// A file that aliases include.
    List,
    /// The `.forward` of a user.
    Forward,
    /// A small file of the system.
    System,
    /// `/etc/hosts`.
    Hosts,
    /// A file below `state`.
    State,
    /// A file that a user sends by `pillarbox mail -A`.
    Attachment,
}

/// A file of addresses.
#[derive(Debug)]
pub struct ListFile {
    /// What it holds.
    pub octets: Vec<u8>,
    /// From before the read.
    pub metadata: Metadata,
    /// Whether it is a user's. Otherwise root or the user of this process owns it, and no other user could have put it there.
    pub is_user_s: bool,
}

/// The permission of all users to write.
const WRITE_BY_ALL: u32 = 0o002;
/// The permission of group and others to write.
const WRITE_BY_OTHERS: u32 = 0o022;
/// In a directory with this bit only the owner of a file can remove or rename it.
const STICKY: u32 = 0o1000;
/// The most links on the way to a file.
const LINKS_MAX: usize = 8;

/// Reads and never waits.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
/// Looks, and opens nothing.
const LOOK: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl FileKind {
    const fn max(self) -> (u64, &'static str) {
        match self {
            Self::Certificate => (4 << 20, "larger than 4 MiB"),
            Self::Forward => (64 << 10, "larger than 64 KiB"),
            Self::Hosts | Self::Attachment => (256 << 20, "larger than 256 MiB"),
            Self::State => (128 << 10, "larger than 128 KiB"),
            _ => (1 << 20, "larger than 1 MiB"),
        }
    }

    const fn links(self) -> OFlags {
        match self {
            Self::Aliases | Self::List | Self::Forward | Self::State => OFlags::NOFOLLOW,
            _ => OFlags::empty(),
        }
    }
}

/// Opens a file to be read.
///
/// # Errors
/// That of the system, or in words: it is no regular file, or larger than its kind may be.
pub fn open(path: &Path, kind: FileKind) -> io::Result<(File, Metadata)> {
    let opened = openat(CWD, path, READ | kind.links(), Mode::empty());
    if opened.as_ref().err() == Some(&Errno::LOOP) && kind.links() == OFlags::NOFOLLOW {
        // The system's words are "Too many levels of symbolic links".
        return Err(io::Error::other("it is a link, which is not followed"));
    }
    judged(opened?, kind)
}

/// Reads a file as a whole.
///
/// # Errors
/// Those of [`open`], or the read fails.
pub fn read(path: &Path, kind: FileKind) -> io::Result<Vec<u8>> {
    read_open(&open(path, kind)?.0, kind)
}

/// Reads a file that [`open`] has opened. It may have grown since.
///
/// # Errors
/// The read fails, or the file is larger than its kind may be.
pub fn read_open(file: &File, kind: FileKind) -> io::Result<Vec<u8>> {
    let (max, words) = kind.max();
    let mut octets = Vec::new();
    file.take(max + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > max {
        return Err(io::Error::new(ErrorKind::FileTooLarge, words));
    }
    Ok(octets)
}

/// The text of a file below /proc; nothing if it can't be read.
#[must_use]
pub fn of_kernel(path: &str) -> String {
    let octets = read(Path::new(path), FileKind::System).unwrap_or_default();
    String::from_utf8_lossy(&octets).into_owned()
}

/// Reads the `.forward` of the user with this number. Who can write to it decides where the user's mail goes.
///
/// # Errors
/// Those of [`read`]; it is a link, belongs to another user than root, or others can write to it. A file of root's with a
/// second name may have been put there by the user.
pub fn read_forward(path: &Path, uid: u32) -> io::Result<Vec<u8>> {
    let (file, metadata) = open(path, FileKind::Forward)?;
    let owner = metadata.uid();
    closed(&metadata, owner == uid, owner == uid || owner == 0)?;
    read_open(&file, FileKind::Forward)
}

/// Reads the aliases file or a file that aliases include, and says whose it is.
///
/// A link, or a directory that is one, is followed where root or the user of this process has made it. Otherwise a user could
/// have the daemon read, as the user's own list, a file that only the daemon may read.
///
/// # Errors
/// Those of [`read`]; or a user's link is on the way. A user's file that aliases include: others can write to it, or it may
/// be another file that the user has given a second name.
pub fn read_list(path: &Path, kind: FileKind) -> io::Result<ListFile> {
    let (descriptor, way) = walk(path)?;
    let (file, metadata) = judged(descriptor, kind)?;
    let is_linked = way != Way::Closed && metadata.nlink() > 1;
    let is_user_s =
        way == Way::Users || !is_ours(metadata.uid()) || metadata.mode() & WRITE_BY_ALL != 0 || is_linked;
    if is_user_s && kind == FileKind::List {
        closed(&metadata, false, true)?;
    }
    Ok(ListFile { octets: read_open(&file, kind)?, metadata, is_user_s })
}

/// Checks a user's file. `is_theirs`: its other names are the user's own affair.
fn closed(metadata: &Metadata, is_theirs: bool, has_owner: bool) -> io::Result<()> {
    let fault = match () {
        () if !has_owner => "it belongs to somebody else",
        () if metadata.mode() & WRITE_BY_OTHERS != 0 => "others can write to it (chmod go-w)",
        () if !is_theirs && metadata.nlink() > 1 => "it has a second name (a hard link)",
        () => return Ok(()),
    };
    Err(io::Error::other(fault))
}

/// Whether this is root or the user of this process.
fn is_ours(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Who can put a file where a path leads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Root and the user of this process.
    Closed,
    /// Everybody, but nobody can replace what is another's (the sticky bit).
    Shared,
    /// A user, who owns a directory on the way.
    Users,
}

/// Opens a file by walking from the root directory, and says who can change the way.
fn walk(path: &Path) -> io::Result<(OwnedFd, Way)> {
    let names = |path: PathBuf| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut directory = openat(CWD, "/", LOOK | OFlags::DIRECTORY, Mode::empty())?;
    // The next name is the last one.
    let (mut rest, mut way, mut links) = (names(path.to_owned()), Way::Closed, 0);
    while let Some(name) = rest.pop() {
        let stat = statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::LOOP.into());
            }
            if way == Way::Users || !is_ours(stat.st_uid) {
                return Err(io::Error::other("a link of a user's is on the way, which is not followed"));
            }
            let target = readlinkat(&directory, &name, Vec::new())?;
            // An absolute one begins with the name of the root directory.
            rest.extend(names(OsString::from_vec(target.into_bytes()).into()));
        } else if rest.is_empty() {
            return Ok((openat(&directory, &name, READ | OFlags::NOFOLLOW, Mode::empty())?, way));
        } else {
            directory = openat(&directory, &name, LOOK | OFlags::DIRECTORY, Mode::empty())?;
            let stat = fstat(&directory)?;
            way = way.max(match stat.st_mode {
                mode if !is_ours(stat.st_uid) || mode & (WRITE_BY_ALL | STICKY) == WRITE_BY_ALL => Way::Users,
                mode if mode & WRITE_BY_ALL != 0 => Way::Shared,
                _ => Way::Closed,
            });
        }
    }
    Err(Errno::ISDIR.into())
}

/// The file of a descriptor, unless it is of the wrong kind.
fn judged(descriptor: OwnedFd, kind: FileKind) -> io::Result<(File, Metadata)> {
    let file = File::from(descriptor);
    let metadata = file.metadata()?;
    let (max, words) = kind.max();
    let is_null = || metadata.file_type().is_char_device() && metadata.rdev() == makedev(1, 3);
    match () {
        () if metadata.is_dir() => Err(Errno::ISDIR.into()),
        () if !metadata.is_file() && !is_null() => Err(io::Error::other("this is no file")),
        () if metadata.len() > max => Err(io::Error::new(ErrorKind::FileTooLarge, words)),
        () => Ok((file, metadata)),
    }
}

#[cfg(test)]
mod tests;
