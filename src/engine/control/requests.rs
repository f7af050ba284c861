//! What the operator asks for: lists, and changes of what is queued; answered by the daemon on its control socket, and by
//! the commands themselves where no daemon runs.
//!
//! Changes are safe while mail is delivered: to drop or return a message all of its recipients are claimed first, as a
//! worker claims them, and a message that a worker or another process has in hand is refused with a word. A message is
//! held by a record in its journal, and taken off the index. What may fail: the disk; others having it in hand.

use super::listing::{self, Listed};
use super::output::{Asker, Output};
use super::services::Services;
use super::{status, submit};
use crate::engine::host::site::{Site, SystemAccounts};
use crate::engine::log::event::Event;
use crate::engine::queue::attempt::{Again, Attempt, Claim};
use crate::engine::queue::enqueue::hop_of;
use crate::engine::queue::index::{Hop, Pending};
use crate::engine::queue::manager::Manager;
use crate::mail::address::ReversePath;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::{Class, EnhancedStatus};
use crate::protocol::request::{
    Change, Form, IO_TROUBLE, NOT_ALLOWED, NOT_NOW, Request, Selection, UNKNOWN_ID, Which,
};
use crate::protocol::rights::PeerRights;
use crate::rules::pacing::downtime::Uplink;
use crate::rules::routing::route::Accounts;
use crate::store::StoreError;
use crate::store::queue::{
    self, Checkout, Durability, Entry, EntrySummary, JournalRecord, Progress, RecipientState,
};
use crate::sys::thread;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

/// How often and after which pause a message is asked for that others have locked.
const BUSY_TRIES: usize = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Read at once while a message is shown.
const READ_OCTETS: usize = 16 * 1024;

/// Why a message was not changed: exit code and reason.
type Refused = (u8, String);

/// Answers a question; gives the exit code.
///
/// # Errors
/// Nobody listens any more.
pub fn answer(
    services: &Services,
    asker: Asker,
    request: &Request,
    output: &mut dyn Output,
) -> io::Result<u8> {
    if !asker.rights.allow(request) {
        output.error("this is for root, the user of the daemon, and members of its group")?;
        return Ok(NOT_ALLOWED);
    }
    let manager = &services.manager;
    match request {
        Request::List(form) => list(manager, asker, *form, output),
        Request::Show(id) => show(manager, *id, output),
        Request::Flush(which) => flush(manager, which, output),
        Request::Change(change, messages) => change_all(manager, asker, *change, messages, output),
        Request::Status(form) => status::answer(services, asker.rights, form, output),
        Request::Link(link) => {
            set_link(manager, *link);
            Ok(0)
        }
        Request::Verify(recipients) => submit::verify(&manager.site(), asker.rights, recipients, output),
    }
}

fn list(manager: &Manager, asker: Asker, form: Form, output: &mut dyn Output) -> io::Result<u8> {
    let ids = match manager.queue.ids() {
        Ok(ids) => ids,
        Err(error) => return trouble(&error, output),
    };
    let index = Snapshot::take(manager);
    let mut owners = Owners::default();
    let (mut code, mut messages, mut octets) = (0, 0, 0);
    for id in ids {
        let summary = match manager.queue.summary(id) {
            Some(Ok(summary)) => summary,
            Some(Err(error)) => {
                code = trouble(&error, output)?;
                continue;
            }
            None => continue,
        };
        let hides_addresses =
            asker.rights == PeerRights::Own && !owners.owns(&index.site, asker.uid, &summary);
        if messages == 0 && form == Form::Mailq {
            output.output(listing::MAILQ_HEAD.as_bytes())?;
        }
        messages += 1;
        octets += summary.message_octets;
        let listed = Listed { hides_addresses, ..index.listed(manager, summary) };
        let text = if form == Form::Json { listed.json() } else { listed.mailq() };
        output.output(text.as_bytes())?;
    }
    match (form, messages) {
        (Form::Json, _) => {}
        (Form::Mailq, 0) => output.output(listing::MAILQ_EMPTY.as_bytes())?,
        (Form::Mailq, _) => output.output(listing::mailq_end(messages, octets).as_bytes())?,
    }
    Ok(code)
}

fn show(manager: &Manager, id: QueueId, output: &mut dyn Output) -> io::Result<u8> {
    let found = checkout(manager, id).and_then(|entry| {
        let summary =
            manager.queue.summary(id).ok_or_else(|| unknown(id))?.map_err(|error| failed(&error))?;
        let history = entry.history().map_err(|error| failed(&error))?;
        Ok((entry, summary, history))
    });
    let (entry, summary, history) = match found {
        Ok(found) => found,
        Err((code, reason)) => {
            output.error(&reason)?;
            return Ok(code);
        }
    };
    let listed = Snapshot::take(manager).listed(manager, summary);
    output.output(listed.full(&history).as_bytes())?;
    let (mut content, mut piece) = (entry.content(0), vec![0; READ_OCTETS]);
    loop {
        match content.read(&mut piece) {
            Ok(0) => return Ok(0),
            Ok(length) => output.output(piece.get(..length).unwrap_or_default())?,
            Err(error) => return trouble(&StoreError::io(id.to_string(), error), output),
        }
    }
}

fn flush(manager: &Manager, which: &[Which], output: &mut dyn Output) -> io::Result<u8> {
    let now = manager.clock.now().running;
    let mut code = 0;
    if which.is_empty() {
        manager.index.flush(now);
    }
    for which in which {
        match which {
            Which::Id(id) if !manager.queue.contains(*id) => {
                let (unknown, reason) = unknown(*id);
                output.error(&reason)?;
                code = unknown;
            }
            Which::Id(id) => drop(manager.index.flush_message(*id, now)),
            Which::Domain(domain) => {
                let ids = match manager.queue.ids() {
                    Ok(ids) => ids,
                    Err(error) => return trouble(&error, output),
                };
                for id in ids {
                    let Some(Ok(EntrySummary { description, progress, .. })) = manager.queue.summary(id)
                    else {
                        continue;
                    };
                    let mut recipients = description.envelope.recipients.iter().zip(&progress);
                    if recipients.any(|(to, progress)| to.mailbox.domain == *domain && progress.is_due()) {
                        manager.index.flush_message(id, now);
                    }
                }
            }
        }
    }
    match manager.index.link() {
        Uplink::Down => output.error("the link is down: nothing is tried before link up")?,
        Uplink::Metered if which.is_empty() => {
            output.error(
                "the link is metered: only urgent mail, and what is named here, is tried before link up",
            )?;
        }
        Uplink::Metered | Uplink::Up => {}
    }
    Ok(code)
}

fn change_all(
    manager: &Manager,
    asker: Asker,
    change: Change,
    messages: &Selection,
    output: &mut dyn Output,
) -> io::Result<u8> {
    let (ids, all) = match messages {
        Selection::These(ids) => (ids.clone(), false),
        Selection::All => match manager.queue.ids() {
            Ok(ids) => (ids, true),
            Err(error) => return trouble(&error, output),
        },
    };
    let mut code = 0;
    for id in ids {
        match change_one(manager, change, id) {
            Ok(()) => Event::Operator { what: change.word(), id, uid: asker.uid }.log(),
            // It has left meanwhile.
            Err((UNKNOWN_ID, _)) if all => {}
            Err((refused, reason)) => {
                output.error(&reason)?;
                code = refused;
            }
        }
    }
    manager.sync_removals();
    if change == Change::Remove
        && let Err(error) = manager.queue.sync()
    {
        return trouble(&error, output);
    }
    Ok(code)
}

fn change_one(manager: &Manager, change: Change, id: QueueId) -> Result<(), Refused> {
    let entry = checkout(manager, id)?;
    match change {
        Change::Hold => {
            keep_back(manager, &entry, true)?;
            manager.index.withdraw(id);
            manager.intake.digests.forget(id);
            Ok(())
        }
        Change::Release => {
            // What nobody could deliver is tried at once: somebody has mended the way.
            let was_kept = entry.progress().iter().any(|progress| progress.kept.is_some());
            keep_back(manager, &entry, false)?;
            put_on_board(manager, id);
            if was_kept {
                manager.index.flush_message(id, manager.clock.now().running);
            }
            Ok(())
        }
        Change::Remove => {
            let _claim = claim(manager, &entry)?;
            manager.index.withdraw(id);
            if let Err(error) = manager.queue.remove(&entry) {
                put_on_board(manager, id);
                return Err(failed(&error));
            }
            manager.index.forget_message(id);
            manager.intake.digests.forget(id);
            Ok(())
        }
        Change::Bounce => bounce(manager, &entry),
    }
}

/// Writes that the operator holds a message, or lets it go.
fn keep_back(manager: &Manager, entry: &Arc<Entry>, hold: bool) -> Result<(), Refused> {
    let _settling = entry.settle();
    // Who holds what is kept knows of it.
    let differs =
        |(_, progress): &(usize, Progress)| progress.held != hold || (hold && progress.kept.is_some());
    let progress = entry.progress().into_iter().enumerate();
    let recipients: Vec<usize> = progress.filter(differs).map(|(place, _)| place).collect();
    if recipients.is_empty() {
        return Ok(());
    }
    let event = if hold { queue::JournalEvent::Held } else { queue::JournalEvent::Released };
    let record = JournalRecord { recipients, at: manager.clock.now(), event };
    manager.queue.record(entry, &[record], Durability::Synced).map_err(|error| failed(&error))?;
    manager.index.set_held(entry.id(), hold);
    manager.index.set_kept(entry.id(), None);
    Ok(())
}

/// All that is still to be tried fails by the operator's word, and its sender is told as of any other failure.
fn bounce(manager: &Manager, entry: &Arc<Entry>) -> Result<(), Refused> {
    let claim = claim(manager, entry)?;
    let id = entry.id();
    manager.index.withdraw(id);
    let text = "the administrator of this host has returned the message";
    let status = EnhancedStatus::new(Class::Permanent, 0, 0);
    let failed = || Some(Outcome::Failed(Diagnostic::local(status, text)));
    let pending = entry.progress().into_iter().enumerate();
    let pending = pending.filter(|(_, progress)| progress.state == RecipientState::Pending);
    let outcomes = pending.map(|(place, _)| (place, failed())).collect();
    let arrival = entry.description().arrival.running.min(manager.clock.now().running);
    let attempt = Attempt {
        entry: Arc::clone(entry),
        pending: Pending { id, arrival },
        outcomes,
        relay: "-".into(),
        passed_on: Vec::new(),
        failures: 0,
        is_ordered: true,
        claim,
    };
    manager.end_attempt(&Hop::Local, attempt, Again::AtOnce);
    if is_removed(entry) {
        return Ok(());
    }
    Err((NOT_NOW, format!("{id}: it has failed, but its sender can't be told yet; that is tried again")))
}

fn put_on_board(manager: &Manager, id: QueueId) {
    if let Some(Ok(summary)) = manager.queue.summary(id) {
        manager.load_summary(&manager.site(), &summary);
    }
}

fn set_link(manager: &Manager, link: Uplink) {
    // First the lifetimes: what is tried at once must not expire by the time without a way out.
    manager.clock.note_link(link);
    manager.index.set_link(link, manager.clock.now().running);
    Event::Notice(&format!("the link is {}", link.word())).log();
}

fn checkout(manager: &Manager, id: QueueId) -> Result<Arc<Entry>, Refused> {
    for _ in 0..BUSY_TRIES {
        match manager.queue.checkout(id) {
            Ok(Checkout::Ready(entry)) if !is_removed(&entry) => return Ok(entry),
            Ok(Checkout::Ready(_) | Checkout::Gone) => return Err(unknown(id)),
            // Often only a thread that is about to let it go.
            Ok(Checkout::Busy) => thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(failed(&error)),
        }
    }
    Err((NOT_NOW, format!("{id}: another process is at work on it; try again")))
}

/// All recipients of a message, which no worker has in hand then.
fn claim(manager: &Manager, entry: &Entry) -> Result<Claim, Refused> {
    let places: Vec<usize> = (0..entry.description().envelope.recipients.len()).collect();
    let wanted = places.len();
    let claim = Claim::take(&manager.claims, entry.id(), places).filter(|claim| claim.places.len() == wanted);
    let claim =
        claim.ok_or_else(|| (NOT_NOW, format!("{}: it is being delivered now; try again", entry.id())))?;
    // Only now: what others had claimed is settled, and may have been the last of it.
    if is_removed(entry) { Err(unknown(entry.id())) } else { Ok(claim) }
}

fn is_removed(entry: &Entry) -> bool {
    entry.content_source().0.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

fn unknown(id: QueueId) -> Refused {
    (UNKNOWN_ID, format!("{id}: no message has this id"))
}

fn failed(error: &StoreError) -> Refused {
    (IO_TROUBLE, error.to_string())
}

fn trouble(error: &StoreError, output: &mut dyn Output) -> io::Result<u8> {
    output.error(&error.to_string())?;
    Ok(IO_TROUBLE)
}

/// What the engine knows of all messages at one moment.
struct Snapshot {
    site: Arc<Site>,
    now: crate::mail::date::Now,
    next_attempts: HashMap<QueueId, Duration>,
    in_hand: HashSet<QueueId>,
    collected: HashSet<QueueId>,
}

impl Snapshot {
    fn take(manager: &Manager) -> Self {
        let claims = manager.claims.lock();
        let in_hand = claims.iter().map(|&(id, _)| id).collect();
        drop(claims);
        Self {
            site: manager.site(),
            now: manager.clock.now(),
            next_attempts: manager.index.next_attempts(),
            in_hand,
            collected: manager.intake.digests.all(),
        }
    }

    fn listed(&self, manager: &Manager, summary: EntrySummary) -> Listed {
        let arrival = summary.description.arrival.running;
        let (mut pauses, mut attempts) = (Vec::new(), 0);
        for (recipient, progress) in summary.description.envelope.recipients.iter().zip(&summary.progress) {
            let mut pause = None;
            let mut tries = progress.attempts;
            if progress.is_due() {
                let hop = hop_of(&self.site, recipient);
                tries += manager.index.failures_since(&hop, arrival);
                pause = manager.index.wait_reason(&hop, summary.id, self.now.running);
                if self.collected.contains(&summary.id) {
                    pause = Some(Diagnostic::local(EnhancedStatus::DELAYED, "waits for a digest"));
                }
            }
            pauses.push(pause);
            attempts = attempts.max(tries);
        }
        Listed {
            is_active: self.in_hand.contains(&summary.id),
            next_attempt: self.next_attempts.get(&summary.id).map(|&due| listing::wall_time(self.now, due)),
            attempts,
            pauses,
            hides_addresses: false,
            summary,
        }
    }
}

/// Whose messages are whose, with the last answer of the user database: a queue full of one sender's mail asks once.
#[derive(Default)]
struct Owners {
    last: Option<(String, Option<u32>)>,
}

impl Owners {
    /// A message is its sender's, if that is a user of this host.
    fn owns(&mut self, site: &Site, uid: u32, summary: &EntrySummary) -> bool {
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
