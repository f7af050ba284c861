//! A message before intake: its envelope, the routes of its recipients, and its origin.
//!
//! | constructor | for | origin (Received field) | needs room in the queue | counted as |
//! | --- | --- | --- | --- | --- |
//! | [`Submission::from_client`] | a client of SMTP, submission or LMTP | the client | yes | `BySmtp`, `BySubmission`, `ByLmtp` |
//! | [`Submission::from_local_user`] | a program of this host | the user, `with local` | yes | `ByDrop` |
//! | [`Submission::internal`] | notices and digests of this program | no origin | no | not counted |
//! | [`Submission::resubmitted`] | a message that leaves the queue and enters again | no origin | no | not counted |

use crate::engine::log::counters::Count;
use crate::mail::address::ReversePath;
use crate::mail::date::Now;
use crate::mail::envelope::Envelope;
use crate::mail::message::Origin;
use crate::rules::routing::route::Routed;
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::smtp::server::ServerTransaction;

/// A recipient that has been accepted, with its route and the parameters of its RCPT.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Where its copy goes.
    pub routed: Routed,
    /// The notices that its sender wants (RFC 3461).
    pub parameters: RcptParameters,
}

impl From<Routed> for Accepted {
    fn from(routed: Routed) -> Self {
        Self { routed, parameters: RcptParameters::default() }
    }
}

/// A message before intake, without its content.
#[derive(Debug)]
pub struct Submission {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients; at least one.
    pub recipients: Vec<Accepted>,
    /// The source of the Received field; `None` for messages of this program.
    pub origin: Option<Origin>,
    /// The counter of accepted messages that it belongs to; `None` for messages of this program.
    pub counter: Option<Count>,
    /// See [`crate::mail::envelope::Envelope::is_own`]. Own mail loses its Bcc and is repaired, unless this program
    /// wrote it.
    pub is_own: bool,
    /// The sender's address or user, for the log.
    pub client: String,
    /// The name with which the client has logged in, for the log.
    pub login: Option<String>,
    /// When this host wrote its Date, if it did so before intake.
    pub dated: Option<Now>,
    /// Whether other mail waits while this message is stored: a mailbox that does not take it at once fails.
    pub is_hurried: bool,
    /// Whether it may begin in memory: no part of it can have been on the disk before.
    pub is_new: bool,
}

impl Submission {
    /// A message of this program, such as a notice. It has no client, and enters even a full queue.
    #[must_use]
    pub fn internal(reverse_path: ReversePath, recipients: Vec<Accepted>, client: String) -> Self {
        Self {
            reverse_path,
            parameters: MailParameters::default(),
            recipients,
            origin: None,
            counter: None,
            is_own: true,
            client,
            login: None,
            dated: None,
            is_hurried: false,
            is_new: false,
        }
    }

    /// A message of the queue that enters again for `recipients`, with the rest of its envelope.
    #[must_use]
    pub fn resubmitted(envelope: &Envelope, recipients: Vec<Accepted>, client: String) -> Self {
        let parameters = MailParameters {
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            require_tls: envelope.require_tls,
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            ..MailParameters::default()
        };
        let internal = Self::internal(envelope.reverse_path.clone(), recipients, client);
        Self { parameters, is_own: envelope.is_own, ..internal }
    }

    /// A message that a program of this host hands over; `client` names the user.
    #[must_use]
    pub fn from_local_user(reverse_path: ReversePath, recipients: Vec<Accepted>, client: String) -> Self {
        let origin =
            Origin { helo: "localhost".into(), client: client.clone(), protocol: "local".into(), tls: None };
        Self {
            origin: Some(origin),
            counter: Some(Count::ByDrop),
            is_new: true,
            ..Self::internal(reverse_path, recipients, client)
        }
    }

    /// A message of a client of SMTP, submission or LMTP. `is_own`: the client is one of this host's own.
    #[must_use]
    pub fn from_client(
        counter: Count,
        origin: Origin,
        transaction: ServerTransaction<Accepted>,
        (client, login): (String, Option<String>),
        is_own: bool,
    ) -> Self {
        let ServerTransaction { reverse_path, parameters, recipients } = transaction;
        let internal = Self::internal(reverse_path, recipients, client);
        Self {
            parameters,
            origin: Some(origin),
            counter: Some(counter),
            is_own,
            login,
            is_new: true,
            ..internal
        }
    }
}
