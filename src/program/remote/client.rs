//! Sends a question to the daemon on the control socket, and passes the answer on.
//!
//! One connection carries one question ([`crate::protocol`] has the format). A daemon that does not run is no failure: many
//! commands can do the work themselves, and get the reason to show beside their own. A daemon that breaks off is one (75):
//! what it did before is unknown.

use crate::engine::control::output::Output;
use crate::protocol::piece::{self, Piece};
use crate::protocol::request::{Request, Show};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long the daemon may take for the connection, and to begin its answer: a running one begins at once. Also for each piece of
/// what it has in memory.
const SIGN_TIMEOUT: Duration = Duration::from_secs(8);
/// The same for `status --check`: monitors give up after ten seconds.
const CHECK_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the daemon may take for each further piece of its answer: a change of the whole queue on a slow card.
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
/// The daemon does not accept the connection or begin its answer in time, takes longer than [`ANSWER_TIMEOUT`] for a piece,
/// closes the connection before the end, or sends something that is no answer.
pub fn ask(socket: &Path, request: &Request, screen: &mut dyn Output) -> Result<DaemonAnswer, BrokenOff> {
    let (sign, later) = match request {
        Request::Status(Show::Check(_)) => (CHECK_TIMEOUT, CHECK_TIMEOUT),
        Request::Status(_) | Request::Link(_) => (SIGN_TIMEOUT, SIGN_TIMEOUT),
        _ => (SIGN_TIMEOUT, ANSWER_TIMEOUT),
    };
    let stream = match connect_to(socket, sign) {
        Ok(stream) => stream,
        Err(error) if Errno::from_io_error(&error) == Some(Errno::AGAIN) => return Err(BrokenOff(error)),
        Err(error) => return Ok(DaemonAnswer::NoDaemon(format!("{}: {error}", socket.display()))),
    };
    let question = format!("{}\n", request.print());
    let sent = (&stream).write_all(question.as_bytes());
    let mut reader = BufReader::new(&stream);
    // A daemon with too many connections answers and closes without reading: its answer can be read all the same.
    let answer = reader
        .fill_buf()
        .map(drop)
        .and_then(|()| stream.set_read_timeout(Some(later)))
        .and_then(|()| read_answer(&mut reader, screen));
    match answer {
        Ok(code) => Ok(DaemonAnswer::Answered(code)),
        Err(error) => Err(BrokenOff(sent.err().unwrap_or(error))),
    }
}

/// Whether a daemon listens, even one that is too busy to answer. Does not wait.
#[must_use]
pub fn is_served(socket: &Path) -> bool {
    let ask = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        connect(
            &socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?,
            &SocketAddrUnix::new(socket)?,
        )
    };
    matches!(ask(), Ok(()) | Err(Errno::AGAIN))
}

/// Connects, with a time limit for this and for each later read and write: the backlog of a daemon that hangs may be full.
///
/// # Errors
/// No daemon listens. `EAGAIN`: one does, and the time is over.
pub fn connect_to(socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for which in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&stream, which, Some(patience))?;
    }
    connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(stream.into())
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
    use crate::test_directory::TestDirectory;

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
    fn a_daemon_that_accepts_nobody_is_not_waited_for() {
        let directory = TestDirectory::new();
        let path = directory.join("control.sock");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let _first = UnixStream::connect(&path).unwrap();
        assert!(is_served(&path));
        let check = Request::Status(Show::Check(Default::default()));
        let BrokenOff(error) = ask(&path, &check, &mut Shown::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        std::fs::remove_file(&path).unwrap();
        assert!(!is_served(&path));
        assert!(matches!(ask(&path, &check, &mut Shown::default()), Ok(DaemonAnswer::NoDaemon(_))));
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
