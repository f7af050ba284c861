//! The latest command of a client, for the log line of a refusal.
//!
//! | command | `from=` | `to=` |
//! | --- | --- | --- |
//! | MAIL | its argument as written | `-` |
//! | RCPT | the reverse-path of the transaction | its argument as written |
//! | DATA, BDAT | the reverse-path of the transaction | all accepted recipients |
//! | EHLO, HELO, LHLO, AUTH | `-` | `-` |
//! | any other | the refusal is not logged | |

use crate::engine::intake::submission::Accepted;
use crate::engine::log::event::List;
use crate::mail::address::Mailbox;
use crate::smtp::command::verb_and_path;
use crate::smtp::line::Line;
use crate::smtp::server::ServerSession;

/// The verbs whose refusal is logged: mail is lost, or a client probes this host.
const LOGGED_VERBS: [&str; 8] = ["EHLO", "HELO", "LHLO", "AUTH", "MAIL", "RCPT", "DATA", "BDAT"];

/// The latest command.
#[derive(Debug, Default)]
pub struct LastCommand {
    verb: Option<&'static str>,
    has_spoken: bool,
    /// The reverse-path, if the command concerns one.
    pub from: Option<String>,
    /// The recipient, or all recipients, if the command concerns any.
    pub to: Option<String>,
}

impl LastCommand {
    /// Notes a line before the session handles it. A line that continues AUTH or BDAT is not a command of its own.
    pub fn note(&mut self, line: &Line<'_>, session: &ServerSession<Accepted>) {
        self.has_spoken = true;
        if session.is_within_command() {
            return;
        }
        let Line::Text(text) = line else {
            self.verb = None;
            return;
        };
        let (verb, path) = verb_and_path(text);
        let transaction = session.transaction();
        let sender = || transaction.map(|transaction| transaction.reverse_path.to_string());
        let recipients = || {
            let recipients = &transaction?.recipients;
            let mailboxes: Vec<Mailbox> = recipients.iter().map(|to| to.routed.mailbox.clone()).collect();
            (!mailboxes.is_empty()).then(|| List(&mailboxes).to_string())
        };
        (self.from, self.to) = match verb {
            Some("MAIL") => (Some(path), None),
            Some("RCPT") => (sender(), Some(path)),
            Some("DATA" | "BDAT") => (sender(), recipients()),
            _ => (None, None),
        };
        self.verb = verb;
    }

    /// Whether the client has sent a line at all.
    pub fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Whether a refusal of the command is logged.
    pub fn is_logged(&self) -> bool {
        self.verb.is_some_and(|verb| LOGGED_VERBS.contains(&verb))
    }
}
