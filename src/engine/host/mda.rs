//! The delivery agent: a second process, `pillarbox-mda`, that keeps root's rights over files. It only delivers
//! messages to the Maildirs and mboxes of system users (`local.users = "system"`), who own the files afterwards.
//!
//! The daemon, which talks to the network, runs as `user` and cannot write there. It sends requests over a socket pair,
//! one at a time, and waits for each answer:
//!
//! ```text
//! daemon                                   agent
//!   number NUL user NUL domain NUL errand… ─▶  (SOCK_SEQPACKET, one packet, at most 2048 octets)
//!                ◀─ number SP errno SP count   (errno 0: success)
//! ```
//!
//! | errand | words | with the request | the answer carries |
//! | --- | --- | --- | --- |
//! | make a file in `tmp` | `stage` name | – | its descriptor; none for an mbox, which is only checked |
//! | move it to `new`, durably | `commit` name new-name | – | – |
//! | unlink it | `discard` name | – | – |
//! | append to an mbox, durably | `append` From-line | the message, as a descriptor of a file without a name | – |
//! | remove what crashes left in `tmp` | `sweep` | – | the number of files |
//! | measure the mailbox, for the quota | `measure` | – | its octets |
//! | read the configuration again | `reload`, with empty user and domain | – | – |
//!
//! The daemon writes and syncs a staged file by its descriptor. It never gets a descriptor of an mbox.
//!
//! # Trust
//!
//! The agent trusts no request. The daemon names a user and a file, never a path: the agent finds the mailbox by the
//! configuration and the user database, and checks that each name is a single component of a path. Directories are
//! opened without following links (`store::maildir`). So an attacker who controls the daemon can add mail to mailboxes,
//! and change files in the `tmp` of Maildirs, but can read no other file. The agent has no descriptors except its
//! socket and the standard ones, keeps only the capabilities CHOWN, DAC_OVERRIDE and FOWNER, closes its memory to
//! other processes, and has a filter of system calls: it can run no program.
//!
//! # Failures
//!
//! | failure | effect |
//! | --- | --- |
//! | an errand fails | the error of the operating system for this errand; an error without a number becomes EIO |
//! | no answer within [`PATIENCE`] | the errand fails; the late answer is recognised by its number and ignored |
//! | the agent has ended | every errand fails, and mail waits in the queue until a restart |
//! | the daemon ends | the agent reads the end of the socket and ends |
//! | a reload finds mistakes in the configuration | the agent keeps the old one, as the daemon does |

use crate::config::{Settings, load};
use crate::engine::log::event::trouble;
use crate::mail::date::WallTime;
use crate::rules::routing::route::LocalUsers;
use crate::store::durable::Owner;
use crate::store::maildir::{Agent, Done, Errand, MaildirPath, MaildirUser, perform};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::Lock;
use crate::sys::{process, rights, seccomp, user};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair, sockopt,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::str::from_utf8;
use std::time::Duration;

/// The longest request and answer, in octets: two file names or the From line of an mbox, a user and a domain.
const PACKET_MAX_OCTETS: usize = 2048;
/// The longest wait for an answer: a slow card may take long to sync.
const PATIENCE: Duration = Duration::from_secs(120);
/// The errand that concerns no mailbox: the configuration has changed.
const RELOAD: &str = "reload";

/// The daemon's end of the socket pair.
#[derive(Debug)]
pub struct DeliveryAgent {
    link: Lock<Link>,
}

#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    /// The number of the latest request.
    requests: u32,
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
        sockopt::set_socket_timeout(&here, sockopt::Timeout::Recv, Some(PATIENCE))?;
        process::start(c"pillarbox-mda", there, |socket| serve(&socket, config, settings))?;
        Ok(Some(Self { link: Lock::new(Link { socket: here, requests: 0 }) }))
    }

    fn ask(&self, words: &[&str]) -> io::Result<Done> {
        self.ask_about(words, None)
    }

    fn ask_about(&self, words: &[&str], file: Option<&File>) -> io::Result<Done> {
        if words.iter().any(|word| word.contains('\0')) {
            return Err(Errno::INVAL.into());
        }
        let mut link = self.link.lock();
        link.requests = link.requests.wrapping_add(1);
        let number = link.requests;
        let request = format!("{number}\0{}", words.join("\0"));
        if request.len() > PACKET_MAX_OCTETS {
            return Err(Errno::NAMETOOLONG.into());
        }
        send(link.socket.as_fd(), &request, file).map_err(|_| gone())?;
        loop {
            let mut packet = [0; PACKET_MAX_OCTETS];
            let (answer, file) = receive(link.socket.as_fd(), &mut packet).map_err(|_| gone())?;
            let mut words = answer.split(' ');
            let mut next = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(gone);
            // The late answer to a request that has timed out.
            if next()? != u64::from(number) {
                continue;
            }
            let (error, count) = (next()?, next()?);
            return match (i32::try_from(error).unwrap_or(0), file) {
                (0, Some(file)) => Ok(Done::File(File::from(file))),
                (0, None) => Ok(Done::Count(count)),
                (error, _) => Err(io::Error::from_raw_os_error(error)),
            };
        }
    }
}

/// Whether mail is delivered to system users.
#[must_use]
pub fn is_needed(settings: &Settings) -> bool {
    settings.local.users == LocalUsers::System
}

fn gone() -> io::Error {
    io::Error::other("the delivery agent, which writes into the Maildirs of system users, does not answer")
}

impl Agent for DeliveryAgent {
    fn reload(&self) {
        if let Err(error) = self.ask(&["", "", RELOAD]) {
            trouble("reloading the delivery agent", &error);
        }
    }

    fn go(&self, whose: &MaildirUser, errand: Errand<'_>) -> io::Result<Done> {
        let (user, domain) = (whose.user.as_str(), whose.domain.as_str());
        match errand {
            Errand::Stage(name) => self.ask(&[user, domain, "stage", name]),
            Errand::Commit(name, to) => self.ask(&[user, domain, "commit", name, to]),
            Errand::Discard(name) => self.ask(&[user, domain, "discard", name]),
            Errand::Append(from_line, message) => {
                self.ask_about(&[user, domain, "append", from_line], Some(message))
            }
            Errand::Sweep => self.ask(&[user, domain, "sweep"]),
            Errand::Measure => self.ask(&[user, domain, "measure"]),
        }
    }
}

/// Sends a packet, with a descriptor if `file` is given.
fn send(socket: BorrowedFd<'_>, text: &str, file: Option<&File>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = file.map(|file| [file.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a packet, and the descriptor that comes with it. An empty packet is the end.
fn receive<'a>(socket: BorrowedFd<'_>, packet: &'a mut [u8]) -> io::Result<(&'a str, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            descriptor = rights.next();
        }
    }
    let text = packet.get(..received).and_then(|octets| from_utf8(octets).ok()).unwrap_or_default();
    if text.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((text, descriptor)) }
}

/// The agent's loop: answers requests until the daemon has ended.
fn serve(socket: &OwnedFd, config: &Path, settings: &Settings) {
    // First, since it needs a capability that is given up below.
    rights::empty_bounding_set();
    if rights::restrain().and_then(|()| rights::keep_those_over_files()).is_err() {
        return;
    }
    let _ = rights::close_memory();
    // Without one the agent does its work all the same; the daemon logs that its kernel has none.
    let _ = seccomp::install(seccomp::AGENT);
    let mut template = template(settings);
    let mut packet = vec![0; PACKET_MAX_OCTETS];
    while let Ok((request, sent)) = receive(socket.as_fd(), &mut packet) {
        let mut words = request.split('\0');
        let number = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let done = if let ["", "", RELOAD] = words.as_slice() {
            // With mistakes in the file the daemon keeps its old configuration too.
            if let Ok(settings) = load(config) {
                template = self::template(&settings);
            }
            Ok(Done::Count(0))
        } else {
            answer(template.as_deref(), &words, sent.map(File::from).as_ref())
        };
        let (text, file) = match done {
            Ok(Done::File(file)) => (format!("{number} 0 0"), Some(file)),
            Ok(Done::Count(count)) => (format!("{number} 0 {count}"), None),
            // An error without a number is a broken rule of this program, such as a link in the place of a directory.
            Err(error) => {
                (format!("{number} {} 0", error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())), None)
            }
        };
        if send(socket.as_fd(), &text, file.as_ref()).is_err() {
            return;
        }
    }
}

/// The template of mailboxes, if mail is delivered to system users.
fn template(settings: &Settings) -> Option<String> {
    is_needed(settings).then(|| settings.local.maildir.to_string())
}

/// Carries out one request.
fn answer(template: Option<&str>, words: &[&str], sent: Option<&File>) -> io::Result<Done> {
    let [user, domain, errand @ ..] = words else { return Err(Errno::INVAL.into()) };
    let errand = match (errand, sent) {
        (["stage", name], _) => Errand::Stage(name),
        (["commit", name, to], _) => Errand::Commit(name, to),
        (["discard", name], _) => Errand::Discard(name),
        (["append", from_line], Some(message)) => Errand::Append(from_line, message),
        (["sweep"], _) => Errand::Sweep,
        (["measure"], _) => Errand::Measure,
        _ => return Err(Errno::INVAL.into()),
    };
    let template = template.ok_or(Errno::PERM)?;
    let account = user::find(user)?.ok_or(Errno::NOENT)?;
    let owner = Owner { uid: account.uid, gid: account.gid };
    let path = MaildirPath::expand(template, &account.name, domain, Some(&account.home), Some(owner))
        .map_err(|_| Errno::INVAL)?;
    perform(&path, Some(owner), errand, WallTime(SystemClock.wall_micros()))
}
