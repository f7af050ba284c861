//! The senders of this host's mail when it leaves (`[rewrite]`): envelope sender, From and Sender become addresses
//! that exist outside, and that the smarthost's login may use.
//!
//! | what | with all senders replaced | with single senders or a domain |
//! | --- | --- | --- |
//! | reverse-path | becomes the address; a null one stays null (RFC 5321 §4.5.5) | becomes its address, if it has one |
//! | the first From | becomes one address | its address, if it has one |
//! | a further From | becomes X-Original-From | stays |
//! | Sender | dropped if it would equal From (RFC 5322 §3.6.2) | the same |
//! | Resent-From | the newest only: older blocks come from other hosts (§3.6.6) | the same |
//! | no From | one is added | nothing |
//!
//! The old author stays visible in the display name and in X-Original-From. `"root on router"` is shorter than an
//! address, and no reader or filter takes it for one.
//!
//! The policy applies to this host's own mail, each time that it leaves: never to mail in a Maildir or in the queue,
//! and never to mail in transit, which its author has signed. Reply-To, other addresses and the body stay unchanged.
//! To rewrite twice has the same result as to rewrite once. The prefix of Subject is in [`subject`].
//!
//! All text is in canonical form (see [`crate::mail::message`]). A From that is no address list becomes a display
//! name if all senders are replaced, and otherwise stays.
//!
//! # Examples
//!
//! On the host `router.lan`, where all senders become `box@example.com`:
//!
//! | From | becomes |
//! | --- | --- |
//! | `root@router.lan (Cron Daemon)` | `"Cron Daemon (root on router)" <box@example.com>` |
//! | `root` | `root on router <box@example.com>` |
//! | `box@example.com` | itself: it already is one of the new addresses |
//!
//! The first match of these rules gives the new address of a sender: it is one of the new addresses already, and
//! stays; a row of `rewrite.senders` has the whole address; for an address of this host, a row has its local part;
//! the rule for all other senders.

pub mod subject;

use crate::mail::address::{Domain, Mailbox, ReversePath};
use crate::mail::address_list::{self, AddressSpan};
use crate::mail::display_name::DisplayName;
use crate::mail::header::{fields, section, value_of};
use crate::mail::unqualified::Unqualified;

/// The longest line of a header section, in octets (RFC 5322 §2.1.1).
const LINE_MAX_OCTETS: usize = 998;
/// The column at which lines are folded (RFC 5322 §2.1.1).
const LINE_COLUMNS: usize = 78;
/// The longest part of an address in a display name, in characters.
const SHOWN_MAX_CHARS: usize = 100;
const ORIGINAL: &[u8] = b"X-Original-From:";

/// How the senders of this host's own mail are rewritten.
#[derive(Debug, Clone)]
pub struct RewritePolicy {
    /// The name of this host.
    pub hostname: Domain,
    /// The domains whose mail stays here; a name without a dot always is one.
    pub local_domains: Vec<Domain>,
    /// Single senders, by address or by their local part on this host. ASCII, as are those of `others`.
    pub senders: Vec<(Unqualified, Mailbox)>,
    /// The rule for all other senders.
    pub others: Others,
    /// What stands in front of each Subject, for [`subject::prefixed`]; empty: nothing.
    pub subject_prefix: String,
}

/// The rule for senders that are not listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Others {
    /// They stay.
    Stay,
    /// They all become this address.
    Become(Mailbox),
    /// Senders without a domain, or with one of this host, get this domain.
    MoveTo(Domain),
}

/// The new author of a field.
struct NewAuthor {
    name: DisplayName,
    mailbox: Mailbox,
}

impl RewritePolicy {
    /// Whether the policy changes no sender.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.senders.is_empty() && self.others == Others::Stay
    }

    /// The new address for a sender. `None`: it stays.
    #[must_use]
    pub fn replace(&self, old: &Unqualified) -> Option<Mailbox> {
        if self.is_identity(old) {
            return None;
        }
        let is_here = old.domain.as_ref().is_none_or(|domain| self.is_here(domain));
        let find = |name: &Unqualified| self.senders.iter().find(|(known, _)| is_same(known, name));
        let bare = Unqualified { local_part: old.local_part.clone(), domain: None };
        if let Some((_, mailbox)) = find(old).or_else(|| find(&bare).filter(|_| is_here)) {
            return Some(mailbox.clone());
        }
        match &self.others {
            Others::Become(mailbox) => Some(mailbox.clone()),
            Others::MoveTo(domain) if is_here && old.domain.as_ref() != Some(domain) => {
                let moved = Unqualified { domain: Some(domain.clone()), ..bare };
                Some(find(&moved).map_or_else(|| moved.at(domain), |(_, mailbox)| mailbox.clone()))
            }
            Others::Stay | Others::MoveTo(_) => None,
        }
    }

    /// The reverse-path with which a message leaves.
    #[must_use]
    pub fn reverse_path(&self, old: &ReversePath) -> ReversePath {
        let new = old.mailbox().and_then(|mailbox| self.replace(&unqualified(mailbox)));
        new.map_or_else(|| old.clone(), ReversePath::Mailbox)
    }

    /// The addresses that senders become.
    pub fn identities(&self) -> impl Iterator<Item = &Mailbox> {
        let everyone = match &self.others {
            Others::Become(mailbox) => Some(mailbox),
            Others::Stay | Others::MoveTo(_) => None,
        };
        self.senders.iter().map(|(_, mailbox)| mailbox).chain(everyone)
    }

    fn is_identity(&self, address: &Unqualified) -> bool {
        self.identities().any(|mailbox| is_same(&unqualified(mailbox), address))
    }

    /// The header section with which a message leaves, and how many octets of `start` it replaces. `None`: it stays.
    /// `start` is the message, or enough of it to contain the header section.
    #[must_use]
    pub fn header(&self, start: &[u8], reverse_path: &ReversePath) -> Option<(Vec<u8>, usize)> {
        let old = section(start);
        let mut new = Vec::with_capacity(old.len() + 256);
        let from = fields(old).find_map(|field| value_of(field, "From"));
        let author = from.and_then(|value| self.identity(value));
        let author_mailbox = match &author {
            Some(identity) => Some(identity.mailbox.clone()),
            None => from.and_then(first_address).map(|address| address.at(&self.hostname)),
        };
        let (mut has_from, mut has_resent_from) = (false, false);
        for field in fields(old) {
            if let Some(value) = value_of(field, "From") {
                match &author {
                    Some(identity) if !has_from => {
                        identity.print("From", &mut new);
                        print_original(value, &mut new);
                    }
                    // A second From is not allowed; hosts that check From refuse the message.
                    _ if has_from && self.replaces_all() => print_original(value, &mut new),
                    _ => new.extend_from_slice(field),
                }
                has_from = true;
            } else if let Some(identity) = value_of(field, "Sender").and_then(|it| self.identity(it)) {
                if author_mailbox.as_ref() != Some(&identity.mailbox) {
                    identity.print("Sender", &mut new);
                }
            } else if let Some(value) = value_of(field, "Resent-From").filter(|_| !has_resent_from) {
                has_resent_from = true;
                match self.identity(value) {
                    Some(identity) => identity.print("Resent-From", &mut new),
                    None => new.extend_from_slice(field),
                }
            } else {
                new.extend_from_slice(field);
            }
        }
        if !has_from {
            self.print_missing(reverse_path, &mut new);
        }
        if new == old {
            return None;
        }
        // An empty line ends the header section for every reader: no field after it is ours to miss.
        if start.get(old.len()).is_some_and(|&next| next != b'\n') {
            new.push(b'\n');
        }
        Some((new, old.len()))
    }

    const fn replaces_all(&self) -> bool {
        matches!(self.others, Others::Become(_))
    }

    /// A message without From gets one if all senders become the same address.
    fn print_missing(&self, reverse_path: &ReversePath, out: &mut Vec<u8>) {
        let Others::Become(mailbox) = &self.others else { return };
        let old = reverse_path.mailbox().map(unqualified);
        let mailbox = old.as_ref().and_then(|old| self.replace(old)).unwrap_or_else(|| mailbox.clone());
        let mut name = DisplayName::default();
        if let Some(old) = old.filter(|old| !self.is_identity(old)) {
            name.push(&self.describe(&old));
        }
        if !matches!(out.last(), None | Some(b'\n')) {
            out.push(b'\n');
        }
        NewAuthor { name, mailbox }.print("From", out);
    }

    /// The new author for a field. `None`: the field stays.
    fn identity(&self, value: &[u8]) -> Option<NewAuthor> {
        let spans = address_list::spans(value).unwrap_or_default();
        let read = |span: &AddressSpan| span.read(value);
        let addresses: Vec<Unqualified> = spans.iter().map_while(read).collect();
        let (Some(first), Some(span), true) =
            (addresses.first(), spans.first(), addresses.len() == spans.len())
        else {
            let Others::Become(mailbox) = &self.others else { return None };
            let name = DisplayName::read(value).without_addresses();
            return Some(NewAuthor { name, mailbox: mailbox.clone() });
        };
        let may_stay = !self.replaces_all() || is_unambiguous(value, &addresses);
        if may_stay && addresses.iter().all(|address| self.replace(address).is_none()) {
            return None;
        }
        let name = DisplayName::read(value.get(span.name.clone()).unwrap_or_default());
        let Some(mailbox) = self.replace(first) else {
            return Some(NewAuthor { name: name.without_addresses(), mailbox: first.at(&self.hostname) });
        };
        Some(self.named_as(name, first, mailbox))
    }

    fn named_as(&self, mut name: DisplayName, first: &Unqualified, mailbox: Mailbox) -> NewAuthor {
        let shown = self.describe(first);
        if name.is_empty() || name.says(first.local_part.as_str()) || name.says(&first.to_string()) {
            name = DisplayName::default();
            name.push(&shown);
        } else if mailbox.local_part != first.local_part {
            name.push(&format!("({shown})"));
        }
        NewAuthor { name: name.without_addresses(), mailbox }
    }

    /// An address in the words of a display name.
    fn describe(&self, address: &Unqualified) -> String {
        let is_this_host = |domain: &&Domain| match domain {
            Domain::Name(name) => **domain == self.hostname || name.eq_ignore_ascii_case("localhost"),
            Domain::Literal(ip) => ip.is_loopback(),
        };
        let first_label = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let text = match address.domain.as_ref().filter(|domain| !is_this_host(domain)) {
            None => {
                let host = self.hostname.name().map_or_else(|| self.hostname.to_string(), first_label);
                format!("{} on {host}", address.local_part.as_str())
            }
            Some(domain) if is_bare(domain) => format!("{} on {domain}", address.local_part.as_str()),
            Some(domain) => format!("{} at {domain}", address.local_part.as_str()),
        };
        text.chars().take(SHOWN_MAX_CHARS).collect()
    }

    fn is_here(&self, domain: &Domain) -> bool {
        match domain {
            Domain::Name(_) => {
                *domain == self.hostname || is_bare(domain) || self.local_domains.contains(domain)
            }
            Domain::Literal(ip) => ip.is_loopback(),
        }
    }
}

impl NewAuthor {
    /// Appends a field.
    fn print(&self, name: &str, out: &mut Vec<u8>) {
        let mut field = format!("{name}: ");
        if self.name.is_empty() {
            field.push_str(&self.mailbox.to_string());
        } else {
            let phrase = self.name.print();
            let address = format!("<{}>", self.mailbox);
            let column = phrase.rfind('\n').map_or(field.len() + phrase.len(), |end| phrase.len() - end);
            field.push_str(&phrase);
            field.push_str(if column + address.len() < LINE_COLUMNS { " " } else { "\n " });
            field.push_str(&address);
        }
        field.push('\n');
        out.extend_from_slice(field.as_bytes());
    }
}

/// Appends X-Original-From.
fn print_original(value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(ORIGINAL);
    let first_line = value.iter().position(|&octet| octet == b'\n').unwrap_or(value.len());
    if ORIGINAL.len() + first_line > LINE_MAX_OCTETS {
        out.extend_from_slice(b"\n ");
    }
    out.extend_from_slice(value);
    if !value.ends_with(b"\n") {
        out.push(b'\n');
    }
}

fn first_address(value: &[u8]) -> Option<Unqualified> {
    address_list::spans(value)?.first()?.read(value)
}

/// Whether only these addresses look like addresses, so that every reader finds the same ones: an unquoted name may
/// contain neither `@` nor angle brackets (RFC 5322 §3.2.5).
fn is_unambiguous(value: &[u8], addresses: &[Unqualified]) -> bool {
    let (mut ats, mut opened, mut closed, mut depth) = (0, 0, 0, 0_usize);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for &octet in value {
        match octet {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' if depth == 0 => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ if depth > 0 => {}
            b'@' => ats += 1,
            b'<' => opened += 1,
            b'>' => closed += 1,
            // Others take all before it for the name of a group.
            b':' if closed > 0 && opened == closed => return false,
            _ => {}
        }
    }
    ats == addresses.iter().filter(|address| address.domain.is_some()).count() && opened == closed
}

fn unqualified(mailbox: &Mailbox) -> Unqualified {
    Unqualified { local_part: mailbox.local_part.clone(), domain: Some(mailbox.domain.clone()) }
}

/// Compared without case, as local users are.
fn is_same(one: &Unqualified, other: &Unqualified) -> bool {
    one.domain == other.domain && one.local_part.as_str().eq_ignore_ascii_case(other.local_part.as_str())
}

/// A name without a dot is known at most in its own network.
fn is_bare(domain: &Domain) -> bool {
    domain.name().is_some_and(|name| !name.contains('.'))
}

#[cfg(test)]
mod tests;
