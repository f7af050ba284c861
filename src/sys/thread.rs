//! Threads: small stacks, and an error instead of a panic if one cannot be started.

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

/// One instance for all closures: an instance for each would add some KiB to the program.
fn start_boxed(name: &str, stack: usize, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(run).map(drop)
}

/// Does `work` in this thread, and in as many others as make `threads`, or as can be started. Returns when all have ended.
pub fn together(threads: usize, work: &(dyn Fn() + Sync)) {
    thread::scope(|scope| {
        for _ in 1..threads {
            let builder = thread::Builder::new().stack_size(STACK_OCTETS);
            if builder.spawn_scoped(scope, work).is_err() {
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
