//! `pillarbox queue …`: lists and changes what is queued.
//!
//! The daemon does it, asked on its control socket. Where none runs, the command opens the queue itself: started as root
//! it first becomes `user`, so that no file is root's afterwards. The locks of the queue's files keep commands, and a
//! daemon that starts meanwhile, out of each other's way.

use super::exit::{self, Failure};
use super::privileges;
use super::remote::client::{Asked, ask, finish};
use super::remote::screen::Screen;
use crate::config::{LogTarget, Settings, host, load};
use crate::engine::control::operator::{self, Asker};
use crate::engine::daemon::Daemon;
use crate::engine::host::site::Site;
use crate::engine::log::logger::Logger;
use crate::protocol::request::{BadRequest, Request};
use crate::protocol::rights::PeerRights;
use crate::store::StoreError;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

/// Does what the operands say.
///
/// # Errors
/// They say nothing; neither daemon nor queue can be reached; a message is not there or can't be changed.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), Failure> {
    let words: Option<Vec<&str>> = operands.iter().map(|word| word.to_str()).collect();
    let words = words.ok_or_else(|| Failure::new(exit::USAGE, "queue: an argument is not UTF-8".into()))?;
    let task = match words.as_slice() {
        ["run"] => Task::Run { all: false },
        ["run", "--all"] | ["--all", "run"] => Task::Run { all: true },
        words => {
            let words: Vec<&str> = std::iter::once("queue").chain(words.iter().copied()).collect();
            let request = Request::parse(&words);
            Task::Ask(
                request.map_err(|BadRequest { code, text }| Failure::new(code, format!("queue: {text}")))?,
            )
        }
    };
    let settings = load(config).map_err(|problems| Failure::problems(&problems))?;
    let mut screen = Screen::new();
    // A daemon tries by itself what is due, and at once what is flushed.
    let question = match &task {
        Task::Ask(request) => request.clone(),
        Task::Run { .. } => Request::Flush(Vec::new()),
    };
    if let Task::Run { all: false } = task
        && std::os::unix::net::UnixStream::connect(&settings.control).is_ok()
    {
        return Ok(());
    }
    match ask(&settings.control, &question, &mut screen)? {
        Asked::Answered(code) => finish(code),
        Asked::NoDaemon(why) => alone(config, settings, &task, &mut screen, &why),
    }
}

/// What is to be done.
enum Task {
    Ask(Request),
    /// One pass over what is due, or over all.
    Run {
        all: bool,
    },
}

/// Does it without a daemon.
fn alone(
    config: &Path,
    settings: Settings,
    task: &Task,
    screen: &mut Screen,
    no_daemon: &str,
) -> Result<(), Failure> {
    let agent = privileges::enter(config, &settings, true)?;
    // Cron mails what is printed, and that would be mail about mail, each time anew: only trouble is worth it.
    let quiet = settings.log.target == LogTarget::Stderr && !(io::stderr().is_terminal() && task.is_run());
    let level = if quiet { log::LevelFilter::Error } else { settings.log.level.0 };
    Logger::new(settings.log.target, level).install();
    let (queue, drops) =
        privileges::open_state(&settings, None).map_err(|error| unopened(&error, no_daemon))?;
    let hostname = host::name(settings.hostname.as_ref());
    let daemon = Daemon::new(Site::new(settings, hostname, None), queue, drops, agent.map(Arc::new));
    let forwarder = &daemon.forwarder;
    forwarder.load();
    let (request, passes) = match task {
        Task::Run { all: false } => (None, true),
        Task::Run { all: true } => (Some(Request::Flush(Vec::new())), true),
        Task::Ask(request) => (Some(request.clone()), matches!(request, Request::Flush(_))),
    };
    if passes {
        daemon.take_drops();
    }
    let asker = Asker { rights: PeerRights::All, uid: rustix::process::getuid().as_raw() };
    let answered =
        request.map_or(Ok(exit::OK), |request| operator::answer(forwarder, asker, &request, screen));
    let code = answered.map_err(|error| Failure::new(exit::IO, format!("queue: {error}")))?;
    if passes {
        forwarder.pass();
        daemon.save(false);
    }
    finish(code)
}

impl Task {
    const fn is_run(&self) -> bool {
        matches!(self, Self::Run { .. })
    }
}

fn unopened(error: &StoreError, no_daemon: &str) -> Failure {
    let denied = error.source.kind() == io::ErrorKind::PermissionDenied;
    let code = if denied { exit::NO_PERMISSION } else { exit::TEMPORARY };
    let mut failure = Failure::new(code, format!("queue: no daemon answers: {no_daemon}"));
    failure.lines.push(format!("pillarbox: queue: and the queue can't be opened: {error}"));
    failure
}
