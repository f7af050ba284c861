//! The expansion of aliases: one recipient becomes several, here and elsewhere.
//!
//! The targets of an alias are visited depth first:
//!
//! | target | becomes |
//! | --- | --- |
//! | `name`, or an address in a local domain | its alias, if it has one; else its user |
//! | `\name`, or the alias's own name | the Maildir of the user, without a further alias |
//! | an address elsewhere | itself |
//! | `:include:/PATH` | the targets in the file |
//! | a user with a `.forward` | the targets in that file |
//! | root and others for whom several `admin`s stand in | all of these |
//!
//! The expansion always ends: each name is visited once, no chain is longer than [`DEPTH_MAX`], an alias has at most
//! [`MEMBERS_MAX`] members, and each member gets one copy. A loop or an unknown name costs the other recipients
//! nothing; it is reported as a trouble. Only an alias without any routable member has no route (5.4.6, 5.1.1).
//!
//! An alias NAME with an alias `owner-NAME` is a list (RFC 5321 §3.9.2): failures of its members are reported to the
//! owner.
//!
//! Files and accounts come through traits; the module opens nothing.

use super::aliases::{AliasTable, AliasTarget, EVERYBODY};
use super::route::{Accounts, LookupFailed, NoRoute, Occupant, RoutePolicy, Routed, SystemAccount, key};
use crate::mail::address::{LocalPart, Mailbox};
use crate::mail::status::EnhancedStatus;
use std::collections::HashSet;

/// The longest chain of aliases.
const DEPTH_MAX: usize = 20;
/// The most members of one alias; Postfix has the same limit.
const MEMBERS_MAX: usize = 1000;

/// Reads the files that aliases and users name.
pub trait Files {
    /// The targets that the file lists.
    ///
    /// # Errors
    /// The file cannot be read at the moment, which says nothing about its recipients.
    fn include(&self, path: &str) -> Result<Vec<AliasTarget>, LookupFailed>;

    /// The targets to which a user forwards mail. `None`: the user does not forward.
    fn forward(&self, account: &SystemAccount) -> Option<Vec<AliasTarget>>;
}

/// The inputs of an expansion.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The configuration.
    pub policy: &'a RoutePolicy,
    /// The aliases.
    pub aliases: &'a AliasTable,
    /// The accounts of the system.
    pub accounts: &'a dyn Accounts,
    /// The included files and the `.forward` files.
    pub files: &'a dyn Files,
}

/// A mailbox for which an alias stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasMember {
    /// The mailbox that gets a copy.
    pub mailbox: Mailbox,
    /// The route of the copy. An error is reported to the sender after the message is accepted.
    pub route: Result<Routed, NoRoute>,
    /// The owner of the innermost list through which the member was found.
    pub owner: Option<Mailbox>,
}

/// The result of an expansion.
#[derive(Debug, Default)]
pub struct Expansion {
    /// The members; at least one has a route.
    pub members: Vec<AliasMember>,
    /// Problems for the operator to correct.
    pub troubles: Vec<String>,
}

/// Finds the members of the alias of a local mailbox.
///
/// # Errors
/// No member has a route, or a look-up failed.
pub fn expand(sources: &Sources<'_>, mailbox: &Mailbox) -> Result<Expansion, NoRoute> {
    let (chain, known) = (Vec::new(), HashSet::new());
    let mut expander = Expander { sources, chain, known, owner: None, found: Expansion::default() };
    expander.local(mailbox, false)?;
    let Expansion { members, troubles } = &expander.found;
    if members.iter().any(|member| member.route.is_ok()) {
        return Ok(expander.found);
    }
    if key(mailbox) == "postmaster" {
        // Mail for postmaster is always accepted (RFC 5321 §4.5.1).
        let routed = sources.policy.route_mailbox(&sources.policy.postmaster_here(), sources.accounts)?;
        let member = AliasMember { mailbox: routed.mailbox.clone(), route: Ok(routed), owner: None };
        return Ok(Expansion { members: vec![member], troubles: expander.found.troubles });
    }
    Err(match (troubles.first(), members.first()) {
        (Some(trouble), _) => NoRoute::Refused(EnhancedStatus::ROUTING_LOOP, trouble.clone()),
        (None, Some(AliasMember { route: Err(no_route), .. })) => no_route.clone(),
        (None, _) => NoRoute::UnknownUser,
    })
}

struct Expander<'a> {
    sources: &'a Sources<'a>,
    /// The aliases and files that lead to the current target, outermost first.
    chain: Vec<String>,
    /// The aliases and files that were visited.
    known: HashSet<String>,
    /// The owner of the innermost list.
    owner: Option<Mailbox>,
    found: Expansion,
}

impl<'a> Expander<'a> {
    /// Visits a local mailbox. `is_written`: a target named it with its domain, so it may lie elsewhere.
    fn local(&mut self, mailbox: &Mailbox, is_written: bool) -> Result<(), NoRoute> {
        let Sources { policy, aliases, accounts, .. } = *self.sources;
        match self.alias(mailbox) {
            // `joe: joe, …` includes joe's own mailbox.
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
            Ok(Occupant::StandIn(all)) => all.iter().try_for_each(|to| {
                if policy.is_local(&to.domain) && self.alias(to).is_some() {
                    return self.local(to, false);
                }
                self.arrive(if all.len() > 1 { to } else { mailbox }, policy.redirect(to, accounts))
            }),
            Ok(occupant) => self.arrive(mailbox, policy.route_occupant(occupant, accounts)),
            Err(no_route) => self.end(mailbox, self.or_elsewhere(mailbox, Err(no_route), is_written)),
        }
    }

    /// Visits the user at the end of a chain, who may forward.
    fn arrive(&mut self, mailbox: &Mailbox, route: Result<Routed, NoRoute>) -> Result<(), NoRoute> {
        if let Ok(routed) = &route
            && let Some((user, account)) = routed.account()
            // Two users who forward to each other keep what comes back.
            && self.chain.iter().all(|known| *known != forward_name(user))
            && let Some(targets) = self.sources.files.forward(account)
        {
            let mailbox = routed.mailbox.clone();
            return self.descend(&forward_name(user), &targets, &mailbox);
        }
        self.end(mailbox, route)
    }

    /// A written address that no user here has lies elsewhere; see [`RoutePolicy::written`].
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

    /// The alias of a local mailbox. The alias for everybody applies once in a chain: otherwise `*: joe` would apply
    /// to joe, too.
    fn alias(&self, mailbox: &Mailbox) -> Option<(&'a str, &'a [AliasTarget])> {
        let Sources { policy, aliases, .. } = self.sources;
        let found = aliases.find(&key(mailbox), policy.separator);
        found.filter(|(alias, _)| *alias != EVERYBODY || self.chain.iter().all(|known| known != EVERYBODY))
    }

    /// Visits the targets of an alias or of a file.
    fn descend(&mut self, name: &str, targets: &[AliasTarget], mailbox: &Mailbox) -> Result<(), NoRoute> {
        if self.chain.iter().any(|known| known == name) {
            self.trouble(format!("the alias {name:?} is part of a loop"));
            return Ok(());
        }
        if self.chain.len() >= DEPTH_MAX {
            self.trouble(format!("the alias {name:?} is deeper than {DEPTH_MAX} aliases"));
            return Ok(());
        }
        if !self.known.insert(name.to_owned()) {
            return Ok(());
        }
        self.chain.push(name.to_owned());
        let done = targets.iter().try_for_each(|target| self.target(target, mailbox));
        self.chain.pop();
        done
    }

    /// Visits one target. `mailbox` owns the alias: a target without a domain gets its domain.
    fn target(&mut self, target: &AliasTarget, mailbox: &Mailbox) -> Result<(), NoRoute> {
        let Sources { policy, accounts, files, .. } = *self.sources;
        let at = |local_part: &LocalPart| Mailbox {
            local_part: local_part.clone(),
            domain: mailbox.domain.clone(),
        };
        match target {
            AliasTarget::Address(local_part, None) => self.local(&at(local_part), false),
            AliasTarget::Address(local_part, Some(domain)) => {
                let to = Mailbox { local_part: local_part.clone(), domain: domain.clone() };
                if policy.is_local(domain) {
                    return self.local(&to, true);
                }
                self.end(&to, policy.route_mailbox(&to, accounts))
            }
            AliasTarget::Mailbox(local_part) => {
                let to = at(local_part);
                self.end(&to, policy.own_maildir(&to, accounts))
            }
            AliasTarget::Include(path) => {
                let targets = files.include(path);
                let targets = targets.map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
                self.descend(path, &targets, mailbox)
            }
        }
    }

    /// Adds the mailbox at the end of a chain.
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
        self.found.members.push(AliasMember { mailbox, route, owner: self.owner.clone() });
        Ok(())
    }

    fn trouble(&mut self, text: String) {
        if !self.found.troubles.contains(&text) {
            self.found.troubles.push(text);
        }
    }
}

/// The name of a user's file in the chain; no alias can have such a name.
fn forward_name(user: &str) -> String {
    format!("{user}/.forward")
}

#[cfg(test)]
mod tests;
