//! The content of a message that is being received: in memory while it is small, else in the file of its first target.
//!
//! In the file, the content begins at `offset`: behind the envelope of a queue entry, and behind the fields that this
//! host puts in front. Each copy has its own such fields, so only the octets from `offset` on are copied.

use super::staging::Staging;
use crate::store::StoreError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The content that has arrived so far.
pub(super) enum PartialContent {
    Memory(Vec<u8>),
    /// In the file of the target `first`, from `offset` on.
    File {
        first: FirstTarget,
        staging: Box<Staging>,
        offset: u64,
        octets: u64,
    },
}

impl PartialContent {
    pub(super) fn octets(&self) -> u64 {
        match self {
            Self::Memory(buffer) => buffer.len() as u64,
            Self::File { octets, .. } => *octets,
        }
    }
}

/// The complete content.
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

    /// At most the first `most` octets.
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

/// The target that a large message streams to, by its index in `Copies`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstTarget {
    Local(usize),
    Queue(usize),
}
