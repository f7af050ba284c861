//! The control socket: where commands of this host talk to the daemon (INTERFACE section 8).
//!
//! Everybody may connect; the kernel says who they are (SO_PEERCRED, SO_PEERGROUPS), and `protocol::rights` what they may
//! ask. One thread accepts, each connection has one of its own, with deadlines; a panic in one ends that one. Never
//! believes what a peer says of itself. What may fail: making the socket, which the daemon survives, since mail is worth
//! more; a question, which is answered with its exit code.

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

/// So many connections one user may have, other than root.
const CONNECTIONS_PER_USER: usize = 16;
/// So many connections all users together may have, other than root.
const CONNECTIONS: usize = 64;
/// How long peers are borne with.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a question to come in, to its last octet; with the envelope of a message.
    pub question: Duration,
    /// For a message to come in, besides the time for its octets. Its sender has it at hand.
    pub message: Duration,
    /// For a piece of the answer to be read.
    pub answer: Duration,
}

/// Of a daemon: somebody may look at the answer page by page.
pub const PATIENCE: Patience = Patience {
    question: Duration::from_secs(10),
    message: Duration::from_secs(60),
    answer: Duration::from_secs(300),
};
/// So many octets a second the disk of a small box takes at least, while a message comes in.
const OCTETS_PER_SECOND: u64 = 64 * 1024;
/// How long an end waits for messages that are coming in: who hears no answer leaves the message a second time.
const STOP_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two looks for them.
const STOP_PAUSE: Duration = Duration::from_millis(10);
/// Pause after an accept that failed for want of descriptors or memory, so that it is not tried without end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Pieces of an answer are gathered up to this size.
const GATHER_OCTETS: usize = 16 * 1024;

/// Makes the directory of the socket, and gives it to `owner`; one that is there stays as it is.
///
/// # Errors
/// It can't be made.
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

/// The socket, and who is connected.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Which file is ours.
    inode: u64,
    patience: Patience,
    /// Users with connections, root left out; one a connection.
    users: Lock<Vec<u32>>,
    /// How many messages are coming in.
    submissions: AtomicUsize,
    stopping: AtomicBool,
}

impl Control {
    /// Opens the socket, for everybody. One that a dead daemon has left is replaced, a living one's is not.
    ///
    /// # Errors
    /// With the path.
    pub fn bind(path: &Path, patience: Patience) -> io::Result<Self> {
        let told = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_left_over(path) => {
                std::fs::remove_file(path).and_then(|()| UnixListener::bind(path))
            }
            result => result,
        };
        let listener = listener.map_err(told)?;
        let everybody = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP | Mode::ROTH | Mode::WOTH;
        rustix::fs::chmod(path, everybody).map_err(|errno| told(errno.into()))?;
        let inode = path.symlink_metadata().map_err(told)?.ino();
        let (users, submissions) = (Lock::default(), AtomicUsize::new(0));
        let stopping = AtomicBool::new(false);
        Ok(Self { listener, path: path.to_owned(), inode, patience, users, submissions, stopping })
    }

    /// Starts to answer.
    ///
    /// # Errors
    /// There was no thread to be had.
    pub fn start(self: &Arc<Self>, services: &Arc<Services>) -> io::Result<()> {
        let (control, services) = (Arc::clone(self), Arc::clone(services));
        thread::start("control", move || control.run(&services))
    }

    /// Ends it: no new connections, and the socket is gone. For messages that are coming in it waits a little, and for
    /// nothing else that is being done: a crash at any moment would do it no harm.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if self.path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == self.inode) {
            // In a directory that is not ours it stays, and the next daemon replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let deadline = Deadline::after(STOP_PATIENCE);
        while self.submissions.load(Ordering::SeqCst) > 0 && !deadline.remaining().is_zero() {
            thread::sleep(STOP_PAUSE);
        }
    }

    fn run(self: &Arc<Self>, services: &Arc<Services>) {
        while !self.stopping.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream, services),
                Err(_) if self.stopping.load(Ordering::SeqCst) => break,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    trouble("accepting on the control socket", &error);
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: UnixStream, services: &Arc<Services>) {
        let Ok(peer) = sockopt::socket_peercred(&stream) else { return };
        let uid = peer.uid.as_raw();
        let Some(permit) = self.admit(uid) else {
            return turn_away(&stream, "too many connections of yours");
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

    /// One connection: one question and its answer. Whoever hears no answer has gone, and whoever says nothing gets none.
    fn serve(&self, stream: &UnixStream, asker: Asker, services: &Services) -> io::Result<()> {
        let mut exchange = Exchange::new(stream, self.patience);
        stream.set_write_timeout(Some(self.patience.answer))?;
        let code = match exchange
            .question()?
            .map(|line| Question::parse(&line.split(' ').collect::<Vec<_>>()))
        {
            Some(Ok(Question::Ask(request))) => requests::answer(services, asker, &request, &mut exchange)?,
            Some(Ok(Question::Submit(sizes))) => {
                let _counted = Counted::begin(&self.submissions);
                // Its id, too, goes out before the count does.
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

    /// Counts a connection in; `None` if it is one too many.
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

/// The right to one connection; given back when dropped, also by a panic.
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

/// One more of something, as long as it lives; also over a panic.
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

/// Whether nobody listens at a socket any more. Asked without waiting: a living daemon may be too busy to answer.
fn is_left_over(path: &Path) -> bool {
    let is_socket = path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
    let ask = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)
    };
    is_socket && ask() == Err(rustix::io::Errno::CONNREFUSED)
}

/// Tells one for whom there is no place, without waiting.
fn turn_away(stream: &UnixStream, why: &str) {
    let mut exchange = Exchange::new(stream, PATIENCE);
    if stream.set_nonblocking(true).is_ok() && exchange.error(why).is_ok() {
        let _ = exchange.end(NOT_NOW);
    }
}

/// What is said on a connection, both ways.
struct Exchange<'a> {
    stream: &'a UnixStream,
    patience: Patience,
    /// Octets of the answer on their way.
    gathered: Vec<u8>,
    /// What has come in behind the question.
    held: Vec<u8>,
    /// When what is read has to be there.
    deadline: Deadline,
}

impl<'a> Exchange<'a> {
    fn new(stream: &'a UnixStream, patience: Patience) -> Self {
        let deadline = Deadline::after(patience.question);
        Self { stream, patience, gathered: Vec::new(), held: Vec::new(), deadline }
    }

    /// The first line, if it comes in time.
    fn question(&mut self) -> io::Result<Option<String>> {
        let mut piece = [0; 1024];
        loop {
            let length = self.read(&mut piece)?;
            let read =
                piece.get(..length).filter(|read| !read.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = read.iter().position(|&octet| octet == b'\n').map(|end| self.held.len() + end);
            self.held.extend_from_slice(read);
            if let Some(end) = end {
                let line = self.held.drain(..=end).take(end).collect();
                return String::from_utf8(line).map(Some).map_err(|_| io::ErrorKind::InvalidData.into());
            }
            if self.held.len() >= QUESTION_MAX_OCTETS {
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
        if self.held.is_empty() {
            return self.read(buffer);
        }
        let length = buffer.len().min(self.held.len());
        let held = self.held.drain(..length);
        buffer.iter_mut().zip(held).for_each(|(to, from)| *to = from);
        Ok(length)
    }

    fn go(&mut self, octets: u64) -> io::Result<()> {
        let time = Duration::from_secs(octets / OCTETS_PER_SECOND);
        self.deadline = Deadline::after(self.patience.message.saturating_add(time));
        self.piece(Piece::Go, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_user_takes_all_places_and_root_always_gets_one() {
        let path = std::env::temp_dir().join(format!("pillarbox-control-{}", std::process::id()));
        let control = Arc::new(Control::bind(&path, PATIENCE).unwrap());
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
