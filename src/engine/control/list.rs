//! Lists the queue. Who has all rights sees what the files say; an ordinary user sees what the index knows.
//!
//! | the message, to an ordinary user | is listed from | shows |
//! | --- | --- | --- |
//! | of others | the index: no file is read | all but the addresses; its recipients share the latest reason |
//! | handed over by the user, or sent by an address of the user | its file, for the first [`OWN_FILES_MAX`] of them | all |
//!
//! So `mailq` of a user costs the daemon no more with 10,000 messages of others, however often it is called.

use super::listing::{self, Listed};
use super::output::{Asker, Output};
use crate::engine::host::advice::advice;
use crate::engine::host::site::{Site, SystemAccounts};
use crate::engine::queue::enqueue::hop_of;
use crate::engine::queue::index::{Hop, IndexedMessage};
use crate::engine::queue::manager::Manager;
use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::{Now, WallTime};
use crate::mail::envelope::{Envelope, Recipient};
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::protocol::request::{Form, IO_TROUBLE};
use crate::protocol::rights::PeerRights;
use crate::rules::pacing::shares::{Owner, name_number};
use crate::rules::routing::route::Accounts;
use crate::store::StoreError;
use crate::store::queue::{Description, EntrySummary, Progress, RecipientState};
use crate::sys::user;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// The most files that are read for the list of an ordinary user.
const OWN_FILES_MAX: usize = 500;

/// Lists all messages, oldest first; returns the exit code.
///
/// # Errors
/// The connection is closed.
pub(super) fn list(manager: &Manager, asker: Asker, form: Form, output: &mut dyn Output) -> io::Result<u8> {
    let mut reader = match asker.rights {
        PeerRights::All => None,
        PeerRights::Own => Some(Reader::new(manager, asker.uid)),
    };
    let ids = match &reader {
        Some(_) => manager.index.ids(),
        None => match manager.queue.ids() {
            Ok(ids) => ids,
            Err(error) => return trouble(&error, output),
        },
    };
    let index = Snapshot::take(manager);
    let (mut code, mut messages, mut octets, mut told) = (0, 0, 0, Vec::new());
    for id in ids {
        let found = match &mut reader {
            Some(reader) => reader.listed(manager, &index, id),
            None => match manager.queue.summary(id) {
                Some(Ok(summary)) => Some(index.listed(manager, summary)),
                Some(Err(error)) => {
                    code = trouble(&error, output)?;
                    None
                }
                None => None,
            },
        };
        let Some(listed) = found else { continue };
        if messages == 0 && form == Form::Mailq {
            output.output(listing::MAILQ_HEAD.as_bytes())?;
        }
        messages += 1;
        octets += listed.summary.message_octets;
        let text = if form == Form::Json { listed.json() } else { listed.mailq(&mut told) };
        output.output(text.as_bytes())?;
    }
    match (form, messages) {
        (Form::Json, _) => {}
        // What is not known to be empty is not called so.
        (Form::Mailq, 0) if code != 0 => output.error("no message of the queue can be read")?,
        (Form::Mailq, 0) => output.output(listing::MAILQ_EMPTY.as_bytes())?,
        (Form::Mailq, _) => output.output(listing::mailq_end(messages, octets).as_bytes())?,
    }
    Ok(code)
}

/// Reports an error of the queue; returns the exit code.
///
/// # Errors
/// The connection is closed.
pub(super) fn trouble(error: &StoreError, output: &mut dyn Output) -> io::Result<u8> {
    output.error(&error.to_string())?;
    Ok(IO_TROUBLE)
}

/// The engine's state about all messages at one time: all rows of a list agree.
pub(super) struct Snapshot {
    site: Arc<Site>,
    now: crate::mail::date::Now,
    next_attempts: HashMap<QueueId, Duration>,
    /// The messages that workers have claimed.
    active: HashSet<QueueId>,
    /// The messages that wait for a digest.
    collected: HashSet<QueueId>,
    /// The latest advice: a queue full of mail that waits for one host asks once.
    advised: RefCell<Option<(Diagnostic, Option<&'static str>)>>,
}

fn waits_for_digest() -> Diagnostic {
    Diagnostic::local(EnhancedStatus::DELAYED, "waits for a digest")
}

impl Snapshot {
    pub(super) fn take(manager: &Manager) -> Self {
        let claims = manager.claims.lock();
        let active = claims.iter().map(|&(id, _)| id).collect();
        drop(claims);
        Self {
            site: manager.site(),
            now: manager.clock.now(),
            next_attempts: manager.index.next_attempts(),
            active,
            collected: manager.intake.digests.all(),
            advised: RefCell::default(),
        }
    }

    /// A message with its state: attempts at its routes count since its arrival.
    pub(super) fn listed(&self, manager: &Manager, summary: EntrySummary) -> Listed {
        let arrival = summary.description.arrival.running;
        let (mut pauses, mut attempts) = (Vec::new(), 0);
        let envelope = &summary.description.envelope;
        for (recipient, progress) in envelope.recipients.iter().zip(&summary.progress) {
            let mut pause = None;
            let mut tries = progress.attempts;
            if progress.is_due() {
                let hop = hop_of(&self.site, &envelope.reverse_path, recipient);
                tries += manager.index.failures_since(&hop, arrival);
                pause = manager.index.wait_reason(&hop, summary.id, self.now.running);
                if self.collected.contains(&summary.id) {
                    pause = Some(waits_for_digest());
                }
            }
            pauses.push(pause);
            attempts = attempts.max(tries);
        }
        let listed = Listed {
            is_active: self.active.contains(&summary.id),
            next_attempt: self.next_attempts.get(&summary.id).map(|&due| listing::wall_time(self.now, due)),
            attempts,
            pauses,
            advice: Vec::new(),
            hides_addresses: false,
            summary,
        };
        self.advised(listed)
    }

    /// A message with the advice about the reasons why it waits.
    fn advised(&self, mut listed: Listed) -> Listed {
        let places = 0..listed.summary.progress.len();
        listed.advice = places.map(|place| self.advice(listed.reason(place)?)).collect();
        listed
    }

    fn advice(&self, reason: &Diagnostic) -> Option<&'static str> {
        let mut latest = self.advised.borrow_mut();
        match &*latest {
            Some((known, advice)) if known == reason => *advice,
            _ => latest.insert((reason.clone(), advice(&self.site, reason))).1,
        }
    }
}

/// An ordinary user who reads the list.
struct Reader {
    uid: u32,
    /// The number of senders with the user's name; `None` for a user without one.
    sender: Option<u32>,
    owners: Owners,
    files_left: usize,
    hops: Vec<Hop>,
    waiting: HashMap<QueueId, usize>,
}

impl Reader {
    fn new(manager: &Manager, uid: u32) -> Self {
        let account = user::find_uid(uid).ok().flatten();
        let sender = account.map(|account| name_number(&account.name));
        let (hops, waiting) = manager.index.waiting_hops();
        Self { uid, sender, owners: Owners::default(), files_left: OWN_FILES_MAX, hops, waiting }
    }

    /// A message as the user may see it; `None`: it has left the queue.
    fn listed(&mut self, manager: &Manager, index: &Snapshot, id: QueueId) -> Option<Listed> {
        let known = manager.index.message(id)?;
        let may_be_own = Some(known.sender) == self.sender
            || (known.owner.is_some() && known.owner == Owner::of_user(self.uid));
        if may_be_own && self.files_left > 0 {
            self.files_left -= 1;
            if let Some(Ok(summary)) = manager.queue.summary(id)
                && self.owners.owns(&index.site, self.uid, &summary)
            {
                return Some(index.listed(manager, summary));
            }
        }
        Some(self.hidden(manager, index, id, &known))
    }

    /// A message of others, by the index alone.
    fn hidden(&self, manager: &Manager, index: &Snapshot, id: QueueId, known: &IndexedMessage) -> Listed {
        let arrival = Duration::from_secs(known.arrival.into());
        let hop = self.waiting.get(&id).and_then(|&place| self.hops.get(place)).filter(|_| !known.is_held);
        let pause = match hop {
            Some(_) if index.collected.contains(&id) => Some(waits_for_digest()),
            Some(hop) => manager.index.wait_reason(hop, id, index.now.running),
            None => None,
        };
        let failures = hop.map_or(0, |hop| manager.index.failures_since(hop, arrival));
        let summary = placeholder(id, known);
        index.advised(Listed {
            is_active: index.active.contains(&id),
            next_attempt: index.next_attempts.get(&id).map(|&due| listing::wall_time(index.now, due)),
            attempts: u32::from(known.standing.attempts) + failures,
            pauses: vec![pause; known.standing.pending.into()],
            advice: Vec::new(),
            hides_addresses: true,
            summary,
        })
    }
}

/// A message with the counts of the index and without any address.
fn placeholder(id: QueueId, known: &IndexedMessage) -> EntrySummary {
    let nobody = || Mailbox::parse("hidden@localhost").ok();
    let null = known.sender == 0;
    let sender = nobody().filter(|_| !null).map_or(ReversePath::Null, ReversePath::Mailbox);
    let mut envelope = Envelope::new(sender);
    let standing = &known.standing;
    let reason = standing.reason.as_deref();
    let mut progress = Vec::new();
    for (count, state) in [
        (standing.pending, RecipientState::Pending),
        (standing.delivered, RecipientState::Delivered),
        (standing.failed, RecipientState::Failed),
    ] {
        let is_pending = state == RecipientState::Pending;
        let diagnostic = reason.filter(|_| is_pending).cloned();
        let held = is_pending && known.is_held;
        let each = Progress { state, diagnostic, held, notified: !is_pending, ..Progress::default() };
        progress.extend((0..count).map(|_| each.clone()));
    }
    envelope.recipients.extend(nobody().into_iter().cycle().take(progress.len()).map(Recipient::new));
    let arrival =
        Now { wall: WallTime(id.wall_micros()), running: Duration::from_secs(known.arrival.into()) };
    let description = Description { envelope, origin: String::new(), arrival, digest: None, dated: None };
    EntrySummary { id, description, message_octets: known.octets, progress, damaged_records: 0 }
}

/// The owners of messages. Keeps the last answer of the user database, so that a queue full of one sender's mail asks once.
#[derive(Default)]
struct Owners {
    last: Option<(String, Option<u32>)>,
}

impl Owners {
    /// Whether the user `uid` has handed a message over or is its sender.
    fn owns(&mut self, site: &Site, uid: u32, summary: &EntrySummary) -> bool {
        if uid != 0 && Owner::of_origin(&summary.description.origin) == Owner::of_user(uid) {
            return true;
        }
        let ReversePath::Mailbox(sender) = &summary.description.envelope.reverse_path else { return false };
        if !site.routes.is_local(&sender.domain) {
            return false;
        }
        let name = sender.local_part.as_str();
        if self.last.as_ref().is_none_or(|(known, _)| known != name) {
            let account = SystemAccounts.find(name).ok().flatten();
            self.last = Some((name.to_owned(), account.map(|account| account.uid)));
        }
        self.last.as_ref().is_some_and(|(_, owner)| *owner == Some(uid))
    }
}
