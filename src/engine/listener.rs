//! A listening socket: takes connections, decides whether there is a place for each, and gives it a thread.

use super::connection::{Connection, Door};
use super::counters::{Caps, Permit, Refused, turn_away};
use super::daemon::Daemon;
use super::event::Event;
use crate::mail::status::EnhancedStatus;
use crate::net::tls::ServerTransport;
use crate::net::transport::TcpTransport;
use crate::smtp::reply::Reply;
use crate::sys::thread;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Pause after an accept that failed for want of descriptors or memory, so that it is not tried without end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    // A reload that no longer names this address does not close it, and must not make it a port without AUTH or TLS.
    let mut door = own.and_then(|own| daemon.site().door(own)).unwrap_or_default();
    while !daemon.connections.is_stopping() {
        match listener.accept() {
            Ok((stream, peer)) => {
                door = own.and_then(|own| daemon.site().door(own)).unwrap_or(door);
                take(daemon, stream, peer, door);
            }
            Err(_) if daemon.connections.is_stopping() => break,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted) => {}
            Err(error) => {
                Event::Trouble { doing: "accepting a connection", error: &error.to_string() }.log();
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

fn take(daemon: &Arc<Daemon>, stream: TcpStream, peer: SocketAddr, door: Door) {
    let site = daemon.site();
    let client = peer.ip().to_canonical();
    let limits = &site.settings.limits;
    let caps = Caps { total: limits.connections, per_address: limits.connections_per_ip };
    let stream = Arc::new(stream);
    let trusted = site.admission.trusts(client);
    let refuse = |stream: Arc<TcpStream>, text: &'static str| {
        let reply = Reply::new(421, EnhancedStatus::NOT_ACCEPTING, format!("{} {text}", site.terms.hostname));
        if let Some(stream) = Arc::into_inner(stream) {
            turn_away(stream, &reply);
        }
        Event::Closed { client: &client.to_string(), reason: text }.log();
    };
    let permit = match daemon.connections.admit(Arc::clone(&stream), client, trusted, caps) {
        Ok(permit) => permit,
        Err(Refused::TooMany) => return refuse(stream, "has too many connections"),
        Err(Refused::TooManyOfAddress) => {
            return refuse(stream, "has too many connections from your address");
        }
    };
    let daemon = Arc::clone(daemon);
    let connection_stream = Arc::clone(&stream);
    let serve = move || serve(&daemon, connection_stream, client, &permit, door);
    if let Err(error) = thread::start("connection", serve) {
        Event::Trouble { doing: "starting a thread", error: &error.to_string() }.log();
        refuse(stream, "is out of threads");
    }
}

fn serve(
    daemon: &Arc<Daemon>,
    stream: Arc<TcpStream>,
    client: std::net::IpAddr,
    permit: &Permit,
    door: Door,
) {
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
