//! Slots for connections: how many may be open in total and from one address, and how a shutdown ends them.
//!
//! A connection is served only while it holds a [`Slot`]; dropping the slot frees it, also in a panic. A quarter of all
//! slots is kept for trusted clients and for clients that have logged in, or connect from an address from which
//! a client logged in recently (the last [`KNOWN_MAX`] such addresses).
//!
//! | client | slots of one address | slots in total |
//! | --- | --- | --- |
//! | trusted | three quarters | all |
//! | logged in, or from the address of a recent login | `limits.connections_per_ip` | all |
//! | stranger | `limits.connections_per_ip` | three quarters |
//!
//! An address is an IPv4 address or an IPv6 /64. The slot also carries the limits of its client: messages a minute,
//! logged refusals, and the wait before the next login. The only I/O in this file is the 421 of [`turn_away`].
//!
//! # Shutdown
//!
//! | connection | [`ConnectionSlots::stop`] |
//! | --- | --- |
//! | waits for a command outside a transaction | shuts its input down: the thread wakes and says 421 |
//! | busy: in a transaction or a command | waits for it, at most the given time; it says 421 before its next command |
//! | pauses before the answer to AUTH | wakes it; it says 421 |

use crate::engine::log::counters::Gauge;
use crate::net::transport::Deadline;
use crate::rules::pacing::auth_failures::AuthFailures;
use crate::rules::pacing::rate::Rates;
use crate::sys::lock::{Lock, wait_while};
use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::Duration;

/// The number of addresses that are remembered for a successful login.
const KNOWN_MAX: usize = 16;
/// The refusals of one address that are logged in a minute: a robot must not fill the log of a small box.
const REFUSALS_A_MINUTE: u32 = 60;

/// The slots of all listeners.
#[derive(Debug, Default)]
pub struct ConnectionSlots {
    open: Lock<Open>,
    /// Notified when a connection ends, and when the daemon begins to stop.
    ended: Condvar,
    stopping: AtomicBool,
    rates: Lock<Rates>,
    /// Logged refusals.
    refusals: Lock<Rates>,
    auth_failures: Lock<AuthFailures>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<OpenConnection>>,
    by_address: HashMap<IpAddr, u32>,
    /// Connections of clients that are neither trusted nor logged in.
    strangers: u64,
    /// The addresses of successful logins, the latest last.
    known: Vec<IpAddr>,
}

/// A connection as other threads see it.
#[derive(Debug)]
struct OpenConnection {
    stream: Arc<TcpStream>,
    busy: AtomicBool,
    stranger: AtomicBool,
}

impl Open {
    /// Removes a connection from the count of an address.
    fn release(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// The most connections that may be open.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// In total.
    pub total: u32,
    /// From one address.
    pub per_address: u32,
}

impl Caps {
    /// The most connections of all strangers together.
    const fn of_strangers(self) -> u32 {
        self.total - self.total / 4
    }

    /// The most connections of one address. A trusted address may not take all slots either.
    const fn of_address(self, trusted: bool) -> u32 {
        if trusted { self.of_strangers() } else { self.per_address }
    }
}

/// The reason for which a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// All slots are taken, or the free ones are kept for trusted clients.
    TooMany,
    /// This address has too many connections.
    TooManyOfAddress,
}

/// The slot of a connection; freed when dropped, also in a panic.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<ConnectionSlots>,
    number: u64,
    /// The address that the connection is counted under; changed when a proxy announces the client.
    address: Lock<IpAddr>,
    connection: Arc<OpenConnection>,
}

impl ConnectionSlots {
    /// Gives a connection a slot.
    ///
    /// # Errors
    /// No slot is free for this client; see the table at the top of this file. Strangers can never keep this host's own
    /// alerts out, and no address ever takes all slots.
    pub fn admit(
        self: &Arc<Self>,
        stream: Arc<TcpStream>,
        client: IpAddr,
        trusted: bool,
        caps: Caps,
    ) -> Result<Slot, NoSlot> {
        let mut open = self.lock();
        let address = counted_address(client);
        let stranger = !trusted && !open.known.contains(&address);
        let is_full = open.connections.len() as u64 >= u64::from(caps.total);
        if is_full || (stranger && open.strangers >= u64::from(caps.of_strangers())) {
            return Err(NoSlot::TooMany);
        }
        let of_address = open.by_address.entry(address).or_default();
        if *of_address >= caps.of_address(trusted) {
            return Err(NoSlot::TooManyOfAddress);
        }
        *of_address += 1;
        let connection =
            Arc::new(OpenConnection { stream, busy: AtomicBool::new(false), stranger: stranger.into() });
        open.strangers += u64::from(stranger);
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, Arc::clone(&connection));
        Ok(Slot { slots: Arc::clone(self), number, address: Lock::new(address), connection })
    }

    /// The number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().connections.len()
    }

    /// Whether the daemon is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Marks the daemon as stopping: [`Self::is_stopping`] is true from now on, and pauses end.
    pub fn begin_stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _open = self.lock();
        self.ended.notify_all();
    }

    /// Ends all connections: wakes those that wait for a command, and waits at most `patience` for the others.
    pub fn stop(&self, patience: Duration) {
        self.begin_stop();
        let deadline = Deadline::after(patience);
        let open = self.lock();
        for connection in open.connections.values().filter(|it| !it.busy.load(Ordering::SeqCst)) {
            // The thread reads the end of its input, notices that the daemon stops, and says 421.
            let _ = connection.stream.shutdown(Shutdown::Read);
        }
        drop(wait_while(&self.ended, open, deadline.remaining(), |open| !open.connections.is_empty()));
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

impl Gauge for ConnectionSlots {
    fn value(&self) -> usize {
        self.count()
    }
}

/// The address that a client is counted under: for IPv6 its /64, the least that one customer has.
fn counted_address(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

impl Slot {
    /// Marks whether a shutdown has to wait for this connection.
    pub fn set_busy(&self, busy: bool) {
        self.connection.busy.store(busy, Ordering::SeqCst);
    }

    /// Whether the daemon is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.slots.is_stopping()
    }

    fn address(&self) -> IpAddr {
        *self.address.lock()
    }

    /// Counts the connection under the client that a proxy has announced.
    ///
    /// # Errors
    /// The announced client has no free slot; the connection stays counted under its old address.
    pub fn change_client(&self, client: IpAddr, trusted: bool, caps: Caps) -> Result<(), NoSlot> {
        let mut open = self.slots.lock();
        let (old, new) = (self.address(), counted_address(client));
        let stranger = !trusted && !open.known.contains(&new);
        let was_stranger = self.connection.stranger.load(Ordering::SeqCst);
        if stranger && !was_stranger && open.strangers >= u64::from(caps.of_strangers()) {
            return Err(NoSlot::TooMany);
        }
        let of_address = open.by_address.entry(new).or_default();
        if *of_address >= caps.of_address(trusted) {
            return Err(NoSlot::TooManyOfAddress);
        }
        *of_address += 1;
        open.strangers = open.strangers - u64::from(was_stranger) + u64::from(stranger);
        self.connection.stranger.store(stranger, Ordering::SeqCst);
        open.release(old);
        *self.address.lock() = new;
        Ok(())
    }

    /// Counts a message of this client; false if it exceeds the limit of this minute.
    #[must_use]
    pub fn takes_message(&self, now: Duration, limit_a_minute: u32) -> bool {
        let mut rates = self.slots.rates.lock();
        rates.take(self.address(), now, limit_a_minute)
    }

    /// Counts a logged refusal of this client; false if it exceeds [`REFUSALS_A_MINUTE`].
    #[must_use]
    pub fn may_log_refusal(&self, now: Duration) -> bool {
        let mut rates = self.slots.refusals.lock();
        rates.take(self.address(), now, REFUSALS_A_MINUTE)
    }

    /// How long the client must wait for the answer to AUTH.
    #[must_use]
    pub fn login_wait(&self, now: Duration) -> Duration {
        self.auth_failures().wait(self.address(), now)
    }

    /// Counts a failed login of the client.
    pub fn login_failed(&self, now: Duration) {
        self.auth_failures().failed(self.address(), now);
    }

    fn auth_failures(&self) -> MutexGuard<'_, AuthFailures> {
        self.slots.auth_failures.lock()
    }

    /// Marks the client as logged in: it no longer counts as a stranger, and its address is remembered.
    pub fn logged_in(&self) {
        let mut open = self.slots.lock();
        if self.connection.stranger.swap(false, Ordering::SeqCst) {
            open.strangers -= 1;
        }
        let address = self.address();
        open.known.retain(|known| *known != address);
        if open.known.len() >= KNOWN_MAX {
            open.known.remove(0);
        }
        open.known.push(address);
    }

    /// Waits for this time; false if the daemon stops before.
    #[must_use]
    pub fn pause(&self, time: Duration) -> bool {
        drop(wait_while(&self.slots.ended, self.slots.lock(), time, |_| !self.is_stopping()));
        !self.is_stopping()
    }

    /// The number of open connections of all clients.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.slots.count()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.lock();
        open.connections.remove(&self.number);
        open.strangers -= u64::from(self.connection.stranger.load(Ordering::SeqCst));
        open.release(self.address());
        drop(open);
        self.slots.ended.notify_all();
    }
}

/// Sends a 421 to a client that gets no slot, without a thread and without waiting.
pub fn turn_away(stream: &TcpStream, reply: &crate::smtp::reply::Reply) {
    let mut octets = Vec::new();
    reply.print(&mut octets);
    // The send buffer of a new connection has room for a line. If it has not, the client gets no reply.
    let _ = stream.set_nonblocking(true);
    // One write without a deadline: on a busy machine a deadline could pass before the write.
    let _ = (&*stream).write(&octets);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn stream() -> Arc<TcpStream> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    }

    #[test]
    fn a_quarter_is_kept_for_the_trusted_and_no_address_takes_all() {
        let slots = Arc::new(ConnectionSlots::default());
        let caps = Caps { total: 8, per_address: 4 };
        let admit = |ip: &str, trusted| slots.admit(stream(), ip.parse().unwrap(), trusted, caps);
        let mut taken: Vec<Slot> = (0..4).map(|_| admit("192.0.2.1", false).unwrap()).collect();
        assert_eq!(admit("192.0.2.1", false).unwrap_err(), NoSlot::TooManyOfAddress);
        taken.push(admit("2001:db8::1", false).unwrap());
        taken.push(admit("2001:db8::ffff", false).unwrap());
        assert_eq!(admit("192.0.2.2", false).unwrap_err(), NoSlot::TooMany);
        taken.push(admit("127.0.0.1", true).unwrap());
        taken.push(admit("127.0.0.1", true).unwrap());
        assert_eq!(admit("127.0.0.1", true).unwrap_err(), NoSlot::TooMany);
        assert_eq!(slots.count(), 8);
        taken.truncate(3);
        assert!(admit("192.0.2.1", false).is_ok());
        drop(taken);
        assert_eq!(slots.count(), 0);
        assert!(slots.lock().by_address.is_empty());
    }

    #[test]
    fn no_address_takes_all_even_if_it_is_trusted() {
        for (total, per_address, stranger, trusted) in
            [(8, 4, 4, 6), (8, 8, 6, 6), (64, 16, 16, 48), (7, 9, 6, 6)]
        {
            let caps = Caps { total, per_address };
            for (is_trusted, most) in [(false, stranger), (true, trusted)] {
                let slots = Arc::new(ConnectionSlots::default());
                let admit = |ip: &str| slots.admit(stream(), ip.parse().unwrap(), is_trusted, caps);
                let taken: Vec<Slot> = std::iter::from_fn(|| admit("192.0.2.1").ok()).take(99).collect();
                assert_eq!(taken.len(), most, "{caps:?} trusted: {is_trusted}");
                let other = slots.admit(stream(), "127.0.0.1".parse().unwrap(), true, caps);
                assert!(other.is_ok(), "{caps:?}");
            }
        }
    }

    #[test]
    fn ipv6_is_counted_by_its_network() {
        let counted = |text: &str| counted_address(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:0:1:2:3:4:5"), "2001:db8:0:1::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
