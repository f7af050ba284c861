//! A listening socket: takes connections, decides whether there is a place for each, and gives it a thread.

use super::connection::{Connection, Door};
use super::counters::{Caps, Permit, Refused, turn_away};
use super::daemon::Daemon;
use super::event::Event;
use super::site::Site;
use crate::mail::status::EnhancedStatus;
use crate::net::tls::ServerTransport;
use crate::net::transport::TcpTransport;
use crate::smtp::reply::Reply;
use crate::sys::{memory, thread};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Pause after an accept that failed for want of descriptors or memory, so that it is not tried without end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So much memory has to be there before a thread is started, which would end the process if it found none on its way.
const MEMORY_KEPT_OCTETS: usize = 2 << 20;

/// Opens a listening socket.
///
/// # Errors
/// With the address, and what to do about it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let open = || {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if address.is_ipv6() {
            // Else [::]:25 would take the IPv4 port too, and 0.0.0.0:25 beside it would fail.
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        // Connections inherit it: small replies are not held back by Nagle.
        sockopt::set_tcp_nodelay(&socket, true)?;
        bind(&socket, &address)?;
        // The standard library's 128 overflows when a rack of devices comes back after a power cut.
        listen(&socket, 1024)?;
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

/// Takes connections until the daemon stops.
pub fn run(daemon: &Arc<Daemon>, listener: &TcpListener) {
    let own = listener.local_addr().ok();
    // A descriptor for the moment when there is no other: clients are told so then, and don't wait in the backlog.
    let mut spare = spare();
    while !daemon.connections.is_stopping() {
        match listener.accept() {
            Ok((stream, peer)) => {
                spare = spare.or_else(self::spare);
                let knock = Knock::new(daemon, stream, peer, own);
                if spare.is_some() {
                    knock.take(daemon);
                } else {
                    knock.refuse("has too many open files");
                }
            }
            Err(_) if daemon.connections.is_stopping() => break,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) if is_out_of_descriptors(&error) && spare.take().is_some() => {}
            Err(error) => {
                Event::Trouble { doing: "accepting a connection", error: &error.to_string() }.log();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// A client that has connected and has been told nothing yet.
struct Knock {
    site: Arc<Site>,
    stream: Arc<TcpStream>,
    client: IpAddr,
    door: Door,
}

impl Knock {
    fn new(daemon: &Daemon, stream: TcpStream, peer: SocketAddr, own: Option<SocketAddr>) -> Self {
        let site = daemon.site();
        let door = own.map(|own| site.door(own)).unwrap_or_default();
        Self { site, stream: Arc::new(stream), client: peer.ip().to_canonical(), door }
    }

    /// Gives it a thread, if there is a place.
    fn take(self, daemon: &Arc<Daemon>) {
        let limits = &self.site.settings.limits;
        let caps = Caps { total: limits.connections, per_address: limits.connections_per_ip };
        let trusted = self.site.admission.trusts(self.client);
        let stream = Arc::clone(&self.stream);
        let permit = match daemon.connections.admit(stream, self.client, trusted, caps) {
            Ok(permit) => permit,
            Err(Refused::TooMany) => return self.refuse("has too many connections"),
            Err(Refused::TooManyOfAddress) => {
                return self.refuse("has too many connections from your address");
            }
        };
        if !memory::can_have(MEMORY_KEPT_OCTETS) {
            return self.refuse("is out of memory");
        }
        let (daemon, stream) = (Arc::clone(daemon), Arc::clone(&self.stream));
        let (client, door) = (self.client, self.door);
        let serve = move || serve(&daemon, stream, client, &permit, door);
        if let Err(error) = thread::start("connection", serve) {
            Event::Trouble { doing: "starting a thread", error: &error.to_string() }.log();
            self.refuse("is out of threads");
        }
    }

    /// Says 421, at the cost of no thread.
    fn refuse(self, text: &'static str) {
        let hostname = &self.site.terms.hostname;
        turn_away(
            &self.stream,
            &Reply::new(421, EnhancedStatus::NOT_ACCEPTING, format!("{hostname} {text}")),
        );
        Event::Closed { client: &self.client.to_string(), reason: text }.log();
    }
}

fn serve(daemon: &Arc<Daemon>, stream: Arc<TcpStream>, client: IpAddr, permit: &Permit, door: Door) {
    let site = daemon.site();
    // The panic has been logged by the hook. The connection is closed, its message dropped; others go on.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut transport = ServerTransport::Plain(TcpTransport::new(stream));
        Connection::new(&site, &daemon.intake, permit, &mut transport, client).by(door).serve();
    }));
}

/// Wakes a listener that waits in accept, so that it sees that the daemon stops.
pub fn wake(listener: &TcpListener) {
    let _ = rustix::net::shutdown(listener, rustix::net::Shutdown::Both);
}
