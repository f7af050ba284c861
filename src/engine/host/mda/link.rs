//! The daemon's end of the socket: many threads ask at once, and one thread receives the answers and hands each to its
//! asker, by the number of the request.
//!
//! A user has [`PER_USER_MAX`] places: one more errand for the same user waits for one of them to end, here and not in the
//! agent. If one does not end, as in a home on a file server that is gone, the user is overdue: later errands fail at once,
//! and those of other users are not affected. While half of the agent's workers are busy, a user gets one place only, so
//! that mailboxes that are about to hang cannot take all workers.

use super::pool::{PER_USER_MAX, WORKERS_MAX};
use super::wire::{PACKET_MAX_OCTETS, Request, parse_answer, receive, send_request};
use crate::sys::clock::{Clock, SystemClock};
use crate::sys::lock::{Lock, wait_while};
use crate::sys::thread;
use rustix::io::Errno;
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
}

/// Tells one asker that its answer has arrived, that a place is free, or that the agent has ended.
type News = Arc<Condvar>;

#[derive(Debug, Default)]
struct State {
    /// The number of the latest request.
    requests: u32,
    /// The errands under way.
    places: Vec<Place>,
    /// Those who wait for a place of this user, in their order.
    waiting: Vec<(String, News)>,
    is_received: bool,
    has_ended: bool,
}

#[derive(Debug)]
struct Place {
    user: String,
    number: u32,
    /// When the errand began, by the clock that counts from the start of the box.
    since: Duration,
    answer: Option<Result<u64, i32>>,
    /// Whether the asker still waits for the answer.
    is_awaited: bool,
    news: News,
}

impl State {
    fn places_of(&self, user: &str) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| place.user == user)
    }

    fn is_full_for(&self, user: &str) -> bool {
        let most = if self.places.len() < WORKERS_MAX / 2 { PER_USER_MAX } else { 1 };
        self.places_of(user).count() >= most
    }

    fn place(&mut self, number: u32) -> Option<&mut Place> {
        self.places.iter_mut().find(|place| place.number == number)
    }

    /// Frees the place of an errand for the next who waits for one of the same user.
    fn free(&mut self, number: u32) {
        if let Some(at) = self.places.iter().position(|place| place.number == number) {
            let place = self.places.swap_remove(at);
            self.wake_next(&place.user);
        }
    }

    fn wake_next(&self, user: &str) {
        if let Some((_, news)) = self.waiting.iter().find(|(it, _)| it == user) {
            news.notify_one();
        }
    }
}

impl Link {
    pub fn new(socket: OwnedFd, overdue: Duration) -> Self {
        Self { socket, overdue, state: Lock::default() }
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
        let (number, news) = self.take_place(user, patience)?;
        let request = Request { number, user, words: &words.join("\0") }.print();
        if let Err(error) = send_request(self.socket.as_fd(), &request, file) {
            self.state.lock().free(number);
            return Err(match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => not_now(),
                Some(Errno::PIPE | Errno::CONNRESET) => gone(),
                _ => error,
            });
        }
        self.await_answer(number, &news, patience)
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
        let state = self.state.lock();
        let is_overdue = |place: &Place| now.saturating_sub(place.since) >= self.overdue;
        // The first errand that is overdue counts for its user.
        let is_counted = |(at, place): &(usize, &Place)| {
            let mut before = state.places.iter().take(*at);
            is_overdue(place) && !before.any(|it| it.user == place.user && is_overdue(it))
        };
        state.places.iter().enumerate().filter(is_counted).count()
    }

    /// Ends the connection, and with it the agent.
    #[cfg(test)]
    pub fn close(&self) {
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }

    fn take_place(&self, user: &str, patience: Duration) -> io::Result<(u32, News)> {
        let news = News::default();
        let mut state = self.state.lock();
        let deadline = SystemClock.boot() + patience;
        let free = loop {
            if state.has_ended {
                break Err(gone());
            }
            let oldest = state.places_of(user).map(|place| place.since).min();
            let until = oldest.map_or(deadline, |since| deadline.min(since + self.overdue));
            let left = until.saturating_sub(SystemClock.boot());
            if oldest.is_some() && left.is_zero() {
                break Err(not_now());
            }
            if !state.is_full_for(user) {
                break Ok(());
            }
            if !state.waiting.iter().any(|(_, it)| Arc::ptr_eq(it, &news)) {
                state.waiting.push((user.to_owned(), Arc::clone(&news)));
            }
            state = wait_while(&news, state, left, |state| !state.has_ended && state.is_full_for(user));
        };
        state.waiting.retain(|(_, it)| !Arc::ptr_eq(it, &news));
        if free.is_ok() {
            state.requests = state.requests.wrapping_add(1);
            let (number, since, user) = (state.requests, SystemClock.boot(), user.to_owned());
            let news = Arc::clone(&news);
            state.places.push(Place { user, number, since, answer: None, is_awaited: true, news });
        }
        // It may have been told of a place that it did not take, or of one of two.
        state.wake_next(user);
        free.map(|()| (state.requests, news))
    }

    fn await_answer(&self, number: u32, news: &Condvar, patience: Duration) -> io::Result<u64> {
        let mut state = wait_while(news, self.state.lock(), patience, |state| {
            !state.has_ended && state.place(number).is_some_and(|place| place.answer.is_none())
        });
        let has_ended = state.has_ended;
        match state.place(number) {
            Some(Place { answer: Some(answer), .. }) => {
                let answer = *answer;
                state.free(number);
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
            match state.place(number) {
                Some(place) if place.is_awaited => {
                    place.answer = Some(answer);
                    place.news.notify_one();
                }
                Some(_) => state.free(number),
                None => {}
            }
        }
        let mut state = self.state.lock();
        state.has_ended = true;
        let waiting = state.waiting.iter().map(|(_, news)| news);
        state.places.iter().map(|place| &place.news).chain(waiting).for_each(|news| news.notify_one());
        drop(state);
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
