//! `pillarbox serve`: the daemon, in the foreground.

use super::check;
use super::exit::{self, Failure};
use crate::config::{LogTarget, Settings, host, load};
use crate::engine::capacity::Capacity;
use crate::engine::daemon::Daemon;
use crate::engine::event::Event;
use crate::engine::listener;
use crate::engine::logger::{Logger, Target};
use crate::engine::site::Site;
use crate::engine::tls::{Blame, Tls};
use crate::mail::date::WallTime;
use crate::store::durable::Owner;
use crate::store::queue::Queue;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::signals::{Signal, Signals};
use crate::sys::{memory, user};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// It could not begin.
pub fn run(config: &Path) -> Result<(), Failure> {
    let mut settings = load(config).map_err(|problems| Failure::problems(&problems))?;
    memory::limit_arenas();
    start_logging(&settings);
    let capacity = Capacity::measure();
    capacity.fit(&mut settings);
    // What the settings name may be mended while the daemon runs, and need not stop it: a box that only sends alerts
    // has no use for the Maildirs that it can't write. What it can't do without fails below, in its own words.
    for problem in check::problems(config, &check::own_account(), &check::look_up) {
        log::warn!(target: "pillarbox", "event=notice text={:?}", problem.to_string());
    }
    // Handlers first: a signal that comes while the daemon starts must not kill it half made.
    let mut signals =
        Signals::register().map_err(|error| Failure::new(exit::OS_ERROR, format!("signals: {error}")))?;
    let hostname = host::name(settings.hostname.as_ref());
    let listeners = bind(&settings)?;
    let queue = open_state(&settings)?;
    // As `user`, who must be able to read the key again at SIGHUP.
    let tls = Tls::load(&settings, &hostname, now());
    let tls = tls.map_err(|blame| Failure::new(exit::CONFIG, blame_text(&blame)))?;
    let daemon = Arc::new(Daemon::new(Site::new(settings, hostname, tls), queue));
    let started = daemon.start(&listeners);
    started.map_err(|error| Failure::new(exit::TEMPORARY, format!("no thread can be started: {error}")))?;
    Event::Notice("ready").log();
    loop {
        match signals.wait() {
            Signal::Stop => break daemon.stop(&listeners),
            Signal::Flush => daemon.flush(),
            Signal::Reload => reload(&daemon, config, capacity),
        }
    }
    Ok(())
}

fn start_logging(settings: &Settings) {
    let target = match settings.log.target {
        LogTarget::Stderr => Target::Stderr,
        LogTarget::Syslog => Target::Syslog,
    };
    Logger::new(target, settings.log.level.0).install();
}

fn bind(settings: &Settings) -> Result<Vec<Arc<TcpListener>>, Failure> {
    let addresses = settings.listeners.iter().flat_map(|listener| &listener.address);
    let mut listeners = Vec::new();
    for &address in addresses {
        match listener::bind(address) {
            Ok(listener) => listeners.push(Arc::new(listener)),
            // Many small systems have no IPv6; the default listens on both loopbacks.
            Err(error) if address.is_ipv6() && address.ip().is_loopback() => {
                log::warn!(target: "pillarbox", "event=notice text={error:?}");
            }
            Err(error) => return Err(Failure::new(exit::UNAVAILABLE, error)),
        }
    }
    if listeners.is_empty() {
        return Err(Failure::new(
            exit::UNAVAILABLE,
            "there is no address to listen on; see [[listener]]".into(),
        ));
    }
    Ok(listeners)
}

/// Opens the queue, gives up root's rights, and makes sure that nobody else serves this queue.
fn open_state(settings: &Settings) -> Result<Queue, Failure> {
    let state = &settings.state;
    let store = |error: crate::store::StoreError| Failure::new(exit::CANT_CREATE, error.to_string());
    let account = if user::is_root() { find_user(settings)? } else { None };
    let owner = account.as_ref().map(|account| Owner { uid: account.uid, gid: account.gid });
    let queue = Queue::open(state, owner).map_err(store)?;
    match &account {
        Some(account) if account.uid != 0 => {
            let failed =
                |error| Failure::new(exit::OS_ERROR, format!("can't become {}: {error}", account.name));
            user::become_user(account).map_err(failed)?;
        }
        Some(_) => {
            log::warn!(target: "pillarbox", "event=notice text=\"running as root; set user to another one\"")
        }
        None => {}
    }
    if !queue.lock_for_serving().map_err(store)? {
        let text = format!("another pillarbox serves {}; stop it, or set another state", state.display());
        return Err(Failure::new(exit::TEMPORARY, text));
    }
    let swept = queue.sweep().map_err(store)?;
    if swept > 0 {
        log::info!(target: "pillarbox", "event=notice text=\"removed {swept} files that a crash left half written\"");
    }
    Ok(queue)
}

fn find_user(settings: &Settings) -> Result<Option<user::Account>, Failure> {
    let name = &settings.user;
    match user::find(name) {
        Ok(Some(account)) => Ok(Some(account)),
        Ok(None) => {
            let make = format!("useradd --system --user-group --no-create-home {name}");
            let text = format!("user {name:?} does not exist; make it ({make}), or set user to another one");
            Err(Failure::new(exit::CONFIG, text))
        }
        Err(error) => {
            Err(Failure::new(exit::TEMPORARY, format!("user {name:?} can't be looked up: {error}")))
        }
    }
}

fn reload(daemon: &Daemon, config: &Path, capacity: Capacity) {
    match load(config) {
        Ok(mut settings) => {
            capacity.fit(&mut settings);
            let hostname = match &settings.hostname {
                Some(hostname) => hostname.clone(),
                // The system's name is asked once: asking again could wait for DNS.
                None => daemon.site().hostname.clone(),
            };
            match Tls::load(&settings, &hostname, now()) {
                Ok(tls) => {
                    daemon.reload(Site::new(settings, hostname, tls));
                    Event::Notice("configuration read again").log();
                }
                Err(blame) => stays(&blame_text(&blame)),
            }
        }
        Err(problems) => {
            for problem in problems {
                stays(&problem.to_string());
            }
        }
    }
}

fn stays(error: &str) {
    Event::Trouble { doing: "reading the configuration again; the old one stays", error }.log();
}

fn now() -> WallTime {
    WallTime(SystemClock.wall_micros())
}

fn blame_text((key, text): &Blame) -> String {
    format!("tls.{key}: {text}")
}
