//! What a way out needs of the world: who looks names up, who connects, what is known of hosts and domains; and who
//! watches.
//!
//! Delivery goes out by it with nobody watching; `probe` goes the same way, watches, and sends nothing. Whoever watches
//! changes nothing: what is seen has happened.

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

/// The world around a way out.
#[derive(Clone, Copy)]
pub struct OutboundContext<'a> {
    /// Looks names up.
    pub resolver: &'a dyn Resolve,
    /// Makes connections.
    pub connect: &'a dyn Connect,
    /// What was learnt about MTA-STS.
    pub sts: &'a StsPolicies,
    /// Which smarthosts were silent of late.
    pub index: &'a QueueIndex,
    /// What the clocks say.
    pub now: Now,
    /// Who watches.
    pub watch: &'a dyn Observer,
    /// Whose place among the connections it takes, if others may wait for one.
    pub hop: Option<&'a Hop>,
}

/// Something on the way.
pub enum TraceEvent<'a> {
    /// A step begins.
    Begins(Stage),
    /// The hosts of the next hop, in order.
    Hosts(&'a [Host]),
    /// What the next one of them wants of TLS.
    Policy(&'a TlsPolicy),
    /// The addresses of the host.
    Addresses(&'a Host, &'a [SocketAddr]),
    /// The password is known.
    Password(&'a Secret),
    /// The host has answered at this address.
    Connected(SocketAddr),
    /// A reply, and what it is to.
    Reply(Waiting, &'a Reply),
    /// TLS is there.
    Tls {
        /// The certificate is the right one.
        is_verified: bool,
        /// In DER.
        certificate: &'a [u8],
    },
    /// The step that has begun has failed. There may be another way.
    Failed(&'a Diagnostic),
}

/// Watches.
pub trait Observer {
    /// Sees something. By default, looks away.
    fn see(&self, _: TraceEvent<'_>) {}
}

/// Nobody.
impl Observer for () {}

impl OutboundContext<'_> {
    /// Whether the place has to be given away after so much silence.
    #[must_use]
    pub fn gives_way(&self, silence: Duration) -> bool {
        self.hop.is_some_and(|hop| self.index.gives_way(hop, silence))
    }

    /// Shows a failure to whoever watches, and hands it on.
    pub fn failed(&self, diagnostic: Diagnostic) -> Diagnostic {
        self.watch.see(TraceEvent::Failed(&diagnostic));
        diagnostic
    }
}
