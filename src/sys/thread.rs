//! Threads: small stacks, and an error instead of a panic if one cannot be started.

use super::lock::{Lock, wait_while};
use std::sync::{Arc, Condvar};
use std::time::Duration;
use std::{io, thread};

/// Stack of each thread, in octets. Only pages that are touched cost memory; a TLS handshake needs 16 KiB.
const STACK_OCTETS: usize = 128 * 1024;

/// Stack of a thread that does what the main thread did at the start: the parser of the configuration calls itself.
const WIDE_STACK_OCTETS: usize = 2 << 20;

/// Starts a thread that nobody joins.
///
/// # Errors
/// The system has no thread or no memory left at present.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start_boxed(name, STACK_OCTETS, Box::new(run))
}

/// Starts a thread with a stack for any work.
///
/// # Errors
/// The system has no thread or no memory left at present.
pub fn start_wide(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start_boxed(name, WIDE_STACK_OCTETS, Box::new(run))
}

/// Does `work` in a thread of its own, and waits for what it gives, `patience` at most. `None` if that was too short: the
/// thread is left alone.
///
/// # Errors
/// The system has no thread or no memory left at present.
pub fn ask<T: Send + 'static>(
    name: &str,
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    // Not a channel: the standard library's adds 8 KiB to the program.
    let answer = Arc::new((Lock::new(None), Condvar::new()));
    let asked = Arc::clone(&answer);
    start_wide(name, move || {
        let given = work();
        *asked.0.lock() = Some(given);
        asked.1.notify_one();
    })?;
    Ok(wait_while(&answer.1, answer.0.lock(), patience, |given| given.is_none()).take())
}

/// One instance for all closures: an instance for each would add some KiB to the program.
fn start_boxed(name: &str, stack: usize, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(run).map(drop)
}

/// Does `work` in this thread, and in as many others as make `threads`, or as can be started. Returns when all have ended.
pub fn together(threads: usize, work: &(dyn Fn() + Sync)) {
    thread::scope(|scope| {
        for _ in 1..threads {
            let builder = thread::Builder::new().stack_size(STACK_OCTETS);
            // Of the type that `start_boxed` has, so that both share an instance.
            let run: Box<dyn FnOnce() + Send> = Box::new(work);
            if builder.spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        work();
    });
}

/// Sleeps.
pub fn sleep(span: Duration) {
    thread::sleep(span);
}
