//! Storm control (`[digest]`): the messages of this host that wait in the queue for similar ones, and the message in
//! which they leave together. `rules::message::digest` decides which messages are similar and how long they wait.
//!
//! A member is an ordinary queue entry, with its recipients after aliases, whose description names its digest and the
//! end of the window. In the index it waits at the local hop, due at that end, so that flush, hold, remove and bounce
//! work on it as on any other message.
//!
//! | state of a member | becomes | by |
//! | --- | --- | --- |
//! | waits | due | the end of the window, a full group, a flush |
//! | due, with other members | part of a digest, then removed | [`release_digest`]: oldest first, up to the terms |
//! | due, the only member | an ordinary message at its own hops | `release_single` |
//! | waits, `[digest]` was switched off or the member was tried or held | an ordinary message | `release_single` |
//! | due, but another thread has it | due again after 2 s | `BUSY_RETRY` |
//! | due, but intake refuses the digest | due again after 60 s, with all members | `OWN_TROUBLE_RETRY` |
//! | gone or damaged | forgotten here; the local worker settles the entry | |
//!
//! The steps of a release, under the lock that only one process may have:
//!
//! ```text
//! open the message that is due ─▶ collect_members: claim, read headers ─┬ one ──▶ release_single ─▶ its own hops
//!                                                                       └ more ─▶ write_digest ─▶ commit
//!                                                                                      └▶ remove_member, each
//! ```
//!
//! The digest is a new message by intake, and its members are removed only after it is committed: a crash in between
//! sends them twice and loses none. If the digest does not fit on the disk, one with half as many members is tried. A member
//! that cannot be read stays, and is tried again by itself.

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

/// The most of a member's header section that is read.
const HEADER_MAX_OCTETS: usize = 64 * 1024;

/// Sends the digest that a message waits for, now that the message is due at the local worker. Returns false if the
/// message waits for no digest, and the worker has to settle it.
pub fn release_digest(manager: &Manager, pending: Pending) -> bool {
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
        Err(Unreadable::Lost) => {
            // The local worker opens it again, and settles it.
            digests.forget(pending.id);
            return false;
        }
        Err(Unreadable::Later(span)) => return put_off(span),
    };
    let waits = awaited(&site, entry.description(), &entry.progress()).is_some();
    let (Some(terms), true) = (terms(&site), waits) else {
        release_single(manager, &site, &entry);
        return true;
    };
    let Some(_lock) = manager.queue.lock_for_digest() else { return put_off(BUSY_RETRY) };
    let kind = DigestKind { group, envelope: &entry.description().envelope };
    match send_members(manager, &site, kind, &terms) {
        Ok(sent) if sent.contains(&pending.id) => true,
        // Older members went first, or another thread has this one.
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

/// What the members of one digest have in common. Messages of one group can have different envelopes: an alias makes an
/// entry for each of its members, and all of them are in the group.
#[derive(Clone, Copy)]
struct DigestKind<'a> {
    group: u128,
    envelope: &'a Envelope,
}

/// Why a member cannot be read.
enum Unreadable {
    /// It is gone or damaged.
    Lost,
    /// It may be readable after this time.
    Later(Duration),
}

fn open(manager: &Manager, id: QueueId) -> Result<Arc<Entry>, Unreadable> {
    let opened = match manager.queue.checkout(id) {
        Ok(Checkout::Ready(entry)) => entry.verify().map(|()| entry),
        Ok(Checkout::Busy) => return Err(Unreadable::Later(BUSY_RETRY)),
        Ok(Checkout::Gone) => return Err(Unreadable::Lost),
        Err(error) => Err(error),
    };
    opened.map_err(|error| {
        if error.kind == ErrorKind::Corrupt {
            return Unreadable::Lost;
        }
        trouble("reading a message that waits for a digest", &error);
        Unreadable::Later(OWN_TROUBLE_RETRY)
    })
}

/// Lets a message leave by itself: it waits at its own hops from now on.
fn release_single(manager: &Manager, site: &Site, entry: &Entry) {
    let id = entry.id();
    let now = manager.clock.now().running;
    manager.index.withdraw(id);
    match manager.queue.summary(id) {
        Some(Ok(summary)) => {
            manager.intake.digests.forget(id);
            manager.put_at_hops(site, &summary);
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

/// The members that leave now, the oldest first, and their summary.
#[derive(Default)]
struct Members {
    ids: Vec<QueueId>,
    /// While these last, the operator cannot remove or bounce the members.
    claims: Vec<Claim>,
    summary: DigestSummary,
}

/// Sends a digest of the oldest members, as many as the terms allow, or lets a single member leave by itself. Returns
/// the members that have left.
fn send_members(
    manager: &Manager,
    site: &Site,
    kind: DigestKind<'_>,
    terms: &DigestTerms,
) -> Result<Vec<QueueId>, Refusal> {
    let digests = &manager.intake.digests;
    let mut most = terms.members;
    loop {
        let members = collect_members(manager, site, kind, most, terms.octets);
        let left = match members.ids.as_slice() {
            [] => return Ok(Vec::new()),
            [only] => {
                let Ok(entry) = open(manager, *only) else { return Ok(Vec::new()) };
                release_single(manager, site, &entry);
                1
            }
            ids => match write_digest(manager, site, kind.envelope, &members) {
                Ok(digest) => {
                    manager.index.inherit_flush(ids, digest, manager.clock.now().running);
                    ids.iter().for_each(|&id| remove_member(manager, id, digest));
                    Event::Digest { id: digest, messages: ids.len() }.log();
                    ids.len()
                }
                // The members themselves may fill the disk: a smaller digest needs less room.
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
        return Ok(members.ids);
    }
}

fn collect_members(
    manager: &Manager,
    site: &Site,
    kind: DigestKind<'_>,
    most: usize,
    octets: u64,
) -> Members {
    let windows = &manager.intake.digests;
    // A heap sorts with a tenth of the machine code of `sort`.
    let ids: BinaryHeap<QueueId> = windows.windows().members(Some(kind.group)).collect();
    let (mut members, mut total) = (Members::default(), 0);
    for id in ids.into_sorted_vec() {
        if members.ids.len() >= most {
            break;
        }
        let entry = match open(manager, id) {
            Ok(entry) => entry,
            // It waits in the index as well, and is settled at its own turn.
            Err(_) => continue,
        };
        let description = entry.description();
        let is_meant = awaited(site, description, &entry.progress()).is_some();
        if !is_meant || description.envelope != *kind.envelope {
            continue;
        }
        total += entry.message_octets() + entry.message_lines() + MEMBER_FRAME_OCTETS;
        if total > octets && !members.ids.is_empty() {
            break;
        }
        let Some(claim) = Claim::take(&manager.claims, id, vec![0]) else { continue };
        let Ok((section, has_eight_bit)) = read_header(&entry) else { continue };
        members.summary.add(id, &section, description.arrival.wall, has_eight_bit);
        members.claims.push(claim);
        members.ids.push(id);
    }
    members
}

/// The header section of a message, and whether the message has an octet above 127.
fn read_header(entry: &Entry) -> io::Result<(Vec<u8>, bool)> {
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

/// Writes the digest into the queue. Local recipients get it from there as well: the local worker handles mailboxes
/// that cannot be written and users that do not exist any more.
fn write_digest(
    manager: &Manager,
    site: &Site,
    envelope: &Envelope,
    members: &Members,
) -> Result<QueueId, Refusal> {
    let now = manager.clock.now();
    let facts = Facts {
        hostname: &site.terms.hostname,
        domain: &site.hostname.key(),
        reverse_path: &envelope.reverse_path,
        smtputf8: envelope.smtputf8,
        now: now.wall,
        random: sys::random(),
    };
    let frame = Frame::new(&members.summary, &facts);
    let recipients = envelope.recipients.iter().map(by_queue).collect();
    let client = format!("digest of {} messages", members.ids.len());
    let submission = Submission { dated: Some(now), ..Submission::resubmitted(envelope, recipients, client) };
    let mut incoming = manager.intake.begin(site, submission)?;
    incoming.write(&frame.head);
    for &id in &members.ids {
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

/// Removes a member that has left in a digest. One that cannot be removed now leaves again later: a duplicate, not a
/// loss.
fn remove_member(manager: &Manager, id: QueueId, digest: QueueId) {
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
