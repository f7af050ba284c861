//! Alerts people when mail is stuck: a line in the log, and a command that lights an LED or calls a push service.
//!
//! # States
//!
//! Each reason has an alarm of its own, which is standing or not:
//!
//! ```text
//!               the reason appears: event=alarm state=alarm, command
//!   no alarm ──────────────────────────────────────────────────────▶ standing
//!            ◀──────────────────────────────────────────────────────
//!               the reason is gone: event=alarm state=ok, command
//! ```
//!
//! | reason | it holds while | the text explains |
//! | --- | --- | --- |
//! | `held` | a message to `admin` cannot be delivered and is kept in the queue | why the oldest one failed |
//! | `stuck` | a message is older than `alarm.stuck_after`, unless it is held or waits for a digest | why that message waits |
//! | `route` | a next hop has not worked for `alarm.stuck_after`, or refuses this host's mail | why the next hop pauses |
//! | `memory` | messages that lie in memory (`queue.storage`) can't be moved to the disk | why |
//! | `token` | the token of a login is missing or refused for good | what the provider said, and the command to run |
//!
//! A refusal is reported without that delay: it does not go away by itself. Local deliveries are no route here; their
//! messages get stuck.
//!
//! # A check
//!
//! The forwarder's thread calls [`Alarm::check`] after each pass, and it does its work at most once a minute:
//!
//! 1. It collects the reasons that hold now.
//! 2. [`crate::rules::pacing::alarm`] compares them with the standing alarms and returns at most one event, new alarms
//!    first. At most 12 events an hour are reported; later ones wait for a check that may report them.
//! 3. The event is logged, and the command starts in a thread of its own: mail never waits for it. While it runs, no
//!    check happens, so commands never overlap and their events arrive in order.
//!
//! The command (`alarm.command`) gets the event in its environment and has 30 seconds, then it is killed. No shell reads
//! the text of a peer, and control characters in it are escaped.
//!
//! The standing alarms are in memory only: after a restart, a reason that still holds is reported again. If the command
//! fails, that is logged, and the event is not repeated.

use super::cause;
use crate::engine::host::commands::Commands;
use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::{Event, escaped};
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::queue::index::{FailingHop, Hop};
use crate::engine::queue::manager::Manager;
use crate::mail::date::Now;
use crate::mail::id::QueueId;
use crate::net::transport::Deadline;
use crate::rules::advice::monitor::{lasting, span};
use crate::rules::pacing::alarm::{AlarmEvent, Alarms, Reason};
use crate::sys::lock::Lock;
use crate::sys::thread;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The shortest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// How long the command may run.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the command's thread checks whether the daemon stops.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How many routes are reasons at the same time; those that have failed for longest come first.
const ROUTES_MAX: usize = 8;

/// The alarm of a running pillarbox.
#[derive(Debug, Default)]
pub struct Alarm {
    state: Lock<State>,
    /// A command is running.
    is_busy: Arc<AtomicBool>,
    /// The daemon stops: a running command is killed.
    is_stopping: Arc<AtomicBool>,
    /// The tokens of logins.
    pub tokens: Arc<TokenKeeper>,
}

#[derive(Debug, Default)]
struct State {
    alarms: Alarms,
    /// The running time of the next check.
    next_check: Duration,
}

/// A reason for an alarm, and the facts for its report.
struct Trouble {
    reason: Reason,
    /// The message that it is about.
    id: Option<QueueId>,
    text: String,
}

impl Alarm {
    /// An alarm that looks at these tokens.
    #[must_use]
    pub fn new(tokens: Arc<TokenKeeper>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// Checks for stuck mail and reports at most one event. Does nothing until the next check is due, and while a command
    /// runs.
    pub fn check(&self, manager: &Manager, site: &Site, now: Now) {
        let mut state = self.state.lock();
        if now.running < state.next_check || self.is_busy.load(Ordering::SeqCst) {
            return;
        }
        state.next_check = now.running + CHECK_INTERVAL.min(site.settings.alarm.stuck_after);
        let mut troubles = troubles(manager, site, now);
        troubles.extend(self.token_troubles(site));
        let reasons: Vec<Reason> = troubles.iter().map(|trouble| trouble.reason.clone()).collect();
        let Some(event) = state.alarms.next(now.running, &reasons) else { return };
        drop(state);
        let (word, reason) = match &event {
            AlarmEvent::Raised(reason) => ("alarm", reason),
            AlarmEvent::Over(reason) => ("ok", reason),
        };
        let trouble = troubles.iter().find(|trouble| trouble.reason == *reason);
        let text = trouble.map_or_else(|| over_text(reason), |trouble| text_with_cause(manager, trouble));
        let id = trouble.and_then(|trouble| trouble.id).map_or_else(String::new, |id| id.to_string());
        let route = if let Reason::Route(route) = reason { route.as_str() } else { "" };
        Event::Alarm { state: word, reason: reason.word(), id: &id, route, text: &text }.log();
        if trouble.is_some() {
            manager.intake.counters.count(Count::Alarms);
        }
        if !site.settings.alarm.command.is_empty() {
            let values = [word.to_owned(), reason.word().to_owned(), id, escaped(route), escaped(&text)];
            self.run(site.commands.clone(), values);
        }
    }

    /// Logins for which a person has to log in again.
    fn token_troubles(&self, site: &Site) -> impl Iterator<Item = Trouble> {
        let lost = self.tokens.standing(&site.settings).into_iter().filter(|it| it.state.needs_login());
        lost.map(|it| Trouble { text: it.text(), reason: Reason::Token(it.username), id: None })
    }

    /// The alarms that were reported and are not over.
    #[must_use]
    pub fn standing(&self) -> Vec<Reason> {
        self.state.lock().alarms.standing().to_vec()
    }

    /// Kills a running command, since it must not outlive the daemon. Waits up to a second for its thread.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        let deadline = Deadline::after(10 * POLL_INTERVAL);
        while self.is_busy.load(Ordering::SeqCst) && !deadline.remaining().is_zero() {
            thread::sleep(POLL_INTERVAL / 10);
        }
    }

    /// Has the command started, by a thread of its own that waits for its end.
    fn run(&self, commands: Option<Arc<Commands>>, values: [String; 5]) {
        let failed = |error: &str| Event::Trouble { doing: "running alarm.command", error }.log();
        let Some(commands) = commands else { return failed("no process runs commands; restart pillarbox") };
        self.is_busy.store(true, Ordering::SeqCst);
        let busy = Busy(Arc::clone(&self.is_busy));
        let is_stopping = Arc::clone(&self.is_stopping);
        let started = thread::start("alarm", move || {
            let _busy = busy;
            let deadline = Deadline::after(COMMAND_TIMEOUT);
            let ended = commands.alarm(&values).and_then(|mut running| {
                loop {
                    let ended = running.wait(Deadline::after(POLL_INTERVAL))?;
                    let is_late = deadline.remaining().is_zero();
                    if ended.is_some() || is_late || is_stopping.load(Ordering::SeqCst) {
                        return Ok(ended);
                    }
                }
            });
            match ended {
                Ok(Some(status)) if status.success() => {}
                Ok(None) if !deadline.remaining().is_zero() => failed("killed, because the daemon stops"),
                Ok(Some(status)) => failed(&status.to_string()),
                Ok(None) => failed("killed after 30 seconds"),
                Err(error) => failed(&error.to_string()),
            }
        });
        if let Err(error) = started {
            failed(&error.to_string());
        }
    }
}

/// Marks the alarm as busy until it is dropped: also by a panic, or because no thread could be started.
struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The reasons for an alarm that hold now.
fn troubles(manager: &Manager, site: &Site, now: Now) -> Vec<Trouble> {
    let stuck_after = site.settings.alarm.stuck_after;
    let age = |since: Duration| now.running.saturating_sub(since);
    let facts = manager.index.queue_facts(&manager.intake.digests.all());
    let held = facts.oldest_kept.map(|id| Trouble {
        reason: Reason::Held,
        id: Some(id),
        text: format!("mail to admin cannot be delivered and is held: {id}, the oldest of {}", facts.kept),
    });
    let stuck =
        facts.oldest_moving.filter(|&(_, arrival)| age(arrival) > stuck_after).map(|(id, arrival)| Trouble {
            reason: Reason::Stuck,
            id: Some(id),
            text: format!("message {id} has waited for {}", span(age(arrival).as_secs())),
        });
    let failing = manager.index.failing_hops(ROUTES_MAX).into_iter();
    // A refusal does not go away by itself: it is reported at once.
    let is_refused = |route: &FailingHop| route.pause.as_ref().is_some_and(|pause| pause.refusal.is_some());
    let failing = failing.filter(|route| age(route.since) > stuck_after || is_refused(route));
    let failing = failing.filter(|route| route.hop != Hop::Local);
    let routes = failing.map(|route| {
        let why = route
            .pause
            .map_or_else(String::new, |pause| format!(": {}", cause::with_advice(site, &pause.reason)));
        let state = lasting(age(route.since).as_secs(), "has not worked", "did not work just now");
        let text = format!("{} {state}{why}", route.hop);
        Trouble { reason: Reason::Route(route.hop.to_string()), id: None, text }
    });
    let mut troubles: Vec<Trouble> = held.into_iter().collect();
    troubles.extend(manager.saver.failure().map(|why| Trouble {
        reason: Reason::Memory,
        id: None,
        text: format!("messages in memory can't be saved, and a power cut would lose them: {why}"),
    }));
    troubles.extend(stuck);
    troubles.extend(routes);
    troubles
}

/// The text of a trouble, with the reason why its message waits: that of its route, else that of its last attempt.
fn text_with_cause(manager: &Manager, trouble: &Trouble) -> String {
    match trouble.id.and_then(|id| cause::of_message(manager, id)) {
        Some(why) => format!("{}: {}", trouble.text, cause::with_advice(&manager.site(), &why)),
        None => trouble.text.clone(),
    }
}

/// The text of the event that ends an alarm.
fn over_text(reason: &Reason) -> String {
    match reason {
        Reason::Held => "no mail to admin is held any more".to_owned(),
        Reason::Stuck => "no message is too old any more".to_owned(),
        Reason::Route(route) => format!("{route} works again, or nothing waits for it"),
        Reason::Memory => "messages in memory can be saved again".to_owned(),
        Reason::Token(login) => format!("{login} has a token again"),
    }
}
