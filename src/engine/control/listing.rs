//! The forms in which queued messages are shown: as Postfix's mailq prints them, as JSON, and one message in full.
//!
//! Monitors parse the first form (Nagios' check_mailq and many private scripts), so its head, its last line, the marks
//! behind the id and the columns are Postfix's:
//!
//! ```text
//! -Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------
//! 0RRZ4K8W3T5QM*     1234 Mon Nov 23 06:53:30  root@box.example
//!                                        (450 4.2.0 Greylisted, try again later)
//!                                              joe@far.example
//!
//! -- 2 Kbytes in 1 Request.
//! ```
//!
//! | mark | the message |
//! | --- | --- |
//! | `*` | is being delivered |
//! | `!` | is held |
//! | no mark | waits |
//!
//! The reason stands before the recipients that share it: that of the paused route, else that of the last attempt.
//! Finished recipients are left out. JSON has all of them, one object a line, with times in seconds since 1970.
//!
//! # Untrusted text
//!
//! Addresses and replies come from strangers. Control characters and those that change the direction of text appear as
//! question marks (in JSON as escapes), so no address and no reply forges a line of the list.
//!
//! A user without rights over the daemon sees every message, but not the addresses of others: they become `<hidden>`,
//! also within replies, which hosts write in many ways (`<joe>`, `joe+40far.example`).
//!
//! This module only formats; it does no I/O.

use crate::mail::address::ReversePath;
use crate::mail::date::{Now, WallTime, micros, names};
use crate::mail::hidden::{HIDDEN, without_addresses};
use crate::mail::outcome::{Diagnostic, Outcome};
use crate::mail::text::is_hostile;
use crate::store::queue::{EntrySummary, JournalEvent, JournalRecord, Progress, RecipientState};
use crate::sys::clock::utc_offset_seconds;
use std::fmt::Write;

/// The first line of a list. Postfix prints the same over short and over long ids.
pub const MAILQ_HEAD: &str = "-Queue ID-  --Size-- ----Arrival Time---- -Sender/Recipient-------\n";
/// The only line of an empty list.
pub const MAILQ_EMPTY: &str = "Mail queue is empty\n";
/// The column at which reasons end, as in Postfix.
const REASON_COLUMNS: usize = 76;

/// A message as the queue and the index know it.
#[derive(Debug)]
pub struct Listed {
    /// The state on disk.
    pub summary: EntrySummary,
    /// A worker is delivering it.
    pub is_active: bool,
    /// When it is tried next; `None`: unknown.
    pub next_attempt: Option<WallTime>,
    /// Attempts so far, the tries of its routes included.
    pub attempts: u32,
    /// For each recipient the reason why its route pauses, if it does.
    pub pauses: Vec<Option<Diagnostic>>,
    /// What the operator should change, for each recipient that waits.
    pub advice: Vec<Option<&'static str>>,
    /// The reader may not see the addresses.
    pub hides_addresses: bool,
}

impl Listed {
    /// Why a recipient is still queued: the reason of its paused route, else that of its last attempt.
    pub fn reason(&self, place: usize) -> Option<&Diagnostic> {
        let pause = self.pauses.get(place).and_then(Option::as_ref);
        pause.or_else(|| self.summary.progress.get(place)?.diagnostic.as_ref())
    }

    /// What the operator should change for a recipient that is not finished.
    fn advice(&self, place: usize) -> Option<&'static str> {
        let is_finished = self.summary.progress.get(place).is_some_and(Progress::is_finished);
        self.advice.get(place).copied().flatten().filter(|_| !is_finished)
    }

    fn address(&self, address: String) -> String {
        if self.hides_addresses { HIDDEN.to_owned() } else { address }
    }

    /// The text of a reason. Replies quote addresses, so they are hidden there, too.
    fn words(&self, reason: &Diagnostic) -> String {
        if self.hides_addresses {
            without_addresses(reason.line(), &self.summary.description.envelope)
        } else {
            reason.line().to_owned()
        }
    }

    fn is_held(&self) -> bool {
        self.summary.progress.iter().any(|progress| progress.held)
    }

    /// The lines of mailq, with the empty line that ends a message. Advice stands behind the first reason that calls for it, on the
    /// same line: programs that look for a reason keep the last line in parentheses. `told` is what was told before in this list.
    #[must_use]
    pub fn mailq(&self, told: &mut Vec<&'static str>) -> String {
        let mark = match (self.is_active, self.is_held()) {
            (true, _) => "*",
            (false, true) => "!",
            (false, false) => "",
        };
        let EntrySummary { id, description, message_octets, progress, .. } = &self.summary;
        let sender = match &description.envelope.reverse_path {
            ReversePath::Null => "MAILER-DAEMON".to_owned(),
            path => clean(&self.address(path.to_string())),
        };
        let marked = format!("{id}{mark}");
        let time = local_time(description.arrival.wall);
        let mut text = format!("{marked:<14} {message_octets:>8} {time}  {sender}\n");
        let mut said = None;
        for (place, recipient) in description.envelope.recipients.iter().enumerate() {
            if progress.get(place).is_some_and(Progress::is_finished) {
                continue;
            }
            let reason = self.reason(place).map(|reason| clean(&self.words(reason)));
            if let Some(reason) = reason.as_ref().filter(|reason| said.as_ref() != Some(*reason)) {
                let advice = self.advice(place).filter(|advice| !told.contains(advice));
                told.extend(advice);
                let shown = match advice {
                    Some(advice) => format!("{}. {advice}", reason.trim_end_matches('.')),
                    None => reason.clone(),
                };
                let blanks = REASON_COLUMNS.saturating_sub(shown.chars().count());
                // Writing to a String cannot fail, here and below.
                let _ = writeln!(text, "{:blanks$}({shown})", "");
            }
            said = reason.or(said);
            let _ = writeln!(text, "{:45}{}", "", clean(&self.address(recipient.mailbox.to_string())));
        }
        text.push('\n');
        text
    }

    /// A JSON object on one line. Times are seconds since 1970.
    #[must_use]
    pub fn json(&self) -> String {
        let EntrySummary { id, description, message_octets, progress, .. } = &self.summary;
        let from = match &description.envelope.reverse_path {
            ReversePath::Null => String::new(),
            path => self.address(path.to_string()),
        };
        let mut text = format!(
            "{{\"id\":\"{id}\",\"arrival\":{},\"size\":{message_octets},\"from\":{},\"recipients\":[",
            description.arrival.wall.seconds(),
            json_text(&from)
        );
        for (place, (recipient, progress)) in description.envelope.recipients.iter().zip(progress).enumerate()
        {
            let reason = self.reason(place);
            let optional =
                |text: Option<String>| text.map_or_else(|| "null".to_owned(), |text| json_text(&text));
            let _ = write!(
                text,
                "{}{{\"to\":{},\"state\":\"{}\",\"status\":{},\"reply\":{},\"relay\":{},\"advice\":{}}}",
                if place == 0 { "" } else { "," },
                json_text(&self.address(recipient.mailbox.to_string())),
                state(progress),
                optional(reason.map(|reason| reason.status.to_string())),
                optional(reason.map(|reason| self.words(reason))),
                optional(reason.and_then(|reason| reason.remote.clone())),
                optional(self.advice(place).map(str::to_owned)),
            );
        }
        let next = self.next_attempt.map_or_else(|| "null".to_owned(), |at| at.seconds().to_string());
        let (attempts, held) = (self.attempts, self.is_held());
        let _ = writeln!(text, "],\"attempts\":{attempts},\"next_attempt\":{next},\"hold\":{held}}}");
        text
    }

    /// Envelope and history, with the empty line before the content.
    #[must_use]
    pub fn full(&self, history: &[JournalRecord]) -> String {
        let EntrySummary { id, description, message_octets, progress, .. } = &self.summary;
        let envelope = &description.envelope;
        let next = match (self.is_held(), self.is_active, self.next_attempt) {
            (true, ..) => "held".to_owned(),
            (_, true, _) => "now".to_owned(),
            (.., next) => next.map_or_else(|| "unknown".to_owned(), WallTime::to_rfc5322),
        };
        let mut text = format!(
            "id: {id}\nfrom: <{}>\narrival: {}\norigin: {}\nsize: {message_octets}\nattempts: {}\nnext attempt: {next}\n",
            clean(&envelope.reverse_path.to_string()),
            description.arrival.wall.to_rfc5322(),
            clean(&description.origin),
            self.attempts,
        );
        if let Some(envid) = &envelope.envid {
            let _ = writeln!(text, "envid: {}", clean(envid));
        }
        for (place, (recipient, progress)) in envelope.recipients.iter().zip(progress).enumerate() {
            let _ = write!(text, "to: <{}> {}", clean(&recipient.mailbox.to_string()), state(progress));
            let reason =
                self.reason(place).map(|reason| format!(" {} {}", reason.status, clean(reason.line())));
            let _ = writeln!(text, "{}", reason.unwrap_or_default());
            if let Some(advice) = self.advice(place) {
                let _ = writeln!(text, "advice: {advice}");
            }
        }
        for record in history {
            self.push_record(&mut text, record);
        }
        text.push('\n');
        text
    }

    /// Appends a line of the history.
    fn push_record(&self, text: &mut String, JournalRecord { recipients, at, event }: &JournalRecord) {
        let all = &self.summary.description.envelope.recipients;
        let (what, diagnostic) = match event {
            JournalEvent::Attempted(outcome) => {
                let what = match outcome {
                    Outcome::Delivered(_) => "delivered",
                    Outcome::Deferred(_) => "deferred",
                    Outcome::Failed(_) => "failed",
                };
                (what, Some(outcome.diagnostic()))
            }
            JournalEvent::Notified => ("notice sent", None),
            JournalEvent::Owed => ("delivered, a notice to the sender is due", None),
            JournalEvent::Waited(reason) => ("waited", Some(reason)),
            JournalEvent::Held => ("held", None),
            JournalEvent::Released => ("released", None),
            JournalEvent::Kept => ("held, because admin cannot be reached", None),
        };
        let names: Vec<String> = recipients
            .iter()
            .filter_map(|&place| all.get(place).map(|to| clean(&to.mailbox.to_string())))
            .collect();
        let _ = write!(text, "history: {} {what} to={}", at.wall.to_rfc5322(), names.join(","));
        if let Some(diagnostic) = diagnostic {
            let relay = clean(diagnostic.remote.as_deref().unwrap_or("-"));
            let _ = write!(text, " relay={relay} status={} {}", diagnostic.status, clean(diagnostic.line()));
        }
        text.push('\n');
    }
}

/// The last line of a list with messages.
#[must_use]
pub fn mailq_end(messages: usize, octets: u64) -> String {
    let plural = if messages == 1 { "" } else { "s" };
    format!("-- {} Kbytes in {messages} Request{plural}.\n", octets.div_ceil(1024))
}

/// The wall time of a future running time.
#[must_use]
pub fn wall_time(now: Now, due: std::time::Duration) -> WallTime {
    WallTime(now.wall.0.saturating_add(micros(due.saturating_sub(now.running))))
}

fn state(progress: &Progress) -> &'static str {
    match progress.state {
        RecipientState::Pending => "pending",
        RecipientState::Delivered => "delivered",
        RecipientState::Failed => "failed",
    }
}

/// `Mon Nov 23 10:00:00`, in local time.
pub(super) fn local_time(wall: WallTime) -> String {
    date_text(wall, utc_offset_seconds(wall.seconds()))
}

fn date_text(wall: WallTime, utc_offset: i32) -> String {
    let date = wall.to_local(utc_offset);
    let (weekday, month) = names(date);
    let (day, hour, minute, second) = (date.day(), date.hour(), date.minute(), date.second());
    format!("{weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02}")
}

/// A text with a question mark for each character that could forge output (see [`is_hostile`]).
pub(crate) fn clean(text: &str) -> String {
    if !text.contains(is_hostile) {
        return text.to_owned();
    }
    text.chars().map(|c| if is_hostile(c) { '?' } else { c }).collect()
}

/// A string of JSON (RFC 8259 §7).
#[must_use]
pub fn json_text(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // All hostile characters are in the basic plane: four digits suffice.
            c if is_hostile(c) => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::Mailbox;
    use crate::mail::envelope::{Envelope, Recipient};
    use crate::mail::id::QueueId;
    use crate::mail::status::EnhancedStatus;
    use crate::store::queue::Description;
    use std::time::Duration;

    fn listed(reply: &str) -> Listed {
        let wall = WallTime(1_795_416_810_000_000);
        let arrival = Now { wall, running: Duration::ZERO };
        let mut envelope = Envelope::new(ReversePath::parse("a@b.example").unwrap());
        for to in ["joe@far.example", "jim@far.example", "done@far.example"] {
            envelope.recipients.push(Recipient::new(Mailbox::parse(to).unwrap()));
        }
        let diagnostic = Diagnostic::local(EnhancedStatus::NO_ANSWER, reply);
        let waits = Progress { diagnostic: Some(diagnostic), attempts: 2, ..Progress::default() };
        let done = Progress { state: RecipientState::Delivered, ..Progress::default() };
        let description =
            Description { envelope, origin: "[192.0.2.1]".into(), arrival, digest: None, dated: None };
        let summary = EntrySummary {
            id: QueueId::new(wall.0, 1),
            description,
            message_octets: 1234,
            progress: vec![waits.clone(), waits, done],
            damaged_records: 0,
        };
        Listed {
            summary,
            is_active: false,
            next_attempt: None,
            attempts: 2,
            pauses: vec![None; 3],
            advice: Vec::new(),
            hides_addresses: false,
        }
    }

    #[test]
    fn a_message_looks_as_in_postfix() {
        let mut listed = listed("connect: timed out");
        let id = listed.summary.id;
        let time = local_time(listed.summary.description.arrival.wall);
        let blanks = " ".repeat(45);
        let reason = format!("{}(connect: timed out)\n", " ".repeat(58));
        let recipients = format!("{reason}{blanks}joe@far.example\n{blanks}jim@far.example\n\n");
        assert_eq!(
            listed.mailq(&mut Vec::new()),
            format!("{id}      1234 {time}  a@b.example\n{recipients}")
        );
        listed.summary.progress[1].held = true;
        assert!(listed.mailq(&mut Vec::new()).starts_with(&format!("{id}!     1234 {time}  a@b.example\n")));
        listed.is_active = true;
        listed.summary.description.envelope.reverse_path = ReversePath::Null;
        assert!(
            listed.mailq(&mut Vec::new()).starts_with(&format!("{id}*     1234 {time}  MAILER-DAEMON\n"))
        );
        assert_eq!(mailq_end(1, 1234), "-- 2 Kbytes in 1 Request.\n");
        assert_eq!(mailq_end(3, 0), "-- 0 Kbytes in 3 Requests.\n");
    }

    /// Programs that filter by reason, such as apq, keep the last line in parentheses: advice on a line of its own hid the reason.
    #[test]
    fn a_reason_is_one_line_with_its_advice() {
        let mut listed = listed("450 4.2.0 Greylisted.");
        listed.advice = vec![Some("Wait."); 3];
        let mut told = Vec::new();
        for shown in ["(450 4.2.0 Greylisted. Wait.)", "(450 4.2.0 Greylisted.)"] {
            let text = listed.mailq(&mut told);
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            let [_, reason, "joe@far.example", "jim@far.example", ""] = lines.as_slice() else {
                panic!("{text}")
            };
            assert_eq!(*reason, shown, "advice is told once in a list");
        }
    }

    #[test]
    fn others_see_all_but_the_addresses() {
        let mut listed = listed("host said: 450 4.2.1 <joe@far.example>: try jim later");
        listed.hides_addresses = true;
        let id = listed.summary.id;
        let time = local_time(listed.summary.description.arrival.wall);
        let blanks = " ".repeat(45);
        let expected = format!(
            "{id}      1234 {time}  <hidden>\n{}(host said: 450 4.2.1 <hidden>: try <hidden> later)\n\
             {blanks}<hidden>\n{blanks}<hidden>\n\n",
            " ".repeat(27)
        );
        assert_eq!(listed.mailq(&mut Vec::new()), expected);
        let json = listed.json();
        assert!(!json.contains("joe") && !json.contains("jim") && !json.contains("a@b"), "{json}");
        assert_eq!(json.matches("\"to\":\"<hidden>\"").count(), 3, "{json}");
        assert!(json.contains("\"from\":\"<hidden>\",") && json.contains("450 4.2.1 <hidden>"), "{json}");
        listed.summary.description.envelope.reverse_path = ReversePath::Null;
        assert!(
            listed.mailq(&mut Vec::new()).contains("  MAILER-DAEMON\n")
                && listed.json().contains("\"from\":\"\"")
        );
    }

    #[test]
    fn dates_are_those_of_asctime() {
        let day = WallTime(1_795_416_810_000_000);
        assert_eq!(date_text(day, 0), "Mon Nov 23 06:53:30");
        assert_eq!(date_text(day, -7 * 3600), "Sun Nov 22 23:53:30");
        assert_eq!(date_text(WallTime(0), 3600), "Thu Jan  1 01:00:00");
    }

    #[test]
    fn a_reply_forges_no_line() {
        let listed = listed("no\r\n\u{1b}[2J-- 0 Kbytes in 0 Requests.\u{202e}\"\\");
        assert_eq!(listed.mailq(&mut Vec::new()).lines().count(), 5);
        for text in [listed.mailq(&mut Vec::new()), listed.json(), listed.full(&[])] {
            assert!(!text.replace('\n', "").contains(is_hostile), "{text:?}");
        }
        let json = listed.json();
        assert_eq!(json.matches('\n').count(), 1);
        assert!(
            json.contains(r#""reply":"no\u000d\u000a\u001b[2J-- 0 Kbytes in 0 Requests.\u202e\"\\""#),
            "{json}"
        );
    }

    #[test]
    fn the_object_has_all_that_the_contract_names() {
        let listed = listed("no");
        let id = listed.summary.id;
        let recipient =
            |name: &str, rest: &str| format!("{{\"to\":\"{name}@far.example\",\"state\":{rest}}}");
        let waits = "\"pending\",\"status\":\"4.4.1\",\"reply\":\"no\",\"relay\":null,\"advice\":null";
        let done = "\"delivered\",\"status\":null,\"reply\":null,\"relay\":null,\"advice\":null";
        let expected = format!(
            "{{\"id\":\"{id}\",\"arrival\":1795416810,\"size\":1234,\"from\":\"a@b.example\",\"recipients\":[{},{},{}],\
             \"attempts\":2,\"next_attempt\":null,\"hold\":false}}\n",
            recipient("joe", waits),
            recipient("jim", waits),
            recipient("done", done)
        );
        assert_eq!(listed.json(), expected);
    }
}
