//! The configuration: from the file to typed settings.
//!
//! ```text
//! file ─▶ toml ─▶ walk ─▶ rows of keys ─▶ kinds, mail_kinds ─▶ Settings
//!                  └ unknown keys, bad values, contradictions ─▶ ConfigProblem (FILE:LINE:COLUMN)
//! ```
//!
//! [`parse`] is pure and [`load`] reads one file. [`host`] finds the name of a host whose configuration has none. Every key
//! is a row of [`keys`]. A file with a mistake gives all its problems and no settings; nothing is ignored silently, with one
//! exception: [`load_leniently`], for sendmail. Values come as types of `mail`, `smtp` and `rules`, ready for use.

pub mod host;
pub mod keys;
mod kinds;
mod likeness;
mod logins;
mod mail_kinds;
pub mod oauth;
mod problem;
pub mod secret_file;
mod smarthosts;
mod strange;
mod values;
mod walk;

pub use keys::{
    Alarm, Auth, Digest, Dkim, Dns, Heartbeat, Limits, Listener, Local, Log, Oauth, Queue, Relay, Rewrite,
    Settings, Tls,
};
pub use likeness::is_like;
pub use problem::{ConfigProblem, FilePosition};
pub use smarthosts::{SenderRoute, SmarthostEntry};
pub use values::{
    Addressee, LISTENER_KINDS, ListenerAuth, ListenerKind, ListenerTls, LogLevel, LogTarget, RelayFamily,
    Storage, TlsLevel,
};

use crate::mail::address::Domain;
use crate::sys::file::{self, FileKind};
use kinds::Complaints;
use std::io::{Error, ErrorKind};
use std::path::Path;
use toml::de::DeTable;
use walk::WalkReport;

/// The most problems that are reported.
const PROBLEMS_MAX: usize = 100;

/// Where the file sets each key, for problems that show only when the settings meet the disk.
#[derive(Debug, Clone, Default)]
pub struct Places(pub(crate) Vec<(&'static str, &'static str, FilePosition)>);

impl Places {
    /// The place of a key's value; `table` is empty for the keys above all tables. `None`: the file does not set it.
    #[must_use]
    pub fn of(&self, table: &str, key: &str) -> Option<FilePosition> {
        self.nth(table, key, 0)
    }

    /// The same for the `n`-th entry of a repeatable table, counting only entries that set the key.
    #[must_use]
    pub fn nth(&self, table: &str, key: &str, n: usize) -> Option<FilePosition> {
        self.0.iter().filter(|(t, k, _)| (*t, *k) == (table, key)).nth(n).map(|(.., place)| *place)
    }
}

impl Settings {
    /// The domains whose mail stays here; `hostname` is the name that [`host::name`] found.
    #[must_use]
    pub fn local_domains(&self, hostname: &Domain) -> Vec<Domain> {
        let default = || vec![Domain::Name("localhost".to_owned()), hostname.clone()];
        self.local.domains.clone().unwrap_or_else(default)
    }
}

/// Reads a configuration file.
///
/// # Errors
/// All problems of the file.
pub fn load(path: &Path) -> Result<Settings, Vec<ConfigProblem>> {
    load_with_places(path).map(|(settings, _)| settings)
}

/// Reads the good values of a configuration file, and takes the defaults for all others: for sendmail, which must hand its
/// message over even while the operator edits the file.
///
/// # Errors
/// The file can't be read.
pub fn load_leniently(path: &Path) -> Result<Settings, Error> {
    let octets = file::read(path, FileKind::Configuration)?;
    let mut settings = Settings::default();
    read(&String::from_utf8_lossy(&octets), &mut settings, &mut WalkReport::default());
    Ok(settings)
}

/// Reads a configuration file, and where it sets each key.
///
/// # Errors
/// All problems of the file.
pub fn load_with_places(path: &Path) -> Result<(Settings, Places), Vec<ConfigProblem>> {
    match load_with_problems(path)? {
        (settings, places, problems) if problems.is_empty() => Ok((settings, places)),
        (.., problems) => Err(problems),
    }
}

/// Reads the good values of a configuration file, where it sets each key, and its mistakes: for `check`, which goes on to the
/// files that the good values name.
///
/// # Errors
/// The file can't be read.
pub fn load_with_problems(path: &Path) -> Result<(Settings, Places, Vec<ConfigProblem>), Vec<ConfigProblem>> {
    let name = path.display().to_string();
    let problem = |place, text| vec![ConfigProblem { file: name.clone(), place, text }];
    let octets = file::read(path, FileKind::Configuration).map_err(|e| match e.kind() {
        // A mailbox given by mistake.
        ErrorKind::FileTooLarge => problem(None, "is larger than 1 MiB; name a configuration file".into()),
        _ => problem(None, format!("can't be read: {e}; make the file, or name another by -c")),
    })?;
    let text = String::from_utf8(octets).map_err(|e| {
        let good =
            String::from_utf8_lossy(e.as_bytes().get(..e.utf8_error().valid_up_to()).unwrap_or_default());
        problem(
            Some(FilePosition::of(&good, good.len())),
            "the text is not UTF-8; save the file as UTF-8".into(),
        )
    })?;
    Ok(parse_with_problems(&text, &name))
}

/// Whether a file has at least as many keys as mistakes. The configuration of another mailer, which a flag of sendmail may
/// name, has not.
#[must_use]
pub fn is_configuration(path: &Path) -> bool {
    let mut report = WalkReport::default();
    let is_read = file::read(path, FileKind::Configuration).map(|octets| {
        read(&String::from_utf8_lossy(&octets), &mut Settings::default(), &mut report);
    });
    is_read.is_ok() && report.places.len() >= report.complaints.len()
}

/// Reads the text of a configuration; `file` is the name that problems give it.
///
/// # Errors
/// All problems of the file.
pub fn parse(text: &str, file: &str) -> Result<Settings, Vec<ConfigProblem>> {
    match parse_with_problems(text, file) {
        (settings, _, problems) if problems.is_empty() => Ok(settings),
        (.., problems) => Err(problems),
    }
}

fn parse_with_problems(text: &str, file: &str) -> (Settings, Places, Vec<ConfigProblem>) {
    let mut settings = Settings::default();
    let mut report = WalkReport::default();
    read(text, &mut settings, &mut report);
    let places = report.places.iter().map(|&(table, key, at)| (table, key, FilePosition::of(text, at)));
    let places = Places(places.collect());
    report.complaints.sort_unstable();
    // A mailbox named by mistake has a problem in each line.
    report.complaints.truncate(PROBLEMS_MAX);
    let problem = |(at, text_of): (usize, String)| ConfigProblem {
        file: file.to_owned(),
        place: Some(FilePosition::of(text, at)),
        text: text_of,
    };
    let problems = report.complaints.into_iter().map(problem).collect();
    (settings, places, problems)
}

/// Reads into `settings`. The TOML parser recovers from syntax errors, so the rest of the file is checked, too. Complaints on
/// the line of a syntax error, or below one that may have split a table, are only its echo and are dropped.
fn read(text: &str, settings: &mut Settings, report: &mut WalkReport) {
    let (table, errors) = DeTable::parse_recoverable(text);
    walk::walk(table.get_ref(), settings, report);
    let line_ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_of = |at: usize| line_ends.partition_point(|&end| end < at) + 1;
    let mut syntax = Complaints::new();
    let mut torn = usize::MAX;
    for error in &errors {
        let span = error.span().unwrap_or_default();
        if let Some((at, message)) = strange::explain(text, span.start, error.message()) {
            // Behind a text with wrong quotes or escapes the parser reads on as if it were right.
            let is_torn = !["quoted", "escape", "unicode"].iter().any(|word| error.message().contains(word))
                || error.message().contains("unquoted");
            torn = if is_torn { torn.min(line_of(at)) } else { torn };
            syntax.push((at, message));
            continue;
        }
        let message = match error.message() {
            "duplicate key" => "duplicate key; keep one of them".to_owned(),
            m if m.starts_with("string values must be quoted") => {
                if report.complaints.iter().any(|(at, _)| *at == span.start) {
                    continue; // The complaint that asks for `true` or a number says more.
                }
                format!("text stands in quotes; write {:?}", text.get(span.clone()).unwrap_or_default())
            }
            m => {
                torn = torn.min(line_of(span.start));
                m.replacen(", expected nothing", "; remove it", 1).replacen(", expected ", "; write ", 1)
            }
        };
        syntax.push((span.start, message));
    }
    syntax.sort_unstable();
    syntax.dedup_by_key(|(at, _)| line_of(*at));
    let broken: Vec<usize> = syntax.iter().map(|(at, _)| line_of(*at)).collect();
    report.complaints.retain(|(at, _)| line_of(*at) < torn && broken.binary_search(&line_of(*at)).is_err());
    report.complaints.append(&mut syntax);
}

#[cfg(test)]
mod tests;
