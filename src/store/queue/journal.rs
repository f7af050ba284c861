//! The journal at the end of a queue file: what became of each recipient, one record a line, only ever appended.
//!
//! ```text
//! CRC deferred<TAB>to=0,2<TAB>at=WALL RUNNING<TAB>status=4.4.1<TAB>remote=mx.example<TAB>text=connect: timed out
//! ```
//!
//! Each append begins with a line end, so that what a crash has torn can't swallow the record after it. A line whose
//! checksum is wrong is passed over. A lost record repeats an attempt, or at worst a delivery; it never loses mail.
//! Kinds of later versions are kept in the file and passed over. What may fail: nothing.

use crate::mail::date::Now;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::store::text::{escape, parse_checked, parse_now, print_checked, print_now, unescape};
use std::fmt::Write;

/// How much of a reply or a reason is kept: replies of 200 KiB are possible, and come with each attempt.
const VALUE_MAX_OCTETS: usize = 1024;

/// What happened to some recipients of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Their places in the envelope's list.
    pub recipients: Vec<usize>,
    /// When.
    pub at: Now,
    /// What.
    pub event: Event,
}

/// The kinds of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An attempt ended; also the end of a recipient's lifetime, which is a failure with 4.4.7.
    Attempted(Outcome),
    /// A notice about their present state has been handed to intake, or was found not to be wanted.
    Notified,
    /// They are delivered, and the sender asked to be told (RFC 3461 §4.1): nobody else does it.
    Owed,
    /// The operator keeps them back: nothing is tried for them, and they do not expire.
    Held,
    /// The operator lets them go again.
    Released,
    /// They can't be delivered, and nobody else would hear of it: they are kept back as if the operator held them.
    Kept,
}

impl Record {
    /// Appends the record as one line.
    pub(super) fn print(&self, out: &mut String) {
        let kind = match &self.event {
            Event::Attempted(Outcome::Delivered(_)) => "delivered",
            Event::Attempted(Outcome::Deferred(_)) => "deferred",
            Event::Attempted(Outcome::Failed(_)) => "failed",
            Event::Notified => "notified",
            Event::Owed => "owed",
            Event::Held => "held",
            Event::Released => "released",
            Event::Kept => "kept",
        };
        let indexes: Vec<_> = self.recipients.iter().map(usize::to_string).collect();
        let mut text = format!("{kind}\tto={}\tat=", indexes.join(","));
        print_now(self.at, &mut text);
        if let Event::Attempted(outcome) = &self.event {
            print_diagnostic(outcome.diagnostic(), &mut text);
        }
        print_checked(&text, out);
    }

    /// Reads the text of a line; `None` for a kind or a form that this version does not know.
    fn parse(text: &str) -> Option<Self> {
        let (kind, fields) = text.split_once('\t')?;
        let field = |key: &str| fields.split('\t').find_map(|f| f.strip_prefix(key)?.strip_prefix('='));
        let diagnostic = || {
            let value = |key| field(key).map_or(Some(None), |text| unescape(text).map(Some));
            Some(Diagnostic {
                status: EnhancedStatus::parse(field("status")?)?,
                remote: value("remote")?,
                reply: value("reply")?,
                text: value("text")?.unwrap_or_default(),
            })
        };
        let event = match kind {
            "delivered" => Event::Attempted(Outcome::Delivered(diagnostic()?)),
            "deferred" => Event::Attempted(Outcome::Deferred(diagnostic()?)),
            "failed" => Event::Attempted(Outcome::Failed(diagnostic()?)),
            "notified" => Event::Notified,
            "owed" => Event::Owed,
            "held" => Event::Held,
            "released" => Event::Released,
            "kept" => Event::Kept,
            _ => return None,
        };
        let recipients = field("to")?.split(',').map(|i| i.parse().ok()).collect::<Option<_>>()?;
        Some(Self { recipients, at: parse_now(field("at")?)?, event })
    }
}

fn print_diagnostic(diagnostic: &Diagnostic, out: &mut String) {
    // Writing to a String can't fail.
    let _ = write!(out, "\tstatus={}", diagnostic.status);
    let text = Some(&diagnostic.text);
    for (key, value) in
        [("remote", diagnostic.remote.as_ref()), ("reply", diagnostic.reply.as_ref()), ("text", text)]
    {
        if let Some(value) = value {
            let _ = write!(out, "\t{key}=");
            escape(cut(value), out);
        }
    }
}

/// The first octets of a value, up to the limit, without half a character.
fn cut(value: &str) -> &str {
    let end = (0..=VALUE_MAX_OCTETS.min(value.len())).rev().find(|&end| value.is_char_boundary(end));
    value.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// How far a recipient has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Still to be tried, or settled.
    pub state: State,
    /// A notice about `state` has been handed on: about the delay while pending, about the failure when failed.
    pub notified: bool,
    /// The sender has yet to be told of the delivery.
    pub owed: bool,
    /// Kept back, by the operator or since nobody else would hear of it.
    pub held: bool,
    /// Since when the latter.
    pub kept: Option<Now>,
    /// Attempts so far.
    pub attempts: u32,
    /// When the last three attempts were, newest first: nothing expires with fewer since the clock last jumped.
    pub recent_attempts: [Option<Now>; 3],
    /// What the last attempt ended with.
    pub diagnostic: Option<Diagnostic>,
}

/// The three states of a recipient. Delivered and failed are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// To be tried.
    #[default]
    Pending,
    /// Done.
    Delivered,
    /// Given up.
    Failed,
}

impl Progress {
    /// Whether nothing is left to do for this recipient: delivered or failed, and the sender knows what it has to.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.state {
            State::Pending => false,
            State::Delivered => !self.owed,
            State::Failed => self.notified,
        }
    }

    /// Whether this recipient is to be tried.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.state == State::Pending && !self.held
    }

    fn apply(&mut self, at: Now, event: &Event) {
        let outcome = match event {
            Event::Attempted(outcome) if self.state == State::Pending => outcome,
            // What is settled stays so; a record may have been written twice.
            Event::Attempted(_) => return,
            Event::Notified => {
                (self.notified, self.owed) = (true, false);
                return;
            }
            Event::Owed => {
                // Unless it was written twice.
                self.owed = !self.notified;
                return;
            }
            Event::Held | Event::Released => {
                (self.held, self.kept) = (*event == Event::Held, None);
                return;
            }
            Event::Kept => {
                (self.held, self.kept) = (true, Some(at));
                return;
            }
        };
        self.state = match outcome {
            Outcome::Delivered(_) => State::Delivered,
            Outcome::Deferred(_) => State::Pending,
            Outcome::Failed(_) => State::Failed,
        };
        // A notice about the delay says nothing about the end.
        self.notified &= self.state == State::Pending;
        self.attempts = self.attempts.saturating_add(1);
        let [newest, second, _] = self.recent_attempts;
        self.recent_attempts = [Some(at), newest, second];
        self.diagnostic = Some(outcome.diagnostic().clone());
    }
}

/// Does to `progress` what the record says; places that do not exist are passed over.
pub(super) fn apply(record: &Record, progress: &mut [Progress]) {
    for &index in &record.recipients {
        if let Some(progress) = progress.get_mut(index) {
            progress.apply(record.at, &record.event);
        }
    }
}

/// Reads a journal and applies each record. Tells how many lines were damaged; not counted is what stands behind the
/// last line end, for that was never finished.
pub(super) fn replay(journal: &[u8], progress: &mut [Progress]) -> usize {
    let mut damaged = 0;
    read(journal, &mut |line| match line {
        Some(record) => record.iter().for_each(|record| apply(record, progress)),
        None => damaged += 1,
    });
    damaged
}

/// What the journal tells, in the order in which it was written.
pub(super) fn records(journal: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    read(journal, &mut |line| records.extend(line.flatten()));
    records
}

/// Gives each whole line: its record, if its kind is known, or `None` for a damaged one.
fn read(journal: &[u8], each: &mut dyn FnMut(Option<Option<Record>>)) {
    for line in journal.split_inclusive(|&b| b == b'\n') {
        let Some(line) = line.strip_suffix(b"\n").filter(|line| !line.is_empty()) else { continue };
        each(parse_checked(line).map(Record::parse));
    }
}

#[cfg(test)]
pub(super) mod tests;
