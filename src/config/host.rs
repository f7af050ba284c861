//! The name of this host, where the configuration has none: /etc/mailname, the canonical name, the system's
//! name. `serve` asks once, at start.
//!
//! The canonical name comes from getaddrinfo, which asks DNS and may take minutes: it runs in a thread of its own, and gets
//! five seconds. If no source has a name, the host is called `localhost`.

use crate::mail::address::Domain;
use crate::sys::file::{self, FileKind};
use crate::sys::thread;
use dns_lookup::AddrInfoHints;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// Debian's file with the name that mail from this host carries.
const MAILNAME: &str = "/etc/mailname";
/// How long the start may wait for the canonical name.
const CANONICAL_NAME_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of this host: the configured one, or the one that the system gives it.
#[must_use]
pub fn name(configured: Option<&Domain>) -> Domain {
    configured.cloned().unwrap_or_else(|| {
        let system = rustix::system::uname().nodename().to_string_lossy().into_owned();
        choose(mailname().as_deref(), || canonical_name(system.clone()), &system)
    })
}

/// The first of the three that can name a mail server. Only the system's name needs no dot.
fn choose(mailname: Option<&str>, canonical: impl FnOnce() -> Option<String>, system: &str) -> Domain {
    let full = |name: &str| {
        let domain = host_name(name)?;
        let dotted = domain.name().is_some_and(|n| n.contains('.') && !n.starts_with("localhost."));
        dotted.then_some(domain)
    };
    mailname
        .and_then(host_name)
        .or_else(|| canonical().and_then(|name| full(&name)))
        .or_else(|| host_name(system))
        .unwrap_or_else(|| Domain::Name("localhost".to_owned()))
}

fn host_name(text: &str) -> Option<Domain> {
    // An IP address looks like a name of four labels.
    let name = |domain: &Domain| domain.name().is_some_and(|name| name.parse::<IpAddr>().is_err());
    Domain::parse(text.trim()).ok().filter(name)
}

fn mailname() -> Option<String> {
    let octets = file::read(Path::new(MAILNAME), FileKind::System).ok()?;
    std::str::from_utf8(&octets).ok()?.lines().next().map(str::to_owned)
}

fn canonical_name(host: String) -> Option<String> {
    let look_up = move || {
        let hints = AddrInfoHints { flags: libc::AI_CANONNAME, ..AddrInfoHints::default() };
        let found = dns_lookup::getaddrinfo(Some(&host), None, Some(hints));
        found.ok().and_then(|mut infos| infos.next()?.ok()?.canonname)
    };
    thread::ask("hostname", CANONICAL_NAME_TIMEOUT, look_up).ok()??
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_good_name_is_taken() {
        for (mailname, canonical, system, expected) in [
            (Some("mail.example.org"), Some("a.example"), "box", "mail.example.org"),
            (Some("  box "), Some("a.example"), "box", "box"),
            (Some("192.0.2.7"), Some("a.example"), "box", "a.example"),
            (Some("no name"), Some("a.example"), "box", "a.example"),
            (Some(""), None, "box.example", "box.example"),
            (None, Some("localhost"), "box", "box"),
            (None, Some("localhost.localdomain"), "box", "box"),
            (None, Some("[192.0.2.1]"), "box", "box"),
            (None, None, "(none)", "localhost"),
        ] {
            let name = choose(mailname, || canonical.map(str::to_owned), system);
            assert_eq!(name.to_string(), expected, "{mailname:?} {canonical:?} {system}");
        }
    }

    #[test]
    fn mailname_spares_the_look_up() {
        choose(Some("mail.example.org"), || panic!("asked DNS without need"), "box");
    }

    #[test]
    fn a_configured_name_wins_and_a_name_is_always_found() {
        let configured = Domain::Name("mail.example.org".into());
        assert_eq!(name(Some(&configured)), configured);
        assert!(name(None).name().is_some());
    }
}
