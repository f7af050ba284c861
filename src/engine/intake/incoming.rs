//! A message while it is received. All mail enters here: stage, commit, answer.
//!
//! ```text
//! begin ─ write… ─ stage each copy ─ append to mboxes ─ rename each copy ─ announce ─▶ Ok ─ the caller answers 250
//!         content  write, fsync                         fsync of the directory,
//!                                                       shared with other messages
//! ```
//!
//! Each copy is on stable storage under a temporary name before the first copy gets its final name. A crash can
//! duplicate a message, but cannot lose one:
//!
//! | the crash falls | on disk afterwards | the client |
//! | --- | --- | --- |
//! | before the first append or rename | temporary files, which a sweep unlinks | got no 250 and sends again: one copy each |
//! | between two appends or renames | some copies with their final names | got no 250 and sends again: those copies are doubled |
//! | between the last rename and the 250 | all copies | got no 250 and sends again: all copies are doubled |
//! | after the 250 | all copies | is done |
//!
//! A failure without a crash has the same effects, with one difference: if a mailbox fails and there are other copies,
//! its copy goes to the queue, which tries again, and the message is accepted (see `storing`).
//!
//! The content passes through these steps, each of which sees canonical form (LF line ends):
//!
//! | step | applies to | does |
//! | --- | --- | --- |
//! | [`SectionFilter`] | all mail | lets the header section end where its fields do |
//! | [`Repair`] | own mail, unless this program wrote it | adds missing fields, removes Bcc |
//! | [`TraceScanner`] | all mail | finds loops and urgent messages |
//! | [`PartialContent`] | all mail | keeps the octets: in memory up to [`IN_MEMORY_OCTETS`], else in the file of the first target |
//!
//! A message in memory is written once for each copy. A larger one streams to the first target, and the other copies
//! are made from that file, so memory does not grow with the message.

mod announcing;
mod collecting;
mod content;
mod staging;
mod storing;

use self::content::{FirstTarget, PartialContent};
use super::copies::{Copies, NoticeItem};
use super::digest_windows::DigestWindows;
use super::refusal::Refusal;
use super::submission::Submission;
use crate::engine::host::clock::EngineClock;
use crate::engine::host::site::Site;
use crate::engine::log::counters::{Count, Counters};
use crate::engine::log::event::trouble;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::Now;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::header::TraceScanner;
use crate::mail::id::QueueId;
use crate::mail::message;
use crate::mail::section_filter::SectionFilter;
use crate::rules::message::bounce::RecipientVerdict;
use crate::rules::message::repair::{Repair, RepairFacts};
use crate::rules::pacing::shares::{self, Owner};
use crate::store::maildir::{MaildirPath, Maildirs};
use crate::store::queue::{Collected, Queue};
use crate::sys::lock::Lock;
use memchr::memchr_iter;
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The largest content that is held in memory, in octets. A larger message goes to disk while it is received.
const IN_MEMORY_OCTETS: usize = 64 * 1024;

/// The largest header section that a notice returns, in octets.
pub(super) const HEADERS_MAX_OCTETS: usize = 64 * 1024;
/// The most octets that [`Incoming::write_from`] reads at once.
const READ_OCTETS: usize = 16 * 1024;
/// The most octets that pass the filters of a header section at once: what follows it is not copied.
const STEP_OCTETS: usize = 4 * 1024;
/// The time between two sweeps of a Maildir.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The most Maildirs whose sweeps are remembered. Beyond it all are forgotten, and swept again.
const SWEEPS_MAX: usize = 1024;

/// A message that has just entered the queue.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry {
    /// Its name in the queue.
    pub id: QueueId,
    /// When it came in.
    pub arrival: Now,
    /// Its size in the queue file, in octets.
    pub octets: u64,
    /// Whether its header section says that it is urgent: a metered link lets it pass.
    pub is_urgent: bool,
    /// Whose share of the queue it uses.
    pub owner: Option<Owner>,
    /// See [`shares::sender_number`].
    pub sender: u32,
    /// The number of recipients.
    pub recipients: usize,
}

/// The queue's side of intake: takes over a message that is durably in the queue.
pub trait OnQueued: Send + Sync {
    /// The message of this sender waits for delivery to these recipients.
    fn queued(&self, new: NewEntry, sender: &ReversePath, recipients: &[Recipient]);
    /// The message waits for a digest, which leaves at the running time `until`.
    fn collected(&self, new: NewEntry, until: Duration);
    /// The number of queued messages, and their size in octets.
    fn size(&self) -> (usize, u64);
    /// The same of one owner.
    fn share_of(&self, owner: Owner) -> (usize, u64);
}

/// Accepts messages: what all callers share.
pub struct Intake {
    /// Both clocks.
    pub clock: Arc<EngineClock>,
    /// The queue.
    pub queue: Arc<Queue>,
    /// Writes to Maildirs and mboxes.
    pub maildirs: Maildirs,
    /// Takes over each message that has entered the queue.
    pub on_queued: Arc<dyn OnQueued>,
    /// The counters of this host.
    pub counters: Arc<Counters>,
    /// The number in the next queue id; begins at random.
    pub ids: AtomicUsize,
    /// The running time at which the `tmp` of each Maildir was last swept.
    pub sweeps: Lock<HashMap<PathBuf, Duration>>,
    /// Messages that wait for a digest.
    pub digests: DigestWindows,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

/// A message that is being received.
pub struct Incoming<'a> {
    pub(super) intake: &'a Intake,
    pub(super) site: &'a Site,
    id: QueueId,
    arrival: Now,
    submission: Submission,
    trace: String,
    copies: Copies,
    content: PartialContent,
    section: SectionFilter,
    repair: Option<Repair>,
    scanner: TraceScanner,
    lines: u64,
    failed: Option<Refusal>,
    /// Set if it waits for a digest.
    digest: Option<Collected>,
    /// Whether this host wrote its Date.
    is_dated: bool,
}

/// The material of the notice that the sender of a stored message asked for.
pub(super) struct OwedNotice {
    pub id: QueueId,
    pub arrival: Now,
    pub envelope: Envelope,
    pub items: Vec<NoticeItem>,
    /// The header section of the message, or its first [`HEADERS_MAX_OCTETS`] octets.
    pub header: Vec<u8>,
}

/// Whether the sender asked for a notice of success about this recipient (RFC 3461 §4.1). Notices of failure and delay
/// are decided in `engine::queue::news`.
#[must_use]
pub fn is_owed(envelope: &Envelope, recipient: &Recipient) -> bool {
    envelope.reverse_path != ReversePath::Null && RecipientVerdict::Relayed.is_wanted(recipient)
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Intake {
    /// Begins to receive a message.
    ///
    /// # Errors
    /// The queue or the client's share of it is full, the Maildir of a recipient has no valid path, or an alias can no longer be expanded.
    pub fn begin<'a>(&'a self, site: &'a Site, submission: Submission) -> Result<Incoming<'a>, Refusal> {
        let arrival = self.clock.now();
        let id = self.next_id(arrival);
        // The first entry of the queue has the id of the message.
        let mut ids = Some(id);
        let mut next_id = || ids.take().unwrap_or_else(|| self.next_id(arrival));
        let copies = Copies::of(&submission, site, &mut next_id)?;
        // A notice enters even if the queue is full: the message that it reports is about to leave. Otherwise a queue
        // full of expired mail could not send bounces, and would stay full.
        if !copies.queued.is_empty() && submission.origin.is_some() {
            self.check_room(site, &submission.client, 0)?;
        }
        let only = match submission.recipients.as_slice() {
            [only] => Some(&only.routed.mailbox),
            _ => None,
        };
        let by = site.terms.hostname.as_str();
        let received = |origin| message::received(origin, by, id, only, arrival.wall);
        let trace = submission.origin.as_ref().map(received).unwrap_or_default();
        let facts = || RepairFacts {
            is_on: site.settings.rewrite.repair,
            domain: site.hostname.key(),
            id,
            date: arrival.wall,
            reverse_path: submission.reverse_path.clone(),
        };
        let repair = (submission.is_own && submission.origin.is_some()).then(|| Repair::new(facts()));
        let (content, scanner) = (PartialContent::Memory(Vec::new()), TraceScanner::default());
        Ok(Incoming {
            intake: self,
            site,
            id,
            arrival,
            submission,
            trace,
            copies,
            content,
            section: SectionFilter::default(),
            repair,
            scanner,
            lines: 0,
            failed: None,
            digest: None,
            is_dated: false,
        })
    }

    fn is_full(&self, site: &Site) -> bool {
        let limits = &site.settings.queue;
        let (messages, octets) = self.on_queued.size();
        messages >= limits.max_messages as usize || (limits.max_size > 0 && octets >= limits.max_size)
    }

    /// Checks the limits of the queue for another message of a client; `added`: its octets, 0 before they have come.
    ///
    /// # Errors
    /// The queue is full, or the client has a half of it.
    fn check_room(&self, site: &Site, client: &str, added: u64) -> Result<(), Refusal> {
        let limits = &site.settings.queue;
        if self.is_full(site) || (limits.max_size > 0 && self.on_queued.size().1 + added > limits.max_size) {
            return Err(Refusal::QueueFull);
        }
        let is_used_up = |share| shares::is_used_up(share, added, limits.max_messages, limits.max_size);
        // All messages are looked at for a share, but only while somebody can have half of the queue.
        let owner = Owner::of_origin(client).filter(|_| is_used_up(self.on_queued.size()));
        match owner {
            Some(owner) if is_used_up(self.on_queued.share_of(owner)) => Err(Refusal::ShareUsedUp),
            _ => Ok(()),
        }
    }

    /// Removes the temporary files that crashes have left in a Maildir, once in [`SWEEP_INTERVAL`].
    fn sweep(&self, path: &MaildirPath, now: Now) {
        let mut sweeps = self.sweeps.lock();
        let is_due =
            sweeps.get(&path.path()).is_none_or(|&at| now.running.saturating_sub(at) >= SWEEP_INTERVAL);
        if !is_due {
            return;
        }
        if sweeps.len() >= SWEEPS_MAX {
            sweeps.clear();
        }
        sweeps.insert(path.path(), now.running);
        drop(sweeps);
        match self.maildirs.sweep(path, now.wall) {
            Ok(0) => {}
            Ok(swept) => {
                let path = path.path().display().to_string();
                log::info!(target: "pillarbox", "event=swept path={path:?} files={swept}");
            }
            Err(error) => trouble("sweeping a Maildir", &error),
        }
    }

    fn next_id(&self, now: Now) -> QueueId {
        QueueId::new(now.wall.0, self.ids.fetch_add(1, Ordering::Relaxed) as u64)
    }
}

impl Incoming<'_> {
    /// Takes the next piece of the content, in canonical form. An error is kept for `commit` (see `intake/commit.rs`): the client must
    /// be able to send the data to its end.
    pub fn write(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while !rest.is_empty() && !self.section.is_in_body() {
            let (start, after) = rest.split_at(rest.len().min(STEP_OCTETS));
            let mut filtered = Vec::with_capacity(start.len());
            self.section.feed(start, &mut filtered);
            self.take(&filtered);
            rest = after;
        }
        self.take(rest);
    }

    /// Writes the content from a reader, to the end.
    ///
    /// # Errors
    /// An I/O error of the reader.
    pub fn write_from(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        each_piece(reader, &mut |piece| self.write(piece))
    }

    /// Takes a piece of the content behind the [`SectionFilter`], and repairs its header section.
    fn take(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some(repair) =
            self.repair.as_mut().filter(|repair| !rest.is_empty() && !repair.is_in_body())
        {
            let (start, after) = rest.split_at(rest.len().min(STEP_OCTETS));
            let mut repaired = Vec::with_capacity(start.len());
            repair.feed(start, &mut repaired);
            self.is_dated = repair.has_dated();
            self.keep(&repaired);
            rest = after;
        }
        self.keep(rest);
    }

    /// Keeps a piece of the final content. The loop check and the size refer to it.
    fn keep(&mut self, piece: &[u8]) {
        self.scanner.feed(piece);
        self.lines += memchr_iter(b'\n', piece).count() as u64;
        if self.failed.is_some() || piece.is_empty() {
            return;
        }
        if let Err(refusal) = self.put(piece) {
            // Dropping the content unlinks the staged file at once: this message may be what fills the disk.
            self.content = PartialContent::Memory(Vec::new());
            self.failed = Some(refusal);
        }
    }

    /// Puts a piece behind the others: in memory, or if it would become too large, on disk.
    fn put(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        if let PartialContent::Memory(buffer) = &mut self.content {
            let fits = buffer.len() + piece.len() <= IN_MEMORY_OCTETS;
            // The first copy is staged by what the header section says, so all of that has to be in memory.
            if fits || !self.scanner.is_in_body() {
                buffer.extend_from_slice(piece);
                return if fits { Ok(()) } else { self.move_to_disk() };
            }
            self.move_to_disk()?;
        }
        if let PartialContent::File { staging, octets, .. } = &mut self.content {
            *octets += piece.len() as u64;
            staging.write(piece)?;
        }
        Ok(())
    }

    /// Moves the content from memory to the file of the first target, where the rest will follow.
    fn move_to_disk(&mut self) -> Result<(), Refusal> {
        self.decide();
        let PartialContent::Memory(buffer) =
            std::mem::replace(&mut self.content, PartialContent::Memory(Vec::new()))
        else {
            return Ok(());
        };
        // The other copies are made from the first file, and a user can change a file in their Maildir. So with several
        // copies the first one is staged in the queue, and thrown away later if the queue needs no entry.
        let is_only = self.copies.count() == 1 && self.copies.queued.is_empty();
        let first = if is_only { FirstTarget::Local(0) } else { FirstTarget::Queue(0) };
        let mut staging = self.stage(first)?;
        let offset = staging.position()?;
        staging.write(&buffer)?;
        let octets = buffer.len() as u64;
        self.content = PartialContent::File { first, staging: Box::new(staging), offset, octets };
        Ok(())
    }

    /// The octets held in memory.
    #[cfg(test)]
    pub fn octets_in_memory(&self) -> usize {
        match &self.content {
            PartialContent::Memory(buffer) => buffer.capacity(),
            PartialContent::File { .. } => 0,
        }
    }

    /// Makes every copy durable and announces it. After `Ok` the message survives any crash. Returns its id, and the notice
    /// that is due.
    ///
    /// # Errors
    /// The message loops or cannot be stored. Nothing of it is kept, except copies that were committed before the
    /// failure.
    pub(super) fn store(mut self) -> Result<(QueueId, Option<OwedNotice>), Refusal> {
        self.finish_content()?;
        let was_here = |mailbox: &Mailbox| self.scanner.was_delivered_to(&mailbox.to_string());
        if self.scanner.has_looped() || self.copies.mailboxes().any(was_here) {
            return Err(Refusal::Loop);
        }
        if self.site.settings.queue.max_size > 0
            && !self.copies.queued.is_empty()
            && self.submission.origin.is_some()
        {
            self.intake.check_room(self.site, &self.submission.client, self.content.octets())?;
        }
        self.decide();
        let source = self.store_copies()?;
        // On the wire each line end has two octets (RFC 1870).
        let size = source.octets() + self.lines;
        let owed = self.owed(&source);
        // It holds the queue file of a large message open, and with it the file's lock: the worker that is told of the message
        // below would find it at work, and come back seconds later.
        drop(source);
        let to: Vec<Mailbox> =
            self.submission.recipients.iter().map(|to| to.routed.mailbox.clone()).collect();
        self.log_accepted(self.id, &self.submission.reverse_path, &to, size);
        if let Some(counter) = self.submission.counter {
            self.intake.counters.count(counter);
            self.intake.counters.add(Count::Octets, size);
        }
        self.announce_delivered();
        self.announce_queued(size);
        Ok((self.id, owed))
    }

    fn finish_content(&mut self) -> Result<(), Refusal> {
        let mut rest = Vec::new();
        self.section.finish(&mut rest);
        self.take(&rest);
        if let Some(mut repair) = self.repair.take() {
            let mut rest = Vec::new();
            repair.finish(&mut rest);
            self.is_dated = repair.has_dated();
            self.keep(&rest);
        }
        self.failed.take().map_or(Ok(()), Err)
    }
}

/// Passes the rest of a reader to `each`, in pieces of at most [`READ_OCTETS`].
///
/// # Errors
/// An I/O error of the reader.
pub(crate) fn each_piece(reader: &mut dyn Read, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; READ_OCTETS];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(()),
            length => each(piece.get(..length).unwrap_or_default()),
        }
    }
}
