//! The password for the smarthost, read when it is needed: from its file, from a command, from systemd's credentials, or
//! from the usual place. It is never logged, and never on a command line.

use crate::config::{Relay, files};
use crate::mail::base64;
use crate::net::transport::{Deadline, WireError};
use crate::smtp::sasl::Secret;
use crate::sys;
use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Where a password is looked for if nothing else is configured.
const USUAL_FILE: &str = "/etc/pillarbox/password";
/// Name of systemd's credential.
const CREDENTIAL: &str = "relay-password";
/// Time for a command that prints the password.
const COMMAND: Duration = Duration::from_secs(10);
/// A command that has printed is looked after so often, until it ends.
const GLANCE: Duration = Duration::from_millis(5);
/// Longest password or token in octets.
const MAX_OCTETS: u64 = 4096;

/// Reads the password.
///
/// # Errors
/// In words: there is none, or it can't be read.
pub fn read(relay: &Relay) -> Result<Secret, String> {
    let octets = match (&relay.password_file, relay.password_command.as_str()) {
        (Some(path), _) => of_file(path)?,
        (None, "") => of_file(&usual_file())?,
        (None, command) => of_command(command)?,
    };
    let line = octets.octets().split(|&octet| octet == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() { Err("its first line is empty".to_owned()) } else { Ok(Secret::new(line.to_vec())) }
}

/// 24 octets of chance, in base64.
#[must_use]
pub fn nonce() -> String {
    let octets = [sys::random(), sys::random(), sys::random()].map(u64::to_ne_bytes).concat();
    base64::encode(&octets)
}

fn usual_file() -> PathBuf {
    let credential =
        env::var_os("CREDENTIALS_DIRECTORY").map(|directory| Path::new(&directory).join(CREDENTIAL));
    credential.filter(|path| path.exists()).unwrap_or_else(|| USUAL_FILE.into())
}

fn of_file(path: &Path) -> Result<Secret, String> {
    // Whoever else can read it has it; `check` says so, and nothing else would.
    files::secret(path)?;
    let read = || {
        let mut octets = Vec::new();
        std::fs::File::open(path)?.take(MAX_OCTETS).read_to_end(&mut octets)?;
        Ok(Secret::new(octets))
    };
    read().map_err(|error: std::io::Error| format!("{path:?}: {error}"))
}

/// Runs a command without a shell: words by blanks, nothing else has a meaning.
fn of_command(command: &str) -> Result<Secret, String> {
    let mut words = command.split_ascii_whitespace();
    let program = words.next().unwrap_or_default();
    let trouble = |error: std::io::Error| format!("relay.password_command {program:?}: {error}");
    let mut child = Command::new(program);
    let child = child.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = child.spawn().map_err(trouble)?;
    let deadline = Deadline::after(COMMAND);
    let output =
        child.stdout.take().map(|mut pipe| crate::net::transport::read_pipe(&mut pipe, MAX_OCTETS, deadline));
    let output = match output {
        Some(Ok(output)) => Ok(Secret::new(output)),
        Some(Err(WireError::TimedOut)) => Err(format!("relay.password_command {program:?} takes too long")),
        Some(Err(error)) => Err(format!("relay.password_command {program:?}: {error}")),
        None => Err(format!("relay.password_command {program:?} has no output")),
    };
    // Its output has ended, but it may hang on.
    while output.is_ok()
        && !deadline.remaining().is_zero()
        && child.try_wait().is_ok_and(|ended| ended.is_none())
    {
        sys::thread::sleep(GLANCE);
    }
    let _ = child.kill();
    let status = child.wait().map_err(trouble)?;
    let output = output?;
    if status.success() { Ok(output) } else { Err(format!("relay.password_command {program:?}: {status}")) }
}
