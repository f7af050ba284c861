//! The network of a world: tables of names, addresses and records, and the peer behind each address.
//!
//! [`Net`] is both the resolver and the connector of the engine. A name that is in no table does not exist; an address
//! without a peer refuses connections.

use super::host::HostConnection;
use super::script::Host;
use super::server::Server;
use crate::mail::mx::{Mx, MxAnswer};
use crate::net::connect::{Connect, Failures, TcpConnect};
use crate::net::resolver::{DnsError, DnsErrorKind, DnsRecord, RecordSet, Resolve, Resolver, Rtype};
use crate::net::transport::{Transport, WireError};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The peer behind an address.
#[derive(Clone)]
pub enum Peer {
    Host(Arc<Host>),
    /// Another world, with the real server.
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
    /// The answers of a validating resolver.
    records: Mutex<HashMap<(String, Rtype), Result<RecordSet, DnsError>>>,
    peers: Mutex<HashMap<SocketAddr, Peer>>,
    /// If set, it answers in place of the tables.
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

    /// Sets secure records of a name; an empty `data` is a secure empty answer.
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
    /// Tries the addresses one after the other.
    fn connect_while(
        &self,
        addresses: &mut Vec<SocketAddr>,
        _: &[IpAddr],
        _: Duration,
        _: &dyn Fn() -> bool,
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

/// A [`Net`] shared by the test and the forwarder.
pub(super) struct SharedNet(pub(super) Arc<Net>);

impl SharedNet {
    fn resolver(&self) -> &dyn Resolve {
        self.0.resolver.get().map_or(&*self.0 as _, |resolver| resolver)
    }
}

impl Resolve for SharedNet {
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

impl Connect for SharedNet {
    fn connect_while(
        &self,
        addresses: &mut Vec<SocketAddr>,
        source: &[IpAddr],
        timeout: Duration,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(SocketAddr, Box<dyn Transport>), Failures> {
        self.0.connect_while(addresses, source, timeout, goes_on)
    }
}
