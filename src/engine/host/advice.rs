//! The advice about a failure that a delivery met: one function for the log, `queue`, `status`, alarms and notices, with the
//! rows that `probe` uses. So all of them say the same about the same failure.

use super::site::Site;
use crate::mail::address::Domain;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::outcome::Diagnostic;
use crate::rules::advice::hints;
use crate::rules::advice::row::{Peer, PeerKind};
use crate::rules::advice::step::Stage;
use crate::rules::routing::next_hop::ExceptionTarget;

/// What the operator should change, by the reason why a message or a route waits, or why a message failed. `None`: nothing is
/// known about it.
#[must_use]
pub fn advice(site: &Site, reason: &Diagnostic) -> Option<&'static str> {
    let name = reason.remote.as_deref().unwrap_or_default();
    let named = smarthost(site, name);
    let kind = match named {
        _ if name.is_empty() => PeerKind::Unknown,
        Some(_) => PeerKind::Smarthost,
        None => PeerKind::Mx,
    };
    let peer = Peer { name, kind };
    // Without a password the certificate is refused, not a name or a word.
    let login = named.and_then(|host| host.login.as_deref());
    let is_by_certificate = login.is_some_and(|login| login.username.is_empty() || login.auth == "external");
    let of_certificate = (is_by_certificate && Stage::of(reason) == Some(Stage::Auth))
        .then(|| hints::hint(Stage::Auth, &format!("external {}", reason.line()), peer));
    of_certificate.flatten().or_else(|| hints::advice(reason, peer))
}

/// The smarthost with this name, if `relay.smarthost`, `relay.senders` or `relay.routes` has one.
fn smarthost<'a>(site: &'a Site, name: &str) -> Option<&'a Smarthost> {
    let hops = &site.routes.next_hops;
    let by_routes = hops.exceptions.iter().flat_map(|exception| match &exception.target {
        ExceptionTarget::Hosts(hosts) => hosts.as_slice(),
        ExceptionTarget::Error(..) => &[],
    });
    let by_senders = hops.senders.iter().flat_map(|(_, hop)| match hop {
        NextHop::Smarthosts(hosts) => hosts.as_slice(),
        NextHop::Mx(_) => &[],
    });
    hops.smarthosts.iter().chain(by_senders).chain(by_routes).find(|it| match &it.host {
        Domain::Name(host) => host.eq_ignore_ascii_case(name),
        Domain::Literal(ip) => name.parse().is_ok_and(|named: std::net::IpAddr| named == *ip),
    })
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
    /// As in a probe: without a password the host refuses the certificate.
    #[test]
    fn a_refused_login_is_about_the_password_or_about_the_certificate() {
        let refused = Diagnostic {
            remote: Some("smart.example".to_owned()),
            reply: Some("535 5.7.8 no".to_owned()),
            ..Diagnostic::local(EnhancedStatus::INVALID_CREDENTIALS, "AUTH")
        };
        for (login, words) in
            [("username = \"joe\"\n", "password is wrong"), ("", "takes the client certificate for none")]
        {
            let text = format!("[relay]\nsmarthost = \"smtps://smart.example\"\n{login}");
            let settings = crate::config::parse(&text, "f").unwrap();
            let site = Site::new(settings, Domain::parse("box.example").unwrap(), None);
            assert!(advice(&site, &refused).unwrap().contains(words), "{login}");
        }
    }
}
