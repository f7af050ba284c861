//! Replies of hosts as a user may see them who must not see the addresses of others.
//!
//! Hosts write addresses in many ways (`<joe>`, `joe+40far.example`), so every word is hidden that may be one.

use super::envelope::Envelope;
use super::fold::fold;

/// Replaces a hidden address.
pub const HIDDEN: &str = "<hidden>";

/// Hides each word that has an `@` or contains the local part of the sender or of a recipient.
#[must_use]
pub fn without_addresses(text: &str, envelope: &Envelope) -> String {
    let recipients = envelope.recipients.iter().map(|recipient| &recipient.mailbox);
    let mailboxes = recipients.chain(envelope.reverse_path.mailbox());
    let names: Vec<String> =
        mailboxes.map(|mailbox| fold(mailbox.local_part.as_str().trim_matches('"'))).collect();
    let mut shown = String::new();
    // A quoted local part may contain blanks.
    let mut is_quoted = false;
    let words = text.split_inclusive(|c: char| {
        is_quoted ^= c == '"';
        (c.is_whitespace() && !is_quoted) || matches!(c, '<' | '>' | '(' | ')' | ',' | ';')
    });
    for word in words {
        let end = word.trim_end_matches(|c: char| c.is_whitespace() || "<>(),;:".contains(c));
        let is_address = end.contains('@') || names.iter().any(|name| has_name(&fold(end), name));
        match is_address {
            true if shown.ends_with('<')
                && word.get(end.len()..).is_some_and(|rest| rest.starts_with('>')) =>
            {
                shown.push_str(HIDDEN.trim_matches(['<', '>']));
            }
            true => shown.push_str(HIDDEN),
            false => shown.push_str(end),
        }
        shown.push_str(word.get(end.len()..).unwrap_or_default());
    }
    shown
}

/// Whether a word contains a name that is not part of a longer run of letters and digits.
fn has_name(word: &str, name: &str) -> bool {
    word.match_indices(name).any(|(at, found)| {
        let before = word.get(..at).and_then(|before| before.chars().next_back());
        let after = word.get(at + found.len()..).and_then(|after| after.chars().next());
        ![before, after].into_iter().flatten().any(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::address::{Mailbox, ReversePath};
    use crate::mail::envelope::Recipient;

    #[test]
    fn replies_are_shown_without_addresses() {
        let mut envelope = Envelope::new(ReversePath::parse("root@box.example").unwrap());
        for to in ["joe@far.example", "\"jim x\"@far.example", "o.k@far.example"] {
            envelope.recipients.push(Recipient::new(Mailbox::parse(to).unwrap()));
        }
        for (reply, expected) in [
            ("550 5.1.1 <joe@far.example>... User unknown", "550 5.1.1 <hidden>... User unknown"),
            ("550 5.1.1 <JOE>: no", "550 5.1.1 <hidden>: no"),
            ("550 joe+40far.example bad", "550 <hidden> bad"),
            ("550 not joel, not joe", "550 not joel, not <hidden>"),
            ("550 \"jim x\"@far.example bad", "550 <hidden> bad"),
            ("550 <\"jim x\"@far.example> bad", "550 <hidden> bad"),
            ("550 other@x.example (root) o.k.", "550 <hidden> (<hidden>) <hidden>"),
            ("550 a=b@c,d@e;f@g", "550 <hidden>,<hidden>;<hidden>"),
            (
                "connect to mx.far.example [192.0.2.1]:25: timed out",
                "connect to mx.far.example [192.0.2.1]:25: timed out",
            ),
            ("", ""),
        ] {
            assert_eq!(without_addresses(reply, &envelope), expected);
        }
    }
}
