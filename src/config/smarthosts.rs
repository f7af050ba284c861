//! Smarthosts with what is their own: the entries of `relay.smarthost` and `relay.senders`.
//!
//! An entry is a URL, or a table of `url` and keys of a login, which are those of `[relay]`. [`super::logins`] says what an
//! entry inherits. An entry keeps, for each thing that can be inherited, whether the file sets it: the password, whatever
//! source it has, is one thing, and so is a certificate with its key.

use super::kinds::{Complaints, TomlValue, complain, each, named, one, optional, path, string, word};
use super::likeness::is_like;
use super::mail_kinds::{fingerprint, host_name, smarthost};
use crate::mail::address::Domain;
use crate::mail::fingerprint::Fingerprint;
use crate::mail::next_hop::Smarthost;
use crate::mail::relay_login::PasswordSource;
use crate::rules::routing::next_hop::SenderPattern;
use std::path::PathBuf;

/// The words of `relay.auth`.
pub(super) static MECHANISMS: [&str; 8] =
    ["auto", "plain", "login", "cram-md5", "scram-sha-256", "xoauth2", "oauthbearer", "external"];

/// A smarthost as the file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct SmarthostEntry {
    /// The host, without a login.
    pub host: Smarthost,
    /// What the entry sets itself.
    pub(super) own: OwnLogin,
}

/// A sender of `relay.senders`, and its smarthosts.
#[derive(Debug, Clone, PartialEq)]
pub struct SenderRoute {
    /// The sender.
    pub sender: SenderPattern,
    /// Its smarthosts, tried in order; never empty.
    pub entries: Vec<SmarthostEntry>,
}

/// The parts of a login. `None`: the file does not set it.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct OwnLogin {
    pub username: Option<String>,
    pub password: Option<PasswordSource>,
    pub auth: Option<&'static str>,
    pub certificate: Option<CertificateFiles>,
    pub fingerprint: Option<Option<Fingerprint>>,
    pub tls_name: Option<Option<Domain>>,
}

/// The files of a client certificate.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct CertificateFiles {
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password_file: Option<PathBuf>,
}

impl OwnLogin {
    /// Notes the source of a password. A file comes before a command, as in `[relay]`.
    pub fn set_password(&mut self, file: Option<PathBuf>, command: String) {
        self.password = match (file, command) {
            (Some(file), _) => Some(PasswordSource::File(file)),
            (None, command) if !command.is_empty() => Some(PasswordSource::Command(command)),
            (None, _) => Some(PasswordSource::Usual),
        };
    }

    fn certificate(&mut self) -> &mut CertificateFiles {
        self.certificate.get_or_insert_default()
    }
}

impl From<Smarthost> for SmarthostEntry {
    fn from(host: Smarthost) -> Self {
        Self { host, own: OwnLogin::default() }
    }
}

/// A key of a login: its name, and what reads its value.
type LoginKey = (&'static str, fn(&mut OwnLogin, &TomlValue<'_>, &mut Complaints) -> Option<()>);

/// The keys that an entry may have besides `url`; each is a row of `[relay]`, too.
static LOGIN_KEYS: [LoginKey; 9] = [
    ("username", |own, value, complaints| {
        own.username = Some(one(string)(value, complaints)?);
        Some(())
    }),
    ("password_file", |own, value, complaints| {
        own.set_password(optional(one(path))(value, complaints)?, String::new());
        Some(())
    }),
    ("password_command", |own, value, complaints| {
        let command = one(string)(value, complaints)?;
        if !matches!(own.password, Some(PasswordSource::File(_))) {
            own.set_password(None, command);
        }
        Some(())
    }),
    ("auth", |own, value, complaints| {
        own.auth = Some(one(word(&MECHANISMS))(value, complaints)?);
        Some(())
    }),
    ("certificate", |own, value, complaints| {
        own.certificate().certificate = optional(one(path))(value, complaints)?;
        Some(())
    }),
    ("key", |own, value, complaints| {
        own.certificate().key = optional(one(path))(value, complaints)?;
        Some(())
    }),
    ("key_password_file", |own, value, complaints| {
        own.certificate().key_password_file = optional(one(path))(value, complaints)?;
        Some(())
    }),
    ("fingerprint", |own, value, complaints| {
        own.fingerprint = Some(optional(one(fingerprint))(value, complaints)?);
        Some(())
    }),
    ("tls_name", |own, value, complaints| {
        own.tls_name = Some(optional(one(host_name))(value, complaints)?);
        Some(())
    }),
];

/// An entry of `relay.smarthost`: a URL, or a table.
pub(super) fn entry(value: &TomlValue<'_>, complaints: &mut Complaints) -> Option<SmarthostEntry> {
    let Some(table) = value.get_ref().as_table() else {
        return one(smarthost)(value, complaints).map(Into::into);
    };
    let Some(url) = table.get("url") else {
        complain(value, "a smarthost needs its url; write { url = \"smtps://…\", … }".into(), complaints);
        return None;
    };
    let mut entry = SmarthostEntry::from(one(smarthost)(url, complaints)?);
    let before = complaints.len();
    for (key, value) in table.iter().filter(|(key, _)| key.get_ref() != "url") {
        match LOGIN_KEYS.iter().find(|(name, _)| name == key.get_ref()) {
            Some((_, set)) => {
                set(&mut entry.own, value, complaints);
            }
            None => complaints.push((key.span().start, unknown_key(key.get_ref()))),
        }
    }
    (complaints.len() == before).then_some(entry)
}

fn unknown_key(key: &str) -> String {
    let mut names = LOGIN_KEYS.iter().map(|(name, _)| *name);
    let advice = match names.clone().find(|name| is_like(key, name)) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => names.by_ref().fold("write some of url".to_owned(), |list, name| list + ", " + name),
    };
    format!("unknown key {key:?} of a smarthost; {advice}")
}

/// The value of `relay.senders`.
pub(super) fn senders(value: &TomlValue<'_>, complaints: &mut Complaints) -> Option<Vec<SenderRoute>> {
    let read = |name: &str, value: &TomlValue<'_>, complaints: &mut Complaints| {
        let Some(sender) = SenderPattern::parse(name) else {
            let text = format!(
                "{name:?} is no sender; write an address such as \"nas@example.org\", or \"@example.org\""
            );
            complain(value, text, complaints);
            return None;
        };
        let entries = each(entry)(value, complaints)?;
        if entries.is_empty() {
            complain(value, "the list is empty; write at least one value".into(), complaints);
        }
        (!entries.is_empty()).then_some(SenderRoute { sender, entries })
    };
    named(read)(value, complaints)
}
