//! What a refusal is about: from the step, the host and the text of a reply to the subject of the refusal.
//!
//! The rows are in `account` and `remote`; `row` explains how a pattern is read, and that the most specific one counts. The
//! status of a full mailbox or of a size decides, whatever words accompany it. The patterns are long on purpose, because
//! delivery towards a smarthost decides by the subject:
//!
//! | subject | a 5yz of a smarthost |
//! | --- | --- |
//! | `Account`, `Sender`, `Limit`, `Relaying`, `Host` | keeps the message and pauses the route: it would refuse the next one, too |
//! | `Message`, `Recipient`, or no row | returns the message |
//!
//! `engine::workers::remote` acts on it (`judge`), and `engine::queue::index` remembers whom to blame (`suspects`).
//! [`SmarthostRefusal::of_route`] has the exceptions: a null sender, and MAIL from this host's own login. `probe` takes its
//! advice from the same rows, and the log has the word of the subject.
//!
//! # When a refusal concerns the route
//!
//! [`SmarthostRefusal::of_route`] takes the first of these that applies:
//!
//! | the refusal | concerns |
//! | --- | --- |
//! | no 5yz reply, or not to MAIL, RCPT or the data | not the route |
//! | code 530, 534, 535 or 538 | the account: the host requires a login |
//! | of a notice (null sender), about the sender or without a known subject | only the notice |
//! | of a notice, to MAIL | only the notice |
//! | with one of the first five subjects above | the route |
//! | about the message | the message |
//! | to MAIL, from this host's own login | the account |
//! | any other | the message or its recipient |

use super::hints::refusals;
use super::row::{About, Peer, PeerKind, fits};
use super::step::Stage;
use crate::mail::outcome::Diagnostic;
use crate::smtp::client::Waiting;

/// The subject of a reply at a step, if a row matches.
#[must_use]
pub fn about(stage: Stage, reply: &str, peer: Peer<'_>) -> Option<About> {
    fits(refusals(), stage, reply, peer).and_then(|row| row.about)
}

/// A 5yz reply of a smarthost.
#[derive(Debug, Clone, Copy)]
pub struct SmarthostRefusal<'a> {
    /// The reply, and the command that it answers.
    pub diagnostic: &'a Diagnostic,
    /// The reverse-path was null: then a refusal of the sender concerns only the notice.
    pub is_null_sender: bool,
    /// This host submits its own mail there: then a refusal of MAIL without a known subject counts as the account's. A
    /// host that gets only the mail of some domains (`relay.routes`) may refuse the senders of strangers.
    pub is_submission: bool,
}

impl SmarthostRefusal<'_> {
    /// The subject, if the refusal concerns the route: the route pauses, and the message stays.
    #[must_use]
    pub fn of_route(&self) -> Option<About> {
        let reply = self.diagnostic.reply.as_deref().filter(|reply| reply.starts_with('5'))?;
        let stage = Stage::from(Waiting::named(&self.diagnostic.text)?);
        if !matches!(stage, Stage::Mail | Stage::Rcpt | Stage::Send) {
            return None;
        }
        let name = self.diagnostic.remote.as_deref().unwrap_or_default();
        let about = about(stage, reply, Peer { name, kind: PeerKind::Smarthost });
        let is_wanted_login = ["530", "534", "535", "538"].iter().any(|code| reply.starts_with(code));
        match about {
            _ if is_wanted_login => Some(About::Account),
            // Postfix refuses a sender at RCPT.
            Some(About::Sender) | None if self.is_null_sender => None,
            _ if stage == Stage::Mail && self.is_null_sender => None,
            Some(about) if about.is_routes() => Some(about),
            Some(About::Message) => None,
            _ => (stage == Stage::Mail && self.is_submission).then_some(About::Account),
        }
    }
}

#[cfg(test)]
mod tests;
