//! Signals: turned into values that the main thread waits for.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: try the whole queue now.
    Flush,
}

const SIGNALS: [(i32, Signal); 4] =
    [(SIGTERM, Signal::Stop), (SIGINT, Signal::Stop), (SIGHUP, Signal::Reload), (SIGUSR1, Signal::Flush)];

/// A write beyond the limit of file sizes (`ulimit -f`, `LimitFSIZE=`) fails with EFBIG from now on. By default the signal
/// SIGXFSZ kills the process instead. Programs that this one starts ignore it, too.
#[allow(unsafe_code)]
pub fn survive_file_size_limit() {
    // SAFETY: to ignore a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The signals that have come in.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    flags: Vec<(Arc<AtomicBool>, Signal)>,
}

impl Signals {
    /// Takes the signals over from the system's defaults.
    ///
    /// # Errors
    /// The system gives no descriptor, or refuses a handler.
    pub fn register() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        let mut flags = Vec::with_capacity(SIGNALS.len());
        for (number, signal) in SIGNALS {
            let raised = Arc::new(AtomicBool::new(false));
            // The flag first: once the wake-up is there, the flag must be too.
            flag::register(number, Arc::clone(&raised))?;
            low_level::pipe::register(number, waker.try_clone()?)?;
            flags.push((raised, signal));
        }
        Ok(Self { wake, flags })
    }

    /// Waits for the next signal.
    pub fn wait(&mut self) -> Signal {
        loop {
            for (raised, signal) in &self.flags {
                if raised.swap(false, Ordering::SeqCst) {
                    return *signal;
                }
            }
            // An interrupted or failed read only means to look again.
            let _ = self.wake.read(&mut [0; 16]);
        }
    }
}
