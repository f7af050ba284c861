//! The delivery agent: a second process, `pillarbox-mda`, that delivers messages to the Maildirs and mboxes of system
//! users (`local.users = "system"`), with the rights of each user.
//!
//! The daemon, which talks to the network, runs as `user` and cannot write there. It sends requests over a socket pair,
//! and many may be under way at once; the answers come in any order, and their numbers say whose they are:
//!
//! ```text
//! daemon                                   agent
//!   number NUL user NUL domain NUL errand… ─▶  (SOCK_SEQPACKET, one packet, at most 2048 octets)
//!                ◀─ number SP errno SP count   (errno 0: success)
//! ```
//!
//! | errand | words | with the request | the answer carries |
//! | --- | --- | --- | --- |
//! | copy a message to `tmp`, and sync it | `store` name | the message, as a descriptor of a file without a name | 1 for an mbox, which is only checked |
//! | move it to `new`, durably | `commit` name new-name | – | – |
//! | unlink it | `discard` name | – | – |
//! | append to an mbox, durably | `append` From-line | the message, as for `store` | – |
//! | remove what crashes left in `tmp` | `sweep` | – | the number of files |
//! | measure the mailbox, for the quota | `measure` | – | its octets |
//! | read the configuration again | `reload`, with empty user and domain | – | – |
//!
//! | part | file | runs in |
//! | --- | --- | --- |
//! | askers, and the thread that receives answers | `link` | the daemon |
//! | packets | `wire` | both |
//! | workers: threads, a few for each user, who share the syncs of a mailbox | `pool` | the agent |
//! | an errand: mailbox, rights of its user, step | `steps` | a worker |
//!
//! # Trust
//!
//! The agent trusts no request. The daemon names a user and a file, never a path: the agent finds the mailbox by the
//! configuration and the user database, and accepts only file names that a delivery makes. It works with the user, the
//! groups and the rights of the mailbox's owner (`sys::identity`), so a link or a file of root's in a mailbox leads
//! nowhere that the owner could not go alone; links are not followed all the same (`store::maildir`). In the home of a
//! user that is not a person it does nothing. Root's rights over files are in effect only while a missing
//! `/var/mail/NAME` is made, or the configuration is read again.
//!
//! The daemon gets no descriptor from the agent: it writes a message to a file of its own, and the agent copies it. So
//! an attacker who controls the daemon can add mail to mailboxes, and remove deliveries that are under way, but can
//! neither read a mailbox nor change what was delivered.
//!
//! | capability | permitted, because | in effect |
//! | --- | --- | --- |
//! | SETUID, SETGID | a worker takes the user, group and groups of the next mailbox's owner | always; they give no right over files |
//! | CHOWN, DAC_OVERRIDE | a missing mailbox is made in the administrator's directory and given to its owner | during that step, in that thread |
//! | DAC_OVERRIDE | a reload reads the configuration, whoever owns the file | while it reads, in the thread that receives requests |
//!
//! The agent has no descriptors except its socket, the standard ones and those of the errands under way. It closes its
//! memory to other processes, has a filter of system calls that lets it run no program, and keeps the uid of root, so that no other user can send signals to it.
//!
//! Threads, and not a process for each user: the ids for files belong to a thread, a thread costs a hundredth of a
//! process, and a worker that was taken over could ask for nothing that the agent would not do anyway.
//!
//! # Failures
//!
//! | failure | effect |
//! | --- | --- |
//! | an errand fails | the error of the operating system for this errand; an error without a number becomes EIO |
//! | no answer within [`PATIENCE`], or [`OVERDUE`] for what comes before the commit (and 1 s for each 64 KiB to store) | the errand fails; the late answer is recognised by its number, and frees the place of its user |
//! | an errand has lasted for [`OVERDUE`] | others for the same user fail at once; `status --check` is critical |
//! | too many mailboxes hang ([`pool`]) | errands of users without a worker fail at once |
//! | the agent has ended | every errand fails, and the daemon ends with 75, so that its supervisor starts both again: only root can start an agent |
//! | the daemon ends | the agent reads the end of the socket and ends |
//! | a reload can't read the configuration, or finds mistakes | the agent keeps the old one, and the daemon logs that |
//!
//! A message of which an errand failed waits in the queue, or was refused with 451. A commit that fails only by its
//! patience may come true later: the message is then delivered twice.

mod link;
mod pool;
mod steps;
pub mod wire;

use self::link::Link;
use self::pool::{MakeHand, Pool, RELOAD};
use self::steps::{Mailboxes, Steps};
use self::wire::words_of;
use crate::config::Settings;
use crate::engine::log::event::trouble;
use crate::rules::routing::route::LocalUsers;
use crate::store::maildir::{Agent, Errand, MaildirUser};
use crate::sys::{process, rights, seccomp, user};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The wait for the end of a delivery, which must not be given up and then come true: a slow card may take long to sync.
const PATIENCE: Duration = Duration::from_secs(120);
/// After this time without an answer, others do not wait for the mailbox any more.
const OVERDUE: Duration = Duration::from_secs(10);
/// Octets that the slowest card takes in a second.
const SLOWEST_OCTETS: u64 = 64 * 1024;

/// The daemon's end.
#[derive(Debug)]
pub struct DeliveryAgent {
    link: Arc<Link>,
}

impl DeliveryAgent {
    /// Starts the agent if it is needed: this process runs as root and is about to become `account`, and mail is
    /// delivered to system users. To be called before the first thread starts.
    ///
    /// # Errors
    /// The socket pair or the process cannot be created.
    pub fn start(
        config: &Path,
        settings: &Settings,
        account: Option<&user::SystemUser>,
    ) -> io::Result<Option<Self>> {
        if account.is_none_or(|account| account.uid == 0) || !is_needed(settings) {
            return Ok(None);
        }
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        process::start(c"pillarbox-mda", there, |socket| serve(socket, config, settings))?;
        Ok(Some(Self { link: Arc::new(Link::new(here, OVERDUE)) }))
    }

    /// Calls `on_end` when the agent has ended. To be called before the first errand, in a process that has given up its
    /// rights.
    ///
    /// # Errors
    /// The system has no thread left at present.
    pub fn watch(&self, on_end: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.link.listen(Box::new(on_end))
    }

    /// Whether the agent has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.link.has_ended()
    }
}

/// Whether mail is delivered to system users.
#[must_use]
pub fn is_needed(settings: &Settings) -> bool {
    settings.local.users == LocalUsers::System
}

impl Agent for DeliveryAgent {
    fn reload(&self) -> bool {
        let done = self.link.ask("", &["", RELOAD], None, OVERDUE);
        if let Err(error) = &done {
            trouble("reloading the delivery agent, which keeps the old configuration", error);
        }
        done.is_ok()
    }

    fn go(&self, whose: &MaildirUser, errand: Errand<'_>) -> io::Result<u64> {
        let (mut words, file) = words_of(errand);
        words.insert(0, &whose.domain);
        // A delivery that is given up during its commit could be made twice; what comes before can be done again.
        let patience = match errand {
            Errand::Store(_, message) => OVERDUE + time_for(message),
            Errand::Commit(..) | Errand::Append(..) => PATIENCE,
            Errand::Discard(_) | Errand::Sweep | Errand::Measure => OVERDUE,
        };
        self.link.ask(&whose.user, &words, file, patience)
    }

    fn overdue(&self) -> usize {
        self.link.overdue()
    }
}

/// How long the slowest card takes for the message.
fn time_for(message: &File) -> Duration {
    let octets = message.metadata().map_or(0, |metadata| metadata.len());
    Duration::from_secs(octets / SLOWEST_OCTETS)
}

/// The agent: takes requests until the daemon has ended.
fn serve(socket: OwnedFd, config: &Path, settings: &Settings) {
    // First, since it needs a capability that is given up below.
    rights::empty_bounding_set();
    // Threads that start later inherit all of this.
    if rights::restrain().and_then(|()| rights::keep_for_delivery()).is_err() {
        return;
    }
    let _ = rights::close_memory();
    // Without one the agent does its work all the same; the daemon logs that its kernel has none.
    let _ = seccomp::install(seccomp::AGENT);
    let mailboxes = Arc::new(Mailboxes::new(config.to_owned(), settings));
    let of_reload = Arc::clone(&mailboxes);
    let make_hand: MakeHand = Box::new(move || {
        let mut steps = Steps::new(Arc::clone(&mailboxes));
        Box::new(move |user, words, sent| steps.go(user, words, sent))
    });
    Pool::new(socket, make_hand, Box::new(move || of_reload.reload())).run();
}

#[cfg(test)]
mod tests;
