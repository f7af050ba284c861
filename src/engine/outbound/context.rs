//! What a connection to another host needs from outside: the resolver, the connector, what was learnt about hosts and
//! domains, and an observer.
//!
//! A delivery uses it without an observer. `probe` goes the same way, observes each step, and sends no message. An
//! observer changes nothing: each event is reported after it has happened.

use super::hosts::Host;
use super::sts_policies::StsPolicies;
use crate::engine::queue::index::{Hop, QueueIndex};
use crate::mail::date::Now;
use crate::mail::outcome::Diagnostic;
use crate::net::connect::Connect;
use crate::net::resolver::Resolve;
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::Waiting;
use crate::smtp::reply::Reply;
use crate::smtp::sasl::Secret;
use std::net::SocketAddr;
use std::time::Duration;

/// What a connection needs from outside.
#[derive(Clone, Copy)]
pub struct OutboundContext<'a> {
    /// Looks names up.
    pub resolver: &'a dyn Resolve,
    /// Makes connections.
    pub connect: &'a dyn Connect,
    /// What was learnt about MTA-STS policies.
    pub sts: &'a StsPolicies,
    /// Which smarthosts were silent lately, and whether other hops wait for a place.
    pub index: &'a QueueIndex,
    /// The present, by both clocks.
    pub now: Now,
    /// Is shown each step.
    pub observer: &'a dyn Observer,
    /// The hop whose place among the connections is used. `None`: it is no delivery, and never gives way.
    pub hop: Option<&'a Hop>,
}

/// A step of a connection.
pub enum TraceEvent<'a> {
    /// A step begins.
    Begins(Stage),
    /// The hosts of the next hop, in order.
    Hosts(&'a [Host]),
    /// The TLS policy of the host that is tried next.
    Policy(&'a TlsPolicy),
    /// The addresses of the host.
    Addresses(&'a Host, &'a [SocketAddr]),
    /// The password was read.
    Password(&'a Secret),
    /// The connection to this address is established.
    Connected(SocketAddr),
    /// A reply, and the command that it answers.
    Reply(Waiting, &'a Reply),
    /// TLS is established.
    Tls {
        /// The certificate was checked.
        is_verified: bool,
        /// The certificate of the host, in DER.
        certificate: &'a [u8],
    },
    /// The current step has failed. Another host or address may still work.
    Failed(&'a Diagnostic),
}

/// Is shown the steps of a connection.
pub trait Observer {
    /// Is shown a step. Ignores it by default.
    fn see(&self, _: TraceEvent<'_>) {}
}

/// No observer.
impl Observer for () {}

/// A place that other hops may use while a step lasts that cannot be ended.
#[must_use]
pub struct LentPlace<'a> {
    index: &'a QueueIndex,
    hop: Option<&'a Hop>,
    from: Duration,
}

impl Drop for LentPlace<'_> {
    fn drop(&mut self) {
        if let Some(hop) = self.hop {
            self.index.release(hop, self.from);
        }
    }
}

impl<'a> OutboundContext<'a> {
    /// Whether the place has to be given away after a silence of this length.
    #[must_use]
    pub fn gives_way(&self, silence: Duration) -> bool {
        self.hop.is_some_and(|hop| self.index.gives_way(hop, silence))
    }

    /// Lends the place to other hops from `after` on, while the guard lives. `since`: the time since the context was made.
    pub fn lend(&self, since: Duration, after: Duration) -> LentPlace<'a> {
        let from = self.now.running.saturating_add(since).saturating_add(after);
        if let Some(hop) = self.hop {
            self.index.hold(hop, from);
        }
        LentPlace { index: self.index, hop: self.hop, from }
    }

    /// Shows a failure to the observer, and returns it.
    pub fn failed(&self, diagnostic: Diagnostic) -> Diagnostic {
        self.observer.see(TraceEvent::Failed(&diagnostic));
        diagnostic
    }
}
