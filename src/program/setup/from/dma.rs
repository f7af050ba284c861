//! dma: `dma.conf` with lines KEY or KEY VALUE, and `auth.conf` with the passwords.
//!
//! | dma | pillarbox |
//! | --- | --- |
//! | `SMARTHOST`, `PORT`, `SECURETRANSFER`, `STARTTLS` | `relay.smarthost`; no smarthost: delivery by MX |
//! | `USER\|HOST:PASSWORD` in `auth.conf` | the login and its password |
//! | `MASQUERADE` | `rewrite.from` or `rewrite.domain` |
//! | `FINGERPRINT`, `CERTFILE` | keys of `[relay]` |
//! | `ALIASES` | `local.aliases`; its root is `admin` |

use super::{Source, Taken, TakenPassword, Way, lines, unquoted};
use crate::mail::fingerprint::Fingerprint;
use crate::smtp::sasl::Secret;
use std::path::Path;

/// Takes the files over.
pub fn take(source: &Source<'_>, taken: &mut Taken) {
    let entries: Vec<(usize, &str, &str)> = lines(source.text)
        .map(|(line, text)| {
            let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            (line, key, unquoted(value))
        })
        .collect();
    let get = |key: &str| entries.iter().rfind(|(_, it, _)| *it == key).map(|(.., value)| *value);
    let host = get("SMARTHOST").unwrap_or_default();
    let port = get("PORT").and_then(|port| port.parse::<u16>().ok());
    if !host.is_empty() {
        login(source, get("AUTHPATH"), host, taken);
    }
    let is_secure = get("SECURETRANSFER").or(get("SECURETRANS")).is_some();
    let way = match (is_secure, get("STARTTLS").is_some()) {
        (false, _) => Way::Clear,
        (true, true) if get("OPPORTUNISTIC_TLS").is_some() && taken.login.is_empty() => Way::Clear,
        (true, true) => Way::StartTls,
        (true, false) => Way::Tls,
    };
    if host.is_empty() {
        taken.by_mx();
        if let Some(port) = port.filter(|port| *port != 25) {
            taken.lines.push(("relay.port", port.to_string()));
        }
    } else {
        taken.host(way, host, port.or(Some(25)));
    }
    for (line, key, value) in &entries {
        if let Some(why) = take_key(key, value, taken) {
            taken.leave_key(source.path, *line, key, why);
        }
    }
}

/// Takes a key over, or says why not.
fn take_key(key: &str, value: &str, taken: &mut Taken) -> Option<&'static str> {
    match key {
        "SMARTHOST" | "PORT" | "AUTHPATH" | "SECURETRANSFER" | "SECURETRANS" | "STARTTLS" => {}
        "OPPORTUNISTIC_TLS" | "SECURE" | "SPOOLDIR" => {}
        "ALIASES" => taken.aliases = Some(value.into()),
        "MASQUERADE" => match value.split_once('@') {
            Some((user, host)) if !user.is_empty() && !host.is_empty() => value.clone_into(&mut taken.sender),
            None => taken.text("rewrite.domain", value),
            _ => return Some("only a half of the address; rewrite.from has a whole one"),
        },
        "FINGERPRINT" if Fingerprint::parse(value).is_ok() => taken.text("relay.fingerprint", value),
        "CERTFILE" if value.starts_with('/') => taken.text("relay.certificate", value),
        "MAILNAME" if value == "/etc/mailname" => {}
        "MAILNAME" => {
            return Some("pillarbox takes the name of /etc/mailname or the system; hostname sets another");
        }
        "INSECURE" => return Some("a password needs verified TLS"),
        "DEFER" => return Some("queue.schedule and `pillarbox link` say when mail leaves"),
        "NULLCLIENT" => return Some("admin and the aliases say who gets mail of this host's own users"),
        _ => return Some(""),
    }
    None
}

/// The login at the smarthost.
fn login(source: &Source<'_>, path: Option<&str>, host: &str, taken: &mut Taken) {
    let (path, text) = match path {
        Some(path) => (Path::new(path).to_owned(), (source.files)(Path::new(path))),
        None => source.sibling("auth.conf"),
    };
    let text = text.unwrap_or_default();
    for (line, text) in lines(&text) {
        let Some((user, rest)) = text.split_once('|') else {
            taken.leave(&path, line, "a line that is not USER|HOST:PASSWORD");
            continue;
        };
        match rest.split_once(':') {
            Some((at, password)) if at.eq_ignore_ascii_case(host) && taken.login.is_empty() => {
                user.clone_into(&mut taken.login);
                taken.password = TakenPassword::Text(Secret::new(password.as_bytes().to_vec()));
            }
            // The rest of a line may be a password.
            _ => taken.leave(&path, line, &format!("the login {user}, which is not for {host}")),
        }
    }
}
