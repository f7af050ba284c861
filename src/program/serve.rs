//! `pillarbox serve`: the daemon, in the foreground.
//!
//! The start is a fixed sequence, in which each step needs what the one before still had:
//!
//! 1. inherited sockets and the supervisor, from the environment, while no other thread can read it;
//! 2. the configuration, read once, and a look at the names, owners and modes of the files that it names;
//! 3. the delivery agent, which must not inherit sockets;
//! 4. signal handlers, then listening sockets, which may need root for ports below 1024;
//! 5. queue and drop directory, then the rights of `user` ([`super::privileges`]);
//! 6. the command process, as `user`, and without the queue's lock and the keys;
//! 7. Landlock and the filter of system calls ([`super::confinement`]): the rest of the start is done within them;
//! 8. aliases and all other files that the configuration names, read as `user`, and their problems as warnings; then keys and
//!    certificates, which `user` must be able to read again at SIGHUP;
//! 9. threads, the control socket, and "ready" to the supervisor.
//!
//! Then the main thread waits for signals: stop, flush, or reload, and does nothing that could hang. A reload reads the
//! file once more; if it has a mistake, the old configuration stays and the mistake is logged. `state` and the listeners
//! stay as they are. The delivery agent reads the file itself, since it must not depend on a process that talks to the
//! network.
//!
//! | after a change of | a reload |
//! | --- | --- |
//! | `state`, `queue.memory` | keeps the old one, with a warning: the queue is open there |
//! | `queue.storage` to "memory-first" | keeps "disk", with a warning: only root can make the directory |
//! | `listener.address` | keeps the old sockets, with a warning |
//! | `user`, `control`, `log` | has no effect before a restart |
//! | `local.users` to "system" | is refused if no agent was started: nothing could write into those Maildirs |
//! | `relay.password_command`, `alarm.command` from empty | is refused if both were: no process was started that runs commands |
//! | a path or a port | is refused if it is outside what the daemon has confined itself to; see [`super::confinement`] |
//! | `hostname` to empty | keeps the present name, since a look-up could wait for DNS |
//! | other keys, certificates and private keys | takes effect for new connections and attempts |

use super::confinement::Confinement;
use super::exit::{self, CommandFailure};
use super::findings::contents::look;
use super::memory_queue;
use super::privileges;
use crate::config::{LogTarget, Places, Settings, host, load, load_with_places};
use crate::engine::control::socket as control;
use crate::engine::daemon::Daemon;
use crate::engine::host::certificate::{self, Tls};
use crate::engine::host::commands;
use crate::engine::host::dkim_keys;
use crate::engine::host::mda::{self, DeliveryAgent};
use crate::engine::host::site::Site;
use crate::engine::inbound::capacity::Capacity;
use crate::engine::inbound::listener::{self, Listener};
use crate::engine::log::event::{Event, trouble};
use crate::engine::log::logger::{Logger, tell_syslog};
use crate::mail::address::Domain;
use crate::mail::date::WallTime;
use crate::store::drop::DropDirectory;
use crate::store::durable::Owner;
use crate::store::queue::Queue;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::{Lock, wait_while};
use crate::sys::notify::Supervisor;
use crate::sys::signals::{Signal, Signals, Stopper};
use crate::sys::sockets::{self, Inherited};
use crate::sys::user::{ProcessUser, SystemUser};
use crate::sys::{memory, rights, thread};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// A step of the start failed.
pub fn run(config: &Path) -> Result<(), CommandFailure> {
    let inherited = sockets::inherited();
    let supervisor = Supervisor::from_environment();
    let loaded = load_with_places(config).map_err(|problems| CommandFailure::problems(&problems));
    let log = loaded.as_ref().map_or(LogTarget::Stderr, |(settings, _)| settings.log.target);
    let served = loaded.and_then(|loaded| serve(config, loaded, inherited, supervisor));
    served.inspect_err(|failure| tell_syslog(log, &failure.lines))
}

fn serve(
    config: &Path,
    (mut settings, places): (Settings, Places),
    inherited: Result<Vec<Inherited>, String>,
    supervisor: Supervisor,
) -> Result<(), CommandFailure> {
    memory::limit_arenas();
    Logger::new(settings.log.target, settings.log.level.0).install();
    let capacity = Capacity::measure();
    capacity.fit(&mut settings);
    let seen = look(config, &settings, &places, &ProcessUser::own(), &ProcessUser::find);
    let account = privileges::account(&settings)?;
    // Before the sockets, which the agent must not inherit.
    let agent = privileges::start_agent(config, &settings, account.as_ref())?;
    // A reload can't start it: root's rights are gone by then.
    let lacks_agent = agent.is_none() && account.as_ref().is_some_and(|account| account.uid != 0);
    // A stop during the start ends the process at once: each step may hang, and leaves no more behind than a crash would.
    let mut signals = Signals::register(true)
        .map_err(|error| CommandFailure::new(exit::OS_ERROR, format!("signals: {error}")))?;
    let inherited = inherited.map_err(|error| CommandFailure::new(exit::UNAVAILABLE, error))?;
    let listeners = if inherited.is_empty() { bind(&settings)? } else { take_over(inherited)? };
    // Capabilities belong to threads: no thread was started before this.
    let (queue, drops) = open_state(&settings, account.as_ref())?;
    let commands = privileges::start_commands(config, &settings)?;
    let confinement = Confinement::begin(config, &settings, agent.is_some());
    // Only warnings: the operator may repair a file while the daemon runs, and a box that only sends alerts does not need the
    // Maildirs that it can't write to. Files that the daemon can't do without fail below.
    for problem in seen.read().problems {
        log::warn!(target: "pillarbox", "event=notice text={:?}", problem.to_string());
    }
    let hostname = host::name(settings.hostname.as_ref());
    // As `user`, who must be able to read the keys again at SIGHUP.
    let mut site =
        site(settings, hostname, &listeners).map_err(|text| CommandFailure::new(exit::CONFIG, text))?;
    site.commands = commands;
    site.confined = confinement.confined;
    let agent = agent.map(Arc::new);
    agent.as_deref().map_or(Ok(()), |agent| watch(agent, signals.stopper()))?;
    let daemon = Arc::new(Daemon::new(site, queue, drops, agent.clone()));
    let started = daemon.start(&listeners);
    started.map_err(|error| {
        CommandFailure::new(exit::TEMPORARY, format!("no thread can be started: {error}"))
    })?;
    daemon.open_control();
    Event::Notice("ready").log();
    supervisor.ready();
    watch_commands(&daemon, signals.stopper())?;
    let config = config.to_owned();
    let running = Running { daemon, config, listeners, capacity, lacks_agent, confinement, supervisor };
    let running = Arc::new(running);
    attend(&mut signals, &running);
    agent.as_deref().map_or(Ok(()), confirm)?;
    if lacks_commands(&running.daemon.site(), &running.daemon.site().settings) {
        return Err(CommandFailure::new(exit::TEMPORARY, "the process that runs commands has ended".into()));
    }
    Ok(())
}

/// How long the process may last after SIGTERM. The stop has its own deadlines; this one is for what they don't reach, as a
/// sync on a disk that hangs. The state on disk is then that of a crash, which every moment allows for.
const STOP_MAX: Duration = Duration::from_secs(11);

/// What a signal is about.
struct Running {
    daemon: Arc<Daemon>,
    config: PathBuf,
    listeners: Vec<Arc<Listener>>,
    capacity: Capacity,
    /// Root's rights are gone, and no process was left behind that writes for system users.
    lacks_agent: bool,
    confinement: Confinement,
    supervisor: Supervisor,
}

impl Running {
    /// What the settings of a reload need that only a start can give.
    fn lacks(&self, settings: &Settings) -> Option<String> {
        let daemon = &self.daemon;
        match () {
            // Without the agent the daemon's user would own the Maildirs of system users, who could not read their mail.
            () if self.lacks_agent && mda::is_needed(settings) => {
                Some("local.users = \"system\" needs a restart".to_owned())
            }
            () if lacks_commands(&daemon.site(), settings) => {
                let text =
                    "relay.password_command and alarm.command need a restart if there was none of them";
                Some(text.to_owned())
            }
            () => self.confinement.lacks(settings),
        }
    }
}

/// Waits for signals until one stops the daemon. Other threads do the work: this one must hear SIGTERM whatever hangs, a
/// reload, too.
fn attend(signals: &mut Signals, running: &Arc<Running>) {
    let reloads = Arc::new(Lock::new(Reloads::default()));
    loop {
        match signals.wait() {
            Signal::Stop => return stop(running),
            Signal::Flush => running.daemon.flush(),
            Signal::Reload => {
                let mut state = reloads.lock();
                state.is_wanted = true;
                if !std::mem::replace(&mut state.has_thread, true) {
                    drop(state);
                    let (running, reloads) = (Arc::clone(running), Arc::clone(&reloads));
                    in_thread("reload", move || reload_while_wanted(&running, &reloads));
                }
            }
        }
    }
}

/// What is to be reloaded. Signals during a reload lead to one more.
#[derive(Default)]
struct Reloads {
    is_wanted: bool,
    has_thread: bool,
}

fn reload_while_wanted(running: &Running, reloads: &Lock<Reloads>) {
    loop {
        let mut state = reloads.lock();
        if !std::mem::take(&mut state.is_wanted) {
            state.has_thread = false;
            return;
        }
        drop(state);
        running.supervisor.reloading();
        // The panic has been logged by the hook; the next signal reloads again.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| reload(running)));
        running.supervisor.ready();
    }
}

/// Stops the daemon; gives up after [`STOP_MAX`].
fn stop(running: &Arc<Running>) {
    running.supervisor.stopping();
    let end = Arc::new((Lock::new(false), Condvar::new()));
    let (stopping, told) = (Arc::clone(running), Arc::clone(&end));
    in_thread("stop", move || {
        stopping.daemon.stop(&stopping.listeners);
        *told.0.lock() = true;
        told.1.notify_one();
    });
    drop(wait_while(&end.1, end.0.lock(), STOP_MAX, |has_stopped| !*has_stopped));
}

/// Does something in a thread of its own, or here if no thread can be started.
fn in_thread(name: &str, work: impl Fn() + Send + Sync + 'static) {
    let work = Arc::new(work);
    let there = Arc::clone(&work);
    if thread::start_wide(name, move || there()).is_err() {
        work();
    }
}

/// Reports an agent that has ended, for the exit code.
fn confirm(agent: &DeliveryAgent) -> Result<(), CommandFailure> {
    if agent.has_ended() {
        return Err(CommandFailure::new(exit::TEMPORARY, "the delivery agent has ended".into()));
    }
    Ok(())
}

/// Stops this process, as SIGTERM does, when the delivery agent has ended: only root can start one, and the supervisor
/// starts both again.
fn watch(agent: &DeliveryAgent, stopper: Stopper) -> Result<(), CommandFailure> {
    let stop = move || {
        trouble(
            "delivering to system users",
            &"the delivery agent has ended; stopping, to be started again with one",
        );
        stopper.stop(exit::TEMPORARY);
    };
    agent
        .watch(stop)
        .map_err(|error| CommandFailure::new(exit::TEMPORARY, format!("no thread can be started: {error}")))
}

/// Whether the settings have a command, and no process is left that could run it.
fn lacks_commands(site: &Site, settings: &Settings) -> bool {
    commands::are_needed(settings) && site.commands.as_ref().is_none_or(|commands| commands.has_ended())
}

/// Stops this process, as SIGTERM does, when the command process has ended and the settings have a command: without its
/// password the daemon sends nothing.
fn watch_commands(daemon: &Arc<Daemon>, stopper: Stopper) -> Result<(), CommandFailure> {
    let Some(commands) = daemon.site().commands.clone() else { return Ok(()) };
    let daemon = Arc::clone(daemon);
    let watch = move || {
        commands.wait_for_end();
        if commands::are_needed(&daemon.site().settings) {
            trouble(
                "running commands",
                &"the process for it has ended; stopping, to be started again with one",
            );
            stopper.stop(exit::TEMPORARY);
        }
    };
    thread::start("watch", watch)
        .map_err(|error| CommandFailure::new(exit::TEMPORARY, format!("no thread can be started: {error}")))
}

/// The sockets that systemd opened. Their addresses replace those of the settings.
fn take_over(inherited: Vec<Inherited>) -> Result<Vec<Arc<Listener>>, CommandFailure> {
    let take = |Inherited { socket, name }| {
        let address = socket.local_addr().map_or_else(|error| error.to_string(), |found| found.to_string());
        Event::Notice(&format!("listening on {address} (inherited socket)")).log();
        Listener::inherited(socket, name).map(Arc::new)
    };
    let listeners: std::io::Result<_> = inherited.into_iter().map(take).collect();
    listeners.map_err(|error| CommandFailure::new(exit::OS_ERROR, format!("inherited sockets: {error}")))
}

/// Opens the sockets of the settings. One that can't be opened ends the start, except IPv6 on loopback.
fn bind(settings: &Settings) -> Result<Vec<Arc<Listener>>, CommandFailure> {
    let addresses = settings.listeners.iter().flat_map(|listener| &listener.address);
    let mut listeners = Vec::new();
    for &address in addresses {
        match listener::bind(address) {
            Ok(socket) => listeners.push(Arc::new(Listener::opened(socket))),
            // Many small systems have no IPv6, and the default listens on both loopback addresses.
            Err(error) if address.is_ipv6() && address.ip().is_loopback() => {
                log::warn!(target: "pillarbox", "event=notice text={error:?}");
            }
            Err(error) => return Err(CommandFailure::new(exit::UNAVAILABLE, error)),
        }
    }
    if listeners.is_empty() {
        return Err(CommandFailure::new(
            exit::UNAVAILABLE,
            "there is no address to listen on; see [[listener]]".into(),
        ));
    }
    Ok(listeners)
}

/// Opens queue and drop directory, gives up all rights that are not needed any more, and locks the queue against a second
/// daemon.
fn open_state(
    settings: &Settings,
    account: Option<&SystemUser>,
) -> Result<(Queue, DropDirectory), CommandFailure> {
    let state = &settings.state;
    let store = |error: crate::store::StoreError| CommandFailure::new(exit::CANT_CREATE, error.to_string());
    let (mut queue, drops) = privileges::open_state(settings, account).map_err(store)?;
    let owner = account.map(|account| Owner { uid: account.uid, gid: account.gid });
    if let Err(error) = control::make_directory(&settings.control, owner) {
        trouble("making the directory of the control socket", &error);
    }
    memory_queue::open(settings, owner, &mut queue);
    match account {
        Some(root) if root.uid == 0 => {
            log::warn!(target: "pillarbox", "event=notice text=\"running as root; set user to another one\"");
        }
        Some(_) => {}
        // A service manager may have given some to a user other than root.
        None => rights::drop_capabilities().map_err(|error| {
            CommandFailure::new(exit::OS_ERROR, format!("can't give up capabilities: {error}"))
        })?,
    }
    privileges::give_up(account)?;
    if !queue.lock_for_serving().map_err(store)? {
        let text = format!("another pillarbox serves {}; stop it, or set another state", state.display());
        return Err(CommandFailure::new(exit::TEMPORARY, text));
    }
    let swept = queue.sweep(None).map_err(store)?;
    if swept > 0 {
        log::info!(target: "pillarbox", "event=notice text=\"removed {swept} files that a crash left half written\"");
    }
    Ok((queue, drops))
}

/// The host as configured, with its keys read. The addresses of `listeners` are added, since inherited sockets are not in the
/// configuration.
fn site(settings: Settings, hostname: Domain, listeners: &[Arc<Listener>]) -> Result<Site, String> {
    let now = WallTime(SystemClock.wall_micros());
    let tls = Tls::load(&settings, &hostname, now).map_err(|(key, text)| format!("tls.{key}: {text}"))?;
    let dkim = dkim_keys::load(&settings).map_err(|(_, text)| format!("dkim.key: {text}"))?;
    let mut site = Site::new(settings, hostname, Some(tls));
    site.dkim = dkim;
    site.listens_on.extend(listeners.iter().filter_map(|listener| listener.address));
    Ok(site)
}

/// Reads the configuration again, and hands it to the daemon unless something is wrong with it. Connections and attempts
/// under way keep the old one.
fn reload(running: &Running) {
    let Running { daemon, config, listeners, capacity, .. } = running;
    match load(config) {
        Ok(mut settings) => {
            if let Some(what) = running.lacks(&settings).or_else(|| bad_secret(&settings, &daemon.site())) {
                return stays(&what);
            }
            capacity.fit(&mut settings);
            // The queue is open there, and the self-signed certificate lies beside it.
            let running = daemon.site();
            if settings.state != running.settings.state {
                log::warn!(target: "pillarbox", "event=notice text=\"state changes only with a restart\"");
                settings.state.clone_from(&running.settings.state);
            }
            let hostname = match &settings.hostname {
                Some(hostname) => hostname.clone(),
                // Looked up once only: a second look-up could wait for DNS.
                None => running.hostname.clone(),
            };
            memory_queue::keep(&mut settings, &running.settings);
            match site(settings, hostname, listeners) {
                Ok(mut site) => {
                    site.commands.clone_from(&running.commands);
                    site.confined = running.confined;
                    if let Some(commands) = &site.commands {
                        commands.reload();
                    }
                    if daemon.reload(site) {
                        Event::Notice("configuration read again").log();
                    } else {
                        let text = "the daemon has the new one, the delivery agent the old one; reload again, or restart";
                        trouble("reading the configuration again", &text);
                    }
                }
                Err(text) => stays(&text),
            }
        }
        Err(problems) => {
            for problem in problems {
                stays(&problem.to_string());
            }
        }
    }
}

/// The first key that can't be used in place of one that is. A start goes on without it; a reload keeps what it has.
fn bad_secret(settings: &Settings, running: &Site) -> Option<String> {
    if matches!(running.tls, Some(Tls::Configured(..)))
        && let Err((key, fault)) = certificate::configured(settings, WallTime(SystemClock.wall_micros()))
    {
        return Some(format!("tls.{key}: {}", fault.text));
    }
    let fault = settings.dkim.iter().find_map(|dkim| dkim_keys::read(dkim).err())?;
    (!running.dkim.is_empty()).then(|| format!("dkim.key: {}", fault.text))
}

/// Logs why the old configuration stays.
fn stays(error: &str) {
    trouble("reading the configuration again; the old one stays", &error);
}
