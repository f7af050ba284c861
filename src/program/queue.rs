//! `pillarbox queue …`: lists and changes what is queued. This is the client; the requests themselves are carried out in
//! `engine::control::requests`.
//!
//! The daemon does it, asked on its control socket. If no daemon runs, the command opens the queue itself, as `user` (see
//! [`super::privileges`]), and does what the daemon would do. Locks on the files of the queue keep such a command and a daemon
//! that starts meanwhile apart.
//!
//! | operands | with a daemon | without |
//! | --- | --- | --- |
//! | `list`, `show`, `hold`, `release`, `remove`, `bounce` | the daemon answers | this process answers |
//! | `flush` | the daemon tries at once, and the command returns | one pass over the queue, and the command waits for it |
//! | `run` | nothing: the daemon tries due messages anyway | one pass over the due messages |
//! | `run --all` | the same as `flush` | one pass over all messages |
//!
//! `run` is for systems without a daemon, where cron starts it: it takes mail from the drop directory first. The other words do
//! not see that mail; without a daemon they say on standard error how much there is.

use super::exit::{self, CommandFailure, finish};
use super::privileges;
use super::remote::client::{DaemonAnswer, ask, is_served};
use super::remote::screen::Screen;
use crate::config::{LogTarget, Settings, host, load};
use crate::engine::control::output::Asker;
use crate::engine::control::requests;
use crate::engine::daemon::Daemon;
use crate::engine::host::site::Site;
use crate::engine::log::logger::Logger;
use crate::protocol::request::{BadRequest, Request};
use crate::protocol::rights::PeerRights;
use crate::store::StoreError;
use crate::sys::journal;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;

/// The words and options.
pub const ROWS: &str = "\
list\tthe messages that wait, as mailq prints them; also without a word
show ID\tenvelope, history of attempts, and the message
flush [ID…|@domain…]\ttries these now, or all
hold ID…\tkeeps them until a release; ID may be all
release ID…\tends that
remove ID…\tdrops them, and tells nobody
bounce ID…\treturns them to their sender
run\tone pass over what is due, in this process, for cron on a box without a daemon
--all\twith run: over all messages
--json\twith list: an object for each message, one a line
";

/// Carries out the operands.
///
/// # Errors
/// The operands are no request, neither daemon nor queue can be reached, or a message does not exist or can't be changed.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), CommandFailure> {
    let words: Option<Vec<&str>> = operands.iter().map(|word| word.to_str()).collect();
    let words =
        words.ok_or_else(|| CommandFailure::new(exit::USAGE, "queue: an argument is not UTF-8".into()))?;
    let task =
        match words.as_slice() {
            ["run"] => Task::Run { all: false },
            ["run", "--all"] | ["--all", "run"] => Task::Run { all: true },
            words => {
                let request = Request::parse(&[&["queue"], words].concat());
                Task::Ask(request.map_err(|BadRequest { code, text }| {
                    CommandFailure::new(code, format!("queue: {text}"))
                })?)
            }
        };
    let settings = load(config).map_err(|problems| CommandFailure::problems(&problems))?;
    let mut screen = Screen::new();
    // A daemon tries due messages without being asked, and flushed ones at once.
    let question = match &task {
        Task::Ask(request) => request.clone(),
        Task::Run { .. } => Request::Flush(Vec::new()),
    };
    if let Task::Run { all: false } = task
        && is_served(&settings.control)
    {
        return Ok(());
    }
    match ask(&settings.control, &question, &mut screen)? {
        DaemonAnswer::Answered(code) => finish(code),
        DaemonAnswer::NoDaemon(why) => alone(config, settings, &task, &mut screen, &why),
    }
}

/// The work of the command.
enum Task {
    Ask(Request),
    /// One pass over the due messages, or over all.
    Run {
        all: bool,
    },
}

/// Does the work without a daemon.
fn alone(
    config: &Path,
    settings: Settings,
    task: &Task,
    screen: &mut Screen,
    no_daemon: &str,
) -> Result<(), CommandFailure> {
    let (agent, commands) = privileges::enter(config, &settings, true)?;
    // Cron mails all output, and only errors are worth a mail about mail. A timer of systemd sends it to the journal.
    let is_read = (io::stderr().is_terminal() || journal::is_stderr()) && task.is_run();
    let quiet = settings.log.target == LogTarget::Stderr && !is_read;
    let level = if quiet { log::LevelFilter::Error } else { settings.log.level.0 };
    Logger::new(settings.log.target, level).install();
    let (queue, drops) =
        privileges::open_state(&settings, None).map_err(|error| unopened(&error, no_daemon))?;
    let dropped = drops.entries().map_or(0, Iterator::count);
    let hostname = host::name(settings.hostname.as_ref());
    let site = Site { commands, ..Site::new(settings, hostname, None) };
    let daemon = Daemon::new(site, queue, drops, agent.map(Arc::new));
    daemon.services.manager.load();
    let (request, passes) = match task {
        Task::Run { all: false } => (None, true),
        Task::Run { all: true } => (Some(Request::Flush(Vec::new())), true),
        Task::Ask(request) => (Some(request.clone()), matches!(request, Request::Flush(_))),
    };
    if passes {
        daemon.take_drops();
    } else if dropped > 0 {
        // It has no id yet, so no list can show it.
        let _ = writeln!(
            io::stderr(),
            "pillarbox: not taken yet from drop/: {dropped}; pillarbox queue run takes what is there"
        );
    }
    let asker = Asker { rights: PeerRights::All, uid: rustix::process::getuid().as_raw() };
    let answered =
        request.map_or(Ok(exit::OK), |request| requests::answer(&daemon.services, asker, &request, screen));
    let code = answered.map_err(|error| CommandFailure::new(exit::IO, format!("queue: {error}")))?;
    if passes {
        daemon.forwarder.pass();
        daemon.save(false);
    }
    finish(code)
}

impl Task {
    const fn is_run(&self) -> bool {
        matches!(self, Self::Run { .. })
    }
}

fn unopened(error: &StoreError, no_daemon: &str) -> CommandFailure {
    let denied = error.source.kind() == io::ErrorKind::PermissionDenied;
    let code = if denied { exit::NO_PERMISSION } else { exit::TEMPORARY };
    let mut failure = CommandFailure::new(code, format!("queue: no daemon answers: {no_daemon}"));
    failure.lines.push(format!("pillarbox: queue: and the queue can't be opened: {error}"));
    failure
}
