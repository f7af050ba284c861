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
//! | queue | whether a daemon runs, and messages that wait for the same domain | no |
//! | the walk | alias, route, MX, connection, TLS, login, MAIL, RCPT | yes |
//! | send | the outcome of a real message, with `--send` | – |
//!
//! The daemon is only asked for its list, which every user may have. `--send` delivers from this process even while the daemon
//! runs: the queue's locks keep the two apart, and a message that is deferred is released to the daemon at the end.

mod screen;

use super::exit::{self, CommandFailure, finish};
use super::findings::contents::look;
use super::privileges;
use super::remote::client::{DaemonAnswer, ask};
use super::steps::code;
use crate::config::{host, load_with_places};
use crate::engine::control::output::Output;
use crate::engine::daemon::{Daemon, maildirs};
use crate::engine::host::dkim_keys;
use crate::engine::host::mda::DeliveryAgent;
use crate::engine::host::site::Site;
use crate::engine::probe::walk::{Mark, ProbeNews, ProbeTime, ProbeVerdict, Step};
use crate::engine::probe::{test_message, walk as probe};
use crate::mail::status::Class;
use crate::protocol::request::{Change, Form, Request};
use crate::rules::advice::step::Stage;
use crate::store::StoreError;
use crate::store::drop::DropDirectory;
use crate::store::queue::Queue;
use crate::sys::lock::Lock;
use crate::sys::user::ProcessUser;
use screen::StepScreen;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

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
    ask_daemon(&site, address, screen);
    let site = Arc::new(site);
    let maildirs = maildirs(&site, agent.clone());
    let time = ProbeTime::within(WALK.saturating_sub(screen.elapsed()));
    let ProbeVerdict { failures } =
        probe::probe_live(&site, &maildirs, time, address, &mut |news| screen.news(news));
    if sends && failures.is_empty() {
        if let Some(site) = Arc::into_inner(site) {
            send(site, agent, address, screen);
        }
        return Ok(screen.failures.clone());
    }
    Ok(failures)
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

/// Shows whether a daemon runs, and what it says of queued mail for the same domain: pauses, or that the link is down.
fn ask_daemon(site: &Site, address: &str, screen: &mut StepScreen) {
    screen.news(ProbeNews::Begins(Stage::Queue));
    let mut heard = DaemonText::default();
    match ask(&site.settings.control, &Request::List(Form::Json), &mut heard) {
        Ok(DaemonAnswer::Answered(_)) => {
            let domain = address.rsplit_once('@').map_or("", |(_, domain)| domain);
            let (count, reply) = heard.waiting(domain);
            if count > 0 {
                let text = format!("the daemon has {count} messages for {domain} that wait: {reply}");
                screen.step(Stage::Queue, Mark::Warn, text, None);
            } else {
                screen.step(Stage::Queue, Mark::Ok, "the daemon runs".into(), None);
            }
        }
        Ok(DaemonAnswer::NoDaemon(why)) => {
            screen.step(Stage::Queue, Mark::Warn, format!("no daemon answers: {why}"), None);
        }
        Err(error) => {
            let text = CommandFailure::from(error).lines.concat();
            screen.step(Stage::Queue, Mark::Warn, text, None);
        }
    }
}

/// The answer of the daemon, as text.
#[derive(Default)]
struct DaemonText(String);

impl Output for DaemonText {
    fn output(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.push_str(&String::from_utf8_lossy(octets));
        Ok(())
    }

    fn error(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

impl DaemonText {
    /// The number of queued recipients of a domain, and the reason of the last one.
    fn waiting(&self, domain: &str) -> (usize, &str) {
        let recipients = self.0.split("{\"to\":\"").filter(|part| part.contains("\"state\":\"pending\""));
        let here = recipients.filter(|part| {
            let to = part.split_once('"').map_or("", |(to, _)| to);
            to.rsplit_once('@').is_some_and(|(_, of)| of.eq_ignore_ascii_case(domain))
        });
        let replies = here.filter_map(|part| part.split_once("\"reply\":\"")?.1.split_once('"'));
        replies.fold((0, ""), |(count, _), (reply, _)| (count + 1, reply))
    }
}

/// Sends a test message through the queue, in this process, and shows its outcome.
fn send(site: Site, agent: Option<Arc<DeliveryAgent>>, address: &str, screen: &mut StepScreen) {
    screen.news(ProbeNews::Begins(Stage::Send));
    let control = site.settings.control.clone();
    let lines = match try_send(site, agent, address) {
        Ok(lines) => lines,
        Err(text) => return screen.step(Stage::Send, Mark::Fail, text, Some(Class::Transient)),
    };
    let mut left = vec!["queue", Change::Release.word()];
    for line in &lines {
        let Some((what, rest)) = line.strip_prefix("event=").and_then(|line| line.split_once(" id=")) else {
            continue;
        };
        let (mark, class) = match what {
            "delivered" => (Mark::Ok, None),
            "deferred" => (Mark::Fail, Some(Class::Transient)),
            "bounced" | "expired" => (Mark::Fail, Some(Class::Permanent)),
            _ => continue,
        };
        screen.step(Stage::Send, mark, format!("{what} {rest}"), class);
        left.extend(rest.split(' ').next().filter(|_| what == "deferred"));
    }
    // A deferred message stays in the queue, and a running daemon does not know of it yet.
    if let Ok(request @ Request::Change(..)) = Request::parse(&left) {
        let _ = ask(&control, &request, &mut DaemonText::default());
    }
}

/// Sends it, and returns the log lines of the attempt.
fn try_send(site: Site, agent: Option<Arc<DeliveryAgent>>, address: &str) -> Result<Vec<String>, String> {
    let in_words = |error: StoreError| error.to_string();
    let queue = Queue::open(&site.settings.state, None).map_err(in_words)?;
    let drops = DropDirectory::open(&site.settings.state, None).map_err(in_words)?;
    let log = Log::default();
    let lines = Arc::clone(&log.0);
    log.install();
    let daemon = Daemon::new(site, queue, drops, agent);
    test_message::submit(&daemon.intake, &daemon.site(), address)?;
    daemon.forwarder.pass();
    Ok(lines.lock().clone())
}

/// A logger that keeps the lines, from which the outcome is read.
#[derive(Default)]
struct Log(Arc<Lock<Vec<String>>>);

impl Log {
    fn install(self) {
        log::set_max_level(log::LevelFilter::Info);
        let _ = log::set_boxed_logger(Box::new(self));
    }
}

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        self.0.lock().push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_the_same_domain_is_found() {
        let list = "{\"id\":\"1\",\"recipients\":[{\"to\":\"a@far.example\",\"state\":\"pending\",\"reply\":\"the link is down\",\"relay\":null},\
                    {\"to\":\"b@far.example\",\"state\":\"delivered\",\"reply\":\"250\"}]}\n\
                    {\"id\":\"2\",\"recipients\":[{\"to\":\"a@other.example\",\"state\":\"pending\",\"reply\":\"no\"}]}\n";
        let heard = DaemonText(list.to_owned());
        assert_eq!(heard.waiting("FAR.example"), (1, "the link is down"));
        assert_eq!(heard.waiting("none.example"), (0, ""));
    }
}
