//! What `setup` writes: the password and the configuration, each as a whole or not at all, and what was there before.

use crate::program::exit::{self, Failure};
use crate::smtp::sasl::Secret;
use crate::store::StoreError;
use crate::store::durable::{
    DirectoryAccess, Owner, StagedFile, SyncedFile, make_directories, open_directory,
};
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
    /// Where.
    pub path: PathBuf,
    /// What.
    pub octets: Secret,
    /// Who may read it.
    pub readers: Readers,
}

/// Who may read a file.
#[derive(Clone, Copy)]
pub enum Readers {
    /// Everybody.
    All,
    /// Whoever writes it.
    Writer,
    /// The group of this owner, too.
    Group(Owner),
}

/// The configuration that is to be written, and what is there already.
pub struct Target {
    /// Its path, absolute.
    pub path: PathBuf,
    /// What it says; `None`: it does not exist.
    old: Option<Vec<u8>>,
    is_forced: bool,
}

impl Target {
    /// Looks at what is there.
    ///
    /// # Errors
    /// It says something, and may not be written over; or it can't be read.
    pub fn look(path: &Path, is_forced: bool) -> Result<Self, Failure> {
        let failed = |error: Error| Failure::new(exit::IO, format!("setup: {}: {error}", path.display()));
        let old = match std::fs::read(path) {
            Ok(octets) => Some(octets),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let target = Self { path: std::path::absolute(path).map_err(failed)?, old, is_forced };
        if target.comments().is_some() { Ok(target) } else { target.may_write(&target.path).map(|()| target) }
    }

    /// A file beside it.
    pub fn sibling(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Whether a file may be written.
    ///
    /// # Errors
    /// It exists, and nobody forces it.
    pub fn may_write(&self, path: &Path) -> Result<(), Failure> {
        if self.is_forced || std::fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
        let shown = path.display();
        let text = format!("setup: {shown} exists; --force replaces it, and keeps it as {shown}.old");
        Err(Failure::new(exit::CANT_CREATE, text))
    }

    /// What is there, if all of it is comments, as in the configuration that is installed.
    fn comments(&self) -> Option<&str> {
        let text = std::str::from_utf8(self.old.as_deref()?).ok()?;
        let is_comment = |line: &str| line.trim_start().starts_with('#') || line.trim().is_empty();
        text.lines().all(is_comment).then_some(text)
    }

    /// A text with these comments behind it: they tell all keys.
    pub fn with_comments(&self, text: String) -> String {
        match self.comments() {
            Some(comments) if !comments.is_empty() => format!("{text}\n{comments}"),
            _ => text,
        }
    }

    /// Writes the files in this order, after all of them are on stable storage under other names.
    ///
    /// # Errors
    /// One can't be written; those behind it are as they were.
    pub fn write(&self, new: &[File]) -> Result<(), Failure> {
        let failed = |error: StoreError| Failure::new(exit::CANT_CREATE, format!("setup: {error}"));
        let mut staged = Vec::new();
        for file in new {
            let is_kept = file.path == self.path && self.comments().is_some();
            if let Some(old) = read_old(&file.path).filter(|_| !is_kept) {
                let mut path = file.path.clone().into_os_string();
                path.push(".old");
                // What was not for all may hold what only its old readers may know.
                let is_open = std::fs::metadata(&file.path).is_ok_and(|it| it.mode() & 0o004 != 0);
                let readers = match file.readers {
                    Readers::All if !is_open => Readers::Writer,
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
    std::fs::read(path).ok().map(Secret::new)
}

/// Writes a file under a temporary name beside its own.
fn stage(path: &Path, octets: &[u8], readers: Readers) -> Result<SyncedFile, StoreError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let written = || -> Result<(StagedFile, Arc<OwnedFd>), Error> {
        make_directories(directory, DIRECTORY)?;
        let directory = Arc::new(open_directory(directory, DirectoryAccess::Read)?);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = format!(".{name}.{}", std::process::id());
        let owner = if let Readers::Group(owner) = readers { Some(owner) } else { None };
        let mut file = StagedFile::create(&directory, temporary, owner)?;
        match readers {
            Readers::All => file.publish()?,
            Readers::Writer => {}
            Readers::Group(_) => file.show_to_group()?,
        }
        file.write(octets)?;
        Ok((file, directory))
    };
    let (file, directory) = written().map_err(|error| StoreError::io(path, error))?;
    file.sync(directory, path.to_owned())
}
