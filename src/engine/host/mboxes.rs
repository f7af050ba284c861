//! Faults of mailboxes, for `check`: an mbox that the daemon cannot append to would hold back the mail of its user for ever, and
//! so would a link, a pipe, or the directory of another user in the place of a Maildir.
//!
//! Only reads. The users are found by the configuration:
//!
//! | `local.users` | `local.maildir` | users |
//! | --- | --- | --- |
//! | a list of names | any | these names |
//! | `system`, `any` | `…/{user}` | the names in that directory |
//! | `system` | any other | the user database; a directory service that lists no users is not seen |
//! | `any` | any other | no users |

use super::aliases_file::read_table;
use super::site::{SystemAccounts, maildir, route_policy};
use crate::config::Settings;
use crate::mail::address::{Domain, ForwardPath, Mailbox};
use crate::rules::routing::aliases::AliasTable;
use crate::rules::routing::route::{Destination, LocalUsers, RoutePolicy};
use crate::store::maildir::mbox_problem;
use crate::sys::user;
use rustix::process::geteuid;
use std::fs::{DirEntry, read_dir};

/// A mailbox that cannot take mail.
#[derive(Debug)]
pub struct MboxFault {
    /// Whether it lies in a home: its user made the fault.
    pub is_user_s: bool,
    /// What is wrong, as a sentence.
    pub text: String,
    /// Whose it is.
    mailbox: ForwardPath,
}

/// The faults of mailboxes. `writer` is the uid of the daemon, if it is not that of this process: it writes to the mboxes of
/// configured users. The mbox of a system user must be writable for that user. Opens no file if there is a `writer`.
#[must_use]
pub fn faults(settings: &Settings, writer: Option<u32>) -> Vec<MboxFault> {
    let (hostname, policy) = policy(settings);
    let domain = settings.local_domains(&hostname).first().cloned().unwrap_or_else(|| hostname.clone());
    let mut faults = Vec::new();
    for name in names(settings) {
        let Ok(mailbox) = Mailbox::parse(&format!("{name}@{domain}")) else { continue };
        let mailbox = ForwardPath::Mailbox(mailbox);
        let Ok(routed) = policy.route(&mailbox, &AliasTable::default(), &SystemAccounts) else { continue };
        let Destination::Maildir(local) = &routed.destination else { continue };
        let Ok(Some(path)) = maildir(settings, &hostname, &routed) else { continue };
        let account = local.account.as_ref().map(|account| account.uid);
        let uid = writer.map(|writer| account.unwrap_or(writer));
        let (name, place) = (&local.name, path.path());
        let text = match mbox_problem(&path, uid) {
            Some(error) => format!(
                "mail for {name:?} has to wait: {place:?} can't be appended to: {error}; make it a file of its user's own, \
                 readable and writable for them, with one name (chown, chmod u+rw), or move it away"
            ),
            None => match path.flaw(uid.unwrap_or_else(|| geteuid().as_raw())) {
                Some(flaw) => format!(
                    "mail for {name:?} has to wait: {place:?} can't be delivered to: {flaw}; make it a directory of its \
                     user's own (chown), or move it away"
                ),
                None => continue,
            },
        };
        faults.push(MboxFault { mailbox, text, is_user_s: path.is_in_home() });
    }
    faults
}

/// The faults that hold mail back: an alias may lead the mail elsewhere. Reads the aliases file.
#[must_use]
pub fn problems(settings: &Settings, faults: Vec<MboxFault>) -> Vec<MboxFault> {
    if faults.is_empty() {
        return Vec::new();
    }
    let (_, policy) = policy(settings);
    let read = settings.local.aliases.as_deref().and_then(|path| read_table(path).ok());
    let aliases = read.map(|(table, ..)| table).unwrap_or_default();
    let gets_mail = |fault: &MboxFault| {
        let routed = policy.route(&fault.mailbox, &aliases, &SystemAccounts);
        routed.is_ok_and(|routed| matches!(routed.destination, Destination::Maildir(_)))
    };
    faults.into_iter().filter(gets_mail).collect()
}

/// The name of this host, as far as the configuration has one, and the routes.
fn policy(settings: &Settings) -> (Domain, RoutePolicy) {
    let hostname = settings.hostname.clone().unwrap_or_else(|| Domain::Name("localhost".to_owned()));
    let policy = route_policy(settings, &hostname, Vec::new());
    (hostname, policy)
}

/// The users that may have an mbox; see the table at the top of this file.
fn names(settings: &Settings) -> Vec<String> {
    let local = &settings.local;
    let template = local.maildir.to_string();
    match (&local.users, local.maildir.fixed_directory()) {
        (LocalUsers::Named(names), _) => names.clone(),
        (_, Some(directory)) if template.ends_with("/{user}") => {
            let Ok(entries) = read_dir(directory) else { return Vec::new() };
            entries.flatten().filter_map(|entry: DirEntry| entry.file_name().into_string().ok()).collect()
        }
        (LocalUsers::System, _) => user::names(),
        (LocalUsers::Any, _) => Vec::new(),
    }
}
