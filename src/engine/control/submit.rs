//! Takes a message from a program of this host on the control socket (`sendmail`), and reports where mail would go.
//!
//! ```text
//! peer                        this host
//! envelope (its octets) ────▶ parsed and routed
//!                       ◀──── go, or an error and an exit code
//! message (its octets)  ────▶ staged
//!                       ◀──── the id and 0 once it is safe, or an error and an exit code
//! ```
//!
//! | exit code | the envelope or message | what `sendmail` does then |
//! | --- | --- | --- |
//! | 0 | is on stable storage | reports success |
//! | 64 | the envelope is malformed | as with 75 |
//! | 65 | contains a CR, is too large, or is in a mail loop | reports the error |
//! | 67 | no recipient can be reached | reports the error |
//! | 75 | cannot be taken now: disk, limits, look-ups | may leave the message in the drop directory |
//!
//! Sizes are checked before anything is read, and room on the disk before the message is asked for. If some recipients
//! can be reached and others cannot, the message is taken, and the sender gets a notice about the others. A connection
//! that ends early discards what was staged: without the final 0 the client has handed over nothing.
//!
//! The peer chooses the recipients and the bounce address; its identity comes from the kernel. What the envelope means
//! stands in [`crate::engine::intake::local_submission`]. A failure of this host leaves the message with the peer, which may put
//! it into the drop directory instead.

use super::output::{Output, Peer};
use crate::engine::host::site::Site;
use crate::engine::intake::local_submission::{LocalDelivery, Submitted, has_room_for, submission};
use crate::engine::intake::refusal::Refusal;
use crate::engine::log::event::Event;
use crate::engine::queue::manager::Manager;
use crate::mail::unqualified::Unqualified;
use crate::protocol::question::SubmissionSizes;
use crate::protocol::request::{BAD_MESSAGE, NOT_NOW, UNKNOWN_USER, USAGE};
use crate::protocol::rights::PeerRights;
use crate::rules::routing::route::{Destination, NoRoute, Routed};
use crate::store::drop::{DropEnvelope, ENVELOPE_MAX_OCTETS};
use crate::store::queue::Queue;
use std::io;

/// How many octets of the message are read at once.
const PIECE_OCTETS: usize = 16 * 1024;

/// Takes a message from a user and answers with its id. Returns the exit code, 0 once the message is safe.
///
/// # Errors
/// The connection is closed, or the deadline has passed; the message is discarded.
pub fn take(manager: &Manager, uid: u32, sizes: SubmissionSizes, peer: &mut dyn Peer) -> io::Result<u8> {
    let site = manager.site();
    let envelope = match read_envelope(&site, &manager.queue, sizes, peer)? {
        Ok(envelope) => envelope,
        Err((code, text)) => return refuse(peer, uid, ("-", "-"), code, &text),
    };
    let to: Vec<String> = envelope.recipients.iter().map(ToString::to_string).collect();
    let to = to.join(",");
    let submission = match submission(&site, uid, &envelope, LocalDelivery::Direct) {
        Ok(Submitted { submission, unreachable }) if unreachable.len() < envelope.recipients.len() => {
            submission
        }
        Ok(Submitted { submission, unreachable }) => {
            let from = submission.reverse_path.to_string();
            for (mailbox, no_route) in unreachable {
                let (to, reason) = (mailbox.to_string(), no_route.diagnostic().text);
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
                // A bare CR on the wire may end a line for one host and not for another (SMTP smuggling).
                if piece.contains(&b'\r') {
                    return refuse(peer, uid, (&from, &to), BAD_MESSAGE, "the message contains a CR");
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
        Err(Refusal::Loop) => refuse(peer, uid, (&from, &to), BAD_MESSAGE, "mail loop detected"),
        Err(refusal) => refuse(peer, uid, (&from, &to), NOT_NOW, &refusal.to_string()),
    }
}

/// Reports to the client and to the log why the message is refused; returns the exit code. `parties`: sender, recipients.
fn refuse(peer: &mut dyn Peer, uid: u32, parties: (&str, &str), code: u8, reason: &str) -> io::Result<u8> {
    log_refused(uid, parties, reason);
    peer.error(reason).map(|()| code)
}

fn log_refused(uid: u32, (from, to): (&str, &str), reason: &str) {
    Event::Refused { client: &format!("uid {uid}"), helo: "-", from, to, reply: reason }.log();
}

/// Checks the sizes and reads the envelope. The inner error is an exit code with its reason.
///
/// # Errors
/// The connection is closed, or the deadline has passed.
fn read_envelope(
    site: &Site,
    queue: &Queue,
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
    if !has_room_for(site, queue, message_octets) {
        return Ok(Err((NOT_NOW, "no space left on the disk".into())));
    }
    Ok(DropEnvelope::parse(&octets).ok_or_else(|| (USAGE, "the envelope is malformed".into())))
}

/// Reports where mail for these recipients would go, as `sendmail -bv` does; returns the exit code. Only a peer with all
/// rights sees the members of an alias: other users may be unable to read the alias file.
///
/// # Errors
/// The connection is closed.
pub fn verify(
    site: &Site,
    rights: PeerRights,
    recipients: &[Unqualified],
    output: &mut dyn Output,
) -> io::Result<u8> {
    let mut code = 0;
    for recipient in recipients {
        let mut report = |route| {
            let (text, found) = describe(route);
            code = if code == UNKNOWN_USER { code } else { found.max(code) };
            output.output(format!("{recipient}... {text}\n").as_bytes())
        };
        match site.route(&recipient.forward_path(site.routes.home())) {
            Ok(routed) if routed.destination == Destination::Alias && rights == PeerRights::All => {
                match site.expand(&routed.mailbox) {
                    Ok(members) => members.into_iter().try_for_each(|member| report(member.route))?,
                    Err(no_route) => report(Err(no_route))?,
                }
            }
            routed => report(routed)?,
        }
    }
    Ok(code)
}

/// The text about a route, and the exit code that it stands for.
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
        Err(no_route) => (format!("undeliverable: {}", no_route.diagnostic().text), UNKNOWN_USER),
    }
}
