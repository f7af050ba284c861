//! Files for octets that are copied elsewhere later, such as a message for the delivery agent or for an mbox. They are
//! never synced, and vanish when they are closed. A small one is in memory, and costs the disk nothing.

use super::{
    BUFFER_OCTETS, DirectoryAccess, Mover, StagedFile, TemporaryName, TemporaryPlace, open_directory,
};
use rustix::fs::{AtFlags, MemfdFlags, Mode, OFlags, memfd_create, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

impl StagedFile {
    /// Creates a file for octets that are copied elsewhere later: in memory, and once it is large without a name in
    /// `directory`. It is never synced, and it vanishes when it is closed.
    ///
    /// # Errors
    /// An I/O error.
    pub fn scratch(directory: &Path) -> io::Result<Self> {
        let (file, overflow) = match memfd_create("message", MemfdFlags::CLOEXEC) {
            Ok(file) => (file, Some(directory.into())),
            // An old kernel, or one that forbids it.
            Err(_) => (without_name(directory)?, None),
        };
        let name = TemporaryPlace::Elsewhere(Box::new(Nameless));
        let name = TemporaryName { place: name, name: String::new(), moved: true, room: None };
        Ok(Self { overflow, ..Self::new(name, file.into()) })
    }

    /// Moves a file from memory to the disk if it is about to become large.
    pub(super) fn make_room(&mut self, octets: usize) -> io::Result<()> {
        if self.octets() + octets as u64 <= BUFFER_OCTETS as u64 {
            return Ok(());
        }
        let Some(directory) = self.overflow.take() else { return Ok(()) };
        let mut file = File::from(without_name(&directory)?);
        let mut written = vec![0; usize::try_from(self.flushed_octets).unwrap_or(BUFFER_OCTETS)];
        self.file.read_exact_at(&mut written, 0)?;
        file.write_all(&written)?;
        self.file = file;
        Ok(())
    }
}

/// The mover of a file that has no name and gets none.
#[derive(Debug)]
struct Nameless;

impl Mover for Nameless {
    fn commit(&self, _: &str, _: &OsStr) -> io::Result<()> {
        Err(Errno::INVAL.into())
    }

    fn discard(&self, _: &str) {}
}

/// Creates a file without a name in `directory`.
fn without_name(directory: &Path) -> io::Result<OwnedFd> {
    let directory = open_directory(directory, DirectoryAccess::Search)?;
    let (mode, access) = (Mode::RUSR | Mode::WUSR, OFlags::RDWR | OFlags::CLOEXEC);
    match openat(&directory, ".", OFlags::TMPFILE | access, mode) {
        // An old kernel, or a file system without unnamed files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
            let name = format!("scratch-{:x}", RandomState::new().build_hasher().finish());
            let file = openat(&directory, &*name, OFlags::CREATE | OFlags::EXCL | access, mode)?;
            unlinkat(&directory, &*name, AtFlags::empty())?;
            Ok(file)
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_scratch_file_leaves_nothing_and_is_on_the_disk_once_it_is_large() {
        let directory = TestDirectory::new();
        let device = |file: &File| file.metadata().unwrap().dev();
        let disk = device(&File::open(directory.path()).unwrap());
        for pieces in [[3, 5, 7], [BUFFER_OCTETS, 0, 0], [1, BUFFER_OCTETS, 1], [BUFFER_OCTETS + 1, 9, 1]] {
            let mut file = StagedFile::scratch(directory.path()).unwrap();
            let mut expected = Vec::new();
            for (i, octets) in pieces.into_iter().enumerate() {
                let piece = vec![b'a' + i as u8; octets];
                file.write(&piece).unwrap();
                expected.extend_from_slice(&piece);
                // Another target copies from it in between.
                file.contents().unwrap();
            }
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
            let file = file.finish().unwrap();
            let mut found = vec![0; expected.len()];
            file.read_exact_at(&mut found, 0).unwrap();
            assert!(
                found == expected && file.metadata().unwrap().len() == expected.len() as u64,
                "{pieces:?}"
            );
            assert_eq!(device(&file) == disk, expected.len() > BUFFER_OCTETS, "{pieces:?}");
        }
        let missing = StagedFile::scratch(&directory.path().join("missing"));
        assert!(missing.unwrap().write(&vec![0; BUFFER_OCTETS + 1]).is_err());
        assert_eq!(File::from(without_name(directory.path()).unwrap()).metadata().unwrap().len(), 0);
        assert!(Nameless.commit("a", "b".as_ref()).is_err(), "it has no name to change");
    }
}
