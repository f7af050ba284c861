//! `pillarbox status`: asks the daemon for its state.
//!
//! If no daemon runs, it says so, and counts the messages in the queue if this user may read it. `--check` is for monitoring
//! plugins: any failure becomes a line on standard output and one of their exit codes.
//!
//! | | daemon answers | no daemon | no answer in time | bad operands |
//! | --- | --- | --- | --- | --- |
//! | `status`, `--all`, `--html`, `--json`, `--prometheus` | 0 | 69, and a count of the queue | 75 | 64 |
//! | `--check` | 0 OK, 1 WARNING, 2 CRITICAL | 2 CRITICAL | 2 CRITICAL | 3 UNKNOWN |
//!
//! The thresholds of `--check` go to the daemon, which compares: `rules::advice::monitor` has them.

use super::exit::{self, CommandFailure, finish};
use super::privileges;
use super::remote::client::{DaemonAnswer, ask};
use super::remote::screen::Screen;
use crate::config::{Settings, load};
use crate::engine::control::output::Output;
use crate::protocol::request::{BadRequest, Request};
use crate::rules::advice::monitor::Level;
use std::ffi::OsString;
use std::path::Path;

/// All options, with and without a value.
pub const ROWS: &str = "\
--all\tevery figure, also those that are zero
--html\ta page for a web server, with plots of the last day and month
--json\tone object
--prometheus\ttext for Prometheus
--check\tone line, and exit code 0 (OK), 1 (WARNING), 2 (CRITICAL) or 3, for Nagios and its like
--warning NUMBER\twith --check: so many waiting messages are a WARNING
--critical NUMBER\twith --check: so many are CRITICAL
--warning-age DURATION\twith --check: a message that waits so long (such as 30m) is a WARNING
--critical-age DURATION\twith --check: one that waits so long is CRITICAL
";
const CHECK: &str = "--check";

/// Asks the daemon, and shows its answer.
///
/// # Errors
/// The operands are no request, or no daemon runs.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), CommandFailure> {
    let words: Vec<_> = operands.iter().map(|word| word.to_string_lossy()).collect();
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let is_check = words.contains(&CHECK);
    // The protocol has it before the thresholds.
    words.retain(|word| *word != CHECK);
    if is_check {
        words.insert(0, CHECK);
    }
    words.insert(0, "status");
    let mut screen = Screen::new();
    let done = show(config, &words, is_check, &mut screen);
    match done {
        Err(failure) if is_check && !failure.lines.is_empty() => {
            let line = failure.lines.join("; ");
            let level = if failure.code == exit::TEMPORARY { Level::Critical } else { Level::Unknown };
            plugin(&mut screen, level, line.strip_prefix("pillarbox: ").unwrap_or(&line))
        }
        done => done,
    }
}

fn show(config: &Path, words: &[&str], is_check: bool, screen: &mut Screen) -> Result<(), CommandFailure> {
    let request = Request::parse(words)
        .map_err(|BadRequest { code, text }| CommandFailure::new(code, format!("status: {text}")))?;
    let settings = load(config).map_err(|problems| CommandFailure::problems(&problems))?;
    match ask(&settings.control, &request, screen)? {
        DaemonAnswer::Answered(code) => finish(code),
        DaemonAnswer::NoDaemon(why) if is_check => {
            plugin(screen, Level::Critical, &format!("no daemon answers: {why}"))
        }
        DaemonAnswer::NoDaemon(why) => {
            let text =
                format!("no daemon answers: {why}; start it: systemctl start pillarbox, or pillarbox serve");
            let mut failure = CommandFailure::new(exit::UNAVAILABLE, text);
            if let Some((messages, octets, unread)) = queued(&settings) {
                let waits =
                    if messages == 1 { "1 message waits" } else { &format!("{messages} messages wait") };
                failure.lines.push(format!("pillarbox: {waits} in the queue: {octets} octets"));
                if unread > 0 {
                    failure.lines.push(format!("pillarbox: and {unread} files that can't be read"));
                }
            }
            Err(failure)
        }
    }
}

/// Shows one line, and ends with the exit code of its level.
fn plugin(screen: &mut Screen, level: Level, text: &str) -> Result<(), CommandFailure> {
    // A bar would begin the performance data.
    let line = level.line(&text.replace(['|', '\n'], " "));
    let _ = screen.output(line.as_bytes());
    finish(level as u8)
}

/// The number of messages in the queue, their size in octets, and the number of files that can't be read; if this user may read
/// the queue. Never creates one.
fn queued(settings: &Settings) -> Option<(usize, u64, usize)> {
    privileges::give_up(privileges::account(settings).ok()?.as_ref()).ok()?;
    std::fs::read_dir(settings.state.join("queue")).ok()?;
    let queue = privileges::open_queue(settings, None).ok()?;
    let summaries = queue.ids().ok()?.into_iter().filter_map(|id| queue.summary(id));
    Some(summaries.fold((0, 0, 0), |(messages, octets, unread), found| match found {
        Ok(it) => (messages + 1, octets + it.message_octets, unread),
        Err(_) => (messages, octets, unread + 1),
    }))
}
