//! Whether mail would reach its recipients: what the settings mean together, on this host.
//!
//! Finds a configuration that would lose the first alert, before that alert is written. A setting that can't work is a
//! problem; one that may be meant that way is a warning.
//!
//! | looks at | problem | warning |
//! | --- | --- | --- |
//! | hostname | – | other hosts refuse it in EHLO |
//! | `local.users` | a misspelt "system" as the only user | a misspelt "any" |
//! | root | – | mail for root, or for root and postmaster, has no recipient |
//! | `heartbeat.every` | – | nobody is named who would get its mail |
//! | `admin`, `local.catch_all` | no such user, or one without a mailbox; the domain is refused | it leaves though its domain is local; it stays here |
//! | `alarm.command`, `relay.password_command` | – | no such program |
//! | aliases | a loop | unknown members; members that leave though their domain is local |
//! | `relay.smarthost` | – | a port on which TLS begins in another way |
//! | `relay.username` | a login without a smarthost | the login is no address, and no sender is set |
//! | `[oauth]` | – | no login takes a token; nobody has logged in yet, or the token is refused |
//! | `relay.certificate`, `relay.fingerprint`, `relay.tls_name` | no smarthost; a key without its certificate | "external" without a certificate |
//! | `relay.trusted_networks` | – | a network of strangers |
//! | listeners | two overlap; no interface has the address | another program has the port; nobody can log in |
//!
//! The most frequent loss: a box has the name of the mail domain, `example.com`, so that domain is local, but the mailbox of
//! `admin = "me@example.com"` is at a provider. An address that the operator wrote and that no user here has leaves by the
//! relay (`RoutePolicy::written`), so no alert is lost; the warning names the cure for all other mail of the domain: another
//! hostname, or a list in `local.domains`.
//!
//! Routes are found by the code that the daemon uses, [`Site::route`]. Sockets are opened and
//! closed again at once; while the daemon runs, a taken address is no warning.

use super::files::place;
use super::report::CheckReport;
use crate::config::{
    Addressee, ConfigProblem, FilePosition, Listener, ListenerAuth, ListenerKind, Places, is_like,
};
use crate::engine::host::routing::Doubt;
use crate::engine::host::site::{Site, hostname_flaw};
use crate::engine::inbound::listener;
use crate::engine::outbound::tokens::TokenKeeper;
use crate::mail::address::{ForwardPath, Mailbox};
use crate::mail::fold::fold;
use crate::mail::next_hop::Scheme;
use crate::mail::unqualified::Unqualified;
use crate::program::remote::client::is_served;
use crate::rules::routing::route::{Destination, LocalUser, LocalUsers, NoRoute, Routed};
use crate::sys::user;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;

/// Shortest prefix of a trusted network, for IPv4 and IPv6: wider networks hold strangers.
const PREFIX_MIN: (u8, u8) = (8, 16);

/// Adds all doubts about `site` to `found`.
pub fn find(site: &Site, places: &Places, found: &mut CheckReport) {
    hostname(site, places, found);
    users(site, places, found);
    root(site, places, found);
    heartbeat(site, places, found);
    for admin in &site.settings.admin {
        stand_in(site, places, (places.of("", "admin"), admin), found);
    }
    if let Some(catch_all) = &site.settings.local.catch_all {
        stand_in(site, places, (places.of("local", "catch_all"), catch_all), found);
    }
    aliases(site, found);
    commands(site, places, found);
    tokens(site, places, found);
    login(site, places, found);
    ports(site, places, found);
    certificates(site, places, found);
    networks(site, places, found);
    submission(site, places, found);
    listeners(site, places, found);
}

/// A hostname that other hosts refuse in EHLO, and as the domain of a sender. Many boxes have a name without a dot, which does
/// no harm if all senders are rewritten.
fn hostname(site: &Site, places: &Places, found: &mut CheckReport) {
    let name = site.hostname.to_string();
    let Some(flaw) = hostname_flaw(&site.hostname) else { return };
    if name.contains('.') || site.rewrite.is_idle() {
        let text = format!(
            "the hostname {name:?} {flaw}: pillarbox greets by its address then, and some hosts refuse that; write a name \
             such as \"box.example.org\""
        );
        found.warn(places.of("", "hostname"), text);
    }
}

/// A misspelt `system` or `any`, which would be the name of the only user.
fn users(site: &Site, places: &Places, found: &mut CheckReport) {
    let LocalUsers::Named(names) = &site.settings.local.users else { return };
    let [name] = names.as_slice() else { return };
    let Some(word) = ["system", "any"].into_iter().find(|word| is_like(name, word)) else { return };
    if user::find(name).is_ok_and(|account| account.is_some()) {
        return;
    }
    let text = format!("{name:?} is the only user with a mailbox; did you mean \"{word}\"?");
    let place = places.of("local", "users");
    // A user may well be called Ann.
    if word == "any" { found.warn(place, text) } else { found.problem(place, text) }
}

/// Cron and other programs write to root, other hosts to postmaster.
fn root(site: &Site, places: &Places, found: &mut CheckReport) {
    let Ok(root) = Unqualified::parse("root") else { return };
    let path = root.forward_path(site.routes.home());
    let is_refused = |path| matches!(site.route(path), Err(NoRoute::UnknownUser));
    if site.settings.admin.is_empty() && is_refused(&path) {
        let whose = if is_refused(&ForwardPath::Postmaster) { "root and postmaster" } else { "root" };
        let text = format!("mail for {whose} has no recipient; write admin = \"me@example.com\"");
        found.warn(places.of("local", "users"), text);
    }
}

/// A mail to nobody in particular says nothing to anybody.
fn heartbeat(site: &Site, places: &Places, found: &mut CheckReport) {
    let is_read = site.route(&ForwardPath::Postmaster).is_ok_and(|it| it.destination == Destination::Alias);
    if site.settings.heartbeat.every.is_some() && site.settings.admin.is_empty() && !is_read {
        let text = "this mail goes to the postmaster of this host, whom no alias names; write admin = \"me@example.com\"";
        found.warn(places.of("heartbeat", "every"), text.to_owned());
    }
}

/// `admin` and `catch_all`: whether mail for them reaches a mailbox, and where.
fn stand_in(site: &Site, places: &Places, of: (Option<FilePosition>, &Addressee), found: &mut CheckReport) {
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
            if site.routes.in_homes && lacks_home(&user) =>
        {
            let home = user.account.map(|account| account.home).unwrap_or_default();
            let text = format!(
                "the user {:?} has no mailbox, as the home {} is missing, so this mail would wait; make it, or write an address \
                 such as \"me@example.com\"",
                user.name,
                home.display()
            );
            found.problem(place, text);
        }
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
        // A system user whose home is not for mail.
        Err(NoRoute::UnknownUser) if site.routes.in_homes && is_account(&mailbox) => {
            let text = format!(
                "the user {:?} has no mailbox, because homes of system users are not for mail, so this mail would be lost; \
                 write an address such as \"me@example.com\", or another user",
                mailbox.local_part.as_str()
            );
            found.problem(place, text);
        }
        Err(NoRoute::UnknownUser) => {
            let text = format!(
                "no local user is named {:?}, so this mail would be lost; write an address such as \"me@example.com\", or a user \
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

/// Whether the mailbox would be in a home that does not exist.
fn lacks_home(user: &LocalUser) -> bool {
    let home = user.account.as_ref().map(|account| &account.home);
    home.is_some_and(|home| std::fs::metadata(home).is_err_and(|error| error.kind() == ErrorKind::NotFound))
}

/// Whether the system has an account of this name.
fn is_account(mailbox: &Mailbox) -> bool {
    user::find(&fold(mailbox.local_part.as_str())).is_ok_and(|account| account.is_some())
}

/// The warning about an address in a local domain that no user here has.
fn leaves(site: &Site, mailbox: &Mailbox) -> String {
    let way = match site.settings.relay.smarthost.first() {
        Some(entry) => format!("by {}", entry.host),
        None => "by the MX hosts of its domain".to_owned(),
    };
    format!(
        "no local user has the address {mailbox}, although its domain is local: its mail leaves {way}; {}",
        cure(site)
    )
}

/// How to make a domain not local.
fn cure(site: &Site) -> String {
    let why = match &site.settings.hostname {
        Some(_) => "hostname",
        None => "hostname, which is taken from /etc/mailname or the system,",
    };
    format!(
        "set {why} to a name that this host alone has, or list in local.domains the domains whose mail stays here"
    )
}

/// Commands that are not there, by their paths. One that is may still fail: it is not run.
fn commands(site: &Site, places: &Places, found: &mut CheckReport) {
    let (alarm, password) = (&site.settings.alarm.command, &site.settings.relay.password_command);
    for (table, key, command) in [("alarm", "command", alarm), ("relay", "password_command", password)] {
        // The shell may read more than a path.
        let is_path = |word: &&str| {
            word.starts_with('/') && !word.contains([';', '|', '&', '<', '>', '$', '`', '\'', '"', '\\', '('])
        };
        let program = command.split_ascii_whitespace().next().filter(is_path);
        let Some(program) = program else { continue };
        if !std::fs::metadata(program).is_ok_and(|it| it.is_file() && it.mode() & 0o111 != 0) {
            let text = format!(
                "{program:?} is no program that can be run; write its path, and let it be executable"
            );
            found.warn(places.of(table, key), text);
        }
    }
}

/// Aliases that form a loop, lead to unknown users, or leave this host.
fn aliases(site: &Site, found: &mut CheckReport) {
    let Some(path) = site.settings.local.aliases.as_deref() else { return };
    for (name, line, doubt) in site.alias_doubts() {
        let place = Some(FilePosition { line, column: 1 });
        let problem = |text| ConfigProblem { file: path.display().to_string(), place, text };
        match doubt {
            Doubt::Loop(text) => found.problems.push(problem(format!("{text}; remove one of its names"))),
            Doubt::Unknown(mailbox) => {
                let text = format!("{name:?} leads to {mailbox}, which is no local user; correct the name");
                found.warnings.push(problem(text));
            }
            Doubt::Nobody => {
                let text = format!("{name:?} reaches no local user; correct its members");
                found.warnings.push(problem(text));
            }
            Doubt::Leaves(mailbox) => found.warnings.push(problem(leaves(site, &mailbox))),
        }
    }
}

/// Logins by token: `[oauth]` without one, and those for which nobody has logged in yet.
fn tokens(site: &Site, places: &Places, found: &mut CheckReport) {
    let (relay, oauth) = (&site.settings.relay, &site.settings.oauth);
    if !oauth.is_set() {
        return;
    }
    if relay.token_names().is_empty() {
        let text =
            "no login takes a token; write relay.username and relay.auth = \"xoauth2\", and no password";
        found.warn(places.of("oauth", "client_id"), text.to_owned());
    }
    let standing = TokenKeeper::default().standing(&site.settings);
    for token in standing.iter().filter(|token| token.state.needs_login()) {
        found.warn(places.of("oauth", "client_id"), token.text());
    }
}

/// The login at the smarthost, and the sender of mail that leaves.
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
    for host in relay.without_login() {
        let text = format!(
            "{host} gets no login: relay.username belongs to the first smarthost, and no host is shown the password of another; \
             write {{ url = \"{host}\", username = …, password_file = … }} in its place"
        );
        found.warn(places.of("relay", "smarthost"), text);
    }
    let says_sender = rewrite.from.is_some() || rewrite.domain.is_some() || !rewrite.senders.is_empty();
    if !says_sender && Mailbox::parse(&relay.username).is_err() {
        let text = format!(
            "this login is no address, so mail leaves as from root@{}, which most providers refuse; write \
             rewrite.from = \"alerts@example.com\", an address that the account may send from",
            site.hostname
        );
        found.warn(place, text);
    }
}

/// Ports on which TLS begins in another way than the URL says.
fn ports(site: &Site, places: &Places, found: &mut CheckReport) {
    for host in &site.settings.relay.smarthost {
        let (port, other) = match (host.host.scheme, host.host.port) {
            (Scheme::Smtps, port @ (25 | 587)) => (port, "smtp+starttls"),
            (Scheme::SmtpStartTls, port @ 465) => (port, "smtps"),
            _ => continue,
        };
        let text = format!(
            "TLS begins in another way on port {port} of nearly all hosts; write {other}://{}:{port}",
            host.host.host
        );
        found.warn(places.of("relay", "smarthost"), text);
    }
}

/// What a smarthost is shown or must show, and parts of it that are missing.
fn certificates(site: &Site, places: &Places, found: &mut CheckReport) {
    let relay = &site.settings.relay;
    let keys = [
        ("certificate", relay.certificate.is_some()),
        ("fingerprint", relay.fingerprint.is_some()),
        ("tls_name", relay.tls_name.is_some()),
    ];
    for (key, _) in keys.iter().filter(|(_, is_set)| *is_set && relay.smarthost.is_empty()) {
        let text = "this is for a smarthost, and relay.smarthost is empty; name one, or take this away";
        found.problem(places.of("relay", key), text.to_owned());
    }
    for login in relay.logins().iter().filter(|login| login.certificate.is_none()) {
        let lonely = [("key", login.key.is_some()), ("key_password_file", login.key_password_file.is_some())];
        if let Some((key, _)) = lonely.iter().find(|(_, is_set)| *is_set) {
            let text = "a key is of no use without its certificate; name it in relay.certificate, or take the key away";
            found.problem(place(places, "relay", key), text.to_owned());
        } else if login.auth == "external" {
            let text = "\"external\" needs a client certificate, and none is named; write relay.certificate";
            found.warn(place(places, "relay", "auth"), text.to_owned());
        }
    }
}

/// Trusted networks that are too wide. (The parser refuses a network of all addresses.)
fn networks(site: &Site, places: &Places, found: &mut CheckReport) {
    for network in &site.settings.relay.trusted_networks {
        let least = if network.address.is_ipv4() { PREFIX_MIN.0 } else { PREFIX_MIN.1 };
        if network.prefix < least {
            let text = format!("\"{network}\" lets strangers send by this host; write your own networks");
            found.warn(places.of("relay", "trusted_networks"), text);
        }
    }
}

/// A listener where clients have to log in, and no file of users. (A file that the configuration names must exist.)
fn submission(site: &Site, places: &Places, found: &mut CheckReport) {
    let Some(users) = site.settings.auth.users.as_ref().filter(|users| !users.exists()) else { return };
    let is_closed = |listener: &Listener| {
        listener.auth == ListenerAuth::Users
            && matches!(listener.kind, ListenerKind::Submission | ListenerKind::Submissions)
    };
    let place = site.settings.listeners.iter().position(is_closed).map(|i| places.nth("listener", "kind", i));
    if let Some(place) = place.filter(|_| places.of("auth", "users").is_none()) {
        let text = format!(
            "nobody can log in, as there is no {}; write lines of pillarbox passwd NAME into it",
            users.display()
        );
        found.warn(place, text);
    }
}

/// Whether one of two sockets is for all addresses of the family, and takes the port of the other.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port()
        && one.port() != 0
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Whether the listeners' sockets could be opened; addresses that the running daemon uses are taken.
fn listeners(site: &Site, places: &Places, found: &mut CheckReport) {
    let is_served = is_served(&site.settings.control);
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
