//! The control socket: where commands of this host talk to the daemon (INTERFACE section 8).
//!
//! Everybody may connect; the kernel says who they are (SO_PEERCRED, SO_PEERGROUPS), and `rules::control` what they may
//! ask. One thread accepts, each connection has one of its own, with deadlines; a panic in one ends that one. Never
//! believes what a peer says of itself. What may fail: making the socket, which the daemon survives, since mail is worth
//! more; a question, which is answered with its exit code.

use super::event::Event;
use super::forwarder::Forwarder;
use super::operator::{self, Asker, Output};
use crate::net::transport::Deadline;
use crate::rules::control::{
    BadRequest, NOT_NOW, PIECE_MAX_OCTETS, Piece, QUESTION_MAX_OCTETS, Request, Rights, USAGE,
};
use crate::store::StoreError;
use crate::store::durable::{self, Access, Owner};
use crate::sys::{thread, user};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustix::process::{getegid, geteuid};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many connections one user may have, other than root.
const CONNECTIONS_PER_USER: usize = 16;
/// So many connections all users together may have, other than root.
const CONNECTIONS: usize = 64;
/// How long peers are borne with.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a question to come in, to its last octet.
    pub question: Duration,
    /// For a piece of the answer to be read.
    pub answer: Duration,
}

/// Of a daemon: somebody may look at the answer page by page.
pub const PATIENCE: Patience =
    Patience { question: Duration::from_secs(10), answer: Duration::from_secs(300) };
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
        durable::make_below(durable::open_directory(parent, Access::Read)?, name, passable, owner)
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
    users: Mutex<Vec<u32>>,
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
        let (users, stopping) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { listener, path: path.to_owned(), inode, patience, users, stopping })
    }

    /// Starts to answer.
    ///
    /// # Errors
    /// There was no thread to be had.
    pub fn start(self: &Arc<Self>, forwarder: &Arc<Forwarder>) -> io::Result<()> {
        let (control, forwarder) = (Arc::clone(self), Arc::clone(forwarder));
        thread::start("control", move || control.run(&forwarder))
    }

    /// Ends it: no new connections, and the socket is gone. What is being done is not waited for: whatever it is, a crash
    /// at any moment would do it no harm.
    pub fn close(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        if self.path.symlink_metadata().is_ok_and(|metadata| metadata.ino() == self.inode) {
            // In a directory that is not ours it stays, and the next daemon replaces it.
            let _ = std::fs::remove_file(&self.path);
        }
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }

    fn run(self: &Arc<Self>, forwarder: &Arc<Forwarder>) {
        while !self.stopping.load(Ordering::SeqCst) {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream, forwarder),
                Err(_) if self.stopping.load(Ordering::SeqCst) => break,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    Event::Trouble { doing: "accepting on the control socket", error: &error.to_string() }
                        .log();
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    }

    fn take(self: &Arc<Self>, stream: UnixStream, forwarder: &Arc<Forwarder>) {
        let Ok(peer) = sockopt::socket_peercred(&stream) else { return };
        let uid = peer.uid.as_raw();
        let Some(permit) = self.admit(uid) else {
            return turn_away(&stream, "too many connections of yours");
        };
        let mut groups = user::peer_groups(stream.as_fd());
        groups.push(peer.gid.as_raw());
        let rights = Rights::of(uid, &groups, geteuid().as_raw(), getegid().as_raw());
        let (asker, forwarder, patience) = (Asker { rights, uid }, Arc::clone(forwarder), self.patience);
        let started = thread::start("control", move || {
            let _permit = permit;
            // The panic has been logged by the hook; the peer sees the connection end.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| serve(&stream, asker, &forwarder, patience)));
        });
        if let Err(error) = started {
            Event::Trouble { doing: "starting a thread", error: &error.to_string() }.log();
        }
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
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut answer = Answer::new(stream);
    if stream.set_nonblocking(true).is_ok() && answer.error(why).is_ok() {
        let _ = answer.end(NOT_NOW);
    }
}

/// One connection: one question and its answer.
fn serve(stream: &UnixStream, asker: Asker, forwarder: &Forwarder, patience: Patience) {
    // Whoever hears no answer has gone, and whoever says nothing gets none.
    let Some(question) = read_question(stream, patience.question) else { return };
    let mut answer = Answer::new(stream);
    let words: Vec<&str> = question.split(' ').collect();
    let done = stream.set_write_timeout(Some(patience.answer)).and_then(|()| match Request::parse(&words) {
        Ok(request) => operator::answer(forwarder, asker, &request, &mut answer),
        Err(BadRequest { code, text }) => answer.error(&text).map(|()| code),
    });
    if let Ok(code) = done {
        let _ = answer.end(code);
    }
}

/// The first line, if it comes in time.
fn read_question(mut stream: &UnixStream, patience: Duration) -> Option<String> {
    let deadline = Deadline::after(patience);
    let (mut line, mut piece) = (Vec::new(), [0; 1024]);
    while line.len() < QUESTION_MAX_OCTETS {
        stream.set_read_timeout(Some(deadline.remaining())).ok()?;
        let length = match stream.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result.ok()?,
        };
        let read = piece.get(..length).filter(|read| !read.is_empty())?;
        let end = read.iter().position(|&octet| octet == b'\n');
        line.extend_from_slice(read.get(..end.unwrap_or(length)).unwrap_or_default());
        if end.is_some() {
            return String::from_utf8(line).ok();
        }
    }
    let mut answer = Answer::new(stream);
    answer.error("the question is too long; ask about fewer messages at a time").ok()?;
    answer.end(USAGE).ok()?;
    None
}

/// An answer on its way.
struct Answer<'a> {
    stream: &'a UnixStream,
    gathered: Vec<u8>,
}

impl<'a> Answer<'a> {
    const fn new(stream: &'a UnixStream) -> Self {
        Self { stream, gathered: Vec::new() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        for piece in gathered.chunks(PIECE_MAX_OCTETS) {
            self.piece(Piece::Output(piece.len()), piece)?;
        }
        Ok(())
    }

    fn piece(&mut self, piece: Piece, octets: &[u8]) -> io::Result<()> {
        let mut all = format!("{}\n", piece.print()).into_bytes();
        all.extend_from_slice(octets);
        self.stream.write_all(&all)
    }

    fn end(&mut self, code: u8) -> io::Result<()> {
        self.flush()?;
        self.piece(Piece::End(code), &[])
    }
}

impl Output for Answer<'_> {
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
