//! Routing of a recipient: from its forward-path to a mailbox, a next hop, or the members of an alias.
//!
//! ```text
//! forward-path ─▶ other domain ──────────────────────────▶ next hop
//!              └▶ local domain ─▶ aliases file ─▶ alias ──▶ members, each routed in the same way
//!                              └▶ user ─▶ .forward ─▶ alias
//!                                      └▶ no .forward ──▶ mailbox
//! ```
//!
//! [`Site::route`] answers for RCPT and for the queue; [`Site::expand`] returns the members of an alias at intake. The
//! order of the rules is in `rules::routing`; this file supplies the aliases file, the files that it includes,
//! `.forward` files and the accounts of the system.
//!
//! | recipient | result | at RCPT | in the queue |
//! | --- | --- | --- | --- |
//! | of another domain | `Destination::Relay` | admission decides | the remote worker |
//! | a local user | `Destination::Maildir` | 250 | the local worker |
//! | an alias, or a user with a `.forward` | `Destination::Alias` | 250 if at least one member has a route | its members |
//! | unknown in a local domain | `NoRoute::UnknownUser` | 550 | bounced |
//! | of which all members are refused, or an endless alias | `NoRoute::Refused` | its reply | bounced |
//! | that cannot be looked up now | `NoRoute::LookupFailed` | 451 | tried again |

use super::aliases_file::{log_problems, read_include};
use super::forward_file;
use super::site::{Site, SystemAccounts};
use crate::engine::log::event::trouble;
use crate::mail::address::{ForwardPath, LocalPart, Mailbox};
use crate::rules::routing::aliases::{AliasProblem, AliasTable, AliasTarget};
use crate::rules::routing::expansion::{self, AliasMember, Expansion, Files, Sources};
use crate::rules::routing::route::{Destination, LookupFailed, NoRoute, Routed, SystemAccount};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// The files that aliases include, and the problems found in those that were read.
#[derive(Default)]
struct Disk(RefCell<Vec<(PathBuf, Vec<AliasProblem>)>>);

impl Files for Disk {
    fn include(&self, path: &str) -> Result<Vec<AliasTarget>, LookupFailed> {
        let path = Path::new(path);
        let (targets, problems) =
            read_include(path).map_err(|error| LookupFailed(format!("{}: {error}", path.display())))?;
        self.0.borrow_mut().push((path.to_owned(), problems));
        Ok(targets)
    }

    fn forward(&self, account: &SystemAccount) -> Option<Vec<AliasTarget>> {
        forward_file::read(account)
    }
}

impl Site {
    /// The route of a forward-path. A local recipient may be an alias, or a user whose `.forward` makes it one.
    ///
    /// # Errors
    /// The recipient has no route, or its route cannot be looked up now.
    pub fn route(&self, path: &ForwardPath) -> Result<Routed, NoRoute> {
        if let ForwardPath::Mailbox(mailbox) = path
            && !self.routes.is_local(&mailbox.domain)
        {
            return self.routes.route_mailbox(mailbox, &SystemAccounts);
        }
        let aliases = self.aliases.table().map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
        let mut routed = self.routes.route(path, &aliases, &SystemAccounts)?;
        if routed.account().is_some_and(|(_, account)| forward_file::read(account).is_some()) {
            routed.destination = Destination::Alias;
        }
        if routed.destination == Destination::Alias {
            // An alias that leads nowhere is refused at RCPT, not after the data.
            self.follow(&aliases, &routed.mailbox, &Disk::default())?;
        }
        Ok(routed)
    }

    /// The members of the alias of a local mailbox, at least one of them with a route. What the operator should correct
    /// in the alias is logged.
    ///
    /// # Errors
    /// No member has a route, or a file or an account cannot be read now.
    pub fn expand(&self, mailbox: &Mailbox) -> Result<Vec<AliasMember>, NoRoute> {
        let aliases = self.aliases.table().map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
        let files = Disk::default();
        let expansion = self.follow(&aliases, mailbox, &files)?;
        expansion.troubles.iter().for_each(|text| log_trouble(mailbox, text));
        files.0.take().iter().for_each(|(path, problems)| log_problems(path, problems));
        Ok(expansion.members)
    }

    fn follow(&self, aliases: &AliasTable, mailbox: &Mailbox, files: &Disk) -> Result<Expansion, NoRoute> {
        let sources = Sources { policy: &self.routes, aliases, accounts: &SystemAccounts, files };
        let found = expansion::expand(&sources, mailbox);
        if let Err(no_route) = &found {
            log_trouble(
                mailbox,
                match no_route {
                    NoRoute::LookupFailed(text) | NoRoute::Refused(_, text) => text,
                    NoRoute::UnknownUser => "none of its members has a route",
                },
            );
        }
        found
    }
}

/// The reason for which an alias is probably wrong, for `pillarbox check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// It leads back to itself, or cannot be expanded; with the text that says what to correct.
    Loop(String),
    /// This member has a local domain, and no local user has its name.
    Unknown(Mailbox),
    /// No member is known.
    Nobody,
    /// This member leaves this host although its domain is local.
    Leaves(Mailbox),
}

impl Site {
    /// The aliases that are probably wrong, each with its name and its line in the file.
    #[must_use]
    pub fn alias_doubts(&self) -> Vec<(String, usize, Doubt)> {
        // A file that cannot be read is reported elsewhere.
        let Ok(aliases) = self.aliases.table() else { return Vec::new() };
        let files = Disk::default();
        let sources =
            Sources { policy: &self.routes, aliases: &aliases, accounts: &SystemAccounts, files: &files };
        let mut found = Vec::new();
        for (name, line) in aliases.lines() {
            let Ok(local_part) = LocalPart::parse(name) else { continue };
            let mailbox = Mailbox { local_part, domain: self.routes.home().clone() };
            let doubts: Vec<Doubt> = match expansion::expand(&sources, &mailbox) {
                Ok(Expansion { members, troubles }) => {
                    let doubt = |member: AliasMember| match member.route {
                        Ok(Routed { leaves: true, mailbox, .. }) => Some(Doubt::Leaves(mailbox)),
                        Err(NoRoute::UnknownUser) => Some(Doubt::Unknown(member.mailbox)),
                        _ => None,
                    };
                    troubles
                        .into_iter()
                        .map(Doubt::Loop)
                        .chain(members.into_iter().filter_map(doubt))
                        .collect()
                }
                Err(NoRoute::Refused(_, text)) => vec![Doubt::Loop(text)],
                Err(NoRoute::UnknownUser) => vec![Doubt::Nobody],
                Err(NoRoute::LookupFailed(_)) => Vec::new(),
            };
            found.extend(doubts.into_iter().map(|doubt| (name.to_owned(), line, doubt)));
        }
        found
    }
}

fn log_trouble(mailbox: &Mailbox, text: &str) {
    trouble("following an alias", &format_args!("{mailbox}: {text}"));
}
