//! msmtp: `/etc/msmtprc` or `~/.msmtprc`, with accounts that inherit from each other. The account `default` counts, else the first.
//!
//! | msmtp | pillarbox |
//! | --- | --- |
//! | `host`, `port`, `tls`, `tls_starttls`, `protocol` | `relay.smarthost` |
//! | `auth`, `user`, `password`, `passwordeval` | the login and its password, `relay.auth` |
//! | `from`, `maildomain` | `rewrite.from`, or `rewrite.domain` for a pattern such as `%U@example.com` |
//! | `tls_fingerprint`, `tls_trust_file`, `tls_cert_file`, `tls_key_file`, `tls_host_override` | keys of `[relay]` |
//! | `source_ip`, `aliases` | `relay.source`, `local.aliases` |

use super::{Source, Taken, TakenPassword, Way, is_system_bundle, lines, unquoted};
use crate::mail::fingerprint::Fingerprint;
use crate::smtp::sasl::Secret;
use std::net::IpAddr;

/// Keys about what pillarbox does in any case.
const ALWAYS: [&str; 10] = [
    "set_from_header",
    "set_date_header",
    "set_msgid_header",
    "add_missing_from_header",
    "add_missing_date_header",
    "allow_from_override",
    "auto_from",
    "remove_bcc_headers",
    "undisclosed_recipients",
    "logfile_time_format",
];
/// Mechanisms that `relay.auth` knows by the same words.
const MECHANISMS: [&str; 7] =
    ["plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer", "external"];
/// What a shell would read otherwise than as words: pillarbox runs no shell.
const OF_SHELLS: &str = "|&;<>()$`\\\"'*?[]~{}";

#[derive(Clone)]
struct Setting {
    line: usize,
    key: String,
    value: String,
}

struct Account {
    name: String,
    line: usize,
    parents: Vec<String>,
    settings: Vec<Setting>,
}

/// Takes the default account over.
pub fn take(source: &Source<'_>, taken: &mut Taken) {
    let accounts = accounts(source.text);
    let chosen = accounts.iter().rfind(|account| account.name == "default");
    let Some(chosen) = chosen.or_else(|| accounts.get(1)).or_else(|| accounts.first()) else { return };
    for other in accounts.iter().skip(1) {
        if other.name != chosen.name && !chosen.parents.contains(&other.name) {
            taken.leave(
                source.path,
                other.line,
                &format!("account {}; relay.senders can have its smarthost", other.name),
            );
        }
    }
    let get = |key: &str| chosen.settings.iter().rfind(|setting| setting.key == key);
    let value = |key: &str| get(key).map_or("", |setting| setting.value.as_str());
    let is_on = |key: &str, usual: bool| match value(key) {
        "on" => true,
        "off" => false,
        _ => get(key).is_some() || usual,
    };
    if !matches!(value("auth"), "" | "off") {
        value("user").clone_into(&mut taken.login);
    }
    let way = match (is_on("tls", false), is_on("tls_starttls", true)) {
        (false, _) => Way::Clear,
        (true, true) => Way::StartTls,
        (true, false) => Way::Tls,
    };
    let port = value("port").parse().ok();
    if value("protocol") == "lmtp" {
        let port = port.map_or(String::new(), |port: u16| format!(":{port}"));
        taken.smarthost = format!("lmtp://{}{port}", value("host"));
    } else if !value("host").is_empty() {
        taken.host(way, value("host"), port);
    }
    if let Some(directory) = get("aliases") {
        taken.aliases = Some(directory.value.clone().into());
    }
    let mut done: Vec<&str> = Vec::new();
    for setting in chosen.settings.iter().rev() {
        if !done.contains(&setting.key.as_str()) {
            done.push(&setting.key);
            take_setting(source, setting, taken);
        }
    }
}

/// Takes one key over, except those of the smarthost.
fn take_setting(source: &Source<'_>, setting: &Setting, taken: &mut Taken) {
    let Setting { line, key, value } = setting;
    let (key, value) = (key.as_str(), value.as_str());
    let why = match key {
        "host" | "port" | "tls" | "tls_starttls" | "protocol" | "user" | "aliases" => return,
        key if ALWAYS.contains(&key) => return,
        "auth" if matches!(value, "" | "on" | "off") => return,
        "auth" if MECHANISMS.contains(&value) => return taken.text("relay.auth", value),
        "auth" => "this mechanism is unknown here; pillarbox takes the best that it knows",
        "password" => {
            // A command comes before it nowhere: msmtp refuses both.
            return taken.password = TakenPassword::Text(Secret::new(value.as_bytes().to_vec()));
        }
        "passwordeval" if value.contains(|c| OF_SHELLS.contains(c)) => {
            "it needs a shell; write a script, and its path into relay.password_command"
        }
        "passwordeval" => return taken.password = TakenPassword::Command(value.to_owned()),
        "from" | "maildomain" => match value.rsplit_once('@').unwrap_or(("%U", value)) {
            ("%U", domain)
                if !domain.contains('%') && taken.lines.iter().all(|(key, _)| *key != "rewrite.domain") =>
            {
                return taken.text("rewrite.domain", domain);
            }
            (local_part, domain) if !local_part.contains('%') && !domain.contains('%') => {
                return value.clone_into(&mut taken.sender);
            }
            _ => "this pattern is unknown here; rewrite.from and rewrite.domain say who mail is from",
        },
        "tls_fingerprint" if Fingerprint::parse(value).is_ok() => {
            return taken.text("relay.fingerprint", value);
        }
        "tls_fingerprint" if value.is_empty() => return,
        "tls_fingerprint" => "only a SHA-256 fingerprint can't be forged",
        "tls_trust_file" if value.is_empty() || is_system_bundle(value) => return,
        "tls_trust_file" if value.starts_with('/') => return taken.text("relay.ca_file", value),
        "tls_cert_file" if value.starts_with('/') => return taken.text("relay.certificate", value),
        "tls_key_file" if value.starts_with('/') => return taken.text("relay.key", value),
        "tls_host_override" => return taken.text("relay.tls_name", value),
        "tls_certcheck" if value != "off" => return,
        "tls_certcheck" => "certificates are always verified; relay.fingerprint accepts a single one",
        "source_ip" if value.parse::<IpAddr>().is_ok() => return taken.list("relay.source", &[value]),
        _ => "",
    };
    taken.leave_key(source.path, *line, key, why);
}

/// The accounts; the first one holds the defaults.
fn accounts(text: &str) -> Vec<Account> {
    let new =
        |name: &str, line| Account { name: name.into(), line, parents: Vec::new(), settings: Vec::new() };
    let (mut accounts, mut current) = (vec![new("", 0)], 0);
    for (line, text) in lines(text) {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let value = unquoted(value);
        match key {
            "defaults" => current = 0,
            "account" => {
                let (name, parents) = value.split_once(':').unwrap_or((value, ""));
                let mut account = new(name.trim(), line);
                account.parents =
                    parents.split(',').map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()).collect();
                let of = |account: &&Account| account.name.is_empty() && parents.trim().is_empty();
                let inherited = accounts.iter().filter(|it| of(it) || account.parents.contains(&it.name));
                account.settings = inherited.flat_map(|it| it.settings.iter().cloned()).collect();
                let further: Vec<String> = accounts
                    .iter()
                    .filter(|it| account.parents.contains(&it.name))
                    .flat_map(|it| it.parents.clone())
                    .collect();
                account.parents.extend(further);
                accounts.push(account);
                current = accounts.len() - 1;
            }
            key => {
                let setting = Setting { line, key: key.to_ascii_lowercase(), value: value.to_owned() };
                if let Some(account) = accounts.get_mut(current) {
                    account.settings.push(setting);
                }
            }
        }
    }
    accounts
}
