//! Why a queued message is not delivered yet: one answer for the alarm and for `pillarbox status`.
//!
//! | asked in this order | example |
//! | --- | --- |
//! | what keeps it from being tried now | `the link is down`, the failure of a route that pauses |
//! | the last failure of its route, which has not worked since; the pause may be over | `connect to …: timed out` |
//! | the outcome of its own last attempt | `450 4.2.0 Greylisted` |
//! | the schedule | `waits for queue.schedule` |
//! | nothing of this | `has not been tried yet` |

use crate::engine::host::advice::advice;
use crate::engine::host::site::Site;
use crate::engine::queue::enqueue::hop_of;
use crate::engine::queue::index::Hop;
use crate::engine::queue::manager::Manager;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::store::queue::EntrySummary;

/// Why a message waits; `None`: it has left the queue, or its file cannot be read.
pub(super) fn of_message(manager: &Manager, id: QueueId) -> Option<Diagnostic> {
    let now = manager.clock.now().running;
    let summary = manager.queue.summary(id)?.ok()?;
    let hops = hops(manager, &summary);
    let waits = || hops.iter().find_map(|hop| manager.index.wait_reason(hop, id, now));
    let failure = || hops.iter().find_map(|hop| manager.index.last_failure(hop));
    let own = || {
        let waiting = summary.progress.iter().filter(|it| it.is_due() || it.kept.is_some());
        waiting.filter_map(|it| it.diagnostic.clone()).next()
    };
    let untried = || {
        let has_schedule = manager.site().settings.queue.schedule.is_some();
        let text = if has_schedule { "waits for queue.schedule" } else { "has not been tried yet" };
        Diagnostic::local(EnhancedStatus::DELAYED, text)
    };
    Some(waits().or_else(failure).or_else(own).unwrap_or_else(untried))
}

/// Why a mailbox of this host could not take a message.
pub(super) fn of_mailbox(manager: &Manager, id: QueueId) -> Option<Diagnostic> {
    let summary = manager.queue.summary(id)?.ok()?;
    let (site, envelope) = (manager.site(), &summary.description.envelope);
    let recipients = envelope.recipients.iter().zip(&summary.progress);
    let is_local = |recipient| hop_of(&site, &envelope.reverse_path, recipient) == Hop::Local;
    let mut waiting = recipients.filter(|(recipient, progress)| progress.is_due() && is_local(recipient));
    waiting.find_map(|(_, progress)| progress.diagnostic.clone())
}

/// A reason, and what the operator should change, if that is known.
pub(super) fn with_advice(site: &Site, reason: &Diagnostic) -> String {
    match advice(site, reason) {
        Some(advice) => format!("{}. {advice}", reason.line().trim_end_matches('.')),
        None => reason.line().to_owned(),
    }
}

/// The hops of the recipients that are due.
fn hops(manager: &Manager, summary: &EntrySummary) -> Vec<Hop> {
    let (site, envelope) = (manager.site(), &summary.description.envelope);
    let recipients = envelope.recipients.iter().zip(&summary.progress);
    let due = recipients.filter(|(_, progress)| progress.is_due());
    due.map(|(recipient, _)| hop_of(&site, &envelope.reverse_path, recipient)).collect()
}
