//! Connections to a host with several addresses (RFC 8305, "happy eyeballs").
//!
//! 1. The addresses are sorted: the two families take turns, starting with the family of the first address. Within a
//!    family the order of the resolver stays, because MX preference decides it (RFC 5321 §5.1).
//! 2. A connection to the first address begins. If it is not up after 250 ms ([`HEAD_START`]), a connection to the
//!    next address begins beside it; if it fails, the next one begins at once.
//! 3. The first connection that is established wins. The others are dropped, and their addresses go back to the
//!    caller's list, for a later try.
//! 4. Each address has the whole `timeout` for itself, counted from the start of its own connection. The call fails
//!    when every address has failed.
//! 5. At least every 200 ms the caller may stop the wait ([`Connect::connect_while`]).
//!
//! If the family that was tried first loses, the connector remembers it as slow and tries it second for ten minutes.
//! So a broken family costs a quarter of a second now and then, and no more. Nothing else is remembered between
//! calls.
//!
//! The module never resolves names, never speaks TLS and never retries an address. A failure names each address and
//! the error of the system.

use super::transport::{Deadline, TcpTransport, Transport, WireError};
use crate::sys::lock::Lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// The time that an address has for itself before the next one is tried (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);
/// The interval at which `goes_on` is asked.
const GLANCE: Duration = Duration::from_millis(200);
/// How long the slower family is remembered.
const MEMORY: Duration = Duration::from_secs(600);

/// The error of each address, in the order in which they failed.
pub type Failures = Vec<(SocketAddr, WireError)>;

/// How the forwarder gets its connections. Tests have their own implementation.
pub trait Connect: Send + Sync {
    /// Connects to the first of `addresses` that answers. Each address has `timeout`.
    ///
    /// `source` lists addresses of this host to connect from; for a family without one the system chooses. The
    /// address that is connected and those that failed leave the list; the others stay in it and can be tried later.
    ///
    /// # Errors
    /// No address answers.
    fn connect(
        &self,
        addresses: &mut Vec<SocketAddr>,
        source: &[IpAddr],
        timeout: Duration,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        self.connect_while(addresses, source, timeout, &|| true)
    }

    /// As [`Connect::connect`], but only while `goes_on` returns true; it is called several times a second.
    ///
    /// # Errors
    /// No address has answered, or `goes_on` returned false.
    fn connect_while(
        &self,
        addresses: &mut Vec<SocketAddr>,
        source: &[IpAddr],
        timeout: Duration,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures>;
}

/// Plain TCP.
#[derive(Debug, Default)]
pub struct TcpConnect {
    /// The slower family, and the time until which it is tried second.
    slow: Lock<Option<(IpFamily, Deadline)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IpFamily {
    V4,
    V6,
}

impl IpFamily {
    const fn of(address: &SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A connection that is being established.
struct PendingConnection {
    address: SocketAddr,
    socket: OwnedFd,
    deadline: Deadline,
}

impl Connect for TcpConnect {
    fn connect_while(
        &self,
        addresses: &mut Vec<SocketAddr>,
        source: &[IpAddr],
        timeout: Duration,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        let mut waiting = in_turn(std::mem::take(addresses), self.slow_family());
        let first = waiting.front().map(IpFamily::of);
        let (mut attempts, mut failures) = (Vec::new(), Failures::new());
        let mut next_start = Deadline::after(Duration::ZERO);
        loop {
            if attempts.is_empty() || next_start.remaining().is_zero() {
                match waiting.pop_front().map(|address| (address, begin(address, source))) {
                    Some((address, Ok(socket))) => {
                        attempts.push(PendingConnection {
                            address,
                            socket,
                            deadline: Deadline::after(timeout),
                        });
                        next_start = Deadline::after(HEAD_START);
                    }
                    Some((address, Err(error))) => {
                        failures.push((address, error));
                        continue;
                    }
                    None if attempts.is_empty() => return Err(failures),
                    None => {}
                }
            }
            let next = (!waiting.is_empty()).then_some(next_start);
            let next = next.into_iter().chain([Deadline::after(GLANCE)]).reduce(Deadline::min);
            let Some((attempt, result)) = first_news(&mut attempts, next) else {
                if goes_on() {
                    continue;
                }
                failures.extend(attempts.drain(..).map(|attempt| (attempt.address, WireError::TimedOut)));
                return Err(failures);
            };
            match result.and_then(|()| taken_over(attempt.socket)) {
                Ok(transport) => {
                    addresses.extend(attempts.iter().map(|attempt| attempt.address).chain(waiting));
                    self.learn(first, IpFamily::of(&attempt.address));
                    return Ok((attempt.address, Box::new(transport)));
                }
                Err(error) => failures.push((attempt.address, error)),
            }
            // This address is decided: the next one starts without a head start.
            next_start = Deadline::after(Duration::ZERO);
        }
    }
}

impl TcpConnect {
    fn slow_family(&self) -> Option<IpFamily> {
        let slow = *self.slow.lock();
        slow.filter(|(_, until)| !until.remaining().is_zero()).map(|(family, _)| family)
    }

    fn learn(&self, first: Option<IpFamily>, winner: IpFamily) {
        if let Some(slow) = first.filter(|&first| first != winner) {
            let mut known = self.slow.lock();
            *known = Some((slow, Deadline::after(MEMORY)));
        }
    }
}

/// The order in which to try the addresses: the families take turns, the family of the first address first unless it
/// is the slow one. Within a family the order stays (RFC 5321 §5.1).
fn in_turn(addresses: Vec<SocketAddr>, slow: Option<IpFamily>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first().map(IpFamily::of) else { return VecDeque::new() };
    let first = match slow {
        Some(IpFamily::V4) => IpFamily::V6,
        Some(IpFamily::V6) => IpFamily::V4,
        None => first,
    };
    let (one, other): (VecDeque<_>, VecDeque<_>) =
        addresses.into_iter().partition(|address| IpFamily::of(address) == first);
    let (mut one, mut other, mut all) = (one.into_iter(), other.into_iter(), VecDeque::new());
    loop {
        let before = all.len();
        all.extend(one.next());
        all.extend(other.next());
        if all.len() == before {
            return all;
        }
    }
}

/// Starts to connect and does not wait.
fn begin(address: SocketAddr, source: &[IpAddr]) -> Result<OwnedFd, WireError> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(io::Error::from)?;
    let mut own = source.iter().filter(|ip| ip.is_ipv4() == address.is_ipv4()).peekable();
    if own.peek().is_some() {
        let mut result = Ok(());
        for &ip in own {
            result = bind(&socket, &SocketAddr::new(ip, 0))
                .map_err(|error| io::Error::other(format!("from {ip}: {}", io::Error::from(error))));
            if result.is_ok() {
                break;
            }
        }
        result?;
    }
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS | rustix::io::Errno::INTR) => Ok(socket),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

/// Waits for the first attempt that is decided and removes it from the list. `None`: `next` has come first.
fn first_news(
    attempts: &mut Vec<PendingConnection>,
    next: Option<Deadline>,
) -> Option<(PendingConnection, Result<(), WireError>)> {
    let deadlines = attempts.iter().map(|attempt| attempt.deadline);
    let until = deadlines.chain(next).reduce(Deadline::min)?;
    // A millisecond of reserve: rounding must not make the loop spin just before the deadline.
    let left = until.remaining().saturating_add(Duration::from_millis(1));
    let timeout = Timespec::try_from(left).ok();
    let mut sockets: Vec<_> =
        attempts.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
    // An interrupted poll reports no socket; the caller polls again.
    let _ = poll(&mut sockets, timeout.as_ref());
    let ready = sockets.iter().position(|socket| !socket.revents().is_empty());
    if let Some(index) = ready {
        let attempt = attempts.remove(index);
        let result = match sockopt::socket_error(&attempt.socket) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(io::Error::from(error).into()),
        };
        return Some((attempt, result));
    }
    let late = attempts.iter().position(|attempt| attempt.deadline.remaining().is_zero())?;
    Some((attempts.remove(late), Err(WireError::TimedOut)))
}

fn taken_over(socket: OwnedFd) -> Result<TcpTransport, WireError> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    // Each command is written in one piece, so Nagle's algorithm would only add delay.
    stream.set_nodelay(true)?;
    Ok(TcpTransport::new(Arc::new(stream)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::transport::Stopwatch;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(20);

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// A listener whose queue is full: what comes now gets no answer.
    fn deaf(address: &str) -> (OwnedFd, Vec<OwnedFd>, SocketAddr) {
        let address: SocketAddr = address.parse().unwrap();
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &address).unwrap();
        rustix::net::listen(&socket, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
        let filling = (0..4).map(|_| begin(address, &[]).unwrap()).collect();
        (socket, filling, address)
    }

    fn refusing(address: &str) -> SocketAddr {
        TcpListener::bind(address).unwrap().local_addr().unwrap()
    }

    #[test]
    fn families_take_turns_and_the_slow_one_comes_second() {
        let list = addresses(&["192.0.2.1:25", "192.0.2.2:25", "[2001:db8::1]:25", "192.0.2.3:25"]);
        let mixed = addresses(&["192.0.2.1:25", "[2001:db8::1]:25", "192.0.2.2:25", "192.0.2.3:25"]);
        assert_eq!(in_turn(list.clone(), None), mixed);
        assert_eq!(in_turn(list.clone(), Some(IpFamily::V6)), mixed);
        let six_first = addresses(&["[2001:db8::1]:25", "192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25"]);
        assert_eq!(in_turn(list, Some(IpFamily::V4)), six_first);
        assert_eq!(in_turn(six_first.clone(), None), six_first);
        // There is nothing to put before it.
        assert_eq!(in_turn(addresses(&["192.0.2.1:25"]), Some(IpFamily::V4)), addresses(&["192.0.2.1:25"]));
        assert!(in_turn(Vec::new(), None).is_empty());
    }

    #[test]
    fn a_family_that_does_not_answer_costs_a_quarter_of_a_second_and_then_nothing() {
        let (_deaf, _filling, six) = deaf("[::1]:0");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let four = listener.local_addr().unwrap();
        let connector = TcpConnect::default();
        let stopwatch = Stopwatch::start();
        let mut list = vec![six, four];
        let (address, _transport) = connector.connect(&mut list, &[], LONG).unwrap();
        assert_eq!((address, list), (four, vec![six]));
        assert!((HEAD_START..LONG).contains(&stopwatch.elapsed()), "{:?}", stopwatch.elapsed());
        assert_eq!(connector.slow_family(), Some(IpFamily::V6));
        let mut list = vec![six, four];
        assert_eq!(connector.connect(&mut list, &[], LONG).unwrap().0, four);
        assert_eq!(
            connector.slow_family(),
            Some(IpFamily::V6),
            "one that was asked second has not been slow"
        );
    }

    #[test]
    fn who_refuses_is_not_waited_for() {
        let refusing = ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"].map(refusing);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut list = refusing.to_vec();
        list.push(listener.local_addr().unwrap());
        let stopwatch = Stopwatch::start();
        let (address, mut transport) = TcpConnect::default().connect(&mut list, &[], LONG).unwrap();
        assert_eq!((address, list), (listener.local_addr().unwrap(), vec![]));
        assert!(stopwatch.elapsed() < 3 * HEAD_START, "{:?}", stopwatch.elapsed());
        // It waits as others do: a socket that does not would fail at once.
        let error = transport.read(&mut [0; 8], Deadline::after(Duration::from_millis(30))).unwrap_err();
        assert!(matches!(error, WireError::TimedOut), "{error}");
        assert!(stopwatch.elapsed() >= Duration::from_millis(30));
        let mut list = refusing.to_vec();
        let failures = TcpConnect::default().connect(&mut list, &[], LONG).err().unwrap();
        assert_eq!(failures.iter().map(|(address, _)| *address).collect::<Vec<_>>(), refusing);
        assert!(failures.iter().all(|(_, error)| error.to_string().contains("refused")), "{failures:?}");
    }

    #[test]
    fn each_address_has_its_time() {
        let (_deaf, _filling, address) = deaf("127.0.0.1:0");
        let stopwatch = Stopwatch::start();
        let mut list = vec![address];
        let failures =
            TcpConnect::default().connect(&mut list, &[], Duration::from_millis(50)).err().unwrap();
        assert!(matches!(failures.as_slice(), [(_, WireError::TimedOut)]), "{failures:?}");
        assert!(stopwatch.elapsed() < LONG);
    }

    #[test]
    fn it_connects_from_the_source_of_the_family() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let source = ["::1", "192.0.2.77", "127.0.0.42"].map(|ip| ip.parse().unwrap());
        let connected = TcpConnect::default().connect(&mut vec![address], &source, LONG);
        assert_eq!(listener.accept().unwrap().1.ip(), source[2], "the first that this host has");
        drop(connected);
        let failures = TcpConnect::default().connect(&mut vec![address], &source[1..2], LONG).err().unwrap();
        assert!(failures[0].1.to_string().starts_with("from 192.0.2.77: "), "{failures:?}");
        assert!(TcpConnect::default().connect(&mut vec![address], &source[..1], LONG).is_ok());
    }
}
