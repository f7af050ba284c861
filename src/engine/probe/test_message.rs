//! The test message of `pillarbox probe --send`: a real message from root of this host, which intake takes like any other.
//!
//! A probe without `--send` has the same sender and takes the same route, but sends no message.
//!
//! | part | content | reason |
//! | --- | --- | --- |
//! | sender | `root@HOSTNAME`, rewritten like all mail of this host | bounces reach the operator, and a login that may not send as root shows |
//! | To | the address, with the domain of this host if it has none | as for mail of cron |
//! | Auto-Submitted | `auto-generated` (RFC 3834) | no responder answers it |
//! | route | aliases and relay rules, as for every message | the test covers them |
//!
//! Intake takes it as this host's own mail, so it is repaired and signed like other mail of local programs. The command
//! that asked for it follows the message to its outcome; this module only submits it.

use crate::engine::host::site::Site;
use crate::engine::intake::incoming::Intake;
use crate::engine::intake::submission::Submission;
use crate::engine::queue::enqueue::hop_of;
use crate::engine::queue::index::Hop;
use crate::engine::queue::manager::Manager;
use crate::mail::address::ReversePath;
use crate::mail::envelope::Recipient;
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::Unqualified;
use crate::store::queue::{EntrySummary, Progress};
use crate::sys::clock::utc_offset_seconds;

/// Hands a test message to intake, as a program of this host would; returns its queue id.
///
/// # Errors
/// The address is malformed, has no route, or intake refuses the message; in words.
pub fn submit(intake: &Intake, site: &Site, address: &str) -> Result<QueueId, String> {
    let address = Unqualified::parse(address).map_err(|error| error.to_string())?;
    let path = address.forward_path(site.routes.home());
    let routed = site.route(&path).map_err(|no_route| no_route.reply().to_string())?;
    let submission = Submission::from_local_user(own_sender(site), vec![routed.into()], "probe".to_owned());
    let mut incoming = intake.begin(site, submission).map_err(|refusal| refusal.to_string())?;
    let host = &site.hostname;
    let text = format!(
        "To: {path}\nSubject: Test message from {host}\nAuto-Submitted: auto-generated\n\n\
         pillarbox on {host} was asked to send this (pillarbox probe --send).\nMail from there arrives.\n"
    );
    incoming.write(text.as_bytes());
    incoming.commit().map_err(|refusal| refusal.to_string())
}

/// What the recipients of a message wait for that are not finished, each with its reason: the link, the schedule, a hold, a
/// digest, the failure of its route, or its last attempt. Empty: the message has left the queue.
#[must_use]
pub fn waiting(manager: &Manager, id: QueueId) -> Vec<(String, Diagnostic)> {
    let (site, now) = (manager.site(), manager.clock.now());
    let Some(Ok(EntrySummary { description, progress, .. })) = manager.queue.summary(id) else {
        return Vec::new();
    };
    let why = |recipient: &Recipient, progress: &Progress| {
        let hop = hop_of(&site, &description.envelope.reverse_path, recipient);
        let words = |text: &str| Diagnostic::local(EnhancedStatus::DELAYED, text);
        let held = progress.held.then(|| words("it is held"));
        let digest = || manager.intake.digests.holds(id).then(|| words("it leaves in a digest"));
        let waits = || manager.index.wait_reason(&hop, id, now.running);
        let schedule = || {
            let schedule = site.settings.queue.schedule.as_ref().filter(|_| hop != Hop::Local)?;
            let offset = utc_offset_seconds(now.wall.seconds());
            let next = schedule.next_after(now.wall, offset).map_or_else(String::new, |at| at.to_rfc5322());
            progress.attempts.eq(&0).then(|| words(&format!("until the next time of queue.schedule, {next}")))
        };
        let failed = || progress.diagnostic.clone().or_else(|| manager.index.last_failure(&hop));
        held.or_else(digest)
            .or_else(waits)
            .or_else(failed)
            .or_else(schedule)
            .unwrap_or_else(|| words("its turn has not come yet"))
    };
    let all = description.envelope.recipients.iter().zip(&progress);
    let left = all.filter(|(_, progress)| !progress.is_finished());
    left.map(|(recipient, progress)| (recipient.mailbox.to_string(), why(recipient, progress))).collect()
}

/// The sender of a probe: root of this host, like cron's mail.
pub(super) fn own_sender(site: &Site) -> ReversePath {
    ReversePath::parse(&format!("root@{}", site.hostname)).unwrap_or(ReversePath::Null)
}
