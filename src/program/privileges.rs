//! Whose rights a command runs with, and the steps from root to the user of the configuration.
//!
//! Started as root, every command that touches `state` becomes `user` first, so that no file there belongs to root
//! afterwards and no peer ever talks to a process with root's rights. The order is fixed:
//!
//! | step | function | why here |
//! | --- | --- | --- |
//! | find the account | [`account`] | a missing user ends the command before anything has changed |
//! | make `state` | [`open_state`] | only root may make directories below /var and give them away |
//! | start the delivery agent | [`start_agent`] | it keeps the right to act as any user, so it starts from a root process |
//! | become the user | [`give_up`] | for good: groups, uid, capabilities |
//! | start the command process | [`start_commands`] | it runs commands as the user, from a process without threads and secrets |
//! | restrain | [`give_up`] | no program that runs later gains rights; new files are for their owner only; no process of the same user reads this one's memory, and no core dump holds it |
//!
//! `serve` binds its sockets between the agent and the change of user; the other commands take all steps at once by
//! [`enter`]. All of this happens before the first thread, since capabilities belong to threads. Started as another user,
//! nothing is looked up and nothing is given away: only the last step is taken.

use super::exit::{self, CommandFailure};
use crate::config::Settings;
use crate::engine::host::commands::Commands;
use crate::engine::host::mda::DeliveryAgent;
use crate::store::StoreError;
use crate::store::drop::DropDirectory;
use crate::store::durable::Owner;
use crate::store::queue::Queue;
use crate::sys::user::SystemUser;
use crate::sys::{rights, user};
use std::path::Path;
use std::sync::Arc;

/// The account that this process becomes. `None`: it was not started as root, and stays what it is.
///
/// # Errors
/// The configured user does not exist (78), or the user database does not answer (75).
pub fn account(settings: &Settings) -> Result<Option<SystemUser>, CommandFailure> {
    if !user::is_root() {
        return Ok(None);
    }
    let name = &settings.user;
    match user::find(name) {
        Ok(Some(account)) => Ok(Some(account)),
        Ok(None) => {
            let make = format!("useradd --system --user-group --no-create-home {name}");
            let text = format!("user {name:?} does not exist; make it ({make}), or set user to another one");
            Err(CommandFailure::new(exit::CONFIG, text))
        }
        Err(error) => {
            Err(CommandFailure::new(exit::TEMPORARY, format!("user {name:?} can't be looked up: {error}")))
        }
    }
}

/// Opens queue and drop directory. Root makes what is missing and gives it to `account`. Messages that a daemon has left in
/// memory belong to the queue.
///
/// # Errors
/// A directory can't be made or opened.
pub fn open_state(
    settings: &Settings,
    account: Option<&SystemUser>,
) -> Result<(Queue, DropDirectory), StoreError> {
    let owner = account.map(|account| Owner { uid: account.uid, gid: account.gid });
    Ok((open_queue(settings, owner)?, DropDirectory::open(&settings.state, owner)?))
}

/// Opens the queue, with what lies in memory; see [`open_state`].
///
/// # Errors
/// A directory can't be made or opened.
pub fn open_queue(settings: &Settings, owner: Option<Owner>) -> Result<Queue, StoreError> {
    let mut queue = Queue::open(&settings.state, owner)?;
    queue.look_into(&settings.queue.memory, owner)?;
    Ok(queue)
}

/// Starts the process that writes for system users, where `account` leaves it something to do.
///
/// # Errors
/// The system has no room for another process.
pub fn start_agent(
    config: &Path,
    settings: &Settings,
    account: Option<&SystemUser>,
) -> Result<Option<DeliveryAgent>, CommandFailure> {
    DeliveryAgent::start(config, settings, account).map_err(|error| {
        CommandFailure::new(exit::OS_ERROR, format!("can't start the delivery agent: {error}"))
    })
}

/// Starts the process that runs commands, where the configuration has one.
///
/// # Errors
/// The system has no room for another process.
pub fn start_commands(config: &Path, settings: &Settings) -> Result<Option<Arc<Commands>>, CommandFailure> {
    let started = Commands::start(config, settings).map_err(|error| {
        CommandFailure::new(exit::OS_ERROR, format!("can't start the process that runs commands: {error}"))
    })?;
    Ok(started.map(Arc::new))
}

/// Becomes `account`, unless that is root, and gives up what no command needs afterwards.
///
/// # Errors
/// The kernel refuses a step; the process must not go on.
pub fn give_up(account: Option<&SystemUser>) -> Result<(), CommandFailure> {
    let failed = |what: &str, error| CommandFailure::new(exit::OS_ERROR, format!("can't {what}: {error}"));
    if let Some(account) = account.filter(|account| account.uid != 0) {
        user::become_user(account).map_err(|error| failed(&format!("become {}", account.name), error))?;
    }
    // After the last change of user, which would open the memory again.
    rights::close_memory().map_err(|error| failed("close the memory", error))?;
    rights::restrain().map_err(|error| failed("give up new rights", error))
}

/// Becomes the configured user, for `check`: whether files may be opened now.
#[must_use]
pub fn become_user(settings: &Settings) -> bool {
    account(settings).and_then(|account| give_up(account.as_ref())).is_ok()
}

/// All steps at once, for commands that do the daemon's work themselves. `makes_state`: where no daemon has ever run, root
/// makes the directories of the queue for their user.
///
/// # Errors
/// Those of the steps; 73 if a directory can't be made.
pub fn enter(
    config: &Path,
    settings: &Settings,
    makes_state: bool,
) -> Result<(Option<DeliveryAgent>, Option<Arc<Commands>>), CommandFailure> {
    let account = account(settings)?;
    let other = account.as_ref().filter(|account| account.uid != 0);
    if makes_state && other.is_some() && !settings.state.exists() {
        open_state(settings, other)
            .map_err(|error| CommandFailure::new(exit::CANT_CREATE, error.to_string()))?;
    }
    let agent = start_agent(config, settings, other)?;
    give_up(other)?;
    Ok((agent, start_commands(config, settings)?))
}
