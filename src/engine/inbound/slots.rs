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
//! An address is an IPv4 address, an IPv6 /64, or all loopback addresses together: each local program may connect from
//! any of them. The last eighth of the slots in the third column is for addresses without an open connection.
//! A trusted loopback address without an open connection always gets one. Where loopback has used up its slots, or all are taken,
//! the oldest trusted connection of loopback that is idle ends for it: no program that connects from many addresses of
//! 127.0.0.0/8 keeps those out that use 127.0.0.1. Nor do connections that are all at work: 127.0.0.1 and ::1 get one more each.
//!
//! The slot also carries the limits of its client: messages a minute, logged refusals, and the wait before the next
//! login. The only I/O in this file is the 421 of [`turn_away`].
//!
//! # Shutdown
//!
//! | connection | [`ConnectionSlots::stop`] |
//! | --- | --- |
//! | waits for a command outside a transaction | shuts its input down: the thread wakes and says 421 |
//! | busy: in a transaction or a command | waits for it, at most the given time; it says 421 before its next command |
//! | pauses before the answer to AUTH | wakes it; it says 421 |

use crate::engine::log::counters::Gauge;
use crate::mail::network::Network;
use crate::net::transport::Deadline;
use crate::rules::pacing::auth_failures::AuthFailures;
use crate::rules::pacing::rate::Rates;
use crate::sys::lock::{Lock, wait_while};
use std::collections::HashMap;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, MutexGuard};
use std::time::Duration;

/// The number of addresses that are remembered for a successful login.
const KNOWN_MAX: usize = 16;
/// One slot in so many is kept for addresses without an open connection.
const NEWCOMERS_SHARE: u32 = 8;
/// So many of the slots, as a share of all, may be open beyond them while connections that were told to end have not ended: one
/// whose client does not read takes minutes.
const LEAVING_SHARE: u32 = 4;
/// The refusals of one address that are logged in a minute: a robot must not fill the log of a small box.
const REFUSALS_A_MINUTE: u32 = 60;

/// The slots of all listeners.
#[derive(Debug, Default)]
pub struct ConnectionSlots {
    open: Lock<Open>,
    /// Notified when the daemon begins to stop, and from then on when a connection ends.
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
    /// The client's own address, of which there may be many in one counted address.
    client: Lock<IpAddr>,
    busy: AtomicBool,
    stranger: AtomicBool,
    /// It was told to end, and its thread has not noticed yet.
    leaving: AtomicBool,
}

impl Open {
    /// Counts one more connection of `client` under its address and, if it is one, as a stranger's. `was_stranger` says
    /// that the connection counts as a stranger's already.
    fn take(&mut self, client: Client, caps: Caps, was_stranger: bool) -> Result<(), NoSlot> {
        let of_address = self.by_address.get(&client.address).copied().unwrap_or_default();
        // Loopback addresses count as one, but a single one of them must not be kept out by the others.
        let is_alone = client.ip.is_loopback()
            && self.connections.values().all(|connection| *connection.client.lock() != client.ip);
        let is_newcomer = of_address == 0 || is_alone;
        let is_over = |open: u64, most: u32| {
            let kept = if is_newcomer { 0 } else { most / NEWCOMERS_SHARE };
            open >= u64::from(most - kept)
        };
        let open = self.connections.len() as u64;
        let is_new_stranger = client.is_stranger && !was_stranger;
        let is_full =
            is_over(open, caps.total) || (is_new_stranger && is_over(self.strangers, caps.of_strangers()));
        let has_all = of_address >= caps.of_address(client.is_trusted);
        // The addresses that programs use, of which there are two: one connection more of each does no harm.
        let is_usual = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&client.ip);
        let is_usual = is_usual && is_alone && client.is_trusted;
        let has_margin = open < u64::from(caps.total) + u64::from(caps.total / LEAVING_SHARE).max(1);
        let is_replaced = is_alone
            && client.is_trusted
            && (is_full || has_all)
            && (has_margin || is_usual)
            && self.end_idle(client.address);
        if is_full && !is_replaced && !is_usual {
            return Err(NoSlot::TooMany);
        }
        if has_all && !is_alone {
            return Err(NoSlot::TooManyOfAddress);
        }
        *self.by_address.entry(client.address).or_default() += 1;
        self.strangers = self.strangers - u64::from(was_stranger) + u64::from(client.is_stranger);
        Ok(())
    }

    /// Ends the oldest connection of a trusted client at a counted address that waits for a command; false if none waits.
    fn end_idle(&self, address: IpAddr) -> bool {
        let is_idle = |connection: &OpenConnection| {
            let is_used = [&connection.busy, &connection.leaving, &connection.stranger];
            is_used.iter().all(|is_used| !is_used.load(Ordering::SeqCst))
                && counted_address(*connection.client.lock()) == address
        };
        let oldest =
            self.connections.iter().filter(|(_, connection)| is_idle(connection)).min_by_key(|it| it.0);
        oldest.is_some_and(|(_, connection)| {
            connection.leaving.store(true, Ordering::SeqCst);
            // If the client has gone, its thread ends as well.
            let _ = connection.stream.shutdown(Shutdown::Read);
            true
        })
    }

    fn client(&self, ip: IpAddr, is_trusted: bool) -> Client {
        let address = counted_address(ip);
        let is_stranger = !is_trusted && !self.known.contains(&address);
        Client { ip: ip.to_canonical(), address, is_trusted, is_stranger }
    }

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

/// A client that wants a slot.
#[derive(Debug, Clone, Copy)]
struct Client {
    ip: IpAddr,
    /// The address that it is counted under.
    address: IpAddr,
    is_trusted: bool,
    is_stranger: bool,
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
        let client = open.client(client, trusted);
        open.take(client, caps, false)?;
        let connection = Arc::new(OpenConnection {
            stream,
            client: Lock::new(client.ip),
            busy: AtomicBool::new(false),
            stranger: client.is_stranger.into(),
            leaving: AtomicBool::new(false),
        });
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, Arc::clone(&connection));
        Ok(Slot { slots: Arc::clone(self), number, address: Lock::new(client.address), connection })
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

/// The address that a client is counted under: the first of its network.
fn counted_address(client: IpAddr) -> IpAddr {
    Network::of_client(client).address
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
        let client = open.client(client, trusted);
        // The connection has a slot already: it must not count against itself.
        let caps = Caps { total: caps.total.saturating_add(1), ..caps };
        open.take(client, caps, self.connection.stranger.load(Ordering::SeqCst))?;
        self.connection.stranger.store(client.is_stranger, Ordering::SeqCst);
        open.release(self.address());
        *self.address.lock() = client.address;
        *self.connection.client.lock() = client.ip;
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
        // Before, nobody waits for the end of a connection, and telling nobody would cost a system call. `stop` looks at the
        // connections after it has begun to stop, so it either sees this one gone or is told.
        if self.slots.is_stopping() {
            self.slots.ended.notify_all();
        }
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
        assert_eq!(admit("127.0.0.1", true).unwrap_err(), NoSlot::TooMany);
        taken.push(admit("192.168.1.1", true).unwrap());
        assert_eq!(admit("192.168.1.2", true).unwrap_err(), NoSlot::TooMany);
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
    fn loopback_addresses_are_one_client_and_keep_none_of_them_out() {
        let slots = Arc::new(ConnectionSlots::default());
        let caps = Caps { total: 64, per_address: 16 };
        let admit = |ip: &str| slots.admit(stream(), ip.parse().unwrap(), true, caps);
        let mut taken: Vec<Slot> = (0..32).map(|_| admit("127.0.0.2").unwrap()).collect();
        taken.extend((0..16).map(|_| admit("::ffff:127.0.0.3").unwrap()));
        for ip in ["127.0.0.2", "127.0.0.3"] {
            assert_eq!(admit(ip).unwrap_err(), NoSlot::TooManyOfAddress, "{ip}");
        }
        for ip in ["127.0.0.1", "::1"] {
            taken.push(admit(ip).unwrap());
            assert_eq!(admit(ip).unwrap_err(), NoSlot::TooManyOfAddress, "{ip}");
        }
    }

    #[test]
    fn any_number_of_loopback_addresses_keeps_no_other_out() {
        let slots = Arc::new(ConnectionSlots::default());
        let caps = Caps { total: 64, per_address: 16 };
        let admit = |ip: String| slots.admit(stream(), ip.parse().unwrap(), true, caps);
        let taken: Vec<Slot> = (0..80).filter_map(|number| admit(format!("127.0.3.{number}")).ok()).collect();
        assert_eq!(taken.len(), 80, "each takes the place of an older one");
        let leaving = || taken.iter().filter(|slot| slot.connection.leaving.load(Ordering::SeqCst)).count();
        assert_eq!(leaving(), 80 - 48, "whose threads end");
        let last = admit("127.0.0.1".into()).unwrap();
        assert!(taken[80 - 48].connection.leaving.load(Ordering::SeqCst), "the oldest");
        taken.iter().chain([&last]).for_each(|slot| slot.set_busy(true));
        assert_eq!(admit("127.0.0.5".into()).unwrap_err(), NoSlot::TooMany, "all of them work");
    }

    #[test]
    fn loopback_connections_that_are_all_at_work_leave_a_slot_for_the_usual_addresses() {
        let slots = Arc::new(ConnectionSlots::default());
        let caps = Caps { total: 64, per_address: 16 };
        let admit = |ip: &str| slots.admit(stream(), ip.parse().unwrap(), true, caps);
        let taken: Vec<Slot> = (0..64)
            .map(|number| {
                let slot = admit(&format!("127.0.3.{number}")).unwrap();
                slot.set_busy(true);
                slot
            })
            .collect();
        assert_eq!(admit("127.0.0.2").unwrap_err(), NoSlot::TooMany);
        let usual: Vec<Slot> = ["127.0.0.1", "::1"].iter().map(|ip| admit(ip).unwrap()).collect();
        usual.iter().for_each(|slot| slot.set_busy(true));
        assert_eq!(admit("127.0.0.1").unwrap_err(), NoSlot::TooMany);
        assert_eq!(slots.count(), taken.len() + 2);
    }

    /// A client that does not read holds up the thread that is to end.
    #[test]
    fn connections_that_were_told_to_end_and_do_not_are_bounded() {
        let slots = Arc::new(ConnectionSlots::default());
        let caps = Caps { total: 64, per_address: 16 };
        let admit = |ip: String| slots.admit(stream(), ip.parse().unwrap(), true, caps);
        let taken: Vec<Slot> =
            (0..250).filter_map(|number| admit(format!("127.0.3.{number}")).ok()).collect();
        assert_eq!(taken.len(), 64 + 64 / 4);
    }

    #[test]
    fn the_last_eighth_is_for_addresses_without_a_connection() {
        let caps = Caps { total: 64, per_address: 16 };
        for (trusted, most, kept) in [(true, 56, 8), (false, 42, 6)] {
            let slots = Arc::new(ConnectionSlots::default());
            let admit = |last: usize| {
                slots.admit(stream(), format!("192.0.2.{last}").parse().unwrap(), trusted, caps)
            };
            let mut taken: Vec<Slot> = (0..64).filter_map(|number| admit(number % 8).ok()).collect();
            assert_eq!(taken.len(), most);
            taken.extend((8..64).filter_map(|number| admit(number).ok()));
            assert_eq!(taken.len(), most + kept);
        }
    }

    #[test]
    fn a_client_behind_a_proxy_has_the_slot_that_its_connection_has() {
        let slots = Arc::new(ConnectionSlots::default());
        let caps = Caps { total: 16, per_address: 16 };
        let admit = |ip: &str| slots.admit(stream(), ip.parse().unwrap(), true, caps);
        let mut taken: Vec<Slot> = (0..12).map(|_| admit("192.168.1.1").unwrap()).collect();
        taken.push(admit("192.168.1.2").unwrap());
        taken.push(admit("192.168.1.2").unwrap());
        let last = admit("127.0.0.1").unwrap();
        let full = admit("127.0.0.2").unwrap();
        full.change_client("192.0.2.1".parse().unwrap(), false, caps).unwrap();
        assert_eq!(
            last.change_client("192.168.1.1".parse().unwrap(), true, caps),
            Err(NoSlot::TooMany),
            "the last places are for newcomers"
        );
        assert_eq!((slots.count(), slots.lock().strangers), (16, 1));
    }

    #[test]
    fn ipv6_is_counted_by_its_network() {
        let counted = |text: &str| counted_address(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:0:1:2:3:4:5"), "2001:db8:0:1::");
        assert_eq!(counted("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(counted("::1"), counted("127.0.0.9"));
    }
}
