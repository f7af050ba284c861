//! The next hop of mail that leaves: by the recipient's domain (`relay.routes`), by the sender (`relay.senders`), else the
//! smarthosts, else the MX hosts of the domain.
//!
//! The sender is the reverse-path before it is rewritten. The whole address is looked for first, then its domain. The null
//! sender has no row.

use crate::mail::address::{Domain, Mailbox, ReversePath};
use crate::mail::next_hop::{NextHop, Smarthost};
use crate::mail::status::EnhancedStatus;

/// The part of the configuration that decides about next hops.
#[derive(Debug, Clone, Default)]
pub struct NextHops {
    /// The hosts that take all relayed mail. Empty: the MX hosts.
    pub smarthosts: Vec<Smarthost>,
    /// The next hops of single senders.
    pub senders: Vec<(SenderPattern, NextHop)>,
    /// Exceptions by domain.
    pub exceptions: Vec<Exception>,
}

/// A row of `relay.routes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exception {
    /// The domain in lower case; with a leading dot, its subdomains.
    pub pattern: String,
    /// Where the mail of the domain goes.
    pub target: ExceptionTarget,
}

/// Where the mail of an exception goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExceptionTarget {
    /// To these hosts, tried in order; never empty.
    Hosts(Vec<Smarthost>),
    /// Refused, with this reason.
    Error(EnhancedStatus, String),
}

/// An exception refuses the domain, with this reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub EnhancedStatus, pub String);

/// The sender of a row of `relay.senders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// One address; its local part is compared without case.
    Mailbox(Mailbox),
    /// `@example.org`: all of a domain.
    Domain(Domain),
}

impl SenderPattern {
    /// Parses `nas@example.org` or `@example.org`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).ok().map(Self::Domain),
            None => Mailbox::parse(text).ok().map(Self::Mailbox),
        }
    }

    fn is_address(&self, sender: &Mailbox) -> bool {
        let is_same = |it: &Mailbox| {
            let (one, other) = (it.local_part.as_str(), sender.local_part.as_str());
            it.domain == sender.domain && one.eq_ignore_ascii_case(other)
        };
        matches!(self, Self::Mailbox(mailbox) if is_same(mailbox))
    }
}

impl NextHops {
    /// The next hop of mail for a domain, whoever sends it.
    ///
    /// # Errors
    /// An exception refuses the domain.
    pub fn of_domain(&self, domain: &Domain) -> Result<NextHop, Refused> {
        match self.exception(domain) {
            Some(ExceptionTarget::Hosts(hosts)) => Ok(NextHop::Smarthosts(hosts.clone())),
            Some(ExceptionTarget::Error(status, text)) => Err(Refused(*status, text.clone())),
            None if self.smarthosts.is_empty() => Ok(NextHop::Mx(domain.clone())),
            None => Ok(NextHop::Smarthosts(self.smarthosts.clone())),
        }
    }

    /// The next hop of a message with this sender to a domain, where `next_hop` is the one for all senders.
    #[must_use]
    pub fn for_sender(&self, next_hop: NextHop, sender: &ReversePath, domain: &Domain) -> NextHop {
        let Some(sender) = sender.mailbox() else { return next_hop };
        if self.senders.is_empty() || self.exception(domain).is_some() {
            return next_hop;
        }
        let exact = self.senders.iter().find(|(pattern, _)| pattern.is_address(sender));
        let is_of_domain =
            |pattern: &SenderPattern| matches!(pattern, SenderPattern::Domain(it) if *it == sender.domain);
        let found = exact.or_else(|| self.senders.iter().find(|(pattern, _)| is_of_domain(pattern)));
        found.map_or(next_hop, |(_, hop)| hop.clone())
    }

    /// The exception for the domain itself, else the longest one for a parent domain.
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
