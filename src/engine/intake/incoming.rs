//! The one door: whatever enters, enters here (DESIGN section 1). Stage, commit, answer: each copy is put on stable
//! storage under a temporary name, then all get their names, and only then the caller may answer 250. A crash in between
//! can duplicate, never lose.
//!
//! Messages up to [`IN_MEMORY_OCTETS`] are held in memory and written once; larger ones stream to the first target, and
//! the others copy from it, so memory does not grow with the message.

mod collecting;
mod refusal;
mod staging;
mod storing;

pub use self::refusal::Refusal;
use self::staging::Staging;

use super::copies::{Copies, LocalCopy, QueueCopy, Way};
use super::final_delivery::{DELIVERED, FinalDelivery};
use crate::engine::host::clock::EngineClock;
use crate::engine::host::site::Site;
use crate::engine::log::event::{AttemptEnd, Event};
use crate::engine::log::statistics::{Count, Statistics};
use crate::engine::queue::board::Known;
use crate::engine::queue::notices::{self, Told};
use crate::engine::workers::digests::Digests;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::Now;
use crate::mail::envelope::Recipient;
use crate::mail::header::TraceScanner;
use crate::mail::id::QueueId;
use crate::mail::message::{self, Origin};
use crate::mail::section_filter::SectionFilter;
use crate::mail::status::EnhancedStatus;
use crate::rules::message::bounce::RecipientVerdict;
use crate::rules::message::repair::{Repair, RepairFacts};
use crate::rules::routing::route::Routed;
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::store::StoreError;
use crate::store::maildir::{MaildirPath, Maildirs};
use crate::store::queue::{Collected, Description, Queue};
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Larger messages go to disk while they come in.
const IN_MEMORY_OCTETS: usize = 64 * 1024;

/// A Maildir is swept so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// So many Maildirs are remembered as swept; beyond it all are forgotten, and swept again.
const SWEEPS_MAX: usize = 1024;

/// What is told of a message that has entered the queue.
pub trait Queued: Send + Sync {
    /// The message is in the queue, durably, for these recipients.
    fn queued(&self, id: QueueId, arrival: Now, known: Known, recipients: &[Recipient]);
    /// The message is in the queue, durably, and waits there for a digest that leaves at this running time.
    fn collected(&self, id: QueueId, arrival: Now, known: Known, until: Duration);
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
    /// Who is told of queued mail.
    pub listener: Arc<dyn Queued>,
    /// What is counted.
    pub statistics: Arc<Statistics>,
    /// The counter of queue ids; begins at a random number.
    pub ids: AtomicUsize,
    /// When which Maildir's `tmp` was swept, in running time.
    pub sweeps: Mutex<HashMap<PathBuf, Duration>>,
    /// What waits for others of its kind.
    pub digests: Digests,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

/// A recipient that has been accepted: its route, and the parameters of its RCPT.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Where its copy goes.
    pub routed: Routed,
    /// What its sender wants to be told.
    pub parameters: RcptParameters,
}

impl From<Routed> for Accepted {
    fn from(routed: Routed) -> Self {
        Self { routed, parameters: RcptParameters::default() }
    }
}

/// A message about to come in.
#[derive(Debug)]
pub struct Submission {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients; at least one.
    pub recipients: Vec<Accepted>,
    /// For the Received field; `None` for what this program wrote itself.
    pub origin: Option<Origin>,
    /// See [`crate::mail::envelope::Envelope::is_own`]. It loses its Bcc and is repaired, unless this program wrote it.
    pub is_own: bool,
    /// Who sent it, for the log.
    pub client: String,
    /// The name with which the client has logged in, for the log.
    pub login: Option<String>,
    /// When this host wrote its Date, if it did so before it comes in here.
    pub dated: Option<Now>,
}

impl Submission {
    /// By which door it comes in; `None` for what this program wrote itself.
    pub(crate) fn door(&self) -> Option<Count> {
        Some(match self.origin.as_ref()?.protocol.as_str() {
            "local" => Count::ByDrop,
            protocol if protocol.contains("LMTP") => Count::ByLmtp,
            _ if self.login.is_some() => Count::BySubmission,
            _ => Count::BySmtp,
        })
    }
}

/// Where the content is while it comes in.
enum Content {
    Memory(Vec<u8>),
    /// In the file of the first target; `first` tells which one that is.
    File {
        first: First,
        staging: Staging,
        offset: u64,
        octets: u64,
    },
}

/// The content once it is complete.
enum Source {
    Memory(Vec<u8>),
    File { file: File, offset: u64, octets: u64 },
}

impl Source {
    fn octets(&self) -> u64 {
        match self {
            Self::Memory(buffer) => buffer.len() as u64,
            Self::File { octets, .. } => *octets,
        }
    }

    /// The first octets, up to `most`.
    fn start(&self, most: usize) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.octets()).unwrap_or(most).min(most);
        match self {
            Self::Memory(buffer) => Ok(buffer.get(..length).unwrap_or_default().to_vec()),
            Self::File { file, offset, .. } => {
                let mut start = vec![0; length];
                file.read_exact_at(&mut start, *offset)?;
                Ok(start)
            }
        }
    }

    fn copy_into(&self, mut staging: Staging) -> Result<Staging, StoreError> {
        match self {
            Self::Memory(buffer) => staging.write(buffer)?,
            Self::File { file, offset, octets } => staging.append_from(file, *offset, *octets)?,
        }
        Ok(staging)
    }
}

/// Which target a large message streams to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum First {
    Local(usize),
    Queue(usize),
}

/// A message that is coming in.
pub struct Incoming<'a> {
    intake: &'a Intake,
    site: &'a Site,
    id: QueueId,
    arrival: Now,
    submission: Submission,
    trace: String,
    copies: Copies,
    content: Content,
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
        let (content, scanner) = (Content::Memory(Vec::new()), TraceScanner::default());
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
        let (messages, octets) = self.listener.size();
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
            Content::Memory(buffer) => {
                buffer.extend_from_slice(piece);
                if buffer.len() > IN_MEMORY_OCTETS { self.move_to_disk() } else { Ok(()) }
            }
            Content::File { staging, octets, .. } => {
                *octets += piece.len() as u64;
                staging.write(piece).map_err(Refusal::Store)
            }
        };
        if let Err(refusal) = result {
            // What was staged goes at once: it may be what fills the disk.
            self.content = Content::Memory(Vec::new());
            self.failed = Some(refusal);
        }
    }

    /// Gives the first target what is in memory, and all that follows.
    fn move_to_disk(&mut self) -> Result<(), Refusal> {
        self.decide();
        let Content::Memory(buffer) = std::mem::replace(&mut self.content, Content::Memory(Vec::new()))
        else {
            return Ok(());
        };
        // Others copy from the first one, and a file in a Maildir is its user's, who can write to it: with several copies it
        // is one in the queue, even if none is kept there.
        let is_alone = self.copies.count() == 1 && self.copies.queued.is_empty();
        let first = if is_alone { First::Local(0) } else { First::Queue(0) };
        let mut staging = self.stage(first)?;
        let offset = staging.position()?;
        staging.write(&buffer)?;
        let octets = buffer.len() as u64;
        self.content = Content::File { first, staging, offset, octets };
        Ok(())
    }

    fn stage(&self, which: First) -> Result<Staging, StoreError> {
        let late = || QueueCopy { id: self.id, way: Way::default(), recipients: Vec::new() };
        match which {
            First::Local(i) => self.copies.local.get(i).map(|copy| self.stage_local(copy)),
            First::Queue(i) => self.copies.queued.get(i).map(|copy| self.stage_queue(copy)),
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
            Content::Memory(buffer) => buffer.capacity(),
            Content::File { .. } => 0,
        }
    }

    /// Makes the message durable in all its places, and gives its id: it outlives any crash from here on.
    ///
    /// # Errors
    /// It was not taken, and nothing of it is kept, other than copies that a failure halfway left in Maildirs.
    pub fn commit(mut self) -> Result<QueueId, Refusal> {
        let mut rest = Vec::new();
        self.section.finish(&mut rest);
        self.take(&rest);
        if let Some(mut repair) = self.repair.take() {
            let mut rest = Vec::new();
            repair.finish(&mut rest);
            self.is_dated = repair.has_dated();
            self.keep(&rest);
        }
        if let Some(refusal) = self.failed.take() {
            return Err(refusal);
        }
        let was_here = |mailbox: &Mailbox| self.scanner.was_delivered_to(&mailbox.to_string());
        if self.scanner.has_looped() || self.copies.mailboxes().any(was_here) {
            return Err(Refusal::Loop);
        }
        self.decide();
        // As the wire counts it (RFC 1870): each line end is two octets there.
        let source = self.store()?;
        let size = source.octets() + self.lines;
        let to: Vec<Mailbox> =
            self.submission.recipients.iter().map(|to| to.routed.mailbox.clone()).collect();
        self.tell_accepted(self.id, &self.submission.reverse_path, &to, size);
        if let Some(door) = self.submission.door() {
            self.intake.statistics.count(door);
            self.intake.statistics.add(Count::Octets, size);
        }
        self.tell_delivered();
        for copy in &self.copies.queued {
            if copy.id != self.id {
                let to: Vec<Mailbox> = copy.recipients.iter().map(|to| to.mailbox.clone()).collect();
                self.tell_accepted(copy.id, &copy.way.reverse_path(&self.submission.reverse_path), &to, size);
            }
            let listener = &self.intake.listener;
            let known = Known::new(size, self.arrival.running, self.scanner.is_urgent());
            match self.digest {
                Some(digest) => {
                    // First of all: a worker that gets it at once has to find it there.
                    let full = self.intake.digests.add(self.site, copy.id, size, digest, self.arrival);
                    listener.collected(copy.id, self.arrival, known, digest.until);
                    if let Some(id) = full {
                        listener.collected(id, self.arrival, known, self.arrival.running);
                    }
                }
                None => listener.queued(copy.id, self.arrival, known, &copy.recipients),
            }
        }
        self.tell_sender(&source);
        Ok(self.id)
    }

    /// Of copies in their Maildirs and of aliases, if the sender asked for that (RFC 3461 §5.2.3, §5.2.7).
    fn tell_sender(&self, source: &Source) {
        let envelope = Way::default().envelope(&self.submission);
        let told = self
            .copies
            .local
            .iter()
            .map(|copy| (copy.recipient.clone(), RecipientVerdict::Delivered, DELIVERED));
        let told: Vec<Told> = told.chain(self.copies.told.iter().cloned()).collect();
        if !told.iter().any(|(recipient, ..)| notices::is_owed(&envelope, recipient)) {
            return;
        }
        let start = source.start(notices::HEADERS_MAX_OCTETS).unwrap_or_default();
        let mut content = self.trace.as_bytes().chain(start.as_slice());
        notices::delivered(self.intake, self.site, (self.id, self.arrival), &envelope, &told, &mut content);
    }

    fn tell_accepted(&self, id: QueueId, from: &ReversePath, to: &[Mailbox], size: u64) {
        let (origin, client) = (self.submission.origin.as_ref(), self.submission.client.as_str());
        let tls = origin.and_then(|origin| origin.tls.as_deref());
        let auth = self.submission.login.as_deref();
        Event::Accepted { id, from, to, size, client, tls, auth }.log();
    }

    fn tell_delivered(&self) {
        for copy in &self.copies.local {
            self.intake.sweep(&copy.path, self.arrival);
            self.intake.statistics.count_end(AttemptEnd::Delivered, true);
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
