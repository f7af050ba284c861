//! Readers for the nouns of mail: domains, addresses, networks, smarthosts, routes, users. `kinds` explains readers and has
//! all others.
//!
//! Addresses that would surprise are refused, each with the reason: a listener without an address, a network that trusts the
//! world, a user whose name would leave its directory. Nothing here touches the disk or asks DNS.

use super::kinds::{Complaints, Read, TomlValue, complain, list, one, some, string, text};
use super::values::Addressee;
use crate::mail::address::{Domain, Mailbox, is_atext};
use crate::mail::fingerprint::Fingerprint;
use crate::mail::fold::fold;
use crate::mail::maildir_template::MaildirTemplate;
use crate::mail::network::Network;
use crate::mail::next_hop::{PORT_SMTP, Smarthost};
use crate::mail::status::{Class, EnhancedStatus};
use crate::mail::unqualified::Unqualified;
use crate::rules::accounts::oauth::url::HttpsUrl;
use crate::rules::pacing::cron::CronExpression;
use crate::rules::routing::next_hop::{Exception, ExceptionTarget};
use crate::rules::routing::route::LocalUsers;
use std::net::{IpAddr, SocketAddr};
use toml::de::DeValue;

/// Longest local user name in octets (`local.users`).
const USER_MAX_OCTETS: usize = 64;
/// Longest prefix of a Subject, in characters: a list of mail shows about as many.
const SUBJECT_PREFIX_MAX_CHARS: usize = 60;
/// Port of DNS (RFC 1035 §4.2).
const PORT_DNS: u16 = 53;

/// A domain name; no IP address.
pub fn host_name(value: &DeValue<'_>) -> Read<Domain> {
    let name = text(value, "a host name in quotes")?;
    match Domain::parse(name) {
        Ok(domain) if domain.name().is_some() && name.parse::<IpAddr>().is_err() => Ok(domain),
        _ => Err(format!("{name:?} is not a host name; write one such as \"box.example.org\"")),
    }
}

/// A domain name or an address literal.
pub fn domain(value: &DeValue<'_>) -> Read<Domain> {
    let name = text(value, "a domain in quotes")?;
    Domain::parse(name).map_err(|_| format!("{name:?} is not a domain; write one such as \"example.org\""))
}

/// A full mail address.
pub fn mailbox(value: &DeValue<'_>) -> Read<Mailbox> {
    let address = text(value, "a mail address in quotes")?;
    Mailbox::parse(address)
        .map_err(|e| format!("{address:?} is not a mail address ({e}); write one such as \"me@example.com\""))
}

/// A local user or a full mail address.
pub fn addressee(value: &DeValue<'_>) -> Read<Addressee> {
    if value.as_str().is_some_and(|text| text.contains('@')) {
        mailbox(value).map(Addressee::Mailbox)
    } else {
        user(value).map(Addressee::User)
    }
}

/// Local users or full mail addresses: one or several; empty text stands for nobody.
pub fn addressees(value: &TomlValue<'_>, complaints: &mut Complaints) -> Option<Vec<Addressee>> {
    match value.get_ref().as_str() {
        Some("") => Some(Vec::new()),
        _ => list(addressee)(value, complaints),
    }
}

/// An IP address without a port.
pub fn ip(value: &DeValue<'_>) -> Read<IpAddr> {
    let address = text(value, "an IP address in quotes")?;
    address.parse().map_err(|_| format!("{address:?} is not an IP address; write one such as \"192.0.2.1\""))
}

/// The address of a listener. A bare port is refused: the operator must say whether only this host may connect.
pub fn listen_address(value: &DeValue<'_>) -> Read<SocketAddr> {
    let address = text(value, "an address with its port, in quotes")?;
    if let Ok(address) = address.parse() {
        return Ok(address);
    }
    if let Ok(ip) = address.trim_matches(['[', ']']).parse::<IpAddr>() {
        // `::1:2525` is an IPv6 address that ends in what was meant as a port.
        let meant = address.rsplit_once(':').and_then(|(ip, port)| {
            Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok().filter(|port| *port >= PORT_SMTP)?))
        });
        let meant = meant.unwrap_or_else(|| SocketAddr::new(ip, PORT_SMTP));
        return Err(format!("{address:?} has no port; write \"{meant}\""));
    }
    let (host, port) = address.rsplit_once(':').unwrap_or(("", address));
    let port = port.parse::<u16>().unwrap_or(PORT_SMTP);
    Err(match host {
        "" | "*" => format!(
            "{address:?} does not say where to listen; write [\"127.0.0.1:{port}\", \"[::1]:{port}\"] for this \
             host alone, or [\"0.0.0.0:{port}\", \"[::]:{port}\"] for all its interfaces"
        ),
        "localhost" => format!("names are not allowed here; write [\"127.0.0.1:{port}\", \"[::1]:{port}\"]"),
        _ => format!("{address:?} is not an address with a port; write one such as \"127.0.0.1:{port}\""),
    })
}

/// A DNS server; the port may be left out.
pub fn name_server(value: &DeValue<'_>) -> Read<SocketAddr> {
    let address = text(value, "an address in quotes")?;
    let bare = address.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT_DNS));
    bare.or_else(|_| address.parse()).map_err(|_| {
        format!("{address:?} is not an address; write one such as \"192.0.2.53\" or \"127.0.0.1:5353\"")
    })
}

/// A trusted network; never all addresses, which would make this host an open relay.
pub fn network(value: &DeValue<'_>) -> Read<Network> {
    let network = Network::parse(text(value, "a network in quotes")?)?;
    if network.prefix == 0 {
        return Err(format!("\"{network}\" is everybody: an open relay; write your own networks"));
    }
    Ok(network)
}

/// The fingerprint of a certificate or public key.
pub fn fingerprint(value: &DeValue<'_>) -> Read<Fingerprint> {
    Fingerprint::parse(text(value, "a fingerprint in quotes")?)
}

/// A smarthost's URL.
pub fn smarthost(value: &DeValue<'_>) -> Read<Smarthost> {
    let url = text(value, "a URL in quotes, such as \"smtp://mail.example.com\"")?;
    Smarthost::parse(url)
}

/// A route: its pattern, and a URL, a list of them, or `error:STATUS TEXT`.
pub fn route(pattern: &str, value: &TomlValue<'_>, complaints: &mut Complaints) -> Option<Exception> {
    let bare = pattern.strip_prefix('.');
    if Domain::parse(bare.unwrap_or(pattern)).is_err() {
        let text = format!(
            "{pattern:?} is not a domain; write \"example.org\", or \".example.org\" for all below it"
        );
        complain(value, text, complaints);
    }
    let domain = Domain::parse(bare.unwrap_or(pattern)).ok()?;
    let target = match value.get_ref().as_str().and_then(|text| text.strip_prefix("error:")) {
        Some(error) => one(move |_| route_error(error))(value, complaints)?,
        None => ExceptionTarget::Hosts(some(smarthost)(value, complaints)?),
    };
    let dot = if bare.is_some() { "." } else { "" };
    Some(Exception { pattern: format!("{dot}{}", domain.key()), target })
}

fn route_error(error: &str) -> Read<ExceptionTarget> {
    let (status, text) = error.split_once(' ').unwrap_or((error, ""));
    let status = EnhancedStatus::parse(status).filter(|status| status.class == Class::Permanent);
    match (status, text.trim()) {
        (Some(status), text) if !text.is_empty() && !text.contains(char::is_control) => {
            Ok(ExceptionTarget::Error(status, text.to_owned()))
        }
        _ => Err("the error is malformed; write \"error:5.1.2 no mail there\"".into()),
    }
}

/// An address to send from, in ASCII: not every host accepts others (RFC 6531).
pub fn identity(value: &DeValue<'_>) -> Read<Mailbox> {
    mailbox(value)?
        .to_ascii()
        .ok_or_else(|| "not every host takes an address with UTF-8; write another".into())
}

/// A host name with A-labels.
pub fn ascii_host_name(value: &DeValue<'_>) -> Read<Domain> {
    let name = host_name(value)?.to_ascii().map(Domain::Name);
    name.ok_or_else(|| "the name has no form that DNS knows; write another".into())
}

/// A sender to rewrite, as an address or the name of a local user, and the address that replaces it.
pub fn sender(
    name: &str,
    value: &TomlValue<'_>,
    complaints: &mut Complaints,
) -> Option<(Unqualified, Mailbox)> {
    let read = |_: &DeValue<'_>| {
        Unqualified::parse(name).map_err(|_| {
            format!("{name:?} is no sender; write a user's name or an address such as \"nas@nas.lan\"")
        })
    };
    one(read)(value, complaints).zip(one(identity)(value, complaints))
}

/// An `https://` URL.
pub fn https_url(value: &DeValue<'_>) -> Read<HttpsUrl> {
    let url = text(value, "a URL in quotes")?;
    HttpsUrl::parse(url)
        .map_err(|what| format!("{what}; write one such as \"https://login.example.com/token\""))
}

/// The URL of a dead man's switch.
pub fn heartbeat_url(value: &DeValue<'_>) -> Read<HttpsUrl> {
    let url = text(value, "a URL in quotes")?;
    HttpsUrl::parse(url).map_err(|what| {
        format!("{what}; write the one that the service shows, such as \"https://hc-ping.com/ID\"")
    })
}

/// The tenant in a URL of Microsoft's.
pub fn tenant(value: &DeValue<'_>) -> Read<String> {
    let tenant = text(value, "a tenant in quotes")?;
    let is_good =
        !tenant.is_empty() && tenant.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    is_good
        .then(|| tenant.to_owned())
        .ok_or_else(|| format!("{tenant:?} is no tenant; write its id, its domain, or \"organizations\""))
}

/// What stands in front of each Subject. An encoded word would not be read as one behind other text.
pub fn subject_prefix(value: &DeValue<'_>) -> Read<String> {
    let prefix = text(value, "text in quotes, such as \"[{host}] \"")?;
    if prefix.chars().count() > SUBJECT_PREFIX_MAX_CHARS || prefix.contains("=?") {
        return Err(format!(
            "{prefix:?} can't stand before a Subject; write at most {SUBJECT_PREFIX_MAX_CHARS} characters, as they are to be read"
        ));
    }
    Ok(prefix.to_owned())
}

/// The template of mailbox paths.
pub fn maildir(value: &DeValue<'_>) -> Read<MaildirTemplate> {
    MaildirTemplate::parse(text(value, "a path in quotes, such as \"/var/mail/{user}\"")?)
}

/// `"system"`, `"any"` or names.
pub fn users(value: &TomlValue<'_>, complaints: &mut Complaints) -> Option<LocalUsers> {
    match value.get_ref().as_str() {
        Some("system") => Some(LocalUsers::System),
        Some("any") => Some(LocalUsers::Any),
        _ => list(user)(value, complaints).map(LocalUsers::Named),
    }
}

/// The name of a local user, folded, since names compare without case. It becomes a component of a path.
fn user(value: &DeValue<'_>) -> Read<String> {
    let name = fold(text(value, "the name of a user in quotes")?);
    // The characters that need no quotes in an address and are safe in a path component; a leading dot would hide it.
    let good = |c: char| c == '.' || c != '/' && is_atext(c) && !c.is_control() && !c.is_whitespace();
    if matches!(name.as_str(), "system" | "any") {
        return Err(format!("{name:?} can't stand in a list; write users = {name:?}"));
    }
    if name.is_empty() || name.starts_with('.') || name.len() > USER_MAX_OCTETS || !name.chars().all(good) {
        return Err(format!(
            "{name:?} can't be a local user; write at most {USER_MAX_OCTETS} octets of letters, digits and .!#$%&'*+-=?^_`{{|}}~, no dot first"
        ));
    }
    Ok(name)
}

/// The name of a system account.
pub fn account(value: &DeValue<'_>) -> Read<String> {
    let name = string(value)?;
    if name.is_empty() || name.contains([':', '/', ' ']) {
        return Err(format!("{name:?} is not the name of a user; write one such as \"pillarbox\""));
    }
    Ok(name)
}

/// The character between user and detail.
pub fn separator(value: &DeValue<'_>) -> Read<char> {
    let expected = "one of + - _ = . in quotes";
    let text = text(value, expected)?;
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) if "+-_=.".contains(c) => Ok(c),
        _ => Err(format!("{text:?} can't separate user and detail; write {expected}")),
    }
}

/// A cron expression.
pub fn schedule(value: &DeValue<'_>) -> Read<CronExpression> {
    CronExpression::parse(text(value, "a cron expression in quotes")?)
}
