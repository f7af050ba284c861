//! A message on its way out of sendmail: to the daemon on its control socket, or else into the drop directory.
//!
//! It is handed over whole: up to [`IN_MEMORY_OCTETS`] of it are held in memory, and written to disk by whoever takes it.
//! A larger one is staged in the drop directory, without a sync, and leaves it again if the daemon takes it: what is gone
//! before the system writes it out costs the disk nothing. So there is always a copy to fall back to. Once the daemon has
//! asked for the message, only its word ends the matter; if none comes, the message is left in the drop directory even so,
//! and may arrive twice. It is never lost for that.
//!
//! What goes wrong is kept until the input has been read. What may fail: see [`Handover::commit`].

use super::super::exit::{self, Failure};
use super::failure;
use crate::config::Settings;
use crate::mail::id::QueueId;
use crate::net::transport::WireError;
use crate::protocol::piece::{self, Piece};
use crate::protocol::question::SubmissionSizes;
use crate::store::drop::{DropEnvelope, RECIPIENTS_MAX, StagedDrop, explain};
use crate::store::{StoreError, free_space, has_room};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Larger messages go to disk while they are read, as in the daemon.
const IN_MEMORY_OCTETS: usize = 64 * 1024;
/// Read at once from a larger one.
const PIECE_OCTETS: usize = 16 * 1024;
/// How long the daemon may take to ask for the message; one that hangs must not keep a cron job waiting.
const GO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take for each step from then on: it waits for its disk, and to give up means a duplicate.
const DONE_TIMEOUT: Duration = Duration::from_secs(300);

/// A message that is being read.
pub struct Handover<'a> {
    settings: &'a Settings,
    held: Held,
    /// No file can be had: it stays in memory.
    no_file: bool,
    /// Its size so far, once that is more than `limits.message_size`.
    oversize_octets: Option<u64>,
    failed: Option<Failure>,
}

/// Where the message is.
enum Held {
    Memory(Vec<u8>),
    File(StagedDrop),
}

/// What the daemon says.
enum Answer {
    /// It has put the message on stable storage.
    Taken(Option<QueueId>),
    /// It will never take it.
    Refused(Failure),
    /// It is not there, or does not take it now: why.
    NotNow(String),
}

impl<'a> Handover<'a> {
    /// Nothing has been read yet.
    pub fn new(settings: &'a Settings) -> Self {
        Self { settings, held: Held::Memory(Vec::new()), no_file: false, oversize_octets: None, failed: None }
    }

    /// Takes canonical octets; `wire_octets` is the size with them.
    pub fn write(&mut self, octets: &[u8], wire_octets: u64) {
        if self.failed.is_some() {
            return;
        }
        let limit = self.settings.limits.message_size;
        if wire_octets > limit {
            let text = format!("the message is larger than limits.message_size, {limit} octets");
            self.oversize_octets = Some(wire_octets);
            return self.fail(failure(exit::DATA, &text));
        }
        match &mut self.held {
            Held::Memory(buffer) => {
                buffer.extend_from_slice(octets);
                if buffer.len() > IN_MEMORY_OCTETS && !self.no_file {
                    match stage(self.settings, buffer) {
                        Ok(staged) => self.held = Held::File(staged),
                        // A daemon may take it even so.
                        Err(_) => self.no_file = true,
                    }
                }
            }
            Held::File(staged) => {
                if let Err(error) = staged.write(octets) {
                    self.fail(not_left(&error));
                }
            }
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.failed = Some(failure);
        // What was written goes at once: it may be what fills the disk.
        self.held = Held::Memory(Vec::new());
    }

    /// Makes the message safe; gives its id, if the daemon has taken it.
    ///
    /// # Errors
    /// It is not safe: there are no recipients (64), or none whom it could reach (67); it is too large (65); neither the
    /// daemon nor the drop directory takes it now (75).
    pub fn commit(mut self, envelope: &DropEnvelope) -> Result<Option<QueueId>, Failure> {
        if envelope.recipients.is_empty() {
            let text = "there are no recipients; name some, or use -t with To, Cc or Bcc";
            return Err(failure(exit::USAGE, text));
        }
        if let Some(failure) = self.failed {
            if let Some(octets) = self.oversize_octets {
                // For the daemon's log alone: whatever it says, or if none runs, the message is refused.
                let _ = announce(&self.settings.control, &envelope.print(), octets)
                    .and_then(|stream| hear(&mut BufReader::new(&stream)).map(drop));
            }
            return Err(failure);
        }
        if envelope.recipients.len() > RECIPIENTS_MAX {
            return Err(failure(exit::DATA, &format!("there are more than {RECIPIENTS_MAX} recipients")));
        }
        let why = match submit(&self.settings.control, envelope, &mut self.held) {
            Ok(Answer::Taken(id)) => return Ok(id),
            Ok(Answer::Refused(failure)) => return Err(failure),
            Ok(Answer::NotNow(why)) => why,
            Err(error) => WireError::from(error).to_string(),
        };
        let left = match self.held {
            Held::Memory(buffer) => stage(self.settings, &buffer),
            Held::File(staged) => Ok(staged),
        };
        let left = left.and_then(|staged| staged.commit(envelope).map_err(|error| not_left(&error)));
        left.map(|()| None).map_err(|mut failure| {
            let socket = self.settings.control.display();
            if let Some(line) = failure.lines.last_mut() {
                line.push_str(&format!("; and no daemon takes it: {socket}: {why}"));
            }
            failure
        })
    }
}

/// Begins a file in the drop directory.
fn stage(settings: &Settings, start: &[u8]) -> Result<StagedDrop, Failure> {
    let state = settings.state.as_path();
    if free_space(state).is_ok_and(|space| !has_room(space, settings.limits.free_space, 0)) {
        let text = format!("{}: less than limits.free_space is left on the disk", state.display());
        return Err(failure(exit::TEMPORARY, &text));
    }
    let mut random = [0; 16];
    match rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) => {}
        _ => return Err(failure(exit::TEMPORARY, "the system gives no random numbers")),
    }
    let name = format!("{:032x}", u128::from_ne_bytes(random));
    let staged = StagedDrop::create(state, &name).and_then(|mut staged| {
        staged.write(start)?;
        Ok(staged)
    });
    staged.map_err(|error| not_left(&error))
}

fn not_left(error: &StoreError) -> Failure {
    failure(exit::TEMPORARY, &format!("{error}: {}", explain(error)))
}

/// Hands the message to the daemon.
///
/// # Errors
/// Its word did not come.
fn submit(socket: &Path, envelope: &DropEnvelope, held: &mut Held) -> io::Result<Answer> {
    let envelope = envelope.print();
    let message_octets = match held {
        Held::Memory(buffer) => buffer.len() as u64,
        Held::File(staged) => staged.message().map_err(|error| error.source)?.2,
    };
    let stream = announce(socket, &envelope, message_octets)?;
    let mut answer = BufReader::new(&stream);
    match hear(&mut answer)? {
        Heard::Go => {}
        // Nothing can be safe that has not been said.
        Heard::End(exit::OK, _) => return Err(io::ErrorKind::InvalidData.into()),
        Heard::End(code, text) => return Ok(ended(code, text)),
    }
    stream.set_read_timeout(Some(DONE_TIMEOUT))?;
    stream.set_write_timeout(Some(DONE_TIMEOUT))?;
    if send(held, &stream).is_err() {
        // What is cut short is forgotten.
        let _ = stream.shutdown(Shutdown::Write);
    }
    match hear(&mut answer)? {
        Heard::Go => Err(io::ErrorKind::InvalidData.into()),
        Heard::End(code, text) => Ok(ended(code, text)),
    }
}

/// Tells the daemon what is to come.
fn announce(socket: &Path, envelope: &str, message_octets: u64) -> io::Result<UnixStream> {
    let sizes = SubmissionSizes { envelope_octets: envelope.len(), message_octets };
    let stream = connect_to(socket)?;
    // A daemon that turns us away may have closed before it heard us; what it said is still there. So in `submit`.
    let _ = (&stream).write_all(format!("{}\n{envelope}", sizes.print()).as_bytes());
    Ok(stream)
}

/// To connect to one that hangs may take as long as to hear from it: its queue of connections can be full.
fn connect_to(socket: &Path) -> io::Result<UnixStream> {
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    for which in [sockopt::Timeout::Send, sockopt::Timeout::Recv] {
        sockopt::set_socket_timeout(&stream, which, Some(GO_TIMEOUT))?;
    }
    connect(&stream, &SocketAddrUnix::new(socket)?)?;
    Ok(stream.into())
}

fn send(held: &mut Held, mut stream: &UnixStream) -> io::Result<()> {
    let (file, mut offset, mut left) = match held {
        Held::Memory(buffer) => return stream.write_all(buffer),
        Held::File(staged) => staged.message().map_err(|error| error.source)?,
    };
    let mut piece = vec![0; PIECE_OCTETS];
    while left > 0 {
        piece.truncate(usize::try_from(left).map_or(PIECE_OCTETS, |left| left.min(PIECE_OCTETS)));
        file.read_exact_at(&mut piece, offset)?;
        stream.write_all(&piece)?;
        offset += piece.len() as u64;
        left -= piece.len() as u64;
    }
    Ok(())
}

/// What was heard up to a point where it is our turn.
enum Heard {
    Go,
    /// The exit code, and all that was said.
    End(u8, String),
}

fn hear(answer: &mut BufReader<&UnixStream>) -> io::Result<Heard> {
    let mut text = String::new();
    loop {
        match piece::read(answer)? {
            (Piece::Output(_) | Piece::Error(_), said) => text.push_str(&String::from_utf8_lossy(&said)),
            (Piece::Go, _) => return Ok(Heard::Go),
            (Piece::End(code), _) => return Ok(Heard::End(code, text)),
        }
    }
}

/// A daemon of another version may say what is not known here: the drop directory takes the message then.
fn ended(code: u8, text: String) -> Answer {
    match code {
        exit::OK => Answer::Taken(QueueId::parse(&text)),
        exit::DATA | exit::UNKNOWN_USER => Answer::Refused(Failure {
            code,
            lines: text.lines().map(|line| format!("sendmail: {line}")).collect(),
        }),
        _ => Answer::NotNow(text.trim_end().replace('\n', "; ")),
    }
}
