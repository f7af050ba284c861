//! Storm control (`[digest]`): which of this host's own messages wait in the queue for others of their kind, and the
//! message in which they leave together. What is alike and how long it waits is decided in `rules::digest`.
//!
//! What waits is an ordinary entry of the queue, with recipients as they come out of aliases, that says in its description
//! until when and for which digest it waits. On the index it is before the local worker, due at the end of its window; so
//! flush, hold, remove and bounce work on it as on any other. The digest is a new message by intake; only when that is
//! committed its members are removed: a crash in between sends them twice, and loses none. A member that has been tried
//! alone, as by a version that knows no digests, waits no more.
//!
//! What may fail: the disk. A digest for which there is no room is tried with half of its members; a member that can't be
//! read stays, and is tried again by itself.

use crate::engine::host::site::Site;
use crate::engine::intake::digest_windows::{MEMBER_FRAME_OCTETS, terms};
use crate::engine::intake::incoming::each_piece;
use crate::engine::intake::refusal::Refusal;
use crate::engine::intake::submission::{Accepted, Submission};
use crate::engine::log::event::{AttemptEnd, Event, trouble};
use crate::engine::queue::attempt::{Attempt, Claim};
use crate::engine::queue::digest_entries::awaited;
use crate::engine::queue::index::{Hop, Pending};
use crate::engine::queue::manager::{BUSY_RETRY, Manager, OWN_TROUBLE_RETRY};
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::header;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::rules::message::digest::{DigestSummary, DigestTerms, Facts, Frame};
use crate::rules::routing::route::Routed;
use crate::smtp::extension::RcptParameters;
use crate::store::queue::{self, Checkout, Description, Entry, JournalRecord};
use crate::store::{ErrorKind, StoreError};
use crate::sys;
use std::collections::BinaryHeap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Of a member's header section so much is looked at.
const HEADER_MAX_OCTETS: usize = 64 * 1024;

/// The turn of a message that is before the local worker: if it waits for a digest, that leaves. False: it does not.
pub fn leave(manager: &Manager, pending: Pending) -> bool {
    let digests = &manager.intake.digests;
    let Some(group) = digests.windows().group_of(pending.id) else { return false };
    let site = manager.site();
    let put_off = |span: Duration| {
        let due = manager.clock.now().running.saturating_add(span);
        manager.index.put_back(Hop::Local, pending, due);
        true
    };
    let entry = match open(manager, pending.id) {
        Ok(entry) => entry,
        Err(Unfit::Lost) => {
            // The worker finds that out once more, and knows what is to be done.
            digests.forget(pending.id);
            return false;
        }
        Err(Unfit::Later(span)) => return put_off(span),
    };
    let waits = awaited(&site, entry.description(), &entry.progress()).is_some();
    let (Some(terms), true) = (terms(&site), waits) else {
        alone(manager, &site, &entry);
        return true;
    };
    let Some(_lock) = manager.queue.lock_for_digest() else { return put_off(BUSY_RETRY) };
    let kind = Kind { group, envelope: &entry.description().envelope };
    match send(manager, &site, kind, &terms) {
        Ok(sent) if sent.contains(&pending.id) => true,
        // Others had to go first; or somebody has it in hand.
        Ok(sent) => put_off(if sent.is_empty() { BUSY_RETRY } else { Duration::ZERO }),
        Err(refusal) => {
            trouble("writing a digest; it is tried again", &refusal);
            let all: Vec<QueueId> = digests.windows().members(Some(group)).collect();
            for id in all {
                manager.index.withdraw(id);
                let due = manager.clock.now().running.saturating_add(OWN_TROUBLE_RETRY);
                manager.index.put_back(Hop::Local, Pending { id, ..pending }, due);
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

fn open(manager: &Manager, id: QueueId) -> Result<Arc<Entry>, Unfit> {
    let opened = match manager.queue.checkout(id) {
        Ok(Checkout::Ready(entry)) => entry.verify().map(|()| entry),
        Ok(Checkout::Busy) => return Err(Unfit::Later(BUSY_RETRY)),
        Ok(Checkout::Gone) => return Err(Unfit::Lost),
        Err(error) => Err(error),
    };
    opened.map_err(|error| {
        if error.kind == ErrorKind::Corrupt {
            return Unfit::Lost;
        }
        trouble("reading a message that waits for a digest", &error);
        Unfit::Later(OWN_TROUBLE_RETRY)
    })
}

/// Lets a message leave by itself.
fn alone(manager: &Manager, site: &Site, entry: &Entry) {
    let id = entry.id();
    let now = manager.clock.now().running;
    manager.index.withdraw(id);
    match manager.queue.summary(id) {
        Some(Ok(summary)) => {
            manager.intake.digests.forget(id);
            manager.put_on_board(site, &summary);
            manager.index.inherit_flush(&[id], id, now);
        }
        Some(Err(error)) => {
            trouble("reading a message that waits for a digest", &error);
            let arrival = entry.description().arrival.running.min(now);
            manager.index.put_back(Hop::Local, Pending { id, arrival }, now + OWN_TROUBLE_RETRY);
        }
        None => manager.intake.digests.forget(id),
    }
}

/// The messages that leave now, the oldest first, and what there is to tell of them.
#[derive(Default)]
struct Picked {
    ids: Vec<QueueId>,
    /// So long the operator can't drop or return them.
    claims: Vec<Claim>,
    summary: DigestSummary,
}

/// Makes the digest of the oldest messages that it may hold, or lets one leave alone for which there is no other; gives
/// those that have left.
fn send(
    manager: &Manager,
    site: &Site,
    kind: Kind<'_>,
    terms: &DigestTerms,
) -> Result<Vec<QueueId>, Refusal> {
    let digests = &manager.intake.digests;
    let mut most = terms.members;
    loop {
        let picked = pick(manager, site, kind, most, terms.octets);
        let left = match picked.ids.as_slice() {
            [] => return Ok(Vec::new()),
            [only] => {
                let Ok(entry) = open(manager, *only) else { return Ok(Vec::new()) };
                alone(manager, site, &entry);
                1
            }
            ids => match write(manager, site, kind.envelope, &picked) {
                Ok(digest) => {
                    manager.index.inherit_flush(ids, digest, manager.clock.now().running);
                    ids.iter().for_each(|&id| remove(manager, id, digest));
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
        let now = manager.clock.now().running;
        let mut windows = digests.windows();
        windows.left(kind.group, left, now, terms);
        if let Some(id) = windows.overdue(kind.group, terms) {
            manager.index.put_back(Hop::Local, Pending { id, arrival: now }, now);
        }
        return Ok(picked.ids);
    }
}

fn pick(manager: &Manager, site: &Site, kind: Kind<'_>, most: usize, octets: u64) -> Picked {
    let windows = &manager.intake.digests;
    // A heap sorts with a tenth of the code of a sort.
    let ids: BinaryHeap<QueueId> = windows.windows().members(Some(kind.group)).collect();
    let (mut picked, mut total) = (Picked::default(), 0);
    for id in ids.into_sorted_vec() {
        if picked.ids.len() >= most {
            break;
        }
        let entry = match open(manager, id) {
            Ok(entry) => entry,
            // Its own turn comes, too: the index knows it.
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
        let Some(claim) = Claim::take(&manager.claims, id, vec![0]) else { continue };
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
    each_piece(&mut entry.content(0), &mut |piece| {
        has_eight_bit |= !piece.is_ascii();
        let room = HEADER_MAX_OCTETS.saturating_sub(start.len()).min(piece.len());
        start.extend_from_slice(piece.get(..room).unwrap_or_default());
    })?;
    let length = header::section(&start).len();
    start.truncate(length);
    Ok((start, has_eight_bit))
}

/// Writes the digest, and puts it into the queue. Local recipients get it from there, as any other: the local worker knows
/// what to do when a Maildir takes nothing, or somebody is there no more.
fn write(manager: &Manager, site: &Site, envelope: &Envelope, picked: &Picked) -> Result<QueueId, Refusal> {
    let now = manager.clock.now();
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
    let submission = Submission { dated: Some(now), ..Submission::resubmitted(envelope, recipients, client) };
    let mut incoming = manager.intake.begin(site, submission)?;
    incoming.write(&frame.head);
    for &id in &picked.ids {
        let entry = open(manager, id).map_err(|_| StoreError::refused(id.to_string(), "it is not there"))?;
        incoming.write(frame.separator.as_bytes());
        let read = |error| StoreError::io(id.to_string(), error);
        incoming.write_from(&mut entry.content(0)).map_err(read)?;
    }
    incoming.write(frame.end.as_bytes());
    incoming.commit()
}

fn by_queue(recipient: &Recipient) -> Accepted {
    let Recipient { mailbox, orcpt, notify, leaves } = recipient.clone();
    Accepted { routed: Routed::by_queue(mailbox, leaves), parameters: RcptParameters { notify, orcpt } }
}

/// Removes a message that has left in a digest. One that can't be removed now leaves once more: a duplicate, and no loss.
fn remove(manager: &Manager, id: QueueId, digest: QueueId) {
    manager.index.withdraw(id);
    let now = manager.clock.now();
    let Ok(Checkout::Ready(entry)) = manager.queue.checkout(id) else {
        let pending = Pending { id, arrival: now.running };
        return manager.index.put_back(Hop::Local, pending, now.running + BUSY_RETRY);
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
    let pending = Pending { id, arrival: arrival.running.min(now.running) };
    manager.remove(&entry, pending, &[record]);
}
