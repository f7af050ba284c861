//! Signals, turned into values that the main thread waits for.
//!
//! | signal | effect |
//! | --- | --- |
//! | SIGTERM, SIGINT | [`Signal::Stop`]; while a daemon starts, the process ends at once |
//! | SIGHUP | [`Signal::Reload`] |
//! | SIGUSR1 | [`Signal::Flush`] |
//! | SIGXFSZ | ignored: the write fails with EFBIG instead |

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: stop.
    Stop,
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGUSR1: try the whole queue.
    Flush,
}

const SIGNALS: [(i32, Signal); 4] =
    [(SIGTERM, Signal::Stop), (SIGINT, Signal::Stop), (SIGHUP, Signal::Reload), (SIGUSR1, Signal::Flush)];

/// Makes a write beyond the limit of file sizes (`ulimit -f`, `LimitFSIZE=`) fail with EFBIG. By default SIGXFSZ
/// kills the process instead. Programs that this process starts ignore the signal too.
#[allow(unsafe_code)]
pub fn survive_file_size_limit() {
    // SAFETY: ignoring a signal runs no code of ours.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// How other threads stop this process.
#[derive(Debug)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// Sends SIGTERM to this process. During the start, which no signal handler could tell about, the process ends at once
    /// with `code` instead.
    pub fn stop(&self, code: u8) {
        if self.0.load(Ordering::SeqCst) {
            low_level::exit(code.into());
        }
        // To this thread: the filter of system calls lets no signal out of the process.
        let _ = low_level::raise(signal_hook::consts::SIGTERM);
    }
}

/// The signals that have arrived.
#[derive(Debug)]
pub struct Signals {
    wake: UnixStream,
    flags: Vec<(Arc<AtomicBool>, Signal)>,
    /// A daemon starts: a step that hangs must not keep it from ending.
    is_starting: Arc<AtomicBool>,
}

impl Signals {
    /// Installs handlers in place of the system's defaults. `ends_start`: until the first [`Self::wait`], a signal that stops
    /// ends the process at once; otherwise it is held back.
    ///
    /// # Errors
    /// No descriptor is left, or a handler cannot be installed.
    pub fn register(ends_start: bool) -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        let mut flags = Vec::with_capacity(SIGNALS.len());
        let is_starting = Arc::new(AtomicBool::new(ends_start));
        for (number, signal) in SIGNALS {
            let raised = Arc::new(AtomicBool::new(false));
            if signal == Signal::Stop {
                flag::register_conditional_shutdown(number, 0, Arc::clone(&is_starting))?;
            }
            // The flag first: it must be set by the time the wake-up is read.
            flag::register(number, Arc::clone(&raised))?;
            low_level::pipe::register(number, waker.try_clone()?)?;
            flags.push((raised, signal));
        }
        Ok(Self { wake, flags, is_starting })
    }

    /// For a thread that may have to stop this process.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.is_starting))
    }

    /// Waits for the next signal.
    pub fn wait(&mut self) -> Signal {
        self.is_starting.store(false, Ordering::SeqCst);
        loop {
            for (raised, signal) in &self.flags {
                if raised.swap(false, Ordering::SeqCst) {
                    return *signal;
                }
            }
            // An interrupted or failed read only means that the flags are looked at again.
            let _ = self.wake.read(&mut [0; 16]);
        }
    }
}
