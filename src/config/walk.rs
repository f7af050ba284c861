//! From parsed TOML to settings: looks up each key in the table of keys, checks its value and stores it.
//!
//! Goes on after a problem, so that one run of `check` shows all of them. An unknown key comes with the likely name, which
//! `advice` searches in this order: a similar key of the same table, the same key in another table, a similar key in
//! another table, a similar table. Once every value is good, contradictions between values are looked for.

use super::keys::{KeyRow, Listener, Settings, TABLES, Table};
use super::kinds::{Complaints, TomlValue};
use super::likeness::{is_like, likeness};
use super::oauth;
use super::values::{ListenerAuth, ListenerKind, ListenerTls, Storage};
use crate::rules::routing::route::LocalUsers;
use toml::de::{DeTable, DeValue};

/// Shorter words begin or end too many names.
const PART_MIN: usize = 4;

/// The findings of the walk besides the settings; places are offsets into the text.
#[derive(Default)]
pub struct WalkReport {
    /// The mistakes.
    pub complaints: Complaints,
    /// The keys of plain tables that the file sets: table, key and the place of the value.
    pub places: Vec<(&'static str, &'static str, usize)>,
}

/// Reads a whole file into settings that hold the defaults.
pub fn walk(file: &DeTable<'_>, settings: &mut Settings, report: &mut WalkReport) {
    let listeners = std::mem::take(&mut settings.listeners);
    for (name, value) in file {
        let at = name.span().start;
        let Some(table) = TABLES.iter().find(|table| !table.name.is_empty() && table.name == name.get_ref())
        else {
            if let Some(top) = TABLES.first() {
                walk_key(top, name.get_ref(), at, value, settings, report);
            }
            continue;
        };
        match (value.get_ref(), table.repeat) {
            (DeValue::Array(values), Some(_)) => {
                values.iter().for_each(|value| walk_table(table, value, settings, report));
            }
            _ => walk_table(table, value, settings, report),
        }
    }
    if settings.listeners.is_empty() {
        settings.listeners = listeners;
    }
    settings.relay.has_oauth = settings.oauth.is_set();
    if report.complaints.is_empty() {
        check_whole(file, settings, report);
    }
}

fn walk_table(
    table: &'static Table,
    value: &TomlValue<'_>,
    settings: &mut Settings,
    report: &mut WalkReport,
) {
    let Some(keys) = value.get_ref().as_table() else {
        let (open, close) = if table.repeat.is_some() { ("[[", "]]") } else { ("[", "]") };
        let text = format!("`{0}` is a table; write {open}{0}{close} and its keys below", table.name);
        report.complaints.push((value.span().start, text));
        return;
    };
    table.add_entry(settings);
    for (key, value) in keys {
        walk_key(table, key.get_ref(), key.span().start, value, settings, report);
    }
}

fn walk_key(
    table: &'static Table,
    key: &str,
    at: usize,
    value: &TomlValue<'_>,
    settings: &mut Settings,
    report: &mut WalkReport,
) {
    let Some(row) = table.rows.iter().find(|row| row.key == key) else {
        // The search is slow, and only the first complaints are shown.
        let is_shown = report.complaints.len() < super::PROBLEMS_MAX;
        let advice = if is_shown { advice(table, key) } else { "remove it".to_owned() };
        report.complaints.push((at, format!("unknown key {key:?}; {advice}")));
        return;
    };
    report.places.push((table.name, row.key, value.span().start));
    (row.set)(settings, value, &mut report.complaints);
}

/// The key as it is written above all tables: `relay.smarthost`.
pub fn path(table: &Table, row: &KeyRow) -> String {
    if table.name.is_empty() { row.key.to_owned() } else { format!("{}.{}", table.name, row.key) }
}

/// The advice about an unknown key, as a sentence; see the top of this file for the order.
fn advice(here: &Table, key: &str) -> String {
    if !here.name.is_empty() && TABLES.iter().any(|table| table.name == key) {
        return format!("write `{key}.…` above the first [table], or its keys below [{key}]");
    }
    let rows = || TABLES.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    let here_likeness = |name: &&str| likeness(key, name);
    let names = || here.rows.iter().map(|row| row.key);
    let near = names().min_by_key(here_likeness).filter(|name| is_like(key, name));
    let near = near.or_else(|| names().find(|name| is_part(key, name)));
    let same: Vec<_> = rows().filter(|(_, row)| row.key == key).collect();
    let other = rows().min_by_key(|(_, row)| likeness(key, row.key)).filter(|(_, row)| is_like(key, row.key));
    let other = other.or_else(|| rows().find(|(_, row)| is_part(key, row.key)));
    let tables = TABLES.iter().map(|table| table.name).filter(|name| !name.is_empty());
    let table = tables.min_by_key(here_likeness);
    match (same.as_slice(), near, other, table.filter(|name| here.name.is_empty() && is_like(key, name))) {
        ([(top, _), ..], ..) => {
            let tables: Vec<_> = same.iter().map(|(table, _)| format!("[{}]", table.name)).collect();
            let paths: Vec<_> = same.iter().map(|(table, row)| format!("`{}`", path(table, row))).collect();
            let (tables, paths) = match top.name {
                "" => ("the top of the file".to_owned(), "it".to_owned()),
                _ => (tables.join(" or "), paths.join(" or ")),
            };
            let there = format!("`{key}` belongs to {tables}; write {paths} above the first [table]");
            match near.filter(|_| !here.name.is_empty()) {
                // Other mailers call the login so; pillarbox has a key of that name elsewhere, for something else.
                Some(name) if key == "user" => {
                    format!("write {name:?}; `user` is the system user of the daemon")
                }
                Some(name) => format!("did you mean \"{name}\"? {there}"),
                None => there,
            }
        }
        (_, Some(name @ "password_file"), ..) => {
            format!("write the password into /etc/pillarbox/password, or name another file by {name}")
        }
        (_, Some(name), ..) | (.., Some(name)) => format!("did you mean \"{name}\"?"),
        (_, _, Some((table, row)), _) => format!("did you mean `{}`?", path(table, row)),
        _ => {
            let keys: Vec<_> = here.rows.iter().map(|row| row.key).collect();
            format!("write one of {}", keys.join(", "))
        }
    }
}

/// Whether `name` begins or ends with `key`, as `username` does with `user`, and `smarthost` with `host`.
fn is_part(key: &str, name: &str) -> bool {
    key.len() >= PART_MIN && (name.starts_with(key) || name.ends_with(key))
}

/// A contradiction within a listener: the key to change, the condition, and the advice.
type Contradiction = (&'static str, fn(&Listener) -> bool, &'static str);

static CONTRADICTIONS: [Contradiction; 5] = [
    (
        "tls",
        |l| l.kind == ListenerKind::Submissions && l.tls == ListenerTls::Off,
        "\"submissions\" has TLS from the start; remove tls = \"off\", or write kind = \"submission\"",
    ),
    (
        "tls",
        |l| l.kind == ListenerKind::Submission && l.tls == ListenerTls::Off && takes_logins_by_tls_alone(l),
        "nobody could log in, because passwords from other hosts need TLS; write tls = \"offer\", or auth = \"any\" for trusted networks",
    ),
    (
        "tls_minimum",
        |l| l.kind != ListenerKind::Submissions && l.tls == ListenerTls::Off && !l.tls_minimum.is_empty(),
        "tls = \"off\" leaves no TLS to limit; remove one of the two",
    ),
    (
        "auth",
        |l| is_submission(l) && l.auth == ListenerAuth::Off,
        "nobody could send, because submission requires a login; remove auth = \"off\", or write kind = \"smtp\"",
    ),
    (
        "auth",
        |l| l.kind == ListenerKind::Lmtp && l.auth == ListenerAuth::Any,
        "LMTP has no logins; remove auth = \"any\", or write another kind",
    ),
];

fn is_submission(listener: &Listener) -> bool {
    matches!(listener.kind, ListenerKind::Submission | ListenerKind::Submissions)
}

/// Whether every login needs TLS: no client can connect over loopback, where passwords may be sent in clear, and `auth` is
/// not "any".
fn takes_logins_by_tls_alone(listener: &Listener) -> bool {
    let is_reached = |ip: std::net::IpAddr| ip.is_loopback() || ip.is_unspecified();
    listener.auth == ListenerAuth::Users
        && !listener.proxy_protocol
        && !listener.address.iter().any(|address| is_reached(address.ip()))
}

/// Mistakes that no single value shows.
fn check_whole(file: &DeTable<'_>, settings: &Settings, report: &mut WalkReport) {
    let mut taken = Vec::new();
    for (i, listener) in settings.listeners.iter().enumerate() {
        let at = entry(file, "listener", i).map_or(0, |table| {
            table.get_ref().as_table().and_then(|table| table.get("address")).unwrap_or(table).span().start
        });
        for address in &listener.address {
            if address.port() != 0 && taken.contains(address) {
                let text = format!("\"{address}\" is taken by a listener before; write each address once");
                report.complaints.push((at, text));
            }
            taken.push(*address);
        }
        for (key, _, text) in CONTRADICTIONS.iter().filter(|(_, is_so, _)| is_so(listener)) {
            let table = entry(file, "listener", i);
            let place =
                table.map(|table| table.get_ref().as_table().and_then(|t| t.get(*key)).unwrap_or(table));
            report.complaints.push((place.map_or(0, |place| place.span().start), (*text).into()));
        }
    }
    for (i, key) in settings.dkim.iter().enumerate() {
        if key.domain.is_none() || key.selector.is_none() || key.key.is_none() {
            let at = entry(file, "dkim", i).map_or(0, |table| table.span().start);
            report.complaints.push((at, "[[dkim]] needs all of domain, selector and key; write them".into()));
        }
    }
    for (table, key, text) in oauth::contradictions(settings) {
        let at = report.places.iter().find(|(of, own, _)| (*of, *own) == (table, key));
        report.complaints.push((at.map_or(0, |(.., at)| *at), text));
    }
    if let Some((key, host)) = settings.relay.without_password() {
        let at = report.places.iter().find(|(table, it, _)| (*table, *it) == ("relay", key));
        let text = format!(
            "the login at {host} has no password of its own, and gets none of another host; write password_file or \
             password_command into its table"
        );
        report.complaints.push((at.map_or(0, |(.., at)| *at), text));
    }
    let (memory, state) = (&settings.queue.memory, &settings.state);
    let is_used = settings.queue.storage == Storage::MemoryFirst;
    if is_used && (memory.starts_with(state) || state.starts_with(memory)) {
        let at = report.places.iter().find(|(table, key, _)| (*table, *key) == ("queue", "memory"));
        let text = format!(
            "the queue in memory can't lie in {state:?}, nor that in it; write a directory on a tmpfs"
        );
        report.complaints.push((at.map_or(0, |(.., at)| *at), text));
    }
    if settings.local.maildir.uses_home() && settings.local.users != LocalUsers::System {
        let at = report.places.iter().find(|(table, key, _)| (*table, *key) == ("local", "maildir"));
        let text = "{home} is only known for system users; write users = \"system\", or a path from \"/\"";
        report.complaints.push((at.map_or(0, |(.., at)| *at), text.into()));
    }
}

/// The `i`-th entry of a repeatable table.
fn entry<'a, 'v>(file: &'a DeTable<'v>, name: &str, i: usize) -> Option<&'a TomlValue<'v>> {
    let value = file.get(name)?;
    Some(value.get_ref().as_array().and_then(|tables| tables.get(i)).unwrap_or(value))
}
