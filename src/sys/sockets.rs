//! Listening sockets that the service manager has opened for this process: systemd's socket activation, as in
//! sd_listen_fds(3). They stay open while the service is down, so clients are not refused during a restart.
//!
//! This module never opens a socket. It fails if a descriptor is not open, or is not a listening TCP socket.

use rustix::net::{AddressFamily, SocketType, sockopt};
use std::net::TcpListener;
use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::{env, io};

/// The first inherited descriptor: SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// A larger number of sockets is a mistake.
const MAX: RawFd = 256;

/// An inherited listening socket, with the name from its unit.
#[derive(Debug)]
pub struct Inherited {
    /// The socket; children of this process do not inherit it.
    pub socket: TcpListener,
    /// `FileDescriptorName=` of the socket's unit, or the unit's name.
    pub name: Option<String>,
}

/// Takes over the sockets that this process was started with, possibly an empty list. Call it once, before the first
/// thread: afterwards the variables that name the sockets are removed, so that no child looks for them.
///
/// # Errors
/// A descriptor cannot be used; the text says what to do.
#[allow(unsafe_code)]
pub fn inherited() -> Result<Vec<Inherited>, String> {
    let text = |name: &str| env::var(name).unwrap_or_default();
    let own_pid = std::process::id();
    let descriptors = announced(&text("LISTEN_PID"), &text("LISTEN_FDS"), own_pid)?;
    let names = text("LISTEN_FDNAMES");
    for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        // SAFETY: no other thread exists yet that could read the environment. The standard library has no safe call.
        unsafe { env::remove_var(name) };
    }
    let mut names = names.split(':').filter(|_| !names.is_empty()).map(str::to_owned);
    let mut found = Vec::new();
    for descriptor in descriptors {
        // SAFETY: the descriptor is only borrowed for this check, which fails if it is not open.
        let is_open = unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == 0;
        if !is_open {
            let error = io::Error::last_os_error();
            return Err(format!("descriptor {descriptor} of LISTEN_FDS is not open: {error}"));
        }
        // SAFETY: the descriptor is open, LISTEN_PID names this process, this code has not opened a descriptor that
        // existed before the process began, and the variables are removed: nobody takes it a second time.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let socket = listening(socket).map_err(|what| {
            format!("descriptor {descriptor} of LISTEN_FDS {what}; see ListenStream= and Accept=no in systemd.socket(5)")
        })?;
        found.push(Inherited { socket, name: names.next() });
    }
    Ok(found)
}

/// The descriptors that the variables pass to the process `own_pid`. Descriptors for another process are ignored: a
/// parent passed the variables on without clearing them.
fn announced(listen_pid: &str, listen_fds: &str, own_pid: u32) -> Result<Range<RawFd>, String> {
    if listen_pid.parse() != Ok(own_pid) {
        return Ok(FIRST..FIRST);
    }
    match listen_fds.parse::<RawFd>() {
        Ok(count) if (0..=MAX).contains(&count) => Ok(FIRST..FIRST + count),
        _ => Err(format!("LISTEN_FDS is {listen_fds:?}, which is not a number of sockets up to {MAX}")),
    }
}

/// Checks that this is a listening TCP socket, and sets it up like the sockets that this program opens.
fn listening(descriptor: OwnedFd) -> Result<TcpListener, &'static str> {
    let is_internet =
        matches!(sockopt::socket_domain(&descriptor), Ok(AddressFamily::INET | AddressFamily::INET6));
    if !is_internet || sockopt::socket_type(&descriptor) != Ok(SocketType::STREAM) {
        return Err("is not a TCP socket");
    }
    if sockopt::socket_acceptconn(&descriptor) != Ok(true) {
        return Err("is a TCP socket that does not listen");
    }
    // Connections inherit it: small replies are not held back by Nagle.
    let _ = sockopt::set_tcp_nodelay(&descriptor, true);
    let listener = TcpListener::from(descriptor);
    // Otherwise accept would return at once, again and again.
    listener.set_nonblocking(false).map_err(|_| "cannot be set to blocking mode")?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_directory::TestDirectory;
    use std::fs::File;
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn sockets_are_taken_only_by_the_process_that_they_are_for() {
        for (pid, count, expected) in [
            ("7", "1", Ok(3..4)),
            ("7", "3", Ok(3..6)),
            ("7", "0", Ok(3..3)),
            ("7", "256", Ok(3..259)),
            ("8", "2", Ok(3..3)),
            ("", "2", Ok(3..3)),
            ("", "", Ok(3..3)),
            ("x", "nonsense", Ok(3..3)),
        ] {
            assert_eq!(announced(pid, count, 7), expected, "{pid} {count}");
        }
        for count in ["", "-1", "257", "2147483647", "99999999999", "x", "1 "] {
            assert!(announced("7", count, 7).is_err(), "{count}");
        }
    }

    #[test]
    fn only_a_listening_tcp_socket_will_do() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let taken = listening(listener.into()).unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        assert_eq!(sockopt::tcp_nodelay(&taken), Ok(true));
        let flags = rustix::fs::fcntl_getfl(&taken).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));

        let connected = TcpStream::connect(address).unwrap();
        assert_eq!(listening(connected.into()).unwrap_err(), "is a TCP socket that does not listen");
        let directory = TestDirectory::new();
        let others: [OwnedFd; 3] = [
            UdpSocket::bind("127.0.0.1:0").unwrap().into(),
            UnixListener::bind(directory.join("socket")).unwrap().into(),
            File::open("/dev/null").unwrap().into(),
        ];
        for other in others {
            assert_eq!(listening(other).unwrap_err(), "is not a TCP socket");
        }
    }
}
