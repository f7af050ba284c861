//! nullmailer: a directory with a file for each setting, of which `remotes` has a smarthost on each line, quoted as for a shell.
//!
//! | nullmailer | pillarbox |
//! | --- | --- |
//! | the first line of `remotes`: HOST, `port=`, `tls`, `starttls` | `relay.smarthost` |
//! | `user=`, `pass=`, `auth-login` | the login and its password, `relay.auth` |
//! | `source=`, `x509cafile=`, `x509certfile=` | keys of `[relay]` |
//! | `adminaddr` | `admin` |
//! | `allmailfrom` | `rewrite.from` |

use super::{Source, Taken, TakenPassword, Way, is_system_bundle, lines};
use crate::smtp::sasl::Secret;
use std::net::IpAddr;

/// Files about what pillarbox does in another way.
const OTHER_FILES: [&str; 11] = [
    "me",
    "defaulthost",
    "defaultdomain",
    "helohost",
    "idhost",
    "bounceto",
    "doublebounceto",
    "queuelifetime",
    "pausetime",
    "maxpause",
    "sendtimeout",
];

/// Takes the files over.
pub fn take(source: &Source<'_>, taken: &mut Taken) {
    let mut remotes = lines(source.text);
    if let Some((line, text)) = remotes.next() {
        remote(source, line, text, taken);
    }
    for (line, text) in remotes {
        let host = text.split_whitespace().next().unwrap_or_default();
        let text = format!("{host}; relay.smarthost can have several");
        taken.leave(source.path, line, &text);
    }
    let first = |name: &str| {
        let (path, text) = source.sibling(name);
        let text = text.unwrap_or_default();
        (path, lines(&text).next().map(|(line, text)| (line, text.to_owned())))
    };
    if let (_, Some((_, text))) = first("adminaddr") {
        taken.admin = text;
    }
    if let (_, Some((_, address))) = first("allmailfrom") {
        taken.sender = address;
    }
    for name in OTHER_FILES {
        if let (path, Some((line, text))) = first(name) {
            taken.leave(&path, line, &text);
        }
    }
}

/// A line of `remotes`: HOST, the protocol, and its options.
fn remote(source: &Source<'_>, line: usize, text: &str, taken: &mut Taken) {
    let words = words(text);
    let mut words = words.iter().map(String::as_str);
    let host = words.next().unwrap_or_default();
    let (mut way, mut port) = (Way::Clear, None);
    for (i, word) in words.enumerate() {
        let bare = word.strip_prefix("--").unwrap_or(word);
        let (key, value) = bare.split_once('=').unwrap_or((bare, ""));
        let mut why = None;
        match key {
            "smtp" if i == 0 => {}
            "port" => port = value.parse().ok(),
            "tls" | "ssl" => way = Way::Tls,
            "starttls" => way = Way::StartTls,
            "user" => value.clone_into(&mut taken.login),
            "pass" => taken.password = TakenPassword::Text(Secret::new(value.as_bytes().to_vec())),
            "auth-login" => taken.text("relay.auth", "login"),
            "source" if value.parse::<IpAddr>().is_ok() => taken.list("relay.source", &[value]),
            "x509cafile" if is_system_bundle(value) => {}
            "x509cafile" if value.starts_with('/') => taken.text("relay.ca_file", value),
            "x509certfile" if value.starts_with('/') => taken.text("relay.certificate", value),
            "insecure" => {
                why = Some("certificates are always verified; relay.fingerprint accepts a single one")
            }
            _ => why = Some(""),
        }
        if let Some(why) = why {
            taken.leave_key(source.path, line, key, why);
        }
    }
    taken.host(way, host, port);
}

/// Splits a line as a shell would: blanks, quotes of both kinds, backslashes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut quote, mut is_open) = (Vec::<String>::new(), None, false);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let add = match (quote, c) {
            (None, c) if c.is_whitespace() => {
                is_open = false;
                continue;
            }
            (Some(open), c) if open == c => {
                quote = None;
                continue;
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                None
            }
            (None | Some('"'), '\\') => chars.next(),
            _ => Some(c),
        };
        if !is_open {
            words.push(String::new());
            is_open = true;
        }
        if let Some(word) = words.last_mut() {
            word.extend(add);
        }
    }
    words
}
