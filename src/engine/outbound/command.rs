//! A command of the configuration, run as the daemon's user: without a shell, in a process group of its own, for a
//! limited time. Its words are split at blanks; no other character has a special meaning.

use crate::net::transport::Deadline;
use crate::sys::thread;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How often the command is polled for its end.
const GLANCE: Duration = Duration::from_millis(5);

/// A running command. If it is dropped before the command has ended, the whole process group is killed.
#[derive(Debug)]
pub struct Running {
    child: Child,
    has_ended: bool,
}

impl Running {
    /// Starts a command, with `variables` added to the environment.
    ///
    /// # Errors
    /// The program does not exist or is not executable, or no process can be created.
    pub fn start(command: &str, variables: &[(&str, String)], output: Stdio) -> io::Result<Self> {
        let mut words = command.split_ascii_whitespace();
        let mut child = Command::new(words.next().unwrap_or_default());
        let child = child.args(words).envs(variables.iter().map(|(name, value)| (name, value)));
        let child = child.process_group(0).stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        Ok(Self { child: child.spawn()?, has_ended: false })
    }

    /// The output of the command, if it is piped.
    pub fn output(&mut self) -> Option<&mut ChildStdout> {
        self.child.stdout.as_mut()
    }

    /// Waits for the end of the command. `None`: the deadline has passed.
    ///
    /// # Errors
    /// The state of the process cannot be read.
    pub fn wait(&mut self, deadline: Deadline) -> io::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.has_ended = true;
                return Ok(Some(status));
            }
            if deadline.remaining().is_zero() {
                return Ok(None);
            }
            thread::sleep(GLANCE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.has_ended {
            let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            let _ = group.map(|group| kill_process_group(group, Signal::KILL));
            let _ = self.child.wait();
        }
    }
}
