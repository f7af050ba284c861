//! `pillarbox status`: asks the daemon how things are.
//!
//! With no daemon it says so, and what lies in the queue as far as this user may look. `--check` speaks to monitoring
//! plugins: whatever goes wrong is a line on standard output and one of their exit codes.

use super::exit::{self, Failure};
use super::privileges;
use super::remote::client::{Asked, ask, finish};
use super::remote::screen::Screen;
use crate::config::{Settings, load};
use crate::engine::control::operator::Output;
use crate::protocol::request::{BadRequest, Request};
use crate::rules::advice::monitor::Level;
use crate::store::queue::Queue;
use std::ffi::OsString;
use std::path::Path;

/// The options, those with a value among them.
pub const OPTIONS: &[&str] =
    &["json", "prometheus", "check", "warning", "critical", "warning-age", "critical-age"];
const CHECK: &str = "--check";

/// Asks and shows.
///
/// # Errors
/// The words are none, or there is no daemon.
pub fn run(config: &Path, operands: &[OsString]) -> Result<(), Failure> {
    let words: Vec<_> = operands.iter().map(|word| word.to_string_lossy()).collect();
    let mut words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let is_check = words.contains(&CHECK);
    // The daemon wants it in front of the thresholds.
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
            plugin(&mut screen, Level::Unknown, line.strip_prefix("pillarbox: ").unwrap_or(&line))
        }
        done => done,
    }
}

fn show(config: &Path, words: &[&str], is_check: bool, screen: &mut Screen) -> Result<(), Failure> {
    let request = Request::parse(words)
        .map_err(|BadRequest { code, text }| Failure::new(code, format!("status: {text}")))?;
    let settings = load(config).map_err(|problems| Failure::problems(&problems))?;
    match ask(&settings.control, &request, screen)? {
        Asked::Answered(code) => finish(code),
        Asked::NoDaemon(why) if is_check => {
            plugin(screen, Level::Critical, &format!("no daemon answers: {why}"))
        }
        Asked::NoDaemon(why) => {
            let text =
                format!("no daemon answers: {why}; start it: systemctl start pillarbox, or pillarbox serve");
            let mut failure = Failure::new(exit::UNAVAILABLE, text);
            if let Some((messages, octets)) = queued(&settings) {
                failure.lines.push(format!("pillarbox: in the queue: {messages} messages, {octets} octets"));
            }
            Err(failure)
        }
    }
}

/// One line, with the exit code that goes with it.
fn plugin(screen: &mut Screen, level: Level, text: &str) -> Result<(), Failure> {
    // The bar begins the figures.
    let line = level.line(&text.replace(['|', '\n'], " "));
    let _ = screen.output(line.as_bytes());
    finish(level as u8)
}

/// Messages in the queue and their size in octets, if this user may look; nothing is made for it.
fn queued(settings: &Settings) -> Option<(usize, u64)> {
    privileges::give_up(privileges::account(settings).ok()?.as_ref()).ok()?;
    std::fs::read_dir(settings.state.join("queue")).ok()?;
    let queue = Queue::open(&settings.state, None).ok()?;
    let summaries = queue.ids().ok()?.into_iter().filter_map(|id| queue.summary(id)?.ok());
    Some(summaries.fold((0, 0), |(messages, octets), it| (messages + 1, octets + it.message_octets)))
}
