//! `pillarbox passwd NAME`: prints a line for the users file.
//!
//! Reads the password from the terminal, twice and without echo, or else from the first line of standard input; never from the
//! arguments, which every user can see. Writes no file. The password is kept only in memory that is overwritten afterwards.
//!
//! The line has the form that `rules::accounts::users` reads, with a SHA-512 crypt hash and a random salt. A name that can't
//! stand there, and a password that no client could send (RFC 4616: no NUL, UTF-8, bounded), are refused here, not at the
//! first login.

use super::exit::{self, CommandFailure};
use super::terminal::{CTRL_C, Mute, check_password, line, prompt};
use crate::rules::accounts::password::{ALPHABET, PasswordHash, SALT_MAX};
use crate::rules::accounts::users;
use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Secret};
use crate::sys::rights;
use rustix::io::Errno;
use rustix::termios::tcgetattr;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Reads a password and prints `NAME:$6$SALT$HASH`.
///
/// # Errors
/// No single name is given, the name can't stand in the file, the password is empty or can't be used, or input or output
/// fails.
pub fn run(operands: &[OsString]) -> Result<(), CommandFailure> {
    // For the password; no cause of a failure is known.
    let _ = rights::close_memory();
    let [name] = operands else {
        return Err(CommandFailure::new(exit::USAGE, "passwd: give one NAME".into()));
    };
    let usage = |error: &str| CommandFailure::new(exit::USAGE, format!("passwd: {error}"));
    let name = name.to_str().ok_or_else(|| usage("a name has to be UTF-8"))?;
    users::check_name(name).map_err(usage)?;
    let password = read(std::io::stdin().as_fd())?;
    check_password(name, &password)
        .map_err(|error| CommandFailure::new(exit::DATA, format!("passwd: the password {error}")))?;
    let hash = PasswordHash::make(password.octets(), &salt()?);
    writeln!(std::io::stdout(), "{name}:{hash}")
        .map_err(|error| CommandFailure::new(exit::IO, format!("passwd: can't write the line: {error}")))
}

/// Reads the password, twice from a terminal, once from any other input.
fn read(input: BorrowedFd<'_>) -> Result<Secret, CommandFailure> {
    let typed = || {
        let typed = line(input, CREDENTIAL_MAX_OCTETS).map_err(unreadable)?;
        Ok(typed.unwrap_or_else(|| Secret::new(Vec::new())))
    };
    let Ok(settings) = tcgetattr(input) else { return typed() };
    let _mute = Mute::begin(input, settings).map_err(unreadable)?;
    let ask = |text: &str| {
        prompt(text);
        let typed = typed();
        prompt("\n");
        typed
    };
    let first = ask("Password: ")?;
    if !first.octets().is_empty() && !first.octets().contains(&CTRL_C) && ask("Once more: ")? != first {
        return Err(CommandFailure::new(exit::DATA, "passwd: the two passwords differ".into()));
    }
    Ok(first)
}

/// [`SALT_MAX`] random letters.
fn salt() -> Result<String, CommandFailure> {
    let mut octets = [0; SALT_MAX];
    match rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty()) {
        Ok(SALT_MAX) => {
            let letters = octets.iter().filter_map(|octet| ALPHABET.get(usize::from(octet & 63)));
            Ok(letters.map(|&letter| char::from(letter)).collect())
        }
        _ => Err(CommandFailure::new(exit::OS_ERROR, "passwd: no random numbers from the system".into())),
    }
}

/// The failure of input that can't be read.
fn unreadable(errno: Errno) -> CommandFailure {
    CommandFailure::new(exit::IO, format!("passwd: can't read the password: {errno}"))
}
