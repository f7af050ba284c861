//! The policy of a listener, from the settings of its address.
//!
//! The first of these that exists applies:
//!
//! 1. the `[[listener]]` with the address and port of the socket;
//! 2. the one with its port, as an inherited socket may listen on more addresses than the settings name;
//! 3. the kind that the name of the socket denotes (`FileDescriptorName=` of systemd), with the defaults;
//! 4. no policy: the listener keeps the one that it had before a reload, at first the default.

use crate::config::{LISTENER_KINDS, Listener as ListenerSettings, ListenerAuth, ListenerKind, ListenerTls};
use std::net::SocketAddr;

/// What a listener offers to its clients, and requires of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListenerPolicy {
    /// The protocol, and whether TLS comes first.
    pub kind: ListenerKind,
    /// Whether a lone LF ends a line.
    pub repairs_newlines: bool,
    /// Whether a PROXY header must come first.
    pub proxy_protocol: bool,
    /// Whether STARTTLS is offered or required.
    pub tls: ListenerTls,
    /// The oldest version of TLS for trusted clients; empty: the same as for all clients.
    pub tls_minimum: &'static str,
    /// Who may log in.
    pub auth: ListenerAuth,
}

/// The policy of the listener with the address `local`; `name` is the name of an inherited socket. `None`: no settings
/// apply to it.
#[must_use]
pub fn listener_policy(
    settings: &[ListenerSettings],
    local: SocketAddr,
    name: Option<&str>,
) -> Option<ListenerPolicy> {
    let with = |is_it: &dyn Fn(&SocketAddr) -> bool| {
        settings.iter().find(|listener| listener.address.iter().any(is_it))
    };
    let has_port = |address: &SocketAddr| address.port() == local.port();
    let has_address =
        |address: &SocketAddr| has_port(address) && address.ip().to_canonical() == local.ip().to_canonical();
    if let Some(listener) = with(&has_address).or_else(|| with(&has_port)) {
        return Some(ListenerPolicy {
            kind: listener.kind,
            repairs_newlines: listener.bare_newline == "repair",
            proxy_protocol: listener.proxy_protocol,
            tls: listener.tls,
            tls_minimum: listener.tls_minimum,
            auth: listener.auth,
        });
    }
    let named = LISTENER_KINDS.iter().find(|(word, ..)| Some(*word) == name);
    named.map(|(_, kind)| ListenerPolicy { kind: *kind, ..ListenerPolicy::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, parse};

    fn policy(settings: &Settings, local: &str, name: Option<&str>) -> (ListenerKind, bool) {
        let policy = listener_policy(&settings.listeners, local.parse().unwrap(), name).unwrap_or_default();
        assert!(!policy.proxy_protocol);
        (policy.kind, policy.repairs_newlines)
    }

    #[test]
    fn the_settings_of_the_address_hold_then_those_of_the_port_then_the_name() {
        let mut settings = parse(
            "[[listener]]\naddress = [\"127.0.0.1:25\", \"127.0.0.1:24\"]\n\
             [[listener]]\naddress = [\"192.0.2.1:25\", \"[::1]:587\"]\nbare_newline = \"repair\"\n",
            "f",
        )
        .unwrap();
        settings.listeners[1].kind = ListenerKind::Submission;
        let (smtp, submission) = ((ListenerKind::Smtp, false), (ListenerKind::Submission, true));
        for (local, name, expected) in [
            ("127.0.0.1:25", None, smtp),
            ("127.0.0.1:25", Some("lmtp"), smtp),
            ("192.0.2.1:25", None, submission),
            ("[::ffff:192.0.2.1]:25", None, submission),
            ("192.0.2.1:24", Some("submission"), smtp),
            ("[::]:25", None, smtp),
            ("[::]:587", Some("smtp"), submission),
            ("0.0.0.0:465", Some("submissions"), (ListenerKind::Submissions, false)),
            ("0.0.0.0:465", Some("submission"), (ListenerKind::Submission, false)),
            ("0.0.0.0:465", Some("lmtp"), (ListenerKind::Lmtp, false)),
            ("0.0.0.0:465", Some("smtp"), smtp),
            ("0.0.0.0:465", Some("pillarbox.socket"), smtp),
            ("0.0.0.0:465", None, smtp),
        ] {
            assert_eq!(policy(&settings, local, name), expected, "{local} {name:?}");
        }
    }

    #[test]
    fn the_policy_without_settings_is_that_of_the_defaults() {
        let settings = Settings::default();
        let (defaults, other) = (&settings.listeners, "0.0.0.0:2525".parse().unwrap());
        assert_eq!(
            listener_policy(defaults, other, None).or(Some(ListenerPolicy::default())),
            listener_policy(defaults, defaults[0].address[0], None)
        );
    }
}
