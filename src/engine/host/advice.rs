//! The advice about a failure that a delivery met: one function for the log, `queue`, `status`, alarms and notices, with the
//! rows that `probe` uses. So all of them say the same about the same failure.

use super::site::Site;
use crate::mail::address::Domain;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::Diagnostic;
use crate::rules::advice::hints;
use crate::rules::advice::row::{Peer, PeerKind};
use crate::rules::routing::next_hop::ExceptionTarget;

/// What the operator should change, by the reason why a message or a route waits, or why a message failed. `None`: nothing is
/// known about it.
#[must_use]
pub fn advice(site: &Site, reason: &Diagnostic) -> Option<&'static str> {
    let name = reason.remote.as_deref().unwrap_or_default();
    hints::advice(reason, Peer { name, kind: kind(site, name) })
}

/// What a host is for this one: a smarthost if `relay.smarthost`, `relay.senders` or `relay.routes` names it.
fn kind(site: &Site, name: &str) -> PeerKind {
    let hops = &site.routes.next_hops;
    let is_it = |it: &Smarthost| match &it.host {
        Domain::Name(host) => host.eq_ignore_ascii_case(name),
        Domain::Literal(ip) => name.parse().is_ok_and(|named: std::net::IpAddr| named == *ip),
    };
    let by_routes = || {
        hops.exceptions.iter().any(|exception| match &exception.target {
            ExceptionTarget::Hosts(hosts) => hosts.iter().any(is_it),
            ExceptionTarget::Error(..) => false,
        })
    };
    let by_senders = || {
        hops.senders
            .iter()
            .any(|(_, hop)| matches!(hop, NextHop::Smarthosts(hosts) if hosts.iter().any(is_it)))
    };
    match () {
        () if name.is_empty() => PeerKind::Unknown,
        () if hops.smarthosts.iter().any(is_it) || by_routes() || by_senders() => PeerKind::Smarthost,
        () => PeerKind::Mx,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::status::EnhancedStatus;

    #[test]
    fn the_same_words_mean_another_thing_of_another_host() {
        let text = "[relay]\nsmarthost = \"smtp://smart.example:25\"\n[relay.routes]\n\"a.example\" = \"smtp://[192.0.2.7]:25\"\n";
        let settings = crate::config::parse(text, "f").unwrap();
        let site = Site::new(settings, Domain::parse("box.example").unwrap(), None);
        for (host, words) in [
            ("Smart.example", "Nothing listens"),
            ("192.0.2.7", "Nothing listens"),
            ("mx.far.example", "rejects connections to port 25"),
        ] {
            let text = format!("connect to {host} [192.0.2.1:25]: Connection refused (os error 111)");
            let reason = Diagnostic {
                remote: Some(host.to_owned()),
                ..Diagnostic::local(EnhancedStatus::NO_ANSWER, text)
            };
            assert!(advice(&site, &reason).unwrap().contains(words), "{host}");
        }
        assert_eq!(advice(&site, &Diagnostic::local(EnhancedStatus::DELAYED, "waits for a digest")), None);
    }
}
