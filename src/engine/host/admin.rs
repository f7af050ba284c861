//! Who receives root's mail on this host, and which failures can therefore be reported to nobody else.
//!
//! `admin` is a configured mailbox, or a member of the alias of root or postmaster. Own mail that cannot reach
//! `admin` is kept in the queue instead of returned (see `engine::queue::manager`), because a notice about it would go
//! to the same unreachable mailbox.

use super::site::Site;
use crate::mail::address::{LocalPart, Mailbox};
use crate::mail::envelope::Envelope;
use crate::rules::routing::route::{Destination, Routed};

/// Whether a message that cannot reach this recipient is kept instead of returned.
#[must_use]
pub fn is_worth_keeping(site: &Site, envelope: &Envelope, recipient: &Mailbox) -> bool {
    envelope.is_own && is_admin(site, recipient)
}

/// Whether the mailbox receives root's mail: it is `admin`, or a member of the alias of root or postmaster.
#[must_use]
pub fn is_admin(site: &Site, mailbox: &Mailbox) -> bool {
    let of = |local_part| Mailbox { local_part, domain: site.routes.home().clone() };
    let roots = [LocalPart::parse("root").ok(), Some(LocalPart::postmaster())];
    site.routes.admin.contains(mailbox)
        || roots.into_iter().flatten().any(|root| stands_for(site, &of(root), &|member| member == mailbox))
}

/// Whether a notice by this route reaches only recipients of root's mail.
#[must_use]
pub fn is_for_admin_alone(site: &Site, routed: &Routed) -> bool {
    match routed.destination {
        Destination::Alias => !stands_for(site, &routed.mailbox, &|member| !is_admin(site, member)),
        _ => is_admin(site, &routed.mailbox),
    }
}

/// Whether the mailbox is an alias with a member for which `is_meant` is true.
fn stands_for(site: &Site, mailbox: &Mailbox, is_meant: &dyn Fn(&Mailbox) -> bool) -> bool {
    let name = mailbox.local_part.as_str().to_ascii_lowercase();
    let names_it = site.aliases.table().is_ok_and(|aliases| aliases.find(&name, None).is_some());
    let members = if names_it { site.expand(mailbox).unwrap_or_default() } else { Vec::new() };
    members.iter().filter_map(|member| member.route.as_ref().ok()).any(|routed| is_meant(&routed.mailbox))
}
