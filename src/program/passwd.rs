//! `pillarbox passwd NAME`: prints a line for the users file.
//!
//! Reads the password from the terminal, twice and unseen, or else the first line of standard input; never from the
//! arguments, which every user can see. Writes no file. The octets of the password are read one by one into memory
//! that is overwritten afterwards, and no buffer of the library gets them.

use super::exit::{self, Failure};
use super::terminal::{CTRL_C, Mute, check_password, line, prompt};
use crate::rules::accounts::password::{ALPHABET, PasswordHash, SALT_MAX};
use crate::rules::accounts::users;
use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Secret};
use rustix::io::Errno;
use rustix::termios::tcgetattr;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

/// Reads a password and prints `NAME:$6$SALT$HASH`.
///
/// # Errors
/// There is not one name, or it can't stand in the file; the password is empty or can't be used; input or output fail.
pub fn run(operands: &[OsString]) -> Result<(), Failure> {
    let [name] = operands else {
        return Err(Failure::new(exit::USAGE, "passwd: say one NAME".into()));
    };
    let usage = |error: &str| Failure::new(exit::USAGE, format!("passwd: {error}"));
    let name = name.to_str().ok_or_else(|| usage("a name has to be UTF-8"))?;
    users::check_name(name).map_err(usage)?;
    let password = read(std::io::stdin().as_fd())?;
    check_password(name, &password)
        .map_err(|error| Failure::new(exit::DATA, format!("passwd: the password {error}")))?;
    let hash = PasswordHash::make(password.octets(), &salt()?);
    writeln!(std::io::stdout(), "{name}:{hash}")
        .map_err(|error| Failure::new(exit::IO, format!("passwd: can't write the line: {error}")))
}

fn read(input: BorrowedFd<'_>) -> Result<Secret, Failure> {
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
        return Err(Failure::new(exit::DATA, "passwd: that was not the same password twice".into()));
    }
    Ok(first)
}

/// [`SALT_MAX`] random letters.
fn salt() -> Result<String, Failure> {
    let mut octets = [0; SALT_MAX];
    match rustix::rand::getrandom(&mut octets, rustix::rand::GetRandomFlags::empty()) {
        Ok(SALT_MAX) => {
            let letters = octets.iter().filter_map(|octet| ALPHABET.get(usize::from(octet & 63)));
            Ok(letters.map(|&letter| char::from(letter)).collect())
        }
        _ => Err(Failure::new(exit::OS_ERROR, "passwd: the system gives no random numbers".into())),
    }
}

fn unreadable(errno: Errno) -> Failure {
    Failure::new(exit::IO, format!("passwd: can't read the password: {errno}"))
}
