//! The mboxes of those whose mail stays here, for `check`: a file in the place of a Maildir to which nothing can be appended
//! would hold the mail of its user back, for ever.
//!
//! Looks only. Sees the files where `local.maildir` names one for each user, and the users that the configuration names or
//! the user database lists; a directory service that lists none is seen by its users' files only.

use super::site::{SystemAccounts, maildir, route_policy};
use crate::config::Settings;
use crate::mail::address::{Domain, ForwardPath, Mailbox};
use crate::rules::routing::aliases::AliasTable;
use crate::rules::routing::route::{Destination, LocalUsers};
use crate::store::maildir::mbox_problem;
use crate::sys::user;
use std::fs::{read_dir, read_to_string};

/// What is wrong with mboxes, a sentence each. `writer` is the uid that writes to those that are not of system users, if it
/// is another one than this process'; root, who starts the daemon then, has an agent write for system users.
#[must_use]
pub fn problems(settings: &Settings, writer: Option<u32>) -> Vec<String> {
    let hostname = settings.hostname.clone().or_else(|| Domain::parse("localhost").ok());
    let Some(hostname) = hostname else { return Vec::new() };
    let domain = settings.local_domains(&hostname).first().cloned().unwrap_or_else(|| hostname.clone());
    let policy = route_policy(settings, &hostname, Vec::new());
    let text = settings.local.aliases.as_deref().and_then(|path| read_to_string(path).ok());
    let (aliases, _) = AliasTable::parse(&text.unwrap_or_default());
    let mut problems = Vec::new();
    for name in names(settings) {
        let Ok(mailbox) = Mailbox::parse(&format!("{name}@{domain}")) else { continue };
        let Ok(routed) = policy.route(&ForwardPath::Mailbox(mailbox), &aliases, &SystemAccounts) else {
            continue;
        };
        let Destination::Maildir(local) = &routed.destination else { continue };
        let Ok(Some(path)) = maildir(settings, &hostname, &routed) else { continue };
        let account = local.account.as_ref().map(|account| account.uid);
        if let Some(error) = mbox_problem(&path, writer.map(|writer| account.unwrap_or(writer))) {
            problems.push(format!(
                "mail for {:?} has to wait: {:?} can't be appended to: {error}; make it a file of its user's own, \
                 readable and writable for them, with one name (chown, chmod u+rw), or move it away",
                local.name,
                path.path()
            ));
        }
    }
    problems
}

/// Those who may have an mbox.
fn names(settings: &Settings) -> Vec<String> {
    let local = &settings.local;
    let template = local.maildir.to_string();
    match (&local.users, local.maildir.fixed_directory()) {
        (LocalUsers::Named(names), _) => names.clone(),
        (_, Some(directory)) if template.ends_with("/{user}") => {
            let entries = read_dir(directory).into_iter().flatten().flatten();
            let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
            files.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        }
        (LocalUsers::System, _) => user::names(),
        (LocalUsers::Any, _) => Vec::new(),
    }
}
