//! A second process that continues beside this one, and the programs that it runs.
//!
//! The second process may keep rights that this one is about to give up. It is not a copy of a running daemon: it must be made before the first thread, and gets none of the sockets and
//! files that are open by then. It can fail if the system has no room for another process.

use rustix::process::{Pid, setpgid};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, io, ptr};

/// Signals that the second process ignores, and a program does not.
const SIGNALS: [i32; 5] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGPIPE];
/// Descriptors from here on are closed in the second process: all except standard input, output and error.
const FIRST: RawFd = 3;
/// The bound where the open descriptors cannot be listed: early in a process there are few, and their numbers are
/// small.
const WITHOUT_PROC_MAX: RawFd = 1024;

/// The number of this process, or 0 if nobody has asked yet.
static OWN_ID: AtomicU32 = AtomicU32::new(0);

/// The number of this process. The system is asked once: each line to the log and each name of a file has it.
pub fn own_id() -> u32 {
    match OWN_ID.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            OWN_ID.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// Runs `run` with `socket` in a new process, which ends with `run` and has no other descriptor than the standard
/// ones. Signals that stop, reload or flush the daemon are ignored there. Call it before the first thread.
///
/// # Errors
/// The system has no room for another process.
#[allow(unsafe_code)]
pub fn start(name: &std::ffi::CStr, socket: OwnedFd, run: impl FnOnce(OwnedFd)) -> io::Result<()> {
    // SAFETY: there is only one thread, so the new process has everything that this one has, and no lock is held by a
    // thread that is missing there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            OWN_ID.store(0, Ordering::Relaxed);
            for signal in SIGNALS {
                // SAFETY: ignoring a signal runs no code of ours.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
            close_all_but(&socket);
            let _ = rustix::thread::set_name(name);
            // A panic has no reader here; a caller that waits for an answer sees the socket close.
            let _ = catch_unwind(AssertUnwindSafe(|| run(socket)));
            // SAFETY: ends the process at once, so that the exit handlers of the first process do not run twice.
            unsafe { libc::_exit(0) }
        }
        _ => Ok(()),
    }
}

/// Runs a program, found by the PATH of its environment, in a process group of its own: with `variables` as its environment
/// (`NAME=VALUE`), in the root directory, without input, and with its output to `output` or nowhere. Call it in a process
/// without threads. `failed` is told, in the new process, why the program cannot be run. std::process::Command does the same for 28 KiB more.
///
/// # Errors
/// The system has no room for another process, or there is no word.
#[allow(unsafe_code)]
pub fn spawn(
    words: &[&str],
    variables: &[String],
    output: Option<OwnedFd>,
    failed: impl FnOnce(io::Error),
) -> io::Result<Pid> {
    let arguments: Vec<CString> = words.iter().map(|word| CString::new(*word)).collect::<Result<_, _>>()?;
    let mut pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(ptr::null());
    let variables: Vec<CString> =
        variables.iter().map(|it| CString::new(it.as_str())).collect::<Result<_, _>>()?;
    let mut environment: Vec<_> = variables.iter().map(|variable| variable.as_ptr()).collect();
    environment.push(ptr::null());
    let program = arguments.first().ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: there is only one thread, so the new process may do all that this one may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            for signal in SIGNALS {
                // SAFETY: the system's default runs no code of ours.
                unsafe { libc::signal(signal, libc::SIG_DFL) };
            }
            // SAFETY: the list ends with a null pointer and outlives this process's use of it. Nothing else reads the environment
            // here. std::env has a lock, which the first process may have held in another thread.
            unsafe { environ = environment.as_ptr() };
            let error = match prepare(output) {
                Ok(()) => {
                    // SAFETY: the words end with NUL, their list with a null pointer, and both outlive the call, which
                    // returns only if it fails.
                    unsafe { libc::execvp(program.as_ptr(), pointers.as_ptr()) };
                    io::Error::last_os_error()
                }
                Err(error) => error,
            };
            failed(error);
            // SAFETY: ends the process at once, so that the exit handlers of the first process do not run twice.
            unsafe { libc::_exit(127) }
        }
        pid => {
            let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidData)?;
            // In both processes: whoever comes first.
            let _ = setpgid(Some(pid), Some(pid));
            Ok(pid)
        }
    }
}

#[allow(unsafe_code)]
unsafe extern "C" {
    /// The environment of this process, environ(7).
    static mut environ: *const *const libc::c_char;
}

/// The process group, the directory and the standard descriptors of a program.
fn prepare(output: Option<OwnedFd>) -> io::Result<()> {
    setpgid(None, None)?;
    rustix::process::chdir("/")?;
    let nothing = fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    rustix::stdio::dup2_stdout(output.as_ref().map_or(nothing.as_fd(), AsFd::as_fd))?;
    Ok(())
}

/// Closes all descriptors except `socket`: listening sockets must not outlive the daemon, and locks must not be held.
#[allow(unsafe_code)]
fn close_all_but(socket: &OwnedFd) {
    let numbers: Vec<RawFd> = match fs::read_dir("/proc/self/fd") {
        Ok(open) => open.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect(),
        // As in a chroot. The other end of the socket is among them: if it stayed open, this process would never end.
        Err(_) => (FIRST..WITHOUT_PROC_MAX).collect(),
    };
    for number in numbers {
        if number >= FIRST && number != socket.as_raw_fd() {
            // SAFETY: this process never returns to the code that owns these descriptors: it ends in `start`. Closing
            // one that is closed already, such as that of the directory above, does no harm.
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
