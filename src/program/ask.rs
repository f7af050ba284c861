//! Talks to the daemon on the control socket, and shows what it says.
//!
//! What is shown on a terminal has its control characters escaped: a queued message can't move the cursor or change
//! colours. Elsewhere it goes on as it is. What may fail: there is no daemon; it breaks off.

use super::exit::{self, Failure};
use crate::engine::control::operator::Output;
use crate::protocol::piece::{self, Piece};
use crate::protocol::request::Request;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take for each piece of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// Longer lines are shown in pieces.
const LINE_OCTETS: usize = 8 * 1024;

/// What came of a question.
#[derive(Debug)]
pub enum Asked {
    /// The daemon has answered, with this exit code.
    Answered(u8),
    /// Nobody answers at the socket, and why.
    NoDaemon(String),
}

/// Asks the daemon.
///
/// # Errors
/// It breaks off, or says what makes no sense.
pub fn ask(socket: &Path, request: &Request, screen: &mut dyn Output) -> Result<Asked, Failure> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return Ok(Asked::NoDaemon(format!("{}: {error}", socket.display()))),
    };
    let question = format!("{}\n", request.print());
    let sent =
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).and_then(|()| (&stream).write_all(question.as_bytes()));
    // A daemon that turns us away may have closed before it heard us; what it said is still there.
    let answer = hear(&mut BufReader::new(&stream), screen);
    let broken = |error: io::Error| Failure::new(exit::TEMPORARY, format!("the daemon broke off: {error}"));
    match answer {
        Ok(code) => Ok(Asked::Answered(code)),
        Err(error) => Err(broken(sent.err().unwrap_or(error))),
    }
}

fn hear(answer: &mut dyn BufRead, screen: &mut dyn Output) -> io::Result<u8> {
    loop {
        match piece::read(answer)? {
            (Piece::Output(_), text) => screen.output(&text)?,
            (Piece::Error(_), text) => {
                screen.error(String::from_utf8_lossy(&text).trim_end_matches('\n'))?;
            }
            (Piece::End(code), _) => return Ok(code),
            (Piece::Go, _) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What an exit code makes of a command.
///
/// # Errors
/// Any code but 0; what there is to say has been said.
pub fn finish(code: u8) -> Result<(), Failure> {
    if code == exit::OK { Ok(()) } else { Err(Failure { code, lines: Vec::new() }) }
}

/// Standard output and standard error.
#[derive(Debug)]
pub struct Screen {
    is_terminal: bool,
    /// The begin of a line, on a terminal: half a character could hide the other half.
    line: Vec<u8>,
    is_closed: bool,
}

impl Screen {
    /// The screen of this process.
    #[must_use]
    pub fn new() -> Self {
        Self { is_terminal: io::stdout().is_terminal(), line: Vec::new(), is_closed: false }
    }

    fn write(&mut self, octets: &[u8]) {
        // Whoever closed the pipe has read enough; what is asked for is still done.
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
        // There is nobody else to tell.
        let _ = writeln!(io::stderr(), "pillarbox: {}", escaped(line));
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

/// Text whose control characters a terminal can't obey.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => shown.push(c),
            c if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                shown.extend(c.escape_unicode());
            }
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

    #[test]
    fn what_makes_no_sense_ends_the_answer() {
        for answer in ["", "0", "0 66", "1 5\nabc", "1 99999999\n", "3 1\n", "HTTP/1.1 400 Bad Request\r\n"] {
            let mut screen = Screen { is_terminal: false, line: Vec::new(), is_closed: true };
            assert!(hear(&mut answer.as_bytes(), &mut screen).is_err(), "{answer}");
        }
        let mut screen = Screen { is_terminal: false, line: Vec::new(), is_closed: true };
        assert_eq!(hear(&mut &b"1 3\nabc1 0\n0 66\n"[..], &mut screen).unwrap(), 66);
    }
}
