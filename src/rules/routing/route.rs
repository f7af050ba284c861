//! Where a message goes: the Maildir of a local user, a next hop, or nowhere.
//!
//! The route of a mailbox, first match wins:
//!
//! | the mailbox | goes to |
//! | --- | --- |
//! | a domain elsewhere | the exception for the domain (`relay.routes`), else the smarthosts, else the MX hosts |
//! | a local name with an alias | the members of the alias; intake expands it (`expansion`), as it does several `admin`s |
//! | `postmaster` | `admin`, else the user `postmaster`, else root's mailbox, else a Maildir of its own, or with Maildirs in homes as any other name |
//! | a user that is a person | the user's Maildir |
//! | a system user, or root | `admin`, else the user's Maildir; one in its home counts as no user |
//! | an address that the operator wrote, and no user has | the next hop of its domain |
//! | an address of `[rewrite]` | as `postmaster` |
//! | any other name | `catch_all`, else 550 5.1.1 |
//!
//! A user is looked up with the detail (`joe+lists`), then without it. The same route is computed at RCPT, at the
//! commit and at each attempt from the queue, so that a queued message follows a changed configuration. Only aliases
//! are expanded once, when the message comes in; the queue holds their members.
//!
//! The rule never queries DNS, the disk or the user database: accounts come through [`Accounts`].

use super::aliases::AliasTable;
use super::next_hop::{NextHops, Refused};
use crate::mail::address::{Domain, ForwardPath, LocalPart, Mailbox};
use crate::mail::envelope::Recipient;
use crate::mail::fold::fold;
use crate::mail::next_hop::NextHop;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::is_unreadable;
use crate::smtp::reply::Reply;
use std::net::IpAddr;
use std::path::PathBuf;
use std::slice::from_ref;

/// The local users.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LocalUsers {
    /// The users of the system's database.
    #[default]
    System,
    /// The named users, folded (see [`fold`]).
    Named(Vec<String>),
    /// Every local part that is a safe directory name.
    Any,
}

/// The part of the configuration that decides about routes.
#[derive(Debug, Clone)]
pub struct RoutePolicy {
    /// The name of this host; also the domain of a bare `postmaster`.
    pub hostname: Domain,
    /// The domains whose mail stays here.
    pub local_domains: Vec<Domain>,
    /// The addresses of this host that an address literal may name.
    pub own_addresses: Vec<IpAddr>,
    /// The local users.
    pub users: LocalUsers,
    /// Whether Maildirs lie in the homes of their users. The homes of system users are not for mail: they hold the data
    /// of daemons, or programs.
    pub in_homes: bool,
    /// The character between user and detail.
    pub separator: Option<char>,
    /// Gets the mail of unknown users: a local user, or a mailbox elsewhere.
    pub catch_all: Option<Mailbox>,
    /// All of them get the mail of root, postmaster and system users without a mailbox.
    pub admin: Vec<Mailbox>,
    /// The addresses that this host's mail carries outside (`[rewrite]`). Mail to such an address that belongs to no
    /// user here goes where postmaster's mail goes.
    pub identities: Vec<Mailbox>,
    /// The addresses that the operator wrote. One in a local domain that no user here has lies elsewhere: a box with
    /// the name of the mail domain must not lose its alerts.
    pub written: Vec<Mailbox>,
    /// The next hops of mail that leaves.
    pub next_hops: NextHops,
}

/// An account of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemAccount {
    /// Its name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
}

/// The user database could not be queried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupFailed(pub String);

/// Looks accounts up.
pub trait Accounts {
    /// The account of this name, in lower case. `None`: there is no such account.
    ///
    /// # Errors
    /// The look-up failed, which says nothing about the account.
    fn find(&self, name: &str) -> Result<Option<SystemAccount>, LookupFailed>;
}

/// A local user with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUser {
    /// The name in lower case, for `{user}` in the path of the Maildir.
    pub name: String,
    /// The account, if the users are those of the system.
    pub account: Option<SystemAccount>,
}

/// Where a recipient's copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into the Maildir of a user here.
    Maildir(LocalUser),
    /// On to another host.
    Relay(NextHop),
    /// To the members of an alias; intake expands it.
    Alias,
}

/// A recipient with its route. The mailbox differs from the one in RCPT where `admin` or `catch_all` takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The mailbox that the copy is for.
    pub mailbox: Mailbox,
    /// Where it goes.
    pub destination: Destination,
    /// Whether the mailbox in RCPT belongs to this host, so that its mail is accepted from every client.
    pub is_local: bool,
    /// The mail leaves this host although its domain is local; see [`Recipient::leaves`].
    pub leaves: bool,
}

impl Routed {
    /// The name and account of the system user whose Maildir it is.
    #[must_use]
    pub fn account(&self) -> Option<(&str, &SystemAccount)> {
        match &self.destination {
            Destination::Maildir(LocalUser { name, account: Some(account) }) => Some((name, account)),
            _ => None,
        }
    }
}

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// No such user here: 550 5.1.1.
    UnknownUser,
    /// Refused by an exception of the configuration.
    Refused(EnhancedStatus, String),
    /// The user database or the aliases could not be queried: 451 4.3.0.
    LookupFailed(String),
}

/// The recipient of the mail for a local mailbox.
#[derive(Debug)]
pub(crate) enum Occupant<'a> {
    /// A local user.
    User(Mailbox, LocalUser),
    /// Other mailboxes instead of the user's, at least one: those of `admin`, or `catch_all`.
    StandIn(&'a [Mailbox]),
    /// No user here: an address that the operator wrote.
    Elsewhere(Mailbox),
}

impl Routed {
    /// The route of a recipient that the queue takes and routes again at each attempt, by the routes of that time.
    #[must_use]
    pub fn by_queue(mailbox: Mailbox, leaves: bool) -> Self {
        let destination = Destination::Relay(NextHop::Mx(mailbox.domain.clone()));
        Self { mailbox, destination, is_local: false, leaves }
    }
}

impl From<Refused> for NoRoute {
    fn from(Refused(status, text): Refused) -> Self {
        Self::Refused(status, text)
    }
}

impl NoRoute {
    /// The reason, for notices, the log and the queue.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::UnknownUser => Diagnostic::local(EnhancedStatus::NO_SUCH_USER, "no such user here"),
            Self::Refused(status, text) => Diagnostic::local(*status, text.as_str()),
            Self::LookupFailed(_) => {
                Diagnostic::local(EnhancedStatus::SYSTEM_TROUBLE, "the user can't be looked up now")
            }
        }
    }

    /// The reply to RCPT.
    #[must_use]
    pub fn reply(&self) -> Reply {
        let Diagnostic { status, text, .. } = self.diagnostic();
        Reply::new(if matches!(self, Self::LookupFailed(_)) { 451 } else { 550 }, status, text)
    }
}

/// Whether the user with this id is not a person: a daemon, or root.
#[must_use]
pub fn is_system_uid(uid: u32) -> bool {
    uid < FIRST_PERSON || uid == NOBODY
}

/// User ids below this one belong to system users on Debian, Fedora and OpenWrt.
const FIRST_PERSON: u32 = 1000;
/// `nobody`, who is not a person either.
const NOBODY: u32 = 65534;

impl RoutePolicy {
    /// The route of a forward-path.
    ///
    /// # Errors
    /// The mailbox has no route; see [`NoRoute`].
    pub fn route(
        &self,
        path: &ForwardPath,
        aliases: &AliasTable,
        accounts: &dyn Accounts,
    ) -> Result<Routed, NoRoute> {
        let mailbox = match path {
            ForwardPath::Postmaster => &self.postmaster_here(),
            ForwardPath::Mailbox(mailbox) => mailbox,
        };
        let alias = || Routed {
            mailbox: mailbox.clone(),
            destination: Destination::Alias,
            is_local: true,
            leaves: false,
        };
        if !self.is_local(&mailbox.domain) && *path != ForwardPath::Postmaster {
            return self.route_mailbox(mailbox, accounts);
        }
        if aliases.find(&key(mailbox), self.separator).is_some() {
            return Ok(alias());
        }
        match self.occupant(mailbox, accounts) {
            Ok(Occupant::StandIn(to)) if self.is_expanded(to, aliases) => Ok(alias()),
            Err(NoRoute::UnknownUser) if aliases.names(mailbox) => self.leave(mailbox),
            occupant => self.route_occupant(occupant?, accounts),
        }
    }

    /// The route of a mailbox for which no alias stands, or whose alias has been expanded.
    ///
    /// # Errors
    /// The mailbox has no route; see [`NoRoute`].
    pub fn route_mailbox(&self, mailbox: &Mailbox, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        if is_unreadable(mailbox) {
            let text = "this addressee can't be read as an address".to_owned();
            return Err(NoRoute::Refused(EnhancedStatus::BAD_RECIPIENT_SYNTAX, text));
        }
        if !self.is_local(&mailbox.domain) {
            let destination = Destination::Relay(self.next_hops.of_domain(&mailbox.domain)?);
            return Ok(Routed { mailbox: mailbox.clone(), destination, is_local: false, leaves: false });
        }
        self.route_occupant(self.occupant(mailbox, accounts)?, accounts)
    }

    /// The route of a queued recipient. A recipient that leaves this host keeps doing so while it waits.
    ///
    /// # Errors
    /// The mailbox has no route; see [`NoRoute`].
    pub fn route_recipient(&self, recipient: &Recipient, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        if recipient.leaves && self.is_local(&recipient.mailbox.domain) {
            return self.leave(&recipient.mailbox);
        }
        self.route_mailbox(&recipient.mailbox, accounts)
    }

    /// The route out for an address of a local domain that no user here has. It does not count as local for other
    /// hosts: mail that comes back from outside must not leave again.
    ///
    /// # Errors
    /// The domain is a name of this host only, or an exception refuses it.
    pub(crate) fn leave(&self, mailbox: &Mailbox) -> Result<Routed, NoRoute> {
        let name = mailbox.domain.name().filter(|name| name.contains('.'));
        if name.is_none_or(|name| name.starts_with("localhost.")) {
            return Err(NoRoute::UnknownUser);
        }
        let destination = Destination::Relay(self.next_hops.of_domain(&mailbox.domain)?);
        Ok(Routed { mailbox: mailbox.clone(), destination, is_local: false, leaves: true })
    }

    pub(crate) fn route_occupant(
        &self,
        occupant: Occupant<'_>,
        accounts: &dyn Accounts,
    ) -> Result<Routed, NoRoute> {
        match occupant {
            Occupant::User(mailbox, user) => Ok(here(mailbox, user)),
            // Of several, intake has made copies; a copy that waits for a user here since before goes to the first one.
            Occupant::StandIn([to, ..]) => self.redirect(to, accounts),
            Occupant::StandIn([]) => Err(NoRoute::UnknownUser),
            Occupant::Elsewhere(to) => self.leave(&to),
        }
    }

    /// The recipient of the mail for a local mailbox.
    pub(crate) fn occupant(
        &self,
        mailbox: &Mailbox,
        accounts: &dyn Accounts,
    ) -> Result<Occupant<'_>, NoRoute> {
        let name = key(mailbox);
        if name == "postmaster" {
            return self.postmaster(accounts);
        }
        if let Some(user) = self.find_user(&name, accounts)? {
            match self.admin.as_slice() {
                admin @ [_, ..] if is_system_account(&user) => return Ok(Occupant::StandIn(admin)),
                _ if self.has_mailbox(&user) => return Ok(Occupant::User(mailbox.clone(), user)),
                _ => {}
            }
        }
        match (self.admin.as_slice(), &self.catch_all) {
            // root need not be in the database for its mail to matter.
            (admin @ [_, ..], _) if name == "root" => Ok(Occupant::StandIn(admin)),
            _ if is_among(mailbox, &self.written) => Ok(Occupant::Elsewhere(mailbox.clone())),
            _ if is_among(mailbox, &self.identities) => self.postmaster(accounts),
            (_, Some(catch_all)) => Ok(Occupant::StandIn(from_ref(catch_all))),
            _ => Err(NoRoute::UnknownUser),
        }
    }

    /// The Maildir of the user of this name, even where `admin` would stand in for the user.
    pub(crate) fn own_maildir(&self, mailbox: &Mailbox, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        match self.find_user(&key(mailbox), accounts)? {
            Some(user) if self.has_mailbox(&user) => Ok(here(mailbox.clone(), user)),
            _ => self.route_mailbox(mailbox, accounts),
        }
    }

    /// `postmaster` at this host.
    pub(crate) fn postmaster_here(&self) -> Mailbox {
        Mailbox { local_part: LocalPart::postmaster(), domain: self.hostname.clone() }
    }

    /// Whether mail for the domain stays here.
    #[must_use]
    pub fn is_local(&self, domain: &Domain) -> bool {
        match domain {
            Domain::Name(_) => self.local_domains.contains(domain),
            Domain::Literal(ip) => ip.is_loopback() || self.own_addresses.contains(ip),
        }
    }

    /// The domain of bare recipients: the host name, or if that is not local, the first local domain. So a bare
    /// `root` is always a local user.
    #[must_use]
    pub fn home(&self) -> &Domain {
        let is_hostname = self.is_local(&self.hostname);
        self.local_domains.first().filter(|_| !is_hostname).unwrap_or(&self.hostname)
    }

    /// `postmaster` is accepted (RFC 5321 §4.5.1) wherever it can have a mailbox. A Maildir of its own has no place in
    /// homes: without `admin` and `catch_all` the mail would be refused after DATA, for ever.
    fn postmaster(&self, accounts: &dyn Accounts) -> Result<Occupant<'_>, NoRoute> {
        if !self.admin.is_empty() {
            return Ok(Occupant::StandIn(&self.admin));
        }
        for name in ["postmaster", "root"] {
            if let Some(user) = self.find_user(name, accounts)?.filter(|user| self.has_mailbox(user)) {
                return Ok(Occupant::User(self.postmaster_here(), user));
            }
        }
        if self.in_homes {
            let catch_all = self.catch_all.as_ref().map(from_ref);
            return catch_all.map(Occupant::StandIn).ok_or(NoRoute::UnknownUser);
        }
        let user = LocalUser { name: "postmaster".into(), account: None };
        Ok(Occupant::User(self.postmaster_here(), user))
    }

    /// The address of all whom `admin` names: the only one, or for several the postmaster, whose mail they get.
    #[must_use]
    pub fn admin_address(&self) -> Option<Mailbox> {
        match self.admin.as_slice() {
            [] => None,
            [admin] => Some(admin.clone()),
            _ => Some(self.postmaster_here()),
        }
    }

    /// Whether intake has to expand who gets mail instead of a user: several, or one with an alias.
    fn is_expanded(&self, to: &[Mailbox], aliases: &AliasTable) -> bool {
        let has_alias = |to: &Mailbox| aliases.find(&key(to), self.separator).is_some();
        to.len() > 1 || to.iter().any(|to| self.is_local(&to.domain) && has_alias(to))
    }

    /// Sends on to another mailbox. This happens once: a local target is not redirected again.
    pub(crate) fn redirect(&self, to: &Mailbox, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        if !self.is_local(&to.domain) {
            let destination = Destination::Relay(self.next_hops.of_domain(&to.domain)?);
            return Ok(Routed { mailbox: to.clone(), destination, is_local: true, leaves: false });
        }
        match self.find_user(&key(to), accounts)? {
            Some(user) if self.has_mailbox(&user) => Ok(here(to.clone(), user)),
            _ if is_among(to, &self.written) => Ok(Routed { is_local: true, ..self.leave(to)? }),
            _ => Err(NoRoute::UnknownUser),
        }
    }

    /// Whether mail for the user may go to a Maildir of the user's own.
    fn has_mailbox(&self, user: &LocalUser) -> bool {
        !(self.in_homes && user.account.is_some() && is_system_account(user))
    }

    /// The user of this name, else the user of the name without its detail.
    fn find_user(&self, name: &str, accounts: &dyn Accounts) -> Result<Option<LocalUser>, NoRoute> {
        if let Some(user) = self.find_exact(name, accounts)? {
            return Ok(Some(user));
        }
        match self.separator.and_then(|separator| name.split_once(separator)) {
            Some((user, _)) => self.find_exact(user, accounts),
            None => Ok(None),
        }
    }

    fn find_exact(&self, name: &str, accounts: &dyn Accounts) -> Result<Option<LocalUser>, NoRoute> {
        let user = |account| Some(LocalUser { name: name.to_owned(), account });
        match &self.users {
            LocalUsers::Named(names) => {
                Ok(names.iter().any(|n| n == name).then_some(()).and_then(|()| user(None)))
            }
            LocalUsers::Any => Ok(is_any_user(name).then_some(()).and_then(|()| user(None))),
            LocalUsers::System if is_account_name(name) => {
                let account =
                    accounts.find(name).map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
                Ok(account.and_then(|account| user(Some(account))))
            }
            LocalUsers::System => Ok(None),
        }
    }
}

/// The name by which a local mailbox is looked up.
pub(crate) fn key(mailbox: &Mailbox) -> String {
    fold(mailbox.local_part.as_str())
}

/// Whether the list contains this mailbox; local names are compared without case.
fn is_among(mailbox: &Mailbox, mailboxes: &[Mailbox]) -> bool {
    mailboxes.iter().any(|it| key(it) == key(mailbox) && it.domain == mailbox.domain)
}

fn here(mailbox: Mailbox, user: LocalUser) -> Routed {
    Routed { mailbox, destination: Destination::Maildir(user), is_local: true, leaves: false }
}

/// A system user that is not a person: a daemon, or root.
fn is_system_account(user: &LocalUser) -> bool {
    match &user.account {
        Some(account) => is_system_uid(account.uid),
        None => user.name == "root",
    }
}

/// Names that may be passed to a user database. A path or a separator in a name would be dangerous for some of them.
fn is_account_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+=@$".contains(&b))
}

/// The names that `users = "any"` accepts.
fn is_any_user(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-'))
}

#[cfg(test)]
mod tests;
