//! Questions at the terminal. Prompts go to standard error. Answers are read octet by octet, so that no buffer of the library
//! holds a password, or swallows the answer to the next question.

use crate::smtp::sasl::{CREDENTIAL_MAX_OCTETS, Credentials, Secret};
use rustix::io::Errno;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcsetattr};
use std::io::Write;
use std::os::fd::BorrowedFd;

/// The octet of Ctrl-C in a muted terminal. As a signal it would end the program and leave the terminal without echo.
pub const CTRL_C: u8 = 3;

/// Shows a prompt; a closed standard error is ignored.
pub fn prompt(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Reads a line without its end, or `max_octets` and one more of a longer one. `None`: the input has ended.
///
/// # Errors
/// An I/O error of the operating system.
pub fn line(input: BorrowedFd<'_>, max_octets: usize) -> Result<Option<Secret>, Errno> {
    // Never grows: a vector that moves leaves its old octets behind.
    let mut octets = Vec::with_capacity(max_octets + 2);
    while octets.len() < max_octets + 2 {
        let mut octet = [0];
        match rustix::io::read(input, &mut octet) {
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
            Ok(0) if octets.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if octet == [b'\n'] => break,
            Ok(_) => octets.extend(octet),
        }
        if octet == [CTRL_C] {
            break;
        }
    }
    if octets.last() == Some(&b'\r') {
        octets.pop();
    }
    Ok(Some(Secret::new(octets)))
}

/// Whether `name` can log in with a typed password (RFC 4616).
///
/// # Errors
/// Says what is wrong with the password: it is empty, too long, has a control character, or is not UTF-8.
pub fn check_password(name: &str, password: &Secret) -> Result<(), &'static str> {
    match password.octets() {
        [] => Err("is empty"),
        octets if octets.len() > CREDENTIAL_MAX_OCTETS => Err("has more than 255 octets"),
        octets if octets.iter().any(u8::is_ascii_control) => Err("has a control character"),
        octets if Credentials::new(name.as_bytes(), octets).is_none() => Err("is not UTF-8"),
        _ => Ok(()),
    }
}

/// A terminal without echo, until this is dropped.
pub struct Mute<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Mute<'a> {
    /// Switches the echo off; `before` are the settings to restore.
    ///
    /// # Errors
    /// An I/O error of the operating system.
    pub fn begin(terminal: BorrowedFd<'a>, before: Termios) -> Result<Self, Errno> {
        let mut mute = before.clone();
        mute.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        // Ctrl-C ends the line, which is then no password.
        mute.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        tcsetattr(terminal, OptionalActions::Flush, &mute)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Mute<'_> {
    fn drop(&mut self) {
        // Discards input that was not read, or the shell would read it.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}
