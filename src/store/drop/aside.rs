//! What becomes of what can't be taken: `corrupt/` keeps it for the administrator. A program was told that its message is
//! safe, so a whole message stays there. Of anything else `corrupt/` keeps some, and a user can't fill it with that.
//!
//! | it is | what happens |
//! | --- | --- |
//! | a file with several names | its name here is unlinked: the content has another one |
//! | a directory | removed if it is empty, else it stays |
//! | a whole message: too large, in a loop, or with a CR | moved to `corrupt/message-INODE.NUMBER`, or it stays |
//! | anything else | moved to `corrupt/drop-INODE.NUMBER` |
//!
//! Of the `drop-` files at most [`OWNER_MAX`] of one user are kept, and [`ALL_MAX`] in all; the sizes on the disk are
//! bounded, too. Above a bound the oldest file of that user is removed, or of all users. Whole messages have the same bounds, but
//! none is removed: above a bound the next one stays in `drop/`, where it lies in its user's way and not in the administrator's.
//! Those of root and of the user of the daemon, and damaged queue files, are never counted and never removed.

use super::{DropDirectory, display};
use crate::store::StoreError;
use crate::store::durable;
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat, unlinkat};
use rustix::process::geteuid;
use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;

/// The bounds: files, and octets on the disk.
type Bound = (usize, u64);
/// Of one user.
const OWNER_MAX: Bound = (16, 32 << 20);
/// Of all users.
const ALL_MAX: Bound = (256, 64 << 20);
/// What names in `corrupt/` begin with, if they come from `drop/` and are no whole messages.
const PREFIX: &str = "drop-";
/// The same for whole messages.
const PREFIX_OF_WHOLE: &str = "message-";
/// How many names are tried in `corrupt/`.
const CORRUPT_NAMES: usize = 100;
/// The octets that `st_blocks` counts in.
const BLOCK_OCTETS: u64 = 512;

/// What `corrupt/` has from `drop/`, as one round needs it.
#[derive(Debug)]
pub struct Aside {
    /// What is no whole message, oldest first.
    kept: Vec<Kept>,
    /// Whole messages, in no order.
    whole: Vec<Kept>,
    /// Users whose files are not removed.
    pub(super) spared: [u32; 2],
}

#[derive(Debug)]
struct Kept {
    changed: (i64, i64),
    name: String,
    uid: u32,
    octets: u64,
}

impl Kept {
    fn new(name: String, stat: &Stat) -> Self {
        let octets = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(BLOCK_OCTETS);
        Self { changed: (stat.st_ctime as _, stat.st_ctime_nsec as _), name, uid: stat.st_uid, octets }
    }
}

impl Aside {
    /// Whether one more whole message is within the bounds.
    fn has_room(&self, new: &Kept) -> bool {
        let is_within = |(files, octets): Bound, of: &dyn Fn(&Kept) -> bool| {
            let found = || self.whole.iter().filter(|kept| !self.spared.contains(&kept.uid) && of(kept));
            found().count() < files && found().map(|kept| kept.octets).sum::<u64>() + new.octets <= octets
        };
        let is_spared = self.spared.contains(&new.uid);
        is_spared || (is_within(OWNER_MAX, &|kept| kept.uid == new.uid) && is_within(ALL_MAX, &|_| true))
    }

    /// The place of a file to remove: the oldest of an owner, or of all, with too many.
    fn surplus(&self, uid: u32) -> Option<usize> {
        let above = |(files, octets): Bound, of: &dyn Fn(&Kept) -> bool| {
            let is_counted = |kept: &Kept| !self.spared.contains(&kept.uid) && of(kept);
            let found = || self.kept.iter().filter(|kept| is_counted(kept));
            let is_over = found().count() > files || found().map(|kept| kept.octets).sum::<u64>() > octets;
            self.kept.iter().position(is_counted).filter(|_| is_over)
        };
        above(OWNER_MAX, &|kept| kept.uid == uid).or_else(|| above(ALL_MAX, &|_| true))
    }
}

impl DropDirectory {
    /// Reads what `corrupt/` has from `drop/`. What cannot be read counts as not there.
    #[must_use]
    pub fn aside(&self) -> Aside {
        let (mut kept, mut whole): (Vec<Kept>, Vec<Kept>) = Default::default();
        for entry in Dir::read_from(&self.corrupt).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy();
            let is_whole = name.starts_with(PREFIX_OF_WHOLE);
            if !is_whole && !name.starts_with(PREFIX) {
                continue;
            }
            if let Ok(stat) = statat(&self.corrupt, name.as_ref(), AtFlags::SYMLINK_NOFOLLOW) {
                let found = Kept::new(name.into_owned(), &stat);
                if is_whole {
                    whole.push(found);
                    continue;
                }
                let place = kept.partition_point(|other| other.changed <= found.changed);
                kept.insert(place, found);
            }
        }
        Aside { kept, whole, spared: [0, geteuid().as_raw()] }
    }

    /// Puts away what is no message, or a whole message that is not to be taken; returns what was done.
    ///
    /// # Errors
    /// An I/O error, for example for a directory that is not empty; it stays where it is.
    pub fn put_away(&self, name: &CStr, is_whole: bool, aside: &mut Aside) -> Result<String, StoreError> {
        let mut put_away = || {
            let stat = statat(&self.drop, name, AtFlags::SYMLINK_NOFOLLOW)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => unlinkat(&self.drop, name, AtFlags::REMOVEDIR)?,
                FileType::RegularFile if stat.st_nlink > 1 => unlinkat(&self.drop, name, AtFlags::empty())?,
                _ => return self.keep(name, &stat, is_whole, aside),
            }
            Ok("removed".to_owned())
        };
        put_away().map_err(|error: io::Error| StoreError::io(self.path.join(display(name)), error))
    }

    /// Moves a file to `corrupt/`, and removes older ones above the bounds.
    fn keep(&self, name: &CStr, stat: &Stat, is_whole: bool, aside: &mut Aside) -> io::Result<String> {
        if is_whole && !aside.has_room(&Kept::new(String::new(), stat)) {
            return Err(io::Error::other(
                "corrupt/ has too many messages of this user, or of all; remove some",
            ));
        }
        let mut number = 0;
        let prefix = if is_whole { PREFIX_OF_WHOLE } else { PREFIX };
        let to = loop {
            let to = format!("{prefix}{}.{number}", stat.st_ino);
            match durable::move_file(self.drop.as_fd(), name, self.corrupt.as_fd(), &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < CORRUPT_NAMES => {
                    number += 1;
                }
                result => break result.map(|()| to)?,
            }
        };
        if is_whole {
            aside.whole.push(Kept::new(to.clone(), stat));
            return Ok(format!("moved to corrupt/{to}"));
        }
        aside.kept.push(Kept::new(to.clone(), stat));
        while let Some(place) = aside.surplus(stat.st_uid) {
            let old = aside.kept.remove(place);
            // One that cannot be removed is counted again in the next round.
            let _ = unlinkat(&self.corrupt, old.name.as_str(), AtFlags::empty());
        }
        Ok(format!("moved to corrupt/{to}"))
    }
}
