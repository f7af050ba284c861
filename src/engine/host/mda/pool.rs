//! The agent's workers: a thread for each errand under way, made when it is needed, which ends after
//! [`IDLE`] without work.
//!
//! A user has at most [`PER_USER_MAX`] workers, so a mailbox that hangs costs no more threads, and no other user anything. An
//! errand beyond that, or beyond [`WORKERS_MAX`], is answered with `EBUSY` at once. The thread that receives requests asks no user
//! database, and touches no file but that of the configuration: it has the ids and the stack that the process started with,
//! while a worker has the ids of the last user that it served.

use super::wire::{PACKET_MAX_OCTETS, Request, receive, send_answer};
use crate::sys::lock::{Lock, wait_while};
use crate::sys::thread;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// How long a worker without work stays for the next errand.
const IDLE: Duration = Duration::from_secs(10);
/// The most workers: more than the daemon has connections by default, and those of mailboxes that hang.
pub(super) const WORKERS_MAX: usize = 128;

/// The most workers of one user, who share the syncs of the mailbox.
pub(super) const PER_USER_MAX: usize = 8;

/// The errand that concerns no mailbox: the configuration has changed.
pub(super) const RELOAD: &str = "reload";

/// Reads the configuration again.
pub(super) type Reload = Box<dyn Fn() -> io::Result<u64> + Send + Sync>;
/// Carries out an errand: its words, and the descriptor that came with it.
pub(super) type Hand = Box<dyn FnMut(&str, &[&str], Option<&File>) -> io::Result<u64>>;
/// Makes what a worker carries out its errands with.
pub(super) type MakeHand = Box<dyn Fn() -> Hand + Send + Sync>;

pub(super) struct Pool {
    socket: OwnedFd,
    make_hand: MakeHand,
    reload: Reload,
    state: Lock<State>,
    /// An errand waits for an idle worker.
    work: Condvar,
}

#[derive(Default)]
struct State {
    /// The user of each errand under way.
    users: Vec<String>,
    workers: usize,
    idle: usize,
    /// Errands for idle workers; never more than there are.
    waiting: VecDeque<Job>,
}

impl State {
    /// The number of errands under way for this user.
    fn of(&self, user: &str) -> usize {
        self.users.iter().filter(|it| *it == user).count()
    }

    /// Notes that one of them has ended.
    fn leave(&mut self, user: &str) {
        if let Some(at) = self.users.iter().position(|it| it == user) {
            self.users.swap_remove(at);
        }
    }
}

struct Job {
    number: u32,
    user: String,
    /// The words after the user, with NUL between them.
    words: String,
    file: Option<File>,
}

impl Pool {
    pub fn new(socket: OwnedFd, make_hand: MakeHand, reload: Reload) -> Arc<Self> {
        Arc::new(Self { socket, make_hand, reload, state: Lock::default(), work: Condvar::new() })
    }

    /// Takes requests until the daemon has ended.
    pub fn run(self: &Arc<Self>) {
        let mut packet = vec![0; PACKET_MAX_OCTETS];
        while let Ok((request, file)) = receive(self.socket.as_fd(), &mut packet, true) {
            let Some(Request { number, user, words }) = Request::parse(request) else { continue };
            if user.is_empty() && words.strip_prefix('\0') == Some(RELOAD) {
                self.answer(number, &(self.reload)());
                continue;
            }
            self.give(Job {
                number,
                user: user.to_owned(),
                words: words.to_owned(),
                file: file.map(File::from),
            });
        }
    }

    /// The number of workers.
    #[cfg(test)]
    pub fn workers(&self) -> usize {
        self.state.lock().workers
    }

    /// Gives an errand to an idle worker, or to a new one.
    fn give(self: &Arc<Self>, job: Job) {
        let mut state = self.state.lock();
        let has_idle = state.idle > state.waiting.len();
        if state.of(&job.user) >= PER_USER_MAX || (!has_idle && state.workers >= WORKERS_MAX) {
            drop(state);
            return self.answer(job.number, &Err(Errno::BUSY.into()));
        }
        state.users.push(job.user.clone());
        if has_idle {
            state.waiting.push_back(job);
            drop(state);
            return self.work.notify_one();
        }
        state.workers += 1;
        drop(state);
        let (pool, number, user) = (Arc::clone(self), job.number, job.user.clone());
        if let Err(error) = thread::start("mailbox", move || pool.work(job)) {
            let mut state = self.state.lock();
            state.workers -= 1;
            state.leave(&user);
            drop(state);
            self.answer(number, &Err(error));
        }
    }

    /// A worker: carries out one errand after another.
    fn work(&self, job: Job) {
        let mut hand = (self.make_hand)();
        let mut job = Some(job);
        while let Some(Job { number, user, words, file }) = job.take() {
            let words: Vec<&str> = words.split('\0').collect();
            let done = catch_unwind(AssertUnwindSafe(|| hand(&user, &words, file.as_ref())));
            let done = done.unwrap_or_else(|_| Err(Errno::IO.into()));
            // The message takes room on the disk as long as it is open.
            drop(file);
            // Before the answer: the daemon may send the next errand for this user as soon as it has it.
            let mut state = self.state.lock();
            state.leave(&user);
            state.idle += 1;
            drop(state);
            self.answer(number, &done);
            let mut state = wait_while(&self.work, self.state.lock(), IDLE, |state| state.waiting.is_empty());
            state.idle -= 1;
            job = state.waiting.pop_front();
            if job.is_none() {
                state.workers -= 1;
            }
        }
    }

    /// If the daemon has ended, the thread that receives requests sees it too.
    fn answer(&self, number: u32, done: &io::Result<u64>) {
        let _ = send_answer(self.socket.as_fd(), number, done);
    }
}
