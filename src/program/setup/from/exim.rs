//! Exim, as Debian configures it: `update-exim4.conf.conf`, a file of shell variables, and `passwd.client` with the passwords.
//!
//! | Exim | pillarbox |
//! | --- | --- |
//! | `dc_eximconfig_configtype`, `dc_smarthost` | `relay.smarthost`, or delivery by MX |
//! | HOST`:`LOGIN`:`PASSWORD in `passwd.client` | the login and its password |
//! | `dc_other_hostnames`, `dc_relay_domains`, `dc_relay_nets` | `local.domains`, `relay.domains`, `relay.trusted_networks` |
//! | `dc_local_interfaces` | `[[listener]]`, if other hosts can connect |
//! | `dc_readhost` with `dc_hide_mailname` | `rewrite.domain` |
//! | `/etc/email-addresses` | `rewrite.senders` |

use super::{Source, Taken, TakenPassword, Way, lines, port_of, unquoted};
use crate::mail::network::Network;
use crate::smtp::sasl::Secret;
use std::net::IpAddr;
use std::path::Path;

/// The senders of single users.
const ADDRESSES: &str = "/etc/email-addresses";
/// Variables about what pillarbox does in any case.
const ALWAYS: [&str; 7] = [
    "CFILEMODE",
    "dc_use_split_config",
    "dc_mailname_in_oh",
    "dc_minimaldns",
    "ue4c_keepcomments",
    "dc_eximconfig_configtype",
    "dc_hide_mailname",
];

/// Takes the files over.
pub fn take(source: &Source<'_>, taken: &mut Taken) {
    let entries: Vec<(usize, &str, &str)> = lines(source.text)
        .filter_map(|(line, text)| {
            text.split_once('=').map(|(key, value)| (line, key.trim(), unquoted(value)))
        })
        .collect();
    let get = |key: &str| entries.iter().rfind(|(_, it, _)| *it == key).map_or("", |(.., value)| *value);
    let kind = get("dc_eximconfig_configtype");
    match kind {
        "internet" => taken.by_mx(),
        "smarthost" | "satellite" => smarthost(source, get("dc_smarthost"), taken),
        _ => {}
    }
    let is_hidden = get("dc_hide_mailname") == "true" && matches!(kind, "smarthost" | "satellite");
    for (line, key, value) in &entries {
        if let Some(why) = take_key(source, (*line, key, value), is_hidden, taken) {
            taken.leave_key(source.path, *line, key, why);
        }
    }
    if get("dc_local_interfaces").is_empty() && !get("dc_relay_nets").is_empty() {
        taken.lines.push(("listener", "[{ address = [\"0.0.0.0:25\", \"[::]:25\"] }]".into()));
    }
    senders(source, taken);
}

/// Takes a variable over, or says why not. `is_hidden`: senders get the domain of `dc_readhost`.
fn take_key(
    source: &Source<'_>,
    (line, key, value): (usize, &str, &str),
    is_hidden: bool,
    taken: &mut Taken,
) -> Option<&'static str> {
    match key {
        _ if value.is_empty() => {}
        "dc_eximconfig_configtype" if matches!(value, "local" | "none") => {
            return Some("no mail left this host; pillarbox sends to other hosts");
        }
        key if ALWAYS.contains(&key) => {}
        "dc_smarthost" => {
            for further in list(value).into_iter().skip(1) {
                let text = format!("dc_smarthost {further}; relay.smarthost can have several");
                taken.leave(source.path, line, &text);
            }
        }
        "dc_other_hostnames" => {
            let mut domains = vec!["localhost", source.hostname];
            domains.extend(list(value).into_iter().filter(|it| *it != source.hostname && *it != "localhost"));
            taken.list("local.domains", &domains);
        }
        "dc_relay_domains" => taken.list("relay.domains", &list(value)),
        "dc_relay_nets" => networks(source, line, value, taken),
        "dc_local_interfaces" => interfaces(source, line, value, taken),
        "dc_readhost" if is_hidden => taken.text("rewrite.domain", value),
        "dc_localdelivery" if value == "mail_spool" => {}
        "dc_localdelivery" if value == "maildir_home" => taken.text("local.maildir", "{home}/Maildir"),
        "dc_localdelivery" => return Some("local.maildir says where mail is delivered"),
        _ => return Some(""),
    }
    None
}

/// HOST, HOST::PORT or HOST:PORT, and its login.
fn smarthost(source: &Source<'_>, value: &str, taken: &mut Taken) {
    let list = list(value);
    let Some(first) = list.first() else { return };
    let (host, port) = match first.split_once("::").or_else(|| first.rsplit_once(':')) {
        Some((host, port)) => (host, port_of(port)),
        None => (*first, None),
    };
    login(source, host, taken);
    let way = match port {
        Some(465) => Way::Tls,
        _ if taken.login.is_empty() => Way::Clear,
        _ => Way::StartTls,
    };
    taken.host(way, host, port.or(Some(25)));
}

/// The line of `passwd.client` for the host: its name, or a pattern with `*` in front. Exim looks for the name that DNS gives for
/// the host's address, which may be another one; so a login that is the only one of the file counts as well.
fn login(source: &Source<'_>, host: &str, taken: &mut Taken) {
    let (path, text) = source.sibling("passwd.client");
    let text = text.unwrap_or_default();
    let mut rows = Vec::new();
    for (line, text) in lines(&text) {
        let mut parts = text.splitn(3, ':').map(str::trim);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(pattern), Some(login), Some(password)) => rows.push((line, pattern, login, password)),
            _ => taken.leave(&path, line, "a line that is not HOST:LOGIN:PASSWORD"),
        }
    }
    let is_meant = |pattern: &str| match pattern.strip_prefix('*') {
        Some(end) => host.to_ascii_lowercase().ends_with(&end.to_ascii_lowercase()),
        None => pattern.eq_ignore_ascii_case(host),
    };
    let only = rows.first().filter(|first| rows.iter().all(|row| (row.2, row.3) == (first.2, first.3)));
    let Some(&(_, _, login, password)) = rows.iter().find(|row| is_meant(row.1)).or(only) else { return };
    login.clone_into(&mut taken.login);
    taken.password = TakenPassword::Text(Secret::new(password.as_bytes().to_vec()));
    for (line, pattern, other, _) in &rows {
        if *other != login {
            taken.leave(&path, *line, &format!("the login at {pattern}"));
        }
    }
}

/// Networks that may relay.
fn networks(source: &Source<'_>, line: usize, value: &str, taken: &mut Taken) {
    let (good, bad): (Vec<&str>, Vec<&str>) =
        list(value).into_iter().partition(|it| Network::parse(it).is_ok_and(|network| network.prefix > 0));
    for bad in bad {
        taken.leave(source.path, line, &format!("dc_relay_nets {bad}; not a network here"));
    }
    if !good.is_empty() {
        taken.list("relay.trusted_networks", &[&["127.0.0.0/8", "::1"], good.as_slice()].concat());
    }
}

/// Interfaces to listen on, if one of them is no loopback.
fn interfaces(source: &Source<'_>, line: usize, value: &str, taken: &mut Taken) {
    let mut addresses = Vec::new();
    for item in list(value) {
        match item.parse::<IpAddr>() {
            Ok(ip) => addresses.push(ip),
            Err(_) => taken.leave(
                source.path,
                line,
                &format!("dc_local_interfaces {item}; [[listener]] has addresses"),
            ),
        }
    }
    if addresses.iter().any(|ip| !ip.is_loopback()) {
        let sockets: Vec<String> =
            addresses.iter().map(|ip| format!("\"{}\"", std::net::SocketAddr::new(*ip, 25))).collect();
        taken.lines.push(("listener", format!("[{{ address = [{}] }}]", sockets.join(", "))));
    }
}

/// `/etc/email-addresses`: USER: ADDRESS.
fn senders(source: &Source<'_>, taken: &mut Taken) {
    let path = Path::new(ADDRESSES);
    let Some(text) = (source.files)(path) else { return };
    let mut rows = Vec::new();
    for (line, text) in lines(&text) {
        match text.split_once(':').map(|(user, address)| (user.trim(), address.trim())) {
            Some((user, address)) if !user.is_empty() && address.contains('@') && !address.contains(',') => {
                rows.push((user.to_owned(), address.to_owned()));
            }
            _ => taken.leave(path, line, "a line that is not USER: ADDRESS"),
        }
    }
    taken.table("rewrite.senders", &rows);
}

/// The items of a list: separated by semicolons, or by colons if it has no semicolon.
fn list(value: &str) -> Vec<&str> {
    let value = value.trim().strip_prefix("<;").unwrap_or(value);
    let is_old = !value.contains(';') && !value.contains("::") && value.matches(':').count() > 1;
    let separator = if is_old { ':' } else { ';' };
    value.split(separator).map(str::trim).filter(|item| !item.is_empty()).collect()
}
