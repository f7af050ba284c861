//! Storm control: which of this host's own messages are alike, which of them leave at once, and which wait for the end of
//! the window to leave together; and the frame of the message in which they do (RFC 2046 §5.1.5).
//!
//! The first messages of a window leave at once. The others wait, and when it ends a digest leaves and a new window
//! begins, in which nothing leaves at once: a storm that goes on is one message a window. A window in which no more came
//! than may leave at once ends the storm. Nothing is dropped here, and nothing is promised: what waits is in the queue.
//!
//! The summary is the first part of the multipart/digest, and says that it is text. RFC 2046 §5.1.5 would rather have it
//! ahead of the digest, in a multipart/mixed around both; programs show one as they show the other, and this is a level
//! less. Subjects come from anybody on this host: they are cut, and stand in no field but Subject. Nothing here fails, and
//! time comes as an argument.

mod fold;

pub use fold::fold;

use crate::mail::address::ReversePath;
use crate::mail::date::WallTime;
use crate::mail::header::split_field;
use crate::mail::id::QueueId;
use openssl::sha::Sha256;
use std::fmt::Write;
use std::time::Duration;

/// Most messages in a digest.
pub const MEMBERS_MAX: usize = 2000;
/// So many windows without waiting messages are remembered; beyond it those that have ended are forgotten, or else all.
const WINDOWS_MAX: usize = 1024;
/// Most octets of a subject, and of From and To, that the digest repeats.
const SUBJECT_MAX_OCTETS: usize = 400;
const ADDRESSES_MAX_OCTETS: usize = 16 * 1024;
/// So many different subjects are told of.
const SUBJECTS_MAX: usize = 20;

/// The hash of what like messages have in common: sender, recipients and their wishes as `description` has them, and the
/// subject as [`fold`] left it.
#[must_use]
pub fn group(description: &str, folded: &str) -> u128 {
    let mut hash = Sha256::new();
    // Neither can hold a NUL that the other begins with: the first one is text whose control characters are escaped.
    for part in [description.as_bytes(), b"\0", folded.as_bytes()] {
        hash.update(part);
    }
    hash.finish().iter().take(16).fold(0, |group, &octet| group << 8 | u128::from(octet))
}

/// What the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// So many leave at once; never 0.
    pub after: u32,
    /// How long a window is.
    pub window: Duration,
    /// Most messages in a digest.
    pub members: usize,
    /// The largest message, as it counts on the wire.
    pub octets: u64,
}

/// A message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its name in the queue.
    pub id: QueueId,
    /// Its size, as it counts on the wire.
    pub octets: u64,
}

/// The windows of all kinds of messages. After a restart what waits comes from the queue, and the rest from
/// [`Windows::print`].
#[derive(Debug, Default)]
pub struct Windows(Vec<Window>);

#[derive(Debug)]
struct Window {
    group: u128,
    /// In running time.
    end: Duration,
    /// So many have left, or [`IN_A_STORM`].
    at_once: u32,
    members: Vec<Member>,
}

/// Nothing leaves at once: a window before this one had too much.
const IN_A_STORM: u32 = u32::MAX;

impl Windows {
    /// Whether a message leaves at once, which is `None`, or waits until a running time.
    pub fn decide(&mut self, group: u128, now: Duration, terms: &Terms) -> Option<Duration> {
        let mut known = self.0.iter_mut().find(|window| window.group == group);
        if let Some(window) = &mut known {
            // It may be of a clock that was lost since, or of a configuration with longer ones.
            window.end = window.end.min(now.saturating_add(terms.window));
        }
        if let Some(window) = known.filter(|window| now < window.end || !window.members.is_empty()) {
            if window.members.is_empty() && window.at_once < terms.after {
                window.at_once += 1;
                return None;
            }
            // Behind the end of a window somebody is about to make its digest: this one may be too late for it.
            let end = if now < window.end { window.end } else { now.saturating_add(terms.window) };
            return Some(end);
        }
        let window = self.take(group, now);
        self.0.push(Window { end: now.saturating_add(terms.window), at_once: 1, ..window });
        None
    }

    /// Adds a message that waits until `end`.
    pub fn add(&mut self, group: u128, member: Member, end: Duration, now: Duration) {
        let mut window = self.take(group, now);
        window.end = window.end.max(end);
        if window.members.iter().all(|known| known.id != member.id) {
            window.members.push(member);
        }
        self.0.push(window);
    }

    /// The oldest message of a group that fills a digest, which has no reason to wait any longer.
    #[must_use]
    pub fn overdue(&self, group: u128, terms: &Terms) -> Option<QueueId> {
        let members = &self.0.iter().find(|window| window.group == group)?.members;
        let octets: u64 = members.iter().map(|member| member.octets).sum();
        let is_full = members.len() >= terms.members || octets > terms.octets;
        members.iter().map(|member| member.id).min().filter(|_| is_full)
    }

    /// The group with which a message waits.
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

    /// A digest of so many messages has left: a new window begins, in the storm if it goes on.
    pub fn left(&mut self, group: u128, messages: usize, now: Duration, terms: &Terms) {
        let mut window = self.take(group, now);
        let at_once = if window.at_once <= terms.after { window.at_once } else { 0 };
        let goes_on = messages > terms.after.saturating_sub(at_once) as usize;
        window.at_once = if goes_on { IN_A_STORM } else { 0 };
        window.end = if goes_on { now.saturating_add(terms.window) } else { now };
        self.0.push(window);
    }

    /// A message does not wait any more.
    pub fn forget(&mut self, id: QueueId) {
        self.0.iter_mut().for_each(|window| window.members.retain(|member| member.id != id));
    }

    /// No message waits any more; what has left at once stays in mind.
    pub fn forget_members(&mut self) {
        self.0.iter_mut().for_each(|window| window.members.clear());
    }

    /// What has to be known after a restart of windows that have not ended: a line for each.
    #[must_use]
    pub fn print(&self, now: Duration) -> String {
        let mut text = String::new();
        for Window { group, end, at_once, .. } in self.0.iter().filter(|window| now < window.end) {
            // Writing to a String can't fail; so everywhere below.
            let _ = writeln!(text, "{group:032x} {} {at_once}", end.as_micros());
        }
        text
    }

    /// Reads what [`Windows::print`] wrote; other lines are passed over.
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

    /// Takes a window out, to be put back; one that is not known begins anew.
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
        // What waits and is found again after a restart is of a storm that had begun.
        Window { group, end: Duration::ZERO, at_once: IN_A_STORM, members: Vec::new() }
    }
}

/// What a digest tells of its messages, gathered from their header sections.
#[derive(Debug, Default)]
pub struct Summary {
    messages: usize,
    from: Vec<u8>,
    to: Vec<u8>,
    first: Option<(QueueId, WallTime)>,
    last: Option<WallTime>,
    subjects: Vec<(String, usize)>,
    others: usize,
    has_eight_bit: bool,
}

impl Summary {
    /// Takes the next message, in the order in which they came. `has_eight_bit`: some octet of it is above 127.
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

    /// How many messages have been taken.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.messages
    }

    fn words(&self, hostname: &str) -> String {
        let mut words = format!(
            "{} like messages came in a short time: by the same sender, for the same\n\
             recipients, with subjects that differ in numbers, dates or names alone.\n\
             {hostname} has gathered them; all of them are attached.\n\n",
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

/// The frame of a digest.
#[derive(Debug)]
pub struct Frame {
    /// All that stands ahead of the first message.
    pub head: Vec<u8>,
    /// What stands ahead of each message.
    pub separator: String,
    /// What stands behind the last one.
    pub end: String,
}

/// What a digest needs to know of the world.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The name of this host.
    pub hostname: &'a str,
    /// Its domain in ASCII, for Message-ID.
    pub domain: &'a str,
    /// The reverse-path of the messages.
    pub reverse_path: &'a ReversePath,
    /// They came by SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// For Date.
    pub now: WallTime,
    /// 64 random bits, so that no message can hold the boundary that it is put behind.
    pub random: u64,
}

impl Frame {
    /// The frame for the messages of a summary. The same messages get the same Message-ID: by that a reader's program may
    /// know a digest that a crash has sent twice.
    #[must_use]
    pub fn new(summary: &Summary, facts: &Facts<'_>) -> Self {
        let Facts { hostname, domain, reverse_path, smtputf8, now, random } = *facts;
        let id = summary.first.map(|(id, _)| id.to_string()).unwrap_or_default();
        let words = summary.words(hostname);
        let encoding = |is_eight_bit| if is_eight_bit { "Content-Transfer-Encoding: 8bit\n" } else { "" };
        // Each level has to say it, if one below it does (RFC 2045 §6.4).
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
            "Subject: [{} alike] {subject}\nDate: {}\nMessage-ID: <{id}.{}@{domain}>\nMIME-Version: 1.0\n\
             Content-Type: multipart/digest; boundary=\"{boundary}\"\n{whole}\n\
             --{boundary}\nContent-Type: text/plain; charset=utf-8\n{}\n{words}",
            summary.messages,
            now.to_rfc5322(),
            summary.messages,
            encoding(!words.is_ascii()),
        );
        head.extend_from_slice(fields.as_bytes());
        // Ahead of the type of its parts: message/rfc822 is the default.
        let kind = if smtputf8 { "Content-Type: message/global\n" } else { "" };
        let separator = format!("\n--{boundary}\n{kind}{members}\n");
        Self { head, separator, end: format!("\n--{boundary}--\n") }
    }
}

/// The subject of a message in one line, cut to a length.
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
