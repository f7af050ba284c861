//! The mail of `heartbeat.every`: how this host is, in plain words, with figures since the last such mail.
//!
//! It goes the way of any mail that a program of this host writes, from `root`, since it must show that such mail arrives.

use super::bounce::push_folded;
use crate::mail::address::Mailbox;
use crate::mail::date::WallTime;
use crate::rules::advice::monitor::span;
use std::fmt::Write;
use std::time::Duration;

/// Totals that the mail tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted messages.
    pub accepted: u64,
    /// Recipients that got theirs.
    pub delivered: u64,
    /// Attempts that were deferred.
    pub deferred: u64,
    /// Recipients that failed.
    pub failed: u64,
}

impl Totals {
    /// What was added since `earlier`; counts that a crash lost are no negative ones.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_sub(earlier.accepted),
            delivered: self.delivered.saturating_sub(earlier.delivered),
            deferred: self.deferred.saturating_sub(earlier.deferred),
            failed: self.failed.saturating_sub(earlier.failed),
        }
    }
}

/// What the mail tells.
#[derive(Debug)]
pub struct Heartbeat<'a> {
    /// The name of this host, valid in a header.
    pub hostname: &'a str,
    /// The sender.
    pub from: &'a Mailbox,
    /// The recipients.
    pub to: &'a [Mailbox],
    /// Nothing needs a person.
    pub is_well: bool,
    /// How things are, the most important first.
    pub sentences: &'a [String],
    /// The time since the last such mail, and what happened in it.
    pub passed: Duration,
    /// See `passed`.
    pub totals: Totals,
    /// Whether it is the first such mail.
    pub is_first: bool,
    /// Messages in the queue.
    pub waiting: u64,
    /// The age of the oldest, in seconds.
    pub oldest: u64,
    /// Seconds since the start of the daemon.
    pub uptime: u64,
    /// The interval.
    pub every: Duration,
    /// The date.
    pub now: WallTime,
    /// 64 random bits, for the Message-ID.
    pub random: u64,
}

/// The whole message, in ASCII.
#[must_use]
pub fn compose(it: &Heartbeat<'_>) -> String {
    let Heartbeat { hostname, from, now, random, .. } = it;
    let state = if it.is_well { "all is well" } else { "this needs a look" };
    let to: Vec<String> = it.to.iter().filter(|to| to.is_ascii()).map(|to| format!("<{to}>")).collect();
    let to = if to.is_empty() { "undisclosed-recipients:;".to_owned() } else { to.join(",\n\t") };
    let mut text = format!(
        "From: \"Mail system of {hostname}\" <{from}>\nTo: {to}\nSubject: {hostname}: {state}\nDate: {}\n\
         Message-ID: <heartbeat.{:x}.{random:016x}@{hostname}>\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n\
         Content-Type: text/plain; charset=us-ascii\n\nThis is the mail system of {hostname}.\n\n",
        now.to_rfc5322(),
        now.seconds(),
    );
    for (place, sentence) in it.sentences.iter().enumerate() {
        push_folded(&mut text, if place == 0 { "Now:" } else { "Also:" }, "  ", sentence);
    }
    let since = if it.is_first { "" } else { ", since the last such mail" };
    let Totals { accepted, delivered, deferred, failed } = it.totals;
    let rows = [
        ("accepted", accepted, "message"),
        ("delivered", delivered, "recipient"),
        ("deferred", deferred, "attempt"),
        ("failed", failed, "recipient"),
    ];
    // Writing to a String cannot fail, here and below.
    let _ = write!(text, "\nIn {}{since}:\n", span(it.passed.as_secs()));
    for (name, number, what) in rows {
        let _ = writeln!(text, "  {name:10} {number:>7} {what}{}", if number == 1 { "" } else { "s" });
    }
    let plural = if it.waiting == 1 { "" } else { "s" };
    let oldest =
        if it.waiting == 0 { String::new() } else { format!(", the oldest for {}", span(it.oldest)) };
    let _ = write!(
        text,
        "Waiting now: {} message{plural}{oldest}.\n\npillarbox {} has been running for {}.\nSuch a mail comes every {} \
         (heartbeat.every). If it stays away, look at\nthis host: pillarbox status\n",
        it.waiting,
        env!("CARGO_PKG_VERSION"),
        span(it.uptime),
        span(it.every.as_secs()),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn mailbox(text: &str) -> Mailbox {
        Mailbox::parse(text).unwrap()
    }

    #[test]
    fn it_says_how_things_are_and_what_happened() {
        let (from, to) = (mailbox("root@box.example"), [mailbox("me@far.example"), mailbox("ä@far.example")]);
        let text = compose(&Heartbeat {
            hostname: "box.example",
            from: &from,
            to: &to,
            is_well: true,
            sentences: &["Everything works: 1 message is on the way.".into()],
            passed: Duration::from_secs(7 * 86_400 + 60),
            totals: Totals { accepted: 12, delivered: 11, deferred: 3, failed: 1 },
            is_first: false,
            waiting: 1,
            oldest: 30,
            uptime: 90_000,
            every: Duration::from_secs(7 * 86_400),
            now: WallTime(1_795_416_810_000_000),
            random: 7,
        });
        let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        expect![[r#"
            From: "Mail system of box.example" <root@box.example>
            To: <me@far.example>
            Subject: box.example: all is well
            Date: Mon, 23 Nov 2026 06:53:30 +0000
            Message-ID: <heartbeat.6b03e2ea.0000000000000007@box.example>
            Auto-Submitted: auto-generated
            MIME-Version: 1.0
            Content-Type: text/plain; charset=us-ascii

            This is the mail system of box.example.

            Now: Everything works: 1 message is on the way.

            In 7d, since the last such mail:
              accepted        12 messages
              delivered       11 recipients
              deferred         3 attempts
              failed           1 recipient
            Waiting now: 1 message, the oldest for 30s.

            pillarbox VERSION has been running for 1d 1h.
            Such a mail comes every 7d (heartbeat.every). If it stays away, look at
            this host: pillarbox status
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn counts_that_a_crash_lost_are_not_negative() {
        let earlier = Totals { accepted: 5, delivered: 5, deferred: 5, failed: 5 };
        let later = Totals { accepted: 9, delivered: 4, deferred: 5, failed: 6 };
        assert_eq!(later.since(earlier), Totals { accepted: 4, delivered: 0, deferred: 0, failed: 1 });
    }

    /// Replies of strangers stand in the sentences.
    #[test]
    fn what_is_wrong_is_told_in_lines_of_ascii() {
        let from = mailbox("root@box.example");
        let text = compose(&Heartbeat {
            hostname: "box.example",
            from: &from,
            to: &[],
            is_well: false,
            sentences: &[
                format!("1 message waits: 550 é\r\n.\r\n{}", "long word ".repeat(100)),
                "More.".into(),
            ],
            passed: Duration::ZERO,
            totals: Totals::default(),
            is_first: true,
            waiting: 0,
            oldest: 0,
            uptime: 1,
            every: Duration::from_secs(3600),
            now: WallTime(0),
            random: 0,
        });
        assert!(text.is_ascii() && text.lines().all(|line| line.len() < 80 && line != "."), "{text}");
        assert!(text.contains("\nSubject: box.example: this needs a look\n"), "{text}");
        assert!(text.contains("\nTo: undisclosed-recipients:;\n"), "{text}");
        assert!(
            text.contains("\nNow: 1 message waits: 550 ? . long") && text.contains("\nAlso: More.\n"),
            "{text}"
        );
        assert!(text.contains("\nIn 0s:\n") && text.contains("\nWaiting now: 0 messages.\n"), "{text}");
    }
}
