//! ssmtp: `ssmtp.conf` with lines KEY=VALUE, keys in any case, and `revaliases` with the senders of single users.
//!
//! | ssmtp | pillarbox |
//! | --- | --- |
//! | `root` | `admin` |
//! | `mailhub`, `UseTLS`, `UseSTARTTLS` | `relay.smarthost` |
//! | `AuthUser`, `AuthPass`, `AuthMethod` | the login and its password, `relay.auth` |
//! | `rewriteDomain` | `rewrite.domain` |
//! | `TLSCert`, `TLSKey`, `TLS_CA_File` | keys of `[relay]` |
//! | `USER:ADDRESS` in `revaliases` | `rewrite.senders` |

use super::{Source, Taken, TakenPassword, Way, host_and_port, is_system_bundle, lines};
use crate::smtp::sasl::Secret;

/// Takes the file over.
pub fn take(source: &Source<'_>, taken: &mut Taken) {
    let mut entries = Vec::new();
    for (line, text) in lines(source.text) {
        match text.split_once('=') {
            Some((key, value)) => entries.push((line, key.trim().to_ascii_lowercase(), value.trim())),
            None => taken.leave(source.path, line, "a line without ="),
        }
    }
    let value = |key: &str| entries.iter().rfind(|(_, it, _)| it == key).map_or("", |(.., value)| value);
    let is_on = |key: &str| value(key).eq_ignore_ascii_case("yes");
    value("authuser").clone_into(&mut taken.login);
    let way = match (is_on("usetls"), is_on("usestarttls")) {
        (_, true) => Way::StartTls,
        (true, false) => Way::Tls,
        _ => Way::Clear,
    };
    let (host, port) = host_and_port(value("mailhub"));
    if !host.is_empty() {
        // ssmtp goes to port 25 unless told otherwise, by TLS, too.
        taken.host(way, host, port.or(Some(25)));
    }
    let has_certificate = is_on("usetlscert");
    let domain = value("rewritedomain");
    for (line, key, value) in &entries {
        if let Some(why) = take_key(key, value, domain, has_certificate, taken) {
            taken.leave_key(source.path, *line, key, why);
        }
    }
    senders(source, taken);
}

/// Takes a key over, or says why not.
fn take_key(
    key: &str,
    value: &str,
    domain: &str,
    has_certificate: bool,
    taken: &mut Taken,
) -> Option<&'static str> {
    match key {
        "mailhub" | "usetls" | "usestarttls" | "authuser" | "fromlineoverride" | "usetlscert" => {}
        _ if value.is_empty() => {}
        "root" if value.contains('@') => value.clone_into(&mut taken.admin),
        "root" if !domain.is_empty() => taken.admin = format!("{value}@{domain}"),
        "root" => {
            return Some("it has no domain, and its mail would stay at this host; --admin names an address");
        }
        "rewritedomain" => taken.text("rewrite.domain", value),
        "authpass" => taken.password = TakenPassword::Text(Secret::new(value.as_bytes().to_vec())),
        "authmethod" if value.eq_ignore_ascii_case("cram-md5") => taken.text("relay.auth", "cram-md5"),
        "authmethod" if value.eq_ignore_ascii_case("login") => {}
        "tls_ca_file" if is_system_bundle(value) => {}
        "tls_ca_file" if value.starts_with('/') => taken.text("relay.ca_file", value),
        "tlscert" if value.starts_with('/') && has_certificate => taken.text("relay.certificate", value),
        "tlskey" if value.starts_with('/') && has_certificate => taken.text("relay.key", value),
        "hostname" => return Some("here it would make the domain local; the system has a name"),
        _ => return Some(""),
    }
    None
}

/// `revaliases`: USER:ADDRESS or USER:ADDRESS:MAILHUB.
fn senders(source: &Source<'_>, taken: &mut Taken) {
    let (path, text) = source.sibling("revaliases");
    let text = text.unwrap_or_default();
    let mut rows = Vec::new();
    for (line, text) in lines(&text) {
        let mut parts = text.splitn(3, ':').map(str::trim);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(user), Some(address), hub) if !user.is_empty() && address.contains('@') => {
                rows.push((user.to_owned(), address.to_owned()));
                if let Some(hub) = hub.filter(|hub| !taken.smarthost.contains(host_and_port(hub).0)) {
                    let text = format!("{user}: {hub}; relay.senders can have its smarthost");
                    taken.leave(&path, line, &text);
                }
            }
            _ => taken.leave(&path, line, "a line that is not USER:ADDRESS"),
        }
    }
    taken.table("rewrite.senders", &rows);
}
