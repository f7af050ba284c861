//! `pillarbox status` without an option: sentences, and below them what is worth a look.
//!
//! ```text
//! 2 messages wait for smtp.far.example, which has refused the login for 3h 2m: 535 5.7.8 Bad credentials. …
//! Also: The certificate /etc/ssl/box.pem ends in 8d 2h; renew it, …
//!
//! queue           2 messages, 12 KiB, the oldest for 3h 4m
//! last delivered  Mon Nov 23 10:02:11, to joe@far.example
//! last failed     none so far
//! running for     3d 4h, version 1.0.0
//!
//!                                                          since start         in all
//! Accepted messages: sendmail                                       12            240
//! ```

use super::super::listing::{clean, local_time};
use super::{MetricValue, ROWS, Status};
use crate::engine::control::pulse::Asked;
use crate::engine::control::services::Services;
use crate::engine::log::last_ends::LastEnd;
use crate::rules::advice::monitor::{Level, coming, lasting, size, span};
use std::fmt::Write;

/// How things are, for the mail of `heartbeat.every`.
#[derive(Debug)]
pub struct Said {
    /// Nothing needs a person.
    pub is_well: bool,
    /// The sentences, for those who may see all.
    pub sentences: Vec<String>,
    /// The age of the oldest message, in seconds.
    pub oldest: u64,
}

/// How things are now.
#[must_use]
pub fn sentences(services: &Services) -> Said {
    let status = Status::take(services);
    let found = status.findings(true);
    Said {
        is_well: found.iter().all(|it| it.level == Level::Ok),
        sentences: found.into_iter().map(|it| it.text).collect(),
        oldest: status.oldest,
    }
}

impl Status {
    /// The sentences and what is worth a look.
    pub(super) fn brief(&self, sees_all: bool) -> String {
        let mut text = String::new();
        for (place, finding) in self.findings(sees_all).into_iter().enumerate() {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "{}{}", if place == 0 { "" } else { "Also: " }, finding.text);
        }
        text.push('\n');
        for (name, value) in self.rows(sees_all) {
            let _ = writeln!(text, "{name:15} {value}");
        }
        for (place, (title, since, all)) in self.counters().into_iter().enumerate() {
            if place == 0 {
                let _ = writeln!(text, "\n{:55} {:>12} {:>14}", "", "since start", "in all");
            }
            let _ = writeln!(text, "{title:55} {since:>12} {all:>14}");
        }
        text
    }

    /// What is worth a look: names and values.
    pub(super) fn rows(&self, sees_all: bool) -> Vec<(&'static str, String)> {
        let version = env!("CARGO_PKG_VERSION");
        let mut rows = vec![
            ("queue", self.queue()),
            ("in memory", self.in_memory()),
            ("last delivered", last(self.ends.delivered.as_ref(), sees_all, false)),
            ("last failed", last(self.ends.failed.as_ref(), sees_all, true)),
        ];
        rows.retain(|(_, value)| !value.is_empty());
        let signs: Vec<String> = self.mail_to_admin().into_iter().chain(self.switch()).collect();
        if !signs.is_empty() {
            rows.push(("heartbeat", signs.join("; ")));
        }
        rows.push(("running for", format!("{}, version {version}", span(self.uptime))));
        rows
    }

    /// The mail of `heartbeat.every`.
    fn mail_to_admin(&self) -> Option<String> {
        let every = self.site.settings.heartbeat.every?;
        let (last, passed) = self.beat?;
        let next = coming(every.saturating_sub(passed).as_secs());
        Some(match last.id {
            Some(_) => format!("mail to admin {}, the next {next}", ago(passed.as_secs())),
            None => format!("the first mail to admin {next}"),
        })
    }

    /// The question of `heartbeat.url`.
    fn switch(&self) -> Option<String> {
        self.site.settings.heartbeat.url.as_ref()?;
        let Some(Asked { at, is_well, failing, .. }) = &self.asked else {
            return Some("the dead man's switch has not been asked yet".to_owned());
        };
        let told = match (failing, is_well) {
            (Some(_), _) => "and not reached",
            (None, true) => "and told that all is well",
            (None, false) => "and told of a failure",
        };
        let ago = ago(self.now.running.saturating_sub(*at).as_secs());
        Some(format!("the dead man's switch was asked {ago} {told}"))
    }

    fn queue(&self) -> String {
        match self.figures.messages {
            0 => "empty".to_owned(),
            number => {
                let plural = if number == 1 { "" } else { "s" };
                let octets = size(self.figures.octets);
                let oldest = lasting(self.oldest, "the oldest", "which came just now");
                format!("{number} message{plural}, {octets}, {oldest}")
            }
        }
    }

    /// What a power cut would lose; empty without messages in memory.
    fn in_memory(&self) -> String {
        let memory = &self.facts.memory;
        match memory.messages {
            0 => String::new(),
            number => {
                let (plural, them) = if number == 1 { ("", "it") } else { ("s", "them") };
                let (octets, oldest) = (size(memory.octets), memory.oldest.as_secs());
                let oldest = lasting(oldest, "the oldest", "which came just now");
                format!("{number} message{plural}, {octets}, {oldest}: a power cut would lose {them}")
            }
        }
    }

    /// The counters that are not zero: title, since the start, in all.
    pub(super) fn counters(&self) -> Vec<(String, u64, u64)> {
        let mut counters = Vec::new();
        for row in &ROWS {
            let MetricValue::Counter(count) = row.value else { continue };
            let (since, all) = self.counts(count);
            if all > 0 {
                counters.push((row.title(), since, all));
            }
        }
        counters
    }
}

/// `3h ago`, or `just now`.
fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".to_owned() } else { format!("{} ago", span(seconds)) }
}

/// When a message ended last, whose it was and why, as far as the reader may know.
fn last(end: Option<&LastEnd>, sees_all: bool, has_reply: bool) -> String {
    let Some(LastEnd { id, to, at, reply }) = end else { return "none so far".to_owned() };
    let mut text = local_time(*at);
    if sees_all {
        let _ = write!(text, ", {id} to {}", clean(&to.to_string()));
    }
    if sees_all && has_reply {
        let _ = write!(text, ": {}", clean(reply));
    }
    text
}
