//! The command process, `pillarbox-commands`: a second process that runs the `password_command` of logins and `alarm.command`,
//! so that the daemon itself can be forbidden to run programs.
//!
//! It is made after root's rights were given up, before the daemon confines itself, and only where the configuration
//! has a command. It has no thread, and none of the daemon's sockets and files. The daemon sends requests over a socket
//! pair, and does not wait for an answer there:
//!
//! ```text
//! daemon                                     command process
//!   password NUL command      + status, output ─▶  starts the command, with its output to the pipe
//!   alarm NUL value NUL value…        + status ─▶  starts the command, with the values as variables
//!   reload                                     ─▶  reads the configuration again
//!
//!   one more socket pair for each command, `status`:
//!                            ◀─ errno, wait status   the command has ended, or could not be started
//!   shut down, or closed ─▶                          the whole process group of the command is killed
//! ```
//!
//! # Trust
//!
//! The command process trusts no request. A command runs only if it stands, letter by letter, in the configuration, which
//! this process reads itself; no request has an argument or the name of a variable. So an attacker who controls the daemon can
//! run the operator's commands, and nothing else.
//!
//! A command runs as the daemon's user without a shell: its words are split at blanks, and no other character has a
//! special meaning. Whoever starts the daemon, it runs in `/` with this environment: [`PATH`], `HOME` of the user,
//! `LANG=C`, and the variables of the alarm.
//!
//! # Failures
//!
//! | failure | effect |
//! | --- | --- |
//! | the program does not exist, or no process can be created | the error of the operating system for this command |
//! | the command process has ended | the daemon ends with 75 if its settings have a command, so that its supervisor starts both again: it must be made before the confinement |
//! | the daemon ends | all commands are killed, and the command process ends |
//! | a reload finds mistakes in the configuration | the command process keeps the old one, as the daemon does |

use crate::config::{Settings, load};
use crate::mail::relay_login::{PasswordSource, RelayLogin};
use crate::net::transport::Deadline;
use crate::sys::{packet, process, rights, thread, user};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

/// The longest request, in octets: the texts of an alarm are shortened by the alarm.
const PACKET_MAX_OCTETS: usize = 16 * 1024;
/// Commands at the same time; above it, a command is refused.
const COMMANDS_MAX: usize = 64;
/// How often the ends of running commands are looked for.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// How long a command that was killed may take to end.
const KILLED: Duration = Duration::from_secs(1);

/// Where programs of commands are looked for.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const PASSWORD: &str = "password";
const ALARM: &str = "alarm";
const RELOAD: &str = "reload";
/// The variables of `alarm.command`, in the order of the values of a request.
const ALARM_VARIABLES: [&str; 5] =
    ["PILLARBOX_STATE", "PILLARBOX_REASON", "PILLARBOX_ID", "PILLARBOX_ROUTE", "PILLARBOX_TEXT"];

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// To run this `password_command`.
    Password(String),
    /// To run `alarm.command`, with the values of its variables.
    Alarm(Vec<String>),
    /// To read the configuration again.
    Reload,
}

impl Request {
    /// Reads a packet.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(packet);
        match text.split_once('\0') {
            Some((PASSWORD, command)) => Some(Self::Password(command.to_owned())),
            None if text == RELOAD => Some(Self::Reload),
            Some((ALARM, values)) => Some(Self::Alarm(values.split('\0').map(str::to_owned).collect())),
            _ => None,
        }
    }

    /// The packet.
    #[must_use]
    pub fn print(&self) -> String {
        match self {
            Self::Password(command) => format!("{PASSWORD}\0{command}"),
            Self::Alarm(values) => format!("{ALARM}\0{}", values.join("\0")),
            Self::Reload => RELOAD.to_owned(),
        }
    }

    /// The variables that it adds to the environment of the command, as `NAME=VALUE`. What has no name is left out.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        let Self::Alarm(values) = self else { return Vec::new() };
        ALARM_VARIABLES.iter().zip(values).map(|(name, value)| format!("{name}={value}")).collect()
    }
}

/// The daemon's end.
#[derive(Debug)]
pub struct Commands {
    socket: OwnedFd,
}

/// Whether the settings have a command.
#[must_use]
pub fn are_needed(settings: &Settings) -> bool {
    !passwords(settings).is_empty() || !settings.alarm.command.is_empty()
}

/// The commands that print passwords.
fn passwords(settings: &Settings) -> Vec<String> {
    let command = |login: &Arc<RelayLogin>| match &login.password {
        PasswordSource::Command(command) => Some(command.clone()),
        PasswordSource::Usual | PasswordSource::File(_) | PasswordSource::Token => None,
    };
    let mut commands: Vec<String> = settings.relay.logins().iter().filter_map(command).collect();
    commands.push(settings.relay.password_command.clone());
    commands.retain(|command| !command.is_empty());
    commands
}

impl Commands {
    /// Starts the command process if the settings have a command. To be called before the first thread starts, with the
    /// rights that commands shall have.
    ///
    /// # Errors
    /// The socket pair or the process cannot be created.
    pub fn start(config: &Path, settings: &Settings) -> io::Result<Option<Self>> {
        if !are_needed(settings) {
            return Ok(None);
        }
        let (socket, there) = packet::pair()?;
        // Here and not in the process, which may not wait for a name service.
        let account = user::find_uid(rustix::process::geteuid().as_raw()).ok().flatten();
        let home = account.map_or_else(|| "/".to_owned(), |account| account.home.display().to_string());
        let environment = [PATH.to_owned(), "LANG=C".to_owned(), format!("HOME={home}")];
        process::start(c"pillarbox-commands", there, |socket| {
            serve(&socket, config, settings, &environment)
        })?;
        Ok(Some(Self { socket }))
    }

    /// Tells the process to read the configuration again; requests that follow find the new one.
    pub fn reload(&self) {
        // If the process has ended, the next command says so.
        let _ = packet::send(&self.socket, RELOAD.as_bytes(), &[]);
    }

    /// Waits until the command process has ended.
    pub fn wait_for_end(&self) {
        while !self.has_ended() {
            if poll(&mut [PollFd::new(&self.socket, PollFlags::empty())], None).is_err() {
                // Such as a lack of memory: the thread must not spin.
                thread::sleep(KILLED);
            }
        }
    }

    /// Whether the command process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        // The end of a socket is told whatever was asked for.
        let now = Timespec::default();
        poll(&mut [PollFd::new(&self.socket, PollFlags::empty())], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Starts a `password_command`; its output can be read from the pipe.
    ///
    /// # Errors
    /// No descriptor is left, or the command process has ended.
    pub fn password(&self, command: &str) -> io::Result<(Running, PipeReader)> {
        let (output, writer) = io::pipe()?;
        let request = Request::Password(command.to_owned());
        Ok((self.request(&request, Some(writer.into()))?, output))
    }

    /// Starts `alarm.command` with the values of state, reason, id, route and text in its environment.
    ///
    /// # Errors
    /// No descriptor is left, or the command process has ended.
    pub fn alarm(&self, values: &[String; ALARM_VARIABLES.len()]) -> io::Result<Running> {
        self.request(&Request::Alarm(values.to_vec()), None)
    }

    fn request(&self, request: &Request, output: Option<OwnedFd>) -> io::Result<Running> {
        let (status, there) = packet::pair()?;
        let descriptors = [Some(there.as_fd()), output.as_ref().map(AsFd::as_fd)];
        let descriptors: Vec<_> = descriptors.into_iter().flatten().collect();
        packet::send(&self.socket, request.print().as_bytes(), &descriptors).map_err(|_| gone())?;
        Ok(Running { status, has_ended: false })
    }
}

fn gone() -> io::Error {
    io::Error::other("the process that runs commands has ended")
}

/// A running command. If it is dropped before the command has ended, the whole process group is killed.
#[derive(Debug)]
pub struct Running {
    status: OwnedFd,
    has_ended: bool,
}

impl Running {
    /// Waits for the end of the command. `None`: the deadline has passed.
    ///
    /// # Errors
    /// The command could not be started, or the command process has ended.
    pub fn wait(&mut self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        if !is_readable(&self.status, deadline.remaining()) {
            return Ok(None);
        }
        self.has_ended = true;
        let mut octets = [0; 8];
        let (answer, _) = packet::receive(&self.status, &mut octets).map_err(|_| gone())?;
        match answer.as_chunks() {
            ([error, status], []) => match i32::from_ne_bytes(*error) {
                0 => Ok(Some(ExitStatus::from_raw(i32::from_ne_bytes(*status)))),
                error => Err(io::Error::from_raw_os_error(error)),
            },
            _ => Err(gone()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended && rustix::net::shutdown(&self.status, rustix::net::Shutdown::Write).is_ok() {
            // The answer comes when the command has ended.
            is_readable(&self.status, KILLED);
        }
    }
}

fn is_readable(socket: &OwnedFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).ok();
    poll(&mut [PollFd::new(socket, PollFlags::IN)], timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// A command, as the command process sees it.
struct Child {
    pid: Pid,
    status: OwnedFd,
}

/// The loop of the command process, until the daemon has ended.
fn serve(socket: &OwnedFd, config: &Path, settings: &Settings, environment: &[String]) {
    if rights::restrain().is_err() {
        return;
    }
    let _ = rights::close_memory();
    let of = |settings: &Settings| (passwords(settings), settings.alarm.command.clone());
    let mut commands = of(settings);
    let mut children: Vec<Child> = Vec::new();
    loop {
        let mut waiting = vec![PollFd::new(socket, PollFlags::IN)];
        waiting.extend(children.iter().map(|child| PollFd::new(&child.status, PollFlags::IN)));
        let _ = poll(&mut waiting, (!children.is_empty()).then_some(&GLANCE));
        let is_ready: Vec<bool> = waiting.iter().map(|one| !one.revents().is_empty()).collect();
        let mut is_unwanted = is_ready.iter().skip(1);
        children.retain(|child| !child.has_ended(is_unwanted.next().is_some_and(|is| *is)));
        if !is_ready.first().is_some_and(|is| *is) {
            continue;
        }
        let mut octets = [0; PACKET_MAX_OCTETS];
        let Ok((request, descriptors)) = packet::receive(socket, &mut octets) else { break };
        let request = Request::parse(request);
        if request == Some(Request::Reload) {
            // With mistakes in the file the daemon keeps its old configuration too.
            commands = load(config).map_or(commands, |settings| of(&settings));
        } else {
            let commands = (commands.0.as_slice(), commands.1.as_str());
            children.extend(begin(commands, environment, request.as_ref(), descriptors, children.len()));
        }
    }
    for child in children {
        let _ = kill_process_group(child.pid, Signal::KILL);
    }
}

/// Starts the command that a request names; without one that is an error. `None`: it cannot be started, and the request was answered.
fn begin(
    (passwords, alarm): (&[String], &str),
    environment: &[String],
    request: Option<&Request>,
    descriptors: Vec<OwnedFd>,
    running: usize,
) -> Option<Child> {
    let command = match request {
        Some(Request::Password(command)) if passwords.contains(command) => command,
        Some(Request::Alarm(_)) => alarm,
        _ => "",
    };
    let mut descriptors = descriptors.into_iter();
    let status = descriptors.next()?;
    let started = match () {
        () if command.is_empty() => Err(Errno::INVAL.into()),
        () if running >= COMMANDS_MAX => Err(Errno::AGAIN.into()),
        () => {
            let of_alarm = request.into_iter().flat_map(Request::variables);
            let variables: Vec<String> = environment.iter().cloned().chain(of_alarm).collect();
            let words: Vec<&str> = command.split_ascii_whitespace().collect();
            process::spawn(&words, &variables, descriptors.next(), |error| answer(&status, &error))
        }
    };
    match started {
        Ok(pid) => Some(Child { pid, status }),
        Err(error) => {
            answer(&status, &error);
            None
        }
    }
}

fn answer(status: &OwnedFd, error: &io::Error) {
    let error = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    let _ = packet::send(status, &[error.to_ne_bytes(), [0; 4]].concat(), &[]);
}

impl Child {
    /// Whether it has ended; the daemon is told. A child that the daemon does not want any more is killed.
    fn has_ended(&self, is_unwanted: bool) -> bool {
        if is_unwanted {
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        let status = match waitpid(Some(self.pid), WaitOptions::NOHANG) {
            Ok(None) | Err(Errno::INTR) => return false,
            Ok(Some((_, status))) => status.as_raw(),
            Err(_) => 0,
        };
        let _ = packet::send(&self.status, &[[0; 4], status.to_ne_bytes()].concat(), &[]);
        true
    }
}
