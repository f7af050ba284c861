//! The resolver: MX, A, AAAA, TXT and TLSA of names, asked of the system's or the configured recursive servers.
//!
//! | file | what it does |
//! | --- | --- |
//! | here | what a look-up is: files first, then the cache, then the servers in turn, CNAME chains to their end |
//! | `query` | one question to one server, and which answer to believe |
//! | `answer` | one answer, read (no I/O; a fuzz target) |
//! | `cache`, `files` | what is remembered; `/etc/resolv.conf` and `/etc/hosts` |
//!
//! One question takes `timeout` at most, shared among the servers in two rounds; the second is for those that were
//! silent in the first. A whole look-up, with both address families and all CNAMEs, takes twice that at most. A server
//! that was silent or out of reach is asked last for a minute. All a server can do wrong makes a temporary error: only
//! NXDOMAIN, a CNAME chain without end and a name that is none are settled (RFC 5321 §5.1). It never answers for a name
//! beyond ASCII, never validates DNSSEC itself (it believes the AD bit of a server on loopback, or of one that the operator
//! trusts), never uses a search list, and never holds its lock while it waits.

mod answer;
mod cache;
mod files;
mod query;
#[cfg(test)]
pub(crate) mod tests;

pub use answer::{Answer, CNAMES_MAX, DnsName, Fault, Found, Record, parse_answer};
pub use domain::base::iana::Rtype;
pub use files::SystemFiles;

use crate::mail::mx::{Mx, MxAnswer};
use cache::{Cache, Outcome};
use files::Stamp;
use query::Deadline;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a silent server is asked: UDP loses packets.
const ROUNDS: usize = 2;
/// How long a server that was silent or out of reach is asked last.
const PENALTY: Duration = Duration::from_secs(60);
/// A temporary error is remembered so long, so that a burst of mail asks once (RFC 9520 §3.2 wants at least 1 s).
const FAILURE_TTL: Duration = Duration::from_secs(5);
/// Of each address family so many addresses of a host are kept.
const ADDRESSES_PER_FAMILY_MAX: usize = 8;

/// Looks names up. What delivers mail takes this, so that a test can give it a table.
pub trait Resolve: Send + Sync {
    /// Who takes the mail of a domain.
    ///
    /// # Errors
    /// See [`DnsErrorKind`].
    fn mx(&self, domain: &str) -> Result<MxAnswer, DnsError>;

    /// The IPv4 and then the IPv6 addresses of a host, which may be an address itself. Empty: the host exists and has
    /// none.
    ///
    /// # Errors
    /// See [`DnsErrorKind`].
    fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, DnsError>;

    /// The records of a name, of type A, AAAA, MX, TXT, TLSA, SRV or PTR, as the servers tell, and whether they are secure.
    ///
    /// # Errors
    /// See [`DnsErrorKind`].
    fn records(&self, name: &str, rtype: Rtype) -> Result<RecordSet, DnsError>;
}

/// The records of a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordSet {
    /// Empty: there is none of the type.
    pub records: Vec<Record>,
    /// A server that we believe has validated them, or that there is none, along the whole CNAME chain (RFC 4035).
    pub is_secure: bool,
}

/// What a failed look-up means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsErrorKind {
    /// The name does not exist (NXDOMAIN): permanent, 5.1.2.
    NoSuchDomain,
    /// More than [`CNAMES_MAX`] CNAMEs: permanent, 5.4.6.
    TooManyCnames,
    /// No name that the DNS could know: permanent, 5.1.2.
    BadName,
    /// No usable answer now: temporary, 4.4.3.
    Temporary,
}

/// A failed look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsError {
    /// What it means.
    pub kind: DnsErrorKind,
    /// Why, in plain words: servers, type and name.
    pub text: String,
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for DnsError {}

/// A clock that never goes back: the time since some fixed instant.
pub type Clock = Box<dyn Fn() -> Duration + Send + Sync>;

/// The real resolver. It is shared by all threads.
pub struct Resolver {
    timeout: Duration,
    files: SystemFiles,
    clock: Clock,
    /// The servers come from resolv.conf, not from the configuration.
    follows_system: bool,
    /// The AD bit is believed of every server, not only of those on loopback.
    trusts_all: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of the resolv.conf that `servers` came from; the outer `None`: not read yet.
    stamp: Option<Stamp>,
    servers: Vec<Server>,
    cache: Cache,
}

#[derive(Clone, Copy)]
struct Server {
    address: SocketAddr,
    /// Until when it is asked last.
    avoid_until: Duration,
}

impl Server {
    fn new(address: SocketAddr) -> Self {
        Self { address, avoid_until: Duration::ZERO }
    }
}

impl Resolver {
    /// Makes a resolver that asks `servers`, or if there are none, those of resolv.conf, which is read again whenever
    /// it changes. `timeout` is for one question.
    #[must_use]
    pub fn new(servers: &[SocketAddr], timeout: Duration, files: SystemFiles, clock: Clock) -> Self {
        let state = State { servers: servers.iter().copied().map(Server::new).collect(), ..State::default() };
        let follows_system = servers.is_empty();
        Self { timeout, files, clock, follows_system, trusts_all: false, state: Mutex::new(state) }
    }

    /// Believes the AD bit of every server: the way to them is safe, by the word of the operator (RFC 7672 §2.1.1).
    #[must_use]
    pub fn trusting_all(mut self) -> Self {
        self.trusts_all = true;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is complete in itself: a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over a changed resolv.conf: a router gets new name servers with every link. What the old ones said is
    /// forgotten, for it may have been a captive portal speaking.
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
        (self.clock)().saturating_add(self.timeout.saturating_mul(2))
    }

    /// The records of a name, from the cache or the servers.
    fn look_up(&self, name: &str, rtype: Rtype, deadline: Duration) -> Outcome {
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

    /// Asks until the end of the CNAME chain. Servers that resolve send all of it in one answer; a few do not.
    fn follow_cnames(&self, name: &DnsName, rtype: Rtype, deadline: Duration) -> (Outcome, Duration) {
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
                let text = format!("{rtype} {name} leads through more than {CNAMES_MAX} CNAMEs");
                return (error(DnsErrorKind::TooManyCnames, text), ttl);
            }
            let outcome = match answer.found {
                Found::Records(records) => Ok(RecordSet { records, is_secure }),
                Found::NoData => Ok(RecordSet { records: Vec::new(), is_secure }),
                Found::NoSuchDomain => error(DnsErrorKind::NoSuchDomain, nxdomain_text(name, cnames)),
                Found::Alias(next) => {
                    target = next;
                    continue;
                }
            };
            return (outcome, ttl);
        }
    }

    /// Asks one server after the other, each for its share of the time that is left. The error is in plain words.
    fn ask_servers(&self, name: &DnsName, rtype: Rtype, deadline: Duration) -> Result<Answer, String> {
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
                let deadline = Deadline { clock: &*self.clock, at: now + share };
                let fault = match query::ask(server, name, rtype, ad, &deadline) {
                    Ok(answer) => return Ok(answer),
                    Err(fault) => fault,
                };
                if matches!(fault, Fault::Silence | Fault::Io(_)) {
                    self.penalise(server);
                }
                match fault {
                    Fault::Silence => silent.push(server),
                    _ => faults.push(fault.text(server)),
                }
            }
            servers = silent;
        }
        let within = if servers.is_empty() { String::new() } else { format!(" within {:?}", self.timeout) };
        faults.extend(servers.into_iter().map(|server| Fault::Silence.text(server)));
        Err(format!("{} for {rtype} {name}{within}", faults.join(", ")))
    }

    /// As listed, but those that failed of late come last.
    fn servers_in_order(&self) -> Vec<SocketAddr> {
        let now = (self.clock)();
        let servers = self.state().servers.clone();
        let (failed, good): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|server| server.avoid_until > now);
        good.into_iter().chain(failed).map(|server| server.address).collect()
    }

    /// Nobody can forge what comes over loopback.
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
            // A host of the LAN that only /etc/hosts knows.
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

/// Never asked of any server (RFC 6761 §6.3).
fn is_localhost(name: &str) -> bool {
    without_dot(name).rsplit('.').next().is_some_and(|label| label.eq_ignore_ascii_case("localhost"))
}

fn nxdomain_text(name: &DnsName, cnames: usize) -> String {
    match cnames {
        0 => format!("{name} does not exist (NXDOMAIN)"),
        _ => format!("{name} is a CNAME of a name that does not exist (NXDOMAIN)"),
    }
}

/// A null MX stands alone (RFC 7505 §3); beside others it names no host and is passed over.
fn mx_answer(records: Vec<Record>) -> MxAnswer {
    if records.is_empty() {
        return MxAnswer::Implicit;
    }
    let hosts: Vec<Mx> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::Mx(mx) if mx.exchange != "." => Some(mx),
            _ => None,
        })
        .collect();
    if hosts.is_empty() { MxAnswer::Null } else { MxAnswer::Hosts(hosts) }
}

/// Joins the two families: one that fails does not spoil what the other has found. That there are no addresses, or no
/// such host, is believed only if both were answered.
fn either_family(v4: Outcome, v6: Outcome) -> Result<Vec<IpAddr>, DnsError> {
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

fn address(record: &Record) -> Option<IpAddr> {
    match record {
        Record::Address(address) => Some(*address),
        Record::Mx(_) | Record::Data(_) => None,
    }
}

/// Leaves out what is no address of a host: `0.0.0.0` and `::` would connect to this one, as would IPv4 in disguise.
fn usable(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let real = |address: &IpAddr| {
        !address.is_unspecified() && !matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
    };
    addresses.filter(real).take(ADDRESSES_PER_FAMILY_MAX).collect()
}
