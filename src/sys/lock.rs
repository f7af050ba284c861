//! The lock of this program: a mutex that a panic does not poison.
//!
//! A panic ends the thread of one connection or one worker. What a lock guards is whole at every moment, so that the
//! other threads go on with it. No lock is held over I/O, except where the lock is about that I/O.

use super::clock::{Clock, SystemClock};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

/// The pause between two looks at a lock that may stay taken.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A mutex without poison.
#[derive(Debug, Default)]
pub struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    /// A lock around a value.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the lock, `patience` at most.
    pub fn lock_within(&self, patience: Duration) -> Option<MutexGuard<'_, T>> {
        let deadline = SystemClock.boot().saturating_add(patience);
        loop {
            match self.0.try_lock() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if SystemClock.boot() >= deadline => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK_AGAIN),
            }
        }
    }
}

/// Waits for the next notice of `condvar`, or for none. Gives the lock back.
pub fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notice of `condvar` while `is_waiting`, up to `patience`. Gives the lock back.
pub fn wait_while<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    patience: Duration,
    is_waiting: impl FnMut(&mut T) -> bool,
) -> MutexGuard<'a, T> {
    condvar.wait_timeout_while(guard, patience, is_waiting).unwrap_or_else(PoisonError::into_inner).0
}

#[cfg(test)]
mod tests {
    use super::{Duration, Lock};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_does_not_lock_others_out() {
        let lock = Lock::new(1);
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.lock();
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*lock.lock(), 1);
        assert_eq!(lock.lock_within(Duration::ZERO).as_deref(), Some(&1));
    }

    #[test]
    fn a_wait_for_a_lock_can_end() {
        let lock = Lock::new(1);
        let guard = lock.lock();
        assert!(lock.lock_within(Duration::from_millis(20)).is_none());
        drop(guard);
        assert!(lock.lock_within(Duration::ZERO).is_some());
    }
}
