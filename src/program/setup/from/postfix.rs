//! Postfix: `main.cf` with lines KEY = VALUE, which go on where a line begins with a blank, and `$name` for other values.
//!
//! | Postfix | pillarbox |
//! | --- | --- |
//! | `relayhost`, `smtp_tls_security_level`, `smtp_tls_wrappermode` | `relay.smarthost`; no host: delivery by MX |
//! | `smtp_sasl_password_maps` | the login and its password, from the text beside the database |
//! | `mynetworks`, `inet_interfaces` | `relay.trusted_networks`, `[[listener]]` if other hosts can connect |
//! | `mydestination`, `relay_domains`, `myhostname` | `local.domains`, `relay.domains`, `hostname` |
//! | `myorigin` | `rewrite.domain`, if it is another name |
//! | `home_mailbox`, `recipient_delimiter`, `message_size_limit` | `local.maildir`, `local.separator`, `limits.message_size` |
//! | `alias_maps` | `local.aliases`; its root is `admin` |

use super::{Source, Taken, TakenPassword, Way, host_and_port, is_system_bundle, lines};
use crate::mail::address::Domain;
use crate::mail::network::Network;
use crate::smtp::sasl::Secret;
use std::path::Path;

/// Keys that say nothing here: of the program itself, or about what pillarbox does in any case.
const ALWAYS: &str = "append_dot_mydomain biff command_directory compatibility_level daemon_directory data_directory \
    debug_peer_level debugger_command html_directory mail_owner mailq_path manpage_directory meta_directory newaliases_path \
    queue_directory readme_directory sample_directory sendmail_path setgid_group shlib_directory smtpd_banner \
    smtp_tls_session_cache_database smtpd_tls_session_cache_database smtp_tls_CApath smtpd_tls_CApath smtp_sasl_auth_enable \
    smtp_sasl_security_options smtp_sasl_tls_security_options smtp_tls_note_starttls_offer smtp_tls_loglevel smtp_use_tls \
    smtp_enforce_tls smtp_tls_security_level smtp_tls_wrappermode smtp_tls_mandatory_protocols smtp_tls_protocols \
    smtpd_relay_restrictions smtp_sasl_password_maps relayhost mydomain alias_database smtpd_use_tls smtp_tls_mandatory_ciphers \
    unknown_local_recipient_reject_code mynetworks_style sasl_passwd inet_interfaces smtp_host_lookup";
/// The most steps of `$name` in a value.
const EXPANSIONS: usize = 8;

/// The entries of `main.cf`.
struct Main<'a> {
    entries: Vec<(usize, &'a str, String)>,
    hostname: &'a str,
    directory: &'a str,
}

/// Takes the files over.
pub fn take(source: &Source<'_>, taken: &mut Taken) {
    let main = Main::read(source);
    let relayhost = main.get("relayhost");
    if relayhost.is_empty() {
        taken.by_mx();
    } else {
        smarthost(source, &main, &relayhost, taken);
    }
    let done = |key: &str| ALWAYS.split_ascii_whitespace().any(|it| it == key);
    for (line, key, raw) in &main.entries {
        let value = main.expand(raw);
        // Of two lines, the last one counts.
        let is_last =
            main.entries.iter().rfind(|(_, it, _)| it == key).is_some_and(|(last, ..)| last == line);
        if !is_last || value.is_empty() || done(key) {
            continue;
        }
        if let Some(why) = take_key(source, &main, (*line, key, &value), taken) {
            taken.leave_key(source.path, *line, key, why);
        }
    }
}

/// Takes a key over, or says why not.
fn take_key(
    source: &Source<'_>,
    main: &Main<'_>,
    (line, key, value): (usize, &str, &str),
    taken: &mut Taken,
) -> Option<&'static str> {
    let is_domain = |name: &str| Domain::parse(name).is_ok_and(|domain| domain.name().is_some());
    match key {
        "myhostname" if value.contains('.') && is_domain(value) => taken.text("hostname", value),
        "myhostname" => return Some("it is no full name; hostname sets one"),
        "myorigin" if value.starts_with('/') || value == main.get("myhostname") => {}
        "myorigin" if value.contains('.') && is_domain(value) => taken.text("rewrite.domain", value),
        "mydestination" => domains(source, (line, key, value), "local.domains", taken),
        "relay_domains" => {
            // Postfix names here its own domains again.
            let own = main.get("mydestination");
            if value != own {
                domains(source, (line, key, value), "relay.domains", taken);
            }
        }
        "mynetworks" => networks(source, main, (line, value), taken),
        "home_mailbox" if value.ends_with('/') => {
            taken.text("local.maildir", &format!("{{home}}/{}", value.trim_end_matches('/')));
        }
        "recipient_delimiter" if value.len() == 1 && "+-_=.".contains(value) => {
            taken.text("local.separator", value)
        }
        "message_size_limit" if value.parse::<u64>().is_ok_and(|octets| octets >= 1024) => {
            taken.lines.push(("limits.message_size", value.to_owned()));
        }
        "message_size_limit" | "mailbox_size_limit" if value == "0" => {}
        "mailbox_size_limit" => return Some("local.quota bounds a Maildir"),
        "inet_protocols" if value == "all" => {}
        "inet_protocols" if matches!(value, "ipv4" | "ipv6") => taken.text("relay.family", value),
        "alias_maps" => match list(value).find_map(|map| map_file(map)) {
            Some(path) => taken.aliases = Some(path.into()),
            None => return Some(""),
        },
        "smtp_tls_CAfile" if is_system_bundle(value) => {}
        "smtp_tls_CAfile" if value.starts_with('/') => taken.text("relay.ca_file", value),
        "smtp_tls_cert_file" if value.starts_with('/') => taken.text("relay.certificate", value),
        "smtp_tls_key_file" if value.starts_with('/') => taken.text("relay.key", value),
        "smtpd_tls_cert_file" | "smtpd_tls_key_file" if value.contains("snakeoil") => {}
        "smtpd_tls_cert_file" | "smtpd_tls_key_file" => {
            return Some("tls.certificate and tls.key, for the user pillarbox to read");
        }
        "smtpd_tls_security_level" if value == "may" => {}
        "smtp_generic_maps" | "sender_canonical_maps" | "canonical_maps" => {
            return Some("rewrite.senders and rewrite.domain change senders");
        }
        "transport_maps" => return Some("relay.routes has routes for single domains"),
        "virtual_alias_maps" | "virtual_alias_domains" => {
            return Some("local.aliases has aliases of this host");
        }
        _ => return Some(""),
    }
    None
}

/// The smarthost and its login.
fn smarthost(source: &Source<'_>, main: &Main<'_>, relayhost: &str, taken: &mut Taken) {
    let (host, port) = host_and_port(relayhost);
    if main.get("smtp_sasl_auth_enable") == "yes" {
        login(source, main, relayhost, host, taken);
    }
    let level = main.get("smtp_tls_security_level");
    let is_required = matches!(level.as_str(), "encrypt" | "verify" | "secure" | "fingerprint" | "dane-only")
        || main.get("smtp_enforce_tls") == "yes";
    let way = match () {
        () if main.get("smtp_tls_wrappermode") == "yes" => Way::Tls,
        () if is_required => Way::StartTls,
        () if !taken.login.is_empty() && (level == "may" || main.get("smtp_use_tls") == "yes") => {
            Way::StartTls
        }
        () => Way::Clear,
    };
    taken.host(way, host, port.or(Some(25)));
    let place = main.entries.iter().rfind(|(_, key, _)| *key == "relayhost").map_or(0, |(line, ..)| *line);
    if !host.starts_with('[') && host.parse::<std::net::IpAddr>().is_err() {
        let text = format!("relayhost without [ ]; {host} itself gets the mail, not its MX hosts");
        taken.leave(source.path, place, &text);
    }
}

/// The line of the host in the text of `smtp_sasl_password_maps`: HOST USER:PASSWORD.
fn login(source: &Source<'_>, main: &Main<'_>, relayhost: &str, host: &str, taken: &mut Taken) {
    let maps = main.get("smtp_sasl_password_maps");
    let place = main
        .entries
        .iter()
        .rfind(|(_, key, _)| *key == "smtp_sasl_password_maps")
        .map_or(0, |(line, ..)| *line);
    if let Some(pair) = maps.strip_prefix("static:") {
        return credentials(pair, taken);
    }
    for map in list(&maps) {
        let path = map_file(map).map(Path::new);
        let Some((path, text)) = path.and_then(|path| Some((path, (source.files)(path)?))) else {
            taken.leave(source.path, place, &format!("smtp_sasl_password_maps {map}; its text is not there"));
            continue;
        };
        for (line, text) in lines(&text) {
            let (key, pair) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            // Postfix looks for the whole text first, then without the port.
            if key.eq_ignore_ascii_case(relayhost) || key.eq_ignore_ascii_case(host) {
                if taken.login.is_empty() {
                    credentials(pair.trim(), taken);
                }
            } else {
                taken.leave(path, line, &format!("the login at {key}"));
            }
        }
    }
}

fn credentials(pair: &str, taken: &mut Taken) {
    if let Some((login, password)) = pair.split_once(':') {
        login.clone_into(&mut taken.login);
        taken.password = TakenPassword::Text(Secret::new(password.as_bytes().to_vec()));
    }
}

/// A list of domains.
fn domains(
    source: &Source<'_>,
    (line, key, value): (usize, &str, &str),
    ours: &'static str,
    taken: &mut Taken,
) {
    let mut good = Vec::<&str>::new();
    for item in list(value) {
        match item.trim_end_matches('.') {
            name if name.contains([':', '/', '$', '!']) || Domain::parse(name).is_err() => {
                taken.leave(source.path, line, &format!("{key} {item}; no domain"));
            }
            name if good.contains(&name) => {}
            name => good.push(name),
        }
    }
    if !good.is_empty() {
        taken.list(ours, &good);
    }
}

/// Networks that may relay, and the sockets for them.
fn networks(source: &Source<'_>, main: &Main<'_>, (line, value): (usize, &str), taken: &mut Taken) {
    let mut good = Vec::new();
    for item in list(value) {
        let bare = item.replace(['[', ']'], "");
        match Network::parse(&bare) {
            Ok(network) if network.prefix > 0 => good.push(bare),
            // Loopback of IPv4, as IPv6 sockets see it.
            _ if bare.starts_with("::ffff:127.") => {}
            _ => taken.leave(source.path, line, &format!("mynetworks {item}; not a network here")),
        }
    }
    let is_loopback = |network: &String| Network::parse(network).is_ok_and(|it| it.address.is_loopback());
    if good.iter().all(is_loopback) {
        return;
    }
    taken.list("relay.trusted_networks", &good);
    let sockets = match main.get("inet_interfaces").as_str() {
        "loopback-only" | "localhost" | "127.0.0.1" => return,
        "" | "all" if main.get("inet_protocols") == "ipv4" => vec!["\"0.0.0.0:25\"".to_owned()],
        "" | "all" => vec!["\"0.0.0.0:25\"".to_owned(), "\"[::]:25\"".to_owned()],
        some => list(some)
            .filter_map(|item| match item {
                "localhost" => Some("\"127.0.0.1:25\"".to_owned()),
                ip => ip.parse().ok().map(|ip| format!("\"{}\"", std::net::SocketAddr::new(ip, 25))),
            })
            .collect(),
    };
    if !sockets.is_empty() {
        taken.lines.push(("listener", format!("[{{ address = [{}] }}]", sockets.join(", "))));
    }
}

/// The text of a map: what `hash:/etc/aliases` is made from.
fn map_file(map: &str) -> Option<&str> {
    let (kind, path) = map.split_once(':')?;
    (["hash", "btree", "lmdb", "texthash", "dbm", "cdb", "sdbm"].contains(&kind) && path.starts_with('/'))
        .then_some(path)
}

fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split([',', ' ', '\t']).map(str::trim).filter(|item| !item.is_empty())
}

impl<'a> Main<'a> {
    fn read(source: &Source<'a>) -> Self {
        let mut entries = Vec::<(usize, &str, String)>::new();
        for (i, text) in source.text.lines().enumerate() {
            if text.trim().is_empty() || text.trim_start().starts_with('#') {
                continue;
            }
            if text.starts_with([' ', '\t']) {
                if let Some((.., value)) = entries.last_mut() {
                    value.push(' ');
                    value.push_str(text.trim());
                }
            } else if let Some((key, value)) = text.split_once('=') {
                entries.push((i + 1, key.trim(), value.trim().to_owned()));
            }
        }
        let directory = source.path.parent().and_then(Path::to_str).unwrap_or_default();
        Self { entries, hostname: source.hostname, directory }
    }

    /// The value of a key, without `$name`.
    fn get(&self, key: &str) -> String {
        let raw = self.entries.iter().rfind(|(_, it, _)| *it == key).map(|(.., value)| value.as_str());
        raw.map(|raw| self.expand(raw)).unwrap_or_default()
    }

    /// Replaces `$name`, `${name}` and `$(name)`.
    fn expand(&self, value: &str) -> String {
        let mut text = value.to_owned();
        for _ in 0..EXPANSIONS {
            let Some((before, rest)) = text.split_once('$') else { break };
            let inner = rest.strip_prefix(['{', '(']).unwrap_or(rest);
            let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
            let (name, after) = inner.split_at_checked(end).unwrap_or((inner, ""));
            let after = if inner.len() < rest.len() {
                after.strip_prefix(['}', ')']).unwrap_or(after)
            } else {
                after
            };
            let known = self.entries.iter().rfind(|(_, it, _)| *it == name).map(|(.., value)| value.as_str());
            let is_itself = known.is_some_and(|known| known.contains(&format!("${name}")));
            let new = match (known.filter(|_| !is_itself), name) {
                (Some(known), _) => known.to_owned(),
                (None, "config_directory") => self.directory.to_owned(),
                (None, "myhostname") => self.hostname.to_owned(),
                (None, "mydomain") => {
                    // A name that is made of $mydomain says nothing about it.
                    let own = self
                        .entries
                        .iter()
                        .rfind(|(_, key, value)| *key == "myhostname" && !value.contains('$'));
                    let host = own.map_or(self.hostname, |(.., value)| value.as_str());
                    host.split_once('.').map_or(host, |(_, rest)| rest).to_owned()
                }
                (None, _) => String::new(),
            };
            text = format!("{before}{new}{after}");
        }
        text.trim().to_owned()
    }
}
