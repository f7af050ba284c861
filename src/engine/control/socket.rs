//! The control socket, on which commands of this host talk to the daemon.
//!
//! # Life of a question
//!
//! | step | who | if it fails |
//! | --- | --- | --- |
//! | connect | any user: the socket has mode 0666 | the client finds no daemon |
//! | accept | the one thread `control` | logged; next try after 100 ms |
//! | identify the peer | the kernel: SO_PEERCRED and SO_PEERGROUPS | closed without an answer |
//! | count the connection | `Control::admit` | "too many connections are open", exit code 75 |
//! | read the question, one line | a thread of its own, as all that follows | closed at the deadline; 64 if it is too long or malformed |
//! | check the rights | [`PeerRights`], by user and groups | 77 |
//! | answer | [`requests`], or [`submit`] for a message | an exit code, and a line for standard error |
//! | send the end with the exit code | [`crate::protocol::piece`] | the client reports a broken answer |
//!
//! A connection carries one question and one answer. The framing is that of [`crate::protocol`]: the question is a line,
//! the answer comes in pieces with a head each. This file gathers output into pieces of about 16 KiB, and sends what it
//! has gathered before an error line, so that both streams keep their order.
//!
//! # Limits
//!
//! | limit | value | purpose |
//! | --- | --- | --- |
//! | connections of a user | 16 | one user must not lock the others out |
//! | connections of all users but root | 64 | threads and memory of a small box |
//! | connections of root | no limit | root can always ask |
//! | time for the question | 10 s | an idle connection must not hold a place |
//! | time for a message | 60 s, and a second for each 64 KiB | the sender has it at hand; the disk may be slow |
//! | time to read a piece of the answer | 300 s | a person may page through it |
//! | length of the question | 64 KiB | memory |
//!
//! # Ends
//!
//! The thread of a connection catches its panic: the panic ends that connection only. [`Control::close`] waits up to two
//! seconds for messages that are coming in, since a client without an answer submits its message again. It waits for
//! no other question: a crash at any time does the queue no harm.
//!
//! The daemon survives without its control socket, because mail matters more. It never believes what a peer says of
//! itself.

use super::output::Peer;
use super::services::Services;
use super::{requests, submit};
use crate::engine::control::output::{Asker, Output};
use crate::engine::log::event::trouble;
use crate::net::transport::Deadline;
use crate::protocol::piece::{self, PIECE_MAX_OCTETS, Piece};
use crate::protocol::question::{QUESTION_MAX_OCTETS, Question};
use crate::protocol::request::{BadRequest, NOT_NOW, USAGE};
use crate::protocol::rights::PeerRights;
use crate::store::StoreError;
use crate::store::durable::{self, DirectoryAccess, Owner};
use crate::sys::lock::Lock;
use crate::sys::{thread, user};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustix::process::{getegid, geteuid};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

/// How many connections a user other than root may have.
const CONNECTIONS_PER_USER: usize = 16;
/// How many connections all users other than root may have together.
const CONNECTIONS: usize = 64;

/// How long the socket waits for a client.
#[derive(Debug, Clone, Copy)]
pub struct SocketTimeouts {
    /// For a whole question, with the envelope of a message.
    pub question: Duration,
    /// For a whole message, besides the time for its octets. The client has it at hand.
    pub message: Duration,
    /// For the client to read a piece of the answer.
    pub answer: Duration,
}

/// The timeouts of a daemon. A person may read the answer page by page.
pub const SOCKET_TIMEOUTS: SocketTimeouts = SocketTimeouts {
    question: Duration::from_secs(10),
    message: Duration::from_secs(60),
    answer: Duration::from_secs(300),
};
/// The lowest rate, in octets a second, at which the disk of a small box stores a message.
const OCTETS_PER_SECOND: u64 = 64 * 1024;
/// How long [`Control::close`] waits for messages that are coming in: a client without an answer submits again.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it checks for them.
const STOP_PAUSE: Duration = Duration::from_millis(10);
/// The pause after an accept that failed for lack of descriptors or memory: the thread must not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many octets of output are gathered into a piece.
const GATHER_OCTETS: usize = 16 * 1024;

/// Makes the directory of the socket and gives it to `owner`. An existing directory stays as it is.
///
/// # Errors
/// The directory cannot be made or given away.
pub fn make_directory(socket: &Path, owner: Option<Owner>) -> Result<(), StoreError> {
    let Some(directory) = socket.parent().filter(|path| !path.as_os_str().is_empty() && !path.exists())
    else {
        return Ok(());
    };
    let passable = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
    let make = || {
        let (parent, name) =
            (directory.parent().unwrap_or(directory), directory.file_name().unwrap_or_default());
        durable::make_directories(parent, passable)?;
        durable::make_below(durable::open_directory(parent, DirectoryAccess::Read)?, name, passable, owner)
    };
    make().map(drop).map_err(|error: io::Error| StoreError::io(directory, error))
}

/// The socket and its connections.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// The inode of our socket: another daemon may have replaced the file.
    inode: u64,
    timeouts: SocketTimeouts,
    /// The user of each connection, root's left out.
    users: Lock<Vec<u32>>,
    /// How many messages are coming in.
    submissions: AtomicUsize,
    stopping: AtomicBool,
}

impl Control {
    /// Opens the socket for all users. A socket that a dead daemon has left is replaced; that of a living one is not.
    ///
    /// # Errors
    /// A daemon listens at `path`, another file is there, or the directory does not allow it. The error names the path.
    pub fn bind(path: &Path, timeouts: SocketTimeouts) -> io::Result<Self> {
        let with_path =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            result => result,
        };
        let listener = listener.map_err(with_path)?;
        let everybody = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        rustix::fs::chmod(path, everybody).map_err(|errno| with_path(errno.into()))?;
        let inode = path.symlink_metadata().map_err(with_path)?.ino();
        let (users, submissions) = (Lock::default(), AtomicUsize::new(0));
        let stopping = AtomicBool::new(false);
        Ok(Self { listener, path: path.to_owned(), inode, timeouts, users, submissions, stopping })
    }

    /// Starts the thread that accepts connections.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(self: &Arc<Self>, services: &Arc<Services>) -> io::Result<()> {
        let (control, services) = (Arc::clone(self), Arc::clone(services));
        thread::start("control", move || control.run(&services))
    }

    /// Stops accepting and removes the socket. Waits up to two seconds for messages that are coming in, and for no other
    /// question: a crash at any time would do the queue no harm.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if self.path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == self.inode) {
            // It stays in a directory that the daemon may not change; the next daemon replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let deadline = Deadline::after(STOP_TIMEOUT);
        while self.submissions.load(Ordering::SeqCst) > 0 && !deadline.remaining().is_zero() {
            thread::sleep(STOP_PAUSE);
        }
    }

    fn run(self: &Arc<Self>, services: &Arc<Services>) {
        while !self.stopping.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => self.start_connection(stream, services),
                Err(_) if self.stopping.load(Ordering::SeqCst) => break,
                Err(error) => accept_failed(&error),
            }
        }
    }

    /// Identifies the peer and serves it in a thread of its own, if it may have another connection.
    fn start_connection(self: &Arc<Self>, stream: UnixStream, services: &Arc<Services>) {
        let Ok(peer) = sockopt::socket_peercred(&stream) else { return };
        let uid = peer.uid.as_raw();
        let Some(permit) = self.admit(uid) else {
            return turn_away(&stream, "too many connections are open");
        };
        let mut groups = user::peer_groups(stream.as_fd());
        groups.push(peer.gid.as_raw());
        let rights = PeerRights::of(uid, &groups, geteuid().as_raw(), getegid().as_raw());
        let (asker, control, services) = (Asker { rights, uid }, Arc::clone(self), Arc::clone(services));
        let started = thread::start("control", move || {
            let _permit = permit;
            // The panic has been logged by the hook; the peer sees the connection end.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| control.serve(&stream, asker, &services)));
        });
        if let Err(error) = started {
            trouble("starting a thread", &error);
        }
    }

    /// Serves a connection: one question and its answer.
    ///
    /// # Errors
    /// The client closes the connection, misses a deadline, or sends a question that is not UTF-8. It gets no answer.
    fn serve(&self, stream: &UnixStream, asker: Asker, services: &Services) -> io::Result<()> {
        let mut exchange = Exchange::new(stream, self.timeouts);
        stream.set_write_timeout(Some(self.timeouts.answer))?;
        let code =
            match exchange.question()?.map(|line| Question::parse(&line.split(' ').collect::<Vec<_>>())) {
                Some(Ok(Question::Ask(request))) => {
                    // An empty piece says that the daemon is alive: the answer itself may take long.
                    exchange.piece(Piece::Output(0), &[])?;
                    requests::answer(services, asker, &request, &mut exchange)?
                }
                Some(Ok(Question::Submit(sizes))) => {
                    let _counted = Counted::begin(&self.submissions);
                    // The answer with the id is sent before the count goes down, so that `close` waits for it, too.
                    let code = submit::take(&services.manager, asker.uid, sizes, &mut exchange)?;
                    return exchange.end(code);
                }
                Some(Err(BadRequest { code, text })) => {
                    exchange.error(&text)?;
                    code
                }
                None => {
                    exchange.error("the question is too long; ask about fewer messages at a time")?;
                    USAGE
                }
            };
        exchange.end(code)
    }

    /// Counts a new connection. `None` if the user, or all users together, have too many.
    fn admit(self: &Arc<Self>, uid: u32) -> Option<Permit> {
        let mut users = self.users();
        let own = users.iter().filter(|&&user| user == uid).count();
        if uid != 0 {
            if own >= CONNECTIONS_PER_USER || users.len() >= CONNECTIONS {
                return None;
            }
            users.push(uid);
        }
        Some(Permit { control: Arc::clone(self), uid })
    }

    fn users(&self) -> MutexGuard<'_, Vec<u32>> {
        self.users.lock()
    }
}

/// A place for one connection, given back when dropped, also by a panic.
struct Permit {
    control: Arc<Control>,
    uid: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut users = self.control.users();
        if let Some(place) = users.iter().position(|&user| user == self.uid) {
            users.swap_remove(place);
        }
    }
}

/// Raises a count while it lives, also if a panic ends that.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a dead daemon has left this socket. The probe does not block: a living daemon may be too busy to accept.
fn is_left_over(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    let ask = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    is_socket && ask() == Err(rustix::io::Errno::CONNREFUSED)
}

/// Logs an error of `accept` and waits a moment, unless the error is about one client only.
fn accept_failed(error: &io::Error) {
    if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) {
        trouble("accepting on the control socket", error);
        thread::sleep(ACCEPT_PAUSE);
    }
}

/// Refuses a connection without waiting for the client.
fn turn_away(stream: &UnixStream, why: &str) {
    let mut exchange = Exchange::new(stream, SOCKET_TIMEOUTS);
    if stream.set_nonblocking(true).is_ok() && exchange.error(why).is_ok() {
        let _ = exchange.end(NOT_NOW);
    }
}

/// The question and the answer of a connection, with their framing and deadlines.
struct Exchange<'a> {
    stream: &'a UnixStream,
    timeouts: SocketTimeouts,
    /// Output that is not sent yet.
    gathered: Vec<u8>,
    /// Octets that were received behind the question: the beginning of an envelope.
    received: Vec<u8>,
    /// The deadline of the question, later of the message.
    deadline: Deadline,
}

impl<'a> Exchange<'a> {
    fn new(stream: &'a UnixStream, timeouts: SocketTimeouts) -> Self {
        let deadline = Deadline::after(timeouts.question);
        Self { stream, timeouts, gathered: Vec::new(), received: Vec::new(), deadline }
    }

    /// Reads the question, the first line. `None` if it is too long.
    ///
    /// # Errors
    /// The connection is closed, the deadline passes, or the line is not UTF-8.
    fn question(&mut self) -> io::Result<Option<String>> {
        let mut piece = [0; 1024];
        loop {
            let length = self.read(&mut piece)?;
            let read =
                piece.get(..length).filter(|read| !read.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = read.iter().position(|&octet| octet == b'\n').map(|end| self.received.len() + end);
            self.received.extend_from_slice(read);
            if let Some(end) = end {
                let line = self.received.drain(..=end).take(end).collect();
                return String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into());
            }
            if self.received.len() >= QUESTION_MAX_OCTETS {
                return Ok(None);
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.stream.set_read_timeout(Some(self.deadline.remaining()))?;
            match self.stream.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        for piece in gathered.chunks(PIECE_MAX_OCTETS) {
            self.piece(Piece::Output(piece.len()), piece)?;
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece, octets: &[u8]) -> io::Result<()> {
        piece::write(self.stream, piece, octets)
    }

    fn end(&mut self, code: u8) -> io::Result<()> {
        self.flush()?;
        self.piece(Piece::End(code), &[])
    }
}

impl Output for Exchange<'_> {
    fn output(&mut self, octets: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(octets);
        if self.gathered.len() >= GATHER_OCTETS { self.flush() } else { Ok(()) }
    }

    fn error(&mut self, line: &str) -> io::Result<()> {
        self.flush()?;
        let line = format!("{line}\n");
        for piece in line.as_bytes().chunks(PIECE_MAX_OCTETS) {
            self.piece(Piece::Error(piece.len()), piece)?;
        }
        Ok(())
    }
}

impl Peer for Exchange<'_> {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return self.read(buffer);
        }
        let length = buffer.len().min(self.received.len());
        let received = self.received.drain(..length);
        buffer.iter_mut().zip(received).for_each(|(to, from)| *to = from);
        Ok(length)
    }

    fn go(&mut self, octets: u64) -> io::Result<()> {
        let time = Duration::from_secs(octets / OCTETS_PER_SECOND);
        self.deadline = Deadline::after(self.timeouts.message.saturating_add(time));
        self.piece(Piece::Go, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::world::{World, take_events, take_log};
    use crate::test_directory::TestDirectory;

    /// Without a descriptor left, the thread would else spin, and nobody would learn why.
    #[test]
    fn an_accept_that_fails_for_this_host_is_told_of_and_followed_by_a_pause() {
        let _world = World::new("");
        take_log();
        accept_failed(&rustix::io::Errno::INTR.into());
        accept_failed(&rustix::io::Errno::CONNABORTED.into());
        assert_eq!(take_events("trouble").len(), 0);
        let begun = std::time::Instant::now();
        accept_failed(&rustix::io::Errno::MFILE.into());
        assert!(take_events("trouble").len() == 1 && begun.elapsed() >= ACCEPT_PAUSE);
    }

    #[test]
    fn no_user_takes_all_places_and_root_always_gets_one() {
        let directory = TestDirectory::new();
        let control = Arc::new(Control::bind(&directory.join("control.sock"), SOCKET_TIMEOUTS).unwrap());
        let mut permits: Vec<Permit> = (0..16).map(|_| control.admit(1000).unwrap()).collect();
        assert!(control.admit(1000).is_none());
        permits.extend((0..48).map(|i| control.admit(2000 + i).unwrap()));
        assert!(control.admit(3000).is_none());
        let roots: Vec<Permit> = (0..100).map(|_| control.admit(0).unwrap()).collect();
        permits.truncate(15);
        drop(roots);
        assert!(control.admit(1000).is_some() && control.admit(3000).is_some());
        drop(permits);
        assert_eq!(control.users().len(), 0);
        control.close();
    }
}
