//! A listening socket: accepts connections, decides whether there is a slot for each, and gives it a thread.
//!
//! ```text
//! accept ─▶ descriptors left? ─▶ a free slot? ─▶ memory for a thread? ─▶ a thread ─▶ Connection::serve
//!                  └── no ───────────┴─── no ─────────────┴─── no ──────────▶ 421 and close
//! ```
//!
//! A refusal costs no thread and never waits for the client. One descriptor is kept in reserve: without it, a client
//! that connects when all others are used up would wait in the backlog instead of getting its 421. A panic in a
//! connection ends only that connection. When the daemon stops, a socket that it opened is shut down; an inherited one
//! keeps listening for the next start.

use super::connection::Connection;
use super::policy::{ListenerPolicy, listener_policy};
use super::shared::Inbound;
use super::slots::{Caps, NoSlot, Slot, turn_away};
use crate::engine::host::site::Site;
use crate::engine::log::counters::Count;
use crate::engine::log::event::{Event, trouble};
use crate::mail::status::EnhancedStatus;
use crate::net::tls::ServerTransport;
use crate::net::transport::TcpTransport;
use crate::smtp::reply::Reply;
use crate::sys::file::{self, FileKind};
use crate::sys::{memory, thread};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Descriptors that each listener keeps for clients that are refused.
const SPARES: usize = 2;
/// The pause after an accept that failed for lack of descriptors or memory, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The memory that must be free before a thread starts, in octets: a thread without memory would end the process.
const MEMORY_KEPT_OCTETS: usize = 2 << 20;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// The address that it listens on, if the system tells it.
    pub address: Option<SocketAddr>,
    /// The name of an inherited socket in its systemd unit; `None` for a socket that was opened here.
    pub name: Option<String>,
    /// Wakes the thread of an inherited socket, which must not be shut down.
    waker: Option<OwnedFd>,
}

impl Listener {
    /// A listener on a socket that was opened by [`bind`].
    #[must_use]
    pub fn opened(socket: TcpListener) -> Self {
        Self { address: socket.local_addr().ok(), socket, name: None, waker: None }
    }

    /// A listener on a socket that the service manager keeps open when this process ends, with its name there.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn inherited(socket: TcpListener, name: Option<String>) -> io::Result<Self> {
        let waker = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { address: socket.local_addr().ok(), socket, name, waker: Some(waker) })
    }

    /// Its policy in the current configuration.
    fn policy(&self, site: &Site) -> Option<ListenerPolicy> {
        listener_policy(&site.settings.listeners, self.address?, self.name.as_deref())
    }

    /// Waits for a client or a call of [`wake`].
    fn wait(&self) {
        if let Some(waker) = &self.waker {
            let mut either = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(waker, PollFlags::IN)];
            // If the poll fails, accept waits instead.
            let _ = retry_on_intr(|| poll(&mut either, None));
        }
    }
}

/// Opens a listening socket.
///
/// # Errors
/// The socket cannot be opened or bound; the text names the address, the error and the remedy.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let open = || {
        let socket = open_socket(address)?;
        // Accepted sockets inherit the option: Nagle's algorithm must not delay small replies.
        rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
        // The standard library's 128 overflows when a rack of devices comes back after a power cut.
        rustix::net::listen(&socket, 1024)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another mail server is running, stop it or choose another port",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need root, or choose another port",
            io::ErrorKind::AddrNotAvailable => "; no interface has this address",
            _ => "",
        };
        format!("can't listen on {address}: {error}{hint}")
    })
}

/// A socket that is bound to an address and does not listen yet.
///
/// # Errors
/// An I/O error of the operating system.
pub fn open_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Otherwise [::]:25 would take the IPv4 port too, and 0.0.0.0:25 beside it would fail.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// Accepts connections until the daemon stops.
pub fn run(inbound: &Arc<Inbound>, listener: &Listener) {
    // The reserve: given up when all other descriptors are used, so that a client can be accepted and refused. It is of two,
    // because another thread may take the descriptor that was given up.
    let mut spares: Vec<File> = Vec::new();
    fill(&mut spares);
    // A reload that no longer names this address leaves the socket open, and must not make it a port without AUTH or
    // TLS.
    let mut policy = listener.policy(&inbound.site()).unwrap_or_default();
    loop {
        listener.wait();
        // Clients that connect to an inherited socket from now on are for the next start.
        if inbound.slots.is_stopping() {
            break;
        }
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                fill(&mut spares);
                policy = listener.policy(&inbound.site()).unwrap_or(policy);
                let client = NewConnection::new(inbound, policy, stream, peer);
                if spares.len() == SPARES {
                    client.admit(inbound);
                } else {
                    client.refuse(inbound, "has too many open files");
                }
            }
            Err(_) if inbound.slots.is_stopping() => break,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) if is_out_of_descriptors(&error) && spares.pop().is_some() => {}
            Err(error) => {
                trouble("accepting a connection", &error);
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// Opens what is missing of the reserve, as far as descriptors are left.
fn fill(spares: &mut Vec<File>) {
    while spares.len() < SPARES {
        let Ok((file, _)) = file::open(Path::new("/dev/null"), FileKind::System) else { break };
        spares.push(file);
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A client that has connected and has received nothing yet.
struct NewConnection {
    site: Arc<Site>,
    stream: Arc<TcpStream>,
    client: IpAddr,
    policy: ListenerPolicy,
}

impl NewConnection {
    fn new(inbound: &Inbound, policy: ListenerPolicy, stream: TcpStream, peer: SocketAddr) -> Self {
        Self { site: inbound.site(), stream: Arc::new(stream), client: peer.ip().to_canonical(), policy }
    }

    /// Gives it a slot and a thread, or refuses it.
    fn admit(self, inbound: &Arc<Inbound>) {
        let limits = &self.site.settings.limits;
        let caps = Caps { total: limits.connections, per_address: limits.connections_per_ip };
        let trusted = self.site.admission.trusts(self.client);
        let stream = Arc::clone(&self.stream);
        let slot = match inbound.slots.admit(stream, self.client, trusted, caps) {
            Ok(slot) => slot,
            Err(NoSlot::TooMany) => return self.refuse(inbound, "has too many connections"),
            Err(NoSlot::TooManyOfAddress) => {
                return self.refuse(inbound, "has too many connections from your address");
            }
        };
        if inbound.threads.is_new_needed() && !memory::can_have(MEMORY_KEPT_OCTETS) {
            return self.refuse(inbound, "is out of memory");
        }
        let (served_by, stream) = (Arc::clone(inbound), Arc::clone(&self.stream));
        let (client, policy) = (self.client, self.policy);
        let serve = move || serve(&served_by, stream, client, slot, policy);
        match inbound.threads.run(Box::new(serve)) {
            Ok(()) => inbound.intake.counters.count(Count::ConnectionsTaken),
            Err(error) => {
                trouble("starting a thread", &error);
                self.refuse(inbound, "is out of threads");
            }
        }
    }

    /// Replies 421 and closes, without a thread.
    fn refuse(self, inbound: &Inbound, text: &'static str) {
        inbound.intake.counters.count(Count::ConnectionsRefused);
        let hostname = &self.site.terms.hostname;
        turn_away(
            &self.stream,
            &Reply::new(421, EnhancedStatus::NOT_ACCEPTING, format!("{hostname} {text}")),
        );
        Event::Closed { client: &self.client.to_string(), reason: text }.log();
    }
}

fn serve(inbound: &Arc<Inbound>, stream: Arc<TcpStream>, client: IpAddr, slot: Slot, policy: ListenerPolicy) {
    let site = inbound.site();
    // The hook has logged the panic. This connection is closed and its message dropped; the others continue.
    let _ = panic::catch_unwind(AssertUnwindSafe(move || {
        let mut transport = ServerTransport::Plain(TcpTransport::new(stream));
        Connection::new(&site, &inbound.intake, &slot, &mut transport, client).by(policy).serve();
        // The slot holds the socket too. Without it the close is all that is left to do; the end of TLS is worth a slot.
        if matches!(transport, ServerTransport::Plain(_)) {
            drop(slot);
        }
    }));
}

/// Wakes a listener that waits for clients, so that it notices that the daemon stops. A socket that this process opened
/// accepts no more connections then; an inherited one is left as it is, because the next start uses it too.
pub fn wake(listener: &Listener) {
    let _ = match &listener.waker {
        Some(waker) => rustix::io::write(waker, &1_u64.to_ne_bytes()).map(drop),
        None => rustix::net::shutdown(&listener.socket, rustix::net::Shutdown::Both),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_up_leaves_an_inherited_socket_listening() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let kept = socket.try_clone().unwrap();
        let listener = Listener::inherited(socket, Some("smtp".into())).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| listener.wait());
            wake(&listener);
            waiting.join().unwrap();
        });
        let client = TcpStream::connect(kept.local_addr().unwrap()).unwrap();
        assert_eq!(kept.accept().unwrap().1, client.local_addr().unwrap());
    }
}
