//! A row of advice: the steps to which it applies, a pattern, and what to do. The rows are in `hints`, and in
//! `refusal` for replies to mail.
//!
//! The first row that matches counts. A pattern is in lower case and reads like this:
//!
//! | written | matches |
//! | --- | --- |
//! | `a\|b` | a text with `a` or with `b` |
//! | `a&b` | a text with both |
//! | `^a` | a text that begins with `a` |
//! | `5.7.2` | the code as a whole word: not in `5.7.26` |
//! | `@a` | a host whose name contains `a` |

use super::step::Stage;

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// This message: its size, or the syntax of its sender.
    Message,
    /// The recipient, or the recipient's mailbox.
    Recipient,
    /// The account or its login.
    Account,
    /// The sender's right to send, with this account or at all.
    Sender,
    /// The amount or the rate of mail of the account.
    Limit,
    /// Relaying to other hosts.
    Relaying,
    /// This host: its address, its name, how it connects.
    Host,
}

impl About {
    /// The word in the log.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Recipient => "recipient",
            Self::Account => "account",
            Self::Sender => "sender",
            Self::Limit => "limit",
            Self::Relaying => "relaying",
            Self::Host => "host",
        }
    }

    /// Whether a smarthost would refuse the next message for the same reason.
    pub(super) const fn is_routes(self) -> bool {
        matches!(self, Self::Account | Self::Sender | Self::Limit | Self::Relaying | Self::Host)
    }
}

/// A row of advice.
#[derive(Debug)]
pub struct Hint {
    /// The steps to which the row applies.
    pub stages: &'static [Stage],
    /// The subject, if the row is for a reply about mail.
    pub about: Option<About>,
    /// The pattern; see the table above.
    pub when: &'static str,
    /// What to do, in a sentence.
    pub advice: &'static str,
}

/// The first of the rows that matches the step, the text and the host's name.
pub(super) fn fits(rows: &'static [Hint], stage: Stage, text: &str, host: &str) -> Option<&'static Hint> {
    let (text, host) = (text.to_ascii_lowercase(), host.to_ascii_lowercase());
    let has = |part: &str| match part.strip_prefix('@') {
        Some(name) => host.contains(name),
        None => holds(&text, part),
    };
    let fits =
        |row: &&Hint| row.stages.contains(&stage) && row.when.split('|').any(|all| all.split('&').all(has));
    rows.iter().find(fits)
}

/// Whether the text contains this part. A code matches only as a whole word.
fn holds(text: &str, part: &str) -> bool {
    if let Some(start) = part.strip_prefix('^') {
        return text.starts_with(start);
    }
    let is_code = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    text.match_indices(part).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default();
        let after = text.get(at + part.len()..).unwrap_or_default();
        !is_code || !before.ends_with(is_part) && !after.starts_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_words() {
        assert!(holds("550 5.7.26 no", "5.7.26") && !holds("550 5.7.26 no", "5.7.2"));
        assert!(holds("from 192.0.2.1", "192.0.2.1") && !holds("from 192.0.2.15", "192.0.2.1"));
        assert!(holds("450 no", "^45") && !holds("no 450", "^45"));
    }
}
