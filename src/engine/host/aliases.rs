//! The aliases file and what it includes, as they are now: read again when they have changed.
//!
//! A look-up costs one stat; a file that is as it was is not read. A missing aliases file is an empty one. What can't be
//! read now says nothing about any recipient: the client is told to come again (INTERFACE section 8), and the log why. A
//! line that is none is logged, and the others count.

mod forward;

use super::site::{Site, SystemAccounts};
use crate::engine::log::event::Event;
use crate::mail::address::{ForwardPath, LocalPart, Mailbox};
use crate::rules::routing::aliases::{self, AliasProblem, AliasTable, AliasTarget};
use crate::rules::routing::expansion::{self, AliasMember, Expansion, Files, Sources};
use crate::rules::routing::route::{Destination, LookupFailed, NoRoute, Routed, SystemAccount};
use std::cell::RefCell;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Larger files are not read, in octets.
const FILE_MAX_OCTETS: u64 = 1 << 20;

/// The aliases file.
#[derive(Debug, Default)]
pub struct Aliases {
    path: Option<PathBuf>,
    known: Mutex<Known>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    table: Arc<AliasTable>,
    /// What has been logged already; each look-up would else say it again.
    error: Option<String>,
}

/// By what a file that has changed is told: device, inode, size, and the times of the last change of content and inode.
type Stamp = [i64; 7];

impl Aliases {
    /// Reads the aliases file; `None`: there are no aliases.
    #[must_use]
    pub fn load(path: Option<&Path>) -> Self {
        let aliases = Self { path: path.map(Path::to_owned), known: Mutex::default() };
        // What is wrong has been logged, and shows again at each look-up.
        let _ = aliases.table();
        aliases
    }

    /// The aliases of now.
    ///
    /// # Errors
    /// The file can't be read now.
    pub fn table(&self) -> Result<Arc<AliasTable>, LookupFailed> {
        let Some(path) = &self.path else { return Ok(Arc::default()) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match known.refresh(path) {
            Ok(()) => {
                known.error = None;
                Ok(Arc::clone(&known.table))
            }
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                known.stamp = None;
                if known.error.as_ref() != Some(&text) {
                    Event::Trouble { doing: "reading the aliases", error: &text }.log();
                    known.error = Some(text.clone());
                }
                Err(LookupFailed(text))
            }
        }
    }
}

impl Known {
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

/// The text of a regular file, and the stamp that it had before it was read: what changes meanwhile is read again. Old
/// files have comments in other character sets, which must not cost the rest.
fn read(path: &Path) -> io::Result<(String, Stamp)> {
    // A pipe would keep whoever opens it waiting.
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

fn log_problems(path: &Path, problems: &[AliasProblem]) {
    for AliasProblem { line, column, text } in problems {
        let error = format!("{}:{line}:{column}: {text}", path.display());
        Event::Trouble { doing: "reading the aliases; the line is passed over", error: &error }.log();
    }
}

/// The files that aliases include; and what is wrong with those that were read.
#[derive(Default)]
struct Disk(RefCell<Vec<(PathBuf, Vec<AliasProblem>)>>);

impl Files for Disk {
    fn include(&self, path: &str) -> Result<Vec<AliasTarget>, LookupFailed> {
        let path = Path::new(path);
        let (text, _) = read(path).map_err(|error| LookupFailed(format!("{}: {error}", path.display())))?;
        let (targets, problems) = aliases::parse_list(&text);
        self.0.borrow_mut().push((path.to_owned(), problems));
        Ok(targets)
    }

    fn forward(&self, account: &SystemAccount) -> Option<Vec<AliasTarget>> {
        forward::read(account)
    }
}

impl Site {
    /// The route of a forward-path, aliases first.
    ///
    /// # Errors
    /// There is none; see [`NoRoute`].
    pub fn route(&self, path: &ForwardPath) -> Result<Routed, NoRoute> {
        if let ForwardPath::Mailbox(mailbox) = path
            && !self.routes.is_local(&mailbox.domain)
        {
            return self.routes.route_mailbox(mailbox, &SystemAccounts);
        }
        let aliases = self.aliases.table().map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
        let mut routed = self.routes.route(path, &aliases, &SystemAccounts)?;
        if routed.account().is_some_and(|(_, account)| forward::read(account).is_some()) {
            routed.destination = Destination::Alias;
        }
        if routed.destination == Destination::Alias {
            // Who can't be reached by it is to be told so now, not after the data.
            self.follow(&aliases, &routed.mailbox, &Disk::default())?;
        }
        Ok(routed)
    }

    /// Those that the alias of a local mailbox stands for; one at least has a route. What the operator should mend is
    /// logged.
    ///
    /// # Errors
    /// There is nobody, or it can't be found out now.
    pub fn expand(&self, mailbox: &Mailbox) -> Result<Vec<AliasMember>, NoRoute> {
        let aliases = self.aliases.table().map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
        let files = Disk::default();
        let expansion = self.follow(&aliases, mailbox, &files)?;
        expansion.troubles.iter().for_each(|text| log_trouble(mailbox, text));
        files.0.take().iter().for_each(|(path, problems)| log_problems(path, problems));
        Ok(expansion.members)
    }

    fn follow(&self, aliases: &AliasTable, mailbox: &Mailbox, files: &Disk) -> Result<Expansion, NoRoute> {
        let sources = Sources { policy: &self.routes, aliases, accounts: &SystemAccounts, files };
        let found = expansion::expand(&sources, mailbox);
        if let Err(no_route) = &found {
            log_trouble(
                mailbox,
                match no_route {
                    NoRoute::LookupFailed(text) | NoRoute::Refused(_, text) => text,
                    NoRoute::UnknownUser => "nobody is left of those that it names",
                },
            );
        }
        found
    }
}

/// What is wrong with where an alias leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Its mail reaches nobody for good, or not all that it should reach: what to mend.
    Loop(String),
    /// So it is said, and nobody here is called so.
    Unknown(Mailbox),
    /// The same of all to whom it leads.
    Nobody,
    /// So it is said, and it leaves this host although its domain is local.
    Leaves(Mailbox),
}

impl Site {
    /// The aliases that lead nowhere, or elsewhere than they seem to: each with its name and its line in the file.
    #[must_use]
    pub fn alias_doubts(&self) -> Vec<(String, usize, Doubt)> {
        // What can't be read is told otherwise.
        let Ok(aliases) = self.aliases.table() else { return Vec::new() };
        let files = Disk::default();
        let sources =
            Sources { policy: &self.routes, aliases: &aliases, accounts: &SystemAccounts, files: &files };
        let mut found = Vec::new();
        for (name, line) in aliases.lines() {
            let Ok(local_part) = LocalPart::parse(name) else { continue };
            let mailbox = Mailbox { local_part, domain: self.routes.home().clone() };
            let doubts: Vec<Doubt> = match expansion::expand(&sources, &mailbox) {
                Ok(Expansion { members, troubles }) => {
                    let doubt = |member: AliasMember| match member.route {
                        Ok(Routed { leaves: true, mailbox, .. }) => Some(Doubt::Leaves(mailbox)),
                        Err(NoRoute::UnknownUser) => Some(Doubt::Unknown(member.mailbox)),
                        _ => None,
                    };
                    troubles
                        .into_iter()
                        .map(Doubt::Loop)
                        .chain(members.into_iter().filter_map(doubt))
                        .collect()
                }
                Err(NoRoute::Refused(_, text)) => vec![Doubt::Loop(text)],
                Err(NoRoute::UnknownUser) => vec![Doubt::Nobody],
                Err(NoRoute::LookupFailed(_)) => Vec::new(),
            };
            found.extend(doubts.into_iter().map(|doubt| (name.to_owned(), line, doubt)));
        }
        found
    }
}

fn log_trouble(mailbox: &Mailbox, text: &str) {
    let error = format!("{mailbox}: {text}");
    Event::Trouble { doing: "following an alias", error: &error }.log();
}

/// All that is wrong with an aliases file and the files that it includes, each with the file's name; what is wrong with a
/// file as a whole has no place. `readable` says whether the daemon will be able to read a file.
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
