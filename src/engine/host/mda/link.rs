//! The daemon's end of the socket: many threads ask at once, and one thread receives the answers and hands each to its
//! asker, by the number of the request.
//!
//! A user has one place: a second errand for the same user waits for the first one, here and not in the agent. If the
//! first one does not end, as in a home on a file server that is gone, the user is overdue: later errands fail at once,
//! and those of other users are not affected.

use super::wire::{PACKET_MAX_OCTETS, Request, parse_answer, receive, send_request};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::{Lock, wait_while};
use crate::sys::thread;
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// What happens when the agent has ended.
pub(super) type OnEnd = Box<dyn FnOnce() + Send>;

#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
    /// A user whose errand has lasted longer is overdue.
    overdue: Duration,
    state: Lock<State>,
    /// An answer has arrived, a place is free, or the agent has ended.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The number of the latest request.
    requests: u32,
    /// The place of each user with an errand under way.
    places: HashMap<String, Place>,
    is_received: bool,
    has_ended: bool,
}

#[derive(Debug)]
struct Place {
    number: u32,
    /// When the errand began, by the clock that counts from the start of the box.
    since: Duration,
    answer: Option<Result<u64, i32>>,
    /// Whether the asker still waits for the answer.
    is_awaited: bool,
}

impl Link {
    pub fn new(socket: OwnedFd, overdue: Duration) -> Self {
        Self { socket, overdue, state: Lock::default(), news: Condvar::new() }
    }

    /// Sends an errand for `user` and waits for its answer, `patience` at most; as long as that again for the place of
    /// the user.
    ///
    /// # Errors
    /// The error of the errand; or the user is overdue, or the agent has ended.
    pub fn ask(
        self: &Arc<Self>,
        user: &str,
        words: &[&str],
        file: Option<&File>,
        patience: Duration,
    ) -> io::Result<u64> {
        if user.contains('\0') || words.iter().any(|word| word.contains('\0')) {
            return Err(Errno::INVAL.into());
        }
        self.listen(Box::new(|| ()))?;
        let number = self.take_place(user, patience)?;
        let request = Request { number, user, words: &words.join("\0") }.print();
        if let Err(error) = send_request(self.socket.as_fd(), &request, file) {
            self.state.lock().places.remove(user);
            self.news.notify_all();
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => not_now(),
                Some(Errno::PIPE | Errno::CONNRESET) => gone(),
                _ => error,
            });
        }
        self.await_answer(user, patience)
    }

    /// Begins to receive answers. `on_end` is called once the agent has ended, if nobody has begun before.
    ///
    /// # Errors
    /// The system has no thread left at present.
    pub fn listen(self: &Arc<Self>, on_end: OnEnd) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.is_received {
            let link = Arc::clone(self);
            thread::start("mda", move || link.receive(on_end))?;
            state.is_received = true;
        }
        Ok(())
    }

    /// Whether the agent has ended.
    pub fn has_ended(&self) -> bool {
        self.state.lock().has_ended
    }

    /// The number of users whose mailbox does not answer at present.
    pub fn overdue(&self) -> usize {
        let now = SystemClock.boot();
        let is_overdue = |place: &&Place| now.saturating_sub(place.since) >= self.overdue;
        self.state.lock().places.values().filter(is_overdue).count()
    }

    /// Ends the connection, and with it the agent.
    #[cfg(test)]
    pub fn close(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    fn take_place(&self, user: &str, patience: Duration) -> io::Result<u32> {
        let mut state = self.state.lock();
        let deadline = SystemClock.boot() + patience;
        loop {
            if state.has_ended {
                return Err(gone());
            }
            let Some(place) = state.places.get(user) else { break };
            let (number, until) = (place.number, deadline.min(place.since + self.overdue));
            let left = until.saturating_sub(SystemClock.boot());
            if left.is_zero() {
                return Err(not_now());
            }
            state = wait_while(&self.news, state, left, |state| {
                !state.has_ended && state.places.get(user).is_some_and(|place| place.number == number)
            });
        }
        state.requests = state.requests.wrapping_add(1);
        let number = state.requests;
        let place = Place { number, since: SystemClock.boot(), answer: None, is_awaited: true };
        state.places.insert(user.to_owned(), place);
        Ok(number)
    }

    fn await_answer(&self, user: &str, patience: Duration) -> io::Result<u64> {
        let mut state = wait_while(&self.news, self.state.lock(), patience, |state| {
            !state.has_ended && state.places.get(user).is_some_and(|place| place.answer.is_none())
        });
        let has_ended = state.has_ended;
        match state.places.get_mut(user) {
            Some(Place { answer: Some(answer), .. }) => {
                let answer = *answer;
                state.places.remove(user);
                drop(state);
                self.news.notify_all();
                answer.map_err(io::Error::from_raw_os_error)
            }
            // The place stays taken until the late answer.
            Some(place) if !has_ended => {
                place.is_awaited = false;
                Err(not_now())
            }
            _ => Err(gone()),
        }
    }

    /// Hands out answers until the agent has ended.
    fn receive(&self, on_end: OnEnd) {
        let mut packet = [0; PACKET_MAX_OCTETS];
        while let Ok((text, _)) = receive(self.socket.as_fd(), &mut packet, false) {
            let Some((number, answer)) = parse_answer(text) else { continue };
            let mut state = self.state.lock();
            if let Some(place) = state.places.values_mut().find(|place| place.number == number) {
                place.answer = Some(answer);
            }
            state.places.retain(|_, place| place.answer.is_none() || place.is_awaited);
            drop(state);
            self.news.notify_all();
        }
        self.state.lock().has_ended = true;
        self.news.notify_all();
        on_end();
    }
}

fn gone() -> io::Error {
    io::Error::other("the delivery agent, which writes into the Maildirs of system users, has ended")
}

fn not_now() -> io::Error {
    let text = "the mailbox does not answer: an earlier step there has not ended";
    io::Error::new(io::ErrorKind::TimedOut, text)
}
