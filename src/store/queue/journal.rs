//! The journal at the end of a queue file: what happened to each recipient, one record a line, only ever appended.
//!
//! ```text
//! CRC deferred<TAB>to=0,2<TAB>at=WALL RUNNING<TAB>status=4.4.1<TAB>remote=mx.example<TAB>text=connect: timed out
//! ```
//!
//! Each append begins with a line end, so that a record torn by a crash cannot swallow the next one. A line with a
//! wrong checksum is skipped. A lost record repeats an attempt or, at worst, a delivery; it never loses mail. Kinds
//! of records that a later version added stay in the file and are skipped. Reading a journal never fails.
//!
//! How records move a recipient ([`Progress`]):
//!
//! | record | applies to | afterwards |
//! | --- | --- | --- |
//! | `deferred` | pending | pending, one more attempt |
//! | `delivered` | pending | delivered, for good |
//! | `failed` | pending | failed, for good |
//! | `notified` | any | the sender knows; after `failed` the recipient is finished |
//! | `owed` | any | delivered but not finished, until `notified` |
//! | `waited` | pending | as before; its reason is that of its route |
//! | `held`, `kept` | any | not tried and not expired; `kept` also remembers since when |
//! | `released` | any | tried again |
//!
//! A recipient that is delivered and not owed, or failed and notified, is finished; an entry whose recipients are all
//! finished is removed. A record for a settled recipient changes nothing, so a record that was written twice does no
//! harm.

use crate::mail::date::Now;
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::status::EnhancedStatus;
use crate::store::text::{escape, parse_checked, parse_now, print_checked, print_now, unescape};
use std::fmt::Write;

/// How many octets of a reply or a reason are kept: a reply may have 200 KiB, and comes with each attempt.
const VALUE_MAX_OCTETS: usize = 1024;

/// What happened to some recipients of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalRecord {
    /// The indexes of the recipients in the envelope.
    pub recipients: Vec<usize>,
    /// When it happened.
    pub at: Now,
    /// What happened.
    pub event: JournalEvent,
}

/// The kinds of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEvent {
    /// An attempt ended. The end of a recipient's lifetime counts too, as a failure with 4.4.7.
    Attempted(Outcome),
    /// A notice about their present state has been handed to intake, or turned out not to be wanted.
    Notified,
    /// They are delivered, and the sender asked for a success notice (RFC 3461 §4.1) that this host has to send.
    Owed,
    /// They were not tried, because their route failed: the reason, kept when the operator holds them.
    Waited(Diagnostic),
    /// The operator holds them: they are not tried, and they do not expire.
    Held,
    /// The operator has released them.
    Released,
    /// They cannot be delivered, and nobody else would learn of it: they are held as if by the operator.
    Kept,
}

impl JournalRecord {
    /// Appends the record as one line.
    pub(super) fn print(&self, out: &mut String) {
        let kind = match &self.event {
            JournalEvent::Attempted(Outcome::Delivered(_)) => "delivered",
            JournalEvent::Attempted(Outcome::Deferred(_)) => "deferred",
            JournalEvent::Attempted(Outcome::Failed(_)) => "failed",
            JournalEvent::Notified => "notified",
            JournalEvent::Owed => "owed",
            JournalEvent::Waited(_) => "waited",
            JournalEvent::Held => "held",
            JournalEvent::Released => "released",
            JournalEvent::Kept => "kept",
        };
        let indexes: Vec<_> = self.recipients.iter().map(usize::to_string).collect();
        let mut text = format!("{kind}\tto={}\tat=", indexes.join(","));
        print_now(self.at, &mut text);
        match &self.event {
            JournalEvent::Attempted(outcome) => print_diagnostic(outcome.diagnostic(), &mut text),
            JournalEvent::Waited(reason) => print_diagnostic(reason, &mut text),
            _ => {}
        }
        print_checked(&text, out);
    }

    /// Parses the text of a line; `None` for a kind or a form that this version does not know.
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
            "delivered" => JournalEvent::Attempted(Outcome::Delivered(diagnostic()?)),
            "deferred" => JournalEvent::Attempted(Outcome::Deferred(diagnostic()?)),
            "failed" => JournalEvent::Attempted(Outcome::Failed(diagnostic()?)),
            "notified" => JournalEvent::Notified,
            "owed" => JournalEvent::Owed,
            "waited" => JournalEvent::Waited(diagnostic()?),
            "held" => JournalEvent::Held,
            "released" => JournalEvent::Released,
            "kept" => JournalEvent::Kept,
            _ => return None,
        };
        let recipients = field("to")?.split(',').map(|i| i.parse().ok()).collect::<Option<_>>()?;
        Some(Self { recipients, at: parse_now(field("at")?)?, event })
    }
}

fn print_diagnostic(diagnostic: &Diagnostic, out: &mut String) {
    // Writing to a String cannot fail.
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

/// The first octets of a value, up to the limit, without splitting a character.
fn cut(value: &str) -> &str {
    let end = (0..=VALUE_MAX_OCTETS.min(value.len())).rev().find(|&end| value.is_char_boundary(end));
    value.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// How far a recipient has come.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Whether the recipient is still to be tried, or settled.
    pub state: RecipientState,
    /// A notice about `state` has been handed to intake: about the delay while pending, about the failure when
    /// failed.
    pub notified: bool,
    /// The sender has yet to be notified of the delivery.
    pub owed: bool,
    /// Held: by the operator, or because nobody else would learn of the failure.
    pub held: bool,
    /// Since when it is held for the second reason.
    pub kept: Option<Now>,
    /// How many attempts have ended.
    pub attempts: u32,
    /// When the last three attempts ended, newest first: nothing expires with fewer attempts since the last jump of
    /// the clock.
    pub recent_attempts: [Option<Now>; 3],
    /// The diagnostic of the last attempt, or of the route if it was held while that pauses.
    pub diagnostic: Option<Diagnostic>,
}

/// The state of a recipient. Delivered and failed are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecipientState {
    /// Still to be tried.
    #[default]
    Pending,
    /// Delivered.
    Delivered,
    /// Failed for good.
    Failed,
}

impl Progress {
    /// Whether nothing is left to do for this recipient: it is delivered or failed, and the sender has been notified
    /// where required.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        match self.state {
            RecipientState::Pending => false,
            RecipientState::Delivered => !self.owed,
            RecipientState::Failed => self.notified,
        }
    }

    /// Whether this recipient is to be tried.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.state == RecipientState::Pending && !self.held
    }

    fn apply(&mut self, at: Now, event: &JournalEvent) {
        let outcome = match event {
            JournalEvent::Attempted(outcome) if self.state == RecipientState::Pending => outcome,
            // A settled recipient stays settled; the record may have been written twice.
            JournalEvent::Attempted(_) => return,
            JournalEvent::Notified => {
                (self.notified, self.owed) = (true, false);
                return;
            }
            JournalEvent::Owed => {
                // Not again after the notice: the record may have been written twice.
                self.owed = !self.notified;
                return;
            }
            JournalEvent::Waited(reason) => {
                if self.state == RecipientState::Pending {
                    self.diagnostic = Some(reason.clone());
                }
                return;
            }
            JournalEvent::Held | JournalEvent::Released => {
                (self.held, self.kept) = (*event == JournalEvent::Held, None);
                return;
            }
            JournalEvent::Kept => {
                (self.held, self.kept) = (true, Some(at));
                return;
            }
        };
        self.state = match outcome {
            Outcome::Delivered(_) => RecipientState::Delivered,
            Outcome::Deferred(_) => RecipientState::Pending,
            Outcome::Failed(_) => RecipientState::Failed,
        };
        // A notice about the delay says nothing about the failure.
        self.notified &= self.state == RecipientState::Pending;
        self.attempts = self.attempts.saturating_add(1);
        let [newest, second, _] = self.recent_attempts;
        self.recent_attempts = [Some(at), newest, second];
        self.diagnostic = Some(outcome.diagnostic().clone());
    }
}

/// Applies a record to `progress`; indexes that do not exist are ignored.
pub(super) fn apply(record: &JournalRecord, progress: &mut [Progress]) {
    for &index in &record.recipients {
        if let Some(progress) = progress.get_mut(index) {
            progress.apply(record.at, &record.event);
        }
    }
}

/// Parses a journal and applies each record. Returns how many lines were damaged; text behind the last line end does
/// not count, because it was never finished.
pub(super) fn replay(journal: &[u8], progress: &mut [Progress]) -> usize {
    let mut damaged = 0;
    read(journal, &mut |line| match line {
        Some(record) => record.iter().for_each(|record| apply(record, progress)),
        None => damaged += 1,
    });
    damaged
}

/// The records of a journal, in the order in which they were written.
pub(super) fn records(journal: &[u8]) -> Vec<JournalRecord> {
    let mut records = Vec::new();
    read(journal, &mut |line| records.extend(line.flatten()));
    records
}

/// Passes each whole line on: as its record, if this version knows the kind, or as `None` if the line is damaged.
fn read(journal: &[u8], each: &mut dyn FnMut(Option<Option<JournalRecord>>)) {
    for line in journal.split_inclusive(|&b| b == b'\n') {
        let Some(line) = line.strip_suffix(b"\n").filter(|line| !line.is_empty()) else { continue };
        each(parse_checked(line).map(JournalRecord::parse));
    }
}

#[cfg(test)]
pub(super) mod tests;
