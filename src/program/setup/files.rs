//! The files that `setup` writes: the password and the configuration.
//!
//! All new files are on stable storage under temporary names before the first one gets its name, so a full disk changes
//! nothing. A file that `--force` replaces is kept as FILE.old. The comments of an installed configuration are kept behind
//! the new keys, since they explain every key.

use crate::program::exit::{self, CommandFailure};
use crate::smtp::sasl::Secret;
use crate::store::StoreError;
use crate::store::durable::{
    DirectoryAccess, Owner, StagedFile, SyncedFile, make_directories, open_directory,
};
use crate::sys::file::{self, FileKind};
use rustix::fs::Mode;
use std::io::{Error, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Mode of the directory of the configuration.
const DIRECTORY: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);

/// A file to be written.
pub struct File {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub octets: Secret,
    /// Its readers.
    pub readers: FileReaders,
}

/// The readers of a file.
#[derive(Clone, Copy)]
pub enum FileReaders {
    /// Every user.
    All,
    /// Only the user who writes it.
    Writer,
    /// That user, and the group of this owner.
    Group(Owner),
}

/// The configuration to write, and its present content.
pub struct ConfigTarget {
    /// Its path, absolute.
    pub path: PathBuf,
    /// Its present content; `None`: it does not exist.
    old: Option<Vec<u8>>,
    is_forced: bool,
}

impl ConfigTarget {
    /// Reads the present content.
    ///
    /// # Errors
    /// The file sets a key and may not be replaced, or can't be read.
    pub fn read(path: &Path, is_forced: bool) -> Result<Self, CommandFailure> {
        let failed =
            |error: Error| CommandFailure::new(exit::IO, format!("setup: {}: {error}", path.display()));
        let old = match file::read(path, FileKind::Configuration) {
            Ok(octets) => Some(octets),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let target = Self { path: std::path::absolute(path).map_err(failed)?, old, is_forced };
        if target.comments().is_some() { Ok(target) } else { target.may_write(&target.path).map(|()| target) }
    }

    /// The path of a file beside it.
    pub fn sibling(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Checks that a file may be written.
    ///
    /// # Errors
    /// It exists, and `--force` was not given.
    pub fn may_write(&self, path: &Path) -> Result<(), CommandFailure> {
        if self.is_forced || std::fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        let shown = path.display();
        let text = format!("setup: {shown} exists; --force replaces it, and keeps it as {shown}.old");
        Err(CommandFailure::new(exit::CANT_CREATE, text))
    }

    /// The present content, if it is only comments, as in the installed configuration.
    fn comments(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.old.as_deref()?).ok()?;
        let is_comment = |line: &str| line.trim_start().starts_with('#') || line.trim().is_empty();
        text.lines().all(is_comment).then_some(text)
    }

    /// The text, with these comments behind it.
    pub fn with_comments(&self, text: String) -> String {
        match self.comments() {
            Some(comments) if !comments.is_empty() => format!("{text}\n{comments}"),
            _ => text,
        }
    }

    /// Writes the files in this order, after all of them are on stable storage under other names.
    ///
    /// # Errors
    /// A file can't be written; those after it are unchanged.
    pub fn write(&self, new: &[File]) -> Result<(), CommandFailure> {
        let failed = |error: StoreError| CommandFailure::new(exit::CANT_CREATE, format!("setup: {error}"));
        let mut staged = Vec::new();
        for file in new {
            let is_kept = file.path == self.path && self.comments().is_some();
            if let Some(old) = read_old(&file.path).filter(|_| !is_kept) {
                let mut path = file.path.clone().into_os_string();
                path.push(".old");
                // The old file may hold secrets of its readers.
                let is_open = std::fs::metadata(&file.path).is_ok_and(|it| it.mode() & 0o004 != 0);
                let readers = match file.readers {
                    FileReaders::All if !is_open => FileReaders::Writer,
                    readers => readers,
                };
                staged.push((stage(path.as_ref(), old.octets(), readers).map_err(failed)?, true));
            }
            let is_replaced = is_kept || self.is_forced;
            staged
                .push((stage(&file.path, file.octets.octets(), file.readers).map_err(failed)?, is_replaced));
        }
        for (file, is_replaced) in staged {
            if is_replaced { file.replace() } else { file.commit() }.map_err(failed)?;
        }
        Ok(())
    }
}

fn read_old(path: &Path) -> Option<Secret> {
    file::read(path, FileKind::Configuration).ok().map(Secret::new)
}

/// Writes a file under a temporary name beside its own.
fn stage(path: &Path, octets: &[u8], readers: FileReaders) -> Result<SyncedFile, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let written = || -> Result<(StagedFile, Arc<OwnedFd>), Error> {
        make_directories(directory, DIRECTORY)?;
        let directory = Arc::new(open_directory(directory, DirectoryAccess::Read)?);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = format!(".{name}.{}", std::process::id());
        let owner = if let FileReaders::Group(owner) = readers { Some(owner) } else { None };
        let mut file = StagedFile::create(&directory, temporary, owner)?;
        match readers {
            FileReaders::All => file.publish()?,
            FileReaders::Writer => {}
            FileReaders::Group(_) => file.show_to_group()?,
        }
        file.write(octets)?;
        Ok((file, directory))
    };
    let (file, directory) = written().map_err(|error| StoreError::io(path, error))?;
    file.sync(directory, path.to_owned())
}
