//! The second part of a notice: fields for programs (RFC 3464), a block about the message and one for each recipient.
//!
//! | field | from |
//! | --- | --- |
//! | Original-Envelope-Id | ENVID of MAIL, decoded from xtext |
//! | Reporting-MTA, X-Pillarbox-Queue-ID, Arrival-Date | this host, the queue id, the time of acceptance |
//! | Original-Recipient | ORCPT of RCPT |
//! | Final-Recipient | the recipient in the queue |
//! | Action, Status | the verdict; the status of the diagnostic with the class of the verdict |
//! | Remote-MTA | the host that replied |
//! | Diagnostic-Code | `smtp;` and the reply, or `X-Pillarbox;` and this host's own reason |
//! | Last-Attempt-Date | the latest attempt, if there was one |
//!
//! Every value that a stranger wrote is folded, and stripped of control characters.

use super::{NoticeChapter, NoticeReport, Reported, TEXT_MAX_CHARS, push_folded};
use crate::mail::address::Mailbox;
use crate::mail::envelope::Recipient;
use crate::mail::outcome::Diagnostic;
use std::fmt::Write;

/// The second part: a block about the message, and one for each recipient (RFC 3464 §2.2, §2.3).
pub(super) fn print(report: &NoticeReport, told: &[&Reported]) -> String {
    let mut fields = String::new();
    if let Some(envid) = &report.envelope.envid {
        push_folded(&mut fields, "Original-Envelope-Id:", " ", &decode_xtext(envid));
    }
    let _ = write!(
        fields,
        "Reporting-MTA: dns; {}\nX-Pillarbox-Queue-ID: {}\nArrival-Date: {}\n",
        report.hostname,
        report.id,
        report.arrival.to_rfc5322(),
    );
    for reported in told {
        fields.push('\n');
        push_recipient(&mut fields, reported, report.envelope.smtputf8);
    }
    fields
}

fn push_recipient(fields: &mut String, reported: &Reported, is_global: bool) {
    let Recipient { mailbox, orcpt, .. } = reported.recipient;
    let Diagnostic { status, remote, reply, text } = reported.diagnostic;
    let NoticeChapter { action, class, .. } = reported.verdict.chapter();
    match orcpt.as_deref().map(|orcpt| (orcpt, orcpt.split_once(';'))) {
        // The address type of RFC 6533 §3 is not xtext.
        Some((_, Some((kind, address)))) if kind.eq_ignore_ascii_case("utf-8") => {
            let _ = writeln!(fields, "Original-Recipient: utf-8;{}", unicode_text(address, "", is_global));
        }
        Some((orcpt, _)) => push_folded(fields, "Original-Recipient:", " ", &decode_xtext(orcpt)),
        None => {}
    }
    let _ = write!(
        fields,
        "Final-Recipient: {}\nAction: {action}\nStatus: {}\n",
        typed_address(mailbox, is_global),
        status.with_class(*class),
    );
    if let Some(remote) = remote {
        push_folded(fields, "Remote-MTA: dns;", " ", remote);
    }
    match reply {
        Some(reply) => push_folded(fields, "Diagnostic-Code: smtp;", " ", reply),
        None => push_folded(fields, "Diagnostic-Code: X-Pillarbox;", " ", text),
    }
    if let Some(when) = reported.last_attempt {
        let _ = writeln!(fields, "Last-Attempt-Date: {}", when.to_rfc5322());
    }
}

/// `rfc822; …`, or the address type of RFC 6533 §3 for a mailbox that is not ASCII.
fn typed_address(mailbox: &Mailbox, is_global: bool) -> String {
    let address = mailbox.to_string();
    if address.is_ascii() {
        return format!("rfc822; {address}");
    }
    format!("utf-8; {}", unicode_text(&address, "\\+=", is_global))
}

/// An address as utf-8-addr-unitext in a part that may hold UTF-8, otherwise as utf-8-addr-xtext (RFC 6533 §3).
/// Characters of `special` are written by their number, too.
fn unicode_text(address: &str, special: &str, is_global: bool) -> String {
    let mut text = String::new();
    for c in address.chars() {
        if text.len() >= TEXT_MAX_CHARS {
            break;
        }
        let stays = if c.is_ascii() { c.is_ascii_graphic() } else { is_global && !c.is_control() };
        if stays && !special.contains(c) {
            text.push(c);
        } else {
            let _ = write!(text, "\\x{{{:X}}}", u32::from(c));
        }
    }
    text
}

/// Decodes xtext (RFC 3461 §4). Text that is not xtext stays unchanged.
pub(super) fn decode_xtext(text: &str) -> String {
    let mut pieces = text.split('+');
    let mut decoded = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        match piece.split_at_checked(2).map(|(hex, rest)| (u8::from_str_radix(hex, 16), rest)) {
            Some((Ok(octet), rest)) => {
                decoded.push(char::from(octet));
                decoded.push_str(rest);
            }
            _ => {
                decoded.push('+');
                decoded.push_str(piece);
            }
        }
    }
    decoded
}
