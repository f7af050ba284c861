//! The octets of all messages of a Maildir, for the quota: `new` and `cur` of the Maildir and of its subfolders, which
//! begin with a dot (Maildir++).
//!
//! A directory is read again only if its time of modification has changed, which every program that adds, renames or
//! removes a file does. A commit of this process changes it too, and then adds what it knows ([`committed`]). Two
//! changes within one tick of the file system's clock look like one: what is remembered may miss a change until the next.

use super::MaildirPath;
use super::turn::Turn;
use crate::store::durable::{DirectoryAccess, open_below};
use crate::sys::lock::Lock;
use rustix::fs::{AtFlags, Dir, FileType, Stat, fstat, statat};
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The most Maildirs that are remembered; beyond it the one that was measured first is forgotten.
const KNOWN_MAX: usize = 256;
/// A Maildir with more subfolders is not remembered.
const FOLDERS_MAX: usize = 256;
/// The directories of a folder that hold messages.
const WITH_MESSAGES: [&str; 2] = ["new", "cur"];

static KNOWN: Lock<Vec<(PathBuf, Maildir)>> = Lock::new(Vec::new());

/// A directory and the time of its latest change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    seconds: i64,
    nanos: u64,
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            seconds: stat.st_mtime as i64,
            nanos: stat.st_mtime_nsec as u64,
        }
    }

    /// The stamp of an open directory.
    pub fn read(directory: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&fstat(directory)?))
    }
}

#[derive(Debug, Default)]
struct Maildir {
    stamp: Option<Stamp>,
    /// The Maildir itself, without a name, and its subfolders.
    folders: Vec<Folder>,
}

#[derive(Debug, Default)]
struct Folder {
    name: OsString,
    /// What is known of its `new` and `cur`.
    directories: [Option<(Stamp, u64)>; 2],
}

/// Adds up the octets of all messages.
///
/// # Errors
/// The Maildir cannot be opened or read.
pub(super) fn measure(path: &MaildirPath) -> io::Result<u64> {
    let directory = path.open(DirectoryAccess::Read)?;
    let stamp = Stamp::read(&directory)?;
    let whole = path.path();
    // No lock is held while the disk is read.
    let mut maildir = take(&whole).unwrap_or_default();
    if maildir.stamp != Some(stamp) {
        list_folders(&directory, &mut maildir.folders)?;
        maildir.stamp = Some(stamp);
    }
    let mut octets = 0_u64;
    for folder in &mut maildir.folders {
        octets = octets.saturating_add(measure_folder(&directory, folder));
    }
    if maildir.folders.len() <= FOLDERS_MAX {
        let mut known = KNOWN.lock();
        // Another thread may have measured it in the meantime.
        known.retain(|(path, _)| *path != whole);
        if known.len() >= KNOWN_MAX {
            known.remove(0);
        }
        known.push((whole, maildir));
    }
    Ok(octets)
}

/// The stamp of `new` before a commit, if this Maildir is remembered: as one with a quota is. Such commits follow each
/// other, since a change by another one between the two stamps would never be added.
pub(super) fn before_commit(path: &MaildirPath, new: impl AsFd) -> Option<(Turn, Stamp)> {
    let whole = path.path();
    if !KNOWN.lock().iter().any(|(path, _)| *path == whole) {
        return None;
    }
    let turn = Turn::take(whole);
    Some((turn, Stamp::read(new).ok()?))
}

/// Adds a message that was committed to `new`, if nothing else had changed before.
pub(super) fn committed(path: &MaildirPath, new: impl AsFd, before: Option<(Turn, Stamp)>, octets: u64) {
    let (Some((_turn, before)), Ok(after)) = (before, Stamp::read(new)) else { return };
    let whole = path.path();
    let mut known = KNOWN.lock();
    let maildir = known.iter_mut().find(|(path, _)| *path == whole);
    if let Some(Folder { directories: [Some((stamp, sum)), _], .. }) =
        maildir.and_then(|(_, maildir)| maildir.folders.first_mut())
        && *stamp == before
    {
        *stamp = after;
        *sum = sum.saturating_add(octets);
    }
}

fn take(whole: &PathBuf) -> Option<Maildir> {
    let mut known = KNOWN.lock();
    let place = known.iter().position(|(path, _)| path == whole)?;
    Some(known.remove(place).1)
}

/// Lists the subfolders, and keeps what is known of those that are still there.
fn list_folders(maildir: &OwnedFd, folders: &mut Vec<Folder>) -> io::Result<()> {
    let mut before = std::mem::take(folders);
    let mut keep = |name: OsString| {
        let known = before.iter().position(|folder| folder.name == name);
        known.map_or_else(|| Folder { name, ..Folder::default() }, |place| before.swap_remove(place))
    };
    folders.push(keep(OsString::new()));
    for entry in Dir::read_from(maildir)? {
        let entry = entry?;
        if let name @ [b'.', second, ..] = entry.file_name().to_bytes()
            && *second != b'.'
        {
            folders.push(keep(OsStr::from_bytes(name).to_owned()));
        }
    }
    Ok(())
}

fn measure_folder(maildir: &OwnedFd, folder: &mut Folder) -> u64 {
    let own;
    let at = if folder.name.is_empty() {
        maildir
    } else {
        let Ok(opened) = open_below(maildir, &folder.name, DirectoryAccess::Search) else { return 0 };
        own = opened;
        &own
    };
    let mut octets = 0_u64;
    for (name, known) in WITH_MESSAGES.iter().zip(&mut folder.directories) {
        let now = statat(at, *name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| Stamp::of(&stat));
        if now.is_none() || known.is_none_or(|(stamp, _)| Some(stamp) != now) {
            *known = read_directory(at, name);
        }
        octets = octets.saturating_add(known.map_or(0, |(_, sum)| sum));
    }
    octets
}

fn read_directory(folder: &OwnedFd, name: &str) -> Option<(Stamp, u64)> {
    let directory = open_below(folder, name.as_ref(), DirectoryAccess::Read).ok()?;
    // Before the names: a change during the reading is seen the next time.
    let stamp = Stamp::read(&directory).ok()?;
    // The user chooses the names, so they may hold any text.
    let entries = Dir::read_from(&directory).ok()?.flatten();
    let sum = entries.map(|entry| size(&directory, entry.file_name())).fold(0_u64, u64::saturating_add);
    Some((stamp, sum))
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
