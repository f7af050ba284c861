//! What is written to a staged file: small pieces are held until they are worth a write, and large ones are written from
//! where they lie, so that their octets are copied to the kernel and nowhere else.
//!
//! | a piece | goes |
//! | --- | --- |
//! | below [`DIRECT_OCTETS`] | to the buffer, which is written once it is full: a small message costs one write |
//! | larger | to the file, with one write together with what was held |
//! | of another file, looked at | through the buffer |
//! | of another file, large, not looked at | from file to file within the kernel (`sendfile`) |

use super::{BUFFER_OCTETS, StagedFile};
use rustix::buffer::spare_capacity;
use rustix::fs::sendfile;
use rustix::io::{pread, retry_on_intr, writev};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;

/// A piece of this size is not copied to the buffer: a write costs less than the copy.
const DIRECT_OCTETS: usize = 32 * 1024;

impl StagedFile {
    /// Appends `octets`. A large piece is written from where it lies, together with what was held before.
    ///
    /// # Errors
    /// An I/O error. The file cannot be synced afterwards: drop it.
    pub fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        let result = self.make_room(octets.len());
        self.note(result)?;
        if octets.len() < DIRECT_OCTETS && self.buffer.len() + octets.len() <= BUFFER_OCTETS {
            self.buffer.extend_from_slice(octets);
            return Ok(());
        }
        self.flush_with(octets)
    }

    /// Appends `octets` octets of another file, from `offset` on, and passes each piece to `look`.
    ///
    /// # Errors
    /// An I/O error of either file; `UnexpectedEof` if the source is shorter.
    pub fn append_from(
        &mut self,
        source: &File,
        mut offset: u64,
        mut octets: u64,
        mut look: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        while octets > 0 {
            if self.buffer.len() >= BUFFER_OCTETS {
                self.flush()?;
            }
            let start = self.buffer.len();
            let most = (BUFFER_OCTETS - start).min(usize::try_from(octets).unwrap_or(usize::MAX));
            let result =
                self.make_room(most).and_then(|()| read_some(source, offset, most, &mut self.buffer));
            self.note(result)?;
            let piece = self.buffer.get(start..).unwrap_or_default();
            look(piece);
            offset += piece.len() as u64;
            octets -= piece.len() as u64;
        }
        Ok(())
    }

    /// Appends `octets` octets of another file, from `offset` on. Where the system can, a large part does not pass through
    /// this process.
    ///
    /// # Errors
    /// As for [`Self::append_from`].
    pub fn copy_from(&mut self, source: &File, mut offset: u64, octets: u64) -> io::Result<()> {
        let end = offset + octets;
        if octets > BUFFER_OCTETS as u64 {
            let result = self.make_room(BUFFER_OCTETS + 1);
            self.note(result)?;
            self.flush()?;
            while offset < end {
                let most = usize::try_from(end - offset).unwrap_or(usize::MAX);
                match sendfile(&self.file, source, Some(&mut offset), most) {
                    Ok(copied) if copied > 0 => self.flushed_octets += copied as u64,
                    // The rest is tried in the other way, which has its own error.
                    _ => break,
                }
            }
        }
        self.append_from(source, offset, end - offset, |_| ())
    }

    /// Overwrites the first octets of the file: for a header whose numbers are known only at the end.
    ///
    /// # Errors
    /// An I/O error.
    pub fn write_start(&mut self, octets: &[u8]) -> io::Result<()> {
        match self.buffer.get_mut(..octets.len()) {
            Some(start) if self.flushed_octets == 0 => {
                start.copy_from_slice(octets);
                Ok(())
            }
            _ => {
                let result = self.file.write_all_at(octets, 0);
                self.note(result)
            }
        }
    }

    /// Copies the first octets that were written to another file, also after a later write has failed.
    ///
    /// # Errors
    /// As for [`Self::append_from`].
    pub fn copy_start(&self, octets: u64, to: &mut Self) -> io::Result<()> {
        let flushed = octets.min(self.flushed_octets);
        to.copy_from(&self.file, 0, flushed)?;
        let held = usize::try_from(octets - flushed).unwrap_or(usize::MAX);
        to.write(self.buffer.get(..held).ok_or(io::ErrorKind::UnexpectedEof)?)
    }

    /// The file with everything written so far, to copy from by offset.
    ///
    /// # Errors
    /// An I/O error while the buffer is written.
    pub fn contents(&mut self) -> io::Result<&File> {
        self.flush()?;
        Ok(&self.file)
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.flush_with(&[])
    }

    /// Writes what is held, and `octets` behind it.
    fn flush_with(&mut self, octets: &[u8]) -> io::Result<()> {
        let result = write_both(&self.file, &self.buffer, octets);
        self.note(result)?;
        self.flushed_octets += (self.buffer.len() + octets.len()) as u64;
        if octets.is_empty() {
            self.buffer.clear();
        } else {
            // More large pieces may follow, which do not need it.
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn note(&mut self, result: io::Result<()>) -> io::Result<()> {
        self.broken |= result.is_err();
        result
    }
}

/// Writes one after the other, with one call as far as the system takes it.
fn write_both(mut file: &File, first: &[u8], second: &[u8]) -> io::Result<()> {
    let mut written = 0;
    if !first.is_empty() && !second.is_empty() {
        written = retry_on_intr(|| writev(file, &[IoSlice::new(first), IoSlice::new(second)]))?;
    }
    file.write_all(first.get(written..).unwrap_or_default())?;
    file.write_all(second.get(written.saturating_sub(first.len())..).unwrap_or_default())
}

/// Appends at least one and at most `most` octets of a file to `buffer`, which is not cleared before: that would take as
/// long as the read.
fn read_some(source: &File, offset: u64, most: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
    let start = buffer.len();
    buffer.reserve_exact(most);
    if retry_on_intr(|| pread(source, spare_capacity(buffer), offset))? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // The buffer may have more room.
    buffer.truncate(start + most);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{DirectoryAccess, open_directory};
    use super::*;
    use crate::test_directory::TestDirectory;
    use proptest::prelude::*;
    use std::sync::Arc;

    const AROUND: [usize; 8] = [
        1,
        1000,
        DIRECT_OCTETS - 1,
        DIRECT_OCTETS,
        BUFFER_OCTETS - 1,
        BUFFER_OCTETS,
        BUFFER_OCTETS + 1,
        3 * BUFFER_OCTETS,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pieces_of_all_sizes_and_origins_follow_each_other(
            steps in proptest::collection::vec((0_usize..4, proptest::sample::select(&AROUND[..])), 0..6),
            is_scratch: bool,
        ) {
            let directory = TestDirectory::new();
            let octets: Vec<u8> = (0..4 * BUFFER_OCTETS).map(|at| (at % 251) as u8).collect();
            let path = directory.path().join("source");
            std::fs::write(&path, &octets).unwrap();
            let source = File::open(path).unwrap();
            let here = Arc::new(open_directory(directory.path(), DirectoryAccess::Read).unwrap());
            let mut file = if is_scratch {
                StagedFile::scratch(directory.path()).unwrap()
            } else {
                StagedFile::create(&here, "tmp".into(), None).unwrap()
            };
            let (mut expected, mut seen) = (Vec::new(), Vec::new());
            for (kind, length) in steps {
                let (piece, before) = (&octets[7..7 + length], expected.len());
                match kind {
                    0 => file.write(piece).unwrap(),
                    1 => file.append_from(&source, 7, length as u64, |piece| seen.extend_from_slice(piece)).unwrap(),
                    2 => file.copy_from(&source, 7, length as u64).unwrap(),
                    _ => drop(file.contents().unwrap()),
                }
                if kind < 3 {
                    expected.extend_from_slice(piece);
                }
                prop_assert_eq!(file.octets(), expected.len() as u64);
                prop_assert!(kind != 1 || seen == expected[before..]);
                seen.clear();
            }
            if let Some(first) = expected.first_mut() {
                file.write_start(b"!").unwrap();
                *first = b'!';
            }
            let mut found = vec![0; expected.len()];
            let file = file.finish().unwrap();
            file.read_exact_at(&mut found, 0).unwrap();
            prop_assert!(found == expected && file.metadata().unwrap().len() == expected.len() as u64);
        }
    }

    #[test]
    fn a_source_that_is_too_short_breaks_the_file() {
        let directory = TestDirectory::new();
        let path = directory.path().join("source");
        std::fs::write(&path, vec![b'x'; 2 * BUFFER_OCTETS]).unwrap();
        let source = File::open(path).unwrap();
        for octets in [1, BUFFER_OCTETS as u64 + 1] {
            let mut file = StagedFile::scratch(directory.path()).unwrap();
            let error = file.copy_from(&source, 2 * BUFFER_OCTETS as u64, octets).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert!(file.finish().is_err());
        }
    }
}
