//! Whether mail would get where it has to: what the settings mean together, on this host, for those whom they name.
//!
//! What loses the first alert is told before it is written. What can't work is a problem; what may be meant so is a
//! warning.

use super::report::CheckReport;
use crate::config::{Addressee, Place, Places, Problem, is_like};
use crate::engine::host::aliases::Doubt;
use crate::engine::host::site::{Site, hostname_flaw};
use crate::engine::inbound::listener;
use crate::mail::address::{ForwardPath, Mailbox};
use crate::mail::unqualified::Unqualified;
use crate::rules::routing::route::{Destination, NoRoute, Routed, Users};
use crate::sys::user;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;

/// A trusted network with a shorter prefix holds more hosts than anybody knows.
const PREFIX_MIN: (u8, u8) = (8, 16);

/// Looks at all of it.
pub fn look(site: &Site, places: &Places, found: &mut CheckReport) {
    hostname(site, places, found);
    users(site, places, found);
    root(site, places, found);
    let (admin, catch_all) = (&site.settings.admin, &site.settings.local.catch_all);
    for (table, key, addressee) in [("", "admin", admin), ("local", "catch_all", catch_all)] {
        if let Some(addressee) = addressee {
            stand_in(site, places, (places.of(table, key), addressee), found);
        }
    }
    aliases(site, found);
    login(site, places, found);
    networks(site, places, found);
    listeners(site, places, found);
}

/// A name that hosts refuse in EHLO, and as the domain of a sender. One without a dot is what many boxes have, and no matter
/// where all senders are rewritten.
fn hostname(site: &Site, places: &Places, found: &mut CheckReport) {
    let name = site.hostname.to_string();
    let Some(flaw) = hostname_flaw(&site.hostname) else { return };
    if name.contains('.') || site.rewrite.is_idle() {
        let text = format!(
            "the hostname {name:?} {flaw}: EHLO says an address literal, and not all hosts take mail of such a domain; \
             write a name such as \"box.example.org\""
        );
        found.warn(places.of("", "hostname"), text);
    }
}

/// A word for users that is none of those that are known is a user's name.
fn users(site: &Site, places: &Places, found: &mut CheckReport) {
    let Users::Named(names) = &site.settings.local.users else { return };
    let [name] = names.as_slice() else { return };
    let Some(word) = ["system", "any"].into_iter().find(|word| is_like(name, word)) else { return };
    if user::find(name).is_ok_and(|account| account.is_some()) {
        return;
    }
    let text = format!("{name:?} is the only user with a mailbox; did you mean \"{word}\"?");
    let place = places.of("local", "users");
    // Somebody may well be called Ann.
    if word == "any" { found.warn(place, text) } else { found.problem(place, text) }
}

/// Cron and its like write to root.
fn root(site: &Site, places: &Places, found: &mut CheckReport) {
    let Ok(root) = Unqualified::parse("root") else { return };
    let path = root.forward_path(site.routes.home());
    if site.settings.admin.is_none() && matches!(site.route(&path), Err(NoRoute::UnknownUser)) {
        let text = "nobody gets the mail for root; write admin = \"me@example.com\"";
        found.warn(places.of("local", "users"), text.to_owned());
    }
}

/// `admin` and `catch_all`: somebody whom mail reaches, and where.
fn stand_in(site: &Site, places: &Places, of: (Option<Place>, &Addressee), found: &mut CheckReport) {
    let (place, addressee) = of;
    let mailbox = match addressee {
        Addressee::Mailbox(mailbox) => mailbox.clone(),
        Addressee::User(name) => match Mailbox::parse(&format!("{name}@{}", site.hostname)) {
            Ok(mailbox) => mailbox,
            Err(_) => return,
        },
    };
    match site.route(&ForwardPath::Mailbox(mailbox.clone())) {
        Ok(Routed { leaves: true, .. }) => found.warn(place, leaves(site, &mailbox)),
        Ok(Routed { destination: Destination::Maildir(user), .. })
            if matches!(addressee, Addressee::Mailbox(_))
                && places.of("local", "domains").is_none()
                && !site.settings.relay.smarthost.is_empty() =>
        {
            let text = format!(
                "mail for {mailbox} stays here, with the user {:?}, as its domain is local; if the mailbox is elsewhere, \
                 {}",
                user.name,
                cure(site)
            );
            found.warn(place, text);
        }
        Ok(_) | Err(NoRoute::LookupFailed(_)) => {}
        Err(NoRoute::UnknownUser) => {
            let text = format!(
                "nobody here is called {:?}, so their mail is lost; write an address such as \"me@example.com\", or a user \
                 with a mailbox",
                mailbox.local_part.as_str()
            );
            found.problem(place, text);
        }
        Err(NoRoute::Refused(_, text)) => {
            found.problem(place, format!("mail for {mailbox} goes nowhere: {text}; write another address"));
        }
    }
}

/// What is said of an address in a local domain that nobody here has.
fn leaves(site: &Site, mailbox: &Mailbox) -> String {
    let way = match site.settings.relay.smarthost.first() {
        Some(host) => format!("by {host}"),
        None => "by the MX hosts of its domain".to_owned(),
    };
    format!(
        "nobody here has the address {mailbox}, though its domain is local: it leaves {way}; {}",
        cure(site)
    )
}

/// What keeps a domain from being local.
fn cure(site: &Site) -> String {
    let why = match &site.settings.hostname {
        Some(_) => "hostname",
        None => "hostname, which is taken from /etc/mailname or the system,",
    };
    format!(
        "set {why} to a name that this host alone has, or list in local.domains the domains whose mail stays here"
    )
}

/// Where aliases lead.
fn aliases(site: &Site, found: &mut CheckReport) {
    let Some(path) = site.settings.local.aliases.as_deref() else { return };
    for (name, line, doubt) in site.alias_doubts() {
        let place = Some(Place { line, column: 1 });
        let problem = |text| Problem { file: path.display().to_string(), place, text };
        match doubt {
            Doubt::Loop(text) => found.problems.push(problem(format!("{text}; take one of its names out"))),
            Doubt::Unknown(mailbox) => {
                let text =
                    format!("{name:?} leads to {mailbox}, and nobody here is called so; correct the name");
                found.warnings.push(problem(text));
            }
            Doubt::Nobody => {
                let text = format!("{name:?} leads to nobody here; correct the names behind it");
                found.warnings.push(problem(text));
            }
            Doubt::Leaves(mailbox) => found.warnings.push(problem(leaves(site, &mailbox))),
        }
    }
}

/// Whom the smarthost knows, and as whom mail leaves.
fn login(site: &Site, places: &Places, found: &mut CheckReport) {
    let (relay, rewrite) = (&site.settings.relay, &site.settings.rewrite);
    let place = places.of("relay", "username");
    if relay.username.is_empty() {
        return;
    }
    if relay.smarthost.is_empty() {
        let text = "nobody logs in, as relay.smarthost is empty; name one, or take the name away";
        return found.problem(place, text.to_owned());
    }
    let says_sender = rewrite.from.is_some() || rewrite.domain.is_some() || !rewrite.senders.is_empty();
    if !says_sender && Mailbox::parse(&relay.username).is_err() {
        let text = format!(
            "this login is no address, so mail leaves as from root@{} and its like, which few such hosts take; write \
             rewrite.from = \"alerts@example.com\", an address that the account may send from",
            site.hostname
        );
        found.warn(place, text);
    }
}

/// All addresses are refused when they are read; half of them are hardly better.
fn networks(site: &Site, places: &Places, found: &mut CheckReport) {
    for network in &site.settings.relay.trusted_networks {
        let least = if network.address.is_ipv4() { PREFIX_MIN.0 } else { PREFIX_MIN.1 };
        if network.prefix < least {
            let text = format!("\"{network}\" lets strangers send by this host; write your own networks");
            found.warn(places.of("relay", "trusted_networks"), text);
        }
    }
}

/// Whether one stands for all addresses of the other's family, on the same port.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Whether the sockets could be opened. Those that the daemon has are taken.
fn listeners(site: &Site, places: &Places, found: &mut CheckReport) {
    let is_served = UnixStream::connect(&site.settings.control).is_ok();
    let mut before: Vec<SocketAddr> = Vec::new();
    for (i, listener) in site.settings.listeners.iter().enumerate() {
        for &address in &listener.address {
            let place = places.nth("listener", "address", i);
            // Many small systems have no IPv6.
            let is_optional = address.ip() == IpAddr::from(std::net::Ipv6Addr::LOCALHOST);
            if let Some(other) = before.iter().find(|other| !is_optional && overlap(**other, address)) {
                let text = format!("\"{address}\" and \"{other}\" overlap; write one of them");
                found.problem(place, text);
            }
            before.push(address);
            match listener::open_socket(address).map_err(|error| error.kind()) {
                Err(ErrorKind::AddrNotAvailable | ErrorKind::InvalidInput) if !is_optional => {
                    let text = format!(
                        "no interface has the address of \"{address}\"; write one that this host has"
                    );
                    found.problem(place, text);
                }
                Err(ErrorKind::AddrInUse) if !is_served => {
                    let text = format!(
                        "\"{address}\" is taken, by another mail server perhaps; stop that, or write another port"
                    );
                    found.warn(place, text);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
