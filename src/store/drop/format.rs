//! The format of a file in the drop directory. It is text, as in the queue:
//!
//! ```text
//! pillarbox-drop 1 OCTETS-OF-MESSAGE OCTETS-OF-ENVELOPE
//! <the message, in canonical form>
//! sender=alice@example.org
//! body=8bitmime
//! ret=hdrs
//! envid=QQ314159
//! notify=failure,delay
//! to=bob@example.net
//! to=root
//! ```
//!
//! The envelope comes last: for a message from a pipe, size and body type are known only at its end. A file without
//! `sender` has its owner as the sender; the file never says who the owner is, the kernel does. Any user can write
//! such a file, so it is parsed strictly: a file that differs by one octet from what `print` writes is refused.
//!
//! | key | values | without it |
//! | --- | --- | --- |
//! | `sender` | an address; empty: the null sender | the owner of the file |
//! | `body` | `8bitmime` | 7-bit |
//! | `ret` | `full`, `hdrs` (RFC 3461 §4.3) | not given |
//! | `envid` | xtext of up to 100 octets (RFC 3461 §4.4); any other value counts as not given | not given |
//! | `notify` | `never`, or some of `success,failure,delay` (RFC 3461 §4.1) | not given |
//! | `to` | an address, once for each recipient | the file is refused |
//!
//! Parsing does no I/O and cannot panic.

use crate::mail::envelope::{Body, Notify, Ret};
use crate::mail::unqualified::Unqualified;
use crate::mail::xtext::is_envid;
use crate::store::queue::{parse_notify, print_notify};
use crate::store::text::{push_line, unescape};

/// The octets of the first line, including its line end.
pub(super) const HEADER_OCTETS: usize = 49;
/// Most recipients of a message.
pub const RECIPIENTS_MAX: usize = 1000;
/// The longest envelope: room for [`RECIPIENTS_MAX`] of the longest addresses.
pub const ENVELOPE_MAX_OCTETS: usize = 1 << 20;

/// The sender of a dropped message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sender {
    /// The owner of the file, at this host.
    Owner,
    /// The null sender: the message is never bounced.
    Null,
    /// The address given by `-f`.
    Address(Unqualified),
}

/// The envelope of a dropped message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropEnvelope {
    /// The sender; bounces go there.
    pub sender: Sender,
    /// The recipients; at least one.
    pub recipients: Vec<Unqualified>,
    /// Whether the message has 8-bit octets.
    pub body: Body,
    /// How much a bounce returns (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// The sender's identifier for the message, as xtext (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// Which notifications the sender wants, for every recipient (RFC 3461 §4.1).
    pub notify: Option<Notify>,
}

impl DropEnvelope {
    /// Prints the envelope as the file holds it.
    #[must_use]
    pub fn print(&self) -> String {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| push_line(key, value, &mut text);
        match &self.sender {
            Sender::Owner => {}
            Sender::Null => line("sender", ""),
            Sender::Address(address) => line("sender", &address.to_string()),
        }
        if self.body == Body::EightBitMime {
            line("body", "8bitmime");
        }
        if let Some(ret) = self.ret {
            line("ret", if ret == Ret::Full { "full" } else { "hdrs" });
        }
        if let Some(envid) = &self.envid {
            line("envid", envid);
        }
        if let Some(notify) = self.notify {
            line("notify", &print_notify(notify));
        }
        for recipient in &self.recipients {
            line("to", &recipient.to_string());
        }
        text
    }

    /// Parses what [`Self::print`] printed, and nothing else.
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut envelope = Self {
            sender: Sender::Owner,
            recipients: Vec::new(),
            body: Body::SevenBit,
            ret: None,
            envid: None,
            notify: None,
        };
        for line in text.lines() {
            let (key, value) = line.split_once('=')?;
            let value = unescape(value)?;
            match key {
                "sender" if value.is_empty() => envelope.sender = Sender::Null,
                "sender" => envelope.sender = Sender::Address(Unqualified::parse(&value).ok()?),
                "body" => envelope.body = Body::EightBitMime,
                "ret" => envelope.ret = Some(if value == "full" { Ret::Full } else { Ret::Headers }),
                "envid" => envelope.envid = Some(value),
                "notify" => envelope.notify = Some(parse_notify(&value)),
                "to" => envelope.recipients.push(Unqualified::parse(&value).ok()?),
                _ => return None,
            }
        }
        // Printing it again compares every octet, so a repeated key or another order is refused.
        if !(1..=RECIPIENTS_MAX).contains(&envelope.recipients.len()) || envelope.print() != text {
            return None;
        }
        // It would go into a MAIL command unchanged. The message is worth more than the name that its sender gave it.
        envelope.envid = envelope.envid.filter(|envid| is_envid(envid));
        Some(envelope)
    }
}

/// Prints the first line.
pub(super) fn print_header(message_octets: u64, envelope_octets: usize) -> String {
    format!("pillarbox-drop 1 {message_octets:020} {envelope_octets:010}\n")
}

/// Parses the first line: the sizes of message and envelope.
pub(super) fn parse_header(line: &[u8]) -> Option<(u64, usize)> {
    let text = std::str::from_utf8(line).ok()?;
    let (message, envelope) = text.strip_prefix("pillarbox-drop 1 ")?.trim_end().split_once(' ')?;
    let sizes = (message.parse().ok()?, envelope.parse().ok()?);
    (print_header(sizes.0, sizes.1) == text).then_some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn envelope() -> DropEnvelope {
        DropEnvelope {
            sender: Sender::Address(Unqualified::parse("alice@example.org").unwrap()),
            recipients: ["bob@example.net", "root"].map(|to| Unqualified::parse(to).unwrap()).into(),
            body: Body::EightBitMime,
            ret: Some(Ret::Headers),
            envid: Some("QQ314159".into()),
            notify: Some(Notify { failure: true, delay: true, success: false }),
        }
    }

    const TEXT: &str = "sender=alice@example.org\nbody=8bitmime\nret=hdrs\nenvid=QQ314159\nnotify=failure,delay\n\
                        to=bob@example.net\nto=root\n";

    #[test]
    fn the_envelope_looks_as_the_module_shows_it() {
        assert_eq!(envelope().print(), TEXT);
        assert_eq!(DropEnvelope::parse(TEXT.as_bytes()), Some(envelope()));
        let small = DropEnvelope { sender: Sender::Owner, body: Body::SevenBit, ret: None, ..envelope() };
        let small = DropEnvelope { envid: None, notify: None, ..small };
        assert_eq!(small.print(), "to=bob@example.net\nto=root\n");
        for sender in [Sender::Owner, Sender::Null] {
            let envelope = DropEnvelope { sender, ..small.clone() };
            assert_eq!(DropEnvelope::parse(envelope.print().as_bytes()), Some(envelope));
        }
    }

    #[test]
    fn nothing_else_is_read() {
        for text in [
            "",
            "sender=a@b\n",
            "to=root",
            "to=root\n\n",
            "to=root\nsender=a@b\n",
            "sender=a\nsender=b\nto=root\n",
            "uid=0\nto=root\n",
            "own=yes\nto=root\n",
            "ret=some\nto=root\n",
            "body=7bit\nto=root\n",
            "notify=\nto=root\n",
            "to=a b\n",
            "to=root\r\n",
            "to=a\\nb@c\n",
            "to=|/bin/sh\n/x\n",
            "to = root\n",
            "to=ro\\x6ft\n",
        ] {
            assert_eq!(DropEnvelope::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(DropEnvelope::parse(b"to=\xff\n"), None);
    }

    /// As SMTP checks it; but no alert is refused for it.
    #[test]
    fn a_bad_envelope_id_is_left_out() {
        let (longest, long) = ("x".repeat(100), "x".repeat(101));
        for (value, is_kept) in [
            ("QQ314159", true),
            (&*longest, true),
            (&*long, false),
            ("a b", false),
            ("a+2", false),
            ("\\n", false),
        ] {
            let text = format!("envid={value}\nto=root\n");
            let envelope = DropEnvelope::parse(text.as_bytes()).unwrap();
            assert_eq!(envelope.envid.as_deref(), is_kept.then_some(value), "{value}");
        }
    }

    #[test]
    fn the_first_line_has_a_fixed_width() {
        let line = print_header(1234, 56);
        assert_eq!(line, "pillarbox-drop 1 00000000000000001234 0000000056\n");
        assert_eq!((line.len(), parse_header(line.as_bytes())), (HEADER_OCTETS, Some((1234, 56))));
        for other in [line.replace('1', "2"), line.replace("56", "+6"), line.replace('\n', " "), "".into()] {
            assert_eq!(parse_header(other.as_bytes()), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(text in "((to|sender|ret|notify|x)=[a-z@.,\\\\]{0,9}\n){0,5}") {
            if let Some(envelope) = DropEnvelope::parse(text.as_bytes()) {
                prop_assert_eq!(envelope.print(), text);
            }
        }
    }
}
