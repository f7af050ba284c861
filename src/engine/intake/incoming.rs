//! The one door: whatever enters, enters here (DESIGN section 1). Stage, commit, answer: each copy is put on stable
//! storage under a temporary name, then all get their names, and only then the caller may answer 250. A crash in between
//! can duplicate, never lose.
//!
//! Messages up to [`IN_MEMORY_OCTETS`] are held in memory and written once; larger ones stream to the first target, and
//! the others copy from it, so memory does not grow with the message.

mod collecting;
mod content;
mod staging;
mod storing;

use self::content::{FirstTarget, PartialContent, WholeContent};
use self::staging::Staging;
use super::copies::{Copies, LocalCopy, NoticeItem, QueueCopy, Via};
use super::digest_windows::DigestWindows;
use super::final_delivery::{DELIVERED, FinalDelivery};
use super::refusal::Refusal;
use super::submission::Submission;
use crate::engine::host::clock::EngineClock;
use crate::engine::host::site::Site;
use crate::engine::log::counters::{Count, Counters};
use crate::engine::log::event::{AttemptEnd, Event};
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::Now;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::header::TraceScanner;
use crate::mail::id::QueueId;
use crate::mail::message;
use crate::mail::section_filter::SectionFilter;
use crate::mail::status::EnhancedStatus;
use crate::rules::message::bounce::RecipientVerdict;
use crate::rules::message::repair::{Repair, RepairFacts};
use crate::store::StoreError;
use crate::store::maildir::{MaildirPath, Maildirs};
use crate::store::queue::{Collected, Description, Queue};
use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Larger messages go to disk while they come in.
const IN_MEMORY_OCTETS: usize = 64 * 1024;

/// The largest header section that a notice returns, in octets.
pub(super) const HEADERS_MAX_OCTETS: usize = 64 * 1024;
/// Octets that [`Incoming::write_from`] reads at once.
const READ_OCTETS: usize = 16 * 1024;
/// A Maildir is swept so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// So many Maildirs are remembered as swept; beyond it all are forgotten, and swept again.
const SWEEPS_MAX: usize = 1024;

/// A message that has just entered the queue.
#[derive(Debug, Clone, Copy)]
pub struct NewEntry {
    /// Its name in the queue.
    pub id: QueueId,
    /// When it came in.
    pub arrival: Now,
    /// Its size on the wire, in octets.
    pub octets: u64,
    /// It says that it is urgent: a metered link lets it pass.
    pub is_urgent: bool,
}

/// The queue's side of intake: what happens to a message once it is in the queue, durably.
pub trait OnQueued: Send + Sync {
    /// The message waits for delivery to these recipients.
    fn queued(&self, new: NewEntry, recipients: &[Recipient]);
    /// The message waits for a digest that leaves at this running time.
    fn collected(&self, new: NewEntry, until: Duration);
    /// How many messages are queued, and their size in octets.
    fn size(&self) -> (usize, u64);
}

/// The door.
pub struct Intake {
    /// Both clocks.
    pub clock: Arc<EngineClock>,
    /// The queue.
    pub queue: Arc<Queue>,
    /// Names for delivered files.
    pub maildirs: Maildirs,
    /// Schedules what has entered the queue.
    pub on_queued: Arc<dyn OnQueued>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// The counter of queue ids; begins at a random number.
    pub ids: AtomicUsize,
    /// When which Maildir's `tmp` was swept, in running time.
    pub sweeps: Mutex<HashMap<PathBuf, Duration>>,
    /// What waits for others of its kind.
    pub digests: DigestWindows,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

/// A message that is coming in.
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
    /// It waits for a digest.
    digest: Option<Collected>,
    /// Its Date is this host's.
    is_dated: bool,
}

/// A message that is safe.
pub(super) struct Stored {
    pub id: QueueId,
    pub arrival: Now,
    pub owed: Option<OwedNotice>,
}

/// What the notice is made of that the sender of a stored message asked for.
pub(super) struct OwedNotice {
    pub envelope: Envelope,
    pub items: Vec<NoticeItem>,
    /// The header section of the message, or the start of it.
    pub header: Vec<u8>,
}

/// Whether the sender asked this host to report a delivery.
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
    /// Begins to take a message.
    ///
    /// # Errors
    /// The queue is full, or a recipient's Maildir is none.
    pub fn begin<'a>(&'a self, site: &'a Site, submission: Submission) -> Result<Incoming<'a>, Refusal> {
        let arrival = self.clock.now();
        let id = self.next_id(arrival);
        // The first entry has the name of the message.
        let mut ids = Some(id);
        let mut next_id = || ids.take().unwrap_or_else(|| self.next_id(arrival));
        let copies = Copies::of(&submission, site, &mut next_id)?;
        // What this program writes itself takes the place of what it is about: a queue full of expired mail could
        // else not be bounced, and would stay full.
        if !copies.queued.is_empty() && self.is_full(site) && submission.origin.is_some() {
            return Err(Refusal::QueueFull);
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

    /// Sweeps what crashes have left in a Maildir, once a day.
    fn sweep(&self, path: &MaildirPath, now: Now) {
        let mut sweeps = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
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
            Err(error) => Event::Trouble { doing: "sweeping a Maildir", error: &error.to_string() }.log(),
        }
    }

    fn next_id(&self, now: Now) -> QueueId {
        QueueId::new(now.wall.0, self.ids.fetch_add(1, Ordering::Relaxed) as u64)
    }
}

impl Incoming<'_> {
    /// Takes the next piece of the content, in canonical form. An error is kept for [`Self::commit`], so that the data
    /// can be read to its end.
    pub fn write(&mut self, piece: &[u8]) {
        if self.section.is_in_body() {
            return self.take(piece);
        }
        let mut filtered = Vec::with_capacity(piece.len());
        self.section.feed(piece, &mut filtered);
        self.take(&filtered);
    }

    /// Writes all that a reader still gives.
    ///
    /// # Errors
    /// The reader fails.
    pub fn write_from(&mut self, reader: &mut dyn Read) -> io::Result<()> {
        each_piece(reader, &mut |piece| self.write(piece))
    }

    /// Takes what has a header section that ends where its fields do.
    fn take(&mut self, piece: &[u8]) {
        match self.repair.as_mut().filter(|repair| !repair.is_in_body()) {
            None => self.keep(piece),
            Some(repair) => {
                let mut repaired = Vec::with_capacity(piece.len());
                repair.feed(piece, &mut repaired);
                self.is_dated = repair.has_dated();
                self.keep(&repaired);
            }
        }
    }

    /// Takes what will be stored: the search for loops and the size go by that.
    fn keep(&mut self, piece: &[u8]) {
        self.scanner.feed(piece);
        self.lines += piece.iter().filter(|&&octet| octet == b'\n').count() as u64;
        if self.failed.is_some() {
            return;
        }
        let result = match &mut self.content {
            PartialContent::Memory(buffer) => {
                buffer.extend_from_slice(piece);
                if buffer.len() > IN_MEMORY_OCTETS { self.move_to_disk() } else { Ok(()) }
            }
            PartialContent::File { staging, octets, .. } => {
                *octets += piece.len() as u64;
                staging.write(piece).map_err(Refusal::Store)
            }
        };
        if let Err(refusal) = result {
            // What was staged goes at once: it may be what fills the disk.
            self.content = PartialContent::Memory(Vec::new());
            self.failed = Some(refusal);
        }
    }

    /// Gives the first target what is in memory, and all that follows.
    fn move_to_disk(&mut self) -> Result<(), Refusal> {
        self.decide();
        let PartialContent::Memory(buffer) =
            std::mem::replace(&mut self.content, PartialContent::Memory(Vec::new()))
        else {
            return Ok(());
        };
        // Others copy from the first one, and a file in a Maildir is its user's, who can write to it: with several copies it
        // is one in the queue, even if none is kept there.
        let is_alone = self.copies.count() == 1 && self.copies.queued.is_empty();
        let first = if is_alone { FirstTarget::Local(0) } else { FirstTarget::Queue(0) };
        let mut staging = self.stage(first)?;
        let offset = staging.position()?;
        staging.write(&buffer)?;
        let octets = buffer.len() as u64;
        self.content = PartialContent::File { first, staging, offset, octets };
        Ok(())
    }

    fn stage(&self, which: FirstTarget) -> Result<Staging, StoreError> {
        let late = || QueueCopy { id: self.id, way: Via::default(), recipients: Vec::new() };
        match which {
            FirstTarget::Local(i) => self.copies.local.get(i).map(|copy| self.stage_local(copy)),
            FirstTarget::Queue(i) => self.copies.queued.get(i).map(|copy| self.stage_queue(copy)),
        }
        .unwrap_or_else(|| self.stage_queue(&late()))
    }

    fn stage_local(&self, copy: &LocalCopy) -> Result<Staging, StoreError> {
        let delivery = self.intake.maildirs.stage(&copy.path, self.arrival.wall)?;
        let reverse_path = copy.way.reverse_path(&self.submission.reverse_path);
        let mut delivery = FinalDelivery::begin(delivery, &reverse_path, &copy.recipient.mailbox)?;
        delivery.write(self.trace.as_bytes())?;
        Ok(Staging::Maildir(delivery))
    }

    fn stage_queue(&self, copy: &QueueCopy) -> Result<Staging, StoreError> {
        let mut envelope = copy.way.envelope(&self.submission);
        envelope.recipients.clone_from(&copy.recipients);
        // A large message is staged before it is all there. Who hides the word behind the first 64 KiB has not said it.
        envelope.is_urgent = self.scanner.is_urgent();
        let (origin, arrival) = (self.submission.client.clone(), self.arrival);
        let dated = self.submission.dated.or(self.is_dated.then_some(arrival));
        let description = Description { envelope, origin, arrival, digest: self.digest, dated };
        let mut entry = self.intake.queue.stage(copy.id, &description)?;
        entry.write(copy.way.field().as_bytes())?;
        entry.write(self.trace.as_bytes())?;
        Ok(Staging::Queue(entry))
    }

    /// Octets held in memory.
    #[cfg(test)]
    pub fn octets_in_memory(&self) -> usize {
        match &self.content {
            PartialContent::Memory(buffer) => buffer.capacity(),
            PartialContent::File { .. } => 0,
        }
    }

    /// Makes the message durable in all its places and announces it: it outlives any crash from here on.
    ///
    /// # Errors
    /// The message was not taken. Nothing of it is kept, except copies that a failure halfway has left in Maildirs.
    pub(super) fn store(mut self) -> Result<Stored, Refusal> {
        self.finish_content()?;
        let was_here = |mailbox: &Mailbox| self.scanner.was_delivered_to(&mailbox.to_string());
        if self.scanner.has_looped() || self.copies.mailboxes().any(was_here) {
            return Err(Refusal::Loop);
        }
        self.decide();
        let source = self.store_copies()?;
        // As the wire counts it (RFC 1870): each line end is two octets there.
        let size = source.octets() + self.lines;
        let to: Vec<Mailbox> =
            self.submission.recipients.iter().map(|to| to.routed.mailbox.clone()).collect();
        self.log_accepted(self.id, &self.submission.reverse_path, &to, size);
        if let Some(door) = self.submission.door() {
            self.intake.counters.count(door);
            self.intake.counters.add(Count::Octets, size);
        }
        self.announce_delivered();
        self.announce_queued(size);
        Ok(Stored { id: self.id, arrival: self.arrival, owed: self.owed(&source) })
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

    fn announce_queued(&self, octets: u64) {
        for copy in &self.copies.queued {
            if copy.id != self.id {
                let to: Vec<Mailbox> = copy.recipients.iter().map(|to| to.mailbox.clone()).collect();
                self.log_accepted(
                    copy.id,
                    &copy.way.reverse_path(&self.submission.reverse_path),
                    &to,
                    octets,
                );
            }
            let on_queued = &self.intake.on_queued;
            let is_urgent = self.scanner.is_urgent();
            let new = NewEntry { id: copy.id, arrival: self.arrival, octets, is_urgent };
            match self.digest {
                Some(digest) => {
                    // Before the index: a worker that gets the message at once has to find it here.
                    let full = self.intake.digests.add(self.site, copy.id, octets, digest, self.arrival);
                    on_queued.collected(new, digest.until);
                    if let Some(id) = full {
                        on_queued.collected(NewEntry { id, ..new }, self.arrival.running);
                    }
                }
                None => on_queued.queued(new, &copy.recipients),
            }
        }
    }

    /// The notice of copies in their Maildirs and of aliases, if the sender asked for one (RFC 3461 §5.2.3, §5.2.7).
    fn owed(&self, source: &WholeContent) -> Option<OwedNotice> {
        let envelope = Via::default().envelope(&self.submission);
        let delivered = |copy: &LocalCopy| NoticeItem {
            recipient: copy.recipient.clone(),
            verdict: RecipientVerdict::Delivered,
            text: DELIVERED,
        };
        let items: Vec<NoticeItem> =
            self.copies.local.iter().map(delivered).chain(self.copies.notices.iter().cloned()).collect();
        if !items.iter().any(|item| is_owed(&envelope, &item.recipient)) {
            return None;
        }
        let mut header = self.trace.as_bytes().to_vec();
        header.extend(source.start(HEADERS_MAX_OCTETS).unwrap_or_default());
        Some(OwedNotice { envelope, items, header })
    }

    fn log_accepted(&self, id: QueueId, from: &ReversePath, to: &[Mailbox], size: u64) {
        let (origin, client) = (self.submission.origin.as_ref(), self.submission.client.as_str());
        let tls = origin.and_then(|origin| origin.tls.as_deref());
        let auth = self.submission.login.as_deref();
        Event::Accepted { id, from, to, size, client, tls, auth }.log();
    }

    fn announce_delivered(&self) {
        for copy in &self.copies.local {
            self.intake.sweep(&copy.path, self.arrival);
            self.intake.counters.count_end(AttemptEnd::Delivered, true);
            Event::Attempt {
                what: AttemptEnd::Delivered,
                id: self.id,
                to: &copy.recipient.mailbox,
                relay: "local",
                attempt: 1,
                delay: Duration::ZERO,
                status: EnhancedStatus::OK,
                reply: DELIVERED,
            }
            .log();
        }
    }
}

/// Hands on all that a reader still gives, piece by piece.
///
/// # Errors
/// The reader fails.
pub(crate) fn each_piece(reader: &mut dyn Read, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut piece = vec![0; READ_OCTETS];
    loop {
        match reader.read(&mut piece)? {
            0 => return Ok(()),
            length => each(piece.get(..length).unwrap_or_default()),
        }
    }
}
