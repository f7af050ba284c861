//! `pillarbox serve`: the daemon, in the foreground.
//!
//! The start is a fixed sequence, in which each step needs what the one before still had:
//!
//! 1. inherited sockets and the supervisor, from the environment, while no other thread can read it;
//! 2. the configuration, read once, and its problems as warnings;
//! 3. the delivery agent, which must not inherit sockets;
//! 4. signal handlers, then listening sockets, which may need root for ports below 1024;
//! 5. queue and drop directory, then the rights of `user` ([`super::privileges`]);
//! 6. keys and certificates, read as `user`, who must be able to read them again at SIGHUP;
//! 7. threads, the control socket, and "ready" to the supervisor.
//!
//! Then the main thread waits for signals: stop, flush, or reload. A reload reads the file once more; if it has a mistake,
//! the old configuration stays and the mistake is logged. `state` and the listeners stay as they are. The delivery agent reads the file
//! itself, since it must not depend on a process that talks to the network.
//!
//! | after a change of | a reload |
//! | --- | --- |
//! | `state` | keeps the old one, with a warning: the queue is open there |
//! | `listener.address` | keeps the old sockets, with a warning |
//! | `user`, `control`, `log` | has no effect before a restart |
//! | `local.users` to "system" | is refused if no agent was started: nothing could write into those Maildirs |
//! | `hostname` to empty | keeps the present name, since a look-up could wait for DNS |
//! | other keys, certificates and private keys | takes effect for new connections and attempts |

use super::exit::{self, CommandFailure};
use super::findings::contents::examine_files;
use super::privileges;
use crate::config::{Settings, host, load, load_with_places};
use crate::engine::control::socket as control;
use crate::engine::daemon::Daemon;
use crate::engine::host::certificate::Tls;
use crate::engine::host::dkim_keys;
use crate::engine::host::mda::{self, DeliveryAgent};
use crate::engine::host::site::Site;
use crate::engine::inbound::capacity::Capacity;
use crate::engine::inbound::listener::{self, Listener};
use crate::engine::log::event::{Event, trouble};
use crate::engine::log::logger::Logger;
use crate::mail::address::Domain;
use crate::mail::date::WallTime;
use crate::store::drop::DropDirectory;
use crate::store::durable::Owner;
use crate::store::queue::Queue;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::notify::Supervisor;
use crate::sys::signals::{self, Signal, Signals};
use crate::sys::sockets::{self, Inherited};
use crate::sys::user::{ProcessUser, SystemUser};
use crate::sys::{memory, rights};
use std::path::Path;
use std::sync::Arc;

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// A step of the start failed.
pub fn run(config: &Path) -> Result<(), CommandFailure> {
    let inherited = sockets::inherited();
    let supervisor = Supervisor::from_environment();
    let (mut settings, places) =
        load_with_places(config).map_err(|problems| CommandFailure::problems(&problems))?;
    memory::limit_arenas();
    Logger::new(settings.log.target, settings.log.level.0).install();
    let capacity = Capacity::measure();
    capacity.fit(&mut settings);
    // Only warnings: the operator may repair a file while the daemon runs, and a box that only sends alerts does not need the
    // Maildirs that it can't write to. Files that the daemon can't do without fail below.
    let found = examine_files(config, &settings, &places, &ProcessUser::own(), &ProcessUser::find);
    for problem in found.problems {
        log::warn!(target: "pillarbox", "event=notice text={:?}", problem.to_string());
    }
    let account = privileges::account(&settings)?;
    // Before the sockets, which the agent must not inherit.
    let agent = privileges::start_agent(config, &settings, account.as_ref())?;
    // A reload can't start it: root's rights are gone by then.
    let lacks_agent = agent.is_none() && account.as_ref().is_some_and(|account| account.uid != 0);
    // Before anything that a signal during the start could leave half done.
    let mut signals = Signals::register()
        .map_err(|error| CommandFailure::new(exit::OS_ERROR, format!("signals: {error}")))?;
    let inherited = inherited.map_err(|error| CommandFailure::new(exit::UNAVAILABLE, error))?;
    let listeners = if inherited.is_empty() { bind(&settings)? } else { take_over(inherited)? };
    // Capabilities belong to threads: no thread was started before this.
    let (queue, drops) = open_state(&settings, account.as_ref())?;
    let hostname = host::name(settings.hostname.as_ref());
    // As `user`, who must be able to read the keys again at SIGHUP.
    let site =
        site(settings, hostname, &listeners).map_err(|text| CommandFailure::new(exit::CONFIG, text))?;
    let agent = agent.map(Arc::new);
    agent.as_deref().map_or(Ok(()), watch)?;
    let daemon = Arc::new(Daemon::new(site, queue, drops, agent.clone()));
    let started = daemon.start(&listeners);
    started.map_err(|error| {
        CommandFailure::new(exit::TEMPORARY, format!("no thread can be started: {error}"))
    })?;
    daemon.open_control();
    Event::Notice("ready").log();
    supervisor.ready();
    loop {
        match signals.wait() {
            Signal::Stop => {
                supervisor.stopping();
                break daemon.stop(&listeners);
            }
            Signal::Flush => daemon.flush(),
            Signal::Reload => {
                supervisor.reloading();
                reload(&daemon, config, &listeners, capacity, lacks_agent);
                supervisor.ready();
            }
        }
    }
    agent.as_deref().map_or(Ok(()), confirm)
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
fn watch(agent: &DeliveryAgent) -> Result<(), CommandFailure> {
    let stop = || {
        trouble(
            "delivering to system users",
            &"the delivery agent has ended; stopping, to be started again with one",
        );
        signals::stop_this_process();
    };
    agent
        .watch(stop)
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
    let (queue, drops) = privileges::open_state(settings, account).map_err(store)?;
    let owner = account.map(|account| Owner { uid: account.uid, gid: account.gid });
    if let Err(error) = control::make_directory(&settings.control, owner) {
        trouble("making the directory of the control socket", &error);
    }
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
    let mut site = Site::new(settings, hostname, tls);
    site.dkim = dkim;
    site.listens_on.extend(listeners.iter().filter_map(|listener| listener.address()));
    Ok(site)
}

/// Reads the configuration again, and hands it to the daemon unless something is wrong with it. Connections and attempts
/// under way keep the old one.
fn reload(
    daemon: &Daemon,
    config: &Path,
    listeners: &[Arc<Listener>],
    capacity: Capacity,
    lacks_agent: bool,
) {
    match load(config) {
        // Without the agent the daemon's user would own the Maildirs of system users, who could not read their mail.
        Ok(settings) if lacks_agent && mda::is_needed(&settings) => {
            stays("local.users = \"system\" needs a restart");
        }
        Ok(mut settings) => {
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
                None => daemon.site().hostname.clone(),
            };
            match site(settings, hostname, listeners) {
                Ok(site) => {
                    daemon.reload(site);
                    Event::Notice("configuration read again").log();
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

/// Logs why the old configuration stays.
fn stays(error: &str) {
    trouble("reading the configuration again; the old one stays", &error);
}
