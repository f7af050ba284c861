//! The threads of connections: each connection has one to itself, and a thread whose connection has ended waits a while
//! for the next one. A device that connects for each alert then costs no new thread each time, which is half of the
//! system calls of a small message.
//!
//! ```text
//! run(work) ─ somebody waits? ─ yes ─▶ that thread does it: of several the one that began to wait last
//!                             └ no ──▶ a new thread: the work ─▶ waits for more, LINGER at most ─▶ ends
//!                                                  ▲──────────────┘
//! ```
//!
//! Work is handed to one thread, and only that one wakes up. With few connections the others end soon.

use crate::sys::lock::{Lock, wait_while};
use crate::sys::thread;
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
    /// Those that wait, the latest last.
    waiting: Lock<Vec<Arc<Waiting>>>,
    linger: Duration,
}

impl Default for ConnectionThreads {
    fn default() -> Self {
        Self { waiting: Lock::default(), linger: LINGER }
    }
}

/// A thread that waits for work.
#[derive(Default)]
struct Waiting {
    work: Lock<Option<Work>>,
    handed_over: Condvar,
}

impl fmt::Debug for ConnectionThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionThreads").finish_non_exhaustive()
    }
}

impl ConnectionThreads {
    /// Whether the next [`Self::run`] needs a new thread. Another caller may be first.
    pub fn is_new_needed(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// Has a thread do the work at once. A panic must not leave `work`.
    ///
    /// # Errors
    /// A new thread is needed, and the system has none.
    pub fn run(self: &Arc<Self>, work: Work) -> io::Result<()> {
        let mut waiting = self.waiting.lock();
        if let Some(thread) = waiting.pop() {
            // Before the lock is released: a thread that is not in the list any more has its work.
            *thread.work.lock() = Some(work);
            drop(waiting);
            thread.handed_over.notify_one();
            return Ok(());
        }
        drop(waiting);
        let this = Arc::clone(self);
        thread::start("connection", move || {
            let (own, mut next) = (Arc::default(), Some(work));
            while let Some(work) = next {
                work();
                next = this.wait(&own);
            }
        })
    }

    /// Waits for more to do.
    fn wait(&self, own: &Arc<Waiting>) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        waiting.push(Arc::clone(own));
        drop(waiting);
        let work = wait_while(&own.handed_over, own.work.lock(), self.linger, |work| work.is_none()).take();
        work.or_else(|| {
            self.waiting.lock().retain(|other| !Arc::ptr_eq(other, own));
            // Work may have come between the end of the wait and the lock.
            own.work.lock().take()
        })
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
        while threads.waiting.lock().len() != count {
            assert!(begun.elapsed() < LONG, "{} are waiting", threads.waiting.lock().len());
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
