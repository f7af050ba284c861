//! Standard output and standard error, for text that strangers may have written.
//!
//! On a terminal control characters are escaped: a queued message can't move the cursor, change colours or hide text. A
//! pipe or file gets every octet as it is.
//!
//! Queued messages, replies of other hosts and names in the log are all written by strangers. Escaped are the control
//! characters of C0 and C1 (ESC, CSI, BEL) and those of Unicode that reorder or separate lines (U+200E, U+200F, U+2028 to
//! U+202E, U+2066 to U+2069), which could make a line read as another one.

use crate::engine::control::output::Output;
use crate::mail::text::is_hostile;
use crate::sys::journal;
use std::io::{self, IsTerminal, Write};

/// Longer lines are shown in pieces.
const LINE_OCTETS: usize = 8 * 1024;

/// Standard output and standard error.
#[derive(Debug)]
pub struct Screen {
    /// Whether standard output is a terminal.
    is_terminal: bool,
    /// On a terminal the start of a line: escaping needs whole characters.
    line: Vec<u8>,
    /// Whether the reader has closed the pipe: nothing more is written.
    is_closed: bool,
}

impl Screen {
    /// The screen of this process.
    #[must_use]
    pub fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), line: Vec::new(), is_closed: false }
    }

    /// Writes, unless the reader has gone.
    fn write(&mut self, octets: &[u8]) {
        // A reader that closed the pipe has read enough; the request is still carried out.
        self.is_closed = self.is_closed || io::stdout().write_all(octets).is_err();
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Output for Screen {
    fn output(&mut self, octets: &[u8]) -> io::Result<()> {
        if !self.is_terminal {
            self.write(octets);
            return Ok(());
        }
        for piece in octets.split_inclusive(|&octet| octet == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() > LINE_OCTETS {
                let line = std::mem::take(&mut self.line);
                self.write(escaped(&String::from_utf8_lossy(&line)).as_bytes());
            }
        }
        Ok(())
    }

    fn error(&mut self, line: &str) -> io::Result<()> {
        let mark = journal::mark(journal::ERROR);
        let _ = writeln!(io::stderr(), "{mark}pillarbox: {}", escaped(line));
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.write(escaped(&String::from_utf8_lossy(&line)).as_bytes());
        let _ = io::stdout().flush();
    }
}

/// The text with control characters and those that change the direction of text escaped, line ends and tabs excepted.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if is_hostile(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_no_command_from_a_message() {
        assert_eq!(
            escaped("a\tb\r\n\u{1b}[2J\u{9b}\u{202e}ü\n"),
            "a\tb\\u{d}\n\\u{1b}[2J\\u{9b}\\u{202e}ü\n"
        );
    }
}
