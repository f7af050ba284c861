//! The world that the other tests live in.

use super::host_tls::HostTls;
use crate::config;
use crate::engine::control::alarm::Alarm;
use crate::engine::control::services::Services;
use crate::sys::lock::Lock;

use crate::engine::host::clock::EngineClock;
use crate::engine::host::site::{Site, SiteHandle, current};
use crate::engine::inbound::connection::Connection;
use crate::engine::inbound::policy::ListenerPolicy;
use crate::engine::inbound::slots::{Caps, ConnectionSlots, Slot};
use crate::engine::intake::digest_windows::DigestWindows;
use crate::engine::intake::incoming::Intake;
use crate::engine::log::counters::Counters;
use crate::engine::queue::enqueue::Enqueue;
use crate::engine::queue::index::QueueIndex;
use crate::engine::queue::manager::Manager;
use crate::engine::workers::egress::Egress;
use crate::engine::workers::forwarder::Forwarder;
use crate::mail::address::Domain;
use crate::mail::id::QueueId;
use crate::mail::mx::{Mx, MxAnswer};
use crate::net::connect::{Connect, Failures, TcpConnect};
use crate::net::resolver::{DnsError, DnsErrorKind, DnsRecord, RecordSet, Resolve, Resolver, Rtype};
use crate::net::transport::{Deadline, Transport, WireError};
use crate::store::maildir::Maildirs;
use crate::store::queue::{EntrySummary, Queue};
use crate::sys::clock::Clock;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-23 06:53:30 UTC.
const START_MICROS: u64 = 1_795_416_810_000_000;

// ------------------------------------------------------------------------------------------------ clock and log

/// Wall clock and boot clock, each moved by hand.
#[derive(Clone)]
pub struct FakeClock(Arc<Mutex<(u64, Duration)>>, Arc<AtomicBool>);

impl FakeClock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((START_MICROS, Duration::from_secs(100)))), Arc::default())
    }

    /// Time passes.
    pub fn advance(&self, span: Duration) {
        let mut both = self.0.lock().unwrap();
        both.0 += span.as_micros() as u64;
        both.1 += span;
    }

    /// Somebody sets the wall clock.
    pub fn jump(&self, seconds: i64) {
        let mut both = self.0.lock().unwrap();
        both.0 = both.0.checked_add_signed(seconds * 1_000_000).unwrap();
    }

    /// Another boot: the boot clock begins anew.
    pub fn reboot(&self) {
        self.0.lock().unwrap().1 = Duration::from_secs(5);
    }

    /// Whoever asks next panics.
    pub fn break_once(&self) {
        self.1.store(true, Ordering::SeqCst);
    }

    pub fn boot_time(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

impl Clock for FakeClock {
    fn wall_micros(&self) -> u64 {
        assert!(!self.1.swap(false, Ordering::SeqCst), "the clock is broken");
        self.0.lock().unwrap().0
    }

    fn boot(&self) -> Duration {
        self.0.lock().unwrap().1
    }
}

thread_local! {
    static LOG: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Keeps the lines of each thread.
struct Recorder;

impl log::Log for Recorder {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LOG.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// The lines that this thread has logged since it was asked last.
pub fn take_log() -> Vec<String> {
    LOG.take()
}

/// Those of one kind.
pub fn take_events(kind: &str) -> Vec<String> {
    take_log().into_iter().filter(|line| line.starts_with(&format!("event={kind} "))).collect()
}

// ------------------------------------------------------------------------------------------------ hosts

/// Where a conversation stands when a host is asked what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    /// What comes instead of the host's side of the handshake.
    Handshake,
    /// EHLO within TLS.
    TlsEhlo,
    /// AUTH, and each further line of its exchange.
    Auth(u8),
    Rset,
    Mail,
    Rcpt,
    Data,
    /// The chunk of BDAT.
    Chunk,
    Dot,
    Quit,
}

/// What a host does.
#[derive(Debug, Clone)]
pub enum Say {
    /// The usual: 220, 250, 354, 221.
    Yes,
    /// This reply, without its line end.
    Reply(String),
    /// The beginning of a reply, and then nothing or, if so, the end of the connection.
    Half(String, bool),
    /// Closes the connection.
    Close,
    /// The connection breaks.
    Reset,
    /// Nothing, until the other side has waited long enough.
    Nothing,
    /// Says yes, and closes then.
    YesAndClose,
}

pub fn reply(text: &str) -> Say {
    Say::Reply(text.to_owned())
}

/// A message that a host has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub content: Vec<u8>,
}

type Script = Box<dyn FnMut(Stage, &str) -> Say + Send>;

/// A host by script; all connections to it share it.
pub struct Host {
    script: Mutex<Script>,
    pub extensions: Mutex<Vec<&'static str>>,
    pub taken: Mutex<Vec<Taken>>,
    pub connections: AtomicUsize,
    pub commands: Mutex<Vec<String>>,
}

impl Host {
    pub fn new(script: impl FnMut(Stage, &str) -> Say + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Mutex::new(Box::new(script)),
            extensions: Mutex::new(vec!["PIPELINING", "8BITMIME", "SIZE 0"]),
            taken: Mutex::default(),
            connections: AtomicUsize::new(0),
            commands: Mutex::default(),
        })
    }

    pub fn friendly() -> Arc<Self> {
        Self::new(|_, _| Say::Yes)
    }

    /// Says something else from now on.
    pub fn now_says(&self, script: impl FnMut(Stage, &str) -> Say + Send + 'static) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(script);
    }

    pub fn count(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn recipients(&self) -> Vec<String> {
        self.taken.lock().unwrap().iter().flat_map(|taken| taken.to.clone()).collect()
    }
}

/// One connection to a host.
struct HostConnection {
    host: Arc<Host>,
    heard: Vec<u8>,
    /// How much of it holds no end.
    searched: usize,
    says: VecDeque<u8>,
    tls: HostTls,
    /// Mechanism of AUTH and how many lines of it have been answered.
    auth: Option<(String, u8)>,
    /// Octets of a chunk that are to come.
    chunk: usize,
    in_data: bool,
    from: Option<String>,
    to: Vec<String>,
    gone: Option<fn() -> WireError>,
}

impl HostConnection {
    fn open(host: Arc<Host>) -> Self {
        host.connections.fetch_add(1, Ordering::SeqCst);
        let mut connection = Self {
            host,
            heard: Vec::new(),
            searched: 0,
            says: VecDeque::new(),
            tls: HostTls::default(),
            auth: None,
            chunk: 0,
            in_data: false,
            from: None,
            to: Vec::new(),
            gone: None,
        };
        connection.answer(Stage::Greeting, "", "220 mx ESMTP");
        connection
    }

    /// True if the host said yes.
    fn answer(&mut self, stage: Stage, line: &str, yes: &str) -> bool {
        let says = (self.host.script.lock().unwrap_or_else(PoisonError::into_inner))(stage, line);
        let mut say = |text: &str| self.says.extend(text.bytes().chain(*b"\r\n"));
        match says {
            Say::Yes => say(yes),
            Say::Reply(text) => {
                say(&text);
                return text.starts_with(['2', '3']);
            }
            Say::Half(text, closes) => {
                self.says.extend(text.bytes());
                self.gone = Some(if closes { || WireError::Closed } else { || WireError::TimedOut });
                return false;
            }
            Say::YesAndClose => {
                say(yes);
                self.gone = Some(|| WireError::Closed);
            }
            Say::Close => self.gone = Some(|| WireError::Closed),
            Say::Reset => {
                self.gone = Some(|| WireError::Io(io::Error::from(io::ErrorKind::ConnectionAborted)));
            }
            Say::Nothing => self.gone = Some(|| WireError::TimedOut),
        }
        matches!(says, Say::Yes | Say::YesAndClose)
    }

    fn command(&mut self, line: &str) {
        self.host.commands.lock().unwrap().push(line.to_owned());
        if let Some((mechanism, lines)) = self.auth.take() {
            return self.auth_line(mechanism, lines, line);
        }
        match line.get(..4).unwrap_or_default() {
            "EHLO" | "LHLO" => {
                let mut lines = vec!["mx"];
                let is_secure = self.tls.is_on();
                let offers = self.host.extensions.lock().unwrap().clone();
                lines.extend(offers.iter().filter(|offer| !is_secure || **offer != "STARTTLS"));
                let last = lines.pop().unwrap();
                let yes: String = lines.iter().map(|line| format!("250-{line}\r\n")).collect();
                let stage = if is_secure { Stage::TlsEhlo } else { Stage::Ehlo };
                self.answer(stage, line, &format!("{yes}250 {last}"));
            }
            "STAR" => {
                if self.answer(Stage::StartTls, line, "220 go") {
                    self.tls.expect();
                }
            }
            "AUTH" => {
                let mechanism = line.split(' ').nth(1).unwrap_or_default().to_owned();
                // PLAIN has its response in the same line.
                self.auth_line(mechanism, 0, line);
            }
            "BDAT" => self.chunk = line.split(' ').nth(1).unwrap().parse().unwrap(),
            "HELO" => drop(self.answer(Stage::Helo, line, "250 mx")),
            "RSET" => {
                self.to.clear();
                self.from = None;
                self.answer(Stage::Rset, line, "250 ok");
            }
            "MAIL" => {
                if self.answer(Stage::Mail, line, "250 ok") {
                    self.from = Some(argument(line));
                }
            }
            "RCPT" if self.from.is_none() => self.says.extend(*b"503 5.5.1 MAIL first\r\n"),
            "RCPT" => {
                if self.answer(Stage::Rcpt, line, "250 ok") {
                    self.to.push(argument(line));
                }
            }
            "DATA" if self.to.is_empty() => self.says.extend(*b"554 5.5.1 no valid recipients\r\n"),
            "DATA" => self.in_data = self.answer(Stage::Data, line, "354 go"),
            "QUIT" => {
                self.answer(Stage::Quit, line, "221 bye");
                self.gone = Some(|| WireError::Closed);
            }
            _ => self.says.extend(*b"500 what\r\n"),
        }
    }

    /// LOGIN asks for the name and for the password; PLAIN has said both in its first line.
    fn auth_line(&mut self, mechanism: String, lines: u8, line: &str) {
        let (yes, is_last) = match (mechanism.as_str(), lines) {
            ("LOGIN", 0) => ("334 VXNlcm5hbWU6", false),
            ("LOGIN", 1) => ("334 UGFzc3dvcmQ6", false),
            _ => ("235 2.7.0 ok", true),
        };
        if self.answer(Stage::Auth(lines), line, yes) && !is_last {
            self.auth = Some((mechanism, lines + 1));
        }
    }

    /// A chunk is there, whatever it is worth: without a recipient it is thrown away (RFC 3030 §2).
    fn take_chunk(&mut self) {
        let content = self.heard.drain(..std::mem::take(&mut self.chunk)).collect();
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if to.is_empty() {
            self.says.extend(*b"503 5.5.1 no valid recipients\r\n");
        } else if self.answer(Stage::Chunk, "", "250 2.0.0 taken") {
            self.host.taken.lock().unwrap().push(Taken { from, to, content });
        }
    }

    fn listen(&mut self) {
        while self.gone.is_none() {
            if self.chunk > 0 {
                if self.heard.len() < self.chunk {
                    return;
                }
                self.take_chunk();
                continue;
            }
            let end: &[u8] = if self.in_data { b"\r\n.\r\n" } else { b"\r\n" };
            // The line end before the first line of data was that of DATA.
            let at = if self.in_data && self.heard.starts_with(b".\r\n") {
                Some((0, 3))
            } else {
                let from = self.searched.saturating_sub(end.len());
                let found = self.heard[from..].windows(end.len()).position(|window| window == end);
                found.map(|at| (from + at + if self.in_data { 2 } else { 0 }, from + at + end.len()))
            };
            self.searched = if at.is_some() { 0 } else { self.heard.len() };
            let Some((content, end)) = at else { return };
            let mut heard: Vec<u8> = self.heard.drain(..end).collect();
            heard.truncate(content);
            if self.in_data {
                self.in_data = false;
                let taken = Taken {
                    from: self.from.take().unwrap_or_default(),
                    to: std::mem::take(&mut self.to),
                    content: unstuffed(&heard),
                };
                if self.answer(Stage::Dot, "", "250 2.0.0 taken") {
                    self.host.taken.lock().unwrap().push(taken);
                }
            } else {
                self.command(&String::from_utf8_lossy(&heard));
            }
        }
    }
}

fn argument(line: &str) -> String {
    let (_, rest) = line.split_once('<').unwrap();
    rest.rsplit_once('>').unwrap().0.to_owned()
}

fn unstuffed(data: &[u8]) -> Vec<u8> {
    let lines = data.split_inclusive(|&b| b == b'\n');
    lines.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect()
}

impl Transport for HostConnection {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        let wire = self.tls.on_wire(&mut self.says);
        if wire.is_empty() {
            return Err(self.gone.map_or(WireError::TimedOut, |gone| gone()));
        }
        let length = buffer.len().min(wire.len());
        for (slot, octet) in buffer.iter_mut().zip(wire.drain(..length)) {
            *slot = octet;
        }
        Ok(length)
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        if self.tls.is_expected() && self.gone.is_none() {
            if !self.answer(Stage::Handshake, "", "") || self.says.len() > 2 {
                // What it has said is no handshake, and it does not listen to one.
                self.gone = self.gone.or(Some(|| WireError::TimedOut));
                return Ok(());
            }
            self.says.clear();
            self.tls.begin();
        }
        // What is written to a peer that has gone is lost without a sound.
        self.tls.hear(octets, &mut self.heard);
        self.listen();
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        !self.tls.on_wire(&mut self.says).is_empty()
    }
}

// ------------------------------------------------------------------------------------------------ the net

/// Who is behind an address.
#[derive(Clone)]
pub enum Peer {
    Host(Arc<Host>),
    /// Another box, with the real server.
    Server(Arc<Server>),
    /// A real socket.
    Socket(SocketAddr),
    Refuses,
    TimesOut,
    /// There is no route.
    Unreachable,
}

/// Names and addresses.
#[derive(Default)]
pub struct Net {
    mx: Mutex<HashMap<String, Result<MxAnswer, DnsError>>>,
    addresses: Mutex<HashMap<String, Result<Vec<IpAddr>, DnsError>>>,
    /// What a validating resolver says.
    records: Mutex<HashMap<(String, Rtype), Result<RecordSet, DnsError>>>,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
    /// Answers in the place of the tables, where there is one.
    pub resolver: OnceLock<Resolver>,
    pub attempts: Mutex<Vec<SocketAddr>>,
}

impl Net {
    pub fn mx(&self, domain: &str, hosts: &[(u16, &str)]) {
        let hosts =
            hosts.iter().map(|&(preference, host)| Mx { preference, exchange: host.to_owned() }).collect();
        self.mx_answer(domain, Ok(MxAnswer::Hosts(hosts)));
    }

    pub fn mx_answer(&self, domain: &str, answer: Result<MxAnswer, DnsError>) {
        self.mx.lock().unwrap().insert(domain.to_owned(), answer);
    }

    pub fn address(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.addresses.lock().unwrap().insert(host.to_owned(), Ok(addresses));
    }

    pub fn address_error(&self, host: &str, error: DnsError) {
        self.addresses.lock().unwrap().insert(host.to_owned(), Err(error));
    }

    /// Records that are secure; none, if there are none.
    pub fn secure(&self, name: &str, rtype: Rtype, data: &[&[u8]]) {
        let records = data.iter().map(|data| DnsRecord::Data(data.to_vec())).collect();
        self.records(name, rtype, Ok(RecordSet { records, is_secure: true }));
    }

    pub fn records(&self, name: &str, rtype: Rtype, answer: Result<RecordSet, DnsError>) {
        self.records.lock().unwrap().insert((name.to_owned(), rtype), answer);
    }

    pub fn peer(&self, address: &str, peer: Peer) {
        let address = address.parse().unwrap_or_else(|_| SocketAddr::new(address.parse().unwrap(), 25));
        self.peers.lock().unwrap().insert(address, peer);
    }

    /// A domain with one MX host at one address.
    pub fn domain(&self, domain: &str, address: &str, peer: Peer) {
        let host = format!("mx.{domain}");
        self.mx(domain, &[(10, &host)]);
        self.address(&host, &[address]);
        self.peer(address, peer);
    }

    /// The addresses that were connected to, in order, since the last call.
    pub fn take_attempts(&self) -> Vec<String> {
        std::mem::take(&mut *self.attempts.lock().unwrap()).iter().map(ToString::to_string).collect()
    }
}

pub fn dns_error(kind: DnsErrorKind) -> DnsError {
    DnsError { kind, text: format!("{kind:?} in the table") }
}

impl Resolve for Net {
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        let known = self.mx.lock().unwrap().get(domain).cloned();
        known.unwrap_or_else(|| Err(dns_error(DnsErrorKind::NoSuchDomain)))
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        let known = self.addresses.lock().unwrap().get(host).cloned();
        known.unwrap_or_else(|| Err(dns_error(DnsErrorKind::NoSuchDomain)))
    }

    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError> {
        let known = self.records.lock().unwrap().get(&(name.to_owned(), rtype)).cloned();
        known.unwrap_or_else(|| Ok(RecordSet::default()))
    }
}

impl Connect for Net {
    /// One after the other.
    fn connect(
        &self,
        addresses: &mut Vec<SocketAddr>,
        _: &[IpAddr],
        _: Duration,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        let mut failures = Failures::new();
        while !addresses.is_empty() {
            let address = addresses.remove(0);
            self.attempts.lock().unwrap().push(address);
            let peer = self.peers.lock().unwrap().get(&address).cloned();
            let error = match peer {
                Some(Peer::Host(host)) => return Ok((address, Box::new(HostConnection::open(host)))),
                Some(Peer::Server(server)) => return Ok((address, server.open())),
                Some(Peer::Socket(real)) => {
                    let connected =
                        TcpConnect::default().connect(&mut vec![real], &[], Duration::from_secs(20));
                    return connected.map(|(_, transport)| (address, transport));
                }
                Some(Peer::TimesOut) => WireError::TimedOut,
                Some(Peer::Unreachable) => io::Error::from(rustix::io::Errno::NETUNREACH).into(),
                Some(Peer::Refuses) | None => io::Error::from(io::ErrorKind::ConnectionRefused).into(),
            };
            failures.push((address, error));
        }
        Err(failures)
    }
}

/// The net as the forwarder wants it.
struct Shared(Arc<Net>);

impl Shared {
    fn resolver(&self) -> &dyn Resolve {
        self.0.resolver.get().map_or(&*self.0 as _, |resolver| resolver)
    }
}

impl Resolve for Shared {
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        self.resolver().mx(domain)
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        self.resolver().addresses(host)
    }

    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError> {
        self.resolver().records(name, rtype)
    }
}

impl Connect for Shared {
    fn connect(
        &self,
        addresses: &mut Vec<SocketAddr>,
        source: &[IpAddr],
        timeout: Duration,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        Connect::connect(&*self.0, addresses, source, timeout)
    }
}

// ------------------------------------------------------------------------------------------------ pipes and servers

/// One direction of a connection in memory.
#[derive(Default)]
struct Pipe {
    state: Mutex<(VecDeque<u8>, bool)>,
    changed: Condvar,
}

/// One end of a connection in memory.
struct PipeEnd {
    from: Arc<Pipe>,
    to: Arc<Pipe>,
}

fn pipes() -> (PipeEnd, PipeEnd) {
    let (a, b) = (Arc::new(Pipe::default()), Arc::new(Pipe::default()));
    (PipeEnd { from: Arc::clone(&a), to: Arc::clone(&b) }, PipeEnd { from: b, to: a })
}

impl Transport for PipeEnd {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        let empty = |state: &mut (VecDeque<u8>, bool)| state.0.is_empty() && !state.1;
        let long = Duration::from_secs(20);
        let waited = self.from.changed.wait_timeout_while(self.from.state.lock().unwrap(), long, empty);
        let (mut state, timeout) = waited.unwrap();
        if timeout.timed_out() {
            return Err(WireError::TimedOut);
        }
        if state.0.is_empty() {
            return Err(WireError::Closed);
        }
        let length = buffer.len().min(state.0.len());
        for (slot, octet) in buffer.iter_mut().zip(state.0.drain(..length)) {
            *slot = octet;
        }
        Ok(length)
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        let mut state = self.to.state.lock().unwrap();
        if state.1 {
            return Err(WireError::Closed);
        }
        state.0.extend(octets);
        self.to.changed.notify_all();
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        !self.from.state.lock().unwrap().0.is_empty()
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        for pipe in [&self.from, &self.to] {
            pipe.state.lock().unwrap().1 = true;
            pipe.changed.notify_all();
        }
    }
}

/// A box's server, as others reach it.
pub struct Server {
    site: SiteHandle,
    intake: Arc<Intake>,
    connections: Arc<ConnectionSlots>,
    stream: Arc<TcpStream>,
}

impl Server {
    pub fn permit(&self) -> Slot {
        let caps = Caps { total: 100, per_address: 100 };
        let client = IpAddr::from([127, 0, 0, 1]);
        self.connections.admit(Arc::clone(&self.stream), client, true, caps).unwrap()
    }

    fn open(self: &Arc<Self>) -> Box<dyn Transport> {
        let (near, mut far) = pipes();
        let server = Arc::clone(self);
        std::thread::spawn(move || {
            let (site, permit) = (current(&server.site), server.permit());
            let client = IpAddr::from([127, 0, 0, 1]);
            Connection::new(&site, &server.intake, &permit, &mut far, client).serve();
        });
        Box::new(near)
    }
}

/// A client that has said all before it listens, but after it was greeted. `hook` is called before each read, with
/// the number of octets read so far.
pub struct Typist<'a> {
    pub input: &'a [u8],
    pub read: usize,
    pub piece: usize,
    pub output: Vec<u8>,
    pub hook: &'a mut (dyn FnMut(usize) + Send),
}

/// What is sent at once: the reply to EHLO is waited for.
fn up_to_hello(octets: &[u8]) -> usize {
    let is_hello =
        |line: &&[u8]| [&b"EHLO "[..], b"HELO ", b"LHLO "].iter().any(|verb| line.starts_with(verb));
    let mut lines = octets.split_inclusive(|&octet| octet == b'\n');
    let before: usize = lines.by_ref().take_while(|line| !is_hello(line)).map(<[u8]>::len).sum();
    let hello = octets[before..].iter().position(|&octet| octet == b'\n').map_or(0, |at| at + 1);
    if hello == 0 { octets.len() } else { before + hello }
}

impl Transport for Typist<'_> {
    fn read(&mut self, buffer: &mut [u8], _: Deadline) -> Result<usize, WireError> {
        (self.hook)(self.read);
        let rest = &self.input[self.read..];
        let length = up_to_hello(rest).min(buffer.len()).min(self.piece);
        if length == 0 {
            return Err(WireError::Closed);
        }
        buffer[..length].copy_from_slice(&rest[..length]);
        self.read += length;
        Ok(length)
    }

    fn write_all(&mut self, octets: &[u8], _: Deadline) -> Result<(), WireError> {
        self.output.extend_from_slice(octets);
        Ok(())
    }

    fn has_input(&mut self) -> bool {
        false
    }
}

// ------------------------------------------------------------------------------------------------ the world

/// A box, its clock and its net.
pub struct World {
    directory: PathBuf,
    pub clock: FakeClock,
    pub net: Arc<Net>,
    pub site: SiteHandle,
    pub intake: Arc<Intake>,
    pub manager: Arc<Manager>,
    pub services: Arc<Services>,
    pub forwarder: Arc<Forwarder>,
    pub connections: Arc<ConnectionSlots>,
    stream: Arc<TcpStream>,
    name: &'static str,
    config: String,
    /// Worlds that share a clock or a directory leave it to the first one.
    owns_directory: bool,
}

/// Writes a file that nobody else can read: others are refused.
pub fn write_secret(path: &Path, octets: &[u8]) {
    std::fs::write(path, octets).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

pub const NAME: &str = "box.example";

impl World {
    /// A box with the users alice and bob; `config` is added to its configuration.
    pub fn new(config: &str) -> Self {
        Self::named(NAME, config)
    }

    pub fn named(name: &'static str, config: &str) -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        static LOGGER: Once = Once::new();
        LOGGER.call_once(|| {
            log::set_boxed_logger(Box::new(Recorder)).unwrap();
            log::set_max_level(log::LevelFilter::Info);
        });
        let base = Path::new("/dev/shm");
        let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let directory = base.join(format!("pillarbox-world-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        Self::build(directory, FakeClock::new(), Arc::new(Net::default()), name, config, stream)
    }

    fn build(
        directory: PathBuf,
        clock: FakeClock,
        net: Arc<Net>,
        name: &'static str,
        config: &str,
        stream: Arc<TcpStream>,
    ) -> Self {
        let site = Arc::new(Lock::new(Arc::new(make_site(&directory, name, config))));
        let enqueue = Arc::new(Enqueue { site: Arc::clone(&site), index: Arc::new(QueueIndex::default()) });
        let state = directory.join("state");
        let queue = Arc::new(Queue::open(&state, None).unwrap());
        let engine_clock = Arc::new(EngineClock::resume(Box::new(clock.clone()), &state));
        let connections = Arc::new(ConnectionSlots::default());
        let intake = Arc::new(Intake {
            clock: Arc::clone(&engine_clock),
            queue,
            maildirs: Maildirs::new(name).impatient(),
            on_queued: Arc::clone(&enqueue) as _,
            counters: Arc::new(Counters::resume(&state, Arc::clone(&connections) as _, engine_clock.now())),
            ids: AtomicUsize::new(0),
            sweeps: Lock::default(),
            digests: DigestWindows::resume(&state),
        });
        let manager = Arc::new(Manager::new(&enqueue, Arc::clone(&intake)));
        let (resolver, connect) = (Shared(Arc::clone(&net)), Shared(Arc::clone(&net)));
        let egress = Egress::new(Box::new(resolver), Box::new(connect), Duration::ZERO);
        let services = Arc::new(Services { manager: Arc::clone(&manager), alarm: Alarm::default() });
        let forwarder = Arc::new(Forwarder { manager: Arc::clone(&manager), egress });
        manager.load();
        Self {
            directory,
            clock,
            net,
            site,
            intake,
            manager,
            services,
            forwarder,
            connections,
            stream,
            name,
            config: config.to_owned(),
            owns_directory: true,
        }
    }

    /// Everything is dropped, and the same state is opened again. What was not written is gone.
    pub fn restart(mut self) -> Self {
        self.owns_directory = false;
        let (directory, clock, net) = (self.directory.clone(), self.clock.clone(), Arc::clone(&self.net));
        let (name, config, stream) = (self.name, self.config.clone(), Arc::clone(&self.stream));
        drop(self);
        Self::build(directory, clock, net, name, &config, stream)
    }

    /// The configuration is read again, with another addition.
    pub fn reload(&self, config: &str) {
        *self.site.lock() = Arc::new(make_site(&self.directory, self.name, config));
        self.manager.reload();
    }

    pub fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    pub fn maildir(&self, user: &str) -> PathBuf {
        self.directory.join("mail").join(user)
    }

    /// Puts a link where a user's Maildir would be: neither a Maildir nor an mbox.
    pub fn block(&self, user: &str) {
        std::fs::create_dir_all(self.maildir("")).unwrap();
        std::os::unix::fs::symlink("/nowhere", self.maildir(user)).unwrap();
    }

    /// The server of this box.
    pub fn server(&self) -> Arc<Server> {
        Arc::new(Server {
            site: Arc::clone(&self.site),
            intake: Arc::clone(&self.intake),
            connections: Arc::clone(&self.connections),
            stream: Arc::clone(&self.stream),
        })
    }

    /// A whole session of a client on loopback; gives what the server said.
    pub fn session(&self, input: &[u8], hook: &mut (dyn FnMut(usize) + Send)) -> String {
        let mut typist = Typist { input, read: 0, piece: usize::MAX, output: Vec::new(), hook };
        self.serve(&mut typist);
        String::from_utf8(typist.output).unwrap()
    }

    /// A whole session with a client that comes from there by a listener of that kind.
    pub fn session_by(&self, listener: ListenerPolicy, client: &str, input: &str) -> String {
        let mut hook = |_| ();
        let mut typist = Typist {
            input: input.as_bytes(),
            read: 0,
            piece: usize::MAX,
            output: Vec::new(),
            hook: &mut hook,
        };
        let (site, client) = (current(&self.site), client.parse().unwrap());
        let permit = self.server().permit();
        Connection::new(&site, &self.intake, &permit, &mut typist, client).by(listener).serve();
        String::from_utf8(typist.output).unwrap()
    }

    pub fn serve(&self, transport: &mut dyn Transport) {
        let (site, permit) = (current(&self.site), self.server().permit());
        Connection::new(&site, &self.intake, &permit, transport, IpAddr::from([127, 0, 0, 1])).serve();
    }

    /// Sends a message from loopback; gives the reply to its data.
    pub fn submit(&self, from: &str, to: &[&str], content: &str) -> String {
        let mut input = format!("EHLO client\r\nMAIL FROM:<{from}>\r\n");
        for to in to {
            input.push_str(&format!("RCPT TO:<{to}>\r\n"));
        }
        input.push_str("DATA\r\n");
        for line in content.lines() {
            input.push_str(&format!("{}{line}\r\n", if line.starts_with('.') { "." } else { "" }));
        }
        input.push_str(".\r\nQUIT\r\n");
        let output = self.session(input.as_bytes(), &mut |_| ());
        let mut lines = output.lines().rev();
        assert!(lines.next().unwrap().starts_with("221"), "{output}");
        lines.next().unwrap().to_owned()
    }

    /// As [`Self::submit`], and it must be taken.
    pub fn accept(&self, from: &str, to: &[&str]) -> QueueId {
        let reply = self.submit(from, to, "Subject: alert\n\nThe disk is full.\n");
        let id = reply.strip_prefix("250 2.0.0 Ok: ").unwrap_or_else(|| panic!("{reply}"));
        QueueId::parse(id).unwrap()
    }

    /// What lies in the queue.
    pub fn queue(&self) -> Vec<EntrySummary> {
        let mut all: Vec<EntrySummary> = self.intake.queue.scan().unwrap().map(Result::unwrap).collect();
        all.sort_by_key(|summary| summary.id);
        all
    }

    /// One message of the queue.
    pub fn queued(&self, id: QueueId) -> EntrySummary {
        self.queue().into_iter().find(|summary| summary.id == id).expect("it is in the queue")
    }

    /// The messages in a user's Maildir.
    pub fn mail(&self, user: &str) -> Vec<String> {
        let Ok(names) = std::fs::read_dir(self.maildir(user).join("new")) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = names.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| String::from_utf8(std::fs::read(path).unwrap()).unwrap()).collect()
    }

    /// Files that are half written.
    pub fn half_written(&self) -> usize {
        let count = |path: PathBuf| std::fs::read_dir(path).map_or(0, Iterator::count);
        count(self.state().join("tmp"))
            + count(self.maildir("alice").join("tmp"))
            + count(self.maildir("bob").join("tmp"))
    }

    /// One pass; gives how long nothing will be due then, if anything ever will.
    pub fn pass(&self) -> Option<Duration> {
        let until = self.forwarder.pass()?;
        Some(until.saturating_sub(self.manager.clock.now().running))
    }

    /// Passes, each at the time that the one before asked for, until nothing is due any more or `longest` has passed.
    pub fn live(&self, longest: Duration) {
        let end = self.clock.boot_time() + longest;
        while let Some(wait) = self.pass() {
            if self.clock.boot_time() + wait > end {
                self.clock.advance(end - self.clock.boot_time());
                return;
            }
            self.clock.advance(wait);
        }
    }
}

fn make_site(directory: &Path, name: &str, config: &str) -> Site {
    let directory = directory.display();
    let config = if config.contains("limits.free_space") {
        config.to_owned()
    } else {
        format!("limits.free_space = 0\n{config}")
    };
    let text = format!(
        "hostname = {name:?}\nstate = \"{directory}/state\"\nlocal.domains = {name:?}\n\
         local.users = [\"alice\", \"bob\"]\nlocal.maildir = \"{directory}/mail/{{user}}\"\n\
         local.aliases = \"{directory}/aliases\"\n\
         dns.servers = \"192.0.2.53\"\n{config}\n"
    );
    let settings = config::parse(&text, "world.toml").unwrap_or_else(|problems| panic!("{problems:?}"));
    let dkim = crate::engine::host::dkim_keys::load(&settings).unwrap();
    Site { dkim, ..Site::new(settings, Domain::parse(name).unwrap(), None) }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.owns_directory {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}
