//! What programs of this host hand over, on the control socket or by the drop directory: who sends it, and where it goes;
//! and the whole of it where it comes by the socket.
//!
//! Nothing is believed of what the peer says but whom it wants to write to, and who is to hear of trouble: who the peer is,
//! the kernel says. A recipient without a route is queued with the others: the local worker finds that out again, and the
//! sender gets a bounce. What may fail: trouble of our own, which leaves the message with the peer.

use super::operator::Output;
use crate::engine::host::site::Site;
use crate::engine::intake::refusal::Refusal;
use crate::engine::intake::submission::{Accepted, Submission};
use crate::engine::log::event::Event;
use crate::engine::queue::manager::Manager;
use crate::mail::address::{ForwardPath, LocalPart, Mailbox, ReversePath};
use crate::mail::message::Origin;
use crate::mail::next_hop::NextHop;
use crate::mail::unqualified::Unqualified;
use crate::protocol::question::SubmissionSizes;
use crate::protocol::request::{BAD_MESSAGE, NOT_NOW, UNKNOWN_USER, USAGE};
use crate::protocol::rights::PeerRights;
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::store::drop::{DropEnvelope, ENVELOPE_MAX_OCTETS, Sender};
use crate::store::{free_space, has_room};
use crate::sys::user;
use std::io;

/// Read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// How the copies for Maildirs are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// At once.
    Direct,
    /// By the queue, which tries again, and tells the sender in the end.
    Queued,
}

/// A submission, and what stands in its way.
#[derive(Debug)]
pub struct Submitted {
    /// For intake.
    pub submission: Submission,
    /// Recipients without a route, who will be bounced; the reason why there is none.
    pub unreachable: Vec<(Mailbox, NoRoute)>,
}

/// Whether the disk has room for a message of so many octets. A file system that can't be asked says no when it is
/// written to.
#[must_use]
pub fn has_room_for(site: &Site, octets: u64) -> bool {
    let space = free_space(&site.settings.state);
    !space.is_ok_and(|space| !has_room(space, site.settings.limits.free_space, octets))
}

/// What a user submits with this envelope.
///
/// # Errors
/// The user or a recipient can't be looked up now: why.
pub fn submission(site: &Site, uid: u32, envelope: &DropEnvelope, way: Way) -> Result<Submitted, String> {
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
        let routed = route(site, path, way, &mut unreachable)?;
        recipients.push(Accepted { routed, parameters: parameters.clone() });
    }
    let client = format!("uid {uid}");
    let origin =
        Origin { helo: "localhost".into(), client: client.clone(), protocol: "local".into(), tls: None };
    let submission = Submission {
        reverse_path,
        parameters: MailParameters {
            body: envelope.body,
            smtputf8,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            ..MailParameters::default()
        },
        recipients,
        origin: Some(origin),
        is_own: true,
        client,
        login: None,
        dated: None,
    };
    Ok(Submitted { submission, unreachable })
}

/// The name of a user; one who has none, as in a container, goes by the number.
fn name_of(uid: u32) -> io::Result<LocalPart> {
    let account = user::find_uid(uid)?;
    let named = account.and_then(|account| LocalPart::parse(&account.name).ok());
    named.map_or_else(|| LocalPart::parse(&uid.to_string()).map_err(io::Error::other), Ok)
}

fn route(
    site: &Site,
    path: &ForwardPath,
    way: Way,
    unreachable: &mut Vec<(Mailbox, NoRoute)>,
) -> Result<Routed, String> {
    let mailbox = || match path {
        ForwardPath::Mailbox(mailbox) => mailbox.clone(),
        ForwardPath::Postmaster => {
            Mailbox { local_part: LocalPart::postmaster(), domain: site.routes.home().clone() }
        }
    };
    let routed = match site.route(path) {
        // The queue does not look at aliases any more: mail for root could go to the wrong place.
        Err(NoRoute::LookupFailed(error)) => return Err(error),
        Err(no_route) => {
            unreachable.push((mailbox(), no_route));
            None
        }
        Ok(routed) => Some(routed),
    };
    let direct = routed.filter(|routed| match &routed.destination {
        Destination::Relay(_) | Destination::Alias => true,
        Destination::Maildir(_) => way == Way::Direct && site.maildir(routed).is_ok(),
    });
    Ok(direct.unwrap_or_else(|| {
        let mailbox = mailbox();
        // The forwarder asks for the route again, and finds what there is to tell.
        let destination = Destination::Relay(NextHop::Mx(mailbox.domain.clone()));
        Routed { mailbox, destination, is_local: false, leaves: false }
    }))
}

/// A peer that hands a message over.
pub trait Peer: Output {
    /// The next octets of envelope and message; 0 at the end.
    ///
    /// # Errors
    /// The peer has gone, or takes too long.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Asks for the message, of so many octets.
    ///
    /// # Errors
    /// The peer has gone.
    fn go(&mut self, octets: u64) -> io::Result<()>;
}

/// Takes a message from a user, and tells its id; gives the exit code, which is 0 once the message is safe.
///
/// With 67 there is nobody whom it could reach, and with 65 it is none that could be taken. All else is for now.
///
/// # Errors
/// The peer has gone; what it had not handed over whole is forgotten.
pub fn take(manager: &Manager, uid: u32, sizes: SubmissionSizes, peer: &mut dyn Peer) -> io::Result<u8> {
    let site = manager.site();
    let envelope = match read_envelope(&site, sizes, peer)? {
        Ok(envelope) => envelope,
        Err((code, text)) => return refuse(peer, uid, ("-", "-"), code, &text),
    };
    let to: Vec<String> = envelope.recipients.iter().map(ToString::to_string).collect();
    let to = to.join(",");
    let submission = match submission(&site, uid, &envelope, Way::Direct) {
        Ok(Submitted { submission, unreachable }) if unreachable.len() < envelope.recipients.len() => {
            submission
        }
        Ok(Submitted { submission, unreachable }) => {
            let from = submission.reverse_path.to_string();
            for (mailbox, no_route) in unreachable {
                let (to, reason) = (mailbox.to_string(), no_route.reply().lines.concat());
                log_refused(uid, (&from, &to), &reason);
                peer.error(&format!("{to}: {reason}"))?;
            }
            return Ok(UNKNOWN_USER);
        }
        Err(text) => return refuse(peer, uid, ("-", &to), NOT_NOW, &text),
    };
    let from = submission.reverse_path.to_string();
    let taken = match manager.intake.begin(&site, submission) {
        Ok(mut incoming) => {
            peer.go(sizes.message_octets)?;
            let (mut left, mut buffer) = (sizes.message_octets, vec![0; PIECE_OCTETS]);
            while left > 0 {
                let room = usize::try_from(left).map_or(PIECE_OCTETS, |left| left.min(PIECE_OCTETS));
                let length = peer.receive(buffer.get_mut(..room).unwrap_or_default())?;
                let piece = buffer.get(..length).filter(|piece| !piece.is_empty());
                let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
                // On the wire it could end a line or a message where nobody else sees an end.
                if piece.contains(&b'\r') {
                    return refuse(peer, uid, (&from, &to), BAD_MESSAGE, "the message has a CR");
                }
                incoming.write(piece);
                left -= length as u64;
            }
            incoming.commit()
        }
        Err(refusal) => Err(refusal),
    };
    match taken {
        Ok(id) => peer.output(id.to_string().as_bytes()).map(|()| 0),
        Err(Refusal::Loop) => {
            refuse(peer, uid, (&from, &to), BAD_MESSAGE, "the message is going round in circles")
        }
        Err(refusal) => refuse(peer, uid, (&from, &to), NOT_NOW, &refusal.to_string()),
    }
}

/// Tells the peer and the log why nothing is taken; gives the exit code. `parties`: sender and recipients.
fn refuse(peer: &mut dyn Peer, uid: u32, parties: (&str, &str), code: u8, reason: &str) -> io::Result<u8> {
    log_refused(uid, parties, reason);
    peer.error(reason).map(|()| code)
}

fn log_refused(uid: u32, (from, to): (&str, &str), reason: &str) {
    Event::Refused { client: &format!("uid {uid}"), helo: "-", from, to, reply: reason }.log();
}

/// Reads the envelope, and looks at the sizes: exit code and reason if they are wrong.
fn read_envelope(
    site: &Site,
    sizes: SubmissionSizes,
    peer: &mut dyn Peer,
) -> io::Result<Result<DropEnvelope, (u8, String)>> {
    let SubmissionSizes { envelope_octets, message_octets } = sizes;
    let limit = site.settings.limits.message_size;
    if envelope_octets > ENVELOPE_MAX_OCTETS {
        return Ok(Err((BAD_MESSAGE, "the envelope is too large".into())));
    }
    if message_octets > limit {
        let text = format!("the message is larger than limits.message_size, {limit} octets");
        return Ok(Err((BAD_MESSAGE, text)));
    }
    let (mut octets, mut filled) = (vec![0; envelope_octets], 0);
    while let Some(room) = octets.get_mut(filled..).filter(|room| !room.is_empty()) {
        match peer.receive(room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => filled += length,
        }
    }
    if !has_room_for(site, message_octets) {
        return Ok(Err((NOT_NOW, "no space left on the disk".into())));
    }
    Ok(DropEnvelope::parse(&octets).ok_or_else(|| (USAGE, "the envelope is malformed".into())))
}

/// Tells where mail for these recipients would go, as sendmail does; gives the exit code. Who is behind an alias is for
/// those with all rights: a file with aliases need not be one that everybody may read.
///
/// # Errors
/// Nobody listens any more.
pub fn verify(
    site: &Site,
    rights: PeerRights,
    recipients: &[Unqualified],
    output: &mut dyn Output,
) -> io::Result<u8> {
    let mut code = 0;
    for recipient in recipients {
        let mut tell = |route| {
            let (text, found) = describe(route);
            code = if code == UNKNOWN_USER { code } else { found.max(code) };
            output.output(format!("{recipient}... {text}\n").as_bytes())
        };
        match site.route(&recipient.forward_path(site.routes.home())) {
            Ok(routed) if routed.destination == Destination::Alias && rights == PeerRights::All => {
                match site.expand(&routed.mailbox) {
                    Ok(members) => members.into_iter().try_for_each(|member| tell(member.route))?,
                    Err(no_route) => tell(Err(no_route))?,
                }
            }
            routed => tell(routed)?,
        }
    }
    Ok(code)
}

fn describe(route: Result<Routed, NoRoute>) -> (String, u8) {
    match route {
        Ok(Routed { mailbox, destination, .. }) => {
            let mailer = match destination {
                Destination::Maildir(_) => "local".to_owned(),
                Destination::Relay(hop) => format!("relay, host {hop}"),
                Destination::Alias => "alias".to_owned(),
            };
            (format!("deliverable: mailer {mailer}, user {mailbox}"), 0)
        }
        Err(NoRoute::LookupFailed(error)) => (format!("deferred: {error}"), NOT_NOW),
        Err(no_route) => (format!("undeliverable: {}", no_route.reply().lines.concat()), UNKNOWN_USER),
    }
}
