//! State that fits on one line: the running clock (`rules::running_clock`), since ages of queued mail count time that has
//! really passed and a box without a battery starts in the past; the totals of what was counted; and
//! what happened in each hour of the last month.
//!
//! A file has two slots, which are written in turn, in place. That spares flash a new file and two changes of directories, and
//! needs no room on a full disk. The slot with the larger number is the newer one; one that a crash has torn has a wrong
//! checksum, and the other one counts.
//!
//! ```text
//! CRC pillarbox-clock 1 NUMBER<TAB>what the caller saves     at octet 0, and at the octet after the room of a slot
//! ```
//!
//! | the file | is |
//! | --- | --- |
//! | missing, of another size, or of another owner | replaced as a whole |
//! | a single line without a number, of an earlier version | read as number 0 |
//! | without a line that has the right checksum, name and version | read as missing |
//! | longer than its slots allow | one line, replaced as a whole |

use super::super::text::{parse_checked, print_checked};
use crate::store::StoreError;
use crate::store::durable::sync_data;
use rustix::fs::{Mode, OFlags, open};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file with one line.
#[derive(Debug)]
pub struct LineFile {
    /// Its name below `state`.
    name: &'static str,
    /// Name and version of the format; another version is read as a damaged file.
    magic: &'static str,
    /// The octets of a slot.
    room: usize,
}

/// The running clock. Saved about every ten minutes while mail waits, else every hour.
pub const CLOCK: LineFile = LineFile { name: "clock", magic: "pillarbox-clock 1", room: 8192 };
/// The totals. Saved at most once an hour, when the daemon stops, and with each mail of `heartbeat.every`.
pub const STATISTICS: LineFile = LineFile { name: "statistics", magic: "pillarbox-statistics 1", room: 4096 };
/// The last month in hours. Saved at most once an hour, and when the daemon stops.
pub const HISTORY: LineFile = LineFile { name: "history", magic: "pillarbox-history 1", room: 16_384 };

/// The newest line of a file.
struct Line {
    number: u64,
    is_second: bool,
    saved: String,
}

impl LineFile {
    /// Reads what was saved below `state`; `None` if it is missing or damaged.
    #[must_use]
    pub fn load(&self, state: &Path) -> Option<String> {
        Some(self.newest(&super::load(&state.join(self.name))?)?.saved)
    }

    /// Saves a line below `state`, durably.
    ///
    /// # Errors
    /// An I/O error; the previous version is still there.
    pub fn save(&self, state: &Path, saved: &str) -> Result<(), StoreError> {
        let path = state.join(self.name);
        let octets = super::load(&path).unwrap_or_default();
        let newest = self.newest(&octets);
        let line = self.print(newest.as_ref().map_or(0, |line| line.number.saturating_add(1)), saved);
        if line.len() > self.room {
            return super::save(state, "", self.name, line.as_bytes());
        }
        let begins_second = newest.is_some_and(|line| !line.is_second);
        let is_whole = octets.len() == 2 * self.room;
        if let (true, Ok(file)) =
            (is_whole, open(&path, OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()))
        {
            let at = if begins_second { self.room as u64 } else { 0 };
            if overwrite(&File::from(file), &line, at).is_ok() {
                return Ok(());
            }
            // The kernel may show what the disk did not take: a new file is the only one to trust.
        }
        let mut slots = line.into_bytes();
        slots.resize(2 * self.room, 0);
        super::save(state, "", self.name, &slots)
    }

    fn print(&self, number: u64, saved: &str) -> String {
        let mut line = String::new();
        print_checked(&format!("{} {number}\t{}", self.magic, saved.trim_end()), &mut line);
        line
    }

    fn newest(&self, octets: &[u8]) -> Option<Line> {
        let slots = [(false, Some(octets)), (true, octets.get(self.room..))];
        let lines = slots.into_iter().filter_map(|(is_second, slot)| {
            let (number, saved) = self.parse(slot?)?;
            Some(Line { number, is_second, saved })
        });
        lines.max_by_key(|line| line.number)
    }

    /// The number and the content of the line at the start.
    fn parse(&self, octets: &[u8]) -> Option<(u64, String)> {
        let end = memchr::memchr(b'\n', octets)?;
        let (magic, saved) = parse_checked(octets.get(..end)?)?.split_once('\t')?;
        let number = match magic.strip_prefix(self.magic)? {
            "" => 0,
            number => number.strip_prefix(' ')?.parse().ok()?,
        };
        Some((number, saved.to_owned()))
    }
}

fn overwrite(file: &File, line: &str, at: u64) -> io::Result<()> {
    file.write_all_at(line.as_bytes(), at)?;
    sync_data(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_was_saved_last_is_loaded() {
        let directory = TestDirectory::new();
        assert_eq!(CLOCK.load(directory.path()), None);
        assert!(CLOCK.save(directory.path(), "1 2").is_err());
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let inode = || fs::metadata(directory.path().join("clock")).unwrap().ino();
        let mut first = None;
        for saved in ["1 2", "3 4", "5", "6 7 8 9", ""] {
            CLOCK.save(directory.path(), saved).unwrap();
            assert_eq!(CLOCK.load(directory.path()).as_deref(), Some(saved));
            assert_eq!(*first.get_or_insert_with(inode), inode(), "{saved}: it is written in place");
        }
        assert_eq!(STATISTICS.load(directory.path()), None);
        assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_save_leaves_the_one_before() {
        let directory = TestDirectory::new();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let path = directory.path().join("clock");
        for saves in 1..=4 {
            CLOCK.save(directory.path(), "before").unwrap();
            let old = fs::read(&path).unwrap();
            CLOCK.save(directory.path(), "a longer text").unwrap();
            let new = fs::read(&path).unwrap();
            let changed: Vec<usize> = (0..new.len()).filter(|&at| old[at] != new[at]).collect();
            assert!(changed[changed.len() - 1] - changed[0] < CLOCK.room, "one slot changes");
            for torn in 1..changed.len() {
                let mut octets = old.clone();
                changed[..torn].iter().for_each(|&at| octets[at] = new[at]);
                fs::write(&path, &octets).unwrap();
                let read = CLOCK.load(directory.path()).unwrap();
                assert_eq!(read, "before", "{saves} {torn}");
            }
            fs::write(&path, &new).unwrap();
            assert_eq!(CLOCK.load(directory.path()).as_deref(), Some("a longer text"));
        }
    }

    #[test]
    fn what_does_not_fit_in_a_slot_is_saved_all_the_same() {
        let directory = TestDirectory::new();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let [long, longer] = [2, 3].map(|rooms| "x".repeat(rooms * CLOCK.room));
        for saved in ["1", &longer, &long, "2", "3"] {
            CLOCK.save(directory.path(), saved).unwrap();
            assert_eq!(CLOCK.load(directory.path()).as_deref(), Some(saved));
        }
    }

    #[test]
    fn the_line_of_an_earlier_version_is_read_and_a_newer_one_replaces_it() {
        let directory = TestDirectory::new();
        fs::create_dir(directory.path().join("tmp")).unwrap();
        let mut line = String::new();
        print_checked("pillarbox-clock 1\t1 2 3", &mut line);
        fs::write(directory.path().join("clock"), line).unwrap();
        assert_eq!(CLOCK.load(directory.path()).as_deref(), Some("1 2 3"));
        for saved in ["4", "5", "6"] {
            CLOCK.save(directory.path(), saved).unwrap();
            assert_eq!(CLOCK.load(directory.path()).as_deref(), Some(saved));
        }
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let line = CLOCK.print(7, "1 2 3\n").into_bytes();
        let parse = |octets: &[u8]| CLOCK.newest(octets).map(|line| (line.number, line.saved));
        assert_eq!(parse(&line), Some((7, "1 2 3".to_owned())));
        for i in 0..line.len() {
            assert_eq!(parse(&line[..i]), None);
            let mut flipped = line.clone();
            flipped[i] ^= 1;
            assert_eq!(parse(&flipped), None, "octet {i}");
        }
        for other in ["pillarbox-clock 2\t1", "pillarbox-clock 12\t1", "pillarbox-clock 1 x\t1"] {
            let mut line = String::new();
            print_checked(other, &mut line);
            assert_eq!(parse(line.as_bytes()), None, "{other}");
        }
    }
}
