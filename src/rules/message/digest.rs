//! Storm control: which of this host's own messages are similar, which leave at once, and which wait for the end of a
//! window to leave together; and the frame of that message (RFC 2046 §5.1.5).
//!
//! The life of a window, one for each group of similar messages:
//!
//! | state | a message of the group | the end of the window |
//! | --- | --- | --- |
//! | no window | leaves at once and opens a window | |
//! | fewer than `after` have left, none waits | leaves at once | the window is over |
//! | `after` have left, or some wait | waits in the queue | a digest leaves; a new window begins, in a storm if there were too many |
//! | in a storm | waits in the queue | a digest leaves; the storm ends with a window of at most `after` messages |
//!
//! So a storm that goes on is one message a window. Nothing is dropped here: messages that wait are in the queue.
//!
//! The summary is the first part of the multipart/digest and declares itself as text. RFC 2046 §5.1.5 would rather
//! put it in front of the digest, in a multipart/mixed around both; programs show both forms alike, and this form has
//! a level less. Subjects come from any user of this host: they are cut, and appear in no field but Subject. Time
//! comes as an argument.
//!
//! # What a digest looks like
//!
//! ```text
//! From: root@router.lan
//! To: admin
//! Subject: [7 similar] disk 91 % full
//! Message-ID: <ID-OF-THE-FIRST.7@router.lan>
//! Content-Type: multipart/digest; boundary="=_…"
//!
//! --=_…
//! Content-Type: text/plain; charset=utf-8
//!
//! (the number of messages, the first and the last date, each subject with its count)
//! --=_…
//!
//! (the first message, as message/rfc822; then the others)
//! --=_…--
//! ```
//!
//! From and To are those of the first message.
//!
//! # What a restart remembers
//!
//! [`Windows::print`] writes a line for each window that has not ended: the group in 32 hexadecimal digits, the end
//! in microseconds of running time, and how many messages have left at once (4294967295 in a storm). A lost file
//! costs at most a digest's worth of single messages.

mod fold;

pub use fold::fold;

use crate::mail::address::ReversePath;
use crate::mail::date::{WallTime, micros};
use crate::mail::header::split_field;
use crate::mail::id::QueueId;
use openssl::sha::Sha256;
use std::fmt::Write;
use std::time::Duration;

/// The most messages in a digest.
pub const MEMBERS_MAX: usize = 2000;
/// The number of windows that are remembered. When there are more, ended windows without waiting messages are
/// dropped, or else all windows without them.
const WINDOWS_MAX: usize = 1024;
/// The longest subject, and the longest From and To, that the digest repeats.
const SUBJECT_MAX_OCTETS: usize = 400;
const ADDRESSES_MAX_OCTETS: usize = 16 * 1024;
/// The number of different subjects in the summary.
const SUBJECTS_MAX: usize = 20;

/// The hash of what similar messages have in common: `description` (sender, recipients and their requests) and the
/// subject as [`fold`] left it.
#[must_use]
pub fn group(description: &str, folded: &str) -> u128 {
    let mut hash = Sha256::new();
    // The NUL separates the two unambiguously: control characters of the description are escaped.
    for part in [description.as_bytes(), b"\0", folded.as_bytes()] {
        hash.update(part);
    }
    hash.finish().iter().take(16).fold(0, |group, &octet| group << 8 | u128::from(octet))
}

/// The configuration of storm control.
#[derive(Debug, Clone, Copy)]
pub struct DigestTerms {
    /// How many messages of a group leave at once; never 0.
    pub after: u32,
    /// The length of a window.
    pub window: Duration,
    /// The most messages in a digest.
    pub members: usize,
    /// The largest digest, in octets on the wire.
    pub octets: u64,
}

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestMember {
    /// Its queue id.
    pub id: QueueId,
    /// Its size in octets on the wire.
    pub octets: u64,
}

/// The windows of all groups. After a restart the waiting messages come from the queue, the rest from
/// [`Windows::print`].
#[derive(Debug, Default)]
pub struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    group: u128,
    /// In running time.
    end: Duration,
    /// How many have left at once, or [`IN_A_STORM`].
    at_once: u32,
    members: Vec<DigestMember>,
}

/// Nothing leaves at once: the previous window had too many messages.
const IN_A_STORM: u32 = u32::MAX;

impl Windows {
    /// Whether a message leaves at once (`None`) or waits until a running time.
    pub fn decide(&mut self, group: u128, now: Duration, terms: &DigestTerms) -> Option<Duration> {
        let mut known = self.0.iter_mut().find(|window| window.group == group);
        if let Some(window) = &mut known {
            // The end may come from a clock that was lost since, or from a configuration with longer windows.
            window.end = window.end.min(now.saturating_add(terms.window));
        }
        if let Some(window) = known.filter(|window| now < window.end || !window.members.is_empty()) {
            if window.members.is_empty() && window.at_once < terms.after {
                window.at_once += 1;
                return None;
            }
            // After the end of a window its digest is being made; this message may be too late for it.
            let end = if now < window.end { window.end } else { now.saturating_add(terms.window) };
            return Some(end);
        }
        let window = self.take(group, now);
        self.0.push(Window { end: now.saturating_add(terms.window), at_once: 1, ..window });
        None
    }

    /// Adds a message that waits until `end`.
    pub fn add(&mut self, group: u128, member: DigestMember, end: Duration, now: Duration) {
        let mut window = self.take(group, now);
        window.end = window.end.max(end);
        if window.members.iter().all(|known| known.id != member.id) {
            window.members.push(member);
        }
        self.0.push(window);
    }

    /// The oldest message of a group that fills a digest: it need not wait any longer.
    #[must_use]
    pub fn overdue(&self, group: u128, terms: &DigestTerms) -> Option<QueueId> {
        let members = &self.0.iter().find(|window| window.group == group)?.members;
        let octets: u64 = members.iter().map(|member| member.octets).sum();
        let is_full = members.len() >= terms.members || octets > terms.octets;
        members.iter().map(|member| member.id).min().filter(|_| is_full)
    }

    /// The group in which a message waits.
    #[must_use]
    pub fn group_of(&self, id: QueueId) -> Option<u128> {
        let waits_in = |window: &&Window| window.members.iter().any(|member| member.id == id);
        self.0.iter().find(waits_in).map(|window| window.group)
    }

    /// All messages that wait, or those of one group.
    pub fn members(&self, group: Option<u128>) -> impl Iterator<Item = QueueId> {
        let windows = self.0.iter().filter(move |window| group.is_none_or(|group| window.group == group));
        windows.flat_map(|window| &window.members).map(|member| member.id)
    }

    /// A digest of this many messages has left: a new window begins, in a storm if it goes on.
    pub fn left(&mut self, group: u128, messages: usize, now: Duration, terms: &DigestTerms) {
        let mut window = self.take(group, now);
        let at_once = if window.at_once <= terms.after { window.at_once } else { 0 };
        let goes_on = messages > terms.after.saturating_sub(at_once) as usize;
        window.at_once = if goes_on { IN_A_STORM } else { 0 };
        window.end = if goes_on { now.saturating_add(terms.window) } else { now };
        self.0.push(window);
    }

    /// A message no longer waits.
    pub fn forget(&mut self, id: QueueId) {
        self.0.iter_mut().for_each(|window| window.members.retain(|member| member.id != id));
    }

    /// No message waits any more; the counts of messages that left at once stay.
    pub fn forget_members(&mut self) {
        self.0.iter_mut().for_each(|window| window.members.clear());
    }

    /// The state of windows that have not ended, for a restart: one line each.
    #[must_use]
    pub fn print(&self, now: Duration) -> String {
        let mut text = String::new();
        for Window { group, end, at_once, .. } in self.0.iter().filter(|window| now < window.end) {
            // Writing to a String cannot fail; the same holds below.
            let _ = writeln!(text, "{group:032x} {} {at_once}", micros(*end));
        }
        text
    }

    /// Parses what [`Windows::print`] wrote; other lines are skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let window = |line: &str| {
            let mut words = line.split(' ');
            Some(Window {
                group: u128::from_str_radix(words.next()?, 16).ok()?,
                end: Duration::from_micros(words.next()?.parse().ok()?),
                at_once: words.next()?.parse().ok()?,
                members: Vec::new(),
            })
        };
        Self(text.lines().filter_map(window).take(WINDOWS_MAX).collect())
    }

    /// Removes a window, to be put back by the caller; an unknown group gets a new one.
    fn take(&mut self, group: u128, now: Duration) -> Window {
        if let Some(place) = self.0.iter().position(|window| window.group == group) {
            return self.0.swap_remove(place);
        }
        if self.0.len() >= WINDOWS_MAX {
            self.0.retain(|window| now < window.end || !window.members.is_empty());
            if self.0.len() >= WINDOWS_MAX {
                self.0.retain(|window| !window.members.is_empty());
            }
        }
        // Waiting messages that are found after a restart belong to a storm that had begun.
        Window { group, end: Duration::ZERO, at_once: IN_A_STORM, members: Vec::new() }
    }
}

/// The summary of a digest, gathered from the header sections of its messages.
#[derive(Debug, Default)]
pub struct DigestSummary {
    messages: usize,
    from: Vec<u8>,
    to: Vec<u8>,
    first: Option<(QueueId, WallTime)>,
    last: Option<WallTime>,
    subjects: Vec<(String, usize)>,
    others: usize,
    has_eight_bit: bool,
}

impl DigestSummary {
    /// Adds the next message, in the order of arrival. `has_eight_bit`: the message has an octet above 127.
    pub fn add(&mut self, id: QueueId, section: &[u8], arrival: WallTime, has_eight_bit: bool) {
        if self.first.is_none() {
            self.first = Some((id, arrival));
            let value = |name| field(section, name).filter(|value| value.len() <= ADDRESSES_MAX_OCTETS);
            self.from = value("From").unwrap_or_default().to_vec();
            self.to = value("To").unwrap_or_default().to_vec();
        }
        self.last = Some(arrival);
        self.messages += 1;
        self.has_eight_bit |= has_eight_bit;
        let subject = subject(section);
        let is_full = self.subjects.len() >= SUBJECTS_MAX;
        match self.subjects.iter_mut().find(|(known, _)| *known == subject) {
            Some((_, count)) => *count += 1,
            None if is_full => self.others += 1,
            None => self.subjects.push((subject, 1)),
        }
    }

    fn words(&self, hostname: &str) -> String {
        let mut words = format!(
            "{} similar messages arrived in a short time: from the same sender, for the same\n\
             recipients, with subjects that differ only in numbers, dates or names.\n\
             {hostname} has collected them; all of them are attached.\n\n",
            self.messages
        );
        let date = |at: WallTime| at.to_rfc5322();
        let first = self.first.map(|(_, at)| date(at)).unwrap_or_default();
        let _ = writeln!(words, "First: {first}\nLast:  {}\n", self.last.map(date).unwrap_or_default());
        for (subject, count) in &self.subjects {
            let subject = if subject.is_empty() { "(no subject)" } else { subject };
            let _ = writeln!(words, "{count:6}  {subject}");
        }
        if self.others > 0 {
            let _ = writeln!(words, "{:6}  with other subjects", self.others);
        }
        words
    }
}

/// The text around the messages of a digest.
#[derive(Debug)]
pub struct Frame {
    /// Everything in front of the first message.
    pub head: Vec<u8>,
    /// The text in front of each message.
    pub separator: String,
    /// The text after the last message.
    pub end: String,
}

/// Other inputs of the frame.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The name of this host.
    pub hostname: &'a str,
    /// The domain of this host in ASCII, for Message-ID.
    pub domain: &'a str,
    /// The reverse-path of the messages.
    pub reverse_path: &'a ReversePath,
    /// The messages came by SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// The time for Date.
    pub now: WallTime,
    /// 64 random bits, so that no message can contain the boundary.
    pub random: u64,
}

impl Frame {
    /// The frame for the messages of a summary. The same messages get the same Message-ID, by which a mail program
    /// can recognise a digest that a crash has sent twice.
    #[must_use]
    pub fn new(summary: &DigestSummary, facts: &Facts<'_>) -> Self {
        let Facts { hostname, domain, reverse_path, smtputf8, now, random } = *facts;
        let id = summary.first.map(|(id, _)| id.to_string()).unwrap_or_default();
        let words = summary.words(hostname);
        let encoding = |is_eight_bit| if is_eight_bit { "Content-Transfer-Encoding: 8bit\n" } else { "" };
        // Each level must declare it if a level below does (RFC 2045 §6.4).
        let whole = encoding(summary.has_eight_bit || !words.is_ascii());
        let members = encoding(summary.has_eight_bit);
        let boundary = format!("=_{id}_{random:016x}");

        let mut head = Vec::new();
        let mut push = |name: &str, value: &[u8], default: String| {
            let value = if value.is_empty() { default.as_bytes() } else { value };
            [name.as_bytes(), b":", value, b"\n"].iter().for_each(|part| head.extend_from_slice(part));
        };
        let sender = match reverse_path {
            ReversePath::Mailbox(mailbox) => format!(" {mailbox}"),
            ReversePath::Null => format!(" MAILER-DAEMON@{domain}"),
        };
        push("From", &summary.from, sender);
        push("To", &summary.to, " undisclosed-recipients:;".to_owned());
        let subject = summary.subjects.first().map(|(subject, _)| subject.as_str()).unwrap_or_default();
        let fields = format!(
            "Subject: [{} similar] {subject}\nDate: {}\nMessage-ID: <{id}.{}@{domain}>\nMIME-Version: 1.0\n\
             Content-Type: multipart/digest; boundary=\"{boundary}\"\n{whole}\n\
             --{boundary}\nContent-Type: text/plain; charset=utf-8\n{}\n{words}",
            summary.messages,
            now.to_rfc5322(),
            summary.messages,
            encoding(!words.is_ascii()),
        );
        head.extend_from_slice(fields.as_bytes());
        // The default type in a digest is message/rfc822.
        let kind = if smtputf8 { "Content-Type: message/global\n" } else { "" };
        let separator = format!("\n--{boundary}\n{kind}{members}\n");
        Self { head, separator, end: format!("\n--{boundary}--\n") }
    }
}

/// The subject of a message on one line, cut to a maximum length.
#[must_use]
pub fn subject(section: &[u8]) -> String {
    let value = field(section, "Subject").unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    let mut subject = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let blank = if subject.is_empty() { "" } else { " " };
        if subject.len() + word.len() >= SUBJECT_MAX_OCTETS {
            if subject.is_empty() {
                subject.extend(word.chars().take(SUBJECT_MAX_OCTETS / 4));
            }
            break;
        }
        subject.push_str(blank);
        subject.push_str(word);
    }
    subject
}

/// The value of the first field of this name, from the colon on, with its folds.
fn field<'a>(section: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (mut start, mut end, mut at) = (None, 0, 0);
    for line in section.split_inclusive(|&octet| octet == b'\n') {
        at += line.len();
        let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
        match (start, split_field(line)) {
            (Some(_), _) if !is_continuation => break,
            (Some(_), _) => end = at,
            (None, Some((found, value))) if found.eq_ignore_ascii_case(name.as_bytes()) => {
                (start, end) = (Some(at - value.len()), at);
            }
            (None, _) => {}
        }
    }
    section.get(start?..end).map(<[u8]>::trim_ascii_end)
}

#[cfg(test)]
mod tests;
