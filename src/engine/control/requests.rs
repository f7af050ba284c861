//! Answers requests: lists the queue and changes it. The daemon answers on its control socket; a command answers by the
//! same code where no daemon runs.
//!
//! | request | who may | what it does |
//! | --- | --- | --- |
//! | list | everybody | lists all messages; addresses of other users' messages are hidden |
//! | show | root, `user`, its group | shows envelope, history and content of a message |
//! | flush | the same | makes messages due, all or by id or domain |
//! | hold, release, remove, bounce | the same | changes messages, see below |
//! | link | the same | notes that the network came up, went down or is metered |
//! | status, verify | everybody | [`super::status`], [`super::submit::verify`] |
//!
//! # Changes
//!
//! Mail is delivered while messages are changed, perhaps by a worker of this process, perhaps by another process:
//!
//! | change | lock of the entry | claims of its recipients | journal | index | then |
//! | --- | --- | --- | --- | --- | --- |
//! | hold | yes | no: an attempt under way ends as usual | `Waited` if its route fails, `Held` | withdrawn | no further attempt |
//! | release | yes | no | `Released` | added | a message that was kept for `admin` is due at once |
//! | remove | yes | all | the entry is removed | withdrawn, forgotten | no notice to anyone |
//! | bounce | yes | all | `Attempted`, failed | withdrawn | the sender gets a notice |
//!
//! An entry that another process has locked is tried for half a second. If it stays locked, or a worker has claimed one
//! of its recipients, the answer is 75 and the message stays as it was. A change with a journal record is on stable
//! storage before the answer, and a removal is synced once for all messages of a request.
//!
//! | exit code | failure |
//! | --- | --- |
//! | 66 | no message has the id; ignored if all messages were named, since it may just have left |
//! | 74 | an I/O error of the queue |
//! | 75 | the message is being delivered, or another process has locked it |
//! | 77 | the user may not make the request |

use super::list::{Snapshot, list, trouble};
use super::output::{Asker, Output};
use super::services::Services;
use super::{status, submit};
use crate::engine::log::event::Event;
use crate::engine::queue::attempt::{Again, Attempt, Claim};
use crate::engine::queue::enqueue::hop_of;
use crate::engine::queue::index::{Hop, Pending};
use crate::engine::queue::manager::Manager;
use crate::mail::id::QueueId;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::{Class, EnhancedStatus};
use crate::protocol::request::{
    Change, IO_TROUBLE, NOT_ALLOWED, NOT_NOW, Request, Selection, UNKNOWN_ID, Which,
};
use crate::rules::pacing::downtime::Uplink;
use crate::store::StoreError;
use crate::store::queue::{
    self, Checkout, Durability, Entry, EntrySummary, JournalRecord, Progress, RecipientState,
};
use crate::sys::thread;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// How often a locked message is tried, and the pause between two tries.
const BUSY_TRIES: usize = 10;
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How many octets of a shown message are read at once.
const READ_OCTETS: usize = 16 * 1024;

/// Why a message was not changed: exit code and reason.
type Refused = (u8, String);

/// Answers a request; returns the exit code.
///
/// # Errors
/// The connection is closed.
pub fn answer(
    services: &Services,
    asker: Asker,
    request: &Request,
    output: &mut dyn Output,
) -> io::Result<u8> {
    if !asker.rights.allow(request) {
        output.error("only root, the user of the daemon and members of its group may do this")?;
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
                "the link is metered: before link up, only urgent mail and the messages named here are tried",
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
            // It has left the queue since it was listed.
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
            set_hold(manager, &entry, true)?;
            manager.index.withdraw(id);
            manager.intake.digests.forget(id);
            Ok(())
        }
        Change::Release => {
            // A message that was kept for `admin` is tried at once: the operator has fixed its route.
            let was_kept = entry.progress().iter().any(|progress| progress.kept.is_some());
            set_hold(manager, &entry, false)?;
            reindex(manager, id);
            if was_kept {
                manager.index.flush_message(id, manager.clock.now().running);
            }
            Ok(())
        }
        Change::Remove => {
            let _claim = claim(manager, &entry)?;
            manager.index.withdraw(id);
            if let Err(error) = manager.queue.remove(&entry) {
                reindex(manager, id);
                return Err(failed(&error));
            }
            manager.index.forget_message(id);
            manager.intake.digests.forget(id);
            Ok(())
        }
        Change::Bounce => bounce(manager, &entry),
    }
}

/// Records in the journal that the operator holds or releases a message.
fn set_hold(manager: &Manager, entry: &Arc<Entry>, hold: bool) -> Result<(), Refused> {
    let _settling = entry.settle();
    // An operator who holds a kept message has seen it: the hold replaces the state `kept`, which raises an alarm.
    let differs =
        |(_, progress): &(usize, Progress)| progress.held != hold || (hold && progress.kept.is_some());
    let progress = entry.progress().into_iter().enumerate();
    let recipients: Vec<usize> = progress.filter(differs).map(|(place, _)| place).collect();
    if recipients.is_empty() {
        // It is held already, but may still lie in memory, if the disk was full then.
        if hold {
            manager.queue.save(entry.id()).map_err(|error| failed(&error))?;
            manager.index.set_held(entry.id(), hold);
        }
        return Ok(());
    }
    let event = if hold { queue::JournalEvent::Held } else { queue::JournalEvent::Released };
    let mut records = if hold { reasons(manager, entry, &recipients) } else { Vec::new() };
    records.push(JournalRecord { recipients, at: manager.clock.now(), event });
    manager.queue.record(entry, &records, Durability::Synced).map_err(|error| failed(&error))?;
    manager.index.note_progress(entry.id(), &entry.description().envelope, &entry.progress());
    manager.index.set_held(entry.id(), hold);
    manager.index.set_kept(entry.id(), None);
    Ok(())
}

/// Records of the failures of routes for which recipients wait. The index knows them only while the routes fail, but the
/// operator wants to read them as long as the message is held.
fn reasons(manager: &Manager, entry: &Entry, places: &[usize]) -> Vec<JournalRecord> {
    let (site, at, envelope) = (manager.site(), manager.clock.now(), &entry.description().envelope);
    let progress = entry.progress();
    let mut records: Vec<JournalRecord> = Vec::new();
    for &place in places.iter().filter(|place| progress.get(**place).is_some_and(Progress::is_due)) {
        let Some(recipient) = envelope.recipients.get(place) else { continue };
        let hop = hop_of(&site, &envelope.reverse_path, recipient);
        let Some(reason) = manager.index.last_failure(&hop) else { continue };
        let event = queue::JournalEvent::Waited(reason);
        match records.iter_mut().find(|record| record.event == event) {
            Some(record) => record.recipients.push(place),
            None => records.push(JournalRecord { recipients: vec![place], at, event }),
        }
    }
    records
}

/// Fails all pending recipients by order of the operator; the sender gets a notice, as of any other failure.
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
    if entry.is_removed() {
        return Ok(());
    }
    Err((
        NOT_NOW,
        format!("{id}: returned, but the notice to its sender is not written yet; it will be tried again"),
    ))
}

/// Adds a message to the index again, with its state on disk.
fn reindex(manager: &Manager, id: QueueId) {
    if let Some(Ok(summary)) = manager.queue.summary(id) {
        manager.load_summary(&manager.site(), &summary);
    }
}

fn set_link(manager: &Manager, link: Uplink) {
    // The clock first: messages that are tried at once must not expire by the time that the link was down.
    manager.clock.note_link(link);
    manager.index.set_link(link, manager.clock.now().running);
    Event::Notice(&format!("the link is {}", link.word())).log();
}

/// Opens and locks a message, and waits a little if another thread or process has locked it.
fn checkout(manager: &Manager, id: QueueId) -> Result<Arc<Entry>, Refused> {
    for _ in 0..BUSY_TRIES {
        match manager.queue.checkout(id) {
            Ok(Checkout::Ready(entry)) if !entry.is_removed() => return Ok(entry),
            Ok(Checkout::Ready(_) | Checkout::Gone) => return Err(unknown(id)),
            // Often it is a thread that is about to close it.
            Ok(Checkout::Busy) => thread::sleep(BUSY_PAUSE),
            Err(error) => return Err(failed(&error)),
        }
    }
    Err((NOT_NOW, format!("{id}: another process has locked the message; try again")))
}

/// Claims all recipients of a message, so that no worker attempts it meanwhile.
fn claim(manager: &Manager, entry: &Entry) -> Result<Claim, Refused> {
    let places: Vec<usize> = (0..entry.description().envelope.recipients.len()).collect();
    let wanted = places.len();
    let claim = Claim::take(&manager.claims, entry.id(), places).filter(|claim| claim.places.len() == wanted);
    let claim = claim
        .ok_or_else(|| (NOT_NOW, format!("{}: the message is being delivered; try again", entry.id())))?;
    // Checked under the claim: a worker that held one before may have settled the last recipient.
    if entry.is_removed() { Err(unknown(entry.id())) } else { Ok(claim) }
}

fn unknown(id: QueueId) -> Refused {
    (UNKNOWN_ID, format!("{id}: no message has this id"))
}

fn failed(error: &StoreError) -> Refused {
    (IO_TROUBLE, error.to_string())
}
