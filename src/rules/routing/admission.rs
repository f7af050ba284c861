//! Who may send what to whom: the rule that keeps this host from being an open relay.
//!
//! | recipient | client is trusted or logged in | any other client |
//! | --- | --- | --- |
//! | a mailbox of this host | accepted | accepted |
//! | a domain of `relay_domains` (backup MX) | accepted | accepted |
//! | any other | accepted | 550 5.7.1 |
//!
//! The caller decides whether a client is trusted: by its network ([`AdmissionPolicy::trusts`]) or by AUTH.

use super::route::Routed;
use crate::mail::address::Domain;
use crate::mail::network::Network;
use crate::mail::status::EnhancedStatus;
use crate::smtp::reply::Reply;
use std::net::IpAddr;

/// What the configuration says about relaying.
#[derive(Debug, Clone)]
pub struct AdmissionPolicy {
    /// Clients that may relay without AUTH.
    pub trusted_networks: Vec<Network>,
    /// Domains elsewhere whose mail is accepted from every client (backup MX).
    pub relay_domains: Vec<Domain>,
}

impl AdmissionPolicy {
    /// Whether a client at that address may relay.
    #[must_use]
    pub fn trusts(&self, client: IpAddr) -> bool {
        self.trusted_networks.iter().any(|network| network.contains(client))
    }

    /// Whether a recipient may be accepted from a client.
    ///
    /// The reply 550 5.7.1 if the client may not relay to this recipient.
    pub fn admit(&self, routed: &Routed, client_is_trusted: bool) -> Result<(), Reply> {
        if routed.is_local || client_is_trusted || self.relay_domains.contains(&routed.mailbox.domain) {
            return Ok(());
        }
        Err(Reply::new(550, EnhancedStatus::NOT_AUTHORIZED, "relaying is not permitted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Mailbox;
    use crate::mail::next_hop::NextHop;
    use crate::rules::routing::route::Destination;

    #[test]
    fn only_trusted_clients_and_backup_domains_relay() {
        let policy = AdmissionPolicy {
            trusted_networks: vec![Network::parse("127.0.0.0/8").unwrap(), Network::parse("::1").unwrap()],
            relay_domains: vec![Domain::parse("backup.example").unwrap()],
        };
        let routed = |to: &str, is_local| {
            let mailbox = Mailbox::parse(to).unwrap();
            let destination = Destination::Relay(NextHop::Mx(mailbox.domain.clone()));
            Routed { mailbox, destination, is_local, leaves: false }
        };
        for (client, trusted) in
            [("127.8.8.8", true), ("::1", true), ("::ffff:127.0.0.1", true), ("192.0.2.1", false)]
        {
            assert_eq!(policy.trusts(client.parse().unwrap()), trusted, "{client}");
        }
        assert_eq!(policy.admit(&routed("x@elsewhere.example", false), true), Ok(()));
        assert_eq!(policy.admit(&routed("x@Backup.Example", false), false), Ok(()));
        assert_eq!(policy.admit(&routed("x@elsewhere.example", true), false), Ok(()));
        let refused = policy.admit(&routed("x@sub.backup.example", false), false).unwrap_err();
        assert_eq!(refused.to_string(), "550 5.7.1 relaying is not permitted");
    }
}
