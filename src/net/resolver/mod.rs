//! The resolver: MX, A, AAAA, TXT, TLSA, SRV and PTR records from the recursive servers of the system or of the
//! configuration.
//!
//! | file | what it does |
//! | --- | --- |
//! | here | the look-up: files, cache, servers in turn, CNAME chains |
//! | `query` | one question to one server, and the check that an answer belongs to it |
//! | `answer` | parses one answer (no I/O; a fuzz target) |
//! | `cache` | remembers results |
//! | `files` | reads `/etc/resolv.conf` and `/etc/hosts` |
//! | `system` | asks the system's own resolver, for hosts that the operator named |
//!
//! # The steps of a look-up
//!
//! 1. `localhost` and names below it are answered here, and an address literal is its own answer. No server sees them
//!    (RFC 6761 §6.3).
//! 2. For addresses, a line of `/etc/hosts` wins over the DNS. For MX, the file counts only after NXDOMAIN: a host
//!    that only the file knows has an implicit MX.
//! 3. If the servers come from `resolv.conf` and the file has changed, the servers are read again and the cache is
//!    emptied.
//! 4. The cache answers, if it holds the name and type.
//! 5. The servers are asked in their order. Servers that were silent or unreachable within the last minute come last.
//! 6. A CNAME that leads out of the answer starts again at step 5 with the new name, through at most [`CNAMES_MAX`]
//!    CNAMEs.
//! 7. The result goes to the cache.
//!
//! # Time
//!
//! One question takes `timeout` at most. The servers share it in two rounds; only servers that were silent are asked
//! in the second. A whole look-up, with both address families and all CNAMEs, takes `2 × timeout` at most.
//!
//! # What is remembered, and for how long
//!
//! | result | time |
//! | --- | --- |
//! | records | the smallest TTL of the chain, at most 24 h |
//! | no such name, or no record of the type | the SOA's TTL or minimum, the smaller, at most 15 min; not at all without an SOA (RFC 2308 §5) |
//! | a temporary error | 5 s, so that a burst of mail asks once (RFC 9520 §3.2 wants at least 1 s) |
//! | more than 32 records | not at all |
//!
//! The cache holds 256 look-ups; a new one replaces the one that expires first.
//!
//! # What is permanent
//!
//! Anything that a server can do wrong is a temporary error. Only NXDOMAIN, a CNAME chain that is too long and an
//! invalid name are permanent (RFC 5321 §5.1).
//!
//! # DNSSEC
//!
//! The resolver does not validate. It believes the AD bit (RFC 4035 §3.2.3) only from a server on loopback, whose
//! answers cannot be forged on the way, or from all servers if the operator says that the path to them is safe (RFC
//! 7672 §2.1.1). A result is secure only if every answer along its CNAME chain was.
//!
//! The resolver never looks up names beyond ASCII, never uses a search list, and never holds its lock while it waits.

mod answer;
mod cache;
mod files;
mod query;
mod system;
#[cfg(test)]
pub(crate) mod tests;

pub use answer::{AnswerContent, CNAMES_MAX, DnsAnswer, DnsName, DnsRecord, ServerFault, parse_answer};
pub use domain::base::iana::Rtype;
pub use files::{SystemFiles, hosts_in, name_servers_in};
pub use system::SystemAnswer;

use crate::mail::mx::{Mx, MxAnswer};
use crate::sys::lock::Lock;
use cache::{Cache, LookUpResult};
use files::FileStamp;
use query::QueryDeadline;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::MutexGuard;
use std::time::Duration;

/// How often a silent server is asked: UDP loses packets.
const ROUNDS: usize = 2;
/// How long a server that was silent or unreachable is asked last.
const PENALTY: Duration = Duration::from_secs(60);
/// How long a temporary error is remembered.
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// How many addresses of a host are kept for each family.
const ADDRESSES_PER_FAMILY_MAX: usize = 8;

/// Looks names up. Code that delivers mail takes this trait, so that a test can supply a table.
pub trait Resolve: Send + Sync {
    /// The hosts that take the mail of a domain.
    ///
    /// # Errors
    /// See [`DnsErrorKind`].
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError>;

    /// The IPv4 and then the IPv6 addresses of a host; `host` may be an address itself. Empty: the host exists and
    /// has no address.
    ///
    /// # Errors
    /// See [`DnsErrorKind`].
    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// The records of a name, of type A, AAAA, MX, TXT, TLSA, SRV or PTR, and whether they are secure.
    ///
    /// # Errors
    /// See [`DnsErrorKind`].
    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError>;

    /// The addresses of a host by the system's resolver, which alone knows mDNS, directories and search domains.
    ///
    /// # Errors
    /// The system knows no address, or cannot ask.
    fn by_system(&self, host: &str) -> io::Result<SystemAnswer> {
        self.system_look_up()(host)
    }

    /// The function that asks the system: one that another thread may call.
    fn system_look_up(&self) -> SystemLookUp {
        system::look_up
    }
}

/// Asks the system for the addresses of a host.
pub type SystemLookUp = fn(&str) -> io::Result<SystemAnswer>;

/// The records of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordSet {
    /// Empty: the name has no record of the type.
    pub records: Vec<DnsRecord>,
    /// A trusted server says that it has validated the records, or their absence, along the whole CNAME chain (RFC
    /// 4035).
    pub is_secure: bool,
}

/// What a failed look-up means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsErrorKind {
    /// The name does not exist (NXDOMAIN): permanent, 5.1.2.
    NoSuchDomain,
    /// More than [`CNAMES_MAX`] CNAMEs: permanent, 5.4.6.
    TooManyCnames,
    /// The text is not a valid DNS name: permanent, 5.1.2.
    BadName,
    /// No usable answer at the moment: temporary, 4.4.3.
    Temporary,
}

/// A failed look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsError {
    /// What it means.
    pub kind: DnsErrorKind,
    /// The reason in plain words, with servers, type and name.
    pub text: String,
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DnsError {}

/// A clock that never goes back: the time since a fixed instant.
pub type MonotonicClock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The real resolver. All threads share it.
pub struct Resolver {
    timeout: Duration,
    /// No look-up lasts longer, on the clock.
    end: Duration,
    files: SystemFiles,
    clock: MonotonicClock,
    /// The servers come from resolv.conf, not from the configuration.
    follows_system: bool,
    /// The AD bit of every server is believed, not only of servers on loopback.
    trusts_all: bool,
    state: Lock<ResolverState>,
}

#[derive(Default)]
struct ResolverState {
    /// The version of the resolv.conf that `servers` came from. Outer `None`: the file was not read yet.
    stamp: Option<FileStamp>,
    servers: Vec<Server>,
    cache: Cache,
}

#[derive(Clone, Copy)]
struct Server {
    address: SocketAddr,
    /// Until this time the server is asked last.
    avoid_until: Duration,
}

impl Server {
    fn new(address: SocketAddr) -> Self {
        Self { address, avoid_until: Duration::ZERO }
    }
}

impl Resolver {
    /// Makes a resolver that asks `servers`, or if the list is empty, the servers of resolv.conf, which is read again
    /// whenever it changes. `timeout` is for one question.
    #[must_use]
    pub fn new(servers: &[SocketAddr], timeout: Duration, files: SystemFiles, clock: MonotonicClock) -> Self {
        let state = ResolverState {
            servers: servers.iter().copied().map(Server::new).collect(),
            ..ResolverState::default()
        };
        let follows_system = servers.is_empty();
        let end = Duration::MAX;
        Self { timeout, end, files, clock, follows_system, trusts_all: false, state: Lock::new(state) }
    }

    /// No look-up lasts longer than `span` from now on: for a command that a person waits for.
    #[must_use]
    pub fn ending_after(mut self, span: Duration) -> Self {
        self.end = (self.clock)().saturating_add(span);
        self
    }

    /// Believes the AD bit of every server: the operator says that the path to them is safe (RFC 7672 §2.1.1).
    #[must_use]
    pub fn trusting_all(mut self) -> Self {
        self.trusts_all = true;
        self
    }

    fn state(&self) -> MutexGuard<'_, ResolverState> {
        // Each change of the state is complete in itself, so a panic elsewhere leaves it consistent.
        self.state.lock()
    }

    /// Takes over a changed resolv.conf: a router gets new name servers with every link. The answers of the old
    /// servers are forgotten, because they may have come from a captive portal.
    fn follow_system(&self) {
        if !self.follows_system {
            return;
        }
        let stamp = Some(files::stamp(&self.files.resolv_conf));
        if self.state().stamp == stamp {
            return;
        }
        let servers = files::name_servers(&self.files.resolv_conf).into_iter().map(Server::new).collect();
        let mut state = self.state();
        state.stamp = stamp;
        state.servers = servers;
        state.cache.clear();
    }

    fn whole_deadline(&self) -> Duration {
        (self.clock)().saturating_add(self.timeout.saturating_mul(2)).min(self.end)
    }

    /// The records of a name, from the cache or from the servers.
    fn look_up(&self, name: &str, rtype: Rtype, deadline: Duration) -> LookUpResult {
        let name = parse_name(name)?;
        self.follow_system();
        let cached = self.state().cache.get(&name, rtype, (self.clock)());
        if let Some(outcome) = cached {
            return outcome;
        }
        let (outcome, ttl) = self.follow_cnames(&name, rtype, deadline);
        let now = (self.clock)();
        self.state().cache.put(name, rtype, outcome.clone(), ttl, now);
        outcome
    }

    /// Asks until the CNAME chain ends. Most recursive servers send the whole chain in one answer; a few do not.
    fn follow_cnames(&self, name: &DnsName, rtype: Rtype, deadline: Duration) -> (LookUpResult, Duration) {
        let (mut target, mut cnames, mut ttl) = (name.clone(), 0, Duration::MAX);
        let mut is_secure = true;
        let error = |kind, text| Err(DnsError { kind, text });
        loop {
            let answer = match self.ask_servers(&target, rtype, deadline) {
                Ok(answer) => answer,
                Err(text) => return (error(DnsErrorKind::Temporary, text), FAILURE_TTL),
            };
            cnames += answer.cnames;
            ttl = ttl.min(answer.ttl);
            is_secure &= answer.is_secure;
            if cnames > CNAMES_MAX {
                let text = format!("{} {name} leads through more than {CNAMES_MAX} CNAMEs", word(rtype));
                return (error(DnsErrorKind::TooManyCnames, text), ttl);
            }
            let outcome = match answer.found {
                AnswerContent::Records(records) => Ok(RecordSet { records, is_secure }),
                AnswerContent::NoData => Ok(RecordSet { records: Vec::new(), is_secure }),
                AnswerContent::NoSuchDomain(end) => {
                    error(DnsErrorKind::NoSuchDomain, nxdomain_text(name, &end, cnames))
                }
                AnswerContent::Alias(next) => {
                    target = next;
                    continue;
                }
            };
            return (outcome, ttl);
        }
    }

    /// Asks one server after the other, each for its share of the remaining time. The error is in plain words.
    fn ask_servers(&self, name: &DnsName, rtype: Rtype, deadline: Duration) -> Result<DnsAnswer, String> {
        let end = deadline.min((self.clock)().saturating_add(self.timeout));
        let mut servers = self.servers_in_order();
        let mut faults = Vec::new();
        for rounds_left in (1..=ROUNDS).rev() {
            let mut silent = Vec::new();
            let tries_left = (1..=servers.len() * rounds_left).rev();
            for (server, tries_left) in servers.into_iter().zip(tries_left) {
                let now = (self.clock)();
                let share = end.saturating_sub(now) / u32::try_from(tries_left).unwrap_or(u32::MAX);
                let ad = self.believes(server);
                let deadline = QueryDeadline { clock: &*self.clock, at: now + share };
                let fault = match query::ask(server, name, rtype, ad, &deadline) {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => fault,
                };
                if matches!(fault, ServerFault::Silence | ServerFault::Io(_)) {
                    self.penalise(server);
                }
                match fault {
                    ServerFault::Silence => silent.push(server),
                    _ => faults.push(fault.text(server)),
                }
            }
            servers = silent;
        }
        let within = if servers.is_empty() { String::new() } else { format!(" within {:?}", self.timeout) };
        faults.extend(servers.into_iter().map(|server| ServerFault::Silence.text(server)));
        Err(format!("{} for {} {name}{within}", faults.join(", "), word(rtype)))
    }

    /// The servers as listed, but those that failed within the last minute come last.
    fn servers_in_order(&self) -> Vec<SocketAddr> {
        let now = (self.clock)();
        let servers = self.state().servers.clone();
        let (failed, good): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|server| server.avoid_until > now);
        good.into_iter().chain(failed).map(|server| server.address).collect()
    }

    /// Nobody can forge an answer that comes over loopback.
    fn believes(&self, server: SocketAddr) -> bool {
        self.trusts_all || server.ip().is_loopback()
    }

    fn penalise(&self, address: SocketAddr) {
        let avoid_until = (self.clock)() + PENALTY;
        for server in self.state().servers.iter_mut().filter(|server| server.address == address) {
            server.avoid_until = avoid_until;
        }
    }
}

impl Resolve for Resolver {
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError> {
        if is_localhost(domain) {
            return Ok(MxAnswer::Implicit);
        }
        match self.look_up(domain, Rtype::MX, self.whole_deadline()) {
            Ok(set) => Ok(mx_answer(set.records)),
            // A host of the local network that only /etc/hosts knows.
            Err(error)
                if error.kind == DnsErrorKind::NoSuchDomain
                    && !files::hosts(&self.files.hosts, without_dot(domain)).is_empty() =>
            {
                Ok(MxAnswer::Implicit)
            }
            Err(error) => Err(error),
        }
    }

    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError> {
        if is_localhost(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let known = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => files::hosts(&self.files.hosts, without_dot(host)),
        };
        if !known.is_empty() {
            return Ok(usable(known.into_iter()));
        }
        let deadline = self.whole_deadline();
        let v4 = self.look_up(host, Rtype::A, deadline);
        let v6 = self.look_up(host, Rtype::AAAA, deadline);
        either_family(v4, v6)
    }

    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError> {
        if is_localhost(name) {
            return Ok(RecordSet::default());
        }
        self.look_up(name, rtype, self.whole_deadline())
    }
}

fn parse_name(text: &str) -> Result<DnsName, DnsError> {
    let error = |why| Err(DnsError { kind: DnsErrorKind::BadName, text: format!("\"{text}\" {why}") });
    if !text.is_ascii() {
        return error("is not ASCII; such names are not looked up yet");
    }
    match text.parse::<DnsName>() {
        Ok(name) if !name.is_root() => Ok(name),
        _ => error("is not a domain name"),
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

/// Such a name is never sent to a server (RFC 6761 §6.3).
fn is_localhost(name: &str) -> bool {
    without_dot(name).rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

/// The name of a type that this program asks for.
fn word(rtype: Rtype) -> &'static str {
    match rtype {
        Rtype::A => "A",
        Rtype::AAAA => "AAAA",
        Rtype::MX => "MX",
        Rtype::PTR => "PTR",
        Rtype::SRV => "SRV",
        Rtype::TLSA => "TLSA",
        _ => "TXT",
    }
}

fn nxdomain_text(name: &DnsName, end: &DnsName, cnames: usize) -> String {
    match cnames {
        0 => format!("{name} does not exist (NXDOMAIN)"),
        _ => {
            // The case of the question is random, and a compressed name may end in it.
            let end = end.to_string().to_ascii_lowercase();
            format!("{name} is a CNAME of {end}, which does not exist (NXDOMAIN)")
        }
    }
}

/// A null MX is the only record (RFC 7505 §3). Beside other records it names no host and is ignored.
fn mx_answer(records: Vec<DnsRecord>) -> MxAnswer {
    if records.is_empty() {
        return MxAnswer::Implicit;
    }
    let hosts: Vec<Mx> = records
        .into_iter()
        .filter_map(|record| match record {
            DnsRecord::Mx(mx) if mx.exchange != "." => Some(mx),
            _ => None,
        })
        .collect();
    if hosts.is_empty() { MxAnswer::Null } else { MxAnswer::Hosts(hosts) }
}

/// Joins the two families: an error of one does not hide the addresses of the other. "No address" and "no such host"
/// are believed only if both families were answered.
fn either_family(v4: LookUpResult, v6: LookUpResult) -> Result<Vec<IpAddr>, DnsError> {
    let found: Vec<IpAddr> = [&v4, &v6]
        .into_iter()
        .flatten()
        .flat_map(|set| usable(set.records.iter().filter_map(address)))
        .collect();
    match (v4, v6) {
        _ if !found.is_empty() => Ok(found),
        (Err(error), _) | (_, Err(error)) if error.kind == DnsErrorKind::Temporary => Err(error),
        (Err(error), Err(_)) => Err(error),
        _ => Ok(found),
    }
}

fn address(record: &DnsRecord) -> Option<IpAddr> {
    match record {
        DnsRecord::Address(address) => Some(*address),
        DnsRecord::Mx(_) | DnsRecord::Data(_) => None,
    }
}

/// Drops values that are no host address: `0.0.0.0` and `::` would connect to this host, as would an IPv4-mapped IPv6
/// address.
fn usable(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let real = |address: &IpAddr| {
        !address.is_unspecified() && !matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
    };
    addresses.filter(real).take(ADDRESSES_PER_FAMILY_MAX).collect()
}
