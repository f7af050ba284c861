//! The threads of connections: each connection has one to itself, and a thread whose connection has ended waits a while
//! for the next one. A device that connects for each alert then costs no new thread each time, which is half of the
//! system calls of a small message.
//!
//! ```text
//! run(work) ─ somebody waits? ─ yes ─▶ that thread does it
//!                             └ no ──▶ a new thread: the work ─▶ waits for more, LINGER at most ─▶ ends
//!                                                  ▲──────────────┘
//! ```

use crate::sys::lock::{Lock, wait_while};
use crate::sys::thread;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar};
use std::time::Duration;

/// How long a thread waits for another connection.
const LINGER: Duration = Duration::from_secs(5);
/// The most threads that wait: each holds the pages of its stack.
const WAITING_MAX: usize = 16;

/// What a thread does for one connection.
type Work = Box<dyn FnOnce() + Send>;

/// The threads of connections.
pub struct ConnectionThreads {
    state: Lock<State>,
    handed_over: Condvar,
    linger: Duration,
}

impl Default for ConnectionThreads {
    fn default() -> Self {
        Self { state: Lock::default(), handed_over: Condvar::new(), linger: LINGER }
    }
}

#[derive(Default)]
struct State {
    waiting: usize,
    /// Never more than threads are waiting.
    handed_over: VecDeque<Work>,
}

impl fmt::Debug for ConnectionThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionThreads").finish_non_exhaustive()
    }
}

impl ConnectionThreads {
    /// Whether the next [`Self::run`] needs a new thread. Another caller may be first.
    pub fn is_new_needed(&self) -> bool {
        !self.state.lock().has_free()
    }

    /// Has a thread do the work at once. A panic must not leave `work`.
    ///
    /// # Errors
    /// A new thread is needed, and the system has none.
    pub fn run(self: &Arc<Self>, work: Work) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.has_free() {
            state.handed_over.push_back(work);
            // Whoever is woken wants the lock.
            drop(state);
            self.handed_over.notify_one();
            return Ok(());
        }
        drop(state);
        let this = Arc::clone(self);
        thread::start("connection", move || {
            let mut next = Some(work);
            while let Some(work) = next {
                work();
                next = this.wait();
            }
        })
    }

    /// Waits for more to do.
    fn wait(&self) -> Option<Work> {
        let mut state = self.state.lock();
        if state.waiting >= WAITING_MAX {
            return None;
        }
        state.waiting += 1;
        let mut state =
            wait_while(&self.handed_over, state, self.linger, |state| state.handed_over.is_empty());
        state.waiting -= 1;
        state.handed_over.pop_front()
    }
}

impl State {
    fn has_free(&self) -> bool {
        self.waiting > self.handed_over.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread::{ThreadId, current};

    const LONG: Duration = Duration::from_secs(60);

    /// The thread that does some work, which lasts until the returned sender is dropped.
    fn begin(threads: &Arc<ConnectionThreads>) -> (ThreadId, mpsc::Sender<()>) {
        let ((told, tells), (end, ended)) = (mpsc::channel(), mpsc::channel::<()>());
        let work = move || {
            let _ = told.send(current().id());
            let _ = ended.recv();
        };
        threads.run(Box::new(work)).unwrap();
        (tells.recv_timeout(LONG).unwrap(), end)
    }

    fn lingering(linger: Duration) -> Arc<ConnectionThreads> {
        Arc::new(ConnectionThreads { linger, ..ConnectionThreads::default() })
    }

    fn wait_until_waiting(threads: &ConnectionThreads, count: usize) {
        let begun = std::time::Instant::now();
        while threads.state.lock().waiting != count {
            assert!(begun.elapsed() < LONG, "{} are waiting", threads.state.lock().waiting);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_thread_serves_one_connection_after_the_other_and_never_two_at_once() {
        let threads = lingering(LONG);
        let (first, end) = begin(&threads);
        assert!(threads.is_new_needed());
        let (second, other_end) = begin(&threads);
        assert_ne!(first, second);
        drop(end);
        wait_until_waiting(&threads, 1);
        assert!(!threads.is_new_needed());
        let (third, third_end) = begin(&threads);
        assert_eq!(third, first);
        drop((other_end, third_end));
        wait_until_waiting(&threads, 2);
        // Work that is handed over counts before its thread has begun it.
        let all: Vec<_> = (0..3).map(|_| begin(&threads)).collect();
        assert!(all.iter().all(|(thread, _)| all.iter().filter(|(other, _)| other == thread).count() == 1));
    }

    #[test]
    fn few_wait_and_not_for_long() {
        let threads = lingering(LONG);
        drop((0..WAITING_MAX + 5).map(|_| begin(&threads)).collect::<Vec<_>>());
        wait_until_waiting(&threads, WAITING_MAX);
        let threads = lingering(Duration::ZERO);
        drop(begin(&threads));
        let begun = std::time::Instant::now();
        while Arc::strong_count(&threads) > 1 {
            assert!(begun.elapsed() < LONG, "the thread does not end");
            thread::sleep(Duration::from_millis(1));
        }
        assert!(threads.is_new_needed());
    }
}
