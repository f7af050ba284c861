//! Sends a question to the daemon on the control socket, and passes the answer on.
//!
//! One connection carries one question ([`crate::protocol`] has the format). A daemon that does not run is no failure: many
//! commands can do the work themselves, and get the reason to show beside their own. A daemon that breaks off is one (75):
//! what it did before is unknown.

use crate::engine::control::output::Output;
use crate::protocol::piece::{self, Piece};
use crate::protocol::request::Request;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take for each piece of its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// The result of a question.
#[derive(Debug)]
pub enum DaemonAnswer {
    /// The daemon has answered, with this exit code.
    Answered(u8),
    /// No daemon listens on the socket, and why.
    NoDaemon(String),
}

/// The daemon has not answered to the end. It may or may not have acted.
#[derive(Debug)]
pub struct BrokenOff(pub io::Error);

/// Asks the daemon, and passes the text of its answer to `screen`.
///
/// # Errors
/// The daemon closes the connection before the end of its answer, takes longer than [`ANSWER_TIMEOUT`] for a piece, or
/// sends something that is no answer.
pub fn ask(socket: &Path, request: &Request, screen: &mut dyn Output) -> Result<DaemonAnswer, BrokenOff> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) => return Ok(DaemonAnswer::NoDaemon(format!("{}: {error}", socket.display()))),
    };
    let question = format!("{}\n", request.print());
    let sent =
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).and_then(|()| (&stream).write_all(question.as_bytes()));
    // A daemon with too many connections answers and closes without reading: its answer can be read all the same.
    let answer = read_answer(&mut BufReader::new(&stream), screen);
    match answer {
        Ok(code) => Ok(DaemonAnswer::Answered(code)),
        Err(error) => Err(BrokenOff(sent.err().unwrap_or(error))),
    }
}

fn read_answer(answer: &mut dyn BufRead, screen: &mut dyn Output) -> io::Result<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Shown(Vec<u8>);

    impl Output for Shown {
        fn output(&mut self, octets: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(octets);
            Ok(())
        }

        fn error(&mut self, _: &str) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_ends_with_its_exit_code() {
        let mut shown = Shown::default();
        assert_eq!(read_answer(&mut &b"1 3\nabc1 0\n0 66\n"[..], &mut shown).unwrap(), 66);
        assert_eq!(shown.0, b"abc");
        for answer in ["", "1 3\nabc", "3 0\n0 0\n"] {
            assert!(read_answer(&mut answer.as_bytes(), &mut shown).is_err(), "{answer}");
        }
    }
}
