//! Addresses in arguments and header fields: recipients and the sender.
//!
//! Reads as much as it can. An addressee that can't be read becomes a complaint on standard error, and stays a recipient,
//! for which the daemon sends a bounce: cron discards standard error, but its user reads mail.
//!
//! With `-t` the recipients come from the header section: To, Cc and Bcc, or the newest block of Resent- fields (RFC 5322
//! §3.6.6). The fields pass one at a time, before the header section is complete, so a block is recognized by its order:
//!
//! ```text
//! Resent-To: a     ┐ newest block: its recipients count
//! Resent-Cc: b     ┘
//! Received: …        ends the block
//! Resent-To: c       an older block: ignored
//! To: d              ignored, as there is a Resent- block
//! ```

use crate::mail::address_list;
use crate::mail::header::split_field;
use crate::mail::unqualified::Unqualified;
use crate::store::drop::Sender;

/// Appends the addresses of a list; parts that are no address also become `complaints`.
pub fn read_list(list: &[u8], found: &mut Vec<Unqualified>, complaints: &mut Vec<String>) {
    let mut rest = list;
    while !rest.is_empty() {
        let list = address_list::read(rest);
        let mut unreadable = list.unreadable;
        for span in list.addresses {
            match span.read(rest) {
                Some(address) => add(address, found),
                None => unreadable.push(span.whole()),
            }
        }
        for range in unreadable {
            let text = String::from_utf8_lossy(rest.get(range).unwrap_or_default()).into_owned();
            complaints.push(format!("{:?} is no address", text.trim()));
            add(Unqualified::unreadable(&text), found);
        }
        rest = rest.get(list.end..).unwrap_or_default();
    }
}

/// Reads the value of `-f`; `None` if that is no address.
#[must_use]
pub fn read_sender(text: &str) -> Option<Sender> {
    let text = text.trim();
    if text.is_empty() || text == "<>" {
        return Some(Sender::Null);
    }
    address_list::spans(text.as_bytes())?.first()?.read(text.as_bytes()).map(Sender::Address)
}

fn add(address: Unqualified, found: &mut Vec<Unqualified>) {
    if !found.contains(&address) {
        found.push(address);
    }
}

/// The recipients that a header section names (`-t`): by To, Cc and Bcc, or by the newest block of Resent- fields, which
/// is the first one (RFC 5322 §3.6.6). A block ends at a field of another kind, or when one of its fields comes again.
#[derive(Debug, Default)]
pub struct HeaderRecipients {
    original: Vec<Unqualified>,
    resent: Vec<Unqualified>,
    /// The names of the Resent- fields so far.
    block: Vec<Vec<u8>>,
    is_block_over: bool,
    /// The first address of the first From.
    author: Option<Unqualified>,
    complaints: Vec<String>,
}

impl HeaderRecipients {
    /// Takes a whole field.
    pub fn field(&mut self, field: &[u8]) {
        let Some((name, value)) = split_field(field) else { return };
        let name = name.to_ascii_lowercase();
        if name.starts_with(b"resent-") {
            self.is_block_over |= self.block.contains(&name);
            if !self.is_block_over && matches!(&name[..], b"resent-to" | b"resent-cc" | b"resent-bcc") {
                read_list(value, &mut self.resent, &mut self.complaints);
            }
            return self.block.push(name);
        }
        self.is_block_over |= !self.block.is_empty();
        if name == b"from" && self.author.is_none() {
            self.author = address_list::read(value).addresses.first().and_then(|first| first.read(value));
        }
        if matches!(&name[..], b"to" | b"cc" | b"bcc") {
            read_list(value, &mut self.original, &mut self.complaints);
        }
    }

    /// The author: the first address of From, if there is one.
    pub fn author(&mut self) -> Option<Unqualified> {
        self.author.take()
    }

    /// Appends the recipients; parts that are no address also become `complaints`.
    pub fn finish(self, found: &mut Vec<Unqualified>, complaints: &mut Vec<String>) {
        complaints.extend(self.complaints);
        let named = if self.resent.is_empty() { self.original } else { self.resent };
        named.into_iter().for_each(|address| add(address, found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(addresses: &[Unqualified]) -> String {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn of_a_list_is_read_what_can_be() {
        for (list, expected, complaints) in [
            ("root", "root", 0),
            ("a@b.example c@d.example", "a@b.example c@d.example", 0),
            ("a@b.example,c", "a@b.example c", 0),
            ("root, root", "root", 0),
            ("\"Doe, John\" <j@b.example>, root (me)", "j@b.example root", 0),
            ("a..b@c.example a.@c.example", "\"a..b\"@c.example \"a.\"@c.example", 0),
            ("undisclosed-recipients:;", "", 0),
            ("", "", 0),
            (
                "John <j@b.example>, a@, x@y@z, c",
                "j@b.example c \"a@\"@unreadable.invalid \"x@y@z\"@unreadable.invalid",
                2,
            ),
            ("|/bin/sh /etc/passwd", "|/bin/sh /etc/passwd", 0),
            ("a@b_c.example", "a@b_c.example", 0),
            ("a@-, b", "b \"a@-\"@unreadable.invalid", 1),
            ("Team [Ops] <ops@x>; A: b; C: d;", "ops@x b d", 0),
            ("jörg@ü.example", "jörg@ü.example", 0),
        ] {
            let (mut found, mut reported) = (Vec::new(), Vec::new());
            read_list(list.as_bytes(), &mut found, &mut reported);
            assert_eq!((&*print(&found), reported.len()), (expected, complaints), "{list:?} {reported:?}");
        }
        let many: String = (0..3000).map(|i| format!("u{i}@x,")).collect();
        let (mut found, mut reported) = (Vec::new(), Vec::new());
        read_list(many.as_bytes(), &mut found, &mut reported);
        assert_eq!((found.len(), reported.len()), (3000, 0));
        let (mut found, mut reported) = (Vec::new(), Vec::new());
        read_list(b"\xff@a, b", &mut found, &mut reported);
        assert_eq!((&*print(&found), reported.len()), ("b \"?@a\"@unreadable.invalid", 1));
    }

    #[test]
    fn the_sender_may_be_nobody() {
        for (text, expected) in [
            ("", Some(Sender::Null)),
            ("<>", Some(Sender::Null)),
            (" <> ", Some(Sender::Null)),
            ("@", None),
            ("a b", None),
        ] {
            assert_eq!(read_sender(text), expected, "{text:?}");
        }
        for (text, expected) in [("root", "root"), ("<a@b>", "a@b"), ("Joe <joe@b>", "joe@b")] {
            let Some(Sender::Address(address)) = read_sender(text) else { panic!("{text}") };
            assert_eq!(address.to_string(), expected);
        }
    }

    #[test]
    fn the_newest_resent_block_counts() {
        for (header, expected) in [
            ("To: a|Cc: b|Bcc: c|Subject: d|Reply-To: e", "a b c"),
            ("to: a|TO: b", "a b"),
            ("Resent-To: n|Resent-Bcc: m|To: a|Bcc: b", "n m"),
            ("Resent-From: x|Resent-To: n|Resent-From: y|Resent-To: o|Resent-Cc: p|To: a", "n"),
            ("Resent-To: n|Received: x|Resent-Cc: o|To: a", "n"),
            ("Received: x|Resent-From: x|Resent-Cc: n|To: a", "n"),
            ("Resent-From: x|To: a", "a"),
        ] {
            let (mut recipients, mut found, mut reported) =
                (HeaderRecipients::default(), Vec::new(), Vec::new());
            header.split('|').for_each(|field| recipients.field(format!("{field}\n").as_bytes()));
            recipients.finish(&mut found, &mut reported);
            assert_eq!((&*print(&found), reported.len()), (expected, 0), "{header}");
        }
    }
}
