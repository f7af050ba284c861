//! A second process that goes on beside this one, with rights that this one is about to give up.
//!
//! It is no copy of a running daemon: it must be made before the first thread, and gets none of the sockets and files that
//! are open by then. May fail: the system has no room for another process.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Descriptors from here on are closed in the second process: all but standard input, output and error.
const FIRST: RawFd = 3;
/// The bound where /proc does not list the open descriptors: so early in a process their numbers are small.
const WITHOUT_PROC_MAX: RawFd = 1024;

/// Starts `run` with `socket` in a process of its own, which ends with it, and has no other descriptor than the standard
/// ones. Signals that stop, reload or flush the daemon mean nothing there. To be called before the first thread.
///
/// # Errors
/// The system has no room for another process.
#[allow(unsafe_code)]
pub fn start(name: &std::ffi::CStr, socket: OwnedFd, run: impl FnOnce(OwnedFd)) -> io::Result<()> {
    // SAFETY: there is one thread yet, so the new process has all that this one has, and no lock is held by a thread
    // that is missing there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE] {
                // SAFETY: to ignore a signal runs no code of ours.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            close_all_but(&socket);
            let _ = rustix::thread::set_name(name);
            // A panic has no one to report to; the peer sees the socket close.
            let _ = catch_unwind(AssertUnwindSafe(|| run(socket)));
            // SAFETY: ends the process at once. What the first process would do at its end is not done twice.
            unsafe { libc::_exit(0) }
        }
        _ => Ok(()),
    }
}

/// Listening sockets must not stay open when the daemon is gone, and locks must not be held.
#[allow(unsafe_code)]
fn close_all_but(socket: &OwnedFd) {
    let numbers: Vec<RawFd> = match fs::read_dir("/proc/self/fd") {
        Ok(open) => open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        // As in a chroot. The other end of the socket is among them: open here, it would keep this process for ever.
        Err(_) => (FIRST..WITHOUT_PROC_MAX).collect(),
    };
    for number in numbers {
        if number >= FIRST && number != socket.as_raw_fd() {
            // SAFETY: this process never returns to the code that owns these descriptors: it ends in `start`. One that is
            // closed already, such as that of the directory above, does no harm.
            unsafe { libc::close(number) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_second_process_answers_and_ends_with_its_socket() {
        let (here, there) = UnixStream::pair().unwrap();
        start(c"echo", there.into(), |socket| {
            let mut socket = UnixStream::from(socket);
            let mut octet = [0];
            while socket.read_exact(&mut octet).is_ok() {
                let open = fs::read_dir("/proc/self/fd").map_or(0, |open| open.flatten().count());
                let _ = socket.write_all(&[octet[0] + 1, u8::try_from(open).unwrap_or(u8::MAX)]);
            }
        })
        .unwrap();
        let mut here = here;
        here.write_all(&[41]).unwrap();
        let mut answer = [0; 2];
        here.read_exact(&mut answer).unwrap();
        assert_eq!(answer[0], 42);
        assert!(answer[1] <= 5, "standard descriptors, the socket, and the directory itself: {}", answer[1]);
        here.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(here.read(&mut answer).unwrap(), 0);
    }
}
