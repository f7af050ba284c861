//! The time that a probe takes: a person waits at the terminal, so it ends within a minute, whatever hangs.
//!
//! | for | limit |
//! | --- | --- |
//! | the whole probe | [`ProbeTime::end`]; nothing begins after it |
//! | all connections to a host | [`ProbeTime::connect`] |
//! | a whole reply, from the last command on | [`ProbeTime::reply`] |
//! | a look-up by the system | [`ProbeTime::connect`] |
//! | a look-up by the resolver | its own time, which the caller ends at the same instant ([`Resolver::ending_after`]) |
//!
//! A host that sends an octet now and then, or lines without end, is cut off like one that sends nothing. Delivery waits for
//! minutes instead (`smtp::limits`).
//!
//! [`Resolver::ending_after`]: crate::net::resolver::Resolver::ending_after

use crate::mail::mx::MxAnswer;
use crate::net::connect::{Connect, Failures};
use crate::net::resolver::{DnsError, DnsErrorKind, RecordSet, Resolve, Rtype, SystemAnswer};
use crate::net::transport::{Deadline, Transport, WireError};
use crate::sys::thread;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long all connections to a host may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a whole reply may take. Some hosts let unknown clients wait for half of that.
const REPLY: Duration = Duration::from_secs(20);
/// What a step says that is not tried any more.
pub(super) const IS_OVER: &str = "not tried: the time of the probe is over";

/// How long a probe and its parts may take.
#[derive(Debug, Clone, Copy)]
pub struct ProbeTime {
    /// The end of the whole probe.
    pub end: Deadline,
    /// For all connections to a host.
    pub connect: Duration,
    /// For a whole reply.
    pub reply: Duration,
}

impl ProbeTime {
    /// The usual limits; the whole probe ends after `span`.
    #[must_use]
    pub fn within(span: Duration) -> Self {
        Self { end: Deadline::after(span), connect: CONNECT, reply: REPLY }
    }

    /// Whether the whole time is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.end.remaining().is_zero()
    }

    /// The end of something that may take `span`.
    fn until(&self, span: Duration) -> Deadline {
        self.end.min(Deadline::after(span))
    }
}

/// Connects within the time of a probe.
pub(super) struct TimedConnect<'a> {
    pub connect: &'a dyn Connect,
    pub time: ProbeTime,
}

impl Connect for TimedConnect<'_> {
    fn connect_while(
        &self,
        addresses: &mut Vec<SocketAddr>,
        source: &[IpAddr],
        timeout: Duration,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        if self.time.is_over() {
            let over = |address| (address, WireError::Io(io::Error::other(IS_OVER)));
            return Err(addresses.drain(..).map(over).collect());
        }
        let host = self.time.until(timeout.min(self.time.connect));
        let goes_on = || goes_on() && !host.remaining().is_zero();
        let (address, transport) =
            self.connect.connect_while(addresses, source, host.remaining(), &goes_on)?;
        Ok((address, Box::new(TimedTransport { transport, time: self.time, reply: None })))
    }
}

/// A connection that gives each reply a limited time as a whole.
struct TimedTransport {
    transport: Box<dyn Transport>,
    time: ProbeTime,
    /// When the reply must be complete; `None` after a command.
    reply: Option<Deadline>,
}

impl Transport for TimedTransport {
    fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, WireError> {
        let reply = *self.reply.get_or_insert_with(|| self.time.until(self.time.reply));
        if reply.remaining().is_zero() {
            return Err(WireError::TimedOut);
        }
        self.transport.read(buffer, deadline.min(reply))
    }

    fn write_all(&mut self, octets: &[u8], deadline: Deadline) -> Result<(), WireError> {
        self.reply = None;
        self.transport.write_all(octets, deadline.min(self.time.until(self.time.reply)))
    }

    fn has_input(&mut self) -> bool {
        self.transport.has_input()
    }
}

/// Looks names up within the time of a probe.
pub(super) struct TimedResolver<'a> {
    pub resolver: &'a dyn Resolve,
    pub time: ProbeTime,
}

impl TimedResolver<'_> {
    fn in_time<T>(&self, ask: impl FnOnce(&dyn Resolve) -> Result<T, DnsError>) -> Result<T, DnsError> {
        if self.time.is_over() {
            return Err(DnsError { kind: DnsErrorKind::Temporary, text: IS_OVER.to_owned() });
        }
        ask(self.resolver)
    }
}

impl Resolve for TimedResolver<'_> {
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        self.in_time(|resolver| resolver.mx(domain))
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.in_time(|resolver| resolver.addresses(host))
    }

    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError> {
        self.in_time(|resolver| resolver.records(name, rtype))
    }

    /// The system has no time limit for its look-up, so another thread waits for it, and is left alone if it hangs.
    fn by_system(&self, host: &str) -> io::Result<SystemAnswer> {
        let (ask, name) = (self.resolver.system_look_up(), host.to_owned());
        let left = self.time.until(self.time.connect).remaining();
        let answer = thread::ask("look-up", left, move || ask(&name))?;
        let silence = "temporary failure in name resolution: the system's resolver does not answer in time";
        answer.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, silence)))
    }
}
