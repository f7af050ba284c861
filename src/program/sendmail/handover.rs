//! Hands a message over to the daemon on its control socket, or else leaves it in the drop directory.
//!
//! ```text
//! announce the sizes ─▶ no daemon, or no answer in 5 s ──────────────▶ drop/
//!          │
//!          ├─▶ refused for good (65, 67) ────────────────────────────▶ the caller keeps it
//!          ├─▶ not now ──────────────────────────────────────────────▶ drop/
//!          └─▶ go: send the message ─▶ the daemon's exit code 0 ─────▶ done
//!                                   └▶ no answer: it may have it ────▶ drop/, perhaps a duplicate
//! ```
//!
//! Messages up to [`IN_MEMORY_OCTETS`] stay in memory. A larger one is staged in the drop directory without a sync, and
//! removed if the daemon takes the message: a file that is gone before the kernel writes it out costs the disk nothing. So
//! there is always a copy to fall back on, and a message may arrive twice but is never lost.
//!
//! An error is kept until the input has been read to its end, and then returned by [`Handover::commit`].

use super::super::exit::{self, CommandFailure};
use super::super::remote::client::connect_to;
use super::failure;
use crate::config::Settings;
use crate::mail::id::QueueId;
use crate::net::transport::WireError;
use crate::protocol::piece::{self, Piece};
use crate::protocol::question::SubmissionSizes;
use crate::store::drop::{DropEnvelope, RECIPIENTS_MAX, StagedDrop, explain};
use crate::store::{StoreError, free_space, has_room};
use std::io::{self, BufReader, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Larger messages are written to disk while they are read, as in the daemon.
const IN_MEMORY_OCTETS: usize = 64 * 1024;
/// Octets that are read at once from a staged message.
const PIECE_OCTETS: usize = 16 * 1024;
/// How long the daemon may take to ask for the message: a daemon that hangs must not delay a cron job for longer.
const GO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long each later step may take: the daemon waits for its disk, and giving up means a duplicate.
const DONE_TIMEOUT: Duration = Duration::from_secs(300);

/// A message that is being read.
pub struct Handover<'a> {
    settings: &'a Settings,
    held: HeldMessage,
    /// Staging failed: the message stays in memory.
    no_file: bool,
    /// The size so far, once it exceeds `limits.message_size`.
    oversize_octets: Option<u64>,
    failed: Option<CommandFailure>,
}

/// The message, in memory or staged.
enum HeldMessage {
    Memory(Vec<u8>),
    File(StagedDrop),
}

/// The result of a handover to the daemon.
enum HandoverOutcome {
    /// The daemon has put it on stable storage.
    Taken(Option<QueueId>),
    /// The daemon will never take it.
    Refused(CommandFailure),
    /// The daemon does not take it now, and why.
    NotNow(String),
}

impl<'a> Handover<'a> {
    /// A message of which nothing has been read.
    pub fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            held: HeldMessage::Memory(Vec::new()),
            no_file: false,
            oversize_octets: None,
            failed: None,
        }
    }

    /// Takes canonical octets; `wire_octets` is the size of the message so far, these included.
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
            HeldMessage::Memory(buffer) => {
                buffer.extend_from_slice(octets);
                if buffer.len() > IN_MEMORY_OCTETS && !self.no_file {
                    match stage(self.settings, buffer) {
                        Ok(staged) => self.held = HeldMessage::File(staged),
                        // The daemon may take it all the same.
                        Err(_) => self.no_file = true,
                    }
                }
            }
            HeldMessage::File(staged) => {
                if let Err(error) = staged.write(octets) {
                    self.fail(not_left(&error));
                }
            }
        }
    }

    /// Keeps the first failure, for the end of the input, and forgets the message.
    fn fail(&mut self, failure: CommandFailure) {
        self.failed = Some(failure);
        // Removed at once: this message may be what fills the disk.
        self.held = HeldMessage::Memory(Vec::new());
    }

    /// Puts the message on stable storage; returns its id if the daemon took it.
    ///
    /// # Errors
    /// The caller keeps the message: no recipients (64), no recipient that can be reached (67), too large (65), or
    /// neither the daemon nor the drop directory takes it now (75).
    pub fn commit(mut self, envelope: &DropEnvelope) -> Result<Option<QueueId>, CommandFailure> {
        if envelope.recipients.is_empty() {
            let text = "there are no recipients; name some, or use -t with To, Cc or Bcc";
            return Err(failure(exit::USAGE, text));
        }
        if let Some(failure) = self.failed {
            if let Some(octets) = self.oversize_octets {
                // Only so that the daemon logs it: whatever it answers, the message is refused.
                let _ = announce(&self.settings.control, &envelope.print(), octets)
                    .and_then(|stream| hear(&mut BufReader::new(&stream)).map(drop));
            }
            return Err(failure);
        }
        if envelope.recipients.len() > RECIPIENTS_MAX {
            return Err(failure(exit::DATA, &format!("there are more than {RECIPIENTS_MAX} recipients")));
        }
        let why = match submit(&self.settings.control, envelope, &mut self.held) {
            Ok(HandoverOutcome::Taken(id)) => return Ok(id),
            Ok(HandoverOutcome::Refused(failure)) => return Err(failure),
            Ok(HandoverOutcome::NotNow(why)) => why,
            Err(error) => WireError::from(error).to_string(),
        };
        let left = match self.held {
            HeldMessage::Memory(buffer) => stage(self.settings, &buffer),
            HeldMessage::File(staged) => Ok(staged),
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

/// Begins a file in the drop directory with the octets read so far.
fn stage(settings: &Settings, start: &[u8]) -> Result<StagedDrop, CommandFailure> {
    let state = settings.state.as_path();
    if free_space(state).is_ok_and(|space| !has_room(space, settings.limits.free_space, 0)) {
        let text = format!("{}: less than limits.free_space is left on the disk", state.display());
        return Err(failure(exit::TEMPORARY, &text));
    }
    let mut random = [0; 16];
    match rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()) {
        Ok(16) => {}
        _ => return Err(failure(exit::TEMPORARY, "no random numbers from the system")),
    }
    let name = format!("{:032x}", u128::from_ne_bytes(random));
    let staged = StagedDrop::create(state, &name).and_then(|mut staged| {
        staged.write(start)?;
        Ok(staged)
    });
    staged.map_err(|error| not_left(&error))
}

fn not_left(error: &StoreError) -> CommandFailure {
    failure(exit::TEMPORARY, &format!("{error}: {}", explain(error)))
}

/// Hands the message to the daemon.
///
/// # Errors
/// No complete answer came.
fn submit(socket: &Path, envelope: &DropEnvelope, held: &mut HeldMessage) -> io::Result<HandoverOutcome> {
    let envelope = envelope.print();
    let message_octets = match held {
        HeldMessage::Memory(buffer) => buffer.len() as u64,
        HeldMessage::File(staged) => staged.message().map_err(|error| error.source)?.2,
    };
    let stream = announce(socket, &envelope, message_octets)?;
    let mut answer = BufReader::new(&stream);
    match hear(&mut answer)? {
        DaemonTurn::Go => {}
        // The daemon can't have stored a message that it has not seen.
        DaemonTurn::End(exit::OK, _) => return Err(io::ErrorKind::InvalidData.into()),
        DaemonTurn::End(code, text) => return Ok(ended(code, text)),
    }
    stream.set_read_timeout(Some(DONE_TIMEOUT))?;
    stream.set_write_timeout(Some(DONE_TIMEOUT))?;
    if send(held, &stream).is_err() {
        // The daemon forgets a message that is cut short.
        let _ = stream.shutdown(Shutdown::Write);
    }
    match hear(&mut answer)? {
        DaemonTurn::Go => Err(io::ErrorKind::InvalidData.into()),
        DaemonTurn::End(code, text) => Ok(ended(code, text)),
    }
}

/// Announces a message to the daemon, and sends its envelope.
fn announce(socket: &Path, envelope: &str, message_octets: u64) -> io::Result<UnixStream> {
    let sizes = SubmissionSizes { envelope_octets: envelope.len(), message_octets };
    let stream = connect_to(socket, GO_TIMEOUT)?;
    // A daemon with too many connections answers and closes without reading: its answer can be read all the same.
    let _ = (&stream).write_all(format!("{}\n{envelope}", sizes.print()).as_bytes());
    Ok(stream)
}

/// Writes the message to the daemon.
fn send(held: &mut HeldMessage, mut stream: &UnixStream) -> io::Result<()> {
    let (file, mut offset, mut left) = match held {
        HeldMessage::Memory(buffer) => return stream.write_all(buffer),
        HeldMessage::File(staged) => staged.message().map_err(|error| error.source)?,
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

/// An answer, up to the point where this end must act.
enum DaemonTurn {
    Go,
    /// The exit code, and all text before it.
    End(u8, String),
}

/// Reads up to the end of the answer, or to the request for the message.
fn hear(answer: &mut BufReader<&UnixStream>) -> io::Result<DaemonTurn> {
    let mut text = String::new();
    loop {
        match piece::read(answer)? {
            (Piece::Output(_) | Piece::Error(_), said) => text.push_str(&String::from_utf8_lossy(&said)),
            (Piece::Go, _) => return Ok(DaemonTurn::Go),
            (Piece::End(code), _) => return Ok(DaemonTurn::End(code, text)),
        }
    }
}

/// The meaning of an exit code. A daemon of another version may send an unknown one; the message then goes to the drop
/// directory.
fn ended(code: u8, text: String) -> HandoverOutcome {
    match code {
        exit::OK => HandoverOutcome::Taken(QueueId::parse(&text)),
        exit::DATA | exit::UNKNOWN_USER => HandoverOutcome::Refused(CommandFailure {
            code,
            lines: text.lines().map(|line| format!("sendmail: {line}")).collect(),
        }),
        _ => HandoverOutcome::NotNow(text.trim_end().replace('\n', "; ")),
    }
}
