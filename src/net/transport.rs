//! Sockets with deadlines: a connection reads and writes through a [`Transport`], on both ends.
//!
//! | call | returns | at the deadline | when the peer has closed |
//! | --- | --- | --- | --- |
//! | `read` | 1 octet or more | `TimedOut` | `Closed`, never 0 octets |
//! | `write_all` | after the last octet | `TimedOut`; how much was sent is unknown | `Closed` |
//! | `has_input` | at once | – | false |
//!
//! TLS is another transport behind the same calls. Only this file knows that a read that timed out is called
//! `WouldBlock` on some systems and `TimedOut` on others.
//!
//! The timeout of a socket is set again only when it differs much from the remaining time (see [`SLACK`]): that
//! saves a system call for most reads. For writes it is set once a write finds no room: most connections never need it.

use super::handshake::Handshake;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The time at which a wait ends.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Option<Instant>,
}

impl Deadline {
    /// A deadline `span` from now. A span that the clock cannot represent never ends.
    #[must_use]
    pub fn after(span: Duration) -> Self {
        Self { at: Instant::now().checked_add(span) }
    }

    /// The earlier of two deadlines.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        Self { at: [self.at, other.at].into_iter().flatten().min() }
    }

    /// The remaining time; zero once the deadline has passed.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.at.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()))
    }
}

/// Measures how long something takes.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the beginning.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Why a connection cannot go on.
#[derive(Debug)]
pub enum WireError {
    /// The deadline has passed.
    TimedOut,
    /// The peer has closed its side.
    Closed,
    /// Another error of the system.
    Io(io::Error),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::Closed => f.write_str("connection closed by the peer"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WireError {}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
                Self::Closed
            }
            _ => Self::Io(error),
        }
    }
}

/// A two-way stream of octets with deadlines.
pub trait Transport: Send {
    /// Reads what has arrived, or waits for it. It never returns 0: the end is [`WireError::Closed`].
    ///
    /// # Errors
    /// The deadline passed, the peer closed, or the socket failed.
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError>;

    /// Writes all octets.
    ///
    /// # Errors
    /// As for `read`; how many octets were written is then unknown.
    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError>;

    /// Whether octets have arrived that were not read.
    fn has_input(&mut self) -> bool;

    /// Performs the handshake as the server, if the transport can. Returns version and cipher in words.
    ///
    /// # Errors
    /// As for `read`. The connection cannot be used afterwards.
    fn start_tls(&mut self, _: Handshake, _: Deadline) -> Result<String, WireError> {
        Err(WireError::Closed)
    }
}

/// How much longer than the remaining time a socket's timeout may be, so that it need not be set for every read.
const SLACK: Duration = Duration::from_secs(1);

/// A TCP connection.
#[derive(Debug)]
pub struct TcpTransport {
    stream: Arc<TcpStream>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
}

impl TcpTransport {
    /// Takes over a connected socket. Others may keep the `Arc`, to shut the socket down from outside.
    #[must_use]
    pub const fn new(stream: Arc<TcpStream>) -> Self {
        Self { stream, read_timeout: None, write_timeout: None }
    }
}

/// A socket's timeout of this length or more serves for any longer remaining time: when it passes, the wait goes on with a new
/// one.
const STEP: Duration = Duration::from_secs(5);

/// Whether the timeout set on a socket still fits the remaining time: at most [`SLACK`] longer, and at least half of it
/// or [`STEP`]. So a conversation whose deadlines differ from command to command sets its timeout once.
fn serves(set: Option<Duration>, left: Duration) -> bool {
    set.is_some_and(|set| set <= left.saturating_add(SLACK) && set >= STEP.min(left / 2))
}

impl Transport for TcpTransport {
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError> {
        loop {
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(WireError::TimedOut);
            }
            if !serves(self.read_timeout, left) {
                self.stream.set_read_timeout(Some(left))?;
                self.read_timeout = Some(left);
            }
            match (&*self.stream).read(buffer).map_err(WireError::from) {
                Ok(0) => return Err(WireError::Closed),
                Ok(length) => return Ok(length),
                // The socket's timeout can be shorter than the remaining time.
                Err(WireError::TimedOut) => self.read_timeout = None,
                Err(WireError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError> {
        let mut rest = octets;
        // Most writes fit into the buffer of the socket, and need no timeout.
        let mut is_full = false;
        while !rest.is_empty() {
            let left = deadline.remaining();
            if left.is_zero() {
                return Err(WireError::TimedOut);
            }
            let mut flags = SendFlags::NOSIGNAL;
            match serves(self.write_timeout, left) {
                true => {}
                false if is_full => {
                    self.stream.set_write_timeout(Some(left))?;
                    self.write_timeout = Some(left);
                }
                false => flags |= SendFlags::DONTWAIT,
            }
            match send(&*self.stream, rest, flags).map_err(|errno| WireError::from(io::Error::from(errno))) {
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                // Without room now, or the socket's timeout was shorter than the remaining time.
                Err(WireError::TimedOut) => (self.write_timeout, is_full) = (None, true),
                Err(WireError::Io(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        let mut octet = [0; 1];
        recv(&*self.stream, &mut octet[..], RecvFlags::PEEK | RecvFlags::DONTWAIT)
            .is_ok_and(|(length, _)| length > 0)
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        // Another owner may keep the socket open a little longer; the peer must not wait for that. Without one, the close
        // does the same.
        if Arc::strong_count(&self.stream) > 1 {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }
}

/// Reads the output of another process to its end, or up to `limit` octets.
///
/// # Errors
/// The deadline passed, or the pipe failed.
pub fn read_pipe(
    pipe: &mut (impl Read + std::os::fd::AsFd),
    limit: u64,
    deadline: Deadline,
) -> Result<Vec<u8>, WireError> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut octets = Vec::new();
    let mut buffer = [0; 1024];
    while (octets.len() as u64) < limit {
        let left = deadline.remaining();
        let timeout = Timespec::try_from(left).map_err(|_| WireError::TimedOut)?;
        let ready =
            poll(&mut [PollFd::new(&*pipe, PollFlags::IN)], Some(&timeout)).map_err(io::Error::from)?;
        if left.is_zero() || ready == 0 {
            return Err(WireError::TimedOut);
        }
        match pipe.read(&mut buffer)? {
            0 => break,
            length => octets.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
    Ok(octets)
}

/// Whether an address belongs to this host: no other address can be bound.
#[must_use]
pub fn is_local_address(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// The address of this host on the route to another host; nothing is sent. `None`: there is no route.
#[must_use]
pub fn own_address(towards: IpAddr) -> Option<IpAddr> {
    let any = if towards.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((towards, 9)).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpListener;

    fn pair() -> (TcpTransport, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (TcpTransport::new(Arc::new(near)), listener.accept().unwrap().0)
    }

    #[test]
    fn a_read_ends_at_its_deadline_and_the_next_one_has_its_own() {
        let (mut near, mut far) = pair();
        let mut buffer = [0; 8];
        let error = near.read(&mut buffer, Deadline::after(Duration::from_millis(20))).unwrap_err();
        assert!(matches!(error, WireError::TimedOut), "{error}");
        assert!(!near.has_input());
        far.write_all(b"hi").unwrap();
        assert_eq!(near.read(&mut buffer, Deadline::after(Duration::from_secs(5))).unwrap(), 2);
        assert_eq!(near.read_timeout.map(|t| t.as_secs()), Some(4));
        drop(far);
        assert!(matches!(
            near.read(&mut buffer, Deadline::after(Duration::from_secs(5))),
            Err(WireError::Closed)
        ));
    }

    /// A deadline of ten seconds for the wait between messages and one of minutes for the others cost no system call a message.
    #[test]
    fn a_timeout_of_some_seconds_serves_for_later_deadlines() {
        let (mut near, mut far) = pair();
        for (seconds, set) in [(10, 9), (300, 9), (180, 9), (10, 9), (4, 3), (300, 299)] {
            far.write_all(b"x").unwrap();
            near.read(&mut [0; 8], Deadline::after(Duration::from_secs(seconds))).unwrap();
            assert_eq!(near.read_timeout.map(|timeout| timeout.as_secs()), Some(set), "{seconds}");
        }
    }

    #[test]
    fn a_peer_that_does_not_read_is_cut_off_at_the_deadline() {
        let (mut near, _far) = pair();
        let error =
            near.write_all(&vec![0; 64 << 20], Deadline::after(Duration::from_millis(50))).unwrap_err();
        assert!(matches!(error, WireError::TimedOut), "{error}");
    }

    #[test]
    fn what_fits_is_written_without_a_timeout_and_the_rest_with_one() {
        let (mut near, mut far) = pair();
        near.write_all(b"220 hello\r\n", Deadline::after(Duration::from_secs(60))).unwrap();
        assert_eq!(near.write_timeout, None);
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            far.read_to_end(&mut read).map(|_| read.len())
        });
        near.write_all(&vec![0; 64 << 20], Deadline::after(Duration::from_secs(60))).unwrap();
        assert_eq!(near.write_timeout.map(|timeout| timeout.as_secs()), Some(59));
        drop(near);
        assert_eq!(reader.join().unwrap().unwrap(), (64 << 20) + 11);
    }

    #[test]
    fn the_peer_sees_the_end_although_somebody_else_holds_the_socket() {
        for is_shared in [false, true] {
            let (near, mut far) = pair();
            let other = is_shared.then(|| Arc::clone(&near.stream));
            drop(near);
            assert_eq!(far.read(&mut [0; 8]).unwrap(), 0, "{is_shared}");
            drop(other);
        }
    }

    #[test]
    fn own_addresses_are_known() {
        assert!(is_local_address("127.0.0.1".parse().unwrap()));
        assert!(is_local_address("127.8.8.8".parse().unwrap()));
        assert!(!is_local_address("192.0.2.1".parse().unwrap()));
        let loopback = "127.0.0.1".parse().unwrap();
        assert_eq!(own_address(loopback), Some(loopback));
    }

    #[test]
    fn a_deadline_that_is_over_reads_nothing() {
        let (mut near, mut far) = pair();
        far.write_all(b"late").unwrap();
        let error = near.read(&mut [0; 8], Deadline::after(Duration::ZERO)).unwrap_err();
        assert!(matches!(error, WireError::TimedOut), "{error}");
    }
}
