//! The delivery agent: a second process that keeps root's rights over files, and does nothing but put messages into the
//! Maildirs and mboxes of the users of this system (`local.users = "system"`), whose files they become.
//!
//! The daemon that talks to the network has become `user` and can't write there. It asks over a socket pair, a step at a
//! time (see [`Errand`]): for a file in a user's `tmp`, which it writes and syncs by the descriptor that comes with the
//! answer, and then for its move to `new`. An mbox is never handed out: the daemon sends the message, as a file without a
//! name, and the agent appends that. It names users and files, never a path; where a Maildir is, the agent finds out by the
//! configuration and the user database. So whoever takes the daemon over can put mail into Maildirs and mboxes and touch
//! files in the `tmp` of Maildirs, and reads no other file.
//!
//! A question is a packet of words with NUL between them: its number, the user, the domain, the errand and its names; a
//! descriptor may come with it. The answer has the number, the number of the error or 0, a count, and perhaps a descriptor.
//! It ends when the daemon does. May fail: every errand, with the error of the system; all of them once the agent is gone,
//! and mail waits then.

use crate::config::{Settings, load};
use crate::engine::log::event::trouble;
use crate::mail::date::WallTime;
use crate::rules::routing::route::LocalUsers;
use crate::store::durable::Owner;
use crate::store::maildir::{Agent, Done, Errand, MaildirPath, MaildirUser, perform};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::Lock;
use crate::sys::{process, rights, user};
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

/// Longest question and answer, in octets: two names of files or the first line of a message, a user and a domain.
const PACKET_MAX_OCTETS: usize = 2048;
/// How long an answer may take: a sync of a slow card. Later ones are not believed.
const PATIENCE: Duration = Duration::from_secs(120);
/// The errand that is none of a Maildir: the configuration has changed.
const RELOAD: &str = "reload";

/// The daemon's end.
#[derive(Debug)]
pub struct DeliveryAgent {
    link: Lock<Link>,
}

#[derive(Debug)]
struct Link {
    socket: OwnedFd,
    questions: u32,
}

impl DeliveryAgent {
    /// Starts the agent if there is something for it to do: this process is root's and about to become
    /// `account`, and the users of the system have Maildirs. To be called before the first thread.
    ///
    /// # Errors
    /// There is no room for another process.
    pub fn start(
        config: &Path,
        settings: &Settings,
        account: Option<&user::SystemUser>,
    ) -> io::Result<Option<Self>> {
        if account.is_none_or(|account| account.uid == 0) || !is_for(settings) {
            return Ok(None);
        }
        let (here, there) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        sockopt::set_socket_timeout(&here, sockopt::Timeout::Recv, Some(PATIENCE))?;
        process::start(c"pillarbox-mda", there, |socket| serve(&socket, config, settings))?;
        Ok(Some(Self { link: Lock::new(Link { socket: here, questions: 0 }) }))
    }

    fn ask(&self, words: &[&str]) -> io::Result<Done> {
        self.ask_about(words, None)
    }

    fn ask_about(&self, words: &[&str], file: Option<&File>) -> io::Result<Done> {
        if words.iter().any(|word| word.contains('\0')) {
            return Err(Errno::INVAL.into());
        }
        let mut link = self.link.lock();
        link.questions = link.questions.wrapping_add(1);
        let number = link.questions;
        let question = format!("{number}\0{}", words.join("\0"));
        if question.len() > PACKET_MAX_OCTETS {
            return Err(Errno::NAMETOOLONG.into());
        }
        send(link.socket.as_fd(), &question, file).map_err(|_| gone())?;
        loop {
            let mut packet = [0; PACKET_MAX_OCTETS];
            let (answer, file) = receive(link.socket.as_fd(), &mut packet).map_err(|_| gone())?;
            let mut words = answer.split(' ');
            let mut next = || words.next().and_then(|word| word.parse::<u64>().ok()).ok_or_else(gone);
            // The answer to a question that nobody waits for any more.
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

/// Whether there are Maildirs of system users.
#[must_use]
pub fn is_for(settings: &Settings) -> bool {
    settings.local.users == LocalUsers::System
}

fn gone() -> io::Error {
    io::Error::other("the delivery agent, which writes into the Maildirs of system users, does not answer")
}

impl Agent for DeliveryAgent {
    fn reload(&self) {
        if let Err(error) = self.ask(&["", "", RELOAD]) {
            trouble("telling the delivery agent of the configuration", &error);
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

/// Sends a packet, and a descriptor with it.
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

/// Receives a packet, and the descriptor that comes with it. An empty one is the end.
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

/// The agent itself, until the daemon is gone.
fn serve(socket: &OwnedFd, config: &Path, settings: &Settings) {
    // While there is still a right to.
    rights::empty_bounding_set();
    if rights::restrain().and_then(|()| rights::keep_those_over_files()).is_err() {
        return;
    }
    let _ = rights::close_memory();
    let mut template = template(settings);
    let mut packet = vec![0; PACKET_MAX_OCTETS];
    while let Ok((question, sent)) = receive(socket.as_fd(), &mut packet) {
        let mut words = question.split('\0');
        let number = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let done = if let ["", "", RELOAD] = words.as_slice() {
            // A file with mistakes keeps the daemon's old configuration, too.
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
            // What has no number is a broken rule of ours, such as a link in place of a directory.
            Err(error) => {
                (format!("{number} {} 0", error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())), None)
            }
        };
        if send(socket.as_fd(), &text, file.as_ref()).is_err() {
            return;
        }
    }
}

/// Where Maildirs are, if they are of system users.
fn template(settings: &Settings) -> Option<String> {
    is_for(settings).then(|| settings.local.maildir.to_string())
}

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
