//! The password for the smarthost, read when it is needed: from its file, from a command, from systemd's credentials, or
//! from the usual place. It is never logged, and never on a command line.

use super::command::Running;
use crate::config::{Relay, secret_file};
use crate::mail::base64;
use crate::net::transport::{Deadline, WireError, read_pipe};
use crate::rules::accounts::secret_shape::{Flaw, first_line, flaw};
use crate::smtp::sasl::Secret;
use crate::sys;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{env, fmt};

/// Where a password is looked for if nothing else is configured.
pub const USUAL_FILE: &str = "/etc/pillarbox/password";
/// Name of systemd's credential.
const CREDENTIAL: &str = "relay-password";
/// Time for a command that prints the password.
const COMMAND: Duration = Duration::from_secs(10);
/// Longest password or token in octets.
const MAX_OCTETS: u64 = 4096;
const TOO_LONG: &str = "it takes too long";

/// Reads the password.
///
/// # Errors
/// In words: there is none, or it can't be read.
pub fn read(relay: &Relay) -> Result<Secret, String> {
    let octets = match (&relay.password_file, relay.password_command.as_str()) {
        (Some(path), _) => of_file(path)?,
        (None, "") => of_file(&credential().unwrap_or_else(|| USUAL_FILE.into()))?,
        (None, command) => of_command(command, COMMAND)?,
    };
    match flaw(octets.octets()).filter(|flaw| flaw.is_fatal) {
        Some(flaw) => Err(flaw.text.to_owned()),
        None => Ok(Secret::new(first_line(octets.octets()).to_vec())),
    }
}

/// 24 octets of chance, in base64.
#[must_use]
pub fn nonce() -> String {
    let octets = [sys::random(), sys::random(), sys::random()].map(u64::to_ne_bytes).concat();
    base64::encode(&octets)
}

/// The file that has to hold the password, so that `check` can look at it; `None` if none has to.
#[must_use]
pub fn file(relay: &Relay) -> Option<PathBuf> {
    let wants_one = !relay.username.is_empty() && !relay.smarthost.is_empty();
    let has_other = !relay.password_command.is_empty() || credential().is_some();
    relay.password_file.clone().or_else(|| (wants_one && !has_other).then(|| USUAL_FILE.into()))
}

/// What is likely wrong with what a password file holds.
///
/// # Errors
/// In words: it can't be read.
pub fn file_flaw(path: &Path) -> Result<Option<Flaw>, String> {
    of_file(path).map(|secret| flaw(secret.octets()))
}

fn credential() -> Option<PathBuf> {
    let directory = env::var_os("CREDENTIALS_DIRECTORY")?;
    Some(Path::new(&directory).join(CREDENTIAL)).filter(|path| path.exists())
}

fn of_file(path: &Path) -> Result<Secret, String> {
    // Whoever else can read it has it; `check` says so, and nothing else would.
    secret_file::check(path)?;
    let read = || {
        let mut octets = Vec::new();
        std::fs::File::open(path)?.take(MAX_OCTETS).read_to_end(&mut octets)?;
        Ok(Secret::new(octets))
    };
    read().map_err(|error: std::io::Error| format!("{path:?}: {error}"))
}

/// Runs a command that prints the password. `longest`: until it has ended.
fn of_command(command: &str, longest: Duration) -> Result<Secret, String> {
    let program = command.split_ascii_whitespace().next().unwrap_or_default();
    let trouble = |text: &dyn fmt::Display| format!("relay.password_command {program:?}: {text}");
    let mut running = Running::start(command, &[], Stdio::piped()).map_err(|error| trouble(&error))?;
    let deadline = Deadline::after(longest);
    let output = running.output().map(|pipe| read_pipe(pipe, MAX_OCTETS + 1, deadline));
    let status = match &output {
        // Its output has ended, but it may hang on.
        Some(Ok(output)) if output.len() as u64 <= MAX_OCTETS => {
            running.wait(deadline).map_err(|error| trouble(&error))?
        }
        _ => None,
    };
    drop(running);
    let output = match output {
        Some(Ok(output)) => Secret::new(output),
        Some(Err(WireError::TimedOut)) => return Err(trouble(&TOO_LONG)),
        Some(Err(error)) => return Err(trouble(&error)),
        None => return Err(trouble(&"no output")),
    };
    match status {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(trouble(&status)),
        None if output.octets().len() as u64 > MAX_OCTETS => Err(trouble(&"it prints more than 4 KiB")),
        None => Err(trouble(&TOO_LONG)),
    }
}

#[cfg(test)]
mod tests;
