//! Threads: small stacks, and a failure to start one is an ordinary event.

use std::io;
use std::thread;
use std::time::Duration;

/// Stack of each thread, in octets. Only what is touched costs memory; a TLS handshake needs 16 KiB.
const STACK_OCTETS: usize = 128 * 1024;

/// Starts a thread that nobody waits for.
///
/// # Errors
/// The system has no thread or no memory to give now.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    start_boxed(name, Box::new(run))
}

/// Once for all that is started: each kind of its own would add some KiB to the program.
fn start_boxed(name: &str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(STACK_OCTETS).spawn(run).map(drop)
}

/// Sleeps.
pub fn sleep(span: Duration) {
    thread::sleep(span);
}
