//! The composition of a running pillarbox: makes the parts, starts their threads, reloads and stops them.
//!
//! The order of a stop: the control socket closes; no message is handed out any more; listeners stop, idle clients get
//! 421; messages in memory move to the disk; transactions, workers and the dropped message that is being taken
//! share [`STOP_PATIENCE`]; then what came into memory meanwhile moves, removals are synced and the state is saved. What has no deadline
//! of its own, as a sync on a disk that hangs, ends with the process: see `sys::signals`.

use super::control::alarm::Alarm;
use super::control::heartbeat;
use super::control::maildrop::Maildrop;
use super::control::pulse::Pulse;
use super::control::services::Services;
use super::control::socket::{Control, SOCKET_TIMEOUTS};
use super::host::clock::EngineClock;
use super::host::mda::DeliveryAgent;
use super::host::site::Site;
use super::inbound::listener::{self, Listener};
use super::inbound::shared::Inbound;
use super::inbound::slots::ConnectionSlots;
use super::intake::digest_windows::DigestWindows;
use super::intake::incoming::Intake;
use super::log::counters::Counters;
use super::log::event::{Event, trouble};
use super::queue::index::QueueIndex;
use super::queue::manager::Manager;
use super::queue::saving::memory_max;
use super::workers::egress::Egress;
use super::workers::forwarder::Forwarder;
use crate::config::{self, ListenerKind, ListenerTls, Settings, Storage};
use crate::engine::host::site::{SiteHandle, current};
use crate::engine::queue::enqueue::Enqueue;
use crate::mail::date::Now;
use crate::net::connect::TcpConnect;
use crate::net::resolver::{Resolver, SystemFiles};
use crate::net::transport::Deadline;
use crate::rules::pacing::downtime::Uplink;
use crate::store::drop::DropDirectory;
use crate::store::maildir::{MaildirRights, Maildirs};
use crate::store::queue::Queue;
use crate::sys;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::Lock;
use std::io;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long transactions of clients and workers may last when the daemon stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// For messages that were in memory, or came there, while the rest stopped.
const LAST_SAVES: Duration = Duration::from_millis(500);
/// How long a connection to a next hop is kept open for further mail.
const LINGER: Duration = Duration::from_secs(1);

/// A running pillarbox.
#[derive(Debug)]
pub struct Daemon {
    site: SiteHandle,
    control: OnceLock<Arc<Control>>,
    /// The parts that listeners and their connections share.
    pub inbound: Arc<Inbound>,
    /// The entry of all mail.
    pub intake: Arc<Intake>,
    /// What operators may ask about and change.
    pub services: Arc<Services>,
    /// The exit of queued mail.
    pub forwarder: Arc<Forwarder>,
    maildrop: Maildrop,
}

/// Makes the resolver of the settings.
#[must_use]
pub fn resolver(settings: &Settings) -> Resolver {
    let dns = &settings.dns;
    let resolver =
        Resolver::new(&dns.servers, dns.timeout, SystemFiles::default(), Box::new(|| SystemClock.boot()));
    if dns.trusted { resolver.trusting_all() } else { resolver }
}

/// The writer for Maildirs, with the rights of this process or of the delivery agent.
#[must_use]
pub fn maildirs(site: &Site, agent: Option<Arc<DeliveryAgent>>) -> Maildirs {
    let rights = match agent {
        Some(agent) => MaildirRights::Agent(agent),
        None if sys::user::is_root() => MaildirRights::GiveAway,
        None => MaildirRights::None,
    };
    let scratch = site.settings.state.join("tmp");
    Maildirs::new(&site.terms.hostname).with_rights(rights).with_scratch(scratch)
}

impl Daemon {
    /// Puts the parts together; nothing runs yet.
    #[must_use]
    pub fn new(site: Site, queue: Queue, drops: DropDirectory, agent: Option<Arc<DeliveryAgent>>) -> Self {
        let clock = Arc::new(EngineClock::resume(Box::new(SystemClock), &site.settings.state));
        let maildirs = maildirs(&site, agent);
        let resolver = resolver(&site.settings);
        let digests = DigestWindows::resume(&site.settings.state);
        let site: SiteHandle = Arc::new(Lock::new(Arc::new(site)));
        let enqueue = Enqueue { site: Arc::clone(&site), index: Arc::new(QueueIndex::default()) };
        let enqueue = Arc::new(enqueue);
        let slots = Arc::new(ConnectionSlots::default());
        let counters = Counters::resume(&current(&site).settings.state, Arc::clone(&slots) as _, clock.now());
        let intake = Arc::new(Intake {
            clock,
            queue: Arc::new(queue),
            maildirs,
            on_queued: Arc::clone(&enqueue) as _,
            counters: Arc::new(counters),
            ids: AtomicUsize::new(sys::random() as usize),
            sweeps: Lock::default(),
            digests,
        });
        let manager = Arc::new(Manager::new(&enqueue, Arc::clone(&intake)));
        let egress = Egress::new(Box::new(resolver), Box::new(TcpConnect::default()), LINGER);
        let alarm = Alarm::new(Arc::clone(&egress.tokens));
        let services = Arc::new(Services { manager: Arc::clone(&manager), alarm, pulse: Pulse::default() });
        let forwarder = Arc::new(Forwarder { manager, egress });
        let (threads, intake_of_clients) = (Arc::default(), Arc::clone(&intake));
        let inbound = Inbound { site: Arc::clone(&site), slots, threads, intake: intake_of_clients };
        let (inbound, control) = (Arc::new(inbound), OnceLock::new());
        Self { site, control, inbound, intake, services, forwarder, maildrop: Maildrop::new(drops) }
    }

    /// The current configuration.
    #[must_use]
    pub fn site(&self) -> Arc<Site> {
        current(&self.site)
    }

    /// Starts a thread for each listener, one for the drop directory, and the forwarder.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(self: &Arc<Self>, listeners: &[Arc<Listener>]) -> io::Result<()> {
        for listener in listeners {
            let (inbound, listener) = (Arc::clone(&self.inbound), Arc::clone(listener));
            sys::thread::start("listener", move || listener::run(&inbound, &listener))?;
        }
        self.prepare_certificate();
        let daemon = Arc::clone(self);
        sys::thread::start("drops", move || daemon.maildrop.run(&daemon.intake, &|| daemon.site()))?;
        let daemon = Arc::clone(self);
        sys::thread::start("forwarder", move || {
            daemon.services.manager.load();
            daemon.forwarder.run(&|site, now| daemon.keep_house(site, now));
        })
    }

    /// Has the certificate made ready, if a listener may offer it: not where all clients are on loopback.
    fn prepare_certificate(&self) {
        let site = self.site();
        let shows = |listener: &config::Listener| {
            let always = listener.tls == ListenerTls::Require || listener.kind == ListenerKind::Submissions;
            always || listener.proxy_protocol
        };
        let is_needed = site.listens_on.iter().any(|address| !address.ip().is_loopback())
            || site.settings.listeners.iter().any(shows);
        if let (Some(tls), true) = (&site.tls, is_needed) {
            tls.prepare(self.intake.clock.now().wall);
        }
    }

    /// Housekeeping in each round of the forwarder's loop: once a minute while mail waits, else every five minutes.
    fn keep_house(self: &Arc<Self>, site: &Site, now: Now) {
        self.keep_tokens(site);
        self.services.alarm.check(&self.services.manager, site, now);
        self.give_sign(site, now);
        let spares_flash = site.settings.queue.storage == Storage::MemoryFirst;
        let is_rare = || spares_flash || !self.services.manager.index.has_waited(now.running);
        self.intake.clock.save_if_due(is_rare);
        self.intake.counters.save(now, false);
        self.intake.counters.note_hour(now, self.waiting(), false);
    }

    /// The number of messages in the queue.
    fn waiting(&self) -> u64 {
        self.services.manager.index.size().0 as u64
    }

    /// Starts a thread that refreshes tokens, if it is time. Over a link that is down or metered they are refreshed only when
    /// mail needs one.
    fn keep_tokens(self: &Arc<Self>, site: &Site) {
        let tokens = &self.forwarder.egress.tokens;
        if self.services.manager.index.link() != Uplink::Up || !tokens.begins_look(site) {
            return;
        }
        let daemon = Arc::clone(self);
        let started =
            sys::thread::start("token", move || daemon.forwarder.egress.keep_tokens(&daemon.site()));
        if let Err(error) = started {
            tokens.end_look();
            trouble("refreshing tokens", &error);
        }
    }

    /// Starts a thread for the signs of life that are due. The alarm has been checked before.
    fn give_sign(self: &Arc<Self>, site: &Site, now: Now) {
        let Some(due) = heartbeat::due(&self.services, site, now) else { return };
        let daemon = Arc::clone(self);
        let started = sys::thread::start("heartbeat", move || {
            heartbeat::beat(&daemon.services, &daemon.forwarder.egress, &daemon.site(), due);
        });
        if let Err(error) = started {
            drop(self.services.pulse.working());
            trouble("giving a sign of life", &error);
        }
    }

    /// Opens the control socket. If that fails, mail goes on, and only the commands of operators have no daemon to talk
    /// to.
    pub fn open_control(&self) {
        let opened = Control::bind(&self.site().settings.control, SOCKET_TIMEOUTS).map(Arc::new);
        let started = opened.and_then(|control| control.start(&self.services).map(|()| control));
        match started {
            Ok(control) => drop(self.control.set(control)),
            Err(error) => {
                trouble("opening the control socket", &error);
            }
        }
    }

    /// Changes the configuration: open connections and current attempts keep theirs, queued mail takes the new routes.
    /// Returns whether the delivery agent, if there is one, has the new one, too.
    pub fn reload(&self, site: Site) -> bool {
        let new = Arc::new(site);
        if new.listens_on != self.site().listens_on {
            log::warn!(target: "pillarbox", "event=notice text=\"listener addresses change only with a restart\"");
        }
        self.intake.queue.set_memory_max(memory_max(&new));
        *self.site.lock() = new;
        self.prepare_certificate();
        let is_whole = self.intake.maildirs.reload();
        self.services.manager.reload();
        is_whole
    }

    /// Makes all queued mail due now.
    pub fn flush(&self) {
        self.services.manager.index.flush(self.intake.clock.now().running);
    }

    /// Takes the mail that lies in the drop directory, in this thread.
    pub fn take_drops(&self) {
        self.maildrop.take_all(&self.intake, &self.site());
    }

    /// Saves the state for the next process. The running time is saved only when it is due, unless `in_any_case`.
    pub fn save(&self, in_any_case: bool) {
        if in_any_case {
            self.intake.clock.save();
        } else {
            self.intake.clock.save_if_due(|| false);
        }
        self.intake.counters.save(self.intake.clock.now(), true);
        self.intake.counters.note_hour(self.intake.clock.now(), self.waiting(), true);
        self.intake.digests.save(&self.site().settings.state, self.intake.clock.now());
    }

    /// Stops the daemon. See the module for the order.
    pub fn stop(&self, listeners: &[Arc<Listener>]) {
        Event::Notice("stopping").log();
        // The control socket, clients and workers share one deadline.
        let deadline = Deadline::after(STOP_PATIENCE);
        if let Some(control) = self.control.get() {
            control.close();
        }
        self.services.manager.index.stop();
        let slots = &self.inbound.slots;
        slots.begin_stop();
        listeners.iter().for_each(|listener| listener::wake(listener));
        self.maildrop.stop();
        // Not at the end only: a worker may need all of the time.
        self.services.manager.leave_memory(deadline);
        slots.stop(deadline.remaining());
        self.services.manager.index.wait_for_workers(deadline.remaining());
        self.maildrop.wait(deadline.remaining());
        self.services.manager.leave_memory(Deadline::after(deadline.remaining().max(LAST_SAVES)));
        self.services.alarm.stop();
        self.services.manager.sync_removals();
        self.save(true);
        Event::Notice("stopped").log();
    }
}
