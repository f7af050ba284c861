//! The forwarder thread: sleeps until something is due and starts workers, which deliver it.
//!
//! `engine::daemon` starts it, one for each daemon. It decides nothing about messages: `QueueIndex::next` says at which hop a worker is needed, and the queue manager
//! settles what a worker learns. Each round of its loop:
//!
//! ```text
//! ┌▶ Manager::look_after    once a minute while mail waits: sweep tmp/, give up kept mail, report delays
//! │  housekeeping           each round: alarms, saved clock, saved counters (engine::daemon)
//! │  Schedule::fires        then everything is flushed
//! │  Manager::keep_saving   messages move from memory to the disk
//! │  QueueIndex::wait       ─ Work(hop) ─▶ start a worker thread
//! └──────────────────────── ─ Wait ─▶ the next due time, new mail, a change, or the longest sleep has come
//!                           ─ Stop ─▶ the thread ends
//! ```
//!
//! | the loop wakes up | because |
//! | --- | --- |
//! | at the earliest due time or end of a pause | `QueueIndex::next` gives it |
//! | at once | a message came in or was put back, a worker ended, a hop answered, a flush, the link, a stop |
//! | when a message in memory is due to move to the disk | `queue.memory_grace` ends |
//! | after a minute, or `alarm.stuck_after` if that is shorter | jumps of the clock, the schedule and alarms must be noticed |
//! | after five minutes, if nothing is queued, and no schedule, token or dead man's switch needs a look each minute | an idle box should sleep |
//!
//! Workers are separate threads, so that a slow host never delays the loop. If the system has no thread left, the hop
//! pauses as after a failure. A panic ends one worker: its hop pauses for a minute, and its message is put back.
//!
//! `pillarbox queue` without a daemon, `pillarbox probe --send` and the tests use [`Forwarder::pass`] instead: the same
//! work in the thread of the caller.

use super::egress::Egress;
use super::{local, remote};
use crate::engine::host::site::Site;
use crate::engine::queue::index::{Hop, Next, WorkerCaps};
use crate::engine::queue::manager::{Manager, OWN_TROUBLE_RETRY};
use crate::engine::queue::schedule::Schedule;
use crate::mail::date::Now;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::sys;
use std::sync::Arc;
use std::time::Duration;

/// While mail waits, the forwarder looks at the clocks at least this often, to notice jumps and to save the running time.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// The same while nothing waits for the time.
const IDLE_SLEEP: Duration = Duration::from_secs(300);

/// The forwarder.
#[derive(Debug)]
pub struct Forwarder {
    /// The queue manager.
    pub manager: Arc<Manager>,
    /// What the workers share to reach other hosts.
    pub egress: Egress,
}

impl Forwarder {
    /// Runs until the daemon stops. `housekeeping` is called in each round.
    pub fn run(self: &Arc<Self>, housekeeping: &dyn Fn(&Site, Now)) {
        let manager = &self.manager;
        let mut schedule = Schedule::default();
        let mut next_look = Duration::ZERO;
        loop {
            let site = manager.site();
            let now = manager.clock.now();
            if now.running >= next_look {
                // Look even if the index knows of no message that will become late: one that a worker has taken is not
                // in the index.
                manager.look_after(now);
                next_look = now.running + look_interval(&site);
            }
            housekeeping(&site, now);
            if schedule.fires(&site, now) {
                manager.index.flush(now.running);
            }
            let longest = longest_sleep(&site, manager.index.size().0).min(manager.keep_saving(&site));
            match manager.index.wait(now.running, caps(&site), longest) {
                Next::Work(hop) => self.start_worker(hop),
                Next::Wait(_) => {}
                Next::Stop => break,
            }
        }
    }

    fn start_worker(self: &Arc<Self>, hop: Hop) {
        let forwarder = Arc::clone(self);
        let own_hop = hop.clone();
        let started = sys::thread::start("worker", move || {
            let _ended = WorkerEnd { manager: &forwarder.manager, hop: &own_hop };
            forwarder.work(&own_hop);
        });
        if let Err(error) = started {
            self.manager.index.worker_ended(&hop);
            let reason = Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, format!("no thread: {error}"));
            self.manager.hop_failed(&hop, None, &reason.into());
        }
    }

    /// Does the work of one worker at a hop, in this thread.
    pub fn work(&self, hop: &Hop) {
        match hop {
            Hop::Local => local::work(&self.manager),
            Hop::Relay(next_hop) => remote::work(&self.manager, &self.egress, next_hop),
        }
        self.manager.sync_removals();
    }

    /// Delivers everything that is due, in this thread. Returns when the next message will be due or late, if a time is
    /// known.
    pub fn pass(&self) -> Option<Duration> {
        let manager = &self.manager;
        manager.look_after(manager.clock.now());
        manager.save_aged();
        loop {
            let now = manager.clock.now();
            match manager.index.next(now.running, caps(&manager.site())) {
                Next::Work(hop) => {
                    self.work(&hop);
                    manager.index.worker_ended(&hop);
                }
                Next::Wait(until) => {
                    return until.into_iter().chain(manager.look_for_delays(manager.clock.now())).min();
                }
                Next::Stop => return None,
            }
        }
    }
}

/// Counts a worker out when it ends, also by a panic.
struct WorkerEnd<'a> {
    manager: &'a Manager,
    hop: &'a Hop,
}

impl Drop for WorkerEnd<'_> {
    fn drop(&mut self) {
        let index = &self.manager.index;
        if std::thread::panicking() {
            // A pause of a minute: trying again at once would only panic again, and without this call the breaker would
            // wait an hour for the result of its trial.
            let reason = Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, "a worker failed");
            let now = self.manager.clock.now().running;
            index.hop_failed(self.hop, None, now, &|_| OWN_TROUBLE_RETRY, &reason.into(), Duration::MAX);
        }
        index.worker_ended(self.hop);
    }
}

/// How often the queue is looked after: before the first message can be late. A `warn_after` of zero means no warning.
fn look_interval(site: &Site) -> Duration {
    match site.settings.queue.warn_after {
        Duration::ZERO => LONGEST_SLEEP,
        warn_after => LONGEST_SLEEP.min(warn_after),
    }
}

/// How long the loop may sleep while `queued` messages are in the queue.
fn longest_sleep(site: &Site, queued: usize) -> Duration {
    let settings = &site.settings;
    let is_idle = queued == 0
        && settings.queue.schedule.is_none()
        && settings.relay.token_names().is_empty()
        && settings.heartbeat.url.is_none();
    if is_idle { IDLE_SLEEP } else { LONGEST_SLEEP }.min(settings.alarm.stuck_after)
}

fn caps(site: &Site) -> WorkerCaps {
    let relay = &site.settings.relay;
    WorkerCaps { total: relay.connections as usize, per_hop: relay.connections_per_domain as usize }
}

#[cfg(test)]
mod tests {
    use super::{IDLE_SLEEP, LONGEST_SLEEP, longest_sleep, look_interval};
    use crate::engine::host::site::current;
    use crate::engine::tests::world::World;
    use std::time::Duration;

    /// Without a warning the queue was swept in each round of the loop: at each message.
    #[test]
    fn the_queue_is_looked_after_once_a_minute_unless_warnings_come_sooner() {
        for (warn_after, interval) in
            [("0", LONGEST_SLEEP), ("\"4h\"", LONGEST_SLEEP), ("\"5s\"", Duration::from_secs(5))]
        {
            let world = World::new(&format!("queue.warn_after = {warn_after}"));
            assert_eq!(look_interval(&current(&world.site)), interval, "{warn_after}");
        }
    }

    #[test]
    fn an_idle_box_sleeps_longer() {
        let smarthost = "relay.smarthost = \"smtps://far.example\"\nrelay.username = \"box@far.example\"\n";
        let with_tokens = format!(
            "{smarthost}relay.auth = \"xoauth2\"\n[oauth]\nprovider = \"microsoft\"\nclient_id = \"x\"\n"
        );
        for (config, queued, longest) in [
            ("", 0, IDLE_SLEEP),
            ("", 1, LONGEST_SLEEP),
            (smarthost, 0, IDLE_SLEEP),
            (&with_tokens, 0, LONGEST_SLEEP),
            ("queue.schedule = \"0 * * * *\"", 0, LONGEST_SLEEP),
            ("heartbeat.url = \"https://far.example/x\"", 0, LONGEST_SLEEP),
            ("alarm.stuck_after = \"5s\"", 0, Duration::from_secs(5)),
        ] {
            let world = World::new(config);
            assert_eq!(longest_sleep(&current(&world.site), queued), longest, "{config}");
        }
    }
}
