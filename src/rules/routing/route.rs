//! Where a message goes: the Maildir of a local user, a next hop, or nowhere.
//!
//! Decides by the configuration and by what it is told about accounts; never asks DNS, the disk or the user database
//! itself. The same route is taken at RCPT, when the message is committed, and at each attempt from the queue, so that a
//! queued message follows a changed configuration. Aliases come before all else, and once: when a message comes in
//! (`rules::expansion`). What is queued is for those that they stood for.

use super::aliases::AliasTable;
use crate::mail::address::{Domain, ForwardPath, LocalPart, Mailbox};
use crate::mail::envelope::Recipient;
use crate::mail::fold::fold;
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::status::EnhancedStatus;
use crate::mail::unqualified::is_unreadable;
use crate::smtp::reply::Reply;
use std::net::IpAddr;
use std::path::PathBuf;

/// Who has a mailbox here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Users {
    /// Users of the system's database.
    #[default]
    System,
    /// The named ones, folded (see [`fold`]).
    Named(Vec<String>),
    /// Every local part that is a safe directory name.
    Any,
}

/// What the configuration says about routes.
#[derive(Debug, Clone)]
pub struct RoutePolicy {
    /// This host's name; also the domain of `postmaster` without one.
    pub hostname: Domain,
    /// Domains whose mail stays here.
    pub local_domains: Vec<Domain>,
    /// Addresses of this host that an address literal may name.
    pub own_addresses: Vec<IpAddr>,
    /// Who has a mailbox here.
    pub users: Users,
    /// What separates user and detail.
    pub separator: Option<char>,
    /// Gets mail for users that are not known: a local user, or a mailbox elsewhere.
    pub catch_all: Option<Mailbox>,
    /// Gets mail for root, postmaster and system users without a mailbox.
    pub admin: Option<Mailbox>,
    /// Addresses that mail of this host leaves with (`[rewrite]`). What comes back to one that is nobody's here is for who
    /// gets postmaster's mail.
    pub identities: Vec<Mailbox>,
    /// Addresses that the operator wrote himself. One in a local domain that nobody here has is elsewhere: a box that is
    /// named like the mail domain must not lose its alerts.
    pub written: Vec<Mailbox>,
    /// The hosts that take all relayed mail; empty: by MX.
    pub smarthosts: Vec<Smarthost>,
    /// Exceptions by domain.
    pub exceptions: Vec<Exception>,
}

/// A row of `relay.routes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The domain in lower case, or with a leading dot its subdomains.
    pub pattern: String,
    /// Where its mail goes.
    pub target: ExceptionTarget,
}

/// Where the mail of an exception goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExceptionTarget {
    /// To these hosts, tried in order; never empty.
    Hosts(Vec<Smarthost>),
    /// Back to the sender, with a permanent status and this text.
    Error(EnhancedStatus, String),
}

/// An account of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: u32,
    /// Its first group.
    pub gid: u32,
    /// Its home directory.
    pub home: PathBuf,
}

/// The user database could not be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupFailed(pub String);

/// Looks accounts up.
pub trait Accounts {
    /// The account of that name, in lower case; `None` if there is none.
    ///
    /// # Errors
    /// The look-up failed, which says nothing about the account.
    fn find(&self, name: &str) -> Result<Option<Account>, LookupFailed>;
}

/// A local user with a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUser {
    /// The name, in lower case, as `{user}` of the Maildir's path.
    pub name: String,
    /// The system's account, if users are those of the system.
    pub account: Option<Account>,
}

/// Where a recipient's copy goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Into the Maildir of a user here.
    Maildir(LocalUser),
    /// On to another host.
    Relay(NextHop),
    /// To those that an alias stands for; intake asks who they are.
    Alias,
}

/// A recipient with its route. The mailbox is another than asked for where `admin` or `catch_all` take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The mailbox that the copy is for.
    pub mailbox: Mailbox,
    /// Where it goes.
    pub destination: Destination,
    /// Whether the mailbox asked for is of this host, so that its mail is taken from everyone.
    pub is_local: bool,
    /// It goes on to another host although its domain is local; see [`Recipient::leaves`].
    pub leaves: bool,
}

impl Routed {
    /// The user of the system whose Maildir it is, and the account.
    #[must_use]
    pub fn account(&self) -> Option<(&str, &Account)> {
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
    /// An exception of the operator's.
    Refused(EnhancedStatus, String),
    /// The user database or the aliases could not be asked: 451 4.3.0.
    LookupFailed(String),
}

/// Who gets the mail of a local mailbox.
#[derive(Debug)]
pub(crate) enum Occupant<'a> {
    /// A user here.
    User(Mailbox, LocalUser),
    /// Somebody else in the user's place: `admin` or `catch_all`.
    StandIn(&'a Mailbox),
    /// Nobody here: an address that the operator wrote.
    Elsewhere(Mailbox),
}

impl NoRoute {
    /// The reply to RCPT.
    #[must_use]
    pub fn reply(&self) -> Reply {
        match self {
            Self::UnknownUser => Reply::new(550, EnhancedStatus::NO_SUCH_USER, "no such user here"),
            Self::Refused(status, text) => Reply::new(550, *status, text.clone()),
            Self::LookupFailed(_) => {
                Reply::new(451, EnhancedStatus::SYSTEM_TROUBLE, "the user can't be looked up now")
            }
        }
    }
}

/// uids below this one are of system users on the systems that matter (Debian, Fedora, OpenWrt: 1000), and people begin.
const FIRST_PERSON: u32 = 1000;
/// `nobody`, who is no person either.
const NOBODY: u32 = 65534;

impl RoutePolicy {
    /// The route of a forward-path.
    ///
    /// # Errors
    /// There is none; see [`NoRoute`].
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
            Ok(Occupant::StandIn(to))
                if self.is_local(&to.domain) && aliases.find(&key(to), self.separator).is_some() =>
            {
                Ok(alias())
            }
            Err(NoRoute::UnknownUser) if aliases.names(mailbox) => self.leave(mailbox),
            occupant => self.route_occupant(occupant?, accounts),
        }
    }

    /// The route of a mailbox that no alias stands for, or not any more.
    ///
    /// # Errors
    /// There is none; see [`NoRoute`].
    pub fn route_mailbox(&self, mailbox: &Mailbox, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        if is_unreadable(mailbox) {
            let text = "this addressee can't be read as an address".to_owned();
            return Err(NoRoute::Refused(EnhancedStatus::BAD_RECIPIENT_SYNTAX, text));
        }
        if !self.is_local(&mailbox.domain) {
            let destination = Destination::Relay(self.next_hop(&mailbox.domain)?);
            return Ok(Routed { mailbox: mailbox.clone(), destination, is_local: false, leaves: false });
        }
        self.route_occupant(self.occupant(mailbox, accounts)?, accounts)
    }

    /// The route of a queued recipient: one that leaves this host does so as long as it waits.
    ///
    /// # Errors
    /// No route leads to it; see [`NoRoute`].
    pub fn route_recipient(&self, recipient: &Recipient, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        if recipient.leaves && self.is_local(&recipient.mailbox.domain) {
            return self.leave(&recipient.mailbox);
        }
        self.route_mailbox(&recipient.mailbox, accounts)
    }

    /// The way out for an address of a local domain that nobody here has. It is no local one, for strangers: what comes
    /// back from outside must not leave again.
    ///
    /// # Errors
    /// The domain is a name of this host alone, or an exception refuses it.
    pub(crate) fn leave(&self, mailbox: &Mailbox) -> Result<Routed, NoRoute> {
        let name = mailbox.domain.name().filter(|name| name.contains('.'));
        if name.is_none_or(|name| name.starts_with("localhost.")) {
            return Err(NoRoute::UnknownUser);
        }
        let destination = Destination::Relay(self.next_hop(&mailbox.domain)?);
        Ok(Routed { mailbox: mailbox.clone(), destination, is_local: false, leaves: true })
    }

    pub(crate) fn route_occupant(
        &self,
        occupant: Occupant<'_>,
        accounts: &dyn Accounts,
    ) -> Result<Routed, NoRoute> {
        match occupant {
            Occupant::User(mailbox, user) => Ok(here(mailbox, user)),
            Occupant::StandIn(to) => self.redirect(to, accounts),
            Occupant::Elsewhere(to) => self.leave(&to),
        }
    }

    /// Who gets the mail of a local mailbox.
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
            return Ok(match &self.admin {
                Some(admin) if is_system_account(&user) => Occupant::StandIn(admin),
                _ => Occupant::User(mailbox.clone(), user),
            });
        }
        match (&self.admin, &self.catch_all) {
            // root need not be in the database for its mail to matter.
            (Some(admin), _) if name == "root" => Ok(Occupant::StandIn(admin)),
            _ if is_among(mailbox, &self.written) => Ok(Occupant::Elsewhere(mailbox.clone())),
            _ if is_among(mailbox, &self.identities) => self.postmaster(accounts),
            (_, Some(catch_all)) => Ok(Occupant::StandIn(catch_all)),
            _ => Err(NoRoute::UnknownUser),
        }
    }

    /// The Maildir of the user of that name, though `admin` may stand in for others of its kind.
    pub(crate) fn own_maildir(&self, mailbox: &Mailbox, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        match self.find_user(&key(mailbox), accounts)? {
            Some(user) => Ok(here(mailbox.clone(), user)),
            None => self.route_mailbox(mailbox, accounts),
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

    /// The domain of bare recipients: this host, or where that is not local, a domain that is. `root` is somebody here.
    #[must_use]
    pub fn home(&self) -> &Domain {
        let is_hostname = self.is_local(&self.hostname);
        self.local_domains.first().filter(|_| !is_hostname).unwrap_or(&self.hostname)
    }

    /// `postmaster` is always taken (RFC 5321 §4.5.1): it goes to `admin`, to a user of that name, to root's mailbox, or
    /// into a Maildir of its own.
    fn postmaster(&self, accounts: &dyn Accounts) -> Result<Occupant<'_>, NoRoute> {
        if let Some(admin) = &self.admin {
            return Ok(Occupant::StandIn(admin));
        }
        let user = match self.find_user("postmaster", accounts)? {
            Some(user) => user,
            None => match self.find_user("root", accounts)? {
                Some(root) => root,
                None => LocalUser { name: "postmaster".into(), account: None },
            },
        };
        Ok(Occupant::User(self.postmaster_here(), user))
    }

    /// Sends on to another mailbox, once: what is local there has no further redirection.
    fn redirect(&self, to: &Mailbox, accounts: &dyn Accounts) -> Result<Routed, NoRoute> {
        if !self.is_local(&to.domain) {
            let destination = Destination::Relay(self.next_hop(&to.domain)?);
            return Ok(Routed { mailbox: to.clone(), destination, is_local: true, leaves: false });
        }
        match self.find_user(&key(to), accounts)? {
            Some(user) => Ok(here(to.clone(), user)),
            None if is_among(to, &self.written) => Ok(Routed { is_local: true, ..self.leave(to)? }),
            None => Err(NoRoute::UnknownUser),
        }
    }

    /// The user of that name, with the detail taken off if there is no user with it.
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
            Users::Named(names) => {
                Ok(names.iter().any(|n| n == name).then_some(()).and_then(|()| user(None)))
            }
            Users::Any => Ok(is_any_user(name).then_some(()).and_then(|()| user(None))),
            Users::System if is_account_name(name) => {
                let account =
                    accounts.find(name).map_err(|LookupFailed(text)| NoRoute::LookupFailed(text))?;
                Ok(account.and_then(|account| user(Some(account))))
            }
            Users::System => Ok(None),
        }
    }

    fn next_hop(&self, domain: &Domain) -> Result<NextHop, NoRoute> {
        match self.exception(domain) {
            Some(ExceptionTarget::Hosts(hosts)) => Ok(NextHop::Smarthosts(hosts.clone())),
            Some(ExceptionTarget::Error(status, text)) => Err(NoRoute::Refused(*status, text.clone())),
            None if self.smarthosts.is_empty() => Ok(NextHop::Mx(domain.clone())),
            None => Ok(NextHop::Smarthosts(self.smarthosts.clone())),
        }
    }

    /// The exception for the domain itself, or else the longest one for a domain above it.
    fn exception(&self, domain: &Domain) -> Option<&ExceptionTarget> {
        let key = domain.key();
        let exact = self.exceptions.iter().find(|e| e.pattern == key);
        let above = || {
            let fits =
                self.exceptions.iter().filter(|e| e.pattern.starts_with('.') && key.ends_with(&e.pattern));
            fits.max_by_key(|e| e.pattern.len())
        };
        exact.or_else(above).map(|e| &e.target)
    }
}

/// The name by which a local mailbox is looked up.
pub(crate) fn key(mailbox: &Mailbox) -> String {
    fold(mailbox.local_part.as_str())
}

/// Whether one of the mailboxes is this one; local names have no case.
fn is_among(mailbox: &Mailbox, mailboxes: &[Mailbox]) -> bool {
    mailboxes.iter().any(|it| key(it) == key(mailbox) && it.domain == mailbox.domain)
}

fn here(mailbox: Mailbox, user: LocalUser) -> Routed {
    Routed { mailbox, destination: Destination::Maildir(user), is_local: true, leaves: false }
}

/// A user of the system's that is no person: daemons, and root.
fn is_system_account(user: &LocalUser) -> bool {
    match &user.account {
        Some(account) => account.uid < FIRST_PERSON || account.uid == NOBODY,
        None => user.name == "root",
    }
}

/// Names that a user database may be asked for: a path or a separator in one would reach into some of them.
fn is_account_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+=@$".contains(&b))
}

/// What `users = "any"` takes.
fn is_any_user(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'=' | b'-'))
}

#[cfg(test)]
mod tests;
