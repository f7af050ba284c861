//! `pillarbox probe ADDRESS`: shows each step of delivering a message to the address, as it happens, without sending one.
//!
//! Runs as `user` (see [`super::privileges`]), so that it sees what the daemon sees. Each step is a line: for people, with
//! colour and a spinner on a terminal only (and not where `NO_COLOR` is set), or as a JSON object. With `--send` a test
//! message then goes through the queue, in this process, and is followed to its outcome. Steps in order: the configuration
//! and its problems, the daemon and what it has queued for the domain, then the walk of `engine::probe`. The exit code is
//! that of the first failed step ([`super::steps::code`]).
//!
//! | step | shows | a failure ends the probe |
//! | --- | --- | --- |
//! | config | mistakes in the file; problems of `findings` as warnings | yes, for mistakes |
//! | queue | whether a daemon runs, and what mail would wait for | no |
//! | the walk | alias, route, MX, connection, TLS, login, MAIL, RCPT | yes |
//! | send | the outcome of a real message, or what it waits for, with `--send` | – |
//!
//! The daemon is only asked for its status and its list, which every user may have. `--send` delivers from this process even while the daemon
//! runs: the queue's locks keep the two apart, and a message that is deferred is released to the daemon at the end.

mod daemon;
mod screen;
mod send;

use super::exit::{self, CommandFailure, finish};
use super::findings::contents::look;
use super::privileges;
use super::steps::code;
use crate::config::{host, load_with_places};
use crate::engine::daemon::maildirs;
use crate::engine::host::dkim_keys;
use crate::engine::host::mda::DeliveryAgent;
use crate::engine::host::site::Site;
use crate::engine::probe::walk as probe;
use crate::engine::probe::walk::{Mark, ProbeNews, ProbeTime, ProbeVerdict, Step};
use crate::rules::advice::step::Stage;
use crate::sys::user::ProcessUser;
use screen::StepScreen;
use send::send;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The options.
pub const ROWS: &str = "\
--send\tthen sends a test message, and tells its outcome or what it waits for
--json\tan object for each line
";

/// How long the walk may take, from the start of the process on.
const WALK: Duration = Duration::from_secs(50);
/// When the process ends at the latest, whatever hangs.
const LAST: Duration = Duration::from_secs(58);

/// Probes the address among the operands.
///
/// # Errors
/// A message would not be accepted; the exit code says why, and the lines have been shown.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), CommandFailure> {
    let words: Vec<_> = operands.iter().map(|word| word.to_string_lossy()).collect();
    let (options, addresses): (Vec<&str>, Vec<&str>) =
        words.iter().map(AsRef::as_ref).partition(|word| word.starts_with("--"));
    let [address] = addresses.as_slice() else {
        return Err(CommandFailure::new(exit::USAGE, "probe: give one ADDRESS".into()));
    };
    let mut screen = StepScreen::new(address, options.contains(&"--json"));
    let failures = walk(config, address, options.contains(&"--send"), &mut screen)?;
    let code = failures.first().map_or(exit::OK, code);
    screen.end(code);
    finish(code)
}

/// Shows every step; returns the failed ones.
fn walk(
    config: &Path,
    address: &str,
    sends: bool,
    screen: &mut StepScreen,
) -> Result<Vec<Step>, CommandFailure> {
    let Some((site, agent)) = configured(config, sends, screen)? else {
        return Ok(screen.failures.clone());
    };
    let state = daemon::check(&site, address, screen);
    let site = Arc::new(site);
    let maildirs = maildirs(&site, agent.clone());
    let time = ProbeTime::within(WALK.saturating_sub(screen.elapsed()));
    let ProbeVerdict { failures } =
        probe::probe_live(&site, &maildirs, time, address, &mut |news| screen.news(news));
    // A message that would wait, as for the link, is sent all the same: it waits, and what for is told.
    if sends
        && failures.is_empty()
        && let Some(site) = Arc::into_inner(site)
    {
        let link = state.map(|state| state.link).unwrap_or_default();
        send(site, agent, link, address, screen);
    }
    Ok(screen.failures.clone())
}

/// The host, and the agent that writes into the Maildirs of system users.
type Configured = (Site, Option<Arc<DeliveryAgent>>);

/// The host as the daemon sees it. `None`: the configuration has mistakes, which have been shown.
fn configured(
    config: &Path,
    sends: bool,
    screen: &mut StepScreen,
) -> Result<Option<Configured>, CommandFailure> {
    screen.news(ProbeNews::Begins(Stage::Config));
    // Read with the rights of the caller, as `serve` does.
    let (settings, places) = match load_with_places(config) {
        Ok(read) => read,
        Err(problems) => {
            problems.iter().for_each(|problem| screen.problem(Mark::Fail, problem));
            return Ok(None);
        }
    };
    let seen = look(config, &settings, &places, &ProcessUser::own(), &ProcessUser::find);
    let (agent, commands) = privileges::enter(config, &settings, sends)?;
    seen.read().problems.iter().for_each(|problem| screen.problem(Mark::Warn, problem));
    // Not earlier: the rights that were given up belong to threads.
    screen.end_by(LAST);
    let hostname = host::name(settings.hostname.as_ref());
    // A problem with a key has been shown.
    let dkim = dkim_keys::load(&settings).unwrap_or_default();
    let site = Site { dkim, commands, ..Site::new(settings, hostname, None) };
    screen.step(Stage::Config, Mark::Ok, format!("{}, as {}", config.display(), site.hostname), None);
    Ok(Some((site, agent.map(Arc::new))))
}
