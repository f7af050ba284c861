//! `pillarbox setup`: asks three questions at most, tests the answers, and writes the configuration.
//!
//! ```text
//! options, questions ─▶ answers ─▶ test of each candidate for the smarthost ─▶ password file, then pillarbox.toml
//!                                    │  (engine::probe::smarthost)
//!                                    └▶ no candidate works: nothing is written
//! ```
//!
//! Where the smarthost takes tokens in place of passwords, the files are written first, and `login` then gets the token and tests
//! it there.
//!
//! Scripts give each answer as an option. The test is that of `probe`, and finds out how to talk to the smarthost. Before it
//! ends nothing is on disk: the password lies in a memory file without a name, so an interrupted setup leaves nothing. A file
//! with content is replaced only with `--force`, and kept as FILE.old. Only a password that the smarthost refuses is asked for
//! again; any other wrong answer ends the command. `--from` takes the answers from another mailer's files (see [`from`]).
//!
//! For most hosts the result is short:
//!
//! ```toml
//! admin = "me@example.com"
//! relay.smarthost = "smtps://mail.example.com"
//! relay.username = "me@example.com"
//! ```
//!
//! The password lies beside it, readable for the group of the daemon's user. `--set 'KEY = VALUE'` adds lines, which are parsed with
//! all others before any question is asked.

mod files;
mod from;
mod next;
mod options;
mod questions;

pub use options::ROWS;

use super::exit::{self, CommandFailure};
use super::login;
use super::privileges;
use super::remote::client::is_served;
use super::remote::screen::escaped;
use super::steps::{Once, code, line};
use crate::config::{self, Settings, host};
use crate::engine::control::listing::json_text;
use crate::engine::daemon::{maildirs, resolver};
use crate::engine::host::site::Site;
use crate::engine::outbound::password::USUAL_FILE;
use crate::engine::probe::smarthost::{Trial, find};
use crate::engine::probe::walk::{Mark, ProbeContext, ProbeTime, Step};
use crate::mail::date::{Now, WallTime};
use crate::mail::next_hop::{Scheme, Smarthost};
use crate::net::connect::TcpConnect;
use crate::net::transport::own_address;
use crate::rules::accounts::oauth::provider::named;
use crate::rules::advice::step::Stage;
use crate::smtp::sasl::Secret;
use crate::store::durable::Owner;
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::rights;
use crate::sys::signals::Signals;
use files::{ConfigTarget, File, FileReaders};
use from::TakenPassword;
use options::Options;
use questions::{Answers, Password};
use rustix::fs::{MemfdFlags, Mode, fchmod, memfd_create};
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long the test of all ports may take: a firewall that drops packets gives no answer.
const TEST: Duration = Duration::from_secs(90);
/// How often a password may be typed.
const ATTEMPTS_MAX: u32 = 3;

/// The settings that answers make with a smarthost.
type SettingsOf<'a> = &'a dyn Fn(&Answers, Option<&Smarthost>) -> Result<Settings, CommandFailure>;

/// Asks, tests and writes.
///
/// # Errors
/// An answer is missing or wrong, a message would not be accepted, or a file can't be written.
pub fn run(path: &Path, operands: &[OsString]) -> Result<(), CommandFailure> {
    // For the password; no cause of a failure is known.
    let _ = rights::close_memory();
    let mut options = Options::read(operands)?;
    let target = ConfigTarget::read(path, options.is_set("force"))?;
    let extra = take_over(&mut options)?;
    let base = config::parse(&extra, "--set").map_err(|problems| CommandFailure::problems(&problems))?;
    let readers = readers(&base)?;
    let mut answers = questions::ask(&options, &resolver(&base))?;
    let password_path = target.sibling("password");
    if matches!(answers.password, Password::Typed(_)) {
        target.may_write(&password_path)?;
    }
    let text =
        |answers: &Answers, smarthost: Option<&Smarthost>| text(answers, smarthost, &password_path) + &extra;
    let file = path.display().to_string();
    let settings = |answers: &Answers, smarthost: Option<&Smarthost>| {
        config::parse(&text(answers, smarthost), &file)
            .map_err(|problems| CommandFailure::problems(&problems))
    };
    let control = settings(&answers, answers.candidates.first())?.control;
    let takes_token = matches!(answers.password, Password::Token(..));
    let smarthost = if options.is_set("no-test") || takes_token {
        answers.candidates.first().cloned()
    } else {
        test_until_right(path, &settings, &mut answers)?
    };
    let mut new = Vec::new();
    if let Password::Typed(password) = &answers.password {
        let octets = [password.octets(), b"\n"].concat();
        new.push(File { path: password_path.clone(), octets: Secret::new(octets), readers });
    }
    let text = target.with_comments(text(&answers, smarthost.as_ref()));
    new.push(File {
        path: target.path.clone(),
        octets: Secret::new(text.into_bytes()),
        readers: FileReaders::All,
    });
    // An interrupt from now on waits for the files, so that none is left half written.
    // A login by token writes one file, and a person may want to interrupt what follows.
    let _held_back = (!takes_token).then(|| Signals::register(false));
    target.write(&new)?;
    let written: Vec<String> = new.iter().map(|file| file.path.display().to_string()).collect();
    say(&format!("Written: {}\n", written.join(", ")));
    if takes_token && !options.is_set("no-test") {
        // It logs in at the smarthost, which is the test, and gives up the rights of root: so it comes last.
        login::run(path, &[OsString::from(&answers.login)])?;
    }
    let served = is_served(&control);
    say(&next::line(Path::new("/"), &target.path, served, &escaped(answers.probed())));
    Ok(())
}

/// The further lines of the configuration. With `--from`, the options get what another mailer's files say; a line of `--set`
/// replaces one of theirs.
fn take_over(options: &mut Options) -> Result<String, CommandFailure> {
    if let Some(file) = options.value("from") {
        let (taken, report) = from::read(file, &host::name(None).to_string())?;
        say(&report);
        let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
        let said: Vec<String> = options.all("set").map(key).collect();
        let lines = taken.lines.iter().filter(|(key, _)| !said.iter().any(|said| said == key));
        let mut answers: Vec<_> = lines.map(|(key, value)| ("set", format!("{key} = {value}"))).collect();
        answers.extend(taken.options());
        options.add(answers);
        if let TakenPassword::Text(password) = taken.password {
            options.taken_password = Some(password);
        }
    }
    Ok(options.all("set").map(|line| format!("{line}\n")).collect())
}

fn usage(text: &str) -> CommandFailure {
    CommandFailure::new(exit::USAGE, format!("setup: {text}"))
}

/// The readers of the password: the group of the daemon's user, or else only the user who runs this.
fn readers(settings: &Settings) -> Result<FileReaders, CommandFailure> {
    let account = privileges::account(settings)?.filter(|account| account.uid != 0);
    Ok(account.map_or(FileReaders::Writer, |account| FileReaders::Group(Owner { uid: 0, gid: account.gid })))
}

/// The configuration: three lines, for most.
fn text(answers: &Answers, smarthost: Option<&Smarthost>, password: &Path) -> String {
    let mut text = "# Written by `pillarbox setup`. pillarbox.toml(5) lists all keys, `pillarbox check` finds mistakes.\n"
        .to_owned();
    // A JSON string is a TOML string.
    let admins: Vec<String> = answers.admins().map(json_text).collect();
    match admins.as_slice() {
        [admin] => text.push_str(&format!("admin = {admin}\n")),
        several => text.push_str(&format!("admin = [{}]\n", several.join(", "))),
    }
    let mut line = |key: &str, value: &str| text.push_str(&format!("{key} = {}\n", json_text(value)));
    if let Some(smarthost) = smarthost {
        line("relay.smarthost", &smarthost.to_string());
    }
    if !answers.login.is_empty() {
        line("relay.username", &answers.login);
    }
    if !answers.sender.is_empty() {
        line("rewrite.from", &answers.sender);
    }
    match &answers.password {
        Password::File(path) => line("relay.password_file", path),
        Password::Command(command) => line("relay.password_command", command),
        Password::Typed(_) if password != Path::new(USUAL_FILE) => {
            line("relay.password_file", &password.to_string_lossy());
        }
        Password::Token(provider, client_id) => {
            line("relay.auth", "xoauth2");
            line("oauth.provider", provider);
            line("oauth.client_id", client_id);
            if !named(provider).has_device_flow {
                line("oauth.flow", "paste");
            }
        }
        Password::Typed(_) | Password::None => {}
    }
    text
}

/// Tests the answers; returns the smarthost that works, or `None` for delivery by MX. A password that the host refuses is asked
/// for again at a terminal, as often as [`ATTEMPTS_MAX`] says, since few hosts lock an account after so few.
///
/// # Errors
/// No candidate works, or there is no memory for the password.
fn test_until_right(
    config: &Path,
    settings: SettingsOf<'_>,
    answers: &mut Answers,
) -> Result<Option<Smarthost>, CommandFailure> {
    let mut candidates: Vec<Option<Smarthost>> = match answers.candidates.as_slice() {
        [] => vec![None],
        candidates => candidates.iter().cloned().map(Some).collect(),
    };
    for attempt in 1.. {
        let trial = test(config, settings, answers, &candidates)?;
        let Some(failure) = &trial.failure else {
            say(&steps(&trial, &[Mark::Warn]));
            return Ok(trial.smarthost.into_iter().next());
        };
        // What worked says nothing about a wrong password.
        let shows_all = !is_wrong_password(failure);
        let marks =
            if shows_all { &[Mark::Ok, Mark::Warn, Mark::Fail][..] } else { &[Mark::Warn, Mark::Fail] };
        say(&steps(&trial, marks));
        if attempt < ATTEMPTS_MAX && is_wrong_password(failure) && questions::ask_again(answers)? {
            candidates = vec![trial.smarthost.into_iter().next()];
            continue;
        }
        let text =
            "setup: nothing was written, because no message would be accepted; --no-test skips the test";
        return Err(CommandFailure::new(code(failure), text.into()));
    }
    Ok(None)
}

/// Whether the host knows no such login with this password (RFC 4954 §6).
fn is_wrong_password(failure: &Step) -> bool {
    failure.stage == Stage::Auth && failure.text.starts_with("535")
}

fn steps(trial: &Trial, marks: &[Mark]) -> String {
    let (mut once, mut text) = (Once::default(), String::new());
    for step in trial.steps.iter().filter(|step| marks.contains(&step.mark)) {
        if let Some(step) = once.told(step) {
            text.push_str(&line(&step, false));
        }
    }
    text
}

/// Tests the candidates; `None` is delivery by MX.
///
/// # Errors
/// There is no memory for the password, or the process for a command can't be started.
fn test(
    config: &Path,
    settings: SettingsOf<'_>,
    answers: &Answers,
    candidates: &[Option<Smarthost>],
) -> Result<Trial, CommandFailure> {
    let hidden = match &answers.password {
        Password::Typed(password) => Some(hide(password).map_err(|error| {
            CommandFailure::new(exit::OS_ERROR, format!("setup: no memory for the password: {error}"))
        })?),
        _ => None,
    };
    let settings_of = |smarthost: Option<&Smarthost>| -> Result<Settings, CommandFailure> {
        let mut settings = settings(answers, smarthost)?;
        if let Some((_, path)) = &hidden {
            settings.relay.password_file = Some(path.clone());
        }
        Ok(settings)
    };
    let commands =
        privileges::start_commands(config, &settings_of(candidates.first().and_then(Option::as_ref))?)?;
    let sites = candidates.iter().map(|candidate| {
        let settings = settings_of(candidate.as_ref())?;
        let hostname = host::name(settings.hostname.as_ref());
        let site = Site { commands: commands.clone(), ..Site::new(settings, hostname, None) };
        Ok((candidate.iter().cloned().collect(), Arc::new(site)))
    });
    let sites: Vec<(Vec<Smarthost>, Arc<Site>)> = sites.collect::<Result<_, CommandFailure>>()?;
    let Some((_, site)) = sites.first() else { return Ok(Trial::default()) };
    let site = Arc::clone(site);
    let maildirs = maildirs(&site, None);
    let tcp = TcpConnect::default();
    let world = ProbeContext {
        resolver: &resolver(&site.settings).ending_after(TEST),
        connect: &tcp,
        maildirs: &maildirs,
        now: Now { wall: WallTime(SystemClock.wall_micros()), running: SystemClock.boot() },
        own_address: &own_address,
        time: ProbeTime::within(TEST),
    };
    let address = answers.probed();
    say(&format!("Testing the delivery to {}\n", escaped(address)));
    Ok(find(sites, &world, address, &mut show_trial))
}

/// Shows the result for a candidate, in a line.
fn show_trial(trial: &Trial) {
    let name = trial.smarthost.first().map_or_else(|| "by MX".to_owned(), ToString::to_string);
    let is_clear = trial.smarthost.iter().any(|host| host.scheme == Scheme::Smtp);
    let found = match &trial.failure {
        Some(step) => format!("no, {}: {}", step.stage.name(), escaped(&step.text)),
        None if is_clear => "yes; without verified TLS, so others on the network can read it".to_owned(),
        None => "yes".to_owned(),
    };
    say(&format!("{name}: {}\n", found.replace('\n', " ")));
}

/// Puts the password where the test finds it: into a file in memory, which ends with the process.
fn hide(password: &Secret) -> std::io::Result<(std::fs::File, PathBuf)> {
    let file = std::fs::File::from(memfd_create("password", MemfdFlags::CLOEXEC)?);
    fchmod(&file, Mode::RUSR | Mode::WUSR)?;
    (&file).write_all(password.octets())?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok((file, path.into()))
}

/// Writes to standard output; a closed one is ignored.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
    let _ = std::io::stdout().flush();
}

#[cfg(test)]
mod tests;
