//! Tells people that mail is stuck: a line in the log, and a command that lights an LED or calls a push service.
//!
//! The forwarder looks once a minute; `rules::alarm` says what there is to tell. The command (`alarm.command`) has a
//! thread of its own for its 30 seconds, one at a time: mail never waits for it. What peers wrote reaches it with its
//! control characters escaped and cut to a length, and no shell ever reads it. A restart forgets what has been told:
//! what lasts is told again. What may fail: the command, which is logged and not tried again.

use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::{Event, escaped};
use crate::engine::outbound::command::Running;
use crate::engine::queue::index::{FailingRoute, Hop};
use crate::engine::queue::manager::Manager;
use crate::mail::date::Now;
use crate::mail::id::QueueId;
use crate::net::transport::Deadline;
use crate::rules::advice::monitor::span;
use crate::rules::pacing::alarm::{AlarmEvent, Alarms, Reason};
use crate::sys::lock::Lock;
use crate::sys::thread;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Looked so often at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Time for the command.
const COMMAND: Duration = Duration::from_secs(30);
/// So often its thread looks whether the daemon stops.
const GLANCE: Duration = Duration::from_millis(100);
/// So many routes are told of at the same time, those that have failed for longest.
const ROUTES_MAX: usize = 8;

/// The alarm of a running pillarbox.
#[derive(Debug, Default)]
pub struct Alarm {
    state: Lock<State>,
    /// A command runs.
    is_busy: Arc<AtomicBool>,
    /// None may run any longer.
    is_over: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct State {
    alarms: Alarms,
    next_look: Duration,
}

/// A reason with what is known of it.
struct Trouble {
    reason: Reason,
    id: Option<QueueId>,
    text: String,
}

impl Alarm {
    /// Tells what there is to tell, if it is time to look: one thing at a time.
    pub fn look(&self, manager: &Manager, site: &Site, now: Now) {
        let mut state = self.state.lock();
        if now.running < state.next_look || self.is_busy.load(Ordering::SeqCst) {
            return;
        }
        state.next_look = now.running + LOOK_INTERVAL.min(site.settings.alarm.stuck_after);
        let troubles = troubles(manager, site, now);
        let reasons: Vec<Reason> = troubles.iter().map(|trouble| trouble.reason.clone()).collect();
        let Some(told) = state.alarms.next(now.running, &reasons) else { return };
        drop(state);
        let (word, reason) = match &told {
            AlarmEvent::Raised(reason) => ("alarm", reason),
            AlarmEvent::Over(reason) => ("ok", reason),
        };
        let trouble = troubles.iter().find(|trouble| trouble.reason == *reason);
        let text = trouble.map_or_else(|| over(reason), |trouble| explained(manager, trouble));
        let id = trouble.and_then(|trouble| trouble.id).map_or_else(String::new, |id| id.to_string());
        let route = if let Reason::Route(route) = reason { route.as_str() } else { "" };
        Event::Alarm { state: word, reason: reason.word(), id: &id, route, text: &text }.log();
        if trouble.is_some() {
            manager.intake.counters.count(Count::Alarms);
        }
        let variables = [
            ("PILLARBOX_STATE", word.to_owned()),
            ("PILLARBOX_REASON", reason.word().to_owned()),
            ("PILLARBOX_ID", id),
            ("PILLARBOX_ROUTE", escaped(route)),
            ("PILLARBOX_TEXT", escaped(&text)),
        ];
        self.run(&site.settings.alarm.command, variables);
    }

    /// The alarms that have been told and are not over.
    #[must_use]
    pub fn standing(&self) -> Vec<Reason> {
        self.state.lock().alarms.standing().to_vec()
    }

    /// Kills a command that still runs: after the daemon nobody would.
    pub fn stop(&self) {
        self.is_over.store(true, Ordering::SeqCst);
        let patience = Deadline::after(10 * GLANCE);
        while self.is_busy.load(Ordering::SeqCst) && !patience.remaining().is_zero() {
            thread::sleep(GLANCE / 10);
        }
    }

    /// Runs the command, in a thread of its own.
    fn run(&self, command: &str, variables: [(&'static str, String); 5]) {
        if command.is_empty() {
            return;
        }
        let failed = |error: &str| Event::Trouble { doing: "running alarm.command", error }.log();
        self.is_busy.store(true, Ordering::SeqCst);
        let (busy, command) = (Busy(Arc::clone(&self.is_busy)), command.to_owned());
        let is_over = Arc::clone(&self.is_over);
        let started = thread::start("alarm", move || {
            let _busy = busy;
            let deadline = Deadline::after(COMMAND);
            let ended = Running::start(&command, &variables, Stdio::null()).and_then(|mut running| {
                loop {
                    let ended = running.wait(Deadline::after(GLANCE))?;
                    if ended.is_some() || deadline.remaining().is_zero() || is_over.load(Ordering::SeqCst) {
                        return Ok(ended);
                    }
                }
            });
            match ended {
                Ok(Some(status)) if status.success() => {}
                Ok(None) if !deadline.remaining().is_zero() => failed("the daemon stops; it was killed"),
                Ok(Some(status)) => failed(&status.to_string()),
                Ok(None) => failed("it took longer than 30 seconds, and was killed"),
                Err(error) => failed(&error.to_string()),
            }
        });
        if let Err(error) = started {
            failed(&error.to_string());
        }
    }
}

/// Until it is dropped, also by a panic or with a thread that can't be had, a command runs.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What is wrong now.
fn troubles(manager: &Manager, site: &Site, now: Now) -> Vec<Trouble> {
    let stuck_after = site.settings.alarm.stuck_after;
    let age = |since: Duration| now.running.saturating_sub(since);
    let facts = manager.index.queue_facts(&manager.intake.digests.all());
    let held = facts.oldest_kept.map(|id| Trouble {
        reason: Reason::Held,
        id: Some(id),
        text: format!("mail to admin can't be delivered, and is held: {}, the oldest of {}", id, facts.kept),
    });
    let stuck =
        facts.oldest_moving.filter(|&(_, arrival)| age(arrival) > stuck_after).map(|(id, arrival)| Trouble {
            reason: Reason::Stuck,
            id: Some(id),
            text: format!("message {id} has waited for {}", span(age(arrival).as_secs())),
        });
    let failing = manager.index.failing_routes(ROUTES_MAX).into_iter();
    // A refusal does not go away by itself: it is told at once.
    let is_refused = |route: &FailingRoute| route.pause.as_ref().is_some_and(|pause| pause.refusal.is_some());
    let failing = failing.filter(|route| age(route.since) > stuck_after || is_refused(route));
    let failing = failing.filter(|route| route.hop != Hop::Local);
    let routes = failing.map(|route| {
        let why = route.pause.map_or_else(String::new, |pause| format!(": {}", pause.reason.line()));
        let text = format!("{} has not worked for {}{why}", route.hop, span(age(route.since).as_secs()));
        Trouble { reason: Reason::Route(route.hop.to_string()), id: None, text }
    });
    held.into_iter().chain(stuck).chain(routes).collect()
}

/// With why a message waits, which for some of them only the queue knows.
fn explained(manager: &Manager, trouble: &Trouble) -> String {
    let Some(id) = trouble.id else { return trouble.text.clone() };
    let now = manager.clock.now().running;
    let waits = || {
        let hops = manager.index.hops_of(id);
        hops.iter().find_map(|hop| manager.index.wait_reason(hop, id, now))
    };
    let last = || {
        let summary = manager.queue.summary(id)?.ok()?;
        summary
            .progress
            .into_iter()
            .filter(|it| it.is_due() || it.kept.is_some())
            .find_map(|it| it.diagnostic)
    };
    match waits().or_else(last) {
        Some(why) => format!("{}: {}", trouble.text, why.line()),
        None => trouble.text.clone(),
    }
}

fn over(reason: &Reason) -> String {
    match reason {
        Reason::Held => "no mail to admin is held any more".to_owned(),
        Reason::Stuck => "no message is too old any more".to_owned(),
        Reason::Route(route) => format!("{route} works again, or nothing waits for it"),
    }
}
