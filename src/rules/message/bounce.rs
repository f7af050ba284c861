//! Notices: messages to the sender about mail that failed, is late, or has arrived where that was requested.
//!
//! A notice is a DSN (RFC 3464) in a multipart/report (RFC 6522), from the null reverse-path and marked as automatic
//! (RFC 3834), so that it is neither answered nor bounced.
//!
//! | part | type | content |
//! | --- | --- | --- |
//! | header section | | From: MAILER-DAEMON, To: the sender, `Auto-Submitted: auto-replied` |
//! | 1 | `text/plain` | sentences for a person: a heading for each kind of news, then each recipient with the reply |
//! | 2 | `message/delivery-status` | fields for programs: a block about the message, a block for each recipient |
//! | 3 | `message/rfc822` or `text/rfc822-headers` | the message, or its header section |
//!
//! The whole message is returned only if a recipient failed, the sender did not ask for headers (RET=HDRS), it is not
//! larger than [`RETURN_FULL_MAX_OCTETS`], and no host refused its content. A message that came by SMTPUTF8 gets the
//! types of RFC 6533.
//!
//! The notice does not contain the returned message, which may be large: the caller copies it between
//! [`Notice::prologue`] and [`Notice::epilogue`]. Replies and addresses come from strangers: they are stripped of
//! control characters, cut and folded, so that no reply can add a field or a part. NOTIFY, RET, ENVID and ORCPT of
//! RFC 3461 are honoured. All text is in canonical form (see [`crate::mail::message`]).
//!
//! # The news about a recipient
//!
//! | verdict | action (RFC 3464 §2.3.3) | class of the status | sent without NOTIFY |
//! | --- | --- | --- | --- |
//! | `Refused`, `Expired` | failed | 5 | yes |
//! | `Delayed` | delayed | 4 | yes |
//! | `Delivered` | delivered | 2 | no |
//! | `Relayed` | relayed | 2 | no |
//! | `Expanded` | expanded | 2 | no |
//!
//! One notice reports all recipients of a message that are due, bad news first.

mod delivery_status;

use crate::mail::address::{Mailbox, ReversePath};
use crate::mail::date::WallTime;
use crate::mail::envelope::{Body, Envelope, Recipient, Ret};
use crate::mail::id::QueueId;
use crate::mail::outcome::Diagnostic;
use crate::mail::status::Class;
use crate::smtp::client::Waiting;
use std::cmp::Reverse;
use std::fmt::Write;
use std::time::Duration;

/// The largest message that is returned whole, in octets. A larger one would fill the disk and the line of a small
/// box a second time, and its header section identifies it.
pub const RETURN_FULL_MAX_OCTETS: u64 = 256 * 1024;
/// The longest reply or other text of a stranger, in characters. With a field name it stays below the 998 octets of a
/// line (RFC 5322 §2.1.1), even without a blank to fold at.
const TEXT_MAX_CHARS: usize = 800;
/// The column at which lines are folded, at a blank (RFC 5322 §2.1.1).
const LINE_COLUMNS: usize = 76;
const DAY: u64 = 24 * 3600;

/// What a notice says about one recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecipientVerdict {
    /// Refused by a permanent reply.
    Refused,
    /// Tried for the whole lifetime.
    Expired,
    /// Still being tried (`queue.warn_after`).
    Delayed,
    /// Delivered to the Maildir.
    Delivered,
    /// Accepted by a host that sends no success notices.
    Relayed,
    /// Sent on to several recipients; no further notices follow (RFC 3461 §5.2.7.3).
    Expanded,
}

/// Verdicts with the same heading, action (RFC 3464 §2.3.3) and class.
struct NoticeChapter {
    subject: &'static str,
    heading: &'static str,
    action: &'static str,
    class: Class,
}

const FAILED: NoticeChapter = NoticeChapter {
    subject: "Undelivered mail",
    heading: "Your message could not be delivered to:\n",
    action: "failed",
    class: Class::Permanent,
};
const DELAYED: NoticeChapter = NoticeChapter {
    subject: "Delayed mail",
    heading: "Your message is still on its way. There is no need to send it again.\nIt has not yet reached:\n",
    action: "delayed",
    class: Class::Transient,
};
const DELIVERED: NoticeChapter = NoticeChapter {
    subject: "Delivered mail",
    heading: "Your message was delivered to:\n",
    action: "delivered",
    class: Class::Success,
};
const RELAYED: NoticeChapter = NoticeChapter {
    subject: "Relayed mail",
    heading: "Your message was passed on to a host that sends no notice of delivery, for:\n",
    action: "relayed",
    class: Class::Success,
};

const EXPANDED: NoticeChapter = NoticeChapter {
    subject: "Mail to an alias",
    heading: "Your message was sent on to the members of an alias. You will get no notices from them:\n",
    action: "expanded",
    class: Class::Success,
};

/// The heading of a notice to the administrator about a notice that failed.
const DOUBLE_HEADING: &str =
    "A notice of failed delivery could not be delivered. The attached notice did not reach:\n";

impl RecipientVerdict {
    /// Whether the sender wants this news about a recipient. Without NOTIFY the sender gets failures and delays (RFC
    /// 3461 §4.1).
    #[must_use]
    pub fn is_wanted(self, recipient: &Recipient) -> bool {
        let notify = recipient.notify;
        match self {
            Self::Refused | Self::Expired => notify.is_none_or(|notify| notify.failure),
            Self::Delayed => notify.is_none_or(|notify| notify.delay),
            Self::Delivered | Self::Relayed | Self::Expanded => notify.is_some_and(|notify| notify.success),
        }
    }

    const fn chapter(self) -> &'static NoticeChapter {
        match self {
            Self::Refused | Self::Expired => &FAILED,
            Self::Delayed => &DELAYED,
            Self::Delivered => &DELIVERED,
            Self::Relayed => &RELAYED,
            Self::Expanded => &EXPANDED,
        }
    }
}

/// One recipient of the report.
#[derive(Debug, Clone, Copy)]
pub struct Reported<'a> {
    /// The recipient.
    pub recipient: &'a Recipient,
    /// The news.
    pub verdict: RecipientVerdict,
    /// The reason. Its status gets the class of the verdict.
    pub diagnostic: &'a Diagnostic,
    /// The time of the latest attempt.
    pub last_attempt: Option<WallTime>,
    /// What the operator of this host should change.
    pub advice: Option<&'static str>,
}

/// The inputs of a notice.
#[derive(Debug, Clone, Copy)]
pub struct NoticeReport<'a> {
    /// The name of this host, valid in a header.
    pub hostname: &'a str,
    /// The queue id of the message.
    pub id: QueueId,
    /// The envelope of the message.
    pub envelope: &'a Envelope,
    /// The recipient of the notice if the reverse-path is null: the administrator, if this host wrote the message
    /// itself as a bounce. Other messages with a null reverse-path get no notice.
    pub admin: Option<&'a Mailbox>,
    /// When the message was accepted.
    pub arrival: WallTime,
    /// How long it has been tried, in running time.
    pub age: Duration,
    /// The size of its content in octets.
    pub size_octets: u64,
    /// `EightBitMime` if its content may hold octets above 127, even if the sender declared otherwise.
    pub content: Body,
    /// The recipients in question. Those whose sender does not want this news are left out by [`compose`].
    pub recipients: &'a [Reported<'a>],
    /// The date of the notice.
    pub now: WallTime,
    /// 64 random bits, so that no message can contain the boundary of its own bounce.
    pub random: u64,
}

/// What the caller copies between prologue and epilogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// The whole message.
    Full,
    /// The header section without the empty line (see [`crate::mail::header::section`]).
    Headers,
}

/// A message to the sender: prologue, returned content, epilogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// From the null reverse-path to the sender.
    pub envelope: Envelope,
    /// The header section, the first two parts and the header of the third.
    pub prologue: String,
    /// What follows the prologue.
    pub returned: Returned,
    /// The end of the third part.
    pub epilogue: String,
}

/// The notice for a report. `None` if nobody gets one: the reverse-path is null (RFC 5321 §4.5.5) and this host did
/// not write the bounce, or NOTIFY excludes the news for each recipient (RFC 3461 §4.1).
#[must_use]
pub fn compose(report: &NoticeReport) -> Option<Notice> {
    let to = report.envelope.reverse_path.mailbox().or(report.admin)?;
    let told = in_chapters(report.recipients.iter().filter(|r| r.verdict.is_wanted(r.recipient)));
    let first = told.first()?;
    let returned = returned(report, &told);
    let words = plain_words(report, &told, returned);
    let boundary = format!("=_{}_{:016x}", report.id, report.random);
    let fields = delivery_status::print(report, &told);
    let body = if words.is_ascii() && fields.is_ascii() { report.content } else { Body::EightBitMime };

    let mut prologue = header_section(report, to, &subject(first, told.len()), &boundary, body);
    let words_type = if words.is_ascii() { "us-ascii" } else { "utf-8" };
    let returned_type = match (returned, report.envelope.smtputf8) {
        (Returned::Full, false) => "message/rfc822",
        (Returned::Full, true) => "message/global",
        (Returned::Headers, false) => "text/rfc822-headers",
        (Returned::Headers, true) => "message/global-headers",
    };
    // Writing to a String cannot fail; the same holds below.
    let _ = write!(
        prologue,
        "\n--{boundary}\nContent-Type: text/plain; charset={words_type}\n{}\n{words}\
         \n--{boundary}\nContent-Type: message/{}\n{}\n{fields}\
         \n--{boundary}\nContent-Type: {returned_type}\n{}\n",
        transfer_encoding(body_of(&words)),
        report_type(report),
        transfer_encoding(body_of(&fields)),
        transfer_encoding(report.content),
    );
    let mut envelope = Envelope::new(ReversePath::Null);
    envelope.recipients.push(Recipient::new(to.clone()));
    (envelope.body, envelope.smtputf8) = (body, !to.is_ascii());
    Some(Notice { envelope, prologue, returned, epilogue: format!("\n--{boundary}--\n") })
}

/// What is returned. RET applies to failures; a notice of a delay has only the header section (RFC 3461 §4.3). So has
/// a notice about content that a host refused: the next host would refuse the notice for the same content.
fn returned(report: &NoticeReport, told: &[&Reported]) -> Returned {
    let is_small = report.size_octets <= RETURN_FULL_MAX_OCTETS;
    let is_refused =
        told.iter().any(|r| r.verdict == RecipientVerdict::Refused && is_about_content(r.diagnostic));
    if has_failed(told) && is_small && !is_refused && report.envelope.ret != Some(Ret::Headers) {
        Returned::Full
    } else {
        Returned::Headers
    }
}

/// Whether a host refused the message after reading it, and not because of the recipient (RFC 3463 §3.2, §3.3).
fn is_about_content(diagnostic: &Diagnostic) -> bool {
    let has_seen_it = diagnostic.reply.is_some() && Waiting::is_after_content(&diagnostic.text);
    has_seen_it && !matches!(diagnostic.status.subject, 1 | 2)
}

/// Sorts by class, bad news first; the order within a chapter stays. Insertion: a stable sort would add 6 KB of code.
fn in_chapters<'a>(reported: impl Iterator<Item = &'a Reported<'a>>) -> Vec<&'a Reported<'a>> {
    let rank = |r: &Reported| (Reverse(r.verdict.chapter().class), r.verdict.chapter().action);
    let mut sorted: Vec<&'a Reported<'a>> = Vec::new();
    for next in reported {
        sorted.insert(sorted.partition_point(|before| rank(before) <= rank(next)), next);
    }
    sorted
}

fn has_failed(told: &[&Reported]) -> bool {
    told.iter().any(|r| r.verdict.chapter().class == Class::Permanent)
}

/// `first` is the recipient with the worst news.
fn subject(first: &Reported, told: usize) -> String {
    let (what, mailbox) = (first.verdict.chapter().subject, &first.recipient.mailbox);
    match (mailbox.is_ascii(), told) {
        // The header section stays ASCII where it can: the sender may lack SMTPUTF8.
        (false, _) => what.to_owned(),
        (true, 1) => format!("{what}: {mailbox}"),
        (true, count) => format!("{what}: {mailbox} and {} more", count - 1),
    }
}

/// The subtype of the second part, which the first field repeats (RFC 6522 §3, RFC 6533 §4).
fn report_type(report: &NoticeReport) -> &'static str {
    if report.envelope.smtputf8 { "global-delivery-status" } else { "delivery-status" }
}

fn body_of(part: &str) -> Body {
    if part.is_ascii() { Body::SevenBit } else { Body::EightBitMime }
}

fn header_section(report: &NoticeReport, to: &Mailbox, subject: &str, boundary: &str, body: Body) -> String {
    let NoticeReport { hostname, id, now, random, .. } = report;
    format!(
        "From: Mail Delivery System <MAILER-DAEMON@{hostname}>\nTo: <{to}>\nSubject: {subject}\nDate: {}\n\
         Message-ID: <{id}.{random:016x}@{hostname}>\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\n\
         Content-Type: multipart/report; report-type={};\n\tboundary=\"{boundary}\"\n{}",
        now.to_rfc5322(),
        report_type(report),
        transfer_encoding(body),
    )
}

fn transfer_encoding(body: Body) -> &'static str {
    match body {
        Body::SevenBit => "",
        Body::EightBitMime => "Content-Transfer-Encoding: 8bit\n",
    }
}

/// The first part, for the person who wrote the message or owns the device that did.
fn plain_words(report: &NoticeReport, told: &[&Reported], returned: Returned) -> String {
    let mut words = format!("This is the mail system of {}.\n\n", report.hostname);
    let mut last = "";
    for reported in told {
        let heading = match report.envelope.reverse_path {
            ReversePath::Null => DOUBLE_HEADING,
            ReversePath::Mailbox(_) => reported.verdict.chapter().heading,
        };
        if heading != last {
            words.push_str(if last.is_empty() { "" } else { "\n" });
            words.push_str(heading);
            last = heading;
        }
        let _ = write!(words, "\n<{}>\n", reported.recipient.mailbox);
        push_folded(&mut words, "   ", "    ", &sentence(reported, report.age));
        push_folded(&mut words, "   ", "    ", reported.diagnostic.line());
        if let Some(advice) = reported.advice {
            push_folded(&mut words, "   ", "    ", &format!("What can be done about it: {advice}"));
        }
    }
    let what = match returned {
        Returned::Full => "The whole message is",
        Returned::Headers => "Its header section is",
    };
    let _ = write!(
        words,
        "\nThe message came to this system on {}\nand has the queue id {} here. {what} attached.\n",
        report.arrival.to_rfc5322(),
        report.id,
    );
    words
}

/// The sentence before the reply, or before pillarbox's own text.
fn sentence(reported: &Reported, age: Duration) -> String {
    let Diagnostic { remote, reply, text, .. } = reported.diagnostic;
    let host = remote.as_deref().unwrap_or("the next host");
    let last = match (reply, remote) {
        (Some(_), _) => format!("The last answer of {host}, to {text}, was:"),
        (None, Some(_)) => format!("The last problem, with {host}, was:"),
        (None, None) => "The last problem was:".to_owned(),
    };
    match (reported.verdict, reply) {
        (RecipientVerdict::Refused, Some(_)) => {
            format!("It was refused permanently. The answer of {host}, to {text}, was:")
        }
        (RecipientVerdict::Refused, None) => "It cannot be delivered:".to_owned(),
        (RecipientVerdict::Expired, _) => {
            format!("It was tried for {} and then given up. {last}", in_words(age))
        }
        (RecipientVerdict::Delayed, _) => format!("It has been tried for {} so far. {last}", in_words(age)),
        (RecipientVerdict::Delivered | RecipientVerdict::Expanded, _) => "What was done:".to_owned(),
        (RecipientVerdict::Relayed, _) => format!("The answer of {host}, to {text}, was:"),
    }
}

fn in_words(age: Duration) -> String {
    let seconds = age.as_secs();
    let (count, unit) = match seconds {
        _ if seconds >= 2 * DAY => (seconds / DAY, "day"),
        _ if seconds >= 2 * 3600 => (seconds / 3600, "hour"),
        _ => (seconds / 60, "minute"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Appends `label` and the words of `text`, which may be a stranger's, folded into lines that begin with `indent`.
/// Control characters become blanks, and characters beyond ASCII question marks: fields have no room for them, and a
/// notice that every peer accepts is worth more.
pub(super) fn push_folded(out: &mut String, label: &str, indent: &str, text: &str) {
    let clean: String = text
        .chars()
        .take(TEXT_MAX_CHARS)
        .map(|c| match c {
            ' '..='~' => c,
            _ if c.is_ascii() => ' ',
            _ => '?',
        })
        .collect();
    let ellipsis = text.chars().nth(TEXT_MAX_CHARS).map(|_| "...");
    out.push_str(label);
    let mut column = label.len();
    let mut is_first = true;
    for word in clean.split_ascii_whitespace().chain(ellipsis) {
        if !is_first && column + 1 + word.len() > LINE_COLUMNS {
            out.push('\n');
            out.push_str(indent);
            column = indent.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
        is_first = false;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests;
