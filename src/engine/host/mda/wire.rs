//! The packets between daemon and agent, on a socket that keeps them apart (SOCK_SEQPACKET).

use crate::store::maildir::Errand;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::from_utf8;

/// The longest request and answer, in octets: two file names or the From line of an mbox, a user and a domain.
pub(super) const PACKET_MAX_OCTETS: usize = 2048;

/// The words of a request, as both ends see them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The number that its answer has.
    pub number: u32,
    /// The user; empty for a request that concerns no mailbox.
    pub user: &'a str,
    /// The domain and the words of the errand, with NUL between them.
    pub words: &'a str,
}

impl<'a> Request<'a> {
    /// Reads a packet. `None`: it has no number, so nobody could be answered.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.splitn(3, '\0');
        let number = words.next()?.parse().ok()?;
        let mut next = || words.next().unwrap_or_default();
        Some(Self { number, user: next(), words: next() })
    }

    /// The packet.
    #[must_use]
    pub fn print(&self) -> String {
        format!("{}\0{}\0{}", self.number, self.user, self.words)
    }
}

/// The words of an errand, and the file that goes with it.
#[must_use]
pub fn words_of(errand: Errand<'_>) -> (Vec<&str>, Option<&File>) {
    match errand {
        Errand::Store(name, message) => (vec!["store", name], Some(message)),
        Errand::Commit(name, to) => (vec!["commit", name, to], None),
        Errand::Discard(name) => (vec!["discard", name], None),
        Errand::Append(from_line, message) => (vec!["append", from_line], Some(message)),
        Errand::Sweep => (vec!["sweep"], None),
        Errand::Measure => (vec!["measure"], None),
    }
}

/// The errand with these words. Whoever performs it checks the names in it.
#[must_use]
pub fn errand<'a>(words: &[&'a str], sent: Option<&'a File>) -> Option<Errand<'a>> {
    match (words, sent) {
        (["store", name], Some(message)) => Some(Errand::Store(name, message)),
        (["commit", name, to], _) => Some(Errand::Commit(name, to)),
        (["discard", name], _) => Some(Errand::Discard(name)),
        (["append", from_line], Some(message)) => Some(Errand::Append(from_line, message)),
        (["sweep"], _) => Some(Errand::Sweep),
        (["measure"], _) => Some(Errand::Measure),
        _ => None,
    }
}

/// Sends a request, with a descriptor if `file` is given. It does not wait: an agent that takes no requests at present
/// must not hold the caller.
pub(super) fn send_request(socket: BorrowedFd<'_>, text: &str, file: Option<&File>) -> io::Result<()> {
    if text.len() > PACKET_MAX_OCTETS {
        return Err(Errno::NAMETOOLONG.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = file.map(|file| [file.as_fd()]);
    if let Some(descriptors) = &descriptors {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut control, flags)?;
    Ok(())
}

/// Sends the answer to the request with this number.
pub(super) fn send_answer(socket: BorrowedFd<'_>, number: u32, done: &io::Result<u64>) -> io::Result<()> {
    rustix::net::send(socket, print_answer(number, done).as_bytes(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The answer to the request with this number.
#[must_use]
pub fn print_answer(number: u32, done: &io::Result<u64>) -> String {
    match done {
        Ok(count) => format!("{number} 0 {count}"),
        // An error without a number is a broken rule of this program, such as a link in the place of a directory.
        Err(error) => format!("{number} {} 0", error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())),
    }
}

/// The number of a request and the answer to it; `None` if the text is no answer.
#[must_use]
pub fn parse_answer(text: &str) -> Option<(u32, Result<u64, i32>)> {
    let mut words = text.split(' ');
    let number = words.next()?.parse().ok()?;
    let error = words.next()?.parse().ok()?;
    let count = words.next()?.parse().ok()?;
    Some((number, if error == 0 { Ok(count) } else { Err(error) }))
}

/// Receives a packet, and the descriptor that comes with it. With `takes_files` false a descriptor is dropped by the
/// kernel. The end of the socket is an error.
pub(super) fn receive<'a>(
    socket: BorrowedFd<'_>,
    packet: &'a mut [u8],
    takes_files: bool,
) -> io::Result<(&'a str, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let room = if takes_files { space.as_mut_slice() } else { &mut [] };
    let mut control = RecvAncillaryBuffer::new(room);
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(packet)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?.bytes,
        }
    };
    let mut descriptor = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut rights) = message {
            descriptor = rights.next();
        }
    }
    let text = packet.get(..received).and_then(|octets| from_utf8(octets).ok()).unwrap_or_default();
    if received == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((text, descriptor)) }
}
