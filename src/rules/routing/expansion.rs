//! Those that an alias stands for: one recipient becomes several, here and elsewhere.
//!
//! Asks for included files and accounts by what it is given, never itself. It always ends: a name is gone through once,
//! no chain is deeper than [`DEPTH_MAX`], and nobody gets two copies. An alias that goes round in circles or names
//! somebody unknown loses nobody else of its recipients; only when none is left there is no route (5.4.6, 5.1.1).
//!
//! An alias NAME beside an alias `owner-NAME` is a list (RFC 5321 §3.9.2): what fails behind it is told to its owner.

use super::aliases::{AliasTable, EVERYBODY, Target};
use super::route::{Account, Accounts, LookupFailed, NoRoute, Occupant, RoutePolicy, Routed, key};
use crate::mail::address::{LocalPart, Mailbox};
use crate::mail::status::EnhancedStatus;

/// Aliases of aliases are followed this deep.
const DEPTH_MAX: usize = 20;
/// So many recipients one alias may have; Postfix's limit, too.
const MEMBERS_MAX: usize = 1000;

/// Reads what aliases and users name.
pub trait Files {
    /// Those that the file lists.
    ///
    /// # Errors
    /// It can't be read now, which says nothing about its recipients.
    fn include(&self, path: &str) -> Result<Vec<Target>, LookupFailed>;

    /// Where a user has his mail forwarded to; `None`: nowhere.
    fn forward(&self, account: &Account) -> Option<Vec<Target>>;
}

/// What an expansion goes by.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The configuration.
    pub policy: &'a RoutePolicy,
    /// The aliases.
    pub aliases: &'a AliasTable,
    /// The accounts of the system.
    pub accounts: &'a dyn Accounts,
    /// The files that aliases include, and what users say of their own mail.
    pub files: &'a dyn Files,
}

/// One of those that an alias stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Whom the copy is for.
    pub mailbox: Mailbox,
    /// Where it goes; or why nowhere, which its sender is to be told once the message is taken.
    pub route: Result<Routed, NoRoute>,
    /// The list's owner, if it came by a list.
    pub owner: Option<Mailbox>,
}

/// Those that an alias stands for.
#[derive(Debug, Default)]
pub struct Expansion {
    /// One at least has a route.
    pub members: Vec<Member>,
    /// What the operator should mend.
    pub troubles: Vec<String>,
}

/// Finds those that the alias of a local mailbox stands for.
///
/// # Errors
/// There is nobody, or it can't be found out now.
pub fn expand(sources: &Sources<'_>, mailbox: &Mailbox) -> Result<Expansion, NoRoute> {
    let (chain, known) = (Vec::new(), Vec::new());
    let mut expander = Expander { sources, chain, known, owner: None, found: Expansion::default() };
    expander.local(mailbox, false)?;
    let Expansion { members, troubles } = &expander.found;
    if members.iter().any(|member| member.route.is_ok()) {
        return Ok(expander.found);
    }
    if key(mailbox) == "postmaster" {
        // Whose mail is always taken (RFC 5321 §4.5.1).
        let routed = sources.policy.route_mailbox(&sources.policy.postmaster_here(), sources.accounts)?;
        let member = Member { mailbox: routed.mailbox.clone(), route: Ok(routed), owner: None };
        return Ok(Expansion { members: vec![member], troubles: expander.found.troubles });
    }
    Err(match (troubles.first(), members.first()) {
        (Some(trouble), _) => NoRoute::Refused(EnhancedStatus::ROUTING_LOOP, trouble.clone()),
        (None, Some(Member { route: Err(no_route), .. })) => no_route.clone(),
        (None, _) => NoRoute::UnknownUser,
    })
}

struct Expander<'a> {
    sources: &'a Sources<'a>,
    /// The aliases and files that have led here, outermost first.
    chain: Vec<String>,
    /// Those that have been gone through.
    known: Vec<String>,
    /// Of the innermost list.
    owner: Option<Mailbox>,
    found: Expansion,
}

impl<'a> Expander<'a> {
    /// A mailbox of this host. `is_written`: as somebody wrote it with its domain, so that it may be elsewhere.
    fn local(&mut self, mailbox: &Mailbox, is_written: bool) -> Result<(), NoRoute> {
        let Sources { policy, aliases, accounts, files } = *self.sources;
        match self.alias(mailbox) {
            // `joe: joe, …` means joe's mailbox, too.
            Some((alias, _)) if self.chain.last().is_some_and(|last| last == alias) => {
                let route = policy.own_maildir(mailbox, accounts);
                return self.end(mailbox, self.or_elsewhere(mailbox, route, is_written));
            }
            Some((alias, targets)) => {
                let owner = format!("owner-{alias}");
                let before = self.owner.clone();
                if aliases.has(&owner)
                    && let Ok(local_part) = LocalPart::parse(&owner)
                {
                    let domain = &policy.hostname;
                    let domain = if policy.is_local(domain) { domain } else { &mailbox.domain };
                    self.owner = Some(Mailbox { local_part, domain: domain.clone() });
                }
                let done = self.descend(alias, targets, mailbox);
                self.owner = before;
                return done;
            }
            None => {}
        }
        match policy.occupant(mailbox, accounts) {
            Ok(Occupant::StandIn(to)) if policy.is_local(&to.domain) && self.alias(to).is_some() => {
                self.local(to, false)
            }
            Ok(occupant) => {
                let route = policy.route_occupant(occupant, accounts);
                if let Ok(routed) = &route
                    && let Some((user, account)) = routed.account()
                    // Two users who forward to each other keep what comes back.
                    && self.chain.iter().all(|known| *known != forward_name(user))
                    && let Some(targets) = files.forward(account)
                {
                    let mailbox = routed.mailbox.clone();
                    return self.descend(&forward_name(user), &targets, &mailbox);
                }
                self.end(mailbox, route)
            }
            Err(no_route) => self.end(mailbox, self.or_elsewhere(mailbox, Err(no_route), is_written)),
        }
    }

    /// A written address that nobody here has is elsewhere; see [`RoutePolicy::written`].
    fn or_elsewhere(
        &self,
        mailbox: &Mailbox,
        route: Result<Routed, NoRoute>,
        is_written: bool,
    ) -> Result<Routed, NoRoute> {
        match route {
            Err(NoRoute::UnknownUser) if is_written => self.sources.policy.leave(mailbox),
            route => route,
        }
    }

    /// The alias of a local mailbox. That for everybody leads away once: `*: joe` would else stand for joe, too.
    fn alias(&self, mailbox: &Mailbox) -> Option<(&'a str, &'a [Target])> {
        let Sources { policy, aliases, .. } = self.sources;
        let found = aliases.find(&key(mailbox), policy.separator);
        found.filter(|(alias, _)| *alias != EVERYBODY || self.chain.iter().all(|known| known != EVERYBODY))
    }

    /// Goes through the targets of an alias or of a file.
    fn descend(&mut self, name: &str, targets: &[Target], mailbox: &Mailbox) -> Result<(), NoRoute> {
        if self.chain.iter().any(|known| known == name) {
            self.trouble(format!("the alias {name:?} goes round in circles"));
            return Ok(());
        }
        if self.chain.len() >= DEPTH_MAX {
            self.trouble(format!("the alias {name:?} is deeper than {DEPTH_MAX} aliases"));
            return Ok(());
        }
        if self.known.iter().any(|known| known == name) {
            return Ok(());
        }
        self.known.push(name.to_owned());
        self.chain.push(name.to_owned());
        let done = targets.iter().try_for_each(|target| self.target(target, mailbox));
        self.chain.pop();
        done
    }

    /// `mailbox` is whose alias it is: a name without a domain is at the same one.
    fn target(&mut self, target: &Target, mailbox: &Mailbox) -> Result<(), NoRoute> {
        let Sources { policy, accounts, files, .. } = *self.sources;
        let at = |local_part: &LocalPart| Mailbox {
            local_part: local_part.clone(),
            domain: mailbox.domain.clone(),
        };
        match target {
            Target::Address(local_part, None) => self.local(&at(local_part), false),
            Target::Address(local_part, Some(domain)) => {
                let to = Mailbox { local_part: local_part.clone(), domain: domain.clone() };
                if policy.is_local(domain) {
                    return self.local(&to, true);
                }
                self.end(&to, policy.route_mailbox(&to, accounts))
            }
            Target::Mailbox(local_part) => {
                let to = at(local_part);
                self.end(&to, policy.own_maildir(&to, accounts))
            }
            Target::Include(path) => {
                let targets = files.include(path);
                let targets = targets.map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
                self.descend(path, &targets, mailbox)
            }
        }
    }

    /// The end of a chain.
    fn end(&mut self, mailbox: &Mailbox, route: Result<Routed, NoRoute>) -> Result<(), NoRoute> {
        if let Err(NoRoute::LookupFailed(_)) = route {
            return route.map(drop);
        }
        let mailbox = route.as_ref().map_or(mailbox, |routed| &routed.mailbox).clone();
        if self.found.members.iter().any(|member| member.mailbox == mailbox) {
            return Ok(());
        }
        if self.found.members.len() >= MEMBERS_MAX {
            let text = format!("the alias has more than {MEMBERS_MAX} recipients");
            return Err(NoRoute::Refused(EnhancedStatus::ROUTING_LOOP, text));
        }
        self.found.members.push(Member { mailbox, route, owner: self.owner.clone() });
        Ok(())
    }

    fn trouble(&mut self, text: String) {
        if !self.found.troubles.contains(&text) {
            self.found.troubles.push(text);
        }
    }
}

/// What stands for a user's file in the chain; no alias has such a name.
fn forward_name(user: &str) -> String {
    format!("{user}/.forward")
}

#[cfg(test)]
mod tests;
