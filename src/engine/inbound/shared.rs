//! What all listeners and their connections share.
//!
//! | part | lives | used by |
//! | --- | --- | --- |
//! | [`Inbound`] | as long as the daemon | every listener, and every thread of a connection |
//! | `Listener` | as long as the daemon; an inherited socket longer | its own thread |
//! | `Slot` | as long as its connection | the connection |
//! | `Connection` | from the accept to the end of the session | its own thread |
//!
//! A reload replaces the configuration behind the handle; a connection keeps the one that it began with.

use super::slots::ConnectionSlots;
use super::threads::ConnectionThreads;
use crate::engine::host::site::{Site, SiteHandle, current};
use crate::engine::intake::incoming::Intake;
use std::sync::Arc;

/// The parts of the daemon that connections of clients need.
#[derive(Debug)]
pub struct Inbound {
    /// The configuration.
    pub site: SiteHandle,
    /// The open connections, and their limits.
    pub slots: Arc<ConnectionSlots>,
    /// The threads that serve them.
    pub threads: Arc<ConnectionThreads>,
    /// Accepts their messages.
    pub intake: Arc<Intake>,
}

impl Inbound {
    /// The current configuration.
    #[must_use]
    pub fn site(&self) -> Arc<Site> {
        current(&self.site)
    }
}
