//! The way out that all workers share: resolver, connector, and what was learnt about the MTA-STS policies of domains.

use crate::engine::outbound::context::OutboundContext;
use crate::engine::outbound::sts_policies::StsPolicies;
use crate::engine::queue::manager::Manager;
use crate::net::connect::Connect;
use crate::net::resolver::Resolve;
use std::fmt;
use std::time::Duration;

/// The way out.
pub struct Egress {
    resolver: Box<dyn Resolve>,
    connect: Box<dyn Connect>,
    sts: StsPolicies,
    /// How long a worker keeps an open connection for further messages.
    pub linger: Duration,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Egress {
    /// A way out by these; nothing has been learnt yet.
    #[must_use]
    pub fn new(resolver: Box<dyn Resolve>, connect: Box<dyn Connect>, linger: Duration) -> Self {
        Self { resolver, connect, sts: StsPolicies::default(), linger }
    }

    /// What a delivery at this moment needs; nobody observes it.
    #[must_use]
    pub fn outside<'a>(&'a self, manager: &'a Manager) -> OutboundContext<'a> {
        let (resolver, connect) = (self.resolver.as_ref(), self.connect.as_ref());
        let (sts, index, now) = (&self.sts, manager.index.as_ref(), manager.clock.now());
        OutboundContext { resolver, connect, sts, index, now, watch: &(), hop: None }
    }
}
