//! What a connection to another host needs from outside: the resolver, the connector, what was learnt about hosts and
//! domains, and an observer.
//!
//! A delivery uses it without an observer. `probe` goes the same way, observes each step, and sends no message. An
//! observer changes nothing: each event is reported after it has happened.

use super::hosts::Host;
use super::sts_policies::StsPolicies;
use super::tokens::TokenKeeper;
use super::web::WebWorld;
use crate::engine::host::site::Site;
use crate::engine::queue::index::{Hold, Hop, LongStep, QueueIndex};
use crate::mail::date::Now;
use crate::mail::outcome::Diagnostic;
use crate::net::connect::Connect;
use crate::net::resolver::Resolve;
use crate::net::transport::Stopwatch;
use crate::rules::advice::step::Stage;
use crate::rules::tls::tls_policy::TlsPolicy;
use crate::smtp::client::Waiting;
use crate::smtp::limits;
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
    /// The tokens of logins by OAuth 2.0.
    pub tokens: &'a TokenKeeper,
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
    /// The password of this user name was read.
    Password(&'a str, &'a Secret),
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
    /// TLS will fail, because this certificate is not accepted. [`Self::Failed`] follows.
    Refused {
        /// The certificate that the host shows, in DER.
        certificate: &'a [u8],
    },
    /// The current step has failed. Another host or address may still work.
    Failed(&'a Diagnostic),
}

/// Is shown the steps of a connection.
pub trait Observer {
    /// Is shown a step. Ignores it by default.
    fn see(&self, _: TraceEvent<'_>) {}

    /// Whether [`TraceEvent::Refused`] is wanted even if it costs another connection.
    fn is_curious(&self) -> bool {
        false
    }
}

/// No observer.
impl Observer for () {}

/// A place that other hops may use while a long step lasts.
#[must_use]
pub struct LentPlace<'a> {
    index: &'a QueueIndex,
    hop: Option<&'a Hop>,
    hold: Hold,
    since: Stopwatch,
}

impl LentPlace<'_> {
    /// Whether the step has to end now, as a failure of the hop: see [`QueueIndex::gives_up`].
    #[must_use]
    pub fn gives_up(&self) -> bool {
        self.hop.is_some_and(|hop| self.index.gives_up(hop, self.hold, self.since.elapsed()))
    }

    /// The time for the next block of data.
    #[must_use]
    pub fn block_time(&self) -> Duration {
        let hurries = self.hop.is_some_and(|hop| self.index.hurries(hop));
        if hurries { limits::CONNECT } else { limits::DATA_BLOCK }
    }
}

impl Drop for LentPlace<'_> {
    fn drop(&mut self) {
        if let Some(hop) = self.hop {
            self.index.release(hop, self.hold);
        }
    }
}

impl<'a> OutboundContext<'a> {
    /// What the keeper of tokens needs from outside.
    #[must_use]
    pub fn token_world<'w>(&'w self, site: &'w Site) -> WebWorld<'w> {
        WebWorld { resolver: self.resolver, connect: self.connect, site }
    }

    /// Whether the place has to be given away after a silence of this length.
    #[must_use]
    pub fn gives_way(&self, silence: Duration) -> bool {
        self.hop.is_some_and(|hop| self.index.gives_way(hop, silence))
    }

    /// Lends the place to other hops while the guard lives, some time after the step has begun. `opened` runs since the
    /// context was made, `since` since the step began.
    pub fn lend(&self, step: LongStep, opened: Stopwatch, since: Stopwatch) -> LentPlace<'a> {
        let begun = opened.elapsed().saturating_sub(since.elapsed());
        let hold = (step, self.now.running.saturating_add(begun).saturating_add(step.lent_after()));
        if let Some(hop) = self.hop {
            self.index.hold(hop, hold);
        }
        LentPlace { index: self.index, hop: self.hop, hold, since }
    }

    /// Shows a failure to the observer, and returns it.
    pub fn failed(&self, diagnostic: Diagnostic) -> Diagnostic {
        self.observer.see(TraceEvent::Failed(&diagnostic));
        diagnostic
    }
}
