//! The password for a smarthost: read each time it is needed, never logged, and never on a command line.
//!
//! | source, the first that applies | configured by |
//! | --- | --- |
//! | a file | `password_file` of the smarthost or of `[relay]` |
//! | the output of a command | `password_command`, in the same way |
//! | the credential `relay-password` of systemd | `LoadCredential=` in the unit; for the login of `[relay]` alone |
//! | `/etc/pillarbox/password` | nothing; the same |
//! | the token that is kept, see [`super::tokens`] | `[oauth]`, for logins by xoauth2 or oauthbearer that name no other source |
//!
//! Only the first line counts. A file that other users may read is refused.

use crate::config::{Relay, secret_file};
use crate::engine::host::commands::Commands;
use crate::engine::host::site::Site;
use crate::mail::base64;
use crate::mail::relay_login::{PasswordSource, RelayLogin};
use crate::net::transport::{Deadline, WireError, read_pipe};
use crate::rules::accounts::secret_shape::{Flaw, first_line, flaw};
use crate::smtp::sasl::Secret;
use crate::sys;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt};

/// The password file if no other source is configured.
pub const USUAL_FILE: &str = "/etc/pillarbox/password";
/// The name of the credential of systemd.
const CREDENTIAL: &str = "relay-password";
/// The time that the command has.
const COMMAND: Duration = Duration::from_secs(10);
/// The longest password or token in octets.
const MAX_OCTETS: u64 = 4096;
const TOO_LONG: &str = "it takes too long";

/// Reads the password, or gets the token.
///
/// # Errors
/// A text for the operator: no password is found, it cannot be read, or its form is wrong.
pub fn read(
    site: &Site,
    login: &RelayLogin,
    tokens: &dyn Fn(&str) -> Result<Secret, String>,
) -> Result<Secret, String> {
    let octets = match &login.password {
        PasswordSource::Token => return tokens(&login.username),
        PasswordSource::File(path) => of_file(path)?,
        PasswordSource::Usual => of_file(&credential().unwrap_or_else(|| USUAL_FILE.into()))?,
        PasswordSource::Command(command) => of_command(command, site.commands.as_deref(), COMMAND)?,
    };
    match flaw(octets.octets()).filter(|flaw| flaw.is_fatal) {
        Some(flaw) => Err(flaw.text.to_owned()),
        None => Ok(Secret::new(first_line(octets.octets()).to_vec())),
    }
}

/// 24 random octets, in base64.
#[must_use]
pub fn nonce() -> String {
    let octets = [sys::random(), sys::random(), sys::random()].map(u64::to_ne_bytes).concat();
    base64::encode(&octets)
}

/// Whether a login has a password. One with a client certificate needs none, so that no usual file is missed there.
#[must_use]
pub fn is_needed(login: &RelayLogin) -> bool {
    let has_usual = || credential().is_some() || Path::new(USUAL_FILE).exists();
    let may_lack = login.certificate.is_some() && login.password == PasswordSource::Usual;
    !login.username.is_empty() && login.auth != "external" && (!may_lack || has_usual())
}

/// The files that must hold passwords, for `check`, each once.
#[must_use]
pub fn files(relay: &Relay) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = relay.password_file.iter().cloned().collect();
    for login in relay.logins().iter().filter(|login| is_needed(login)) {
        let file = match &login.password {
            PasswordSource::File(path) => Some(path.clone()),
            PasswordSource::Usual if credential().is_none() => Some(USUAL_FILE.into()),
            PasswordSource::Usual | PasswordSource::Command(_) | PasswordSource::Token => None,
        };
        files.extend(file.filter(|file| !files.contains(file)));
    }
    files
}

/// What is probably wrong with the content of a password file.
///
/// # Errors
/// A text for the operator: the file cannot be read, or other users may read it.
pub fn file_flaw(path: &Path) -> Result<Option<Flaw>, String> {
    of_file(path).map(|secret| flaw(secret.octets()))
}

fn credential() -> Option<PathBuf> {
    let directory = env::var_os("CREDENTIALS_DIRECTORY")?;
    Some(Path::new(&directory).join(CREDENTIAL)).filter(|path| path.exists())
}

fn of_file(path: &Path) -> Result<Secret, String> {
    // Every user who can read the file has the password: a wrong mode must be noticed.
    secret_file::read(path).map(Secret::new).map_err(|fault| fault.text)
}

/// Has the command run, which prints the password. It must end within `longest`.
fn of_command(command: &str, commands: Option<&Commands>, longest: Duration) -> Result<Secret, String> {
    let program = command.split_ascii_whitespace().next().unwrap_or_default();
    let trouble = |text: &dyn fmt::Display| format!("relay.password_command {program:?}: {text}");
    let commands = commands.ok_or_else(|| trouble(&"no process runs commands; restart pillarbox"))?;
    let (mut running, mut pipe) = commands.password(command).map_err(|error| trouble(&error))?;
    let deadline = Deadline::after(longest);
    let output = read_pipe(&mut pipe, MAX_OCTETS + 1, deadline).map(Secret::new);
    let output = match output {
        Ok(output) => output,
        Err(WireError::TimedOut) => return Err(trouble(&TOO_LONG)),
        Err(error) => return Err(trouble(&error)),
    };
    if output.octets().len() as u64 > MAX_OCTETS {
        return Err(trouble(&"it prints more than 4 KiB"));
    }
    // The output has ended, but the command may still run.
    match running.wait(deadline).map_err(|error| trouble(&error))? {
        Some(status) if status.success() => Ok(output),
        Some(status) => Err(trouble(&status)),
        None => Err(trouble(&TOO_LONG)),
    }
}

#[cfg(test)]
mod tests;
