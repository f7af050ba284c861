//! The content of a message that comes in: in memory while it is small, else in the file of its first target.

use super::staging::Staging;
use crate::store::StoreError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the content is while it comes in.
pub(super) enum PartialContent {
    Memory(Vec<u8>),
    /// In the file of the first target; `first` tells which one that is.
    File {
        first: FirstTarget,
        staging: Staging,
        offset: u64,
        octets: u64,
    },
}

/// The content once it is complete.
pub(super) enum WholeContent {
    Memory(Vec<u8>),
    File { file: File, offset: u64, octets: u64 },
}

impl WholeContent {
    pub(super) fn octets(&self) -> u64 {
        match self {
            Self::Memory(buffer) => buffer.len() as u64,
            Self::File { octets, .. } => *octets,
        }
    }

    /// The first octets, up to `most`.
    pub(super) fn start(&self, most: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.octets()).unwrap_or(most).min(most);
        match self {
            Self::Memory(buffer) => Ok(buffer.get(..length).unwrap_or_default().to_vec()),
            Self::File { file, offset, .. } => {
                let mut start = vec![0; length];
                file.read_exact_at(&mut start, *offset)?;
                Ok(start)
            }
        }
    }

    pub(super) fn copy_into(&self, mut staging: Staging) -> Result<Staging, StoreError> {
        match self {
            Self::Memory(buffer) => staging.write(buffer)?,
            Self::File { file, offset, octets } => staging.append_from(file, *offset, *octets)?,
        }
        Ok(staging)
    }
}

/// Which target a large message streams to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstTarget {
    Local(usize),
    Queue(usize),
}
