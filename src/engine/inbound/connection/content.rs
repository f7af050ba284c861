//! The content of a message, from the socket to intake: by DATA (RFC 5321 §4.1.1.4) or in chunks by BDAT (RFC 3030).
//!
//! ```text
//! DATA ─▶ begin ─▶ 354 ─▶ data to the final dot ─▶ commit ─▶ 250
//! BDAT ─▶ begin ─▶ chunk ─▶ 250 ─▶ ... ─▶ last chunk ─────▶ commit ─▶ 250
//! ```
//!
//! The data of a refused message is read to its end as well: the client reads no reply before. Nothing is kept beyond
//! `limits.message_size`.
//!
//! | fault | reply |
//! | --- | --- |
//! | a bare CR or LF, unless the listener repairs it | 550 5.5.2 at the end |
//! | more than `limits.message_size` | 552 5.3.4 at the end |
//! | intake refuses the message | see `intake::refusal` |
//! | a pause longer than `limits.data_timeout`, or too few octets a second (`rules::pacing::patience`) | 421 at once |

use super::{Accepted, COMMAND_BUFFER_OCTETS, Connection, End};
use crate::engine::inbound::input::DATA_BUFFER_OCTETS;
use crate::engine::intake::incoming::Incoming;
use crate::engine::intake::refusal::Refusal;
use crate::engine::log::event::trouble;
use crate::mail::id::QueueId;
use crate::mail::status::EnhancedStatus;
use crate::net::transport::{Deadline, Stopwatch, WireError};
use crate::rules::pacing::patience::is_too_slow;
use crate::smtp::data::{ChunkDecoder, DotDecoder};
use crate::smtp::extension::size;
use crate::smtp::reply::Reply;
use crate::smtp::server::{Chunk, ServerTransaction};

/// The largest piece of content: what the input buffer can hold.
const PIECE_OCTETS: usize = DATA_BUFFER_OCTETS;

impl Connection<'_> {
    /// Receives a message by DATA. Intake begins before the 354, so that its refusal can be the reply to DATA.
    pub(super) fn receive(&mut self, transaction: ServerTransaction<Accepted>) -> Result<(), End> {
        let mut incoming = match self.intake.begin(self.site, self.submission(transaction)) {
            Ok(incoming) => incoming,
            Err(refusal) => {
                log_failure(&refusal);
                let action = self.session.data_verdict(Err(refusal.reply()));
                return self.act(action);
            }
        };
        let action = self.session.data_verdict(Ok(()));
        self.act(action)?;
        let verdict = self.read_data(&mut incoming)?.and_then(|()| commit(incoming));
        self.note_work();
        let action = self.session.end_of_data(verdict);
        self.act(action)
    }

    /// Reads the data to its end, also of a refused message. The inner error is the reply that refuses it.
    fn read_data(&mut self, incoming: &mut Incoming<'_>) -> Result<Result<(), Reply>, End> {
        let mut decoder = DotDecoder::repairing(self.listener.repairs_newlines);
        let mut piece = Vec::new();
        let limits = &self.site.settings.limits;
        let started = Stopwatch::start();
        loop {
            let octets = self.input.octets();
            if !has_room(&mut piece, octets.len()) {
                pass(&mut piece, incoming, decoder.octets() <= limits.message_size);
            }
            let used = decoder.decode(octets, &mut piece);
            self.input.consume(used);
            if decoder.is_at_end() {
                break;
            }
            self.flush()?;
            if is_too_slow(decoder.octets(), started.elapsed()) {
                return Err(End::Aborted("received the data too slowly"));
            }
            self.fill_with_data()?;
        }
        pass(&mut piece, incoming, decoder.octets() <= limits.message_size);
        self.input.shrink(COMMAND_BUFFER_OCTETS);
        Ok(judge_data(decoder.is_malformed(), decoder.octets(), limits.message_size))
    }

    /// Reads a chunk of BDAT to its end, also of a refused message.
    pub(super) fn read_chunk(
        &mut self,
        transaction: Option<ServerTransaction<Accepted>>,
        chunk: Chunk,
    ) -> Result<(), End> {
        if let Some(transaction) = transaction {
            let incoming = self.intake.begin(self.site, self.submission(transaction));
            let incoming = incoming.inspect_err(log_failure);
            self.chunks = Some(Chunks { incoming, decoder: ChunkDecoder::default() });
        }
        let Some(mut chunks) = self.chunks.take() else { return Err(End::Aborted("lost a message")) };
        let limit = self.site.settings.limits.message_size;
        let mut piece = Vec::new();
        self.read_octets(chunk.octets, |octets| {
            if !has_room(&mut piece, octets.len()) {
                chunks.pass(&mut piece, limit);
            }
            chunks.decoder.decode(octets, &mut piece);
        })?;
        chunks.pass(&mut piece, limit);
        let verdict = chunks.verdict(limit, chunk.is_last);
        let verdict = match verdict {
            Err(reply) => Err(reply),
            Ok(()) if chunk.is_last => {
                chunks.incoming.map_err(|refusal| refusal.reply()).and_then(commit).map(Some)
            }
            Ok(()) => {
                self.chunks = Some(chunks);
                Ok(None)
            }
        };
        self.note_work();
        let action = self.session.chunk_verdict(verdict, chunk);
        self.act(action)
    }

    /// Reads `octets` octets, and passes them to `take` in pieces.
    pub(super) fn read_octets(&mut self, octets: u64, mut take: impl FnMut(&[u8])) -> Result<(), End> {
        let mut left = octets;
        let started = Stopwatch::start();
        while left > 0 {
            if self.input.octets().is_empty() {
                self.flush()?;
                if is_too_slow(octets - left, started.elapsed()) {
                    return Err(End::Aborted("received the data too slowly"));
                }
                self.fill_with_data()?;
            }
            let there = self.input.octets();
            let used = usize::try_from(left).map_or(there.len(), |left| left.min(there.len()));
            take(there.get(..used).unwrap_or_default());
            self.input.consume(used);
            left -= used as u64;
        }
        self.input.shrink(COMMAND_BUFFER_OCTETS);
        Ok(())
    }

    /// Waits for more data, at most `limits.data_timeout`.
    fn fill_with_data(&mut self) -> Result<(), End> {
        self.input.grow_if_full();
        match self.fill(Deadline::after(self.site.settings.limits.data_timeout), false) {
            Ok(()) => Ok(()),
            Err(WireError::TimedOut) => Err(End::Aborted("timed out waiting for data")),
            Err(error) => Err(error.into()),
        }
    }
}

/// A message that is being received by BDAT.
pub(super) struct Chunks<'a> {
    /// The message, or the reason for which intake refused it.
    incoming: Result<Incoming<'a>, Refusal>,
    decoder: ChunkDecoder,
}

impl Chunks<'_> {
    /// Passes a piece on, and empties it.
    fn pass(&mut self, piece: &mut Vec<u8>, limit: u64) {
        match &mut self.incoming {
            Ok(incoming) => pass(piece, incoming, self.decoder.octets() <= limit),
            Err(_) => piece.clear(),
        }
    }

    /// The reply that refuses the message, if intake refused it or the chunks so far are malformed or too large.
    fn verdict(&self, limit: u64, at_end: bool) -> Result<(), Reply> {
        if let Err(refusal) = &self.incoming {
            return Err(refusal.reply());
        }
        judge_data(self.decoder.is_malformed(at_end), self.decoder.octets(), limit)
    }
}

/// Passes a piece on, if the message `fits`, and empties it.
fn pass(piece: &mut Vec<u8>, incoming: &mut Incoming<'_>, fits: bool) {
    if fits && !piece.is_empty() {
        incoming.write(piece);
    }
    piece.clear();
}

/// Whether a piece can take as many octets; makes the room. Pieces are collected up to [`PIECE_OCTETS`], so that what comes
/// in small packets is written in large pieces.
fn has_room(piece: &mut Vec<u8>, octets: usize) -> bool {
    if piece.capacity() == 0 {
        piece.reserve_exact(octets);
    } else if piece.len() + octets > piece.capacity() {
        if piece.len() + octets > PIECE_OCTETS {
            return false;
        }
        piece.reserve_exact(PIECE_OCTETS - piece.len());
    }
    true
}

fn judge_data(is_malformed: bool, octets: u64, limit: u64) -> Result<(), Reply> {
    if is_malformed {
        let text = "the message has a bare CR or LF; end lines with CRLF";
        return Err(Reply::new(550, EnhancedStatus::SYNTAX_ERROR, text));
    }
    if octets > limit { Err(size::too_big(limit)) } else { Ok(()) }
}

fn commit(incoming: Incoming<'_>) -> Result<QueueId, Reply> {
    incoming.commit().map_err(|refusal| {
        log_failure(&refusal);
        refusal.reply()
    })
}

/// Logs the reason for which intake refused a message. The refused command already logs a full queue.
fn log_failure(refusal: &Refusal) {
    if !matches!(refusal, Refusal::QueueFull | Refusal::ShareUsedUp) {
        trouble("taking a message", refusal);
    }
}
