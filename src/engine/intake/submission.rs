//! A message about to come in: its envelope as submitted, and whose mail it is.

use crate::engine::log::counters::Count;
use crate::mail::address::ReversePath;
use crate::mail::date::Now;
use crate::mail::envelope::Envelope;
use crate::mail::message::Origin;
use crate::rules::routing::route::Routed;
use crate::smtp::extension::{MailParameters, RcptParameters};
use crate::smtp::server::ServerTransaction;

/// A recipient that has been accepted: its route, and the parameters of its RCPT.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Where its copy goes.
    pub routed: Routed,
    /// What its sender wants to be told.
    pub parameters: RcptParameters,
}

impl From<Routed> for Accepted {
    fn from(routed: Routed) -> Self {
        Self { routed, parameters: RcptParameters::default() }
    }
}

/// A message about to come in.
#[derive(Debug)]
pub struct Submission {
    /// The reverse-path.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL.
    pub parameters: MailParameters,
    /// The recipients; at least one.
    pub recipients: Vec<Accepted>,
    /// For the Received field; `None` for what this program wrote itself.
    pub origin: Option<Origin>,
    /// By which door it comes in; `None`: this program wrote it.
    pub door: Option<Count>,
    /// See [`crate::mail::envelope::Envelope::is_own`]. It loses its Bcc and is repaired, unless this program wrote it.
    pub is_own: bool,
    /// Who sent it, for the log.
    pub client: String,
    /// The name with which the client has logged in, for the log.
    pub login: Option<String>,
    /// When this host wrote its Date, if it did so before it comes in here.
    pub dated: Option<Now>,
}

impl Submission {
    /// What this program writes itself, such as a notice: it has no client, and needs no room in the queue.
    #[must_use]
    pub fn internal(reverse_path: ReversePath, recipients: Vec<Accepted>, client: String) -> Self {
        Self {
            reverse_path,
            parameters: MailParameters::default(),
            recipients,
            origin: None,
            door: None,
            is_own: true,
            client,
            login: None,
            dated: None,
        }
    }

    /// A message of the queue that enters again for `recipients`, with everything else of its envelope.
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

    /// What a program of this host hands over; `client` names the user.
    #[must_use]
    pub fn from_local_user(reverse_path: ReversePath, recipients: Vec<Accepted>, client: String) -> Self {
        let origin =
            Origin { helo: "localhost".into(), client: client.clone(), protocol: "local".into(), tls: None };
        Self {
            origin: Some(origin),
            door: Some(Count::ByDrop),
            ..Self::internal(reverse_path, recipients, client)
        }
    }

    /// What a client of SMTP or LMTP hands over. `is_own`: the client is one of this host's own.
    #[must_use]
    pub fn from_client(
        door: Count,
        origin: Origin,
        transaction: ServerTransaction<Accepted>,
        (client, login): (String, Option<String>),
        is_own: bool,
    ) -> Self {
        let ServerTransaction { reverse_path, parameters, recipients } = transaction;
        let internal = Self::internal(reverse_path, recipients, client);
        Self { parameters, origin: Some(origin), door: Some(door), is_own, login, ..internal }
    }
}
