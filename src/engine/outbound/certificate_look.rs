//! Another look at a certificate that was not verified, for people who want to know which one it is.
//!
//! native-tls ends the handshake when a chain, a name or a date is wrong, and keeps the certificate for itself. So a curious
//! observer (`probe`) gets another connection, on which nothing is verified: it carries no login, no client certificate and no
//! mail, and ends after the handshake. What it shows is what the host claims to be, and no more.

use super::context::{Observer, OutboundContext, TraceEvent};
use super::conversation::{Conversation, connect_to};
use super::host_policy::HostPolicy;
use super::hosts::Host;
use crate::engine::host::site::Site;
use crate::mail::outcome::Diagnostic;
use crate::net::tls_client::NOT_VERIFIED;
use std::net::SocketAddr;
use std::sync::Arc;

/// Passes on what certificate was shown, as one that was refused, and nothing else.
struct Looker<'a>(&'a dyn Observer);

impl Observer for Looker<'_> {
    fn see(&self, event: TraceEvent<'_>) {
        if let TraceEvent::Tls { certificate, .. } = event {
            self.0.see(TraceEvent::Refused { certificate });
        }
    }
}

impl Conversation<'_> {
    /// Connects once more, after this failure, by the policy of [`HostPolicy::look`], and shows the observer the certificate.
    pub(super) fn look(
        context: &OutboundContext<'_>,
        site: &Arc<Site>,
        host: &Host,
        address: SocketAddr,
        policy: HostPolicy,
        failure: &Diagnostic,
    ) {
        if !failure.text.contains(NOT_VERIFIED) {
            return;
        }
        let looker = Looker(context.observer);
        let quiet = OutboundContext { observer: &looker, ..*context };
        let Ok((_, transport)) = connect_to(&quiet, site, host, &mut vec![address]) else { return };
        if let Ok(conversation) = Conversation::attempt(&quiet, site, host, address, transport, policy) {
            conversation.leave();
        }
    }
}
