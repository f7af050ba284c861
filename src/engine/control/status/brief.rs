//! `pillarbox status` without an option: sentences, and below them what is worth a look.
//!
//! ```text
//! 2 messages wait for smtp.far.example, which has refused the login for 3h 2m: 535 5.7.8 Bad credentials. …
//! Also: The certificate /etc/ssl/box.pem ends in 8d 2h; renew it, …
//!
//! queue           2 messages, 12 KiB, the oldest for 3h 4m
//! last delivered  Mon Nov 23 10:02:11, to joe@far.example
//! last failed     none since the start
//! running for     3d 4h, version 1.0.0
//!
//!                                                          since start         in all
//! Accepted messages: sendmail                                       12            240
//! ```

use super::super::listing::{clean, local_time};
use super::{MetricValue, ROWS, Status};
use crate::engine::log::last_ends::LastEnd;
use crate::rules::advice::monitor::{size, span};
use std::fmt::Write;

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
    pub(super) fn rows(&self, sees_all: bool) -> [(&'static str, String); 4] {
        let version = env!("CARGO_PKG_VERSION");
        [
            ("queue", self.queue()),
            ("last delivered", last(self.ends.delivered.as_ref(), sees_all, false)),
            ("last failed", last(self.ends.failed.as_ref(), sees_all, true)),
            ("running for", format!("{}, version {version}", span(self.uptime))),
        ]
    }

    fn queue(&self) -> String {
        match self.figures.messages {
            0 => "empty".to_owned(),
            number => {
                let plural = if number == 1 { "" } else { "s" };
                let octets = size(self.figures.octets);
                format!("{number} message{plural}, {octets}, the oldest for {}", span(self.oldest))
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

/// When a message ended last, whose it was and why, as far as the reader may know.
fn last(end: Option<&LastEnd>, sees_all: bool, has_reply: bool) -> String {
    let Some(LastEnd { id, to, at, reply }) = end else { return "none since the start".to_owned() };
    let mut text = local_time(*at);
    if sees_all {
        let _ = write!(text, ", {id} to {}", clean(&to.to_string()));
    }
    if sees_all && has_reply {
        let _ = write!(text, ": {}", clean(reply));
    }
    text
}
