//! The aliases file, read again when it has changed, and the files that it includes, read at each use.
//!
//! A look-up costs one `stat`; an unchanged file is not read. The meaning of the names is in `rules::routing::aliases`, and
//! whose a file is in `sys::file`.
//!
//! | file | recipients |
//! | --- | --- |
//! | missing | as if it were empty |
//! | cannot be read, larger than 1 MiB, not a regular file | all local recipients get 4yz; logged once |
//! | with a malformed line | the line is logged by its number and skipped; the rest still apply |
//! | owned by another user than root or the daemon's | its bad lines are told by number, without their text; it includes no file |
//! | the same, and included | neither may it be writable by others, nor have a second name: 4yz |
//! | reached by a link of such a user | 4yz: the daemon may read what the user may not |
//! | with octets that are not UTF-8 | these octets are replaced; old comments must not make the file useless |

use crate::engine::log::event::trouble;
use crate::rules::routing::aliases::{self, AliasProblem, AliasTable, AliasTarget};
use crate::rules::routing::route::LookupFailed;
use crate::sys::file::{FileKind, ListFile, read_list};
use crate::sys::lock::Lock;
use std::borrow::Cow;
use std::fs::Metadata;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The aliases file.
#[derive(Debug, Default)]
pub struct Aliases {
    path: Option<PathBuf>,
    known: Lock<LoadedAliases>,
}

/// The result of the latest read.
#[derive(Debug, Default)]
struct LoadedAliases {
    stamp: Option<Stamp>,
    table: Arc<AliasTable>,
    /// The error that was logged last, so that not every look-up logs it again.
    error: Option<String>,
}

/// The values by which a changed file is recognised: device, inode, size, and the times of the latest change of its
/// content and its inode.
type Stamp = [i64; 7];

impl Aliases {
    /// Reads the aliases file; without a path there are no aliases.
    #[must_use]
    pub fn load(path: Option<&Path>) -> Self {
        let aliases = Self { path: path.map(Path::to_owned), known: Lock::default() };
        // An error has been logged, and each look-up returns it again.
        let _ = aliases.table();
        aliases
    }

    /// The current aliases.
    ///
    /// # Errors
    /// The file cannot be read now.
    pub fn table(&self) -> Result<Arc<AliasTable>, LookupFailed> {
        let Some(path) = &self.path else { return Ok(Arc::default()) };
        let mut known = self.known.lock();
        match known.refresh(path) {
            Ok(()) => {
                known.error = None;
                Ok(Arc::clone(&known.table))
            }
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                known.stamp = None;
                if known.error.as_ref() != Some(&text) {
                    trouble("reading the aliases", &text);
                    known.error = Some(text.clone());
                }
                Err(LookupFailed(text))
            }
        }
    }
}

impl LoadedAliases {
    fn refresh(&mut self, path: &Path) -> io::Result<()> {
        let metadata = match std::fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                *self = Self::default();
                return Ok(());
            }
            metadata => metadata?,
        };
        if self.stamp == Some(stamp(&metadata)) {
            return Ok(());
        }
        let (table, problems, metadata) = read_table(path)?;
        log_problems(path, &problems);
        // From before the read: a change during the read is noticed at the next look-up.
        (self.stamp, self.table) = (Some(stamp(&metadata)), Arc::new(table));
        Ok(())
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let (device, inode, size) = (metadata.dev(), metadata.ino(), metadata.size());
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let [a, b, c, d] = times;
    [device.cast_signed(), inode.cast_signed(), size.cast_signed(), a, b, c, d]
}

/// The text of a file.
fn text(list: &ListFile) -> Cow<'_, str> {
    String::from_utf8_lossy(&list.octets)
}

/// The aliases of a file, with the problems of its lines, and the metadata of the file from before the read.
pub(super) fn read_table(path: &Path) -> io::Result<(AliasTable, Vec<AliasProblem>, Metadata)> {
    let list = read_list(path, FileKind::Aliases)?;
    let (table, problems) = AliasTable::parse(&text(&list), list.is_user_s);
    Ok((table, problems, list.metadata))
}

/// The targets in a file that aliases include, with the problems of its lines.
pub(super) fn read_include(path: &Path) -> io::Result<(Vec<AliasTarget>, Vec<AliasProblem>)> {
    let list = read_list(path, FileKind::List)?;
    Ok(aliases::parse_list(&text(&list), list.is_user_s))
}

/// Logs the problems of a file of aliases, line by line.
pub(super) fn log_problems(path: &Path, problems: &[AliasProblem]) {
    for AliasProblem { line, column, text } in problems {
        trouble(
            "reading the aliases; the line is skipped",
            &format_args!("{}:{line}:{column}: {text}", path.display()),
        );
    }
}

/// A problem of the aliases file, or of a file that it includes.
#[derive(Debug)]
pub struct AliasFinding {
    /// The file.
    pub file: PathBuf,
    /// Whether it is an included file of a user's own.
    pub is_user_s: bool,
    /// An `Err` is about the file as a whole.
    pub problem: Result<AliasProblem, String>,
}

/// The problems of an aliases file and of the files that it includes. `readable` says whether the daemon will be able to
/// read a file.
pub fn problems(path: &Path, readable: &dyn Fn(&Path) -> Result<(), String>) -> Vec<AliasFinding> {
    let (mut files, mut found) = (vec![path.to_owned()], Vec::new());
    let mut next = 0;
    while let Some(file) = files.get(next).cloned() {
        next += 1;
        let read = readable(&file)
            .and_then(|()| read_targets(&file, next == 1).map_err(|error| format!("can't be read: {error}")));
        let (problems, includes, is_user_s) = match read {
            Ok(read) => read,
            Err(text) => {
                found.push(AliasFinding { file, is_user_s: false, problem: Err(text) });
                continue;
            }
        };
        let finding = |problem| AliasFinding { file: file.clone(), is_user_s, problem: Ok(problem) };
        found.extend(problems.into_iter().map(finding));
        for include in includes {
            if !files.contains(&include) {
                files.push(include);
            }
        }
    }
    found
}

/// The aliases file, and all files that it and these include.
#[must_use]
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = vec![path.to_owned()];
    let mut next = 0;
    while let Some(path) = files.get(next) {
        let (_, includes, _) = read_targets(path, next == 0).unwrap_or_default();
        includes.into_iter().for_each(|include| {
            if !files.contains(&include) {
                files.push(include);
            }
        });
        next += 1;
    }
    files
}

/// The problems of a file, the files that it includes, and whether it is an included file of a user's own.
fn read_targets(path: &Path, is_table: bool) -> io::Result<(Vec<AliasProblem>, Vec<PathBuf>, bool)> {
    if is_table {
        let (table, problems, _) = read_table(path)?;
        return Ok((problems, table.includes().map(PathBuf::from).collect(), false));
    }
    let list = read_list(path, FileKind::List)?;
    let (targets, problems) = aliases::parse_list(&text(&list), list.is_user_s);
    Ok((problems, aliases::includes(&targets).map(PathBuf::from).collect(), list.is_user_s))
}

#[cfg(test)]
mod tests;
