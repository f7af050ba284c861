//! From intake to the index: the hop of each queued recipient by the current routes, and the log line of what has to
//! wait.
//!
//! Intake knows only the trait [`OnQueued`]; this is its implementation. The hop of a recipient is not stored anywhere:
//! it is computed again at each attempt and reload, so that a new configuration applies to mail that is already queued.

use super::attempt::Attempt;
use super::index::{Hop, IndexedMessage, Pending, QueueIndex, Standing};
use crate::engine::host::site::{Site, SiteHandle, SystemAccounts, current};
use crate::engine::intake::incoming::{NewEntry, OnQueued};
use crate::engine::log::event::AttemptEnd;
use crate::mail::address::ReversePath;
use crate::mail::envelope::Recipient;
use crate::rules::pacing::shares::Owner;
use crate::rules::routing::route::Destination;
use std::sync::Arc;
use std::time::Duration;

/// Puts newly queued mail in the index.
#[derive(Debug)]
pub struct Enqueue {
    /// The configuration.
    pub site: SiteHandle,
    /// The index of the queue.
    pub index: Arc<QueueIndex>,
}

impl OnQueued for Enqueue {
    fn queued(&self, new: NewEntry, sender: &ReversePath, recipients: &[Recipient]) {
        let (id, arrival, site) = (new.id, new.arrival.running, current(&self.site));
        self.index.add_message(id, indexed(new));
        for recipient in recipients {
            let hop = hop_of(&site, sender, recipient);
            if let Some(reason) = self.index.wait_reason(&hop, id, arrival) {
                let log = Attempt::log_line(id, &recipient.mailbox, "-", 0, Duration::ZERO);
                log(AttemptEnd::Deferred, reason.status, &format!("it waits: {}", reason.line()));
            }
        }
        for hop in hops_of(&site, sender, recipients) {
            self.index.submit(hop, Pending { id, arrival }, arrival);
        }
    }

    fn collected(&self, new: NewEntry, until: Duration) {
        let (id, arrival) = (new.id, new.arrival.running);
        self.index.add_message(id, indexed(new));
        self.index.put_back(Hop::Local, Pending { id, arrival }, until);
    }

    fn size(&self) -> (usize, u64) {
        self.index.size()
    }

    fn share_of(&self, owner: Owner) -> (usize, u64) {
        self.index.share_of(owner)
    }
}

fn indexed(new: NewEntry) -> IndexedMessage {
    IndexedMessage {
        owner: new.owner,
        sender: new.sender,
        standing: Standing::untried(new.recipients),
        ..IndexedMessage::new(new.octets, new.arrival.running, new.is_urgent)
    }
}

/// The hop of a queued recipient of a message with this sender, by the current routes. The local worker settles recipients that have no route any
/// more.
pub(crate) fn hop_of(site: &Site, sender: &ReversePath, recipient: &Recipient) -> Hop {
    // A queued recipient that is local was routed when it came in; the local worker also settles what has changed
    // since. The user database, which may be slow, is not asked here, while other threads wait for a message to be
    // settled.
    if site.routes.is_local(&recipient.mailbox.domain) && !recipient.leaves {
        return Hop::Local;
    }
    match site.routes.route_recipient(recipient, &SystemAccounts).map(|routed| routed.destination) {
        Ok(Destination::Relay(next_hop)) => {
            Hop::Relay(site.routes.next_hops.for_sender(next_hop, sender, &recipient.mailbox.domain))
        }
        _ => Hop::Local,
    }
}

/// The hops of queued recipients, each once.
pub(crate) fn hops_of<'a>(
    site: &Site,
    sender: &ReversePath,
    recipients: impl IntoIterator<Item = &'a Recipient>,
) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::new();
    for hop in recipients.into_iter().map(|recipient| hop_of(site, sender, recipient)) {
        if !hops.contains(&hop) {
            hops.push(hop);
        }
    }
    hops
}
