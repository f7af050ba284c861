//! A listening socket: takes connections, decides whether there is a place for each, and gives it a thread.

use super::connection::Connection;
use super::counters::{Caps, Permit, Refused, turn_away};
use crate::config::{LISTENER_KINDS, Listener as ListenerSettings, ListenerAuth, ListenerKind, ListenerTls};
use crate::engine::daemon::Daemon;
use crate::engine::host::site::Site;
use crate::engine::log::event::Event;
use crate::engine::log::statistics::Count;
use crate::mail::status::EnhancedStatus;
use crate::net::tls::ServerTransport;
use crate::net::transport::TcpTransport;
use crate::smtp::reply::Reply;
use crate::sys::{memory, thread};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

/// Pause after an accept that failed for want of descriptors or memory, so that it is not tried without end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// So much memory has to be there before a thread is started, which would end the process if it found none on its way.
const MEMORY_KEPT_OCTETS: usize = 2 << 20;

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// What the unit calls the socket that it comes from; `None` for one that was opened here.
    pub name: Option<String>,
    /// Wakes the thread that waits for clients, where the socket itself must not be shut down.
    waker: Option<OwnedFd>,
}

impl Listener {
    /// One that was opened by [`bind`].
    #[must_use]
    pub const fn opened(socket: TcpListener) -> Self {
        Self { socket, name: None, waker: None }
    }

    /// One that whoever started this process keeps open beyond its end, with the name that it has there.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn inherited(socket: TcpListener, name: Option<String>) -> io::Result<Self> {
        let waker = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { socket, name, waker: Some(waker) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// What it does for its clients, by what is configured now.
    fn policy(&self, site: &Site) -> Option<ListenerPolicy> {
        listener_policy(&site.settings.listeners, self.address()?, self.name.as_deref())
    }

    /// Waits for a client, or until somebody calls [`wake`].
    fn wait(&self) {
        if let Some(waker) = &self.waker {
            let mut either = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(waker, PollFlags::IN)];
            // If this fails, accept waits instead.
            let _ = retry_on_intr(|| poll(&mut either, None));
        }
    }
}

/// What a listener does for its clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerPolicy {
    /// What is spoken there.
    pub kind: ListenerKind,
    /// A lone LF is taken for a line's end.
    pub repairs_newlines: bool,
    /// A PROXY header must come first.
    pub proxy_protocol: bool,
    /// Whether there is STARTTLS.
    pub tls: ListenerTls,
    /// Oldest version of TLS for trusted clients; empty: that for all.
    pub tls_minimum: &'static str,
    /// Who may log in.
    pub auth: ListenerAuth,
}

/// What the listener with the address `local` does. The settings of its own address hold; else those of its port, since
/// an inherited socket may listen on more addresses than the settings name; else the kind that its name is; else it is
/// not known.
#[must_use]
pub fn listener_policy(
    settings: &[ListenerSettings],
    local: SocketAddr,
    name: Option<&str>,
) -> Option<ListenerPolicy> {
    let with = |is_it: &dyn Fn(&SocketAddr) -> bool| {
        settings.iter().find(|listener| listener.address.iter().any(is_it))
    };
    let has_port = |address: &SocketAddr| address.port() == local.port();
    let has_address =
        |address: &SocketAddr| has_port(address) && address.ip().to_canonical() == local.ip().to_canonical();
    if let Some(listener) = with(&has_address).or_else(|| with(&has_port)) {
        return Some(ListenerPolicy {
            kind: listener.kind,
            repairs_newlines: listener.bare_newline == "repair",
            proxy_protocol: listener.proxy_protocol,
            tls: listener.tls,
            tls_minimum: listener.tls_minimum,
            auth: listener.auth,
        });
    }
    let named = LISTENER_KINDS.iter().find(|(word, ..)| Some(*word) == name);
    named.map(|(_, kind)| ListenerPolicy { kind: *kind, ..ListenerPolicy::default() })
}

/// Opens a listening socket.
///
/// # Errors
/// With the address, and what to do about it.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let open = || {
        let socket = open_socket(address)?;
        // Connections inherit it: small replies are not held back by Nagle.
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
/// Those of the system.
pub fn open_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Else [::]:25 would take the IPv4 port too, and 0.0.0.0:25 beside it would fail.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// Takes connections until the daemon stops.
pub fn run(daemon: &Arc<Daemon>, listener: &Listener) {
    // A descriptor for the moment when there is no other: clients are told so then, and don't wait in the backlog.
    let mut spare = spare();
    // A reload that no longer names this address does not close it, and must not make it a port without AUTH or TLS.
    let mut policy = listener.policy(&daemon.site()).unwrap_or_default();
    loop {
        listener.wait();
        // What comes to an inherited socket from now on is for the next start.
        if daemon.connections.is_stopping() {
            break;
        }
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                spare = spare.or_else(self::spare);
                policy = listener.policy(&daemon.site()).unwrap_or(policy);
                let knock = Knock::new(daemon, policy, stream, peer);
                if spare.is_some() {
                    knock.take(daemon);
                } else {
                    knock.refuse(daemon, "has too many open files");
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
    policy: ListenerPolicy,
}

impl Knock {
    fn new(daemon: &Daemon, policy: ListenerPolicy, stream: TcpStream, peer: SocketAddr) -> Self {
        Self { site: daemon.site(), stream: Arc::new(stream), client: peer.ip().to_canonical(), policy }
    }

    /// Gives it a thread, if there is a place.
    fn take(self, daemon: &Arc<Daemon>) {
        let limits = &self.site.settings.limits;
        let caps = Caps { total: limits.connections, per_address: limits.connections_per_ip };
        let trusted = self.site.admission.trusts(self.client);
        let stream = Arc::clone(&self.stream);
        let permit = match daemon.connections.admit(stream, self.client, trusted, caps) {
            Ok(permit) => permit,
            Err(Refused::TooMany) => return self.refuse(daemon, "has too many connections"),
            Err(Refused::TooManyOfAddress) => {
                return self.refuse(daemon, "has too many connections from your address");
            }
        };
        if !memory::can_have(MEMORY_KEPT_OCTETS) {
            return self.refuse(daemon, "is out of memory");
        }
        let (served_by, stream) = (Arc::clone(daemon), Arc::clone(&self.stream));
        let (client, policy) = (self.client, self.policy);
        let serve = move || serve(&served_by, stream, client, &permit, policy);
        match thread::start("connection", serve) {
            Ok(()) => daemon.intake.statistics.count(Count::ConnectionsTaken),
            Err(error) => {
                Event::Trouble { doing: "starting a thread", error: &error.to_string() }.log();
                self.refuse(daemon, "is out of threads");
            }
        }
    }

    /// Says 421, at the cost of no thread.
    fn refuse(self, daemon: &Daemon, text: &'static str) {
        daemon.intake.statistics.count(Count::ConnectionsRefused);
        let hostname = &self.site.terms.hostname;
        turn_away(
            &self.stream,
            &Reply::new(421, EnhancedStatus::NOT_ACCEPTING, format!("{hostname} {text}")),
        );
        Event::Closed { client: &self.client.to_string(), reason: text }.log();
    }
}

fn serve(
    daemon: &Arc<Daemon>,
    stream: Arc<TcpStream>,
    client: IpAddr,
    permit: &Permit,
    policy: ListenerPolicy,
) {
    let site = daemon.site();
    // The panic has been logged by the hook. The connection is closed, its message dropped; others go on.
    let _ = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut transport = ServerTransport::Plain(TcpTransport::new(stream));
        Connection::new(&site, &daemon.intake, permit, &mut transport, client).by(policy).serve();
    }));
}

/// Wakes a listener that waits for clients, so that it sees that the daemon stops. A socket of our own takes no more
/// connections then; an inherited one is left as it is, for it is also that of the next start.
pub fn wake(listener: &Listener) {
    let _ = match &listener.waker {
        Some(waker) => rustix::io::write(waker, &1_u64.to_ne_bytes()).map(drop),
        None => rustix::net::shutdown(&listener.socket, rustix::net::Shutdown::Both),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, parse};

    fn policy(settings: &Settings, local: &str, name: Option<&str>) -> (ListenerKind, bool) {
        let policy = listener_policy(&settings.listeners, local.parse().unwrap(), name).unwrap_or_default();
        assert!(!policy.proxy_protocol);
        (policy.kind, policy.repairs_newlines)
    }

    #[test]
    fn the_settings_of_the_address_hold_then_those_of_the_port_then_the_name() {
        let mut settings = parse(
            "[[listener]]\naddress = [\"127.0.0.1:25\", \"127.0.0.1:24\"]\n\
             [[listener]]\naddress = [\"192.0.2.1:25\", \"[::1]:587\"]\nbare_newline = \"repair\"\n",
            "f",
        )
        .unwrap();
        settings.listeners[1].kind = ListenerKind::Submission;
        let (smtp, submission) = ((ListenerKind::Smtp, false), (ListenerKind::Submission, true));
        for (local, name, expected) in [
            ("127.0.0.1:25", None, smtp),
            ("127.0.0.1:25", Some("lmtp"), smtp),
            ("192.0.2.1:25", None, submission),
            ("[::ffff:192.0.2.1]:25", None, submission),
            ("192.0.2.1:24", Some("submission"), smtp),
            ("[::]:25", None, smtp),
            ("[::]:587", Some("smtp"), submission),
            ("0.0.0.0:465", Some("submissions"), (ListenerKind::Submissions, false)),
            ("0.0.0.0:465", Some("submission"), (ListenerKind::Submission, false)),
            ("0.0.0.0:465", Some("lmtp"), (ListenerKind::Lmtp, false)),
            ("0.0.0.0:465", Some("smtp"), smtp),
            ("0.0.0.0:465", Some("pillarbox.socket"), smtp),
            ("0.0.0.0:465", None, smtp),
        ] {
            assert_eq!(policy(&settings, local, name), expected, "{local} {name:?}");
        }
    }

    #[test]
    fn the_policy_without_settings_is_that_of_the_defaults() {
        let settings = Settings::default();
        let (defaults, other) = (&settings.listeners, "0.0.0.0:2525".parse().unwrap());
        assert_eq!(
            listener_policy(defaults, other, None).or(Some(ListenerPolicy::default())),
            listener_policy(defaults, defaults[0].address[0], None)
        );
    }

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
