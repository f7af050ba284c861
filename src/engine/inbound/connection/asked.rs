//! What a client has asked for, as the log tells it when the answer is no.

use crate::engine::intake::submission::Accepted;
use crate::engine::log::event::List;
use crate::mail::address::Mailbox;
use crate::smtp::command::verb_and_path;
use crate::smtp::line::Line;
use crate::smtp::server::Session;

/// The verbs whose refusal is worth a line: somebody misses mail, or tries a door.
const TELLING: [&str; 8] = ["EHLO", "HELO", "LHLO", "AUTH", "MAIL", "RCPT", "DATA", "BDAT"];

/// The command in hand.
#[derive(Debug, Default)]
pub struct Asked {
    verb: Option<&'static str>,
    has_spoken: bool,
    /// The sender, if there is one.
    pub from: Option<String>,
    /// The recipient, or all of them.
    pub to: Option<String>,
}

impl Asked {
    /// Takes note of a line before the session does. What goes on with AUTH or BDAT is no command of its own.
    pub fn note(&mut self, line: &Line<'_>, session: &Session<Accepted>) {
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

    /// Whether nothing was asked for yet.
    pub fn is_nothing(&self) -> bool {
        !self.has_spoken
    }

    /// Whether a refusal is worth a line.
    pub fn is_telling(&self) -> bool {
        self.verb.is_some_and(|verb| TELLING.contains(&verb))
    }
}
