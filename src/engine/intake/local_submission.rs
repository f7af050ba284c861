//! The submission of a user of this host: the envelope that a program handed over, with the reverse-path and the routes
//! that this host adds.
//!
//! Programs hand messages over on the control socket or in the drop directory. Of the envelope only the recipients, the
//! bounce address and the DSN parameters (RFC 3461) are taken over; the identity of the user is the uid that the kernel
//! reports.
//!
//! | recipient | goes to |
//! | --- | --- |
//! | of another host | the queue |
//! | an alias | its members |
//! | a user here | the mailbox at once, or the queue ([`LocalDelivery`]) |
//! | without a route | the queue, where the local worker finds the reason again and the sender gets a bounce |
//! | that cannot be looked up now | no message is made: the program keeps the whole message |

use crate::engine::host::site::Site;
use crate::engine::intake::submission::{Accepted, Submission};
use crate::mail::address::{ForwardPath, LocalPart, Mailbox, ReversePath};
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::store::drop::{DropEnvelope, Sender};
use crate::store::queue::Queue;
use crate::store::{free_space, has_room};
use crate::sys::user;
use std::io;

/// How the copies for mailboxes of this host are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LocalDelivery {
    /// At once, before the message is accepted.
    Direct,
    /// By the queue, which retries, and notifies the sender if all attempts fail.
    Queued,
}

/// A submission, and those of its recipients that cannot be reached.
#[derive(Debug)]
pub struct Submitted {
    /// The message without its content, for intake.
    pub submission: Submission,
    /// Recipients without a route, each with the reason. They are queued with the others, and bounce there.
    pub unreachable: Vec<(Mailbox, NoRoute)>,
}

/// Whether the disk has room for a message of `octets` octets beside `limits.free_space` and what lies in memory. A file system
/// that cannot be asked counts as having room: if it is full, the write fails.
#[must_use]
pub fn has_room_for(site: &Site, queue: &Queue, octets: u64) -> bool {
    let space = free_space(&site.settings.state);
    let kept = site.settings.limits.free_space.saturating_add(queue.memory_octets());
    !space.is_ok_and(|space| !has_room(space, kept, octets))
}

/// The submission of a user of this host with this envelope.
///
/// # Errors
/// The user or a recipient cannot be looked up now; the text names the reason.
pub fn submission(
    site: &Site,
    uid: u32,
    envelope: &DropEnvelope,
    local: LocalDelivery,
) -> Result<Submitted, String> {
    let reverse_path = match &envelope.sender {
        Sender::Null => ReversePath::Null,
        Sender::Address(address) => ReversePath::Mailbox(address.at(&site.hostname)),
        Sender::Owner => {
            let local_part = name_of(uid).map_err(|error| error.to_string())?;
            ReversePath::Mailbox(Mailbox { local_part, domain: site.hostname.clone() })
        }
    };
    let home = site.routes.home();
    let paths: Vec<ForwardPath> = envelope.recipients.iter().map(|to| to.forward_path(home)).collect();
    let is_ascii = |path: &ForwardPath| !matches!(path, ForwardPath::Mailbox(mailbox) if !mailbox.is_ascii());
    let smtputf8 =
        !paths.iter().all(is_ascii) || reverse_path.mailbox().is_some_and(|mailbox| !mailbox.is_ascii());
    let parameters = RcptParameters { notify: envelope.notify, orcpt: None };
    let (mut recipients, mut unreachable) = (Vec::new(), Vec::new());
    for path in &paths {
        let routed = route(site, path, local, &mut unreachable)?;
        recipients.push(Accepted { routed, parameters: parameters.clone() });
    }
    let parameters = MailParameters {
        body: envelope.body,
        smtputf8,
        ret: envelope.ret,
        envid: envelope.envid.clone(),
        ..MailParameters::default()
    };
    let from_user = Submission::from_local_user(reverse_path, recipients, format!("uid {uid}"));
    let submission = Submission { parameters, ..from_user };
    Ok(Submitted { submission, unreachable })
}

/// The name of a user, or the uid where the user database has no name for it, as in a container.
fn name_of(uid: u32) -> io::Result<LocalPart> {
    let account = user::find_uid(uid)?;
    let named = account.and_then(|account| LocalPart::parse(&account.name).ok());
    named.map_or_else(|| LocalPart::parse(&uid.to_string()).map_err(io::Error::other), Ok)
}

/// The route of one recipient. Recipients without a route are added to `unreachable`, and routed to the queue.
///
/// # Errors
/// The recipient cannot be looked up now.
fn route(
    site: &Site,
    path: &ForwardPath,
    local: LocalDelivery,
    unreachable: &mut Vec<(Mailbox, NoRoute)>,
) -> Result<Routed, String> {
    let mailbox = || match path {
        ForwardPath::Mailbox(mailbox) => mailbox.clone(),
        ForwardPath::Postmaster => {
            Mailbox { local_part: LocalPart::postmaster(), domain: site.routes.home().clone() }
        }
    };
    let routed = match site.route(path) {
        // The queue does not follow aliases again: mail for root could go to the wrong place.
        Err(NoRoute::LookupFailed(error)) => return Err(error),
        Err(no_route) => {
            unreachable.push((mailbox(), no_route));
            None
        }
        Ok(routed) => Some(routed),
    };
    let direct = routed.filter(|routed| match &routed.destination {
        Destination::Relay(_) | Destination::Alias => true,
        Destination::Maildir(_) => local == LocalDelivery::Direct && site.maildir(routed).is_ok(),
    });
    Ok(direct.unwrap_or_else(|| Routed::by_queue(mailbox(), false)))
}
