//! The aliases file, read again when it has changed, and the files that it includes, read at each use.
//!
//! A look-up costs one `stat`; an unchanged file is not read. The meaning of the names is in `rules::routing::aliases`.
//!
//! | file | recipients |
//! | --- | --- |
//! | missing | as if it were empty |
//! | cannot be read, larger than 1 MiB, not a regular file | all local recipients get 4yz (INTERFACE section 8); logged once |
//! | with a malformed line | the line is logged by its number and skipped; the rest still apply |
//! | with octets that are not UTF-8 | these octets are replaced; old comments must not make the file useless |

use crate::engine::log::event::trouble;
use crate::rules::routing::aliases::{self, AliasProblem, AliasTable};
use crate::rules::routing::route::LookupFailed;
use crate::sys::lock::Lock;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file that is read, in octets.
const FILE_MAX_OCTETS: u64 = 1 << 20;

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
        let (text, stamp) = read(path)?;
        let (table, problems) = AliasTable::parse(&text);
        log_problems(path, &problems);
        (self.stamp, self.table) = (Some(stamp), Arc::new(table));
        Ok(())
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    let (device, inode, size) = (metadata.dev(), metadata.ino(), metadata.size());
    let times = [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
    let [a, b, c, d] = times;
    [device.cast_signed(), inode.cast_signed(), size.cast_signed(), a, b, c, d]
}

/// The text of a regular file, and its stamp from before the read: a change during the read is noticed at the next
/// look-up.
pub(super) fn read(path: &Path) -> io::Result<(String, Stamp)> {
    // Opening a pipe would block.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("this is no file"));
    }
    let file = File::open(path)?;
    let stamp = stamp(&file.metadata()?);
    let mut octets = Vec::new();
    file.take(FILE_MAX_OCTETS + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_MAX_OCTETS {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok((String::from_utf8_lossy(&octets).into_owned(), stamp))
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

/// The problems of an aliases file and of the files that it includes, each with the path of its file. An `Err` is about
/// a file as a whole. `readable` says whether the daemon will be able to read a file.
pub fn problems(
    path: &Path,
    readable: &dyn Fn(&Path) -> Result<(), String>,
) -> Vec<(PathBuf, Result<AliasProblem, String>)> {
    let (mut files, mut found) = (vec![path.to_owned()], Vec::new());
    let mut next = 0;
    while let Some(path) = files.get(next).cloned() {
        next += 1;
        if let Err(text) = readable(&path) {
            found.push((path, Err(text)));
            continue;
        }
        let (problems, includes) = match read(&path) {
            Ok((text, _)) if next == 1 => {
                let (table, problems) = AliasTable::parse(&text);
                (problems, table.includes().map(PathBuf::from).collect::<Vec<_>>())
            }
            Ok((text, _)) => {
                let (targets, problems) = aliases::parse_list(&text);
                (problems, aliases::includes(&targets).map(PathBuf::from).collect())
            }
            Err(error) => {
                found.push((path, Err(format!("can't be read: {error}"))));
                continue;
            }
        };
        found.extend(problems.into_iter().map(|problem| (path.clone(), Ok(problem))));
        for include in includes {
            if !files.contains(&include) {
                files.push(include);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests;
