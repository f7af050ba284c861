//! Storm control (`[digest]`): which of this host's own messages wait in the queue for others of their kind, and the
//! message in which they leave together. What is alike and how long it waits is decided in `rules::digest`.
//!
//! What waits is an ordinary entry of the queue, with recipients as they come out of aliases, that says in its description
//! until when and for which digest it waits. On the board it is before the local worker, due at the end of its window; so
//! flush, hold, remove and bounce work on it as on any other. The digest is a new message by intake; only when that is
//! committed its members are removed: a crash in between sends them twice, and loses none. A member that has been tried
//! alone, as by a version that knows no digests, waits no more.
//!
//! What may fail: the disk. A digest for which there is no room is tried with half of its members; a member that can't be
//! read stays, and is tried again by itself.

use super::forwarder::{BUSY_RETRY, Forwarder, OWN_TROUBLE_RETRY};
use super::local;
use crate::engine::host::site::Site;
use crate::engine::intake::copies::Way;
use crate::engine::intake::incoming::{Accepted, Refusal, Submission};
use crate::engine::log::event::{AttemptEnd, Event};
use crate::engine::log::statistics::Count;
use crate::engine::queue::attempt::{Attempt, Claim};
use crate::engine::queue::board::{Hop, Job};
use crate::mail::date::Now;
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::header;
use crate::mail::id::QueueId;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::rules::message::digest::{self, Facts, Frame, MEMBERS_MAX, Member, Summary, Terms, Windows};
use crate::rules::routing::route::{Destination, Routed};
use crate::smtp::extension::RcptParameters;
use crate::store::queue::{
    self, Checkout, Collected, Description, Entry, JournalRecord, Progress, RecipientState,
};
use crate::store::state_file::windows;
use crate::store::{ErrorKind, StoreError};
use crate::sys;
use std::collections::{BinaryHeap, HashSet};
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Read at once.
const READ_OCTETS: usize = 16 * 1024;
/// Of a member's header section so much is looked at.
const HEADER_MAX_OCTETS: usize = 64 * 1024;
/// What the frame of a digest takes of `limits.message_size`, and that of a member: generous.
const FRAME_OCTETS: u64 = 64 * 1024;
const MEMBER_FRAME_OCTETS: u64 = 256;

/// What waits for others of its kind.
#[derive(Debug, Default)]
pub struct Digests {
    windows: Mutex<Windows>,
    /// What the file says of them.
    saved: Mutex<String>,
}

impl Digests {
    /// Goes on from what was saved below `state`.
    #[must_use]
    pub fn resume(state: &Path) -> Self {
        let text = windows::load(state);
        Self { windows: Mutex::new(Windows::parse(&text)), saved: Mutex::new(text) }
    }

    /// Saves below `state` what another process would not find in the queue, if it has changed.
    pub fn save(&self, state: &Path, now: Now) {
        let text = self.windows().print(now.running);
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved == text {
            return;
        }
        if let Err(error) = windows::save(state, &text) {
            Event::Trouble { doing: "saving the windows of digests", error: &error.to_string() }.log();
        }
        *saved = text;
    }

    /// Whether a message that comes in waits, by the start of its content. A message that is not taken in the end counts all
    /// the same: at worst a like one waits that need not have.
    #[must_use]
    pub fn decide(&self, site: &Site, submission: &Submission, start: &[u8], now: Now) -> Option<Collected> {
        // What logs in, or comes from another host, has its own sender to answer to.
        if submission.door() != Some(Count::ByDrop) {
            return None;
        }
        let terms = terms(site)?;
        let mut envelope = Way::default().envelope(submission);
        envelope.recipients = submission.recipients.iter().map(as_submitted).collect();
        // The clocks tell nothing about likeness.
        let arrival = Now { wall: Default::default(), running: Duration::ZERO };
        let common =
            Description { envelope, origin: submission.client.clone(), arrival, digest: None, dated: None };
        let folded = digest::fold(&digest::subject(header::section(start)));
        let group = digest::group(&common.print(), &folded);
        let until = self.windows().decide(group, now.running, &terms)?;
        Some(Collected { until, group })
    }

    /// Takes note of a message that waits; gives another one, whose turn comes now as the digest is full.
    #[must_use]
    pub fn add(&self, site: &Site, id: QueueId, octets: u64, digest: Collected, now: Now) -> Option<QueueId> {
        let member = Member { id, octets: octets + MEMBER_FRAME_OCTETS };
        let mut windows = self.windows();
        windows.add(digest.group, member, digest.until, now.running);
        windows.overdue(digest.group, &terms(site)?)
    }

    /// Whether a message waits for a digest.
    #[must_use]
    pub fn holds(&self, id: QueueId) -> bool {
        self.windows().group_of(id).is_some()
    }

    /// All messages that wait.
    #[must_use]
    pub fn all(&self) -> HashSet<QueueId> {
        self.windows().members(None).collect()
    }

    /// A message does not wait any more: it is held, or has left the queue.
    pub fn forget(&self, id: QueueId) {
        self.windows().forget(id);
    }

    /// The queue is about to be read from the beginning.
    pub fn begin_load(&self) {
        self.windows().forget_members();
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the configuration says; `None`: nothing waits.
fn terms(site: &Site) -> Option<Terms> {
    let settings = &site.settings;
    let share = (settings.queue.max_messages as usize / 4).max(1);
    (settings.digest.after > 0).then(|| Terms {
        after: settings.digest.after,
        window: settings.digest.window,
        members: MEMBERS_MAX.min(share),
        octets: settings.limits.message_size.saturating_sub(FRAME_OCTETS).max(1),
    })
}

fn as_submitted(accepted: &Accepted) -> Recipient {
    let RcptParameters { notify, orcpt } = &accepted.parameters;
    let Routed { mailbox, leaves, .. } = &accepted.routed;
    Recipient { mailbox: mailbox.clone(), orcpt: orcpt.clone(), notify: *notify, leaves: *leaves }
}

/// The digest that a message of the queue waits for. One that the operator holds back waits for nothing else, and one
/// that has been tried goes on alone.
#[must_use]
pub fn awaited(site: &Site, description: &Description, progress: &[Progress]) -> Option<Collected> {
    let is_untouched = |progress: &Progress| {
        progress.attempts == 0 && !progress.held && progress.state == RecipientState::Pending
    };
    let is_on = site.settings.digest.after > 0;
    description.digest.filter(|_| is_on && progress.iter().all(is_untouched))
}

/// Puts a message of the queue on the board, to wait there; false if it waits for no digest.
pub fn load(forwarder: &Forwarder, site: &Site, summary: &queue::EntrySummary) -> bool {
    let Some(digest) = awaited(site, &summary.description, &summary.progress) else { return false };
    let now = forwarder.clock.now();
    // A window that has been made shorter ends sooner.
    let latest = now.running.saturating_add(site.settings.digest.window);
    let digest = Collected { until: digest.until.min(latest), ..digest };
    let arrival = summary.description.arrival.running.min(now.running);
    // First of all: a worker that gets it at once has to find it there.
    let full = forwarder.intake.digests.add(site, summary.id, summary.message_octets, digest, now);
    forwarder.board.put_back(Hop::Local, Job { id: summary.id, arrival }, digest.until);
    if let Some(id) = full {
        forwarder.board.put_back(Hop::Local, Job { id, arrival }, now.running);
    }
    true
}

/// The turn of a message that is before the local worker: if it waits for a digest, that leaves. False: it does not.
pub fn leave(forwarder: &Forwarder, job: Job) -> bool {
    let digests = &forwarder.intake.digests;
    let Some(group) = digests.windows().group_of(job.id) else { return false };
    let site = forwarder.site();
    let put_off = |span: Duration| {
        let due = forwarder.clock.now().running.saturating_add(span);
        forwarder.board.put_back(Hop::Local, job, due);
        true
    };
    let entry = match open(forwarder, job.id) {
        Ok(entry) => entry,
        Err(Unfit::Lost) => {
            // The worker finds that out once more, and knows what is to be done.
            digests.forget(job.id);
            return false;
        }
        Err(Unfit::Later(span)) => return put_off(span),
    };
    let waits = awaited(&site, entry.description(), &entry.progress()).is_some();
    let (Some(terms), true) = (terms(&site), waits) else {
        alone(forwarder, &site, &entry);
        return true;
    };
    let Some(_lock) = forwarder.queue.lock_for_digest() else { return put_off(BUSY_RETRY) };
    let kind = Kind { group, envelope: &entry.description().envelope };
    match send(forwarder, &site, kind, &terms) {
        Ok(sent) if sent.contains(&job.id) => true,
        // Others had to go first; or somebody has it in hand.
        Ok(sent) => put_off(if sent.is_empty() { BUSY_RETRY } else { Duration::ZERO }),
        Err(refusal) => {
            forwarder.trouble("writing a digest; it is tried again", &refusal);
            let all: Vec<QueueId> = digests.windows().members(Some(group)).collect();
            for id in all {
                forwarder.board.withdraw(id);
                let due = forwarder.clock.now().running.saturating_add(OWN_TROUBLE_RETRY);
                forwarder.board.put_back(Hop::Local, Job { id, ..job }, due);
            }
            true
        }
    }
}

/// What the messages of a digest have in common. The messages of a group may have come by several ways out of an alias.
#[derive(Clone, Copy)]
struct Kind<'a> {
    group: u128,
    envelope: &'a Envelope,
}

/// Why a message can't be looked at.
enum Unfit {
    /// It is gone, or damaged.
    Lost,
    /// It may be sound: in a while.
    Later(Duration),
}

fn open(forwarder: &Forwarder, id: QueueId) -> Result<Arc<Entry>, Unfit> {
    let opened = match forwarder.queue.checkout(id) {
        Ok(Checkout::Ready(entry)) => entry.verify().map(|()| entry),
        Ok(Checkout::Busy) => return Err(Unfit::Later(BUSY_RETRY)),
        Ok(Checkout::Gone) => return Err(Unfit::Lost),
        Err(error) => Err(error),
    };
    opened.map_err(|error| {
        if error.kind == ErrorKind::Corrupt {
            return Unfit::Lost;
        }
        forwarder.trouble("reading a message that waits for a digest", &error);
        Unfit::Later(OWN_TROUBLE_RETRY)
    })
}

/// Lets a message leave by itself.
fn alone(forwarder: &Forwarder, site: &Site, entry: &Entry) {
    let id = entry.id();
    let now = forwarder.clock.now().running;
    forwarder.board.withdraw(id);
    match forwarder.queue.summary(id) {
        Some(Ok(summary)) => {
            forwarder.intake.digests.forget(id);
            forwarder.put_on_board(site, &summary);
            forwarder.board.inherit_flush(&[id], id, now);
        }
        Some(Err(error)) => {
            forwarder.trouble("reading a message that waits for a digest", &error);
            let arrival = entry.description().arrival.running.min(now);
            forwarder.board.put_back(Hop::Local, Job { id, arrival }, now + OWN_TROUBLE_RETRY);
        }
        None => forwarder.intake.digests.forget(id),
    }
}

/// The messages that leave now, the oldest first, and what there is to tell of them.
#[derive(Default)]
struct Picked {
    ids: Vec<QueueId>,
    /// So long the operator can't drop or return them.
    claims: Vec<Claim>,
    summary: Summary,
}

/// Makes the digest of the oldest messages that it may hold, or lets one leave alone for which there is no other; gives
/// those that have left.
fn send(forwarder: &Forwarder, site: &Site, kind: Kind<'_>, terms: &Terms) -> Result<Vec<QueueId>, Refusal> {
    let digests = &forwarder.intake.digests;
    let mut most = terms.members;
    loop {
        let picked = pick(forwarder, site, kind, most, terms.octets);
        let left = match picked.ids.as_slice() {
            [] => return Ok(Vec::new()),
            [only] => {
                let Ok(entry) = open(forwarder, *only) else { return Ok(Vec::new()) };
                alone(forwarder, site, &entry);
                1
            }
            ids => match write(forwarder, site, kind.envelope, &picked) {
                Ok(digest) => {
                    forwarder.board.inherit_flush(ids, digest, forwarder.clock.now().running);
                    ids.iter().for_each(|&id| remove(forwarder, id, digest));
                    Event::Digest { id: digest, messages: ids.len() }.log();
                    ids.len()
                }
                // What waits may be what fills the disk, and leaves in smaller pieces.
                Err(Refusal::Store(error)) if error.kind == ErrorKind::Full => {
                    most = ids.len() / 2;
                    continue;
                }
                Err(refusal) => return Err(refusal),
            },
        };
        let now = forwarder.clock.now().running;
        let mut windows = digests.windows();
        windows.left(kind.group, left, now, terms);
        if let Some(id) = windows.overdue(kind.group, terms) {
            forwarder.board.put_back(Hop::Local, Job { id, arrival: now }, now);
        }
        return Ok(picked.ids);
    }
}

fn pick(forwarder: &Forwarder, site: &Site, kind: Kind<'_>, most: usize, octets: u64) -> Picked {
    let windows = &forwarder.intake.digests;
    // A heap sorts with a tenth of the code of a sort.
    let ids: BinaryHeap<QueueId> = windows.windows().members(Some(kind.group)).collect();
    let (mut picked, mut total) = (Picked::default(), 0);
    for id in ids.into_sorted_vec() {
        if picked.ids.len() >= most {
            break;
        }
        let entry = match open(forwarder, id) {
            Ok(entry) => entry,
            // Its own turn comes, too: the board knows it.
            Err(_) => continue,
        };
        let description = entry.description();
        let is_meant = awaited(site, description, &entry.progress()).is_some();
        if !is_meant || description.envelope != *kind.envelope {
            continue;
        }
        total += entry.message_octets() + entry.message_lines() + MEMBER_FRAME_OCTETS;
        if total > octets && !picked.ids.is_empty() {
            break;
        }
        let Some(claim) = Claim::take(&forwarder.claims, id, vec![0]) else { continue };
        let Ok((section, has_eight_bit)) = look_through(&entry) else { continue };
        picked.summary.add(id, &section, description.arrival.wall, has_eight_bit);
        picked.claims.push(claim);
        picked.ids.push(id);
    }
    picked
}

/// The header section of a message, and whether an octet of it is above 127.
fn look_through(entry: &Entry) -> io::Result<(Vec<u8>, bool)> {
    let (mut start, mut has_eight_bit) = (Vec::new(), false);
    read(entry, &mut |piece| {
        has_eight_bit |= !piece.is_ascii();
        let room = HEADER_MAX_OCTETS.saturating_sub(start.len()).min(piece.len());
        start.extend_from_slice(piece.get(..room).unwrap_or_default());
    })?;
    let length = header::section(&start).len();
    start.truncate(length);
    Ok((start, has_eight_bit))
}

fn read(entry: &Entry, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let (mut content, mut piece) = (entry.content(0), vec![0; READ_OCTETS]);
    loop {
        match content.read(&mut piece)? {
            0 => return Ok(()),
            length => each(piece.get(..length).unwrap_or_default()),
        }
    }
}

/// Writes the digest, and puts it into the queue. Local recipients get it from there, as any other: the local worker knows
/// what to do when a Maildir takes nothing, or somebody is there no more.
fn write(
    forwarder: &Forwarder,
    site: &Site,
    envelope: &Envelope,
    picked: &Picked,
) -> Result<QueueId, Refusal> {
    let now = forwarder.clock.now();
    let facts = Facts {
        hostname: &site.terms.hostname,
        domain: &site.hostname.key(),
        reverse_path: &envelope.reverse_path,
        smtputf8: envelope.smtputf8,
        now: now.wall,
        random: sys::random(),
    };
    let frame = Frame::new(&picked.summary, &facts);
    let recipients = envelope.recipients.iter().map(by_queue).collect();
    let client = format!("digest of {} messages", picked.ids.len());
    let submission = Submission { dated: Some(now), ..local::anew(envelope, recipients, client) };
    let mut incoming = forwarder.intake.begin(site, submission)?;
    incoming.write(&frame.head);
    for &id in &picked.ids {
        let entry =
            open(forwarder, id).map_err(|_| StoreError::refused(id.to_string(), "it is not there"))?;
        incoming.write(frame.separator.as_bytes());
        read(&entry, &mut |piece| incoming.write(piece))
            .map_err(|error| StoreError::io(id.to_string(), error))?;
    }
    incoming.write(frame.end.as_bytes());
    incoming.commit()
}

fn by_queue(recipient: &Recipient) -> Accepted {
    let Recipient { mailbox, orcpt, notify, leaves } = recipient.clone();
    let destination = Destination::Relay(NextHop::Mx(mailbox.domain.clone()));
    Accepted {
        routed: Routed { mailbox, destination, is_local: false, leaves },
        parameters: RcptParameters { notify, orcpt },
    }
}

/// Removes a message that has left in a digest. One that can't be removed now leaves once more: a duplicate, and no loss.
fn remove(forwarder: &Forwarder, id: QueueId, digest: QueueId) {
    forwarder.board.withdraw(id);
    let now = forwarder.clock.now();
    let Ok(Checkout::Ready(entry)) = forwarder.queue.checkout(id) else {
        let job = Job { id, arrival: now.running };
        return forwarder.board.put_back(Hop::Local, job, now.running + BUSY_RETRY);
    };
    let Description { envelope, arrival, .. } = entry.description();
    let age = now.running.saturating_sub(arrival.running);
    let text = format!("leaves in the digest {digest}");
    for recipient in &envelope.recipients {
        let log = Attempt::log_line(id, &recipient.mailbox, "-", 0, age);
        log(AttemptEnd::Delivered, EnhancedStatus::OK, &text);
    }
    let outcome = Outcome::Delivered(Diagnostic::local(EnhancedStatus::OK, text));
    let recipients = (0..envelope.recipients.len()).collect();
    let record = JournalRecord { recipients, at: now, event: queue::JournalEvent::Attempted(outcome) };
    let job = Job { id, arrival: arrival.running.min(now.running) };
    forwarder.remove(&entry, job, &[record]);
}
