//! Signs of life (`[heartbeat]`): a mail to `admin` each `every`, and a question to a dead man's switch each `interval`.
//!
//! The housekeeping calls [`due`] in each round. What is due is done by [`beat`] in a thread of its own: mail for a mailbox on a
//! file server, or a web server that hangs, must not hold up the forwarder. Only one such thread runs at a time.
//!
//! | what | is remembered | and therefore |
//! | --- | --- | --- |
//! | the last mail | with the totals, in the file `statistics`, before the housekeeping goes on | a start repeats none |
//! | the last question | in memory ([`pulse`](super::pulse)) | a start asks again |
//!
//! The mail is due when `rules::pacing::heartbeat` says so. It goes to all whom `admin` names, otherwise to the postmaster, as one of a
//! program of this host from `root`. None is written while the last one still is in the queue, because the link is down or `admin`
//! cannot be reached: what waits would say the same again. One that cannot be written is tried again an hour later.

use super::services::Services;
use super::status;
use crate::engine::host::site::Site;
use crate::engine::intake::submission::{Accepted, Submission};
use crate::engine::log::counters::Count;
use crate::engine::log::event::trouble;
use crate::engine::queue::manager::Manager;
use crate::engine::workers::egress::Egress;
use crate::mail::address::{ForwardPath, Mailbox, ReversePath};
use crate::mail::date::Now;
use crate::mail::id::QueueId;
use crate::rules::message::heartbeat::{Heartbeat, compose};
use crate::rules::pacing::downtime::Uplink;
use crate::rules::pacing::heartbeat::LastBeat;
use crate::rules::routing::route::Routed;
use crate::smtp::extension::MailParameters;
use crate::store::{free_space, has_room, unwritable};
use crate::sys;
use std::time::Duration;

/// The time to the next mail after one that could not be written.
const MAIL_AGAIN: Duration = Duration::from_secs(3600);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// A mail: the interval of the mails.
    mail: Option<Duration>,
    /// A question, and whether it says that all is well.
    question: Option<bool>,
}

/// What is due now. If it is something, the caller starts a thread for [`beat`], which must end by `Pulse::working`.
#[must_use]
pub fn due(services: &Services, site: &Site, now: Now) -> Option<Due> {
    let pulse = &services.pulse;
    if pulse.is_busy() {
        return None;
    }
    let due = Due { mail: mail_due(services, site, now), question: question_due(services, site, now) };
    if due.mail.is_none() && due.question.is_none() {
        return None;
    }
    pulse.begin();
    Some(due)
}

/// Does what is due.
pub fn beat(services: &Services, egress: &Egress, site: &Site, due: Due) {
    let _working = services.pulse.working();
    let clock = &services.manager.clock;
    if let Some(every) = due.mail {
        write(services, site, every, clock.now());
    }
    if let Some(is_well) = due.question {
        services.pulse.ask(&egress.web_world(site), is_well, clock.now().running);
    }
}

/// Whether the dead man's switch is to be asked, and what it is told.
fn question_due(services: &Services, site: &Site, now: Now) -> Option<bool> {
    let settings = &site.settings.heartbeat;
    let manager = &services.manager;
    if settings.url.is_none() || manager.index.link() == Uplink::Down {
        return None;
    }
    let is_well = services.alarm.standing().is_empty() && takes_mail(site);
    let started = manager.intake.counters.started;
    services.pulse.is_due(settings, is_well, started, now.running).then_some(is_well)
}

/// Whether the queue can be written, and has room.
fn takes_mail(site: &Site) -> bool {
    let state = &site.settings.state;
    let free = free_space(state).is_ok_and(|free| has_room(free, site.settings.limits.free_space, 0));
    free && unwritable(state).is_none()
}

/// Whether a mail is due. The first period begins when `every` is set, and again if the record cannot be true.
fn mail_due(services: &Services, site: &Site, now: Now) -> Option<Duration> {
    let manager = &services.manager;
    let counters = &manager.intake.counters;
    let last = counters.last_beat();
    let Some(every) = site.settings.heartbeat.every else {
        if last.is_some() {
            note(manager, None, now);
        }
        return None;
    };
    let Some(last) = last.filter(|last| !last.is_ahead_of(now)) else {
        note(manager, Some(LastBeat { at: now, id: None, totals: counters.totals() }), now);
        return None;
    };
    let is_due = last.is_over(every, now, manager.clock.last_jump())
        && now.running >= *services.pulse.mail_after.lock()
        && last.id.is_none_or(|id| manager.index.message(id).is_none());
    is_due.then_some(every)
}

/// Saves the record. The running time must not fall behind it.
fn note(manager: &Manager, beat: Option<LastBeat>, now: Now) {
    manager.clock.save();
    manager.intake.counters.note_beat(beat, now);
}

/// Writes the mail.
fn write(services: &Services, site: &Site, every: Duration, now: Now) {
    let manager = &services.manager;
    let counters = &manager.intake.counters;
    let totals = counters.totals();
    match submit(services, site, every, now) {
        Ok(id) => {
            counters.count(Count::Notices);
            note(manager, Some(LastBeat { at: now, id: Some(id), totals }), now);
        }
        Err(error) => {
            *services.pulse.mail_after.lock() = now.running.saturating_add(MAIL_AGAIN.min(every));
            trouble("writing the mail of heartbeat.every; it is tried again", &error);
        }
    }
}

/// Hands the mail to intake.
///
/// # Errors
/// It has no recipient, or intake refuses it; in words.
fn submit(services: &Services, site: &Site, every: Duration, now: Now) -> Result<QueueId, String> {
    let manager = &services.manager;
    let counters = &manager.intake.counters;
    let routed = recipients(site)?;
    let to: Vec<Mailbox> = match site.routes.admin.as_slice() {
        [] => routed.iter().map(|routed| routed.mailbox.clone()).collect(),
        admins => admins.to_vec(),
    };
    let from = Mailbox::parse(&format!("root@{}", site.hostname)).map_err(|_| "root has no address")?;
    let said = status::sentences(services);
    let (last, (waiting, _)) = (counters.last_beat(), manager.index.size());
    let text = compose(&Heartbeat {
        hostname: &site.terms.hostname,
        from: &from,
        to: &to,
        is_well: said.is_well,
        sentences: &said.sentences,
        passed: last.map_or(every, |last| last.passed(now, manager.clock.last_jump())),
        totals: counters.totals().since(last.map(|last| last.totals).unwrap_or_default()),
        is_first: last.is_none_or(|last| last.id.is_none()),
        waiting: waiting as u64,
        oldest: said.oldest,
        uptime: now.running.saturating_sub(counters.started).as_secs(),
        every,
        now: now.wall,
        random: sys::random(),
    });
    let accepted = routed.into_iter().map(Accepted::from).collect();
    let internal = Submission::internal(ReversePath::Mailbox(from), accepted, "heartbeat".to_owned());
    let smtputf8 = !to.iter().all(Mailbox::is_ascii);
    let parameters = MailParameters { smtputf8, ..MailParameters::default() };
    let submission = Submission { parameters, dated: Some(now), ..internal };
    let mut incoming = manager.intake.begin(site, submission).map_err(|refusal| refusal.to_string())?;
    incoming.write(text.as_bytes());
    incoming.commit().map_err(|refusal| refusal.to_string())
}

/// The routes to all whom `admin` names, or to the postmaster. One that is not known here is left out if there are others.
///
/// # Errors
/// Nobody can be reached; in words.
fn recipients(site: &Site) -> Result<Vec<Routed>, String> {
    let mut paths: Vec<ForwardPath> = site.routes.admin.iter().cloned().map(ForwardPath::Mailbox).collect();
    if paths.is_empty() {
        paths.push(ForwardPath::Postmaster);
    }
    let mut reason = String::new();
    let mut routed = Vec::new();
    for path in &paths {
        match site.route(path) {
            Ok(route) => routed.push(route),
            Err(no_route) => reason = format!("{path}: {}", no_route.reply()),
        }
    }
    if routed.is_empty() { Err(reason) } else { Ok(routed) }
}
