//! What all workers share to reach other hosts: the resolver, the connector, the MTA-STS policies of domains, and
//! the tokens of logins.
//!
//! A worker makes one [`OutboundContext`] of it for each connection, so that the context carries the time of the
//! attempt. The tests put their own resolver and connector here; the rest of the way out is the same as in production.

use crate::engine::host::site::Site;
use crate::engine::outbound::context::OutboundContext;
use crate::engine::outbound::sts_policies::StsPolicies;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::engine::outbound::web::WebWorld;
use crate::engine::queue::manager::Manager;
use crate::net::connect::Connect;
use crate::net::resolver::Resolve;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What all workers share to reach other hosts.
pub struct Egress {
    resolver: Box<dyn Resolve>,
    connect: Box<dyn Connect>,
    sts: StsPolicies,
    /// The tokens of logins by OAuth 2.0.
    pub tokens: Arc<TokenKeeper>,
    /// How long a worker keeps an open connection for further messages.
    pub linger: Duration,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").finish_non_exhaustive()
    }
}

impl Egress {
    /// Nothing has been learnt about MTA-STS policies yet.
    #[must_use]
    pub fn new(resolver: Box<dyn Resolve>, connect: Box<dyn Connect>, linger: Duration) -> Self {
        Self { resolver, connect, sts: StsPolicies::default(), tokens: Arc::default(), linger }
    }

    /// The context for a connection that starts now, without an observer.
    #[must_use]
    pub fn context<'a>(&'a self, manager: &'a Manager) -> OutboundContext<'a> {
        let (resolver, connect) = (self.resolver.as_ref(), self.connect.as_ref());
        let (sts, index, now) = (&self.sts, manager.index.as_ref(), manager.clock.now());
        let tokens = self.tokens.as_ref();
        OutboundContext { resolver, connect, sts, tokens, index, now, observer: &(), hop: None }
    }

    /// Refreshes tokens that are near their end; see [`TokenKeeper::keep`].
    pub fn keep_tokens(&self, site: &Site) {
        self.tokens.keep(&self.web_world(site));
    }

    /// What a question to a web server needs.
    #[must_use]
    pub fn web_world<'a>(&'a self, site: &'a Site) -> WebWorld<'a> {
        WebWorld { resolver: self.resolver.as_ref(), connect: self.connect.as_ref(), site }
    }
}
